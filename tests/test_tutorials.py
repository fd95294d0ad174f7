"""The tutorials run from an empty directory, block by block as they stand, and print what they say."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from fenced import ROOT, TOLERANCE, blocks, check_printed, run
from hub import Hub
from hub.clients import environment

pytest_plugins = ["hub.fixtures"]

TUTORIALS = ROOT / "docs" / "tutorials"
PUBLISHING = {"make_and_push"}
"""Those that talk to the Hub."""
COLD = "use_a_view"
"""The one whose commands are processes of Python as a reader starts them, with nothing imported before."""


@pytest.mark.parametrize("name", sorted({path.stem for path in TUTORIALS.glob("*.md")} - PUBLISHING))
def test_a_tutorial_runs_offline_and_prints_what_it_says(
    name: str, offline: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    run(TUTORIALS / f"{name}.md", offline, warm=name != COLD)


@pytest.mark.parametrize("name", sorted(PUBLISHING))
def test_a_tutorial_that_publishes_runs_on_a_hub_of_this_machine(
    name: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    directory = tmp_path / "directory"
    directory.mkdir()
    monkeypatch.chdir(directory)
    run(TUTORIALS / f"{name}.md", {**os.environ, **environment(hub, tmp_path / "home")})
    repository = hub.repository("my-lab/synthfair")
    assert len(repository.tags) == 1
    assert {"README.md", "croissant.json", "records/generate.json"} <= set(repository.files())


def test_there_are_five_and_each_is_of_commands_and_what_they_print():
    pages = sorted(TUTORIALS.glob("*.md"))
    assert len(pages) == 5
    for page in pages:
        assert {block.language for block in blocks(page)} == {"bash", "python", "text"}, page.name


@pytest.mark.parametrize(
    ("told", "right"),
    [
        ("2 rows, share 0.50 of 3\nlast line", True),
        ("2 rows, share 0.55 of 3\n...", True),
        ("...\nlast   line", True),
        ("2 rows, share 0.50 of 4\n...", False),
        (f"2 rows, share {0.6 + TOLERANCE} of 3\n...", False),
        ("2 rows, share 0.50 of 3", False),
        ("last line", False),
        ("2 rows, share 0 of 3\n...", False),
    ],
)
def test_another_output_than_the_page_says_is_found(told: str, right: bool):
    if right:
        check_printed(told, "2 rows, share 0.5 of 3\n  last line\n")
    else:
        with pytest.raises(AssertionError):
            check_printed(told, "2 rows, share 0.5 of 3\n  last line\n")
