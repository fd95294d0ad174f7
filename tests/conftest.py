"""A small, well-formed data set without a model: random images, rows as a plan lays them out."""

import gc
import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partialmethod
from itertools import count, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

# read when `datasets` is first imported: no test reports itself to a download counter
os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.diffusion.fitting import fit_scm
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.preset import Preset
from synthfair_hf.generate.plan import SCM, GenerationPlan
from synthfair_hf.generate.rows import Row
from synthfair_hf.generate.store import Store, read_plan
from synthfair_hf.publish.dataset_card import write_dataset_card
from synthfair_hf.records import Record, file_sha256
from synthfair_hf.schema import Variable

# the same examples in every run, however busy the machine
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
torch.set_num_threads(1)

SIDE = 16
FIT_STEPS = 20
"""Of causal models whose fit no test asks after."""


def pytest_collection_finish() -> None:
    """What has been imported by now stays: let no garbage collection look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Directories that nobody else uses; `mktemp` would list all those of before to name one."""
    root = tmp_path_factory.mktemp("datasets")
    return (root / str(number) for number in count())


@pytest.fixture(autouse=True)
def _private_cache(_caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees what another one left in the cache of `datasets`, or a data set of the person who runs it."""
    cache = next(_caches)
    cache.mkdir()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
    monkeypatch.delenv("SYNTHFAIR_HOME", raising=False)


@pytest.fixture(scope="session")
def _offline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path_factory.mktemp("huggingface") / "home")}


@pytest.fixture
def offline(_offline: dict[str, str]) -> dict[str, str]:
    """The environment of processes without a network and with empty caches; always the same, for `warm`."""
    shutil.rmtree(_offline["HF_HOME"], ignore_errors=True)
    return _offline


@pytest.fixture(scope="module")
def short_fit() -> Iterator[int]:
    """Causal models are fitted in so few steps, where how well they fit is not what the module tests."""
    with _fitted_shortly():
        yield FIT_STEPS


@pytest.fixture(scope="module")
def small_network() -> Iterator[Callable[..., CausalDiffusionPipeline]]:
    """Networks that are made anew have the levels of their preset, and few channels; gives what makes others."""
    made = CausalDiffusionPipeline.from_preset

    def small(preset: Preset, *given: Any, **network: Any) -> CausalDiffusionPipeline:
        few = {"channels": (32,) * len(preset.network.channels), "width": 16}
        return made(preset, *given, **{**few, **network})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CausalDiffusionPipeline, "from_preset", small)
        yield made


@contextmanager
def _fitted_shortly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StructuralCausalModel, "fit", partialmethod(StructuralCausalModel.fit, steps=FIT_STEPS))
        yield


@pytest.fixture(scope="session")
def save_phantom_generator() -> Callable[..., Path]:
    """`save_phantom_generator(directory, side, subjects, prediction_type="velocity", **config)` saves a generator.

    Of `side`-pixel phantoms; its causal model is fitted on that many subjects, shortly (0: not at all), its network
    knows nothing; `config` is the pipeline's.
    """
    return _save_phantom_generator


def _save_phantom_generator(
    directory: Path, side: int, subjects: int, prediction_type: str = "velocity", **config: Any
) -> Path:
    torch.manual_seed(0)
    scm = StructuralCausalModel.from_schema(PHANTOM.covariates, PHANTOM.edges)
    if subjects:
        with _fitted_shortly():
            fit_scm(scm, PhantomSource(subjects, seed=0).table, seed=0)
    preset = PHANTOM.model_copy(update={"resolution": side})
    network = {"channels": (32, 32), "space_to_depth": 2, "width": 16, "prediction_type": prediction_type}
    pipeline = CausalDiffusionPipeline.from_preset(preset, scm, side, **network)
    pipeline.register_to_config(**config)
    pipeline.save_pretrained(directory, safe_serialization=True)
    return directory


@pytest.fixture(scope="session")
def write_store() -> Callable[..., Path]:
    """`write_store(directory, subjects_per_stratum=10, preset=CHEST_XRAY, **settings)` writes a data set and its card.

    `settings` are the plan's. Train gets `subjects_per_stratum` subjects of each stratum of the preset, validation and
    test a fifth of that, at least one.
    """
    return _write_store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set `write_store` writes by default, for reading only."""
    return _write_store(tmp_path_factory.mktemp("store") / "synthfair")


@pytest.fixture(scope="session")
def store_of_sexes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that crosses sex alone; age is stratified, and the finding as frequent as it happens to be."""
    return _write_store(tmp_path_factory.mktemp("sexes") / "synthfair", 10, factors=("sex",))


@pytest.fixture(scope="session")
def partitioned_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose train is partitioned as that of a large one is: two subjects in each tenth of each stratum."""
    return _write_store(tmp_path_factory.mktemp("partitioned") / "synthfair", 20, partitioned_from=20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, for pages that are served here; CI fails where there is none."""
    from selenium import webdriver

    paths = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in paths:
        reason = "chromium or chromedriver is missing; install Debian's packages chromium and chromium-driver."
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = str(paths[0])
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(paths[1])))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def record_again() -> Callable[[Path], None]:
    """`record_again(directory)` writes the records and the card of a data set whose files a test has changed."""
    return _record_again


def _record_again(directory: Path) -> None:
    store = Store(directory, read_plan(directory))
    for shard in store.plan.shards():
        record = Record.read(store.record_path(shard))
        for name, file in record.counts["files"].items():
            path = directory / name
            file |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        size = sum(file["bytes"] for file in record.counts["files"].values())
        record.model_copy(update={"counts": {**record.counts, "bytes": size}}).write(store.record_path(shard))
    write_dataset_card(directory, store.plan.preset, store.finish(), license="cc-by-4.0")


def _write_store(directory: Path, subjects_per_stratum: int = 10, preset: Preset = CHEST_XRAY, **settings: Any) -> Path:
    held_out = max(1, subjects_per_stratum // 5)
    total = subjects_per_stratum + 2 * held_out
    plan = GenerationPlan(
        preset=preset,
        model_revision="stub",
        num_subjects=total * 2 ** len(preset.strata),
        split_fractions={
            "train": subjects_per_stratum / total,
            "validation": held_out / total,
            "test": held_out / total,
        },
        subjects_per_shard=max(1, subjects_per_stratum),
        resolution=SIDE,
        **settings,
    )
    with Store(directory, plan).open() as store:
        for shard in plan.shards():
            families = groupby(plan.rows(shard), key=lambda row: row.subject_id)
            store.write(shard, [stored for _, family in families for stored in _family(list(family), plan)])
        record = store.finish()
    write_dataset_card(directory, plan.preset, record, license="cc-by-4.0")
    return directory


def _family(family: list[Row], plan: GenerationPlan) -> list[dict[str, Any]]:
    """A subject's rows as `Store.write` takes them; one is the observation itself, unless numbers are crossed."""
    first, covariates = family[0], plan.preset.covariates
    rng = np.random.default_rng(first.seed)
    own = family[rng.integers(len(family))].cell
    subject = {variable.name: _value(variable, rng) for variable in covariates.walk()}
    for name, group in zip(plan.strata, first.stratum, strict=True):
        contrast, (low, high) = plan.preset.contrasts[name], covariates[name].bounds
        is_first = group == contrast.first
        subject[name] = rng.uniform(low if is_first else contrast.threshold, contrast.threshold if is_first else high)
    subject |= {name: level for name, level in own.items() if covariates[name].categorical}
    interventions = [plan.intervention(row.cell, subject) for row in family]
    observation = next((row.id for row, do in zip(family, interventions, strict=True) if not do), None)
    noise = {f"noise_{name}": rng.normal(size=2).astype(np.float32) for name in covariates.names}
    return [
        {
            "id": row.id,
            "image": {"bytes": _png(rng), "path": f"{row.id}.png"},
            "split": row.split,
            "subject_id": row.subject_id,
            "parent_id": observation if do else None,
            "intervention": json.dumps(do, sort_keys=True),
            **subject,
            **row.cell,
            **noise,
            "seed": row.seed,
            "draw": row.draw,
            "synthetic": bool(do) or plan.source == SCM,
            "source_dataset": plan.source,
            "plan": plan.fingerprint,
            "model_revision": plan.model_revision,
        }
        for row, do in zip(family, interventions, strict=True)
    ]


def _value(variable: Variable, rng: np.random.Generator) -> str | float | None:
    if variable.optional and rng.random() < 0.2:
        return None
    return str(rng.choice(variable.levels)) if variable.categorical else float(rng.uniform(*variable.bounds))


def _png(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where a shell that runs the tests in the background had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
