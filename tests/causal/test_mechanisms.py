"""Laws of mechanisms: abduction is exact, posterior noise is a posterior, rows depend on their own generator."""

import pytest
import torch
from torch.distributions import Gumbel

from synthfair_hf.causal.mechanisms import GumbelMaxMechanism, SplineFlowMechanism, draw, encode_parents
from synthfair_hf.domains.presets import get_preset

COVARIATES = get_preset("chest_xray").covariates
ROWS = 400


def parents(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "age": torch.rand(ROWS, generator=generator) * 100,
        "sex": torch.randint(2, (ROWS,), generator=generator),
    }


def spline(causes: tuple[str, ...]) -> SplineFlowMechanism:
    torch.manual_seed(0)
    mechanism = SplineFlowMechanism(COVARIATES["age"], COVARIATES.subset(causes))
    mechanism.prepare(torch.tensor([20.0, 50.0, 80.0]))
    return mechanism


def gumbel(causes: tuple[str, ...]) -> GumbelMaxMechanism:
    torch.manual_seed(1)
    return GumbelMaxMechanism(COVARIATES["scanner"], COVARIATES.subset(causes))


@pytest.mark.parametrize("causes", [(), ("sex",)])
@pytest.mark.parametrize("seed", [0, 1, 2])
@torch.no_grad()
def test_spline_evaluates_its_inferred_noise_to_the_value(causes, seed):
    mechanism, given = spline(causes), parents(seed)
    value = torch.cat([given["age"][:-2], torch.tensor([0.0, 100.0])])
    noise = mechanism.infer_noise(value, given)
    assert torch.allclose(mechanism.evaluate(given, noise), value, atol=2e-3)


@torch.no_grad()
def test_spline_is_monotone_in_its_noise_and_stays_in_range():
    values = spline(()).evaluate({}, torch.linspace(-8, 8, 200))
    assert (values.diff() >= 0).all()
    assert values.min() >= 0
    assert values.max() <= 100


@pytest.mark.parametrize("causes", [(), ("sex",), ("age", "sex")])
@pytest.mark.parametrize("seed", [0, 1, 2])
@torch.no_grad()
def test_gumbel_evaluates_its_inferred_noise_to_the_level(causes, seed):
    mechanism, given = gumbel(causes), parents(seed)
    generator = torch.Generator().manual_seed(seed)
    level = torch.randint(3, (ROWS,), generator=generator)
    noise = mechanism.infer_noise(level, given, generator)
    assert torch.equal(mechanism.evaluate(given, noise), level)


@torch.no_grad()
def test_gumbel_posterior_averaged_over_observations_is_the_prior():
    mechanism = gumbel(())
    generator = torch.Generator().manual_seed(3)
    prior = mechanism.sample_noise(200_000, generator)
    levels = mechanism.evaluate({}, prior)
    posterior = mechanism.infer_noise(levels, {}, generator)
    euler, spread = Gumbel(0.0, 1.0).mean, Gumbel(0.0, 1.0).stddev
    assert torch.allclose(posterior.mean(0), euler.double().expand(3), atol=0.02)
    assert torch.allclose(posterior.std(0), spread.double().expand(3), atol=0.02)
    correlation = torch.corrcoef(posterior.T) - torch.eye(3, dtype=torch.float64)
    assert correlation.abs().max() < 0.02


@torch.no_grad()
def test_gumbel_posterior_matches_rejection_sampling():
    """Brute force: noise drawn from the prior and kept where it makes the observed level."""
    mechanism = gumbel(())
    generator = torch.Generator().manual_seed(4)
    prior = mechanism.sample_noise(300_000, generator)
    kept = prior[mechanism.evaluate({}, prior) == 2]
    posterior = mechanism.infer_noise(torch.full((len(kept),), 2), {}, generator)
    assert torch.allclose(posterior.mean(0), kept.mean(0), atol=0.03)
    assert torch.allclose(posterior.quantile(0.9, dim=0), kept.quantile(0.9, dim=0), atol=0.05)


@torch.no_grad()
def test_counterfactual_stability_of_gumbel_max():
    """A level whose odds rise against all others is kept (Oberst and Sontag, 2019)."""
    mechanism = gumbel(())
    generator = torch.Generator().manual_seed(5)
    level = torch.zeros(5000, dtype=torch.int64)
    noise = mechanism.infer_noise(level, {}, generator)
    mechanism.logits.bias[0] += 1.0
    assert torch.equal(mechanism.evaluate({}, noise), level)


def test_noise_of_a_row_depends_on_its_own_generator_alone():
    def generators(seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    together = draw("randn", (3, 4), generators([7, 8, 9]))
    alone = draw("randn", (1, 4), generators([8]))
    assert torch.equal(together[1:2], alone)


def test_parents_are_encoded_by_name_whatever_their_order():
    given = parents(0)
    schema = COVARIATES.subset(("sex", "age"))
    swapped = dict(reversed(list(given.items())))
    assert torch.equal(encode_parents(given, schema), encode_parents(swapped, schema))
