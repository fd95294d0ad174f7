"""How often monitoring raises an alarm where nothing drifts, and how soon after a planted drift.

    python benchmarks/monitoring.py --output_dir docs/monitoring

A stream is WINDOWS windows of ROWS rows, of two rows a patient, and a reference of REFERENCE rows, all drawn from one
distribution: scores are the sigmoid of 1.3 (2 y - 1) plus a patient's and an image's normal noise. From the middle on
women's findings are missed the more, the larger `bias` is: it is taken from the logit of women with the finding. With
`labelled` false the windows have no labels. A stream is one seed; intervals are Clopper and Pearson's, over streams.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from synthfair_hf.fairness.drift import UNKNOWN, Sample
from synthfair_hf.fairness.groups import Groups
from synthfair_hf.fairness.monitoring import watch
from synthfair_hf.fairness.stream import Window
from synthfair_hf.records import Record, library_versions, write_atomically

WINDOWS, ROWS, REFERENCE, ALPHA, PERMUTATIONS = 4, 150, 500, 0.1, 199
CASES = {"no drift": (0.0, True), "bias 1": (1.0, True), "bias 2": (2.0, True), "bias 2, no labels": (2.0, False)}


def rows(n: int, rng: np.random.Generator, bias: float) -> Sample:
    """Predictions of n / 2 patients."""
    patients = np.repeat(np.arange(n // 2), 2)
    labels, men = (rng.integers(0, 2, n // 2)[patients] for _ in range(2))
    noise = 0.7 * rng.normal(size=n // 2)[patients] + 0.7 * rng.normal(size=n)
    logits = 1.3 * (2 * labels - 1) + noise - bias * (labels == 1) * (men == 0)
    return Sample(1 / (1 + np.exp(-logits)), labels, {"sex": Groups(men, ("female", "male"))}, patients)


def joined(parts: list[Sample]) -> Sample:
    """One stream of windows, whose patients are others in each."""
    return Sample(
        np.concatenate([one.scores for one in parts]),
        np.concatenate([one.labels for one in parts]),
        {"sex": Groups(np.concatenate([one.groups["sex"].codes for one in parts]), ("female", "male"))},
        np.concatenate([one.subjects + number * ROWS for number, one in enumerate(parts)]),
    )


def alarmed(seed: int, bias: float, labelled: bool) -> list[bool]:
    """By window, whether there is an alarm."""
    rng = np.random.default_rng(seed)
    reference = rows(REFERENCE, rng, 0)
    stream = joined([rows(ROWS, rng, bias if number >= WINDOWS // 2 else 0) for number in range(WINDOWS)])
    if not labelled:
        stream = stream._replace(labels=np.full_like(stream.labels, UNKNOWN))
    windows = [Window(str(n), "", "", np.arange(n * ROWS, (n + 1) * ROWS)) for n in range(WINDOWS)]
    found = watch(reference, stream, windows, 0.5, ALPHA, WINDOWS, seed, 1, PERMUTATIONS)
    return [any(one.p <= found.level for one in own) for own in found.drift]


def share(times: int, n: int) -> dict[str, float | int]:
    """A share of streams with its interval."""
    ends = binomtest(times, n).proportion_ci()
    return {"value": times / n, "low": float(ends.low), "high": float(ends.high), "n": n}


def figure(one: dict[str, float | int]) -> str:
    """The text 0.06 [0.03, 0.10]."""
    return f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"


def page(record: Record) -> str:
    """README.md."""
    settings = record.settings
    lines = [
        "# Alarms of monitoring",
        "",
        "```bash",
        f"python benchmarks/monitoring.py --streams {settings['streams']} --output_dir docs/monitoring",
        "```",
        "",
        f"Simulated streams of {settings['windows']} windows of {settings['rows']} rows, two a patient, against a",
        f"reference of {settings['reference']} rows, at alpha {settings['alpha']}.",
        f"Tests are of {settings['permutations']} permutations.",
        "Drift begins in the middle. One seed a stream, 95 % intervals over streams (Clopper and Pearson). What was",
        "planted, and how scores are drawn, is in the command's docstring.",
        "",
        "| planted | streams | any alarm before it began | any alarm after |",
        "|---|---|---|---|",
    ]
    for name, one in record.measured.items():
        told = [figure(one[part]) for part in ("before", "after")]
        lines.append(f"| {name} | {one['after']['n']} | {' | '.join(told)} |")
    whole = record.measured["no drift"]["whole"]
    lines += [
        "",
        f"Without drift there was an alarm anywhere in {figure(whole)} of {whole['n']} streams; the bound is",
        f"{settings['alpha']}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Simulate, and write record and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--output_dir", type=Path, required=True)
    asked = parser.parse_args()
    measured = {}
    for name, (bias, labelled) in CASES.items():
        n = asked.streams if bias == 0 else asked.streams // 4
        found = np.array([alarmed(seed, bias, labelled) for seed in range(n)])
        half = WINDOWS // 2
        parts = {"before": found[:, :half], "after": found[:, half:], "whole": found}
        measured[name] = {part: share(int(own.any(axis=1).sum()), n) for part, own in parts.items()}
    settings = {"windows": WINDOWS, "rows": ROWS, "reference": REFERENCE, "alpha": ALPHA, "permutations": PERMUTATIONS}
    record = Record(
        stage="monitoring_simulation",
        settings=settings | {"streams": asked.streams, "cases": {name: list(case) for name, case in CASES.items()}},
        versions=library_versions(),
        measured=measured,
    )
    asked.output_dir.mkdir(parents=True, exist_ok=True)
    record.write(asked.output_dir / "monitoring.json")
    write_atomically(asked.output_dir / "README.md", page(record).encode())


if __name__ == "__main__":
    main()
