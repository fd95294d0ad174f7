"""What is unknown, by one rule: unknown in groups, missing in the cells of a table, refused as an identifier.

    is_missing(None), is_missing(float("nan")), is_missing(" N/A "), is_missing(pandas.NA)    True
    identifier(3), identifier(3.0), identifier("3"), identifier("3.0")                        "3"
    identifier("03")                                                                          "03"

A level that a schema calls by one of these words is that level: the schema is asked first.
"""

import re
from typing import Any

import numpy as np

__all__ = ["MISSING_WORDS", "identifier", "is_missing"]

MISSING_WORDS = frozenset(
    {
        *("", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>", "n/a", "na"),
        *("nan", "nat", "nil", "none", "null", "<null>", "undefined", "masked", "?", "-", "--", "---", ".", "n.a."),
        *("unknown", "unk", "missing", "unspecified", "unreported", "unrecorded", "undetermined"),
        *("not available", "not known", "not recorded", "not reported", "not specified", "not applicable"),
    }
)
"""Words for a value that is not known, in lower case: what spreadsheets, pandas, R, SQL and people write."""

_WHOLE = re.compile(r"([+-]?[0-9]+)\.0*")


def is_missing(value: Any) -> bool:
    """Whether a value stands for one that is not known.

    Args:
        value: text, which is compared without regard to case and surrounding spaces; None; or a missing value of numpy
            or pandas, such as NaN, NaT, NA or a masked one. Anything else is known.
    """
    if value is None or isinstance(value, np.ma.core.MaskedConstant):
        return True
    if isinstance(value, str):
        return " ".join(value.casefold().replace("_", " ").split()) in MISSING_WORDS
    if isinstance(value, bool | np.bool_):
        return False
    try:
        unequal = value != value
    except ArithmeticError:  # a signalling NaN
        return True
    # NaN and NaT differ from themselves; pandas.NA answers every question with itself
    return unequal is value or (isinstance(unequal, bool | np.bool_) and bool(unequal))


def identifier(value: Any) -> str | None:
    """The name of a patient or subject as text, the same for `3` and `3.0`; None where it is missing.

    A table with an empty cell makes 3.0 of 3, so that both are one patient. A leading zero is part of a name.

    Args:
        value: text or a number.
    """
    if is_missing(value):
        return None
    if isinstance(value, float | np.floating) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text
