"""Coverage: how many training images a generator has seen of each combination of covariates.

    images[cell] = number of training images in the cell;    cell = a level of each categorical covariate, a contrast
                   group of each continuous one that has a contrast, None where it is missing
    range[name]  = least and largest value of a continuous covariate

A combination of some of them has the sum of the cells that show it: cells without one image are where the generator
extrapolates, whatever its causal model draws.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from ..domains.preset import Preset
from ..errors import InputError
from ..records import Record

__all__ = ["Coverage"]

KEY = "coverage"


class Coverage(BaseModel):
    """Numbers of training images by cell; cells without an image are left out.

    `variables` names the covariates whose values make a cell. One that is not among them, such as the scanner that is
    planted on every image anew, is seen with everything.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    variables: tuple[str, ...]
    cells: tuple[tuple[tuple[str | None, ...], NonNegativeInt], ...]
    ranges: dict[str, tuple[float, float]]

    @classmethod
    def count(
        cls, preset: Preset, table: Mapping[str, Sequence[Any]], rows: Sequence[int], drawn: Sequence[str] = ()
    ) -> "Coverage":
        """Count the training images of a source.

        Args:
            preset: the domain, with the covariates of the table.
            table: decoded values by covariate, None where missing.
            rows: the training images.
            drawn: covariates whose value is drawn anew each time that an image is trained on.
        """
        covariates = preset.covariates
        counted = [
            name
            for name in covariates.names
            if name not in drawn and (covariates[name].categorical or name in preset.contrasts)
        ]
        cells = Counter(tuple(_group(preset, name, table[name][row]) for name in counted) for row in rows)
        ranges = {}
        for name in covariates.names:
            known = [table[name][row] for row in rows if table[name][row] is not None]
            if not covariates[name].categorical and known:
                ranges[name] = (float(min(known)), float(max(known)))
        return cls(variables=tuple(counted), cells=tuple(sorted(cells.items(), key=repr)), ranges=ranges)

    @classmethod
    def of(cls, record: Record) -> "Coverage | None":
        """What a generator's record holds; None where it was written before there was any, InputError for damage."""
        if KEY not in record.counts:
            return None
        try:
            return cls.model_validate(record.counts[KEY])
        except ValidationError:
            raise InputError(f"record: counts.{KEY} is not readable; restore the record as it was written.") from None

    @property
    def counts(self) -> dict[str, Any]:
        """As a record holds it."""
        return {KEY: self.model_dump(mode="json")}

    @property
    def images(self) -> int:
        """Number of training images."""
        return sum(number for _, number in self.cells)

    def __add__(self, other: "Coverage") -> "Coverage":
        """That of a generator trained on both."""
        kept = tuple(name for name in self.variables if name in other.variables)
        cells: Counter[tuple[str | None, ...]] = Counter()
        for one in (self, other):
            places = [one.variables.index(name) for name in kept]
            for cell, number in one.cells:
                cells[tuple(cell[place] for place in places)] += number
        ranges = {
            name: (
                min(one.ranges[name][0] for one in (self, other) if name in one.ranges),
                max(one.ranges[name][1] for one in (self, other) if name in one.ranges),
            )
            for name in {**self.ranges, **other.ranges}
        }
        return Coverage(variables=kept, cells=tuple(sorted(cells.items(), key=repr)), ranges=ranges)

    def number(self, preset: Preset, values: Mapping[str, Any]) -> int:
        """Training images that show these values.

        Args:
            preset: the domain.
            values: by covariate a level, a contrast group, or a number in its unit; a number outside the range of the
                training images is shown by none.
        """
        wanted: dict[int, str | None] = {}
        for name, value in values.items():
            if isinstance(value, float | int):
                low, high = self.ranges.get(name, (value + 1, value))
                if not low <= value <= high:
                    return 0
            if name in self.variables:
                wanted[self.variables.index(name)] = _group(preset, name, value)
        return sum(number for cell, number in self.cells if all(cell[at] == one for at, one in wanted.items()))


def _group(preset: Preset, name: str, value: Any) -> str | None:
    """The level or contrast group that a value of a covariate belongs to; a group is its own."""
    if value is None or isinstance(value, str):
        return value
    contrast = preset.contrasts.get(name)
    if contrast is None or contrast.threshold is None:
        return str(value)
    return contrast.first if value < contrast.threshold else contrast.second
