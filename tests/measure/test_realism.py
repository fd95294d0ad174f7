"""Distances of sets: closed forms, identities, brute force, and torchmetrics' own implementation."""

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from synthfair_hf.errors import InputError
from synthfair_hf.measure.realism import (
    frechet_distance,
    kernel_distance,
    neighbourhood_shares,
    realism,
    realism_by_group,
)


def normal(rows, columns=4, seed=0, shift=0.0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64) * scale + shift


@pytest.mark.parametrize("rows", [3, 100])  # also with fewer rows than features
def test_frechet_distance_of_a_set_with_itself_is_nothing(rows):
    one = normal(rows, columns=8)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(one, one.flip(0)) == pytest.approx(0, abs=1e-12)


def whitened(rows, columns, seed):
    """Rows whose mean is 0 and covariance the identity, exactly."""
    rows = normal(rows, columns, seed)
    rows = rows - rows.mean(dim=0)
    return torch.linalg.qr(rows).Q * (len(rows) - 1) ** 0.5


def test_frechet_distance_of_normal_distributions_is_the_closed_form():
    """For covariances that commute: sum (m - m')^2 + (s - s')^2."""
    first, second = whitened(50, 3, 0), whitened(80, 3, 1)
    scale, other = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 2.0, 0.0])
    mean = torch.tensor([1.0, -1.0, 0.5])
    expected = (mean.square() + (scale - other).square()).sum().item()
    assert frechet_distance(first * scale, second * other + mean) == pytest.approx(expected, abs=1e-10)


def test_frechet_distance_is_symmetric_and_blind_to_rotation_and_shift():
    one, other = normal(60), normal(40, seed=1, shift=0.5, scale=2)
    turn = torch.linalg.qr(normal(4, 4, seed=2)).Q
    distance = frechet_distance(one, other)
    assert frechet_distance(other, one) == pytest.approx(distance)
    assert frechet_distance(one @ turn + 3, other @ turn + 3) == pytest.approx(distance)


def test_frechet_distance_is_torchmetrics():
    class Flat(nn.Module):
        num_features = 4

        def forward(self, images):
            return images.flatten(1)

    theirs = FrechetInceptionDistance(feature=Flat(), normalize=True).set_dtype(torch.float64)
    real, generated = normal(70), normal(50, seed=1, shift=0.3, scale=1.5)
    theirs.update(real.view(-1, 1, 2, 2), real=True)
    theirs.update(generated.view(-1, 1, 2, 2), real=False)
    assert frechet_distance(real, generated) == pytest.approx(theirs.compute().item(), rel=1e-6)


def test_kernel_distance_is_torchmetrics_and_its_interval_holds_it():
    real, generated = normal(60), normal(45, seed=1, shift=0.5)
    figure = kernel_distance(real, generated, seed=3)
    # torchmetrics' form asks for equal numbers of rows
    same = kernel_distance(real[:45], generated)["value"]
    assert same == pytest.approx(poly_mmd(real[:45], generated).item(), rel=1e-9)
    assert figure["low"] < figure["value"] < figure["high"]
    assert figure == kernel_distance(real, generated, seed=3)
    assert figure["value"] == kernel_distance(real, generated, seed=4)["value"]


def test_kernel_distance_is_the_sum_over_pairs_also_of_unequal_sets():
    real, generated = normal(7).numpy(), normal(5, seed=1).numpy()

    def kernel(x, y):
        return (x @ y / 4 + 1) ** 3

    def within(rows):
        pairs = [kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]
        return np.mean(pairs)

    expected = within(real) + within(generated) - 2 * np.mean([kernel(x, y) for x in real for y in generated])
    assert kernel_distance(torch.tensor(real), torch.tensor(generated))["value"] == pytest.approx(expected)


def test_kernel_distance_is_unbiased_and_its_interval_covers_the_truth():
    """Of one distribution with itself the truth is 0; of x with its shift the kernel's closed form in one dimension."""
    shift = 0.5
    # E (xy + 1)^3 for independent x, y with moments m: 1 + 3 m1 m1' + 3 m2 m2' + m3 m3'
    moments = [(0, 1, 0), (shift, 1 + shift**2, 3 * shift + shift**3)]
    form = [[1 + sum(c * x * y for c, x, y in zip((3, 3, 1), a, b, strict=True)) for a in moments] for b in moments]
    truth = form[0][0] + form[1][1] - 2 * form[0][1]
    inside, values = 0, []
    for seed in range(100):
        one, same, moved = (normal(60, 1, 3 * seed + k) for k in range(3))
        values.append(kernel_distance(one, same, subsets=2)["value"])
        figure = kernel_distance(one, moved + shift, seed, subsets=200)
        inside += figure["low"] <= truth <= figure["high"]
    assert abs(np.mean(values)) < 3 * np.std(values) / 10
    assert inside >= 85


