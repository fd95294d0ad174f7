"""With balance every subgroup is drawn equally often, its pairs alike; a subgroup without pairs is named."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch

from synthfair_hf.align.examples import PreferenceExamples
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.errors import InputError
from synthfair_hf.training.examples import StepSampler


@pytest.fixture(scope="module")
def skewed(make_pairs):
    """120 pairs: one in four is a woman's, one in five an effusion; one age is the contrast's threshold."""
    pairs = make_pairs(120, missing=0)
    rows = torch.arange(120)
    pairs.covariates["sex"][:] = (rows % 8 < 2).long()
    pairs.covariates["finding"][:] = torch.where(rows % 5 == 0, 2, rows % 2)
    pairs.covariates["age"][0] = PHANTOM.contrasts["age"].threshold
    return pairs


def drawn(examples, batches, size=24, seed=0):
    """Keys of a run, and what each gives."""
    keys = [key for batch in StepSampler(len(examples), size, seed, 0, batches, 0, 1) for key in batch]
    return keys, [examples[key] for key in keys]


def row_of(pairs, example):
    return int((pairs.preferred == (example["preferred"] * 255).round().byte()).flatten(1).all(1).nonzero()[0, 0])


def test_without_balance_it_is_the_row_that_the_sampler_says(skewed):
    examples = PreferenceExamples(skewed, seed=0)
    assert len(examples) == 120
    keys, found = drawn(examples, 5)
    assert sorted(row for row, _ in keys) == list(range(120)), "an epoch"
    for (row, _), example in zip(keys, found, strict=True):
        assert set(example) == {"preferred", "rejected", *PHANTOM.covariates.names}
        for side in ("preferred", "rejected"):
            assert example[side].dtype == torch.float32
            assert torch.equal((example[side] * 255).round().byte(), getattr(skewed, side)[row])
        assert all(torch.equal(example[name], column[row]) for name, column in skewed.covariates.items())


def test_every_subgroup_is_drawn_equally_often_and_its_pairs_alike(skewed):
    examples = PreferenceExamples(skewed, 0, ("sex", "finding"), PHANTOM)
    _, found = drawn(examples, 50)
    cells = Counter((int(one["sex"]), int(one["finding"])) for one in found)
    assert cells == dict.fromkeys(product(range(2), range(3)), 200), "exactly"
    assert list(examples.subgroups)[:2] == ["sex=male, finding=no_finding", "sex=male, finding=pneumonia"]
    rows = Counter(row_of(skewed, one) for one in found)
    for members in examples.subgroups.values():
        share = 1 / len(members)
        spread = (200 * share * (1 - share)) ** 0.5
        assert sum(rows[row] for row in members.tolist()) == 200
        assert max(abs(rows[row] - 200 * share) for row in members.tolist()) < 4.5 * spread + 1e-9


def test_a_number_has_the_two_sides_of_its_contrast(skewed):
    threshold = PHANTOM.contrasts["age"].threshold
    examples = PreferenceExamples(skewed, 0, ("age",), PHANTOM)
    assert list(examples.subgroups) == ["age=under 50 years", "age=50 years and older"]
    assert 0 in examples.subgroups["age=50 years and older"]
    _, found = drawn(examples, 4)
    assert sum(bool(one["age"] >= threshold) for one in found) == 48


def test_place_and_seed_alone_decide(skewed):
    one, same, other = (PreferenceExamples(skewed, seed, ("sex",), PHANTOM) for seed in (0, 0, 1))
    rows = [[row_of(skewed, examples[row, place]) for place in range(40)] for examples, row in ((one, 0), (same, 7))]
    assert rows[0] == rows[1]
    assert rows[0] != [row_of(skewed, other[0, place]) for place in range(40)]


def test_a_subgroup_without_pairs_is_named(skewed):
    one_sided = skewed.select(skewed.covariates["sex"] == 0)
    with pytest.raises(InputError, match=r"^balance: no pair of sex=female; judge some, or balance over fewer"):
        PreferenceExamples(one_sided, 0, ("sex",), PHANTOM)
    thinned = skewed.select(~((skewed.covariates["sex"] == 1) & (skewed.covariates["finding"] == 2)).numpy())
    with pytest.raises(InputError, match=r"^balance: no pair of sex=female, finding=effusion;"):
        PreferenceExamples(thinned, 0, ("sex", "finding"), PHANTOM)
    assert len(PreferenceExamples(thinned, 0, ("sex",), PHANTOM)) == len(thinned)


def test_what_can_not_be_balanced_is_refused(skewed, make_pairs):
    with pytest.raises(InputError, match=r"^balance: 'gender' is unknown; allowed: age, sex, race, "):
        PreferenceExamples(skewed, 0, ("gender",), PHANTOM)
    without = PHANTOM.model_copy(update={"contrasts": {}})
    with pytest.raises(InputError, match=r"^balance: 'age' is unknown; allowed: sex, race, finding, view, scanner"):
        PreferenceExamples(skewed, 0, ("age",), without)
    with pytest.raises(InputError, match=r"^preset: not given; `balance` needs its levels and contrasts"):
        PreferenceExamples(skewed, 0, ("sex",))
    with pytest.raises(InputError, match=r"^preferences: no pairs; give at least one"):
        PreferenceExamples(skewed.select(np.array([], dtype=int)), 0)
    gaps = make_pairs(200, missing=0.2)
    for name in ("sex", "age"):
        absent = (gaps.covariates["sex"] < 0) if name == "sex" else gaps.covariates["age"].isnan()
        with pytest.raises(InputError, match=f"^balance: {int(absent.sum())} pairs have no value of '{name}'"):
            PreferenceExamples(gaps, 0, (name,), PHANTOM)
