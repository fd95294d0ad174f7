"""Group labels moved where they could as well have been: between subjects and within them.

    blocks of subjects with equally many rows of each label;  one permutation =
        each subject's groups move as a whole to a subject of its block, then change places among its rows of one label

What each label of a subject's rows does to the scores is kept, so that films of one patient are no further evidence. A
group that every row of a subject shares (the stratum of a family, a patient's sex) is exchanged between subjects; one
that its rows cross (the factors of a family) changes places within it; an intersection of both does both. Without
labels these move with the scores, and blocks are of subjects with equally many rows.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Block", "exchangeable", "permute"]


class Block(NamedTuple):
    """Rows `[subjects, k]` of subjects alike; in each the first `negatives` are of one label, the rest of the other."""

    rows: np.ndarray
    negatives: int


def exchangeable(subjects: np.ndarray, labels: np.ndarray | None = None) -> list[Block]:
    """Blocks of rows with subject numbers `[n]` and, where what is compared is given the label, labels `[n]` 0 or 1."""
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
    """Groups `[n]` after one permutation; how many rows of a label each group has stays."""
    moved = groups.copy()
    for rows, negatives in blocks:
        block = groups[rows[rng.permutation(len(rows))]]
        for part in (slice(negatives), slice(negatives, None)):
            block[:, part] = rng.permuted(block[:, part], axis=1)
        moved[rows] = block
    return moved
