import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from datasets.exceptions import DatasetGenerationError

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.publish.dataset_card import update_view_table
from synthfair_hf.views.view import curated_views

SCRIPT = Path(__file__).parents[2] / "loading_script" / "synthfair.py"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script as a module: `datasets` >= 4 no longer runs scripts, but still has the classes they are made of."""
    specification = importlib.util.spec_from_file_location("synthfair_script", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        yield module


def test_the_table_of_views_is_what_the_preset_says_now():
    text = SCRIPT.read_text()
    assert update_view_table(text, CHEST_XRAY) == text, (
        "write update_view_table(text, CHEST_XRAY) of publish.dataset_card back to loading_script/synthfair.py"
    )


def test_a_changed_preset_changes_the_table(script):
    text = update_view_table(SCRIPT.read_text(), CHEST_XRAY.model_copy(update={"views": ("sex_imbalanced_75_25",)}))
    namespace: dict = {}
    exec(text, namespace)
    assert list(namespace["VIEWS"]) == ["full", "sex_imbalanced_75_25"]
    with pytest.raises(InputError, match="no table of views"):
        update_view_table("VIEWS = {}", CHEST_XRAY)


def test_every_view_keeps_the_rows_of_the_package(script, store):
    features = script.features_of(pq.read_schema(store / "data" / "test-00000-of-00001.parquet"))
    for view in (view for view in curated_views(CHEST_XRAY) if view.label is None):
        ours = pq.read_table(store / "data", columns=["id"], filters=view.filters_for_parquet())["id"]
        theirs = pq.read_table(
            store / "data", columns=["id"], filters=script.expression(script.VIEWS[view.name], features)
        )
        assert theirs["id"].to_pylist() == ours.to_pylist()


def test_the_builder_of_the_script_gives_the_rows_of_the_card(script, store, tmp_path):
    builder = script.SynthFair(config_name="finding_sex_correlated_80_20", data_dir=str(store), cache_dir=str(tmp_path))
    builder.download_and_prepare()
    by_script, by_card = builder.as_dataset(), load_dataset(str(store), "finding_sex_correlated_80_20")
    for split in ("train", "validation", "test"):
        assert by_script[split]["id"] == by_card[split]["id"]
    first = by_script["train"][0]
    assert first["image"].size == (16, 16)
    assert len(first["noise_age"]) == 2
    assert by_script["train"].features["sex"] == by_card["train"].features["sex"]


def test_new_bytes_at_the_same_path_get_their_own_cache(script, write_store, tmp_path):
    directory = tmp_path / "synthfair"
    identifiers = set()
    for seed in (0, 1):
        shutil.rmtree(directory, ignore_errors=True)
        write_store(directory, subjects_per_stratum=1, seed=seed)
        identifiers.add(
            script.Config(name="full", data_dir=str(directory)).create_config_id({"data_dir": str(directory)})
        )
    assert len(identifiers) == 2


def test_the_script_notices_a_damaged_page(script, store, tmp_path):
    directory = shutil.copytree(store, tmp_path / "synthfair")
    path = min((directory / "data").glob("train-*"))
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 40] ^= 1
    path.write_bytes(data)
    builder = script.SynthFair(config_name="full", data_dir=str(directory), cache_dir=str(tmp_path))
    with pytest.raises(DatasetGenerationError) as caught:
        builder.download_and_prepare()
    assert "CRC" in str(caught.value.__cause__)


def test_the_page_says_why_older_libraries_need_the_script(store):
    """Release 3.6.0 of datasets knows no feature `List`, which the shards hold; the script calls it by its old name."""
    page = (SCRIPT.parent / "README.md").read_text()
    assert "also works with 3.6.0" not in page
    assert "`Feature type 'List' not found`" in page
    assert b'"List"' in pq.read_schema(store / "data" / "test-00000-of-00001.parquet").metadata[b"huggingface"]


@pytest.mark.parametrize(
    ("directory", "expected"), [(None, "data_dir: not given"), ("/nowhere", "generate.json is not there")]
)
def test_a_missing_data_set_is_named(script, directory, expected):
    with pytest.raises(ValueError, match=expected):
        script.identity(directory)


def test_the_script_is_refused_where_cards_are_read():
    with pytest.raises(RuntimeError, match="scripts are no longer supported"):
        load_dataset(str(SCRIPT))
