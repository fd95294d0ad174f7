"""Agreement is scikit-learn's kappa and a counted share, whatever the order of rows and of images."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from synthfair_hf.align.agreement import Agreement, agreement


def judged(make_pairs, answers):
    """Six pairs, by judge: 1 the first image is preferred, 0 the second, None no answer."""
    pairs, parts = make_pairs(6), []
    for judge, told in answers.items():
        rows = np.array([row for row, answer in enumerate(told) if answer is not None], dtype=np.int64)
        first = pairs.select(rows)
        wins = np.array([bool(told[row]) for row in rows])[:, None, None, None]
        parts.append(
            replace(
                first,
                preferred=first.preferred.where(first.preferred.new_tensor(wins).bool(), first.rejected),
                rejected=first.rejected.where(first.preferred.new_tensor(wins).bool(), first.preferred),
                judges=np.full(len(rows), judge),
            )
        )
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.concatenate(part)
    return pairs, whole


ANSWERS = {"Cem": [1, 0, 1, 1, 0, None], "Ada": [1, 0, 0, 1, None, 1], "Bea": [None] * 5 + [1]}


def test_share_and_kappa_are_those_of_the_shared_questions(make_pairs):
    pairs, whole = judged(make_pairs, ANSWERS)
    found = agreement(whole)
    assert list(found) == [("Ada", "Bea"), ("Ada", "Cem"), ("Bea", "Cem")]
    sorts_first = [answer for _, answer in pairs.answers()]
    told = {
        judge: [bool(one) == first for one, first in zip(a, sorts_first, strict=True)] for judge, a in ANSWERS.items()
    }
    both = found["Ada", "Cem"]
    assert (both.n, both.share) == (4, 0.75)
    assert both.kappa == pytest.approx(cohen_kappa_score(told["Ada"][:4], told["Cem"][:4]))
    # and by hand
    one, other = (np.array(told[judge][:4]) for judge in ("Ada", "Cem"))
    chance = one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean())
    assert both.kappa == pytest.approx((0.75 - chance) / (1 - chance))
    assert 0 < both.low < 0.75 < both.high < 1
    assert found["Bea", "Cem"] == Agreement(0, None, None, None, None)
    assert found["Ada", "Bea"][:2] == (1, 1.0)
    assert found["Ada", "Bea"].kappa is None, "one answer alone says nothing of chance"


def test_the_order_of_rows_does_not_matter_and_repeats_count_once(make_pairs):
    _, whole = judged(make_pairs, ANSWERS)
    order = np.random.default_rng(0).permutation(len(whole))
    assert agreement(whole.select(order)) == agreement(whole)
    assert agreement(whole.concatenate(whole)) == agreement(whole)


def test_all_preferences_turned_around_agree_as_before(make_pairs):
    _, whole = judged(make_pairs, ANSWERS)
    turned = agreement(replace(whole, preferred=whole.rejected, rejected=whole.preferred))
    for judges, before in agreement(whole).items():
        assert turned[judges][:2] == before[:2]
        assert turned[judges].kappa == (before.kappa if before.kappa is None else pytest.approx(before.kappa))


def test_a_judge_agrees_with_itself_and_never_with_its_opposite(make_pairs):
    answers = [1, 0, 1, 1, 0, 1]
    _, whole = judged(make_pairs, {"a": answers, "b": answers, "c": [1 - answer for answer in answers]})
    found = agreement(whole)
    assert (found["a", "b"].share, found["a", "b"].kappa) == (1, 1)
    assert found["a", "c"].share == 0
    assert found["a", "c"].kappa < 0


def test_one_judge_has_nobody_to_agree_with(make_pairs):
    assert agreement(make_pairs(3, judges=np.full(3, "Ada"))) == {}
