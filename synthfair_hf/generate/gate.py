"""The quality gate: does an image show what was asked for?

    reached(row) = for every judged factor: the level that is read is the one asked for,
                   or the number that is read is at most `tolerance` from it

What reads is a callable that comes in; what it reads is stored beside what was asked for. A family that is not reached
is drawn again from its subject's next seed, as often as the plan says, the best draw is kept, and its rows that are
still not reached are flagged and kept: nothing is dropped. A real observation has no second draw.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, unknown
from ..schema import Predictions, Schema

__all__ = ["QualityGate", "Reading"]


class Reading(NamedTuple):
    """What was read in one image, decoded by name, and whether it is what was asked for."""

    values: dict[str, Any]
    reached: bool


class QualityGate:
    """Reads images by the `predict` of an attribute predictor and judges the `factors`; a continuous one with a
    `tolerance`, in its unit.

    Raises InputError for a tolerance that is not positive or of no factor, and for a continuous factor without one.
    """

    def __init__(
        self,
        predict: Callable[[Tensor], Predictions],
        covariates: Schema,
        factors: Sequence[str],
        tolerance: Mapping[str, float] | None = None,
    ) -> None:
        self._predict, self._covariates, self._factors = predict, covariates, tuple(factors)
        self._tolerance = dict(tolerance or {})
        for name, width in self._tolerance.items():
            if name not in factors or covariates[name].categorical:
                raise unknown("tolerance", name, [one for one in factors if not covariates[one].categorical])
            if not width > 0:
                raise InputError(f"tolerance[{name!r}]: {width} is not allowed; give a number above 0.")
        for name in factors:
            if not covariates[name].categorical and name not in self._tolerance:
                raise InputError(f"tolerance: {name} is continuous; say how far a reading may be from what was asked.")

    def read(self, images: np.ndarray, asked: Sequence[Mapping[str, Any]]) -> list[Reading]:
        """Readings of images `[B, H, W]` in [0, 1], as 8 bits store them; `asked` holds each row's decoded factors.

        An image with NaN or infinite pixels is read as if they were black; it is rejected anyway.
        """
        stored = np.rint(np.nan_to_num(images, posinf=0, neginf=0).clip(0, 1) * 255) / 255
        predicted = self._predict(torch.from_numpy(stored.astype(np.float32))[:, None])
        readings = []
        for place, row in enumerate(asked):
            values = {name: self._value(name, predicted[name][place]) for name in self._covariates.names}
            readings.append(Reading(values, all(self._agrees(name, values[name], row[name]) for name in self._factors)))
        return readings

    def _value(self, name: str, predicted: np.ndarray) -> Any:
        variable = self._covariates[name]
        return variable.levels[int(predicted.argmax())] if variable.categorical else float(predicted)

    def _agrees(self, name: str, read: Any, asked: Any) -> bool:
        return read == asked if self._covariates[name].categorical else abs(read - asked) <= self._tolerance[name]
