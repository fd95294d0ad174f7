"""Finish and measure the shipped generator: half-precision weights, calibrated strengths, scoreboard, picture, card.

    python benchmarks/default_generator.py RUN --source ../shared/data/cxr --predictors CHOOSES MEASURES
        --finetuned RUN2 --share 0.3 --base midpoint --default_steps 6

    weights = (1 - share) weights of RUN + share weights of RUN2

RUN2 is the --output_dir of `synthfair finetune` from RUN by CHOOSES: between the two, effects are neither as weak as
before nor as exaggerated as after (Wortsman et al. 2022 interpolate classifiers so). RUN is the --output_dir of
`synthfair train`, CHOOSES and MEASURES those of two runs of `synthfair predictor` with different seeds. Strengths are
chosen by CHOOSES on validation patients for RUN, and kept when it is fine-tuned, because the predictor of a fine-tuning
is no independent measure of its strength (calibrated anew by CHOOSES, changes were too weak for MEASURES, by .10 to .18
of AUC). The card's figures are of MEASURES on patients of the test split, whose radiographs were used neither for
training nor for any choice (their rows of covariates are among those of the label table that the causal model was
fitted on).
"""

import argparse
import io
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sheet import sheet

from synthfair_hf.access import sealed
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR
from synthfair_hf.diffusion.solver import BASES
from synthfair_hf.domains.chest_xray.scanners import SCANNERS
from synthfair_hf.measure.calibration import calibrate
from synthfair_hf.measure.scoreboard import measure_realism, measure_soundness
from synthfair_hf.publish.model_card import write_model_card
from synthfair_hf.publish.report import difference_png
from synthfair_hf.records import Record

SIDE = 128
"""Pixels of a picture on the sheet."""

CREDITS = (
    "NIH ChestX-ray14 (Wang et al., CVPR 2017; images: NIH Clinical Center), the COVID-19 Image Repository of Hannover "
    "Medical School (doi:10.6084/m9.figshare.12275009, CC BY 3.0), and nine radiographs of the COVID-19 Image Data "
    "Collection (Cohen et al., arXiv:2006.11988, CC BY or CC BY-SA)."
)
LIMITATIONS = (
    "Findings of the training radiographs are text-mined from reports and noisy. View and finding are confounded in "
    "them: sick people are imaged AP. The model can carry such associations into do(finding) and do(view).",
)


def finish(run: Path, directory: Path, default_steps: int | None, base: str | None = None) -> None:
    """The run's pipeline with its network in half precision, and its record; `base` is the solver's, if another."""
    pipeline = CausalDiffusionPipeline.load(run)
    if base is not None:
        pipeline.scheduler.register_to_config(base=base)
    if default_steps is not None:
        pipeline.register_to_config(default_steps=default_steps)
    pipeline.unet.half().save_pretrained(directory / "unet", safe_serialization=True)
    for name, component in pipeline.components.items():
        if name != "unet" and component is not None:
            component.save_pretrained(directory / name)
    pipeline.save_config(directory)
    # a seal is of the weights beside it, and these are halved
    sealed(Record.read(run / "record.json"), directory).write(directory / "record.json")


def interpolate(base: Path, finetuned: Path, share: float, directory: Path) -> None:
    """A run between two, in `directory`: configuration and causal model of `finetuned`, weights part of the way to it.

    Its record is that of `base`, which says how nearly all of it was learned, with what was added.
    """
    shutil.copytree(finetuned, directory, ignore=shutil.ignore_patterns("checkpoint-*"))
    for part in ("unet", "covariate_encoder"):
        (file,) = (finetuned / part).glob("*.safetensors")
        ends = [load_file(run / part / file.name) for run in (base, finetuned)]
        weights = {name: torch.lerp(start, ends[1][name], share) for name, start in ends[0].items()}
        save_file(weights, directory / part / file.name, metadata={"format": "pt"})
    added, record = Record.read(finetuned / "record.json"), Record.read(base / "record.json")
    inputs = {**record.inputs, "predictor": added.inputs["predictor"]}
    settings = {"finetuned_share": share, "finetuning_steps": added.settings["max_train_steps"]}
    between = record.model_copy(update={"inputs": inputs, "settings": record.settings | settings})
    between.write(directory / "record.json")


