import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError
from synthfair_hf.schema import MISSING_LEVEL, Schema, Variable

AGE = Variable(
    name="age", kind="continuous", role="protected", nature="patient/demographic", unit="years", range=(0, 100)
)
SEX = Variable(
    name="sex",
    kind="categorical",
    role="protected",
    nature="patient/demographic",
    levels=("male", "female"),
    aliases={"M": "male"},
)
PAIR = Schema(variables=(AGE, SEX))
MISSING = [None, "", "  ", "unknown", "NaN", "<NA>", "n/a", math.nan, np.float32("nan"), pd.NA, pd.NaT, np.ma.masked]
"""What `missing` calls unknown."""

names = st.text(min_size=1, max_size=8)


@st.composite
def continuous(draw: st.DrawFn) -> Variable:
    low, high = draw(
        st.tuples(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6)).filter(lambda ends: ends[0] < ends[1])
    )
    return AGE.model_copy(update={"name": draw(names), "range": (float(low), float(high))})


@st.composite
def categorical(draw: st.DrawFn) -> Variable:
    levels = draw(st.lists(names, min_size=2, max_size=5, unique=True))
    return SEX.model_copy(update={"name": draw(names), "levels": tuple(levels), "aliases": {}})


def values_of(variable: Variable) -> st.SearchStrategy[object]:
    if variable.categorical:
        return st.none() | st.sampled_from(variable.levels)
    low, high = variable.bounds
    return st.none() | st.floats(low, high, width=32)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Schema, dict[str, list[object]]]:
    variables = draw(
        st.lists(continuous() | categorical(), min_size=1, max_size=4, unique_by=lambda variable: variable.name)
    )
    rows = draw(st.integers(0, 5))
    columns = {
        variable.name: draw(st.lists(values_of(variable), min_size=rows, max_size=rows)) for variable in variables
    }
    return Schema(variables=tuple(variables)), columns


@given(tables())
def test_decode_inverts_encode(case: tuple[Schema, dict[str, list[object]]]):
    schema, columns = case
    encoded = schema.encode(columns)
    assert schema.decode(encoded) == columns
    for variable in schema.walk():
        array = encoded[variable.name]
        assert array.dtype == (np.int64 if variable.categorical else np.float32)
        missing = array == MISSING_LEVEL if variable.categorical else np.isnan(array)
        assert missing.tolist() == [value is None for value in columns[variable.name]]


@given(tables(), st.randoms(use_true_random=False))
def test_column_order_never_matters(case, random):
    schema, columns = case
    shuffled = list(columns)
    random.shuffle(shuffled)
    ours, theirs = schema.encode(columns), schema.encode({name: columns[name] for name in shuffled})
    assert all(np.array_equal(ours[name], theirs[name], equal_nan=True) for name in columns)


@given(continuous(), st.floats(allow_nan=True))
def test_numbers_are_accepted_exactly_inside_the_range(variable: Variable, value: float):
    low, high = variable.bounds
    if low <= value <= high:
        assert variable.encode_value(value) == value
        return
    with pytest.raises(InputError) as error:
        variable.encode_value(value)
    for part in (variable.name, repr(value), f"{low:g} to {high:g} years"):
        assert part in str(error.value)


@pytest.mark.parametrize("value", [True, "54", b"54", [54], 1j])
def test_what_is_no_number_is_refused(value: object):
    with pytest.raises(InputError, match=r"age: .* is not a number; give years in \[0, 100\]"):
        AGE.encode_value(value)


@pytest.mark.parametrize("value", ["femal", 1, True, b"male", 0.5])
def test_what_is_no_level_is_refused(value: object):
    with pytest.raises(InputError, match=r"sex: .* is unknown; allowed: male, female"):
        SEX.encode_value(value)


@pytest.mark.parametrize("value", MISSING, ids=repr)
@pytest.mark.parametrize("variable", [AGE, SEX], ids=lambda one: one.name)
def test_what_is_unknown_is_missing_or_refused_as_missing(variable, value):
    assert variable.decode(variable.encode([value])) == [None]
    allowed = "years in [0, 100]" if variable is AGE else "one of male, female"
    with pytest.raises(InputError) as error:
        variable.encode([value], known=True)
    word = f" ({value!r} says that nothing is known)" if isinstance(value, str) and value.strip() else ""
    assert str(error.value) == f"{variable.name}: is missing; give {allowed}{word}."
    assert PAIR.parse(variable.name, value, "covariates") is None


def test_a_level_is_taken_by_its_alias_wherever_it_is_given():
    sex = get_preset("chest_xray").covariates["sex"]
    schema = Schema(variables=(sex,))
    for text in ("female", "F", "Female"):
        assert schema.decode(schema.encode({"sex": [text]})) == {"sex": ["female"]}
        assert schema.parse("sex", text, "do") == "female"
    called = SEX.model_copy(update={"levels": ("male", "female", "unknown")})
    assert called.decode(called.encode(["unknown", "none"])) == ["unknown", None]


@pytest.mark.parametrize("code", [-2, 2])
def test_a_code_outside_the_levels_is_not_decoded(code: int):
    with pytest.raises(LookupError):
        SEX.decode([code])


