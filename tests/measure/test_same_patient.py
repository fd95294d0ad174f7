"""Same-patient pairs: the patient's own other image is the end of the scale, the unchanged image its beginning."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.domains.worlds import Counterfactuals, Listing
from synthfair_hf.measure.pairs import CLOSE, REAL, distances, drift, find_pairs, score_pairs
from synthfair_hf.measure.systems import Identity
from synthfair_hf.schema import Schema, Variable

PERSON = {"role": "protected", "nature": "patient/demographic"}
FINDING = {"kind": "categorical", "role": "finding", "nature": "patient/pathology", "levels": ("absent", "present")}
SCHEMA = Schema(
    variables=(
        Variable(name="age", kind="continuous", unit="years", range=(0, 100), **PERSON),
        Variable(name="sex", kind="categorical", levels=("male", "female"), **PERSON),
        Variable(name="edema", **FINDING),
        Variable(name="effusion", **FINDING),
        Variable(name="view", kind="categorical", levels=("PA", "AP"), role="acquisition", nature="external/protocol"),
    )
)


class People:
    """Two images of everybody, PA and AP; every covariate, and who it is, is a pixel."""

    name = "people"
    covariates = SCHEMA

    def __init__(self, n=12, seed=0):
        rng = np.random.default_rng(seed)
        table = {name: [] for name in SCHEMA.names}
        who = rng.random(n)
        for _ in range(n):
            age, sex = float(rng.integers(20, 80)), rng.choice(["male", "female"])
            for view in ("PA", "AP"):
                row = {"age": age, "sex": sex, "view": view}
                row |= {name: rng.choice(["absent", "present"]) for name in ("edema", "effusion")}
                for name, value in row.items():
                    table[name].append(value if name == "age" else str(value))
        self.listing = Listing(table, [f"p{row // 2}" for row in range(2 * n)], [])
        encoded = SCHEMA.encode(table)
        columns = [*(encoded[name] / (100 if name == "age" else 1) for name in SCHEMA.names), np.repeat(who, 2)]
        self.images = torch.from_numpy(np.stack(columns, axis=1)).float()[:, None, None, :]

    def effects(self, name):
        return ()

    def read(self, places):
        return self.images[list(places)]


class Reader:
    def predict(self, images):
        found = {}
        for place, variable in enumerate(SCHEMA.walk()):
            value = images[:, 0, 0, place].double().numpy()
            found[variable.name] = np.stack([1 - value, value], axis=1) if variable.categorical else 100 * value
        return found

    def features(self, images):
        return images.flatten(1)


class Setting:
    """Sets the pixel of what is asked for, and `others` to what they are in nobody."""

    name = "setting"

    def __init__(self, others=()):
        self.others = others

    def counterfactual(self, image, covariates, do, rows):
        images = image.clone()
        for name, values in do.items():
            images[:, 0, 0, SCHEMA.names.index(name)] = torch.from_numpy(SCHEMA[name].encode(values)).float()
        for name in self.others:
            images[:, 0, 0, SCHEMA.names.index(name)] = 0.5
        return Counterfactuals(images, {**covariates, **do})


def figures(systems, metric, do="view", **settings):
    rows = score_pairs(systems, People(), {"reader": Reader()}, n_bootstrap=50, **settings)
    return {
        (row["system"], row["attribute"]): row["mean"] for row in rows if (row["metric"], row["do"]) == (metric, do)
    }


def test_what_is_asked_for_moves_by_the_whole_difference_and_nothing_else_does():
    share = figures([Identity(), Setting()], "pair_share_of_gap")
    assert share == {("identity", "view"): 0, ("setting", "view"): pytest.approx(1)}
    assert figures([Setting(["sex"])], "pair_drift")["setting", "sex"] == pytest.approx(0.5)
    assert figures([Setting()], "pair_gap")[REAL, "view"] > 0
    drifts = figures([Identity(), Setting()], "pair_drift")
    names = ("age", "sex", "edema", "effusion")
    assert [drifts[system, one] for system in ("identity", "setting") for one in names] == [0] * 8
    assert drifts[REAL, "sex"] == drifts[REAL, "age"] == 0
    assert drifts[REAL, "edema"] > 0, "findings come and go between the two"
    assert (REAL, "view") not in drifts


def test_the_patients_own_image_is_nearest_to_its_counterfactual():
    nearer = figures([Identity(), Setting()], "pair_nearer")
    assert nearer["setting", "image"] > 0.8
    distance = figures([Identity(), Setting()], "pair_distance")
    assert distance["setting", "image"] < distance["identity", "image"]


def test_planted_covariates_make_no_pairs():
    rows = score_pairs([Identity()], People(), {"reader": Reader()}, planted=["view"], n_bootstrap=20)
    assert {row["do"] for row in rows} == {"edema", "effusion"}
    assert score_pairs([Identity()], People(), {}) == []


def test_a_limit_is_of_patients():
    rows = score_pairs([Identity()], People(), {"reader": Reader()}, limit=3, n_bootstrap=20)
    assert {(row["n"], row["groups"]) for row in rows if row["do"] == "view"} == {(6, 3)}


@given(st.lists(st.tuples(st.integers(0, 3), *[st.integers(0, 1)] * 4, st.integers(60, 64)), min_size=1, max_size=16))
def test_pairs_are_of_one_patient_and_alike_but_for_what_differs(rows):
    table = {"age": [float(row[5]) for row in rows]}
    for place, name in enumerate(("sex", "edema", "effusion", "view"), start=1):
        table[name] = [SCHEMA[name].levels[row[place]] for row in rows]
    patients, matched = [f"p{row[0]}" for row in rows], ("age", "sex", "view")
    pairs = find_pairs(SCHEMA, table, patients, "effusion", matched)

    def fits(one, other):
        return (
            patients[one] == patients[other]
            and table["effusion"][one] != table["effusion"][other]
            and abs(table["age"][one] - table["age"][other]) <= CLOSE
            and all(table[name][one] == table[name][other] for name in ("sex", "view"))
        )

    assert all(fits(*pair) for pair in pairs)
    assert pairs[::2] == [(one, other) for other, one in pairs[1::2]]
    owners = [patients[one] for one, _ in pairs[::2]]
    assert len(owners) == len(set(owners))
    every = [(one, other) for one in range(len(rows)) for other in range(one) if fits(one, other)]
    assert set(owners) == {patients[one] for one, _ in every}
    least = {
        owner: min(table["edema"][a] != table["edema"][b] for a, b in every if patients[a] == owner) for owner in owners
    }
    assert all((table["edema"][a] != table["edema"][b]) == least[patients[a]] for a, b in pairs)


def test_distances_by_brute_force_and_whatever_the_scale():
    rng = np.random.default_rng(0)
    features, others = rng.normal(size=(2, 9, 4))
    patients, levels = [f"p{row % 5}" for row in range(9)], ["PA", "AP", "PA"] * 3
    found = distances(features, others, patients, levels)
    for row in range(9):
        gaps = np.sqrt((((features[row] - others) / others.std(axis=0)) ** 2).sum(axis=1))
        rivals = [one for one in range(9) if patients[one] != patients[row] and levels[one] == levels[row]]
        assert found["pair_distance"][row] == pytest.approx(gaps[row])
        assert found["pair_nearer"][row] == pytest.approx(np.mean(gaps[rivals] > gaps[row]))
    again = distances(7 * features, 7 * others, patients, levels)
    assert all(again[metric] == pytest.approx(found[metric]) for metric in found)
    alone = distances(features[:1], others[:1], ["p"], ["PA"])
    assert np.isnan(alone["pair_nearer"]).all()


def test_drift_of_levels_is_total_variation():
    before, after = np.array([[0.2, 0.8], [1.0, 0.0]]), np.array([[0.5, 0.5], [0.0, 1.0]])
    assert drift(SCHEMA["sex"], before, after) == pytest.approx([0.3, 1])
    assert drift(SCHEMA["age"], np.array([40.0]), np.array([37.0])) == pytest.approx([3])
