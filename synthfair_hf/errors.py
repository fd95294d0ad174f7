"""Bad input is answered by one sentence: argument, value, allowed values, remedy."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

__all__ = [
    "Checked",
    "InputError",
    "MissingSetting",
    "counted",
    "invalid_settings",
    "invalid_value",
    "named_by_no_text",
    "printable",
    "reason",
    "remedy_of",
    "shown",
    "unknown",
    "with_article",
]

LONGEST = 120
"""Characters of a value that a sentence repeats; whoever gave more knows it by its beginning."""

MOST_NAMES = 60
"""Allowed names that a sentence lists; of more it has those that are most like the one given."""


class InputError(ValueError):
    """Input that the caller can correct; the command line prints its message alone, and exits with status 2."""

    def __init__(self, message: str = "") -> None:
        # a lone surrogate, as a path may hold, can be written to no file and no terminal
        super().__init__(str(message).encode("utf-8", "backslashreplace").decode())


class MissingSetting(InputError):
    """A setting that has no default is not given."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


def printable(text: str) -> str:
    """The text on one line: line breaks, control and bidirectional characters are escaped."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def shown(value: object) -> str:
    """A value as a sentence repeats it: its repr, on one line and not without end; of a model its kind alone."""
    if isinstance(value, BaseModel):
        return with_article(type(value).__name__)
    try:
        text = repr(value)
    except Exception:  # whatever it is, it is not what was asked for
        text = with_article(type(value).__name__)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 problem`, `2 problems`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def with_article(noun: str) -> str:
    """`a list`, `an int`, `a UNet2DConditionModel`."""
    # letters beside capitals are read one by one, and U is read as you
    spelt = len(noun) > 1 and noun[:2].isupper()
    return f"an {noun}" if noun[:1] in ("AEFHILMNORSX" if spelt else "aeioAEIO") else f"a {noun}"


def unknown(
    argument: str, value: object, allowed: Iterable[object], renamed: Mapping[str, str] | None = None
) -> InputError:
    """The error for a name that is not among the allowed ones, with the nearest of them suggested.

    Args:
        argument: where the name was given, such as `do` or `preset`.
        value: what was given.
        allowed: all names that are known.
        renamed: former names, each with the name that is suggested instead.
    """
    names, former = [str(name) for name in allowed], renamed or {}
    # dashes are in every flag, and would make every flag like another
    spelt = {name.lstrip("-"): name for name in (*former, *names)}
    text = (str(value) if isinstance(value, str | int) else "")[:LONGEST].lstrip("-")
    # a short name has most of its letters, in order, in many a long one
    alike = [name for name in spelt if 3 * abs(len(name) - len(text)) <= max(len(name), len(text))]
    nearest = (
        [name for name in spelt if text and name.startswith(text)]
        or get_close_matches(text, alike, n=1, cutoff=0.6)
        or [name for name in spelt if name.lower() == text.lower()]
    )
    near = spelt[nearest[0]] if nearest else ""
    hint = f"; did you mean {former.get(near, near)!r}?" if near else "."
    listed = ", ".join(names) or "(none)"
    if len(names) > MOST_NAMES:
        first = get_close_matches(text, names, n=MOST_NAMES // 5, cutoff=0)
        listed = f"{', '.join(first)} and {len(names) - len(first)} others"
    return InputError(f"{argument}: {shown(value)} is unknown; allowed: {listed}{hint}")


class Checked(BaseModel):
    """A pydantic model; however one is made, its first invalid field is one InputError."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise invalid_settings(error, type(self).__name__, type(self).model_fields) from None
        except TypeError as error:
            raise named_by_no_text(error, type(self).__name__) from None

    @classmethod
    def model_validate(cls, obj: Any, **settings: Any) -> Self:
        """As pydantic's, of a mapping by field."""
        try:
            return super().model_validate(obj, **settings)
        except ValidationError as error:
            raise invalid_settings(error, cls.__name__, cls.model_fields) from None


def named_by_no_text(error: TypeError, what: str) -> Exception:
    """The error of settings in which a model, that pydantic makes by keywords, is given by other keys than text.

    Args:
        error: raised by a settings model; returned where it is another.
        what: the settings as a whole.
    """
    if "keywords must be strings" not in str(error):
        return error
    return InputError(f"{what}: a field is named by no text; give its fields by name.")


