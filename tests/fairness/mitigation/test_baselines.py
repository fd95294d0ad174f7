"""Baselines without synthetic rows are their equations, re-derived in another way."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.classifier import Batch, new_classifier, unit_range
from synthfair_hf.fairness.mitigation import METHODS
from synthfair_hf.fairness.mitigation.cvar_dro import conditional_value_at_risk
from synthfair_hf.fairness.mitigation.equalized_odds_postprocessing import equalized_odds_mixtures, uniform_of
from synthfair_hf.fairness.mitigation.lff import relative_difficulty
from synthfair_hf.fairness.mitigation.lisa import partners_of
from synthfair_hf.fairness.mitigation.mixup import mixed_loss

SEEDS = st.integers(0, 10_000)


def batch_of(examples):
    return Batch(unit_range(examples.images), None, examples, torch.ones(len(examples)), 0.5)


@pytest.fixture(scope="module")
def rows(make_toy):
    return make_toy(64, 0.8, 0), make_toy(64, 0.8, 1, prefix="v")


def scores(method, rows):
    return method.fit(*rows, 3).predict_proba(rows[1].images)


@pytest.mark.parametrize(
    ("name", "changes", "tolerance"),
    [("cvar_dro", {"alpha": 1.0}, 1e-4), ("focal", {"gamma": 0.0}, 1e-6), ("sam", {"radius": 1e-9}, 3e-3)],
)
def test_at_one_end_of_its_setting_a_method_is_empirical_risk_minimisation(name, changes, tolerance, rows, small):
    # AdamW enlarges differences of rounding where gradients are near 0
    plain = scores(METHODS["erm"](**small), rows)
    np.testing.assert_allclose(scores(METHODS[name](**small, **changes), rows), plain, atol=tolerance)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 6), st.integers(1, 6))
def test_the_value_at_risk_is_the_worst_mean_of_so_many_rows(seed, worst, more):
    losses = torch.from_numpy(np.random.default_rng(seed).exponential(size=worst + more)).float()
    found = conditional_value_at_risk(losses, worst / len(losses)).item()
    assert found == pytest.approx(max(np.mean(one) for one in combinations(losses.tolist(), worst)), rel=1e-4)


@settings(deadline=None)
@given(SEEDS, st.floats(0.05, 1))
def test_the_value_at_risk_is_its_dual(seed, alpha):
    """Its dual is min over eta of eta + mean (l - eta)+ / alpha (Rockafellar and Uryasev 2000), at one of the l."""
    losses = torch.from_numpy(np.random.default_rng(seed).exponential(size=30)).double()
    dual = min((eta + (losses - eta).clamp(min=0).mean() / alpha).item() for eta in losses)
    assert conditional_value_at_risk(losses, max(alpha, 1 / 30)).item() == pytest.approx(dual, rel=1e-6)


@settings(deadline=None)
@given(SEEDS)
def test_partners_have_one_in_common_and_differ_in_the_other(seed):
    rng = np.random.default_rng(seed)
    same, other = (torch.from_numpy(rng.integers(0, 3, 20)) for _ in range(2))
    partners = partners_of(same, other, rng)
    for row, partner in enumerate(partners.tolist()):
        possible = [one for one in range(20) if same[one] == same[row] and other[one] != other[row]]
        assert partner in (possible or [row])


def test_the_loss_of_mixed_rows_is_the_mix_of_both_losses(rows, small):
    batch = batch_of(rows[0])
    classifier = new_classifier(rows[0], METHODS["erm"](**small).settings, 0)
    partners = torch.from_numpy(np.random.default_rng(0).permutation(64))
    logits, labels = classifier(0.3 * batch.images + 0.7 * batch.images[partners]), rows[0].labels.float()
    first, second = (functional.binary_cross_entropy_with_logits(logits, one) for one in (labels, labels[partners]))
    torch.testing.assert_close(mixed_loss(classifier, batch, partners, 0.3), 0.3 * first + 0.7 * second)
    own = functional.binary_cross_entropy_with_logits(classifier(batch.images), labels)
    torch.testing.assert_close(mixed_loss(classifier, batch, partners, 1.0), own)


def test_selective_mixup_with_one_group_leaves_rows_as_they_are_within_labels(make_toy, small):
    alone = tuple(make_toy(64, 0.9, seed, groups=(1,), prefix=p) for seed, p in ((0, "s"), (1, "v")))
    plain = scores(METHODS["erm"](**small), alone)
    found = scores(METHODS["lisa"](attribute="corner", intra_label=1.0, **small), alone)
    np.testing.assert_allclose(found, plain, atol=1e-3)


def test_gradients_of_both_classifiers_that_learn_from_failure(rows, small):
    method = METHODS["lff"](**small)
    classifier = method.learn(*rows, 0, None)
    batch, labels = batch_of(rows[0]), rows[0].labels.float()
    errors = [
        functional.binary_cross_entropy_with_logits(one(batch.images), labels, reduction="none")
        for one in (method.biased, classifier)
    ]
    weights = relative_difficulty(*errors)
    assert not weights.requires_grad
    assert ((weights > 0) & (weights < 1)).all()
    for network, error, factor in (
        (classifier, errors[1], weights),
        (method.biased, errors[0], (-errors[0]).exp().detach() ** method.settings.amplification),
    ):
        parameters = list(network.parameters())
        expected = torch.autograd.grad((factor * error).mean(), parameters)
        found = torch.autograd.grad(method.loss(classifier, batch), parameters)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_the_gradient_of_a_sharpness_aware_step_is_that_uphill():
    """Of |theta|^2 a (a per entry): at theta + rho g / |g| the gradient is 2 a (theta + rho g / |g|), g = 2 a theta."""
    theta, a = nn.Parameter(torch.tensor([1.0, -2.0, 0.5])), torch.tensor([1.0, 3.0, 0.2])
    optimizer, start = torch.optim.SGD([theta], lr=0.1), theta.detach().clone()

    def gradients():
        optimizer.zero_grad()
        (a * theta.square()).sum().backward()

    METHODS["sam"](radius=0.3).update(optimizer, gradients)
    slope = 2 * a * start
    expected = start - 0.1 * 2 * a * (start + 0.3 * slope / slope.norm())
    torch.testing.assert_close(theta.detach(), expected)


def test_the_last_layer_is_the_mean_of_the_heads_of_the_groups(rows, small):
    method = METHODS["domain_independent"](attribute="corner", **small)
    classifier, batch = method.learn(*rows, 0, None), batch_of(rows[0])
    offsets = (method.offsets - method.offsets.mean(dim=0)).detach()
    assert offsets.abs().max() > 0
    layer = torch.cat([classifier.head.weight[0], classifier.head.bias]).detach()
    features = torch.cat([classifier.embed(batch.images).detach(), torch.ones(64, 1)], dim=1)
    heads = layer + offsets
    torch.testing.assert_close((features @ heads.T).mean(dim=1), classifier(batch.images).detach())
    logits = (features * heads[rows[0].groups["corner"]]).sum(dim=1)
    expected = functional.binary_cross_entropy_with_logits(logits, rows[0].labels.float())
    torch.testing.assert_close(method.loss(classifier, batch).detach(), expected)


@settings(deadline=None)
@given(SEEDS, st.floats(-2, 2))
def test_mixtures_of_thresholds_have_equal_error_rates_and_err_least(seed, offset):
    rng = np.random.default_rng(seed)
    groups, present = np.repeat([0, 1], 30), np.tile([True, False, False], 20)
    logits = rng.normal(size=60) + 1.5 * present * (1 + groups) + offset * groups
    mixtures = equalized_odds_mixtures(logits, present, groups)

    def rate(group, label, thresholds, shares):
        own = logits[(groups == group) & (present == label)]
        return ((own[:, None] > thresholds).mean(axis=0) * shares).sum()

    rates = np.array([[rate(group, label, *mixtures[group]) for label in (False, True)] for group in (0, 1)])
    np.testing.assert_allclose(rates[0], rates[1], atol=1e-6)
    assert all(shares.sum() == pytest.approx(1) for _, shares in mixtures.values())
    error = (1 - present.mean()) * rates[0, 0] + present.mean() * (1 - rates[0, 1])
    # the constant predictors, and every pair of thresholds with equal rates, are no better
    assert error <= min(present.mean(), 1 - present.mean()) + 1e-6
    for first in np.unique(logits[groups == 0]):
        for second in np.unique(logits[groups == 1]):
            f, t = ([rate(g, label, np.array([cut]), 1) for g, cut in ((0, first), (1, second))] for label in (0, 1))
            if f[0] == f[1] and t[0] == t[1]:
                assert error <= (1 - present.mean()) * f[0] + present.mean() * (1 - t[0]) + 1e-6


def test_an_image_has_one_threshold_whatever_is_beside_it(rows, small):
    train, validation = rows
    method = METHODS["equalized_odds_postprocessing"](attribute="corner", **small).fit(train, validation, 0)
    scores = method.predict_proba(validation.images, validation.groups)
    order = np.random.default_rng(0).permutation(64)
    other = validation.select(order)
    np.testing.assert_allclose(method.predict_proba(other.images, other.groups), scores[order], atol=1e-6)
    numbers = np.array([uniform_of(one) for one in train.images])
    assert 0.3 < numbers.mean() < 0.7
    assert len(set(numbers)) == 64
    lonely = validation.select((validation.labels == 1) | (validation.groups["corner"] == 1))
    with pytest.raises(InputError, match=r"no row without the finding in groups \[0\] of corner; .* negative rate"):
        METHODS["equalized_odds_postprocessing"](attribute="corner", **small).fit(train, lonely, 0)
