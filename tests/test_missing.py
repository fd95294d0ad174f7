"""One rule for what is unknown: in cells, in groups, and as the name of a patient."""

import decimal

import numpy as np
import pandas
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.audit import audit
from synthfair_hf.fairness.flips import flip_rates
from synthfair_hf.fairness.groups import group_codes
from synthfair_hf.fairness.hf_metrics import UNKNOWN, _columns, figure
from synthfair_hf.fairness.summaries import SUMMARIES
from synthfair_hf.missing import MISSING_WORDS, identifier, is_missing

NO_VALUES = [
    None,
    float("nan"),
    np.nan,
    np.float32("nan"),
    np.datetime64("NaT"),
    np.ma.masked,
    pandas.NA,
    pandas.NaT,
    decimal.Decimal("NaN"),
    decimal.Decimal("sNaN"),
    np.array(None),
    pyarrow.scalar(None),
    pyarrow.scalar(float("nan")),
    pyarrow.scalar(None, pyarrow.string()),
    b"",
    b"nan",
    np.bytes_(b"N/A"),
    *("not stated", "not given", "Not-Known", "n / a", "N.A", "(null)", "#REF!", "#DIV/0!", "unknown.", "[unknown]"),
    *("\u2013", "\u2014", "\u2212", "\u200b", "\ufeff", "\0", "\u3164", "\u200bunknown\ufeff", "\u2026", "####"),
    *("un\u00adknown", "Prefer not to say", "\uff2e\uff0f\uff21", "NOT_STATED", "'NaN'", '"None"'),
]


@st.composite
def words(draw: st.DrawFn) -> str:
    """A word for unknown, in any case, between spaces."""
    word = draw(st.sampled_from(sorted(MISSING_WORDS)))
    changed = "".join(letter.upper() if draw(st.booleans()) else letter for letter in word)
    space = st.sampled_from(["", " ", "\t", "\u00a0"])
    return draw(space) + changed + draw(space)


unknowns = st.sampled_from(NO_VALUES) | words()


@given(unknowns)
def test_unknown_is_unknown_in_cells_groups_and_names(value):
    assert is_missing(value)
    assert identifier(value) is None
    groups = group_codes("sex", ["male", value, "female", "male"], 4)
    assert groups.names == ("female", "male")
    assert groups.codes.tolist() == [1, -1, 0, 1]
    if isinstance(value, str):
        for variable in CHEST_XRAY.covariates.walk():
            assert variable.parse(value) in ((None, "empty"), (None, "unknown"))
    with pytest.raises(InputError, match="subjects: 1 of 4 are missing"):
        audit([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], {"sex": ["a", "b"] * 2}, ["p", "q", "r", value], permutations=0)
    with pytest.raises(InputError, match=r"subjects: give one value, none missing"):
        flip_rates([0.1, 0.9], ["p", value], {"sex": ["a", "b"]}, "sex")


@given(st.text(min_size=1).filter(lambda text: text.strip().isalnum() and not is_missing(text)))
def test_every_other_word_is_known(text):
    assert identifier(text) == text.strip()
    assert text.casefold() not in MISSING_WORDS


@pytest.mark.parametrize(
    "value",
    [
        0,
        0.0,
        False,
        "0",
        "none of these",
        "Nancy",
        np.int64(0),
        float("inf"),
        [],
        b"nan1",
        "ref",
        "+",
        ">",
        "no",
        "-1",
        "#1",
        "not",
        "value",
        "name",
    ],
)
def test_nothing_else_is_unknown(value):
    assert not is_missing(value)


@given(st.integers(-(10**15), 10**15))
def test_a_whole_number_is_one_patient_however_it_is_written(number):
    spelt = [number, float(number), str(number), f"{number}.0", f" {number}.000 ", np.int64(number), np.float64(number)]
    assert {identifier(one) for one in spelt} == {str(number)}


def test_a_leading_zero_and_a_fraction_are_part_of_a_name():
    assert [identifier(one) for one in ("03", "003.0", "3.5", "p3.0", "1.2.840.10008")] == [
        "03",
        "003",
        "3.5",
        "p3.0",
        "1.2.840.10008",
    ]


def test_rows_of_one_subject_count_as_one_in_an_audit():
    scores, labels, sexes = [0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], ["a", "b", "a", "b"]
    found = audit(scores, labels, {"sex": sexes}, [3, 3.0, "3", "3.0"], n_bootstrap=2, permutations=0)
    assert found.settings["subjects"] == 1


def test_masked_and_nullable_columns_keep_what_they_mask():
    masked = np.ma.array(["male", "female", "x"], mask=[False, False, True])
    assert group_codes("sex", masked, 3).names == ("female", "male")
    assert group_codes("sex", pandas.array(["male", "female", None], dtype="string"), 3).codes.tolist() == [1, 0, -1]
    kept = pandas.Categorical(["male", "unknown"], categories=["other", "male", "unknown"])
    assert group_codes("sex", kept, 2).names == ("other", "male")
    assert group_codes("sex", kept, 2).codes.tolist() == [1, -1]


def test_metrics_leave_unknown_groups_out():
    scores, labels = [0.1, 0.9, 0.2, 0.8, 0.9, 0.1], [0, 1, 0, 1, 0, 1]
    named, unknown = ["a", "a", "b", "b"], ["n/a", "unknown"]
    summary = SUMMARIES["worst_group_accuracy"]
    assert figure(summary, scores, labels, named + unknown, 0.5) == figure(summary, scores[:4], labels[:4], named, 0.5)


def test_what_is_not_seen_is_no_other_patient():
    assert {identifier(one) for one in ("p1", "p1\u200b", "\ufeffp1", b"p1", pyarrow.scalar("p1"))} == {"p1"}


@given(unknowns)
def test_metrics_of_evaluate_have_the_same_rule(value):
    given = {"predictions": [0.1, 0.9, 0.5], "references": [0, 1, 1], "groups": ["a", "b", value]}
    assert _columns(given)["groups"] == ["a", "b", UNKNOWN]


@pytest.mark.parametrize("column", [None, "aaa", b"aaa", 3, {"a": 1, "b": 2, "c": 3}, {"a", "b", "c"}, [["a"] * 3] * 2])
def test_what_is_no_column_of_groups_is_one_sentence(column):
    with pytest.raises(InputError, match=r"groups\['g'\]: .* for 3 scores; give a list of names, one per score\.$"):
        audit([0.1, 0.9, 0.5], [0, 1, 1], {"g": column}, permutations=0)
    with pytest.raises(InputError, match=r"groups: not (one name for each|given)"):
        _columns({"predictions": [0.1, 0.9, 0.5], "references": [0, 1, 1], "groups": column})
