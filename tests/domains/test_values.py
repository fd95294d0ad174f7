"""Values as data sets publish them become the schema's, or stay what they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.values import label, published, race

CHEST = get_preset("chest_xray").covariates


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        *(("age", text, value) for text, value in {"060Y": 60, "014M": 14 / 12, "0": 0, "61.0": 61}.items()),
        *(("age", text, 90) for text in (">89", "> 89", "90+", "90 or more", ">=90", "≥ 90", "90 or older")),
        *(("age", text, None) for text in ("411Y", ">120", "old", "-1", "")),
        *(("sex", text, "male") for text in ("M", "Male", "male", "MALE")),
        *(("sex", text, None) for text in ("U", "O", "1", "unknown")),
        *(("view", text, "PA") for text in ("PA", "pa", "POSTEROANTERIOR", "Postero-Anterior")),
        *(("view", text, "AP") for text in ("AP", "ap", "ANTEROPOSTERIOR", "AP SUPINE", "AP_horizontal", "AP erect")),
        *(("view", text, None) for text in ("LL", "LATERAL", "AP LLD", "")),
    ],
)
def test_a_published_value_is_read(name, text, value):
    variable = CHEST[name]
    assert variable.parse(published(variable, text))[0] == (pytest.approx(value) if name == "age" and value else value)


@given(st.integers(10, 99), st.sampled_from([">{}", "{}+", ">={}", "{} or more"]))
def test_a_top_code_is_the_least_age_that_it_can_mean(age, form):
    least = age + 1 if form == ">{}" else age
    assert CHEST["age"].parse(published(CHEST["age"], form.format(age)))[0] == least


@given(st.sampled_from(CHEST.names), st.text())
def test_nothing_but_its_own_spellings_is_changed(name, text):
    variable = CHEST[name]
    value, _ = variable.parse(text)
    if value is not None:
        assert variable.parse(published(variable, text))[0] == value


@pytest.mark.parametrize("number", ["1", "1.0", "0", "0.0", "-1", "-1.0", "", " "])
def test_a_label_has_three_states_and_the_policy_decides_one(number):
    states = {policy: label(number, policy) for policy in ("missing", "positive", "negative")}
    if number.startswith("-1"):
        assert states == {"missing": "", "positive": "present", "negative": "absent"}
    else:
        assert set(states.values()) == {"present" if number.startswith("1") else "absent"}


def test_a_label_that_is_none_stays_to_be_counted():
    assert label("maybe", "missing") == "maybe"


@pytest.mark.parametrize(
    ("text", "group"),
    [
        *(("WHITE - BRAZILIAN", "white"), ("Black or African American", "black"), ("ASIAN - KOREAN", "asian")),
        *(("HISPANIC/LATINO - CUBAN", "other"), ("AMERICAN INDIAN/ALASKA NATIVE", "other")),
        *(("UNABLE TO OBTAIN", ""), ("Race and Ethnicity Unknown", ""), ("PATIENT DECLINED TO ANSWER", "")),
    ],
)
def test_races_are_those_that_hospitals_record(text, group):
    assert race(text) == group
