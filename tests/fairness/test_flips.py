"""Flips under do(attribute): against loops over families, and symmetric where they must be."""

from itertools import combinations, product

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.flips import ANY, flip_rates

FACTORS = {"sex": ("female", "male"), "race": ("asian", "black", "white")}


def families(count=30, seed=0, missing=0.0):
    """Rows in any order: every subject crosses FACTORS, but for a share of its rows that is missing."""
    rng = np.random.default_rng(seed)
    rows = [(f"s{subject}", *cell) for subject in range(count) for cell in product(*FACTORS.values())]
    rows = [rows[row] for row in rng.permutation(len(rows)) if rng.random() >= missing]
    columns = dict(zip(("subject", *FACTORS), zip(*rows, strict=True), strict=True))
    subjects = columns.pop("subject")
    return rng.random(len(rows)), subjects, columns


def figures(table):
    return table.set_index(["from", "to", "metric"]).sort_index()


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.4]), st.sampled_from(["sex", "race"]))
@settings(max_examples=15)
def test_figures_are_loops_over_pairs(seed, missing, attribute):
    scores, subjects, factors = families(8, seed, missing)
    found = figures(flip_rates(scores, subjects, factors, attribute, n_bootstrap=2))
    (other,) = set(FACTORS) - {attribute}
    everything = []
    for start, end in combinations(FACTORS[attribute], 2):
        pairs = [
            (scores[one], scores[two])
            for one, two in product(range(len(scores)), repeat=2)
            if (subjects[one], factors[other][one]) == (subjects[two], factors[other][two])
            and (factors[attribute][one], factors[attribute][two]) == (start, end)
        ]
        everything += pairs
        before, after = np.array(pairs).T
        expected = {
            "flip_rate": np.mean((before >= 0.5) != (after >= 0.5)),
            "flip_to_present_rate": np.mean((before < 0.5) & (after >= 0.5)),
            "flip_to_absent_rate": np.mean((before >= 0.5) & (after < 0.5)),
            "mean_absolute_shift": np.abs(after - before).mean(),
            "mean_shift": (after - before).mean(),
        }
        lines = found.loc[start, end]
        assert lines["value"].to_dict() == pytest.approx(expected)
        assert (lines["n"] == len(pairs)).all()
    before, after = np.array(everything).T
    assert found.loc[(ANY, ANY, "flip_rate"), "value"] == pytest.approx(np.mean((before >= 0.5) != (after >= 0.5)))
    assert found.loc[(ANY, ANY, "flip_rate"), "n"] == len(everything)


def test_a_score_that_does_not_see_the_attribute_never_flips():
    _, subjects, factors = families()
    scores = np.array([int(name[1:]) / 30 for name in subjects])
    found = flip_rates(scores, subjects, factors, "sex")
    assert (found[["value", "low", "high"]] == 0).all(axis=None)


def test_exchanged_levels_are_the_way_back():
    scores, subjects, factors = families()
    there = figures(flip_rates(scores, subjects, factors, "sex")).loc["female", "male"]
    swapped = factors | {"sex": [{"female": "male", "male": "female"}[name] for name in factors["sex"]]}
    back = figures(flip_rates(scores, subjects, swapped, "sex")).loc["female", "male"]
    assert there.loc["flip_to_present_rate", "value"] == back.loc["flip_to_absent_rate", "value"]
    assert there.loc["mean_shift", ["low", "high"]].tolist() == pytest.approx(
        (-back.loc["mean_shift", ["high", "low"]]).tolist()
    )
    assert there.loc["flip_rate", "value"] == back.loc["flip_rate", "value"]


