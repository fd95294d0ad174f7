"""Verbs that measure generators and data sets, and that train what measures them."""

from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..domains.source import Source as ImageSource
from ..training.config import AutoencoderTrainingConfig, PredictorTrainingConfig
from .folders import Source, WorldSource, own_preset
from .output import print_counts, print_saved
from .settings import Generator, KnownAccess, OutputDirectory, OwnPreset, Seed, Steps, VerbSettings
from .words import LISTS, PAIRS_OR_NONE, STRENGTH

__all__ = ["Autoencoder", "Calibrate", "MeasureRealism", "MeasureShortcuts", "MeasureSoundness", "Predictor"]

Predictors = Annotated[
    tuple[Path, ...],
    Field(alias="predictor", description="directories that `synthfair predictor` wrote, one or several"),
]
World = Annotated[
    str,
    Field(
        description="world whose counterfactuals are known: phantom, acquisition, morphomnist, dermatology_phantom or "
        "brain_mri_phantom; observed: real images of which none is known"
    ),
]
Limit = Annotated[int | None, Field(description="images at most; all by default")]
Split = Annotated[str, Field(description="split whose images are used")]


class Predictor(VerbSettings):
    """Train an attribute predictor: a network that predicts the covariates of images, for `measure`."""

    verb = "predictor"
    example = "--preset phantom --output_dir runs/predictor"
    preset: OwnPreset = None
    source_dir: Source = None
    access: KnownAccess = None
    config: PredictorTrainingConfig

    def run(self) -> None:
        from ..measure.predictors import train_predictor

        source, resolution = _training_source(self)
        print_saved(self.config.output_dir, train_predictor(source, self.config, resolution, self.access))


class Autoencoder(VerbSettings):
    """Train an autoencoder, in whose latent space `measure` computes how minimal a change is."""

    verb = "autoencoder"
    example = "--preset phantom --output_dir runs/autoencoder"
    preset: OwnPreset = None
    source_dir: Source = None
    access: KnownAccess = None
    config: AutoencoderTrainingConfig

    def run(self) -> None:
        from ..measure.autoencoder import train_autoencoder

        source, resolution = _training_source(self)
        print_saved(self.config.output_dir, train_autoencoder(source, self.config, resolution, access=self.access))


def _training_source(settings: Predictor | Autoencoder) -> tuple[ImageSource, int]:
    """The source of training images, checked, and the resolution at which they are read."""
    from ..domains.registry import open_source
    from ..training.checkpoints import check_output_dir
    from ..training.examples import TrainingExamples

    domain = own_preset(settings.preset, settings.source_dir)
    check_output_dir(settings.config)
    examples = partial(TrainingExamples, split="train", resolution=domain.resolution, seed=settings.config.seed)
    return open_source(settings.source_dir, domain, domain.resolution, check=examples), domain.resolution


class Calibrate(VerbSettings):
    """Choose the strength of each covariate's change and save it in a generator."""

    verb = "calibrate"
    example = "--pretrained_model_name_or_path runs/phantom --world phantom --predictor runs/predictor"
    pretrained_model_name_or_path: Annotated[str, Field(description="saved pipeline to write into, a directory")]
    world: World
    source_dir: WorldSource = None
    limit: Limit = None
    predictors: Predictors = ()
    variables: tuple[str, ...] | None = Field(None, description="covariates that are calibrated; all by default")
    scales: tuple[float, ...] = Field((1.0, 2.0), description="guidance scales that are tried")
    levels: tuple[float, ...] = Field((1.0, 0.75, 0.5), description="noise levels that are tried")
    seed: Seed = 0
    access: KnownAccess = None

    def run(self) -> None:
        from ..measure.calibration import calibrate

        record = calibrate(**self.given())
        for name, one in record.measured["chosen"].items():
            share = one.get("share_of_gap")
            told = "" if share is None else f", share of the real gap {share:.2f}"
            print(f"{name}: scale {one['scale']:g}, level {one['level']:g}, error {one['error']:g}{told}")
        print(f"saved as defaults of {self.pretrained_model_name_or_path}")
        print_counts(record.counts)


