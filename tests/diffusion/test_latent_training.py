"""Training in the latents of somebody's autoencoder: what is exact, what is kept on disk, and what is refused."""

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from synthfair_hf.cli import main
from synthfair_hf.diffusion import autoencoders, latent_cache
from synthfair_hf.diffusion.fitting import train_generator
from synthfair_hf.diffusion.latent_cache import CachedLatents
from synthfair_hf.diffusion.latents import to_images, to_latents
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.preset import NetworkChanges
from synthfair_hf.errors import InputError
from synthfair_hf.records import Record
from synthfair_hf.training.config import TrainingConfig
from synthfair_hf.training.examples import TrainingExamples

SIDE, SUBJECTS = 32, 60
NETWORK = ["--channels", "32", "32"]

pytestmark = pytest.mark.usefixtures("short_fit")


@pytest.fixture(autouse=True)
def _few_subjects(monkeypatch):
    monkeypatch.setattr("synthfair_hf.domains.registry.SUBJECTS", SUBJECTS)


def variational(**settings):
    """An untrained AutoencoderKL that halves a side once, with latents of a standard deviation near 1."""
    torch.manual_seed(0)
    sizes = {"block_out_channels": (8, 8), "latent_channels": 4, "norm_num_groups": 4}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(**{"in_channels": 3, "out_channels": 3, "scaling_factor": 2.0, **sizes, **kinds, **settings})


def tiny():
    torch.manual_seed(0)
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    return AutoencoderTiny(latent_channels=4, scaling_factor=10.0, **widths, **blocks)


KINDS = pytest.mark.parametrize("build", [variational, tiny], ids=["kl", "tiny"])


@pytest.fixture
def saved(tmp_path):
    """A function that saves an autoencoder as somebody would, and returns its directory."""

    def save(build, **settings):
        build(**settings).save_pretrained(tmp_path / "vae", safe_serialization=True)
        return tmp_path / "vae"

    return save


def command(directory, *rest):
    start = ["train", "--preset", "phantom", "--resolution", str(SIDE), "--output_dir", str(directory), *NETWORK]
    small = ["--max_train_steps", "2", "--train_batch_size", "4", "--lr_warmup_steps", "0"]
    return main([*start, *small, *map(str, rest)])


