"""From a folder of radiographs to a loaded view, by the command line, on a tiny generator and drawn radiographs."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import load_dataset
from PIL import Image

from synthfair_hf.access import sealed
from synthfair_hf.cli import main
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR, find_generator
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.domains.source import read_image
from synthfair_hf.errors import InputError
from synthfair_hf.generate.store import read_plan
from synthfair_hf.records import Record

SCANNERS = ("flatpanel", "computed", "portable")

pytestmark = pytest.mark.usefixtures("short_fit", "small_network")


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory) -> Path:
    """Radiographs of the phantom as a lab would bring its own: images and a metadata.csv, without a scanner column."""
    directory = tmp_path_factory.mktemp("radiographs")
    source = PhantomSource(150, seed=3)
    lines = ["file_name,patient_id,age,sex,view,finding"]
    for index in range(len(source)):
        pixels = np.rint(source.image(index, 64) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(directory / f"{index}.png")
        row = {name: column[index] for name, column in source.table.items()}
        finding = "No Finding" if row["finding"] == "no_finding" else "Pneumonia"
        lines.append(f"{index}.png,{source.patient_ids[index]},{row['age']:.0f},{row['sex']},{row['view']},{finding}")
    (directory / "metadata.csv").write_text("\n".join(lines) + "\n")
    return directory


@pytest.fixture(scope="module")
def generator(radiographs, short_fit, small_network, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("generator")
    command = [
        "train",
        "--source",
        radiographs,
        "--output_dir",
        directory,
        "--resolution",
        "16",
        "--default_steps",
        "2",
    ]
    assert main([*map(str, command), "--max_train_steps", "2", "--train-batch-size", "4", "--seed", "1"]) == 0
    return directory


@pytest.fixture(scope="module")
def dataset(generator, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "synthfair"
    command = ["generate", "--pretrained_model_name_or_path", generator, "--num_subjects", "28"]
    assert main([*map(str, command), "--output_dir", str(directory), "--subjects_per_shard", "10"]) == 0
    return directory


def test_training_saves_a_pipeline_with_its_record(generator):
    pipeline = CausalDiffusionPipeline.load(generator)
    assert pipeline.config.resolution == 16
    assert pipeline.covariates.names == ("age", "sex", "finding", "view", "scanner"), "the folder has no race"
    counts = Record.read(generator / "record.json").counts
    assert counts["source"]["scanner"].startswith("planted")
    assert find_generator(generator).coverage.images == counts["training_images"]
    assert "scanner" not in counts["coverage"]["variables"], "planted anew each time that an image is trained on"
    assert not [path for path in generator.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_a_data_set_is_verified_loaded_and_reported(dataset, capsys, monkeypatch):
    assert main(["verify", str(dataset)]) == 0
    assert "sound" in capsys.readouterr().out
    monkeypatch.chdir(dataset.parent)
    train = load_dataset("synthfair", "sex_imbalanced_90_10", split="train")
    sexes = np.bincount(train["sex"])
    assert sexes.tolist() == [9 * sexes[1], sexes[1]]
    assert train[0]["image"].size == (16, 16)
    assert main(["report", str(dataset)]) == 0
    assert (dataset / "report.html").stat().st_size > 20_000


def test_the_same_command_changes_nothing_and_another_plan_is_refused(dataset, generator, capsys):
    before = {path.name: path.read_bytes() for path in (dataset / "data").iterdir()}
    command = ["generate", "--pretrained_model_name_or_path", str(generator), "--output_dir", str(dataset)]
    assert main([*command, "--num_subjects", "28", "--subjects_per_shard", "10"]) == 0
    assert {path.name: path.read_bytes() for path in (dataset / "data").iterdir()} == before
    assert main([*command, "--num_subjects", "28", "--subjects_per_shard", "10", "--seed", "5"]) == 2
    assert "seed" in capsys.readouterr().err


def test_a_damaged_shard_is_named_and_exits_with_one(dataset, tmp_path, capsys):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(dataset), str(copy)], check=True)
    victim = next((copy / "data").glob("test-*"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    assert main(["verify", str(copy)]) == 1
    assert victim.name in capsys.readouterr().out


def test_who_may_see_the_radiographs_is_unknown_until_somebody_says_so(
    radiographs, generator, dataset, tmp_path, capsys
):
    assert Record.read(generator / "record.json").inputs["access"] == "unknown"
    assert read_plan(dataset).access == "unknown"
    command = ["generate", "--pretrained_model_name_or_path", str(generator), "--num_subjects", "28"]
    assert main([*command, "--output_dir", str(tmp_path / "new"), "--access", "open"]) == 2
    assert "--access: open is for a source, and none is given" in capsys.readouterr().err
    assert main(["push", str(dataset), "--hub_dataset_id", "lab/radiographs"]) == 2
    assert "is unknown, not open; push it to a private repository" in capsys.readouterr().err


def test_other_radiographs_than_those_of_the_start_do_not_inherit_its_access(radiographs, generator, tmp_path):
    """A generator recorded as open, trained on with a folder that its record does not name."""
    start = tmp_path / "start"
    shutil.copytree(generator, start)
    record = Record.read(start / "record.json")
    record = record.model_copy(update={"inputs": {**record.inputs, "access": "open", "predictor": "aa"}})
    record.write(start / "record.json")
    with pytest.raises(InputError, match="its access 'open' was recorded of other contents"):
        find_generator(start)
    sealed(record, start).write(start / "record.json")
    index = start / "model_index.json"
    index.write_text(index.read_text().replace('"access": "unknown"', '"access": "open"'))
    others = tmp_path / "radiographs"
    shutil.copytree(radiographs, others)
    lines = (others / "metadata.csv").read_text().splitlines()
    (others / "metadata.csv").write_text("\n".join(lines[:-1]) + "\n")
    cases = (
        (radiographs, None, "open"),
        (others, None, "unknown"),
        (others, "open", "open"),
        (radiographs, "unknown", "unknown"),
    )
    for case, (source, said, access) in enumerate(cases):
        run = tmp_path / f"run-{case}"
        command = ["rectify", "--pretrained_model_name_or_path", start, "--source", source, "--output_dir", run]
        settings = ["--images", "2", "--num_inference_steps", "1", "--max_train_steps", "1", "--train_batch_size", "2"]
        assert main([*map(str, command), *settings, *(["--access", said] if said else [])]) == 0
        further = Record.read(run / "record.json")
        assert further.inputs["access"] == access
        assert further.inputs["predictor"] == "aa", "who judged the start"
        assert further.counts["mechanisms"] == record.counts["mechanisms"], "the causal model is that of the start"


def test_a_predictor_that_the_plan_does_not_name_is_refused_before_anything_is_removed(dataset, generator, capsys):
    predictor = DEFAULT_GENERATOR.parent / "chest_xray_predictor"
    before = sorted(dataset.rglob("*"))
    command = ["verify", str(dataset), "--repair", "--pretrained_model_name_or_path", str(generator)]
    assert main([*command, "--predictor", str(predictor)]) == 2
    assert "the images of this plan are read by no predictor; leave it out" in capsys.readouterr().err
    assert sorted(dataset.rglob("*")) == before
    assert main([*command, "--predictor", str(dataset)]) == 2


def test_repair_makes_what_was_lost_again(dataset, generator, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    victim = next((copy / "data").glob("test-*"))
    victim.unlink()
    assert main(["verify", str(copy), "--repair"]) == 2
    assert f"but {copy} was made by" in capsys.readouterr().err
    assert main(["verify", str(copy), "--repair", "--pretrained_model_name_or_path", str(generator)]) == 0
    assert f"made 1 shard again\n  {victim.stem}" in capsys.readouterr().out
    assert victim.read_bytes() == (dataset / "data" / victim.name).read_bytes()


def test_parts_are_merged_and_have_their_card(dataset, tmp_path, capsys):
    parts = [tmp_path / "first", tmp_path / "second"]
    for part, splits in zip(parts, (("train",), ("validation", "test")), strict=True):
        for folder in ("data", "records"):
            (part / folder).mkdir(parents=True)
            for split in splits:
                for path in (dataset / folder).glob(f"{split}-*"):
                    shutil.copy(path, part / folder)
        shutil.copy(dataset / "records" / "plan.json", part / "records")
    assert main(["merge", *map(str, parts), "--output_dir", str(tmp_path / "whole")]) == 0
    assert "336 rows in 4 shards" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "whole")]) == 0
    assert (tmp_path / "whole" / "README.md").read_bytes() == (dataset / "README.md").read_bytes()


def test_real_observations_keep_their_pixels(radiographs, generator, tmp_path):
    """Subjects observed from a folder: the observation is the radiograph itself, its family counterfactuals."""
    directory = tmp_path / "synthfair"
    command = [
        "generate",
        "--source",
        radiographs,
        "--pretrained_model_name_or_path",
        generator,
        "--num_subjects",
        "10",
    ]
    assert main([*map(str, command), "--output_dir", str(directory)]) == 0
    rows = load_dataset("parquet", data_files=str(directory / "data" / "*.parquet"), split="train")
    observed = [row for row in rows if row["intervention"] == "{}"]
    assert len(observed) == 10
    assert all(row["synthetic"] is False and row["parent_id"] is None for row in observed)
    assert len(rows) == 120
    pixels = {row["subject_id"]: np.asarray(row["image"], dtype=int) for row in observed}
    for row in rows:
        changed = np.abs(np.asarray(row["image"], dtype=int) - pixels[row["subject_id"]]).mean()
        assert (changed == 0) == (row["intervention"] == "{}")


def test_dry_run_prints_the_plan_and_writes_nothing(generator, tmp_path, capsys):
    target = tmp_path / "never"
    command = ["generate", "--pretrained-model-name-or-path", str(generator), "--num-subjects", "28", "--dry-run"]
    assert main([*command, f"--output-dir={target}"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == {"train": 240, "validation": 48, "test": 48}
    assert not target.exists()


def test_counterfactual_of_one_file(radiographs, generator, tmp_path, capsys):
    command = ["counterfactual", "--image", radiographs / "0.png", "--pretrained_model_name_or_path", generator]
    covariates = ["age=61", "sex=male", "finding=no_finding", "view=PA", "scanner=flatpanel"]
    rest = ["--covariates", *covariates, "--do", "scanner=portable", "--output_dir", str(tmp_path / "out")]
    assert main([*map(str, command), *rest]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[0])
    assert answer == {"age": 61, "sex": "male", "finding": "no_finding", "view": "PA", "scanner": "portable"}
    sizes = {}
    for path in (tmp_path / "out").glob("*.png"):
        with Image.open(path) as image:
            sizes[path.name] = image.size
    assert sizes == {f"{name}.png": (16, 16) for name in ("observation", "counterfactual", "difference")}


def test_scanners_that_a_folder_names_are_never_planted_over(radiographs, tmp_path, capsys):
    own, run = tmp_path / "radiographs", tmp_path / "run"
    shutil.copytree(radiographs, own)
    header, *lines = (own / "metadata.csv").read_text().splitlines()
    scanners = [f"{line},{SCANNERS[index % 3]}" for index, line in enumerate(lines)]
    (own / "metadata.csv").write_text("\n".join([f"{header},scanner", *scanners]) + "\n")
    command = ["train", "--source", str(own), "--output_dir", str(run), "--resolution", "16", "--default_steps", "1"]
    assert main([*command, "--max_train_steps", "1", "--train_batch_size", "2"]) == 0
    assert find_generator(run).planted_scanner is False
    ask = ["counterfactual", "--image", str(radiographs / "0.png"), "--pretrained_model_name_or_path", str(run)]
    ask += ["--covariates", "age=61", "sex=male", "finding=no_finding", "view=PA", "scanner=portable"]
    assert main([*ask, "--output_dir", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "observation.png") as image:
        observed = np.asarray(image)
    assert np.array_equal(observed, np.rint(read_image(radiographs / "0.png", 16) * 255))
    further = ["rectify", "--pretrained_model_name_or_path", str(run), "--output_dir", str(tmp_path / "further")]
    board = ["measure", "soundness", "--pretrained_model_name_or_path", str(run), "--world", "acquisition"]
    capsys.readouterr()
    for refused, sentence in (
        ([*further, "--source", str(radiographs)], "has no column 'scanner' in metadata.csv"),
        ([*board, "--source", str(own), "--output_dir", str(tmp_path / "board")], "acquisition plants scanners"),
    ):
        assert main(refused) == 2
        assert sentence in capsys.readouterr().err


def test_a_run_is_known_again_in_another_process(radiographs, tmp_path, short_fit, small_network, monkeypatch):
    """Fingerprints must not depend on the order of a set, which every process chooses anew."""
    monkeypatch.setattr(CausalDiffusionPipeline, "from_preset", small_network)  # as in the other process
    command = ["train", "--source", str(radiographs), "--output_dir", str(tmp_path / "run"), "--resolution", "16"]
    command += ["--train_batch_size", "2", "--max_train_steps", "1", "--resume_from_checkpoint", "latest"]
    assert main(command) == 0
    code = (
        "import sys; from functools import partialmethod\n"
        "from synthfair_hf.causal.scm import StructuralCausalModel as Model\n"
        "from synthfair_hf.cli import main\n"
        f"Model.fit = partialmethod(Model.fit, steps={short_fit}); sys.exit(main({command}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_training_goes_on_from_saved_weights(radiographs, generator, tmp_path, capsys):
    command = ["train", "--source", radiographs, "--pretrained_model_name_or_path", generator, "--max_train_steps", "1"]
    rest = ["--learning_rate", "1e-9", "--lr_warmup_steps", "0", "--train_batch_size", "2", "--seed", "4"]
    assert main([*map(str, command), *rest, "--output_dir", str(tmp_path / "run")]) == 0
    before, after = (CausalDiffusionPipeline.load(one).unet.state_dict() for one in (generator, tmp_path / "run"))
    for name, weights in before.items():
        assert torch.allclose(weights, after[name], atol=1e-6), name
    assert "initial_weights" in Record.read(tmp_path / "run" / "record.json").inputs
    refused = [*map(str, command), "--output_dir", str(tmp_path / "other"), "--resolution", "32"]
    assert main(refused) == 2
    assert "at 16 pixels, not age, sex, finding, view, scanner at 32" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_saved_pipeline_names_no_place_and_is_the_same_wherever_it_is_saved(generator, tmp_path):
    one = CausalDiffusionPipeline.load(generator)
    for place in ("here", "there"):
        one.save_pretrained(tmp_path / place, safe_serialization=True)
        one = CausalDiffusionPipeline.load(tmp_path / place)
    assert find_generator(tmp_path / "here").revision == find_generator(tmp_path / "there").revision
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "there").rglob("*.json"))


def test_strengths_are_given_by_name(radiographs, generator, tmp_path, capsys):
    command = ["counterfactual", "--image", radiographs / "0.png", "--pretrained_model_name_or_path", generator]
    known = ["age=61", "sex=male", "finding=no_finding", "view=PA", "scanner=flatpanel"]
    asked = [*map(str, command), "--covariates", *known, "--do", "sex=female", "--seed", "3"]

    def answer(name: str, *strengths: str) -> np.ndarray:
        assert main([*asked, "--output_dir", str(tmp_path / name), *strengths]) == 0
        with Image.open(tmp_path / name / "counterfactual.png") as image:
            return np.asarray(image, dtype=int)

    plain = answer("plain")
    assert np.array_equal(answer("same", "--guidance_scale", "age=5"), plain), "age has not changed"
    assert not np.array_equal(answer("strong", "--guidance_scale", "5"), plain)
    with Image.open(tmp_path / "plain" / "observation.png") as image:
        observed = np.asarray(image, dtype=int)
    late = answer("late", "--intervention_level", "sex=0.01")
    assert np.abs(late - observed).sum() < np.abs(plain - observed).sum(), "two levels of three lie above"
    assert main([*asked, "--output_dir", str(tmp_path / "bad"), "--guidance_scale", "strong"]) == 2
    assert "--guidance_scale: 'strong' is invalid" in capsys.readouterr().err


def test_settings_from_a_file_yield_to_flags(generator, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no data set lies at the default place
    (tmp_path / "plan.yaml").write_text(
        f"num_subjects: 28\ndry_run: true\npretrained_model_name_or_path: {generator}\n"
    )
    assert main(["generate", "--config_file", str(tmp_path / "plan.yaml"), "--num_subjects", "10"]) == 0
    assert json.loads(capsys.readouterr().out)["subjects"]["train"] == 6
    (tmp_path / "plan.yaml").write_text("num_subjets: 28\n")
    assert main(["generate", "--config_file", str(tmp_path / "plan.yaml"), "--num_subjects", "10"]) == 2
    assert "num_subjets" in capsys.readouterr().err


def test_views_are_listed_and_explained(capsys):
    assert main(["views"]) == 0
    listed = capsys.readouterr().out
    assert "sex_imbalanced_90_10" in listed
    assert main(["views", "--view", "sex_imbalanced_85_15"]) == 0
    assert "filters" in capsys.readouterr().out


ASK = [
    "counterfactual",
    "--image",
    "{radiographs}/0.png",
    "--pretrained_model_name_or_path",
    "{generator}",
    "--covariates",
]
ASK += ["age=61", "sex=male", "finding=no_finding", "view=PA", "scanner=flatpanel"]
GENERATE = ["generate", "--pretrained_model_name_or_path", "{generator}", "--num_subjects"]
TRAIN = ["train", "--source", "{radiographs}", "--output_dir", "{empty}/run"]
BAD = [
    (["generate"], "--num_subjects"),
    (["generate", "--num_subjects", "x"], "num_subjects"),
    ([*GENERATE, "7"], "nearest possible"),
    (["generate", "--num_subjects", "28", "--pretrained_model_name_or_path", "{radiographs}"], "not a saved pipeline"),
    ([*GENERATE, "28", "--factors", "sxe"], "'sex'"),
    ([*GENERATE, "28", "--source", "{empty}"], "metadata.csv"),
    ([*GENERATE, "28", "--output_dir", "{radiographs}"], "not empty"),
    (["train", "--preset", "chest-xray", "--source", "{radiographs}", "--output_dir", "{empty}/run"], "'chest_xray'"),
    ([*TRAIN, "--resolution", "50"], "multiple of 16"),
    (["train", "--output_dir", "{empty}/run"], "--source: not given; chest_xray needs the folder"),
    (["train", "--preset", "morphomnist", "--source", "{radiographs}", "--output_dir", "{empty}/run"], "npz"),
    ([*TRAIN, "--learning_rate", "nan"], "learning_rate"),
    (["verify", "{empty}"], "holds no generated data set"),
    (["report", "{empty}"], "{empty}"),
    (["views", "--view", "sex_imbalanced_90_20"], "100"),
    (["views", "--view", "sxe_imbalanced_90_10"], "sex"),
    ([*GENERATE, "28", "--guidance_scale", "-1"], "guidance_scale"),
    ([*GENERATE, "28", "--num_inference_steps", "0"], "num_inference_steps"),
    ([*GENERATE, "28", "--license", "cc\nby"], "license: 'cc\\nby' is no line of 1 to"),
    ([*GENERATE, "280", "--license", "other", "--source", "{radiographs}"], "largest --num_subjects"),
    ([*GENERATE, "28", "--output_dir", "{radiographs}/0.png"], "is a file"),
    ([*TRAIN, "--default_steps", "0"], "--default_steps: 0"),
    ([*TRAIN, "--resolution", "0"], "--resolution: 0"),
    (["train", "--source", "{radiographs}", "--output_dir", "{generator}"], "earlier run"),
    ([*TRAIN, "--resolution", "64"], "128"),
    ([*ASK, "--do", "sxe=female"], "'sex'"),
    ([*ASK, "--do", "age=140"], "0 to 100 years"),
    ([*ASK, "--do", "sex=Femal"], "'female'"),
    ([*ASK, "--do", "age=old"], "--do['age']: 'old' is not a number"),
    ([*ASK, "--seed", "-1"], "--seed: '-1' is invalid"),
    ([*ASK, "--output_dir", "{radiographs}/0.png/below"], "0.png is a file"),
    (
        ["train", "--preset", "phantom", "--source", "{radiographs}", "--output_dir", "{empty}/run"],
        "not for the phantom",
    ),
    (["predictor", "--output_dir", "{empty}/run"], "--source: not given"),
    (["predictor", "--source", "{radiographs}", "--output_dir", "{empty}/run", "--ema_decay", "2"], "--ema_decay"),
    ([*ASK, "--num_inference_steps", "0"], "num_inference_steps: 0"),
    ([*ASK, "--output_dir", "{radiographs}/0.png"], "is a file"),
    ([*ASK, "--image", "{radiographs}/nowhere.png"], "nowhere.png"),
    ([*ASK, "--image", "{radiographs}/metadata.csv"], "not a readable image"),
    (["frobnicate"], "verb"),
    (["counterfactual", "--image", "{radiographs}/0.png", "--covariates", "age"], "NAME=VALUE"),
    (["measure", "soundness", "--world", "phantom", "--output_dir", "{empty}/run", "--pairs", "sex"], "not A,B"),
    (["autoencoder", "--output_dir", "{empty}/run"], "--source: not given"),
]


@pytest.mark.parametrize(("command", "message"), BAD)
def test_bad_input_is_one_sentence_and_writes_nothing(
    command, message, radiographs, generator, tmp_path, capsys, monkeypatch
):
    def never(*_arguments, **_keywords):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(CausalDiffusionPipeline, "from_pretrained", never)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    places = {"radiographs": radiographs, "generator": generator, "empty": empty}
    before = sorted(radiographs.iterdir())
    assert main([word.format(**places) for word in command]) in (1, 2)
    output = capsys.readouterr()
    text = output.err.strip() or output.out.strip()
    sentence = text.splitlines()[-1] if output.err else text
    assert message.format(**places) in sentence
    assert "Traceback" not in text
    assert not list(empty.iterdir())
    assert sorted(radiographs.iterdir()) == before


def test_plain_python_loads_a_view_without_the_package_imported(dataset):
    code = (
        "from datasets import load_dataset\n"
        "for streaming in (False, True):\n"
        "    rows = load_dataset('synthfair', 'sex_imbalanced_90_10', split='train', streaming=streaming)\n"
        "    seen = [(row['sex'], row['image'].size) for row in rows]\n"
        "    print(len(seen), [sex for sex, _ in seen].count(0), seen[0][1])\n"
    )
    # a stream left before its end can abort the interpreter as it exits (huggingface/datasets#7357)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(dataset.parent / "home")}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=dataset.parent, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == ["120 108 (16, 16)"] * 2


def test_rows_do_not_depend_on_the_batch_size(save_phantom_generator: Callable[..., Path], tmp_path):
    generator = save_phantom_generator(tmp_path / "generator", 16, 60, default_steps=1)
    images = []
    for size in (1, 16):
        directory = tmp_path / str(size)
        command = ["generate", "--pretrained_model_name_or_path", generator, "--num_subjects", "10"]
        command += ["--factors", "sex", "scanner"]
        assert main([*map(str, command), "--batch_size", str(size), "--output_dir", str(directory)]) == 0
        rows = load_dataset("parquet", data_files=str(directory / "data" / "*.parquet"), split="train")
        keys = [(row["seed"], row["sex"], row["finding"], row["scanner"]) for row in rows]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        images.append(torch.stack([torch.from_numpy(np.asarray(rows[i]["image"], dtype=np.float32)) for i in order]))
    assert (images[0] - images[1]).abs().max() <= 1
