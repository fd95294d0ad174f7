"""Governance: every statement is of a record that is there, every stage says something, faults stop the page."""

import json
import re
import shutil
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest

from synthfair_hf.cli import main
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.audit_page import audit_predictions
from synthfair_hf.fairness.monitoring import monitor_predictions
from synthfair_hf.generate.dataset import generate_dataset
from synthfair_hf.generate.governance import write_governance
from synthfair_hf.generate.store import RUN
from synthfair_hf.publish.governance import STAGES, Governance
from synthfair_hf.records import Record, file_sha256

ROOT = Path(__file__).parents[2]


def rewritten(path, change):
    found = json.loads(path.read_bytes())
    change(found)
    path.write_text(json.dumps(found))


@pytest.fixture(scope="module")
def everything(store, tmp_path_factory):
    """A data set, with records as its generator, scoreboard, audit and monitoring would have left them."""
    place = tmp_path_factory.mktemp("governance")
    revision = Record.read(store / RUN).settings["model_revision"]
    for name in ("generator", "board"):
        (place / name).mkdir()
    shutil.copytree(store, place / "synthfair")
    packaged, board = ROOT / "synthfair_hf" / "pretrained", ROOT / "docs" / "scoreboard"
    shutil.copy(packaged / "chest_xray_findings_128" / "record.json", place / "generator")
    shutil.copy(packaged / "chest_xray_findings_128" / "calibration.json", place / "generator")
    for name in ("soundness", "realism"):
        shutil.copy(board / "chest_xray_findings_128" / f"{name}-observed.json", place / "board")
        rewritten(place / "board" / f"{name}-observed.json", lambda one: one["inputs"].update(generator=revision))
    shutil.copy(board / "soundness-phantom.json", place / "board")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"y": rng.integers(0, 2, 120), "p": rng.random(120), "sex": rng.choice(["f", "m"], 120)})
    frame.to_csv(place / "predictions.csv", index=False)
    frame.assign(time="2026-01-05", y=[*frame["y"][:60], *[""] * 60]).to_csv(place / "stream.csv", index=False)
    quick = {"label": "y", "score": "p", "groups": ["sex"], "n_bootstrap": 5}
    conditions = ["gap(tpr, sex) > 0.9"]
    audit_predictions(
        place / "predictions.csv", output_dir=place / "audit", permutations=5, fail_if=conditions, **quick
    )
    monitor_predictions(
        place / "stream.csv", place / "predictions.csv", "time", output_dir=place / "watch", fail_if=["alarm"], **quick
    )
    return place


@pytest.fixture
def place(everything, tmp_path, monkeypatch):
    """A copy to damage; the generator is the one that the data set names."""
    shutil.copytree(everything, tmp_path / "all")
    revision = Record.read(everything / "synthfair" / RUN).settings["model_revision"]
    monkeypatch.setattr(
        "synthfair_hf.generate.governance.find_generator",
        lambda path: SimpleNamespace(directory=Path(path), revision=revision),
    )
    return tmp_path / "all"


def governed(place, **changed):
    asked = {
        **{"pretrained_model_name_or_path": place / "generator", "scoreboard": place / "board"},
        **{"audit": [place / "audit"], "monitoring": [place / "watch"], "output_dir": place / "out"},
    }
    return write_governance(place / "synthfair", **{**asked, **changed})


def test_every_statement_is_of_a_file_that_is_there_and_its_figures_are_those_of_the_file(place):
    found = governed(place)
    assert Governance.model_validate_json((place / "out" / "governance.json").read_bytes()) == found
    assert [one.stage for one in found.stages] == list(STAGES)
    files = {}
    for stage in found.stages:
        assert stage.statements, stage.stage
        for one in stage.statements:
            path = next(
                path for path in (place / one.record.file, place / "synthfair" / one.record.file) if path.exists()
            )
            assert one.record.sha256 == file_sha256(path)
            text = files.setdefault(path, path.read_text())
            for figure in one.figures:
                # windows and alarms are counted, all else is printed in the record
                for value in (figure.value, figure.low, figure.high):
                    assert value is None or json.dumps(value).removesuffix(".0") in text, (one, value)
    assert {path.name for path in files} >= {"generate.json", "record.json", "calibration.json", "audit.json"}
    told = {file.rpartition("/")[2] for stage in found.stages for file in {one.record.file for one in stage.statements}}
    assert "soundness-phantom.json" not in told, "of another generator"
    page = unescape((place / "out" / "governance.html").read_text())
    for stage in found.stages:
        assert f"Decides: {stage.decides}." in page
        for text in (*(one.checked for one in stage.statements), *(one.missing for one in stage.missing)):
            assert text in page
    images = Record.read(place / "generator" / "record.json").counts["training_images"]
    assert f"training images: {images:,}<" in page, "no 2e+04"
    before = {path.name: path.read_bytes() for path in (place / "out").iterdir()}
    governed(place)
    assert {path.name: path.read_bytes() for path in (place / "out").iterdir()} == before


