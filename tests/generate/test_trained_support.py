"""Support is asked of the images that a generator was trained on, not of the causal model fitted to them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

from synthfair_hf.cli import main
from synthfair_hf.diffusion.coverage import Coverage
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.generate.store import read_plan
from synthfair_hf.records import Record

COMMAND = ["generate", "--num_subjects", "28", "--factors", "sex", "--pretrained_model_name_or_path"]


@pytest.fixture(scope="module")
def women(tmp_path_factory: pytest.TempPathFactory, save_phantom_generator: Callable[..., Path]) -> Path:
    """A generator whose causal model knows men, and whose training images show none."""
    directory = save_phantom_generator(tmp_path_factory.mktemp("women") / "generator", 16, 50, default_steps=1)
    table = PhantomSource(160, seed=0).table
    rows = [row for row, sex in enumerate(table["sex"]) if sex == "female"]
    counts = Coverage.count(PHANTOM, table, rows).counts
    Record(stage="train", inputs={"access": "open"}, counts=counts).write(directory / "record.json")
    return directory


def test_cells_without_training_images_are_said_everywhere(
    women: Path, tmp_path: Path, capsys: Any, caplog: pytest.LogCaptureFixture
):
    target = tmp_path / "synthfair"
    assert main([*COMMAND, str(women), "--output_dir", str(target), "--dry_run"]) == 0
    male = {f"{age} / male": 0 for age in ("under 50 years", "50 years and older")}
    support = json.loads(capsys.readouterr().out)["support"]
    assert support["out_of_support"] == male
    assert support["observed"] == f"the generator's {support['training_images']} training images"
    [line] = [one.getMessage() for one in caplog.records if "out of support" in one.getMessage()]
    assert line.startswith("out of support: 2 of 4 cells have fewer than 5 observations among the generator's")
    assert line.endswith("under 50 years / male (0), 50 years and older / male (0)")
    assert "\n" not in line
    caplog.clear()
    assert main([*COMMAND, str(women), "--output_dir", str(target)]) == 0
    assert [one for one in caplog.records if one.getMessage() == line]
    assert main(["verify", str(target)]) == 0
    [card] = [one for one in (target / "README.md").read_text().splitlines() if one.startswith("- Out of support:")]
    assert all(f"{cell} (0)" in card for cell in male)
    rows = load_dataset("synthfair", data_dir=str(target), split="train")
    assert len(rows) == 40
    assert rows["out_of_support"] == [sex == 0 for sex in rows["sex"]]
    plan = read_plan(target)
    assert plan.shows_support
    assert plan.fingerprint == Record.read(target / "records" / "generate.json").inputs["plan"]


def test_other_counts_are_another_plan(women: Path, tmp_path: Path, capsys: Any):
    copied = Path(shutil.copytree(women, tmp_path / "copied"))
    assert main([*COMMAND, str(copied), "--output_dir", str(tmp_path / "synthfair")]) == 0
    record = Record.read(copied / "record.json")
    counts = Coverage.count(PHANTOM, PhantomSource(160, seed=0).table, range(160)).counts
    record.model_copy(update={"counts": counts}).write(copied / "record.json")
    capsys.readouterr()
    assert main([*COMMAND, str(copied), "--output_dir", str(tmp_path / "synthfair")]) == 2
    assert "holds another plan (support." in capsys.readouterr().err


def test_a_generator_from_before_is_asked_as_before_and_that_is_said(
    women: Path, tmp_path: Path, capsys: Any, caplog: pytest.LogCaptureFixture
):
    before = Path(shutil.copytree(women, tmp_path / "before"))
    (before / "record.json").unlink()
    assert main([*COMMAND, str(before), "--output_dir", str(tmp_path / "synthfair"), "--dry_run"]) == 0
    assert json.loads(capsys.readouterr().out)["support"]["observed"] == "20000 draws from the causal model"
    [line] = [one.getMessage() for one in caplog.records if "out of support" in one.getMessage()]
    assert "20000 draws from the causal model; the generator's record does not count its training images" in line
    assert main([*COMMAND, str(before), "--output_dir", str(tmp_path / "synthfair")]) == 0
    assert (
        "out_of_support" not in load_dataset("synthfair", data_dir=str(tmp_path / "synthfair"), split="train").features
    )
