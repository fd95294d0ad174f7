"""Diffusion-DPO against its equations: identities, brute force with two networks, and the loss that descends."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.align.dpo import (
    ERROR_WEIGHTS,
    LOSSES,
    WEIGHT,
    DPOObjective,
    WeightedExamples,
    implicit_accuracy,
    preference_logit,
    subgroup_weights,
)
from synthfair_hf.align.lora import adapter_parameters, add_lora
from synthfair_hf.diffusion.conditioning import CovariateEncoder
from synthfair_hf.diffusion.denoiser import build_unet, predict_velocity
from synthfair_hf.diffusion.latents import to_latents
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.errors import InputError

PAIRS = 5
SCHEMA = PHANTOM.covariates.subset(("sex", "finding"))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def networks():
    torch.manual_seed(0)
    encoder = CovariateEncoder(SCHEMA.model_dump(mode="json")["variables"], 16)
    return build_unet((32, 32), 4, 8, 16).eval(), encoder.eval()


def moved(unet, scale=0.05):
    """The network with adapters that are no longer nothing."""
    add_lora(unet, 4, 4, 0)
    with torch.no_grad():
        for parameter in adapter_parameters(unet):
            parameter.add_(scale * torch.randn(parameter.shape, generator=seeded(2)))
    return unet


@pytest.fixture
def batch():
    draw = seeded(1)
    return {
        "preferred": torch.rand(PAIRS, 1, 16, 16, generator=draw),
        "rejected": torch.rand(PAIRS, 1, 16, 16, generator=draw),
        "sex": torch.tensor([0, 1, 1, 0, -1]),
        "finding": torch.tensor([0, 1, 2, 2, 0]),
    }


def errors(*values):
    return tuple(torch.tensor(value, dtype=torch.float64) for value in values)


numbers = st.lists(st.floats(0, 10), min_size=3, max_size=3)


@given(preferred=numbers, rejected=numbers, beta=st.floats(1e-3, 1e4))
def test_policy_that_is_the_reference_has_the_stated_loss_for_any_beta(preferred, rejected, beta):
    preferred, rejected = errors(preferred, rejected)
    logits = preference_logit(preferred, rejected, preferred, rejected, beta)
    assert torch.equal(logits, torch.zeros(3, dtype=torch.float64))
    for name, expected in {"sigmoid": math.log(2), "ipo": 0.25, "hinge": 1.0}.items():
        assert LOSSES[name](logits).tolist() == pytest.approx([expected] * 3)
    assert implicit_accuracy(logits).tolist() == [0.5] * 3


@given(values=st.lists(numbers, min_size=4, max_size=4), beta=st.floats(1e-3, 1e3))
def test_swapping_the_pair_flips_the_sign_and_beta_scales(values, beta):
    policy_w, policy_l, start_w, start_l = errors(*values)
    logits = preference_logit(policy_w, policy_l, start_w, start_l, beta)
    assert torch.equal(preference_logit(policy_l, policy_w, start_l, start_w, beta), -logits)
    assert torch.allclose(preference_logit(policy_w, policy_l, start_w, start_l, 2 * beta), 2 * logits)
    assert torch.equal(implicit_accuracy(logits) + implicit_accuracy(-logits), torch.ones(3, dtype=torch.float64))


def test_losses_are_those_of_the_literature():
    logits = torch.linspace(-3, 3, 7, dtype=torch.float64)
    assert torch.allclose(LOSSES["sigmoid"](logits), -torch.log(1 / (1 + torch.exp(-logits))))
    assert LOSSES["hinge"](logits).tolist() == [4, 3, 2, 1, 0, 0, 0]
    for beta in (0.5, 500.0):
        assert torch.allclose(LOSSES["ipo"](logits), beta**2 * (logits / beta - 1 / (2 * beta)).square())
    assert torch.isfinite(LOSSES["sigmoid"](torch.tensor([-1e6, 1e6]))).all()


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), data=st.data())
def test_weights_make_the_mean_one_of_subgroup_means(sizes, data):
    rows = sum(sizes)
    losses = np.array(data.draw(st.lists(st.floats(0, 9), min_size=rows, max_size=rows)))
    order = np.random.default_rng(0).permutation(rows)
    members = np.split(order, np.cumsum(sizes)[:-1])
    weights = subgroup_weights({str(place): one for place, one in enumerate(members)}, rows)
    assert float(weights.mean()) == pytest.approx(1)
    assert float((weights.numpy() * losses).mean()) == pytest.approx(
        np.mean([losses[one].mean() for one in members]), abs=1e-5
    )


@pytest.mark.parametrize("prediction_type", list(ERROR_WEIGHTS))
def test_errors_are_those_of_two_networks_asked_one_image_at_a_time(prediction_type, batch):
    """Brute force: a copy of the network without adapters, and the error of each form written out."""
    unet, encoder = networks()
    start = deepcopy(unet)
    objective = DPOObjective(moved(unet), encoder, 2, prediction_type=prediction_type)
    noise = torch.randn(PAIRS, 4, 8, 8, generator=seeded(3))
    sigma = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    with torch.no_grad():
        found = objective.compare(batch, noise, sigma)
        tokens, distances = encoder(batch), []
        for image, columns in (("preferred", (0, 2)), ("rejected", (1, 3))):
            latents, s = to_latents(batch[image], 2), sigma[:, None, None, None]
            mixed = (1 - s) * latents + s * noise
            told = [predict_velocity(network, mixed, sigma, tokens) for network in (unet, start)]
            distances.append((told[0] - told[1]).square().mean(dim=(1, 2, 3)))
            length = (s.square() + (1 - s).square()).sqrt()
            for column, velocity in zip(columns, told, strict=True):
                alpha, level = (1 - s) / length, s / length
                epsilon = mixed + (1 - s) * velocity
                said, true = {
                    "flow_prediction": (velocity, noise - latents),
                    "epsilon": (epsilon, noise),
                    "v_prediction": ((epsilon - level * mixed / length) / alpha, alpha * noise - level * latents),
                }[prediction_type]
                expected = (said - true).square().mean(dim=(1, 2, 3))
                assert torch.allclose(found[column], expected, rtol=2e-4), (image, column)
    assert torch.allclose(found.distance, (distances[0] + distances[1]) / 2, rtol=1e-4)
    assert (found.distance > 0).all()


@torch.no_grad()
def test_the_loss_is_the_mean_of_losses_with_anchor_and_weights(batch):
    unet, encoder = networks()
    objective = DPOObjective(moved(unet), encoder, 2, beta=300, anchor=0.7)
    weight = torch.tensor([0.5, 2.0, 1.0, 1.0, 0.5])
    loss, parts = objective({**batch, WEIGHT: weight}, seeded(7))
    replay = seeded(7)
    sigma = torch.sigmoid(torch.randn(PAIRS, generator=replay))
    noise = torch.randn(PAIRS, 4, 8, 8, generator=replay)
    policy_w, policy_l, start_w, start_l, _ = objective.compare(batch, noise, sigma)
    logits = 300 * ((start_w - policy_w) - (start_l - policy_l))
    losses = torch.nn.functional.softplus(-logits)
    growth = (policy_w - start_w).relu()
    assert (growth > 0).any()
    assert float(loss) == pytest.approx(float((weight * (losses + 0.7 * 300 * growth)).mean()), rel=1e-5)
    plain, parts = objective(batch, seeded(7))
    assert float(plain) == pytest.approx(float((losses + 0.7 * 300 * growth).mean()), rel=1e-5)
    of_mean = torch.nn.functional.softplus(-logits.mean())
    assert float(parts["preference"]) > 1.001 * float(of_mean), "not -log sigmoid of the mean"
    assert float(parts["accuracy"]) == float((logits > 0).float().mean())
    assert float(parts["largest_preference"]) == pytest.approx(float(losses.max()), rel=1e-5)


def test_fresh_adapters_cost_log_two_and_gradients_reach_them_alone(batch):
    unet, encoder = networks()
    add_lora(unet, 4, 4, 0)
    objective = DPOObjective(unet, encoder, 2)
    loss, parts = objective(batch, seeded(0))
    assert float(loss.detach()) == pytest.approx(math.log(2))
    assert parts["distance"] == 0
    loss.backward()
    trained = {id(parameter) for parameter in objective.parameters()}
    assert trained == {id(parameter) for parameter in adapter_parameters(unet)}
    for parameter in (*unet.parameters(), *encoder.parameters()):
        assert (parameter.grad is not None) is (id(parameter) in trained)
    assert any(parameter.grad.abs().max() > 0 for parameter in objective.parameters())
    assert len(objective.state_dict()) == len(trained), "a checkpoint holds the adapters alone"


def test_swapped_images_swap_the_errors(batch):
    unet, encoder = networks()
    objective = DPOObjective(moved(unet), encoder, 2)
    swapped = {**batch, "preferred": batch["rejected"], "rejected": batch["preferred"]}
    noise, sigma = torch.randn(PAIRS, 4, 8, 8, generator=seeded(3)), torch.full((PAIRS,), 0.4)
    with torch.no_grad():
        one, other = (objective.compare(each, noise, sigma) for each in (batch, swapped))
    logits = [preference_logit(*found[:4], 500) for found in (one, other)]
    assert torch.allclose(logits[0], -logits[1], atol=1e-3)
    assert logits[0].abs().min() > 0.01


class Pairs(torch.utils.data.Dataset):
    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return PAIRS

    def __getitem__(self, key):
        return {name: column[key[0]] for name, column in self.batch.items()}


def test_held_out_pairs_get_the_same_noise_whenever_they_are_asked(batch):
    unet, encoder = networks()
    objective = DPOObjective(moved(unet), encoder, 2)
    whole, parts, other = (objective.held_out(Pairs(batch), seed, size) for seed, size in ((0, 5), (0, 2), (1, 5)))
    assert torch.allclose(whole[0], parts[0], atol=1e-3)
    assert torch.allclose(whole[1], parts[1], rtol=1e-4)
    assert not torch.allclose(whole[0], other[0], atol=1e-3)
    fresh, encoder = networks()
    add_lora(fresh, 4, 4, 0)
    logits, distances = DPOObjective(fresh, encoder, 2).held_out(Pairs(batch), 0, 5)
    assert torch.equal(logits, torch.zeros(PAIRS, dtype=torch.float64))
    assert torch.equal(distances, logits)


def test_weighted_examples_carry_the_weight_of_their_row(batch):
    examples = WeightedExamples(Pairs(batch), torch.arange(PAIRS) / 2)
    assert len(examples) == PAIRS
    assert examples[3, 11][WEIGHT] == 1.5
    heavy = WeightedExamples(Pairs({**batch, "weight": torch.full((PAIRS,), 80.0)}), torch.arange(PAIRS) / 2)
    assert heavy[3, 11]["weight"] == 80, "a patient's weight is a covariate"
    assert torch.equal(examples[3, 11]["preferred"], batch["preferred"][3])


@pytest.mark.parametrize("setting", [{"loss_type": "sigmoidal"}, {"prediction_type": "noise"}])
def test_unknown_forms_are_refused(setting):
    unet, encoder = networks()
    with pytest.raises(InputError, match=f"{next(iter(setting))}: .* is unknown; allowed"):
        DPOObjective(moved(unet), encoder, 2, **setting)
