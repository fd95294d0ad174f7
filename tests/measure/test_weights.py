"""What training saved is loaded as it was; what saw other patients, is damaged or is pickle never is."""

import json

import pytest
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from safetensors.torch import load_file, save_file
from torch import nn

from synthfair_hf.errors import InputError
from synthfair_hf.measure.weights import WEIGHTS, load_weights
from synthfair_hf.records import Record


class Lines(ModelMixin, ConfigMixin):
    """y_i = a_i x + b_i, drawn from the global generator; sizes must be one or more."""

    config_name = "config.json"

    @register_to_config
    def __init__(self, sizes=(3,)):
        super().__init__()
        if min(sizes[0], len(sizes)) < 1:
            raise InputError("sizes: 0 is not allowed; give 1 or more.")
        self.line, self.dropout = nn.Linear(1, sizes[0]), nn.Dropout()


@pytest.fixture
def saved(tmp_path):
    Lines(sizes=(2,)).save_pretrained(tmp_path)
    remember(tmp_path, {"train": {"images": 4, "patients": 2}})
    return tmp_path


def remember(directory, seen):
    counts = {"source": {}} if seen is None else {"source": {}, "seen": seen}
    Record(stage="train", counts=counts).write(directory / "record.json")


def test_a_network_comes_back_as_it_was_saved_frozen_and_without_a_draw(saved):
    state = torch.random.get_rng_state()
    network = load_weights(str(saved), Lines, "line")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert isinstance(network, Lines)
    assert not network.training
    weights = load_file(saved / WEIGHTS)
    assert set(weights) == set(network.state_dict())
    for name, weight in network.named_parameters():
        assert torch.equal(weight, weights[name])
        assert (weight.device.type, weight.requires_grad) == ("cpu", False)


@pytest.mark.parametrize("seen", [{"train": {}, "test": {}}, {"test": {}}, {}, None, "train"])
def test_a_network_that_saw_other_patients_is_refused(saved, seen):
    remember(saved, seen)
    splits = ", ".join(seen) or "no split" if isinstance(seen, dict) else "no split"
    with pytest.raises(
        InputError,
        match="a line must have been trained on training patients alone; "
        f"its record names {splits}, allowed: train; train one by `train_line`",
    ):
        load_weights(saved, Lines, "line")


@pytest.mark.parametrize("name", ["record.json", "config.json", WEIGHTS])
def test_missing_and_damaged_files_are_refused(saved, name):
    # cut off in the middle: `{}` would be a config of defaults, which other weights do not fit either
    for damaged in ((saved / name).read_bytes()[:40], b"", b"{}"):
        (saved / name).write_bytes(damaged)
        with pytest.raises(
            InputError, match=r"not a line that can be loaded \(.+\)|not a record|record names no split"
        ):
            load_weights(saved, Lines, "line")
    (saved / name).unlink()
    with pytest.raises(InputError, match=rf"not a saved line \(no {name}\); only safetensors that `train_line` wrote"):
        load_weights(saved, Lines, "line")


@pytest.mark.parametrize(
    "config", [{"sizes": [3]}, {"sizes": []}, {"sizes": [0]}, {"sizes": 2}, {"width": 2}, [], None]
)
def test_a_config_of_another_network_is_refused(saved, config):
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"not a line that can be loaded \(.+\)\.$"):
        load_weights(saved, Lines, "line")


def test_weights_of_another_number_are_refused(saved):
    weights = load_file(saved / WEIGHTS)
    for others in ({"line.weight": weights["line.weight"]}, {**weights, "more": torch.zeros(1)}):
        save_file(others, saved / WEIGHTS)
        with pytest.raises(InputError, match="not a line that can be loaded"):
            load_weights(saved, Lines, "line")


def test_pickle_weights_are_never_read(saved):
    torch.save(load_file(saved / WEIGHTS), saved / "diffusion_pytorch_model.bin")
    (saved / WEIGHTS).unlink()
    with pytest.raises(InputError, match="never pickle"):
        load_weights(saved, Lines, "line")


@pytest.mark.parametrize("noun", ["an autoencoder", "a predictor"])
def test_messages_are_english(saved, noun):
    remember(saved, {})
    with pytest.raises(InputError, match=f": {noun} must have been trained"):
        load_weights(saved, Lines, noun.split()[1])
    remember(saved, {"train": {}})
    (saved / WEIGHTS).write_bytes(b"")
    with pytest.raises(InputError, match=f"not {noun} that can be loaded"):
        load_weights(saved, Lines, noun.split()[1])
