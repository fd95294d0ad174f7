import re
import shutil
import subprocess
import sys
from pathlib import Path

import datasets.exceptions
import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Features, load_dataset
from huggingface_hub import DatasetCard
from markdown_it import MarkdownIt

from synthfair_hf.align.finetuning import write_lora_card
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.errors import InputError
from synthfair_hf.publish.dataset_card import PRINTED, write_dataset_card
from synthfair_hf.records import Record
from synthfair_hf.views.view import curated_views

ROOT = Path(__file__).parents[2]
LICENSE = "cc-by-4.0"
SELECTIONS = tuple(view for view in curated_views(CHEST_XRAY) if view.label is None)
RELABELLED = tuple(view for view in curated_views(CHEST_XRAY) if view.label is not None)


@pytest.fixture(scope="module")
def card(store: Path) -> DatasetCard:
    return DatasetCard.load(store / "README.md")


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    return shutil.copytree(store, tmp_path / "synthfair")


def run_record(store: Path) -> Record:
    return Record.read(store / "records" / "generate.json")


def rows(store: Path) -> dict[str, np.ndarray]:
    """The columns views look at; nothing is missing in them but race."""
    table = pq.read_table(store / "data", columns=["split", "draw", *CHEST_XRAY.contrasts])
    return {
        name: table[name].fill_null(-1).to_numpy() if name == "race" else table[name].to_numpy()
        for name in table.column_names
    }


def test_every_view_has_its_row_counts(store, card):
    columns = rows(store)
    infos = {info["config_name"]: info for info in card.data.dataset_info}
    assert list(infos) == [config["config_name"] for config in card.data.configs]
    assert list(infos) == [view.name for view in SELECTIONS]
    for view in SELECTIONS:
        counted = {
            split: int((view.mask(columns) & (columns["split"] == split)).sum())
            for split in ("train", "validation", "test")
        }
        assert {split["name"]: split["num_examples"] for split in infos[view.name]["splits"]} == counted


def test_a_file_is_looked_into_once_however_many_views_hold_its_rows(copy, monkeypatch):
    opened = []

    def read_metadata(path, *arguments, **settings):
        opened.append(path)
        return metadata(path, *arguments, **settings)

    metadata = pq.read_metadata
    monkeypatch.setattr("pyarrow.parquet.read_metadata", read_metadata)
    before = (copy / "README.md").read_bytes()
    write_dataset_card(copy, CHEST_XRAY, run_record(copy), LICENSE)
    assert (copy / "README.md").read_bytes() == before
    assert sorted(opened) == sorted((copy / "data").rglob("*.parquet"))


def test_counts_are_verified_when_the_data_set_is_loaded(copy):
    readme = copy / "README.md"
    text = readme.read_text()
    readme.write_text(re.sub(r"(name: train, num_bytes: \d+, num_examples: )240", r"\g<1>239", text, count=1))
    with pytest.raises(datasets.exceptions.NonMatchingSplitsSizesError):
        load_dataset(str(copy))


def test_full_is_the_only_default_and_the_only_view_without_filters(card):
    assert [config["config_name"] for config in card.data.configs if config.get("default")] == ["full"]
    assert [config["config_name"] for config in card.data.configs if "filters" not in config] == ["full"]


@pytest.mark.parametrize("streaming", [False, True])
def test_features_come_from_the_shards_not_from_the_yaml(store, card, streaming, tmp_path):
    stored = Features.from_arrow_schema(pq.read_schema(store / "data" / "test-00000-of-00001.parquet"))
    assert all("features" not in info for info in card.data.dataset_info)
    loaded = load_dataset(
        str(store), "sex_imbalanced_90_10", split="train", streaming=streaming, cache_dir=str(tmp_path)
    )
    assert loaded.features == stored


def test_every_view_is_in_the_table_with_its_counts_and_its_sentence(store, card):
    columns = rows(store)
    for view in curated_views(CHEST_XRAY):
        line = next(line for line in card.text.splitlines() if line.startswith(f"| `{view.name}` |"))
        assert view.sentence in line
        for cell, count in view.counts(columns).items():
            assert f"{cell}: {count}" in line


def test_what_no_filter_can_do_is_no_config_but_a_table_with_its_counts(store, card):
    assert len(RELABELLED) >= 6
    columns = rows(store)
    train = columns["split"] == "train"
    listed, _, needing = card.text.partition("Observed labels cannot be a filter.")
    assert "need `import synthfair_hf`" in needing
    for view in RELABELLED:
        assert f"`{view.name}`" not in listed
        line = next(line for line in needing.splitlines() if line.startswith(f"| `{view.name}` |"))
        assert line.startswith(f"| `{view.name}` | {int((view.mask(columns) & train).sum())} |")
        assert view.sentence in line
        for words, count in view.label.counts(columns).items():
            assert f"{words}: {count}" in line


