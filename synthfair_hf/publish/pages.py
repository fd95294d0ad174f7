"""Pages and cards: a template of `templates/` filled by its caller from records.

What a template prints is text, never markup: HTML and Markdown are escaped alike, so that a title, a licence or a name
of somebody else's record cannot bring a script, a link or a table of its own onto our pages.

    {{ value }}          text, anywhere in a sentence, a heading or a cell
    {{ value | code }}   a code span
    {{ value | line }}   inside a fenced block, where nothing is escaped: one line, so that it cannot end the block

A name that a template prints and the caller did not give is an error, not a blank.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined, UndefinedError, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from ..domains.source import totals
from ..errors import InputError

__all__ = ["code", "markdown", "render"]

_ACTIVE = re.compile(
    r"(?P<interval>\[[-+\d\s.,e]*\](?![(\[:]))"  # [0.1, 0.3] is no link
    r"|&(?=[#A-Za-z]|$)|<(?=[A-Za-z/!?]|$)"  # an entity, a tag; `draw < 0.9` is neither
    r"|^[#>=]|^[-+](?=[\s+-])|(?P<number>^\d{1,9})[.)](?=\s|$)"  # what begins a block
    r"|#(?=[#\s]*$)"  # what ends a heading
    r"|[`*\\|~$\[\]]|(?<![^\W_])_|_(?![^\W_])"  # what marks a span or a cell; no_finding is one word
    r"|:(?=//)|(?<=www)\.|(?<=\w)@(?=\w)",  # what becomes a link by itself
    re.IGNORECASE,
)
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, marks that turn the direction of what is written around them, and halves of characters."""
_NAMED = {"<": "&lt;", "&": "&amp;"}


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


def markdown(value: object) -> str:
    """A value as text of a Markdown page, on one line: whatever would be Markdown or HTML in it is shown as it is.

    Args:
        value: anything; markup that this module or a template made is left alone.
    """
    if hasattr(value, "__html__"):
        return Markup(value)
    text = str(line(value))
    begun = text.lstrip()
    return Markup(" " * (len(text) - len(begun)) + _ACTIVE.sub(_inert, begun))


def code(value: object) -> str:
    """A value as a code span of a Markdown page, in a table or outside.

    Args:
        value: anything.
    """
    text = str(line(value)).strip()
    if text and not re.search("[`|<]", text):
        return Markup(f"`{text}`")
    # no backslash or entity is read inside backticks
    return Markup(f"<code>{''.join(one if one.isalnum() or one == ' ' else _entity(one) for one in text)}</code>")


def line(value: object) -> str:
    """A value as one line without control characters, for a fenced block.

    Args:
        value: anything.
    """
    return Markup(_INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", re.sub(r"\s+", " ", str(value))))


def _inert(found: re.Match[str]) -> str:
    kept = found["interval"] or found["number"] or ""
    return kept + "".join(map(_entity, found[0][len(kept) :]))


def _entity(character: str) -> str:
    return _NAMED.get(character) or f"&#{ord(character)};"


@pass_context
def _printed(context: Context, value: object) -> object:
    """What `{{ value }}` prints; the environment escapes HTML itself."""
    if isinstance(value, Undefined) or not (context.name or "").endswith(".md.jinja"):
        return value
    return markdown(value)


def _figure(row: Mapping[str, Any] | None) -> str:
    """The text mean [low, high] of a measured row, "-" where there is none."""
    if row is None or row["mean"] is None:
        return Markup("-" if row is None else f"- (n = {markdown(row['n'])})")
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


def _cells(values: Iterable[object]) -> str:
    """Values as cells of one row of a Markdown table."""
    return Markup(" | ").join(markdown(value) for value in values)


def _shell(value: object) -> str:
    """A value as one word of a shell's command line, inside a fenced block."""
    return Markup(shlex.quote(str(line(value))))


_ENVIRONMENT = Environment(
    loader=PackageLoader(__package__),
    autoescape=True,
    finalize=_printed,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters |= {
    "cells": _cells,
    "code": code,
    "figure": _figure,
    "gaps": _gaps,
    "line": line,
    "number": _number,
    "listed": _listed,
    "shell": _shell,
    "thousands": "{:,}".format,
    "percent": "{:.1%}".format,
}
