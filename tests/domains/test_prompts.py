"""Prompts: what is known is said, what is unknown is left out, and no template can do more than print."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.domains.preset import Preset
from synthfair_hf.domains.preset_file import preset_yaml, read_preset
from synthfair_hf.domains.presets import PRESETS, get_preset
from synthfair_hf.domains.prompts import LONGEST_TEMPLATE, render_prompt, why_no_template
from synthfair_hf.errors import InputError

CHEST = get_preset("chest_xray")
PERSON = {"age": 61.2, "sex": "male", "race": None, "finding": "no_finding", "view": "PA", "scanner": "flatpanel"}
REPORT = (
    "{{ view }} chest radiograph of a {{ {'male': 'man', 'female': 'woman'}[sex] }}, {{ age }} years old, {{ race }}. "
    "Impression: {{ 'no acute process' if finding == 'no_finding' else finding }}; {{ context.posture }}."
)


def with_prompt(template: str | None) -> Preset:
    return CHEST.model_copy(update={"prompt": template})


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_without_a_template_every_known_covariate_is_listed(preset: Preset):
    known = {one.name: one.levels[0] if one.categorical else one.bounds[1] for one in preset.covariates.walk()}
    prompt = render_prompt(preset, known, {"body_habitus": "tall"})
    for one in preset.covariates.walk():
        value = one.levels[0].replace("_", " ") if one.categorical else f"{one.bounds[1]:g} {one.unit}"
        assert f". {one.name.replace('_', ' ')}: {value}." in prompt
    assert prompt.endswith("body habitus: tall.")
    assert render_prompt(preset, {}) == f"{preset.title}."


@pytest.mark.parametrize(
    ("changed", "context", "expected"),
    [
        (
            {},
            {"posture": "supine"},
            "PA chest radiograph of a man, 61 years old. Impression: no acute process; supine.",
        ),
        ({"race": "asian"}, {}, "PA chest radiograph of a man, 61 years old, asian. Impression: no acute process."),
        ({"finding": "pneumonia"}, None, "PA chest radiograph of a man, 61 years old. Impression: pneumonia."),
        ({"finding": None}, {"posture": "  "}, "PA chest radiograph of a man, 61 years old."),
        ({"sex": "unknown", "age": float("nan")}, {"posture": "up_\nright"}, "Impression: no acute process; up right."),
    ],
)
def test_a_clause_that_needs_an_unknown_value_is_left_out(changed: dict, context: dict | None, expected: str):
    assert render_prompt(with_prompt(REPORT), {**PERSON, **changed}, context) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% if race %}{{ race }}{% else %}no race{% endif %}", "no race"),
        ("{{ race|default('any race') }}", "any race"),
        ("{% if race is defined %}{{ race }}, {% endif %}{{ sex|upper }}.", "MALE."),
        ("{% if sex == 'male' %}He, {{ race }}, {% endif %}stands. {{ view }}!", "PA!"),
        ("{{ 'old' if age >= 50 else 'young' }}, {{ 'x' if race == 'asian' else 'y' }}.", "old."),
        ("{% if " + "sex and " * 150 + "sex %}{{ 'A' if 'male' == sex }}{% endif %}", "A"),
        ("{{ context['posture']|default('any posture') }}", "any posture"),
        ("Aged 1.5, or {{ age }}; {% raw %}{{ a, b }}{% endraw %}.", "Aged 1.5, or 61; {{ a, b }}."),
    ],
)
def test_a_template_asks_for_what_may_be_unknown(template: str, expected: str):
    assert why_no_template(template, CHEST.covariates) is None
    assert render_prompt(with_prompt(template), PERSON) == expected


@given(
    st.fixed_dictionaries(
        {
            one.name: st.sampled_from([*one.levels, None])
            if one.categorical
            else st.none() | st.floats(*one.bounds, width=32)
            for one in CHEST.covariates.walk()
        }
    )
)
@settings(max_examples=12, deadline=None)
def test_every_known_value_is_said_and_no_other(values: dict):
    """A clause per covariate: brute force over which of them are known."""
    template = " ".join(f"<{name} {{{{ {name} }}}}>." for name in sorted(values))
    expected = [
        f"<{name} {value.replace('_', ' ') if isinstance(value, str) else round(value)}>."
        for name, value in sorted(values.items())
        if value is not None
    ]
    assert render_prompt(with_prompt(template), values) == " ".join(expected)


@given(st.text(max_size=60) | st.text(st.sampled_from("{}%#|.~()[]'\" agesxif10*,-\\"), max_size=40))
@settings(max_examples=40, deadline=None)
def test_no_text_breaks_rendering(template: str):
    """Whatever passes the check renders, of every level; whatever does not is one sentence."""
    why = why_no_template(template, CHEST.covariates)
    if why is None:
        assert "\n" not in render_prompt(with_prompt(template), PERSON)
    else:
        assert why.strip().endswith((".", "?"))


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{{ agee }}", "did you mean 'age'?"),
        ("{{ age", "not a template"),
        ("{% if sex == 'femal' %}she{% endif %}", "did you mean 'female'?"),
        ("{{ {'male': 'man'}[sex] }}", "no text for sex female"),
        ("{{ age + sex }}", "no text for age 0"),
        ("{{ context }}", "context as a whole"),
        ("  ", "empty"),
        ("x" * (LONGEST_TEMPLATE + 1), "longer than"),
        ("{% for one in age %}{% endfor %}", "'for' is not allowed"),
        ("{{ 'a' * 10 ** 10 }}", "not allowed"),
        ("{{ '%9999999999d' % 1 }}", "not allowed"),
        ("{{ range(9 ** 9) }}", "'call' is not allowed"),
        ("{{ ''.__class__.__mro__ }}", "not allowed"),
        ("{{ 'a'|replace('a', 'aa') }}", "filter: 'replace' is unknown"),
        ("{% include '/etc/passwd' %}", "'include' is not allowed"),
        ("{% macro a() %}{{ a() }}{% endmacro %}", "not allowed"),
        ("{{ sex['upper'] }}", "no text for age 0: 'str object' has no attribute 'upper'"),
        ("{{ [sex]['append'] }}", "no text for age 0"),
        ("{{ {'male': 'man', 'female': 'woman'}['items'] }}", "no text for age 0"),
        ("{% if 'femal' == sex %}she{% endif %}", "did you mean 'female'?"),
        ("{% if age > 3 == 'femal' in sex %}she{% endif %}", "did you mean 'female'?"),
        ("{% if sex is eq 'femal' %}she{% endif %}", "test: 'eq' is unknown; allowed: defined, undefined"),
        ("{% if sex is in ['femal'] %}she{% endif %}", "test: 'in' is unknown"),
        ("{% if age is divisibleby 0 %}{% endif %}", "test: 'divisibleby' is unknown"),
        ("{{ [sex] }}", "no text for age 0: it prints ['male'], which is neither a level nor a number"),
        ("{{ {sex: 1} }}", "it prints {'male': 1}"),
        ("{{ sex == 'male' }}", "it prints True"),
        ("{{ none }}", "it prints None"),
        ("\ud800", "not printed"),
        ("a\0b", "not printed"),
        ("{{ '\\x1b[0m' }}", "not printed"),
        ("{{ 1e999 }}", "too large"),
        ("{{ 1e308 + 1e308 }}", "prints the number inf"),
        ("{{ sex" + "|upper" * 320 + " }}", "nested"),
        ("{{" + "(" * 900 + "age" + ")" * 900 + "}}", "nested too deeply"),
    ],
)
def test_what_is_no_template_is_refused_at_once(template: str, named: str):
    start = time.perf_counter()
    assert named in str(why_no_template(template, CHEST.covariates))
    with pytest.raises(InputError, match="prompt: "):
        render_prompt(with_prompt(template), {**PERSON, "sex": "female"})
    assert time.perf_counter() - start < 1


def test_a_template_of_a_context_reaches_no_method():
    assert "no text for age 0" in str(why_no_template("{{ context['posture']['upper'] }}", CHEST.covariates))


@pytest.mark.parametrize("wrong", [{"agee": 3}, {"age": 300}, {"sex": "man"}])
def test_a_value_that_its_variable_cannot_have_is_refused(wrong: dict):
    with pytest.raises(InputError, match=next(iter(wrong))):
        render_prompt(CHEST, wrong)


def test_a_file_holds_the_template_and_names_its_line(tmp_path: Path):
    path = tmp_path / "own.yaml"
    text = preset_yaml(CHEST.model_copy(update={"name": "own"}))
    path.write_text(f"{text}prompt: |\n  {{{{ view }}}} radiograph.\n  {{{{ age }}}} years{' and so on' * 30}.\n")
    preset = read_preset(path).preset
    assert render_prompt(preset, {"view": "AP"}) == "AP radiograph."
    path.write_text(preset_yaml(preset))
    assert read_preset(path).preset == preset
    path.write_text(f"{text}prompt: 'An {{{{ agee }}}}'\n")
    with pytest.raises(
        InputError, match=rf"own\.yaml:{len(text.splitlines()) + 1}: prompt: variable: 'agee' is unknown"
    ):
        read_preset(path)


def test_what_a_source_lacks_is_unknown_and_not_misspelt(tmp_path: Path):
    """The clause is left out as of a person of whom it is unknown, also where the preset was written down between."""
    whole, kept = with_prompt(REPORT), tuple(name for name in CHEST.covariates.names if name != "race")
    preset = Preset.model_validate_json(whole.restrict(kept).model_dump_json())
    values = {name: PERSON[name] for name in kept}
    prompt = render_prompt(preset, values, {"posture": "supine"})
    assert prompt == render_prompt(whole, {**values, "race": None}, {"posture": "supine"})
    assert why_no_template(preset.prompt or "", preset.covariates, preset.unobserved) is None
    own = preset.model_copy(update={"name": "own"})
    (tmp_path / "own.yaml").write_text(preset_yaml(own))
    assert read_preset(tmp_path / "own.yaml").preset == own
    # one without a template, or whose template does not name it, is what it was
    assert "unobserved" not in CHEST.restrict(kept).model_dump()
    assert "unobserved" not in with_prompt("{{ age }}").restrict(kept).model_dump()
    with pytest.raises(InputError, match="'agee' is unknown"):
        render_prompt(with_prompt("{{ agee }}").restrict(kept), {})


def test_a_template_names_the_site_that_joining_adds():
    preset = with_prompt("{{ view }} radiograph, of {{ site }}. {% if site == 'east' %}Old.{% endif %}")
    assert why_no_template(preset.prompt or "", CHEST.covariates) is None
    assert render_prompt(preset, PERSON) == "PA radiograph."
    joined = preset.with_site(("east", "west"))
    assert render_prompt(joined, {**PERSON, "site": "east"}) == "PA radiograph, of east. Old."
    assert render_prompt(joined, {**PERSON, "site": "west"}) == "PA radiograph, of west."
    with pytest.raises(InputError, match="did you mean 'east'"):
        render_prompt(
            preset.with_site(("easter", "east")).model_copy(update={"prompt": "{% if site == 'eas' %}{% endif %}"}), {}
        )


PAGE = (Path(__file__).parents[2] / "docs" / "domains.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "template"), re.findall(r"^prompt: >-  # (\w+)\n((?:  .*\n)+)", PAGE, re.M))
def test_the_templates_of_the_page_are_ones(name: str, template: str):
    preset = get_preset(name).model_copy(update={"prompt": " ".join(template.split())})
    assert why_no_template(preset.prompt or "", preset.covariates) is None
    findings = next(one for one in preset.covariates.walk() if one.role == "finding")
    assert len({render_prompt(preset, {findings.name: level}) for level in findings.levels}) == len(findings.levels)


def test_a_covariate_called_context_leaves_the_name_alone():
    schema = CHEST.covariates.model_copy(
        update={"variables": (CHEST.covariates["age"].model_copy(update={"name": "context"}),)}
    )
    assert "another name" in str(why_no_template("{{ context }}", schema))
