from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from synthfair_hf.errors import Checked, InputError, counted, printable, unknown


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


@pytest.mark.parametrize(
    ("value", "allowed"),
    [("race", ["age", "sex"]), ("--race", ["--age", "--seed"]), ("", ["a"]), ("skin_tone", ["site", "sex"])],
)
def test_a_name_that_only_shares_letters_is_not_suggested(value: str, allowed: list[str]):
    assert "did you mean" not in str(unknown("variable", value, allowed))


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 problems"), (1, "1 problem"), (2, "2 problems"), (1000, "1000 problems")]
)
def test_one_is_counted_as_one(number: int, text: str):
    assert counted(number, "problem") == text


class Settings(Checked, BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: PositiveInt = Field(8, le=64)
    rate: float = Field(0.5, gt=0, lt=1)
    kind: Literal["a", "b"] = "a"
    name: str = "x"
    place: Path | None = None
    parts: tuple[PositiveInt, ...] = (1,)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"size": 0}, "size: 0 is invalid; give a whole number from 1 to 64."),
        ({"size": "x"}, "size: 'x' is invalid; give a whole number from 1 to 64."),
        ({"size": 1.5}, "size: 1.5 is invalid; give a whole number from 1 to 64."),
        ({"size": 2**70}, f"size: {2**70} is invalid; give a whole number from 1 to 64."),
        ({"rate": 1}, "rate: 1 is invalid; give a finite number above 0 and below 1."),
        ({"rate": float("nan")}, "rate: nan is invalid; give a finite number above 0 and below 1."),
        ({"kind": "c"}, "kind: 'c' is unknown; allowed: a, b."),
        ({"name": 3}, "name: 3 is invalid; give text."),
        ({"parts": (1, -1)}, "parts.1: -1 is invalid; give a whole number from 1 on."),
        (
            {"sise": 3},
            "Settings: 'sise' is unknown; allowed: size, rate, kind, name, place, parts; did you mean 'size'?",
        ),
    ],
)
@pytest.mark.parametrize("make", [lambda given: Settings(**given), Settings.model_validate])
def test_a_model_says_its_first_invalid_field_in_our_words(make, given: dict, sentence: str):
    with pytest.raises(InputError) as error:
        make(given)
    assert str(error.value) == sentence


def test_a_sentence_repeats_the_beginning_of_a_long_value_and_prints_on_one_line():
    assert len(str(unknown("name", "x" * 10**6, ["a"]))) < 200
    assert printable("a\nb\x1b[2J\u202ec") == r"a\nb\x1b[2J\u202ec"
    assert str(InputError("a\ud800")) == r"a\ud800"
