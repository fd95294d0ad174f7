"""How a design's subjects are divided into shards, and their rows into files named as in `layout`.

a split for evaluation, or a small one    so many subjects after each other: one file
a large train                             those of one stratum and tenth of `draw`: a file for each cell they show

A subject's draws in cells of either parity may lie on two sides of a tenth's end: it has a shard of its own, with files
of two tenths.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..views.layout import TENTHS, train_file, word
from .design import Design
from .rows import Shard

__all__ = ["count_shards", "divide"]


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


def count_shards(design: Design, subjects_per_shard: int, partitioned: bool) -> dict[str, int]:
    """How many shards `divide` makes of each split, without looking at a subject.

    Args:
        design: who is in which split and stratum.
        subjects_per_shard: as of `divide`.
        partitioned: as of `divide`.
    """
    sizes = {split: [len(subjects)] for split, subjects in design.subjects.items()}
    if partitioned:
        strata = range(len(design.strata))
        sizes["train"] = [len(ranks) for stratum in strata for ranks, _ in _stretches(design, stratum)]
    return {split: sum(-(-size // subjects_per_shard) for size in found) for split, found in sizes.items()}


def _partitions(
    design: Design, cells: Sequence[Mapping[str, Any]], strata: Sequence[str], subjects_per_shard: int
) -> Iterator[Shard]:
    for place, stratum in enumerate(design.strata):
        subjects = np.array(design.groups["train", stratum])
        ranks = design.ranks["train"][design.offsets("train", subjects)]
        groups = dict(zip(strata, stratum, strict=True))
        stem = "-".join(["train", *(word(group) for group in stratum)])
        files = Counter[int]()
        for stretch, tenths in _stretches(design, place):
            own = subjects[(stretch.start <= ranks) & (ranks < stretch.stop)].tolist()
            for part in _parts(own, subjects_per_shard):
                number = dict(files)
                names = {
                    member: train_file({**groups, **cells[member]}, tenth, number.get(tenth, 0))
                    for member in np.flatnonzero(design.rows("train", part)).tolist()
                    for tenth in [tenths[design.scheme.parities[member]]]
                }
                yield Shard(
                    "train",
                    part,
                    f"{stem}-{tenths[0]}-{number.get(tenths[0], 0):05d}",
                    {name: [member] for member, name in names.items()},
                )
                files.update(set(tenths))


def _stretches(design: Design, stratum: int) -> Iterator[tuple[range, tuple[int, int]]]:
    """Ranks of a stratum of train, and the tenths in which all of them have their draws, in cells of either parity."""
    size = len(design.groups["train", design.strata[stratum]])
    edges = [
        [design.scheme.draws(size, stratum, parity).below(tenth / TENTHS) for tenth in range(1, TENTHS)]
        for parity in (0, 1)
    ]
    for start, stop in pairwise(sorted({0, size, *edges[0], *edges[1]})):
        even, odd = (sum(edge <= start for edge in one) for one in edges)
        yield range(start, stop), (even, odd)


def _parts(subjects: Sequence[int], size: int) -> list[Sequence[int]]:
    return [subjects[start : start + size] for start in range(0, len(subjects), size)]
