"""Arguments are checked by their annotations, before the body runs; what is not checked is passed on as it is."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pytest

from synthfair_hf.arguments import Count, Fraction, Seed, checked, usable_path
from synthfair_hf.errors import InputError


class Reader(Protocol):
    def read(self) -> str: ...


@checked
def door(
    seed: Seed = 0,
    count: Count | None = None,
    share: Fraction = 0.5,
    kind: Literal["a", "b"] = "a",
    place: str | Path | None = None,
    names: Sequence[str] = (),
    edges: Iterable[tuple[str, str]] = (),
    weights: Mapping[str, float] | None = None,
    reader: Reader | None = None,
    free: Any = None,
    flag: bool = False,
    **others: Any,
) -> dict[str, Any]:
    return {key: value for key, value in locals().items() if key != "others"} | others


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"seed": -1}, "seed: -1 is invalid; give a whole number from 0 to 9223372036854775807."),
        ({"seed": 2**64}, f"seed: {2**64} is invalid; give a whole number from 0 to 9223372036854775807."),
        ({"seed": True}, "seed: True is invalid; give a whole number from 0 to 9223372036854775807."),
        ({"seed": "3"}, "seed: '3' is invalid; give a whole number from 0 to 9223372036854775807."),
        ({"count": 0}, "count: 0 is invalid; give a whole number from 1 to 2147483647."),
        ({"share": float("nan")}, "share: nan is invalid; give a finite number from 0 to 1."),
        ({"kind": "c"}, "kind: 'c' is unknown; allowed: a, b."),
        ({"place": ""}, "place: '' is no path; give one."),
        ({"place": "a\0b"}, r"place: 'a\x00b' holds a NUL character; leave it out."),
        ({"place": Path("x" * 300)}, f"place: '{'x' * 119}... is too long for a path; give a shorter one."),
        ({"names": "abc"}, "names: 'abc' is invalid"),
        ({"names": ["a", 1]}, "names[1]: 1 is invalid; give text."),
        ({"edges": ["ab"]}, "edges[0]: 'ab' is invalid"),
        ({"weights": {"a": "x"}}, "weights['a']: 'x' is invalid; give a finite number."),
        ({"weights": {1: 1.0}}, "weights[1]: 1 is invalid; give text."),
        ({"reader": 3}, "reader: 3 is invalid; give a Reader."),
        ({"flag": 1}, "flag: 1 is invalid; give true or false."),
    ],
)
def test_what_an_annotation_does_not_allow_is_one_sentence(given: dict[str, Any], sentence: str):
    with pytest.raises(InputError) as error:
        door(**given)
    assert str(error.value).startswith(sentence)


def test_what_is_allowed_arrives_as_it_is():
    class File:
        def read(self) -> str:
            return ""

    given: dict[str, Any] = {"seed": 3, "names": ("a", "b"), "weights": {"a": 1}, "reader": File(), "free": object()}
    assert door(**given, more=1) == {**door(), **given, "more": 1}
    found = door(seed=np.int64(3), share=np.float32(0.5), names=np.array(["a"]), edges=iter([["a", "b"]]))
    assert (found["seed"], found["share"], found["names"], found["edges"]) == (3, 0.5, ["a"], [("a", "b")])
    assert type(found["seed"]) is int


def test_a_link_to_itself_and_no_name_are_no_paths(tmp_path: Path):
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "loop", tmp_path / "loop" / "x"):
        with pytest.raises(InputError, match="is a symbolic link to itself"):
            usable_path("output_dir", path)
    with pytest.raises(InputError, match="holds what no file name can"):
        usable_path("output_dir", "a\ud800")
    usable_path("output_dir", tmp_path / "new" / "directory")
    usable_path("output_dir", os.devnull)
