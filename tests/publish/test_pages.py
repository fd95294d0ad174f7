"""One environment fills every template: HTML is escaped, Markdown is not, and nothing is left blank."""

from pathlib import Path

import pytest
from jinja2 import DictLoader

import synthfair_hf
from synthfair_hf.errors import InputError
from synthfair_hf.publish import pages

ROOT = Path(synthfair_hf.__file__).parent


@pytest.fixture
def template(monkeypatch):
    """`template(name, text)` makes the text a template of that name."""
    templates: dict[str, str] = {}
    monkeypatch.setattr(pages._ENVIRONMENT, "loader", DictLoader(templates))
    return templates.__setitem__


def test_html_is_escaped_and_markdown_is_not(template):
    for name, shown in (("one.html.jinja", "a &lt; b\n"), ("one.md.jinja", "a < b\n")):
        template(name, "{{ value }}\n")
        assert pages.render(name, value="a < b") == shown


def test_what_is_not_given_is_an_error(template):
    template("missing.md.jinja", "{{ record.counts.store }}")
    for context in ({}, {"record": {}}, {"record": {"counts": {}}}):
        with pytest.raises(
            InputError,
            match=r"^record: .*; the page prints it, so write the record anew",
        ):
            pages.render("missing.md.jinja", **context)


@pytest.mark.parametrize(
    ("filtered", "value", "shown"),
    [
        ("figure", None, "-"),
        ("figure", {"mean": None, "n": 3}, "- (n = 3)"),
        ("figure", {"mean": 0.12345, "low": 0, "high": 1, "n": 3}, "0.123 [0, 1]"),
        ("number", None, "–"),
        ("number", 0.12345, "0.123"),
        ("listed", ["a"], "a"),
        ("listed", ["a", "b", "c"], "a, b and c"),
        ("thousands", 1234567, "1,234,567"),
        ("percent", 0.5, "50.0%"),
    ],
)
def test_filters_say_what_templates_print(template, filtered, value, shown):
    template("filter.md.jinja", f"{{{{ value | {filtered} }}}}")
    assert pages.render("filter.md.jinja", value=value) == shown


def test_no_other_module_makes_an_environment():
    makers = [
        path
        for path in ROOT.rglob("*.py")
        if "jinja2.Environment" in (text := path.read_text()) or "PackageLoader" in text
    ]
    assert [path.name for path in makers] == ["pages.py"]
