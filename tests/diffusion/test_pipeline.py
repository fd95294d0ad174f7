"""Laws of the pipeline: composition, independence of rows, save and load, and one sentence for bad input."""

import json
import subprocess
import sys

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, SD3Transformer2DModel
from PIL import Image
from safetensors.torch import load_file, save_file

from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.errors import InputError


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def rows(covariates, *keep):
    return {name: [column[row] for row in keep] for name, column in covariates.items()}


def level(error: torch.Tensor) -> float:
    return error.abs().mean().item() * 255


@pytest.mark.parametrize("steps", [1, 4, 10])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_composition_returns_the_input_over_ten_cycles(pipeline, covariates, images, steps, guidance_scale):
    current = images
    for _ in range(10):
        current = pipeline(
            image=current,
            covariates=covariates,
            do={},
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            output_type="pt",
        ).images
    assert level(current - images) < 0.01


def test_guidance_breaks_the_way_there_and_back_but_not_composition(pipeline, covariates, images):
    apart = {}
    for scale in (1.0, 2.0, 6.0):
        asked = {"guidance_scale": scale, "output_type": "pt", "num_inference_steps": 10}
        do = {"sex": ["female", "male", "male"], "view": ["AP", "PA", "PA"]}
        there = pipeline(image=images, covariates=covariates, do=do, generator=generators(3), **asked)
        observed = {name: covariates[name] for name in do}
        back = pipeline(image=there.images, covariates=there.covariates, do=observed, generator=generators(3), **asked)
        apart[scale] = level(back.images - images)
    assert apart[1.0] < 0.5 * apart[2.0] < 0.5 * apart[6.0]


def test_do_the_observed_values_returns_the_input(pipeline, covariates, images):
    output = pipeline(image=images, covariates=covariates, do=covariates, guidance_scale=4.0, output_type="pt")
    assert level(output.images - images) < 0.01
    assert output.covariates == covariates


def test_an_intervention_moves_the_image_and_nothing_upstream(pipeline, covariates, images):
    do = {"finding": ["pneumonia", "pneumonia", "pneumonia"]}
    output = pipeline(image=images, covariates=covariates, do=do, generator=generators(3), output_type="pt")
    moved = (output.images - images).abs().mean(dim=(1, 2, 3)) * 255
    assert moved[0] > 0.01
    assert moved[1] < 0.01, "row 1 had the finding already"
    assert output.covariates["finding"] == do["finding"]
    assert output.covariates["age"] == covariates["age"]
    assert output.covariates["sex"] == covariates["sex"]


def test_a_row_depends_on_its_own_seed_not_on_its_batch(pipeline, covariates, images):
    do = {"sex": "male", "scanner": "computed"}
    batch = pipeline(
        image=images, covariates=covariates, do=do, generator=generators(3), guidance_scale=2.0, output_type="pt"
    )
    alone = pipeline(
        image=images[2:],
        covariates=rows(covariates, 2),
        do=do,
        generator=generators(3)[2:],
        guidance_scale=2.0,
        output_type="pt",
    )
    assert torch.allclose(batch.images[2:], alone.images, atol=1e-5)
    assert rows(batch.covariates, 2) == alone.covariates

    sampled = pipeline(covariates=covariates, generator=generators(3), output_type="pt").images
    again = pipeline(covariates=rows(covariates, 1), generator=generators(3)[1:2], output_type="pt").images
    assert torch.allclose(sampled[1:2], again, atol=1e-5)
    assert not torch.allclose(sampled[0], sampled[1], atol=1e-2)


def test_known_noise_needs_no_abduction(pipeline, covariates):
    """What a call abducts from an image answers every later question about it, without the image."""
    do = {"sex": "male", "scanner": "computed"}
    image = pipeline(covariates=covariates, generator=generators(3), output_type="pt").images
    seen = pipeline(image=image, covariates=covariates, do={}, generator=generators(3), output_type="pt")
    known = {"noise": seen.noise, "covariate_noise": seen.covariate_noise}
    later = pipeline(covariates=covariates, do=do, guidance_scale=2.0, output_type="pt", **known)
    direct = pipeline(
        image=image, covariates=covariates, do=do, guidance_scale=2.0, generator=generators(3), output_type="pt"
    )
    assert torch.equal(later.images, direct.images)
    assert later.covariates == direct.covariates