def test_the_recipe_is_in_the_yaml(card):
    for view, config in zip(SELECTIONS, card.data.configs, strict=True):
        assert f"Recipe {view.fingerprint}." in config["description"]


def test_the_card_has_the_sections_of_the_annotated_template_and_leaves_none_open(card):
    template = (Path(huggingface_hub.__file__).parent / "templates" / "datasetcard_template.md").read_text()
    sections = set(re.findall(r"^#{2,} (.+)$", template, flags=re.MULTILINE))
    ours = set(re.findall(r"^#{2,} (.+)$", card.text, flags=re.MULTILINE))
    optional = {"More Information [optional]"}
    assert {section.removesuffix(" [optional]") for section in sections - optional} <= ours
    assert "More Information Needed" not in card.content
    assert not re.search(r"\{\{|\{%|\bNone\b|Undefined", card.content)


def test_the_card_says_what_the_data_are_for(card):
    assert "For research only" in card.text
    assert "not for diagnosis" in card.text
    assert card.data.license == LICENSE
    assert card.data.annotations_creators == ["machine-generated"]
    assert card.data.size_categories == ["n<1K"]
    assert {"synthetic", "chest-xray"} <= set(card.data.tags)


@pytest.mark.parametrize(("section", "name"), [(section, name) for section, names in PRINTED.items() for name in names])
@pytest.mark.parametrize("blank", [False, True])
def test_an_absent_field_is_an_error_that_names_it(copy, section, name, blank):
    record = run_record(copy)
    fields = {key: value for key, value in getattr(record, section).items() if key != name} | (
        {name: ""} if blank else {}
    )
    with pytest.raises(InputError, match=rf"{section}\.{name} is absent"):
        write_dataset_card(copy, CHEST_XRAY, record.model_copy(update={section: fields}), LICENSE)


def test_the_card_prints_nothing_of_the_record_but_the_fields_it_demands(copy):
    record = run_record(copy)
    fields = {section: {name: getattr(record, section)[name] for name in names} for section, names in PRINTED.items()}
    write_dataset_card(copy, CHEST_XRAY, Record(stage="generate", **fields), LICENSE)


def test_only_what_the_data_set_balances_is_listed(store_of_sexes):
    card = DatasetCard.load(store_of_sexes / "README.md")
    listed = [config["config_name"] for config in card.data.configs]
    assert listed == ["full", *(name for name in CHEST_XRAY.views if name.startswith(("sex", "age")))]
    assert [info["config_name"] for info in card.data.dataset_info] == listed
    assert re.findall(r"^\| `([\w+]+)` \| \d+ \|", card.text, flags=re.MULTILINE) == listed
    assert "does not balance" not in card.content


def test_the_card_claims_no_more_of_a_counterfactual_than_was_asked_for(card):
    text = " ".join(card.text.split())
    assert "the intervention between any two images of a subject is known" in text
    assert "off-target effects" in text
    assert "the column `intervention` holds the smallest `do`" in text
    assert "with the same weights, the same source, the versions" in text
    for claim in ("has a known cause", "images that differ in that factor alone", "is all that is needed"):
        assert claim not in text


def test_observed_images_are_not_called_generated(write_store, card, tmp_path):
    directory = write_store(tmp_path / "synthfair", 1, source="hospital", source_fingerprint="f")
    real = DatasetCard.load(directory / "README.md")
    assert "72 images of 6 subjects, 66 of them generated and the others observed." in real.text
    assert "Labels of observed images are those of `hospital`" in real.text
    assert real.data.source_datasets == ["extended"]
    assert "336 images of 28 subjects, 336 of them generated." in card.text
    assert "observed images" not in card.text
    assert card.data.source_datasets == ["original"]


def test_images_made_from_real_ones_are_not_called_anonymous(copy):
    record = run_record(copy)
    settings = record.settings | {"source": "hospital"}
    write_dataset_card(copy, CHEST_XRAY, record.model_copy(update={"settings": settings}), LICENSE)
    text = (copy / "README.md").read_text()
    assert "a real person in `hospital`" in text
    assert "no image was made from a real person" not in text


def test_new_bytes_renew_the_yaml_that_keys_the_cache(store, copy):
    record = run_record(copy)
    write_dataset_card(copy, CHEST_XRAY, record, LICENSE)
    assert (copy / "README.md").read_bytes() == (store / "README.md").read_bytes()
    write_dataset_card(
        copy, CHEST_XRAY, record.model_copy(update={"counts": record.counts | {"store": "other"}}), LICENSE
    )
    descriptions = [config["description"] for config in DatasetCard.load(copy / "README.md").data.configs]
    assert all(description.endswith("Data set other.") for description in descriptions)


