import inspect
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import datasets.load
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import get_dataset_config_names, load_dataset, load_dataset_builder, load_from_disk
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES
from datasets.packaged_modules.parquet.parquet import Parquet
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.views.builder import _license, _license_in, recipe_of
from synthfair_hf.views.view import curated_views, get_view

HOW_TO_MEND = (
    "`datasets` changed a private name that `import synthfair_hf` relies on: adapt "
    "synthfair_hf/views/registration.py, or SynthFair in views/builder.py; the route by the card needs neither."
)


def columns(store: Path, preset=CHEST_XRAY) -> dict[str, np.ndarray]:
    """Every row of a data set, read without views or `datasets`: ids, and the columns views look at."""
    table = pq.read_table(store / "data", partitioning=None)
    names = ("id", "split", "draw", "subject_id", "age", "finding", "sex", "scanner")
    return {name: table[name].to_numpy() for name in names}


def brute_force(store: Path, name: str) -> set[str]:
    """Ids of a view: of the two oldest kinds by a filter written out here, of others by the mask of every row."""
    rows = columns(store)
    if not re.fullmatch(r"(?:(?:sex|age|scanner)_imbalanced|finding_(?:sex|scanner)_correlated)_\d+_\d+", name):
        return set(rows["id"][get_view(name, CHEST_XRAY).mask(rows)])
    stem, first, _ = name.rsplit("_", 2)
    low = rows["draw"] < int(first) / 100
    groups = {
        "sex": (rows["sex"] == 0, rows["sex"] == 1),
        "age": (rows["age"] < 50, rows["age"] >= 50),
        "scanner": (rows["scanner"] == 2, rows["scanner"] == 0),
        "finding": (rows["finding"] == 1, rows["finding"] == 0),
    }
    if stem.endswith("_imbalanced"):
        one, other = groups[stem.removesuffix("_imbalanced")]
    else:
        (present, absent), (one, other) = groups["finding"], groups[stem.split("_")[1]]
        one, other = (present & one) | (absent & other), (present & other) | (absent & one)
    return set(rows["id"][(rows["split"] != "train") | (one & low) | (other & ~low)])


def streamed_ids(path: str, name: str | None = None, **keywords) -> set[str]:
    splits = load_dataset(path, name, streaming=True, **keywords)
    return {row["id"] for split in splits.values() for row in split.select_columns(["id"])}


@settings(deadline=None, max_examples=12)
@given(
    stem=st.sampled_from(
        (
            "sex_imbalanced",
            "age_imbalanced",
            "finding_sex_correlated",
            "finding_scanner_correlated",
            "scanner_imbalanced",
            "scanner_sex_correlated",
            "age_imbalanced_in_female",
            "finding_prevalence_by_scanner",
            "sex_missing_male+finding_scanner_correlated",
            "sex_imbalanced_30_70+age_imbalanced_in_male",
        )
    ),
    percent=st.integers(1, 99),
)
def test_builder_gives_the_ids_of_the_brute_force_filter(store, stem, percent):
    name = f"{stem}_{percent}_{100 - percent}"
    assert streamed_ids("synthfair", name, data_dir=str(store), columns=["id"]) == brute_force(store, name)


def test_yaml_filters_of_every_curated_view_give_the_ids_of_the_brute_force_filter(store):
    front = yaml.safe_load((store / "README.md").read_text().split("---\n")[1])
    configs = {config["config_name"]: config for config in front["configs"]}
    selections = [view.name for view in curated_views(CHEST_XRAY) if view.label is None]
    assert list(configs) == selections
    for name in selections[1:]:
        found = pq.read_table(store / "data", columns=["id"], filters=configs[name]["filters"])["id"].to_pylist()
        assert set(found) == brute_force(store, name)


