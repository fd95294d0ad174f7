"""Attention aligned with radiologists' boxes, with what a generator changes, and with boxes moved at random.

    python benchmarks/box_alignment.py --source NIH --boxes nih_bounding_boxes.csv.gz --output_dir RUN
        --pretrained_model_name_or_path GENERATOR [--guidance_scale 4] [--finding effusion]
        [--docs_dir docs/box_alignment]

NIH is a folder of radiographs of ChestX-ray14, of which some have boxes (`radiographs`). Patients of the package's
train split are learned from, in each seed another fifth of them being validation; those of its validation and test
splits are test. A fit is a training set, a region, a strength and a seed:

    PA               radiographs of view PA;  out of domain: the test radiographs of view AP, a real shift
    view_90_10       90 % of those with the finding, and 10 % of those without, are AP, by leaving out rows of the
                     rarer combinations;  out of domain: the test radiographs on a planted scanner
    sex_90_10        the same with men;  out of domain: likewise

Rows with the finding are repeated until half of the training rows have it. The penalty holds for rows with the finding
and a box; all others, those without the finding among them, have cross-entropy alone. Finished fits and
counterfactuals are kept in RUN and not made again; several processes may share those of RUN by the same command.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from box_alignment_page import FIGURES, GAPS, NUMBERS, page, plot
from radiographs import ATTRIBUTES, REGIONS, Radiographs
from strengths import finished, rows_by_strength
from torch import Tensor

from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.domains.readers import DataSetFolder
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.benchmark.cells import HELD_OUT, figures, method_identity
from synthfair_hf.fairness.benchmark.leaderboard import compare
from synthfair_hf.fairness.classifier import LabelledImages
from synthfair_hf.fairness.mitigation.attention_alignment import AttentionAlignment, shares_inside
from synthfair_hf.records import Record, file_sha256, library_versions, row_generator, write_atomically

SHARE = 0.9
"""Of rows with the finding, those in one group of the attribute; of rows without it, those in the other."""

FITTING = {"steps": 200, "batch_size": 32, "channels": (8, 16, 32)}
"""Settings of every fit that are not the package's own."""

SCANNER = "portable"
"""The planted scanner out of domain."""

TRAINING_SETS = {"PA": None, "view_90_10": ("view", "AP"), "sex_90_10": ("sex", "male")}
"""By name, the attribute and its group that the finding goes with; None for the radiographs of view PA."""


