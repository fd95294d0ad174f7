"""Permutations of group labels among exchangeable rows: between subjects and within them.

    blocks of subjects with equally many rows of each label;  one permutation =
        each subject's groups move as a whole to a subject of its block, then are permuted among its rows of one label

The dependence of scores within a subject is kept, so that several radiographs of one patient are no further evidence. A
group that all rows of a subject share (the stratum of a family, a patient's sex) is exchanged between subjects; one
that its rows cross (the factors of a family) is permuted within the subject; an intersection of both does both. Without
given labels, labels move with the scores, and blocks are of subjects with equally many rows.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Block", "exchangeable", "holm", "permute"]


class Block(NamedTuple):
    """Rows `[subjects, k]` of exchangeable subjects; the first `negatives` of each have label 0, the rest label 1."""

    rows: np.ndarray
    negatives: int


def exchangeable(subjects: np.ndarray, labels: np.ndarray | None = None) -> list[Block]:
    """Blocks of exchangeable subjects.

    Args:
        subjects: int64 `[n]`, the subject of each row.
        labels: `[n]`, 0 or 1, if the test is given the label; else None.

    Returns:
        One block per number of rows of each label that a subject has.
    """
    labels = np.ones(len(subjects), dtype=np.int64) if labels is None else labels
    _, subjects = np.unique(subjects, return_inverse=True)
    positives = np.bincount(subjects, labels).astype(np.int64)
    negatives = np.bincount(subjects) - positives
    profiles, profile = np.unique(np.stack([negatives, positives], axis=1), axis=0, return_inverse=True)
    order = np.lexsort((labels, subjects))
    own = profile[subjects[order]]
    return [
        Block(order[own == number].reshape(-1, int(sizes.sum())), int(sizes[0]))
        for number, sizes in enumerate(profiles)
    ]


def permute(groups: np.ndarray, blocks: list[Block], rng: np.random.Generator) -> np.ndarray:
    """One random permutation of groups `[n]`; the number of rows of each label that a group has does not change."""
    moved = groups.copy()
    for rows, negatives in blocks:
        block = groups[rows[rng.permutation(len(rows))]]
        for part in (slice(negatives), slice(negatives, None)):
            # of one row there is nothing to draw
            if block[:, part].shape[1] > 1:
                block[:, part] = rng.permuted(block[:, part], axis=1)
        moved[rows] = block
    return moved


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values, for any dependence of the tests.

    Args:
        p: `[k]`; NaN stays NaN and is not counted.
    """
    order = np.argsort(p, kind="stable")  # NaN last
    known = int(np.isfinite(p).sum())
    steps = np.maximum.accumulate(p[order[:known]] * np.arange(known, 0, -1)).clip(max=1)
    adjusted = np.full(len(p), np.nan)
    adjusted[order[:known]] = steps
    return adjusted
