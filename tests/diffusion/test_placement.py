"""Devices, precisions, components and adapters: what diffusers' users do with a pipeline works, or is one sentence."""

import copy
import logging
import pickle

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from safetensors.torch import load_file, save_file

from synthfair_hf.align.lora import adapter_parameters, add_lora, save_lora
from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.diffusion.adapters import weight_digests
from synthfair_hf.diffusion.conditioning import CovariateEncoder
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.super_resolution import build_autoencoder
from synthfair_hf.errors import InputError

HALVES = [torch.float16, torch.bfloat16]
NEAR = {torch.float16: 1, torch.bfloat16: 3, torch.float64: 0.01}
"""Grey levels from the answer in float32, on average over the pixels."""


@pytest.fixture
def ask(covariates, images):
    def asked(pipeline):
        image = torch.nn.functional.interpolate(images, size=pipeline.config.resolution)
        generator = [torch.Generator().manual_seed(seed) for seed in range(3)]
        return pipeline(
            image=image,
            covariates=covariates,
            do={"sex": "male", "finding": "pneumonia"},
            num_inference_steps=1,
            generator=generator,
            output_type="pt",
        )

    return asked


def with_autoencoder(pipeline):
    torch.manual_seed(0)
    parts = {**pipeline.components, "vae": build_autoencoder(32, 16).eval()}
    return CausalDiffusionPipeline(**parts, preset=pipeline.config.preset, resolution=32, space_to_depth=2)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float64])
def test_every_precision_answers_as_float32_does(fresh_pipeline, ask, dtype):
    pipeline = fresh_pipeline if dtype == torch.float16 else with_autoencoder(fresh_pipeline)
    expected = ask(pipeline)
    assert pipeline.to(dtype) is pipeline
    assert {part.dtype for part in (pipeline.unet, pipeline.covariate_encoder)} == {dtype}
    found = ask(pipeline)
    assert (found.images.dtype, found.noise.dtype) == (torch.float32, torch.float32)
    assert found.covariates == expected.covariates, "the causal model stays as it is"
    assert (found.images - expected.images).abs().mean() * 255 < NEAR[dtype]
    for part in pipeline.scm.parameters():
        assert part.dtype == torch.float32
    sampled = pipeline(covariates=found.covariates, sample_guidance_scale=2.0, num_inference_steps=1, output_type="np")
    assert sampled.images.shape[0] == 3


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_saved_and_loaded(fresh_pipeline, ask, dtype, tmp_path):
    expected = ask(fresh_pipeline)
    fresh_pipeline.to(dtype).save_pretrained(tmp_path)
    for loaded in (
        CausalDiffusionPipeline.load(tmp_path),
        CausalDiffusionPipeline.from_pretrained(tmp_path, dtype=dtype),
        CausalDiffusionPipeline.from_pretrained(tmp_path, dtype={"unet": dtype}),
    ):
        assert loaded.scm.dtype == torch.float32
        assert (ask(loaded).images - expected.images).abs().mean() * 255 < NEAR[dtype]
    for name in ("half", "bfloat16", "double"):
        assert getattr(loaded.scm, name)().dtype == torch.float32


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (lambda pipe: pipe.to(torch.int8), r"to: torch\.int8 is not allowed; give one of torch\.float16"),
        (lambda pipe: pipe.to(dtype=torch.complex64), r"to: torch\.complex64 is not allowed"),
        (lambda pipe: pipe.to("cuda:7"), "to: is not possible here"),
        (lambda pipe: pipe.to("nowhere"), "to: is not possible here"),
        (lambda pipe: pipe.enable_model_cpu_offload(), "enable_model_cpu_offload: is not possible here"),
        (lambda pipe: pipe.enable_sequential_cpu_offload(), "enable_sequential_cpu_offload: is not possible here"),
        (lambda pipe: pipe.enable_sequential_cpu_offload(device="cpu"), "device 'cpu' is not allowed"),
        (lambda pipe: CausalDiffusionPipeline.from_pretrained("x", torch_dtype=torch.int8), "torch_dtype: torch.int8"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="possible there")
