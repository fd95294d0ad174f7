"""Plain Python reads a view by the card's YAML, `import synthfair_hf` by the builder: both mean the same, or say so.

Every keyword of the parquet builder is tried on both, in memory and streaming. Where they differ (`filters` of a view
that is itself a filter, `data_dir`, `data_files`) the card, the README and docs/views.md say so beside their example.
"""

import os
import random
import shutil
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, Features, IterableDataset, Value, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetGenerationError, NonMatchingSplitsSizesError
from datasets.packaged_modules.parquet.parquet import ParquetConfig
from torch.utils.data import DataLoader

import synthfair_hf
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError

ROOT = Path(synthfair_hf.__file__).parents[1]
UNCHECKED = pyarrow.dataset.ParquetFragmentScanOptions(pre_buffer=False)
PAIR = Features({"id": Value("string"), "sex": Value("int64")})
SAME = {
    "columns": [{"columns": ["id", "sex"]}, {"columns": ["sex", "id"]}],
    "batch_size": [{"batch_size": 7}],
    "features": [{"features": PAIR, "columns": ["id", "sex"]}],
    "fragment_scan_options": [
        {"fragment_scan_options": UNCHECKED},
        {"fragment_scan_options": {"page_checksum_verification": False}},
    ],
    "on_bad_files": [{"on_bad_files": "skip"}],
    "description": [{"description": "mine"}],
}
"""By name of the keyword, what it is given."""
REFUSED = {"version": "1.2.3"}
DIFFERENT = {"filters", "data_dir", "data_files"}
FILTERS = [
    [("scanner", "==", 0)],
    [[("scanner", "==", 0)], [("age", "<", 30.0)]],
    pc.field("scanner") == 0,
]
WHOLE, MIXED = "sex_imbalanced_90_10", "sex_imbalanced_95_5"
"""A view that is whole files of a partitioned data set, and one that needs filters there too."""

PRESET = CHEST_XRAY.model_copy(update={"views": ("sex_imbalanced_50_50", WHOLE, MIXED)})
"""Its card is short, so that it is parsed soon."""


@pytest.fixture(scope="module")
def store(write_store, tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("store") / "synthfair", preset=PRESET, factors=("sex", "scanner"))


@pytest.fixture(scope="module")
def partitioned_store(write_store, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("partitioned") / "synthfair"
    return write_store(directory, 10, PRESET, factors=("sex", "scanner"), partitioned_from=10)


def by_card(directory: Path, name: str, **keywords) -> Dataset | IterableDataset:
    return load_dataset(str(directory), name, split="train", **keywords)


def by_import(directory: Path, name: str, **keywords) -> Dataset | IterableDataset:
    return load_dataset("synthfair", name, split="train", data_dir=str(directory), **keywords)


def read(dataset: Dataset | IterableDataset) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "image"} for row in dataset]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("keywords", [one for cases in SAME.values() for one in cases], ids=lambda one: "+".join(one))
def test_a_keyword_means_the_same_on_both_routes(store, keywords, streaming):
    card = by_card(store, WHOLE, streaming=streaming, **keywords)
    ours = by_import(store, WHOLE, streaming=streaming, **keywords)
    assert card.features == ours.features
    assert card.column_names == ours.column_names
    assert read(card) == read(ours) != []


def test_every_keyword_of_the_parquet_builder_is_compared():
    assert {field.name for field in fields(ParquetConfig)} - {"name"} == {*SAME, *REFUSED, *DIFFERENT}


@pytest.mark.parametrize(("name", "value"), REFUSED.items())
def test_what_one_route_refuses_the_other_refuses(store, name, value):
    with pytest.raises(ValueError, match="Cannot name a custom BuilderConfig"):
        by_card(store, WHOLE, **{name: value})
    with pytest.raises(InputError, match=f"'{name}' is unknown"):
        by_import(store, WHOLE, **{name: value})


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("name", [WHOLE, MIXED])
@pytest.mark.parametrize("filters", FILTERS, ids=["and", "or", "expression"])
def test_filter_of_a_plain_view_is_what_filters_mean_with_the_import(store, name, filters, streaming):
    ours = by_import(store, name, streaming=streaming, columns=["id", "sex"], filters=filters)
    expected = {row["id"] for row in ours}
    wanted = (lambda row: row["scanner"] == 0) if filters is not FILTERS[1] else _either
    card = by_card(store, name, streaming=streaming, columns=["id", "sex", "scanner", "age"]).filter(wanted)
    assert {row["id"] for row in card} == expected != set()


def _either(row: dict) -> bool:
    return row["scanner"] == 0 or row["age"] < 30


@pytest.mark.parametrize("filters", FILTERS, ids=["and", "or", "expression"])
def test_where_a_view_is_files_filters_narrow_it_on_both_routes(partitioned_store, filters):
    keywords = {"streaming": True, "columns": ["id", "sex"], "filters": filters}
    ours = read(by_import(partitioned_store, WHOLE, **keywords))
    assert read(by_card(partitioned_store, WHOLE, **keywords)) == ours != []


def test_where_a_view_is_a_filter_plain_filters_replace_it_and_in_memory_that_is_an_error(store):
    replaced = by_card(store, WHOLE, streaming=True, columns=["sex"], filters=FILTERS[0])
    assert [row["sex"] for row in replaced].count(1) == 20, "half: the view is gone, as the pages warn"
    assert [row["sex"] for row in by_import(store, WHOLE, columns=["sex"], filters=FILTERS[0])].count(1) == 2
    with pytest.raises(NonMatchingSplitsSizesError):
        by_card(store, WHOLE, columns=["sex"], filters=FILTERS[0])


