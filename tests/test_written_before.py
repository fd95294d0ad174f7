"""What commit bb96b81 wrote is verified, read, repaired, resumed and built upon (tests/fixtures says what it wrote).

The commands are those that wrote it, run where a copy of it lies. Bytes are compared under the library versions that
wrote them; under others, which may write other bytes, what they say is compared.
"""

import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_dataset
from diffusers import DiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional

import synthfair_hf
from synthfair_hf.cli import main
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.fairness.benchmark import board as benchmark
from synthfair_hf.records import Record, library_versions

BEFORE = Path(__file__).parent / "fixtures" / "bb96b81"
PACKAGE = Path(synthfair_hf.__file__).parent

BRIEFLY = "--max_train_steps 2 --checkpointing_steps 1 --train_batch_size 4 --lr_warmup_steps 0 --mixed_precision no"
GENERATE = {
    "world": "--world phantom --resolution 16 --factors sex finding --num_subjects 28 --subjects_per_shard 10",
    "drawn": "--pretrained_model_name_or_path phantom_generator --predictor predictor --factors sex finding "
    "--num_subjects 14 --subjects_per_shard 4",
    "observed": "--pretrained_model_name_or_path chest_generator --source films --factors sex scanner "
    "--num_subjects 14 --subjects_per_shard 4",
}
REPAIR = {
    "world": "",
    "partitioned": "",
    "drawn": "--pretrained_model_name_or_path phantom_generator --predictor predictor",
    "observed": "--pretrained_model_name_or_path chest_generator --source films",
}
TRAIN = {
    "chest_generator": "train --preset chest_xray --source films --access open --resolution 16 --ema_decay 0.5 "
    f"--pretrained_model_name_or_path chest_start {BRIEFLY}",
    "phantom_generator": "finetune --predictor predictor --pretrained_model_name_or_path phantom_start "
    f"--ema_decay 0.5 {BRIEFLY}",
    "lora": "align --pretrained_model_name_or_path phantom_generator --train_data_dir preferences "
    f"{BRIEFLY} --validation_steps 1 --learning_rate 0.1 --rank 2",
}
BOARD = "--data_dir world --views finding_sex_correlated_90_10 --methods resampling --seeds 1 --steps 2"


def arithmetic() -> str:
    """What this machine's processor makes of a small network and of a few functions: another one rounds otherwise."""
    network = UNet2DConditionModel.from_pretrained(BEFORE / "phantom_start" / "unet", use_safetensors=True)
    shapes = ((2, 4, 8, 8), (2, 7, 8), (2, 8), (40, 64))
    images, tokens, pooled, numbers = (torch.from_numpy(np.random.default_rng(0).normal(size=one)) for one in shapes)
    with torch.no_grad():
        maps = network(images.float(), 300, tokens.float(), class_labels=pooled.float(), return_dict=False)[0]
    found = [
        maps,
        *(kind(numbers.float(), dim=1) for kind in (torch.softmax, torch.logsumexp, torch.std, torch.cumsum)),
    ]
    found += [kind(numbers.float()) for kind in (functional.softplus, torch.exp, torch.tanh, torch.erf)]
    return hashlib.sha256(b"".join(one.numpy().tobytes() for one in found)).hexdigest()[:16]


def gradients() -> str:
    """What this machine's processor makes of the same network's gradients, which it may round otherwise even so."""
    network = UNet2DConditionModel.from_pretrained(BEFORE / "phantom_start" / "unet", use_safetensors=True)
    shapes = ((2, 4, 8, 8), (2, 7, 8), (2, 8))
    images, tokens, pooled = (torch.from_numpy(np.random.default_rng(0).normal(size=one)).float() for one in shapes)
    network(images, 300, tokens, class_labels=pooled, return_dict=False)[0].square().mean().backward()
    found = [one.grad.numpy().tobytes() for one in network.parameters() if one.grad is not None]
    return hashlib.sha256(b"".join(found)).hexdigest()[:16]


