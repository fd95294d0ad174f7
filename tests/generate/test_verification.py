"""What `verify` compares with the plan, how it names files, and what its remedies do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from synthfair_hf.cli import main
from synthfair_hf.errors import InputError
from synthfair_hf.generate.dataset import generate_dataset, repair_dataset
from synthfair_hf.generate.run import generate, repair
from synthfair_hf.generate.store import Store
from synthfair_hf.generate.verification import verify
from synthfair_hf.publish.dataset_card import write_dataset_card
from synthfair_hf.records import Record, library_versions

BEFORE = Path(__file__).parents[1] / "fixtures" / "bb96b81"
SHARD = "data/train-00000-of-00001.parquet"


@pytest.fixture
def plan(make_plan):
    """Of `stored`."""
    return make_plan(subjects_per_shard=20)


def changed(**values: Any) -> Callable[[list[dict]], None]:
    """The second row with other values."""
    return lambda rows: rows[1].update(values)


def another(name: str) -> Callable[[list[dict]], None]:
    """The second row with the next level of a covariate."""

    def change(rows: list[dict]) -> None:
        levels = sorted({row[name] for row in rows})
        rows[1][name] = levels[(levels.index(rows[1][name]) + 1) % len(levels)]

    return change


def an_edited(rows: list[dict]) -> dict:
    return next(row for row in rows if row["parent_id"])


def edit(**values: Any) -> Callable[[list[dict]], None]:
    return lambda rows: an_edited(rows).update(values)


def rewrite(write: Callable[[dict], str]) -> Callable[[list[dict]], None]:
    def change(rows: list[dict]) -> None:
        row = an_edited(rows)
        row["intervention"] = write(json.loads(row["intervention"]))

    return change


def elsewhere(rows: list[dict]) -> None:
    """A whole family in the other stratum."""
    for row in rows:
        if row["subject_id"] == rows[0]["subject_id"]:
            row["age"] = 20.0 if row["age"] >= 50 else 80.0


CHANGES: dict[str, tuple[Callable[[list[dict]], None], str]] = {
    "draw": (changed(draw=0.123), "has draw 0.123 where"),
    "seed": (changed(seed=1), "has another seed"),
    "seeds": (lambda rows: [row.update(seed=1) for row in rows], "has seed 1, which is none of its subject's"),
    "factor": (another("sex"), "has sex"),
    "another factor": (another("scanner"), "has scanner"),
    "covariate": (changed(age=33.0), "has another age"),
    "another covariate": (another("view"), "has another view"),
    "stratum": (elsewhere, "where the plan has"),
    "noise": (changed(noise_age=[0.25]), "has another noise_age"),
    "parent": (edit(parent_id=None), "has parent_id None where"),
    "no intervention": (edit(intervention="{}"), "has the intervention"),
    "less intervention": (rewrite(lambda do: json.dumps(dict(list(do.items())[1:]))), "has the intervention"),
    "another value": (rewrite(lambda do: json.dumps({name: "zz" for name in do}, sort_keys=True)), "but other values"),
    "another layout": (rewrite(lambda do: json.dumps(do, indent=1)), "not as it is written"),
    "no JSON": (edit(intervention="sex=male"), "not as it is written"),
    "synthetic": (edit(synthetic=False), "has synthetic False"),
    "source": (changed(source_dataset="nih"), "has source_dataset nih where"),
    "generator": (changed(model_revision="x"), "has model_revision x where"),
    "image": (lambda rows: rows[1]["image"].update(path="other.png"), "has image other.png where"),
}


def rows_of(store: Store, name: str) -> list[dict]:
    """Stored rows as `Store.write` takes them."""
    covariates = store.plan.preset.covariates
    rows = pq.read_table(store.directory / name).to_pylist()
    for row in rows:
        for one in covariates.walk():
            if one.categorical:
                row[one.name] = one.levels[row[one.name]]
    return rows


@pytest.mark.parametrize("name", CHANGES)
def test_every_column_that_follows_from_the_plan_is_compared(stored, plan, name):
    """Also where the records, the chain and the card are of the changed rows."""
    change, sentence = CHANGES[name]
    store, shard = Store(stored, plan), plan.shards()[0]
    with store.open():
        rows = rows_of(store, SHARD)
        change(rows)
        store.write(shard, rows)
        write_dataset_card(stored, plan.preset, store.finish(), "cc-by-4.0")
    problems = verify(stored)
    assert problems
    assert all(problem.startswith(f"{SHARD}: row ") for problem in problems)
    assert any(sentence in problem for problem in problems)


def test_other_columns_are_named(stored, plan, record_again):
    path = stored / SHARD
    pq.write_table(pq.read_table(path).drop_columns(["noise_age"]), path)
    record_again(stored)
    [problem] = verify(stored)
    assert problem.startswith(f"{SHARD}: its rows cannot be read (its columns are not those of the plan)")


# -- remedies


def test_a_flipped_plan_is_told_as_other_bytes_and_a_record_in_our_words(stored):
    plan, run = stored / "records" / "plan.json", stored / "records" / "generate.json"
    whole = plan.read_text()
    plan.write_text(whole.replace('"compile"', '"colpile"'))
    assert verify(stored) == [
        "records/plan.json: its bytes are not those that records/generate.json was written with; repair the data set."
    ]
    plan.write_text(whole)
    run.write_text(run.read_text().replace('"stage"', '"stahe"'))
    [problem] = verify(stored)
    assert problem.startswith("records/generate.json: ")
    assert "validation error" not in problem
    assert "Input should" not in problem


def test_verify_gives_one_instruction_and_the_command_for_a_card(tmp_path, capsys):
    directory = Path(shutil.copytree(BEFORE / "world", tmp_path / "data"))
    card, whole = directory / "README.md", (directory / "README.md").read_text()
    card.write_text(whole.replace("license: cc-by-4.0", "license: mit"))
    assert main(["verify", str(directory)]) == 1
    told = capsys.readouterr().out.splitlines()
    writes = "with the same flags, writes its card again"
    assert told[-1] == f"the synthfair generate command that wrote {directory}, {writes}"
    card.write_text(whole)
    next((directory / "data").iterdir()).write_bytes(b"")
    assert main(["verify", str(directory)]) == 1
    told = capsys.readouterr().out
    assert "delete it" not in told
    assert "same command" not in told
    assert told.splitlines()[-1].startswith("next: synthfair verify ")


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("records/plan.json", lambda text: text.replace('"seed": 0', '"seed": 1')),
        ("records/plan.json", lambda text: text.replace("\n", " ")),
        ("records/plan.json", lambda text: text[:-9]),
        ("records/generate.json", lambda text: text.replace('"subjects": 28', '"subjects": 29')),
        ("records/generate.json", lambda text: text.replace("\n", " ")),
        ("records/generate.json", lambda text: text[:-9]),
        ("records/test-00000-of-00001.json", lambda text: text.replace("torch", "torhc")),
        ("records/test-00000-of-00001.json", lambda text: text.replace("\n", " ")),
    ],
)
def test_a_damaged_plan_or_record_is_named_and_repaired_to_the_same_bytes(stored, pipeline, name, change):
    whole = files(stored)
    (stored / name).write_text(change((stored / name).read_text()))
    assert (stored / name).read_bytes() != whole[name]
    [problem] = verify(stored)
    assert problem.removeprefix(f"{stored}/").startswith(f"{name}: ")
    repair(stored, pipeline, progress=False)
    assert verify(stored) == []
    assert files(stored) == whole


def test_a_changed_card_is_named_and_the_same_command_writes_it_again(tmp_path):
    made = {"world": "phantom", "resolution": 16, "factors": ("sex",), "num_subjects": 14}
    generate_dataset(tmp_path / "data", **made)
    card = tmp_path / "data" / "README.md"
    whole = card.read_bytes()
    card.write_bytes(whole.replace(b"cc-by-4.0", b"cc-by-3.0"))
    [problem] = verify(tmp_path / "data")
    assert problem == (
        "README.md: its bytes differ from the sha256 in its last line; "
        "write it again by the generate command that wrote it."
    )
    generate_dataset(tmp_path / "data", **made)
    assert card.read_bytes() == whole
    assert verify(tmp_path / "data") == []


def test_versions_are_those_that_made_each_shard(tmp_path, make_plan, make_pipeline, monkeypatch):
    plan, versions = make_plan(), library_versions()
    with pytest.raises(KeyboardInterrupt):
        generate(plan, make_pipeline(fail_at=20), tmp_path, progress=False)
    made = {path.name for path in (tmp_path / "records").glob("t*.json")}
    monkeypatch.setattr("synthfair_hf.generate.store.library_versions", lambda: {**versions, "torch": "9.9"})
    run = generate(plan, make_pipeline(), tmp_path, progress=False)
    shards = [shard.stem for shard in plan.shards()]
    assert 0 < len(made) < len(shards)
    for stem in shards:
        own = Record.read(tmp_path / "records" / f"{stem}.json").versions
        assert own == (versions if f"{stem}.json" in made else {**versions, "torch": "9.9"})
    assert run.versions == {**versions, "torch": f"{versions['torch']}, 9.9"}
    write_dataset_card(tmp_path, plan.preset, run, "cc-by-4.0")
    assert verify(tmp_path) == []


def test_a_repair_under_other_versions_says_so_and_the_card_names_the_new_record(stored, make_pipeline, monkeypatch):
    versions, before = library_versions(), (stored / "README.md").read_bytes()
    (stored / SHARD).unlink()
    monkeypatch.setattr("synthfair_hf.generate.store.library_versions", lambda: {**versions, "torch": "9.9"})
    repair(stored, make_pipeline(), progress=False)
    assert Record.read(stored / "records" / "generate.json").versions["torch"] == f"9.9, {versions['torch']}"
    assert verify(stored) == []
    assert (stored / "README.md").read_bytes() != before


def test_a_card_that_was_changed_is_not_sealed_by_a_repair(stored, pipeline):
    card = stored / "README.md"
    card.write_bytes(card.read_bytes().replace(b"cc-by-4.0", b"cc-by-3.0"))
    (stored / SHARD).unlink()
    repair(stored, pipeline, progress=False)
    [problem] = verify(stored)
    assert problem.startswith("README.md: its bytes differ")


def test_verify_tells_the_command_that_repairs_and_it_does(tmp_path, capsys):
    directory = tmp_path / "data"
    generate_dataset(directory, world="phantom", resolution=16, factors=("sex",), num_subjects=14)
    whole = files(directory)
    next((directory / "data").iterdir()).write_bytes(b"")
    assert main(["verify", str(directory)]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"next: synthfair verify {directory} --repair"
    assert main(last.removeprefix("next: synthfair ").split()) == 0
    assert files(directory) == whole
    (directory / "data" / "notes.txt").write_text("stray")
    assert main(["verify", str(directory)]) == 1
    assert "--repair" not in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "nowhere")]) == 1
    assert "--repair" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("world", ""),
        ("drawn", " --pretrained_model_name_or_path PRETRAINED_MODEL_NAME_OR_PATH --predictor PREDICTOR"),
        ("observed", " --source SOURCE_DIR --pretrained_model_name_or_path PRETRAINED_MODEL_NAME_OR_PATH"),
    ],
)
def test_the_command_names_what_the_data_set_was_made_with(tmp_path, capsys, name, flags):
    shutil.copytree(BEFORE / name, tmp_path / name)
    next((tmp_path / name / "data").iterdir()).unlink()
    assert main(["verify", str(tmp_path / name)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == f"next: synthfair verify {tmp_path / name} --repair{flags}"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("observed --repair", "--source: not given, but the subjects of observed were observed in"),
        ("world --repair --source films", "--source: films is given, but world draws its subjects; leave it out."),
        (
            "world --repair --pretrained_model_name_or_path phantom_generator",
            "--pretrained_model_name_or_path: phantom_generator is given, but the images of world are of the world",
        ),
        ("world --source nowhere", "--source: is for repair; give --repair too, or leave it out."),
        ("world --predictor nowhere", "--predictor: is for repair; give --repair too, or leave it out."),
        (
            "world --pretrained_model_name_or_path nowhere",
            "--pretrained_model_name_or_path: is for repair; give --repair too, or leave it out.",
        ),
    ],
)
def test_what_a_repair_lacks_or_has_no_use_for_is_one_sentence(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    for name in ("observed", "world"):
        shutil.copytree(BEFORE / name, name)
    assert main(["verify", *words.split()]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


def test_the_library_names_its_own_argument():
    with pytest.raises(InputError, match=r"source_dir: not given, .*; give the folder of its images\."):
        repair_dataset(BEFORE / "observed")
