"""Order and sides repeat, differ between annotators, are balanced and blind; answers count for the pair shown."""

import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, spearmanr

from synthfair_hf.align.labelling.answers import Answers
from synthfair_hf.align.labelling.candidates import FILE, Candidates
from synthfair_hf.align.labelling.page import render
from synthfair_hf.align.labelling.session import LONGEST_COMMENT, Labelling
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError

NAMES = ("ada", "ben")


@pytest.fixture(scope="module")
def candidates(write_candidates, tmp_path_factory):
    return Candidates.read(write_candidates(tmp_path_factory.mktemp("labelling") / "candidates"), CHEST_XRAY)


@pytest.fixture(scope="module")
def many(write_candidates, tmp_path_factory):
    directory = write_candidates(tmp_path_factory.mktemp("many") / "candidates", pairs=400, side=8)
    return directory, Candidates.read(directory, CHEST_XRAY)


@pytest.fixture
def start(candidates, tmp_path):
    """`start()` opens the page's state anew from the file, as after a crash."""
    return lambda: Labelling(candidates, Answers(tmp_path / "answers.jsonl"), NAMES, seed=0)


def shown(labelling, name):
    """All pairs an annotator would be shown, in order."""
    return list(labelling._orders[name].values())


def test_order_and_sides_repeat_and_belong_to_the_annotator_and_the_seed(many, tmp_path):
    _, candidates = many
    answers = Answers(tmp_path / "none.jsonl")
    one, again = (Labelling(candidates, answers, names, 0) for names in (NAMES, ("ben", "carl", "ada")))
    for name in NAMES:
        assert shown(one, name) == shown(again, name)
        assert sorted(question.row for question in shown(one, name)) == list(range(400))
    for other in (shown(one, "ben"), shown(Labelling(candidates, answers, NAMES, 1), "ada")):
        mine = sorted(shown(one, "ada")), sorted(other)
        same = sum(left.side_swapped == right.side_swapped for left, right in zip(*mine, strict=True))
        assert binomtest(same, 400).pvalue > 1e-3
        rows = [question.row for question in shown(one, "ada")], [question.row for question in other]
        assert spearmanr(*rows).pvalue > 1e-3


def test_sides_are_balanced_and_do_not_depend_on_place(many, tmp_path):
    _, candidates = many
    labelling = Labelling(candidates, Answers(tmp_path / "none.jsonl"), [f"n{i}" for i in range(10)], seed=0)
    swapped = [[question.side_swapped for question in shown(labelling, name)] for name in labelling.annotators]
    assert binomtest(sum(map(sum, swapped)), 4000).pvalue > 1e-3
    for half in (slice(200), slice(200, None)):
        assert binomtest(sum(sum(one[half]) for one in swapped), 2000).pvalue > 1e-3


def test_which_file_is_first_does_not_move_a_side(many, tmp_path):
    directory, candidates = many
    lines = [json.loads(line) for line in (directory / FILE).read_text().splitlines()]
    other = tmp_path / "other"
    other.mkdir()
    exchanged = [{**line, "first": line["second"], "second": line["first"]} for line in lines]
    (other / "images").mkdir()
    for path in (directory / "images").iterdir():
        (other / "images" / path.name).write_bytes(path.read_bytes())
    (other / FILE).write_text("".join(json.dumps(line) + "\n" for line in exchanged))
    mirrored = Candidates.read(other, CHEST_XRAY)
    assert torch.equal(mirrored.pairs.preferred, candidates.pairs.rejected)
    orders = [shown(Labelling(one, Answers(tmp_path / "x"), NAMES, 0), "ada") for one in (candidates, mirrored)]
    assert orders[0] == orders[1]


