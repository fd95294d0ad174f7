"""What a covariate is: its name, kind, levels, unit, range, role and nature.

Covariates are encoded as one array per variable, always looked up by name: a continuous one as float32 in its own unit
(missing = NaN), a categorical one as int64 index into its levels (missing = -1). Then decode(encode(x)) = x for every
value that float32 can hold.
"""

import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from .errors import Checked, InputError, unknown
from .missing import is_missing

if TYPE_CHECKING:
    from datasets import Features

__all__ = [
    "ABSENT",
    "EMPTY",
    "MISSING_LEVEL",
    "PRESENT",
    "SPLITS",
    "STATES",
    "UNKNOWN",
    "AttributePredictor",
    "Predictions",
    "Schema",
    "Variable",
    "spelling",
]

Kind = Literal["continuous", "categorical"]
Role = Literal["protected", "finding", "acquisition", "other"]
Nature = Literal[
    "patient/demographic",
    "patient/anatomy",
    "patient/pathology",
    "external/device",
    "external/protocol",
    "external/site",
    "external/artefact",
]

SPLITS = {"train": 0.70, "validation": 0.15, "test": 0.15}
"""The splits, in order, and the share of patients or subjects in each by default."""

MISSING_LEVEL = -1
"""Index of a missing categorical value; a missing continuous value is NaN."""

PRESENT, ABSENT = "present", "absent"
"""Levels of what an image has or has not."""

STATES = {
    **dict.fromkeys(("1", "1.0", "present", "yes", "true"), PRESENT),
    **dict.fromkeys(("0", "0.0", "absent", "no", "false"), ABSENT),
}
"""What tables write for them, in lower case."""

EMPTY, UNKNOWN = "empty", "unknown"
"""Why a cell has no value where its author says so; every other reason is one of a cell that cannot be read."""


