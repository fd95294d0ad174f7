"""An action after an import: once, whoever imports, and however often others ask whether the library is there."""

import importlib
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from synthfair_hf.imports import after_import

NAME = "library_of_this_test"


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ModuleType]:
    """What the action was called with; the library can be imported, and what was imported is forgotten afterwards."""
    (tmp_path / f"{NAME}.py").write_text("NUMBER = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    return []


def test_it_is_done_right_after_the_import_and_once(seen: list[ModuleType]):
    before = list(sys.meta_path)
    for _ in range(2):
        after_import(NAME, lambda module: seen.append(module.NUMBER))
    assert find_spec(NAME) is not None
    assert seen == []
    library = importlib.import_module(NAME)
    assert seen == [1]
    assert sys.meta_path == before
    importlib.reload(library)
    assert seen == [1]
    after_import(NAME, lambda module: seen.append(module.NUMBER))
    assert seen == [1, 1]


def test_a_library_that_fails_is_waited_for(seen: list[ModuleType], tmp_path: Path):
    (tmp_path / f"{NAME}.py").write_text("1 / 0\n")
    after_import(NAME, seen.append)
    with pytest.raises(ZeroDivisionError):
        importlib.import_module(NAME)
    assert seen == []
    (tmp_path / f"{NAME}.py").write_text("NUMBER = 22\n")
    assert [importlib.import_module(NAME)] == seen


def test_an_action_that_fails_lets_no_later_import_pass_without_it(seen: list[ModuleType]):
    def fails(module: ModuleType) -> None:
        seen.append(module)
        raise ImportError("moved")

    after_import(NAME, fails)
    for number in (1, 2):
        with pytest.raises(ImportError, match="moved"):
            importlib.import_module(NAME)
        assert len(seen) == number


def test_a_library_with_a_finder_of_its_own_is_found(seen: list[ModuleType], tmp_path: Path):
    class Own(MetaPathFinder):
        def find_spec(self, name, path, target=None):
            return spec_from_file_location(name, tmp_path / "elsewhere.txt", loader=loader) if name == "own" else None

    (tmp_path / "elsewhere.txt").write_text("NUMBER = 3\n")
    loader = SourceFileLoader("own", str(tmp_path / "elsewhere.txt"))
    sys.meta_path.append(Own())
    after_import("own", seen.append)
    try:
        assert [importlib.import_module("own")] == seen
    finally:
        sys.modules.pop("own", None)


def test_one_that_is_not_installed_stays_so(seen: list[ModuleType]):
    after_import("no_such_library", seen.append)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_library")
    assert find_spec("no_such_library") is None