def test_the_interval_is_over_subjects():
    """A subject's three pairs that agree are one observation."""
    scores, subjects, factors = families(40)
    frame = pandas.DataFrame({"subject": subjects, "sex": factors["sex"], "score": scores})
    same = frame.groupby(["subject", "sex"])["score"].transform("first").to_numpy()
    many = figures(flip_rates(same, subjects, factors, "sex"))
    one = frame.assign(score=same).drop_duplicates(["subject", "sex"])
    few = figures(flip_rates(one["score"], one["subject"], {"sex": one["sex"]}, "sex"))
    bounds = ["value", "low", "high"]
    assert np.allclose(many[bounds], few[bounds])
    assert (many["n"] == 3 * few["n"]).all()
    assert (many["subjects"] == 40).all()


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3]))
@settings(max_examples=10)
def test_a_joint_intervention_changes_every_level(seed, missing):
    scores, subjects, factors = families(8, seed, missing)
    found = figures(flip_rates(scores, subjects, factors, ["sex", "race"], n_bootstrap=2))
    ends = sorted(product(*FACTORS.values()))
    pairs = [(one, two) for one, two in combinations(ends, 2) if one[0] != two[0] and one[1] != two[1]]
    assert {line[:2] for line in found.index} == {(" & ".join(a), " & ".join(b)) for a, b in pairs} | {(ANY, ANY)}
    by_cell = {
        cell: score for *cell, score in zip(subjects, *factors.values(), scores, strict=True) for cell in [tuple(cell)]
    }
    moved = []
    for one, two in pairs:
        own = [
            (by_cell[subject, *one], by_cell[subject, *two])
            for subject in sorted(set(subjects))
            if (subject, *one) in by_cell and (subject, *two) in by_cell
        ]
        moved += own
        line = found.loc[(" & ".join(one), " & ".join(two), "mean_shift")]
        assert line["n"] == len(own)
        assert line["value"] == pytest.approx(np.mean([after - before for before, after in own]))
    flipped = np.mean([(before >= 0.5) != (after >= 0.5) for before, after in moved])
    assert found.loc[(ANY, ANY, "flip_rate"), "value"] == pytest.approx(flipped)


def test_one_factor_in_a_list_is_that_factor():
    given = families(6)
    pandas.testing.assert_frame_equal(flip_rates(*given, "sex"), flip_rates(*given, ["sex"]))


def test_flips_within_groups_are_those_of_their_rows():
    """Of subjects whose group an intervention does not change, and of a group that is the level of another factor."""
    scores, subjects, factors = families(20, missing=0.1)
    age = [None if name == "s3" else "old" if int(name[1:]) % 3 else "young" for name in subjects]
    columns = {"age": age, "race": factors["race"]}
    for within in ({"age": age}, {"race": columns["race"]}, columns):
        found = flip_rates(scores, subjects, factors, "sex", within=within)
        assert set(found["within"]) == {" & ".join(within)}
        joined = [None if None in row else " & ".join(row) for row in zip(*within.values(), strict=True)]
        assert sorted(found["group"].unique()) == sorted({one for one in joined if one is not None})
        for group, own in found.groupby("group"):
            rows = [row for row, name in enumerate(joined) if name == group]
            kept = {name: [column[row] for row in rows] for name, column in factors.items()}
            alone = flip_rates(scores[rows], [subjects[row] for row in rows], kept, "sex")
            lines = own.drop(columns=["within", "group"]).reset_index(drop=True)
            pandas.testing.assert_frame_equal(lines, alone)


def test_a_pair_that_the_intervention_moves_between_groups_is_in_none():
    given = [0.1, 0.9, 0.2, 0.8], ["s", "s", "t", "t"], {"sex": ["f", "m", "f", "m"]}, "sex"
    found = flip_rates(*given, within={"view": ["PA", "AP", "PA", "PA"]})
    sizes = found[found["metric"] == "flip_rate"].groupby("group")["n"].sum()
    assert sizes.to_dict() == {"AP": 0, "PA": 2}


def test_without_pairs_there_is_no_value():
    found = flip_rates([0.1, 0.9], ["s", "t"], {"sex": ["female", "male"]}, "sex")
    assert found["value"].isna().all()
    assert (found["n"] == 0).all()
    assert flip_rates([0.1], ["s"], {"sex": ["female"]}, "sex")["n"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attribute": "race"}, "attribute: 'race' is unknown; allowed: sex"),
        ({"subjects": ["s", "s", "s"]}, "subject 's' has two rows with the same sex"),
        ({"subjects": ["s"]}, "subjects: give one value, none missing, for each of the 3 scores"),
        ({"factors": {"sex": ["f", None, "m"]}}, r"factors\['sex'\]: give one value, none missing"),
        ({"factors": {"sex": ["f", "m", "m"], "subject": [1, 2, 3]}}, "subject is taken"),
        ({"scores": [0.1, 2, 0.3]}, "scores: 1 of 3 not in"),
        ({"attribute": []}, r"attribute: \[\] is none; name a factor"),
        ({"attribute": ["sex", "sex"]}, "name a factor, or several, each once"),
        ({"attribute": ["sex", "race"]}, "attribute: 'race' is unknown"),
        ({"within": {"sex": ["f", "m", "m"]}}, "within: 'sex' is intervened on"),
        ({"within": {"age": ["old"]}}, r"groups\['age'\]: 1 values for 3 scores"),
        ({"within": {}}, "groups: no attribute"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"scores": [0.1, 0.2, 0.3], "subjects": ["s", "s", "t"], "factors": {"sex": ["f", "m", "m"]}}
    with pytest.raises(InputError, match=message):
        flip_rates(**{"attribute": "sex"} | given | change)
