import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, List, Value

from synthfair_hf.errors import InputError
from synthfair_hf.generate import store as store_module
from synthfair_hf.generate.render import encode_png
from synthfair_hf.generate.run import generate
from synthfair_hf.generate.store import PIXELS, Store, plan_of, read_plan, row_features
from synthfair_hf.generate.verification import verify
from synthfair_hf.publish.dataset_card import write_dataset_card
from synthfair_hf.records import Record, file_sha256

SHARD = "data/train-00000-of-00001.parquet"
RECORD = "records/train-00000-of-00001.json"


@pytest.fixture
def plan(make_plan):
    """One shard a split; that of train has two row groups."""
    return make_plan(subjects_per_shard=20)


def rows_of(plan, shard, **changed) -> list[dict]:
    """Rows of a shard whose images and values need no pipeline; the first of each family is the subject's own."""
    rng = np.random.default_rng(0)
    own = {row.subject: row for row in reversed(plan.rows(shard))}
    subjects = {one: {"age": 60.0 if "older" in row.stratum[0] else 40.0, "view": "PA"} for one, row in own.items()}
    do = {
        row.id: plan.intervention(row.cell, {**subjects[row.subject], **own[row.subject].cell})
        for row in plan.rows(shard)
    }
    return [
        {
            "id": row.id,
            "image": {
                "bytes": encode_png(rng.random((8, 8), dtype=np.float32), None),
                "path": f"{row.id}.png",
            },
            "split": row.split,
            "subject_id": row.subject_id,
            "parent_id": own[row.subject].id if do[row.id] else None,
            "intervention": json.dumps(do[row.id], sort_keys=True),
            **subjects[row.subject],
            **row.cell,
            **{f"noise_{name}": [0.5] for name in plan.preset.covariates.names},
            "seed": row.seed,
            "draw": row.draw,
            "synthetic": True,
            "source_dataset": "scm",
            "plan": plan.fingerprint,
            "model_revision": plan.model_revision,
            **changed,
        }
        for row in plan.rows(shard)
    ]


def flipped(data: bytes, position: int) -> bytes:
    """The same bytes with one bit of one byte changed."""
    return data[:position] + bytes([data[position] ^ 1 << position % 8]) + data[position + 1 :]


def inside_an_image(path: Path) -> int:
    """A position among the pixels of the second row group."""
    images = pq.ParquetFile(path).metadata.row_group(1).column(1)
    assert images.path_in_schema == "image.bytes"
    return images.dictionary_page_offset + images.total_compressed_size // 2


def complete(store: Store) -> None:
    for shard in store.plan.shards():
        store.write(shard, rows_of(store.plan, shard))
    write_dataset_card(store.directory, store.plan.preset, store.finish(), "cc-by-4.0")


def test_columns_follow_the_contract(plan, stored):
    names = plan.preset.covariates.names
    features = row_features(plan.preset.covariates)
    assert list(features) == [
        *("id", "image", "split", "subject_id", "parent_id", "intervention"),
        *names,
        *(f"noise_{name}" for name in names),
        *("seed", "draw", "synthetic", "source_dataset", "plan", "model_revision"),
    ]
    assert features["age"] == Value("float32")
    assert features["sex"] == ClassLabel(names=["male", "female"])
    assert features["noise_sex"] == List(Value("float32"))
    assert pq.read_schema(stored / SHARD).types == features.arrow_schema.types


def test_load_dataset_gives_labels_and_decoded_images(plan, stored, tmp_path, monkeypatch):
    # an image of the same name in the working directory must not be read instead
    raw = pq.read_table(stored / SHARD).to_pylist()
    (tmp_path / raw[0]["image"]["path"]).write_bytes(b"not an image")
    monkeypatch.chdir(tmp_path)
    files = {split: str(stored / f"data/{split}-*.parquet") for split in plan.subjects}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 240, "validation": 48, "test": 48}
    train = loaded["train"]
    assert train.features == row_features(plan.preset.covariates)
    assert train.features["scanner"].int2str(train[1]["scanner"]) == plan.cells[1]["scanner"]
    assert (train[0]["image"].mode, train[0]["image"].size) == ("L", (8, 8))
    assert train[0]["id"] == raw[0]["id"]


