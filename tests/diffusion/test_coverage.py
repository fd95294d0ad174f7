"""Training images by combination of covariates, against looking at every image."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.diffusion.coverage import Coverage
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.records import Record

PRESET = CHEST_XRAY.restrict(("age", "sex", "finding", "view", "scanner"))

AGES = st.none() | st.integers(10, 90).map(float)
LEVELS = {one.name: st.none() | st.sampled_from(one.levels) for one in PRESET.covariates.walk() if one.categorical}
IMAGE = st.fixed_dictionaries({"age": AGES, **LEVELS})


def table(images: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [image[name] for image in images] for name in PRESET.covariates.names}


def shows(image: dict[str, Any], wanted: dict[str, Any], known: list[float]) -> bool:
    """Whether an image has these levels, and an age of the same group as a number that is within all known ages."""
    for name, value in wanted.items():
        if name != "age":
            if image[name] != value:
                return False
        elif isinstance(value, str):
            if image["age"] is None or (image["age"] < 50) != (value == "under 50 years"):
                return False
        elif image["age"] is None or not min(known) <= value <= max(known) or (image["age"] < 50) != (value < 50):
            return False
    return True


@settings(max_examples=60)
@given(
    st.lists(IMAGE, max_size=40), st.lists(IMAGE, max_size=10), IMAGE, st.sets(st.sampled_from(PRESET.covariates.names))
)
def test_numbers_are_those_of_looking_at_every_image(images, others, wanted, names):
    wanted = {name: wanted[name] for name in names if wanted[name] is not None}
    own = Coverage.count(PRESET, table([*images, *others]), range(len(images)))
    both = own + Coverage.count(PRESET, table(others), range(len(others)))
    for found, seen in ((own, images), (both, [*images, *others])):
        known = [image["age"] for image in seen if image["age"] is not None]
        assert found.images == len(seen)
        assert found.number(PRESET, wanted) == sum(shows(image, wanted, known) for image in seen)
        assert Coverage.of(Record(stage="train", counts=found.counts)) == found
    if "age" in wanted:
        group = "under 50 years" if wanted["age"] < 50 else "50 years and older"
        assert own.number(PRESET, {"age": group}) == sum(shows(image, {"age": group}, []) for image in images)


def test_a_scanner_that_is_drawn_anew_is_seen_with_everything():
    image = {"age": 30.0, "sex": "female", "finding": "pneumonia", "view": "PA", "scanner": "portable"}
    found = Coverage.count(PRESET, table([image]), [0], drawn=("scanner",))
    assert found.number(PRESET, {"sex": "female", "scanner": "computed"}) == 1
    assert found.number(PRESET, {"sex": "male", "scanner": "portable"}) == 0


@pytest.mark.parametrize(
    "damage", [None, {}, {"variables": []}, {"variables": [], "cells": [[["a"], -1]], "ranges": {}}]
)
def test_a_damaged_count_is_one_sentence(damage):
    with pytest.raises(InputError, match=r"counts\.coverage is not readable"):
        Coverage.of(Record(stage="train", counts={"coverage": damage}))
    assert Coverage.of(Record(stage="train")) is None