@KINDS
def test_trained_in_latents_composition_is_exact_and_images_stay_gray(build, saved, tmp_path):
    vae = saved(build)
    assert command(tmp_path / "run", "--vae", vae) == 0
    pipeline = CausalDiffusionPipeline.load(tmp_path / "run")
    assert type(pipeline.vae) is type(build())
    assert pipeline.latent_shape() == (4, SIDE // 2, SIDE // 2)
    source = PhantomSource(SUBJECTS, 0)
    image = torch.from_numpy(source.image(0, SIDE))[None, None]
    covariates = {name: column[:1] for name, column in source.table.items()}
    answer = pipeline(image=image, covariates=covariates, do={}, num_inference_steps=3, output_type="pt")
    assert answer.images.shape == image.shape
    assert answer.residual.abs().mean() > 0.01, "an untrained autoencoder loses a lot"
    assert (answer.images - image).abs().mean() * 255 < 0.01
    drawn = pipeline(covariates=covariates, num_inference_steps=1, generator=torch.Generator().manual_seed(0))
    assert drawn.images[0].mode == "L"
    assert Record.read(tmp_path / "run" / "record.json").inputs["vae"] == autoencoders.revision_of(build())


def test_latents_are_scaled_and_shifted_as_the_configuration_says_and_the_trip_back_undoes_it():
    images = torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    plain, shifted = variational(scaling_factor=1.0), variational(scaling_factor=0.5, shift_factor=0.25)
    shifted.load_state_dict(plain.state_dict())
    found = to_latents(images, 2, shifted)
    assert torch.allclose(found, (to_latents(images, 2, plain) - 0.25) * 0.5, atol=1e-6)
    assert torch.allclose(to_images(found, 2, shifted), to_images(to_latents(images, 2, plain), 2, plain), atol=1e-5)
    colours = to_images(found, 2, shifted)
    assert torch.allclose(to_images(found, 2, shifted, channels=1), colours.mean(dim=1, keepdim=True), atol=1e-6)


def examples():
    return TrainingExamples(PhantomSource(SUBJECTS, 0), "train", SIDE, 0)


def test_cached_latents_are_those_of_the_augmented_images_and_survive_a_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(latent_cache, "SHARD", 16)
    vae, own = variational().eval(), examples()
    cached = CachedLatents(own, vae, tmp_path / "latents", 2, {"source": "a"})
    rows = len(own)
    assert len(cached) == rows
    for row, epoch in [(0, 0), (3, 1), (rows - 1, 3)]:
        kept = cached[row, epoch * rows + row]
        # another place of the same epoch is the same version
        assert torch.equal(kept["latents"], cached[row, epoch * rows]["latents"])
        example = own[row, epoch % 2 * rows + row]
        with torch.no_grad():
            expected = autoencoders.encode(vae, example.pop("image")[None] * 2 - 1)[0]
        assert torch.allclose(kept.pop("latents"), expected, atol=2e-3, rtol=2e-3)
        assert all(torch.equal(kept[name], value) for name, value in example.items())
    whole = {file.name: file.read_bytes() for file in (tmp_path / "latents").iterdir()}
    assert len(whole) == -(-2 * rows // 16) + 1
    (tmp_path / "latents" / "00001.safetensors").unlink()
    monkeypatch.setattr(latent_cache, "encode", lambda *asked: autoencoders.encode(*asked))
    CachedLatents(own, vae, tmp_path / "latents", 2, {"source": "a"})
    assert {file.name: file.read_bytes() for file in (tmp_path / "latents").iterdir()} == whole
    with pytest.raises(InputError, match=r"cache_latents: .* holds latents of other images or of another autoencoder"):
        CachedLatents(own, vae, tmp_path / "latents", 2, {"source": "b"})
    with pytest.raises(InputError, match=r"versions: 3 != 2"):
        CachedLatents(own, vae, tmp_path / "latents", 3, {"source": "a"})


def test_training_on_cached_latents_resumes_to_the_same_weights(saved, tmp_path):
    rest = ["--vae", saved(variational), "--cache_latents", "2", "--checkpointing_steps", "1"]
    assert command(tmp_path / "run", *rest) == 0
    shutil.copytree(tmp_path / "run", tmp_path / "again")
    (tmp_path / "again" / "record.json").unlink()
    assert command(tmp_path / "again", *rest, "--resume_from_checkpoint", "latest") == 0
    ours, theirs = (CausalDiffusionPipeline.load(tmp_path / one).unet.state_dict() for one in ("run", "again"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_recomputed_activations_give_the_same_weights(tmp_path):
    for name, rest in (("plain", []), ("recomputed", ["--gradient_checkpointing"])):
        assert command(tmp_path / name, *rest) == 0
    ours, theirs = (CausalDiffusionPipeline.load(tmp_path / one).unet.state_dict() for one in ("plain", "recomputed"))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)


@pytest.mark.parametrize("prediction_type", ["velocity", "sample", "sample_and_variance"])
def test_a_transformer_is_trained_saved_and_composes(prediction_type, tmp_path):
    changes = NetworkChanges(channels=(32, 32), architecture="transformer", prediction_type=prediction_type)
    config = TrainingConfig(output_dir=tmp_path / "run", max_train_steps=1, train_batch_size=2)
    train_generator(PHANTOM, None, config, SIDE, network=changes)
    pipeline = CausalDiffusionPipeline.load(tmp_path / "run")
    assert (len(pipeline.unet.transformer_blocks), pipeline.unet.config.num_attention_heads) == (2, 1)
    assert pipeline.preset.network == changes.of(PHANTOM.network)
    assert pipeline.preset.network.factor == PHANTOM.network.space_to_depth
    source = PhantomSource(SUBJECTS, 0)
    image = torch.from_numpy(source.image(0, SIDE))[None, None]
    covariates = {name: column[:1] for name, column in source.table.items()}
    same = pipeline(image=image, covariates=covariates, do={}, num_inference_steps=2, output_type="pt").images
    assert (same - image).abs().mean() * 255 < 0.01


def test_what_does_not_fit_is_one_sentence_and_writes_nothing(saved, tmp_path, capsys):
    vae, out = saved(variational), tmp_path / "run"
    wild = tmp_path / "wild"
    variational(scaling_factor=500.0).save_pretrained(wild, safe_serialization=True)
    pickled = tmp_path / "pickled"
    variational().save_pretrained(pickled, safe_serialization=False)
    other = tmp_path / "other"
    shutil.copytree(vae, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "_class_name": "AutoencoderOobleck"}))
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        (["--cache_latents", "2"], "cache_latents: pixels are not encoded; give vae as well, or leave it out"),
        (["--vae", empty], "is not a saved autoencoder"),
        (["--vae", other], "'AutoencoderOobleck' is unknown; allowed: AutoencoderKL, AutoencoderTiny"),
        (["--vae", pickled], "only whole ones in safetensors are"),
        (["--vae", wild], "of these images with a standard deviation of"),
        (["--vae", vae, "--resolution", "34"], "is not a positive multiple of 4, as this network and autoencoder need"),
        (["--architecture", "transformer", "--channels", "32", "64"], "are not the layers of a transformer"),
    ]
    for rest, told in cases:
        assert command(out, *rest) == 2, rest
        error = capsys.readouterr().err
        assert told in error, error
        assert not out.exists()