def test_a_missing_value_is_null_and_not_a_level(tmp_path, plan):
    store = Store(tmp_path / "new", plan)
    shard = plan.shards()[0]
    with store.open():
        store.write(shard, rows_of(plan, shard, view=None, age=None))
    table = pq.read_table(store.data_paths(shard)[0])
    assert table["view"].null_count == table["age"].null_count == table.num_rows


def test_the_same_rows_give_the_same_bytes_and_the_record_counts_them(tmp_path, plan):
    records = []
    for name in ("first", "second"):
        store = Store(tmp_path / name, plan)
        with store.open():
            records.append(store.write(plan.shards()[0], rows_of(plan, plan.shards()[0]), {"rejected": 3}))
    assert records[0] == records[1] == Record.read(tmp_path / "first" / RECORD)
    path = tmp_path / "first" / SHARD
    assert records[0].inputs == {"plan": plan.fingerprint}
    assert records[0].counts == {
        "rows": 240,
        "bytes": path.stat().st_size,
        "files": {SHARD: {"rows": 240, "bytes": path.stat().st_size, "sha256": file_sha256(path)}},
        "rejected": 3,
    }


def test_pages_have_checksums_and_an_index(stored):
    file = pq.ParquetFile(stored / SHARD)
    assert file.num_row_groups == 2
    assert file.metadata.row_group(0).column(0).has_offset_index
    data = flipped((stored / SHARD).read_bytes(), inside_an_image(stored / SHARD))
    with pytest.raises(OSError, match="CRC checksum"):
        pq.read_table(pa.BufferReader(data), page_checksum_verification=True)


def test_images_are_stored_as_they_are_and_what_was_begun_compressed_goes_on_so(stored, plan, tmp_path):
    def codecs(file):
        group = pq.ParquetFile(file).metadata.row_group(0)
        columns = [group.column(place) for place in range(group.num_columns)]
        return {one.path_in_schema: one.compression for one in columns}

    found = codecs(stored / SHARD)
    assert found.pop(PIXELS) == "UNCOMPRESSED"
    assert set(found.values()) == {"SNAPPY"}
    images = pq.read_table(stored / SHARD).column("image")
    whole = (stored / SHARD).read_bytes()
    assert all(one["bytes"] in whole for one in images.to_pylist())
    before = plan.model_copy(update={"parquet_version": 1})
    assert "parquet_version" not in before.model_dump(mode="json")
    assert plan_of(before.model_dump(mode="json")) == before


def test_a_sound_data_set_has_no_problems(stored, plan):
    assert verify(stored) == []
    assert read_plan(stored) == plan


def test_every_flipped_byte_is_found_and_its_row_group_named(stored):
    path, whole = stored / SHARD, (stored / SHARD).read_bytes()
    file = pq.ParquetFile(path)
    starts = [file.metadata.row_group(group).column(0).data_page_offset for group in range(2)]
    positions = sorted({0, len(whole) - 1, *np.linspace(4, len(whole) - 5, 24).astype(int).tolist()})
    for position in positions:
        path.write_bytes(flipped(whole, position))
        [problem] = verify(stored)
        assert problem.startswith(f"{SHARD}: its bytes differ from the recorded sha256")
        if "damaged row groups" in problem:
            assert f"damaged row groups: {int(position >= starts[1])})" in problem
    path.write_bytes(whole)
    assert verify(stored) == []


def test_damage_inside_a_page_is_located(stored):
    path = stored / SHARD
    path.write_bytes(flipped(path.read_bytes(), inside_an_image(path)))
    assert "(damaged row groups: 1)" in verify(stored)[0]


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_truncated_shard_is_named_and_redone(stored, plan, make_pipeline, kept):
    path, whole = stored / SHARD, (stored / SHARD).read_bytes()
    path.write_bytes(whole[:kept])
    size = len(whole[:kept])
    assert verify(stored) == [f"{SHARD}: has {size} bytes where its record says {len(whole)}; repair the data set."]
    generate(plan, make_pipeline(), stored, progress=False)
    assert path.read_bytes() == whole
    assert verify(stored) == []


