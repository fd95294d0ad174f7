"""Text says the covariates and reads back as the same; lines and images make the round trip; the rest is refused."""

import io
import json
import os
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthfair_hf.align import jsonl
from synthfair_hf.align.jsonl import covariates_of, export_jsonl, import_jsonl, text_of
from synthfair_hf.errors import InputError
from synthfair_hf.presets import CHEST_XRAY, MORPHOMNIST, PHANTOM
from synthfair_hf.schema import Schema, Variable
from synthfair_hf.sources.source import patient_split


def value_of(variable):
    values = st.sampled_from(variable.levels) if variable.categorical else st.floats(*variable.bounds, width=32)
    return st.none() | values


def row_of(schema):
    return st.fixed_dictionaries({variable.name: value_of(variable) for variable in schema.walk()})


@pytest.mark.parametrize("preset", [CHEST_XRAY, PHANTOM, MORPHOMNIST], ids=lambda preset: preset.name)
@settings(max_examples=40)
@given(data=st.data())
def test_text_reads_back_as_the_same_numbers(preset, data):
    schema = preset.covariates
    values = data.draw(row_of(schema))
    back = covariates_of(text_of(values, schema), schema)
    for name in schema.names:
        np.testing.assert_array_equal(schema[name].encode([back[name]]), schema[name].encode([values[name]]))


def test_text_is_what_a_person_would_write():
    schema = CHEST_XRAY.covariates.subset(("age", "sex", "finding"))
    values = {"finding": "pneumonia", "sex": "female", "age": 61.0}
    assert text_of(values, schema) == "age=61, sex=female, finding=pneumonia"
    assert text_of({**values, "age": 61.3, "sex": None}, schema) == "age=61.3, sex=?, finding=pneumonia"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a chest radiograph of a woman", "text: 'a chest radiograph of a woman' does not say the covariates; write"),
        ("", "text: '' does not say the covariates"),
        ("sex=female, age=61", "text: 'sex=female, age=61' does not say the covariates; write 'age=..., sex=...'"),
        ("age=61", "text: 'age=61' does not say the covariates"),
        ("age=61, sex=female, view=PA", "text: 'age=61, sex=female, view=PA' does not say the covariates"),
        ("age, sex=female", "text: 'age, sex=female' does not say"),
        ("age=61, sex=woman", "text: sex: 'woman' is unknown; allowed: male, female"),
        ("age=old, sex=male", "text: age=old is not a number; give years"),
        ("age=130, sex=male", "text: age: 130.0 is out of range; allowed: 0 to 100 years"),
        ("age=nan, sex=male", "text: age: nan is out of range"),
    ],
)
def test_other_text_is_refused(text, sentence):
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}"):
        covariates_of(text, CHEST_XRAY.covariates.subset(("age", "sex")))


@pytest.mark.parametrize("level", ["?", "left, lower"])
def test_a_level_that_would_not_read_back_is_refused(level):
    variable = {"kind": "categorical", "role": "finding", "nature": "patient/pathology", "levels": (level, "none")}
    with pytest.raises(InputError, match=r"^place: level .* can't be told in this form; rename it"):
        text_of({"place": level}, Schema(variables=(Variable(name="place", **variable),)))


@pytest.mark.parametrize("channels", [1, 3])
def test_pairs_make_the_round_trip(make_pairs, tmp_path, channels):
    pairs = make_pairs(12, channels=channels)
    path = export_jsonl(pairs, tmp_path / "out", PHANTOM)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 12
    assert all(set(line) == {"text", "image_w", "image_l"} for line in lines)
    read = import_jsonl(path, PHANTOM, "Ada", pairs.subjects.tolist(), pairs.splits.tolist())
    assert torch.equal(read.preferred, pairs.preferred)
    assert torch.equal(read.rejected, pairs.rejected)
    for name, column in pairs.covariates.items():
        np.testing.assert_array_equal(read.covariates[name], column)
    assert read.subjects.tolist() == pairs.subjects.tolist()
    assert read.splits.tolist() == pairs.splits.tolist()
    assert set(read.judges) == {"Ada"}
    assert read.margins.isnan().all()
    again = export_jsonl(read, tmp_path / "again", PHANTOM)
    assert again.read_bytes() == path.read_bytes()
    assert sorted(p.name for p in (tmp_path / "again/images").iterdir()) == sorted(
        p.name for p in (tmp_path / "out/images").iterdir()
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "out"]


