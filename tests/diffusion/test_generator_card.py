"""A saved generator's card against its records, settings and weights: what is edited, missing or stale is found."""

import re
import shutil
from pathlib import Path

import pytest
from edits import of_json
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from synthfair_hf.access import sealed
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.errors import InputError
from synthfair_hf.generate.documents import validate, write_card
from synthfair_hf.records import Record

CARD, RECORD, CALIBRATION, INDEX = "README.md", "record.json", "calibration.json", "model_index.json"
SOUNDNESS, PUBLISHER = "records/soundness-phantom.json", "records/card.json"

TRAINED = {
    "settings": {
        **{"train_batch_size": 4, "gradient_accumulation_steps": 1, "learning_rate": 0.1, "lr_scheduler": "cosine"},
        **{"ema_decay": 0.9, "mixed_precision": "no", "seed": 0},
    },
    "counts": {
        **{"training_images": 8, "steps": 7, "parameters": 1234},
        "source": {"images": 10, "patients": 10},
    },
}


def scoreboard(directory: Path, generator: str) -> Path:
    """As `synthfair measure` leaves one of this generator."""
    directory.mkdir()
    labels = {"metric": "share_of_gap", "do": "sex", "attribute": "sex", "by": "reader", "intervention": "forced"}
    row = {"system": "mine", **labels, "effect": "direct", "mean": 0.9, "low": 0.8, "high": 1.0, "n": 40}
    settings = {"world": "phantom", "split": "test", "images": 40, "seeds": [0], "interventions": ["forced"]}
    record = Record(
        stage="measure_soundness",
        inputs={"generator": generator},
        settings={**settings, "effect": "direct"},
        measured={"rows": [row]},
    )
    record.write(directory / "soundness-phantom.json")
    return directory


@pytest.fixture(scope="module")
def generator(save_phantom_generator, tmp_path_factory) -> Path:
    """A generator with records of training, calibration and soundness, and its card."""
    root = tmp_path_factory.mktemp("generator")
    strengths = {"default_guidance_scale": {"sex": 2.0}, "default_intervention_level": {"sex": 0.5}}
    directory = save_phantom_generator(root / "generator", 16, 0, access="open", **strengths)
    sealed(Record(stage="train", inputs={"access": "open"}, **TRAINED), directory).write(directory / RECORD)
    Record(
        stage="calibrate",
        settings={"world": "phantom", "split": "validation"},
        counts={"images": 6},
        measured={"chosen": {"sex": {"scale": 2.0, "level": 0.5, "error": 0.1}}},
    ).write(directory / CALIBRATION)
    board = scoreboard(root / "board", find_generator(directory).revision)
    write_card(directory, "cc-by-4.0", "My lab", "https://example.org", scoreboard=board, datasets=["lab/images"])
    return directory


@pytest.fixture
def copy(generator: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(generator, tmp_path / "generator"))


def replaced(old, new):
    def edit(directory):
        text = (directory / CARD).read_text()
        found = re.sub(old, new, text, count=1, flags=re.MULTILINE)
        assert found != text, old
        (directory / CARD).write_text(found)

    return edit


def other_weights(directory):
    path = next((directory / "unet").glob("*.safetensors"))
    weights = load_file(path)
    name = min(weights)
    save_file({**weights, name: weights[name] + 1}, path)


def removed(name):
    return lambda directory: (directory / name).unlink()


