"""Finish and measure the shipped generator: half-precision weights, defaults, figures on held-out patients, card.

    python benchmarks/default_generator.py RUN --source ../shared/data/cxr

RUN is the --output_dir of `synthfair train`. Images are measured on patients of the test split, whose films neither
trained nor chose anything (their rows of covariates are among those of the label table that the causal model was fitted
on). Intervals are 95 % bootstrap intervals over patients, or over samples where there are none.
"""

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from synthfair_hf.cards import write_model_card
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.solver import ReversibleFlowScheduler
from synthfair_hf.records import Record
from synthfair_hf.report import difference_png
from synthfair_hf.simulators.acquisition import SCANNERS
from synthfair_hf.sources.source import Source
from synthfair_hf.verbs import DEFAULT_GENERATOR, open_source

BATCH = 16

CREDITS = (
    "NIH ChestX-ray14 (Wang et al., CVPR 2017; images: NIH Clinical Center), the COVID-19 Image Repository of Hannover "
    "Medical School (doi:10.6084/m9.figshare.12275009, CC BY 3.0), and nine films of the COVID-19 Image Data "
    "Collection (Cohen et al., arXiv:2006.11988, CC BY or CC BY-SA)."
)


def interval(values: np.ndarray, groups: np.ndarray, seed: int = 0, draws: int = 2000) -> dict[str, float | int | None]:
    """Mean of values with a 95 % interval from resampling whole groups."""
    if not len(values):
        return {"mean": None, "low": None, "high": None, "n": 0, "groups": 0}
    rng = np.random.default_rng(seed)
    names, member = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(member, values), np.bincount(member)
    picks = rng.integers(0, len(names), (draws, len(names)))
    means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "mean": round(float(values.mean()), 5),
        "low": round(float(low), 5),
        "high": round(float(high), 5),
        "n": len(values),
        "groups": len(names),
    }


def l1(one: Tensor, other: Tensor) -> np.ndarray:
    """Mean absolute difference per image, 0-255 scale `[B]`."""
    return ((one - other).abs().mean(dim=(1, 2, 3)) * 255).numpy()


class HeldOut:
    """The first film with every covariate known of each patient of one split, at most `limit` of them."""

    def __init__(self, source: Source, pipeline: CausalDiffusionPipeline, split: str, limit: int = 64) -> None:
        names, self.source = pipeline.covariates.names, source
        complete = [row for row in range(len(source)) if all(source.table[name][row] is not None for name in names)]
        first: dict[str, int] = {}
        for row in complete:
            if source.splits[row] == split:
                first.setdefault(source.patient_ids[row], row)
        self.rows = list(first.values())[:limit]
        self.patients = np.array([source.patient_ids[row] for row in self.rows])
        self.covariates = {name: [source.table[name][row] for row in self.rows] for name in names}
        resolution = pipeline.config.resolution
        self.images = torch.stack([torch.from_numpy(source.image(row, resolution))[None] for row in self.rows])

    def answer(self, pipeline: CausalDiffusionPipeline, images: Tensor, do: dict, **settings) -> Tensor:
        """Counterfactuals of all films, in batches."""
        answers = []
        for start in range(0, len(self.rows), BATCH):
            rows = range(start, min(start + BATCH, len(self.rows)))
            output = pipeline(
                image=images[rows.start : rows.stop],
                covariates={name: column[rows.start : rows.stop] for name, column in self.covariates.items()},
                do={
                    one: value[rows.start : rows.stop] if isinstance(value, list) else value
                    for one, value in do.items()
                },
                generator=[torch.Generator().manual_seed(row) for row in rows],
                output_type="pt",
                **settings,
            )
            answers.append(output.images)
        return torch.cat(answers)


