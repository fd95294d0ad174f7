"""The shipped generator's picture and card, from its weights and from the records of its measurements.

    python benchmarks/default_generator.py --scoreboard_dir docs/scoreboard/chest_xray_findings_128

synthfair_hf/pretrained/README.md has the commands that train, calibrate and measure it.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sheet import sheet

from synthfair_hf.access import sealed
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR, find_generator
from synthfair_hf.domains.chest_xray.nih_chestxray14 import NIHChestXray14
from synthfair_hf.domains.chest_xray.scanners import SCANNERS
from synthfair_hf.domains.findings import findings_of
from synthfair_hf.domains.preset import Preset
from synthfair_hf.publish.model_card import write_model_card
from synthfair_hf.publish.pictures import difference_png
from synthfair_hf.records import Record

SCOREBOARD = Path("docs/scoreboard") / DEFAULT_GENERATOR.name
WORLD = "observed"

SIDE = 128
"""Pixels of a picture on the sheet."""

SHOWN = ("effusion", "cardiomegaly", "finding")
"""Findings on the sheet, of those that a generator has."""

CREDITS = (
    "NIH ChestX-ray14 (Wang et al., CVPR 2017; images: NIH Clinical Center); terms of use: "
    f"{NIHChestXray14.license}, {NIHChestXray14.request}."
)
LIMITATIONS = (
    "Findings of the training radiographs are text-mined from reports and noisy. View and findings are confounded in "
    "them: sick people are imaged AP. The model can carry such associations into do(effusion) and do(view).",
    "Of most samples the lungs, heart and ribs are recognisable; in some a lung or the heart is malformed as a whole, "
    "arms, clavicles and the edges of the image are often so, and no device is drawn. The classifier that tells "
    "samples from real radiographs learned from a few hundred images, and a radiologist needs none. Counterfactuals "
    "of real radiographs keep the detail of these.",
)


def finish(run: Path, directory: Path, default_steps: int | None = None, base: str | None = None) -> None:
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


def people_of(preset: Preset) -> dict[str, list[float | str]]:
    """Covariates of the six people on the sheet; the fourth and the fifth have one finding each of those shown."""
    covariates: dict[str, list[float | str]] = {
        "age": [28.0, 64.0, 45.0, 71.0, 36.0, 57.0],
        "sex": ["male", "female", "female", "male", "female", "male"],
        "view": ["PA", "PA", "AP", "AP", "PA", "AP"],
        "scanner": ["flatpanel", "flatpanel", "computed", "portable", "flatpanel", "flatpanel"],
    }
    for finding in findings_of(preset):
        contrast = preset.contrasts[finding]
        covariates[finding] = [contrast.second] * 6
        if finding in SHOWN:
            covariates[finding][3 + SHOWN.index(finding) % 2] = contrast.first
    return {name: covariates[name] for name in preset.covariates.names}


def grid(pipeline: CausalDiffusionPipeline, path: Path) -> None:
    """Generated people (nobody's radiograph) by do(): counterfactual above, difference to the observation below."""
    preset, covariates = pipeline.preset, people_of(pipeline.preset)
    people = len(covariates["age"])
    generators = [torch.Generator().manual_seed(row) for row in range(people)]
    noise = pipeline.sample_noise(generators)
    interventions: dict[str, dict[str, list[float | str]]] = {}
    for name in ("sex", *(one for one in SHOWN if one in preset.covariates), "view"):
        first, second = preset.covariates[name].levels
        others = [second if value == first else first for value in covariates[name]]
        interventions[f"do({name}),\nthe other level"] = {name: others}
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
        rows += [described(preset, {name: column[person] for name, column in covariates.items()}), "difference"]
    sheet(pictures, list(columns), rows).save(path)


def described(preset: Preset, person: dict[str, float | str]) -> str:
    """A person's covariates, a line each; of the findings those that are present."""
    findings = findings_of(preset)
    found = [person[name] if name == "finding" else name for name in findings]
    present = [
        str(word) for name, word in zip(findings, found, strict=True) if person[name] == preset.contrasts[name].first
    ]
    lines = [f"{person['age']:g} years", str(person["sex"]), *(present or ["no finding"])]
    return "\n".join([*lines, str(person["view"]), str(person["scanner"])])


def enlarged(picture: Image.Image) -> Image.Image:
    """The picture as it stands on the sheet."""
    return picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def card(scoreboard_dir: Path, path: Path) -> None:
    """The model card at `path`, printed from the records beside the weights and those that are on the scoreboard."""
    pipeline = CausalDiffusionPipeline.load(DEFAULT_GENERATOR)
    soundness, realism = (scoreboard_dir / f"{measured}-{WORLD}.json" for measured in ("soundness", "realism"))
    write_model_card(
        path,
        pipeline.preset,
        Record.read(DEFAULT_GENERATOR / "record.json"),
        dict(pipeline.config),
        [Record.read(one) for one in (soundness,) if one.exists()],
        [Record.read(one) for one in (realism,) if one.exists()],
        Record.read(DEFAULT_GENERATOR / "calibration.json"),
        revision=find_generator(DEFAULT_GENERATOR).revision,
        shipped=True,
        license="cc-by-4.0",
        creator="the authors of synthfair-hf",
        picture="counterfactuals.png",
        credits=CREDITS,
        limitations=LIMITATIONS,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scoreboard_dir", type=Path, default=SCOREBOARD)
    parser.add_argument("--card_dir", type=Path, default=Path("model_card"))
    settings = parser.parse_args()

    settings.card_dir.mkdir(parents=True, exist_ok=True)
    pipeline = CausalDiffusionPipeline.load(DEFAULT_GENERATOR)
    pipeline.set_progress_bar_config(disable=True)
    grid(pipeline, settings.card_dir / "counterfactuals.png")
    card(settings.scoreboard_dir, settings.card_dir / "README.md")
    print(f"wrote {settings.card_dir}")


if __name__ == "__main__":
    main()
