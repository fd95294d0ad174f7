"""Who may import whom: a row per room, each may import rows above it; no circle of files. Lazy imports count."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import networkx
import pytest

import synthfair_hf

ROOT = Path(synthfair_hf.__file__).parent
GROUND = ("arguments", "errors", "missing", "records", "schema")

# Each row may name rows above it only, so the table has no cycle. Inside a room files may import each other.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "arguments": ("errors",),
    "missing": (),
    "imports": (),
    "records": ("errors", "arguments"),
    "schema": ("errors", "arguments", "missing"),
    "yaml_files": (),
    "progress": (),
    "access": GROUND,
    "causal": (*GROUND, "access"),
    "domains": (*GROUND, "progress", "yaml_files", "access", "causal"),
    "training": (*GROUND, "progress", "access", "domains"),
    "views": (*GROUND, "domains"),
    "publish": (*GROUND, "yaml_files", "domains", "views"),
    "diffusion": (*GROUND, "imports", "progress", "access", "domains", "causal", "training", "publish"),
    "generate": (*GROUND, "progress", "access", "domains", "causal", "training", "views", "publish", "diffusion"),
    "measure": (*GROUND, "progress", "access", "domains", "training", "publish", "diffusion"),
    "align": (*GROUND, "progress", "access", "domains", "training", "publish", "diffusion", "measure"),
    "fairness": (*GROUND, "progress", "access", "causal", "domains", "training", "views", "publish", "measure"),
}
# The command line composes the rooms, and no row may name it. The settings of a verb belong there, beside what runs it;
# settings that a function of the library takes, such as a training run's, in the room of the function, without torch.
MAY_IMPORT["cli"] = tuple(MAY_IMPORT)

UPWARD: dict[str, tuple[str, ...]] = {
    # the package registers its builder and its pipeline with `datasets` and `diffusers`
    "": ("views.registration", "imports", "diffusion.discovery"),
}
"""Files that import against the table, and what: each with its reason."""

GROUND_LIBRARIES = {*sys.stdlib_module_names, "numpy", "pydantic", "datasets"}
WITHOUT_TORCH = {"domains": ("domains.worlds", "domains.oracle"), "views": (), "publish": ()}
"""Rooms that do without torch, and their files that do not."""

MODULES = sorted(ROOT.rglob("*.py"))


def module_name(path: Path, root: Path = ROOT) -> str:
    """Dotted name below synthfair_hf; the package itself is the empty name."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


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
    ours = {one for one in found if one.split(".")[0] == "synthfair_hf"}
    # `from .. import __version__` asks the package itself for a constant
    named = {one.partition(".")[2] for one in ours} - {"__version__"}
    return named, {other.split(".")[0] for other in found - ours}


