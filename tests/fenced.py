"""The fenced blocks of a page: what is in them, and whether they run as they stand and print what the page says.

- `bash` is given to bash as it stands.
- `python` is executed; all such blocks of a page share their names, as in one interpreter.
- `text` is what the block before printed: its standard output, word for word, where a line `...` stands for any number
  of lines, and a number with a point for one that is at most TOLERANCE away, as other processors round otherwise.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from warm import commands

__all__ = ["ROOT", "TOLERANCE", "Block", "blocks", "check_printed", "run", "run_bash"]

ROOT = Path(__file__).parents[1]
TOLERANCE = 0.1
NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.])")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    code: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in order; of all languages if none is given."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    found = [Block(token.info.strip(), token.content) for token in tokens if token.type == "fence"]
    return [block for block in found if not languages or block.language in languages]


def run(page: Path, environment: Mapping[str, str] = os.environ, warm: bool = True) -> dict[str, Any]:
    """Run the blocks of a page, in order, in the working directory; the names that its Python leaves."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = None
    for language, code in blocks(page):
        if language == "bash":
            printed = run_bash(code, environment, warm)
        elif language == "python":
            with redirect_stdout(StringIO()) as out:
                exec(compile(code, page.name, "exec"), names)
            printed = out.getvalue()
        elif language == "text":
            assert printed is not None, f"{page.name}: nothing was printed before\n{code}"
            check_printed(code, printed)
    return names


def run_bash(code: str, environment: Mapping[str, str], warm: bool = True) -> str:
    """What bash prints of a block, with the commands of this environment; AssertionError where it fails.

    Commands that are not `warm` import their libraries themselves, and so show what they forget to.
    """
    variables = {**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    paths = [str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]
    if warm:
        paths.insert(0, str(commands(variables)))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        capture_output=True,
        text=True,
        env={**variables, "PATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr[-2000:]}"
    return done.stdout


def check_printed(told: str, printed: str) -> None:
    """That a block of a page is what was printed; AssertionError shows both."""
    lines = [" ".join(line.split()) for line in told.strip().splitlines()]
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else r"(\d+\.\d+)".join(map(re.escape, NUMBER.split(line))) + r"\n"
        for line in lines
    )
    text = "".join(" ".join(line.split()) + "\n" for line in printed.strip().splitlines())
    found = re.fullmatch(pattern, text)
    assert found, f"the page says\n{told}\nwhat is printed is\n{printed}"
    expected = [float(number) for line in lines if line != "..." for number in NUMBER.findall(line)]
    wrong = [
        (one, other)
        for one, other in zip(expected, map(float, found.groups()), strict=True)
        if abs(one - other) > TOLERANCE
    ]
    assert not wrong, f"of the page's numbers {wrong} differ from what is printed:\n{printed}"
