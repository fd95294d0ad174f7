"""Settings are checked, and what identifies a run is told from what does not."""

from pathlib import Path

import pytest
import torch

from synthfair_hf.errors import InputError
from synthfair_hf.training import config as training_config
from synthfair_hf.training.config import TrainingConfig, architecture


@pytest.mark.parametrize("able", [True, False])
def test_precision_is_by_default_what_the_machine_computes_in(monkeypatch, tmp_path, able):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: able)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    config = TrainingConfig(output_dir=tmp_path)
    assert config.identity_settings()["mixed_precision"] == ("bf16" if able else "no")
    assert TrainingConfig(output_dir=tmp_path, mixed_precision="no").mixed_precision == "no"


def test_an_architecture_is_its_settings_and_nothing_else():
    settings = {"channels": (8, 16), "size": None, "_use_default_values": ["b", "a"]}
    same = architecture(settings)
    assert same == architecture({"size": None, "channels": [8, 16], "_class_name": "Network"})
    assert architecture(settings, {"width": 3}) == architecture(settings, {"width": 3, "_hidden": 1})
    others = [
        ({**settings, "size": 1},),
        ({"channels": (8, 16)},),
        (settings, {}),
        ({}, settings),
        (settings, settings),
    ]
    assert len({same, *(architecture(*configs) for configs in others)}) == 1 + len(others)
    assert architecture({"place": Path("a")}) == architecture({"place": "a"}), "what JSON does not know, by its words"


def test_a_tracker_that_is_not_installed_is_named_with_its_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(training_config, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="wandb is not installed; run: pip install wandb"):
        TrainingConfig(output_dir=tmp_path, report_to="wandb")


@pytest.mark.parametrize(
    "setting",
    [
        {"learning_rate": float("nan")},
        {"steps": 3},
        {"train_batch_size": 0},
        {"seed": -1},
        {"adam_beta1": 1},
        {"adam_beta2": -0.1},
        {"adam_weight_decay": -1e-3},
        {"adam_epsilon": 0},
        {"mixed_precision": "fp16"},
        {"report_to": "paper"},
    ],
)
def test_settings_are_checked(setting, tmp_path):
    with pytest.raises(InputError, match=next(iter(setting))):
        TrainingConfig(output_dir=tmp_path, **setting)