def test_a_damaged_shard_is_redone_to_the_same_bytes_once_deleted(stored, plan, make_pipeline):
    path, whole = stored / SHARD, (stored / SHARD).read_bytes()
    path.write_bytes(flipped(whole, 500))
    assert verify(stored)
    path.unlink()
    generate(plan, make_pipeline(), stored, progress=False)
    assert path.read_bytes() == whole


def test_missing_files_are_named(stored):
    (stored / SHARD).unlink()
    (stored / "records/test-00000-of-00001.json").unlink()
    problems = verify(stored)
    assert len(problems) == 2
    assert f"{SHARD}: missing" in problems[0]
    assert "records/test-00000-of-00001.json: no readable record" in problems[1]


@pytest.mark.parametrize(
    "name", ["data/train-00001-of-00002.parquet", "data/notes.txt", "extra.parquet", "records/plan.json.tmp"]
)
def test_an_extra_file_is_named(stored, name):
    (stored / name).write_bytes(b"stray")
    assert verify(stored) == [f"{name}: not of this plan; remove it."]


def test_reports_and_other_records_are_no_strays(stored):
    (stored / "report.html").write_text("page")
    (stored / "records" / "audit.json").write_text("{}")
    assert verify(stored) == []


def test_swapped_shards_are_found(stored):
    one, other = stored / "data/test-00000-of-00001.parquet", stored / "data/validation-00000-of-00001.parquet"
    for names in ((one, other), (stored / "records" / f"{one.stem}.json", stored / "records" / f"{other.stem}.json")):
        first, second = (path.read_bytes() for path in names)
        names[0].write_bytes(second)
        names[1].write_bytes(first)
    assert [problem.split(":")[0] for problem in verify(stored)] == [
        f"records/{path.stem}.json" for path in (other, one)
    ]


@pytest.mark.parametrize("change", ["gone", "foreign", "stale"])
def test_the_record_of_the_run_must_be_of_these_shards(stored, change):
    path = stored / "records" / "generate.json"
    record = Record.read(path)
    path.unlink()
    if change == "foreign":
        path.write_text("{}")
    if change == "stale":
        record.model_copy(update={"counts": {**record.counts, "store": "0" * 16}}).write(path)
    [problem] = verify(stored)
    assert problem.startswith("records/generate.json: ")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda rows: rows[:-1], "239 rows, 239 recorded, 240 planned"),
        (lambda rows: [rows[0], *rows[:-1]], "occurs more than once"),
        (lambda rows: [{**row, "split": "test"} for row in rows], "row 0 has split test where the plan has train"),
        (
            lambda rows: [{**rows[0], "subject_id": "someone"}, *rows[1:]],
            "row 0 has subject_id someone where the plan has",
        ),
        (
            lambda rows: [{**row, "plan": "0" * 16} for row in rows],
            "row 0 has plan 0000000000000000 where the plan has",
        ),
    ],
)
def test_rows_must_be_the_plans(tmp_path, plan, spoil, sentence):
    store = Store(tmp_path / "new", plan)
    with store.open():
        complete(store)
        assert verify(store.directory) == []
        shard = plan.shards()[0]
        store.write(shard, spoil(rows_of(plan, shard)))
        store.finish()
    problems = verify(store.directory)
    assert all(problem.startswith(f"{SHARD}: ") for problem in problems)
    assert sum(sentence in problem for problem in problems) == 1


