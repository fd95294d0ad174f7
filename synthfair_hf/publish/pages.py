"""Pages and cards: a template of `templates/` filled by its caller from records.

HTML is escaped, Markdown is not; a name that a template prints and the caller did not give is an error, not a blank.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError, select_autoescape

from ..domains.source import totals
from ..errors import InputError

__all__ = ["render"]


def render(template: str, remedy: str = "the page prints it, so write the record anew", **context: Any) -> str:
    """The text of a template with these values.

    Args:
        template: its name, such as "report.html.jinja".
        remedy: what the error says to do where a value is missing.
        **context: the values.

    Raises:
        InputError: a value that the template prints and `context` does not hold.
    """
    try:
        return _ENVIRONMENT.get_template(template).render(**context)
    except UndefinedError as error:
        raise InputError(f"record: {error}; {remedy}.") from None


def _figure(row: Mapping[str, Any] | None) -> str:
    """The text mean [low, high] of a measured row, "-" where there is none."""
    if row is None or row["mean"] is None:
        return "-" if row is None else f"- (n = {row['n']})"
    return f"{row['mean']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"


def _number(value: float | None) -> str:
    """Three digits, "–" where there is no number."""
    return "–" if value is None else f"{value:.3g}"


def _listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _gaps(counts: Mapping[str, Any]) -> str:
    """What of a source was missing or left out, as a sentence; empty where nothing was, or nothing is recorded."""
    source = counts.get("source") or {}
    if "missing" not in source:
        return ""
    found = totals(source)
    words = [f"{name} of {n}" for name, n in found["missing"].items()]
    sentences = [
        f"Missing among {found['images']} images: {_listed(words)}." if words else "",
        f"{found['quarantined']} images were left out: unreadable, or showing nothing." if found["quarantined"] else "",
        *(f"No image of {name} {', '.join(levels)}." for name, levels in found.get("no image of", {}).items()),
    ]
    return " ".join(filter(None, sentences))


_ENVIRONMENT = Environment(
    loader=PackageLoader(__package__),
    autoescape=select_autoescape(["html.jinja"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters |= {
    "figure": _figure,
    "gaps": _gaps,
    "number": _number,
    "listed": _listed,
    "thousands": "{:,}".format,
    "percent": "{:.1%}".format,
}