def test_a_seed_gives_the_same_person_whatever_is_asked(pipeline, covariates):
    plain = pipeline(covariates=covariates, generator=generators(3), output_type="pt")
    asked = pipeline(covariates=covariates, do={}, generator=generators(3), output_type="pt")
    assert torch.equal(plain.images, asked.images)
    again = pipeline(covariates=covariates, noise=plain.noise, output_type="pt")
    assert torch.equal(plain.images, again.images)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_run_and_states_stay_exact(fresh_pipeline, covariates, images, dtype):
    fresh_pipeline.unet.to(dtype)
    output = fresh_pipeline(image=images, covariates=covariates, do={}, output_type="pt")
    assert output.images.dtype == torch.float32
    assert level(output.images - images) < 0.01


def test_guidance_moves_samples_unless_it_is_one_or_nothing_is_known(pipeline, covariates):
    def sample(known, **settings):
        return pipeline(covariates=known, generator=generators(3), output_type="pt", **settings).images

    plain, unknown = sample(covariates), {name: [None] * 3 for name in covariates}
    assert torch.equal(sample(covariates, sample_guidance_scale=1), plain)
    assert not torch.allclose(sample(covariates, sample_guidance_scale=4.0), plain, atol=1e-3)
    assert torch.allclose(sample(covariates, sample_guidance_scale=0.0), sample(unknown), atol=1e-5)
    assert torch.allclose(sample(unknown, sample_guidance_scale=4.0), sample(unknown), atol=1e-4)


def test_order_of_covariates_never_matters(pipeline, covariates, images):
    swapped = dict(reversed(list(covariates.items())))
    one, other = (
        pipeline(image=images, covariates=given, do={"sex": "male"}, generator=generators(3), output_type="pt").images
        for given in (covariates, swapped)
    )
    assert torch.equal(one, other)


def test_images_are_in_range_and_pil_comes_back_gray(pipeline, covariates):
    output = pipeline(covariates=covariates, generator=generators(3))
    assert [image.mode for image in output.images] == ["L"] * 3
    tensor = pipeline(covariates=covariates, generator=generators(3), output_type="pt").images
    assert tensor.shape == (3, 1, 16, 16)
    assert 0 <= tensor.min() <= tensor.max() <= 1
    back = pipeline(image=output.images, covariates=covariates, do={})
    assert [image.tobytes() for image in back.images] == [image.tobytes() for image in output.images]


def test_save_and_load_answer_alike_by_our_class_and_by_diffusers(pipeline, covariates, tmp_path):
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    weights = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert weights == {".json", ".safetensors"}
    expected = pipeline(covariates=covariates, generator=generators(3), output_type="pt").images
    for loaded in (
        CausalDiffusionPipeline.load(tmp_path),
        CausalDiffusionPipeline.from_pretrained(tmp_path, use_safetensors=True),
        DiffusionPipeline.from_pretrained(tmp_path, use_safetensors=True),
    ):
        assert type(loaded) is CausalDiffusionPipeline
        assert torch.equal(loaded(covariates=covariates, generator=generators(3), output_type="pt").images, expected)


def test_importing_the_package_is_enough_for_plain_diffusers(pipeline, tmp_path):
    """Guards diffusers' lookup of pipeline classes on its own module: if this fails, see diffusion/discovery.py."""
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    load = f"diffusers.DiffusionPipeline.from_pretrained({str(tmp_path)!r}, use_safetensors=True)"
    code = f"import synthfair_hf, diffusers; print(type({load}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "synthfair_hf.diffusion.pipeline.CausalDiffusionPipeline" in result.stdout


