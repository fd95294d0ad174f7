"""Directories of text-to-image pipelines by somebody hostile: no code of theirs is run, or offered to be."""

import io
import json
import os
from pathlib import Path

import pytest

from synthfair_hf.diffusion.text_to_image import find_text_to_image
from synthfair_hf.errors import InputError


def directory(folder: Path, component: str, library: str, kind: str) -> Path:
    """A pipeline of one component, beside whose weights lies code that both its configurations name."""
    inside = folder / component
    inside.mkdir(parents=True)
    index = {"_class_name": "StableDiffusionPipeline", component: [library, kind]}
    (folder / "model_index.json").write_text(json.dumps(index))
    code = dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), "evil.E")
    config = {"model_type": "unheard_of", "auto_map": code, "tokenizer_class": "E"}
    for name in ("config.json", "tokenizer_config.json"):
        (inside / name).write_text(json.dumps(config))
    (inside / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\n")
    (inside / "x.safetensors").write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("component", "library", "kind"),
    [
        ("tokenizer", "transformers", "AutoModel"),
        ("tokenizer", "transformers", "AutoTokenizer"),
        ("tokenizer_2", "transformers", "CLIPTextModel"),
        ("tokenizer", "diffusers", "UNet2DConditionModel"),
        ("text_encoder", "transformers", "AutoModel"),
        ("text_encoder", "transformers", "FlashPackAutoModel"),
        ("text_encoder", "transformers", "pipeline"),
        ("unet", "diffusers", "AutoModel"),
        ("unet", "diffusers", "StableDiffusionPipeline"),
        ("safety_checker", "stable_diffusion", "StableDiffusionPipeline"),
        ("safety_checker", "stable_diffusion", "__builtins__"),
    ],
)
def test_a_class_that_may_run_code_of_the_directory_is_refused_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, component: str, library: str, kind: str
):
    answers = io.StringIO("y\n" * 9)
    monkeypatch.setattr("sys.stdin", answers)
    with pytest.raises(InputError, match=rf"component {component} of .* is a '{kind}' .*no class of a"):
        find_text_to_image(directory(tmp_path / "evil", component, library, kind))
    assert answers.tell() == 0


def test_code_that_a_tokenizer_names_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answers = io.StringIO("y\n" * 9)
    monkeypatch.setattr("sys.stdin", answers)
    evil = directory(tmp_path / "evil", "tokenizer", "transformers", "PreTrainedTokenizerFast")
    with pytest.raises(InputError, match="tokenizer cannot be loaded"):
        find_text_to_image(evil)
    assert answers.tell() == 0
    assert not (evil / "ran").exists()


def test_a_pipe_in_place_of_the_index_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "model_index.json")
    with pytest.raises(InputError, match=r"model_index.json: is not a file; give a directory"):
        find_text_to_image(tmp_path)
