"""A test of counterfactual invariance: its distance is scipy's, it rejects as often as it says, and finds a change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import energy_distance

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.invariance import invariance_test


def families(people, levels, rng, effect=0.0, spread=1.0):
    """Scores of people who each have all levels of `a` and two of `b`, the first level of `a` shifted and spread."""
    rows = [(person, a, b) for person in range(people) for a in levels for b in ("x", "y")]
    own = rng.normal(size=people)
    logits = [
        own[person] + rng.normal() * (spread if a == levels[0] else 1) + (effect if a == levels[0] else 0)
        for person, a, _ in rows
    ]
    subjects, a, b = zip(*rows, strict=True)
    return 1 / (1 + np.exp(-np.array(logits))), list(subjects), {"a": list(a), "b": list(b)}


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_the_distance_is_scipys_squared_and_of_either_direction(seed, people):
    scores, subjects, factors = families(people, ["p", "q"], np.random.default_rng(seed), effect=1)
    scores = scores.round(1)
    found = invariance_test(scores, subjects, factors, "a", permutations=1).iloc[0]
    is_first = np.array(factors["a"]) == "p"
    assert found["energy_distance"] == pytest.approx(
        energy_distance(scores[is_first], scores[~is_first]) ** 2, abs=1e-9
    )
    swapped = {**factors, "a": ["q" if one == "p" else "p" for one in factors["a"]]}
    again = invariance_test(scores, subjects, swapped, "a", permutations=1).iloc[0]
    assert again["energy_distance"] == pytest.approx(found["energy_distance"])


def test_without_an_effect_five_percent_of_tests_reject():
    rng = np.random.default_rng(0)
    p = [invariance_test(*families(12, ["p", "q"], rng), "a", seed=n, permutations=39).iloc[0]["p"] for n in range(300)]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09


@pytest.mark.parametrize("change", [{"effect": 1.5}, {"spread": 6.0}])
def test_a_shift_and_a_spread_are_found_among_the_levels_that_differ(change):
    scores, subjects, factors = families(60, ["p", "q", "r"], np.random.default_rng(1), **change)
    table = invariance_test(scores, subjects, factors, "a", permutations=199).set_index(["from", "to"])
    assert table.loc[("p", "q"), "p"] == table.loc[("p", "r"), "p"] == 1 / 200
    assert table.loc[("q", "r"), "p"] > 0.05
    assert table.loc[("any", "any"), "p"] == table["p_adjusted"].min() == pytest.approx(3 / 200)
    assert table.loc[("p", "q"), ["n", "subjects"]].tolist() == [120, 60]


def test_all_rows_of_a_subject_move_together():
    """Twenty radiographs of one patient are one observation: two signs, of which either is as far."""
    scores = [0.1] * 20 + [0.9] * 20
    factors = {"a": ["p"] * 20 + ["q"] * 20, "film": [*range(20)] * 2}
    assert invariance_test(scores, ["one"] * 40, factors, "a", permutations=50).iloc[0]["p"] == 1


def test_without_pairs_there_is_no_figure_and_bad_input_is_named():
    table = invariance_test([0.1, 0.2], ["one", "two"], {"a": ["p", "q"]}, "a")
    assert table["n"].tolist() == [0, 0]
    assert table[["energy_distance", "p", "p_adjusted"]].isna().all(axis=None)
    assert invariance_test([0.1], ["one"], {"a": ["p"]}, "a")["p"].isna().all()
    with pytest.raises(InputError, match="permutations: 0 out of range; allowed: from 1"):
        invariance_test([0.1, 0.2], ["one", "one"], {"a": ["p", "q"]}, "a", permutations=0)
    with pytest.raises(InputError, match="attribute: 'b' is unknown; allowed: a"):
        invariance_test([0.1, 0.2], ["one", "one"], {"a": ["p", "q"]}, "b")
