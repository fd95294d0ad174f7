"""Pairs of random images over the phantom's covariates."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from synthfair_hf.align.pairs import Preferences
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.preset import Preset
from synthfair_hf.domains.source import patient_split


@pytest.fixture(scope="session")
def make_covariates() -> Callable[..., dict[str, torch.Tensor]]:
    """`make_covariates(rows, seed=0, missing=0.1, preset=PHANTOM)`: encoded columns, a share of them missing."""
    return _make_covariates


@pytest.fixture(scope="session")
def make_pairs() -> Callable[..., Preferences]:
    """`make_pairs(pairs, seed=0, side=8, channels=1, missing=0.1, preset=PHANTOM, **fields)`; `fields` replace."""
    return _make_pairs


def _make_covariates(
    rows: int, seed: int = 0, missing: float = 0.1, preset: Preset = PHANTOM
) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    columns = {}
    for variable in preset.covariates.walk():
        absent = rng.random(rows) < missing
        if variable.categorical:
            column = np.where(absent, -1, rng.integers(len(variable.levels), size=rows))
        else:
            column = np.where(absent, np.nan, rng.uniform(*variable.bounds, size=rows)).astype(np.float32)
        columns[variable.name] = torch.from_numpy(column)
    return columns


def _make_pairs(
    pairs: int,
    seed: int = 0,
    side: int = 8,
    channels: int = 1,
    missing: float = 0.1,
    preset: Preset = PHANTOM,
    **fields: Any,
) -> Preferences:
    rng = np.random.default_rng(seed)
    first, second = torch.from_numpy(rng.integers(0, 256, (2, pairs, channels, side, side), dtype=np.uint8))
    subjects = np.array([f"s{row // 2}" for row in range(pairs)], dtype=str)
    margins = torch.from_numpy(rng.exponential(size=pairs).astype(np.float32))
    margins[::3] = torch.nan
    given = {
        "preferred": first,
        "rejected": second,
        "covariates": _make_covariates(pairs, seed, missing, preset),
        "subjects": subjects,
        "splits": np.array([patient_split(subject) for subject in subjects], dtype=str),
        "judges": np.array(["reader", "Ada"])[np.arange(pairs) % 2],
        "margins": margins,
        "comments": np.array([("", "blurred, tilted", "größer")[row % 3] for row in range(pairs)], dtype=str),
    }
    return Preferences(**{**given, **fields})
