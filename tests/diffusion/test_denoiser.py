"""Networks that predict the image: their velocity, their files, and everything that a velocity's network may do."""

import json

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from scipy.fft import dctn
from torch.nn.functional import pixel_unshuffle

from synthfair_hf.align.lora import add_lora, reference
from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.diffusion.denoiser import (
    LOG_STD,
    TIME_SCALE,
    SampleUNet,
    _cosines,
    build_denoiser,
    predict_velocity,
    with_variance,
)
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.solver import integrate
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.preset import Network

PREDICTIONS = ("velocity", "sample", "sample_and_variance")
KINDS = [(architecture, prediction) for architecture in ("unet", "transformer") for prediction in PREDICTIONS]


def denoiser(architecture="unet", prediction_type="sample", seed=0):
    torch.manual_seed(seed)
    network = Network(channels=(32, 32), width=16, architecture=architecture, prediction_type=prediction_type)
    return build_denoiser(network, in_channels=4, sample_size=8).eval()


def given(rows=3):
    generator = torch.Generator().manual_seed(5)
    return (torch.randn(shape, generator=generator) for shape in ((rows, 4, 8, 8), (rows, 5, 16)))


def saved(directory, side=16, space_to_depth=2, prediction_type="sample"):
    torch.manual_seed(0)
    pipeline = CausalDiffusionPipeline.from_preset(
        PHANTOM.model_copy(update={"resolution": side}),
        StructuralCausalModel.from_schema(PHANTOM.covariates, PHANTOM.edges),
        side,
        channels=(32, 32),
        width=16,
        space_to_depth=space_to_depth,
        prediction_type=prediction_type,
    )
    pipeline.save_pretrained(directory)
    return pipeline


@torch.no_grad()
def test_the_velocity_of_a_predicted_image_is_the_way_to_it_over_the_noise_that_is_left():
    unet, (states, tokens) = denoiser(), given()
    sigma = torch.tensor([0.8, 0.05, 0.01])
    image = unet(states, sigma * TIME_SCALE, tokens, class_labels=tokens.mean(dim=1), return_dict=False)[0]
    found = predict_velocity(unet, states, sigma, tokens)
    for row, noise in enumerate((0.8, 0.05, 0.05)):
        assert torch.allclose(found[row], (states[row] - image[row]) / noise, atol=1e-5)


@torch.no_grad()
def test_the_true_image_gives_the_true_velocity(monkeypatch):
    """x_s = (1 - s) image + s noise moves by noise - image, which the network then need not know."""
    unet, (image, tokens) = denoiser(), given()
    noise, sigma = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)), torch.tensor([1.0, 0.5, 0.05])
    states = torch.lerp(image, noise, sigma[:, None, None, None])
    monkeypatch.setattr(unet, "forward", lambda *_, **__: (image,))
    assert torch.allclose(predict_velocity(unet, states, sigma, tokens), noise - image, atol=1e-5)


def left_out(monkeypatch, seed=1):
    """A network that predicts a fixed image and leaves out what has these standard deviations, and both."""
    unet, (image, _) = denoiser(prediction_type="sample_and_variance"), given()
    generator = torch.Generator().manual_seed(seed)
    std = 0.02 + 0.5 * torch.rand(image.shape, generator=generator)
    monkeypatch.setattr(unet, "forward", lambda *_, **__: (image,))
    monkeypatch.setattr(unet.grain, "forward", lambda _: std)
    return unet, image, std


@torch.no_grad()
@pytest.mark.parametrize("level", [1.0, 0.5, 0.05, 1e-3, 0.0])
def test_what_is_left_out_moves_by_its_mean_given_the_state(level, monkeypatch):
    """Against Gaussian conditioning by matrices: x = image + r, x_s = (1 - s) x + s e, E[e - x | x_s]."""
    unet, image, std = left_out(monkeypatch)
    states = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    tokens = torch.zeros(3, 5, 16)
    found = predict_velocity(unet, states, torch.full((3,), level), tokens)[0, :, 2, 3].double()
    cosines = _cosines(4, image.device).double()
    covariance = cosines.T @ torch.diag(std[0, :, 2, 3].double().square()) @ cosines
    mean, state, one = image[0, :, 2, 3].double(), states[0, :, 2, 3].double(), torch.eye(4, dtype=torch.float64)
    of_state = (1 - level) ** 2 * covariance + level**2 * one
    crossed = level * one - (1 - level) * covariance  # of e - x with the state
    expected = crossed @ torch.linalg.solve(of_state, state - (1 - level) * mean) - mean
    assert torch.allclose(found, expected, atol=1e-3)


