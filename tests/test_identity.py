"""Nothing is identified by the package's own text: other words in every module leave every identity as it was."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import synthfair_hf
from synthfair_hf.domains.chest_xray.scanners import equations
from synthfair_hf.domains.oracle import Oracle
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.domains.presets import PRESETS
from synthfair_hf.fairness.benchmark.board import load_method
from synthfair_hf.fairness.benchmark.cells import method_identity
from synthfair_hf.fairness.mitigation import METHODS
from synthfair_hf.records import fingerprint
from synthfair_hf.views.view import get_view

PACKAGE = Path(synthfair_hf.__file__).parent
SUBMITTED = """
from synthfair_hf.fairness.mitigation.resampling import Resampling

class Mine(Resampling):
    pass
"""


def identities(submitted):
    """By name, of everything that is known by a version or by its contents; `submitted` is a method's file."""
    return {
        **{name: method_identity(method) for name, method in METHODS.items()},
        "submitted": method_identity(load_method(submitted)),
        "acquisition": equations(),
        "oracle": Oracle("phantom").revision,
        "source": PhantomSource(2, seed=0).fingerprint,
        **{f"preset {name}": fingerprint(preset) for name, preset in PRESETS.items()},
        **{f"view of {name}": get_view("full", preset).fingerprint for name, preset in PRESETS.items()},
    }


def test_other_words_in_every_module_leave_every_identity_as_it_was(tmp_path):
    copied = tmp_path / "synthfair_hf"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copied.rglob("*.py"):
        path.write_text(path.read_text(encoding="utf-8") + "\n# one more remark\n", encoding="utf-8")
    submitted = tmp_path / "mine.py"
    submitted.write_text(SUBMITTED)
    told = subprocess.run(
        [sys.executable, __file__, str(submitted)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    assert json.loads(told) == [str(copied), identities(submitted)]


if __name__ == "__main__":
    print(json.dumps([str(PACKAGE), identities(sys.argv[1])]))
