"""Pairs of images and noise: what belongs together, and that it is what the generator itself makes of the noise."""

import pytest
import torch

from synthfair_hf.diffusion.guidance import conditional_velocity
from synthfair_hf.diffusion.latents import to_images
from synthfair_hf.diffusion.objective import NOISE
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.reflow import KINDS, PairedExamples
from synthfair_hf.diffusion.solver import integrate
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.training.examples import StepSampler, TrainingExamples

SIDE, SUBJECTS, IMAGES, STEPS = 16, 60, 6, 40


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, save_phantom_generator):
    directory = tmp_path_factory.mktemp("generators") / "tiny"
    return CausalDiffusionPipeline.load(save_phantom_generator(directory, SIDE, SUBJECTS))


@pytest.fixture(scope="module")
def examples():
    return TrainingExamples(PhantomSource(SUBJECTS, 0), "train", SIDE, seed=3)


@pytest.fixture(scope="module")
def paired(examples, pipeline):
    return PairedExamples(examples, pipeline, IMAGES, STEPS)


def columns(paired, kind):
    """The pairs of one kind, as a batch."""
    rows = [paired[len(KINDS) * image + KINDS.index(kind), 99] for image in range(IMAGES)]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def drawn(pipeline, batch, noise):
    with torch.no_grad():
        velocity = conditional_velocity(pipeline.unet, pipeline.covariate_encoder(batch))
        latents = integrate("midpoint", velocity, noise, pipeline.scheduler.levels(STEPS))
    return to_images(latents, pipeline.config.space_to_depth)


def changed(one, other, name):
    same = one[name] == other[name]
    return ~(same | (one[name].isnan() & other[name].isnan())) if one[name].is_floating_point() else ~same


def test_images_are_those_that_training_sees_first(paired, examples):
    assert len(paired) == 3 * IMAGES
    batch = columns(paired, "image")
    first = next(iter(StepSampler(len(examples), IMAGES, seed=3, start=0, stop=9, rank=0, ranks=1)))
    for row, key in enumerate(first):
        for name, value in examples[key].items():
            assert torch.equal(batch[name][row], value)


def test_the_noise_of_an_image_makes_it_again(paired, pipeline):
    batch = columns(paired, "image")
    again = drawn(pipeline, batch, batch[NOISE])
    other = drawn(pipeline, batch, batch[NOISE].flip(0))
    assert (again - batch["image"]).abs().mean() < 0.02 * (other - batch["image"]).abs().mean()


def test_a_counterfactual_shares_its_noise_and_differs_in_one_covariate_at_most(paired, pipeline):
    own, other = columns(paired, "image"), columns(paired, "counterfactual")
    assert torch.equal(own[NOISE], other[NOISE])
    differs = torch.stack([changed(own, other, name) for name in pipeline.covariates.names], dim=1)
    assert (differs.sum(dim=1) <= 1).all()
    assert differs.any()
    expected = drawn(pipeline, other, other[NOISE]).clamp(0, 1)
    assert torch.allclose(other["image"], expected, atol=1e-4)


def test_a_sample_is_drawn_from_the_prior_under_the_images_covariates(paired, pipeline):
    own, sample = columns(paired, "image"), columns(paired, "sample")
    assert not any(changed(own, sample, name).any() for name in pipeline.covariates.names)
    assert sample[NOISE].std() == pytest.approx(1, abs=0.1)
    assert torch.allclose(sample["image"], drawn(pipeline, sample, sample[NOISE]).clamp(0, 1), atol=1e-4)


def test_pairs_repeat_and_their_noise_does_not_depend_on_the_batch(paired, pipeline, examples, monkeypatch):
    monkeypatch.setattr("synthfair_hf.diffusion.reflow.BATCH", 4)
    again = PairedExamples(examples, pipeline, IMAGES, STEPS)
    for row in range(len(paired)):
        for name, value in paired[row, 0].items():
            assert torch.allclose(again[row, 7][name], value, atol=1e-4, equal_nan=True), (row, name)
