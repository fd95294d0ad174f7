"""What is written is read back, by `datasets` too; what is wrong is named, and nothing half-written."""

import io
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from test_pairs import assert_same

from synthfair_hf.align import preferences as module
from synthfair_hf.align.pairs import from_scores
from synthfair_hf.align.preferences import read_preferences, write_preferences
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.errors import InputError
from synthfair_hf.records import Record
from synthfair_hf.schema import SPLITS


def in_order(pairs):
    return pairs.select(np.argsort([list(SPLITS).index(split) for split in pairs.splits], kind="stable"))


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_read_split_by_split(make_pairs, tmp_path, channels):
    pairs = make_pairs(40, channels=channels)
    assert set(pairs.splits) == set(SPLITS)
    assert any((column == -1).any() for column in pairs.covariates.values()), "some are missing"
    record = write_preferences(pairs, tmp_path / "prefs", PHANTOM, access="credentialed")
    read = read_preferences(tmp_path / "prefs", PHANTOM)
    assert_same(read, in_order(pairs))
    assert record.inputs == {"preferences": read.fingerprint, "access": "credentialed"}
    subjects = []
    for split in SPLITS:
        part = read_preferences(tmp_path / "prefs", PHANTOM, split)
        assert_same(part, pairs.select(pairs.splits == split))
        subjects.append(set(part.subjects))
    assert not subjects[0] & subjects[1] | subjects[0] & subjects[2] | subjects[1] & subjects[2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prefs"], "nothing is left beside it"


def test_writing_repeats_byte_for_byte(make_pairs, tmp_path):
    for name in ("one", "two"):
        write_preferences(make_pairs(10), tmp_path / name, PHANTOM)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_datasets_reads_it_without_this_package(make_pairs, tmp_path):
    pairs = in_order(make_pairs(30))
    write_preferences(pairs, tmp_path / "prefs", PHANTOM)
    loaded = datasets.load_dataset("parquet", data_dir=str(tmp_path / "prefs"))
    assert list(loaded) == list(SPLITS)
    whole = datasets.concatenate_datasets([loaded[split] for split in SPLITS])
    assert whole.features["sex"] == datasets.ClassLabel(names=list(PHANTOM.covariates["sex"].levels))
    assert whole["judge"][:] == pairs.judges.tolist()
    for row, example in enumerate(whole):
        assert np.array_equal(np.asarray(example["preferred"]), pairs.preferred[row, 0].numpy())
        assert np.array_equal(np.asarray(example["rejected"]), pairs.rejected[row, 0].numpy())
        assert example["sex"] == (None if pairs.covariates["sex"][row] < 0 else int(pairs.covariates["sex"][row]))
        assert (example["margin"] is None) == bool(pairs.margins[row].isnan())


def test_the_record_counts_pairs_and_ties(make_pairs, tmp_path):
    pairs = make_pairs(40, missing=0)
    scores = torch.randint(3, (2, 40), generator=torch.Generator().manual_seed(0)).double()
    told = (pairs.covariates, pairs.subjects, pairs.splits, "reader")
    kept, counts = from_scores(pairs.preferred, pairs.rejected, *scores, *told)
    record = write_preferences(kept, tmp_path / "prefs", PHANTOM, counts)
    assert record == Record.read(tmp_path / "prefs" / "record.json")
    assert (record.stage, record.settings) == ("preferences", {"preset": "phantom", "judges": ["reader"]})
    compared = record.counts["comparisons"]["reader"]
    assert compared["compared"] == 40 == compared["ties"] + record.counts["pairs"]
    assert sum(one["pairs"] for one in record.counts["by split"].values()) == len(kept)
    for split, one in record.counts["by split"].items():
        part = kept.select(kept.splits == split)
        assert one["judges"] == {"reader": len(part)}
        assert set(one["groups"]) == set(PHANTOM.covariates.names)
        assert all(sum(groups.values()) == len(part) for groups in one["groups"].values())
        women = int((part.covariates["sex"] == PHANTOM.covariates["sex"].levels.index("female")).sum())
        assert one["groups"]["sex"]["female"] == women
        assert one["groups"]["age"]["under 50 years"] == int((part.covariates["age"] < 50).sum())


# -- refused before anything is written


def test_nothing_is_written_of_what_is_wrong(make_pairs, tmp_path):
    pairs, fewer = make_pairs(4), make_pairs(4)
    del fewer.covariates["sex"]
    for wrong, preset, sentence in [
        (pairs.select(np.zeros(4, dtype=bool)), PHANTOM, "preferences: no pairs; give at least one"),
        (pairs, CHEST_XRAY, "covariates: 'habitus' is unknown; allowed: age, sex, race, "),
        (fewer, PHANTOM, "covariates: sex not given; needed: age, sex, "),
        (
            make_pairs(4, covariates={**pairs.covariates, "sex": torch.full((4,), 2)}),
            PHANTOM,
            "covariates['sex']: 2; allowed: torch.int64, -1 to 1",
        ),
        (
            make_pairs(4, covariates={**pairs.covariates, "age": torch.full((4,), 101.0)}),
            PHANTOM,
            "covariates['age']: 101; allowed: torch.float32, 0 to 100",
        ),
        (
            make_pairs(4, covariates={**pairs.covariates, "age": torch.zeros(4, dtype=torch.int64)}),
            PHANTOM,
            "covariates['age']: torch.int64; allowed: torch.float32, 0 to 100",
        ),
    ]:
        with pytest.raises(InputError, match=f"^{re.escape(sentence)}"):
            write_preferences(wrong, tmp_path / "prefs", preset)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_use_is_left_as_it_is(make_pairs, tmp_path):
    (tmp_path / "prefs").mkdir()
    write_preferences(make_pairs(4), tmp_path / "prefs", PHANTOM)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(InputError, match="holds files; give a new or an empty directory"):
        write_preferences(make_pairs(5), tmp_path / "prefs", PHANTOM)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; give a directory"):
        write_preferences(make_pairs(5), tmp_path / "file", PHANTOM)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_full_disk_leaves_nothing(make_pairs, tmp_path, monkeypatch, call):
    write, calls = module.write_atomically, []

    def fail(path, data):
        calls.append(path)
        if len(calls) == call:
            raise OSError("disk full")
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomically", fail)
        with pytest.raises(OSError, match="disk full"):
            write_preferences(make_pairs(40), tmp_path / "prefs", PHANTOM)
    assert list(tmp_path.iterdir()) == []
    write_preferences(make_pairs(40), tmp_path / "prefs", PHANTOM)


# -- files that others wrote


def png(side=8, mode="L", grey=0):
    buffer = io.BytesIO()
    Image.new(mode, (side, side), grey).save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def rows(count=2, **changes):
    """Columns of a good file; a value is a level's name."""
    levels = {variable.name: (variable.levels or variable.range)[0] for variable in PHANTOM.covariates.walk()}
    columns = {
        "preferred": [png(grey=place + 1) for place in range(count)],
        "rejected": [png(grey=100 + place) for place in range(count)],
        **{name: [value] * count for name, value in levels.items()},
        "subject_id": [f"s{place}" for place in range(count)],
        "judge": ["Ada"] * count,
        "comment": [None] * count,
        "margin": [None] * count,
    }
    return {name: column for name, column in {**columns, **changes}.items() if column is not None}


def write_rows(directory, columns, split="train", shard=0):
    """As a labeller would, by `datasets` alone: level names as plain strings."""
    kinds = {name: datasets.Value("string") for name in columns}
    kinds |= {name: datasets.Image() for name in ("preferred", "rejected") if name in columns}
    kinds |= {name: datasets.Value("float32") for name in ("age", "habitus", "margin") if name in columns}
    (directory / "data").mkdir(parents=True, exist_ok=True)
    path = directory / "data" / f"{split}-{shard:05d}-of-00002.parquet"
    features = datasets.Features(kinds)
    pq.write_table(pa.table(columns, schema=features.arrow_schema), path, write_page_checksum=True)
    return path


def test_a_person_may_write_it_with_datasets_alone(tmp_path):
    write_rows(tmp_path, rows(2, sex=["female", None], margin=[None, 0.5]))
    write_rows(tmp_path, rows(1, subject_id=["s9"]), shard=1)
    write_rows(tmp_path, rows(1, subject_id=["t1"]), split="test")
    read = read_preferences(tmp_path, PHANTOM)
    assert read.splits.tolist() == ["train", "train", "train", "test"]
    assert read.subjects.tolist() == ["s0", "s1", "s9", "t1"]
    assert read.covariates["sex"].tolist() == [1, -1, 0, 0]
    assert read.preferred[:, 0, 0, 0].tolist() == [1, 2, 1, 1]
    assert read.margins.isnan().tolist() == [True, False, True, True]
    assert read.comments.tolist() == [""] * 4


def test_levels_in_another_order_keep_their_names(tmp_path):
    path = write_rows(tmp_path, rows(2, sex=None))
    label = datasets.ClassLabel(names=["female", "male"])
    loaded = datasets.Dataset.from_parquet(str(path)).add_column("sex", [0, 1]).cast_column("sex", label)
    loaded.to_parquet(path)
    names = PHANTOM.covariates["sex"].levels
    assert [names[code] for code in read_preferences(tmp_path, PHANTOM).covariates["sex"]] == ["female", "male"]


SHARED = png(grey=7)
Change = Callable[[], dict[str, Any]]
WRONG: dict[str, tuple[Change, str]] = {
    "identical": (lambda: rows(2, preferred=[SHARED, png()], rejected=[SHARED, png(grey=1)]), "hold the same image"),
    "contradictory": (
        lambda: rows(2, preferred=[SHARED, png()], rejected=[png(), SHARED], subject_id=["s0", "s0"]),
        "pairs: judge 'Ada' prefers each of the same two images in rows 0 and 1",
    ),
    "mixed size": (
        lambda: rows(2, rejected=[png(grey=9), png(16)]),
        "row 1, rejected: 1 x 16 x 16 (channels, height, width), but",
    ),
    "mixed channels": (lambda: rows(2, rejected=[png(grey=9), png(mode="RGB")]), "row 1, rejected: 3 x 8 x 8"),
    "empty": (lambda: rows(0), "its files hold no pairs; give at least one"),
    "damaged image": (lambda: rows(1, preferred=[{"bytes": b"x", "path": None}]), "row 0, preferred: not a readable"),
    "absent image": (lambda: rows(1, preferred=[None]), "row 0, preferred: not a readable image"),
    "16 bits": (lambda: rows(1, preferred=[png(mode="I;16")]), "row 0, preferred: pixel mode I;16 is not supported"),
    "a path only": (lambda: rows(1, preferred=[{"bytes": None, "path": "a.png"}]), "row 0, preferred: not a readable"),
    "unknown covariate": (lambda: rows(2, gender=["x", "y"]), "column: 'gender' is unknown; allowed: preferred, "),
    "no judge": (lambda: rows(2, judge=None), "without the columns judge; needed: "),
    "no covariate": (lambda: rows(2, sex=None), "without the columns sex; needed: "),
    "unknown level": (lambda: rows(2, sex=["male", "man"]), "['sex']: 'man' is unknown; allowed: male, female"),
    "out of range": (lambda: rows(2, age=[1.0, 130.0]), "['age']: 130.0 is out of range"),
    "nobody": (lambda: rows(2, judge=["Ada", ""]), "some rows have no judge; give each one"),
    "no subject": (lambda: rows(2, subject_id=["s", None]), "some rows have no subject_id; give each one"),
    "negative margin": (lambda: rows(2, margin=[1, -1]), "margins: some are below 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_sentence_that_names_the_place(tmp_path, case):
    columns, sentence = WRONG[case]
    write_rows(tmp_path, columns())
    with pytest.raises(InputError, match=re.escape(sentence)) as raised:
        read_preferences(tmp_path, PHANTOM)
    assert str(raised.value).startswith(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_columns_that_hold_something_else_are_refused(tmp_path):
    path = write_rows(tmp_path, rows(2, preferred=None))
    datasets.Dataset.from_parquet(str(path)).add_column("preferred", ["a.png", "b.png"]).to_parquet(path)
    with pytest.raises(InputError, match="column 'preferred' holds no images"):
        read_preferences(tmp_path, PHANTOM)


def test_a_directory_without_pairs_is_refused(make_pairs, tmp_path):
    with pytest.raises(InputError, match=r"no pairs there \(data/train-\*\.parquet, "):
        read_preferences(tmp_path, PHANTOM)
    write_rows(tmp_path, rows(2))
    with pytest.raises(InputError, match=r"no pairs there \(data/test-\*\.parquet\)"):
        read_preferences(tmp_path, PHANTOM, "test")
    with pytest.raises(InputError, match=r"^split: 'val' is unknown; allowed: train, validation, test"):
        read_preferences(tmp_path, PHANTOM, "val")
    write_rows(tmp_path, rows(2), split="test")
    with pytest.raises(InputError, match="splits: subject 's0' is in train and in test"):
        read_preferences(tmp_path, PHANTOM)


def test_damaged_bytes_never_become_pixels(make_pairs, tmp_path):
    write_preferences(make_pairs(12), tmp_path / "prefs", PHANTOM)
    path = tmp_path / "prefs" / "data" / "train-00000-of-00001.parquet"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    before = read_preferences(tmp_path / "prefs", PHANTOM).fingerprint
    for data in (b"", whole[: len(whole) // 2], b"PAR1"):
        path.write_bytes(data)
        with pytest.raises(InputError, match="not a readable parquet file"):
            read_preferences(tmp_path / "prefs", PHANTOM)
    for place in rng.integers(4, int(0.8 * len(whole)), 20):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        with suppress(InputError):
            assert read_preferences(tmp_path / "prefs", PHANTOM).fingerprint == before, "a byte nobody reads"
