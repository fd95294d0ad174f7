"""A table of predictions is read as it was meant, or refused in one sentence with the line at fault."""

import re

import numpy as np
import pandas
import pytest

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.predictions import MOST_GROUPS, read_predictions

TABLE = {
    "patient": ["1", "1.0", "02", "3", "4", "5"],
    "y": ["0", "1", "1.0", "true", "FALSE", ""],
    "p": ["0.25", "1e-1", "1", "0.5", "0", "0.5"],
    "sex": ["F", "M", "", "unknown", "F", "M"],
    "age": ["39", "40", "59.9", "60", "n/a", "70"],
    "site": ["10", "9", "9", "9", "9", "9"],
    "w": ["1", "2", "0", "1", "1", "1"],
}


@pytest.fixture
def table(tmp_path):
    def write(name="table.csv", separator=",", **columns):
        path = tmp_path / name
        frame = pandas.DataFrame({**TABLE, **columns})
        if path.suffix == ".parquet":
            frame.to_parquet(path)
        else:
            path.write_text("\ufeff" + frame.to_csv(index=False, sep=separator), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.parquet", ",")])
def test_a_table_is_read_as_it_was_meant(table, name, separator):
    asked = {"subject": "patient", "weight": "w", "bins": {"age": [40, 60]}}
    read = read_predictions(table(name, separator), "y", "p", ["sex", "age", "site"], **asked)
    assert read.left_out == {"y": 1}
    assert read.labels.tolist() == [0, 1, 1, 1, 0]
    assert read.scores.tolist() == [0.25, 0.1, 1, 0.5, 0]
    assert read.subjects == ["1", "1", "02", "3", "4"]
    assert read.weights.tolist() == [1, 2, 0, 1, 1]
    assert read.groups["sex"].codes.tolist() == [0, 1, -1, -1, 0]
    assert list(read.groups["age"].categories) == ["<40", "40-60", ">=60"]
    assert read.groups["age"].codes.tolist() == [0, 1, 1, 2, -1]
    assert list(read.groups["site"].categories) == ["9", "10"], "numbers in their order"


def test_columns_of_pandas_types_are_read(tmp_path):
    frame = pandas.DataFrame(
        {
            "y": pandas.array([True, False, None, True], dtype="boolean"),
            "p": np.array([0.5, 0.1, 0.2, np.nan], dtype=np.float32),
            "site": pandas.array([1, 2, 1, None], dtype="Int64"),
            "sex": pandas.Categorical(["m", "f", "m", "f"]),
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    read = read_predictions(tmp_path / "a.parquet", "y", "p", ["site", "sex"])
    assert read.left_out == {"y": 1, "p": 1}
    assert read.labels.tolist() == [1, 0]
    assert read.groups["site"].tolist() == ["1", "2"]


def test_words_are_labels_once_one_is_called_positive(table):
    path = table(y=["clear", "mass", "clear", "mass", "", "clear"])
    with pytest.raises(InputError, match=r":2: y is 'clear', neither 0 nor 1; .* by positive .*'clear', 'mass'\."):
        read_predictions(path, "y", "p", ["sex"])
    assert read_predictions(path, "y", "p", ["sex"], positive="mass").labels.tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(InputError, match=r"positive: value of y: 'mas' is unknown; allowed: .*did you mean 'mass'"):
        read_predictions(path, "y", "p", ["sex"], positive="mas")


def test_a_third_word_is_neither_present_nor_absent(table):
    path = table(y=["clear", "mass", "unsure", "mass", "", "clear"])
    with pytest.raises(InputError, match=r"y has 'clear', 'unsure' beside 'mass'; say by negative which"):
        read_predictions(path, "y", "p", ["sex"], positive="mass")
    read = read_predictions(path, "y", "p", ["sex"], positive="mass", negative="clear")
    assert (read.labels.tolist(), read.scores.tolist()) == ([0, 1, 1, 0], [0.25, 0.1, 0.5, 0.5])
    assert read.left_out == {"y": 1, "y (mass or clear)": 1}
    for given, message in (
        ({"positive": "mass", "negative": "mass"}, "negative: 'mass' is positive's word"),
        ({"negative": "clear"}, "negative: given without positive"),
        ({"positive": "mass", "negative": "cleer"}, "negative: value of y: 'cleer' is unknown"),
    ):
        with pytest.raises(InputError, match=message):
            read_predictions(path, "y", "p", ["sex"], **given)


def test_spellings_of_a_group_are_one_group(table):
    read = read_predictions(table(sex=["F", "f ", "M", "m", "F", "F"]), "y", "p", ["sex"])
    assert list(read.groups["sex"].categories) == ["F", "M"]
    assert read.groups["sex"].codes.tolist() == [0, 0, 1, 1, 0]


BAD = [
    ({"label": "Y"}, {}, "label: column of table.csv: 'Y' is unknown; allowed: patient, y"),
    ({"groups": []}, {}, "groups: none"),
    ({"groups": ["sex", "sex"]}, {}, "groups, label, score: 'sex' is named twice"),
    ({"groups": ["p"]}, {}, "groups, label, score: 'p' is named twice"),
    ({"bins": {"age": [40]}}, {}, "bins: 'age' is unknown; allowed: sex"),
    ({"bins": {"sex": [40]}}, {}, ":2: sex is 'F', no number; bins are of numbers alone"),
    ({"bins": {"sex": [60, 40]}}, {}, r"bins\['sex'\]: \[60, 40\] do not rise"),
    ({"bins": {"sex": []}}, {}, r"bins\['sex'\]: \[\] do not rise"),
    ({"bins": {"sex": {"a": []}}}, {}, r"bins\['sex'\]: .* do not rise"),
    ({}, {"p": ["0.1", "a", "1", "1", "1", "1"]}, ":3: p is 'a', no number"),
    ({}, {"y": ["", "", "", "", "", ""]}, "no row is complete"),
    ({}, {"sex": ["", "n/a", "?", "", "", ""]}, "groups: no row of table.csv has a value of 'sex'"),
]


@pytest.mark.parametrize(("asked", "columns", "message"), BAD)
def test_bad_tables_are_one_sentence(table, asked, columns, message):
    given = {"label": "y", "score": "p", "groups": ["sex"], **asked}
    with pytest.raises(InputError, match=message) as caught:
        read_predictions(table(**columns), **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message", "remedy"),
    [
        (list(map(str, range(200))), "has 200 different numbers; say where its groups begin by bins", {"x": [50]}),
        ([f"id{n}" for n in range(200)], f"has 200 different values, such as 'id0', more than {MOST_GROUPS}", None),
    ],
)
def test_an_identifier_or_a_number_is_no_group(tmp_path, values, message, remedy):
    frame = pandas.DataFrame({"x": values, "y": np.arange(200) % 2, "p": 0.5})
    frame.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=re.escape(message)):
        read_predictions(tmp_path / "a.csv", "y", "p", ["x"])
    if remedy:
        read = read_predictions(tmp_path / "a.csv", "y", "p", ["x"], bins=remedy)
        assert read.groups["x"].value_counts().to_dict() == {"<50": 50, ">=50": 150}


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x00" * 64])
def test_a_damaged_parquet_is_one_sentence(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(InputError, match="not a readable table") as caught:
        read_predictions(tmp_path / "a.parquet", "y", "p", ["x"])
    assert "\n" not in str(caught.value)