def shares_by_hand(real, generated, k):
    def radius(rows, i):
        return sorted(np.linalg.norm(rows[i] - rows[j]) for j in range(len(rows)) if j != i)[k - 1]

    def holds(rows, i, point):
        return np.linalg.norm(rows[i] - point) < radius(rows, i)

    inside = np.array([[holds(real, i, point) for point in generated] for i in range(len(real))])
    inside_generated = np.array([[holds(generated, j, point) for point in real] for j in range(len(generated))])
    return {
        "precision": inside.any(axis=0).mean(),
        "recall": inside_generated.any(axis=0).mean(),
        "density": inside.sum() / (k * len(generated)),
        "coverage": inside.any(axis=1).mean(),
    }


@pytest.mark.parametrize("k", [1, 3])
def test_neighbourhood_shares_are_those_counted_by_hand(k):
    real, generated = normal(12, 2), normal(9, 2, seed=1, shift=0.7)
    assert neighbourhood_shares(real, generated, k) == pytest.approx(shares_by_hand(real.numpy(), generated.numpy(), k))


@pytest.mark.parametrize("k", [1, 5])
def test_neighbourhood_shares_of_a_set_with_itself_are_one_and_of_a_stranger_nought(k):
    one = normal(40)
    assert neighbourhood_shares(one, one, k) == dict.fromkeys(("precision", "recall", "density", "coverage"), 1.0)
    assert set(neighbourhood_shares(one, one + 100, k).values()) == {0.0}


def test_a_collapsed_generator_has_precision_without_recall():
    real = normal(100)
    collapsed = real[:1] + normal(100, seed=1, scale=1e-3)
    shares = neighbourhood_shares(real, collapsed)
    assert shares["precision"] == 1
    assert shares["recall"] == pytest.approx(0.01), "the radiograph it collapsed to"
    assert shares["coverage"] < 0.2


def test_groups_are_measured_alone_and_small_ones_say_n_and_nothing_else():
    real, generated = normal(80), normal(70, seed=1, shift=0.2)
    real_groups = ["a"] * 40 + ["b"] * 36 + ["c"] * 3 + [None]
    generated_groups = ["b"] * 30 + ["a"] * 30 + ["c"] * 10
    figures = realism_by_group(real, generated, real_groups, generated_groups)
    assert figures["overall"] == realism(real, generated)
    assert figures["groups"]["a"] == realism(real[:40], generated[30:60])
    small = figures["groups"]["c"]
    assert (small.pop("n_real"), small.pop("n_generated")) == (3, 10)
    assert set(small.values()) == {None}
    one_sided = realism_by_group(real, generated, ["x"] * 80, ["y"] * 70)["groups"]
    assert (one_sided["x"]["n_generated"], one_sided["x"]["kernel_distance"]) == (0, None)


def test_a_covariance_that_so_few_rows_cannot_tell_is_not_reported():
    figures = realism(normal(20, 30), normal(40, 30, seed=1))
    assert figures["frechet_distance"] is None
    assert figures["kernel_distance"] is not None


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance, neighbourhood_shares, realism])
def test_bad_features_are_refused_by_name(measure):
    with pytest.raises(InputError, match=r"generated: features of length 3, but real ones of 4"):
        measure(normal(20), normal(20, 3))
    with pytest.raises(InputError, match=r"real: unexpected shape \(20,\); expected \[n, d\]"):
        measure(normal(20)[:, 0], normal(20))
    with pytest.raises(InputError, match="generated: some values are not finite"):
        measure(normal(20), normal(20).fill_(torch.nan))


def test_too_few_rows_and_ragged_groups_are_refused_by_name():
    with pytest.raises(InputError, match="real: 1 images are too few; give 2 or more"):
        frechet_distance(normal(1), normal(9))
    with pytest.raises(InputError, match="generated: 3 images are too few; give 4 or more"):
        kernel_distance(normal(9), normal(3))
    with pytest.raises(InputError, match="generated: 5 images are too few; give 6 or more"):
        neighbourhood_shares(normal(9), normal(5))
    with pytest.raises(InputError, match="real_groups: 2 names for 9 images; give one per image"):
        realism_by_group(normal(9), normal(9), ["a", "b"], ["a"] * 9)