@pytest.mark.parametrize(
    "name",
    [
        "sex_imbalanced_90_10",
        "finding_scanner_correlated_20_80",
        "age_missing_under_50_years",
        "finding_scanner_correlated_90_10+sex_imbalanced_90_10",
    ],
)
def test_card_and_builder_give_the_same_rows_in_memory_and_streaming(store, name):
    by_card = load_dataset(str(store), name)
    by_builder = load_dataset("synthfair", name, data_dir=str(store))
    assert by_card["train"].features == by_builder["train"].features
    for split in ("train", "validation", "test"):
        assert by_card[split]["id"] == by_builder[split]["id"]
    assert by_card["train"][0]["image"].size == (16, 16)
    ids = {identifier for split in by_builder.values() for identifier in split["id"]}
    assert ids == streamed_ids(str(store), name) == streamed_ids("synthfair", name, data_dir=str(store))
    assert ids == brute_force(store, name)


def test_splits_share_no_subject_and_evaluation_is_whole(store):
    rows = columns(store)
    for name in ("sex_imbalanced_95_5", "finding_sex_correlated_10_90"):
        view = load_dataset("synthfair", name, data_dir=str(store), columns=["id", "subject_id", "split"])
        subjects = [set(split["subject_id"]) for split in view.values()]
        assert sum(map(len, subjects)) == len(set.union(*subjects))
        for split in ("validation", "test"):
            assert set(view[split]["id"]) == set(rows["id"][rows["split"] == split])
            assert set(view[split]["split"]) == {split}


def test_plain_python_needs_only_the_directory(store, tmp_path):
    code = """
import sys
from datasets import load_dataset
view = load_dataset("synthfair", "sex_imbalanced_90_10")
sexes = view["train"]["sex"]
stream = load_dataset("synthfair", "sex_imbalanced_90_10", streaming=True)
rows = list(stream["train"])
assert [row["id"] for row in rows] == view["train"]["id"]
assert rows[0]["image"].size == view["train"][0]["image"].size == (16, 16)
assert load_dataset("synthfair", split="test", streaming=True).info.config_name == "full"
assert not any(name.startswith("synthfair") for name in sys.modules)
print(sexes.count(0), sexes.count(1))
"""
    shutil.copytree(store, tmp_path / "synthfair")
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["108", "12"]


