"""No complete answer is lost wherever a crash cuts the file, a cut one is asked again, and other files are refused."""

import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.align.labelling.answers import Answer, Answers
from synthfair_hf.errors import InputError


def answer(id="a", said="first", annotator="ada", **others):
    given = {"side_swapped": False, "seconds": 1.5, "comment": "größer", "time": "2026-01-02T03:04:05+00:00"}
    return Answer(id=id, annotator=annotator, answer=said, **{**given, **others})


SAID = [
    answer("a"),
    answer("b", "tie"),
    answer("a", "second", "ben", side_swapped=True),
    answer("b", "undo"),
    answer("b", "reject"),
]


def test_what_is_appended_is_read(tmp_path):
    path = tmp_path / "answers.jsonl"
    written = Answers(path)
    for one in SAID:
        written.append(one)
    assert [Answer(**json.loads(line)) for line in path.read_text().splitlines()] == SAID
    for answers in (written, Answers(path)):
        assert answers.annotators == ["ada", "ben"]
        assert answers.of("ada") == [SAID[0], SAID[4]]
        assert answers.of("ben") == [SAID[2]]
        assert (answers.lines("ada"), answers.lines("ben"), answers.lines("nobody")) == (4, 1, 0)


def test_cut_at_any_byte_every_complete_answer_is_kept_and_the_next_takes_the_place_of_the_cut_one(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "fsync", lambda file: None)
    path = tmp_path / "answers.jsonl"
    whole = "".join(one.model_dump_json() + "\n" for one in SAID[:3]).encode()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        complete = whole[:size].count(b"\n")
        answers = Answers(path)
        assert [one for name in ("ada", "ben") for one in answers.of(name)] == SAID[:complete]
        assert path.read_bytes() == whole[:size], "reading changes nothing"
        answers.append(answer("z"))
        kept = whole[: whole[:size].rfind(b"\n") + 1]
        assert path.read_bytes() == kept + answer("z").model_dump_json().encode() + b"\n"


def test_an_answer_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    path, synced = tmp_path / "answers.jsonl", []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(path.read_bytes()), fsync(file)))
    answers = Answers(path)
    answers.append(answer("a"))
    answers.append(answer("b"))
    lines = [answer(id).model_dump_json().encode() + b"\n" for id in "ab"]
    assert synced == [lines[0], lines[0], b"".join(lines)], "the new file's directory is synced once"


def test_an_answer_that_could_not_be_written_does_not_count_and_leaves_room_for_the_next(tmp_path, monkeypatch):
    answers = Answers(tmp_path / "answers.jsonl")
    answers.append(answer("a"))

    def full(file):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            answers.append(answer("b"))
    assert answers.of("ada") == [answer("a")]
    assert Answers(answers.path).of("ada") == [answer("a")]
    answers.append(answer("c"))
    assert Answers(answers.path).of("ada") == [answer("a"), answer("c")]


def test_a_file_that_another_program_wrote_into_is_not_overwritten(tmp_path):
    path = tmp_path / "answers.jsonl"
    answers = Answers(path)
    answers.append(answer("a"))
    for changed in (path.read_bytes() + answer("x").model_dump_json().encode() + b"\n", b"", b"{}\n"):
        path.write_bytes(changed)
        with pytest.raises(InputError, match="another program changed it"):
            answers.append(answer("b"))
        assert path.read_bytes() == changed


def test_one_page_at_a_time_appends(tmp_path):
    path = tmp_path / "answers.jsonl"
    sentence = r"answers\.jsonl: is in use by another page; stop that one"
    with Answers(path).claim(), pytest.raises(InputError, match=sentence):
        Answers(path).claim()
    Answers(path).claim().release()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.booleans()), max_size=20))
def test_the_answers_that_stand_are_a_stack_of_each_annotator(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("stack") / "answers.jsonl"
    answers, stacks = Answers(path), {"a": [], "b": []}
    for name, id, back in steps:
        stack = stacks[name]
        if back and stack:
            answers.append(answer(stack.pop(), "undo", name))
        elif id not in stack:
            stack.append(id)
            answers.append(answer(id, "tie", name))
    for found in (answers, Answers(path)):
        assert {name: [one.id for one in found.of(name)] for name in stacks} == stacks


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("x", "not an answer (invalid JSON"),
        ("", "not an answer (invalid JSON"),
        ('{"id": "a"}', "not an answer (answer: annotator is not given; give it)"),
        (answer().model_dump_json().replace("first", "third"), "not an answer ("),
        (answer().model_dump_json().replace("1.5", "-1"), "not an answer (seconds: -1 is invalid; give"),
        (answer().model_dump_json().replace('"time"', '"when"'), "not an answer (answer: time is not given; give it)"),
        (answer("a", "tie").model_dump_json(), "ada has answered 'a' before; revoke that first"),
        (answer("b", "undo").model_dump_json(), "revokes 'b', but ada's latest answer is 'a'"),
        (answer("a", "undo", "ben").model_dump_json(), "revokes 'a', but ben's latest answer is None"),
    ],
)
def test_other_lines_are_refused(tmp_path, line, sentence):
    path = tmp_path / "answers.jsonl"
    path.write_text(answer("a").model_dump_json() + "\n" + line + "\n")
    with pytest.raises(InputError, match=f"^{re.escape(f'{path}:2: {sentence}')}"):
        Answers(path)