def invalid_settings(error: ValidationError, what: str, fields: Mapping[str, FieldInfo]) -> InputError:
    """The first error of settings that pydantic found invalid, as one sentence.

    Args:
        error: raised by a settings model.
        what: the settings as a whole, such as `benchmark`.
        fields: of the model, by name.
    """
    first = error.errors()[0]
    # of a union pydantic names the member too
    where = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
    if first["type"] == "extra_forbidden":
        return unknown(what, where, fields)
    if first["type"] == "missing":
        return MissingSetting(f"{what}: {where} is not given; give it.", where)
    field = fields.get(str(first["loc"][0])) if first["loc"] else None
    kind: Any = None if field is None else Annotated[field.annotation, *field.metadata, None]
    return invalid_value(where or what, dict(first), kind)


def reason(error: Exception, what: str, fields: Mapping[str, FieldInfo]) -> str:
    """Why a file could not be read, in one line of this package's words and without a full stop.

    Args:
        error: raised while it was read.
        what: is in it, such as `record`.
        fields: of the model, by name.
    """
    if not isinstance(error, ValidationError):
        return (str(error).splitlines() or [type(error).__name__])[0]
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"invalid JSON: {first['ctx']['error']}"
    return str(invalid_settings(error, what, fields)).rstrip(".")


def invalid_value(argument: str, found: Mapping[str, Any], kind: Any = None) -> InputError:
    """One error of pydantic's as one sentence in this package's words.

    Args:
        argument: where the value was given.
        found: one of `ValidationError.errors()`.
        kind: the annotation of the argument, by which the allowed range is told.
    """
    reason = found.get("ctx", {}).get("error")
    if isinstance(reason, InputError):
        return reason
    if reason is not None:
        return InputError(f"{argument}: {reason}.")
    choices = [name for part in _parts(kind) if get_origin(part) is Literal for name in get_args(part)]
    if found["type"] == "literal_error" and choices:
        return unknown(argument, found["input"], choices)
    return InputError(f"{argument}: {shown(found['input'])} is invalid; {_remedy(found, kind)}.")


def remedy_of(kind: Any) -> str:
    """`give a whole number from 1 to 8`, of the annotation of a number."""
    return f"give {_range(dict(_limits(kind)), 'float' not in str(kind))}"


LIMITS = {"ge": "greater_than_equal", "gt": "greater_than", "le": "less_than_equal", "lt": "less_than"}


def _remedy(found: Mapping[str, Any], kind: Any) -> str:
    problem, context = found["type"], found.get("ctx", {})
    if problem.startswith(("int_", "float_")) or problem in (*LIMITS.values(), "finite_number"):
        limits = {**{name: context[name] for name in LIMITS if name in context}, **dict(_limits(kind))}
        whole = all(isinstance(limit, int) for limit in limits.values()) and "float" not in str(kind)
        return f"give {_range(limits, problem.startswith('int_') or whole)}"
    if problem in ("string_type", "path_type"):
        return "give a path" if problem == "path_type" else "give text"
    if problem in ("too_short", "too_long"):
        least, most = context.get("min_length"), context.get("max_length")
        return f"give at least {least}" if problem == "too_short" else f"give at most {most}"
    if problem.startswith("bool_"):
        return "give true or false"
    if problem in ("model_type", "is_instance_of", "dataclass_type", "model_attributes_type"):
        return f"give a {str(context.get('class_name') or context.get('class')).rpartition('.')[2]}"
    text = found["msg"].replace("Input should be", "give").replace("valid dictionary", "mapping")
    return text[0].lower() + text[1:].rstrip(".")


def _parts(kind: Any) -> list[Any]:
    """The annotation, and what it is made of outside of collections."""
    if get_origin(kind) is Annotated or get_origin(kind) in (Union, UnionType):
        return [kind, *(part for one in get_args(kind) for part in _parts(one))]
    return [kind]


def _limits(kind: Any) -> Iterable[tuple[str, Any]]:
    for part in _parts(kind):
        for one in (part, *getattr(part, "metadata", ())):
            yield from ((name, getattr(one, name)) for name in LIMITS if getattr(one, name, None) is not None)


def _range(limits: Mapping[str, Any], whole: bool) -> str:
    """`a whole number from 1 to 8`, `a number above 0 and below 1`."""
    ends = dict(limits)
    if whole:
        # whole numbers have a first and a last one
        ends |= {"ge": ends.pop("gt") + 1} if "gt" in ends else {}
        ends |= {"le": ends.pop("lt") - 1} if "lt" in ends else {}
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    parts = [f"{word} {ends[name]}" for name, word in words.items() if name in ends]
    text = (" " if {"ge", "le"} == set(ends) else " and ").join(parts)
    # a number with one end
    alone = " on" if set(ends) == {"ge"} else ""
    return f"{'a whole' if whole else 'a finite'} number {text}{alone}".rstrip()
