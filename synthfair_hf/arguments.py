"""Arguments of public functions, checked by their annotations before the body runs.

    @checked
    def make(output_dir: str | Path, seed: Seed = 0, access: Access = "unknown"): ...

refuses a seed of -1, a directory with a NUL and access "all" in one sentence each. numpy's numbers are numbers; text is
none, and neither is True. What is checked where it is used, such as columns of numbers, is passed on as it is.
"""

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from .errors import InputError, invalid_value, shown

__all__ = ["Count", "Fraction", "Guidance", "Seed", "checked", "usable_path"]

P = ParamSpec("P")
T = TypeVar("T")

Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""Of random numbers."""

Count = Annotated[int, Field(ge=1, lt=2**31)]
"""How many of something there are to be."""

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A share, or a threshold of probabilities."""

Guidance = Annotated[float, Field(ge=0, le=float(np.finfo(np.float32).max))]
"""A guidance scale that float32 can hold."""


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

    Checked are numbers, text, paths, choices, instances of classes, and sequences and mappings of those; not columns
    of numbers, which may be arrays, and not what is annotated as Any or by a protocol.
    """
    own = signature(function)

    @cache
    def adapters() -> dict[str, TypeAdapter[Any]]:
        hints = get_type_hints(function, include_extras=True)
        several = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
        kinds = {name: hints[name] for name, one in own.parameters.items() if name in hints and one.kind not in several}
        return {name: _adapter(name, kind) for name, kind in kinds.items() if _is_checked(kind)}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        given = own.bind(*args, **kwargs)
        for name, adapter in adapters().items():
            if name in given.arguments:
                given.arguments[name] = _value(name, adapter, given.arguments[name])
        return function(*given.args, **given.kwargs)

    return call


def _adapter(name: str, kind: Any) -> TypeAdapter[Any]:
    settings = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    annotation: Any = Annotated[_refined(name, kind), None]
    return TypeAdapter(annotation, config=settings)


def _value(name: str, adapter: TypeAdapter[Any], value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        # of the alternatives of a union, that which got furthest
        first = max(error.errors(), key=lambda one: (len(one["loc"]), "ctx" in one))
        place = "".join(f"[{part!r}]" for part in first["loc"] if _is_in(part, value))
        raise invalid_value(f"{name}{place}", dict(first), adapter._type) from None
    return value


def _is_in(part: Any, value: Any) -> bool:
    """Whether a part of a place is one of the value's own, and not pydantic's name of an alternative."""
    return isinstance(part, int) or (isinstance(value, Mapping) and part in value)


def _is_checked(kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _is_checked(parts[0])
    if origin in (Union, UnionType):
        return all(map(_is_checked, parts))
    if origin in (Sequence, list, tuple):
        # bare numbers may come as an array
        return all(_is_checked(part) and part not in (int, float) for part in parts if part is not Ellipsis)
    if origin in (Mapping, dict):
        return parts[0] is str and (parts[1] is Any or _is_checked(parts[1]))
    return origin is Literal or (isinstance(kind, type) and not getattr(kind, "_is_protocol", False))


def _refined(name: str, kind: Any) -> Any:
    """The annotation as pydantic is to check it: paths by `usable_path`, text that may stand for one included."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        either: Any = Union[tuple(part if part is str else _refined(name, part) for part in parts)]  # noqa: UP007
        return Annotated[either, _path_check(name)] if Path in parts else either
    if origin in (Sequence, list):
        part: Any = _refined(name, parts[0])
        sequence: Any = Sequence
        return sequence[part]
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
    def check(value: Any) -> Any:
        # pydantic would build a model of a mapping
        if not isinstance(value, kind):
            raise InputError(f"{name}: {shown(value)} is invalid; give a {kind.__name__}.")
        return value

    return AfterValidator(check)
