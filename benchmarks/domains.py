"""A generator of dermatology or brain MRI from real images, end to end: split, train, measure, look.

    python benchmarks/domains.py --domain brain_mri --source ../shared/data/oasis1 --output_dir OUT
        --max_train_steps 1000 --resume_from_checkpoint latest

The patients of the package's train split are divided by a hash of their names: a third trains the attribute predictor,
the others the generator. So the predictor that measures has seen none of the images that the generator learned from:
one that had would know them by heart on both sides. Patients of the test split trained neither. Levels are changed to
one that the image does not have (forced change), and what they cause is held (direct effect).

    OUT/images/<part>            the images of a part, with their metadata.csv: never published
    OUT/predictor, generator     what is trained; the same command goes on where it was stopped
    OUT/scoreboard               every figure that `synthfair measure` writes
    OUT/README.md                those that the question is about, beside the identity's and the real images'
    OUT/counterfactuals.png      test images with their counterfactuals and differences: never published
    OUT/samples.png              drawn people
"""

import argparse
import csv
import hashlib
import io
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sheet import sheet

from synthfair_hf.diffusion.fitting import train_generator
from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.images import to_pil
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.domains.images import from_batch, luminance
from synthfair_hf.domains.preset import Network, Preset
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.registry import READERS, open_source
from synthfair_hf.domains.source import access_to, patient_split
from synthfair_hf.domains.worlds import ObservedWorld
from synthfair_hf.measure.predictors import train_predictor
from synthfair_hf.measure.scoreboard import measure_realism, measure_soundness
from synthfair_hf.publish.editions import edition
from synthfair_hf.publish.pictures import difference_png
from synthfair_hf.records import Access, Record
from synthfair_hf.training.config import PredictorTrainingConfig, TrainingConfig

DATA_SETS = {"dermatology": "ham10000", "brain_mri": "oasis1"}
SHARE = 1 / 3
"""Of the training patients, those of the predictor."""

NETWORK = Network(channels=(64, 96, 128), width=64, prediction_type="sample_and_variance")
"""Small enough for a processor core. One that predicts the velocity draws coloured noise after 3,000 steps."""

SIDE = 96
"""Pixels of a picture on a sheet."""


