"""Adapters: nothing at the start, off to the bit, always restored, and read by plain diffusers."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file

from synthfair_hf.align.lora import TARGET_MODULES, adapter_parameters, add_lora, reference, save_lora
from synthfair_hf.diffusion.denoiser import build_unet, predict_velocity
from synthfair_hf.errors import InputError


def denoiser(seed=0):
    torch.manual_seed(seed)
    return build_unet((32, 32), 4, 8, 16).eval()


@torch.no_grad()
def answer(unet):
    generator = torch.Generator().manual_seed(5)
    latents, tokens = (torch.randn(shape, generator=generator) for shape in ((2, 4, 8, 8), (2, 3, 16)))
    return predict_velocity(unet, latents, torch.tensor([0.2, 0.7]), tokens)


@torch.no_grad()
def moved(unet, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter_parameters(unet):
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return unet


@pytest.fixture
def adapted():
    unet = denoiser()
    add_lora(unet, rank=4, alpha=8, seed=0)
    return moved(unet)


def test_adapters_start_as_nothing_and_are_all_that_is_trained():
    unet = denoiser()
    before, state = answer(unet), torch.random.get_rng_state()
    add_lora(unet, rank=4, alpha=4, seed=0)
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator is left alone"
    assert torch.equal(answer(unet), before)
    trained = [name for name, parameter in unet.named_parameters() if parameter.requires_grad]
    assert len(trained) == len(adapter_parameters(unet))
    assert all(".lora_" in name for name in trained)
    layers = [name for name, _ in denoiser().named_modules() if name.endswith(TARGET_MODULES)]
    assert len(trained) == 2 * len(layers) > 0, "A and B of every projection"
    assert not torch.equal(answer(moved(unet)), before)


def test_the_seed_draws_them():
    drawn = []
    for seed in (3, 3, 4):
        unet = denoiser()
        add_lora(unet, 4, 4, seed)
        drawn.append(torch.cat([one.flatten() for one in adapter_parameters(unet)]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_off_is_the_base_to_the_bit_and_on_is_as_before(adapted):
    base, on = answer(denoiser()), answer(adapted)
    assert not torch.equal(base, on)
    with reference(adapted):
        assert torch.equal(answer(adapted), base)
        with reference(adapted):
            assert torch.equal(answer(adapted), base)
        assert torch.equal(answer(adapted), base), "the inner one leaves them as it found them"
    assert torch.equal(answer(adapted), on)


@pytest.mark.parametrize("trained", [True, False])
def test_adapters_are_restored_after_an_exception(adapted, trained):
    on = answer(adapted)
    for parameter in adapter_parameters(adapted):
        parameter.requires_grad_(trained)
    with pytest.raises(RuntimeError, match="stop"), reference(adapted):
        raise RuntimeError("stop")
    assert torch.equal(answer(adapted), on)
    assert {parameter.requires_grad for parameter in adapter_parameters(adapted)} == {trained}


def test_plain_diffusers_reads_the_file_with_its_alpha(adapted, tmp_path):
    path = save_lora(adapted, tmp_path / "lora")
    assert path.name == "pytorch_lora_weights.safetensors"
    assert all(name.startswith("unet.") and ".lora_" in name for name in load_file(path))
    for source in (path.parent, load_file(path)):
        unet = denoiser()
        assert isinstance(unet, UNet2DConditionModel)
        unet.load_lora_adapter(source, prefix="unet", use_safetensors=True)
        same = torch.equal(answer(unet), answer(adapted))
        assert same is not isinstance(source, dict), "alpha 8 of rank 4 is told by the file, not by its tensors"
    with safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()["lora_adapter_metadata"])
    assert (told["unet.r"], told["unet.lora_alpha"]) == (4, 8)


def test_equal_adapters_are_equal_bytes(adapted, tmp_path):
    paths = [save_lora(adapted, tmp_path / name) for name in ("one", "other")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_adapters_twice_or_none_are_refused(adapted):
    with pytest.raises(InputError, match="has adapters already"):
        add_lora(adapted, 4, 4, 0)
    with pytest.raises(InputError, match="has no adapters; call add_lora first"):
        adapter_parameters(denoiser())
