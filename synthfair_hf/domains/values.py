"""Values as data sets publish them, in the words of a schema: ages beyond a top code, sexes, views, labels, races.

    ">89", "90+", "85 or more"             90, 90, 85: the least age that the group can have
    "POSTEROANTERIOR", "pa", "AP SUPINE"   PA, PA, AP
    "LL", "left lateral"                   lateral
    "1.0", "0", "-1", ""                   present, absent, what the policy for uncertain labels says, absent
    "none", "Normal"                       of a finding its level that says the same, such as no_finding

What is none of these is returned as it stands, so that whoever parses it counts it. An age outside a schema's range
(411Y) becomes missing there; 0 is the age of a newborn, or unknown in a data set of adults (`readers.Reader.adults`).
"""

import re
from functools import lru_cache
from typing import Literal

from ..schema import ABSENT, PRESENT, Variable, spelling

__all__ = ["ABSENT", "NO_FINDING", "PRESENT", "Uncertain", "is_no_finding", "label", "published", "race", "view"]

NO_FINDING = "No Finding"
"""The label of an image without findings."""

NORMAL = frozenset(map(spelling, (NO_FINDING, "No Findings", "None", "Normal", "Healthy", "Negative")))
"""What a cell may call it, as `schema.spelling` compares them."""

Uncertain = Literal["missing", "positive", "negative"]
"""What an uncertain label counts as."""

_ABOVE = re.compile(r">\s*([0-9]{2,3})|(?:>=|≥)\s*([0-9]{2,3})|([0-9]{2,3})\s*(?:\+|or (?:more|over|older))", re.I)

_VIEWS = {
    **dict.fromkeys(("PA", "posteroanterior", "postero-anterior", "PA erect", "frontal PA"), "PA"),
    **dict.fromkeys(("AP", "anteroposterior", "antero-posterior", "AP supine", "AP erect", "AP horizontal"), "AP"),
    **dict.fromkeys(
        ("AP portable", "AP semi erect", "AP semi upright", "AP upright", "AP sitting", "frontal AP"), "AP"
    ),
    **dict.fromkeys(("L", "LL", "RL", "lat", "lateral", "left lateral", "right lateral", "xtable lateral"), "lateral"),
}
_VIEWS_BY_SPELLING = {spelling(text): name for text, name in _VIEWS.items()}

_RACES = ("white", "black", "asian")


def published(variable: Variable, text: str) -> str:
    """A cell of a variable, as `Variable.parse` reads it.

    Args:
        variable: ages are known by their unit, sex and view by their names, findings by their role.
        text: the cell.
    """
    text = text.strip()
    if variable.role == "finding" and is_no_finding(text) and variable.parse(text)[0] is None:
        same = [level for level in variable.levels if is_no_finding(level)]
        return same[0] if len(same) == 1 else text
    if variable.unit == "years" and (found := _ABOVE.fullmatch(text)):
        above, *least = found.groups()
        return str(int(above) + 1) if above else next(one for one in least if one)
    if variable.name.casefold() in ("sex", "gender"):
        return {"U": "unknown", "O": "other"}.get(text.upper(), text)
    if variable.name == "view":
        return view(text)
    return text


@lru_cache
def is_no_finding(text: str) -> bool:
    """Whether a label, a level or a cell of a finding says that there is none."""
    return spelling(text) in NORMAL


def view(text: str) -> str:
    """PA, AP or lateral, where the text says one of them; else the text itself."""
    return _VIEWS_BY_SPELLING.get(spelling(text), text.strip())


def label(text: str, uncertain: Uncertain) -> str:
    """PRESENT, ABSENT, or empty where missing; a label that a report does not mention is ABSENT.

    Args:
        text: 1, 0 or -1, whole or with a decimal, or empty.
        uncertain: what -1 counts as.
    """
    text = text.strip()
    number = text.removesuffix(".0")
    known = {"1": PRESENT, "0": ABSENT, "": ABSENT, "nan": ABSENT}
    if number == "-1":
        return {"missing": "", "positive": PRESENT, "negative": ABSENT}[uncertain]
    return known.get(number, text)


def race(text: str) -> str:
    """white, black or asian, from what American hospitals record; "other", or empty where it is not known."""
    plain = text.strip().casefold()
    if "unknown" in plain or plain in ("", "unable to obtain", "patient declined to answer", "patient refused"):
        return ""
    return next((name for name in _RACES if plain.startswith(name)), "other")