def test_a_subject_in_two_splits_is_found(tmp_path, plan):
    store = Store(tmp_path / "new", plan)
    train, *_, test = plan.shards()
    stray = rows_of(plan, train)[0]
    with store.open():
        complete(store)
        store.write(test, [{**stray, "split": "test"}, *rows_of(plan, test)[1:]])
        store.finish()
    assert any(
        f"has subject_id {stray['subject_id']} where the plan has" in problem for problem in verify(store.directory)
    )


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"seed": 1}, "seed: 1 != 0"),
        ({"batch_size": 4}, "batch_size: 4 != 5"),
        ({"factors": ("sex",)}, r"factors: \['sex'\] != \['sex', 'finding', 'scanner'\]"),
        ({"split_fractions": {"train": 0.5, "validation": 0.25, "test": 0.25}}, "split_fractions.test: 0.25 != 0.15"),
    ],
)
def test_another_plan_is_refused_with_its_first_difference(stored, make_plan, make_pipeline, changed, difference):
    before = {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    pipeline = make_pipeline()
    with pytest.raises(InputError, match=rf"holds another plan \({difference}, ours != theirs\)"):
        generate(make_plan(**{"subjects_per_shard": 20, **changed}), pipeline, stored, progress=False)
    assert pipeline.calls == 0
    assert {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()} == before


def test_a_difference_inside_the_preset_is_one_value(stored, plan, make_plan):
    age, *others = plan.preset.covariates.variables
    covariates = type(plan.preset.covariates)(variables=(age.model_copy(update={"range": (0, 120)}), *others))
    other = make_plan(subjects_per_shard=20, preset=plan.preset.model_copy(update={"covariates": covariates}))
    with pytest.raises(InputError, match=r"preset.covariates.variables.0.range: \[0.0?, 120.0?\] != \[0.0, 100.0\]"):
        Store(stored, other).open().__enter__()


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path, plan):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty and holds no plan"), Store(tmp_path, plan).open():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(InputError, match="is a file"), Store(tmp_path / "thesis.tex", plan).open():
        pass


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"seed": 3}', b"\xff"])
def test_a_damaged_plan_is_named(stored, plan, content):
    (stored / "records" / "plan.json").write_bytes(content)
    [problem] = verify(stored)
    assert problem.startswith("records/plan.json: its bytes are not those that records/generate.json was written with")
    with pytest.raises(InputError, match="not a plan of this version"), Store(stored, plan).open():
        pass


def test_a_directory_without_a_plan_is_no_data_set(tmp_path):
    assert verify(tmp_path) == [f"{tmp_path}/records/plan.json: not there, so {tmp_path} holds no generated data set."]


def test_two_processes_cannot_share_a_directory(stored, plan):
    with Store(stored, plan).open():
        with (
            pytest.raises(InputError, match=rf"locked by pid {os.getpid()} on host .*; wait"),
            Store(stored, plan).open(),
        ):
            pass
        assert verify(stored) == []
    with Store(stored, plan).open():
        pass
    assert not list(stored.glob(".lock*"))