def test_without_the_import_diffusers_names_what_is_missing_and_it_helps_even_then(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    code = f"""
import diffusers

try:
    diffusers.DiffusionPipeline.from_pretrained({str(tmp_path)!r})
except AttributeError as error:
    print(error)
import synthfair_hf

print(type(diffusers.DiffusionPipeline.from_pretrained({str(tmp_path)!r})))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    refused, loaded = result.stdout.splitlines()
    assert refused == "module diffusers has no attribute synthfair_hf.CausalDiffusionPipeline"
    assert "synthfair_hf.diffusion.pipeline.CausalDiffusionPipeline" in loaded


def test_component_paths_in_published_checkpoints_stay_what_they_are(pipeline, tmp_path):
    """model_index.json stores module paths: moving one of these classes breaks every published checkpoint."""
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    index = json.loads((tmp_path / "model_index.json").read_text())
    components = {name: value for name, value in index.items() if isinstance(value, list)}
    assert components == {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "covariate_encoder": ["synthfair_hf.diffusion.conditioning", "CovariateEncoder"],
        "scm": ["synthfair_hf.causal.scm", "StructuralCausalModel"],
        "scheduler": ["synthfair_hf.diffusion.solver", "ReversibleFlowScheduler"],
        "vae": [None, None],
    }


def test_the_decoder_residual_makes_a_lossy_autoencoder_exact(pipeline, covariates):
    torch.manual_seed(0)
    vae = AutoencoderKL(
        1,
        1,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    ).eval()
    latent = CausalDiffusionPipeline(
        unet=pipeline.unet,
        covariate_encoder=pipeline.covariate_encoder,
        scm=pipeline.scm,
        scheduler=pipeline.scheduler,
        vae=vae,
        preset=pipeline.config.preset,
        resolution=16,
        space_to_depth=1,
    )
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    output = latent(image=images, covariates=covariates, do={}, output_type="pt")
    assert output.residual.abs().mean() > 0.01, "an untrained autoencoder loses a lot"
    assert level(output.images - images) < 0.01


def test_the_denoiser_is_replaceable_by_a_joint_attention_transformer(pipeline, covariates, images):
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=8,
    ).eval()
    other = CausalDiffusionPipeline(
        unet=transformer,
        covariate_encoder=pipeline.covariate_encoder,
        scm=pipeline.scm,
        scheduler=pipeline.scheduler,
        preset=pipeline.config.preset,
        resolution=16,
        space_to_depth=2,
    )
    assert level(other(image=images, covariates=covariates, do={}, output_type="pt").images - images) < 0.01


BAD = [
    ({"covariates": None}, "covariates: not given"),
    ({"covariates": {"age": [1]}}, "not given; needed"),
    ({"do": None}, "do: not given"),
    ({"do": ["sex"]}, "a list is not allowed"),
    ({"covariates": [1, 2]}, "a list is not allowed"),
    ({"covariates": {"age": []}}, "not given; needed"),
    ({"num_inference_steps": 2.5}, "num_inference_steps: 2.5"),
    ({"guidance_scale": "3"}, "guidance_scale: '3'"),
    ({"guidance_scale": {"race": 2.0}}, "guidance_scale: 'race' is unknown; allowed: age, sex"),
    ({"guidance_scale": {"sex": -1}}, r"guidance_scale\['sex'\]: -1 is not allowed; give a number from 0 on"),
    ({"intervention_level": 0}, "intervention_level: 0 is not allowed; give a noise level"),
    ({"intervention_level": {"sex": 1.5}}, r"intervention_level\['sex'\]: 1.5 is not allowed"),
    ({"intervention_level": [0.5]}, r"intervention_level: \[0.5\] is not allowed"),
    ({"image": None, "noise": torch.zeros(1)}, "noise: unexpected shape"),
    ({"covariate_noise": {}}, "covariate_noise: names \\(none\\)"),
    ({"do": {"race": "white"}}, "'race' is unknown; allowed: age, sex"),
    ({"do": {"sex": "Femle"}}, "did you mean 'female'"),
    ({"do": {"age": -5}}, "out of range; allowed: 0 to 100 years"),
    ({"do": {"age": float("nan")}}, r"do\['age'\]: is missing; give years in \[0, 100\]"),
    ({"do": {"age": "70"}}, "not a number"),
    ({"do": {"sex": ["male"]}}, "1 values for 3 rows"),
    ({"do": {"sex": None}}, r"do\['sex'\]: is missing; give one of male, female"),
    ({"do": {"sex": "unknown"}}, r"do\['sex'\]: is missing"),
    ({"do": {"age": ["61", "", "n/a"]}}, r"do\['age'\]: '61' is not a number"),
    ({"num_inference_steps": 0}, "num_inference_steps: 0"),
    ({"guidance_scale": float("nan")}, "guidance_scale: nan"),
    ({"sample_guidance_scale": "2"}, "sample_guidance_scale: '2' is not allowed"),
    ({"sample_guidance_scale": 2.0}, "sample_guidance_scale: 2.0 is for samples"),
    ({"output_type": "tf"}, "output_type: 'tf' is unknown; allowed: pil, np, pt, latent"),
    ({"image": torch.rand(2, 1, 16, 16)}, "image: 2 images for 3 rows"),
    ({"image": torch.full((3, 1, 16, 16), 255.0)}, "expected \\[0, 1\\]"),
    ({"image": torch.full((3, 1, 16, 16), float("nan"))}, "expected \\[0, 1\\]"),
    ({"image": [Image.new("RGB", (16, 16))] * 3, "strict": True}, "mode RGB, 16x16 is not allowed with strict=True"),
    ({"image": [Image.new("I;16", (16, 16))] * 3, "strict": True}, "mode I;16, 16x16 is not allowed"),
    ({"image": [Image.new("L", (17, 16))] * 3, "strict": True}, "mode L, 17x16 is not allowed"),
    ({"image": torch.zeros(3, 1, 16, 16, dtype=torch.int64)}, "image: int64 is not supported; give uint8"),
    ({"image": torch.zeros(3, 1, 0, 16)}, "holds no pixels"),
    ({"image": torch.zeros(3, 2, 16, 7)}, "with 1, 3 or 4 channels"),
    ({"image": "film.png"}, "image: a str is not supported; give a PIL image"),
    ({"generator": generators(2)}, "2 generators for 3 rows"),
    ({"noise": torch.zeros(3, 2, 4, 8, 8)}, "given beside an image"),
    ({"image": None, "noise": torch.full((3, 2, 4, 8, 8), float("nan"))}, "noise: some values are not finite"),
    ({"image": None, "noise": [0.0]}, "noise: unexpected shape list"),
    ({"residual": torch.zeros(3, 1, 16, 16)}, "residual: given beside an image"),
    (
        {"image": None, "noise": torch.zeros(3, 2, 4, 8, 8), "residual": torch.zeros(1, 1, 16, 16)},
        r"residual: unexpected shape \(1, 1, 16, 16\)",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_input_is_answered_before_the_network_runs(pipeline, covariates, images, change, message, monkeypatch):
    def never(*_args, **_keywords):
        raise AssertionError("the network ran")

    monkeypatch.setattr(pipeline.unet, "forward", never)
    with pytest.raises(InputError, match=message):
        pipeline(**{"image": images, "covariates": covariates, "do": {}, **change})


def test_what_is_not_a_saved_pipeline_is_refused(pipeline, tmp_path):
    with pytest.raises(InputError, match="not a saved pipeline"):
        CausalDiffusionPipeline.load(tmp_path)
    pipeline.save_pretrained(tmp_path, safe_serialization=True)
    weights = tmp_path / "scm" / "diffusion_pytorch_model.safetensors"
    kept = load_file(weights)
    save_file(dict(list(kept.items())[1:]), weights, metadata={"format": "pt"})
    with pytest.raises(InputError, match="lacks or adds weights"):
        CausalDiffusionPipeline.load(tmp_path)
    weights.write_bytes(b"broken")
    with pytest.raises(InputError, match="can't be loaded"):
        CausalDiffusionPipeline.load(tmp_path)
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(InputError, match="only True is allowed"):
        CausalDiffusionPipeline.from_pretrained(tmp_path, use_safetensors=False)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").rename(
        tmp_path / "unet" / "diffusion_pytorch_model.bin"
    )
    with pytest.raises(InputError, match="holds pickle weights"):
        CausalDiffusionPipeline.load(tmp_path)
