"""The page on reliability names thirty faults, and every test that it names is there."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"

CASES = range(1, 31)

CONCERNED = {*range(1, 17), *range(24, 31)}
"""Those of generating, storing, loading and publishing."""


def listed(page: str) -> dict[int, list[str]]:
    """Tests by the number of their case; a case that has two lines is an error."""
    found: dict[int, list[str]] = {}
    for line in page.splitlines():
        if match := re.match(r"\| (\d+) \| .+ \| .+ \| (.*) \|$", line):
            number = int(match[1])
            assert number not in found, f"case {number} has two lines"
            found[number] = re.findall(r"`([^`]+)`", match[2])
    return found


@cache
def defined(file: str) -> set[str]:
    """Functions of a file, none where there is no file."""
    path = ROOT / file
    tree = ast.parse(path.read_text(encoding="utf-8") if path.is_file() else "")
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def absent(names: list[str]) -> list[str]:
    """The names, as `tests/file.py::test_name`, of which no file holds a test."""
    pairs = [(name, *name.partition("::")[::2]) for name in names]
    return [name for name, file, test in pairs if not test.startswith("test_") or test not in defined(file)]


def test_every_case_has_its_line_and_every_line_a_test():
    found = listed(PAGE.read_text(encoding="utf-8"))
    assert set(found) == set(CASES)
    assert [number for number, names in found.items() if not names] == []
    assert len(CONCERNED & set(found)) >= 20


def test_every_test_that_is_named_exists():
    page = PAGE.read_text(encoding="utf-8")
    found = listed(page)
    assert absent([name for names in found.values() for name in names]) == []
    # also those of the sections whose lines have no number
    assert absent(re.findall(r"`(tests/[^`]+::[^`]+)`", page)) == []


def test_a_name_of_no_test_is_found():
    own = "tests/test_reliability.py"
    names = [f"{own}::test_nothing", f"{own}::absent", own, "tests/nowhere.py::test_a_name_of_no_test_is_found"]
    assert absent([*names, f"{own}::test_a_name_of_no_test_is_found"]) == names