def test_bare_call_looks_at_data_dir_then_home_then_here(store, write_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no directory \./synthfair"):
        load_dataset("synthfair", "sex_imbalanced_90_10")
    here = write_store(tmp_path / "synthfair", subjects_per_stratum=1)
    home = write_store(tmp_path / "home", subjects_per_stratum=2)

    def train_rows(**keywords) -> int:
        return load_dataset("synthfair", split="train", columns=["id"], **keywords).num_rows

    assert train_rows() == (columns(here)["split"] == "train").sum()
    monkeypatch.setenv("SYNTHFAIR_HOME", str(home))
    assert train_rows() == (columns(home)["split"] == "train").sum()
    assert train_rows(data_dir=str(store)) == (columns(store)["split"] == "train").sum()
    assert train_rows(data_dir=Path(store)) == train_rows(data_dir=str(store))
    assert train_rows(data_dir="synthfair") == (columns(here)["split"] == "train").sum()
    monkeypatch.setenv("SYNTHFAIR_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"nowhere has no records/generate\.json"):
        train_rows()


def test_strength_completes_a_name_and_the_callers_filters_narrow_the_view(store):
    keywords = {"data_dir": str(store), "columns": ["id"]}
    expected = brute_force(store, "sex_imbalanced_85_15")
    assert streamed_ids("synthfair", "sex_imbalanced", strength=0.85, **keywords) == expected
    rows = columns(store)
    pneumonia = set(rows["id"][rows["finding"] == 1])
    filters = [("finding", "==", 1)]
    assert streamed_ids("synthfair", "sex_imbalanced_85_15", filters=filters, **keywords) == expected & pneumonia
    assert streamed_ids("synthfair", filters=filters, **keywords) == pneumonia


RELABELLED = "finding_scanner_correlated_90_10+finding_underdiagnosed_in_female_30"


def observed_by_hand(store: Path) -> dict[str, int]:
    """The observed label of every row of train that RELABELLED keeps, by id, and the true ones of the evaluation."""
    rows, observed = columns(store), {}
    for place, draw in enumerate(rows["draw"]):
        true, kept, missed = int(rows["finding"][place]), True, False
        if rows["split"][place] == "train":
            agree = (true == 1) == (rows["scanner"][place] == 2)
            kept = rows["scanner"][place] != 1 and (draw < 0.9 if agree else draw >= 0.9)
            missed = true == 1 and rows["sex"][place] == 1 and draw < (0.27 if agree else 0.93)
        if kept:
            observed[str(rows["id"][place])] = 0 if missed else true
    return observed


def labels(splits, column: str = "observed_finding") -> dict[str, int]:
    return {row["id"]: row[column] for split in splits.values() for row in split.select_columns(["id", column])}


def test_observed_labels_stand_beside_the_true_ones_in_memory_and_streaming(store):
    expected, rows = observed_by_hand(store), columns(store)
    true = dict(zip(rows["id"], rows["finding"], strict=True))
    loaded = load_dataset("synthfair", RELABELLED, data_dir=str(store))
    stream = load_dataset("synthfair", RELABELLED, data_dir=str(store), streaming=True)
    assert labels(loaded) == labels(stream) == expected
    assert labels(loaded, "finding") == {row: true[row] for row in expected}
    assert sum(expected[row] != true[row] for row in expected) > 0
    for splits in (loaded, stream):
        assert splits["train"].features["observed_finding"] == splits["train"].features["finding"]
    spread = load_dataset("synthfair", RELABELLED, data_dir=str(store), num_proc=2, download_mode="force_redownload")
    assert labels(spread) == expected


def test_columns_are_those_asked_for_whatever_the_observed_label_follows_from(store):
    keywords = {"data_dir": str(store), "split": "train"}
    whole = load_dataset("synthfair", RELABELLED, **keywords)
    alone = load_dataset("synthfair", RELABELLED, columns=["observed_finding", "id"], **keywords)
    assert alone.column_names == ["id", "observed_finding"]
    assert alone["observed_finding"][:] == whole["observed_finding"][:]
    assert load_dataset("synthfair", RELABELLED, columns=["id"], **keywords).column_names == ["id"]
    women = load_dataset("synthfair", RELABELLED, filters=[("sex", "==", 1)], **keywords)
    assert women["id"][:] == [name for name, sex in zip(whole["id"], whole["sex"], strict=True) if sex == 1]


def test_the_twin_of_a_relabelling_has_the_column_and_its_rows(store):
    for name in ("finding_noise_in_female_20", RELABELLED):
        view, twin = (
            load_dataset("synthfair", one, data_dir=str(store), split="train")
            for one in (name, get_view(name, CHEST_XRAY).twin)
        )
        assert twin.features == view.features
        assert len(twin) == len(view)
        assert twin["observed_finding"][:] == twin["finding"][:] != []
        assert view["observed_finding"][:] != view["finding"][:]


def test_a_missing_label_stays_missing(write_store, record_again, tmp_path):
    directory = write_store(tmp_path / "synthfair", 2)
    path = min((directory / "data").glob("train-*.parquet"))
    table = pq.read_table(path)
    column = pa.array([None] * len(table), pa.int64())
    pq.write_table(
        table.set_column(table.schema.get_field_index("finding"), table.schema.field("finding"), column), path
    )
    record_again(directory)
    train = load_dataset("synthfair", "finding_noise_in_female_100", data_dir=str(directory), split="train")
    absent = [label is None for label in train["finding"]]
    assert [label is None for label in train["observed_finding"]] == absent
    assert 0 < sum(absent) < len(absent)


def test_what_is_trained_on_a_view_can_record_its_recipe(store, tmp_path):
    record = json.loads((store / "records" / "generate.json").read_text())
    expected = {
        "view": RELABELLED,
        "recipe": get_view(RELABELLED, CHEST_XRAY).fingerprint,
        "data_set": record["counts"]["store"],
    }
    train = load_dataset("synthfair", RELABELLED, data_dir=str(store), split="train")
    stream = load_dataset("synthfair", RELABELLED, data_dir=str(store), split="train", streaming=True)
    train.select(range(5)).save_to_disk(tmp_path / "saved")
    for dataset in (train, stream, train.filter(lambda row: row["sex"] == 1), load_from_disk(tmp_path / "saved")):
        assert recipe_of(dataset) == expected
    other = load_dataset("synthfair", "sex_imbalanced", strength=0.35, data_dir=str(store), split="train")
    assert recipe_of(other)["view"] == "sex_imbalanced_35_65"
    by_card = load_dataset(str(store), "sex_imbalanced_90_10", split="train")
    assert by_card.info.config_name == "sex_imbalanced_90_10"
    with pytest.raises(InputError, match="has no recipe"):
        recipe_of(by_card)
    described = load_dataset_builder(str(store), "sex_imbalanced_90_10").config.description
    assert get_view("sex_imbalanced_90_10", CHEST_XRAY).fingerprint in described
    assert record["counts"]["store"] in described


def test_two_processes_give_the_rows_of_one(store):
    keywords = {"name": "sex_imbalanced_70_30", "data_dir": str(store), "columns": ["id"]}
    alone = load_dataset("synthfair", **keywords)["train"]["id"]
    assert load_dataset("synthfair", num_proc=2, download_mode="force_redownload", **keywords)["train"]["id"] == alone


def test_builder_survives_pickling(store):
    builder = load_dataset_builder("synthfair", "sex_imbalanced_70_30", data_dir=str(store))
    copy = pickle.loads(pickle.dumps(builder))
    assert copy.config == builder.config
    assert copy.cache_dir == builder.cache_dir
    assert copy.config.fragment_scan_options.page_checksum_verification


@pytest.mark.parametrize("route", ["card", "builder"])
def test_a_data_set_written_again_at_the_same_path_is_not_served_from_the_cache(write_store, tmp_path, route):
    directory = tmp_path / "synthfair"

    def load() -> list[str]:
        path, keywords = ("synthfair", {"data_dir": str(directory)}) if route == "builder" else (str(directory), {})
        return load_dataset(path, "sex_imbalanced_50_50", **keywords)["train"]["id"]

    def write(seed: int) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        write_store(directory, subjects_per_stratum=2, seed=seed)
        for path in directory.rglob("*"):
            os.utime(path, (1, 1))

    write(seed=0)
    first = load()
    assert load() == first
    write(seed=1)
    second = load()
    assert set(first).isdisjoint(second)
    assert set(second) <= set(columns(directory)["id"])


def test_the_cache_is_keyed_by_the_recipe_of_the_view(store, monkeypatch):
    before = load_dataset_builder("synthfair", "sex_imbalanced_50_50", data_dir=str(store)).cache_dir
    changed = get_view("sex_imbalanced_60_40", CHEST_XRAY).model_copy(update={"name": "sex_imbalanced_50_50"})
    monkeypatch.setattr("synthfair_hf.views.builder.get_view", lambda *arguments: changed)
    assert load_dataset_builder("synthfair", "sex_imbalanced_50_50", data_dir=str(store)).cache_dir != before


def test_a_damaged_page_is_an_error_not_a_wrong_image(store, tmp_path):
    directory = shutil.copytree(store, tmp_path / "synthfair")
    path = directory / "data" / "train-00000-of-00002.parquet"
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 40] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        streamed_ids("synthfair", data_dir=str(directory))


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"name": "sx_imbalanced_90_10"}, "did you mean 'sex'?"),
        ({"name": "sex_imbalanced_80_30"}, "sum to 100"),
        ({"name": "sex_imbalanced_90_10", "strength": 0.5}, "contradicts"),
        ({"name": "full", "stregth": 0.5}, "did you mean 'strength'?"),
        ({"name": "sex_imbalanced+age_imbalanced", "strength": 0.9}, "give one for each"),
        ({"data_files": "data/*.parquet"}, "give data_dir"),
    ],
)
def test_bad_calls_are_answered_in_one_sentence(store, keywords, expected):
    with pytest.raises(InputError, match=re.escape(expected)) as caught:
        load_dataset("synthfair", **{"data_dir": str(store), **keywords})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("records", ["generate.json", "*.json"])
