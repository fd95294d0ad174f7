"""Words of the command line as values; what a word should have been is told by the name of its flag.

sex=female age=61   ->  assignments        A,B  ->  pair        male:0.7,female:0.3  ->  shares
"""

from .errors import InputError

__all__ = ["assignments", "number", "numbers", "pair", "shares"]


def assignments(argument: str, pairs: list[str]) -> dict[str, str]:
    """NAME=VALUE words as a dict."""
    values: dict[str, str] = {}
    for word in pairs:
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise InputError(f"{argument}: {word!r} is not NAME=VALUE; write it as sex=female.")
        if name in values:
            raise InputError(f"{argument}: {name} is given twice; give it once.")
        values[name] = value
    return values


def number(argument: str, word: str) -> float:
    """A number."""
    try:
        return float(word)
    except ValueError:
        raise InputError(f"{argument}: {word!r} is not a number; give one, such as 0.5.") from None


def numbers(argument: str, words: list[str] | None) -> float | dict[str, float] | None:
    """None, one number, or NAME=NUMBER words as a dict."""
    if words is None:
        return None
    try:
        if len(words) == 1 and "=" not in words[0]:
            return float(words[0])
        return {name: float(value) for name, value in assignments(argument, words).items()}
    except ValueError:
        raise InputError(f"{argument}: {' '.join(words)!r} is not a number; give 1.5, or sex=1.5 finding=2.") from None


def pair(word: str) -> tuple[str, str]:
    """A,B as a pair of names."""
    one, comma, other = word.partition(",")
    if not comma or not one or not other:
        raise InputError(f"--pairs: {word!r} is not A,B; write it as sex,finding.")
    return one, other


def shares(text: str) -> dict[str, float]:
    """LEVEL:SHARE,LEVEL:SHARE as a dict."""
    found: dict[str, float] = {}
    for part in text.split(","):
        level, _, share = part.rpartition(":")
        if not level or level in found:
            raise InputError(f"--target: {text!r} is not LEVEL:SHARE,...; write it as sex=male:0.7,female:0.3.")
        found[level] = number("--target", share)
    return found