def grid(pipeline: CausalDiffusionPipeline, path: Path, people: int = 6) -> None:
    """Generated people (nobody's radiograph) by do(): counterfactual above, difference to the observation below."""
    generators = [torch.Generator().manual_seed(row) for row in range(people)]
    noise = pipeline.sample_noise(generators)
    covariates = {
        "age": [28.0, 64.0, 45.0, 71.0, 36.0, 57.0][:people],
        "sex": ["male", "female", "female", "male", "female", "male"][:people],
        "finding": ["no_finding", "no_finding", "no_finding", "pneumonia", "pneumonia", "no_finding"][:people],
        "view": ["PA", "PA", "AP", "AP", "PA", "AP"][:people],
        "scanner": ["flatpanel", "flatpanel", "computed", "portable", "flatpanel", "flatpanel"][:people],
    }
    flips = {"sex": ("male", "female"), "finding": ("no_finding", "pneumonia"), "view": ("PA", "AP")}
    interventions = {
        f"do({name}),\nthe other level": {name: [second if value == first else first for value in covariates[name]]}
        for name, (first, second) in flips.items()
    }
    interventions["do(age),\n20 or 85"] = {"age": [85.0 if age < 55 else 20.0 for age in covariates["age"]]}
    interventions |= {f"do(scanner),\n{scanner}": {"scanner": [scanner] * people} for scanner in SCANNERS}
    columns = {"observation": pipeline(covariates=covariates, noise=noise, output_type="pt").images}
    for label, do in interventions.items():
        hold = {one: covariates[one] for one in pipeline.scm.graph.descendants(list(do))}
        answer = pipeline(covariates=covariates, noise=noise, do={**hold, **do}, generator=generators, output_type="pt")
        columns[label] = answer.images
    pictures, rows = [], []
    for person in range(people):
        radiographs = [images[person, 0].numpy() for images in columns.values()]
        pictures.append([enlarged(Image.fromarray(np.rint(one * 255).astype(np.uint8))) for one in radiographs])
        differences = [difference_png(one - radiographs[0], 0.25) for one in radiographs[1:]]
        pictures.append([None, *(enlarged(Image.open(io.BytesIO(one))) for one in differences)])
        age, *levels = (column[person] for column in covariates.values())
        rows += ["\n".join((f"{age:g} years", *(level.replace("_", " ") for level in levels))), "difference"]
    sheet(pictures, list(columns), rows).save(path)


def enlarged(picture: Image.Image) -> Image.Image:
    """The picture as it stands on the sheet."""
    return picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def card(directory: Path, scoreboard_dir: Path, path: Path) -> None:
    """The model card at `path`, printed from the records beside the weights and on the scoreboard."""
    pipeline = CausalDiffusionPipeline.load(directory)
    write_model_card(
        path,
        pipeline.preset,
        Record.read(directory / "record.json"),
        dict(pipeline.config),
        [Record.read(scoreboard_dir / "soundness-acquisition.json")],
        [Record.read(scoreboard_dir / "realism-acquisition.json")],
        Record.read(directory / "calibration.json"),
        license="cc-by-4.0",
        picture="counterfactuals.png",
        credits=CREDITS,
        limitations=LIMITATIONS,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--predictors", type=Path, required=True, nargs=2, metavar=("CHOOSES", "MEASURES"))
    parser.add_argument("--finetuned", type=Path, metavar="RUN2", help="ship weights between RUN's and these")
    parser.add_argument("--share", type=float, default=0.3, help="how far towards RUN2's (0.3)")
    parser.add_argument("--default_steps", type=int, help="the run's own by default")
    parser.add_argument("--base", choices=BASES, help="the solver's base method to ship; the run's own by default")
    parser.add_argument("--output_dir", type=Path, default=DEFAULT_GENERATOR)
    parser.add_argument("--card_dir", type=Path, default=Path("model_card"))
    parser.add_argument("--scoreboard_dir", type=Path, default=Path("docs/scoreboard"))
    parser.add_argument("--radiographs", type=int, default=64, help="test patients whose counterfactuals are measured")
    settings = parser.parse_args()

    began = time.perf_counter()
    chooses, measures = settings.predictors
    settings.card_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run = settings.run
        if settings.finetuned is not None:
            run = Path(folder) / "between"
            interpolate(settings.run, settings.finetuned, settings.share, run)
        finish(run, settings.output_dir, settings.default_steps, settings.base)
    if settings.finetuned is None:
        # at scale 1: guidance doubles the calls, and was never chosen
        calibrate(settings.output_dir, "acquisition", settings.source, [chooses], scales=(1.0,))
    asked = {"source_dir": settings.source, "pretrained_model_name_or_path": settings.output_dir}
    measure_soundness(
        settings.scoreboard_dir,
        "acquisition",
        **asked,
        predictors=[measures],
        limit=settings.radiographs,
        interventions=("forced_change",),
        effect="direct",
        pairs=(("sex", "finding"),),
        contrasts={"age": (30.0, 75.0), "finding": ("no_finding", "pneumonia")},
    )
    measure_realism(settings.scoreboard_dir, "acquisition", measures, **asked, group="sex")
    pipeline = CausalDiffusionPipeline.load(settings.output_dir)
    pipeline.set_progress_bar_config(disable=True)
    grid(pipeline, settings.card_dir / "counterfactuals.png")
    card(settings.output_dir, settings.scoreboard_dir, settings.card_dir / "README.md")
    places = f"{settings.output_dir}, {settings.scoreboard_dir}, {settings.card_dir}"
    print(f"{time.perf_counter() - began:.0f} s; wrote {places}")


if __name__ == "__main__":
    main()
