"""YAML that people write, read safely: plain values alone, of a file of bounded size, each value written once."""

from pathlib import Path

import yaml
from yaml.composer import Composer

__all__ = ["MAX_BYTES", "UNREADABLE", "Loader", "read_bytes", "reason"]

MAX_BYTES = 2**20
"""No file that a person writes is larger."""

UNREADABLE = (OSError, ValueError, RecursionError, yaml.YAMLError)
"""What reading a file, and loading what was read, can raise."""


class Loader(Composer, yaml.CSafeLoader):
    """No tag makes anything but plain values, and no alias lets a few lines stand for gigabytes.

    libyaml parses, which reads the card of a data set five times as fast and stops at a thousand levels.
    """

    def __init__(self, stream: str | bytes) -> None:
        yaml.CSafeLoader.__init__(self, stream)
        Composer.__init__(self)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """As PyYAML's, which calls it for every value."""
        if self.check_event(yaml.AliasEvent):
            mark = getattr(self.peek_event(), "start_mark", None)
            raise yaml.MarkedYAMLError(problem="it repeats a value by an alias; write the value out", problem_mark=mark)
        return super().compose_node(parent, index)


def read_bytes(path: Path) -> bytes:
    """The file as it stands; YAMLError for one that is larger than MAX_BYTES, and OSError or ValueError for no file."""
    # a pipe would be waited for
    if path.exists() and not path.is_file():
        raise yaml.YAMLError("it is not a file")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise yaml.YAMLError(f"it has more than {MAX_BYTES} bytes")
    return data


def reason(error: Exception) -> tuple[str, int | None]:
    """Why YAML cannot be read, in one line, and the number of the line at fault where it is known."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply", None
    if isinstance(error, OSError):
        return error.strerror or str(error), None
    problem, context = (getattr(error, name, None) for name in ("problem_mark", "context_mark"))
    # what ends too early is missed at the beginning of a line after it
    mark = context if problem is None or (context is not None and problem.column == 0) else problem
    told = [getattr(error, name, None) for name in ("context", "problem")]
    text = ", ".join(filter(None, told)) or str(error)
    return text.splitlines()[0], None if mark is None else mark.line + 1
