"""The share of the real gap: 0 of the unchanged image, 1 of real images of the other value, whatever else differs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.worlds import Counterfactuals, PhantomWorld
from synthfair_hf.measure.gap import real_gap, share_of_gap
from synthfair_hf.measure.intervals import bootstrap
from synthfair_hf.measure.interventions import forced_change
from synthfair_hf.measure.predictors import load_predictor
from synthfair_hf.measure.soundness import score
from synthfair_hf.measure.systems import Identity, Oracle
from synthfair_hf.schema import Schema, Variable

PERSON = {"role": "protected", "nature": "patient/demographic"}
AGE = Variable(name="age", kind="continuous", unit="years", range=(0, 100), **PERSON)
SEX = Variable(name="sex", kind="categorical", levels=("male", "female"), **PERSON)
SITE = Variable(name="site", kind="categorical", levels=("a", "b", "c"), role="acquisition", nature="external/site")
ALONE = Schema(variables=())


def probabilities(log_odds):
    return np.stack([1 / (1 + np.exp(log_odds)), 1 / (1 + np.exp(-log_odds))], axis=1)


def confounded(n, seed=0):
    """Women are older, and the prediction follows sex by 2 and age by 0.1 a year."""
    rng = np.random.default_rng(seed)
    female = rng.random(n) < 0.5
    age = np.clip(40 + 20 * female + rng.normal(0, 8, n), 0, 100).astype(np.float32)
    table = {"sex": [SEX.levels[code] for code in female.astype(int)], "age": age.astype(float).tolist()}
    return table, 2.0 * female + 0.1 * (age - 50) + rng.normal(0, 0.3, n)


def swapped(table):
    return ["female" if sex == "male" else "male" for sex in table["sex"]]


@given(st.floats(-1, 2), st.integers(0, 5))
def test_the_share_is_the_shift_over_the_slope_at_equal_age(strength, seed):
    table, odds = confounded(400, seed)
    signs = np.where(np.array(table["sex"]) == "male", 1, -1)
    before, after = probabilities(odds), probabilities(odds + strength * 2 * signs)
    found = share_of_gap(SEX, Schema(variables=(AGE,)), table, swapped(table), before, after)
    gap = real_gap(SEX, Schema(variables=(AGE,)), table, before)
    ones = np.ones((1, 400))
    design = np.column_stack([np.ones(400), signs < 0, table["age"]])
    slope = np.linalg.lstsq(design, odds, rcond=None)[0][1]
    assert gap(ones)[0] == pytest.approx(slope, rel=1e-6)
    assert slope == pytest.approx(2, abs=0.25)
    assert found(ones)[0] == pytest.approx(2 * strength / slope, abs=1e-6)
    assert real_gap(SEX, ALONE, table, before)(ones)[0] > 3, "unadjusted, age counts as sex"


def test_real_images_of_the_other_value_swapped_in_at_equal_covariates_are_the_whole_gap():
    table, odds = confounded(3000)
    sex, age = np.array(table["sex"]), np.array(table["age"])
    rng, other = np.random.default_rng(1), np.arange(3000)
    for row in range(3000):
        near = np.flatnonzero((sex != sex[row]) & (np.abs(age - age[row]) < 1))
        other[row] = rng.choice(near) if len(near) else row
    # ages at which only one sex is seen have nobody to be swapped with
    values = [table["sex"][one] for one in other]
    share = share_of_gap(SEX, Schema(variables=(AGE,)), table, values, probabilities(odds), probabilities(odds[other]))
    found = bootstrap([share], [[str(row) for row in range(3000)]], n_bootstrap=200)
    assert found.low < 1.03
    assert found.high > 0.97
    assert found.mean == pytest.approx(1, abs=0.05)


@given(st.floats(-1, 2), st.integers(0, 3))
def test_of_a_number_it_is_the_predicted_over_the_asked_change_by_the_predictors_own_slope(strength, seed):
    table, _ = confounded(200, seed)
    age = np.array(table["age"])
    predicted = 20 + 0.6 * age
    values = np.random.default_rng(seed).uniform(0, 100, 200).astype(np.float32).astype(float)
    after = predicted + strength * 0.6 * (values - age)
    found = share_of_gap(AGE, Schema(variables=(SEX,)), table, values.tolist(), predicted, after)
    assert found(np.ones((1, 200)))[0] == pytest.approx(strength, abs=1e-6)
    assert real_gap(AGE, Schema(variables=(SEX,)), table, predicted)(np.ones((1, 200)))[0] == pytest.approx(0.6)


@pytest.mark.parametrize("seed", range(3))
def test_of_several_levels_each_change_counts_by_its_own_gap(seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, 300)
    means = rng.normal(size=(3, 3))
    logits = means[codes] + rng.normal(0, 0.1, (300, 3))
    predicted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    values, rows = (codes + rng.integers(1, 3, 300)) % 3, np.arange(300)
    after = np.exp(means[values]) / np.exp(means[values]).sum(axis=1, keepdims=True)
    table = {"site": [SITE.levels[code] for code in codes]}
    statistic = share_of_gap(SITE, ALONE, table, [SITE.levels[code] for code in values], predicted, after)
    log, own = np.log(predicted), np.array([np.log(predicted)[codes == code].mean(axis=0) for code in range(3)])
    asked = sum(own[v, v] - own[v, c] - own[c, v] + own[c, c] for c, v in zip(codes, values, strict=True))
    moved = (np.log(after) - log)[rows, values].sum() - (np.log(after) - log)[rows, codes].sum()
    assert statistic(np.ones((1, 300)))[0] == pytest.approx(moved / asked)


def test_weights_are_rows_repeated():
    table, odds = confounded(50)
    weights = np.random.default_rng(3).integers(0, 3, (4, 50)).astype(float)
    after = probabilities(odds + np.random.default_rng(4).normal(size=50))
    whole = share_of_gap(SEX, Schema(variables=(AGE,)), table, swapped(table), probabilities(odds), after)(weights)
    for one, expected in zip(weights, whole, strict=True):
        rows = np.repeat(np.arange(50), one.astype(int))
        repeated = {name: [column[row] for row in rows] for name, column in table.items()}
        given_rows = (probabilities(odds)[rows], after[rows])
        found = share_of_gap(SEX, Schema(variables=(AGE,)), repeated, swapped(repeated), *given_rows)
        assert found(np.ones((1, len(rows))))[0] == pytest.approx(expected, abs=1e-6)


def test_what_cannot_be_told_is_undefined():
    table, odds = confounded(40)
    before, ones = probabilities(odds), np.ones((1, 40))
    men = {**table, "sex": ["male"] * 40}
    assert np.isnan(share_of_gap(SEX, ALONE, men, ["female"] * 40, before, before)(ones)[0]), "no woman to compare with"
    assert np.isnan(share_of_gap(SEX, ALONE, table, table["sex"], before, before)(ones)[0]), "nothing was asked"
    same = {**table, "site": ["a" if sex == "male" else "b" for sex in table["sex"]]}
    shown = share_of_gap(SEX, Schema(variables=(SITE,)), same, swapped(table), before, before)
    assert np.isnan(shown(ones)[0]), "sex and site are one"


def test_certain_predictions_have_a_finite_gap():
    table, odds = confounded(40)
    certain = (probabilities(odds) > 0.5).astype(float)
    assert np.isfinite(real_gap(SEX, ALONE, table, certain)(np.ones((1, 40)))).all()


def figures(rows, metric):
    return {row["do"]: row for row in rows if row["metric"] == metric and row["by"] == "reader"}


def test_identity_and_oracle_are_the_ends_of_the_scale(patches, reader):
    world = patches()
    for effect in ("total", "direct"):
        for system, end in ((Identity(), 0), (Oracle(world), 1)):
            rows = score(system, world, {"reader": reader()}, (0, 1), effect=effect, n_bootstrap=50)
            found = figures(rows, "share_of_gap")
            assert set(found) == {"size", "tone", "kind"}
            for row in found.values():
                assert [row["low"], row["mean"], row["high"]] == pytest.approx([end] * 3, abs=1e-5)


def test_a_change_by_half_is_half_the_gap(patches, reader):
    world = patches()

    class Half(Oracle):
        name = "half"

        def counterfactual(self, image, covariates, do, rows):
            images, table = super().counterfactual(image, covariates, do, rows)
            return Counterfactuals((images + image) / 2, table)

    rows = score(Half(world), world, {"reader": reader()}, (0,), names=["size", "tone"], n_bootstrap=50)
    assert [row["mean"] for row in figures(rows, "share_of_gap").values()] == pytest.approx([0.5, 0.5], abs=1e-5)


def test_exact_counterfactuals_of_the_phantom_are_about_the_whole_gap():
    predictor = load_predictor(DEFAULT_GENERATOR.parent / "phantom_predictor", PHANTOM.covariates)
    world = PhantomWorld("test", 100, 0, 800, 64)
    before = predictor.predict(world.images)
    for name in ("age", "sex", "finding"):
        values = forced_change(world, name, 0)
        after = predictor.predict(world.truth({name: values}).images)
        others = world.covariates.subset({*world.covariates.names} - {name, *world.effects(name)})
        share = share_of_gap(world.covariates[name], others, world.table, values, before[name], after[name])
        found = bootstrap([share], [world.groups], n_bootstrap=200)
        assert found.low < 1.1, (name, found)
        assert found.high > 0.9, (name, found)
        assert found.mean == pytest.approx(1, abs=0.25), (name, found)