def correlated(labels: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The most rows of which SHARE of those with the finding, and 1 - SHARE of those without, are inside a group.

    Args:
        labels: `[n]`, 0 or 1.
        inside: bool `[n]`.
        rng: draws the rows that are left out.

    Returns:
        Indices, in order.
    """
    kept: list[int] = []
    for label, share in ((1, SHARE), (0, 1 - SHARE)):
        cells = [np.flatnonzero((labels == label) & (inside == side)) for side in (True, False)]
        total = min(len(cells[0]) / share, len(cells[1]) / (1 - share))
        for cell, own in zip(cells, (share, 1 - share), strict=True):
            kept += rng.permutation(cell)[: round(total * own)].tolist()
    return np.sort(np.array(kept, dtype=np.int64))


def balanced(labels: np.ndarray) -> np.ndarray:
    """Indices of all rows, those of the rarer label repeated until they are as many as the others."""
    sides = sorted((np.flatnonzero(labels == label) for label in (0, 1)), key=len)
    return np.concatenate([np.resize(sides[0], len(sides[1])), sides[1]])


class Trial:
    """The rows of every fit, and how it is evaluated.

    Args:
        images: of one finding.
        masks: by region, those of all images.
    """

    def __init__(self, images: Radiographs, masks: Mapping[str, Tensor]) -> None:
        self.images, self.masks = images, masks
        self.learned = np.flatnonzero(images.splits == "train")
        self.test = np.flatnonzero(images.splits != "train")
        examples = images.examples
        self.pa = examples.groups["view"].numpy() == examples.levels["view"].index("PA")
        self.scanned = images.scanned(self.test, SCANNER)

    def parts(self, training_set: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of train and of validation, which is as biased and of other patients."""
        subjects = self.images.examples.subjects[self.learned]
        patients = np.unique(subjects)
        fold = row_generator(0).permutation(len(patients)) % HELD_OUT
        held = fold[np.searchsorted(patients, subjects)] == seed % HELD_OUT
        train, validation = (
            part[self._drawn(part, training_set, row_generator(0, seed, number))]
            for number, part in enumerate((self.learned[~held], self.learned[held]))
        )
        return train, validation

    def _drawn(self, rows: np.ndarray, training_set: str, rng: np.random.Generator) -> np.ndarray:
        """Which of the rows are in a training set."""
        planted, examples = TRAINING_SETS[training_set], self.images.examples
        if planted is None:
            return np.flatnonzero(self.pa[rows])
        name, level = planted
        inside = examples.groups[name][rows].numpy() == examples.levels[name].index(level)
        return correlated(examples.labels[rows].numpy(), inside, rng)

    def marked(self, region: str, rows: np.ndarray) -> LabelledImages:
        """Rows with their regions."""
        return replace(self.images.examples.select(rows), masks=self.masks[region][torch.from_numpy(rows)])

    def fitted(self, record: Record) -> Record:
        """Fit one classifier, and evaluate it on validation and on the test radiographs."""
        training_set, seed, region = (record.settings[name] for name in ("training_set", "seed", "region"))
        examples, method = self.images.examples, AttentionAlignment(**record.settings["method"])
        train, validation = self.parts(training_set, seed)
        # without a penalty it does not matter which
        region = region or REGIONS[0]
        repeated = train[balanced(examples.labels[train].numpy())]
        method.fit(self.marked(region, repeated), self.marked(region, validation), seed)
        inside = {name: shares_inside(method.classifier, self.marked(name, validation)) for name in REGIONS}

        test, preset = examples.select(self.test), self.images.preset
        scores = method.predict_proba(test.images)
        groups = {name: figures(scores, test, name, preset) for name in ATTRIBUTES}
        if TRAINING_SETS[training_set] is None:
            pa = self.pa[self.test]
            own, other = (figures(scores[rows], test.select(rows), "sex", preset) for rows in (pa, ~pa))
        else:
            own = groups["sex"]
            other = figures(method.predict_proba(self.scanned.images), self.scanned, "sex", preset)
        regions = self.masks[region].flatten(1).any(dim=1).numpy()
        return record.model_copy(
            update={
                "counts": {
                    "train": len(train),
                    "train_present": int(examples.labels[train].sum()),
                    "train_with_region": int(regions[train].sum()),
                    "validation": len(validation),
                    "validation_with_region": int(regions[validation].sum()),
                    "test": own.counts,
                    "out_of_domain": other.counts,
                    "groups": groups["sex"].counts,
                },
                "measured": {
                    "validation_auc": max(method.curve),
                    **{f"inside_{name}": shares.mean().item() for name, shares in inside.items()},
                    "auc": own.figures["auc"],
                    "out_of_domain_auc": other.figures["auc"],
                    **{f"{gap}_{name}": found.figures[gap] for name, found in groups.items() for gap in GAPS},
                },
            }
        )


def planned(
    inputs: Mapping[str, str],
    shared: Mapping[str, Any],
    training_sets: Sequence[str],
    regions: Sequence[str],
    strengths: Sequence[float],
    seeds: int,
) -> list[Record]:
    """The fits, one record each without figures; that of strength 0 has no region, as it would be the same."""
    return [
        Record(
            stage="box_alignment",
            inputs=dict(inputs),
            settings={
                **shared,
                "training_set": training_set,
                "region": region,
                "seed": seed,
                "method": AttentionAlignment(strength=strength, **FITTING).settings.model_dump(mode="json"),
            },
            versions=library_versions(),
        )
        for training_set in training_sets
        for region, strength in [(None, 0.0), *product(regions, strengths)]
        for seed in range(seeds)
    ]


def rows_of(fits: Sequence[Record], training_sets: Sequence[str], regions: Sequence[str]) -> pandas.DataFrame:
    """A line per training set, region and strength."""
    rows = []
    for training_set, region in product(training_sets, regions):
        own = [
            one
            for one in fits
            if one.settings["training_set"] == training_set and one.settings["region"] in (None, region)
        ]
        rows += rows_by_strength(own, {"training_set": training_set, "region": region}, NUMBERS, FIGURES)
    return pandas.DataFrame(rows)


def against(fits: Sequence[Record], training_sets: Sequence[str], regions: Sequence[str]) -> list[dict[str, Any]]:
    """Boxes less no alignment or another region, of means over the strengths above 0: a line for each."""
    rows, others = [], [None, *(one for one in regions if one != REGIONS[0])]
    for training_set, region in product(training_sets, others):
        own = [one for one in fits if one.settings["training_set"] == training_set]
        row: dict[str, Any] = {"training_set": training_set, "region": region or "none"}
        for name in FIGURES:
            row[name] = compare(*(_over_strengths(own, one, name) for one in (region, REGIONS[0])))[0]
        rows.append(row)
    return rows


def _over_strengths(fits: Sequence[Record], region: str | None, name: str) -> list[dict[str, Any]]:
    """By seed, the mean of a figure over strengths, in every bootstrap replicate."""
    found = []
    for seed in sorted({one.settings["seed"] for one in fits}):
        own = [one.measured[name] for one in fits if one.settings["region"] == region and one.settings["seed"] == seed]
        draws = np.array([one["draws"] for one in own], dtype=float)
        found.append({"value": float(np.mean([one["value"] for one in own])), "draws": draws.mean(axis=0)})
    return found


def mean_counts(fits: Sequence[Record], training_set: str) -> dict[str, Any]:
    """Sizes of a training set, means over seeds, and of its test sets."""
    own = [one.counts for one in fits if one.settings["training_set"] == training_set]
    return {
        name: value if isinstance(value, dict) else float(np.mean([one[name] for one in own]))
        for name, value in own[0].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--dataset_name", default="nih_chestxray14")
    parser.add_argument("--boxes", type=Path, required=True)
    parser.add_argument("--pretrained_model_name_or_path", required=True)
    parser.add_argument("--guidance_scale", type=float, default=4.0)
    parser.add_argument("--finding", default="effusion")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--docs_dir", type=Path, help="where record, page and picture go; OUTPUT_DIR by default")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--training_sets", nargs="+", choices=TRAINING_SETS, default=list(TRAINING_SETS))
    parser.add_argument("--regions", nargs="+", choices=REGIONS, default=REGIONS, help="boxes among them")
    parser.add_argument("--strengths", nargs="+", type=float, default=[1, 3, 10, 30], help="0 is added")
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    if REGIONS[0] not in chosen.regions:
        raise InputError(f"regions: {', '.join(chosen.regions)}; give boxes as well, which all are compared with.")
    torch.set_num_threads(1)
    saved = find_generator(chosen.pretrained_model_name_or_path)
    folder = DataSetFolder(directory=chosen.source, dataset_name=chosen.dataset_name)
    images = Radiographs(folder, chosen.boxes, saved, chosen.finding, chosen.resolution)
    strengths = sorted({*chosen.strengths} - {0.0})
    inputs = {
        "images": images.source.fingerprint,
        "boxes": file_sha256(chosen.boxes)[:16],
        "generator": saved.revision,
        "code": method_identity(AttentionAlignment),
    }
    shared = {
        "finding": chosen.finding,
        "resolution": chosen.resolution,
        "guidance_scale": chosen.guidance_scale,
    }
    learned = np.flatnonzero(images.splits == "train").tolist()
    masks = {
        name: images.masks(name, learned, chosen.output_dir / "counterfactuals", chosen.guidance_scale)
        for name in REGIONS
    }
    fits = finished(
        planned(inputs, shared, chosen.training_sets, chosen.regions, strengths, chosen.seeds),
        chosen.output_dir / "fits",
        Trial(images, masks).fitted,
    )
    table = rows_of(fits, chosen.training_sets, chosen.regions)
    record = Record(
        stage="box_alignment_sweep",
        inputs=inputs,
        settings={**shared, "strengths": [0.0, *strengths], "seeds": chosen.seeds, **FITTING},
        versions=library_versions(),
        counts={
            "fits": len(fits),
            "boxed": {
                "images": len(images.boxes),
                "learned": len(set(learned) & set(images.boxes)),
            },
            **{name: mean_counts(fits, name) for name in chosen.training_sets},
        },
        measured={"table": table.to_dict("records"), "against": against(fits, chosen.training_sets, chosen.regions)},
    )
    docs = chosen.docs_dir or chosen.output_dir
    docs.mkdir(parents=True, exist_ok=True)
    record.write(docs / "box_alignment.json")
    write_atomically(docs / "README.md", page(record, table).encode())
    write_atomically(docs / "strengths.png", plot(table))
    print(page(record, table))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None
