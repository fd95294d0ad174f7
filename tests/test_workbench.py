"""Examples run as their page says, here on few and small images."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL_RESNET = {
    **json.loads((ROOT / "examples" / "resnet-18.json").read_text()),
    "embedding_size": 8,
    "hidden_sizes": [8, 8],
    "depths": [1, 1],
}


@pytest.fixture
def workbench(tmp_path, monkeypatch):
    """`workbench(records, *words)` runs the example with a shared data set, and returns its record and page.

    With words in this process, which has the libraries imported; without, in one of its own, as the page says.
    """

    def run(records, *words):
        script = str(ROOT / "examples" / "bias_workbench.py")
        command = [script, str(tmp_path / "phantom"), str(records), "--num_subjects", "70", "--steps", "4", *words]
        if words:
            monkeypatch.setattr("sys.argv", command)
            runpy.run_path(script, run_name="__main__")
        else:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
            command = [sys.executable, "-W", "error::FutureWarning", *command]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            assert done.returncode == 0, done.stderr[-2000:]
        return json.loads((records / "workbench.json").read_text()), (records / "README.md").read_text()

    return run


def test_the_workbench_takes_a_classifier_of_transformers(workbench, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(SMALL_RESNET))
    own, _ = workbench(tmp_path / "own")
    record, page = workbench(tmp_path / "resnet", "--classifier", str(config), "--learning_rate", "1e-3")
    assert own["settings"]["network"].startswith("ImageClassifier of ")
    assert record["settings"]["network"].startswith("ResNetForImageClassification of ")
    assert "classifier" in record["inputs"]
    assert "classifier" not in own["inputs"]
    assert record["inputs"]["data_set"] == own["inputs"]["data_set"]
    assert len(record["measured"]) == 5
    for name, found in record["measured"].items():
        assert page.count(f"| {name} | ") == 1
        value, low, high = found["worst-group accuracy"]
        assert 0 <= low <= value <= high <= 1
    assert record["settings"]["command"] in page
    assert f"{record['counts']['test']} unbiased test rows" in page