def test_a_directory_without_shards_is_named(store, tmp_path, records):
    (tmp_path / "records").mkdir()
    for path in (store / "records").glob(records):
        shutil.copy(path, tmp_path / "records")
    with pytest.raises(InputError, match="holds no shards"):
        load_dataset("synthfair", data_dir=str(tmp_path))


def test_config_names_are_the_curated_views(store):
    names = get_dataset_config_names("synthfair", data_dir=str(store))
    assert names == ["full", *CHEST_XRAY.views]


def test_views_of_what_the_data_set_does_not_balance_are_not_listed_but_can_be_named(store_of_sexes):
    expected = ["full", *(name for name in CHEST_XRAY.views if name.startswith(("sex", "age")))]
    assert get_dataset_config_names("synthfair", data_dir=str(store_of_sexes)) == expected
    assert get_dataset_config_names(str(store_of_sexes)) == expected
    name = "finding_sex_correlated_90_10"
    builder = load_dataset_builder("synthfair", name, data_dir=str(store_of_sexes))
    assert "Generation does not balance finding" in builder.config.description
    assert streamed_ids("synthfair", name, data_dir=str(store_of_sexes)) == brute_force(store_of_sexes, name)


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"\xff\xfe", b'{"stage": "train"}', b'{"stage": "train", "settings": {"preset": {"name": "x"}}}'],
)
def test_a_damaged_or_foreign_record_is_named_in_one_sentence(store, tmp_path, content):
    directory = shutil.copytree(store, tmp_path / "synthfair")
    (directory / "records" / "generate.json").write_bytes(content)
    with pytest.raises(InputError, match=r"generate\.json is not the record of a data set of this package") as caught:
        load_dataset("synthfair", data_dir=str(directory))
    assert "\n" not in str(caught.value)