class MeasureSoundness(VerbSettings):
    """Measure axioms, true pixels, effectiveness and off-target effects of counterfactuals."""

    verb = "measure soundness"
    example = "--world phantom --pretrained_model_name_or_path runs/phantom --output_dir scoreboard"
    pretrained_model_name_or_path: Generator = None
    world: World
    source_dir: WorldSource = None
    limit: Limit = None
    split: Split = "test"
    predictors: Predictors = ()
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field((0, 1, 2), description="of the values of do()")
    interventions: tuple[str, ...] = Field(
        ("from_marginal",), description="how values of do() are chosen: from_marginal, forced_change"
    )
    effect: str = Field("total", description="total: descendants of do() follow; direct: they are held")
    variables: tuple[str, ...] | None = Field(None, description="covariates that are intervened on; all by default")
    cycles: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 10), description="reconstructions after which composition is measured"
    )
    num_inference_steps: Steps = None
    pairs: Annotated[tuple[tuple[str, str], ...] | None, PAIRS_OR_NONE] = Field(
        None, description="do()s whose order is exchanged; all pairs by default, none if empty"
    )
    guidance_scale: Annotated[float | dict[str, float] | None, STRENGTH] = Field(
        None, description="strength on changed covariates; the generator's own by default"
    )
    encoder: Path | None = Field(None, description="trained autoencoder by which minimality is measured")
    contrasts: Annotated[dict[str, tuple[str, ...]], LISTS] = Field(
        {}, description="two values whose direct, indirect and total effect is measured"
    )
    boxes: Path | None = Field(
        None,
        description="radiologists' boxes of ChestX-ray14, nih_bounding_boxes.csv.gz, by which the place of a change is "
        "measured",
    )
    output_dir: OutputDirectory

    def run(self) -> None:
        from ..measure.scoreboard import measure_soundness

        record = measure_soundness(**self.given())
        print(f"wrote {self.output_dir}/soundness-{self.world}.json and {self.output_dir}/README.md")
        print_counts(record.counts)


class MeasureRealism(VerbSettings):
    """Measure distances of samples to held-out images, and to the training images."""

    verb = "measure realism"
    example = (
        "--world phantom --pretrained_model_name_or_path runs/phantom --predictor runs/predictor "
        "--output_dir scoreboard"
    )
    pretrained_model_name_or_path: Generator = None
    world: World
    source_dir: WorldSource = None
    limit: Limit = None
    split: Split = "test"
    predictor: Path = Field(description="attribute predictor whose features are compared")
    group: str | None = Field(None, description="covariate by whose levels figures are given as well")
    output_dir: OutputDirectory

    def run(self) -> None:
        from ..measure.scoreboard import measure_realism

        record = measure_realism(**self.given())
        print(f"wrote {self.output_dir}/realism-{self.world}.json and {self.output_dir}/README.md")
        print_counts(record.counts)


class MeasureShortcuts(VerbSettings):
    """Measure how well a data set's covariates are predicted from histogram and border alone."""

    verb = "measure shortcuts"
    example = "--preset phantom --output_dir shortcuts"
    preset: OwnPreset = None
    source_dir: Source = None
    resolution: int = Field(64, description="height and width in pixels at which images are read")
    splits: tuple[str, ...] = Field(("train", "validation", "test"), description="whose images are used")
    output_dir: OutputDirectory

    def run(self) -> None:
        from ..domains.registry import open_source
        from ..measure.shortcuts import FEATURES, measure_shortcuts

        domain, given = own_preset(self.preset, self.source_dir), self.given()
        source = open_source(self.source_dir, domain, self.resolution)
        arguments = {name: given[name] for name in ("output_dir", "resolution", "splits") if name in given}
        rows = measure_shortcuts(source, domain, **arguments).measured["rows"]
        print(f"{'AUC of':24}" + "".join(f"{features:24}" for features in FEATURES))
        for name in dict.fromkeys(row["attribute"] for row in rows):
            own = [row for row in rows if row["attribute"] == name]
            told = [
                "-" if (m := row["mean"]) is None else f"{m:.3f} [{row['low']:.3f}, {row['high']:.3f}]" for row in own
            ]
            print(f"{name:24}" + "".join(f"{one:24}" for one in told))
        print(f"wrote {self.output_dir}/shortcuts.json")