def arrows(root: Path = ROOT) -> dict[str, set[str]]:
    """By module, the modules that it imports."""
    paths = sorted(root.rglob("*.py"))
    modules = {module_name(path, root) for path in paths}

    def holder(name: str) -> str:
        """The module that holds an imported name: `causal.graph.CausalGraph` -> `causal.graph`."""
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    found = {}
    for path in paths:
        name = module_name(path, root)
        ours, _ = imports(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")
        found[name] = {holder(one) for one in ours} - {name}
    return found


def wrong_arrows(found: dict[str, set[str]]) -> list[str]:
    """The imports that the table does not allow; also of a module whose room has no row."""
    wrong = []
    for name, targets in found.items():
        room = name.partition(".")[0]
        allowed = {*MAY_IMPORT.get(room, ()), *([room] if room in MAY_IMPORT else [])}
        wrong += [
            f"{name or 'synthfair_hf'} -> {target or 'synthfair_hf'}"
            for target in sorted(targets)
            if target.partition(".")[0] not in allowed and target not in UPWARD.get(name, ())
        ]
        wrong += [f"{name} is in no room of the table"] if name and room not in MAY_IMPORT else []
    return wrong


def circles(found: dict[str, set[str]]) -> list[list[str]]:
    """Files that import each other, directly or by way of others."""
    graph = networkx.DiGraph([(name, target) for name, targets in found.items() for target in targets])
    return [sorted(one) for one in networkx.strongly_connected_components(graph) if len(one) > 1]


DYNAMIC = {"import_module", "__import__", "resolve_name", "exec", "eval"}
"""Ways to import what the table does not see; only the package itself may, for its public names."""


def dynamic_imports(source: str) -> set[str]:
    """The names in DYNAMIC that a module calls."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {getattr(call, "id", getattr(call, "attr", "")) for call in calls} & DYNAMIC


@pytest.mark.parametrize("path", MODULES, ids=lambda path: module_name(path) or "synthfair_hf")
def test_no_import_hides_from_the_table(path: Path):
    allowed = {"import_module"} if path == ROOT / "__init__.py" else {"eval"}
    found = dynamic_imports(path.read_text(encoding="utf-8"))
    # torch's modules have a method `eval`
    assert found <= allowed


@pytest.mark.parametrize(
    "source",
    ["import importlib\nimportlib.import_module('synthfair_hf.cli')", "def f():\n    return __import__('cli')"],
)
def test_an_import_that_hides_is_found(source: str):
    assert dynamic_imports(source)


def test_rows_name_only_rows_above_them():
    above: set[str] = set()
    for name, allowed in MAY_IMPORT.items():
        assert set(allowed) <= above, f"{name} names {set(allowed) - above} from below"
        above.add(name)


def test_modules_import_only_what_their_room_may():
    assert wrong_arrows(arrows()) == []


def test_every_exception_is_needed():
    found = arrows()
    for name, targets in UPWARD.items():
        assert set(targets) <= found[name], f"{name} no longer imports {set(targets) - found[name]}: strike it out"


def test_no_file_imports_itself_by_way_of_others():
    assert circles(arrows()) == []


def test_the_tree_is_the_table():
    """The top level of the package: its rooms, the ground, the command line and the weights; nothing loose."""
    names = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES}
    assert names == {*MAY_IMPORT, "__init__"}


def test_what_stands_beside_the_rooms_is_used_by_several():
    """A module that one room alone uses belongs into it."""
    users: dict[str, set[str]] = {name: set() for name in MAY_IMPORT if (ROOT / f"{name}.py").exists()}
    for name, targets in arrows().items():
        for target in targets & users.keys():
            users[target].add(name.partition(".")[0])
    assert {name: rooms for name, rooms in users.items() if len(rooms) < 2} == {}


ROOMS = sorted(path.parent for path in MODULES if path.name == "__init__.py" and path.parent != ROOT)


def exists(package: str, dotted: str) -> bool:
    """Whether `module.name`, below a package or below synthfair_hf, is a module or a name in one."""
    for root in (package, "synthfair_hf"):
        module, _, name = f"{root}.{dotted}".rpartition(".")
        try:
            found = import_module(module)
        except ModuleNotFoundError:
            continue
        if hasattr(found, name) or (ROOT.parent / Path(*module.split("."), f"{name}.py")).exists():
            return True
    return False


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.relative_to(ROOT).as_posix())
def test_the_map_of_a_room_is_complete_and_true(room: Path):
    """Its docstring has a line `- module — what it offers` for each module and folder, and its names exist."""
    package = ".".join(("synthfair_hf", *room.relative_to(ROOT).parts))
    text = import_module(package).__doc__ or ""
    listed: set[str] = set()
    for names, offer in re.findall(r"^- ([\w`, ]+) — (.*)$", text, flags=re.MULTILINE):
        modules = names.replace("`", "").split(", ")
        listed |= set(modules)
        for name in re.findall(r"`(\w+)`", offer.partition(":")[0]):
            assert any(exists(package, f"{module}.{name}") for module in modules), f"{package}: no {name} in {names}"
    files = {path.stem for path in room.glob("*.py")} - {"__init__"}
    assert listed == files | {path.parent.name for path in room.glob("*/__init__.py")}
    for dotted in re.findall(r"`(\w+\.\w+)`", text):
        assert exists(package, dotted), f"{package}: no {dotted}"


def test_a_name_that_does_not_exist_is_found():
    assert exists("synthfair_hf.causal", "graph.CausalGraph")
    assert exists("synthfair_hf.fairness", "benchmark.board")
    assert not exists("synthfair_hf.causal", "graph.Graph")
    assert not exists("synthfair_hf.causal", "nowhere.CausalGraph")


@pytest.fixture
def planted(tmp_path: Path):
    """`planted(**sources)` writes a package of these modules, `__` for a dot, and returns its arrows."""

    def plant(**sources: str) -> dict[str, set[str]]:
        for name, source in sources.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return arrows(tmp_path)

    return plant


def test_an_arrow_up_is_found(planted):
    found = planted(causal__scm="def f():\n    from ..diffusion.solver import step", diffusion__solver="")
    assert wrong_arrows(found) == ["causal.scm -> diffusion.solver"]


def test_a_module_beside_the_rooms_is_found(planted):
    assert wrong_arrows(planted(helpers="")) == ["helpers is in no room of the table"]


@pytest.mark.parametrize("lazy", [False, True], ids=["at the top", "in a function"])
def test_a_circle_of_files_is_found(planted, lazy: bool):
    back = "from .graph import CausalGraph"
    found = planted(
        causal__graph="from .mechanisms import Mechanism",
        causal__mechanisms="from . import scm",
        causal__scm=f"def f():\n    {back}" if lazy else back,
    )
    assert circles(found) == [["causal.graph", "causal.mechanisms", "causal.scm"]]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: module_name(path) or "synthfair_hf")
def test_a_room_uses_only_the_libraries_it_may(path: Path):
    name = module_name(path)
    _, libraries = imports(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")
    room = name.partition(".")[0]
    if room in GROUND:
        assert libraries <= GROUND_LIBRARIES, f"{name} imports {libraries - GROUND_LIBRARIES}"
    if room in WITHOUT_TORCH and name not in WITHOUT_TORCH[room]:
        assert not libraries & {"torch", "diffusers", "transformers", "accelerate"}


@pytest.mark.parametrize(
    ("source", "name", "is_package", "expected"),
    [
        ("from ..errors import InputError", "causal.graph", False, {"errors.InputError"}),
        ("from .. import errors", "causal.graph", False, {"errors"}),
        ("from .graph import CausalGraph", "causal", True, {"causal.graph.CausalGraph"}),
        ("from . import schema", "views", False, {"schema"}),
        ("import synthfair_hf.diffusion.pipeline", "views", False, {"diffusion.pipeline"}),
        ("def f():\n    from synthfair_hf.publish import report", "views", False, {"publish.report"}),
        ("from datasets import Features", "schema", False, set()),
    ],
)
def test_every_spelling_of_an_import_is_seen(source: str, name: str, is_package: bool, expected: set[str]):
    assert imports(source, name, is_package)[0] == expected


def test_importing_the_front_does_not_import_torch():
    front = ["domains.presets", "views.view", "views.builder", "training.config", "cli", "cli.verbs"]
    front.append("fairness.audit_page")
    names = ["synthfair_hf", *(f"synthfair_hf.{module}" for module in front)]
    # in one process: what none of them imports together, none imports alone
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
