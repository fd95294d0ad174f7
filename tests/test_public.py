"""The public names: what they are, and that the documents use nothing else."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from fenced import ROOT, blocks

import synthfair_hf

STUB = Path(synthfair_hf.__file__).with_suffix(".pyi")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("docs/tutorials/*.md")]


@pytest.mark.parametrize("name", synthfair_hf.__all__)
def test_every_public_name_is_what_its_module_calls_so(name: str):
    value = getattr(synthfair_hf, name)
    module = import_module(f"synthfair_hf.{synthfair_hf._PUBLIC[name]}")
    assert value is getattr(module, name)
    assert name in module.__all__
    assert name in dir(synthfair_hf)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'audits'"):
        _ = synthfair_hf.audits
    with pytest.raises(ImportError):
        from synthfair_hf import audits  # noqa: F401


THREADS = """
import sys, threading
import synthfair_hf
names, failed = synthfair_hf.__all__, []
barrier = threading.Barrier(len(names))
def ask(name):
    barrier.wait()
    try:
        getattr(synthfair_hf, name)
    except Exception as error:
        failed.append(f"{name}: {error}")
threads = [threading.Thread(target=ask, args=[name]) for name in names]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
sys.exit("; ".join(failed) or 0)
"""


def test_threads_may_ask_for_public_names_at_once():
    ended = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_editors_are_told_the_same_names():
    imported = {
        (alias.asname, node.module)
        for node in ast.walk(ast.parse(STUB.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == set(synthfair_hf._PUBLIC.items())


def test_importing_the_package_imports_less_than_datasets_does():
    """Beside its own modules and the standard library; and not `datasets`, in which it registers once that is there."""
    code = "import sys, {}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = [
        set(subprocess.run([sys.executable, "-c", code.format(name)], capture_output=True, text=True).stdout.split())
        for name in ("datasets", "synthfair_hf")
    ]
    assert loaded[0]
    assert loaded[1] - loaded[0] - set(sys.stdlib_module_names) <= {"synthfair_hf"}
    assert "datasets" not in loaded[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_documents_import_public_names_alone(page: Path):
    for _, code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("synthfair_hf"):
                names = {alias.name for alias in node.names}
                assert node.module == "synthfair_hf", f"{page}: {node.module}"
                assert names <= set(synthfair_hf.__all__), f"{page}: {names - set(synthfair_hf.__all__)}"
