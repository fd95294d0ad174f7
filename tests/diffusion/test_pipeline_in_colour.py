"""A generator of colours: composition is exact, counterfactuals keep three channels, and plain diffusers loads it."""

import json

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.diffusion.counterfactual import counterfactual
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError

SIDE = 16
KNOWN = {"age": 40, "sex": "male", "site": "trunk", "diagnosis": "nevus"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    preset = get_preset("dermatology").restrict(tuple(KNOWN)).model_copy(update={"resolution": SIDE})
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    scm.mechanism("age").prepare(torch.tensor([20.0, 50.0, 80.0]))
    pipeline = CausalDiffusionPipeline.from_preset(preset, scm, SIDE, channels=(32, 64), space_to_depth=2, width=16)
    directory = tmp_path_factory.mktemp("generator") / "colour"
    pipeline.save_pretrained(directory, safe_serialization=True)
    return directory


def test_composition_is_exact_and_colours_stay_colours(saved):
    pipeline = DiffusionPipeline.from_pretrained(saved)
    pipeline.set_progress_bar_config(disable=True)
    assert isinstance(pipeline, CausalDiffusionPipeline)
    assert pipeline.image_shape(2) == (2, 3, SIDE, SIDE)
    assert find_generator(saved).preset.channels == 3
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    table = {name: [value, value] for name, value in KNOWN.items()}
    same = pipeline(image=images, covariates=table, do={}, num_inference_steps=2, output_type="pt").images
    assert (same - images).abs().max() < 1e-4
    sample = pipeline(covariates=table, num_inference_steps=1, generator=torch.Generator().manual_seed(0))
    assert [one.mode for one in sample.images] == ["RGB", "RGB"]
    gray = pipeline(image=images[:, :1], covariates=table, do={}, num_inference_steps=2, output_type="pt").images
    assert (gray - images[:, :1]).abs().max() < 1e-4, "three equal colours, and back"


def test_a_file_in_colours_has_a_counterfactual_in_colours_and_a_map_of_luminance(saved, tmp_path):
    pixels = np.random.default_rng(0).integers(60, 200, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "lesion.png")
    answer = counterfactual(
        tmp_path / "lesion.png",
        KNOWN,
        {"diagnosis": "melanoma"},
        tmp_path / "out",
        pretrained_model_name_or_path=saved,
        num_inference_steps=1,
    )
    assert answer["diagnosis"] == "melanoma"
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "observation.png")), pixels)
    changed = np.asarray(Image.open(tmp_path / "out" / "counterfactual.png")).astype(int)
    assert changed.shape == (SIDE, SIDE, 3)
    darker = (changed - pixels) @ [0.299, 0.587, 0.114]
    picture = np.asarray(Image.open(tmp_path / "out" / "difference.png")).astype(int)
    clear = np.abs(darker) > 4
    assert ((picture[..., 2] > picture[..., 0]) == (darker < 0))[clear].all(), "blue where darker, red where brighter"


def test_a_preset_of_other_channels_than_the_network_is_refused(saved):
    index = saved / "model_index.json"
    config = json.loads(index.read_bytes())
    del config["preset"]["channels"]
    text = index.read_bytes()
    index.write_text(json.dumps(config))
    try:
        with pytest.raises(InputError, match="channels: 1 does not fit the network, which makes images of 3 channels"):
            CausalDiffusionPipeline.load(saved)
    finally:
        index.write_bytes(text)
