"""The solver is reversible whatever the velocity is, and converges to the ODE's solution."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.diffusion.solver import BASES, FULL_MIXING, LARGEST_GROWTH, ReversibleFlowScheduler, integrate
from synthfair_hf.errors import InputError


def wild(latents: torch.Tensor, level: float) -> torch.Tensor:
    """A velocity that is neither linear nor smooth in time."""
    return torch.sin(3 * latents) + torch.roll(latents, 1, dims=-1) * math.cos(20 * level) + (level > 0.5)


@given(
    steps=st.integers(1, 30),
    shift=st.floats(0.3, 4),
    mixing=st.floats(0.9, 1),
    base=st.sampled_from(sorted(BASES)),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_prediction_undoes_abduction_at_any_step_count(steps, shift, mixing, base, seed):
    scheduler = ReversibleFlowScheduler(shift=shift, mixing=mixing, base=base)
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


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize("steps", [2, 10, 24, 25, 100, 240])
@pytest.mark.parametrize("base", sorted(BASES))
def test_composition_is_exact_after_ten_cycles_at_any_step_count(base, steps, side):
    scheduler = ReversibleFlowScheduler(base=base)
    image = 2 * torch.rand(1, 1, 1, side, side, generator=torch.Generator().manual_seed(0)) - 1
    found = image
    for _ in range(10 if steps <= 100 else 1):
        pair = found.repeat(1, 2, 1, 1, 1)
        found = scheduler.predict(wild, scheduler.abduct(wild, pair, steps), steps).mean(dim=1, keepdim=True)
    assert (found - image).abs().mean().item() * 127.5 < 0.05


@pytest.mark.parametrize("base", sorted(BASES))
def test_more_steps_never_part_the_states_of_an_abduction(base):
    """At a fixed mixing of .9, 240 steps part them by 10^11 times the rounding."""
    scheduler = ReversibleFlowScheduler(base=base)
    image = 2 * torch.rand(1, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) - 1
    apart = []
    for steps in (24, 60, 120, 240, 480):
        y, z = scheduler.abduct(lambda x, s: torch.sin(3 * x) + s, image.repeat(1, 2, 1, 1, 1), steps).unbind(dim=1)
        apart.append((y - z).abs().mean().item() * 127.5)
    assert all(more < max(less, 0.05) for less, more in pairwise(apart)), "but for rounding"


@pytest.mark.parametrize("steps", [1, 2, 6, 10, FULL_MIXING])
def test_few_steps_mix_as_saved_generators_do(steps):
    assert ReversibleFlowScheduler(mixing=0.9).mixing_of(steps) == 0.9


@given(steps=st.integers(FULL_MIXING, 10_000), mixing=st.floats(0.7, 1))
@settings(max_examples=40, deadline=None)
def test_all_steps_together_mix_alike(steps, mixing):
    assert ReversibleFlowScheduler(mixing=mixing).mixing_of(steps) ** steps == pytest.approx(mixing**FULL_MIXING)


@pytest.mark.parametrize(("mixing", "steps"), [(0.5, 24), (0.5, 10_000), (0.2, 6), (1e-300, 2)])
def test_a_mixing_that_diverges_is_refused_with_what_does_not(mixing, steps):
    with pytest.raises(InputError, match=r"num_inference_steps: \d+ diverge .* give 0\.\d+ to 1 as mixing") as told:
        ReversibleFlowScheduler(mixing=mixing).mixing_of(steps)
    least = float(str(told.value).split("give ")[1].split(" ")[0])
    assert ReversibleFlowScheduler(mixing=least).mixing_of(steps) >= least
    assert least ** -min(steps, FULL_MIXING) <= LARGEST_GROWTH


def test_few_steps_allow_more_mixing():
    assert ReversibleFlowScheduler(mixing=0.5).mixing_of(10) == 0.5


@pytest.mark.parametrize(
    ("base", "mixing", "order", "steps"),
    [
        ("euler", 1.0, 2, (10, 20, 40)),
        ("euler", 0.9, 1, (160, 320, 640)),
        ("midpoint", 1.0, 2, (80, 160, 320)),
        ("midpoint", 0.9, 2, (80, 160, 320)),
    ],
)
@pytest.mark.parametrize(
    ("velocity", "truth"),
    [(lambda x, s: -x, math.e), (lambda x, s: 3 * x, math.exp(-3)), (lambda x, s: x + 2 * s, 5 / math.e - 2)],
)
def test_mean_of_the_pair_converges_to_the_known_solution(base, mixing, order, steps, velocity, truth):
    """dx/ds = v has a closed form from x(1) = 1 to x(0); halving the step divides the error by 2 ** order."""
    scheduler = ReversibleFlowScheduler(mixing=mixing, base=base)
    start = torch.ones(1, 2, 1, 1, 1, dtype=torch.float64)
    errors = [abs(scheduler.predict(velocity, start, count).mean().item() - truth) for count in steps]
    for coarse, fine in pairwise(errors):
        assert fine < coarse / (0.85 * 2**order)


@pytest.mark.parametrize(("base", "order"), [("euler", 1), ("midpoint", 2)])
def test_a_base_method_alone_converges_down_and_up_and_is_not_reversible(base, order):
    """dx/ds = 3 x from x(1) = 1: x(0) = e^-3, and the way up from there ends at 1."""
    start, errors = torch.ones(1, 1, 1, 1, dtype=torch.float64), []
    for count in (80, 160, 320):
        levels = ReversibleFlowScheduler().levels(count)
        down = integrate(base, lambda x, s: 3 * x, start, levels)
        up = integrate(base, lambda x, s: 3 * x, torch.full_like(start, math.exp(-3)), levels[::-1])
        errors.append((abs(down.item() - math.exp(-3)), abs(up.item() - 1)))
        assert integrate(base, lambda x, s: 3 * x, down, levels[::-1]).item() != pytest.approx(1, abs=1e-9)
    for coarse, fine in pairwise(errors):
        assert all(one < other / (0.85 * 2**order) for one, other in zip(fine, coarse, strict=True))


def test_midpoint_steps_leave_the_pair_nearer_together_than_twice_as_many_euler_steps():
    """What an image cannot keep of a counterfactual is the difference of the two states."""
    start = torch.randn(1, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(1, 2, 1, 1, 1)
    apart = {}
    for base, steps in (("euler", 24), ("midpoint", 12)):
        scheduler = ReversibleFlowScheduler(base=base)
        y, z = scheduler.predict(lambda x, s: torch.sin(3 * x) + x, start, steps).unbind(dim=1)
        apart[base] = (y - z).abs().mean().item()
    assert apart["midpoint"] < 0.5 * apart["euler"]


def test_levels_run_from_one_to_zero():
    levels = ReversibleFlowScheduler(shift=3.0).levels(10)
    assert levels[0] == 1
    assert levels[-1] == 0
    assert all(one > other for one, other in pairwise(levels))


@pytest.mark.parametrize("setting", [{"mixing": 0.0}, {"mixing": 1.1}, {"shift": 0.0}, {"base": "heun"}])
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        ReversibleFlowScheduler(**setting)
