"""The mask is what the equations choose, what it leaves out keeps its bits, and the shortcut is unlearned."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.classifier import new_classifier, unit_range
from synthfair_hf.fairness.mitigation.balanced_synthetic import balanced_sample
from synthfair_hf.fairness.mitigation.method import Method
from synthfair_hf.fairness.mitigation.selective_finetuning import (
    SelectiveFinetuning,
    cell_shares,
    cell_weights,
    chosen_tensors,
    gradient_differences,
    gradients,
    three_gradients,
)


@pytest.fixture(scope="module")
def sets(make_toy):
    return make_toy(64, 0.9, 0), make_toy(64, 0.9, 1, prefix="v"), make_toy(160, 0.5, 2, prefix="y")


@pytest.fixture(scope="module")
def classifier(sets, small):
    return Method(**small).fit(*sets[:2], 0).classifier


def fit(sets, small, seed=0, **settings):
    train, validation, synthetic = sets
    return SelectiveFinetuning(attribute="corner", **{**small, **settings}).fit(train, validation, seed, synthetic)


def gradient_by_backward(classifier, examples, rows):
    """Mean gradient over some rows, another way: one backward pass each."""
    total = {name: torch.zeros_like(tensor) for name, tensor in classifier.named_parameters()}
    for row in rows:
        one = examples.select(np.array([row]))
        classifier.zero_grad()
        logits = classifier(unit_range(one.images))
        functional.softplus(logits * (1 - 2 * one.labels)).sum().backward()
        for name, tensor in classifier.named_parameters():
            total[name] += tensor.grad / len(rows)
    classifier.zero_grad(set_to_none=True)
    return total


def assert_gradients_close(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_gradient_under_cell_shares_is_the_shares_times_the_cells_mean_gradients(sets, classifier):
    synthetic = sets[2]
    shares = torch.tensor([[0.4, 0.1], [0.2, 0.3]], dtype=torch.float64)
    groups = synthetic.groups["corner"]
    weights = cell_weights(shares, synthetic.labels, groups)
    expected = {name: torch.zeros_like(tensor) for name, tensor in classifier.named_parameters()}
    for label in range(2):
        for group in range(2):
            cell = torch.nonzero((synthetic.labels == label) & (groups == group))[:, 0].tolist()
            assert weights[cell].sum().item() == pytest.approx(shares[label, group].item())
            for name, tensor in gradient_by_backward(classifier, synthetic, cell).items():
                expected[name] += shares[label, group] * tensor
    assert_gradients_close(gradients(classifier, synthetic, weights), expected)
    assert all(tensor.grad is None for tensor in classifier.parameters())


def test_gradient_differences_are_means_over_entries(sets, classifier):
    three = three_gradients(classifier, sets[0], balanced_sample(sets[2], "corner", 64, 0), "corner")
    domain, bias = gradient_differences(*three)
    assert list(domain) == list(bias) == [name for name, _ in classifier.named_parameters()]
    for name in domain:
        real, biased, balanced = (one[name].flatten().double().numpy() for one in three)
        assert domain[name] == pytest.approx(np.mean(np.abs(real - biased)), rel=1e-4)
        assert bias[name] == pytest.approx(np.mean(np.abs(biased - balanced)), rel=1e-4)


def test_gradients_do_not_depend_on_how_rows_are_batched(sets, classifier, monkeypatch):
    weights = torch.rand(64, generator=torch.Generator().manual_seed(0))
    whole = gradients(classifier, sets[0], weights)
    monkeypatch.setattr("synthfair_hf.fairness.mitigation.selective_finetuning.BATCH", 7)
    assert_gradients_close(gradients(classifier, sets[0], weights), whole)


@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.5, 1, exclude_min=True))
def test_the_mask_is_the_meeting_of_the_two_lists(seed, number, share):
    generator = torch.Generator().manual_seed(seed)
    real, biased, balanced = (
        {f"t{place}": torch.randn(place % 3 + 1, 2, generator=generator) for place in range(number)} for _ in range(3)
    )
    names = list(real)
    domain = np.array([np.abs(real[name].numpy() - biased[name].numpy()).mean() for name in names])
    bias = np.array([np.abs(biased[name].numpy() - balanced[name].numpy()).mean() for name in names])
    count = int(np.ceil(share * number))
    expected = [
        name
        for place, name in enumerate(names)
        if (domain < domain[place]).sum() < count and (bias > bias[place]).sum() < count
    ]
    assert chosen_tensors(real, biased, balanced, share) == expected
    assert expected
    assert share < 1 or expected == names


def test_the_tensors_trained_are_those_of_the_equations(sets, small):
    train, validation, synthetic = sets
    method = fit(sets, small, share=0.7)
    biased = Method(**small).fit(train, validation, 0).classifier
    sample = balanced_sample(synthetic, "corner", 64, 0)
    shares = cell_shares(biased, train, sample, "corner")
    real = gradient_by_backward(biased, train, range(64))

    def of_synthetic(table):
        total = {name: torch.zeros_like(tensor) for name, tensor in biased.named_parameters()}
        for (label, group), part in np.ndenumerate(table.numpy()):
            cell = torch.nonzero((sample.labels == label) & (sample.groups["corner"] == group))[:, 0].tolist()
            for name, tensor in gradient_by_backward(biased, sample, cell).items():
                total[name] += part * tensor
        return total

    balanced = torch.full((2, 2), 0.25, dtype=torch.float64)
    assert method.trained == chosen_tensors(real, of_synthetic(shares), of_synthetic(balanced), 0.7)
    for name, tensor in method.classifier.named_parameters():
        assert torch.equal(tensor, biased.get_parameter(name)) == (name not in method.trained), name
    assert 0 < len(method.trained) < len(real)


def test_all_tensors_is_the_plain_method_on_one_set_after_the_other(sets, small):
    train, validation, synthetic = sets
    method = fit(sets, small, selection="all")
    plain = Method(**small)
    start = plain.optimise(train, validation, 0)
    tuned = plain.optimise(balanced_sample(synthetic, "corner", 64, 0), validation, 0, start=start)
    assert torch.equal(method.classifier.logits(train.images), tuned.logits(train.images))
    assert method.trained == [name for name, _ in tuned.named_parameters()]


def test_a_random_choice_has_the_same_size_and_follows_the_seed(sets, small):
    chosen = [fit(sets, small, share=0.7).trained for _ in range(2)]
    assert chosen[0] == chosen[1]
    drawn = [fit(sets, small, share=0.7, selection="random") for _ in range(2)]
    assert drawn[0].trained == drawn[1].trained
    assert len(set(drawn[0].trained)) == len(chosen[0])
    assert drawn[0].trained != chosen[0]
    classifier = drawn[0].classifier
    for seed in (1, 2):
        size = len(fit(sets, small, seed, share=0.7).trained)
        other = fit(sets, small, seed, share=0.7, selection="random")
        assert len(other.trained) == size
        assert other.trained != drawn[0].trained
    assert [name for name, _ in classifier.named_parameters() if name in drawn[0].trained] == drawn[0].trained


def test_the_composition_of_train_is_estimated_without_its_groups(make_toy, small):
    """The features of a classifier that took the shortcut predict the group; in 90 % of 400 rows it is the label."""
    train, synthetic = make_toy(400, 0.9, 0), make_toy(200, 0.5, 3, prefix="y")
    biased = Method(**{**small, "steps": 60}).fit(train, make_toy(100, 0.9, 1, prefix="v"), 0).classifier
    sample = balanced_sample(synthetic, "corner", 160, 0)
    blind = type(train)(train.images, train.labels, {}, {}, train.subjects)
    shares = cell_shares(biased, blind, sample, "corner")
    groups = train.groups["corner"]
    truth = [[((train.labels == label) & (groups == group)).double().mean() for group in (0, 1)] for label in (0, 1)]
    torch.testing.assert_close(shares, torch.tensor(truth, dtype=torch.float64), rtol=0, atol=0.05)
    assert shares.sum().item() == pytest.approx(1)
    # predictions from the features of an untrained network are wrong more often, toward balance
    unfitted = cell_shares(new_classifier(train, Method(**small).settings, 0), blind, sample, "corner")
    assert unfitted.sum(dim=1).tolist() == pytest.approx([0.5, 0.5])
    assert unfitted.diagonal().sum() <= shares.diagonal().sum() + 0.02


def test_invalid_input_is_one_sentence(sets, small, make_toy):
    train, validation, synthetic = sets
    with pytest.raises(InputError, match=r"share: 0\.5 is invalid"):
        SelectiveFinetuning(attribute="corner", share=0.5)
    with pytest.raises(InputError, match="selection: 'best' is unknown; allowed: gradients, all, random"):
        SelectiveFinetuning(attribute="corner", selection="best")
    method = SelectiveFinetuning(attribute="corner", **{**small, "steps": 10**9})
    with pytest.raises(InputError, match="SelectiveFinetuning requires them; give them"):
        method.fit(train, validation, 0)
    with pytest.raises(InputError, match="synthetic: 64 rows are of subjects of validation"):
        method.fit(train, validation, 0, make_toy(160, 0.5, 3, prefix="v"))
    with pytest.raises(InputError, match="16 are needed: lower ratio"):
        method.fit(train, validation, 0, synthetic.select(np.arange(40)))


def test_a_planted_shortcut_is_unlearned(make_toy, small):
    """400 images of which 97 % have the corner bright where the square is; on the test half of them do (400 images)."""
    sets = make_toy(400, 0.97, 0), make_toy(200, 0.97, 100, prefix="v"), make_toy(600, 0.5, 300, prefix="y")
    test = make_toy(400, 0.5, 200, prefix="t")
    keywords = {**small, "steps": 120, "channels": (8, 8, 16)}
    cell = 2 * test.labels.numpy() + test.groups["corner"].numpy()

    def worst_group_error(method):
        wrong = (method.predict_proba(test.images) > 0.5) != (test.labels.numpy() == 1)
        return max(wrong[cell == one].mean() for one in range(4))

    plain = worst_group_error(Method(**keywords).fit(*sets[:2], 0))
    assert plain > 0.4
    assert worst_group_error(fit(sets, keywords)) < plain / 2