def test_what_is_not_possible_is_one_sentence(fresh_pipeline, place, sentence):
    with pytest.raises(InputError, match=sentence) as raised:
        place(fresh_pipeline)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "saving",
    [
        lambda pipe: pipe.enable_model_cpu_offload(device="cpu"),
        lambda pipe: pipe.enable_group_offload(torch.device("cpu"), offload_type="leaf_level"),
        lambda pipe: pipe.enable_attention_slicing(),
        lambda pipe: pipe.enable_attention_slicing("max"),
        lambda pipe: pipe.unet.enable_freeu(s1=1, s2=1, b1=1, b2=1),
        lambda pipe: pipe.unet.to(memory_format=torch.channels_last),
    ],
)
def test_what_saves_memory_changes_no_image(fresh_pipeline, ask, saving):
    expected = ask(fresh_pipeline).images
    saving(fresh_pipeline)
    for _ in range(2):
        assert torch.allclose(ask(fresh_pipeline).images, expected, atol=1e-4)


def test_a_pipeline_of_its_components_is_the_same_pipeline(fresh_pipeline, ask):
    fresh_pipeline.register_to_config(default_guidance_scale={"sex": 3.0}, default_intervention_level=0.6)
    expected = ask(fresh_pipeline).images
    copies = {
        "components": CausalDiffusionPipeline(**fresh_pipeline.components),
        "parameters": CausalDiffusionPipeline(**fresh_pipeline.components, **fresh_pipeline.parameters),
        "from_pipe": CausalDiffusionPipeline.from_pipe(fresh_pipeline),
        "copy": copy.copy(fresh_pipeline),
        "deepcopy": copy.deepcopy(fresh_pipeline),
        "pickle": pickle.loads(pickle.dumps(fresh_pipeline)),
    }
    for name, other in copies.items():
        assert torch.equal(ask(other).images, expected), name
        assert other.config.default_guidance_scale == {"sex": 3.0}, name
    other = CausalDiffusionPipeline(**fresh_pipeline.components, default_steps=3)
    assert (other.config.default_steps, other.config.default_intervention_level) == (3, 0.6)


def test_components_of_another_kind_are_refused_where_they_are_given(fresh_pipeline, tmp_path):
    fresh_pipeline.save_pretrained(tmp_path)
    sentence = "scheduler: a DDIMScheduler is not allowed; give a ReversibleFlowScheduler, whose steps can be undone"
    for give in (
        lambda: setattr(fresh_pipeline, "scheduler", DDIMScheduler()),
        lambda: fresh_pipeline.register_modules(scheduler=DDIMScheduler()),
        lambda: CausalDiffusionPipeline(**{**fresh_pipeline.components, "scheduler": DDIMScheduler()}),
        lambda: CausalDiffusionPipeline.from_pretrained(tmp_path, scheduler=DDIMScheduler()),
        lambda: CausalDiffusionPipeline.from_pipe(fresh_pipeline, scheduler=DDIMScheduler()),
    ):
        with pytest.raises(InputError, match=sentence):
            give()
    with pytest.raises(
        InputError, match="unet: an AutoencoderKL is not allowed; give a UNet2DConditionModel or an SD3"
    ):
        fresh_pipeline.unet = AutoencoderKL()
    with pytest.raises(InputError, match="scm: a NoneType is not allowed; give a StructuralCausalModel"):
        fresh_pipeline.scm = None


@pytest.mark.parametrize("name", ["unet", "covariate_encoder", "scm", "scheduler", "vae"])
@pytest.mark.parametrize("value", ["x", 3, [], {}, object(), torch.nn.Linear(1, 1), None])
def test_what_is_no_component_is_refused(fresh_pipeline, name, value):
    if name == "vae" and value is None:
        return
    with pytest.raises(InputError, match=f"^{name}: an? .* is not allowed; give an? [A-Z][^\n]*$"):
        CausalDiffusionPipeline(**{**fresh_pipeline.components, name: value})


def other_parts(pipeline):
    """Components of the right kind, none of which fits."""
    config = {**pipeline.unet.config}
    schema = pipeline.covariates.subset(["age", "sex"])
    variables = schema.model_dump(mode="json")["variables"]
    return {
        "size": ("unet", type(pipeline.unet)(**{**config, "sample_size": 16})),
        "channels": ("unet", type(pipeline.unet)(**{**config, "in_channels": 3, "out_channels": 3})),
        "width": ("unet", type(pipeline.unet)(**{**config, "cross_attention_dim": 8})),
        "tokens": ("covariate_encoder", CovariateEncoder(pipeline.preset.covariates.model_dump()["variables"], 8)),
        "covariates": ("covariate_encoder", CovariateEncoder(variables, 16)),
        "causes": ("scm", StructuralCausalModel(variables, [])),
        "latents": ("vae", build_autoencoder(32, 16)),
    }


