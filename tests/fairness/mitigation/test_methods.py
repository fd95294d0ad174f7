"""Each method is its equation, re-derived in another way."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.classifier import Batch, LabelledImages, new_classifier, unit_range
from synthfair_hf.fairness.mitigation.balanced_synthetic import BalancedSynthetic, balanced_sample
from synthfair_hf.fairness.mitigation.counterfactual_augmentation import PairConsistency, with_partners
from synthfair_hf.fairness.mitigation.domain_adversarial import DomainAdversarial, reverse
from synthfair_hf.fairness.mitigation.group_dro import GroupDRO, ascend
from synthfair_hf.fairness.mitigation.jtt import JustTrainTwice
from synthfair_hf.fairness.mitigation.last_layer_retraining import LastLayerRetraining
from synthfair_hf.fairness.mitigation.method import Method
from synthfair_hf.fairness.mitigation.resampling import balanced_rows
from synthfair_hf.fairness.mitigation.reweighting import balancing_weights
from synthfair_hf.fairness.mitigation.threshold_postprocessing import (
    ThresholdPostprocessing,
    equal_rate_thresholds,
    threshold_for_rate,
)

CELLS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=60)


def columns(cells):
    return tuple(torch.tensor(column) for column in zip(*cells, strict=True))


def batch_of(examples, progress=0.5):
    return Batch(unit_range(examples.images), None, examples, torch.ones(len(examples)), progress)


@pytest.fixture(scope="module")
def rows(make_toy):
    return make_toy(64, 0.8, 0), make_toy(64, 0.8, 1, prefix="v")


@settings(deadline=None)
@given(CELLS)
def test_weights_have_mean_one_keep_labels_and_balance_groups(cells):
    labels, groups = columns(cells)
    weights = balancing_weights(labels, groups)
    assert weights.mean().item() == pytest.approx(1)
    sums: dict[tuple[int, int], float] = Counter()
    for (label, group), weight in zip(cells, weights.tolist(), strict=True):
        sums[label, group] += weight
    for label in set(labels.tolist()):
        shares = [total for (one, _), total in sums.items() if one == label]
        assert sum(shares) == pytest.approx(labels.tolist().count(label))
        assert max(shares) == pytest.approx(min(shares))


@settings(deadline=None)
@given(CELLS, st.integers(0, 9))
def test_resampled_rows_are_balanced_and_each_row_of_a_cell_is_visited_as_often(cells, seed):
    labels, groups = columns(cells)
    chosen = balanced_rows(labels, groups, torch.Generator().manual_seed(seed))
    assert labels[chosen].bincount(minlength=2).tolist() == labels.bincount(minlength=2).tolist()
    visits = Counter(chosen.tolist())
    in_cell = Counter(cells[place] for place in chosen.tolist())
    for label in set(labels.tolist()):
        found = [in_cell[cell] for cell in set(cells) if cell[0] == label]
        assert max(found) - min(found) <= 1
    for cell in set(cells):
        times = [visits[place] for place, one in enumerate(cells) if one == cell]
        assert max(times) - min(times) <= 1


@settings(deadline=None)
@given(st.lists(st.floats(0, 5), min_size=2, max_size=6), st.floats(0.001, 1), st.integers(0, 99))
def test_ascent_stays_on_the_simplex_and_favours_the_worst_group(losses, step_size, seed):
    q = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(len(losses)))).clamp(min=1e-9)
    q = q / q.sum()
    after = ascend(q, torch.tensor(losses, dtype=torch.float64), step_size)
    assert after.sum().item() == pytest.approx(1)
    assert (after > 0).all()
    growth = after / q
    assert growth[int(np.argmax(losses))] >= growth.max() * (1 - 1e-9)
    brute = q.numpy() * np.exp(step_size * np.array(losses))
    np.testing.assert_allclose(after.numpy(), brute / brute.sum(), rtol=1e-9)


def test_group_dro_weighs_cells_by_q_inside_labels(rows, small):
    train, validation = rows
    method = GroupDRO(attribute="corner", step_size=0.5, **small)
    method.learn(train, validation, 0, None)
    torch.testing.assert_close(method.q.sum(dim=1), torch.ones(2, dtype=torch.float64))
    classifier, batch = method.optimise(train, validation, 0), batch_of(validation)
    before = method.q.clone()
    with torch.no_grad():
        found = method.loss(classifier, batch).item()
        errors = functional.binary_cross_entropy_with_logits(
            classifier(batch.images), validation.labels.float(), reduction="none"
        ).numpy()
    expected = 0.0
    for label in range(2):
        of_label = validation.labels.numpy() == label
        cells = [of_label & (validation.groups["corner"].numpy() == group) for group in range(2)]
        losses = np.array([errors[cell].mean() for cell in cells])
        q = before[label].numpy() * np.exp(0.5 * losses)
        expected += of_label.mean() * (q / q.sum() * losses).sum()
        np.testing.assert_allclose(method.q[label].numpy(), q / q.sum(), rtol=1e-5)
        # the worse cell gains
        assert (method.q[label] - before[label])[int(losses.argmax())] > 0
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_cell_that_a_batch_does_not_hold_keeps_its_q(rows, small):
    train, validation = rows
    method = GroupDRO(attribute="corner", step_size=0.5, **small)
    classifier = method.learn(train, validation, 0, None)
    before = method.q.clone()
    bright = validation.select(validation.groups["corner"] == 1)
    method.loss(classifier, batch_of(bright))
    torch.testing.assert_close(method.q, before)


def test_jtt_upweights_exactly_the_mistakes_of_the_first_classifier(rows, small):
    train, validation = rows
    method = JustTrainTwice(first_steps=2, upweight=7, **small).fit(train, validation, 2)
    first = Method(**{**small, "steps": 2}).fit(train, validation, 2)
    wrong = (first.predict_proba(train.images) > 0.5) != (train.labels.numpy() == 1)
    assert 0 < wrong.sum() < len(train)
    assert method.sample_weights(train).tolist() == [7.0 if mistake else 1.0 for mistake in wrong]


def test_jtt_without_an_upweight_is_plain_risk_minimisation(rows, small):
    plain, method = Method(**small).fit(*rows, 2), JustTrainTwice(upweight=1, **small).fit(*rows, 2)
    assert torch.equal(plain.classifier.logits(rows[1].images), method.classifier.logits(rows[1].images))


def test_last_layer_retraining_changes_the_head_alone_and_minimises_its_objective(rows, small):
    train, validation = rows
    plain = Method(**small).fit(train, validation, 2).classifier
    method = LastLayerRetraining(attribute="corner", inverse_penalty=0.5, **small).fit(train, validation, 2)
    head = method.classifier.head
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, method.classifier.state_dict()[name]) != name.startswith("head."), name
    features = plain.features(validation.images).double()
    location, scale = features.mean(dim=0), features.std(dim=0)
    weights = balancing_weights(validation.labels, validation.groups["corner"])
    w = (head.weight.detach().double()[0] * scale).requires_grad_()
    b = (head.bias.detach().double()[0] + head.weight.detach().double()[0] @ location).requires_grad_()
    errors = functional.binary_cross_entropy_with_logits(
        (features - location) / scale @ w + b, validation.labels.double(), reduction="none"
    )
    (w.square().sum() / 2 + 0.5 * (weights * errors).sum()).backward()
    assert torch.cat([w.grad, b.grad[None]]).abs().max() < 1e-2


def test_the_reversed_gradient_has_the_other_sign():
    features = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    direction = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    answer = reverse(features, 0.7)
    torch.testing.assert_close(answer, features)
    (answer * direction).sum().backward()
    torch.testing.assert_close(features.grad, -0.7 * direction)


def test_the_adversary_descends_while_the_trunk_ascends(rows, small):
    train, validation = rows
    method = DomainAdversarial(attribute="corner", **small)
    classifier = method.learn(train, validation, 0, None)
    batch = batch_of(train)

    def gradients(loss):
        parameters = [*classifier.trunk.parameters(), *method.adversary.parameters()]
        found = torch.autograd.grad(loss, parameters)
        split = len(list(classifier.trunk.parameters()))
        return [torch.cat([one.flatten() for one in part]) for part in (found[:split], found[split:])]

    own = functional.binary_cross_entropy_with_logits(classifier(batch.images), train.labels.float())
    reading = functional.cross_entropy(method.adversary(classifier.embed(batch.images)), train.groups["corner"])
    whole = gradients(method.loss(classifier, batch))
    trunk, adversary = gradients(reading)
    strength = method.settings.strength * (2 / (1 + np.exp(-5)) - 1)
    own_trunk = torch.cat([one.flatten() for one in torch.autograd.grad(own, list(classifier.trunk.parameters()))])
    torch.testing.assert_close(whole[0], own_trunk - strength * trunk, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(whole[1], adversary, rtol=1e-3, atol=1e-5)


@settings(deadline=None)
@given(st.lists(st.floats(-20, 20), min_size=1, max_size=30, unique=True), st.floats(0, 1))
def test_a_threshold_has_the_rate_to_the_nearest_row(logits, rate):
    scores = np.array(logits)
    threshold = threshold_for_rate(scores, rate)
    assert abs((scores > threshold).mean() - rate) <= 0.5 / len(scores) + 1e-9
    # one half itself, wherever it has the rate
    assert threshold == 0 or int((scores > 0).sum()) != int(np.rint(rate * len(scores)))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(-3, 3))
def test_thresholds_reach_equal_true_positive_rates_on_the_sample(seed, offset):
    rng = np.random.default_rng(seed)
    groups, present = np.repeat([0, 1], 40), np.tile([True, False], 40)
    logits = rng.normal(size=80) + 2 * present + offset * groups
    thresholds = equal_rate_thresholds(logits, present, groups)
    rates = [(logits[present & (groups == group)] > thresholds[group]).mean() for group in (0, 1)]
    assert abs(rates[0] - rates[1]) <= 1 / 20 + 1e-9
    right = sum(((logits > thresholds[group]) == present)[groups == group].sum() for group in (0, 1))
    own = (logits[present] > 0).mean()
    plain = {group: threshold_for_rate(logits[present & (groups == group)], own) for group in (0, 1)}
    assert right >= sum(((logits > plain[group]) == present)[groups == group].sum() for group in (0, 1))


def test_shifted_scores_decide_by_the_thresholds_and_keep_the_order_inside_a_group(rows, small):
    train, validation = rows
    method = ThresholdPostprocessing(attribute="corner", **small).fit(train, validation, 0)
    scores = method.predict_proba(train.images, train.groups)
    logits, codes = method.classifier.logits(train.images).double().numpy(), train.groups["corner"].numpy()
    for group, threshold in method.thresholds.items():
        of_group = codes == group
        np.testing.assert_array_equal(scores[of_group] > 0.5, logits[of_group] > threshold)
        assert (np.diff(scores[of_group][np.argsort(logits[of_group])]) >= 0).all()
    with pytest.raises(InputError, match="groups: 'corner' is unknown"):
        method.predict_proba(train.images)
    with pytest.raises(InputError, match=r"\[2\] not in validation"):
        method.predict_proba(train.images, {"corner": torch.full((64,), 2)})
    with pytest.raises(InputError, match="63 values for 64 images"):
        method.predict_proba(train.images, {"corner": torch.zeros(63, dtype=torch.int64)})
    lonely = validation.select((validation.labels == 0) | (validation.groups["corner"] == 1))
    with pytest.raises(InputError, match=r"no row with the finding in groups \[0\] of corner"):
        ThresholdPostprocessing(
            attribute="corner",
            **small,
        ).fit(train, lonely, 0)


def test_a_balanced_sample_has_equal_cells_and_no_row_twice(make_toy):
    synthetic = make_toy(200, 0.6, 3)
    sample = balanced_sample(synthetic, "corner", 100, 0)
    cells = Counter(zip(sample.labels.tolist(), sample.groups["corner"].tolist(), strict=True))
    assert set(cells.values()) == {25}
    assert len(cells) == 4
    assert len(set(sample.subjects.tolist())) == 100
    assert sample.fingerprint == balanced_sample(synthetic, "corner", 100, 0).fingerprint
    assert sample.fingerprint != balanced_sample(synthetic, "corner", 100, 1).fingerprint
    with pytest.raises(InputError, match=r"synthetic: .* rows of label .* of corner; 50 are needed: lower ratio"):
        balanced_sample(synthetic, "corner", 200, 0)


def test_balanced_synthetic_is_a_fit_on_both_or_on_one_after_the_other(rows, make_toy, small):
    train, validation = rows
    synthetic = make_toy(200, 0.5, 3, prefix="y")
    sample = balanced_sample(synthetic, "corner", 32, 7)
    mixed = BalancedSynthetic(attribute="corner", ratio=0.5, **small).fit(train, validation, 7, synthetic)
    by_hand = Method(**small).fit(train.concatenate(sample), validation, 7)
    assert torch.equal(mixed.classifier.logits(train.images), by_hand.classifier.logits(train.images))
    order = BalancedSynthetic(attribute="corner", ratio=0.5, order="pretrained", **small)
    plain = Method(**small)
    start = plain.optimise(sample, validation, 7)
    tuned = plain.optimise(train, validation, 7, start=start)
    found = order.fit(train, validation, 7, synthetic).classifier
    assert torch.equal(found.logits(train.images), tuned.logits(train.images))
    with pytest.raises(InputError, match="rows are of subjects of validation"):
        order.fit(train, validation, 7, make_toy(200, 0.5, 3, prefix="v"))


def test_partners_are_the_other_group_of_the_same_subjects_under_the_label_of_the_row(make_toy):
    train = make_toy(40, 0.9, 0)
    synthetic = make_toy(60, 0.9, 0, counterfactuals=True)
    turned = LabelledImages(train.images, 1 - train.labels, train.groups, train.levels, train.subjects, train.pairs)
    for one in (train, turned):
        both = with_partners(one, synthetic, "corner")
        assert len(both) == 80
        assert torch.equal(both.images[:40], one.images)
        counts = Counter(zip(both.subjects.tolist(), both.groups["corner"].tolist(), strict=True))
        assert set(counts.values()) == {1}
        assert set(both.subjects.tolist()) == set(one.subjects.tolist())
        labels = dict(zip(one.subjects.tolist(), one.labels.tolist(), strict=True))
        assert both.labels.tolist() == [labels[subject] for subject in both.subjects.tolist()]


def test_pairs_lie_side_by_side_and_their_logits_are_pulled_together(make_toy, small):
    both = make_toy(16, 0.9, 0, counterfactuals=True)
    method = PairConsistency(attribute="corner", weight=0.3, **small)
    order = method.rows(both, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(32))
    assert order.tolist() != list(range(32))
    assert (both.subjects[order[::2]] == both.subjects[order[1::2]]).all()
    classifier = new_classifier(both, method.settings, 0)
    with torch.no_grad():
        logits = classifier(unit_range(both.images))
        found = method.loss(classifier, batch_of(both)).item()
        plain = Method(**small).loss(classifier, batch_of(both)).item()
    gap = ((logits[::2] - logits[1::2]) ** 2).mean().item()
    assert gap > 0
    assert found == pytest.approx(plain + 0.3 * gap, rel=1e-5)