KILLED = """
import os, signal, sys
from pathlib import Path
from synthfair_hf.generate import store
plan = store.read_plan(Path(sys.argv[1]))
with store.Store(Path(sys.argv[1]), plan).open() as ours:
    ours.data_paths(plan.shards()[0])[0].with_suffix(".parquet.tmp").write_bytes(b"half a shard")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_a_lock_and_a_part_that_hold_nobody_up(stored, plan, make_pipeline):
    whole = file_sha256(stored / SHARD)
    (stored / SHARD).unlink()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(stored)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (stored / ".lock-0-of-1").exists()
    assert f"{SHARD}.tmp: not of this plan; remove it." in verify(stored)
    generate(plan, make_pipeline(), stored, progress=False)
    assert file_sha256(stored / SHARD) == whole
    assert verify(stored) == []


def test_a_run_killed_before_its_plan_was_written_can_start_again(tmp_path, plan):
    for folder in ("data", "records"):
        (tmp_path / folder).mkdir()
    for lock in (".lock", ".lock-0-of-1", ".lock-1-of-2"):
        (tmp_path / lock).write_text("pid 1 on host gone")
    for part in ("records/plan.json.tmp", f"{SHARD}.tmp"):
        (tmp_path / part).write_text("{")
    with Store(tmp_path, plan).open():
        assert read_plan(tmp_path) == plan
    assert not list(tmp_path.rglob("*.tmp"))


def test_only_temporary_files_of_our_own_are_removed(stored, plan):
    ours = [stored / f"{SHARD}.tmp", stored / f"{RECORD}.tmp", stored / "records" / "plan.json.tmp"]
    theirs = [stored / "notes.tmp", stored / "data" / "table.tmp", stored / "old" / "data" / "a.parquet.tmp"]
    (stored / "old" / "data").mkdir(parents=True)
    for path in (*ours, *theirs):
        path.write_text("half")
    with Store(stored, plan).open():
        pass
    assert not any(path.exists() for path in ours)
    assert all(path.read_text() == "half" for path in theirs)


@pytest.mark.parametrize("name", ["notes.tmp", "data/table.tmp", "data/deep/a.parquet.tmp", "records/a.tmp"])
def test_a_directory_of_strange_temporary_files_is_refused_and_left_alone(tmp_path, plan, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("years of work")
    with pytest.raises(InputError, match="is not empty and holds no plan"), Store(tmp_path, plan).open():
        pass
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_a_plan_without_a_shard_is_replaced_but_a_strange_one_is_not(tmp_path, plan, make_plan):
    with Store(tmp_path, make_plan(seed=1)).open():
        pass
    Store(tmp_path, plan).check()
    assert read_plan(tmp_path) == make_plan(seed=1)
    with Store(tmp_path, plan).open():
        assert read_plan(tmp_path) == plan
    (tmp_path / "records" / "plan.json").write_text('{"wedding": "plan"}')
    with pytest.raises(InputError, match="not a plan of this version"), Store(tmp_path, plan).open():
        pass


def test_without_its_card_a_data_set_is_not_sound(stored):
    card, store = stored / "README.md", Record.read(stored / "records" / "generate.json").counts["store"]
    text = card.read_text()
    assert store in text
    card.write_text(text.replace(store, "0" * 16))
    [problem] = verify(stored)
    redo = "write it again by the generate command that wrote it."
    assert problem == f"README.md: is not the card of these shards ({store}); {redo}"
    card.unlink()
    [problem] = verify(stored)
    assert problem.startswith("README.md: missing")
    assert problem.endswith("write it again by the generate command that wrote it.")


def test_a_full_disk_leaves_no_part_and_tells_the_bytes_needed(stored, plan, make_pipeline, monkeypatch):
    whole = (stored / SHARD).read_bytes()
    (stored / SHARD).unlink()

    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".parquet":
            path.with_name(f"{path.name}.tmp").write_bytes(data[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        path.write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_atomically", full)
        with pytest.raises(InputError, match=rf"no room for its {len(whole)} bytes \(No space left on device\)"):
            generate(plan, make_pipeline(), stored, progress=False)
    assert not list(stored.rglob("*.tmp"))
    generate(plan, make_pipeline(), stored, progress=False)
    assert (stored / SHARD).read_bytes() == whole


def test_a_copied_data_set_is_as_sound_as_the_first(stored, tmp_path):
    shutil.copytree(stored, tmp_path / "copy")
    assert verify(tmp_path / "copy") == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda counts: counts.pop("files"), "files"),
        (lambda counts: counts.update(files=[SHARD]), "files"),
        (lambda counts: counts["files"].update({SHARD: 3}), f"files[{SHARD!r}].rows"),
        (lambda counts: counts["files"][SHARD].pop("rows"), f"files[{SHARD!r}].rows"),
        (lambda counts: counts["files"][SHARD].pop("bytes"), f"files[{SHARD!r}].bytes"),
        (lambda counts: counts["files"][SHARD].update(bytes=None), f"files[{SHARD!r}].bytes"),
        (lambda counts: counts["files"][SHARD].pop("sha256"), f"files[{SHARD!r}].sha256"),
        (lambda counts: counts.update(rows="many"), "rows"),
    ],
)
def test_a_record_without_a_field_is_named_with_it_and_its_shard_redone(stored, plan, make_pipeline, change, field):
    path, whole = stored / RECORD, (stored / RECORD).read_bytes()
    record = Record.read(path)
    change(record.counts)
    record.write(path)
    assert verify(stored) == [
        f"{RECORD}: no readable record of its shard (counts.{field} is absent); repair the data set."
    ]
    generate(plan, make_pipeline(), stored, progress=False)
    assert path.read_bytes() == whole
    assert verify(stored) == []
