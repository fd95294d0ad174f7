"""Bad input is answered by one sentence: argument, value, allowed values, remedy."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["InputError", "unknown"]


class InputError(ValueError):
    """Something the caller can mend; the command line prints its message and nothing else."""


def unknown(argument: str, value: object, allowed: Iterable[object]) -> InputError:
    """The error for a name that is not among the allowed ones, with the nearest of them suggested."""
    names = [str(name) for name in allowed]
    nearest = get_close_matches(str(value), names, n=1, cutoff=0.5) or [
        name for name in names if name.lower() == str(value).lower()
    ]
    hint = f"; did you mean {nearest[0]!r}?" if nearest else "."
    return InputError(f"{argument}: {value!r} is unknown; allowed: {', '.join(names) or '(none)'}{hint}")
