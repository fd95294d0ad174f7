"""The site of the documents: which pages it has, where they are found, and what its hooks make of links."""

import re
import sys
from types import SimpleNamespace

import pytest
import yaml
from fenced import ROOT

import synthfair_hf
from synthfair_hf.cli.verbs import VERBS
from synthfair_hf.fairness.mitigation import METHODS

sys.path.append(str(ROOT / "docs"))

import mkdocs_hooks

SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return mkdocs_hooks.generated_pages()


@pytest.fixture(scope="module")
def sections() -> dict[str, list[str]]:
    """Paths of the pages of each section, as the hooks complete them."""
    config = SimpleNamespace(nav=yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"], extra={})
    (home, *tabs) = [(title, one) for entry in mkdocs_hooks.on_config(config).nav for title, one in entry.items()]
    assert home == ("Home", "README.md")
    return {
        title: [path for one in listed for path in (one.values() if isinstance(one, dict) else [one])]
        for title, listed in tabs
    }


def test_every_page_is_in_the_navigation_once_and_every_entry_is_a_page(sections, generated):
    listed = ["README.md", *(path for paths in sections.values() for path in paths)]
    assert sorted(listed) == sorted([*mkdocs_hooks.pages(), *generated])


def test_the_sections_are_what_a_reader_wants(sections):
    wanted = ["Tutorials", "Use", "Audit", "Bring your own", "Publish", "Train", "Results", "Reference"]
    assert list(sections) == wanted
    assert len(sections["Tutorials"]) == 5
    assert "docs/fairness_terms.md" in sections["Audit"]
    assert {"docs/glossary.md", "docs/related_work.md", "CHANGELOG.md"} <= set(sections["Reference"])


def test_nothing_comes_from_another_server():
    """The settings by which the theme would load fonts or scripts from elsewhere; strict is what breaks on a link."""
    assert SETTINGS["theme"]["font"] is False
    assert "offline" in SETTINGS["plugins"]
    assert SETTINGS["strict"] is True
    assert "iframe-worker" in mkdocs_hooks.WORKER, "else the plugin adds a script of unpkg.com"


def test_the_reference_has_every_public_name_method_and_verb(generated):
    documented = [name for text in generated.values() for name in re.findall(r"^::: (\S+)$", text, re.M)]
    public = {f"synthfair_hf.{module}.{name}" for name, module in synthfair_hf._PUBLIC.items()}
    methods = {f"{method.__module__}.{method.__name__}" for method in METHODS.values()}
    assert sorted(documented) == sorted(public | methods)
    commands = generated["api/command_line.md"]
    assert [verb.removeprefix("## synthfair ") for verb in re.findall(r"^## .*$", commands, re.M)] == list(VERBS)


@pytest.mark.parametrize(
    ("page", "link", "made"),
    [
        ("docs/views.md", "[a](benchmark/strengths)", "[a](benchmark/strengths/README.md)"),
        ("docs/audit_set/README.md", "[a](../aim_fair)", "[a](../aim_fair/README.md)"),
        ("docs/views.md", "[a](publish.md#access)", "[a](publish.md#access)"),
        ("docs/views.md", "[a](https://fairlearn.org)", "[a](https://fairlearn.org)"),
        ("docs/views.md", "![a](no_such_directory)", "![a](no_such_directory)"),
    ],
)
def test_a_link_to_a_directory_is_one_to_its_page(page: str, link: str, made: str):
    asked = SimpleNamespace(file=SimpleNamespace(src_uri=page), meta={})
    assert mkdocs_hooks.on_page_markdown(link, page=asked) == made
