"""One environment fills every template: what is printed is text in HTML and in Markdown, and nothing is left blank."""

import html
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import DictLoader
from markdown_it import MarkdownIt

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


def test_html_and_markdown_escape_what_would_be_markup(template):
    for name, shown in (("one.html.jinja", "a &lt; b &lt;c&gt;\n"), ("one.md.jinja", "a < b &lt;c>\n")):
        template(name, "{{ value }}\n")
        assert pages.render(name, value="a < b <c>") == shown


# fmt: off
PIECES = [
    "<script>alert(1)</script>", "<img src=x onerror=y>", "<!--", "<https://e.org>", "<", "</", "a@e.org", "&lt;", "&",
    "](https://e.org)", "![a](https://e.org/a.png)", "[a][b]", "[a]: https://e.org", "[1, 2](https://e.org)", "{{ 1 }}",
    "https://e.org", "&#60;", "|", r"\|", "`", "``", "```", r"\`", "*", "**a**", "_", "__a__", "_a_b", "no_finding",
    "~~", "$", "\\", "www.e.org", "# ", "> ", "- ", "+ ", "1. ", "12) ", "1234. ", "===", "---", "- [ ] ", "|---|",
]
# fmt: on
BLANKS = (" ", "    ", "\t", "\n", "\n\n", "\n---\n", "\r", "\u2028", "\x00", "\ud800", "\u202e")
HOSTILE = (
    st.lists(st.sampled_from((*PIECES, *BLANKS)) | st.text(max_size=5), max_size=6)
    .map("".join)
    .filter(lambda value: str(pages.line(value)).strip())
)
"""What would be Markdown, HTML or the end of a block, if it were not escaped."""

PAGE = """# Of {{ value }}

{{ value }} begins a line, {{ value | code }} is code, and
{{ value }}

- {{ value }}

> {{ value }}

| {{ value }} | {{ value | code }} |
|---|---|
| {{ value }} | {{ value | code }} |

[{{ value }}](https://huggingface.co/{{ value | urlencode }}) and {{ value }}: {{ value }}.

```bash
# {{ value | line }}
synthfair {{ value | shell }}
```
"""

COMMONMARK = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def read(page: str) -> tuple[list[str], str]:
    """The tags of a page's HTML, without what links point to, and its text."""
    shown = COMMONMARK.render(page)
    return re.findall(r"</?\w+", shown), html.unescape(re.sub(r"<[^>]*>", "", shown))


@given(value=HOSTILE)
def test_whatever_is_printed_on_a_markdown_page_is_text(value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages._ENVIRONMENT, "loader", DictLoader({f"{len(PAGE)}.md.jinja": PAGE}))
        page = pages.render(f"{len(PAGE)}.md.jinja", value=value)
        plain = pages.render(f"{len(PAGE)}.md.jinja", value="plain")
    tags, text = read(page)
    assert tags == read(plain)[0]
    told, words = "".join(text.split()), "".join(str(pages.line(value)).split())
    for sentence in (f"Of{words}{words}begins", f"aline,{words}iscode", f"and{words}:{words}."):
        assert sentence in told
    prose = re.sub(r"(?s)```.*```", "", page).replace("](https://huggingface.co/", "")
    assert not re.search(r"<(?!/?code>)[a-zA-Z/!?]|\w@\w|(?i:www)\.", re.sub("`[^`]*`", "", prose))
    assert "://" not in re.sub("`[^`]*`", "", prose)
    page.encode()
    assert shlex.split(page.rpartition("synthfair ")[2].partition("\n")[0]) == [str(pages.line(value))]


@pytest.mark.parametrize(
    "value", [3, 0.25, True, None, -1.5e-07, "no_finding", "0.12 [0.1, 0.2]", "draw >= 0.9", "a+b_c"]
)
def test_what_is_no_markup_is_printed_as_it_is(template, value):
    template("plain.md.jinja", "{{ value }}, {{ value | code }}")
    assert pages.render("plain.md.jinja", value=value) == f"{value}, `{value}`"


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