@given(choices=st.lists(st.sampled_from(["left", "right", "tie", "reject", "undo"]), max_size=12), again=st.randoms())
def test_the_next_pair_is_the_same_after_any_crash(candidates, tmp_path_factory, choices, again):
    path = tmp_path_factory.mktemp("crash") / "answers.jsonl"
    labelling = Labelling(candidates, Answers(path), NAMES, seed=0)
    order, standing = shown(labelling, "ada"), []
    for choice in choices:
        if choice == "undo":
            assert labelling.undo("ada", labelling.token("ada")) == bool(standing)
            standing = standing[:-1]
        elif len(standing) < len(order):
            assert labelling.answer("ada", labelling.token("ada"), choice)
            standing.append(choice)
        if again.random() < 0.5:
            labelling = Labelling(candidates, Answers(path), NAMES, seed=0)
        expected = order[len(standing)] if len(standing) < len(order) else None
        assert labelling.next_pair("ada") == expected
        assert labelling.progress("ada")[:2] == (len(standing), len(order))
        assert labelling.progress("ben")[:2] == (0, len(order)), "the other annotator is left alone"
    # every `first` is dark and every `second` light: what was on the chosen side is what is preferred
    for question, choice, answer in zip(order, standing, labelling.answers.of("ada"), strict=False):
        left, right = ("second", "first") if question.side_swapped else ("first", "second")
        assert answer.answer == {"left": left, "right": right}.get(choice, choice)
        assert (answer.id, answer.side_swapped) == (candidates.ids[question.row], question.side_swapped)


def test_a_key_pressed_twice_answers_one_pair(start):
    labelling = start()
    token = labelling.token("ada")
    assert labelling.answer("ada", token, "left", 2.04, " blurred ")
    assert not labelling.answer("ada", token, "left")
    assert not labelling.undo("ada", token)
    assert not start().answer("ada", token, "left"), "nor does it after a crash"
    (kept,) = start().answers.of("ada")
    assert (kept.seconds, kept.comment) == (2.0, "blurred")
    # back at the same pair, the key that came late still counts for nothing
    assert labelling.undo("ada", labelling.token("ada"))
    assert not labelling.answer("ada", token, "left")
    assert not labelling.answer("ben", labelling.token("ada"), "left")


@pytest.mark.parametrize("seconds", [None, float("nan"), float("inf"), -1.0])
def test_a_time_that_is_none_is_not_kept(start, seconds):
    labelling = start()
    assert labelling.answer("ada", labelling.token("ada"), "tie", seconds)
    assert labelling.answers.of("ada")[0].seconds is None
    assert labelling.progress("ada").seconds_left is None


def test_progress_says_what_the_median_pair_took_for_each_that_is_left(start):
    labelling = start()
    for seconds in (1.0, 100.0, 30.0):
        labelling.answer("ada", labelling.token("ada"), "tie", seconds)
    assert labelling.progress("ada") == (3, 6, 90.0)
    assert "3 of 6 answered, about 2 minutes left" in render(labelling, "ada")


def test_the_page_tells_covariates_and_no_model(start, candidates):
    labelling = start()
    page = render(labelling, "ada")
    asked = labelling.next_pair("ada")
    for words in (f"{20 + asked.row} years", "female", "no finding", "PA"):
        assert f"<dd>{words}</dd>" in page
    assert "scanner" not in page, "a missing covariate is not shown"
    for secret in ("model", "pair-", "images/", "first", "second", f"p{asked.row}"):
        assert secret not in re.sub('base64,[^"]*', "", page)


def test_strangers_are_offered_the_names_and_names_are_escaped(candidates, tmp_path):
    labelling = Labelling(candidates, Answers(tmp_path / "answers.jsonl"), ["<ada> & co"], seed=0)
    assert '<a href="?annotator=%3Cada%3E%20%26%20co">&lt;ada&gt; &amp; co</a>' in render(labelling, None)
    assert "<ada>" not in render(labelling, "<ada> & co")
    with pytest.raises(InputError, match="annotator: 'ben' is unknown; allowed: <ada> & co"):
        render(labelling, "ben")


def test_the_end_says_so_and_can_be_taken_back(start):
    labelling = start()
    while labelling.next_pair("ada") is not None:
        labelling.answer("ada", labelling.token("ada"), "left", 1.0)
    assert "All 6 pairs are answered" in render(labelling, "ada")
    assert not labelling.answer("ada", labelling.token("ada"), "left")
    assert labelling.undo("ada", labelling.token("ada"))
    assert "5 of 6 answered" in render(labelling, "ada")


def test_a_comment_beyond_the_limit_is_not_kept_whatever_the_page_lets_through(start):
    labelling = start()
    with pytest.raises(InputError, match="comment: 2001 characters; allowed: 2000"):
        labelling.answer("ada", labelling.token("ada"), "tie", 1.0, "x" * (LONGEST_COMMENT + 1))
    assert labelling.progress("ada").answered == 0
    assert labelling.answer("ada", labelling.token("ada"), "tie", 1.0, "x" * LONGEST_COMMENT)
