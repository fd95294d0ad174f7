"""The quality gate: does an image have the requested attributes, by an attribute predictor?

    reached(row) = for every judged factor: the predicted level is the requested one,
                   or the predicted number is at most `tolerance` from it

Predictions are stored beside the requested values. A family that is not reached is drawn again from its subject's next
seed, as often as the plan says, the best draw is kept, and its rows that are still not reached are flagged and kept:
nothing is dropped. A real observation has no second draw.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..domains.images import to_batch
from ..errors import InputError, unknown
from ..schema import Predictions, Schema

__all__ = ["QualityGate", "Reading"]


class Reading(NamedTuple):
    """Predicted attributes of one image, decoded by name, and whether they are the requested ones."""

    values: dict[str, Any]
    reached: bool


class QualityGate:
    """Compares predicted attributes of images with the requested ones.

    Args:
        predict: that of an attribute predictor (`schema.AttributePredictor`).
        covariates: all that it predicts.
        factors: those that are judged.
        tolerance: by continuous factor, the largest allowed difference, in its unit.

    Raises:
        InputError: a tolerance that is not positive or of no factor, or a continuous factor without one.
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
                raise unknown("gate_tolerance", name, [one for one in factors if not covariates[one].categorical])
            if not width > 0:
                raise InputError(f"gate_tolerance[{name!r}]: {width} is not allowed; give a number above 0.")
        for name in factors:
            if not covariates[name].categorical and name not in self._tolerance:
                raise InputError(f"gate_tolerance: {name} is continuous; give its largest allowed difference.")

    def read(self, images: np.ndarray, requested: Sequence[Mapping[str, Any]]) -> list[Reading]:
        """Predicted attributes of images, after rounding to the 8 bits in which they are stored.

        NaN and infinite pixels count as black; such an image is rejected anyway.

        Args:
            images: `[B, H, W]`, or `[B, 3, H, W]` in colours, in [0, 1].
            requested: the decoded factors of each of the `B` rows.
        """
        stored = np.rint(np.nan_to_num(images, posinf=0, neginf=0).clip(0, 1) * 255) / 255
        predicted = self._predict(torch.from_numpy(to_batch(list(stored.astype(np.float32)))))
        readings = []
        for place, row in enumerate(requested):
            values = {name: self._value(name, predicted[name][place]) for name in self._covariates.names}
            readings.append(Reading(values, all(self._agrees(name, values[name], row[name]) for name in self._factors)))
        return readings

    def _value(self, name: str, predicted: np.ndarray) -> Any:
        variable = self._covariates[name]
        return variable.levels[int(predicted.argmax())] if variable.categorical else float(predicted)

    def _agrees(self, name: str, predicted: Any, requested: Any) -> bool:
        if self._covariates[name].categorical:
            return predicted == requested
        return abs(predicted - requested) <= self._tolerance[name]
