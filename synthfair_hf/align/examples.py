"""Pairs as the training loop samples them, on request every subgroup equally often.

    place p of a run belongs to subgroup p mod G;   its pair is sampled from that subgroup's by (seed, p)

So any G places in a row hold each of the G subgroups once, however many pairs each has.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..domains.preset import Preset
from ..errors import InputError, unknown
from ..records import row_generator
from ..schema import MISSING_LEVEL
from .pairs import Covariates, Preferences

__all__ = ["PreferenceExamples", "groups_of", "has_groups"]


class PreferenceExamples(Dataset[dict[str, Tensor]]):
    """Pairs as examples of the training loop: `preferred` and `rejected` `[C, r, r]` in [0, 1], and encoded covariates.

    A key is (row, place), as of the training loop's other examples. Where subgroups are balanced, the place determines
    the subgroup, the place and the seed the pair in it, and the row is not used.

    Args:
        preferences: one pair or more.
        seed: of the balanced sampling.
        balance: covariates of the preset whose crossed levels (of a number, the two sides of its contrast) are the
            subgroups; none by default.
        preset: the domain, needed for `balance`.

    Raises:
        InputError: where there is no pair, a subgroup has none, or a pair has no value of a covariate in `balance`.
    """

    def __init__(
        self, preferences: Preferences, seed: int, balance: Sequence[str] = (), preset: Preset | None = None
    ) -> None:
        if not len(preferences):
            raise InputError("preferences: no pairs; give at least one.")
        self.preferences, self.seed = preferences, seed
        self.subgroups = _subgroups(preferences.covariates, balance, preset) if balance else {}
        self._members = list(self.subgroups.values())

    def __len__(self) -> int:
        return len(self.preferences)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        row, place = key
        if self._members:
            members = self._members[place % len(self._members)]
            row = int(members[row_generator(self.seed, place).integers(len(members))])
        return {
            **{name: getattr(self.preferences, name)[row].float() / 255 for name in ("preferred", "rejected")},
            **{name: column[row] for name, column in self.preferences.covariates.items()},
        }


def _subgroups(covariates: Covariates, balance: Sequence[str], preset: Preset | None) -> dict[str, np.ndarray]:
    """Rows of every subgroup by its name, `sex=female, finding=pneumonia`."""
    if preset is None:
        raise InputError("preset: not given; `balance` needs its levels and contrasts.")
    for name in balance:
        if name not in preset.covariates or name not in covariates:
            raise unknown("balance", name, [one for one in covariates if one in preset.covariates])
    codes, names = zip(*(groups_of(covariates[name], name, preset) for name in balance), strict=True)
    for name, column in zip(balance, codes, strict=True):
        if missing := int((column == MISSING_LEVEL).sum()):
            raise InputError(f"balance: {missing} pairs have no value of {name!r}; leave them out, or {name}.")
    found = {}
    for cell in product(*(range(len(one)) for one in names)):
        label = ", ".join(f"{name}={groups[code]}" for name, groups, code in zip(balance, names, cell, strict=True))
        inside = torch.stack([column == code for column, code in zip(codes, cell, strict=True)]).all(dim=0)
        found[label] = np.flatnonzero(inside.numpy())
        if not inside.any():
            raise InputError(f"balance: no pair of {label}; judge some, or balance over fewer covariates.")
    return found


def groups_of(values: Tensor, name: str, preset: Preset) -> tuple[Tensor, tuple[str, ...]]:
    """The groups of a covariate: its levels, or the two sides of its contrast.

    Args:
        values: encoded, `[n]`.
        name: of the covariate.
        preset: the domain.

    Returns:
        The group's index of each value `[n]`, missing = -1, and the groups' names.

    Raises:
        InputError: for a number without a contrast.
    """
    variable = preset.covariates[name]
    if variable.categorical:
        return values, variable.levels
    if name not in preset.contrasts:
        raise unknown("balance", name, [one.name for one in preset.covariates.walk() if has_groups(one.name, preset)])
    contrast = preset.contrasts[name]
    sides = torch.from_numpy(values.numpy() >= contrast.threshold).long()
    return torch.where(values.isnan(), MISSING_LEVEL, sides), (contrast.first, contrast.second)


def has_groups(name: str, preset: Preset) -> bool:
    """Whether a covariate has levels, or a contrast with two sides."""
    return preset.covariates[name].categorical or name in preset.contrasts
