"""Where a document differs from the one that is derived: JSON and YAML by field, text by the heading above."""

import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

import yaml

from ..errors import shown
from ..yaml_files import UNREADABLE, Loader

__all__ = ["ABSENT", "card_differences", "differences", "front_matter"]

ABSENT = object()
"""Stands for a field that is not there."""


def card_differences(ours: bytes, theirs: bytes, of: str) -> list[str]:
    """Each difference of two cards without their last line, a sentence's part each.

    Args:
        ours: what is derived.
        theirs: what was found.
        of: where ours is from.
    """
    (front, body), (other, text) = map(_parts, (ours, theirs))
    if not theirs.startswith(b"---\n"):
        return ["what precedes its YAML was changed"]
    told = list(differences(front_matter(ours), front_matter(theirs), of)) if front != other else []
    if front != other and not told:
        told = ["the spelling of its YAML was changed"]
    return [*told, *(_body_differences(body, text) if body != text else ())]


def front_matter(card: bytes) -> Any:
    """The values in a card's YAML; None where it is none.

    Args:
        card: Markdown.
    """
    try:
        return yaml.load(_parts(card)[0], Loader)
    except UNREADABLE:
        return None


def differences(ours: Any, theirs: Any, of: str, path: str = "") -> Iterator[str]:
    """Each place at which two JSON values differ, as `configs[2].filters: is A where the records have B`.

    Args:
        ours: what is derived.
        theirs: what was found.
        of: where ours is from.
        path: of both.
    """
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for name in dict.fromkeys([*ours, *theirs]):
            key = name if isinstance(name, str) and re.fullmatch(r"[\w@:./=,-]{1,80}", name) else shown(name)
            place = f"{path}.{key}" if path else key
            yield from differences(ours.get(name, ABSENT), theirs.get(name, ABSENT), of, place)
    elif isinstance(ours, list) and isinstance(theirs, list):
        for number, (one, other) in enumerate(zip_longest(ours, theirs, fillvalue=ABSENT)):
            yield from differences(one, other, of, f"{path}[{number}]")
    elif ours is ABSENT:
        yield f"{path}: is none of {of}"
    elif theirs is ABSENT:
        yield f"{path}: is absent"
    elif ours != theirs or type(ours) is not type(theirs):
        yield f"{path or 'it'}: is {shown(theirs)} where {of} have {shown(ours)}"


def _body_differences(ours: str, theirs: str) -> list[str]:
    """Each stretch of lines that differs, named by the heading that it is under."""
    own, other = ours.split("\n"), theirs.split("\n")
    told, matcher = [], SequenceMatcher(None, own, other, autojunk=False)
    for kind, first, last, start, end in matcher.get_opcodes():
        if kind != "equal":
            before = [line for line in own[: first + 1] if line.startswith("#")] or ["the beginning"]
            found, expected = ("; ".join(lines) for lines in (other[start:end], own[first:last]))
            told.append(f"{before[-1].lstrip('# ')}: has {shown(found)} where the records have {shown(expected)}")
    return told


def _parts(card: bytes) -> tuple[str, str]:
    """The YAML of a card and what follows it."""
    _, _, rest = card.decode(errors="replace").partition("---\n")
    front, _, body = rest.partition("\n---\n")
    return front, body
