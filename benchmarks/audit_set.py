"""Does a balanced synthetic cohort rank classifiers and subgroups as real held-out patients do?

    python benchmarks/audit_set.py --run RUN --source NIH --synthetic DIR --output_dir OUT [--docs_dir docs/audit_set]

RUN and DIR are what `benchmarks/aim_fair.py` wrote and its first synthetic set: RUN holds the scores of all its
classifiers of test patients, and of the test split of DIR, from which nothing was learned. A figure of every
classifier is computed on both, and the rank correlation of the two is over classifiers. Its ceiling is that of the
same figure from two halves of the test patients: more agreement than real patients have with each other is none.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from aim_fair import ATTRIBUTES, RealRows, SyntheticRows
from aim_fair_page import bullet, paragraph
from matplotlib.figure import Figure
from scipy.stats import kendalltau, spearmanr

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.benchmark.cells import DataSet
from synthfair_hf.fairness.labelled import LabelledImages
from synthfair_hf.measure.intervals import area_under_curve, percentile_interval
from synthfair_hf.publish.editions import edition
from synthfair_hf.records import Record, library_versions, write_atomically

FIGURES = {
    "auc": "AUC",
    "accuracy": "accuracy, mean over (finding, group)",
    "worst_group_accuracy": "worst-group accuracy",
    "equalized_odds": "equalized odds difference",
    "tpr_difference": "TPR of the first group less the second's",
    "fpr_difference": "FPR of the first group less the second's",
}
DRAWN = ("auc", "worst_group_accuracy", "equalized_odds")
KINDS = ("real rows alone", "all")
"""Classifiers that learned from no synthetic image, and all."""
REPLICATES = 200
HALVES = 20
"""Random halves of the test patients that the ceiling is a mean over."""
INK, MARK = "#1b4f72", "#b03a2e"


class Scores:
    """Every classifier's scores of one set of rows.

    Args:
        examples: `n` rows.
        attribute: of the groups.
        scores: float64 `[classifiers, n]`, cut at 1/2.
    """

    def __init__(self, examples: LabelledImages, attribute: str, scores: np.ndarray) -> None:
        labels, groups = examples.labels.numpy(), examples.groups[attribute].numpy()
        self.subjects, self._member = np.unique(examples.subjects, return_inverse=True)
        self._correct = ((scores >= 0.5) == (labels == 1)).astype(float)
        # TPR of both groups, then 1 - FPR of both
        self._cells = np.stack([(labels == label) & (groups == group) for label in (1, 0) for group in (0, 1)])
        self._areas = [area_under_curve(one, labels) for one in scores]

    def cells(self, weights: np.ndarray) -> np.ndarray:
        """Accuracy `[classifiers, 4]` in (present, first group), (present, second), (absent, first), (absent, second).

        Args:
            weights: of the subjects, `[subjects]`.
        """
        own = self._cells * weights[self._member]
        with np.errstate(invalid="ignore"):
            return self._correct @ own.T / own.sum(axis=1)

    def figures(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """FIGURES, each `[classifiers]`."""
        cells, of_rows = self.cells(weights), weights[self._member][None]
        tpr, fpr = cells[:, 0] - cells[:, 1], cells[:, 3] - cells[:, 2]
        return {
            "auc": np.array([area(of_rows)[0] for area in self._areas]),
            "accuracy": cells.mean(axis=1),
            "worst_group_accuracy": cells.min(axis=1),
            "equalized_odds": (np.abs(tpr) + np.abs(fpr)) / 2,
            "tpr_difference": tpr,
            "fpr_difference": fpr,
        }


def agreement(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Spearman's and Kendall's (tau-b) rank correlation; NaN where either set of figures is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return {"spearman": np.nan, "kendall": np.nan}
    return {"spearman": spearmanr(one, other).statistic, "kendall": kendalltau(one, other).statistic}


def same_order(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """How far subgroups of a classifier are ranked alike, as means over classifiers.

    Args:
        one: accuracies `[classifiers, 4]` as `Scores.cells` has them.
        other: the same on other rows.

    Returns:
        Kendall's tau-b over the four subgroups; the shares of classifiers whose lowest subgroup, and whose group of
        lower TPR, are the same.
    """
    first, second = np.triu_indices(one.shape[1], 1)
    signs = [np.sign(cells[:, first] - cells[:, second]) for cells in (one, other)]
    # of tau-b, as `kendalltau` computes it, of all classifiers at once
    untied = np.sqrt(np.prod([np.abs(sign).sum(axis=1) for sign in signs], axis=0))
    with np.errstate(invalid="ignore"):
        taus = (signs[0] * signs[1]).sum(axis=1) / untied
    return {
        "kendall": float(np.nanmean(taus)),
        "worst": float((one.argmin(axis=1) == other.argmin(axis=1)).mean()),
        "lower_tpr": float((one[:, :2].argmin(axis=1) == other[:, :2].argmin(axis=1)).mean()),
    }


def compared(real: Scores, synthetic: Scores, seeds: np.ndarray, replicates: int = REPLICATES) -> dict[str, Any]:
    """Rank agreement of figures over classifiers, and of subgroups within them, with intervals and ceilings.

    Intervals resample test patients, synthetic subjects, and seeds with all their classifiers.

    Args:
        real: scores of test patients.
        synthetic: the same classifiers' of synthetic subjects.
        seeds: of the classifiers, `[classifiers]`.
        replicates: of the bootstrap.
    """
    rng = np.random.default_rng(0)

    def once(rows: np.ndarray, *weights: np.ndarray) -> dict[tuple[str, str], float]:
        values = [one.figures(weight) for one, weight in zip((real, synthetic), weights, strict=True)]
        found = {(name, kind): figure for name in FIGURES for kind, figure in _compare(values, name, rows)}
        cells = [one.cells(weight)[rows] for one, weight in zip((real, synthetic), weights, strict=True)]
        return found | {("subgroups", kind): value for kind, value in same_order(*cells).items()}

    def resampled(count: int) -> np.ndarray:
        return np.bincount(rng.integers(0, count, count), minlength=count).astype(float)

    sizes = [len(one.subjects) for one in (real, synthetic)]
    point = once(np.arange(len(seeds)), *(np.ones(size) for size in sizes))
    places = [np.flatnonzero(seeds == seed) for seed in np.unique(seeds)]
    draws = []
    for _ in range(replicates):
        rows = np.concatenate([places[one] for one in rng.integers(0, len(places), len(places))])
        draws.append(once(rows, *(resampled(size) for size in sizes)))
    halves = []
    for _ in range(HALVES):
        half = rng.permutation(sizes[0]) < sizes[0] // 2
        values = [real.figures(weight.astype(float)) for weight in (half, ~half)]
        cells = [real.cells(weight.astype(float)) for weight in (half, ~half)]
        ranks = {(name, kind): figure for name in FIGURES for kind, figure in _compare(values, name, slice(None))}
        halves.append(ranks | {("subgroups", kind): value for kind, value in same_order(*cells).items()})
    found: dict[str, Any] = {}
    for (name, kind), value in point.items():
        drawn = np.array([one[name, kind] for one in draws])
        low, high = percentile_interval(drawn[np.isfinite(drawn)])
        ceiling = np.nanmean([one[name, kind] for one in halves])
        numbers = {"value": value, "low": low, "high": high, "ceiling": ceiling}
        found.setdefault(name, {})[kind] = {key: _plain(number) for key, number in numbers.items()}
    return found


def _compare(values: Sequence[dict[str, np.ndarray]], name: str, rows: Any) -> list[tuple[str, float]]:
    first, second = (one[name][rows] for one in values)
    return [*agreement(first, second).items(), ("level", float(np.mean(second - first)))]


def _plain(value: float) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None


def classifiers(directory: Path, real: str, synthetic: str) -> pandas.DataFrame:
    """The fits of a run of `aim_fair.py` on these rows, a line each; a twin that two situations share is one."""
    lines = []
    for path in sorted(directory.glob("*.json")):
        record = Record.read(path)
        if record.stage != "aim_fair" or not record.settings["baselines"]:
            continue
        if (record.inputs["real"], record.inputs["synthetic"]) != (real, synthetic):
            raise InputError(f"run: {path} is of other rows; give the source and synthetic set that it was fitted on.")
        key = {name: record.settings[name] for name in ("attribute", "share", "seed")}
        names = ("method", "synthetic", "learning_rate", "real", "audit")
        lines += [{**key, **{name: one[name] for name in names}} for one in record.measured["fits"]]
    if not lines:
        raise InputError(f"run: {directory} holds no classifiers; fit them by benchmarks/aim_fair.py first.")
    table = pandas.DataFrame(lines)
    # the twin of each bias is the same classifier
    is_again = table.duplicated(["attribute", "seed", "method"]) & (table["method"] == "twin without bias")
    return table[~is_again]


def interval(one: dict[str, Any]) -> str:
    """A figure with its interval."""
    if one["value"] is None or one["low"] is None:
        return "-"
    return f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"


def cell(one: dict[str, Any]) -> str:
    """A correlation with its interval and ceiling."""
    return f"{interval(one)} | {'-' if one['ceiling'] is None else format(one['ceiling'], '.2f')}"


def page(record: Record, table: pandas.DataFrame) -> str:
    """README.md."""
    counts = record.counts
    lines = [
        "# A synthetic cohort as audit set",
        "",
        paragraph(
            "Printed by `benchmarks/audit_set.py` from `audit_set.json`; not typed by hand. Classifiers of [AIM-Fair's "
            f"trial](../aim_fair), of {record.settings['seeds']} seeds and several biases and methods, are audited on "
            f"{counts['real_rows']} radiographs of {counts['real_subjects']} test patients of NIH ChestX-ray14 (Wang "
            f"et al., CVPR 2017; images: NIH Clinical Center), and on {counts['synthetic_rows']} images of "
            f"{counts['synthetic_subjects']} balanced families of a generator, from "
            "which nothing was learned; their scores are cut at the same value on both. A synthetic cohort has been "
            "proposed as audit set (arXiv 2607.14984), as it ranks subgroups as real data do: does this one?"
        ),
        "",
        f"Measured on {edition(record.inputs['generator'])}.",
        "",
        bullet(
            "*Spearman*, *Kendall* (tau-b): rank correlation, over classifiers, of a figure on both sets. *synthetic "
            "less real*: the mean difference of the figure, which ranks do not tell of."
        ),
        bullet(
            "*ceiling*: that of the figure from two halves of the real patients, a mean over "
            f"{HALVES} halves. Halves have fewer patients than the whole, so agreement may exceed it."
        ),
        bullet(
            "*real rows alone*: classifiers that learned from no synthetic image, many of which differ in their last "
            "layer alone; *all*: with those that were fine-tuned on images of the same generator, of other subjects."
        ),
        bullet(
            "Intervals are of 95 %, over test patients, synthetic subjects, and seeds with all their classifiers. "
            "Noise of resampling lowers a rank correlation, so they lie rather too low."
        ),
        "",
        "![Figures on synthetic against real rows](agreement.png)",
    ]
    for (attribute, kind), own in table.groupby(["attribute", "kind"], sort=False):
        one = own.iloc[0]
        lines += [
            "",
            f"## By {attribute} ({', '.join(one['groups'])}), {kind}: {one['classifiers']} classifiers",
            "",
            "| figure | Spearman | ceiling | Kendall | ceiling | synthetic less real |",
            "|---|---|---|---|---|---|",
            *(
                f"| {label} | {cell(one['found'][name]['spearman'])} | {cell(one['found'][name]['kendall'])} | "
                f"{interval(one['found'][name]['level'])} |"
                for name, label in FIGURES.items()
            ),
            "",
            "| of a classifier's four subgroups (finding, group) | mean or share | ceiling |",
            "|---|---|---|",
            *(
                f"| {label} | {cell(one['found']['subgroups'][name])} |"
                for name, label in (
                    ("kendall", "Kendall of their accuracies"),
                    ("worst", "the lowest is the same (by chance .25)"),
                    ("lower_tpr", "the group of lower TPR is the same (by chance .5)"),
                )
            ),
        ]
    return "\n".join(lines) + "\n"


def picture(points: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]], alone: dict[str, np.ndarray]) -> bytes:
    """PNG: a row of panels per attribute, a point per classifier."""
    drawn = Figure(figsize=(13, 4.2 * len(points)), dpi=100, layout="constrained")
    axes = drawn.subplots(len(points), len(DRAWN), squeeze=False)
    for line, (attribute, found) in zip(axes, points.items(), strict=True):
        for axis, name in zip(line, DRAWN, strict=True):
            real, synthetic = found[name]
            for kept, colour, label in (
                (~alone[attribute], MARK, "fine-tuned on synthetic images"),
                (alone[attribute], INK, "real rows alone"),
            ):
                axis.plot(real[kept], synthetic[kept], "o", color=colour, markersize=3.5, alpha=0.6, label=label)
            ends = [min(real.min(), synthetic.min()), max(real.max(), synthetic.max())]
            axis.plot(ends, ends, color="#888888", linewidth=0.8, linestyle=":")
            axis.set_xlabel(f"{FIGURES[name]}, real patients")
            axis.set_ylabel(f"{FIGURES[name]}, synthetic families")
            axis.set_title(f"by {attribute}", fontsize=10)
            axis.spines[["right", "top"]].set_visible(False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=2)
    file = io.BytesIO()
    drawn.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="the output_dir of benchmarks/aim_fair.py")
    parser.add_argument("--source", required=True)
    parser.add_argument("--dataset_name", default="nih_chestxray14")
    parser.add_argument("--synthetic", required=True, help="the first synthetic set of that run")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--docs_dir", type=Path, help="where record, page and picture go; OUTPUT_DIR by default")
    parser.add_argument("--resolution", type=int, default=64)
    chosen = parser.parse_args()
    data = DataSet(chosen.synthetic)
    real = RealRows(chosen.source, chosen.dataset_name, data, chosen.resolution)
    audit = SyntheticRows(data, chosen.resolution).audit
    fits = classifiers(chosen.run, real.identity, data.identity)
    lines, points, alone = [], {}, {}
    for attribute in ATTRIBUTES:
        of_attribute = fits[fits["attribute"] == attribute]
        alone[attribute] = (of_attribute["synthetic"] == "").to_numpy()
        for kind in KINDS:
            own = of_attribute[alone[attribute]] if kind == KINDS[0] else of_attribute
            pair = [
                Scores(rows, attribute, np.array(own[name].tolist()))
                for name, rows in (("real", real.test), ("audit", audit))
            ]
            found = compared(*pair, own["seed"].to_numpy())
            groups = list(real.test.levels[attribute])
            lines.append(
                {"attribute": attribute, "groups": groups, "kind": kind, "classifiers": len(own), "found": found}
            )
            print(f"{attribute}, {kind}", flush=True)
        values = [one.figures(np.ones(len(one.subjects))) for one in pair]
        points[attribute] = {name: (values[0][name], values[1][name]) for name in DRAWN}
    table = pandas.DataFrame(lines)
    record = Record(
        stage="audit_set",
        inputs={"real": real.identity, "synthetic": data.identity, "generator": str(data.generator)},
        settings={"seeds": int(fits["seed"].nunique()), "replicates": REPLICATES, "resolution": chosen.resolution},
        versions=library_versions(),
        counts={
            "classifiers": len(fits),
            "real_rows": len(real.test),
            "real_subjects": len(np.unique(real.test.subjects)),
            "synthetic_rows": len(audit),
            "synthetic_subjects": len(np.unique(audit.subjects)),
        },
        measured={"table": table.to_dict("records")},
    )
    docs = chosen.docs_dir or chosen.output_dir
    docs.mkdir(parents=True, exist_ok=True)
    record.write(docs / "audit_set.json")
    write_atomically(docs / "README.md", page(record, table).encode())
    write_atomically(docs / "agreement.png", picture(points, alone))
    print(page(record, table))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None
