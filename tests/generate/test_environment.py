"""The same plan gives the same identity and bytes whatever the locale, time zone, hash seed and number of threads."""

import os
import subprocess
import sys
from pathlib import Path

from synthfair_hf.records import file_sha256

RUN = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from conftest import PRESET, StubPipeline
from synthfair_hf.publish.dataset_card import write_dataset_card
from synthfair_hf.generate.plan import GenerationPlan
from synthfair_hf.generate.run import generate
from synthfair_hf.generate.verification import verify

directory = Path(sys.argv[2])
plan = GenerationPlan(
    preset=PRESET, model_revision="stub", num_subjects=28, subjects_per_shard=3, batch_size=5, partitioned_from=10
)
record = generate(plan, StubPipeline(), directory, progress=False)
write_dataset_card(directory, plan.preset, record, "cc-by-4.0")
assert verify(directory) == []
"""

PLAIN = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
OTHER = {
    # text would be ASCII, and 1.5 may be written 1,5
    "LC_ALL": "C",
    "LC_NUMERIC": "de_DE.UTF-8",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONUTF8": "0",
    # another day
    "TZ": "Pacific/Kiritimati",
    "PYTHONHASHSEED": "4711",
    "OMP_NUM_THREADS": "2",
}


def start(directory: Path, environment: dict[str, str]) -> subprocess.Popen:
    """A process in this environment that writes a data set, working elsewhere than where it was called."""
    directory.parent.mkdir()
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", RUN, str(Path(__file__).parent), str(directory)],
        env={**{name: value for name, value in os.environ.items() if not name.startswith("LC_")}, **environment},
        cwd=directory.parent,
        stderr=subprocess.PIPE,
        text=True,
    )


def digests(directory: Path) -> dict[str, str]:
    files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    return {name: file_sha256(path) for name, path in files.items()}


def test_the_environment_changes_no_byte(tmp_path):
    directories = [tmp_path / name / "synthfair" for name in ("plain", "somewhere else")]
    for process in [start(*pair) for pair in zip(directories, (PLAIN, OTHER), strict=True)]:
        _, told = process.communicate()
        assert process.returncode == 0, told
    plain, other = map(digests, directories)
    assert {"README.md", "records/plan.json", "records/generate.json"} < set(plain)
    assert sum(name.endswith(".parquet") for name in plain) > 20, "train is partitioned by cell and draw"
    assert other == plain