class Variable(Checked, BaseModel):
    """One covariate.

    `role` says how fairness research uses it (protected attribute, finding to predict, acquisition, or other: none of
    these); `nature` places it in the taxonomy of covariates of a radiograph, which separates the patient from
    everything external to the patient.
    `aliases` maps spellings found in sources to level names; `optional` variables may be absent from a source.
    `unobserved_at` names levels of the schema's site at which it is known of nobody.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    kind: Kind
    role: Role
    nature: Nature
    levels: tuple[str, ...] = ()
    unit: str | None = None
    range: tuple[float, float] | None = None
    aliases: dict[str, str] = {}
    optional: bool = False
    unobserved_at: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _as_stored(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what variables did not have at first and this one does not use: identities made from it stay."""
        found: dict[str, Any] = handler(self)
        return {name: value for name, value in found.items() if name != "unobserved_at" or value}

    @model_validator(mode="after")
    def _kind_is_complete(self) -> "Variable":
        if self.kind == "categorical" and (len(set(self.levels)) < 2 or len(set(self.levels)) != len(self.levels)):
            raise ValueError(f"{self.name}: a categorical variable needs two or more distinct levels")
        if self.kind == "continuous" and (self.range is None or self.unit is None or self.range[0] >= self.range[1]):
            raise ValueError(f"{self.name}: a continuous variable needs a unit and a range with low < high")
        return self

    @property
    def categorical(self) -> bool:
        """Whether values are levels."""
        return self.kind == "categorical"

    def _state(self, text: str) -> str | None:
        """PRESENT or ABSENT where these are the levels and the text means one of them, as 1 and 0 do."""
        return STATES.get(text.strip().casefold()) if set(self.levels) == {PRESENT, ABSENT} else None

    @property
    def bounds(self) -> tuple[float, float]:
        """Range of a continuous variable in its unit."""
        if self.range is None:
            raise TypeError(f"{self.name} is categorical and has levels, not a range")
        return self.range

    def canonical(self, value: object) -> object:
        """A value by its own name: the level of an alias, and None for what `missing` calls unknown.

        Args:
            value: a level name or a number; anything else is returned as it is.
        """
        if self.categorical and isinstance(value, str):
            value = self.aliases.get(value, value)
            value = value if value in self.levels else self._state(value) or value
            if value in self.levels:
                return value
        return None if is_missing(value) else value

    def encode_value(self, value: object, argument: str | None = None, known: bool = False) -> float:
        """One value as a number: in the unit, or the index of its level.

        Args:
            value: a level name, an alias or a number; None, NaN and words such as "unknown" are missing.
            argument: named by an error; the variable's name by default.
            known: refuse a missing value.

        Raises:
            InputError: an unknown level, no number, or one out of range.
        """
        if type(value) is float and not self.categorical and self.bounds[0] <= value <= self.bounds[1]:
            return value  # as most are, and NaN is not
        argument = argument or self.name
        given, value = value, self.canonical(value)
        if value is None and known:
            allowed = f"one of {', '.join(self.levels)}" if self.categorical else f"{self.unit} in {self._span}"
            word = f" ({given!r} says that nothing is known)" if isinstance(given, str) and given.strip() else ""
            raise InputError(f"{argument}: is missing; give {allowed}{word}.")
        if value is None:
            return MISSING_LEVEL if self.categorical else math.nan
        if self.categorical:
            if isinstance(value, str) and value in self.levels:
                return self.levels.index(value)
            raise unknown(argument, value, self.levels)
        low, high = self.bounds
        if isinstance(value, bool | str) or not isinstance(value, int | float | np.integer | np.floating):
            raise InputError(f"{argument}: {value!r} is not a number; give {self.unit} in {self._span}.")
        # compared as it is: not every integer fits a float
        if not low <= value <= high:
            text = "this number" if isinstance(value, int) and abs(value) > 10**300 else repr(value)
            raise InputError(f"{argument}: {text} is out of range; allowed: {low:g} to {high:g} {self.unit}.")
        return float(value)

    @property
    def _span(self) -> str:
        low, high = self.bounds
        return f"[{low:g}, {high:g}]"

    def encode(
        self, values: Sequence[object] | np.ndarray, argument: str | None = None, known: bool = False
    ) -> np.ndarray:
        """Values as an array `[B]`: float32 in the unit, or int64 level indices.

        Args:
            values: `B` values, as for `encode_value`.
            argument: named by an error; the variable's name by default.
            known: refuse missing values.

        Raises:
            InputError: a value that the variable cannot have.
        """
        dtype = np.int64 if self.categorical else np.float32
        encode = partial(self.encode_value, argument=argument, known=known)
        # a million rows hold a few different words, or none
        word = cache(encode)
        return np.array(
            [word(value) if value is None or type(value) is str else encode(value) for value in values], dtype=dtype
        )

    def decode(self, encoded: Iterable[Any]) -> list[Any]:
        """The inverse of `encode`: level names, or numbers in the unit; None where missing."""
        if self.categorical:
            levels = {MISSING_LEVEL: None, **dict(enumerate(self.levels))}
            return [levels[int(code)] for code in encoded]
        return [None if math.isnan(number) else float(number) for number in encoded]

    def parse(self, text: str) -> tuple[object, str | None]:
        """A cell of a source file as (value, reason it is missing).

        Levels and aliases are compared without regard to case and separators (`spelling`) where that leaves one level;
        one that is present or absent is read from STATES too, which its aliases may say otherwise.
        A variable in years is read from a DICOM age string too (053Y, 014M, 003W, 010D). A cell that `missing` calls
        unknown is EMPTY or UNKNOWN; one that cannot be read becomes missing with another reason, so that the caller
        counts it; nothing is clamped.
        """
        text = text.strip()
        if not text:
            return None, EMPTY
        if self.categorical:
            level = self.aliases.get(text, text)
            if level not in self.levels:
                level = _levels_by_spelling(self.levels, tuple(self.aliases.items())).get(spelling(text), text)
            if level not in self.levels:
                level = self._state(text) or text
            if level in self.levels:
                return level, None
            return None, UNKNOWN if is_missing(text) else f"level {text!r} outside the schema"
        if is_missing(text):
            return None, UNKNOWN
        try:
            number = self.number(text)
        except ValueError:
            return None, "not a number"
        low, high = self.bounds
        return (number, None) if low <= number <= high else (None, f"outside {low:g}-{high:g} {self.unit}")

    def number(self, text: str) -> float:
        """A number from its text, in years from a DICOM age string too; ValueError for what is none."""
        aged = _DICOM_AGE.fullmatch(text) if self.unit == "years" else None
        return int(aged[1]) / _PER_YEAR[aged[2].upper()] if aged else _number(text)


