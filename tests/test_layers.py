"""Who may import whom: arrows never turn back. Imports inside functions and under TYPE_CHECKING count."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import synthfair_hf

ROOT = Path(synthfair_hf.__file__).parent
BASE = ("errors", "schema", "records")

# Each row may name rows above it only, so the table itself has no cycle. Within a row everything may import everything.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    # layer 0
    "errors": (),
    "schema": ("errors",),
    "records": ("errors",),
    "words": ("errors",),
    "pages": (),
    # layer 1
    "presets": BASE,
    "layout": (*BASE, "presets"),
    "grammar": (*BASE, "presets", "layout"),
    "biases": (*BASE, "presets", "layout", "grammar"),
    "views": (*BASE, "presets", "layout", "grammar", "biases"),
    "builder": (*BASE, "presets", "layout", "views"),
    "causal": BASE,
    "sources": (*BASE, "presets"),
    "simulators": (*BASE, "presets", "sources"),
    "training": (*BASE, "presets", "sources"),
    # layer 2
    "diffusion": (*BASE, "presets", "causal"),
    # layer 3: siblings do not import each other, except mitigate -> measure.classifier
    "generate": (*BASE, "presets", "layout", "sources", "causal", "diffusion"),
    "align": (*BASE, "presets", "sources", "causal", "training", "diffusion"),
    "measure.intervals": BASE,
    "measure.labelled": (*BASE, "presets", "builder"),
    "measure.classifier": (*BASE, "presets", "training", "measure.intervals", "measure.labelled"),
    "measure": (
        *(*BASE, "presets", "views", "causal", "sources", "simulators", "training"),
        *("measure.classifier", "measure.intervals", "measure.labelled"),
    ),
    "mitigate": (*BASE, "presets", "training", "measure.classifier", "measure.labelled"),
    # layer 4
    "reflow": (*BASE, "presets", "causal", "training", "diffusion"),
    "app": (*BASE, "presets", "align"),
    "cards": (*BASE, "pages", "presets", "layout", "views"),
    "model_card": (*BASE, "pages", "presets"),
    "statistics": (*BASE, "pages", "presets", "layout", "grammar", "views", "builder"),
    "report": (*BASE, "pages", "presets", "views"),
}
# layer 5: what composes the rooms may import all of them; the package itself registers them with the libraries
TOP = (
    "saved",
    "model_repository",
    "fitting",
    "alignment",
    "questions",
    "judging",
    "scoreboard",
    "calibration",
    "cells",
    "leaderboard",
    "benchmark",
)
for top in (*TOP, "verbs", "flags", "cli", ""):
    MAY_IMPORT[top] = tuple(MAY_IMPORT)

LAYER_0_LIBRARIES = {*sys.stdlib_module_names, "numpy", "pydantic", "datasets"}
MODULES = sorted(ROOT.rglob("*.py"))


def module_name(path: Path) -> str:
    """Dotted name below synthfair_hf; the package itself is the empty name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def row(name: str) -> str:
    """The longest row of the table that is a prefix of the module's name."""
    fitting = [prefix for prefix in MAY_IMPORT if f"{name}.".startswith(f"{prefix}.")]
    if not fitting:
        raise AssertionError(f"{name or 'synthfair_hf'} has no row in the table of layers")
    return max(fitting, key=len)


def imports(source: str, name: str, is_package: bool) -> tuple[set[str], set[str]]:
    """What a module imports: names below synthfair_hf, and other libraries' top-level names."""
    package = ("synthfair_hf", *filter(None, name.split(".")))
    package = package if is_package else package[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*start, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    ours = {found_name for found_name in found if found_name.split(".")[0] == "synthfair_hf"}
    return {found_name.partition(".")[2] for found_name in ours}, {other.split(".")[0] for other in found - ours}


def is_ours(name: str) -> bool:
    """Whether `name` is a module, rather than a name inside one."""
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def targets(name: str) -> str:
    """The module that holds an imported name: `causal.graph.CausalGraph` -> `causal.graph`."""
    while name and not is_ours(name):
        name = name.rpartition(".")[0]
    return name


def test_rows_name_only_rows_above_them():
    above: set[str] = set()
    for name, allowed in MAY_IMPORT.items():
        assert set(allowed) <= above, f"{name} names {set(allowed) - above} from below"
        above.add(name)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: module_name(path) or "synthfair_hf")
def test_module_imports_only_what_its_row_allows(path: Path):
    name = module_name(path)
    own_row = row(name)
    ours, libraries = imports(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")
    # `from .. import __version__` asks the package itself for a constant
    rows = {row(targets(target)) for target in ours if target != "__version__"}
    assert rows <= {*MAY_IMPORT[own_row], own_row}, f"{name} imports {rows - {*MAY_IMPORT[own_row], own_row}}"
    if own_row in BASE:
        assert libraries <= LAYER_0_LIBRARIES, f"{name} imports {libraries - LAYER_0_LIBRARIES}"


@pytest.mark.parametrize(
    ("source", "name", "is_package", "expected"),
    [
        ("from ..errors import InputError", "causal.graph", False, {"errors.InputError"}),
        ("from .. import errors", "causal.graph", False, {"errors"}),
        ("from .graph import CausalGraph", "causal", True, {"causal.graph.CausalGraph"}),
        ("from . import schema", "views", False, {"schema"}),
        ("import synthfair_hf.diffusion.pipeline", "views", False, {"diffusion.pipeline"}),
        ("def f():\n    from synthfair_hf.cards import write", "views", False, {"cards.write"}),
        ("from datasets import Features", "schema", False, set()),
    ],
)
def test_every_spelling_of_an_import_is_seen(source: str, name: str, is_package: bool, expected: set[str]):
    assert imports(source, name, is_package)[0] == expected


@pytest.mark.parametrize("module", ["", "presets", "views", "builder"])
def test_importing_the_front_does_not_import_torch(module: str):
    name = f"synthfair_hf.{module}".rstrip(".")
    code = f"import sys, {name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
