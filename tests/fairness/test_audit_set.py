"""Figures of many classifiers at once are those of masks and loops, and sets that rank alike agree."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from sklearn.metrics import roc_auc_score

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.labelled import LabelledImages

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("audit_set")


def rows(seed, number=200):
    rng = np.random.default_rng(seed)
    return LabelledImages(
        torch.zeros(number, 1, 16, 16, dtype=torch.uint8),
        torch.from_numpy(rng.integers(0, 2, number)),
        {"sex": torch.from_numpy(rng.integers(0, 2, number))},
        {"sex": ("male", "female")},
        rng.integers(0, number // 2, number).astype(str),
    )


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_masks_and_repeated_rows(benchmark, seed):
    rng = np.random.default_rng(seed)
    examples, scores = rows(seed), rng.random((4, 200))
    own = benchmark.Scores(examples, "sex", scores)
    weights = rng.integers(0, 3, len(own.subjects)).astype(float)
    found = own.figures(weights)
    times = dict(zip(own.subjects, weights.astype(int), strict=True))
    repeated = np.repeat(np.arange(200), [times[one] for one in examples.subjects])
    labels, groups = examples.labels.numpy()[repeated], examples.groups["sex"].numpy()[repeated]
    for place, one in enumerate(scores[:, repeated]):
        rate = {(y, g): np.mean(one[(labels == y) & (groups == g)] >= 0.5) for y in (0, 1) for g in (0, 1)}
        right = [rate[1, 0], rate[1, 1], 1 - rate[0, 0], 1 - rate[0, 1]]
        tpr, fpr = rate[1, 0] - rate[1, 1], rate[0, 0] - rate[0, 1]
        expected = {
            **{"auc": roc_auc_score(labels, one), "accuracy": np.mean(right), "worst_group_accuracy": min(right)},
            **{"equalized_odds": (abs(tpr) + abs(fpr)) / 2, "tpr_difference": tpr, "fpr_difference": fpr},
        }
        assert {name: found[name][place] for name in expected} == pytest.approx(expected)


def test_a_set_agrees_with_itself_and_an_independent_one_does_not(benchmark):
    rng = np.random.default_rng(0)
    examples = rows(0)
    # classifiers of different worth, so that their ranks are not noise
    worth = np.linspace(0, 2, 24)[:, None]
    scores = 1 / (1 + np.exp(-(worth * (2 * examples.labels.numpy() - 1) + rng.normal(size=(24, 200)))))
    own = benchmark.Scores(examples, "sex", scores)
    seeds = np.arange(24) % 4
    same = benchmark.compared(own, own, seeds, 20)
    assert all(same[name]["spearman"]["value"] == pytest.approx(1) for name in benchmark.FIGURES)
    assert all(same[name]["level"]["value"] == 0 for name in benchmark.FIGURES)
    assert same["subgroups"]["worst"]["value"] == 1
    assert same["auc"]["spearman"]["ceiling"] > 0.8
    shuffled = benchmark.Scores(examples, "sex", scores[rng.permutation(24)])
    other = benchmark.compared(own, shuffled, seeds, 20)
    assert abs(other["auc"]["spearman"]["value"]) < 0.6
    assert benchmark.compared(own, shuffled, seeds, 20) == other


def test_kendall_of_subgroups_is_that_of_scipy(benchmark):
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 4, (30, 4)) / 4 for _ in range(2))
    with np.errstate(invalid="ignore"):
        expected = np.nanmean([kendalltau(*pair).statistic for pair in zip(one, other, strict=True)])
    assert benchmark.same_order(one, other)["kendall"] == pytest.approx(expected)


def test_constant_figures_have_no_rank_correlation(benchmark):
    found = benchmark.agreement(np.ones(5), np.arange(5.0))
    assert np.isnan(list(found.values())).all()
    assert benchmark.cell({"value": None, "low": None, "high": None, "ceiling": None}) == "- | -"


def test_a_run_without_classifiers_is_told(benchmark, tmp_path):
    with pytest.raises(InputError, match=r"holds no classifiers; fit them by benchmarks/aim_fair.py first"):
        benchmark.classifiers(tmp_path, "real", "synthetic")
