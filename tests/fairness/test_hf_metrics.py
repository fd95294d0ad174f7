"""The metrics that `evaluate` loads by path, without a network."""

import socket

import evaluate
import numpy as np
import pytest

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.audit import audit
from synthfair_hf.fairness.hf_metrics import HF_METRICS
from synthfair_hf.fairness.summaries import EQUALIZED_ODDS


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
        ("equity_scaled_auc", {}, "equity_scaled_auc"),
        ("worst_group_accuracy", {"threshold": 0.3}, "worst_group_accuracy"),
        *(("equalized_odds", {"definition": name.removeprefix("equalized_odds_")}, name) for name in EQUALIZED_ODDS),
    ],
)
def test_a_metric_loaded_by_path_is_the_audits(module, arguments, name):
    columns = sample()
    found = evaluate.load(str(HF_METRICS / f"{module}.py")).compute(**columns, **arguments)
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
    metric = evaluate.load(str(HF_METRICS / "equalized_odds.py"))
    assert metric.compute(**columns, definition="max_difference") == {"equalized_odds_max_difference": None}
    with pytest.raises(InputError, match="definition: 'max' is unknown; allowed: max_difference"):
        metric.compute(**columns, definition="max")