EDITS = {
    # the card's YAML
    "licence": (replaced("^license: .*", "license: mit"), "license: is 'mit'"),
    "no tag": (replaced(r"^- counterfactual\n", ""), "tags"),
    "data set": (replaced(r"^- lab/images\n", "- lab/others\n"), "datasets"),
    "a result": (replaced(r"^(      value:) 0\.9$", r"\1 1.0"), r"metrics\[0\]\.value"),
    "its interval": (replaced(r"^(        low:) 0\.8$", r"\1 0.9"), r"args\.low"),
    # its text
    "install line": (replaced("^pip install synthfair-hf", "pip install mine"), "pip install mine"),
    "publisher": (replaced(r"^- \*\*Developed by:\*\* .*", "- **Developed by:** me"), "Model Description"),
    "access": (replaced(r"\*\*Access\*\* to the .*", "**Access**: closed"), "Model Description"),
    "a refused use": (replaced("^Any decision about a person; ", ""), "Out-of-Scope Use"),
    "a setting": (replaced("^Learning rate 0.1", "Learning rate 0.2"), "Training Hyperparameters"),
    "a strength": (replaced(r"sex 2\.0 at 0\.5", "sex 1.0 at 0.5"), "Model Architecture"),
    "a figure": (replaced(r"0\.9 \[0\.8, 1\]", "1 [1, 1]"), "Soundness in the world phantom"),
    "a section": (replaced(r"^### Recommendations\n", ""), "Recommendations"),
    "a digest": (replaced(r"^(\| `record.json` \| \d+ \| `)[0-9a-f]{4}", r"\g<1>0000"), "record.json: its bytes"),
    "no digest": (replaced(r"^\| `model_index.json` .*\n", ""), "model_index.json: is not among the files"),
    "order of files": (replaced(r"^(\| `record.json` .*\n)(\| `cal.*\n)", r"\2\1"), "order or spelling"),
    "no card": (removed(CARD), "README.md: is missing"),
    # settings
    "resolution": (of_json(INDEX, lambda one: one.update(resolution=32)), "model_index.json: its bytes"),
    "steps": (of_json(INDEX, lambda one: one.update(default_steps=3)), "model_index.json: its bytes"),
    "access setting": (of_json(INDEX, lambda one: one.update(access="credentialed")), "its access is open"),
    "guidance": (
        of_json(INDEX, lambda one: one["default_guidance_scale"].update(sex=1.0)),
        "chose scale 2.0 for sex where model_index.json has 1.0",
    ),
    "scheduler": (
        of_json("scheduler/scheduler_config.json", lambda one: one.update(base="other")),
        "scheduler_config.json: its bytes",
    ),
    "no component": (lambda directory: shutil.rmtree(directory / "scm"), "scm: is missing"),
    # weights and records
    "weights": (other_weights, "recorded of other contents"),
    "training": (of_json(RECORD, lambda one: one["settings"].update(seed=9)), "record.json: its bytes"),
    "training's access": (of_json(RECORD, lambda one: one["inputs"].update(access="credentialed")), "its access"),
    "no record": (removed(RECORD), "record.json: is missing, but among the files"),
    "calibration": (
        of_json(CALIBRATION, lambda one: one["measured"]["chosen"]["sex"].update(level=1.0)),
        "chose level 1.0 for sex where model_index.json has 0.5",
    ),
    "calibration's error": (
        of_json(CALIBRATION, lambda one: one["measured"]["chosen"]["sex"].update(error=0.0)),
        "calibration.json: its bytes",
    ),
    "no calibration": (removed(CALIBRATION), "calibration.json: is missing"),
    "a measured figure": (
        of_json(SOUNDNESS, lambda one: one["measured"]["rows"][0].update(mean=1.0)),
        f"{SOUNDNESS}: its bytes",
    ),
    "another generator": (of_json(SOUNDNESS, lambda one: one["inputs"].update(generator="x")), "is of generator x"),
    "not on test": (of_json(SOUNDNESS, lambda one: one["settings"].update(split="train")), "measured on 'train'"),
    "no measurement": (removed(SOUNDNESS), f"{SOUNDNESS}: is missing"),
    "publisher's record": (of_json(PUBLISHER, lambda one: one["settings"].update(license="mit")), PUBLISHER),
    "a setting more": (of_json(PUBLISHER, lambda one: one["settings"].update(perfect=True)), "'perfect' is no setting"),
    "no publisher": (removed(PUBLISHER), f"{PUBLISHER}: is missing"),
}
"""Single edits, and what names their field."""


def test_what_was_written_agrees_and_is_kept(copy):
    assert len(EDITS) >= 15
    assert validate(copy) == []
    before = (copy / CARD).read_bytes()
    write_card(copy)
    assert (copy / CARD).read_bytes() == before
    card = ModelCard.load(copy / CARD)
    assert (card.data.license, card.data.datasets) == ("cc-by-4.0", ["lab/images"])
    assert [(one.metric_value, one.metric_args) for one in card.data.eval_results] == [
        (0.9, {"n": 40, "low": 0.8, "high": 1.0})
    ]


@pytest.mark.parametrize("name", EDITS)
def test_every_single_edit_is_found_and_named(name, copy):
    edit, told = EDITS[name]
    edit(copy)
    problems = validate(copy)
    assert problems
    assert re.search(told, " ".join(problems)), problems
    assert all(problem.endswith(".") for problem in problems)


@pytest.mark.parametrize("name", ["licence", "a figure", "no card", "no digest", "install line"])
def test_a_card_that_was_edited_is_written_as_it_was(name, copy, generator):
    EDITS[name][0](copy)
    assert all(f"write it again by `synthfair card {copy}`" in problem for problem in validate(copy))
    write_card(copy)
    assert (copy / CARD).read_bytes() == (generator / CARD).read_bytes()


@pytest.mark.parametrize("name", ["guidance", "weights", "access setting", "a measured figure", "another generator"])
def test_no_card_is_written_of_records_that_contradict_each_other(name, copy):
    EDITS[name][0](copy)
    before = (copy / CARD).read_bytes()
    with pytest.raises(InputError):
        write_card(copy)
    assert (copy / CARD).read_bytes() == before


@pytest.mark.parametrize(("field", "names"), [("settings", ["seed", "ema_decay"]), ("counts", ["steps", "source"])])
def test_a_field_that_the_record_lacks_is_one_sentence_and_no_card(field, names, copy):
    (copy / CARD).unlink()
    for name in names:
        record = Record.read(copy / RECORD)
        lacking = {key: value for key, value in getattr(record, field).items() if key != name}
        record.model_copy(update={field: lacking}).write(copy / RECORD)
        with pytest.raises(InputError, match=rf"{name}.*; |{name}"):
            write_card(copy)
        assert not (copy / CARD).exists()
        record.write(copy / RECORD)


def test_arguments_of_a_data_set_are_refused(copy):
    for argument, value in (("leaderboard", copy), ("date_published", "2026-01-31")):
        with pytest.raises(InputError, match=f"{argument}: is for a data set, and .* is a generator; leave it out"):
            write_card(copy, **{argument: value})


def test_a_generator_without_any_record_has_a_card_that_says_so(save_phantom_generator, tmp_path):
    directory = save_phantom_generator(tmp_path / "plain", 16, 0)
    write_card(directory)
    assert validate(directory) == []
    text = (directory / CARD).read_text()
    assert "Nothing was measured of this revision." in text
    assert "Access** to the training images: unknown" in text
