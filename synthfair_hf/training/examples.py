"""What training reads: the rows of a split as tensors, and the order in which each rank reads them.

examples[(row, place)]   one example: the row of the split, and its place in the run's whole sequence of examples
examples.weights         where covariates are balanced: one of these is chosen, one of its levels, an image of it
sampler                  batches of (row, place): each epoch is a permutation, or weighted draws, from (seed, epoch)

A network that learns images given their covariates learns the same ones from weighted draws: the weight of an image
depends on its covariates alone. It sees the rarer level of a covariate oftener.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ..domains.cells import untaught_levels
from ..domains.images import to_batch
from ..domains.source import Source
from ..errors import InputError, unknown
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
        balance: covariates with levels; each row's weight is the mean over them of 1 / (levels * rows of its level).

    Raises:
        InputError: no image is in the split, or none with some level of a finding, or of a covariate that is balanced.
    """

    def __init__(self, source: Source, split: str, resolution: int, seed: int, balance: Sequence[str] = ()) -> None:
        self.source, self.split, self.resolution, self.seed = source, split, resolution, seed
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
        self.weights = self._weights(balance) if balance else None

    def _weights(self, balance: Sequence[str]) -> np.ndarray:
        """The probability of each row, `[rows]`; of covariates that are unknown in it the share is 0."""
        with_levels = {one.name: one.levels for one in self.source.covariates.walk() if one.categorical}
        weights = np.zeros(len(self.rows))
        for name in balance:
            if name not in with_levels:
                raise unknown("balance", name, with_levels)
            values = np.array([self.source.table[name][row] for row in self.rows], dtype=object)
            for level in with_levels[name]:
                of_level = values == level
                if not of_level.any():
                    raise InputError(
                        f"balance: {name} has no image of {level} in split {self.split!r} of {self.source.name}; leave "
                        f"{name} out."
                    )
                weights[of_level] += 1 / (len(with_levels[name]) * of_level.sum())
        return weights / weights.sum()

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
    """Batches of (row, place) from step `start` on, each epoch drawn from (seed, epoch).

    Args:
        rows: number of examples in an epoch.
        batch_size: examples of one step on this rank.
        seed: of the permutations.
        start: first step.
        stop: the step after the last.
        rank: of this process, 0 to ranks - 1.
        ranks: number of processes, which share each epoch.
        weights: probability of each example `[rows]`, by which an epoch draws as many with replacement; by default an
            epoch is a permutation.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        seed: int,
        start: int,
        stop: int,
        rank: int,
        ranks: int,
        weights: np.ndarray | None = None,
    ) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.start, self.stop, self.rank, self.ranks, self.weights = start, stop, rank, ranks, weights

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epochs: dict[int, np.ndarray] = {}
        for step in range(self.start, self.stop):
            first = (step * self.ranks + self.rank) * self.batch_size
            batch = []
            for place in range(first, first + self.batch_size):
                epoch = place // self.rows
                if epoch not in epochs:
                    later = range(epoch, epoch + 1 + math.ceil(self.batch_size / self.rows))
                    epochs = {one: self._epoch(one) for one in later}
                batch.append((int(epochs[epoch][place % self.rows]), place))
            yield batch

    def _epoch(self, epoch: int) -> np.ndarray:
        rng = row_generator(self.seed, epoch)
        if self.weights is None:
            return rng.permutation(self.rows)
        return rng.choice(self.rows, self.rows, p=self.weights)
