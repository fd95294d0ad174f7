"""Which generator a page's figures are of: the shipped one, an earlier edition of it, or another."""

import json
from pathlib import Path

from markupsafe import Markup

from .pages import code

__all__ = ["EDITIONS", "edition"]

EDITIONS: dict[str, list[str]] = json.loads((Path(__file__).parents[1] / "pretrained" / "editions.json").read_bytes())
"""The revisions of each shipped generator, the oldest first, today's last."""


def edition(revision: str) -> str:
    """The generator of a page's figures in words: its revision, and whether that is shipped today.

    Args:
        revision: Fingerprint of weights and configuration, as records hold it.

    Returns:
        A phrase in Markdown that follows "measured on" or begins with "Generator" elsewhere.
    """
    for name, revisions in EDITIONS.items():
        if revision == revisions[-1]:
            return Markup(f"generator revision `{revision}`, the shipped `{name}`")
        if revision in revisions:
            return Markup(
                f"generator revision `{revision}`, an earlier edition of `{name}`; today's is `{revisions[-1]}`"
            )
    return Markup(f"generator revision {code(revision)}, which is none of the shipped")
