"""Does alignment to a judge's preferences make images that another judge prefers, for every subgroup alike?

    python benchmarks/alignment.py --pretrained_model_name_or_path P --other_predictor B --output_dir RUN \
        --comparison_type samples | guided_samples --predictor A
    or  --comparison_type counterfactuals --judge true_pixels

    pairs      two images by P of each comparison; the judge (by predictor A) prefers one
    align      `synthfair align` at each beta and seed, on the pairs of train, stopped by those of validation
    compare    on new comparisons, the same for P and for P with the adapters at strengths 1/2 to 4:  how often the
               aligned image is the better one (win rate), and how much better the best subgroup scores than the worst
               (gap), both by B and, where the exact counterfactual is known, by true pixels; for samples also the
               effect of guidance without training, at twice the calls, and B's scores of real images
    boards     `synthfair measure soundness | realism` of P and of P with the adapters merged, beta by validation pairs
    downstream a finding's classifier on real images in which it correlates with sex at 95:5, and on these balanced by
               images of P, of the aligned P, or by real ones: worst group and gap on unbiased test images

A and B are attribute predictors trained with different seeds, on training patients alone; B is used for nothing but
evaluation. Every stage is kept in RUN and not made again.
"""

import argparse
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_args

import numpy as np
import torch
from alignment_downstream import DownstreamData, downstream
from alignment_page import page
from PIL import Image
from sheet import sheet
from torch import Tensor

from synthfair_hf.align.candidates import SAMPLE_GUIDANCE, ComparisonType, make_candidates
from synthfair_hf.align.config import AlignmentConfig
from synthfair_hf.align.finetuning import align_generator, fuse_generator
from synthfair_hf.align.judgement import judge_candidates, load_judging_predictor
from synthfair_hf.align.judges import AttributeFidelity, CounterfactualSoundness, JudgingPredictor
from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import SavedGenerator, find_generator
from synthfair_hf.domains.worlds import World, open_world
from synthfair_hf.errors import InputError
from synthfair_hf.measure.intervals import bootstrap, bootstrap_mean, statistic_of_rows
from synthfair_hf.measure.interventions import forced_change
from synthfair_hf.measure.scoreboard import PipelineSystem, measure_realism, measure_soundness
from synthfair_hf.measure.weights import weights_fingerprint
from synthfair_hf.records import Record, library_versions, write_atomically
from synthfair_hf.schema import SPLITS, Schema

STRENGTHS = (0.5, 1.0, 2.0, 4.0)
"""Scales of the adapters at which the answers are compared; 1 is as trained."""

BATCH = 32

SHOWN = 12
"""Answers of the first seed in the picture."""

REAL_IMAGES = 600
"""Held-out real images at most that B scores."""


class Judged(NamedTuple):
    """Answers `[n, C, r, r]` in [0, 1] and their scores `[n]` by judge, higher is better."""

    images: Tensor
    scores: dict[str, np.ndarray]


class Comparisons(Protocol):
    """New comparisons of one seed; `groups` and `subjects` `[n]` name the subgroup and the unit of resampling."""

    groups: np.ndarray
    subjects: list[str]

    def judged(self, pipeline: CausalDiffusionPipeline) -> Judged:
        """The answers of a generator, the same noise in each."""
        ...


class Samples:
    """Subjects drawn from the causal model, equally many of each subgroup; the score is B's attribute fidelity.

    Fidelity is the mean over the covariates asked for of log p(asked), or of -|error| in standard deviations.
    """

    def __init__(
        self, saved: SavedGenerator, fidelity: AttributeFidelity, balance: Sequence[str], rows: int, seed: int
    ):
        schema, scm = saved.preset.covariates, saved.causal_model()
        cells = list(product(*(range(len(schema[name].levels)) for name in balance)))
        places = [cells[row % len(cells)] for row in range(rows)]
        generator = torch.Generator().manual_seed(10_000 + seed)
        do = {name: torch.tensor([place[which] for place in places]) for which, name in enumerate(balance)}
        self.asked = scm.evaluate(scm.sample_noise(rows, generator), do)
        self.covariates = schema.decode({name: values.numpy() for name, values in self.asked.items()})
        self.groups, self.subjects = subgroups(self.covariates, balance), [f"{seed}-{row}" for row in range(rows)]
        self.seed, self.fidelity, self.scale = seed, fidelity, len(schema.names)

    def judged(self, pipeline: CausalDiffusionPipeline, guidance: float = 1.0) -> Judged:
        """Samples, and how well they show what was asked."""
        parts = []
        for start in range(0, len(self.groups), BATCH):
            asked = {name: values[start : start + BATCH] for name, values in self.covariates.items()}
            rows = range(start, min(start + BATCH, len(self.groups)))
            generator = [torch.Generator().manual_seed(20_000_003 * (self.seed + 1) + row) for row in rows]
            parts.append(
                pipeline(covariates=asked, generator=generator, sample_guidance_scale=guidance, output_type="pt").images
            )
        images = torch.cat(parts)
        return Judged(images, {"judge B": self.fidelity(images, self.asked).numpy() / self.scale})


