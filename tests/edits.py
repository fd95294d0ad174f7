"""Edits of files by hand, which a card's check must find."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["of_json"]


def of_json(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    """An edit of a directory: what `change` makes of its JSON file."""

    def edit(directory: Path) -> None:
        found = json.loads((directory / name).read_bytes())
        change(found)
        (directory / name).write_text(json.dumps(found, indent=2) + "\n")

    return edit