def divide(source: Path, preset: Preset, directory: Path) -> dict[str, Path]:
    """The images of the data set in two folders: the predictor's training patients, and everybody else."""
    folders = {part: directory / part for part in ("predictor", "generator")}
    table = READERS[DATA_SETS[preset.name]](source, preset).table()
    columns = list(table.rows[0][1])
    parts: dict[str, list[dict[str, str]]] = {part: [] for part in folders}
    for _, row in table.rows:
        parts[part_of(row["patient_id"])].append(row)
    for part, rows in parts.items():
        finished = folders[part] / "metadata.csv"
        if finished.exists():
            continue
        for row in rows:
            target = folders[part] / row["file_name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / row["file_name"], target)
        with finished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
    return folders


def part_of(patient: str) -> str:
    """Whose a patient is: SHARE of the train split the predictor's, all others the generator's folder."""
    if patient_split(patient) != "train":
        return "generator"
    place = int.from_bytes(hashlib.sha256(f"predictor {patient}".encode()).digest()[:8], "big") / 2**64
    return "predictor" if place < SHARE else "generator"


def other(preset: Preset, name: str, value: Any) -> Any:
    """The value to change to: the other side of the covariate's contrast, and of an age 25 years across it."""
    contrast, variable = preset.contrasts[name], preset.covariates[name]
    if variable.categorical:
        return contrast.first if value != contrast.first else contrast.second
    low, high = variable.bounds
    return min(high, contrast.threshold + 15) if value < contrast.threshold else max(low, contrast.threshold - 15)


def shown(image: torch.Tensor) -> Image.Image:
    """An image `[C, r, r]` in [0, 1] as it stands on a sheet."""
    return to_pil(image[None])[0].convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def changed(image: torch.Tensor, before: torch.Tensor) -> Image.Image:
    """The difference in luminance: blue darker, red brighter, full colour at a quarter of the range."""
    png = difference_png(luminance(from_batch((image - before)[None].numpy())[0]), 0.25)
    return Image.open(io.BytesIO(png)).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def told(preset: Preset, row: dict[str, Any]) -> str:
    """The covariates of an image, a line each."""
    return "\n".join(
        str(value).replace("_", " ") if preset.covariates[name].categorical else f"{name} {value:g}"
        for name, value in row.items()
    )


def counterfactuals(pipeline: CausalDiffusionPipeline, world: ObservedWorld, people: int) -> Image.Image:
    """Test images by do(): counterfactual above, difference to the observation below."""
    preset, count = pipeline.preset, min(people, len(world.kept))
    table = {name: column[:count] for name, column in world.table.items()}
    observed = world.images[:count]
    columns = {"observation": observed}
    columns["do(nothing)"] = ask(pipeline, observed, table, {})
    for name in table:
        hold = {one: table[one] for one in pipeline.scm.graph.descendants([name])}
        do = {**hold, name: [other(preset, name, value) for value in table[name]]}
        columns[f"do({name})"] = ask(pipeline, observed, table, do)
    pictures, rows = [], []
    for place in range(count):
        own = {name: column[place] for name, column in table.items()}
        new = {name: other(preset, name, value) for name, value in own.items()}
        pictures.append([shown(images[place]) for images in columns.values()])
        pictures.append([None, *(changed(images[place], observed[place]) for images in list(columns.values())[1:])])
        rows += [told(preset, own), f"difference to\n{told(preset, new)}"]
    return sheet(pictures, [label.replace("do(", "do(\n") for label in columns], rows)


def ask(pipeline: CausalDiffusionPipeline, image: torch.Tensor, covariates: Any, do: Any) -> torch.Tensor:
    """The counterfactuals of images."""
    generator = [torch.Generator().manual_seed(row) for row in range(len(image))]
    output = pipeline(image=image, covariates=covariates, do=do, generator=generator, output_type="pt")
    return torch.as_tensor(output.images)


def samples(pipeline: CausalDiffusionPipeline, lines: int = 4, columns: int = 6) -> Image.Image:
    """Drawn people, nobody's image."""
    generator = [torch.Generator().manual_seed(row) for row in range(lines * columns)]
    covariates = pipeline.scm.sample(lines * columns, torch.Generator().manual_seed(0))
    decoded = pipeline.covariates.decode({name: values.numpy() for name, values in covariates.items()})
    output = pipeline(covariates=decoded, generator=generator, output_type="pt")
    pictures = [shown(image) for image in torch.as_tensor(output.images)]
    rows = [pictures[first : first + columns] for first in range(0, len(pictures), columns)]
    return sheet(rows, [""] * columns, [""] * lines)


def estimate(row: dict[str, Any] | None) -> str:
    """A figure with its interval."""
    if row is None or row["mean"] is None:
        return "-"
    return f"{row['mean']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"


def page(soundness: Record, realism: Record) -> str:
    """README.md, printed from the two records."""
    rows = {(row["system"], row["metric"], row["do"], row["attribute"]): row for row in soundness.measured["rows"]}
    (system,) = {row["system"] for row in soundness.measured["rows"]} - {"identity"}
    names = list(dict.fromkeys(row["do"] for row in soundness.measured["rows"] if row["metric"] == "factual_l1"))
    counts, settings = soundness.counts, soundness.settings
    source, seeds = counts["source"], ", ".join(map(str, settings["seeds"]))
    lines = [
        "# A generator of real images, measured",
        "",
        f"Measured on {edition(soundness.inputs['generator'])}.",
        "",
        f"Printed by `benchmarks/domains.py` from the records beside it: {counts['images']} test images of",
        f"{counts['groups']} patients, seeds {seeds}, 95 % bootstrap intervals over",
        f"patients; {realism.counts['training_images']} images trained the generator, {source['images']} are in its",
        "folder with those held out. The predictor that measures was trained on other patients than the generator.",
        "*Real*: the predictor's own figure on the real images, the best that can be shown by it. *Identity*: the",
        "image unchanged, so that every change is missed.",
        "",
        "| do() | shows its new value by | generator | identity | real |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        for metric in ("auc", "mae"):
            asked, same = rows.get((system, metric, name, name)), rows.get(("identity", metric, name, name))
            if asked is not None:
                real = rows.get((system, metric, "none", name))
                lines.append(f"| {name} | {metric} | {estimate(asked)} | {estimate(same)} | {estimate(real)} |")
    lines += ["", "| do() | disturbs | by | generator |", "|---|---|---|---|"]
    for name in names:
        for attribute in names:
            for metric in ("delta_auc", "delta_mae"):
                row = rows.get((system, metric, name, attribute))
                if attribute != name and row is not None:
                    lines.append(f"| {name} | {attribute} | {metric} | {estimate(row)} |")
    lines += ["", "| gray levels of 255 | generator | identity |", "|---|---|---|"]
    for label, metric, do in [
        ("composition, once", "composition_l1_at_1", "none"),
        ("composition, ten times", "composition_l1_at_10", "none"),
        *((f"reversibility of do({name})", "reversibility_l1", name) for name in names),
    ]:
        asked, same = rows.get((system, metric, do, "image")), rows.get(("identity", metric, do, "image"))
        lines.append(f"| {label} | {estimate(asked)} | {estimate(same)} |")
    found, real = realism.measured["features"]["overall"], realism.measured["training_films"]
    lines += ["", "| realism of samples, against test images | samples | training images |", "|---|---|---|"]
    for name in ("kernel_distance", "precision", "recall", "density", "coverage"):
        lines.append(f"| {name.replace('_', ' ')} | {figure(found[name])} | {figure(real[name])} |")
    return "\n".join(lines) + "\n"


def figure(value: Any) -> str:
    """A figure of realism, with its interval where it has one."""
    if isinstance(value, dict):
        return f"{value['value']:.3g} [{value['low']:.3g}, {value['high']:.3g}]"
    return "-" if value is None else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--domain", choices=DATA_SETS, required=True)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--max_train_steps", type=int, default=1000)
    parser.add_argument("--predictor_steps", type=int, default=600)
    parser.add_argument("--default_steps", type=int, default=12, help="of the solver: at 6 samples are grainy")
    parser.add_argument("--resume_from_checkpoint", choices=["latest"])
    parser.add_argument("--images", type=int, default=64, help="test images whose counterfactuals are measured")
    parser.add_argument("--docs_dir", type=Path, help="where the page and its records are kept as well")
    settings = parser.parse_args()

    began = time.perf_counter()
    preset = get_preset(settings.domain).model_copy(update={"network": NETWORK})
    side, out, resume = preset.resolution, settings.output_dir, settings.resume_from_checkpoint
    access: Access = READERS[DATA_SETS[preset.name]].access
    folders = divide(settings.source, preset, out / "images")
    trained = {"resume_from_checkpoint": resume, "checkpointing_steps": 200}

    config = TrainingConfig(
        output_dir=out / "generator",
        max_train_steps=settings.max_train_steps,
        train_batch_size=16,
        learning_rate=1e-3,
        ema_decay=0.998,
        **trained,
    )
    train_generator(preset, folders["generator"], config, default_steps=settings.default_steps, access=access)
    config = PredictorTrainingConfig(
        output_dir=out / "predictor",
        max_train_steps=settings.predictor_steps,
        train_batch_size=32,
        learning_rate=1e-3,
        **trained,
    )
    images = open_source(folders["predictor"], preset, side)
    train_predictor(images, config, side, access=access_to(images, access))
    trained_in = time.perf_counter() - began

    asked = {"source_dir": folders["generator"], "pretrained_model_name_or_path": out / "generator"}
    asked["limit"] = settings.images
    soundness = measure_soundness(
        out / "scoreboard",
        "observed",
        predictors=[out / "predictor"],
        interventions=("forced_change",),
        effect="direct",
        pairs=(),
        seeds=(0, 1),
        **asked,
    )
    realism = measure_realism(out / "scoreboard", "observed", out / "predictor", **asked)
    pipeline = load_generator(out / "generator")
    pipeline.set_progress_bar_config(disable=True)
    world = ObservedWorld(open_source(folders["generator"], preset, side), preset, "test", 6, side)
    counterfactuals(pipeline, world, 6).save(out / "counterfactuals.png")
    samples(pipeline).save(out / "samples.png")
    (out / "README.md").write_text(page(soundness, realism), encoding="utf-8")
    if settings.docs_dir is not None:
        settings.docs_dir.mkdir(parents=True, exist_ok=True)
        shutil.copy(out / "README.md", settings.docs_dir)
        for path in (out / "scoreboard").glob("*-observed.json"):
            shutil.copy(path, settings.docs_dir / path.name)
    print(f"{trained_in:.0f} s of training, {time.perf_counter() - began:.0f} s in all; wrote {out}")


if __name__ == "__main__":
    main()
