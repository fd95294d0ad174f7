import json
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset, load_dataset_builder
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.presets import PRESETS
from synthfair_hf.errors import InputError
from synthfair_hf.generate.verification import verify
from synthfair_hf.views.layout import find_files, known, patterns, train_directory, train_file
from synthfair_hf.views.view import curated_views, get_view

NAMES = (
    "sex_imbalanced_90_10",
    "age_imbalanced_30_70",
    "finding_scanner_correlated_20_80",
    "finding_sex_correlated_95_5",
    "age_missing_under_50_years",
    "finding_prevalence_by_age_60_20",
    "finding_scanner_correlated_90_10+sex_imbalanced_90_10",
)


def read(directory: Path, names: list[str], columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Columns of some files, read one by one."""
    tables = [pq.read_table(directory / name, columns=list(columns), partitioning=None) for name in names]
    return {column: np.concatenate([table[column].to_numpy() for table in tables]) for column in columns}


@cache
def every_row(directory: Path) -> dict[str, np.ndarray]:
    """Of a directory that nobody changes."""
    every = [file for split in ("train", "validation", "test") for file in find_files(directory, split)]
    return read(directory, every, ("id", "split", "draw", "age", "sex", "finding", "scanner"))


def ids_by_mask(directory: Path, name: str) -> set[str]:
    """A view's ids by its rule on every row, whatever its files are called."""
    rows = every_row(directory)
    return set(rows["id"][get_view(name, CHEST_XRAY).mask(rows)])


def configs(directory: Path) -> dict[str, dict]:
    front = yaml.safe_load((directory / "README.md").read_text().split("---\n")[1])
    return {config["config_name"]: config for config in front["configs"]}


def resolved(directory: Path, config: dict) -> list[str]:
    """The files a config's patterns stand for."""
    found = []
    for entry in config["data_files"]:
        for pattern in [entry["path"]] if isinstance(entry["path"], str) else entry["path"]:
            found += [path.relative_to(directory).as_posix() for path in directory.glob(pattern)]
    return found


def test_a_partitioned_data_set_is_sound_and_whole(partitioned_store):
    assert verify(partitioned_store) == []
    train = find_files(partitioned_store, "train")
    assert len(train) == 2 * 10 * 12
    assert len(set(map(train_directory, ({}, {"sex": "male"})))) == 2
    rows = sum(pq.read_metadata(partitioned_store / name).num_rows for name in train)
    assert rows == 40 * 12


def test_every_row_is_as_its_files_name_says(partitioned_store):
    for name in find_files(partitioned_store, "train"):
        rows = read(partitioned_store, [name], ("split", "draw", "age", "sex", "finding", "scanner"))
        for column, told in known(name, CHEST_XRAY).items():
            low, high = told if isinstance(told, tuple) else (None, None)
            kept = rows[column] == told if low is None else (rows[column] >= low) & (rows[column] < high)
            assert kept.all(), (name, column)


@pytest.mark.parametrize("name", NAMES)
def test_card_builder_and_rule_give_the_same_rows(partitioned_store, name):
    expected = ids_by_mask(partitioned_store, name)
    by_card = load_dataset(str(partitioned_store), name)
    by_builder = load_dataset("synthfair", name, data_dir=str(partitioned_store))
    for loaded in (by_card, by_builder):
        assert {identifier for split in loaded.values() for identifier in split["id"]} == expected
    stream = load_dataset("synthfair", name, data_dir=str(partitioned_store), streaming=True, split="train")
    assert {row["id"] for row in stream.select_columns(["id"])} == set(by_card["train"]["id"])


def test_a_strength_of_tens_is_a_list_of_whole_files_and_another_filters_few(partitioned_store):
    every = every_row(partitioned_store)
    every_file = [file for split in ("train", "validation", "test") for file in find_files(partitioned_store, split)]
    lengths = {file: pq.read_metadata(partitioned_store / file).num_rows for file in every_file}
    for name, config in configs(partitioned_store).items():
        files = resolved(partitioned_store, config)
        assert len(set(files)) == len(files)
        rows = sum(lengths[file] for file in files)
        kept = int(get_view(name, CHEST_XRAY).mask(every).sum())
        bounds = {
            value for clauses in get_view(name, CHEST_XRAY).filters for column, _, value in clauses if column == "draw"
        }
        # files of an age hold one group of it each, so that only the draws can need a filter
        assert ("filters" in config) == any(round(10 * bound, 9) % 1 for bound in bounds), name
        assert rows == kept if "filters" not in config else kept < rows <= 1.2 * kept, name
        if name not in NAMES:
            continue
        builder = load_dataset_builder("synthfair", name, data_dir=str(partitioned_store))
        opened = [
            Path(path).relative_to(partitioned_store).as_posix()
            for paths in builder.config.data_files.values()
            for path in paths
        ]
        assert sorted(opened) == sorted(files)
        assert (builder.config.filters is None) == ("filters" not in config)


def test_a_name_never_contradicts_the_rule(partitioned_store):
    """Whole files in, whole files out: brute force over every curated view and file."""
    files = [name for split in ("train", "validation", "test") for name in find_files(partitioned_store, split)]
    rows = {
        name: read(partitioned_store, [name], ("split", "draw", "age", "sex", "finding", "scanner")) for name in files
    }
    for view in curated_views(CHEST_XRAY):
        for name in files:
            mask = view.mask(rows[name])
            assert view.keeps(known(name, CHEST_XRAY)) in (None, bool(mask.all())) or not mask.any()
            if view.keeps(known(name, CHEST_XRAY)) is not None:
                assert mask.all() == mask.any() == view.keeps(known(name, CHEST_XRAY))


def test_words_of_every_preset_can_be_told_apart():
    for preset in PRESETS.values():
        for variable in preset.covariates.walk():
            for index, level in enumerate(variable.levels):
                told = known(train_file({variable.name: level}, 3, 0), preset)
                assert told == {"split": "train", "draw": (0.3, 0.4), variable.name: index}
        for name, contrast in preset.contrasts.items():
            if contrast.threshold is not None:
                for group, interval in (
                    (contrast.first, (-np.inf, contrast.threshold)),
                    (contrast.second, (contrast.threshold, np.inf)),
                ):
                    assert known(train_file({name: group}, 9, 1), preset)[name] == interval
                assert known(train_file({name: 61.5}, 0, 0), preset)[name] == 61.5


def test_a_name_of_another_preset_is_refused():
    with pytest.raises(InputError, match="data files: 'tail'"):
        known(train_file({"tail": "long"}, 0, 0), CHEST_XRAY)
    with pytest.raises(InputError, match="data files: age: 'old' is unknown; allowed: under_50_years"):
        known(train_file({"age": "old"}, 0, 0), CHEST_XRAY)
    with pytest.raises(InputError, match="data files: sex: 'robot'"):
        known(train_file({"sex": "robot"}, 0, 0), CHEST_XRAY)


def matched(directory, found):
    """The files that patterns stand for, in the order in which `datasets` reads them."""
    return [path.relative_to(directory).as_posix() for one in found for path in sorted(directory.glob(one))]


@pytest.mark.parametrize("brief", [True, False])
def test_patterns_stand_for_exactly_their_files_in_order(partitioned_store, brief):
    names = find_files(partitioned_store, "train")
    for view in curated_views(CHEST_XRAY):
        chosen = [name for name in names if view.keeps(known(name, CHEST_XRAY)) is not False]
        assert matched(partitioned_store, patterns(chosen, names if brief else None)) == chosen
    assert len(patterns(names)) == 24
    assert patterns(names, names) == ["data/train/*/draw-?-*.parquet"]
    assert patterns(["data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"]) == ["data/test-*.parquet"]


@given(st.data())
def test_patterns_are_exact_for_any_choice_of_files(data):
    cells = [{"age": age, "sex": sex, "x": x} for age in ("old", "older") for sex in ("f", "m") for x in (1, 10, 2)]
    present = sorted(data.draw(st.lists(st.sampled_from([train_directory(cell) for cell in cells]), unique=True)))
    names = [f"{cell}/draw-{tenth}-00000.parquet" for cell in present for tenth in range(3)]
    chosen = sorted(data.draw(st.lists(st.sampled_from(names), unique=True)) if names else [])
    found = [name for one in patterns(chosen, names) for name in names if PurePosixPath(name).match(one)]
    assert found == chosen


def test_the_run_is_recorded_with_its_files(partitioned_store):
    record = json.loads((partitioned_store / "records" / "generate.json").read_text())
    assert record["counts"]["files"] == len(list((partitioned_store / "data").rglob("*.parquet")))
    assert record["counts"]["bytes"] == sum(
        path.stat().st_size for path in (partitioned_store / "data").rglob("*.parquet")
    )
