"""Publishing a generator to a Hub on localhost: what arrives, what loads from it, and what happens in trouble."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from hub import Fault, Hub
from hub.clients import TOKEN
from huggingface_hub import ModelCard

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.cli import main
from synthfair_hf.diffusion.generator import push_generator
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.generate.store import read_plan
from synthfair_hf.publish.hub import repository as module
from synthfair_hf.records import Record

pytest_plugins = ["hub.fixtures"]

NAME = "my-lab/generator"
REASON = "Data use agreement 12 of the hospital's board, 3 May."
COVARIATES = {
    "age": [40.0],
    "sex": ["female"],
    "finding": ["no_finding"],
    "view": ["PA"],
    "scanner": ["flatpanel"],
}
COMPONENTS = ("covariate_encoder", "scheduler", "scm", "unet")


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds waited between attempts; none of them passes."""
    waits: list[float] = []
    clock = SimpleNamespace(sleep=waits.append, monotonic=lambda: sum(waits))
    monkeypatch.setattr(module, "time", clock)
    return waits


def training_record(access: str) -> Record:
    source = {"images": 40, "patients": 30, "quarantined": {"patient-17/radiograph.png": "truncated"}}
    settings = {
        "train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "learning_rate": 0.1,
        "lr_scheduler": "cosine",
        "ema_decay": 0.9,
        "mixed_precision": "no",
        "seed": 0,
    }
    return Record(
        stage="train",
        inputs={"source": "0123456789abcdef", "access": access},
        settings=settings,
        versions={"torch": "2"},
        counts={"source": source, "training_images": 25, "steps": 7, "parameters": 1234},
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained generator as `synthfair train` leaves it, with what must stay here; for reading only."""
    directory = tmp_path_factory.mktemp("run") / "run"
    torch.manual_seed(0)
    preset = CHEST_XRAY.restrict(tuple(COVARIATES))
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    scm.mechanism("age").prepare(torch.tensor([20.0, 50.0, 80.0]))
    pipeline = CausalDiffusionPipeline.from_preset(preset, scm, 16, channels=(32, 64), space_to_depth=2, width=16)
    pipeline.register_to_config(default_steps=2)
    pipeline.save_pretrained(directory, safe_serialization=True)
    training_record("open").write(directory / "record.json")
    (directory / "checkpoint-5").mkdir()
    for stray in ("checkpoint-5/optimizer.safetensors", "logs/events", "suspicious-acquisition.png", "unet/notes.txt"):
        (directory / stray).parent.mkdir(exist_ok=True)
        (directory / stray).write_bytes(b"stays here")
    return directory


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(saved, tmp_path / "run"))


def restricted(run: Path, access: str) -> Path:
    training_record(access).write(run / "record.json")
    return run


def write_board(directory: Path, generator: Path, **settings: Any) -> Path:
    """A scoreboard with one record of soundness; the figures are made up."""
    figure = {"mean": 8.0, "low": 7.0, "high": 9.0, "n": 4, "groups": 4, "seeds": 1}
    row = {"world": "acquisition", "metric": "true_l1", "do": "sex", "attribute": "image", "by": "pixels"}
    rows = [{"system": name, **row, "intervention": "forced_change", **figure} for name in ("identity", "mine")]
    asked = {"world": "acquisition", "images": 4, "seeds": [0], "interventions": ["forced_change"], "effect": "total"}
    directory.mkdir()
    Record(
        stage="measure_soundness",
        inputs={"generator": find_generator(generator).revision},
        settings={**asked, "split": "test", **settings},
        measured={"rows": rows},
    ).write(directory / "soundness-acquisition.json")
    (directory / "suspicious-acquisition.png").write_bytes(b"training images")
    return directory


def remote(hub: Hub, revision: str = "main") -> dict[str, bytes]:
    files = hub.repository(NAME, "models").files(revision)
    return {path: file.data for path, file in files.items() if path != ".gitattributes"}


def draw(pipeline: Any) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(covariates=COVARIATES, generator=torch.Generator().manual_seed(3), output_type="pt").images


def test_a_release_is_the_generator_its_records_and_its_card(hub: Hub, saved: Path):
    release = push_generator(saved, NAME)
    files = remote(hub)
    weights = {
        f"{name}/{path.name}": path.read_bytes()
        for name in COMPONENTS
        for path in (saved / name).iterdir()
        if path.suffix in (".json", ".safetensors")
    }
    assert set(files) == {*weights, "model_index.json", "record.json", "records/card.json", "README.md"}
    assert weights.items() <= files.items()
    assert files["model_index.json"] == (saved / "model_index.json").read_bytes()
    assert re.fullmatch(r"generator-[0-9a-f]{16}", release.tag)
    repository = hub.repository(NAME, "models")
    assert repository.tags == {release.tag: release.commit}
    assert (release.uploaded, release.already_there) == (len(files), 0)
    assert release.url == f"{hub.url}/{NAME}"
    assert (repository.private, repository.gated) == (False, False)
    history = [set(commit.files) for _, commit in repository.history()][::-1]
    assert "record.json" in history[1]
    assert not any({"model_index.json", "README.md"} & names for names in history[:-1]), "they come last"


def test_nothing_of_this_machine_or_of_a_patient_is_sent(hub: Hub, saved: Path):
    push_generator(saved, NAME)
    content = b"\n".join(remote(hub).values())
    for private in (str(saved).encode(), b"patient-17", b"stays here"):
        assert private not in content
    assert json.loads(remote(hub)["record.json"])["counts"]["source"]["quarantined"] == 1
    assert not (saved / "README.md").exists(), "the directory itself is left as it was"


def test_it_loads_from_the_hub_to_the_same_image(hub: Hub, saved: Path):
    push_generator(saved, NAME)
    expected = draw(CausalDiffusionPipeline.from_pretrained(saved))
    assert torch.equal(draw(CausalDiffusionPipeline.from_pretrained(NAME)), expected)
    # a directory needs no class of ours; of a repository diffusers refuses components that are not its own
    assert torch.equal(draw(DiffusionPipeline.from_pretrained(CausalDiffusionPipeline.download(NAME))), expected)


def test_what_is_generated_by_it_is_known_by_its_revision_and_access(
    hub: Hub, saved: Path, tmp_path: Path, capsys: Any
):
    assert main(["push", str(saved), "--hub_model_id", NAME]) == 0
    assert f"{hub.url}/{NAME} at generator-" in capsys.readouterr().out
    there, here = find_generator(NAME), find_generator(saved)
    assert (there.revision, there.access) == (here.revision, "open")
    flags = ["--num_subjects", "14", "--factors", "sex", "--output_dir", str(tmp_path / "radiographs")]
    assert main(["generate", "--pretrained_model_name_or_path", NAME, *flags]) == 0
    plan = read_plan(tmp_path / "radiographs")
    assert (plan.model_revision, plan.access) == (here.revision, "open")


def test_without_its_record_a_repository_is_of_unknown_access(hub: Hub, saved: Path):
    push_generator(saved, NAME)
    hub.repository(NAME, "models").commit("main", {}, deleted=("record.json",))
    assert find_generator(NAME).access == "unknown"


def test_the_card_prints_the_records_and_says_what_was_not_measured(hub: Hub, run: Path, tmp_path: Path):
    push_generator(run, NAME, license="cc-by-4.0", datasets=["my-lab/radiographs"])
    card = ModelCard(remote(hub)["README.md"].decode())
    assert (card.data.library_name, card.data.license, card.data.datasets) == (
        "diffusers",
        "cc-by-4.0",
        ["my-lab/radiographs"],
    )
    assert {"counterfactual", "chest-xray"} <= set(card.data.tags)
    text = " ".join(card.text.split())
    assert "25 images of training patients or subjects out of 40 images of 30" in text
    assert "counterfactuals): not measured." in text
    assert "training images:** not measured." in text
    assert "changes: not calibrated." in text
    assert f'CausalDiffusionPipeline.from_pretrained("{NAME}")' in text
    release = push_generator(run, NAME, scoreboard=write_board(tmp_path / "board", run))
    card = ModelCard(remote(hub)["README.md"].decode())
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("true_l1", 8.0, "acquisition")
    assert "| true l1 | sex | image | pixels | 8 [7, 9] | 8 [7, 9] |" in card.text
    assert "counterfactuals): not measured." not in card.text
    assert "records/soundness-acquisition.json" in remote(hub)
    assert not any(name.endswith(".png") for name in remote(hub))
    assert release.uploaded == 3, "the board, the card and the record of what it was given"
    assert len(hub.repository(NAME, "models").tags) == 2
    push_generator(run, NAME)
    assert "records/soundness-acquisition.json" not in remote(hub), "a board that is not of this release"


def test_figures_of_another_generator_are_refused(hub: Hub, run: Path, tmp_path: Path):
    board = write_board(tmp_path / "board", run)
    (run / "model_index.json").write_text((run / "model_index.json").read_text() + " ")
    with pytest.raises(
        InputError, match=r"scoreboard: .*soundness-acquisition\.json is of generator .* measure this one"
    ):
        push_generator(run, NAME, scoreboard=board)
    with pytest.raises(InputError, match=r"scoreboard: .* holds no record"):
        push_generator(run, NAME, scoreboard=tmp_path)
    with pytest.raises(InputError, match="measured on 'validation'; measure on test"):
        push_generator(run, NAME, scoreboard=write_board(tmp_path / "other", run, split="validation"))
    assert hub.requests == []


def test_the_same_call_again_sends_nothing(hub: Hub, saved: Path):
    first = push_generator(saved, NAME)
    before = len(hub.requests)
    again = push_generator(saved, NAME)
    assert (again.commit, again.tag, again.uploaded) == (first.commit, first.tag, 0)
    assert [one.path for one in hub.requests[before:] if one.method != "GET"] == ["/api/repos/create"]


@pytest.mark.parametrize("fault", [("PUT", "/lfs/", 503), ("PUT", "/lfs/", "cut"), ("POST", "/commit/", "reset")])
def test_an_interrupted_push_goes_on_where_it_was(hub: Hub, saved: Path, fault: tuple[str, str, Any]):
    hub.faults.append(Fault(*fault, skip=1, times=1000))
    with pytest.raises(InputError, match=r"what was uploaded stays, so run the same command again later\.$"):
        push_generator(saved, NAME, deadline=0)
    assert not {"model_index.json", "README.md"} & set(remote(hub))
    hub.faults.clear()
    push_generator(saved, NAME)
    sent = hub.seen("PUT", "/lfs/")
    assert len(sent) == len(set(sent)) == 3, "the weights of three networks, once each"
    assert torch.equal(
        draw(CausalDiffusionPipeline.from_pretrained(NAME)), draw(DiffusionPipeline.from_pretrained(saved))
    )


def test_another_generator_replaces_the_one_before(hub: Hub, saved: Path, run: Path):
    first = push_generator(saved, NAME)
    pipeline = CausalDiffusionPipeline.load(run)
    with torch.no_grad():
        next(pipeline.unet.parameters()).add_(1)
    pipeline.save_pretrained(run)
    hub.faults.append(Fault("PUT", "/lfs/", 503, times=1000))
    with pytest.raises(InputError, match="run the same command again"):
        push_generator(run, NAME, deadline=0)
    assert not {"model_index.json", "README.md"} & set(remote(hub)), "half of it is not called whole"
    hub.faults.clear()
    second = push_generator(run, NAME)
    with pytest.raises(InputError, match=f"tag: '{first.tag}' is on the Hub already"):
        push_generator(run, NAME, tag=first.tag)
    assert hub.repository(NAME, "models").tags == {first.tag: first.commit, second.tag: second.commit}


def test_somebody_elses_model_is_left_alone(hub: Hub, saved: Path):
    push_generator(saved, NAME)
    hub.repository(NAME, "models").commit("main", {}, deleted=("record.json",))
    before = remote(hub)
    with pytest.raises(
        InputError, match="holds a generator that this package did not put there; give another hub_model_id"
    ):
        push_generator(saved, NAME, tag="v2")
    assert remote(hub) == before


@pytest.mark.parametrize("access", ["credentialed", "unknown"])
def test_what_was_trained_on_restricted_images_is_not_public(hub: Hub, run: Path, access: str, capsys: Any):
    restricted(run, access)
    assert main(["push", str(run), "--hub_model_id", NAME]) == 2
    assert f"access: what this generator was made from is {access}, not open; push it to" in capsys.readouterr().err
    with pytest.raises(InputError, match="say in 20 characters or more"):
        push_generator(run, NAME, permission="yes")
    assert hub.requests == []
    push_generator(run, NAME, private=True)
    repository = hub.repository(NAME, "models")
    assert (repository.private, repository.gated) == (True, "manual")
    order = [one.path for one in hub.requests if one.method in ("PUT", "POST") and one.status == 200]
    closed = order.index(f"/api/models/{NAME}/settings")
    assert all(closed < place for place, path in enumerate(order) if re.search("/lfs/|/preupload/|/commit/", path))
    assert find_generator(NAME).access == access


def test_a_permission_is_on_record(hub: Hub, run: Path):
    push_generator(restricted(run, "credentialed"), NAME, permission=REASON)
    record = Record.model_validate_json(remote(hub)["records/permission.json"])
    assert record.settings == {
        "hub_model_id": NAME,
        "source": "0123456789abcdef",
        "access": "credentialed",
        "permission": REASON,
    }
    assert record.inputs == {"generator": find_generator(run).revision}
    history = hub.repository(NAME, "models").history()
    assert all(REASON in commit.description for _, commit in history[:-1])
    assert "records/permission.json" in history[-2][1].files, "it is there before any weights"


def test_a_generator_that_is_not_whole_is_not_sent(hub: Hub, run: Path, tmp_path: Path):
    for directory in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match=r"is not a saved pipeline \(no model_index\.json\)"):
            push_generator(directory, NAME)
    config = json.loads((run / "unet" / "config.json").read_text())
    (run / "unet" / "config.json").write_text(json.dumps({**config, "_name_or_path": "/home/me/runs/7/unet"}))
    with pytest.raises(InputError, match=r"unet/config\.json: contains the local path '/home/me/runs/7/unet'"):
        push_generator(run, NAME)
    (run / "unet" / "config.json").write_text(json.dumps(config))
    weights = run / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match="can't be loaded"):
        push_generator(run, NAME)
    (run / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match="pickle weights"):
        push_generator(run, NAME)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--hub_dataset_id, --hub_model_id: give one of them"),
        (["--hub_dataset_id", "a/b", "--hub_model_id", "a/b"], "--hub_dataset_id, --hub_model_id: give one of them"),
        (["--hub_dataset_id", "a/b", "--scoreboard", "x"], "--scoreboard: is for a generator"),
        (["--hub_model_id", "generator"], "hub_model_id: 'generator' has no owner; give <owner>/<name>"),
        (["--hub_model_id", NAME, "--tag", "a b"], "tag: 'a b' is not allowed"),
    ],
)
def test_a_bad_command_is_one_sentence(hub: Hub, saved: Path, flags: list[str], message: str, capsys: Any):
    assert main(["push", str(saved), *flags]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert hub.requests == []


def test_a_refusal_speaks_of_models(hub: Hub, saved: Path, waits: list[float]):
    hub.faults.append(Fault("POST", "/preupload/", 403))
    with pytest.raises(InputError, match=r"may not write there .* another hub_model_id"):
        push_generator(saved, NAME)
    hub.faults.append(Fault("POST", "/preupload/", 404))
    with pytest.raises(InputError, match="the Hub has no such generator"):
        push_generator(saved, NAME)
    assert waits == []
    hub.faults += [Fault("POST", "/api/repos/create", 503), Fault("POST", "/api/repos/create", 500)]
    push_generator(saved, NAME)
    assert waits == [1, 2]


def test_the_token_is_nowhere(
    hub: Hub, saved: Path, caplog: pytest.LogCaptureFixture, capfd: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_DEBUG", True)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    hub.faults.append(Fault("PUT", "/lfs/", 402, message="not paid"))
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "huggingface_hub"):
        with pytest.raises(InputError, match="402: not paid") as raised:
            push_generator(saved, NAME)
        CausalDiffusionPipeline.from_pretrained(saved).push_to_hub(NAME, token=TOKEN)
    assert "/commit/main" in caplog.text, "the log is that of the pushes"
    out, err = capfd.readouterr()
    assert TOKEN not in f"{raised.value}{caplog.text}{out}{err}"
    for _, commit in hub.repository(NAME, "models").history():
        assert not [path for path, file in commit.files.items() if TOKEN.encode() in file.data]


@pytest.mark.parametrize("read", [CausalDiffusionPipeline.from_pretrained, DiffusionPipeline.from_pretrained])
def test_push_to_hub_of_diffusers_publishes_what_was_read(hub: Hub, saved: Path, read: Callable[..., Any]):
    pipeline = read(saved, use_safetensors=True)
    assert pipeline.push_to_hub(NAME, license="cc-by-4.0") == f"{hub.url}/{NAME}"
    assert ModelCard(remote(hub)["README.md"].decode()).data.license == "cc-by-4.0"
    assert str(saved).encode() not in b"".join(remote(hub).values())
    assert find_generator(NAME).access == "open"
    assert torch.equal(draw(CausalDiffusionPipeline.from_pretrained(NAME)), draw(pipeline))
    again = CausalDiffusionPipeline.from_pretrained(NAME)
    again.push_to_hub(f"{NAME}-copy")
    assert find_generator(f"{NAME}-copy").access == "open"


def test_save_pretrained_pushes_by_the_same_rules(hub: Hub, run: Path, tmp_path: Path):
    pipeline = CausalDiffusionPipeline.from_pretrained(restricted(run, "credentialed"))
    with pytest.raises(InputError, match=r"access: .* credentialed, not open"):
        pipeline.push_to_hub(NAME)
    with pytest.raises(InputError, match=r"access: .* credentialed, not open"):
        pipeline.save_pretrained(tmp_path / "copy", push_to_hub=True, repo_id=NAME)
    assert hub.requests == []
    pipeline.save_pretrained(tmp_path / "copy", push_to_hub=True, repo_id=NAME, private=True)
    assert hub.repository(NAME, "models").gated == "manual"
    assert "auto" not in ModelCard(remote(hub)["README.md"].decode()).text


def test_a_pipeline_that_was_changed_since_has_no_record(hub: Hub, saved: Path):
    pipeline = CausalDiffusionPipeline.from_pretrained(saved)
    with torch.no_grad():
        next(pipeline.unet.parameters()).add_(1)
    with pytest.raises(InputError, match=r"access: .* unknown, not open"):
        pipeline.push_to_hub(NAME)
    assert hub.requests == []
    pipeline.push_to_hub(NAME, private=True)
    text = ModelCard(remote(hub)["README.md"].decode()).text
    assert "Not recorded: this pipeline was saved without the record of its training." in text
    assert find_generator(NAME).access == "unknown"


def test_the_same_weights_in_half_precision_keep_their_record(hub: Hub, saved: Path):
    pipeline = CausalDiffusionPipeline.from_pretrained(saved, dtype=torch.float16)
    pipeline.push_to_hub(NAME)
    assert find_generator(NAME).access == "open"