WROTE = Record.read(BEFORE / "world" / "records" / "generate.json").versions
LIBRARIES = all(WROTE[name] == version for name, version in library_versions().items() if name != "synthfair-hf")
# Zen 4, whose matrix products of other shapes are rounded otherwise
OTHERWISE = ("14fc3dbfd0dbe067",)
PROCESSOR = LIBRARIES and arithmetic() == "4072675a3c69689c" and gradients() not in OTHERWISE
EXACT = {"world": LIBRARIES, "partitioned": LIBRARIES, "drawn": PROCESSOR, "observed": PROCESSOR}
"""Whether the bytes of a data set can be made here: what a network draws is rounded as the processor does it."""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty directory in which a command is run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def take(*names: str) -> None:
    """Copy what was written before into the directory in which commands are run."""
    for name in names:
        copy = shutil.copytree if (BEFORE / name).is_dir() else shutil.copy2
        copy(BEFORE / name, name)


def run(command: str) -> None:
    assert main(command.split()) == 0, command


def files(directory: str | Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in Path(directory).rglob("*.*") if _is(path)}


def _is(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".lock")


def assert_same_rows(found: str, name: str) -> None:
    """The same bytes in every shard and the same in its record; where that can't be, rows whose images hardly differ.

    The card is not compared: what it says may be said better, and `verify` knows whether it is of these shards.
    """
    ours, theirs = files(found), files(BEFORE / name)
    # versions that wrote these had no croissant.json, and no figures beside the card
    assert ours.keys() - {"croissant.json", "covariates.svg", "views.svg"} == theirs.keys()
    if EXACT[name]:
        assert [path for path in ours if path.startswith("data/") and ours[path] != theirs[path]] == []
        for path in (path for path in ours if path.startswith("records/") and "plan" not in path):
            record, before = (Record.read(Path(root, path)) for root in (found, BEFORE / name))
            assert (record.inputs, record.counts) == (before.inputs, before.counts)
    columns = ["id", "subject_id", "split", "seed", "draw", "sex", "plan", "model_revision"]
    for path in (path for path in ours if path.endswith(".parquet")):
        one, other = (pq.read_table(Path(root, path)) for root in (found, BEFORE / name))
        assert one.select(columns).equals(other.select(columns))
        assert np.abs(pixels(one) - pixels(other)).mean() < 1


def pixels(table) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(one["bytes"])), float) for one in table["image"].to_pylist()])


def assert_repaired(name: str, capsys) -> None:
    """Sound again; or one sentence says that the bytes are not those that were lost, as they may be only here."""
    status = main(["verify", name, "--repair", *REPAIR[name].split()])
    told = capsys.readouterr()
    if EXACT[name] or status == 0:
        assert (status, told.out.splitlines()[-1]) == (0, f"{name}: sound")
    else:
        assert (status, "are not, byte for byte, those that were lost" in told.err) == (2, True)


def sound(directory: str, capsys) -> bool:
    status = main(["verify", directory])
    return (status, capsys.readouterr().out.splitlines()[-1]) == (0, f"{directory}: sound")


def test_nothing_of_it_was_rewritten():
    """Not by a formatter, a merge or a later run either: tests/fixtures says why."""
    whole = hashlib.sha256()
    for name, content in sorted(files(BEFORE).items()):
        whole.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    assert whole.hexdigest()[:16] == "5d18c8f335be82b2"


# -- data sets


@pytest.mark.parametrize("name", GENERATE)
def test_a_data_set_is_sound(name, capsys):
    take(name)
    assert sound(name, capsys)


@pytest.mark.parametrize("name", [*GENERATE, "partitioned"])
def test_a_data_set_has_a_card_of_today_once_it_is_written_anew(name, capsys):
    take(name)
    if name == "partitioned":
        # of which nothing but its records is left
        assert main(["validate", name]) == 1
        return
    assert main(["validate", name]) == 1
    assert f"write it again by `synthfair card {name}`" in capsys.readouterr().out
    run(f"card {name} --license cc-by-4.0")
    run(f"validate {name}")
    assert sound(name, capsys)


@pytest.mark.parametrize("name", ["chest_generator", "phantom_generator", "chest_start", "phantom_start"])
def test_a_generator_has_a_card_of_today(name, capsys):
    take(name)
    run(f"card {name} --creator my-lab")
    run(f"validate {name}")


@pytest.mark.parametrize("name", GENERATE)
def test_damaged_and_missing_shards_are_repaired_to_the_same_bytes(name, capsys):
    take(name, "phantom_generator", "chest_generator", "predictor", "films")
    damaged, missing = sorted(Path(name, "data").iterdir())[:2]
    damaged.write_bytes(damaged.read_bytes()[:-9] + bytes(9))
    missing.unlink()
    assert main(["verify", name]) == 1
    found = capsys.readouterr().out
    assert damaged.name in found
    assert missing.name in found
    assert_repaired(name, capsys)
    assert_same_rows(name, name)


