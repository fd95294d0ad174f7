"""The script of a Job: a part is pushed to a branch, and parts merge to what one machine would have written."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from fenced import ROOT, blocks, run_bash
from hub import Fault, Hub
from hub.clients import TOKEN, environment

from synthfair_hf.cli import main
from synthfair_hf.generate.store import Store

pytest_plugins = ["hub.fixtures"]

SCRIPT, PAGE = ROOT / "examples" / "generate_part.py", ROOT / "docs" / "jobs.md"
SETTINGS = ["--world", "phantom", "--resolution", "16", "--num_subjects", "14", "--subjects_per_shard", "5"]
SETTINGS += ["--factors", "sex"]
NAME = "my-lab/parts"


def run(hub: Hub, tmp_path: Path, rank: int, *settings: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own, as a Job runs it: in a directory of its own that nobody keeps."""
    directory = tmp_path / f"job-{rank}-{len(list(tmp_path.glob('job-*')))}"
    directory.mkdir()
    words = ["--rank", str(rank), "--world_size", "2", "--hub_dataset_id", NAME, *SETTINGS, *settings]
    variables = {**environment(hub, tmp_path / "home"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [sys.executable, SCRIPT, *words], cwd=directory, env=variables, capture_output=True, text=True
    )


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, imported; the place of the last part that ran does not stay in the environment."""
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "0")
    spec = importlib.util.spec_from_file_location("generate_part", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def local(directory: Path) -> dict[str, bytes]:
    """Rows and plan of a data set by name."""
    kept = [*directory.glob("data/**/*.parquet"), directory / "records" / "plan.json"]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in kept}


def test_the_commands_of_the_page_lead_from_parts_to_a_release(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: ModuleType
):
    variables = {**os.environ, **environment(hub, tmp_path / "home")}
    starting, merging = (code for _, code in blocks(PAGE, "bash"))
    monkeypatch.chdir(ROOT)
    printed = run_bash(starting.replace("hf jobs uv run", "hf jobs uv run --dry-run"), variables)
    words = "--rank 3 --world_size 4 --hub_dataset_id my-lab/synthfair-parts --num_subjects 84000"
    assert printed.count("not submitted") == 4
    assert words in printed
    assert TOKEN not in printed

    monkeypatch.chdir(tmp_path)
    for rank in range(4):
        assert script.generate_and_push(rank, 4, "my-lab/synthfair-parts", Path(f"job-{rank}"), SETTINGS) == 0
    parts = hub.repository("my-lab/synthfair-parts")
    assert parts.private
    assert set(parts.branches) == {"main", *(f"part-{rank}-of-4" for rank in range(4))}
    assert set(parts.files("main")) == {".gitattributes"}
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name)
        variables.pop(name, None)
    run_bash(merging, variables)
    assert main(["generate", *SETTINGS, "--output_dir", "alone"]) == 0
    assert local(Path("synthfair")) == local(Path("alone"))
    shards = [path.name for rank in range(4) for path in Path(f"part-{rank}").rglob("*.parquet")]
    assert sorted(shards) == sorted(path.name for path in Path("alone").rglob("*.parquet"))
    assert len(hub.repository("my-lab/synthfair").tags) == 1


def test_a_job_that_is_repeated_generates_and_sends_nothing_again(
    hub: Hub, tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    done = run(hub, tmp_path, 1)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == f"pushed to {hub.url}/datasets/{NAME}, branch part-1-of-2"
    assert TOKEN not in done.stdout + done.stderr
    before, sent = dict(hub.repository(NAME).files("part-1-of-2")), len(hub.seen("PUT", "/lfs/"))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", None)
        assert script.generate_and_push(1, 2, NAME, tmp_path / "again", SETTINGS) == 0
    assert script.generate_and_push(1, 2, NAME, tmp_path / "other", [*SETTINGS, "--seed", "1"]) == 2
    assert "holds another plan" in capsys.readouterr().err
    assert hub.repository(NAME).files("part-1-of-2") == before
    assert len(hub.seen("PUT", "/lfs/")) == sent


def test_without_a_token_or_the_right_to_write_nothing_is_generated(hub: Hub, tmp_path: Path):
    done = run(hub, tmp_path, 0, HF_TOKEN="")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("generate_part: token: none is given or logged in")
    hub.faults.append(Fault("POST", "/api/repos/create", 403, times=1000))
    done = run(hub, tmp_path, 0)
    assert done.returncode == 1
    assert re.search(r"^generate_part: my-lab/parts: .*403", done.stderr.splitlines()[-1])
    assert not list(tmp_path.glob("job-*/*"))


def test_a_part_made_from_restricted_images_is_gated_before_it_is_sent(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_store: Callable[..., Path],
    script: ModuleType,
):
    store = write_store(tmp_path / "store", 2, factors=("sex",), access="credentialed")
    monkeypatch.setattr(script, "main", lambda words: 0 if shutil.copytree(store, words[-1]) else 1)
    assert script.generate_and_push(0, 2, NAME, tmp_path / "part", []) == 0
    assert (hub.repository(NAME).private, hub.repository(NAME).gated) == (True, "manual")
    order = [one.path for one in hub.requests if one.method in ("PUT", "POST") and one.status == 200]
    settings = order.index(f"/api/datasets/{NAME}/settings")
    assert all(settings < place for place, path in enumerate(order) if re.search("/lfs/|/preupload/|/commit/", path))
    assert set(hub.repository(NAME).files("part-0-of-2")) >= {"records/plan.json"}


def test_its_metadata_are_those_of_the_package():
    """Read by the regular expression of PEP 723."""
    pattern = r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
    (found,) = re.finditer(pattern, SCRIPT.read_text(encoding="utf-8"))
    assert found["type"] == "script"
    metadata = tomllib.loads("".join(line[2:] for line in found["content"].splitlines(keepends=True)))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata == {"requires-python": project["requires-python"], "dependencies": [project["name"]]}