class Answers:
    """Held-out observations, each under one do() that changes it; scores are B's soundness and the true pixels.

    True pixels are minus the mean absolute difference to the world's own answer, in grey levels.
    """

    def __init__(self, world: World, judge: JudgingPredictor, balance: Sequence[str], seed: int):
        self.world, self.judge, self.seed = world, judge, seed
        names = world.covariates.names
        changes = {name: forced_change(world, name, seed) for name in names}
        self.rows = {name: list(range(place, len(world.groups), len(names))) for place, name in enumerate(names)}
        self.do = {name: [changes[name][row] for row in rows] for name, rows in self.rows.items()}
        order = [row for rows in self.rows.values() for row in rows]
        self.table = {name: [column[row] for row in order] for name, column in world.table.items()}
        self.groups = subgroups(self.table, balance)
        self.subjects = [world.groups[row] for row in order]
        self.observed = world.images[order]

    def judged(self, pipeline: CausalDiffusionPipeline) -> Judged:
        """Counterfactuals, how sound they are, and how far they are from the truth where it is known."""
        system = PipelineSystem("aligned", pipeline, self.seed)
        images, claimed, errors = [], {name: [] for name in self.table}, []
        for name, rows in self.rows.items():
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                known = {one: [column[row] for row in part] for one, column in self.world.table.items()}
                answer = system.counterfactual(
                    self.world.images[part], known, {name: self.do[name][start : start + BATCH]}, part
                )
                images.append(answer.images)
                for one, values in answer.covariates.items():
                    claimed[one] += values
                # of everything that the answer claims, so that an error of the causal model is not one of pixels
                truth = self.world.truth(answer.covariates, part)
                errors.append(None if truth is None else (answer.images - truth.images).abs().mean(dim=(1, 2, 3)))
        answers, schema = torch.cat(images), self.world.covariates
        observed, asked = encoded(self.table, schema), encoded(claimed, schema)
        sound = CounterfactualSoundness(self.judge, self.observed, observed)
        scores = {"judge B": sound(answers, asked).numpy()}
        if all(one is not None for one in errors):
            scores["true pixels"] = -255 * torch.cat(errors).double().numpy()
        return Judged(answers, scores)


def encoded(table: dict[str, list[Any]], schema: Schema) -> dict[str, Tensor]:
    return {name: torch.from_numpy(column) for name, column in schema.encode(table).items()}


def subgroups(table: dict[str, list[Any]], balance: Sequence[str]) -> np.ndarray:
    return np.array(
        [", ".join(str(value) for value in row) for row in zip(*(table[name] for name in balance), strict=True)]
    )


def fidelity_of_real_images(world: World, fidelity: AttributeFidelity, balance: Sequence[str]) -> dict[str, Any]:
    """B's scores of real images: mean by subgroup and overall, and the gap, which is that of the predictor itself."""
    scores = fidelity(world.images, encoded(world.table, world.covariates)).numpy() / len(world.covariates.names)
    groups = subgroups(world.table, balance)
    means = {str(one): [float(scores[groups == one].mean()), int((groups == one).sum())] for one in np.unique(groups)}
    return {"score": float(scores.mean()), "gap": gap(scores, groups, np.arange(len(scores))), "groups": means}


def gap(scores: np.ndarray, groups: np.ndarray, rows: np.ndarray) -> float:
    """Mean score of the best subgroup less that of the worst, of rows by place; subgroups without rows are left out."""
    means = [scores[rows][groups[rows] == one].mean() for one in np.unique(groups[rows])]
    return max(means) - min(means)


