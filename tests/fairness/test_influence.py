"""Shares of predictions owed to covariates: the known truth of linear and of discrete models, and laws of shares."""

from itertools import permutations, product

import numpy as np
import pytest
import torch

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.errors import InputError
from synthfair_hf.fairness import influence
from synthfair_hf.fairness.influence import REST, causal_influence
from synthfair_hf.schema import Schema, Variable

KNOWN = {"role": "other", "nature": "external/protocol"}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Few draws of the noise, for laws that hold for any."""
    monkeypatch.setattr(influence, "DRAWS", 1024)


def number(name):
    return Variable(name=name, kind="continuous", unit="1", range=(-50, 50), **KNOWN)


def state(name):
    return Variable(name=name, kind="categorical", levels=("no", "yes"), **KNOWN)


class Linear:
    """a -> b -> c and d alone, all Gaussian: b = a + u, c = b + u / 2."""

    covariates = Schema(variables=tuple(map(number, "abcd")))

    def sample_noise(self, rows, generator):
        return {name: torch.randn(rows, generator=generator, dtype=torch.float64) for name in "abcd"}

    def evaluate(self, noise):
        b = noise["a"] + noise["b"]
        return {"a": noise["a"], "b": b, "c": b + noise["c"] / 2, "d": noise["d"]}


class Switches:
    """a and b of two levels each; a raises the chance of b."""

    covariates = Schema(variables=tuple(map(state, "ab")))
    chance = (0.2, 0.7)

    def sample_noise(self, rows, generator):
        return {name: torch.rand(rows, generator=generator, dtype=torch.float64) for name in "ab"}

    def evaluate(self, noise):
        a = (noise["a"] < 0.4).long()
        return {"a": a, "b": (noise["b"] < torch.tensor(self.chance)[a]).long()}


def drawn(model, rows, seed):
    found = model.evaluate(model.sample_noise(rows, torch.Generator().manual_seed(seed)))
    return {name: column.numpy() for name, column in found.items()}


def shares(*given, **settings):
    return causal_influence(*given, **{"n_bootstrap": 20} | settings).set_index("covariate")


@pytest.mark.parametrize("seed", [0, 1])
def test_of_a_linear_model_the_shares_are_those_of_its_variance(seed, monkeypatch):
    """The score is .5 + .02 b + .04 c + e = .5 + .06 (u_a + u_b) + .02 u_c + e: most of c is owed to a and b."""
    monkeypatch.setattr(influence, "DRAWS", 2**15)
    covariates = drawn(Linear(), 2000, seed)
    noise = 0.05 * np.random.default_rng(seed + 10).normal(size=2000)
    score = 0.5 + 0.02 * covariates["b"] + 0.04 * covariates["c"] + noise
    assert (score > 0).all()
    assert (score < 1).all()
    found = shares(score, covariates, Linear(), n_bootstrap=30, seed=seed)
    parts = {"a": 0.06**2, "b": 0.06**2, "c": 0.02**2, "d": 0.0, REST: 0.05**2}
    expected = {name: part / sum(parts.values()) for name, part in parts.items()}
    assert found["value"].to_dict() == pytest.approx(expected, abs=0.03)
    assert found["value"].sum() == pytest.approx(1)
    # the noise of the causal model is drawn, too, which an interval over subjects does not know
    assert (found["low"] - 0.02 <= found.index.map(expected)).all()
    assert (found["high"] + 0.02 >= found.index.map(expected)).all()


def brute_force(model, function):
    """Shapley values of Var(E[function | noise]) by orders of the covariates, noise being one of four places each."""
    places = {"a": ((0.2, 0.4), (0.7, 0.6)), "b": ((0.1, 0.2), (0.45, 0.5), (0.9, 0.3))}

    def explained(kept):
        mean = square = 0.0
        for one in product(*(places[name] for name in kept)):
            inside, own = np.prod([share for _, share in one]), 0.0
            for other in product(*places.values()):
                fixed = dict(zip(kept, (place for place, _ in one), strict=True))
                drawn = dict(zip(places, other, strict=True))
                noise = {name: torch.tensor([fixed.get(name, drawn[name][0])]) for name in places}
                own += np.prod([share for _, share in other]) * function(*map(int, model.evaluate(noise).values()))
            mean, square = mean + inside * own, square + inside * own**2
        return square - mean**2

    values = dict.fromkeys(places, 0.0)
    orders = list(permutations(places))
    for order in orders:
        for place, name in enumerate(order):
            before = [one for one in places if one in order[:place]]
            after = [one for one in places if one in order[: place + 1]]
            values[name] += (explained(after) - explained(before)) / len(orders)
    return values


def test_of_a_discrete_model_the_shares_are_brute_force(monkeypatch):
    monkeypatch.setattr(influence, "DRAWS", 2**17)

    def function(a, b):
        return 0.2 + 0.1 * a + 0.3 * b + 0.2 * a * b

    model, rng = Switches(), np.random.default_rng(0)
    # everything crossed, as in families, not as the model draws people
    covariates = {"a": rng.integers(0, 2, 1500), "b": rng.integers(0, 2, 1500)}
    truth = brute_force(model, function)
    exact = np.array([function(a, b) for a, b in zip(*covariates.values(), strict=True)])
    found = shares(exact, covariates, model)
    total = sum(truth.values())
    expected = {name: value / total for name, value in truth.items()} | {REST: 0}
    assert found["value"].to_dict() == pytest.approx(expected, abs=0.02)
    noisy = (exact + 0.1 * rng.normal(size=1500)).clip(0, 1)
    found = shares(noisy, covariates, model)
    expected = {name: value / (total + 0.01) for name, value in truth.items()} | {REST: 0.01 / (total + 0.01)}
    assert found["value"].to_dict() == pytest.approx(expected, abs=0.03)


def test_scores_that_see_no_covariate_owe_them_nothing_on_average():
    found = []
    for seed in range(8):
        score = np.random.default_rng(seed).random(300)
        found.append(shares(score, drawn(Linear(), 300, seed), Linear(), seed=seed, n_bootstrap=1)["value"])
    mean = np.mean(found, axis=0)
    assert mean[:4] == pytest.approx(np.zeros(4), abs=0.02)
    assert mean[4] == pytest.approx(1, abs=0.05)


def test_images_of_one_subject_are_one_observation():
    covariates, rng = drawn(Linear(), 150, 0), np.random.default_rng(0)
    score = (0.5 + 0.05 * covariates["b"] + 0.1 * rng.normal(size=150)).clip(0, 1)
    many = {name: np.repeat(column, 4) for name, column in covariates.items()}
    names = np.repeat(np.arange(150), 4)
    clustered = shares(np.repeat(score, 4), many, Linear(), names, n_bootstrap=60)
    separate = shares(np.repeat(score, 4), many, Linear(), n_bootstrap=60)
    widths = [(one["high"] - one["low"]).loc[REST] for one in (clustered, separate)]
    assert widths[0] > 1.4 * widths[1]
    assert (clustered["subjects"] == 150).all()
    assert (clustered["n"] == 600).all()


def test_of_a_saved_causal_model_a_covariate_owes_what_it_has_not_inherited():
    variables = (number("age"), state("finding"), state("scanner"))
    scm = StructuralCausalModel.from_schema(Schema(variables=variables), [("age", "finding"), ("finding", "scanner")])
    rng = np.random.default_rng(0)
    age = 15 * rng.normal(size=800).clip(-3, 3)
    finding = (age + 10 * rng.normal(size=800) > 0).astype(int)
    columns = {"age": age, "finding": finding, "scanner": rng.integers(0, 2, 800)}
    table = {
        name: torch.tensor(column, dtype=torch.float32 if name == "age" else None) for name, column in columns.items()
    }
    scm.fit(table, seed=0, by_counts=True)
    columns = drawn(scm, 800, 1)
    score = 0.3 + 0.4 * columns["finding"] + 0.02 * rng.random(800)
    found = shares(score, columns, scm)
    assert found.loc["scanner", "value"] == pytest.approx(0, abs=0.01)
    assert found.loc["age", "value"] > 0.3
    assert found.loc[["age", "finding"], "value"].sum() == pytest.approx(1, abs=0.02)
    # one value has no effect that could be seen; missing values are counted out
    columns["age"] = np.where(np.arange(800) < 100, np.nan, columns["age"])
    columns["scanner"] = np.zeros(800)
    some = shares(score, columns, scm)
    assert some.loc["scanner", "values"] == 1
    assert some.loc["scanner", "value"] == 0
    assert (some["n"] == 700).all()


def test_order_of_columns_and_equal_seeds_change_nothing_and_constant_scores_have_no_share():
    covariates = drawn(Linear(), 60, 0)
    score = np.random.default_rng(0).random(60)
    found = shares(score, covariates, Linear())
    assert found.equals(shares(score, dict(reversed(covariates.items())), Linear()))
    assert not found.equals(shares(score, covariates, Linear(), seed=1))
    constant = shares(np.full(60, 0.5), covariates, Linear())
    assert constant[["value", "low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [2.0] * 30}, "scores: 30 of 30 not in"),
        ({"covariates": {"a": [0] * 30}}, "model: covariate: 'b' is unknown; allowed: a"),
        ({"covariates": {"a": [0] * 30, "b": ["yes"] * 30}}, r"covariates\['b'\]: not one number for each of 30"),
        ({"covariates": {"a": [0] * 30, "b": [2] * 30}}, r"covariates\['b'\]: 2 is no level; allowed: 0 to 1, or -1"),
        ({"covariates": {"a": [0, -1] * 15, "b": [0] * 30}}, "15 subjects have all of a, b; give the rows of 20"),
        ({"n_bootstrap": 0}, "n_bootstrap, level: 0, 0.95 out of range"),
        ({"model": None}, "model: None is invalid"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"scores": [0.5] * 30, "covariates": {"a": [0, 1] * 15, "b": [0, 1] * 15}, "model": Switches()}
    with pytest.raises(InputError, match=message):
        causal_influence(**given | change)