@pytest.mark.parametrize("which", ["size", "channels", "width", "tokens", "covariates", "causes", "latents"])
def test_a_component_that_does_not_fit_is_refused_at_the_next_call(fresh_pipeline, ask, which, tmp_path):
    name, part = other_parts(fresh_pipeline)[which]
    own = getattr(fresh_pipeline, name)
    setattr(fresh_pipeline, name, part)
    for use in (lambda: ask(fresh_pipeline), lambda: fresh_pipeline.save_pretrained(tmp_path / "saved")):
        with pytest.raises(InputError, match=r"^[a-z_]+: .*(fit|has other covariates)"):
            use()
    assert not (tmp_path / "saved").exists()
    setattr(fresh_pipeline, name, own)
    ask(fresh_pipeline)


def test_networks_without_weights_are_one_sentence(fresh_pipeline, covariates, ask):
    with pytest.raises(InputError, match="unet: is on the device 'meta', which keeps no weights; load"):
        ask(copy.deepcopy(fresh_pipeline).to("meta"))
    fresh_pipeline.covariate_encoder.to("meta")
    with pytest.raises(InputError, match="covariate_encoder: is on the device 'meta'"):
        fresh_pipeline(covariates=covariates)


def test_moving_to_a_precision_warns_of_nothing(fresh_pipeline, caplog):
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)
    try:
        fresh_pipeline.to(torch.bfloat16)
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.text == ""


def adapted(pipeline):
    add_lora(pipeline.unet, rank=2, alpha=2, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter_parameters(pipeline.unet):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return pipeline


def test_a_pipeline_with_adapters_is_saved_merged_or_without_them(fresh_pipeline, ask, tmp_path):
    plain = ask(fresh_pipeline).images
    expected = ask(adapted(fresh_pipeline)).images
    assert not torch.equal(expected, plain)
    save_lora(fresh_pipeline.unet, tmp_path / "lora")
    with pytest.raises(InputError, match=r"save_pretrained: the network has adapters \(default\)") as raised:
        fresh_pipeline.save_pretrained(tmp_path / "with")
    assert not (tmp_path / "with").exists()
    with pytest.raises(
        InputError, match=r"save_pretrained: the network has adapters .*; save them by save_lora_adapter"
    ):
        fresh_pipeline.unet.save_pretrained(tmp_path / "alone")
    assert not (tmp_path / "alone").exists()
    remedies = ["pipe.unload_lora_weights()", "pipe.fuse_lora(components=['unet'])"]
    assert all(remedy in str(raised.value) for remedy in remedies)
    for name, steps, answer in (("without", remedies[:1], plain), ("merged", remedies[::-1], expected)):
        pipe = copy.deepcopy(fresh_pipeline)
        for remedy in steps:
            eval(remedy, {"pipe": pipe})
        pipe.save_pretrained(tmp_path / name)
        assert torch.allclose(ask(CausalDiffusionPipeline.load(tmp_path / name)).images, answer, atol=1e-4)
    loaded = CausalDiffusionPipeline.load(tmp_path / "without")
    loaded.load_lora_weights(tmp_path / "lora")
    assert torch.allclose(ask(loaded).images, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_adapters_fit_the_generator_that_they_were_trained_on_alone(fresh_pipeline, dtype, tmp_path):
    before = copy.deepcopy(fresh_pipeline)
    path = save_lora(adapted(copy.deepcopy(fresh_pipeline)).unet, tmp_path)
    fresh_pipeline.to(dtype).load_lora_weights(tmp_path)
    told = weight_digests(before.unet).items() & weight_digests(fresh_pipeline.unet).items()
    assert len(told) == (2 if dtype == torch.float32 else 1), "whatever adapters it has"
    with torch.no_grad():
        before.unet.conv_in.bias.add_(0.1)
    with pytest.raises(InputError, match="holds adapters of another generator; give those that were trained on this"):
        before.to(dtype).load_lora_weights(tmp_path)
    assert not getattr(before.unet, "peft_config", {})
    save_file(load_file(path), path)  # as written before adapters named what they were trained on
    before.load_lora_weights(tmp_path)