def test_the_schema_is_that_of_the_file_and_a_blank_is_none_of_it(place):
    governed(place)
    found, schema = (json.loads((place / "out" / f"governance{end}.json").read_bytes()) for end in ("", ".schema"))
    assert schema == Governance.model_json_schema()
    assert schema["required"] == [name for name in found if name != "format"]
    blank = json.loads(json.dumps(found))
    blank["stages"][0]["statements"][0].pop("record")
    silent = json.loads(json.dumps(found))
    silent["stages"][0] |= {"statements": [], "missing": []}
    for damaged in (blank, silent, found | {"stages": found["stages"][1:]}):
        with pytest.raises(ValueError, match=r"record|stage"):
            Governance.model_validate(damaged)


def test_what_is_not_given_is_named_as_missing_with_what_to_do(place):
    bare = {"pretrained_model_name_or_path": None, "scoreboard": None, "audit": [], "monitoring": []}
    stages = {one.stage: one for one in governed(place, **bare).stages}
    silent = {name for name, one in stages.items() if not one.statements}
    assert silent == {"training", "calibration", "gate", "audit", "monitoring"}
    assert all(
        one.missing and all(part.remedy for part in one.missing) for name, one in stages.items() if name in silent
    )


def test_a_world_has_no_generator_to_train_or_measure(tmp_path):
    generate_dataset(tmp_path / "world", 14, world="phantom", resolution=16, factors=("sex",))
    stages = {one.stage: one for one in write_governance(tmp_path / "world", tmp_path / "out").stages}
    for name in ("sources", "training", "calibration", "gate"):
        assert stages[name].statements
        assert not stages[name].missing


EDITS = {
    "card": (
        "synthfair/README.md",
        lambda path: path.write_text(path.read_text().replace("research", "all", 1)),
        "README",
    ),
    "no croissant": ("synthfair/croissant.json", Path.unlink, "croissant.json: is missing"),
    "plan": (
        "synthfair/records/plan.json",
        lambda path: rewritten(path, lambda one: one.pop("seed")),
        "seed: is absent",
    ),
    "other set": (
        "audit/audit.json",
        lambda path: rewritten(path, lambda one: one["inputs"].update(data_set="0" * 16)),
        "is of the data set 0000000000000000, and this is",
    ),
    "other stage": (
        "audit/audit.json",
        lambda path: shutil.copy(path.parents[1] / "watch/monitoring.json", path),
        "monitor",
    ),
    "no record": ("watch/monitoring.json", Path.unlink, "no record here"),
    "no steps": (
        "generator/record.json",
        lambda path: rewritten(path, lambda one: one["counts"].pop("steps")),
        "no 'steps' in counts",
    ),
    "no interval": (
        "board/soundness-observed.json",
        lambda path: rewritten(path, lambda one: [row.pop("low", None) for row in one["measured"]["rows"]]),
        r"no 'low' in measured.rows\[\d+\]",
    ),
    "no n": (
        "audit/audit.json",
        lambda path: rewritten(path, lambda one: [row.pop("n") for row in one["measured"]["gaps"]]),
        r"no 'n' in measured.gaps\[\d+\]",
    ),
    "no memorisation": (
        "board/realism-observed.json",
        lambda path: rewritten(path, lambda one: one["measured"].pop("memorisation")),
        "no 'memorisation' in measured",
    ),
    "null": (
        "watch/monitoring.json",
        lambda path: rewritten(path, lambda one: one["measured"].update(windows=None)),
        "monitoring: a record of this stage is damaged",
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_of_a_fault_one_sentence_is_told_and_nothing_is_written(place, edit):
    name, change, message = EDITS[edit]
    change(place / name)
    with pytest.raises(InputError, match=message) as told:
        governed(place)
    assert len(str(told.value).splitlines()) == 1
    assert not (place / "out").exists()


def test_another_generator_scoreboard_or_place_is_refused(place, monkeypatch):
    with pytest.raises(InputError, match=r"output_dir: .* is inside the data set"):
        governed(place, output_dir=place / "synthfair" / "out")
    for name in ("soundness-observed.json", "realism-observed.json"):
        (place / "board" / name).unlink()
    with pytest.raises(InputError, match=r"scoreboard: .* is of the generator 39f2f8415d1560c8, but the data set"):
        governed(place)
    monkeypatch.setattr(
        "synthfair_hf.generate.governance.find_generator",
        lambda path: SimpleNamespace(directory=Path(path), revision="other"),
    )
    with pytest.raises(InputError, match="is of the generator other, but the data set was made by"):
        governed(place)
    assert not (place / "out").exists()


def test_the_remedy_of_an_edited_card_does(place, capsys):
    card = place / "synthfair" / "README.md"
    card.write_text(card.read_text().replace("research", "all", 1))
    words = ["governance", str(place / "synthfair"), "--output_dir", str(place / "out")]
    assert main(words) == 2
    remedy = re.search(r"`synthfair (.*?)`", capsys.readouterr().err)[1]
    assert main(remedy.split()) == 0
    assert main(words) == 0
    assert "missing: Monitoring of the running classifier." in capsys.readouterr().out