def png(grey, mode="L", side=8):
    buffer = io.BytesIO()
    Image.new(mode, (side, side), grey).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Images `a` to `d`, one of another size, and one outside."""
    root = tmp_path / "folder"
    root.mkdir()
    for grey, name in enumerate("abcd"):
        (root / f"{name}.png").write_bytes(png(grey))
    (root / "large.png").write_bytes(png(0, side=16))
    (root / "text.png").write_text("not an image")
    (tmp_path / "outside.png").write_bytes(png(0))
    return root


SCHEMA_TEXT = "digit=7, thickness=2.5, intensity=100"


def write(folder, *lines):
    path = folder / "pairs.jsonl"
    whole = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(whole) + "\n")
    return path


def line(winner, loser, text=SCHEMA_TEXT, **more):
    return {"text": text, "image_w": f"{winner}.png", "image_l": f"{loser}.png", **more}


def test_pairs_that_share_an_image_are_one_subject(folder):
    path = write(folder, line("a", "b"), line("c", "d"), line("b", "a", SCHEMA_TEXT.replace("7", "3")))
    read = import_jsonl(path, MORPHOMNIST)
    assert read.subjects[0] == read.subjects[2] != read.subjects[1]
    assert read.splits.tolist() == [patient_split(subject) for subject in read.subjects.tolist()]
    assert set(read.judges) == {"unknown"}
    chained = import_jsonl(write(folder, line("a", "b"), line("c", "d"), line("b", "c")), MORPHOMNIST)
    assert len(set(chained.subjects)) == 1
    turned = import_jsonl(write(folder, line("c", "d"), line("a", "b")), MORPHOMNIST)
    assert turned.subjects.tolist() == read.subjects.tolist()[1::-1], "whatever the order of lines"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], ": holds no pairs; give one {text, image_w, image_l} a line"),
        (["", " "], ": holds no pairs"),
        ([line("a", "b"), "{"], ":2: not JSON"),
        (["[1]"], ":1: gives no text, image_w and image_l"),
        ([{"text": SCHEMA_TEXT, "image_w": "a.png"}], ":1: gives no text, image_w and image_l"),
        ([line("a", "b", text=7)], ":1: gives no text, image_w and image_l"),
        ([line("a", "b", score=1)], ":1: 'score' is unknown; allowed: text, image_w, image_l"),
        ([line("a", "b", "digit seven")], ":1: 'digit seven' does not say the covariates"),
        (["", line("a", "b", SCHEMA_TEXT.replace("7", "x"))], ":2: digit: 'x' is unknown"),
        ([line("a", "a")], ": pairs: 1 of 1 hold the same image twice"),
        ([line("a", "b"), line("b", "a")], ": pairs: judge 'unknown' prefers each of the same two images in rows 0 "),
        ([line("a", "b"), line("c", "large")], ":2: image_l: 1 x 16 x 16 (channels, height, width), but"),
        ([line("text", "a")], ":1: image_w: not a readable image"),
        ([line("gone", "a")], ":1: image_w: 'gone.png' is not a file below"),
        ([line("a", "../outside")], ":1: image_l: '../outside.png' leaves the directory"),
        ([{**line("a", "b"), "image_w": "/dev/zero"}], ":1: image_w: '/dev/zero' leaves the directory"),
        ([{**line("a", "b"), "image_w": "."}], ":1: image_w: '.' is not a file"),
        ([{**line("a", "b"), "image_w": "a\0b"}], ":1: image_w: 'a\\x00b' can't be read"),
        ([{**line("a", "b"), "image_w": "a" * 300}], ":1: image_w: 'aaa"),
    ],
)
def test_lines_that_are_wrong_are_named(folder, lines, sentence):
    path = write(folder, *lines)
    with pytest.raises(InputError, match=f"^{re.escape(str(path) + sentence)}") as raised:
        import_jsonl(path, MORPHOMNIST)
    assert "\n" not in str(raised.value)


def test_files_that_are_none_are_refused(folder):
    with pytest.raises(InputError, match="not a readable text file"):
        import_jsonl(folder / "gone.jsonl", MORPHOMNIST)
    with pytest.raises(InputError, match="not a readable text file"):
        import_jsonl(folder, MORPHOMNIST)
    (folder / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not a readable text file"):
        import_jsonl(folder / "bytes.jsonl", MORPHOMNIST)
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(InputError, match=r"'pipe\.png' is not a file"):
        import_jsonl(write(folder, line("a", "pipe")), MORPHOMNIST)
    with pytest.raises(InputError, match="subjects: 2 values for 1 pairs"):
        import_jsonl(write(folder, line("a", "b")), MORPHOMNIST, subjects=["s", "t"])


def test_nothing_is_left_of_an_export_that_fails(make_pairs, tmp_path, monkeypatch):
    pairs, write_one, calls = make_pairs(3), jsonl.write_atomically, []
    with pytest.raises(InputError, match=r"^covariates: 'habitus' is unknown"):
        export_jsonl(pairs, tmp_path / "out", CHEST_XRAY)
    with pytest.raises(InputError, match=r"^preferences: no pairs"):
        export_jsonl(pairs.select(np.zeros(3, dtype=bool)), tmp_path / "out", PHANTOM)

    def fail(path, data):
        calls.append(path)
        if len(calls) == 4:
            raise OSError("disk full")
        write_one(path, data)

    monkeypatch.setattr(jsonl, "write_atomically", fail)
    with pytest.raises(OSError, match="disk full"):
        export_jsonl(pairs, tmp_path / "out", PHANTOM)
    assert list(tmp_path.iterdir()) == []
