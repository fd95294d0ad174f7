"""Noise that spreads as it was sampled, and random weights that compose as well as trained ones."""

import pytest
import torch

from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.domains.worlds import PhantomWorld
from synthfair_hf.measure.noise import noise_spread, untrained
from synthfair_hf.measure.scoreboard import PipelineSystem
from synthfair_hf.measure.soundness import score

SIDE, SUBJECTS = 16, 60


@pytest.fixture(scope="module")
def world():
    return PhantomWorld("test", 5, 0, SUBJECTS, SIDE)


@pytest.fixture(scope="module")
def directory(tmp_path_factory, save_phantom_generator):
    return save_phantom_generator(tmp_path_factory.mktemp("generators") / "tiny", SIDE, SUBJECTS, default_steps=2)


@pytest.mark.parametrize("spread", [0.8, 1.0, 1.3])
def test_the_spread_is_that_of_the_mean_of_the_states(directory, world, monkeypatch, spread):
    pipeline = CausalDiffusionPipeline.load(directory)
    generator = torch.Generator().manual_seed(0)

    asked = []

    def abduct(velocity, pair, steps):
        asked.append(steps)
        mean = spread * torch.randn(pair[:, :1].shape, generator=generator)
        return torch.cat([mean + 3, mean - 3], dim=1)

    monkeypatch.setattr(pipeline.scheduler, "abduct", abduct)
    monkeypatch.setattr(pipeline.scheduler, "predict", lambda velocity, pair, *_, **__: 0 * pair)
    found = noise_spread(pipeline, world, 7, batch_size=2, n_bootstrap=50)
    assert found["mean"] == pytest.approx(spread, rel=0.05)
    assert found["low"] < found["mean"] < found["high"]
    assert found["n"] == 5
    assert asked == [7, 7, 7]


def test_random_weights_compose_and_share_all_but_the_network(directory, world):
    pipeline, state = CausalDiffusionPipeline.load(directory), torch.random.get_rng_state()
    before = {name: one.clone() for name, one in pipeline.unet.state_dict().items()}
    other, again = untrained(pipeline, seed=1), untrained(pipeline, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert type(other.unet) is type(pipeline.unet)
    assert other.unet.config == pipeline.unet.config
    assert other.config.default_steps == pipeline.config.default_steps == 2
    assert other.covariate_encoder is pipeline.covariate_encoder
    assert all(torch.equal(one, pipeline.unet.state_dict()[name]) for name, one in before.items())
    assert not torch.equal(other.unet.conv_in.weight, pipeline.unet.conv_in.weight)
    assert torch.equal(other.unet.conv_in.weight, again.unet.conv_in.weight)
    rows = score(PipelineSystem("random", other), world, {}, (0,), (), cycles=(1,), pairs=(), n_bootstrap=20)
    assert next(row for row in rows if row["metric"] == "composition_l1_at_1")["high"] < 0.05
