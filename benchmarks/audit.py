"""Time of an audit: of its bootstrap beside fairlearn's, with the same metrics, groups and number of replicates.

    python benchmarks/audit.py

Both resample rows (every row its own subject), which is no advantage for `audit`; it also computes the intervals of
fairness metrics over groups, of which fairlearn's bootstrap lacks equalized odds. Rounds alternate, so that other load
of the machine affects both; the ratio of a round is of its two times. Values by group are compared before any are
timed. Then `synthfair audit` is timed as a command, from a table to a page: 10,000 rows and three attributes, at its
defaults of 1,000 bootstrap replicates and 1,000 permutations.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate
from sklearn.metrics import accuracy_score, brier_score_loss, precision_score, recall_score, roc_auc_score

from synthfair_hf.fairness.audit import AuditTable, audit
from synthfair_hf.fairness.rates import BINS

GOAL = 20
"""Times as quick as fairlearn's bootstrap."""

COMMAND_GOAL = 10.0
"""Seconds of the command."""

THRESHOLD = 0.5


def chosen(metric):
    """The metric of scores that the threshold has turned into predictions."""
    return lambda label, score: metric(label, score >= THRESHOLD)


def expected_calibration_error(label: np.ndarray, score: np.ndarray) -> float:
    places = np.minimum((np.asarray(score) * BINS).astype(np.int64), BINS - 1)
    return float(np.abs(np.bincount(places, label - score, BINS)).sum() / len(score))


METRICS = {
    "auc": roc_auc_score,
    "accuracy": chosen(accuracy_score),
    "tpr": chosen(recall_score),
    "fpr": chosen(false_positive_rate),
    "ppv": chosen(precision_score),
    "selection_rate": chosen(selection_rate),
    "ece": expected_calibration_error,
    "brier": brier_score_loss,
}


def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Scores, labels and groups of a classifier that is less accurate in one sex."""
    rng = np.random.default_rng(seed)
    groups = {"sex": rng.choice(["female", "male"], n), "age": rng.choice(["<40", "40-60", "60+"], n)}
    label = (rng.random(n) < 0.2).astype(np.int64)
    signal = label * np.where(groups["sex"] == "male", 2.0, 1.4)
    return 1 / (1 + np.exp(1.5 - signal - rng.normal(size=n))), label, groups


def ours(score: np.ndarray, label: np.ndarray, groups: dict[str, np.ndarray], n_bootstrap: int) -> AuditTable:
    return audit(score, label, groups, n_bootstrap=n_bootstrap, permutations=0)


def theirs(
    score: np.ndarray, label: np.ndarray, groups: dict[str, np.ndarray], n_bootstrap: int
) -> dict[str, MetricFrame]:
    """One frame per attribute, as an audit treats attributes separately."""
    return {
        name: MetricFrame(
            metrics=METRICS,
            y_true=label,
            y_pred=score,
            sensitive_features=pandas.Series(group, name=name),
            n_boot=n_bootstrap,
            ci_quantiles=[0.025, 0.975],
            random_state=0,
        )
        for name, group in groups.items()
    }


def largest_difference(table: AuditTable, frames: dict[str, MetricFrame]) -> float:
    """The largest difference between the two in any value of a group."""
    rows = table.groups.set_index(["attribute", "group", "metric"])["value"]
    return max(
        abs(frame.by_group.loc[group, metric] - rows[name, group, metric])
        for name, frame in frames.items()
        for group in frame.by_group.index
        for metric in METRICS
    )


def command(rows: int, directory: Path) -> float:
    """Seconds of `synthfair audit` on a table with three attributes."""
    score, label, groups = sample(rows, seed=0)
    site = np.random.default_rng(1).choice(["A", "B", "C", "D"], rows)
    path = directory / "predictions.csv"
    pandas.DataFrame({"label": label, "score": score, **groups, "site": site}).to_csv(path, index=False)
    words = ["--predictions", path, "--label", "label", "--score", "score", "--groups", "sex", "age", "site"]
    began = time.perf_counter()
    program = [sys.executable, "-m", "synthfair_hf.cli", "audit", *words, "--output_dir", directory / "audit"]
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--n_bootstrap", type=int, default=10, help="bootstrap replicates of either")
    parser.add_argument("--rounds", type=int, default=3)
    settings = parser.parse_args()
    data = sample(settings.rows, seed=0)
    distance = largest_difference(ours(*data, n_bootstrap=1), theirs(*data, n_bootstrap=1))
    print(f"largest difference of a group's value: {distance:.1e}", flush=True)
    assert distance < 1e-9
    ratios = []
    for number in range(settings.rounds):
        began = time.perf_counter()
        ours(*data, n_bootstrap=settings.n_bootstrap)
        between = time.perf_counter()
        theirs(*data, n_bootstrap=settings.n_bootstrap)
        ended = time.perf_counter()
        ratios.append((ended - between) / (between - began))
        print(
            f"round {number}: audit {between - began:.3g} s, MetricFrame {ended - between:.3g} s, "
            f"ratio {ratios[-1]:.3g}",
            flush=True,
        )
    tracemalloc.start()
    ours(*data, n_bootstrap=settings.n_bootstrap)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    figure = statistics.median(ratios)
    print(
        f"median ratio {figure:.3g} ({min(ratios):.3g} to {max(ratios):.3g}), goal >= {GOAL}: "
        f"{'met' if figure >= GOAL else 'missed'}  ({settings.rows:,} rows, {settings.n_bootstrap} replicates, "
        f"{len(METRICS)} metrics, {settings.rounds} rounds; audit's peak memory {peak:.0f} MiB)"
    )
    with tempfile.TemporaryDirectory() as directory:
        seconds = [command(10_000, Path(directory)) for _ in range(settings.rounds)]
    middle = statistics.median(seconds)
    print(
        f"synthfair audit, 10,000 rows and 3 attributes: median {middle:.3g} s ({min(seconds):.3g} to "
        f"{max(seconds):.3g}), goal <= {COMMAND_GOAL:g}: {'met' if middle <= COMMAND_GOAL else 'missed'}"
    )


if __name__ == "__main__":
    main()