def test_a_data_set_of_train_alone_has_a_card_that_loads(copy):
    for split in ("validation", "test"):
        (copy / "data" / f"{split}-00000-of-00001.parquet").unlink()
    write_dataset_card(copy, CHEST_XRAY, run_record(copy), LICENSE)
    assert load_dataset(str(copy), "sex_imbalanced_90_10").num_rows == {"train": 120}


def test_a_data_set_without_train_is_refused(copy):
    for path in (copy / "data").glob("train-*"):
        path.unlink()
    with pytest.raises(InputError, match="no files of train"):
        write_dataset_card(copy, CHEST_XRAY, run_record(copy), LICENSE)


def test_a_subject_in_two_splits_is_refused(copy):
    path = copy / "data" / "test-00000-of-00001.parquet"
    table = pq.read_table(path)
    stolen = pq.read_table(copy / "data" / "train-00000-of-00002.parquet")["subject_id"][0].as_py()
    position = table.schema.get_field_index("subject_id")
    pq.write_table(table.set_column(position, "subject_id", pa.array([stolen] * len(table))), path)
    with pytest.raises(InputError, match=f"'{stolen}' is in train and in test"):
        write_dataset_card(copy, CHEST_XRAY, run_record(copy), LICENSE)


EVIL = (
    "<script>alert(1)</script> | `x` [a](javascript:alert(1)) 'q' \"r\": {yaml: [1]} # & * ! % @ \\ ``` {{ 1 }}",
    "a\n---\n# b\n\n<img src=x onerror=y>\u2028---\u2028",
)


def printed_with(copy: Path, word: str) -> DatasetCard:
    """The card of a data set whose names, title, licence and record all hold this word."""
    record = run_record(copy)
    told = dict.fromkeys(("source", "world", "model_revision", "resolution", "seed"), word)
    support = {"out_of_support": {word: word}, "observed": word}
    # other names than the preset's, of factors or in a target, are refused before a card is written
    settings = record.settings | told | {"support": support}
    counts = record.counts | {word: word, "store": word}
    fields = {"settings": settings, "inputs": {"plan": word}, "counts": counts, "versions": {"synthfair-hf": word}}
    contrast = CHEST_XRAY.contrasts["age"].model_copy(update={"first": word})
    preset = CHEST_XRAY.model_copy(
        update={"title": word, "name": word, "contrasts": CHEST_XRAY.contrasts | {"age": contrast}}
    )
    write_dataset_card(copy, preset, record.model_copy(update=fields), word)
    return DatasetCard.load(copy / "README.md")


def tags(page: str) -> list[str]:
    """The tags of a page's HTML but those of code."""
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(page)
    # the last line, which vouches for the others, is another on every card
    return [tag for tag in re.findall(r"<[^>]*>", shown) if "code" not in tag and not tag.startswith("<!-- sha256")]


@pytest.mark.parametrize("word", EVIL)
def test_no_name_title_or_licence_is_markup_on_the_card_or_breaks_its_yaml(copy, word):
    plain, card = printed_with(copy, "plain"), printed_with(copy, word)
    assert card.data.license == word
    assert card.data.pretty_name == f"SynthFair: {word}"
    assert len(card.data.configs) == len(plain.data.configs) > 40
    assert tags(card.text) == tags(plain.text)
    assert load_dataset(str(copy), "sex_imbalanced_90_10", split="train").num_rows == 120


def test_examples_on_cards_are_formatted_and_the_check_looks_at_the_project_alone(store, tmp_path):
    """`make check` after the README's own example, whose data set lies in the same directory, untracked."""
    shutil.copy(store / "README.md", tmp_path / "dataset.md")
    fixtures = ROOT / "tests" / "fixtures" / "bb96b81"
    write_lora_card(tmp_path / "lora.md", Record.read(fixtures / "lora" / "record.json"), PHANTOM, 16, None)
    command = [sys.executable, "-m", "ruff", "format", "--check", "--config", ROOT / "pyproject.toml", tmp_path]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    check = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert re.findall(r"ruff (?:check|format --check) (.*)", check) == ["$(SOURCES)", "$(SOURCES)"]


def test_another_preset_has_its_own_card(write_store, tmp_path):
    directory = write_store(tmp_path / "synthfair", subjects_per_stratum=1, preset=PHANTOM)
    card = DatasetCard.load(directory / "README.md")
    assert card.data.pretty_name == f"SynthFair: {PHANTOM.title}"
    assert "| `habitus` | protected | patient/anatomy | 15 to 45 kg/m2 |" in card.text


def test_the_example_in_the_documentation_is_what_a_card_holds(card):
    page = (Path(__file__).parents[2] / "dataset_card" / "README.md").read_text()
    example = [line for line in page.partition("## Example")[2].splitlines() if line.startswith("| `")]
    assert len(example) >= 4
    assert set(example) <= set(card.text.splitlines())
