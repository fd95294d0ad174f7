"""Does fine-tuning on balanced synthetic radiographs make a biased classifier of real ones fair, and which tensors?

    python benchmarks/aim_fair.py --source NIH --synthetic contextual=DIR plain=DIR --output_dir RUN \
        [--docs_dir docs/aim_fair]

    real        radiographs of patients from whom the generator learned nothing (`--patients judge`): effusion
                correlates with an attribute by the rows that are sampled; a fifth of the patients is validation
    synthetic   what `synthfair generate --factors effusion sex` wrote; with `--recipes`, contextual, and without
    biased      empirical risk minimisation on the real rows, without group labels
    fine-tuned  the biased classifier, on synthetic rows balanced over (effusion, attribute): all tensors, the last
                layer, those that AIM-Fair's gradients choose (Zhao et al. 2025), as many at random
    judged      on every test patient, by the true groups

Also the last layer fitted on real rows balanced by their group labels, which AIM-Fair does without, and the classifier
of a twin of equal size without bias. Finished situations (attribute, bias, seed) are kept in RUN and not fitted again;
several processes may share them by the same command.
"""

import argparse
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from aim_fair_page import DECREASE, MARKS, gradients_picture, page, rates_picture
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from synthfair_hf.domains.readers import DataSetFolder
from synthfair_hf.domains.source import part_split
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.benchmark.board import unfinished
from synthfair_hf.fairness.benchmark.cells import CELL_VERSION, HELD_OUT, DataSet, ExternalSet, figures
from synthfair_hf.fairness.benchmark.leaderboard import compare, summary
from synthfair_hf.fairness.interface import TrainableClassifier
from synthfair_hf.fairness.labelled import LabelledImages
from synthfair_hf.fairness.mitigation.attention_alignment import calibrated_strength
from synthfair_hf.fairness.mitigation.balanced_synthetic import balanced_sample
from synthfair_hf.fairness.mitigation.method import Method, present_groups, probabilities
from synthfair_hf.fairness.mitigation.resampling import balanced_rows
from synthfair_hf.fairness.mitigation.selective_finetuning import (
    SelectiveFinetuning,
    chosen_tensors,
    gradient_differences,
    three_gradients,
)
from synthfair_hf.records import Record, library_versions, write_atomically
from synthfair_hf.schema import SPLITS

ATTRIBUTES = ("sex", "view")
GAPS = (
    "adjusted_accuracy",
    "worst_group_accuracy",
    "equalized_odds_mean_difference",
    "equal_opportunity_difference",
)
FIGURES = ("auc", *GAPS)
SELECTED = ("selection_auc", "biased_auc")
"""AUC on what weights and learning rate are selected on, and on the real validation patients, as biased as train."""
ABSENT_PER_PRESENT = 3
"""Rows without the finding for each with it, which counts so often: prevalence is 1/2, and few are with it."""


class RealRows:
    """Real radiographs of a data set's finding outside a generator's patients.

    Args:
        directory: of NIH ChestX-ray14, or a folder laid out as it is.
        dataset_name: its layout.
        data: a synthetic data set, whose finding and preset are read.
        resolution: that classifiers see.

    Attributes:
        test: the rows of the test patients.
        identity: of the source.

    Raises:
        InputError: a patient is one of the generator's.
    """

    def __init__(self, directory: str, dataset_name: str, data: DataSet, resolution: int) -> None:
        folder = DataSetFolder(directory=directory, dataset_name=dataset_name, patients="judge")
        opened = ExternalSet(folder, data, ATTRIBUTES)
        splits = dict(zip(opened.source.patient_ids, opened.source.splits, strict=True))
        seen = [one for one, split in splits.items() if split != "test" and part_split("generator", split, one)]
        if seen:
            raise InputError(f"source: {len(seen)} patients are the generator's, such as {seen[0]}; leave them out.")
        rows = reduced(opened.examples(ATTRIBUTES), resolution)
        in_test = np.array([splits[one] == "test" for one in rows.subjects])
        self.test, self.others = rows.select(in_test), rows.select(~in_test)
        self.identity, self.preset = opened.source.fingerprint, data.preset

    def sample(
        self, attribute: str, share: float, shares: Collection[float], seed: int
    ) -> tuple[LabelledImages, LabelledImages]:
        """Train and validation in which the finding correlates with an attribute, as `biased_samples` has them."""
        return biased_samples(self.others, attribute, share, shares, seed)


