"""The experiment's own arithmetic: win rates, gaps and what counts as worse, on scores whose answers are known."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from synthfair_hf.records import Record

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PAGES = BENCHMARKS.parent / "docs" / "alignment"
GROUPS = np.array(["a", "a", "b", "b"])


@pytest.fixture(scope="module")
def experiment():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("alignment")


@pytest.fixture(scope="module")
def page(experiment):
    return importlib.import_module("alignment_page")


def judged(experiment, scores, grey=0.5):
    return experiment.Judged(torch.full((len(scores), 1, 2, 2), grey), {"judge B": np.array(scores, dtype=float)})


def asked(seeds):
    return [SimpleNamespace(groups=GROUPS, subjects=[f"{seed}-{row}" for row in range(4)]) for seed in range(seeds)]


def test_the_gap_is_best_subgroup_less_worst_of_the_rows_drawn(experiment):
    scores = np.array([1.0, 3.0, -1.0, 0.0])
    assert experiment.gap(scores, GROUPS, np.arange(4)) == 2.5
    assert experiment.gap(scores, GROUPS, np.array([1, 2])) == 4
    assert experiment.gap(scores, GROUPS, np.array([0, 1, 1])) == 0, "one subgroup alone has none"


def test_wins_count_one_ties_half_and_each_seed_alike(experiment):
    base = [judged(experiment, [2, 2, 0, 0]), judged(experiment, [2, 2, 0, 0], 0.25)]
    own = [judged(experiment, [3, 3, 0, -1]), judged(experiment, [3, 3, 1, 1], 0.75)]
    found = experiment.compared(asked(2), base, own)
    assert found["judge B"]["win_rate"]["mean"] == (2.5 / 4 + 1) / 2
    assert found["judge B"]["gain"]["mean"] == (1 / 4 + 1) / 2
    assert found["moved"] == pytest.approx(255 * 0.25)
    assert found["judge B"]["groups"] == {"a": [2, 3], "b": [0, (-0.5 + 1) / 2]}


def test_the_gap_is_of_all_seeds_so_that_what_they_differ_by_is_no_gap(experiment):
    base = [judged(experiment, [4, 4, 0, 0]), judged(experiment, [0, 0, 2, 2])]
    own = [judged(experiment, [1, 1, 0, 0]), judged(experiment, [0, 0, 1, 1])]
    found = experiment.compared(asked(2), base, own)["judge B"]
    assert (found["gap_base"], found["gap_aligned"]) == (1, 0)
    assert found["gap_reduction"]["mean"] == 100


def test_a_halved_gap_is_reduced_by_fifty_percent_and_an_unchanged_generator_by_nothing(experiment):
    base = [judged(experiment, [4, 4, 0, 0])]
    halved = experiment.compared(asked(1), base, [judged(experiment, [4, 4, 2, 2])])["judge B"]
    assert (halved["gap_base"], halved["gap_aligned"]) == (4, 2)
    assert halved["gap_reduction"]["mean"] == 50
    same = experiment.compared(asked(1), base, base)
    assert (same["moved"], same["judge B"]["gap_reduction"]["mean"], same["judge B"]["win_rate"]["mean"]) == (0, 0, 0.5)


@pytest.mark.parametrize(
    ("accuracies", "chosen"),
    [
        ({20: (0.7, 0.8), 100: (0.8, 0.7), 500: (0.6, 0.8)}, 100),
        ({500: (0.7, 0.7), 20: (0.8, 0.7)}, 20),
        ({500: (0.7, 0.7), 20: (0.7, 0.7)}, 500),
    ],
)
def test_beta_is_chosen_by_validation_pairs_and_of_equals_the_highest(experiment, accuracies, chosen):
    fits = [
        {"beta": beta, "seed": seed, "validation": {"mean": mean}, "test": {"mean": 1 - mean}}
        for beta, means in accuracies.items()
        for seed, mean in enumerate(means)
    ]
    assert experiment.best_beta(fits) == chosen


@pytest.mark.parametrize("directory", sorted(PAGES.iterdir()), ids=lambda path: path.name)
def test_every_page_is_printed_from_its_record_and_shows_no_patients(page, directory):
    record = Record.read(directory / "alignment.json")
    assert (directory / "README.md").read_text(encoding="utf-8") == page.page(record)
    assert (directory / "answers.png").exists() == (record.settings["questions"] != "counterfactuals")


@pytest.mark.parametrize(
    ("metric", "mean", "worse"),
    [
        ("mae", 1.3, True),
        ("mae", 1.1, False),
        ("mae", 0.5, False),
        ("auc", 0.7, True),
        ("auc", 0.9, False),
        ("auc", 1.3, False),
        ("auc", None, False),
    ],
)
def test_worse_is_beyond_the_interval_on_the_bad_side(page, metric, mean, worse):
    base = {"metric": metric, "mean": 1.0, "low": 0.8, "high": 1.2}
    assert page.worse_by_more_than_interval(base, {"metric": metric, "mean": mean}) is worse
