"""What the documents, benchmarks and examples name exists: imports, verbs, flags; Python on pages runs."""

import ast
import re
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fenced import ROOT, blocks
from transformers import AutoModelForImageClassification, ResNetConfig

from synthfair_hf import open_classifier
from synthfair_hf.cli.parser import help_of
from synthfair_hf.cli.verbs import VERBS
from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR, find_generator
from synthfair_hf.fairness.benchmark.board import load_method

SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "examples").glob("*.py")])
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "synthfair_hf").rglob("*.md")])
COMMAND = re.compile(r"\bsynthfair ((?:measure )?[a-z_]+)((?: [^\n`|]*)?)")
PROSE = {"measure", "hf", "name", "demo", "views", "verb"}
"""Words that follow `synthfair` in prose, or verbs without flags."""


@pytest.fixture(scope="module")
def store(write_store: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of the shipped generator's domain, as pages find it."""
    return write_store(tmp_path_factory.mktemp("store") / "synthfair", preset=find_generator().preset)


def imported(path: Path) -> list[tuple[str, str]]:
    """Module and name of everything that a script imports from the package."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in nodes if str(node.module).partition(".")[0] == "synthfair_hf"]
    return [(str(node.module), alias.name) for node in ours for alias in node.names]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_imports_exists(path: Path):
    for module, name in imported(path):
        assert hasattr(import_module(module), name), f"{path.name}: {module} has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_verbs_and_flags_of_a_page_exist(page: Path):
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for verb, rest in COMMAND.findall(text):
        flags = set(re.findall(r"--([a-z_]+)", rest.partition("  #")[0].partition(";")[0]))
        if verb not in VERBS:
            assert verb.split()[0] in PROSE or not flags, f"{page.name}: synthfair {verb} does not exist"
            continue
        known = set(re.findall(r"--([a-z_]+)", help_of(VERBS[verb]))) | {"config_file"}
        assert flags <= known, f"{page.name}: synthfair {verb} has no {flags - known}"


def test_the_python_of_the_readme_runs(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In a directory that holds `./synthfair`, as the page says; with the shipped generator."""
    shutil.copytree(store, tmp_path / "synthfair")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for _, code in blocks(ROOT / "README.md", "python"):
        exec(code, names)
    assert len(names["biased"]["train"]) == len(names["twin"]["train"])
    assert names["image"].shape == names["counterfactual"].images.shape == (1, 1, 128, 128)
    assert names["counterfactual"].covariates["sex"] == ["female"]


@pytest.mark.parametrize("name", ["counterfactuals", "train", "views"])
def test_the_python_of_a_page_runs(name: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In a directory that holds `./synthfair` and, where a run's generator is loaded, the shipped one as `./RUN`."""
    shutil.copytree(store, tmp_path / "synthfair")
    (tmp_path / "RUN").symlink_to(DEFAULT_GENERATOR)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    found = blocks(ROOT / "docs" / f"{name}.md", "python")
    assert found
    for _, code in found:
        exec(code, names)


def test_the_documented_method_is_one(tmp_path: Path):
    (block,) = [code for _, code in blocks(ROOT / "docs" / "audit_and_mitigate.md", "python") if "(Method)" in code]
    (tmp_path / "label_balanced.py").write_text(block)
    method = load_method(tmp_path / "label_balanced.py")
    weights = method().sample_weights(SimpleNamespace(labels=torch.tensor([1, 0, 0, 0])))
    assert weights.tolist() == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])


def test_the_documented_classifier_is_detected_and_mitigated(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In a directory that holds `./synthfair` and `./classifier`."""
    shutil.copytree(store, tmp_path / "synthfair")
    monkeypatch.chdir(tmp_path)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])
    AutoModelForImageClassification.from_config(config).save_pretrained("classifier")
    found = blocks(ROOT / "docs" / "audit_and_mitigate.md", "python")
    (block,) = [code for _, code in found if "open_classifier(" in code]
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["named"] in (None, "sex", "scanner")
    assert names["gaps"]["attribute"].tolist() == ["sex", "scanner"]
    assert open_classifier("mitigated").fingerprint == names["fitted"].classifier.fingerprint
