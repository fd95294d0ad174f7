"""The metrics that `evaluate` loads by path, without a network."""

import socket
import sys

import evaluate
import numpy as np
import pandas
import pytest

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.audit import audit
from synthfair_hf.fairness.hf_metrics import load_metric
from synthfair_hf.fairness.summaries import EQUALIZED_ODDS, SUMMARIES


@pytest.fixture(autouse=True, scope="module")
def _offline(tmp_path_factory):
    """No network, and a cache of this file's own."""

    def refuse(*_):
        raise AssertionError("a network connection was opened")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        for cache in ("HF_METRICS_CACHE", "HF_MODULES_CACHE"):
            patch.setattr(f"evaluate.config.{cache}", str(tmp_path_factory.mktemp("evaluate")))
        # `evaluate` makes its folder of modules importable
        patch.syspath_prepend(evaluate.config.HF_MODULES_CACHE)
        yield


def sample(n=200, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "predictions": rng.random(n).tolist(),
        "references": rng.integers(0, 2, n).tolist(),
        "groups": rng.choice(["a", "b", "c"], n).tolist(),
    }


@pytest.mark.parametrize(
    ("module", "arguments", "name"),
    [
        *((name, {"threshold": 0.3}, name) for name in SUMMARIES),
        ("equalized_odds", {}, "equalized_odds_max_difference"),
        *(("equalized_odds", {"definition": name.removeprefix("equalized_odds_")}, name) for name in EQUALIZED_ODDS),
    ],
)
def test_a_metric_is_the_audits(module, arguments, name):
    columns = sample()
    found = load_metric(module).compute(**columns, **arguments)
    table = audit(
        *list(columns.values())[:2],
        {"group": columns["groups"]},
        n_bootstrap=1,
        permutations=0,
        threshold=arguments.get("threshold", 0.5),
    )
    assert found == {name: pytest.approx(table.gaps.set_index("metric").loc[name, "value"])}


def test_one_group_has_no_figure_and_a_definition_must_be_named():
    columns = sample() | {"groups": ["a"] * 200}
    metric = load_metric("equalized_odds")
    assert metric.compute(**columns, definition="max_difference") == {"equalized_odds_max_difference": None}
    with pytest.raises(InputError, match="definition: 'max' is unknown; allowed: max_difference"):
        metric.compute(**columns, definition="max")


METRICS = {"equity_scaled_auc": {}, "worst_group_accuracy": {}, "equalized_odds": {"definition": "mean_difference"}}
VALID = {"predictions": [0.1, 0.9, 0.4, 0.8], "references": [0, 1, 1, 0], "groups": ["a", "a", "b", "b"]}


