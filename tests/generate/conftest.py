"""A pipeline and a source small enough to know by heart, with the interface of the real ones.

The stub's image is a linear function of its noise and its covariates, so that abduction is exact, a row depends on
nothing but itself, and every pixel can be derived again.
"""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.preset import Preset
from synthfair_hf.domains.source import count_patients
from synthfair_hf.generate.plan import GenerationPlan
from synthfair_hf.generate.run import generate
from synthfair_hf.publish.dataset_card import write_dataset_card
from synthfair_hf.schema import Schema

torch.set_num_threads(1)

RESOLUTION = 8
PRESET = CHEST_XRAY.restrict(("age", "sex", "finding", "view", "scanner")).model_copy(update={"resolution": RESOLUTION})


def effect(covariates: Schema, values: dict[str, Any]) -> np.ndarray:
    """What the covariates of one row add to the image: one pixel each."""
    image = np.zeros((RESOLUTION, RESOLUTION), dtype=np.float32)
    for place, variable in enumerate(covariates.walk()):
        code = variable.encode_value(values[variable.name])
        image[place] = code / 400 if not variable.categorical else code / 16
    return image


class StubModel:
    """Covariates from noise: age by its own quantile, everything else by the largest of its noises."""

    def __init__(self, preset: Preset) -> None:
        self.preset = preset

    def sample_noise(self, rows: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        shapes = {
            one.name: (rows, len(one.levels)) if one.categorical else (rows,) for one in self.preset.covariates.walk()
        }
        return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}

    def evaluate(self, noise: dict[str, torch.Tensor], do: None = None) -> dict[str, torch.Tensor]:
        # a tenth of the ages is out of range, as a normalizing flow's tail can be
        return {name: one.argmax(dim=1) if one.ndim == 2 else one * 110 - 5 for name, one in noise.items()}


class StubPipeline:
    """Image = 1/2 + noise/20 + effect(covariates) + residual, clamped; `calls` counts, and `fail_at` interrupts one.

    A lossy one knows the noise of an image only to a whole number, and returns the rest as its residual.
    """

    def __init__(self, preset: Preset = PRESET, fail_at: int | None = None, lossy: bool = False) -> None:
        self.preset, self.scm, self.calls, self.fail_at = preset, StubModel(preset), 0, fail_at
        self.config, self.lossy = SimpleNamespace(resolution=RESOLUTION), lossy

    def sample_noise(self, generators: list[torch.Generator]) -> torch.Tensor:
        shape = (2, 1, RESOLUTION, RESOLUTION)
        return torch.stack([torch.rand(shape, generator=generator) for generator in generators])

    def follow(self, factual: dict[str, Any], do: dict[str, Any]) -> dict[str, Any]:
        """Where a cause has changed, its effect takes the next level, unless `do` holds it."""
        values = {**factual, **do}
        for cause, consequence in self.preset.edges:
            if consequence not in do and values[cause] != factual[cause]:
                levels = self.preset.covariates[consequence].levels
                values[consequence] = levels[(levels.index(factual[consequence]) + 1) % len(levels)]
        return values

    def __call__(
        self,
        image: torch.Tensor | None = None,
        covariates: dict[str, list[Any]] | None = None,
        do: dict[str, list[Any]] | None = None,
        noise: torch.Tensor | None = None,
        covariate_noise: dict[str, torch.Tensor] | None = None,
        residual: torch.Tensor | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: list[torch.Generator] | None = None,
        output_type: str = "pt",
    ) -> SimpleNamespace:
        self.calls += 1
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        assert covariates is not None
        assert output_type == "pt"
        rows = [dict(zip(covariates, row, strict=True)) for row in zip(*covariates.values(), strict=True)]
        acted = [dict(zip(do or {}, row, strict=True)) for row in zip(*(do or {}).values(), strict=True)] or [{}] * len(
            rows
        )
        targets = [self.follow(row, act) for row, act in zip(rows, acted, strict=True)]
        table = {name: [row[name] for row in targets] for name in covariates}
        added = [effect(self.preset.covariates, row) for row in targets]
        effects = torch.from_numpy(np.stack(added))
        if image is not None:
            assert generator is not None
            noise = torch.zeros(len(image), 2, *image.shape[1:])
            noise[:, 0] = (image - 0.5 - effects[:, None]) * 20
            if self.lossy:
                noise = noise.round()
                residual = image - (0.5 + noise[:, 0] / 20 + effects[:, None])
            drawn = [self.scm.sample_noise(1, one) for one in generator]
            covariate_noise = {name: torch.cat([one[name] for one in drawn]) for name in covariates}
        assert noise is not None
        images = 0.5 + noise[:, 0] / 20 + effects[:, None]
        images = (images if residual is None else images + residual).clamp(0, 1)
        return SimpleNamespace(
            images=images, covariates=table, noise=noise, covariate_noise=covariate_noise, residual=residual
        )


class StubSource:
    """Two hundred patients, some of them with two images, some with a missing age."""

    name, covariates, fingerprint = "stub", PRESET.covariates, "0123456789abcdef"

    def __init__(self, patients: int = 200) -> None:
        rng = np.random.default_rng(7)
        self.patient_ids = [f"patient-{index // 2 if index < 40 else index:04d}" for index in range(patients)]
        splits = {
            patient: ("train", "validation", "test")[number % 3] for number, patient in enumerate(self.patient_ids)
        }
        self.splits = [splits[patient] for patient in self.patient_ids]
        self.table: dict[str, list[Any]] = {
            variable.name: rng.choice(variable.levels, patients).tolist()
            if variable.categorical
            else rng.uniform(20, 80, patients).tolist()
            for variable in self.covariates.walk()
        }
        for index in range(5, patients, 10):
            self.table["age"][index] = None
        self.counts = count_patients(self.patient_ids, self.splits)
        self._images = rng.random((patients, RESOLUTION, RESOLUTION), dtype=np.float32)

    def __len__(self) -> int:
        return len(self.patient_ids)

    def image(self, index: int, resolution: int) -> np.ndarray:
        assert resolution == RESOLUTION
        return self._images[index]

    def draw(self, index: int, resolution: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        raise AssertionError("generation observes, it does not augment")


@pytest.fixture
def pipeline() -> StubPipeline:
    return StubPipeline()


@pytest.fixture
def source() -> StubSource:
    return StubSource()


@pytest.fixture(scope="session")
def make_pipeline() -> type[StubPipeline]:
    return StubPipeline


@pytest.fixture(scope="session")
def make_plan():
    """A plan of 28 draws from the model in 11 shards, with any setting changed."""

    def make(**settings: Any) -> GenerationPlan:
        defaults = {
            "preset": PRESET,
            "model_revision": "stub",
            "num_subjects": 28,
            "subjects_per_shard": 3,
            "batch_size": 5,
        }
        return GenerationPlan(**{**defaults, **settings})

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory, make_plan) -> Path:
    """A data set with its card, of one shard a split; that of train has two row groups. `stored` copies it."""
    plan, directory = make_plan(subjects_per_shard=20), tmp_path_factory.mktemp("finished") / "stored"
    record = generate(plan, StubPipeline(), directory, progress=False)
    write_dataset_card(directory, plan.preset, record, "cc-by-4.0")
    return directory


@pytest.fixture
def stored(tmp_path, finished) -> Path:
    """One that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "stored"))