def test_private_names_of_datasets_are_as_the_builder_needs_them(store):
    assert _PACKAGED_DATASETS_MODULES["synthfair"][0] == "synthfair_hf.views.builder", HOW_TO_MEND
    assert datasets.load.PackagedDatasetModuleFactory.__module__ == "synthfair_hf.views.registration", HOW_TO_MEND
    source = inspect.getsource(datasets.load.dataset_module_factory)
    assert "if path in _PACKAGED_DATASETS_MODULES:\n        return PackagedDatasetModuleFactory(" in source, HOW_TO_MEND
    parameters = list(inspect.signature(Parquet._create_builder_config).parameters)
    assert parameters == ["self", "config_name", "custom_features", "config_id", "config_kwargs"], HOW_TO_MEND
    assert "filter=filter_expr" in inspect.getsource(Parquet._generate_tables), HOW_TO_MEND
    assert "self._cast_table(pa_table)" in inspect.getsource(Parquet._generate_tables), HOW_TO_MEND


def test_other_packaged_builders_are_left_alone(tmp_path):
    (tmp_path / "table.json").write_text(json.dumps({"number": 1}))
    assert load_dataset("json", data_files=str(tmp_path / "table.json"), split="train")["number"] == [1]


def test_registering_costs_nothing_beside_importing_datasets():
    code = (
        "import sys, datasets, datasets.load; before = set(sys.modules); import synthfair_hf;"
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in ran.stdout.split()} == {"synthfair_hf"}


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("license: cc-by-4.0", "cc-by-4.0"),
        ("license: cc-by-4.0  # as agreed", "cc-by-4.0"),
        ("license: 'o''neill'", "o'neill"),
        ('"license": "cc\\x2d0"', "cc-0"),
        ("license: >-\n  mit", "mit"),
        ("tags: [license, mit]\nextra: {license: no}\nlicense: mit", "mit"),
        ("license: [a, b]", "unknown"),
        ("license:", "unknown"),
        ("other: license\nmit: x", "unknown"),
        ("license: 'open", "unknown"),
        ("[" * 4000, "unknown"),
    ],
)
def test_the_licence_is_that_of_the_cards_yaml(tmp_path, front, licence):
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\nlicense: another\n")
    assert _license(str(tmp_path), None) == licence


@pytest.mark.parametrize("front", ["license: mit\n" + "a: [1, 2]\n" * 300, "[" * 4000, "a: " + "{b: " * 900])
def test_no_more_of_a_card_is_parsed_than_it_takes(monkeypatch, front):
    taken = []

    def parse(*arguments):
        for event in original(*arguments):
            taken.append(event)
            yield event

    original = yaml.parse
    monkeypatch.setattr("yaml.parse", parse)
    assert _license_in(front) == ("mit" if front.startswith("license") else "unknown")
    assert len(taken) < 200
