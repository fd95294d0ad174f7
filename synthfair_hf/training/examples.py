"""What training reads: the rows of a split as tensors, and the order in which each rank reads them.

examples[(row, place)]   one example: the row of the split, and its place in the run's whole sequence of examples
sampler                  batches of (row, place): each epoch is a permutation drawn from (seed, epoch)
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ..domains.cells import untaught_levels
from ..domains.images import to_batch
from ..domains.source import Source
from ..errors import InputError
from ..records import row_generator

__all__ = ["StepSampler", "TrainingExamples"]


class TrainingExamples(Dataset[dict[str, Tensor]]):
    """The rows of a source that belong to one split: `image` `[C, r, r]`, augmented, and encoded covariates.

    A key is (row, place): the row of the split and the place in the whole run's sequence of examples. The place and the
    seed decide the augmentation, so that it differs in every epoch and repeats in every run.

    Args:
        source: images with covariates.
        split: train, validation or test.
        resolution: height and width r in pixels.
        seed: of the augmentation.

    Raises:
        InputError: no image is in the split, or none with some level of a finding.
    """

    def __init__(self, source: Source, split: str, resolution: int, seed: int) -> None:
        self.source, self.resolution, self.seed = source, resolution, seed
        self.rows = [index for index, one in enumerate(source.splits) if one == split]
        if not self.rows:
            raise InputError(f"{source.name}: no image in split {split!r}; give a source with more patients.")
        for variable in source.covariates.walk():
            if variable.role != "finding":
                continue
            absent = untaught_levels(variable.levels, source.table[variable.name], source.splits, split)
            if absent:
                raise InputError(
                    f"{source.name}: no image of {variable.name} {', '.join(absent)} in split {split!r}, so nothing "
                    "can be learned of it; give a source with more patients of it."
                )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        row, place = key
        image, covariates = self.source.draw(self.rows[row], self.resolution, row_generator(self.seed, place))
        encoded = self.source.covariates.encode({name: [value] for name, value in covariates.items()})
        return {
            "image": torch.from_numpy(to_batch([image])[0]),
            **{name: torch.from_numpy(column)[0] for name, column in encoded.items()},
        }


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (row, place) from step `start` on: each epoch is a permutation drawn from (seed, epoch).

    Args:
        rows: number of examples in an epoch.
        batch_size: examples of one step on this rank.
        seed: of the permutations.
        start: first step.
        stop: the step after the last.
        rank: of this process, 0 to ranks - 1.
        ranks: number of processes, which share each epoch.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, start: int, stop: int, rank: int, ranks: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.start, self.stop, self.rank, self.ranks = start, stop, rank, ranks

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        permutations: dict[int, np.ndarray] = {}
        for step in range(self.start, self.stop):
            first = (step * self.ranks + self.rank) * self.batch_size
            batch = []
            for place in range(first, first + self.batch_size):
                epoch = place // self.rows
                if epoch not in permutations:
                    permutations = {
                        one: row_generator(self.seed, one).permutation(self.rows)
                        for one in range(epoch, epoch + 1 + math.ceil(self.batch_size / self.rows))
                    }
                batch.append((int(permutations[epoch][place % self.rows]), place))
            yield batch