_DICOM_AGE, _PER_YEAR = (
    re.compile(r"([0-9]{1,3})([DWMY])", re.IGNORECASE),
    {"Y": 1, "M": 12, "W": 365.25 / 7, "D": 365.25},
)
_SEPARATORS = re.compile(r"(?<=[^\W\d_])[\s_\-]+(?=[^\W_])|(?<=\d)[\s_\-]+(?=[^\W\d_])")


def spelling(text: str) -> str:
    """What is compared of a level's name: letters in lower case, without spaces, `_` and `-` beside a letter.

    Between two numbers, and before the first, they mean something and stay.
    """
    plain = unicodedata.normalize("NFKC", text).translate(_DASHES)
    return _SEPARATORS.sub("", plain.strip()).casefold()


_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")


@lru_cache(maxsize=256)
def _levels_by_spelling(levels: tuple[str, ...], aliases: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """The level of each spelling that belongs to one level alone."""
    found: dict[str, set[str]] = {}
    for name, level in (*zip(levels, levels, strict=True), *aliases):
        found.setdefault(spelling(name), set()).add(level)
    return {name: one.pop() for name, one in found.items() if len(one) == 1}


class Schema(Checked, BaseModel):
    """An ordered set of variables. Order matters for display only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variables: tuple[Variable, ...]

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "Schema":
        if len(set(self.names)) != len(self.variables):
            raise ValueError(f"variable names must be distinct, got {', '.join(self.names)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names in display order."""
        return tuple(variable.name for variable in self.variables)

    def __getitem__(self, name: str) -> Variable:
        for variable in self.variables:
            if variable.name == name:
                return variable
        raise unknown("variable", name, self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __len__(self) -> int:
        return len(self.variables)

    def walk(self) -> Iterator[Variable]:
        """Variables in display order."""
        return iter(self.variables)

    @property
    def site(self) -> Variable | None:
        """The variable that says where an image was taken, where there is one."""
        return next((one for one in self.variables if one.nature == "external/site" and one.categorical), None)

    def may_lack(self, name: str, values: Mapping[str, Any]) -> bool:
        """Whether a variable is known of nobody at the site of these decoded values.

        Args:
            name: of the variable.
            values: of one row, by name.
        """
        return self.site is not None and values.get(self.site.name) in self[name].unobserved_at

    def subset(self, names: Iterable[str]) -> "Schema":
        """The schema of the named variables only, in this schema's order; InputError for an unknown name."""
        wanted = set(names)
        for name in wanted:
            self[name]
        return Schema(variables=tuple(variable for variable in self.variables if variable.name in wanted))

    def unobserved_in(self, table: Mapping[str, Any]) -> list[str]:
        """The variables that are known of nobody at any site of these rows.

        Args:
            table: values by name, one for every row or a sequence of one per row.
        """
        if self.site is None:
            return []
        given = table.get(self.site.name)
        values = [given] if isinstance(given, str) else given if isinstance(given, list | tuple) else []
        sites = {self.site.canonical(one) if isinstance(one, str) else None for one in values}
        return [one.name for one in self.walk() if sites and sites <= set(one.unobserved_at)]

    def needed(self, unneeded: Collection[str] = ()) -> str:
        """Which covariates are needed, and which may be left out, as an error ends with it.

        Args:
            unneeded: those that may be left out.
        """
        free = [name for name in self.names if name in unneeded]
        needed = ", ".join(name for name in self.names if name not in free) or "(none)"
        return f"needed: {needed}" + (f"; may be left out: {', '.join(free)}" if free else "")

    def encode(
        self, table: Mapping[str, Sequence[object]], argument: str = "covariates", unneeded: Collection[str] = ()
    ) -> dict[str, np.ndarray]:
        """Columns of values as encoded arrays `[B]` by name.

        Args:
            table: `B` values of every variable, by name, as for `Variable.encode_value`.
            argument: named by an error.
            unneeded: variables that whoever gave the table might have left out, as an error tells.

        Raises:
            InputError: a column is missing, unknown or of another length, or holds a value that is not allowed.
        """
        for name in table:
            if name not in self:
                raise unknown(argument, name, self.names)
        absent = [name for name in self.names if name not in table]
        if absent:
            needed = self.needed({*unneeded, *self.unobserved_in(table)})
            raise InputError(f"{argument}: {', '.join(absent)} not given; {needed}.")
        lengths = {name: len(table[name]) for name in self.names}
        if len(set(lengths.values())) > 1:
            raise InputError(f"{argument}: columns differ in length ({lengths}); give one value per row in each.")
        return {
            variable.name: variable.encode(table[variable.name], f"{argument}[{variable.name!r}]")
            for variable in self.variables
        }

    def parse(self, name: str, value: Any, argument: str, known: bool = False) -> Any:
        """A value of a variable as a level or a number, from text such as `female`, its alias `F`, or `61`.

        What `missing` calls unknown, such as `unknown`, is None.

        Args:
            name: of the variable.
            value: text, or a value, which is checked and returned as it is.
            argument: named by an error.
            known: refuse what is unknown.

        Raises:
            InputError: an unknown variable or level, or a number that can't be read or is out of range.
        """
        if name not in self:
            raise unknown(argument, name, self.names)
        given, value = value, self[name].canonical(value)
        if isinstance(value, str) and not self[name].categorical:
            with suppress(ValueError):
                value = self[name].number(value.strip())
        self[name].encode_value(given if value is None else value, f"{argument}[{name!r}]", known)
        return value

    def decode(self, encoded: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
        """Encoded arrays as columns of values, for the variables present."""
        return {name: self[name].decode(encoded[name]) for name in encoded}

    def features(self) -> "Features":
        """Columns of a data set: ClassLabel with the level names, or float32."""
        from datasets import ClassLabel, Features, Value

        return Features(
            {
                variable.name: ClassLabel(names=list(variable.levels)) if variable.categorical else Value("float32")
                for variable in self.variables
            }
        )


def _number(text: str) -> float:
    """Python would read 6_1 as 61."""
    return float(text.replace("_", " "))


Predictions = Mapping[str, np.ndarray]
"""Predictions of n images, by covariate: probabilities `[n, levels]`, or values `[n]` in its unit."""


class AttributePredictor(Protocol):
    """Whatever predicts covariates of images, such as the network `measure.predictors.AttributePredictor`."""

    # torch's tensors, which this module does without
    def predict(self, images: Any) -> Predictions:
        """Covariates of images, a tensor `[n, C, H, W]` in [0, 1]."""
        ...


class SavedPredictor(Protocol):
    """An attribute predictor that is loaded where it is needed, such as `measure.predictors.SavedPredictor`."""

    @property
    def revision(self) -> str:
        """Identity of its weights; raises InputError where there are none."""
        ...

    @property
    def access(self) -> Any:
        """Access to the images it was trained on, as `records.Access`; "open" where nothing is recorded of it."""
        ...

    @property
    def origins(self) -> Any:
        """The images it was trained on, as `training.origins.Origin`."""
        ...

    def load(self, schema: "Schema") -> Any:
        """The predictor, an `AttributePredictor`; InputError where it lacks one of the schema's covariates."""
        ...
