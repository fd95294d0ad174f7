"""A domain of one's own: the commands of its page and tutorial, on a folder that the latter draws."""

import json
import re
import shlex
from functools import partialmethod
from pathlib import Path

import pytest
from fenced import ROOT, blocks

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.cli import main
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.views.preset import load_preset

PAGE = ROOT / "docs" / "domains.md"
TUTORIAL = ROOT / "docs" / "tutorials" / "bring_your_own_data.md"


def commands(page: Path) -> list[list[str]]:
    """The words of each command of a page, without `synthfair` and where its output goes."""
    lines = [line for _, code in blocks(page, "bash") for line in code.replace("\\\n", " ").splitlines()]
    return [shlex.split(line.partition(">")[0])[1:] for line in lines]


DRAWING = blocks(TUTORIAL, "python")[0].code
(PYTHON,) = blocks(PAGE, "python")
DRAFT, *CHECKS = commands(PAGE)
SMALL = ["--max_train_steps", "1", "--train_batch_size", "2", "--default_steps", "1"]


def test_the_three_commands_lead_from_a_table_to_a_counterfactual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(StructuralCausalModel, "fit", partialmethod(StructuralCausalModel.fit, steps=20))
    exec(DRAWING, {})
    draft, _, train, ask, _ = commands(TUTORIAL)
    assert draft == DRAFT
    assert main(draft) == 0
    for check in CHECKS:
        assert main(check) == 0
    exec(PYTHON.code, {})
    own = Path(draft[-1])
    preset = load_preset(own)
    assert main([*train, *SMALL]) == 0
    # what was made holds a copy
    own.unlink()
    saved = find_generator(train[-1]).preset
    assert saved.model_copy(update={"network": preset.network, "resolution": preset.resolution}) == preset
    told = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert told[:3] == ["next:", "synthfair", "counterfactual"]
    # the reader's own image takes the place of the word in capitals
    image = ask[ask.index("--image") + 1]
    assert main([image if word == "IMAGE" else word for word in told[2:-1]] + ["told"]) == 0
    assert (Path("told") / "counterfactual.png").exists()
    capsys.readouterr()
    assert main(ask) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[0])
    name, value = ask[-1].split("=")
    assert answer[name] == value
    assert {path.name for path in Path("counterfactual").iterdir()} >= {"observation.png", "counterfactual.png"}


def test_a_wrong_file_is_told_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(DRAWING, {})
    assert main(DRAFT) == 0
    capsys.readouterr()
    told = " ".join(re.search(r"its line: `(.*?)`\.", PAGE.read_text(encoding="utf-8"), re.S)[1].split())
    wrong, right = re.findall(r"'(\w+)'", told)
    own = Path(DRAFT[-1])
    own.write_text(own.read_text().replace(f"{right} ->", f"{wrong} ->"))
    assert main(CHECKS[0]) == 2
    assert capsys.readouterr().err == f"synthfair: {told}\n"


def test_only_the_pages_name_its_domain():
    name = Path(DRAFT[-1]).stem
    paths = [path for room in ("synthfair_hf", "tests") for path in (ROOT / room).rglob("*.[py][ya]*")]
    assert len(paths) > 200
    assert not [path for path in paths if path.suffix in (".py", ".yaml") and name in path.read_text(encoding="utf-8")]