def test_a_data_set_of_which_nothing_but_its_records_is_left_is_repaired_to_the_same_bytes(capsys):
    """Its train is partitioned; that the bytes are the same is what the record of the run says of them."""
    take("partitioned")
    assert_repaired("partitioned", capsys)
    assert len(list(Path("partitioned", "data").rglob("*.parquet"))) == 42
    if EXACT["partitioned"]:
        counts = (Record.read(root / "partitioned" / "records" / "generate.json").counts for root in (Path(), BEFORE))
        assert len({one["store"] for one in counts}) == 1


@pytest.mark.parametrize("name", GENERATE)
def test_an_unfinished_run_goes_on_to_the_same_bytes_and_a_finished_one_stays(name, capsys):
    take("phantom_generator", "chest_generator", "predictor", "films")
    if name == "world":
        take("world_unfinished")
        Path("world_unfinished").rename("world")
    else:
        take(name)
        for path in (
            *Path(name).glob("*/train-0000[12]*"),
            Path(name, "records", "generate.json"),
            Path(name, "README.md"),
        ):
            path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in Path(name, "data").iterdir()}
    assert 2 <= len(kept) < len(list((BEFORE / name / "data").iterdir()))
    for _ in range(2):
        run(f"generate {GENERATE[name]} --output_dir {name}")
        assert_same_rows(name, name)
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert sound(name, capsys)


def test_parts_of_one_plan_are_merged(capsys):
    take("world_unfinished", "world")
    for path in Path("world_unfinished", "data").iterdir():
        Path("world", "data", path.name).unlink()
    run("merge world_unfinished world --output_dir merged")
    assert_same_rows("merged", "world")
    assert sound("merged", capsys)


@pytest.mark.parametrize(
    ("name", "view", "train", "held_out"),
    [
        ("world", "full", [60, 60], 24),
        ("world", "sex_imbalanced_90_10", [54, 6], 24),
        ("world", "finding_sex_correlated_90_10", [20, 20], 24),
        ("drawn", "finding_sex_correlated_90_10", [10, 10], 12),
        ("observed", "scanner_sex_correlated_90_10", [10, 10], 12),
    ],
)
def test_a_view_holds_as_many_rows_by_name_and_by_the_card(name, view, train, held_out):
    for found in (load_dataset("synthfair", view, data_dir=str(BEFORE / name)), load_dataset(str(BEFORE / name), view)):
        assert np.bincount(found["train"]["sex"]).tolist() == train
        assert {len(found["validation"]), len(found["test"])} == {held_out}
        assert found["train"][0]["image"].size == (16, 16)


# -- generators

ASKED = {
    "phantom_generator": {"race": "asian", "habitus": 24.0, "finding": "effusion"},
    "chest_generator": {"finding": "pneumonia"},
}
TILES = {
    "phantom_generator": ".501 .463 .485 .389 .331 .532 .432 .573 .464 .524 .480 .476 .503 .460 .426 .659",
    "chest_generator": ".400 .455 .398 .336 .300 .392 .319 .589 .486 .484 .377 .463 .504 .456 .383 .641",
}
"""Mean grey levels of the 16 tiles of one image."""


def image(pipeline, name="phantom_generator"):
    pipeline.set_progress_bar_config(disable=True)
    asked = {"age": 61.0, "sex": "female", "view": "AP", "scanner": "portable", **ASKED[name]}
    covariates = {key: [value] for key, value in asked.items()}
    return pipeline(covariates=covariates, generator=torch.Generator().manual_seed(7), output_type="pt").images


def tiles(images) -> list[float]:
    return functional.avg_pool2d(images, 4).flatten().tolist()


