"""What `mkdocs.yml` needs beside its settings: the site has the tree of the repository, and pages that are generated.

    README.md, docs/views.md, dataset_card/README.md ...    under the paths that they have here, with what they link to
    api/README.md, api/<room>.md                            the public names of each room, from their docstrings
    api/command_line.md                                     the help of every verb

The navigation is that of `mkdocs.yml`, and below Results and Reference every page of figures and of a room. A link to
a directory is one to its README.md, as on GitHub. The search works in a site that is opened as a file, too.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "generated_pages", "on_config", "on_files", "on_page_markdown", "on_post_build", "pages"]

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "synthfair_hf"
SOURCES = ("docs", "dataset_card", "loading_script", "model_card", "synthfair_hf", "weights")
"""Directories with pages, and not what else lies here, such as data sets with their cards."""

LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)]*)?\))")
"""A relative link of Markdown: what is before its target, the target, and what is after it."""

WORKER = "assets/javascripts/iframe-worker.js"
"""Called as the script of another server is that the theme's plugin `offline` would load in its place."""


def pages() -> list[str]:
    """Paths of the repository's pages, relative to its root."""
    below = [path for name in SOURCES for path in (ROOT / name).rglob("*.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *below])


def _of_figures() -> list[str]:
    """The pages in directories of `docs/`, beside their records."""
    return [page for page in pages() if page.startswith("docs/") and page.count("/") > 1 and "/tutorials/" not in page]


def _targets(page: str) -> Iterator[str]:
    """Paths of what a page links to, relative to the repository's root."""
    for _, target, _ in LINK.findall((ROOT / page).read_text(encoding="utf-8")):
        yield (ROOT / page).parent.joinpath(target).resolve().relative_to(ROOT).as_posix()


def generated_pages() -> dict[str, str]:
    """Markdown of the pages that are made from the package, by path."""
    from synthfair_hf import _PUBLIC
    from synthfair_hf.cli.parser import help_of
    from synthfair_hf.cli.verbs import VERBS
    from synthfair_hf.fairness.mitigation import METHODS

    rooms: dict[str, list[str]] = {}
    for name, module in _PUBLIC.items():
        room = module.partition(".")[0]
        rooms.setdefault(room if (PACKAGE / room).is_dir() else "base", []).append(f"synthfair_hf.{module}.{name}")
    methods = [f"{method.__module__}.{method.__name__}" for method in METHODS.values()]
    rooms["mitigation"] = [name for name in methods if name not in rooms["fairness"]]
    found = {f"api/{room}.md": _room(room, names) for room, names in rooms.items()}
    told = {room: ", ".join(f"`{name.rpartition('.')[2]}`" for name in names) for room, names in rooms.items()}
    found["api/README.md"] = "\n".join(
        [
            "# Public names\n",
            "All are imported from `synthfair_hf`, but the methods of mitigation, which are those of its `METHODS`.\n",
            "| room | names |",
            "|---|---|",
            *(f"| [{room}]({room}.md) | {names} |" for room, names in told.items()),
        ]
    )
    helps = [f"## synthfair {verb}\n\n```text\n{help_of(one).rstrip()}\n```\n" for verb, one in VERBS.items()]
    found["api/command_line.md"] = "# Command line\n\nThe help of every verb, as `--help` prints it.\n\n" + "\n".join(
        helps
    )
    return found


def _room(room: str, names: list[str]) -> str:
    """The page of a room: the docstring of its package, and its names."""
    module = next(iter(PACKAGE.rglob(f"{room}/__init__.py")), None)
    text = "Errors, records, and the schema of covariates."
    if module is not None:
        text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return "\n\n".join([f"# {room}", text, *(f"::: {name}" for name in names)]) + "\n"


def on_config(config: Any) -> Any:
    """Complete the navigation, and name the script by which the search works without a server (`on_post_build`)."""
    sections = {title: content for entry in config.nav for title, content in entry.items()}
    for title, listed in (("Results", _of_figures()), ("Reference", sorted(generated_pages()))):
        known = [path for entry in sections[title] for path in entry.values()]
        named = {path: re.sub(r"^docs/|^api/|/README\.md$|\.md$", "", path) for path in listed}
        sections[title] += [{name: path} for path, name in named.items() if path not in known]
    config.extra["polyfills"] = [WORKER]
    return config


def on_files(files: Any, config: Any) -> Any:
    """The repository's pages, what they link to, and the generated pages, in place of the files of `docs_dir`."""
    from mkdocs.structure.files import File

    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    found = pages()
    linked = {path for page in found for path in _targets(page) if (ROOT / path).is_file()}
    for path in sorted({*found, *linked}):
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    for path, text in generated_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to directories, as links to their pages; pages of figures are found after those in words."""
    if page.file.src_uri in _of_figures():
        page.meta["search"] = {"boost": 0.1}
    directory = (ROOT / page.file.src_uri).parent

    def spelled_out(link: re.Match[str]) -> str:
        before, target, after = link.groups()
        is_page = (directory / target / "README.md").is_file()
        return f"{before}{target.rstrip('/')}/README.md{after}" if is_page else link[0]

    return LINK.sub(spelled_out, markdown)


def on_post_build(config: Any) -> None:
    """A script that starts the search's worker from its text, where a browser starts none from a file."""
    site = Path(config.site_dir)
    (worker,) = (site / "assets" / "javascripts" / "workers").glob("search.*.min.js")
    text = json.dumps(worker.read_text(encoding="utf-8")).replace("</", "<\\/")
    (site / WORKER).write_text(
        "if (location.protocol === 'file:') {\n"
        f"  const source = new Blob([{text}], {{type: 'text/javascript'}});\n"
        "  const Native = window.Worker;\n"
        "  window.Worker = function () { return new Native(URL.createObjectURL(source)); };\n"
        "}\n",
        encoding="utf-8",
    )
