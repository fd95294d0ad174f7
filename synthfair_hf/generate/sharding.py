"""How a design's subjects are divided into shards, and their rows into files named as in `layout`.

a split for evaluation, or a small one    so many subjects after each other: one file
a large train                             those of one stratum and tenth of `draw`: a file for each cell they show
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..views.layout import TENTHS, train_file, word
from .design import Design
from .rows import Shard

__all__ = ["divide"]


def divide(
    design: Design,
    cells: Sequence[Mapping[str, Any]],
    strata: Sequence[str],
    subjects_per_shard: int,
    partitioned: bool,
) -> Iterator[Shard]:
    """The shards of a design, in order; none crosses a split, and no file is without rows.

    Args:
        design: who is in which split and stratum, and shows which cells.
        cells: the values of the factors in each cell, by name.
        strata: the names of the variables whose groups are the design's strata.
        subjects_per_shard: the most subjects of a shard, 1 or more.
        partitioned: whether files of train hold one cell and one tenth of `draw` each.
    """
    for split, subjects in design.subjects.items():
        if split == "train" and partitioned:
            yield from _partitions(design, cells, strata, subjects_per_shard)
            continue
        parts = _parts(subjects, subjects_per_shard)
        for index, part in enumerate(parts):
            stem = f"{split}-{index:05d}-of-{len(parts):05d}"
            yield Shard(split, part, stem, {f"data/{stem}.parquet": range(len(cells))})


def _partitions(
    design: Design, cells: Sequence[Mapping[str, Any]], strata: Sequence[str], subjects_per_shard: int
) -> Iterator[Shard]:
    edges = np.arange(1, TENTHS) / TENTHS
    for stratum in design.strata:
        subjects = np.array(design.groups["train", stratum])
        draws = design.draws["train"][design.offsets("train", subjects)]
        tenths = np.searchsorted(edges, draws, side="right")
        groups = dict(zip(strata, stratum, strict=True))
        stem = "-".join(["train", *(word(group) for group in stratum)])
        for tenth in range(TENTHS):
            for index, part in enumerate(_parts(subjects[tenths == tenth].tolist(), subjects_per_shard)):
                files = {
                    train_file({**groups, **cells[member]}, tenth, index): [member]
                    for member in np.flatnonzero(design.rows("train", part)).tolist()
                }
                yield Shard("train", part, f"{stem}-{tenth}-{index:05d}", files)


def _parts(subjects: Sequence[int], size: int) -> list[Sequence[int]]:
    return [subjects[start : start + size] for start in range(0, len(subjects), size)]
