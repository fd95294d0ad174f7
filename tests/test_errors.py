import pytest

from synthfair_hf.errors import InputError, unknown


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize(
    ("value", "nearest"), [("femle", "female"), ("FEMALE", "female"), ("portabel", "portable"), ("Ap", "AP")]
)
def test_unknown_names_argument_value_allowed_and_nearest(value: str, nearest: str):
    message = str(unknown("do['x']", value, ["male", "female", "portable", "AP"]))
    assert message == (f"do['x']: {value!r} is unknown; allowed: male, female, portable, AP; did you mean {nearest!r}?")


def test_unknown_without_a_near_name_gives_no_hint():
    assert str(unknown("level", "zzz", ["male"])) == "level: 'zzz' is unknown; allowed: male."


def test_unknown_takes_values_of_any_kind_and_an_empty_choice():
    assert str(unknown("level", 3, [])) == "level: 3 is unknown; allowed: (none)."
