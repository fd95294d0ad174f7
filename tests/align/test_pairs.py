"""Swapping what is compared swaps what is preferred, ties add up, and a pair that is none is refused."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.align.pairs import from_scores
from synthfair_hf.errors import InputError


def compared(make_pairs, first_scores, second_scores, tie=0.0, swapped=False, **changes):
    """`from_scores` of random images, and the images."""
    pairs = make_pairs(len(first_scores))
    sides = [(pairs.preferred, first_scores), (pairs.rejected, second_scores)]
    (first, one), (second, other) = reversed(sides) if swapped else sides
    asked = {"covariates": pairs.covariates, "subjects": pairs.subjects, "splits": pairs.splits, "judge": "reader"}
    scores = (torch.as_tensor(one, dtype=torch.float64), torch.as_tensor(other, dtype=torch.float64))
    return from_scores(first, second, *scores, **{**asked, "tie": tie, **changes}), pairs


def assert_same(one, other):
    for field in fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        for name, column in (left if field.name == "covariates" else {"": left}).items():
            np.testing.assert_array_equal(np.asarray(column), np.asarray(right[name] if name else right))
    assert one.fingerprint == other.fingerprint


scores = st.integers(0, 12).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(-3, 3), min_size=n, max_size=n) for _ in range(2)))
)


@settings(max_examples=15)
@given(scores, st.sampled_from([0, 0.5, 1, 2]))
def test_it_is_what_a_loop_over_pairs_finds(make_pairs, both, tie):
    first, second = both
    (found, counts), pairs = compared(make_pairs, first, second, tie)
    expected = [
        (row, one > other) for row, (one, other) in enumerate(zip(first, second, strict=True)) if abs(one - other) > tie
    ]
    assert len(found) == len(expected)
    for place, (row, first_wins) in enumerate(expected):
        winner, loser = (pairs.preferred, pairs.rejected) if first_wins else (pairs.rejected, pairs.preferred)
        assert torch.equal(found.preferred[place], winner[row])
        assert torch.equal(found.rejected[place], loser[row])
        assert found.margins[place] == abs(first[row] - second[row])
        assert found.subjects[place] == pairs.subjects[row]
    wins = sum(first_wins for _, first_wins in expected)
    ties = len(first) - len(expected)
    assert counts == {
        "reader": {
            "compared": len(first),
            "first": wins,
            "second": len(expected) - wins,
            "ties": ties,
            "tie": tie,
        }
    }


@settings(max_examples=15)
@given(scores)
def test_the_order_in_which_images_are_shown_does_not_matter(make_pairs, both):
    (one, counts), _ = compared(make_pairs, *both)
    (other, mirrored), _ = compared(make_pairs, *both, swapped=True)
    assert_same(one, other)
    assert (counts["reader"]["first"], counts["reader"]["second"]) == (
        mirrored["reader"]["second"],
        mirrored["reader"]["first"],
    )


@settings(max_examples=15)
@given(scores)
def test_negated_scores_swap_preferred_and_rejected(make_pairs, both):
    (one, _), _ = compared(make_pairs, *both)
    (other, _), _ = compared(make_pairs, *([-score for score in side] for side in both))
    assert_same(one, replace(other, preferred=other.rejected, rejected=other.preferred))


@pytest.mark.parametrize(
    ("first", "changes", "sentence"),
    [
        ([1.0, np.nan], {}, "first_scores: 1 are not finite"),
        ([1.0, 2.0], {"tie": -1}, "tie: -1 is not allowed"),
        ([1.0, 2.0], {"tie": np.nan}, "tie: nan is not allowed"),
        ([1.0, 2.0], {"subjects": ["s0"]}, "subjects: 1 values for 2 pairs"),
        ([1.0, 2.0], {"splits": ["train", "test"]}, "splits: subject 's0' is in train and in test"),
    ],
)
def test_scores_that_decide_nothing_are_refused(make_pairs, first, changes, sentence):
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}.*; .*\\.$"):
        compared(make_pairs, first, [0.0, 0.0], **changes)


def test_scores_and_images_of_other_sizes_are_refused(make_pairs):
    pairs = make_pairs(3)
    told = (pairs.covariates, pairs.subjects, pairs.splits, "reader")
    with pytest.raises(InputError, match=r"^second_scores: of shape \(2,\); give one score per pair, \(3,\)"):
        from_scores(pairs.preferred, pairs.rejected, torch.ones(3), torch.zeros(2), *told)
    with pytest.raises(InputError, match=r"^second: of shape \(3, 1, 4, 4\), but first of \(3, 1, 8, 8\)"):
        from_scores(pairs.preferred, pairs.rejected[..., :4, :4], torch.ones(3), torch.zeros(3), *told)


def test_a_pair_of_one_image_is_refused_unless_it_is_a_tie(make_pairs):
    pairs = make_pairs(3)
    told = (pairs.covariates, pairs.subjects, pairs.splits, "reader")
    images = (pairs.preferred, pairs.preferred)
    with pytest.raises(InputError, match=r"^pairs: 3 of 3 hold the same image twice \(first: row 0\)"):
        from_scores(*images, torch.ones(3), torch.zeros(3), *told)
    found, counts = from_scores(*images, torch.ones(3), torch.ones(3), *told)
    assert len(found) == 0
    assert counts["reader"]["ties"] == 3


BAD = {
    "preferred": (lambda p: p.preferred.float(), "preferred: torch.float32 of shape (4, 1, 8, 8); give torch.uint8"),
    "rejected": (lambda p: p.rejected[..., :4, :4], "rejected: of shape (4, 1, 4, 4), but preferred of (4, 1, 8, 8)"),
    "covariates": (lambda p: {"age": torch.zeros(4).double()}, "covariates['age']: torch.float64 of shape (4,)"),
    "margins": (lambda p: torch.tensor([1.0, -1, 0, 0]), "margins: some are below 0 or infinite"),
    "subjects": (lambda p: p.subjects[:2], "subjects: 2 values for 4 pairs"),
    "splits": (lambda p: np.array(["train", "train", "val", "val"]), "splits: 'val' is unknown; allowed: train, "),
    "comments": (lambda p: p.comments[:0], "comments: 0 values for 4 pairs"),
}


@pytest.mark.parametrize("field", BAD)
def test_what_is_not_a_column_of_pairs_is_refused(make_pairs, field):
    pairs = make_pairs(4)
    change, sentence = BAD[field]
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}"):
        replace(pairs, **{field: change(pairs)})


def test_a_judge_answers_a_question_one_way(make_pairs):
    pairs = make_pairs(2, judges=np.array(["Ada", "Ada"]))
    swapped = replace(pairs, preferred=pairs.rejected, rejected=pairs.preferred)
    with pytest.raises(InputError, match=r"^pairs: judge 'Ada' prefers each of the same two images in rows 0 and 2;"):
        pairs.concatenate(swapped)
    other = replace(swapped, judges=np.array(["Bea", "Bea"]))
    assert len(pairs.concatenate(other)) == 4, "judges may differ"
    asked = {**swapped.covariates, "sex": 1 - swapped.covariates["sex"].clamp(min=0)}
    assert len(pairs.concatenate(replace(swapped, covariates=asked))) == 4, "another question has another answer"
    assert len(pairs.concatenate(pairs)) == 4, "to say it again contradicts nothing"


def test_a_question_is_the_same_whoever_wins_and_whatever_lies_beside_it(make_pairs):
    pairs = make_pairs(6)
    swapped = replace(pairs, preferred=pairs.rejected, rejected=pairs.preferred)
    assert swapped.answers() == [(question, not answer) for question, answer in pairs.answers()]
    assert pairs.select(np.array([4, 1])).answers() == [pairs.answers()[4], pairs.answers()[1]]
    assert len({question for question, _ in pairs.answers()}) == 6


def test_rows_in_parts_are_the_rows(make_pairs):
    pairs = make_pairs(9, channels=3)
    assert_same(pairs.select(np.arange(4)).concatenate(pairs.select(torch.arange(9) >= 4)), pairs)
    assert pairs.select(np.arange(9)[::-1].copy()).fingerprint != pairs.fingerprint
    assert len(pairs.select(np.zeros(9, dtype=bool))) == 0


def test_only_pairs_of_one_kind_are_joined(make_pairs):
    with pytest.raises(InputError, match=r"^pairs: of mixed size, 1 x 8 x 8 and 1 x 16 x 16; give one size"):
        make_pairs(2).concatenate(make_pairs(2, side=16))
    fewer = make_pairs(2, seed=1)
    with pytest.raises(InputError, match=r"^covariates: age, sex, race, .* and age; give the same"):
        make_pairs(2).concatenate(replace(fewer, covariates={"age": fewer.covariates["age"]}))


@pytest.mark.parametrize("field", ["preferred", "covariates", "margins", "comments", "splits"])
def test_one_changed_value_changes_the_fingerprint(make_pairs, field):
    pairs = make_pairs(2)
    changed = {
        "preferred": pairs.preferred ^ 1,
        "covariates": {**pairs.covariates, "sex": torch.tensor([-1, -1])},
        "margins": pairs.margins + 1,
        "comments": np.array(["x", "y"]),
        "splits": np.array(["test", "test"] if pairs.splits[0] == "train" else ["train", "train"]),
    }
    assert replace(pairs, **{field: changed[field]}).fingerprint != pairs.fingerprint
    assert replace(pairs).fingerprint == pairs.fingerprint