def composition(pipeline: CausalDiffusionPipeline, films: HeldOut) -> dict[str, dict]:
    """L1 to the input after 1 and 10 cycles of do={}."""
    current, figures = films.images, {}
    for cycle in range(1, 11):
        current = films.answer(pipeline, current, {})
        if cycle in (1, 10):
            figures[f"composition_l1_at_{cycle}"] = interval(l1(current, films.images), films.patients)
    return figures


def scanner_truth(pipeline: CausalDiffusionPipeline, films: HeldOut, **settings) -> dict[str, dict]:
    """L1 to the exact film under do(scanner), and of doing nothing, over films that another scanner took."""
    figures = {}
    for scanner in SCANNERS:
        other = np.array([one != scanner for one in films.covariates["scanner"]])
        answer = films.answer(pipeline, films.images, {"scanner": scanner}, **settings)
        truth = torch.stack(
            [torch.from_numpy(films.source.counterfactual(row, scanner, answer.shape[-1]))[None] for row in films.rows]
        )
        figures[f"true_pixel_l1_do_scanner_{scanner}"] = interval(l1(answer, truth)[other], films.patients[other])
        figures[f"identity_l1_do_scanner_{scanner}"] = interval(l1(films.images, truth)[other], films.patients[other])
    return figures


def effects(pipeline: CausalDiffusionPipeline, films: HeldOut, **settings) -> dict[str, dict]:
    """How far each do() moves the films it changes: L1 to the input, everything else held."""
    figures = {}
    for name, (first, second) in {
        "sex": ("male", "female"),
        "finding": ("no_finding", "pneumonia"),
        "view": ("PA", "AP"),
    }.items():
        do = {one: list(films.covariates[one]) for one in pipeline.scm.graph.descendants([name])}
        do[name] = [second if value == first else first for value in films.covariates[name]]
        answer = films.answer(pipeline, films.images, do, **settings)
        figures[f"moved_l1_do_{name}"] = interval(l1(answer, films.images), films.patients)
    return figures


def sample(pipeline: CausalDiffusionPipeline, count: int, seed: int) -> Tensor:
    """Images of people drawn from the causal model."""
    images = []
    for start in tqdm(range(0, count, BATCH), desc="sampling"):
        generators = [
            torch.Generator().manual_seed(seed * 1_000_003 + row) for row in range(start, min(start + BATCH, count))
        ]
        covariates = pipeline.scm.sample(len(generators), generators)
        decoded = pipeline.covariates.decode({name: value.numpy() for name, value in covariates.items()})
        images.append(pipeline(covariates=decoded, generator=generators, output_type="pt").images)
    return torch.cat(images)


def nearest_training_image(
    pipeline: CausalDiffusionPipeline, source: Source, films: HeldOut, count: int
) -> dict[str, dict]:
    """Distance to the nearest training film, of samples and of held-out films: root mean square of standardised pixels.

    Every film is standardised by its own mean and deviation, so that scanner and exposure do not hide a copy. A sample
    nearer than the nearest of the held-out films would be suspicious.
    """

    def standard(images: Tensor) -> Tensor:
        flat = torch.nn.functional.avg_pool2d(images, 2).flatten(1)
        return (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)

    resolution = films.images.shape[-1]
    rows = [row for row in range(len(source)) if source.splits[row] == "train"]
    train = standard(torch.stack([torch.from_numpy(source.image(row, resolution))[None] for row in rows]))
    figures = {}
    for name, images in (("samples", sample(pipeline, count, seed=1)), ("held_out_films", films.images)):
        nearest = (torch.cdist(standard(images), train).min(dim=1).values / train.shape[1] ** 0.5).numpy()
        groups = films.patients if name == "held_out_films" else np.arange(len(nearest))
        figures[f"nearest_training_distance_{name}"] = {
            **interval(nearest, groups),
            "minimum": round(float(nearest.min()), 4),
            "first_percentile": round(float(np.quantile(nearest, 0.01)), 4),
        }
    return figures