def test_access_to_an_autoencoders_images_goes_with_it(saved, tmp_path):
    vae = saved(variational)
    assert command(tmp_path / "open", "--vae", vae) == 0
    assert Record.read(tmp_path / "open" / "record.json").access == "open", "the phantom's, and nobody's autoencoder"
    index = tmp_path / "open" / "model_index.json"
    shutil.copytree(tmp_path / "open", tmp_path / "held")
    (tmp_path / "held" / "record.json").unlink()
    (tmp_path / "held" / index.name).write_text(
        index.read_text().replace('"access": "open"', '"access": "credentialed"')
    )
    assert command(tmp_path / "run", "--vae", tmp_path / "held") == 0
    assert Record.read(tmp_path / "run" / "record.json").access == "credentialed"
    (tmp_path / "open" / "record.json").write_text(
        (tmp_path / "open" / "record.json").read_text().replace('"access": "open"', '"access": "credentialed"')
    )
    with pytest.raises(InputError, match="its access 'credentialed' was recorded of other contents"):
        autoencoders.open_autoencoder(tmp_path / "open")


def test_an_autoencoder_is_found_in_a_pipeline_and_the_remedy_of_a_wild_scale_is_the_right_one(saved, tmp_path):
    vae = saved(variational, scaling_factor=500.0)
    images = torch.stack([examples()[row, row]["image"] for row in range(8)])
    with pytest.raises(InputError) as caught:
        autoencoders.check_latents(vae, autoencoders.open_autoencoder(vae), images)
    scale = float(str(caught.value).rsplit("set it to ", 1)[1].rstrip("."))
    shutil.copytree(vae, tmp_path / "pipeline" / "vae")
    config = tmp_path / "pipeline" / "vae" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "scaling_factor": scale}))
    found = autoencoders.open_autoencoder(tmp_path / "pipeline")
    autoencoders.check_latents(vae, found, images)
    assert autoencoders.encode(found, images * 2 - 1).std() == pytest.approx(1, rel=0.02)
