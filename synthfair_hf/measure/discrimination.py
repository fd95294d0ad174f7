"""Can a network tell two sets of images apart? The classifier two-sample test (Lopez-Paz and Oquab 2017).

    D trained from scratch to tell first from second on all folds of patients but one, asked on that one
    AUC = mean over folds of the area under the ROC curve;  0.5: it can't,  1: it always can

Real held-out images against as many generated ones, of the same covariates, belong at 0.5, where one half of the real
patients against the other lies, but for chance. A patient's images, and what was generated for his covariates, lie in
one fold, so that D can't win by knowing patients. The test is as strong as its D: 0.5 of this small one is no proof, 1
is. It is given the image and its high-pass residual, enlarged, for grain of a few grey levels is learned late from
pixels alone.

`training.loop.train` owns a directory, checkpoints and an average of weights; eight fits of half a minute in memory,
of which nothing is kept but scores, have the few lines of `_fitted`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from ..progress import progress_bar
from ..records import row_generator
from ..training.blocks import GROUPS, ResidualBlock
from .intervals import Statistic, area_under_curve, bootstrap
from .texture import check_images, high_pass

__all__ = ["discrimination", "halves"]

FOLDS = 4
EPOCHS, MOST_STEPS = 40, 400
BATCH, LEARNING_RATE, WEIGHT_DECAY = 32, 2e-3, 0.05
CHANNELS = (32, 32, 64)
"""Feature maps at a quarter, an eighth and again an eighth of the resolution."""

ENLARGED = 10
"""By how much the high-pass residual is multiplied."""


class _Discriminator(nn.Module):
    """Logits `[B]` of images `[B, C, H, W]` in [0, 1]: of the second set, rather than the first."""

    def __init__(self, image_channels: int) -> None:
        super().__init__()
        first, second, third = CHANNELS
        self.trunk = nn.Sequential(
            # patches of 4 x 4 pixels become places, as in the networks of these generators: it costs a quarter
            nn.Conv2d(2 * image_channels, first, 8, stride=4, padding=2),
            ResidualBlock(first, first),
            nn.AvgPool2d(2, ceil_mode=True),
            ResidualBlock(first, second),
            ResidualBlock(second, third),
            nn.GroupNorm(GROUPS, third),
        )
        self.head = nn.Linear(third, 1)

    def forward(self, images: Tensor) -> Tensor:
        """`[B, C, H, W]` to `[B]`."""
        residual = functional.pad(ENLARGED * high_pass(images), (1, 1, 1, 1))
        maps = functional.silu(self.trunk(torch.cat([2 * images - 1, residual], dim=1)))
        return self.head(maps.mean(dim=(2, 3)))[:, 0]


def discrimination(
    first: Tensor, second: Tensor, first_groups: Sequence[str], second_groups: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """How well a small convolutional network tells the second set of images from the first.

    Args:
        first: images `[n, C, H, W]` in [0, 1].
        second: images `[m, C, H, W]`, likewise.
        first_groups: the group (patient) of each, by which they are folded and resampled.
        second_groups: likewise; a group in both sets is in one fold.
        seed: of folds, weights and batches.

    Returns:
        The area under the curve with its 95 % interval over groups (`intervals.Estimate`); `mean` is None where a set
        has fewer groups than twice FOLDS.

    Raises:
        InputError: for images of another shape or range, or another number of groups.
    """
    for argument, images, groups in (("first", first, first_groups), ("second", second, second_groups)):
        check_images(images, argument)
        if len(groups) != len(images):
            raise InputError(f"{argument}_groups: {len(groups)} names for {len(images)} images; give one per image.")
    if first.shape[1:] != second.shape[1:]:
        raise InputError(f"second: images of {list(second.shape[1:])}, first ones of {list(first.shape[1:])}.")
    names = [*first_groups, *second_groups]
    if min(len(set(first_groups)), len(set(second_groups))) < 2 * FOLDS:
        return asdict(bootstrap([], []))
    images, labels = torch.cat([first, second]), np.repeat([0, 1], [len(first), len(second)])
    folds = _folds(first_groups, second_groups, row_generator(seed))
    curves = []
    for fold in progress_bar(range(FOLDS), desc="telling apart", leave=False):
        held = np.flatnonzero(folds == fold)
        network = _fitted(images[folds != fold], torch.from_numpy(labels[folds != fold]).float(), seed + fold)
        with torch.no_grad():
            scores = torch.cat([network(part) for part in images[held].split(BATCH)]).double().numpy()
        curves.append((area_under_curve(scores, labels[held]), held))

    def mean_of_folds(weights: np.ndarray) -> np.ndarray:
        return np.mean([curve(weights[:, held]) for curve, held in curves], axis=0)

    statistic: Statistic = mean_of_folds
    return asdict(bootstrap([statistic], [names]))


def halves(groups: Sequence[str], seed: int = 0) -> np.ndarray:
    """Which rows belong to a random half of the groups, bool `[n]`."""
    names = np.unique(np.asarray(groups, dtype=str))
    chosen = row_generator(seed).permutation(names)[: len(names) // 2]
    return np.isin(np.asarray(groups, dtype=str), chosen)


def _folds(first: Sequence[str], second: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """The fold of every row; each set's groups are spread evenly over the folds."""
    fold: dict[str, int] = {}
    for groups in (set(first), set(second) - set(first)):
        for place, name in enumerate(rng.permutation(sorted(groups))):
            fold[str(name)] = place % FOLDS
    return np.array([fold[str(name)] for name in (*first, *second)])


def _fitted(images: Tensor, labels: Tensor, seed: int) -> _Discriminator:
    """A network trained from scratch, by AdamW and a cosine, in EPOCHS or MOST_STEPS; both sets weigh alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Discriminator(images.shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    batches: list[Tensor] = []
    steps = min(EPOCHS * math.ceil(len(images) / BATCH), MOST_STEPS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    balance = (1 - labels).sum() / labels.sum()
    for _ in range(steps):
        batches = batches or list(torch.randperm(len(images), generator=generator).split(BATCH))
        rows = batches.pop()
        loss = functional.binary_cross_entropy_with_logits(network(images[rows]), labels[rows], pos_weight=balance)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return network.eval()