def grid(pipeline: CausalDiffusionPipeline, path: Path, people: int = 6) -> None:
    """Generated people (no patient's film) by do(): counterfactual above, difference to the observation below."""
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
    columns = [pipeline(covariates=covariates, noise=noise, output_type="pt").images]
    for name, (first, second) in flips.items():
        do = {one: covariates[one] for one in pipeline.scm.graph.descendants([name])}
        do[name] = [second if value == first else first for value in covariates[name]]
        columns.append(
            pipeline(covariates=covariates, noise=noise, do=do, generator=generators, output_type="pt").images
        )
    hold = {one: covariates[one] for one in pipeline.scm.graph.descendants(["age"])}
    old = [85.0 if age < 55 else 20.0 for age in covariates["age"]]
    columns.append(
        pipeline(
            covariates=covariates, noise=noise, do={**hold, "age": old}, generator=generators, output_type="pt"
        ).images
    )
    for scanner in SCANNERS:
        columns.append(
            pipeline(
                covariates=covariates, noise=noise, do={"scanner": scanner}, generator=generators, output_type="pt"
            ).images
        )
    side, gap = 128, 4
    sheet = Image.new("RGB", (len(columns) * (side + gap) + gap, people * 2 * (side + gap) + gap), "black")
    for column, images in enumerate(columns):
        for person in range(people):
            film = images[person, 0].numpy()
            place = (gap + column * (side + gap), gap + 2 * person * (side + gap))
            picture = Image.fromarray(np.rint(film * 255).astype(np.uint8)).resize(
                (side, side), Image.Resampling.BICUBIC
            )
            sheet.paste(picture, place)
            if column:
                difference = Image.open(io.BytesIO(difference_png(film - columns[0][person, 0].numpy(), 0.25)))
                sheet.paste(
                    difference.resize((side, side), Image.Resampling.BICUBIC), (place[0], place[1] + side + gap)
                )
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, default=DEFAULT_GENERATOR)
    parser.add_argument("--card_dir", type=Path, default=Path("model_card"))
    parser.add_argument("--default_steps", type=int, default=16)
    parser.add_argument("--default_guidance_scale", type=float, default=1.0)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--films", type=int, default=32, help="held-out patients to measure on, one film each")
    settings = parser.parse_args()

    pipeline = CausalDiffusionPipeline.load(settings.run)
    pipeline.register_to_config(
        default_steps=settings.default_steps, default_guidance_scale=settings.default_guidance_scale
    )
    pipeline.register_modules(scheduler=ReversibleFlowScheduler())
    pipeline.unet.half().save_pretrained(settings.output_dir / "unet", safe_serialization=True)
    pipeline.unet.float()
    for name in ("covariate_encoder", "scm", "scheduler"):
        getattr(pipeline, name).save_pretrained(settings.output_dir / name)
    pipeline.save_config(settings.output_dir)
    pipeline = CausalDiffusionPipeline.load(settings.output_dir)
    pipeline.set_progress_bar_config(disable=True)

    source = open_source(settings.source, pipeline.preset, pipeline.config.resolution)
    films = HeldOut(source, pipeline, "test", settings.films)
    began = time.perf_counter()
    measured = {
        **composition(pipeline, films),
        **scanner_truth(pipeline, films),
        **effects(pipeline, films),
        **nearest_training_image(pipeline, source, films, settings.samples),
    }
    training = Record.read(settings.run / "record.json")
    record = training.model_copy(update={"measured": {**training.measured, **measured}})
    record.write(settings.output_dir / "record.json")
    grid(pipeline, settings.card_dir / "counterfactuals.png")
    write_model_card(
        settings.card_dir / "README.md", pipeline.preset, record, dict(pipeline.config), "counterfactuals.png", CREDITS
    )
    print(json.dumps(measured, indent=2))
    print(f"measured in {time.perf_counter() - began:.0f} s; wrote {settings.output_dir} and {settings.card_dir}")


if __name__ == "__main__":
    main()
