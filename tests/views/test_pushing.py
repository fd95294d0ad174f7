"""What `datasets` may publish of a loaded view; nothing here reaches a Hub, because nothing gets as far."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import concatenate_datasets, load_dataset, load_dataset_builder, load_from_disk
from huggingface_hub import HfApi
from hypothesis import given
from hypothesis import strategies as st

import synthfair_hf  # noqa: F401 (registers the builder)
from synthfair_hf.errors import InputError
from synthfair_hf.views.builder import recipe_of
from synthfair_hf.views.pushing import described_access, guard_push_to_hub

CLOSED = "made from images whose access is credentialed, not open; publish it by `synthfair push`"


class Reached(Exception):
    """A call of the Hub."""


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(*_: Any, **__: Any) -> None:
        raise Reached

    for name in ("repo_info", "create_repo", "create_commit", "preupload_lfs_files", "whoami"):
        monkeypatch.setattr(HfApi, name, reach)


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, write_store: Any) -> Path:
    return write_store(tmp_path_factory.mktemp("closed") / "synthfair", 2, factors=("sex",), access="credentialed")


def test_the_info_carries_licence_and_access(closed: Path, store: Path):
    loaded = load_dataset("synthfair", data_dir=str(closed), split="train")
    assert loaded.info.license == "cc-by-4.0"
    assert "Licence: cc-by-4.0. Access to the images that it was made from: credentialed." in loaded.info.description
    assert set(recipe_of(loaded)) == {"view", "recipe", "data_set"}
    streamed = load_dataset("synthfair", data_dir=str(closed), split="train", streaming=True)
    assert described_access(streamed.info.description) == "credentialed"
    assert described_access(load_dataset("synthfair", data_dir=str(store), split="train").info.description) == "unknown"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("split", ["train", None])
def test_what_is_not_open_is_not_pushed(closed: Path, streaming: bool, split: str | None):
    loaded = load_dataset("synthfair", data_dir=str(closed), split=split, streaming=streaming)
    for settings in ({}, {"private": True}):
        with pytest.raises(InputError, match=CLOSED):
            loaded.push_to_hub("my-lab/copy", **settings)


def test_nor_what_was_made_of_it(closed: Path, store: Path, tmp_path: Path):
    loaded = load_dataset("synthfair", data_dir=str(closed), split="train")
    loaded.save_to_disk(tmp_path / "saved")
    other = load_dataset("synthfair", data_dir=str(store), split="train")
    columns = ["id", "split"]
    for made in (
        loaded.select(range(2)),
        loaded.map(lambda row: {"id": row["id"].upper()}),
        loaded.filter(lambda row: row["sex"] == 0),
        loaded.train_test_split(0.5, seed=0),
        load_from_disk(tmp_path / "saved"),
        concatenate_datasets([loaded.select_columns(columns), other.select_columns(columns)]),
        loaded.to_iterable_dataset().take(1),
    ):
        with pytest.raises(InputError, match=CLOSED):
            made.push_to_hub("my-lab/copy")
    for write in (loaded.to_parquet, loaded.to_csv, loaded.save_to_disk):
        with pytest.raises(InputError, match=CLOSED):
            write("hf://datasets/my-lab/copy/rows")


def test_what_is_open_or_not_ours_is_pushed_as_ever(tmp_path: Path, write_store: Any):
    guard_push_to_hub()
    ours = write_store(tmp_path / "open", 2, factors=("sex",), access="open")
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    for loaded in (
        load_dataset("synthfair", data_dir=str(ours), split="train"),
        load_dataset("json", data_files=str(tmp_path / "rows.jsonl"), split="train"),
    ):
        with pytest.raises(Reached):
            loaded.push_to_hub("my-lab/copy")


HUB = "hf://datasets/my-lab/copy/rows"


@pytest.mark.parametrize("chained", ["simplecache::", "filecache::", "dir::", ""])
def test_no_address_leads_around_the_guard(closed: Path, chained: str):
    loaded = load_dataset("synthfair", data_dir=str(closed), split="train")
    for write in (loaded.to_parquet, loaded.to_csv, loaded.to_json, loaded.save_to_disk):
        with pytest.raises(InputError, match=CLOSED):
            write(f"{chained}{HUB}")
    options = {"target_protocol": "hf", "fo": "datasets/my-lab/copy/rows"}
    with pytest.raises(InputError, match=CLOSED):
        loaded.to_parquet("simplecache://rows", storage_options=options)


def test_a_builder_prepares_nothing_on_the_hub(closed: Path):
    for builder in (load_dataset_builder("synthfair", data_dir=str(closed)), load_dataset_builder(str(closed))):
        for write in (
            builder.download_and_prepare,
            lambda place, one=builder: one.download_and_prepare(output_dir=place),
        ):
            with pytest.raises(InputError, match="not open; publish it by"):
                write(HUB)


@pytest.mark.parametrize("order", ["datasets, synthfair_hf", "synthfair_hf, datasets"])
def test_rows_saved_elsewhere_are_refused_in_a_fresh_process(closed: Path, tmp_path: Path, order: str):
    load_dataset("synthfair", data_dir=str(closed), split="train").save_to_disk(tmp_path / "saved")
    code = (
        f"import {order}, sys\n"
        "try:\n    datasets.load_from_disk(sys.argv[1]).push_to_hub('my-lab/copy')\n"
        "except synthfair_hf.InputError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "saved")],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert CLOSED in done.stdout, done.stderr


@pytest.mark.parametrize("streaming", [False, True])
def test_the_access_of_what_the_card_loads_is_unknown(closed: Path, streaming: bool):
    loaded = load_dataset(str(closed), "full", split="train", streaming=streaming)
    with pytest.raises(InputError, match=r"unknown, not open; publish it by .*load it by load_dataset\('synthfair'"):
        loaded.push_to_hub("my-lab/copy")


@given(st.lists(st.text() | st.builds(lambda one: json.dumps({"access": one}), st.text() | st.integers()), max_size=5))
def test_no_description_ends_in_a_traceback_or_opens_anything(lines: list[str]):
    assert described_access("\n".join([*lines, '{"access": "credentialed"}'])) == "credentialed"
