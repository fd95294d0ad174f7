"""A small example of the whole: generate, verify, load three views, write the report."""

from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_dataset

from ..arguments import Seed, checked
from ..domains.findings import choose_finding
from ..errors import InputError
from ..publish.report import write_report
from .dataset import generate_dataset
from .store import read_plan
from .verification import verify

__all__ = ["demo"]


@checked
def demo(output_dir: str | Path = "synthfair", seed: Seed = 0) -> dict[str, Any]:
    """Generate a small data set, verify it, load three views and write the report; returns what was found.

    14 subjects: 10, 2 and 2 in train, validation and test, half of them under 50 years, 12 images each.

    Args:
        output_dir: where the data set is written.
        seed: of the subjects.

    Returns:
        `problems` (none), `views` with counts by view, and the path of the `report`.

    Raises:
        InputError: the directory holds something else, or the data set is not sound.
    """
    directory = Path(output_dir)
    generate_dataset(directory, num_subjects=14, seed=seed, subjects_per_shard=5)
    problems = verify(directory)
    if problems:
        raise InputError(f"{directory}: {problems[0]}")
    plan = read_plan(directory)
    finding = choose_finding(plan.preset, crossed=plan.factors)
    views: dict[str, Any] = {}
    for name in ("full", "sex_imbalanced_90_10", f"{finding}_scanner_correlated_90_10"):
        train = load_dataset("synthfair", name, data_dir=str(directory), split="train")
        views[name] = {"train rows": len(train), "image": train[0]["image"].size}
        for attribute in ("sex", finding):
            labels = train.features[attribute]
            counts = np.bincount(train[attribute], minlength=len(labels.names))
            views[name] |= dict(zip(labels.names, counts.tolist(), strict=True))
    return {"problems": problems, "views": views, "report": str(write_report(directory))}
