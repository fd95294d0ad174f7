"""Candidates are read as they were written, bad ones are named, and answers become the preferences they mean."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from synthfair_hf.align.agreement import agreement
from synthfair_hf.align.labelling.answers import Answer, Answers
from synthfair_hf.align.labelling.candidates import FILE, Candidates
from synthfair_hf.align.preferences import read_preferences, write_preferences
from synthfair_hf.cli import main
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError


@pytest.fixture
def candidates(write_candidates, tmp_path):
    return write_candidates(tmp_path / "candidates")


@pytest.fixture
def answered(candidates, tmp_path):
    """Answers of two people to all but the last pair."""
    said = {"ada": ["first", "second", "tie", "reject", "first"], "ben": ["first", "first", "first", "first", "first"]}
    answers = Answers(tmp_path / "answers.jsonl")
    for annotator, verdicts in said.items():
        for row, verdict in enumerate(verdicts):
            comment = f"{annotator} on {row}"
            swapped = bool(row % 2)
            told = {"side_swapped": swapped, "seconds": None, "comment": comment, "time": "2026-01-02T03:04:05+00:00"}
            answers.append(Answer(id=f"pair-{row}", annotator=annotator, answer=verdict, **told))
    return answers


def test_what_is_written_is_read(candidates):
    read = Candidates.read(candidates, CHEST_XRAY)
    lines = [json.loads(line) for line in (candidates / FILE).read_text().splitlines()]
    assert read.ids == tuple(line["id"] for line in lines)
    for row, line in enumerate(lines):
        for name, images in (("first", read.pairs.preferred), ("second", read.pairs.rejected)):
            with Image.open(candidates / line[name]) as image:
                np.testing.assert_array_equal(images[row, 0], np.array(image))
        assert read.values(row) == {"race": None, "scanner": None, **line["covariates"]}
    assert read.pairs.subjects.tolist() == [line["subject_id"] for line in lines]
    assert read.pairs.splits.tolist() == [line["split"] for line in lines]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"first": "images/none.png"}, "first: 'images/none.png' is not a file below"),
        ({"first": "../secret.png"}, "first: '../secret.png' leaves the directory; keep images below"),
        ({"first": "candidates.jsonl"}, "first: not a readable image"),
        ({"first": 3}, "first is not given as text"),
        ({"id": ""}, "id is not given as text"),
        ({"id": "pair-0"}, "is the id of"),
        ({"covariates": None}, "covariates are not given by name"),
        ({"covariates": {"weight": 3}}, "covariates: 'weight' is unknown; allowed: age, sex, race"),
        ({"covariates": {"age": 300}}, "covariates['age']: 300 is out of range; allowed: 0 to 100 years"),
        ({"covariates": {"sex": "woman"}}, "covariates['sex']: 'woman' is unknown; allowed: male, female"),
        ({"model": "a"}, "'model' is unknown; allowed: id, first"),
        ({"split": "all"}, "splits: 'all' is unknown; allowed: train"),
        ({"subject_id": "p0"}, "splits: subject 'p0' is in train and in validation"),
        ({"second": "images/model-a-1.png"}, "pairs: 1 of 6 hold the same image twice (first: row 1)"),
    ],
)
def test_a_bad_line_is_named(candidates, change, sentence):
    lines = [json.loads(line) for line in (candidates / FILE).read_text().splitlines()]
    lines[1] |= change
    (candidates / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=re.escape(f"{candidates / FILE}") + "(:2)?: " + re.escape(sentence)):
        Candidates.read(candidates, CHEST_XRAY)


def test_a_pair_asked_twice_in_either_order_is_named(candidates):
    lines = [json.loads(line) for line in (candidates / FILE).read_text().splitlines()]
    lines[3] |= {"first": lines[0]["second"], "second": lines[0]["first"], "covariates": lines[0]["covariates"]}
    (candidates / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=r":4: is the same pair as .*:1 too; keep one"):
        Candidates.read(candidates, CHEST_XRAY)


@pytest.mark.parametrize(
    ("text", "sentence"), [("", "holds no pairs"), ("{", ":1: not JSON"), ("[]", ":1: not an obj")]
)
def test_a_file_of_no_pairs_is_refused(candidates, text, sentence):
    (candidates / FILE).write_text(text)
    with pytest.raises(InputError, match=sentence):
        Candidates.read(candidates, CHEST_XRAY)


def test_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^candidates_dir: .* holds no candidates\.jsonl; give a directory with one"):
        Candidates.read(tmp_path, CHEST_XRAY)


@pytest.mark.parametrize("size", [(16, 8), (8, 8)])
def test_images_of_mixed_size_are_refused(candidates, size):
    Image.fromarray(np.zeros(size, dtype=np.uint8)).save(candidates / "images" / "model-b-2.png")
    with pytest.raises(InputError, match=rf":3: second: 1 x {size[0]} x {size[1]} .*, but .* 1 x 16 x 16; give one"):
        Candidates.read(candidates, CHEST_XRAY)


def test_answers_mean_the_candidate_they_name_whatever_its_side_was(candidates, answered):
    read = Candidates.read(candidates, CHEST_XRAY)
    preferences, counts = read.judged(answered)
    assert counts == {
        "ada": {"compared": 5, "first": 2, "second": 1, "ties": 1, "rejects": 1},
        "ben": {"compared": 5, "first": 5, "second": 0, "ties": 0, "rejects": 0},
    }
    rows, judges = [0, 1, 4, 0, 1, 2, 3, 4], ["ada"] * 3 + ["ben"] * 5
    assert preferences.judges.tolist() == judges
    assert preferences.comments.tolist() == [f"{judge} on {row}" for judge, row in zip(judges, rows, strict=True)]
    assert preferences.subjects.tolist() == [f"p{row}" for row in rows]
    assert preferences.margins.isnan().all()
    for place, row in enumerate(rows):
        first, second = read.pairs.preferred[row], read.pairs.rejected[row]
        won = (second, first) if (judges[place], row) == ("ada", 1) else (first, second)
        assert torch.equal(preferences.preferred[place], won[0])
        assert torch.equal(preferences.rejected[place], won[1])


def test_what_is_exported_is_read_by_align(candidates, answered, tmp_path, capsys):
    read = Candidates.read(candidates, CHEST_XRAY)
    command = ["label", "--candidates", str(candidates), "--output_file", str(answered.path)]
    assert main([*command, "--export", str(tmp_path / "prefs")]) == 0
    told = capsys.readouterr().out
    printed, _, said = told.rpartition("wrote ")
    assert said == f"{tmp_path / 'prefs'} of 8 preferences\n"
    preferences, counts = read.judged(answered)
    found = agreement(preferences)["ada", "ben"]._asdict()
    assert json.loads(printed) == {"annotators": counts, "agreement": {"ada and ben": found}}
    assert (found["n"], found["share"]) == (3, 2 / 3)
    write_preferences(preferences, tmp_path / "again", CHEST_XRAY, counts)
    assert (
        read_preferences(tmp_path / "prefs", CHEST_XRAY).fingerprint
        == read_preferences(tmp_path / "again", CHEST_XRAY).fingerprint
    )


def test_answers_to_other_candidates_are_refused(candidates, answered):
    answered.append(answered.of("ada")[0].model_copy(update={"id": "else"}))
    with pytest.raises(InputError, match="answers 'else', which is not among the 6 candidates"):
        Candidates.read(candidates, CHEST_XRAY).judged(answered)


def test_bad_input_on_the_command_line_is_one_sentence_and_nothing_is_written(candidates, tmp_path, capsys):
    base = ["label", "--candidates", str(candidates), "--output_file", str(tmp_path / "answers.jsonl")]
    for words, sentence in {
        (): "--annotator: give at least one name, each once",
        ("--annotator", ""): "--annotator: '' is not allowed",
        ("--annotator", "a/b"): "--annotator: 'a/b' is not allowed; give a name without slashes",
        ("--annotator", "ada", "ada"): "--annotator: give at least one name, each once",
        ("--export", str(tmp_path / "prefs")): "preferences: no pairs",
    }.items():
        assert main([*base, *words]) == 2
        assert capsys.readouterr().err.startswith(f"synthfair: {sentence}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["candidates"]