@pytest.mark.parametrize("page", ["README.md", "docs/views.md", "card"])
def test_pages_say_beside_their_example_what_differs(store, page):
    text = (store / "README.md" if page == "card" else ROOT / page).read_text(encoding="utf-8")
    example = text.partition("from datasets import load_dataset")[2][:2500]
    assert 'load_dataset("./synthfair", "sex_imbalanced_90_10"' in example
    assert ".filter(lambda row: row[" in example
    words = " ".join(example.split())
    assert "`filters=` replaces" in words
    assert "`data_files=` and `data_dir=`" in words
    assert "import synthfair_hf" in words
    assert 'load_dataset("synthfair", "sex_imbalanced_90_10")' not in text, "a bare name is answered from any cache"
    assert "not found" in words, "what a name that the card does not list is answered with"


def test_two_directories_are_two_data_sets_on_both_routes(write_store, tmp_path, monkeypatch):
    places = [write_store(tmp_path / name / "synthfair", 10, PRESET, seed=seed) for seed, name in enumerate("ab")]
    expected = [{*pq.read_table(place / "data", columns=["id"])["id"].to_pylist()} for place in places]
    for route in (by_card, by_import):
        for place, ids in zip(places, expected, strict=True):
            assert {*route(place, WHOLE)["id"]} <= ids
    for place, ids in zip(places, expected, strict=True):
        monkeypatch.chdir(place.parent)
        assert {*load_dataset("./synthfair", WHOLE, split="train")["id"]} <= ids
        assert {*load_dataset("synthfair", WHOLE, split="train")["id"]} <= ids


def test_where_no_data_set_lies_none_is_served_from_the_cache(store, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    by_card(store, WHOLE), by_import(store, WHOLE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no directory \./synthfair"):
        load_dataset("synthfair", WHOLE)
    for path in ("./synthfair", str(tmp_path / "synthfair")):
        with pytest.raises((ConnectionError, FileNotFoundError), match="synthfair"):
            load_dataset(path, WHOLE)


LABELS = ("split", "draw", "sex", "age", "finding", "scanner", "race", "view")


def chunks(path: Path, labels: tuple[str, ...] = LABELS) -> list[int]:
    """Places in a file of the bytes of these columns."""
    metadata, places = pq.read_metadata(path), []
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            if column.path_in_schema in labels:
                begin = column.dictionary_page_offset or column.data_page_offset
                places += range(begin, begin + column.total_compressed_size)
    return places


@pytest.mark.parametrize("route", [by_card, by_import])
def test_no_flip_in_a_label_column_passes_silently(store, tmp_path, route):
    directory = shutil.copytree(store, tmp_path / "synthfair")
    path = min((directory / "data").glob("train-*"))
    sound, places, rng = path.read_bytes(), chunks(path), random.Random(0)
    address = (str(directory), {}) if route is by_card else ("synthfair", {"data_dir": str(directory)})
    stream = load_dataset_builder(address[0], WHOLE, **address[1]).as_streaming_dataset("train").remove_columns("image")
    expected, silent = list(stream), 0
    for _ in range(40):
        data = bytearray(sound)
        data[rng.choice(places)] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            silent += list(stream) != expected
        except (OSError, ValueError, pa.ArrowException):
            continue
    assert silent == 0


def turned(path: Path) -> bytes:
    """A shard with one bit flipped, so that a reader without checksums gets other sexes and no error."""
    sound, expected = path.read_bytes(), pq.read_table(path, columns=["sex"])
    for place in chunks(path, ("sex",)):
        data = bytearray(sound)
        data[place] ^= 1
        try:
            if not pq.read_table(pa.BufferReader(bytes(data)), columns=["sex"]).equals(expected):
                return bytes(data)
        except (OSError, ValueError):
            continue
    raise AssertionError("every flip is an error")


@pytest.mark.parametrize("route", [by_card, by_import])
def test_damaged_rows_are_an_error_and_do_not_come_from_the_cache_after_a_repair(store, tmp_path, route):
    directory = shutil.copytree(store, tmp_path / "synthfair")
    path = min((directory / "data").glob("train-*"))
    sound, damaged = path.read_bytes(), turned(path)
    path.write_bytes(damaged)
    with pytest.raises((OSError, DatasetGenerationError)):
        route(directory, "full")
    path.write_bytes(sound)
    assert route(directory, "full")["sex"] == route(store, "full")["sex"]


def test_a_file_put_back_with_its_old_time_is_read_anew(store, tmp_path):
    """By the import; where the card alone defines a view, `datasets` knows the card and not the files."""
    directory = shutil.copytree(store, tmp_path / "synthfair")

    def cached() -> str:
        return load_dataset_builder("synthfair", WHOLE, data_dir=str(directory)).cache_dir

    first = cached()
    assert cached() == first
    path = min((directory / "data").glob("train-*"))
    found = os.stat(path)
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert cached() != first


@pytest.mark.parametrize("route", [by_card, by_import])
def test_chosen_columns_are_batches_for_torch(store, route):
    """All columns are not: `parent_id` of an observation is None, which `default_collate` does not take."""
    rows = route(store, WHOLE, columns=["image", "finding", "sex"]).with_format("torch")
    batch = next(iter(DataLoader(rows, batch_size=4)))
    assert batch["image"].shape[-2:] == (16, 16)
    assert batch["finding"].dtype == torch.int64