@pytest.fixture(scope="module", params=METRICS)
def compute(request, _offline):
    """`compute(**given)`: one of the metrics of VALID columns and its own arguments, some of them replaced."""
    metric = load_metric(request.param)
    return lambda **given: metric.compute(**{**VALID, **METRICS[request.param], **given})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"references": [0.0, 0.9, 1.0, 0.0]}, "references: 1 of 4 neither 0 nor 1, such as 0.9"),
        ({"references": [0, 1, 2, 0]}, "references: 1 of 4 neither"),
        ({"references": ["0", "1", "1", "0"]}, "references: not all are numbers"),
        ({"references": [0, None, 1, 0]}, "references: 1 of 4 neither"),
        ({"references": np.ma.array([0, 1, 1, 0], mask=[0, 0, 0, 1])}, "references: 1 of 4 neither"),
        ({"references": [0, 1]}, "references: shape .* for 4"),
        ({"references": [[0], [1], [1], [0]]}, "references: shape"),
        ({"references": None}, "references: not given"),
        ({"predictions": ["0.1", "0.9", "0.4", "0.8"]}, "predictions: not all are numbers"),
        ({"predictions": [0.1, 1.9, 0.4, 0.8]}, "predictions: 1 of 4 not in"),
        ({"predictions": [0.1, float("nan"), 0.4, 0.8]}, "predictions: 1 of 4 not in"),
        ({"predictions": [0.1, None, 0.4, 0.8]}, "predictions: 1 of 4 not in"),
        ({"predictions": np.array(["2020-01-01"] * 4, dtype="datetime64[D]")}, "predictions: not all are numbers"),
        ({"predictions": [10**400] * 4}, "predictions: not all are numbers"),
        ({"predictions": []}, "predictions: 0 of 0"),
        ({"groups": ["a", "b"]}, "groups: not one name for each of 4"),
        ({"groups": "abab"}, "groups: not one name"),
        ({"groups": 3}, "groups: not one name"),
        ({"groups": [1, 2, 1, 2]}, "groups: 1 is no name"),
        ({"groups": [None] * 4}, "groups.*: no row has a value"),
        ({"treshold": 0.5}, "compute: 'treshold' is unknown; allowed: predictions, "),
        ({"predictions": None, "references": None, "groups": None}, "predictions, references, groups: not given"),
    ],
)
def test_columns_are_checked_as_they_are_given(compute, given, message):
    with pytest.raises(InputError, match=message) as raised:
        compute(**given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "columns",
    [
        {"references": np.array([0.0, 1.0, 1.0, 0.0])},
        {"references": [False, True, True, False]},
        {"predictions": np.array([0.1, 0.9, 0.4, 0.8], dtype=np.float16).astype(np.float64)},
    ],
)
def test_numbers_that_are_labels_are_labels(compute, columns):
    assert compute(**columns).keys() == compute().keys()
    assert next(iter(compute(**columns).values())) == pytest.approx(next(iter(compute().values())), abs=1e-3)


@pytest.mark.parametrize("place", [0, 4])
@pytest.mark.parametrize("missing", [None, float("nan"), np.float64("nan"), pandas.NA, pandas.NaT])
def test_a_missing_group_is_no_group_of_its_own(compute, missing, place):
    rows = {name: [*column[:place], column[1], *column[place:]] for name, column in VALID.items()}
    groups = [*VALID["groups"][:place], missing, *VALID["groups"][place:]]
    assert compute(**{**rows, "groups": groups}) == compute()


def test_what_a_definition_needs_is_named_and_rows_may_be_added_one_by_one():
    metric = load_metric("equalized_odds")
    assert metric.compute(**VALID) == metric.compute(**VALID, definition="max_difference"), "fairlearn's by default"
    with pytest.raises(InputError, match=r"definition: \['max_difference'\] is unknown"):
        metric.compute(**VALID, definition=["max_difference"])
    with pytest.raises(InputError, match="threshold: nan is invalid"):
        metric.compute(**VALID, definition="max_difference", threshold=float("nan"))
    with pytest.raises(InputError, match="references: 1 of 1 neither 0 nor 1"):
        metric.add(prediction=0.5, reference=0.9, groups="a")
    for prediction, reference, group in zip(*VALID.values(), strict=True):
        metric.add(prediction=prediction, reference=reference, groups=group)
    added = metric.compute(definition="max_difference")
    assert added == metric.compute(**VALID, definition="max_difference")


def test_metrics_are_combined_and_share_their_threshold():
    names = ["equalized_odds", "demographic_parity_ratio", "worst_group_accuracy"]
    columns = sample() | {"threshold": 0.3}
    together = evaluate.combine([load_metric(name) for name in names]).compute(**columns)
    assert together == {key: value for name in names for key, value in load_metric(name).compute(**columns).items()}


def test_a_metric_that_there_is_not_is_named(monkeypatch):
    with pytest.raises(InputError, match=r"name: 'worst_group_acuracy' is unknown; .*mean 'worst_group_accuracy'"):
        load_metric("worst_group_acuracy")
    monkeypatch.setitem(sys.modules, "evaluate", None)
    with pytest.raises(InputError, match="evaluate is not installed; install it, or this package with the extra"):
        load_metric("equalized_odds")
