"""Arguments of public functions, checked by their annotations before the body runs.

    @checked
    def make(output_dir: str | Path, seed: Seed = 0, access: Access = "unknown"): ...

refuses a seed of -1, a directory with a NUL and access "all" in one sentence each. numpy's numbers are numbers; text is
none, and neither is True. What is checked where it is used, such as columns of numbers, is passed on as it is.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache, wraps
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from .errors import InputError, invalid_value, shown

__all__ = [
    "Count",
    "Fraction",
    "Guidance",
    "NoiseLevel",
    "PositiveFraction",
    "Replicates",
    "Seed",
    "Size",
    "Sizes",
    "check_fields",
    "checked",
    "usable_path",
]

P = ParamSpec("P")
T = TypeVar("T")

Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""Of random numbers."""

Count = Annotated[int, Field(ge=1, lt=2**31)]
"""How many of something there are to be."""

Replicates = Annotated[int, Field(ge=0, le=100_000)]
"""Of a bootstrap or a permutation test, whose figures are all held at once."""

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A share, or a threshold of probabilities."""

PositiveFraction = Annotated[float, Field(gt=0, le=1)]
"""A share that is not 0."""

Size = Annotated[int, Field(ge=1, le=2**16)]
"""Of an image or a network, along one dimension."""

Sizes = Annotated[Sequence[Size], Field(min_length=1)]
"""Of the layers of a network, one or more."""

Guidance = Annotated[float, Field(ge=0, le=float(np.finfo(np.float32).max))]
"""A guidance scale that float32 can hold."""

NoiseLevel = Annotated[float, Field(ge=1e-3, le=1)]
"""At and below which a change acts; 1 is pure noise."""


def usable_path(argument: str, value: str | Path) -> None:
    """Raise InputError for what no file can have as its path: empty, with a NUL, too long, or a link to itself."""
    text = str(value)
    if not text.strip():
        raise InputError(f"{argument}: {shown(text)} is no path; give one.")
    if "\0" in text:
        raise InputError(f"{argument}: {shown(text)} holds a NUL character; leave it out.")
    try:
        os.stat(text)
    except UnicodeEncodeError:
        raise InputError(f"{argument}: {shown(text)} holds what no file name can; give another path.") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{argument}: {shown(text)} is too long for a path; give a shorter one.") from None
        if error.errno == errno.ELOOP:
            raise InputError(f"{argument}: {shown(text)} is a symbolic link to itself; give another path.") from None


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """The function, whose arguments are checked by their annotations.

    Checked are numbers, text, paths, choices, instances of classes and protocols, and collections of those; an Iterable
    becomes a list. Not checked are columns of numbers, which may be arrays, and what is annotated as Any.
    """
    own = signature(function)
    several = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    names = tuple(name for name, one in own.parameters.items() if one.kind not in several)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        given = own.bind(*args, **kwargs)
        given.arguments |= _checked(_kinds(function, names), given.arguments)
        return function(*given.args, **given.kwargs)

    return call


def check_fields(instance: Any) -> None:
    """Check the fields of a dataclass by their annotations, as `checked` does arguments."""
    holder: Any = type(instance)
    kinds = _kinds(holder, tuple(one.name for one in fields(instance)))
    _checked(kinds, {name: getattr(instance, name) for name in kinds})


@cache
def _kinds(holder: Any, names: tuple[str, ...]) -> dict[str, TypeAdapter[Any]]:
    """By name, what checks the values of that name."""
    hints = get_type_hints(holder, include_extras=True)
    settings = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    return {
        name: TypeAdapter(_refined(name, hints[name]), config=settings)
        for name in names
        if name in hints and _is_checked(hints[name])
    }


def _checked(kinds: Mapping[str, TypeAdapter[Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(name, kinds[name], value) for name, value in given.items() if name in kinds}


def _value(name: str, adapter: TypeAdapter[Any], value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    # a column may come as an array, which is no Sequence to pydantic
    is_column = get_origin(adapter._type) is Sequence and getattr(value, "ndim", 0) == 1
    try:
        found = adapter.validate_python(value.tolist() if is_column else value)
    except ValidationError as error:
        # of the alternatives of a union, that which got furthest
        first = max(error.errors(), key=lambda one: (len(one["loc"]), "ctx" in one))
        place = "".join(f"[{part!r}]" for part in first["loc"] if _is_in(part, value))
        raise invalid_value(f"{name}{place}", dict(first), adapter._type) from None
    # an iterator can be read once
    return found if is_column or isinstance(value, Iterator) else value


def _is_in(part: Any, value: Any) -> bool:
    """Whether a part of a place is one of the value's own, and not pydantic's name of an alternative."""
    return isinstance(part, int) or (isinstance(value, Mapping) and part in value)


def _is_checked(kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _is_checked(parts[0])
    if origin in (Union, UnionType):
        return all(map(_is_checked, parts))
    if origin in (Sequence, Iterable, list, tuple):
        # bare numbers may come as an array
        return all(_is_checked(part) and part not in (int, float) for part in parts if part is not Ellipsis)
    # Any is a type from Python 3.11 on
    return origin in (Literal, Mapping, dict) or (isinstance(kind, type) and kind is not Any)


def _refined(name: str, kind: Any) -> Any:
    """The annotation as pydantic is to check it: paths by `usable_path`, text that may stand for one included."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return Annotated[_refined(name, parts[0]), *parts[1:]]
    if origin in (Union, UnionType):
        either: Any = Union[tuple(part if part is str else _refined(name, part) for part in parts)]  # noqa: UP007
        return Annotated[either, _path_check(name)] if Path in parts else either
    if origin in (Sequence, list):
        part: Any = _refined(name, parts[0])
        sequence: Any = Sequence
        return sequence[part]
    if origin is Iterable:
        # also lists of lists, as JSON has them
        item: Any = Annotated[parts[0], Field(strict=False)]
        return Annotated[list[item], Field(strict=False)]
    if origin in (Mapping, dict):
        values: Any = (
            _refined(name, parts[1]) if _is_checked(parts[1]) and get_origin(parts[1]) is not Sequence else Any
        )
        mapping: Any = Mapping
        return mapping[str, values]
    if kind is Path:
        return Annotated[Path, _path_check(name)]
    return kind if kind in PLAIN or not isinstance(kind, type) else Annotated[Any, _instance_check(name, kind)]


PLAIN = (str, int, float, bool, NoneType)


def _path_check(name: str) -> AfterValidator:
    def check(value: Any) -> Any:
        if isinstance(value, str | Path):
            usable_path(name, value)
        return value

    return AfterValidator(check)


def _instance_check(name: str, kind: type) -> AfterValidator:
    # a protocol says what its instances have
    members = (
        [one for one in (*vars(kind), *kind.__annotations__) if not one.startswith("_")] if _is_protocol(kind) else []
    )

    def check(value: Any) -> Any:
        fits = (
            all(hasattr(type(value), one) or one in dir(value) for one in members)
            if members
            else isinstance(value, kind)
        )
        if not fits:
            raise InputError(f"{name}: {shown(value)} is invalid; give a {kind.__name__}.")
        return value

    return AfterValidator(check)


def _is_protocol(kind: type) -> bool:
    return bool(getattr(kind, "_is_protocol", False))