def test_encode_names_the_offending_column():
    with pytest.raises(InputError, match=r"covariates\['age'\]: 120 is out of range; allowed: 0 to 100 years"):
        PAIR.encode({"age": [3, 120], "sex": ["male", "male"]})
    with pytest.raises(InputError, match=r"do: 'sexx' is unknown; allowed: age, sex; did you mean 'sex'\?"):
        PAIR.encode({"age": [3], "sexx": ["male"]}, argument="do")
    with pytest.raises(InputError, match="covariates: sex not given; needed: age, sex"):
        PAIR.encode({"age": [3]})
    with pytest.raises(InputError, match=r"sex not given; needed: sex; may be left out: age\."):
        PAIR.encode({"age": [3]}, unneeded=["age"])
    with pytest.raises(InputError, match=r"columns differ in length \(\{'age': 1, 'sex': 2\}\)"):
        PAIR.encode({"age": [3], "sex": ["male", "male"]})


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        (AGE, " 54 ", (54.0, None)),
        (AGE, "", (None, "empty")),
        (AGE, "054Y", (54.0, None)),
        (AGE, "014M", (14 / 12, None)),
        (AGE, "003w", (21 / 365.25, None)),
        (AGE, "010D", (10 / 365.25, None)),
        (AGE, "054X", (None, "not a number")),
        (AGE, "Y", (None, "not a number")),
        (AGE, "101Y", (None, "outside 0-100 years")),
        (AGE, "045", (45.0, None)),
        (AGE, "6_1", (None, "not a number")),
        (AGE, "1e3", (None, "outside 0-100 years")),
        (AGE, "101", (None, "outside 0-100 years")),
        (AGE, "nan", (None, "unknown")),
        (SEX, " n/a", (None, "unknown")),
        (SEX, "M", ("male", None)),
        (SEX, " female ", ("female", None)),
        (SEX, "X", (None, "level 'X' outside the schema")),
    ],
)
def test_parse_reads_or_gives_the_reason(variable: Variable, text: str, expected: tuple[object, str | None]):
    assert variable.parse(text) == expected


@given(st.sampled_from([AGE, SEX]), st.text(max_size=6))
def test_what_parse_reads_can_be_encoded(variable: Variable, text: str):
    value, reason = variable.parse(text)
    assert (value is None) == (reason is not None)
    variable.encode_value(value)


@pytest.mark.parametrize(
    "change",
    [
        {"levels": ("male",)},
        {"levels": ("male", "male")},
        {"kind": "continuous"},
        {"kind": "continuous", "unit": "years", "range": (1, 1)},
        {"kind": "continuous", "unit": "years", "range": (0, math.nan)},
        {"kind": "continuous", "unit": "years", "range": (0, math.inf)},
        {"role": "confounder"},
        {"nature": "patient"},
        {"level": ("male", "female")},
    ],
)
def test_incomplete_variables_are_refused(change: dict[str, object]):
    with pytest.raises(InputError):
        Variable(**{**SEX.model_dump(), **change})


def test_schema_is_frozen_and_its_names_distinct():
    with pytest.raises(ValidationError, match="frozen"):
        PAIR.variables = ()
    with pytest.raises(InputError, match="variable names must be distinct, got age, age"):
        Schema(variables=(AGE, AGE))


def test_subset_keeps_order_and_refuses_strangers():
    assert PAIR.subset(["sex", "age"]) == PAIR
    assert PAIR.subset(["sex"]).names == ("sex",)
    with pytest.raises(InputError, match="variable: 'race' is unknown; allowed: age, sex"):
        PAIR.subset(["race"])


def test_lookup_by_name():
    assert PAIR["sex"] is SEX
    assert "age" in PAIR
    assert "race" not in PAIR
    assert len(PAIR) == 2
    with pytest.raises(TypeError, match="sex is categorical"):
        _ = SEX.bounds


def test_features_carry_level_names_in_order():
    features = PAIR.features()
    assert list(features) == ["age", "sex"]
    assert features["age"].dtype == "float32"
    assert features["sex"].names == ["male", "female"]
    # the integer of a ClassLabel is the code of the schema, so a column needs no translation
    assert features["sex"].str2int(["male", "female"]) == SEX.encode(["male", "female"]).tolist()


def test_json_round_trip():
    assert Schema.model_validate_json(PAIR.model_dump_json()) == PAIR


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("age", "61", 61.0),
        ("age", " 6.1e1 ", 61.0),
        ("age", 61, 61),
        ("age", None, None),
        ("sex", "female", "female"),
        ("sex", None, None),
    ],
)
def test_text_becomes_a_level_or_a_number(name: str, value: object, expected: object):
    found = PAIR.parse(name, value, "do")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("sxe", "male", "do: 'sxe' is unknown; allowed: age, sex; did you mean 'sex'?"),
        ("sex", "Male", "do['sex']: 'Male' is unknown; allowed: male, female; did you mean 'male'?"),
        ("sex", "m", "do['sex']: 'm' is unknown; allowed: male, female"),
        ("age", "old", "do['age']: 'old' is not a number; give years in [0, 100]"),
        ("age", "6_1", "do['age']: '6_1' is not a number"),
        ("age", "140", "do['age']: 140.0 is out of range; allowed: 0 to 100 years"),
    ],
)
def test_text_that_is_no_value_is_refused(name: str, value: str, sentence: str):
    with pytest.raises(InputError) as error:
        PAIR.parse(name, value, "do")
    assert str(error.value).startswith(sentence)


def test_an_alias_of_a_level_is_that_level_wherever_text_is_read():
    assert PAIR.parse("sex", "M", "do") == "male"
    assert PAIR.parse("sex", "male", "do") == "male"


def test_an_age_is_given_as_a_table_has_it():
    schema = get_preset("chest_xray").covariates
    for text, years in (("030Y", 30), ("018M", 1.5), (" 61 ", 61)):
        assert schema.parse("age", text, "covariates") == years
        assert schema["age"].parse(text) == (years, None)
    with pytest.raises(InputError, match="covariates"):
        schema.parse("age", "411Y", "covariates")
