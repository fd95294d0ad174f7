"""How several words after a flag make its value: settings fields are marked with `Words`, or `Positional`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError

__all__ = [
    "LISTS",
    "LISTS_OF_NAMES",
    "METHODS",
    "NAMES",
    "NUMBERS",
    "PAIRS_OR_NONE",
    "SHARES",
    "STRENGTH",
    "VALUES",
    "VALUES_OR_NONE",
    "WEIGHTS",
    "Positional",
    "Words",
]


@dataclass(frozen=True)
class Positional:
    """Marks a field that is given without its name, on the command line alone, and written like `metavar`."""

    metavar: str


@dataclass(frozen=True)
class Words:
    """How the words after a flag make its value: `read(name of the field, words)`, written like `metavar`."""

    metavar: str
    read: Callable[[str, Sequence[str]], Any]
    may_be_empty: bool = False


def _assignments(argument: str, words: Sequence[str]) -> dict[str, str]:
    """The words sex=female age=61 as a dict."""
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise InputError(f"{argument}: {word!r} is not NAME=VALUE; write it as sex=female.")
        if name in values:
            raise InputError(f"{argument}: {name} is given twice; give it once.")
        values[name] = value
    return values


def _lists(argument: str, words: Sequence[str]) -> dict[str, list[str]]:
    """The words age=30,50 sex=male as lists by name."""
    return {name: text.split(",") for name, text in _assignments(argument, words).items()}


def _names(argument: str, words: Sequence[str]) -> list[str]:
    """The words A,B C as a list of names."""
    return [name.strip() for word in words for name in word.split(",")]


def _pairs(argument: str, words: Sequence[str]) -> list[list[str]]:
    """The words A,B C,D as pairs of names."""
    pairs = [word.split(",") for word in words]
    for word, pair in zip(words, pairs, strict=True):
        if len(pair) != 2 or not all(pair):
            raise InputError(f"{argument}: {word!r} is not A,B; write it as sex,finding.")
    return pairs


def _lists_of_names(argument: str, words: Sequence[str]) -> list[list[str]]:
    """The words A,B C,D,E as lists of names."""
    return [word.split(",") for word in words]


def _shares(argument: str, words: Sequence[str]) -> dict[str, dict[str, str]]:
    """The words sex=male:0.7,female:0.3 as shares by level, by name."""
    shares: dict[str, dict[str, str]] = {}
    for name, parts in _lists(argument, words).items():
        split = [part.rpartition(":") for part in parts]
        shares[name] = {level: share for level, _, share in split}
        if len(shares[name]) < len(parts) or not all(shares[name]):
            text = ",".join(parts)
            raise InputError(f"{argument}: {text!r} is not LEVEL:SHARE,...; write it as sex=male:0.7,female:0.3.")
    return shares


def _strength(argument: str, words: Sequence[str]) -> str | dict[str, str]:
    """The word 1.5 as it stands, or sex=1.5 finding=2 as a dict."""
    return words[0] if len(words) == 1 and "=" not in words[0] else _assignments(argument, words)


def _methods(argument: str, words: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The words erm jtt:steps=100,batch_size=8 as names with their settings."""
    methods = []
    for word in words:
        name, colon, text = word.partition(":")
        methods.append((name, _assignments(f"{argument}[{name!r}]", text.split(",") if colon else [])))
    return methods


VALUES = Words("NAME=VALUE", _assignments)
VALUES_OR_NONE = Words("NAME=VALUE", _assignments, may_be_empty=True)
NUMBERS = Words("NAME=X", _assignments)
WEIGHTS = Words("NAME=WEIGHT", _assignments)
STRENGTH = Words("X or NAME=X", _strength)
LISTS = Words("NAME=A,B", _lists)
SHARES = Words("NAME=A:SHARE,B:SHARE", _shares)
NAMES = Words("A,B", _names)
PAIRS_OR_NONE = Words("A,B", _pairs, may_be_empty=True)
LISTS_OF_NAMES = Words("A,B", _lists_of_names)
METHODS = Words("NAME[:SETTING=VALUE,...]", _methods)
