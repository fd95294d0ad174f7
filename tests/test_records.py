import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from synthfair_hf.errors import InputError
from synthfair_hf.records import (
    Record,
    file_sha256,
    fingerprint,
    first_difference,
    library_versions,
    row_generator,
    row_seed,
    write_atomically,
)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
settings = st.dictionaries(st.text(), plain, max_size=5)


def reordered(value: object) -> object:
    """The same value with every mapping's keys in the opposite order."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(settings)
def test_fingerprint_ignores_key_order(value: dict[str, object]):
    assert fingerprint(reordered(value)) == fingerprint(value)


@given(settings, st.text(), plain)
def test_one_changed_setting_changes_the_fingerprint(value: dict[str, object], key: str, new: object):
    changed = {**value, key: new}
    same = json.dumps(changed, sort_keys=True) == json.dumps(value, sort_keys=True)
    assert (fingerprint(changed) == fingerprint(value)) == same


def test_fingerprint_is_a_prefix_of_the_sha256_of_canonical_json():
    expected = hashlib.sha256(b'{"a":[1,2.5],"b":null}').hexdigest()
    assert fingerprint({"b": None, "a": (1, 2.5)}) == expected[:16]
    assert fingerprint({"b": None, "a": (1, 2.5)}, length=64) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(value: float, tmp_path: Path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint({"rate": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        Record(stage="fit", measured={"rate": value}).write(tmp_path / "record.json")
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_json_is_refused():
    with pytest.raises(TypeError, match="Path has no canonical JSON"):
        fingerprint({"directory": Path.cwd()})


@given(st.binary(max_size=64))
def test_file_sha256(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = tmp_path_factory.mktemp("digest") / "file"
    path.write_bytes(data)
    assert file_sha256(path) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failure_mid_way_leaves_the_old_file(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "record.json"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(OSError, match="disk full"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("record.json", b"new")]


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path: Path):
    (tmp_path / "elsewhere").write_bytes(b"kept")
    (tmp_path / "file.tmp").symlink_to(tmp_path / "elsewhere")
    write_atomically(tmp_path / "file", b"new")
    assert ((tmp_path / "elsewhere").read_bytes(), (tmp_path / "file").read_bytes()) == (b"kept", b"new")
    assert not (tmp_path / "file").is_symlink()


def test_bytes_are_on_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append("replace"), replace(old, new)))
    write_atomically(tmp_path / "file", b"data")
    assert calls == ["fsync", "replace"]


RECORD = Record(
    stage="generate",
    inputs={"plan": "ab12"},
    settings={"steps": 20, "guidance": 1.5},
    versions={"torch": "1"},
    counts={"rows": 12},
    measured={"psnr": {"value": 31.5, "n": 12}},
)


def test_record_round_trip(tmp_path: Path):
    RECORD.write(tmp_path / "record.json")
    assert Record.read(tmp_path / "record.json") == RECORD


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"stage": "fit"}, False),
        ({"inputs": {"plan": "ab13"}}, False),
        ({"settings": {"steps": 21, "guidance": 1.5}}, False),
        ({"settings": {"guidance": 1.5, "steps": 20}}, True),
        ({"versions": {"torch": "2"}}, True),
        ({"counts": {"rows": 13}}, True),
        ({"measured": {}}, True),
    ],
)
def test_record_fingerprint_is_its_question(change: dict[str, object], same: bool):
    assert (RECORD.model_copy(update=change).fingerprint == RECORD.fingerprint) == same


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"stage": "fit", "who": 1}', b"\xff\xfe"])
def test_a_damaged_or_foreign_file_is_named(content: bytes, tmp_path: Path):
    path = tmp_path / "record.json"
    with pytest.raises(InputError, match=r"record\.json: no record here"):
        Record.read(path)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"record\.json: not a record of this package"):
        Record.read(path)


def test_record_is_frozen_and_refuses_unknown_keys():
    with pytest.raises(ValidationError, match="frozen"):
        RECORD.stage = "fit"
    with pytest.raises(InputError, match="who"):
        Record.model_validate({"stage": "fit", "who": "me"})


@given(settings, settings)
def test_first_difference_is_none_exactly_when_equal(ours: dict[str, object], theirs: dict[str, object]):
    difference = first_difference(ours, theirs)
    assert (difference is None) == (ours == theirs)


def test_first_difference_names_key_and_both_values():
    assert first_difference({"b": 1, "c": 2}, {"b": 3, "c": 4}) == "b: 1 != 3"
    assert first_difference({"a": None}, {}) == "a: None != (absent)"


def test_library_versions_are_those_installed():
    import numpy

    assert library_versions()["numpy"] == numpy.__version__


def test_streams_are_those_that_data_sets_and_boards_were_written_from():
    """Pinned: another stream would be other noise under the same record."""
    assert row_generator(0).integers(2**32) == np.random.default_rng(0).integers(2**32)
    assert row_generator(20, 3).integers(2**32, size=3).tolist() == [2042904392, 2260920948, 2602352227]
    assert row_generator(20, 3).random() != row_generator(3, 20).random()
    assert [row_seed(0, 5), row_seed(2, 5)] == [5, 2_000_011]
