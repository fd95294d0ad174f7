"""The chain of a data set's files: every change of a record or shard is refused before a row is served."""

import importlib
import json
import re
import shutil
from pathlib import Path

import pytest
from datasets import load_dataset
from hub import Hub
from huggingface_hub import HfApi
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.benchmark.cells import DataSet
from synthfair_hf.generate.publish import publish
from synthfair_hf.generate.verification import verify
from synthfair_hf.publish.report import write_report
from synthfair_hf.publish.view_page import write_statistics
from synthfair_hf.records import Record
from synthfair_hf.views.builder import read_record
from synthfair_hf.views.manifest import check_footers, plan_identity, seal_of, sealed

pytest_plugins = ["hub.fixtures"]

ROOT = Path(__file__).parents[2]
BEFORE = ROOT / "tests" / "fixtures" / "bb96b81"
RUN, PLAN = "records/generate.json", "records/plan.json"


@pytest.fixture(scope="module")
def tampering():
    """benchmarks/tampering.py, which holds the edits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("tampering")


@pytest.fixture(scope="module")
def phantoms(tampering, tmp_path_factory) -> tuple[Path, Path]:
    """A data set of the benchmark, and another one."""
    directory = tmp_path_factory.mktemp("tampering")
    return tampering.write(directory / "synthfair"), tampering.write(directory / "other", seed=1)


@pytest.fixture
def copy(phantoms, tmp_path) -> Path:
    return Path(shutil.copytree(phantoms[0], tmp_path / "synthfair"))


# -- the card's last line


@given(st.binary(), st.binary(), st.data())
def test_a_flipped_bit_of_a_sealed_card_is_seen_wherever_it_is(card, run, data):
    whole = sealed(card, run)
    seal = seal_of(whole)
    assert seal is not None
    assert seal.whole
    position, bit = data.draw(st.integers(0, len(whole) - 1)), 1 << data.draw(st.integers(0, 7))
    found = seal_of(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
    assert found is None or not found.whole


@given(st.binary(), st.binary(), st.binary())
def test_a_seal_takes_the_place_of_an_earlier_one_and_names_the_record(card, run, other):
    assert sealed(sealed(card, run), other) == sealed(card, other)
    assert (seal_of(sealed(card, run)).run == seal_of(sealed(card, other)).run) == (run == other)


# -- records


def test_sixty_flips_in_card_records_and_plan_are_named(tampering, phantoms):
    found = [(file, problems) for file, problems in tampering.flips(phantoms[0], 60, seed=0)]
    assert len(found) == 60
    assert [(file, told) for file, told in found if not tampering.named(phantoms[0], file, told)] == []
    assert tampering.verify(phantoms[0]) == []


def test_edits_that_change_meaning_are_refused_by_the_builder_however_they_are_written(tampering, phantoms):
    assert len(tampering.EDITS) >= 20
    found = list(tampering.edited(phantoms[0]))
    assert [(edit, layout) for edit, layout, told in found if told is None] == []
    assert [told for *_, told in found if "\n" in told or "synthfair verify" not in told] == []
    assert tampering.refusal(phantoms[0]) is None


def test_changed_shards_are_refused_by_the_builder(tampering, phantoms):
    assert [change for change, told in tampering.exchanged(*phantoms) if told is None] == []


def reverse(directory: Path) -> None:
    """The levels of sex in the record of the run, as a hand would swap them."""
    path = directory / RUN
    path.write_text(re.sub(r'"male",(\s+)"female"', r'"female",\1"male"', path.read_text()))


@pytest.mark.parametrize(
    "use",
    [
        write_report,
        lambda directory: write_statistics(directory, "sex_imbalanced_90_10", directory),
        DataSet,
        lambda directory: read_record(str(directory)),
        lambda directory: load_dataset("synthfair", data_dir=str(directory)),
    ],
    ids=["report", "statistics", "benchmark", "record", "builder"],
)
def test_whoever_reads_a_data_set_refuses_a_record_that_was_changed(copy, use):
    use(copy)
    before = (copy / RUN).read_bytes()
    reverse(copy)
    assert (copy / RUN).read_bytes() != before
    written = sorted(copy.rglob("*"))
    with pytest.raises(InputError, match=r"not as it was written \(records/generate\.json: its bytes are not"):
        use(copy)
    assert sorted(copy.rglob("*")) == written


@pytest.mark.parametrize("use", [write_report, lambda copy: write_statistics(copy, "full", copy)])
def test_pages_are_not_written_of_swapped_shards(tampering, copy, use):
    tampering.swap(copy, "train-00000-of-00002", "train-00001-of-00002")
    with pytest.raises(InputError, match=r"data/train-00000-of-00002\.parquet: has \d+ bytes where"):
        use(copy)


@pytest.mark.parametrize("content", [None, b"# A card without the line\n"])
def test_a_record_that_no_card_vouches_for_is_refused(copy, content):
    (copy / "README.md").unlink()
    if content is not None:
        (copy / "README.md").write_bytes(content)
    with pytest.raises(InputError, match=r"README\.md: (is missing|has lost its last line)"):
        load_dataset("synthfair", data_dir=str(copy))


# -- footers, where sizes are alike


def test_a_file_of_another_cell_is_refused_by_its_footer(write_store, tmp_path):
    directory = write_store(tmp_path / "synthfair", 10, factors=("sex",), partitioned_from=10)
    record, preset = read_record(str(directory))
    paths = {name: str(directory / name) for name in record.files if name.startswith("data/")}
    check_footers(str(directory), paths, record, preset)
    male = next(name for name in paths if "sex.male" in name and "under" in name)
    cell, _, file = male.rpartition("/")
    others = {
        "sex": male.replace("sex.male", "sex.female"),
        "age": next(name for name in paths if "sex.male" in name and "older" in name and name.endswith(file)),
        "draw": next(name for name in paths if name.startswith(cell) and name != male),
    }
    for column, other in others.items():
        with pytest.raises(InputError, match=rf"holds rows of another {column}\)"):
            check_footers(str(directory), {male: paths[other]}, record, preset)


def test_a_file_of_another_split_plan_or_preset_is_refused_by_its_footer(phantoms):
    directory, other = phantoms
    record, preset = read_record(str(directory))
    train, test = "data/train-00000-of-00002.parquet", "data/test-00000-of-00001.parquet"

    def check(name: str, path: Path, preset=preset) -> None:
        check_footers(str(directory), {name: str(path)}, record, preset)

    check(train, directory / train)
    with pytest.raises(InputError, match="holds rows of another split"):
        check(train, directory / test)
    with pytest.raises(InputError, match="holds rows of another plan"):
        check(train, other / train)
    settings = json.loads(preset.model_dump_json())
    next(one for one in settings["covariates"]["variables"] if one["name"] == "sex")["levels"].reverse()
    with pytest.raises(InputError, match="has other values of sex than the preset"):
        check(train, directory / train, type(preset).model_validate(settings))
    with pytest.raises(InputError, match="its footer cannot be read"):
        check(train, directory / "README.md")


# -- data sets of before, and on the Hub


def test_a_record_of_before_is_compared_with_its_plan_and_files(tmp_path):
    directory = Path(shutil.copytree(BEFORE / "world", tmp_path / "synthfair"))
    assert Record.read(directory / RUN).files == {}
    load_dataset("synthfair", data_dir=str(directory), streaming=True)
    write_report(directory)
    whole = (directory / RUN).read_bytes()
    reverse(directory)
    with pytest.raises(InputError, match=r"records/plan\.json: has other settings than records/generate\.json"):
        load_dataset("synthfair", data_dir=str(directory))
    (directory / RUN).write_bytes(whole)
    next((directory / "data").glob("test-*")).unlink()
    with pytest.raises(InputError, match=r"data: holds 3 files of \d+ bytes where records/generate\.json counts 4 of"):
        load_dataset("synthfair", data_dir=str(directory))


def rename(preset: dict) -> None:
    preset["title"] = "Radiographs of our hospital"


def alias(preset: dict) -> None:
    for one in preset["covariates"]["variables"]:
        one["aliases"] = {"m": "female"} if one["name"] == "sex" else one.get("aliases", {})


OF_BEFORE = {
    "access": lambda settings: settings.update(access="open" if settings["access"] != "open" else "credentialed"),
    "seed": lambda settings: settings.update(seed=settings["seed"] + 1),
    "number of subjects": lambda settings: settings.update(num_subjects=settings["num_subjects"] + 14),
    "title": lambda settings: rename(settings["preset"]),
    "aliases": lambda settings: alias(settings["preset"]),
    "fractions": lambda settings: settings.update(split_fractions={"train": 0.5, "validation": 0.25, "test": 0.25}),
    "draws": lambda settings: settings.update(draws_version=2),
    "generator": lambda settings: settings.update(model_revision="0" * 16),
    "what is not a setting": lambda settings: settings.update(approved=True),
}


@pytest.mark.parametrize("name", ["world", "drawn", "observed"])
@pytest.mark.parametrize("edit", OF_BEFORE)
def test_settings_of_before_that_are_not_those_of_the_rows_are_refused_and_named(tmp_path, name, edit):
    directory = Path(shutil.copytree(BEFORE / name, tmp_path / "synthfair"))
    assert load_dataset("synthfair", data_dir=str(directory), streaming=True)
    assert verify(directory) == []
    for place in (RUN, PLAN):
        value = json.loads((directory / place).read_bytes())
        OF_BEFORE[edit](value["settings"] if place == RUN else value)
        (directory / place).write_text(json.dumps(value, indent=2) + "\n")
    for use in (lambda: load_dataset("synthfair", data_dir=str(directory)), lambda: write_report(directory)):
        with pytest.raises(InputError, match="is not as it was written"):
            use()
    assert verify(directory) != []
    # with its identity made to fit, the rows still say whose they are
    run = json.loads((directory / RUN).read_bytes())
    run["inputs"] |= {"plan": plan_identity(run["settings"]), "model": run["settings"]["model_revision"]}
    (directory / RUN).write_text(json.dumps(run, indent=2))
    with pytest.raises(InputError, match="is not as it was written"):
        load_dataset("synthfair", data_dir=str(directory))


def test_settings_of_before_without_their_plan_are_refused(tmp_path):
    directory = Path(shutil.copytree(BEFORE / "world", tmp_path / "synthfair"))
    (directory / PLAN).unlink()
    with pytest.raises(InputError, match=r"records/plan\.json: is missing"):
        load_dataset("synthfair", data_dir=str(directory))


@pytest.mark.parametrize("name", ["world", "drawn", "observed"])
def test_a_record_of_before_that_is_not_of_its_plan_is_named(tmp_path, name):
    directory = Path(shutil.copytree(BEFORE / name, tmp_path / "synthfair"))
    whole = (directory / RUN).read_bytes()
    reverse(directory)
    [problem] = verify(directory)
    assert problem.startswith("records/generate.json: ")
    (directory / RUN).write_bytes(whole)
    run = json.loads(whole)
    run["settings"]["preset"]["views"] = []
    (directory / RUN).write_text(json.dumps(run, indent=2))
    [problem] = verify(directory)
    assert "records/generate.json" in problem


CARDS = {
    "filter": lambda card: card.replace("[sex, ==, 0]", "[sex, ==, 1]", 1),
    "threshold": lambda card: card.replace("[draw, <, 0.9]", "[draw, <, 0.1]", 1),
    "name": lambda card: card.replace("config_name: sex_imbalanced_90_10", "config_name: sex_imbalanced_10_90", 1),
    "files": lambda card: card.replace("data/train-*", "data/test-*", 1),
    "licence": lambda card: re.sub("license: .*", "license: cc0-1.0", card, count=1),
    "yaml": lambda card: card.replace("configs:", "configs: [", 1),
}


@pytest.mark.parametrize("name", ["world", "drawn", "observed"])
@pytest.mark.parametrize("change", CARDS)
def test_a_card_of_before_is_compared_with_its_record(tmp_path, name, change):
    directory = Path(shutil.copytree(BEFORE / name, tmp_path / "synthfair"))
    card = directory / "README.md"
    changed = CARDS[change](card.read_text())
    assert changed != card.read_text()
    card.write_text(changed)
    [problem] = verify(directory)
    assert problem.startswith("README.md: ")


def test_a_data_set_is_not_taken_for_one_of_before(copy):
    run, card = json.loads((copy / RUN).read_bytes()), (copy / "README.md").read_bytes()
    assert run["settings"]["draws_version"] == 2
    del run["files"]
    (copy / RUN).write_text(json.dumps(run, indent=2) + "\n")
    (copy / "README.md").write_bytes(card[: card.rindex(b"<!-- sha256")])
    with pytest.raises(InputError, match=r"records/generate\.json: has lost its list of files"):
        load_dataset("synthfair", data_dir=str(copy))
    with pytest.raises(InputError, match="has lost its list of files"):
        read_record(str(copy))
    assert any("has lost its list of files" in problem for problem in verify(copy))


@pytest.mark.parametrize(
    "change",
    [lambda card: card.replace(b"license: cc-by-4.0", b"license: cc0-1.0"), lambda card: card.replace(b"0.9", b"0.1")],
    ids=["licence", "filter"],
)
def test_a_card_that_was_changed_is_refused(copy, change):
    whole = (copy / "README.md").read_bytes()
    (copy / "README.md").write_bytes(change(whole))
    assert (copy / "README.md").read_bytes() != whole
    with pytest.raises(InputError, match=r"README\.md: its bytes are not those whose sha256 is in its last line"):
        load_dataset("synthfair", data_dir=str(copy))


def test_on_the_hub_records_and_sha256_are_compared_too(hub: Hub, write_store, tmp_path):
    directory = write_store(tmp_path / "synthfair", 2, access="open")
    publish(directory, "my-lab/radiographs")
    place = "hf://datasets/my-lab/radiographs"

    def load(revision: str) -> list[str]:
        rows = load_dataset("synthfair", "sex_imbalanced_50_50", data_dir=f"{place}@{revision}", streaming=True)
        return [row["id"] for row in rows["train"]]

    def send(name: str, content: bytes) -> str:
        return (
            HfApi()
            .upload_file(path_or_fileobj=content, path_in_repo=name, repo_id="my-lab/radiographs", repo_type="dataset")
            .oid
        )

    assert len(load("main")) > 0
    shard = sorted((directory / "data").glob("train-*"))[0]
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 3] ^= 1
    revision = send(f"data/{shard.name}", bytes(damaged))
    with pytest.raises(InputError, match=r"its bytes are not those whose sha256 .* load another revision of it\.$"):
        load(revision)
    send(f"data/{shard.name}", shard.read_bytes())
    reverse(directory)
    revision = send(RUN, (directory / RUN).read_bytes())
    with pytest.raises(InputError, match=r"records/generate\.json: its bytes are not those whose sha256 README\.md"):
        load(revision)
