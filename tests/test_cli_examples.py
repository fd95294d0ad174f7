"""The example of every verb's help runs, one after another in one directory, on worlds and runs made small."""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageClassification, ResNetConfig

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.cli import main
from synthfair_hf.cli.parser import parse
from synthfair_hf.cli.verbs import VERBS
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.presets import PRESETS
from synthfair_hf.views.preset import load_preset

sys.path.append(str(Path(__file__).parent / "domains"))

from miniatures import chexpert

pytest_plugins = ["hub.fixtures"]

SUBJECTS = 60

FIT = ["--max_train_steps", "1", "--train_batch_size", "2"]

CHAIN: dict[str, list[str]] = {
    "train": [*FIT, "--default_steps", "1"],
    "predictor": FIT,
    "autoencoder": FIT,
    "finetune": FIT,
    "rectify": [*FIT, "--images", "2", "--num_inference_steps", "1"],
    "super_resolve": FIT,
    "calibrate": ["--limit", "2"],
    "measure soundness": ["--limit", "2", "--seeds", "0", "--pairs"],
    "measure realism": ["--limit", "4"],
    "measure shortcuts": ["--resolution", "16"],
    "candidates": ["--num_pairs", "24"],
    "judge": [],
    "label": [],
    "align": FIT,
    "fuse": [],
    "recipes": [],
    "generate": ["--resolution", "16"],
    "verify": [],
    "validate": [],
    "card": [],
    "report": [],
    "merge": [],
    "push": [],
    "audit": ["--n_bootstrap", "5", "--permutations", "5"],
    "monitor": ["--n_bootstrap", "5", "--permutations", "200"],
    "governance": [],
    "detect": ["--permutations", "59"],
    "benchmark": ["--seeds", "1", "--steps", "1"],
    "counterfactual": [],
    "preset": [],
    "sources": [],
    "ingest": ["--num_proc", "1", "--resolution", "16"],
    "views": [],
    "demo": [],
    "app": ["--write_space", "space"],
}
"""The verbs, each after those whose results its example names, and flags that make it small."""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to run in, with small settings.

    Phantoms are few and small, and so are their networks, a causal model is fitted in few steps, no page is served,
    and what the demo takes for the shipped generator is the first that is trained here.
    """
    monkeypatch.chdir(tmp_path)
    network = PHANTOM.network.model_copy(update={"channels": (32,), "width": 16})
    monkeypatch.setitem(PRESETS, "phantom", PHANTOM.model_copy(update={"resolution": 32, "network": network}))
    monkeypatch.setattr(StructuralCausalModel, "fit", partialmethod(StructuralCausalModel.fit, steps=20))
    monkeypatch.setattr("synthfair_hf.domains.registry.SUBJECTS", SUBJECTS)
    monkeypatch.setattr("synthfair_hf.domains.worlds.SUBJECTS", SUBJECTS)
    monkeypatch.setattr("synthfair_hf.generate.dataset.DEFAULT_GENERATOR", tmp_path / "runs" / "phantom")
    monkeypatch.setattr(
        "synthfair_hf.align.labelling.page.serve", lambda labelling, port, ready: ready({"ada": "address"})
    )
    return tmp_path


def prepare(verb: str) -> None:
    """Make what an example names and no example before it wrote."""
    if verb == "counterfactual":
        pixels = np.rint(PhantomSource(1, seed=0).image(0, 128) * 255).astype(np.uint8)
        Image.fromarray(pixels).save("radiograph.png")
    if verb == "audit":
        rows = [f"{n % 2},0.{n},{'fm'[n // 2 % 2]},{20 + n}" for n in range(40)]
        Path("predictions.csv").write_text("\n".join(["pneumonia,probability,sex,age", *rows]))
    if verb == "monitor":
        rows = [f"{n % 2},0.{n},{'fm'[n // 2 % 2]},{20 + n},2026-0{1 + n // 10}-01" for n in range(40)]
        Path("stream.csv").write_text("\n".join(["pneumonia,probability,sex,age,time", *rows]))
    if verb == "detect":
        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])
        AutoModelForImageClassification.from_config(config).save_pretrained("classifier")
    if verb == "preset":
        rows = [f"{n}.png,p{n},{'AB'[n % 2]},{20 + n}" for n in range(20)]
        Path("images").mkdir()
        Path("images", "metadata.csv").write_text("\n".join(["file_name,patient_id,label,age", *rows]))
    if verb == "ingest":
        chexpert(Path("CheXpert-v1.0-small"), patients=60)
    if verb == "merge":
        for name, splits in (("part-0", ("train",)), ("part-1", ("validation", "test"))):
            for folder in ("data", "records"):
                Path(name, folder).mkdir(parents=True)
                for path in [file for split in splits for file in Path("synthfair", folder).glob(f"{split}*")]:
                    shutil.copy(path, Path(name, folder))
            shutil.copy("synthfair/records/plan.json", Path(name, "records"))


LABELS = ("No Finding", "Edema|Effusion", "Effusion")

HINTING = {"candidates", "judge", "fuse", "recipes", "generate", "preset", "ingest"}
"""Verbs that tell what to go on with."""


def hinted(text: str) -> Iterator[str]:
    """The commands that a verb tells to go on with; the parser takes each of them as it stands."""
    for hint in re.findall(r"next: (.*)", text):
        words = shlex.split(hint)
        assert words.pop(0) == "synthfair", hint
        verb = next(name for name in VERBS if words[: len(name.split())] == name.split())
        parse(VERBS[verb], words[len(verb.split()) :])
        yield verb


@pytest.mark.parametrize("preset", ["chest_xray", "phantom", "dermatology", "brain_mri", "morphomnist"])
@pytest.mark.parametrize("own", [False, True])
def test_recipes_tell_a_command_that_is_accepted(preset: str, own: bool, tmp_path: Path, capsys):
    (tmp_path / "my contexts.yaml").write_text("wind: [still, breezy]\nlamp: [left, right, none]\n")
    words = ["--contexts", str(tmp_path / "my contexts.yaml")] if own else []
    file = str(tmp_path / "re cipes.jsonl")
    status = main(["recipes", "--preset", preset, "--num_recipes", "2", *words, "--output_file", file])
    assert list(hinted(capsys.readouterr().out)) == (["generate"] if status == 0 else [])
    assert status == 0 or not own


def test_a_command_after_recipes_of_a_world_runs(small: Path, capsys):
    recipes = ["--preset", "phantom", "--num_recipes", "2", "--variables", "view", "--output_file", "views.jsonl"]
    assert main(["recipes", *recipes]) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1].partition("next: synthfair ")[2])
    assert main([*command, "--resolution", "16", "--dry_run"]) == 0


@pytest.mark.parametrize("drafted", [False, True])
def test_a_command_after_recipes_of_several_findings_runs(drafted: bool, small: Path, capsys):
    name = "own.yaml" if drafted else "nih_chestxray14"
    if drafted:
        rows = [f"{n}.png,p{n},{20 + n},{'mf'[n % 2]},{('PA', 'AP')[n // 2 % 2]},{LABELS[n % 3]}" for n in range(60)]
        table = "\n".join(["file_name,patient_id,age,sex,view,findings", *rows])
        Path("metadata.csv").write_text(table)
        assert main(["preset", "--from", "metadata.csv", "--output_file", name]) == 0
    preset = load_preset(name)
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    scm.mechanism("age").prepare(torch.tensor([20.0, 50.0, 80.0]))
    size = {"channels": (32, 32), "space_to_depth": 2, "width": 16}
    CausalDiffusionPipeline.from_preset(preset, scm, 16, **size).save_pretrained("PIPELINE")
    capsys.readouterr()
    assert main(["recipes", "--preset", name, "--num_recipes", "2", "--output_file", "views.jsonl"]) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1].partition("next: synthfair ")[2])
    assert main([*command, "--dry_run"]) == 0


def test_the_example_of_every_verb_runs(small: Path, hub, capsys):
    assert set(CHAIN) == set(VERBS)
    hints: dict[str, list[str]] = {}
    for verb, smaller in CHAIN.items():
        prepare(verb)
        command = [*verb.split(), *VERBS[verb].example.split(), *smaller]
        status = main(command)
        told = capsys.readouterr()
        assert status == 0, f"{verb}: {told.err.splitlines()[-1:]}"
        hints[verb] = list(hinted(told.out))
    # verify has none where nothing is wrong; tests/generate/test_verification.py sees the others
    assert {verb for verb, found in hints.items() if found} == HINTING
    assert {path.name for path in small.iterdir()} >= {"synthfair", "whole", "leaderboard", "scoreboard", "demo"}
