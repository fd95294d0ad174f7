"""Conditions find the figure that they name, and a figure without a value does not pass."""

import math

import numpy as np
import pytest

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.audit import audit
from synthfair_hf.fairness.conditions import parse_condition

ATTRIBUTES = ("sex", "site", "sex & site")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    scores = np.clip(0.4 * labels + 0.6 * rng.random(200), 0, 1)
    groups = {"sex": rng.choice(["f", "m"], 200).tolist(), "site": ["a b", *["c"] * 199]}
    return audit(scores, labels, groups, intersections=[("sex", "site")], n_bootstrap=50, permutations=20)


def figure(table, **where):
    frame = table.groups if "group" in where else table.gaps
    for column, value in where.items():
        frame = frame[frame[column] == value]
    (row,) = frame.to_dict("records")
    return row


@pytest.mark.parametrize(
    ("text", "where", "column"),
    [
        ("gap(tpr, sex) > 0.1", {"attribute": "sex", "metric": "tpr_gap"}, "value"),
        (" gap( tpr ,sex ).low>=0", {"attribute": "sex", "metric": "tpr_gap"}, "low"),
        ("worst(auc, sex) < .75", {"attribute": "sex", "metric": "auc_worst"}, "value"),
        ("ratio(selection_rate, sex & site).high < 8e-1", None, "high"),
        ("auc(sex=f) < 0.8", {"attribute": "sex", "group": "f", "metric": "auc"}, "value"),
        ("auc(everyone).high < 0.8", {"attribute": "everyone", "group": "everyone", "metric": "auc"}, "high"),
        ("equal_opportunity_difference(sex).p < 0.05", None, "p"),
        ("gap(tpr, sex, site) > 0.1", {"attribute": "sex & site", "metric": "tpr_gap"}, "value"),
        ("accuracy(site=a b) < 0.8", {"attribute": "site", "group": "a b", "metric": "accuracy"}, "value"),
    ],
)
def test_a_condition_is_about_the_figure_that_it_names(table, text, where, column):
    condition = parse_condition(text, ATTRIBUTES)
    outcome = condition.check(table)
    where = where or {"attribute": condition.attribute, "metric": condition.metric}
    expected = figure(table, **where)[column]
    assert outcome.figure == pytest.approx(expected, nan_ok=True)
    number = condition.number
    assert outcome.holds == (expected > number if condition.comparison[0] == ">" else expected < number)


def test_partial_auc_is_a_figure_where_it_is_audited():
    rng = np.random.default_rng(0)
    groups = {"sex": rng.choice(["f", "m"], 100).tolist()}
    table = audit(rng.random(100), rng.integers(0, 2, 100), groups, n_bootstrap=5, permutations=0, max_fpr=0.3)
    for text, frame in (("gap(partial_auc, sex) > 0", table.gaps), ("partial_auc(sex=f) > 0", table.groups)):
        outcome = parse_condition(text, ["sex"], 0.3).check(table)
        assert outcome.figure in frame["value"].to_numpy()
        with pytest.raises(InputError, match="is of partial_auc; give max_fpr"):
            parse_condition(text, ["sex"])


def test_a_figure_without_a_value_does_not_pass(table):
    for text in ("auc(site=a b) < 0.8", "auc(site=a b) > 0.8"):
        outcome = parse_condition(text, ATTRIBUTES).check(table)
        assert math.isnan(outcome.figure), "one row has no area under a curve"
        assert outcome.holds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gap(tpr, sex)", "is no condition; write it as 'gap"),
        ("gap(tpr, sex) == 1", "is no condition"),
        ("__import__('os') > 1", "is no condition|is unknown"),
        ("gap(tpr, sex) > 1e", "'1e' in .* is no number"),
        ("gap(tpr) > 1", "is of a metric and an attribute"),
        ("gap(tpr, site, sex) > 1", "attribute: 'site & sex' is unknown; allowed: sex, site, sex & site"),
        ("gap(trp, sex) > 1", "metric of gap: 'trp' is unknown; .*did you mean 'tpr'"),
        ("worst(selection_rate, sex) > 1", "metric of worst: 'selection_rate' is unknown"),
        ("auc(sex) < 1", r"is of one group; write it as 'auc\(sex=GROUP\)"),
        ("auc(sex=f).p < 1", "has no p-value"),
        ("gap(tpr, sex).mean < 1", "end: 'mean' is unknown; allowed: low, high, p"),
        ("gap(tpr, age) < 1", "attribute: 'age' is unknown; allowed: sex, site"),
        ("magic(sex) < 1", "figure: 'magic' is unknown"),
    ],
)
def test_what_is_no_condition_is_one_sentence(text, message):
    with pytest.raises(InputError, match=message):
        parse_condition(text, ATTRIBUTES)


def test_a_group_that_is_not_there_is_named(table):
    with pytest.raises(InputError, match=r"group of 'auc.sex=x. < 1': 'x' is unknown; allowed: f, m"):
        parse_condition("auc(sex=x) < 1", ATTRIBUTES).check(table)
