"""A world small enough to see through: a square is the finding, a bright corner the group, and most rows have both."""

import numpy as np
import pytest
import torch

from synthfair_hf.fairness.classifier import LabelledImages

torch.set_num_threads(1)

SIDE = 16
SMALL = {"steps": 4, "batch_size": 32, "channels": (8, 8, 8), "shift": 1, "learning_rate": 5e-3}


def toy(
    n: int, agree: float, seed: int, groups: tuple[int, ...] = (0, 1), prefix: str = "s", counterfactuals: bool = False
) -> LabelledImages:
    """`n` subjects, half with the finding; the group (1: a bright corner) is the label with probability `agree`.

    With counterfactuals each subject has one row per group, on the same noise and with the same square.

    Masks are the squares.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    factual = np.where(rng.random(n) < agree, labels, 1 - labels)
    factual = np.where(np.isin(factual, groups), factual, groups[0])
    pixels, masks = rng.integers(0, 140, (n, SIDE, SIDE)), np.zeros((n, SIDE, SIDE), bool)
    for row, (top, left) in enumerate(zip(rng.integers(4, 12, n), rng.integers(4, 12, n), strict=True)):
        pixels[row, top : top + 4, left : left + 4] += 110 * labels[row]
        masks[row, top : top + 4, left : left + 4] = labels[row]
    subjects = np.arange(n)
    if counterfactuals:
        pixels, masks = np.repeat(pixels, 2, axis=0), np.repeat(masks, 2, axis=0)
        labels, subjects = np.repeat(labels, 2), np.repeat(subjects, 2)
        factual = np.tile([0, 1], n)
    pixels = pixels.copy()
    pixels[factual == 1, :3, :3] = 255
    names = np.array([f"{prefix}{subject}" for subject in subjects])
    return LabelledImages(
        torch.from_numpy(pixels.astype(np.uint8))[:, None],
        torch.from_numpy(labels.astype(np.int64)),
        {"corner": torch.from_numpy(factual.astype(np.int64))},
        {"corner": ("dark", "bright")},
        names,
        {"corner": names},
        torch.from_numpy(masks)[:, None],
    )


@pytest.fixture(scope="session")
def make_toy():
    return toy


@pytest.fixture(scope="session")
def small():
    return SMALL