@pytest.mark.parametrize("name", ASKED)
def test_a_pipeline_names_its_components_and_draws_the_same_image(name):
    """Whatever moves, what a saved pipeline names must go on loading."""
    config = json.loads((BEFORE / name / "model_index.json").read_text())
    assert {part: value for part, value in config.items() if isinstance(value, list)} == {
        "covariate_encoder": ["synthfair_hf.diffusion.conditioning", "CovariateEncoder"],
        "scheduler": ["synthfair_hf.diffusion.solver", "ReversibleFlowScheduler"],
        "scm": ["synthfair_hf.causal.scm", "StructuralCausalModel"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": [None, None],
    }
    assert config["_class_name"] == "CausalDiffusionPipeline"
    for loaded in (
        CausalDiffusionPipeline.from_pretrained(BEFORE / name),
        DiffusionPipeline.from_pretrained(BEFORE / name, use_safetensors=True),
    ):
        assert type(loaded) is CausalDiffusionPipeline
        assert tiles(image(loaded, name)) == pytest.approx([float(one) for one in TILES[name].split()], abs=1e-3)


@pytest.mark.parametrize(("name", "made"), [("phantom_generator", "drawn"), ("chest_generator", "observed")])
def test_a_counterfactual_is_asked_of_the_generator_that_made_a_data_set(name, made):
    take(name)
    known = {"age": 61, "sex": "female", "view": "AP", "scanner": "portable", **ASKED[name]}
    told = " ".join(f"{key}={value}" for key, value in known.items())
    run(
        f"counterfactual --image {BEFORE}/films/0.png --covariates {told} --do sex=male --output_dir answer "
        f"--pretrained_model_name_or_path {name}"
    )
    record = Record.read(Path("answer", "counterfactual.json"))
    assert record.measured["counterfactual"]["sex"] == "male"
    assert record.inputs["generator"] == Record.read(BEFORE / made / "records" / "generate.json").inputs["model"]


@pytest.mark.parametrize(("name", "unfinished"), [(one, f"{one.removesuffix('_generator')}_training") for one in TRAIN])
def test_training_goes_on_from_a_checkpoint_and_ends_in_the_same_weights(name, unfinished):
    take(unfinished, "films", "chest_start", "phantom_start", "predictor", "preferences")
    if name == "lora":
        take("phantom_generator")
    Path(unfinished).rename(name)
    checkpoint = files(Path(name, "checkpoint-1"))
    run(f"{TRAIN[name]} --output_dir {name} --resume_from_checkpoint latest")
    assert files(Path(name, "checkpoint-1")) == checkpoint
    record, before = Record.read(Path(name, "record.json")), Record.read(BEFORE / name / "record.json")
    assert before.inputs == record.inputs
    assert before.settings.items() <= record.settings.items()
    assert (record.counts["steps"], record.counts["parameters"]) == (2, before.counts["parameters"])
    weights = [path for path in files(BEFORE / name) if path.endswith(".safetensors")]
    assert weights
    for path in weights:
        found, expected = load_file(Path(name, path)), load_file(BEFORE / name / path)
        assert found.keys() == expected.keys()
        apart = torch.cat([(found[key] - expected[key]).abs().flatten() for key in expected])
        assert apart.mean() <= (0 if PROCESSOR else 0.01), path


def test_a_finished_run_is_recognised_and_left_as_it_is():
    take("lora", "phantom_generator", "preferences")
    run(f"{TRAIN['lora']} --output_dir lora --resume_from_checkpoint latest")
    ours, theirs = files("lora"), files(BEFORE / "lora")
    assert [name for name in theirs if not name.endswith(".md") and ours[name] != theirs[name]] == []


def test_adapters_load_and_are_fused():
    take("phantom_generator", "lora")
    plain = image(CausalDiffusionPipeline.from_pretrained("phantom_generator"))
    adapted = CausalDiffusionPipeline.from_pretrained("phantom_generator")
    adapted.load_lora_weights("lora")
    found = image(adapted)
    assert float((found - plain).abs().mean()) == pytest.approx(0.00764, rel=0.05)
    run("fuse --pretrained_model_name_or_path phantom_generator --lora_weights lora --output_dir fused")
    assert torch.allclose(image(CausalDiffusionPipeline.from_pretrained("fused")), found, atol=1e-3)


# -- preferences


def preferred(directory: str | Path) -> dict[str, tuple[str, str]]:
    """By subject, digests of the preferred and of the rejected image."""
    table = pa.concat_tables(pq.read_table(path) for path in Path(directory, "data").iterdir())
    images = zip(table["preferred"].to_pylist(), table["rejected"].to_pylist(), strict=True)
    digests = [tuple(hashlib.sha256(one["bytes"]).hexdigest() for one in pair) for pair in images]
    return dict(zip(table["subject_id"].to_pylist(), digests, strict=True))


def test_candidates_are_judged_as_before():
    take("candidates", "predictor")
    judges = "--judges attribute_fidelity=1 true_pixels=9"
    run(f"judge --candidates candidates --predictor predictor {judges} --output_dir preferences")
    found, before = preferred("preferences"), preferred(BEFORE / "preferences")
    assert found == before
    record, old = (Record.read(root / "preferences" / "record.json") for root in (Path(), BEFORE))
    assert record.counts["by split"] == old.counts["by split"]
    assert record.inputs == old.inputs or not PROCESSOR
    run("judge --candidates candidates --judges true_pixels=1 --output_dir exact")
    assert Record.read(Path("exact", "record.json")).counts["pairs"] == 16


def test_answers_are_exported_and_aligned_to(capsys):
    take("candidates", "answers.jsonl", "phantom_generator", "preferences")
    run("label --candidates candidates --output_file answers.jsonl --export people")
    assert "wrote people of 12 preferences" in capsys.readouterr().out
    record = Record.read(Path("people", "record.json"))
    assert record.settings == {"preset": "phantom", "judges": ["ada"]}
    run(
        "align --pretrained_model_name_or_path phantom_generator --train_data_dir people preferences --output_dir new "
        f"{BRIEFLY} --max_train_steps 1 --validation_steps 1 --rank 2"
    )
    assert Record.read(Path("new", "record.json")).counts["judges"] == ["ada", "mixture"]


# -- boards


def test_a_board_is_gone_on_with_and_prints_the_same_table(monkeypatch):
    take("world", "board")
    fitted, fit = [], benchmark.fit_cell
    monkeypatch.setattr(benchmark, "fit_cell", lambda *given: fitted.append(given) or fit(*given))
    run(f"benchmark {BOARD} --output_dir board")
    assert not fitted
    ours, theirs = files("board"), files(BEFORE / "board")
    assert [name for name in theirs if "cells" in name and ours[name] != theirs[name]] == []
    assert ours["table.csv"] == theirs["table.csv"]
    missing, *others = sorted(Path("board", "cells").iterdir())
    missing.unlink()
    kept = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in others}
    run(f"benchmark {BOARD} --output_dir board")
    assert len(fitted) == 1
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in others} == kept
    found, before = (pandas.read_csv(root / "board" / "table.csv") for root in (Path(), BEFORE))
    pandas.testing.assert_frame_equal(found, before, rtol=1e-3)
    new, old = (Record.read(root / "board" / "cells" / missing.name) for root in (Path(), BEFORE))
    assert new.fingerprint == old.fingerprint == missing.stem


