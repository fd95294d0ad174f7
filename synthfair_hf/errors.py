"""Bad input is answered by one sentence: argument, value, allowed values, remedy."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from pydantic import ValidationError

__all__ = ["InputError", "invalid_settings", "unknown"]


class InputError(ValueError):
    """Input that the caller can correct; the command line prints its message alone, and exits with status 2."""


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
    text, names, former = str(value), [str(name) for name in allowed], renamed or {}
    nearest = (
        [name for name in names if text and name.startswith(text)]
        or get_close_matches(text, [*names, *former], n=1, cutoff=0.5)
        or [name for name in names if name.lower() == text.lower()]
    )
    hint = f"; did you mean {former.get(nearest[0], nearest[0])!r}?" if nearest else "."
    return InputError(f"{argument}: {value!r} is unknown; allowed: {', '.join(names) or '(none)'}{hint}")


def invalid_settings(error: ValidationError, what: str, fields: Iterable[str]) -> InputError:
    """The first error of settings that pydantic found invalid, as one sentence.

    Args:
        error: raised by a settings model.
        what: the settings as a whole, such as `benchmark`.
        fields: their names.
    """
    first = error.errors()[0]
    if isinstance(reason := first.get("ctx", {}).get("error"), InputError):
        return reason
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return unknown(what, where, fields)
    if first["type"] == "missing":
        return InputError(f"{what}: {where} is not given; give it.")
    return InputError(f"{where}: {first['input']!r} is invalid: {first['msg']}.")