def compared(comparisons: Sequence[Comparisons], base: Sequence[Judged], own: Sequence[Judged]) -> dict[str, Any]:
    """By judge: win rate, means and gaps of one arm over its seeds, with intervals; and how far images moved."""
    subjects = [one.subjects for one in comparisons]
    groups = np.concatenate([one.groups for one in comparisons])
    found: dict[str, Any] = {
        "moved": float(np.mean([255 * (b.images - o.images).abs().mean() for b, o in zip(base, own, strict=True)]))
    }
    for judge in base[0].scores:
        seeds = [(b.scores[judge], o.scores[judge]) for b, o in zip(base, own, strict=True)]
        before, after = (np.concatenate(arm) for arm in zip(*seeds, strict=True))
        found[judge] = {
            "win_rate": asdict(bootstrap_mean([(o > b) + 0.5 * (o == b) for b, o in seeds], subjects)),
            "gain": asdict(bootstrap_mean([o - b for b, o in seeds], subjects)),
            "base": float(before.mean()),
            "aligned": float(after.mean()),
            **gaps(before, after, groups, [one for seed in subjects for one in seed]),
            "groups": {
                str(group): [float(arm[groups == group].mean()) for arm in (before, after)]
                for group in np.unique(groups)
            },
        }
    return found


def gaps(before: np.ndarray, after: np.ndarray, groups: np.ndarray, subjects: Sequence[str]) -> dict[str, Any]:
    """The gaps of both arms and by how many per cent of the first they differ, of the rows of all seeds together.

    The best and the worst of few rows are apart by chance alone, so gaps are of all seeds' rows; for the same reason a
    draw changes the difference and not what it is divided by.
    """
    everything = np.arange(len(groups))
    whole = gap(before, groups, everything)

    def reduction(rows: np.ndarray) -> float:
        return 100 * (gap(before, groups, rows) - gap(after, groups, rows)) / whole

    return {
        "gap_base": whole,
        "gap_aligned": gap(after, groups, everything),
        "gap_reduction": asdict(bootstrap([statistic_of_rows(reduction, len(groups))], [subjects])),
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrained_model_name_or_path", required=True)
    parser.add_argument("--world", required=True, help="phantom, or acquisition for radiographs")
    parser.add_argument("--source", help="folder of the radiographs")
    parser.add_argument("--comparison_type", choices=get_args(ComparisonType), default="samples")
    parser.add_argument("--judge", help="attribute_fidelity of samples, counterfactual_soundness or true_pixels")
    parser.add_argument("--predictor", help="A, the eyes of the judge of the pairs; none for true_pixels")
    parser.add_argument("--other_predictor", required=True, help="B, the judge of the result")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--docs_dir", type=Path, help="where record and page go; OUTPUT_DIR by default")
    parser.add_argument("--num_pairs", nargs="+", type=int, default=[1500], help="pairs of each of these seeds")
    parser.add_argument("--tie", type=float, default=0.0, help="score difference up to which a pair is dropped")
    parser.add_argument("--num_subjects", type=int, default=192, help="new comparisons of each seed")
    parser.add_argument("--limit", type=int, default=64, help="images of the boards")
    parser.add_argument("--betas", nargs="+", type=float, default=[20, 100, 500])
    parser.add_argument("--anchor", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--max_train_steps", type=int, default=300)
    parser.add_argument("--balance", default="sex,finding", help="covariates whose subgroups are drawn equally often")
    parser.add_argument("--boards", type=int, help="seeds whose adapters are put on the boards; all by default")
    parser.add_argument("--without", nargs="*", default=(), choices=("boards", "downstream"), help="stages left out")
    asked = parser.parse_args()
    usual = "counterfactual_soundness" if asked.comparison_type == "counterfactuals" else "attribute_fidelity"
    asked.judge = asked.judge or usual
    if asked.predictor and weights_fingerprint(asked.predictor) == weights_fingerprint(asked.other_predictor):
        raise InputError("--other_predictor: is the judge of the pairs; give one trained with another seed.")
    return asked


def preferences(asked: argparse.Namespace, saved: SavedGenerator) -> list[Path]:
    """The directories of the judged pairs, one of each number of pairs asked for."""
    found = []
    for seed, number in enumerate(asked.num_pairs):
        candidates, judged = (asked.output_dir / f"{what}-{seed}" for what in ("candidates", "preferences"))
        if not (candidates / "record.json").exists():
            source = asked.source if asked.comparison_type == "counterfactuals" else None
            balance = () if asked.comparison_type == "counterfactuals" else asked.balance.split(",")
            make_candidates(
                candidates,
                number,
                asked.comparison_type,
                saved.directory,
                source,
                seed=seed,
                batch_size=BATCH,
                balance=balance,
            )
        if not (judged / "record.json").exists():
            judge_candidates(candidates, judged, asked.predictor, {asked.judge: 1.0}, asked.tie)
        found.append(judged)
    return found


def aligned(asked: argparse.Namespace, saved: SavedGenerator, pairs: list[Path], beta: float, seed: int) -> Path:
    """The directory of one arm's adapters, trained if they are not there yet."""
    directory = asked.output_dir / f"beta-{beta:g}-seed-{seed}"
    if not (directory / "record.json").exists():
        config = AlignmentConfig(
            output_dir=directory,
            seed=seed,
            beta_dpo=beta,
            anchor=asked.anchor,
            learning_rate=asked.learning_rate,
            max_train_steps=asked.max_train_steps,
            balance=asked.balance or None,
            resume_from_checkpoint="latest" if directory.exists() else None,
        )
        align_generator(pairs, saved.directory, config)
    return directory


def boards(asked: argparse.Namespace, saved: SavedGenerator, adapters: Sequence[Path]) -> dict[str, Any]:
    """Rows of both scoreboards, of the generator and of it with each seed's adapters merged."""
    generators = {"base": saved.directory}
    for place, directory in enumerate(adapters):
        fused = asked.output_dir / "fused" / str(place)
        if not fused.exists():
            fuse_generator(saved.directory, directory, fused)
        generators[f"seed {place}"] = fused
    found: dict[str, Any] = {}
    for name, directory in generators.items():
        board = asked.output_dir / "boards" / name
        kept = [board / f"{what}-{asked.world}.json" for what in ("soundness", "realism")]
        common = {"world": asked.world, "source_dir": asked.source, "pretrained_model_name_or_path": directory}
        if not kept[0].exists():
            measure_soundness(
                board,
                predictors=[asked.other_predictor],
                limit=asked.limit,
                seeds=(0,),
                interventions=("forced_change",),
                pairs=[("sex", "finding")],
                **common,
            )
        if not kept[1].exists():
            measure_realism(board, predictor=asked.other_predictor, limit=2 * asked.limit, group="sex", **common)
        soundness, realism = (Record.read(path) for path in kept)
        system = directory.name
        found[name] = {
            "soundness": [row for row in soundness.measured["rows"] if row["system"] == system],
            "realism": realism.measured["features"],
        }
    return found


def main() -> None:
    asked = parsed()
    saved = find_generator(asked.pretrained_model_name_or_path)
    schema, balance = saved.preset.covariates, tuple(asked.balance.split(","))
    asked.output_dir.mkdir(parents=True, exist_ok=True)
    pairs = preferences(asked, saved)
    judge = load_judging_predictor(asked.other_predictor, schema)
    seeds = range(asked.seeds)
    comparisons: list[Comparisons]
    beside: dict[str, Any] = {}
    if asked.comparison_type == "counterfactuals":
        world = open_world(asked.world, "test", asked.num_subjects, directory=asked.source)
        comparisons = [Answers(world, judge, balance, seed) for seed in seeds]
        base = [one.judged(load_generator(saved)) for one in comparisons]
    else:
        fidelity = AttributeFidelity(judge)
        samples = [Samples(saved, fidelity, balance, asked.num_subjects, seed) for seed in seeds]
        comparisons, base = list(samples), [one.judged(load_generator(saved)) for one in samples]
        beside["guided"] = [
            {
                "guidance": scale,
                **compared(samples, base, [one.judged(load_generator(saved), scale) for one in samples]),
            }
            for scale in SAMPLE_GUIDANCE
        ]
        real = open_world(asked.world, "test", REAL_IMAGES, directory=asked.source)
        beside["real films"] = fidelity_of_real_images(real, fidelity, balance)
    fits, arms, shown = [], [], {}
    for beta in asked.betas:
        directories = [aligned(asked, saved, pairs, beta, seed) for seed in seeds]
        fits += [fit(directory, beta, seed) for seed, directory in enumerate(directories)]
        own = answers(saved, directories, comparisons)
        arms.append({"beta": beta, "strength": 1.0, **compared(comparisons, base, own)})
        shown[beta] = own[0].images[:SHOWN]
        print(json.dumps({**arms[-1], "test": [one["test"]["mean"] for one in fits[-asked.seeds :]]}), flush=True)
    chosen = best_beta(fits)
    directories = [aligned(asked, saved, pairs, chosen, seed) for seed in seeds]
    for strength in STRENGTHS:
        if strength != 1.0:
            own = answers(saved, directories, comparisons, strength)
            arms.append({"beta": chosen, "strength": strength, **compared(comparisons, base, own)})
            print(json.dumps(arms[-1]), flush=True)
    measured: dict[str, Any] = {"fits": fits, "arms": arms, "chosen": chosen, **beside}
    if "boards" not in asked.without:
        measured["boards"] = boards(asked, saved, directories[: asked.boards])
    if "downstream" not in asked.without:
        data = DownstreamData(asked.world, asked.source, saved.preset)
        measured["downstream"] = downstream(data, saved, directories)
    inputs = {"generator": saved.revision, "judge of the result": weights_fingerprint(asked.other_predictor)}
    if asked.predictor:
        inputs["judge of the pairs"] = weights_fingerprint(asked.predictor)
    told = {name: value for name, value in vars(asked).items() if isinstance(value, int | float | list | tuple)}
    record = Record(
        stage="alignment_experiment",
        inputs=inputs,
        settings={
            "preset": saved.preset.name,
            "questions": asked.comparison_type,  # named as in the records so far
            **{name: vars(asked)[name] for name in ("judge", "world", "balance")},
            **told,
        },
        versions=library_versions(),
        counts=counts_of(pairs),
        measured=measured,
    )
    docs = asked.docs_dir or asked.output_dir
    docs.mkdir(parents=True, exist_ok=True)
    record.write(docs / "alignment.json")
    if asked.comparison_type != "counterfactuals":
        # answers about films show their patients: samples alone may be shown to anyone
        write_atomically(
            docs / "answers.png", picture(base[0].images[:SHOWN], shown[chosen], comparisons[0].groups[:SHOWN])
        )
    write_atomically(docs / "README.md", page(record).encode())


def fit(directory: Path, beta: float, seed: int) -> dict[str, Any]:
    """What one alignment's record says of its held-out pairs."""
    measured = Record.read(directory / "record.json").measured
    return {
        "beta": beta,
        "seed": seed,
        "kept_step": measured["kept_step"],
        "validation": measured["validation"]["accuracy"],
        "test": measured["test"]["accuracy"],
        "distance": measured["test"]["distance"],
    }


def best_beta(fits: Sequence[dict[str, Any]]) -> float:
    """The beta of highest mean accuracy on validation pairs; of equals the one that stays nearest to the generator."""
    betas = {one["beta"] for one in fits}
    accuracy = {beta: np.mean([one["validation"]["mean"] for one in fits if one["beta"] == beta]) for beta in betas}
    return max(betas, key=lambda beta: (accuracy[beta], beta))


def picture(base: Tensor, own: Tensor, groups: Sequence[str]) -> bytes:
    """PNG of answers `[n, 1, h, w]` of the base, with the adapters, and the difference times four, by subgroup."""
    return labelled((base, own, (0.5 + 4 * (own - base)).clamp(0, 1)), groups)


def labelled(rows: Sequence[Tensor], groups: Sequence[str]) -> bytes:
    """PNG, pixels doubled: the three rows of `picture`, `[n, 1, h, w]` each, with the subgroup above each column."""
    pictures = [[Image.fromarray(np.rint(255 * one[0].numpy()).astype(np.uint8)) for one in images] for images in rows]
    doubled = [
        [one.resize((2 * one.width, 2 * one.height), Image.Resampling.NEAREST) for one in line] for line in pictures
    ]
    columns = [group.replace("_", " ").replace(", ", ",\n") for group in groups]
    file = io.BytesIO()
    sheet(doubled, columns, ("generator", "with\nadapters", "difference,\ntimes four")).save(file, "PNG")
    return file.getvalue()


def counts_of(pairs: Sequence[Path]) -> dict[str, Any]:
    """How many pairs were compared, were ties, and were left for each split."""
    records = [Record.read(directory / "record.json").counts for directory in pairs]
    compared = [one for record in records for one in record["comparisons"].values()]
    return {
        "compared": sum(one["compared"] for one in compared),
        "ties": sum(one["ties"] for one in compared),
        "pairs": sum(record["pairs"] for record in records),
        "by split": {
            split: sum(record["by split"].get(split, {"pairs": 0})["pairs"] for record in records) for split in SPLITS
        },
    }


def answers(
    saved: SavedGenerator, directories: Sequence[Path], comparisons: Sequence[Comparisons], strength: float = 1.0
) -> list[Judged]:
    """Of each seed the answers of the generator with that seed's adapters at a strength."""
    found = []
    for directory, asked in zip(directories, comparisons, strict=True):
        pipeline = load_generator(saved)
        pipeline.load_lora_weights(directory, adapter_name="aligned")
        pipeline.set_adapters("aligned", strength)
        found.append(asked.judged(pipeline))
    return found


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None