def test_a_measurement_of_a_generator_is_the_same_again():
    take("phantom_generator", "predictor")
    run(
        "measure soundness --world phantom --pretrained_model_name_or_path phantom_generator --predictor predictor "
        "--limit 2 --seeds 0 --pairs --output_dir scoreboard"
    )
    found, before = (Record.read(root / "scoreboard" / "soundness-phantom.json") for root in (Path(), BEFORE))
    assert found.inputs == before.inputs
    columns = ["system", "metric", "do", "attribute", "by"]
    ours, theirs = (pandas.DataFrame(one.measured["rows"]).set_index(columns) for one in (found, before))
    # what is measured since, beside it
    since = ours.index.get_level_values("metric").str.contains("real_gap|share_of_gap|pair_")
    ours = ours[~since]
    assert ours.index.tolist() == theirs.index.tolist()
    if PROCESSOR:
        assert ours["mean"].tolist() == pytest.approx(theirs["mean"].tolist(), abs=1e-6, nan_ok=True)


def test_all_that_saw_the_phantom_names_the_same_subjects_of_it():
    named = {Record.read(BEFORE / one / "record.json").inputs["source"] for one in ("candidates", "phantom_generator")}
    assert named == {Record.read(BEFORE / "scoreboard" / "soundness-phantom.json").inputs["world"]}


# -- records


def records(directory: Path) -> list[Path]:
    """JSON files that hold a record."""
    found = (path for path in sorted(directory.rglob("*.json")) if "checkpoint-" not in str(path))
    return [path for path in found if "stage" in json.loads(path.read_bytes())]


@pytest.mark.parametrize(
    ("directory", "number"), [(BEFORE, 55), (PACKAGE / "pretrained", 8), (PACKAGE.parent / "docs", 21)]
)
def test_every_record_is_read(directory, number):
    found = records(directory)
    assert len(found) >= number
    for path in found:
        record = Record.read(path)
        assert record.model_dump(mode="json") == {**record.model_dump(mode="json"), **json.loads(path.read_bytes())}
        assert len(record.fingerprint) == 16