def biased_samples(
    examples: LabelledImages, attribute: str, share: float, shares: Collection[float], seed: int
) -> tuple[LabelledImages, LabelledImages]:
    """Sample train and validation, of different patients, in which the finding correlates with an attribute.

    Args:
        examples: rows to sample from.
        attribute: whose first group goes with the finding, and whose second without.
        share: of rows with the finding that are of the first group, and of rows without that are of the second.
        shares: all shares that are to have samples of this size.
        seed: decides which fifth of the patients is validation, and which rows are sampled.

    Returns:
        The rows; those with the finding are there ABSENT_PER_PRESENT times.
    """
    rng = np.random.default_rng(seed)
    patients = rng.permutation(np.unique(examples.subjects))
    held = np.isin(examples.subjects, patients[::HELD_OUT])
    train, validation = (
        examples.select(_cells(examples, attribute, share, shares, where, rng)) for where in (~held, held)
    )
    return train, validation


def _cells(
    examples: LabelledImages,
    attribute: str,
    share: float,
    shares: Collection[float],
    where: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    labels, groups = examples.labels.numpy(), examples.groups[attribute].numpy()
    # by label, the group that goes with it first
    cells = {
        label: [rng.permutation(np.flatnonzero(where & (labels == label) & (groups == group))) for group in order]
        for label, order in ((1, (0, 1)), (0, (1, 0)))
    }
    times = {1: 1, 0: ABSENT_PER_PRESENT}
    most = (max(shares), 1 - min(shares))
    size = min(
        int(len(cell) / (part * times[one])) for one in cells for cell, part in zip(cells[one], most, strict=True)
    )
    chosen = []
    for label, (with_bias, against) in cells.items():
        total = size * times[label]
        kept = round(share * total)
        rows = np.concatenate([with_bias[:kept], against[: total - kept]])
        chosen.append(np.tile(rows, ABSENT_PER_PRESENT if label else 1))
    return np.concatenate(chosen)


def reduced(examples: LabelledImages, resolution: int) -> LabelledImages:
    """The rows at a lower resolution that divides theirs, by means of pixels."""
    side = examples.images.shape[-1]
    if side % resolution:
        raise InputError(f"resolution: {resolution} does not divide {side}, that of the images; give one that does.")
    images = functional.avg_pool2d(examples.images.float(), side // resolution).round().to(torch.uint8)
    return replace(examples, images=images)


class SyntheticRows:
    """The rows of a synthetic data set at the resolution of classifiers.

    Attributes:
        train: to fit on.
        validation: to select weights and learning rate on.
        audit: rows that nothing is fitted or selected on, of which every classifier's scores are kept.
    """

    def __init__(self, data: DataSet, resolution: int) -> None:
        self.train, self.validation, self.audit = (
            reduced(data.rows("full", split, ATTRIBUTES).examples, resolution) for split in SPLITS
        )


class Finetuning(Method):
    """Fits some tensors of a classifier and keeps the others."""

    def __init__(self, tensors: Collection[str], **settings: Any) -> None:
        super().__init__(**settings)
        self.tensors = frozenset(tensors)

    def trainable_parameters(self, classifier: TrainableClassifier) -> Iterable[nn.Parameter]:
        """Those of the names given."""
        return [tensor for name, tensor in classifier.named_parameters() if name in self.tensors]


def balanced(examples: LabelledImages, attribute: str, seed: int) -> LabelledImages:
    """The rows resampled so that the groups are balanced within each label."""
    generator = torch.Generator().manual_seed(seed)
    return examples.select(balanced_rows(examples.labels, present_groups(examples, attribute)[0], generator))


def planned(
    inputs: dict[str, Any], sets: dict[str, str], settings: dict[str, Any], shares: Sequence[float], seeds: int
) -> list[Record]:
    """The situations, one record each without figures: set by set of synthetic rows, and seed by seed."""
    return [
        Record(
            stage="aim_fair",
            inputs={**inputs, "synthetic": identity},
            settings={
                **{"attribute": attribute, "share": share, "seed": seed, "shares": list(shares)},
                **{"synthetic": name, "baselines": name == next(iter(sets)), **settings},
            },
            versions=library_versions(),
        )
        for name, identity in sets.items()
        for seed in range(seeds)
        for attribute in ATTRIBUTES
        for share in shares
    ]


def fitted(real: RealRows, synthetic: SyntheticRows, record: Record) -> Record:
    """Fit all classifiers of a situation, and score the test patients and the synthetic rows of the audit.

    The first synthetic set has the baselines; others answer whether contexts help, which needs none.
    """
    chosen = record.settings
    attribute, seed, name = chosen["attribute"], chosen["seed"], chosen["synthetic"]
    shares = (0.5, *chosen["shares"])
    train, validation = real.sample(attribute, chosen["share"], shares, seed)
    first = {"steps": chosen["steps"], "batch_size": chosen["batch_size"]}
    biased = Method(**first).fit(train, validation, seed)
    everything = [tensor for tensor, _ in biased.classifier.named_parameters()]
    fits = []

    def score(method: Method, told: str, tensors: float = 1.0, rate: float = 0.0, learned: str = "") -> None:
        # the cut at 1/2 is the median of validation, where half have the finding
        logits = method.classifier.logits(validation.images)
        found = {"method": told, "synthetic": learned, "learning_rate": rate, "tensors": tensors}
        for key, examples in (("real", real.test), ("audit", synthetic.audit)):
            scores = probabilities(method.classifier.logits(examples.images) - logits.median())
            found[key] = [round(float(one), 5) for one in scores]
        biased_auc = float(roc_auc_score(validation.labels, logits))
        fits.append({**found, "selection_auc": max(method.curve), "biased_auc": biased_auc})

    def finetune(
        method: str, tensors: Sequence[str], examples: LabelledImages, selection: LabelledImages, learned: str = ""
    ) -> None:
        for rate in chosen["learning_rates"]:
            own = Finetuning(
                tensors, steps=chosen["finetuning_steps"], batch_size=chosen["batch_size"], learning_rate=rate
            ).fit(examples, selection, seed, classifier=biased.classifier)
            score(own, method, len(tensors) / len(everything), rate, learned)

    if chosen["baselines"]:
        score(biased, "biased")
        score(Method(**first).fit(*real.sample(attribute, 0.5, shares, seed), seed), "twin without bias")
    sample = balanced_sample(synthetic.train, attribute, chosen["synthetic_rows"], seed)
    three = three_gradients(biased.classifier, train, sample, attribute)
    selections = {share: chosen_tensors(*three, share) for share in chosen["tensor_shares"]}
    differences = {**gradient_differences(*three)._asdict(), "chosen": [*selections.values()]}
    finetune("all tensors", everything, sample, synthetic.validation, name)
    for share, tensors in selections.items():
        finetune(f"selective, k {share:g}", tensors, sample, synthetic.validation, name)
    if chosen["baselines"]:
        order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(seed)).tolist()
        for share, tensors in selections.items():
            random = [everything[place] for place in sorted(order[: len(tensors)])]
            finetune(f"random, as many as k {share:g}", random, sample, synthetic.validation, name)
        head = {id(one) for one in biased.classifier.head.parameters()}
        last = [tensor for tensor, one in biased.classifier.named_parameters() if id(one) in head]
        finetune("last layer", last, sample, synthetic.validation, name)
        finetune(
            "last layer, real rows by group", last, *(balanced(one, attribute, seed) for one in (train, validation))
        )
    counts = {"train": len(train), "validation": len(validation), "test": len(real.test)}
    return record.model_copy(update={"counts": counts, "measured": {"fits": fits, "differences": differences}})


def judged(real: RealRows, records: Sequence[Record]) -> pandas.DataFrame:
    """A line per fit: its situation, what it is, and its figures with their replicates over test patients."""
    lines = []
    for record in records:
        key = {name: record.settings[name] for name in ("attribute", "share", "seed")}
        for one in record.measured["fits"]:
            told = {name: one[name] for name in ("method", "synthetic", "learning_rate", "tensors", *SELECTED)}
            scores = np.array(one["real"])
            found = figures(scores, real.test, key["attribute"], real.preset, gaps=GAPS).figures
            lines.append({**key, **told, **{name: found[name] for name in FIGURES}})
    return pandas.DataFrame(lines)


def table_of(fits: pandas.DataFrame) -> pandas.DataFrame:
    """A line per situation, method and learning rate: estimates over seeds and test patients, alone and compared.

    `chosen` marks the learning rate that validation chooses, `equal` the fairest of those whose mean accuracy is no
    more than DECREASE below the biased classifier's.
    """
    lines = []
    for (attribute, share), own in fits.groupby(["attribute", "share"], sort=False):
        biased = own[own["method"] == "biased"]
        for (method, synthetic), of_method in own.groupby(["method", "synthetic"], sort=False):
            rates: list[dict[str, Any]] = []
            for rate, found in of_method.groupby("learning_rate"):
                line: dict[str, Any] = {
                    **{"attribute": attribute, "share": share, "method": method, "synthetic": synthetic},
                    **{"learning_rate": rate, "seeds": len(found), "tensors": float(found["tensors"].mean())},
                    **{name: float(found[name].mean()) for name in SELECTED},
                    **{name: summary([*found[name]]) for name in FIGURES},
                    **{f"{name}_difference": compare([*biased[name]], [*found[name]])[0] for name in FIGURES},
                }
                rates.append(line)
            chosen = calibrated_strength(
                of_method.rename(columns={"learning_rate": "strength", "selection_auc": "validation_auc"})
            )
            equal = [one for one in rates if one["adjusted_accuracy_difference"]["mean"] >= -DECREASE]
            fairest = min(equal, key=lambda one: one["equalized_odds_mean_difference"]["mean"], default=None)
            lines += [one | {"chosen": one["learning_rate"] == chosen, "equal": one is fairest} for one in rates]
    return pandas.DataFrame(lines)


def contrasts_of(fits: pandas.DataFrame, table: pandas.DataFrame, shares: Sequence[float]) -> list[dict[str, Any]]:
    """What the paper's claims compare, at each of the learning rates that MARKS mark."""
    first = fits.loc[fits["synthetic"] != "", "synthetic"].iloc[0]
    selective = f"selective, k {max(shares):g}"
    pairs = [
        ((selective, first), (other, first))
        for other in ("all tensors", f"random, as many as k {max(shares):g}", "last layer")
    ]
    pairs += [
        ((method, first), (method, other))
        for other in dict.fromkeys(fits["synthetic"])
        if other not in ("", first)
        for method in (selective, "all tensors")
    ]
    keys = ["attribute", "share", "method", "synthetic", "learning_rate"]
    found = []
    for mark in MARKS:
        kept = fits.merge(table.loc[table[mark], keys])
        for (attribute, share), own in kept.groupby(["attribute", "share"], sort=False):
            for pair in pairs:
                one, other = (own[(own["method"] == method) & (own["synthetic"] == name)] for method, name in pair)
                if one.empty or other.empty:
                    # at no learning rate as accurate
                    continue
                told = {"attribute": attribute, "share": share, "rate": mark, "of": pair[0], "against": pair[1]}
                found.append({**told, **{name: compare([*other[name]], [*one[name]])[0] for name in FIGURES}})
    return found


def gradient_table(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """A line per situation, synthetic set and tensor: D1, D2 by seed, and in how many seeds each k chose it."""
    keys = ("attribute", "share", "synthetic")
    situations: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        key = tuple(record.settings[name] for name in keys)
        situations.setdefault(key, []).append(record.measured["differences"])
    for key, found in situations.items():
        for tensor in found[0]["domain"]:
            yield {
                **dict(zip(keys, key, strict=True)),
                "tensor": tensor,
                **{name: [float(f"{one[name][tensor]:.4g}") for one in found] for name in ("domain", "bias")},
                "chosen": [
                    sum(tensor in one["chosen"][place] for one in found) for place in range(len(found[0]["chosen"]))
                ],
            }


def named(text: str) -> tuple[str, str]:
    """NAME=DIRECTORY."""
    name, _, directory = text.partition("=")
    if not name or not directory:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIRECTORY")
    return name, directory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True)
    parser.add_argument("--dataset_name", default="nih_chestxray14")
    parser.add_argument("--synthetic", nargs="+", type=named, required=True, metavar="NAME=DIRECTORY")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--docs_dir", type=Path, help="where record, page and pictures go; OUTPUT_DIR by default")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.95, 0.9])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--learning_rates", nargs="+", type=float, default=[3e-4, 1e-3, 3e-3])
    parser.add_argument("--tensor_shares", nargs="+", type=float, default=[0.9, 0.6], help="k, above 1/2")
    parser.add_argument("--synthetic_rows", type=int, default=240)
    parser.add_argument("--steps", type=int, default=100, help="of the biased classifier and the twin")
    parser.add_argument("--finetuning_steps", type=int, default=30)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--resolution", type=int, default=64)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    sets = {name: DataSet(directory) for name, directory in chosen.synthetic}
    generators = {str(data.generator) for data in sets.values()}
    if len(generators) != 1:
        raise InputError(f"synthetic: sets of generators {', '.join(sorted(generators))}; give those of one.")
    real = RealRows(chosen.source, chosen.dataset_name, next(iter(sets.values())), chosen.resolution)
    rows = {name: SyntheticRows(data, chosen.resolution) for name, data in sets.items()}
    names = ("learning_rates", "tensor_shares", "synthetic_rows", "steps", "finetuning_steps", "batch_size")
    settings = {name: getattr(chosen, name) for name in (*names, "resolution")}
    code = f"cells {CELL_VERSION}, selective_finetuning {SelectiveFinetuning.version}"
    inputs = {"real": real.identity, "code": code}
    identities = {name: data.identity for name, data in sets.items()}
    records = planned(inputs, identities, settings, chosen.shares, chosen.seeds)
    chosen.output_dir.mkdir(parents=True, exist_ok=True)
    paths = [chosen.output_dir / f"{one.fingerprint}.json" for one in records]
    for place in unfinished(paths):
        fitted(real, rows[records[place].settings["synthetic"]], records[place]).write(paths[place])
        print(f"{place + 1}/{len(records)}", flush=True)
    done = [Record.read(path) for path in paths]
    fits = judged(real, done)
    table = table_of(fits)
    record = Record(
        stage="aim_fair_sweep",
        inputs={
            **inputs,
            **{f"synthetic {name}": identity for name, identity in identities.items()},
            "generator": generators.pop(),
        },
        settings={"shares": chosen.shares, "seeds": chosen.seeds, "finding": next(iter(sets.values())).finding}
        | settings,
        versions=library_versions(),
        counts={
            "fits": len(fits),
            "situations": [one.fingerprint for one in records],
            "test_rows": len(real.test),
            "test_patients": len(np.unique(real.test.subjects)),
            "test_cells": cells_of(real.test),
            "rows": {f"{one.settings['attribute']} {one.settings['share']:g}": one.counts for one in done},
            "synthetic": {name: len(one.train) for name, one in rows.items()},
        },
        measured={
            "table": table.to_dict("records"),
            "contrasts": contrasts_of(fits, table, chosen.tensor_shares),
            "gradients": [*gradient_table(done)],
        },
    )
    docs = chosen.docs_dir or chosen.output_dir
    docs.mkdir(parents=True, exist_ok=True)
    record.write(docs / "aim_fair.json")
    write_atomically(docs / "README.md", page(record, table).encode())
    write_atomically(docs / "rates.png", rates_picture(table))
    write_atomically(docs / "gradients.png", gradients_picture(record))
    print(page(record, table))


def cells_of(examples: LabelledImages) -> dict[str, dict[str, int]]:
    """Numbers of rows with and without the finding, by attribute and group."""
    return {
        attribute: {
            f"{level}, {word}": int(((examples.labels == label) & (examples.groups[attribute] == code)).sum())
            for code, level in enumerate(examples.levels[attribute])
            for label, word in ((1, "present"), (0, "absent"))
        }
        for attribute in ATTRIBUTES
    }


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None