@torch.no_grad()
def test_standard_normal_noise_is_carried_to_grain_of_the_predicted_variance_and_back(monkeypatch):
    unet, image, std = left_out(monkeypatch)
    noise, tokens = torch.randn(image.shape, generator=torch.Generator().manual_seed(3)), torch.zeros(3, 5, 16)

    def velocity(x, level):
        return predict_velocity(unet, x, torch.full((3,), level), tokens)

    cosines = _cosines(4, image.device)
    grain = torch.einsum("kp,bkhw->bphw", cosines, std * torch.einsum("kp,bphw->bkhw", cosines, noise))
    levels = [float(level) ** 2 for level in np.linspace(1, 0, 400)]
    assert torch.allclose(integrate("midpoint", velocity, noise, levels), image + grain, atol=2e-3)
    assert torch.allclose(integrate("midpoint", velocity, image + grain, levels[::-1]), noise, atol=2e-2)


@pytest.mark.parametrize(("channels", "side", "colours"), [(64, 8, 1), (48, 4, 3), (4, 2, 1), (3, 1, 3)])
def test_patches_are_transformed_as_scipy_does(channels, side, colours):
    patch = np.random.default_rng(0).normal(size=(colours, side, side))
    folded = pixel_unshuffle(torch.from_numpy(patch)[None].float(), side)[0, :, 0, 0]
    cosines = _cosines(channels, folded.device)
    expected = dctn(patch, axes=(1, 2), norm="ortho").ravel()
    assert np.allclose((cosines @ folded).numpy(), expected, atol=1e-5)
    assert torch.allclose(cosines @ cosines.T, torch.eye(channels), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["unet", "transformer"])
def test_a_network_that_gets_a_variance_predicts_the_image_as_before(architecture):
    network, (states, tokens) = denoiser(architecture), given()
    wider, before = with_variance(network), torch.get_rng_state()
    with_variance(network)
    assert torch.equal(torch.get_rng_state(), before)
    steps = torch.tensor([800.0, 500.0, 10.0])
    pooled = tokens.mean(dim=1)
    if architecture == "unet":
        plain, image = (one(states, steps, tokens, class_labels=pooled).sample for one in (network, wider))
    else:
        plain, image = (one(states, tokens, pooled, steps).sample for one in (network, wider))
    assert torch.equal(image, plain)
    assert torch.allclose(wider.grain(pooled), torch.tensor(LOG_STD).exp())
    assert not wider.training


@torch.no_grad()
def test_what_is_left_out_of_an_image_is_carried_to_its_counterfactual_as_it_is(monkeypatch):
    """Another image is predicted under other covariates; grain has twice the deviation there."""
    unet, image, std = left_out(monkeypatch)
    other, token = image.flip(0), torch.zeros(3, 5, 16)
    monkeypatch.setattr(unet, "forward", lambda *_, **asked: (other if asked["class_labels"].any() else image,))
    monkeypatch.setattr(unet.grain, "forward", lambda pooled: std * (2 if pooled.any() else 1))
    observed = image + torch.randn(image.shape, generator=torch.Generator().manual_seed(4))
    levels = [float(level) ** 2 for level in np.linspace(1, 0, 400)]

    def under(tokens):
        return lambda x, level: predict_velocity(unet, x, torch.full((3,), level), tokens)

    noise = integrate("midpoint", under(token), observed, levels[::-1])
    found = integrate("midpoint", under(token + 1), noise, levels)
    assert torch.allclose(found, other + 2 * (observed - image), atol=2e-2)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_network_is_asked_as_the_network_is(kind):
    network, (states, tokens) = denoiser(*kind), given()
    sigma = torch.tensor([0.8, 0.5, 0.01])
    wrapped = torch.compile(network, backend="eager")
    assert not isinstance(wrapped, type(network))
    with torch.compiler.set_stance("force_eager"):
        found = predict_velocity(wrapped, states, sigma, tokens)
    assert torch.equal(found, predict_velocity(network, states, sigma, tokens))


