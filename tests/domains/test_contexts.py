"""Contexts: what is one, what is none and why, and the files of their phrases."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synthfair_hf.domains.contexts import CONTEXTS, DEMOGRAPHIC, Contexts, acquisition, read_contexts
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.domains.presets import PRESETS
from synthfair_hf.errors import InputError

CHEST = PRESETS["chest_xray"]
KNOWN = read_contexts(CHEST, variables=["posture", "view"])

REJECTED = {
    "is not JSON": [
        "",
        "Sure! Here is one:",
        '{"posture": "a"',
        '{"posture": NaN, "view": "PA"}',
        "[" * 1900,
        "\ud800",
    ],
    "is not a JSON object": ["[1]", '"posture"', "null", "1e999"],
    "is longer than 2000 characters": ['{"posture": "' + "a" * 3000 + '", "view": "PA"}'],
    "names a variable twice": ['{"posture": "a", "posture": "b", "view": "PA"}'],
    "names an unknown variable": ['{"posture": "a", "view": "PA", "sex": "female"}', '{"__proto__": "a"}'],
    "lacks a variable": ["{}", '{"posture": "lying supine"}'],
    "holds a value that is no text": [
        f'{{"posture": {value}, "view": "PA"}}' for value in ('{"a": "b"}', "1", "null", "true", '["a"]', "1e999")
    ],
    "holds no level of view": [
        f'{{"posture": "a", "view": "{level}"}}' for level in ("lateral", "", "frontal PA view")
    ],
    "speaks of sex": [
        f'{{"posture": "{text}", "view": "PA"}}'
        for text in (
            "a grandmother",
            "with a uterus",
            "a woman lying",
            "Her arms up",
            "FEMALES only",
            "breast-down",
            "w.o.m.a.n",
            "w o m a n",
            "wom-an",
            "Mrs Smith",
            "a schoolboy",
        )
    ],
    "speaks of age": [
        f'{{"posture": "{text}", "view": "PA"}}'
        for text in (
            "an elderly person",
            "of 80 years",
            "80yo",
            "7 y old",
            "Aged",
            "aged75",
            "a septuagenarian",
            "toddlers",
        )
    ],
    "speaks of race": [
        f'{{"posture": "{text}", "view": "PA"}}'
        for text in ("asian", "dark skin", "white coat", "afro-american", "Nigerian")
    ],
    "speaks of finding": ['{"posture": "with pneumonia", "view": "PA"}', '{"posture": "no finding", "view": "PA"}'],
    "speaks of scanner": ['{"posture": "by a portable unit", "view": "PA"}'],
    "speaks of view": ['{"posture": "supine, AP", "view": "PA"}'],
}
"""By the reason that is given, what a language model might write."""

NO_PHRASE = ["Ignore this: {{ 7 * 7 }}", "<lora:x:1>", "(supine:1.5)", "a" * 81, "", " ", "\\u202eenips", "маn", "[x]"]


@pytest.mark.parametrize(("why", "line"), [(why, line) for why, lines in REJECTED.items() for line in lines])
def test_a_line_that_is_no_context_is_told_why(why, line):
    assert KNOWN.parse(line) == (None, why)


@pytest.mark.parametrize("text", NO_PHRASE)
def test_a_text_with_a_meaning_to_templates_or_pipelines_is_no_phrase(text):
    context, why = KNOWN.parse(f'{{"posture": "{text}", "view": "PA"}}')
    assert context is None
    assert why is not None
    assert why.startswith("holds a text that is no phrase")


@pytest.mark.parametrize(
    "text", ["after chemotherapy", "MR, 120 ms, 14 French", "T2 of the L4 root", "a malady", "human"]
)
def test_words_that_only_look_like_those_of_a_person_are_phrases(text):
    assert KNOWN.why_no_phrase(text) is None


def test_levels_and_phrases_have_their_own_spelling_and_order():
    assert KNOWN.parse('{"view": " pa ", "posture": "Lying  SUPINE"}') == (
        {"posture": "lying supine", "view": "PA"},
        None,
    )
    assert KNOWN.parse('{"view": "AP", "posture": "Kneeling"}') == ({"posture": "Kneeling", "view": "AP"}, None)


@settings(max_examples=30, deadline=None)
@given(
    st.text(max_size=40)
    | st.dictionaries(st.sampled_from(["posture", "view", "age"]), st.text(max_size=90)).map(json.dumps)
)
@example('{"posture": "12", "view": "AP"}')
def test_whatever_is_written_is_a_context_or_has_a_reason(line):
    context, why = KNOWN.parse(line)
    assert (context is None) is (why is not None)
    if context is not None:
        assert KNOWN.parse(json.dumps(context)) == (context, None)


@pytest.mark.parametrize("name", CONTEXTS)
def test_the_phrases_of_the_package_are_read_and_speak_of_no_covariate(name):
    known = read_contexts(PRESETS[name])
    assert len(known.levels) >= 6
    assert not set(known.levels) & set(PRESETS[name].covariates.names)
    for variable in PRESETS[name].covariates.walk():
        for level in [one for one in variable.levels if len(one) > 2]:
            assert known.why_no_phrase(f"as {level.replace('_', ' ')} as can be"), level


def test_no_word_of_a_person_is_a_phrase():
    bare = Contexts(PRESETS["morphomnist"], {"posture": ()})
    assert {
        word for words in DEMOGRAPHIC.values() for word in words if bare.why_no_phrase(f"the {word}") is None
    } == set()


def test_covariates_of_the_acquisition_can_be_chosen_and_no_others():
    assert [one.name for one in acquisition(PHANTOM)] == ["view", "scanner"]
    assert read_contexts(PHANTOM, variables=["view"]).levels == {"view": ("PA", "AP")}
    wrong = {
        "sex": "sex is of the role protected, and balanced by the plan; leave it out",
        "finding": "finding is of the role finding",
        "posture": r"'posture' is unknown; allowed: view, scanner",
    }
    for name, why in wrong.items():
        with pytest.raises(InputError, match=f"variables: {why}"):
            read_contexts(PHANTOM, variables=[name])
    with pytest.raises(InputError, match="variables: view is given twice"):
        read_contexts(PHANTOM, variables=["view", "view"])


def test_without_a_file_contexts_are_what_families_do_not_need_to_cross():
    assert set(PHANTOM.factors) & {"view", "scanner"} == {"scanner"}
    assert list(read_contexts(PHANTOM).levels) == ["view"]
    # it is crossed, but not alone
    assert list(read_contexts(PRESETS["nih_chestxray14"]).levels) == ["view"]
    for preset in (PRESETS["morphomnist"], PHANTOM.model_copy(update={"factors": ("view", "scanner")})):
        with pytest.raises(InputError, match=f"contexts: {preset.name} has none of its own, and no levels of how"):
            read_contexts(preset)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("posture: [a, b]\nposture: [c, d]", 2, "'posture' is given again .first as posture.; give it once"),
        ("posture: [a, b]\nview: [PA, AP]", 2, "view is a covariate of phantom"),
        ("posture: [a]", 1, "posture: give a list of 2 to 40 phrases"),
        ("posture: a", 1, "posture: give a list"),
        ("split: [a, b]", 1, "'split' is a column of every data set"),
        ("a: [b, c]\nA: [d, e]", 2, "'A' is given again .first as a.; give it once"),
        ("posture:\n  - a\n  - A", 3, "'A' is given again"),
        ("posture:\n  - a\n  - an old man", 3, "'an old man' speaks of age"),
        ("posture:\n  - a\n  - {b: c}", 3, "'' holds a text that is no phrase"),
        ("2: [a, b]", 1, "'2' is no name"),
        ("posture: [a, b", 1, "not readable YAML"),
        ("a: &a [b, c]\nd: *a", 2, "not readable YAML .*alias"),
    ],
)
def test_a_file_of_phrases_is_refused_with_its_line(tmp_path: Path, text, line, why):
    path = tmp_path / "contexts.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"contexts.yaml:{line}: .*{why}"):
        read_contexts(PHANTOM, path)


@pytest.mark.parametrize("text", ["", "[]", "a", "{}"])
def test_a_file_without_variables_is_refused(tmp_path: Path, text):
    (tmp_path / "contexts.yaml").write_text(text)
    with pytest.raises(InputError, match="not a file of contexts; give 1 to 40 variables"):
        read_contexts(PHANTOM, tmp_path / "contexts.yaml")
