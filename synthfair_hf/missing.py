"""What is unknown, by one rule: unknown in groups, missing in the cells of a table, refused as an identifier.

    is_missing(None), is_missing(float("nan")), is_missing(" N/A "), is_missing(pandas.NA)    True
    identifier(3), identifier(3.0), identifier("3"), identifier("3.0")                        "3"
    identifier("03")                                                                          "03"

A level that a schema calls by one of these words is that level: the schema is asked first.
"""

import re
import unicodedata
from functools import cache
from typing import Any

import numpy as np

__all__ = ["MISSING_WORDS", "bare_identifier", "identifier", "is_missing"]

MISSING_WORDS = frozenset(
    {
        *("", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>", "n/a", "na"),
        *("nan", "nat", "nil", "none", "null", "<null>", "undefined", "masked", "?", "-", "--", "---", ".", "n.a."),
        *("snan", "not a number", "#ref!", "#div/0!", "#value!", "#name?", "#num!", "#null!", "#", "###", "(null)"),
        *("unknown", "unk", "missing", "unspecified", "unreported", "unrecorded", "undetermined", "undisclosed"),
        *("unavailable", "not available", "not known", "not recorded", "not reported", "not specified", "not stated"),
        *("not applicable", "not given", "not provided", "not disclosed", "not documented", "not entered", "not asked"),
        *("not answered", "not collected", "not measured", "not determined", "no data", "no value", "no answer"),
        *("prefer not to say", "prefer not to answer", "declined to answer", "patient declined to answer"),
        *("unable to obtain", "withheld", "(empty)", "(blank)", "tbd", "to be determined"),
    }
)
"""Words for a value that is not known, in lower case: what spreadsheets, pandas, R, SQL and people write."""

_WHOLE = re.compile(r"([+-]?[0-9]+)\.0*")
_BRACKETS = re.compile(r"<([^<>]*)>")
_UNSEEN = frozenset(map(chr, (0x34F, 0x115F, 0x1160, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10))))
"""Characters that are drawn as nothing, though Unicode has them among letters, marks and symbols."""


def _bare(text: str) -> str:
    """What is compared of a word: in lower case, without separators, punctuation and brackets.

    Signs such as +, > and # are kept, because they mean something.
    """
    plain = _BRACKETS.sub(r"\1", unicodedata.normalize("NFKC", _visible(text)).casefold())
    return "".join(filter(_is_compared, plain))


@cache
def _is_compared(one: str) -> bool:
    """Whether a character is kept of a word: cached, as a table has many words of few characters."""
    return one == "#" or (unicodedata.category(one)[0] not in "PZC" and one not in "|`~\u2212")


def _visible(text: str) -> str:
    """A text without characters that are not seen, such as a byte order mark or a space without width."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        one for one in text if one.isspace() or (unicodedata.category(one) not in ("Cf", "Cc") and one not in _UNSEEN)
    )


_BARE_WORDS = frozenset(map(_bare, MISSING_WORDS))


def _plain(value: Any) -> Any:
    """A value as Python has it: of a scalar of pyarrow, of an array without dimensions, of text in bytes."""
    if hasattr(value, "as_py"):
        value = value.as_py()
    if isinstance(value, np.ndarray) and value.ndim == 0 and not isinstance(value, np.ma.core.MaskedConstant):
        value = value.item()
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else value


def is_missing(value: Any) -> bool:
    """Whether a value stands for one that is not known.

    Args:
        value: text, also in bytes, which is compared without regard to case, spaces, separators, brackets, punctuation
            and invisible characters; None; or a missing value of numpy, pandas or pyarrow, such as NaN, NaT, NA, null
            or a masked one. Anything else is known.
    """
    value = _plain(value)
    if value is None or isinstance(value, np.ma.core.MaskedConstant):
        return True
    if isinstance(value, str):
        bare = _bare(value)
        return bare in _BARE_WORDS or not bare.strip("#")
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

    A table with an empty cell makes 3.0 of 3, so that both are one patient. A leading zero is part of a name; what is
    not visible is none.

    Args:
        value: text or a number.
    """
    if is_missing(value):
        return None
    value = _plain(value)
    if isinstance(value, float | np.floating) and value.is_integer():
        return str(int(value))
    text = _visible(str(value)).strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def bare_identifier(name: str) -> str:
    """What two spellings of one identifier have in common: without case, leading zeros and what spaces are made of.

    Args:
        name: as `identifier` returns it.
    """
    bare = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    return bare.lstrip("0") if bare.isdecimal() else bare
