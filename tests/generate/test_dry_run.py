import json

import pytest

from synthfair_hf.cli import main
from synthfair_hf.errors import InputError
from synthfair_hf.generate.dataset import spread_dataset


@pytest.fixture
def loads(monkeypatch) -> list[str]:
    """Every time that a network would be loaded, and that images would be timed: half a second each."""
    found: list[str] = []
    monkeypatch.setattr("synthfair_hf.generate.dataset.load_generator", lambda saved: found.append("loaded"))

    def timed(*arguments):
        found.append("timed")
        return 0.5

    monkeypatch.setattr("synthfair_hf.generate.dataset.seconds_per_image", timed)
    return found


def test_a_dry_run_tells_cells_rows_bytes_and_time_and_writes_nothing(loads, tmp_path, capsys):
    target = tmp_path / "never"
    words = ["--factors", "sex", "age", "--levels", "age=30,50,97", "--target", "sex=male:0.75,female:0.25"]
    assert main(["generate", "--num_subjects", "100", "--output_dir", str(target), "--dry_run", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    # 70, 15 and 15 subjects, of whom a third shows both sexes
    assert told["rows"] == {"train": 3 * (70 + 23), "validation": 3 * 20, "test": 3 * 20}
    assert told["cells"] == 3 * 6
    assert told["estimated_bytes"] > 0
    assert (told["seconds_per_image"], told["ranks"], told["estimated_seconds"]) == (0.5, 1, 0.5 * 399)
    assert told["support"]["observed"] == "the generator's 1944 training images"
    assert set(told["support"]["out_of_support"]) == {"male / 97", "female / 97"}
    assert loads == ["loaded", "timed"]
    assert not target.exists()


@pytest.mark.parametrize("words", [["--factors", "sxe"], ["--target", "sex=male:1"], ["--batch_size", "0"]])
def test_bad_settings_are_refused_before_a_network_is_loaded(loads, tmp_path, words):
    assert main(["generate", "--num_subjects", "28", "--output_dir", str(tmp_path / "never"), "--dry_run", *words]) == 2
    assert loads == []


def test_only_the_dry_run_of_an_engine_is_timed_and_once(loads, tmp_path, monkeypatch):
    monkeypatch.setattr("synthfair_hf.generate.dataset.launch", lambda *arguments, **keywords: "said")
    asked = {"output_dir": tmp_path / "never", "num_subjects": 28, "license": "cc0-1.0"}
    summary, said = spread_dataset("local", 4, dry_run=True, **asked)
    assert (summary["ranks"], summary["estimated_seconds"], said) == (4, 0.5 * 336 / 4, "said")
    assert loads == ["loaded", "timed"]
    summary, _ = spread_dataset("local", 4, **asked)
    assert "estimated_seconds" not in summary
    assert loads == ["loaded", "timed"]
    with pytest.raises(InputError, match="num_subjects: 7 cannot"):
        spread_dataset("local", 4, dry_run=True, **{**asked, "num_subjects": 7})


def test_jobs_are_described_and_not_launched_since_their_disk_ends_with_them(loads, tmp_path, capsys):
    asked = ["generate", "--num_subjects", "28", "--output_dir", str(tmp_path / "never"), "--engine", "jobs"]
    asked += ["--tasks", "4", "--logging_dir", "hf://buckets/lab/logs", "--engine_options", "flavor=t4-small"]
    assert main([*asked, "--dry_run"]) == 0
    assert "flavor: t4-small" in capsys.readouterr().out
    assert main(asked) == 2
    assert "--engine: 'jobs' is unknown; allowed: local, slurm, ray" in capsys.readouterr().err
    assert not (tmp_path / "never").exists()