@torch.no_grad()
@pytest.mark.parametrize("load", [CausalDiffusionPipeline.load, DiffusionPipeline.from_pretrained])
def test_a_saved_pipeline_goes_on_predicting_the_image(load, tmp_path):
    pipeline = saved(tmp_path / "saved")
    assert type(pipeline.unet) is SampleUNet
    index = json.loads((tmp_path / "saved" / "model_index.json").read_text())
    assert index["unet"] == ["synthfair_hf.diffusion.denoiser", "SampleUNet"]
    assert index["preset"]["network"]["prediction_type"] == "sample"
    loaded = load(tmp_path / "saved")
    assert type(loaded) is CausalDiffusionPipeline
    assert type(loaded.unet) is SampleUNet
    covariates = {name: column[:1] for name, column in PhantomSource(60, 0).table.items()}
    images = [
        one(covariates=covariates, generator=torch.Generator().manual_seed(3), num_inference_steps=2, output_type="pt")
        for one in (pipeline, loaded)
    ]
    assert torch.allclose(images[0].images, images[1].images, atol=1e-5)


def test_the_velocity_of_before_is_stored_as_before(tmp_path):
    saved(tmp_path / "saved", prediction_type="velocity")
    index = json.loads((tmp_path / "saved" / "model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert index["preset"]["network"] == {"channels": [32, 32], "space_to_depth": 2, "width": 16}
    assert type(CausalDiffusionPipeline.load(tmp_path / "saved").unet) is UNet2DConditionModel
    assert set(Network().model_dump(mode="json")) == {"channels", "space_to_depth", "width"}
    assert Network(**Network(prediction_type="sample").model_dump()).prediction_type == "sample"


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize(("side", "steps", "cycles"), [(64, 2, 10), (128, 2, 1), (64, 24, 1), (64, 100, 1)])
def test_composition_is_exact_with_weights_that_know_nothing(prediction_type, side, steps, cycles, tmp_path):
    pipeline, source = saved(tmp_path, side, side // 8, prediction_type), PhantomSource(60, 0)
    image = found = torch.from_numpy(source.image(0, side))[None, None]
    covariates = {name: column[:1] for name, column in source.table.items()}
    for _ in range(cycles):
        found = pipeline(image=found, covariates=covariates, do={}, num_inference_steps=steps, output_type="pt").images
    assert (found - image).abs().mean() * 255 < 0.05


def test_a_mixing_that_diverges_is_refused_before_the_network_runs(tmp_path, monkeypatch):
    pipeline = saved(tmp_path)
    pipeline.scheduler = type(pipeline.scheduler)(mixing=0.5)
    monkeypatch.setattr(pipeline.unet, "forward", None)
    covariates = {name: column[:1] for name, column in PhantomSource(60, 0).table.items()}
    with pytest.raises(ValueError, match=r"num_inference_steps: 30 diverge with the scheduler's mixing of 0\.5"):
        pipeline(covariates=covariates, num_inference_steps=30)


@torch.no_grad()
def test_adapters_of_it_are_switched_off_to_the_bit():
    unet, (states, tokens) = denoiser(), given()
    sigma = torch.tensor([0.8, 0.5, 0.01])
    before = predict_velocity(unet, states, sigma, tokens)
    add_lora(unet, rank=2, alpha=2, seed=0)
    for name, parameter in unet.named_parameters():
        if ".lora_B" in name:
            parameter.add_(0.1)
    assert not torch.equal(predict_velocity(unet, states, sigma, tokens), before)
    with reference(unet):
        assert torch.equal(predict_velocity(unet, states, sigma, tokens), before)
