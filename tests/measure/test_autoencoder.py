"""The autoencoder minimises the bound it states, saves what a pipeline loads, and its encoder is a real posterior."""

import shutil
from functools import cache

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from synthfair_hf.diffusion.latents import to_images, to_latents
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.measure import autoencoder
from synthfair_hf.measure.autoencoder import AutoencodingObjective, load_encoder, train_autoencoder
from synthfair_hf.measure.distances import divergence, l1, minimality
from synthfair_hf.measure.weights import WEIGHTS
from synthfair_hf.records import Record
from synthfair_hf.schema import Schema
from synthfair_hf.training.config import AutoencoderTrainingConfig
from synthfair_hf.training.examples import TrainingExamples

SCHEMA: Schema = CHEST_XRAY.covariates.subset(("sex",))
SIDE, CHANNELS = 16, (8, 16)


class Blobs:
    """A disc somewhere in each image, and a bright bar on its left edge for one sex; two images per patient."""

    name, covariates, fingerprint = "blobs", SCHEMA, "blobs"
    counts: dict = {}  # noqa: RUF012

    def __init__(self, splits=("train", "train", "train", "validation", "test"), count=100):
        rng = np.random.default_rng(0)
        self.centres, self.radii = rng.uniform(0.3, 0.8, (count, 2)), rng.uniform(0.1, 0.25, count)
        self.table = {"sex": [("male", "female")[code] for code in rng.integers(2, size=count)]}
        self.patient_ids = [f"p{row // 2}" for row in range(count)]
        self.splits = [splits[row // 2 % len(splits)] for row in range(count)]
        self.drawn = []

    def __len__(self):
        return len(self.splits)

    def radiograph(self, index, resolution, sex):
        height, width = np.meshgrid(*2 * [(np.arange(resolution) + 0.5) / resolution], indexing="ij")
        top, left = self.centres[index]
        radiograph = 0.6 * (np.hypot(height - top, width - left) < self.radii[index])
        radiograph[:, : resolution // 8] = 0.9 * (sex == "female")
        return (radiograph + np.random.default_rng(index).uniform(0, 0.1, radiograph.shape)).astype(np.float32)

    def image(self, index, resolution):
        return self.radiograph(index, resolution, self.table["sex"][index])

    def draw(self, index, resolution, rng):
        self.drawn.append(index)
        return self.image(index, resolution), {"sex": self.table["sex"][index]}

    def rows(self, split):
        return [row for row, one in enumerate(self.splits) if one == split]

    def of(self, split, other_sex=False):
        swap = {"male": "female", "female": "male"} if other_sex else {"male": "male", "female": "female"}
        radiographs = [self.radiograph(row, SIDE, swap[self.table["sex"][row]]) for row in self.rows(split)]
        return torch.from_numpy(np.stack(radiographs))[:, None]


def settings(directory, **changes):
    small = {
        "max_train_steps": 100,
        "train_batch_size": 16,
        "lr_warmup_steps": 5,
        "learning_rate": 5e-3,
        "ema_decay": 0.9,
    }
    return AutoencoderTrainingConfig(output_dir=directory, **{**small, **changes})


def run(directory, source=None, **changes):
    return train_autoencoder(source or Blobs(), settings(directory, **changes), SIDE, CHANNELS, latent_channels=2)


@cache
def small(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
        return AutoencoderKL(1, 1, **blocks, block_out_channels=CHANNELS, norm_num_groups=8, latent_channels=2)


def images(count, seed=0, side=SIDE):
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed))


def bound(seed=0, count=3):
    return AutoencodingObjective(small())({"image": images(count)}, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("autoencoder") / "run"
    source = Blobs()
    record = run(directory, source)
    assert {source.splits[row] for row in source.drawn} == {"train"}
    return directory, record


def saved(directory):
    return AutoencoderKL.from_pretrained(directory, use_safetensors=True, low_cpu_mem_usage=False)


def test_it_learns_and_says_what_it_saw(trained):
    directory, record = trained
    radiographs = Blobs().of("validation")
    assert (
        record.measured["validation"]["reconstruction"]
        < 0.6 * l1(radiographs, radiographs.mean(dim=0, keepdim=True)).mean()
    )
    assert record.measured["validation"]["n"] == len(radiographs) == 20
    assert record.measured["training_divergence"] > 5, "nats: the posterior has not collapsed"
    assert record.counts["seen"] == {"train": {"images": 60, "patients": 30}}
    assert record == Record.read(directory / "record.json")
    assert record.inputs["source"] == "blobs"
    assert {path.suffix for path in directory.rglob("*") if path.is_file()} == {".json", ".safetensors"}


def test_the_saved_directory_is_a_pipelines_autoencoder_with_latents_of_unit_deviation(trained):
    directory, record = trained
    vae = saved(directory)
    with torch.no_grad():
        assert to_latents(Blobs().of("train"), 1, vae).std().item() == pytest.approx(1, rel=1e-3)
        radiographs = Blobs().of("validation")
        decoded = to_images(to_latents(radiographs, 1, vae), 1, vae)
    assert record.measured["validation"]["reconstruction"] == pytest.approx(l1(decoded, radiographs).mean(), abs=1e-3)
    assert vae.config.scaling_factor != AutoencoderKL().config.scaling_factor


def test_without_a_validation_split_nothing_is_measured_on_it(tmp_path):
    record = run(tmp_path / "run", Blobs(splits=("train",)), max_train_steps=1)
    assert "validation" not in record.measured
    assert record == Record.read(tmp_path / "run" / "record.json")


def test_training_repeats_whatever_the_global_generator_did(tmp_path):
    ends = []
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        run(tmp_path / name, max_train_steps=3, seed=seed)
        ends.append(load_file(tmp_path / name / WEIGHTS))
        torch.rand(3)
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    assert not all(torch.equal(ends[0][key], ends[2][key]) for key in ends[0])


def test_a_resumed_run_ends_where_an_undisturbed_one_does(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", max_train_steps=6, checkpointing_steps=4)
    seen = []

    def interrupted(self, key):
        seen.append(key)
        if len(seen) > 5 * 16:
            raise KeyboardInterrupt
        return look(self, key)

    look = TrainingExamples.__getitem__
    with monkeypatch.context() as patch:
        patch.setattr(TrainingExamples, "__getitem__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", max_train_steps=6, checkpointing_steps=4)
    assert (tmp_path / "cut" / "checkpoint-4").is_dir()
    assert not (tmp_path / "cut" / "record.json").exists()
    with pytest.raises(InputError, match="holds an earlier run"):
        run(tmp_path / "cut", max_train_steps=6)
    resumed = run(tmp_path / "cut", max_train_steps=6, resume_from_checkpoint="latest")
    ends = [load_file(tmp_path / name / WEIGHTS) for name in ("whole", "cut")]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    assert resumed.measured["validation"] == whole.measured["validation"]
    again = run(tmp_path / "cut", max_train_steps=6, resume_from_checkpoint="latest")
    assert again == resumed, "a finished run answers with its record, held-out figure included"


def test_a_stop_before_the_held_out_figure_loses_nothing(tmp_path, monkeypatch):
    def stopped(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(autoencoder, "_reconstruction_error", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", max_train_steps=2)
    assert not (tmp_path / "cut" / "record.json").exists()
    record = run(tmp_path / "cut", max_train_steps=2, resume_from_checkpoint="latest")
    assert record.measured["validation"]["n"] == 20
    assert record == Record.read(tmp_path / "cut" / "record.json")


def test_the_loss_is_the_negative_bound_per_pixel():
    loss, parts = bound(seed=3)
    with torch.no_grad():
        told = small().encode(2 * images(3) - 1).latent_dist
        posterior = torch.distributions.Normal(told.mean, told.std)
        noise = torch.randn(told.mean.shape, generator=torch.Generator().manual_seed(3))
        decoded = (small().decode(told.mean + told.std * noise).sample + 1) / 2
    prior = torch.distributions.Normal(0.0, 1.0)
    nats = torch.distributions.kl_divergence(posterior, prior).sum() / 3

    def negative_bound(scale):
        likelihood = torch.distributions.Laplace(decoded, scale).log_prob(images(3)).sum() / 3
        return (nats - likelihood).item() / SIDE**2

    scale = (decoded - images(3)).abs().mean().item()
    assert parts["divergence"].item() == pytest.approx(nats.item(), rel=1e-4)
    assert parts["reconstruction"].item() == pytest.approx(255 * scale, rel=1e-4)
    assert loss.item() == pytest.approx(negative_bound(scale), rel=1e-4)
    assert all(negative_bound(scale * other) > negative_bound(scale) for other in (0.9, 1.1))


def test_noise_comes_from_the_generator_alone():
    state = torch.random.get_rng_state()
    assert torch.equal(bound(seed=1)[0], bound(seed=1)[0])
    assert not torch.equal(bound(seed=1)[0], bound(seed=2)[0])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_every_weight_is_trained():
    loss, _ = bound()
    small().zero_grad()
    loss.backward()
    assert all((weight.grad != 0).any() for weight in small().parameters())


def test_the_encoder_tells_the_posterior_with_its_real_scale(trained):
    directory, _ = trained
    radiographs = Blobs().of("test")
    mean, log_scale = load_encoder(directory)(radiographs)
    with torch.no_grad():
        posterior = saved(directory).encode(2 * radiographs - 1).latent_dist
    draws = torch.stack([posterior.sample(torch.Generator().manual_seed(seed)) for seed in range(400)]).flatten(2)
    assert mean.shape == log_scale.shape == (len(radiographs), 2 * 8 * 8)
    assert mean.dtype == log_scale.dtype == torch.float32
    assert mean.requires_grad is log_scale.requires_grad is False
    standard_error = log_scale.exp() / 400**0.5
    assert ((draws.mean(dim=0) - mean) / standard_error).square().mean().item() == pytest.approx(1, abs=0.1)
    assert (draws.std(dim=0) / log_scale.exp()).mean().item() == pytest.approx(1, abs=0.01)
    assert log_scale.std() > 0.05, "not one scale for all"
    prior = torch.zeros(1, mean.shape[1]), torch.zeros(1, mean.shape[1])
    assert torch.allclose(divergence((mean, log_scale), prior)[:, 0], posterior.kl().double(), rtol=1e-4)


def test_an_image_does_not_depend_on_its_batch(trained):
    encoder = load_encoder(trained[0])
    together = encoder(images(70))
    alone = [encoder(one[None]) for one in images(70)]
    for place in (0, 1):
        assert torch.allclose(together[place], torch.cat([one[place] for one in alone]), atol=1e-5)
    assert encoder(images(0))[0].shape == (0, 128)


def test_minimality_prefers_the_exact_counterfactual_to_another_patient(trained):
    encoder, source = load_encoder(trained[0]), Blobs()
    radiographs, own = (
        source.of("train"),
        SCHEMA["sex"].encode([source.table["sex"][row] for row in source.rows("train")]),
    )
    rng = np.random.default_rng(0)
    others = torch.stack([radiographs[rng.choice(np.flatnonzero(own != sex))] for sex in own])
    exact, other = (
        minimality(encoder(radiographs), encoder(changed), own, 1 - own).mean()
        for changed in (source.of("train", other_sex=True), others)
    )
    assert exact < other - 0.2


def test_what_training_did_not_save_is_refused(tmp_path, trained):
    copy = shutil.copytree(trained[0], tmp_path / "copy")
    (copy / WEIGHTS).unlink()
    with pytest.raises(InputError, match=rf"not a saved autoencoder \(no {WEIGHTS}\)"):
        load_encoder(copy)


def test_bad_input_is_refused_by_name(tmp_path, trained):
    encoder = load_encoder(trained[0])
    with pytest.raises(InputError, match=r"images: unexpected shape \(2, 1, 32, 32\); this encoder takes \[n, 1, 16"):
        encoder(images(2, side=32))
    with pytest.raises(InputError, match=r"images: values span 0 to 255; expected \[0, 1\]"):
        encoder(torch.tensor([0.0, 255.0]).repeat(128).view(1, 1, 16, 16))
    with pytest.raises(InputError, match="resolution: 18 is not allowed; give a multiple of 4"):
        train_autoencoder(Blobs(), settings(tmp_path / "run"), 18)
    with pytest.raises(InputError, match=r"block_out_channels: \[8, 12\] is not allowed; give multiples of 8 alone"):
        train_autoencoder(Blobs(), settings(tmp_path / "run"), 16, (8, 12))
    for channels in ((), (8,)):
        with pytest.raises(InputError, match=r"block_out_channels: \[8?\] is not allowed; give two or more numbers"):
            train_autoencoder(Blobs(), settings(tmp_path / "run"), 16, channels)
    for channels in (0, -1):
        with pytest.raises(InputError, match=rf"latent_channels: {channels} is not allowed; give a whole number from"):
            train_autoencoder(Blobs(), settings(tmp_path / "run"), 16, CHANNELS, channels)
    with pytest.raises(InputError, match="no image in split 'train'"):
        train_autoencoder(Blobs(splits=("test",)), settings(tmp_path / "run"), 16)
    assert not (tmp_path / "run").exists()
