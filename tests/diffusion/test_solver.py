"""The solver is reversible whatever the velocity is, and converges to the ODE's solution."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.diffusion.solver import ReversibleFlowScheduler


def wild(latents: torch.Tensor, level: float) -> torch.Tensor:
    """A velocity that is neither linear nor smooth in time."""
    return torch.sin(3 * latents) + torch.roll(latents, 1, dims=-1) * math.cos(20 * level) + (level > 0.5)


@given(steps=st.integers(1, 30), shift=st.floats(0.3, 4), mixing=st.floats(0.9, 1), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_prediction_undoes_abduction_at_any_step_count(steps, shift, mixing, seed):
    scheduler = ReversibleFlowScheduler(shift=shift, mixing=mixing)
    pair = torch.randn(2, 2, 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = scheduler.abduct(wild, pair, steps)
    assert torch.allclose(scheduler.predict(wild, noise, steps), pair, atol=1e-9)
    image = scheduler.predict(wild, pair, steps)
    assert torch.allclose(scheduler.abduct(wild, image, steps), pair, atol=1e-9)


def test_float32_rounding_stays_small_on_the_255_scale():
    scheduler = ReversibleFlowScheduler()
    image = torch.rand(8, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(1, 2, 1, 1, 1)
    again = scheduler.predict(wild, scheduler.abduct(wild, image, 20), 20)
    assert (again - image).abs().mean().item() * 255 < 1e-3


@pytest.mark.parametrize("mixing", [1.0, 0.95])
def test_mean_of_the_pair_converges_to_the_known_solution(mixing):
    """dx/ds = -x has x(0) = e x(1); the error falls at least as fast as the step."""
    scheduler = ReversibleFlowScheduler(mixing=mixing)
    start = torch.ones(1, 2, 1, 1, 1, dtype=torch.float64)
    errors = [abs(scheduler.predict(lambda x, s: -x, start, steps).mean().item() - math.e) for steps in (10, 20, 40)]
    assert errors[1] < errors[0] / 1.8
    assert errors[2] < errors[1] / 1.8


def test_levels_run_from_one_to_zero():
    levels = ReversibleFlowScheduler(shift=3.0).levels(10)
    assert levels[0] == 1
    assert levels[-1] == 0
    assert all(one > other for one, other in zip(levels[:-1], levels[1:], strict=True))


@pytest.mark.parametrize("setting", [{"mixing": 0.0}, {"mixing": 1.1}, {"shift": 0.0}])
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        ReversibleFlowScheduler(**setting)
