"""What hides a cause: interrupts while importing, pipes, full disks, code that exits, records that lack entries."""

import errno
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from synthfair_hf import cli, records
from synthfair_hf.cli.output import print_saved
from synthfair_hf.cli.parser import help_of, in_flags, parse
from synthfair_hf.cli.verbs import VERBS
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.benchmark.board import load_method
from synthfair_hf.generate.store import read_plan
from synthfair_hf.records import Record, write_atomically

INTERRUPTS = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""
SWALLOWS = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    raise ImportError("the core of this library failed to load")
"""


@pytest.mark.parametrize("code", [INTERRUPTS, SWALLOWS])
@pytest.mark.parametrize("library", ["datasets", "pydantic", "yaml", "torch"])
def test_an_interrupt_while_importing_is_one_line(tmp_path: Path, library: str, code: str):
    (tmp_path / f"{library}.py").write_text(code)
    words = ["measure", "soundness", "--world", "phantom", "--output_dir", "out"]
    if library == "datasets":
        words = ["validate", "out"]  # which imports it first
    command = [sys.executable, "-m", "synthfair_hf.cli", *words]
    root = str(Path(cli.__file__).parents[2])
    ended = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 130, ended.stderr
    assert re.fullmatch(r"synthfair: interrupted.*\n", ended.stderr), ended.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["demo", "--output_dir", "out"], "; the same command begins anew."),
        (["merge", "part", "--output_dir", "out"], "; the same command goes on from there."),
        (["push", "out", "--hub_dataset_id", "me/mine"], "; the same command goes on from there."),
        (
            ["train", "--preset", "phantom", "--output_dir", "my run"],
            "; it goes on by: synthfair train --preset phantom --output_dir 'my run' --resume_from_checkpoint latest",
        ),
        (
            ["predictor", "--preset", "phantom", "--output_dir", "out", "--resume_from_checkpoint=checkpoint-2"],
            "; it goes on by: synthfair predictor --preset phantom --output_dir out "
            "--resume_from_checkpoint=checkpoint-2 --resume_from_checkpoint latest",
        ),
        (
            ["train", "--output_dir", "out", "--resume_from_checkpoint", "latest"],
            "; it goes on by: synthfair train --output_dir out --resume_from_checkpoint latest",
        ),
    ],
)
def test_an_interrupted_verb_says_how_to_go_on(monkeypatch, capsys, words: list[str], told: str):
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(VERBS[words[0]], "run", interrupted)
    assert (run(*words), capsys.readouterr().err) == (130, f"synthfair: interrupted{told}\n")
    command = told.partition("it goes on by: synthfair ")[2]
    if command:
        verb, *rest = shlex.split(command)
        assert parse(VERBS[verb], rest).config.resume_from_checkpoint == "latest"


def test_processes_that_train_together_are_started_together_again(monkeypatch, capsys):
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(VERBS["train"], "run", interrupted)
    for rank, told in (
        ("0", "synthfair: interrupted; the same launch goes on with --resume_from_checkpoint latest.\n"),
        ("1", ""),
    ):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        assert (run("train", "--output_dir", "out"), capsys.readouterr().err) == (130, told)


def test_importing_the_package_leaves_the_handler_of_a_program_alone():
    code = "import signal; before = signal.getsignal(2); import synthfair_hf; assert signal.getsignal(2) is before"
    subprocess.run([sys.executable, "-c", code], check=True)


def run(*words: str) -> int:
    return cli.main(list(words))


def test_a_pipe_of_settings_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    os.mkfifo(tmp_path / "settings.yaml")
    signal.alarm(20)
    try:
        assert run("views", "--config_file", str(tmp_path / "settings.yaml")) == 2
    finally:
        signal.alarm(0)
    assert "it is not a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit(0)",
        "exit()",
        "raise SystemExit('bye\\nbye')",
        "raise BaseException('x')",
        "raise GeneratorExit",
        "import asyncio; raise asyncio.CancelledError",
        "def f(): f()\nf()",
        "this is no Python",
    ],
)
def test_a_method_file_that_ends_the_process_is_named(tmp_path: Path, code: str):
    path = tmp_path / "mine.py"
    path.write_text(code)
    with pytest.raises(InputError, match=r"method_files: .*mine\.py does not run \(\w+") as error:
        load_method(path)
    assert "\n" not in str(error.value)
    assert "submitted_mine" not in sys.modules


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_names_the_file_and_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*record\.json'"):
        write_atomically(tmp_path / "record.json", b"{}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "out: No space left on device."),
        (OSError(errno.EACCES, "Permission denied", "out/x"), "out/x: Permission denied."),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "out: I/O error: No space left"),
        (MemoryError(), "out: there is not enough memory"),
        (InputError("seed: a\nb\x1b[2J"), r"--seed: a\nb\x1b[2J"),
    ],
)
def test_an_error_of_the_machine_names_a_place(monkeypatch, capsys, error: BaseException, told: str):
    def fails(_: object) -> None:
        raise error

    monkeypatch.setattr(VERBS["demo"], "run", fails)
    assert run("demo", "--output_dir", "out") == 2
    assert re.match(re.escape(f"synthfair: {told}"), capsys.readouterr().err)


DEEP = "[" * 100_000


def test_brackets_without_end_are_told_like_any_other_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], store: Path
):
    (tmp_path / "candidates.jsonl").write_text(DEEP + "\n")
    (tmp_path / "record.json").write_text(DEEP)
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "plan.json").write_text(DEEP)
    (tmp_path / "model_index.json").write_text(DEEP)
    (tmp_path / "settings.yaml").write_text(DEEP)
    place = str(tmp_path)
    for words in (
        ["label", "--candidates", place, "--output_file", f"{place}/answers", "--annotator", "ada"],
        ["judge", "--candidates", place, "--judges", "true_pixels=1", "--output_dir", f"{place}/out"],
        ["verify", place, "--repair"],
        ["report", place],
        ["candidates", "--pretrained_model_name_or_path", place, "--num_pairs", "1", "--output_dir", f"{place}/out"],
        ["views", "--config_file", f"{place}/settings.yaml"],
    ):
        assert run(*words) == 2, words
        told = capsys.readouterr().err
        assert told.count("\n") == 1, told
        assert len(told) < 2000, told
    assert run("verify", place) == 1
    with pytest.raises(InputError, match="not a plan of this version"):
        read_plan(tmp_path)


@pytest.mark.parametrize("field", ["counts", "settings", "measured"])
def test_a_record_that_lacks_an_entry_is_named_with_it(tmp_path: Path, field: str):
    path = tmp_path / "record.json"
    Record(stage="train").write(path)
    with pytest.raises(InputError, match=rf"record\.json: no 'steps' in {field}; "):
        getattr(Record.read(path), field)["steps"]
    assert getattr(Record.read(path), field).get("steps") is None
    assert Record.read(path) == Record(stage="train")


def test_a_finished_run_without_counts_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    def finished(_: object) -> None:
        record = Record(stage="train")
        record.write(tmp_path / "record.json")
        print_saved(tmp_path, Record.read(tmp_path / "record.json"))

    monkeypatch.setattr(VERBS["train"], "run", finished)
    assert run("train", "--preset", "phantom", "--output_dir", str(tmp_path)) == 2
    assert "no 'steps' in counts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["judge", "--candidates", "c", "--judges", "realism=-1", "--output_dir", "o"], r"--judges\['realism'\]: -1"),
        (["judge", "--candidates", "c", "--judges", "realism=0", "--output_dir", "o"], r"--judges\['realism'\]: 0"),
        (["candidates", "--num_pairs", "1", "--balance", "sex,sex", "--output_dir", "o"], "--balance: sex, sex names"),
        (
            ["measure", "soundness", "--world", "phantom", "--output_dir", "o", "--contrasts", "age=30,30"],
            r"--contrasts\['age'\]: 30.0 twice; give two values that differ",
        ),
        (
            ["counterfactual", "--image", "i", "--covariates", "age=1", "--guidance_scale", "1e39"],
            "--guidance_scale: 1e[+]39 is invalid; give a finite number from 0 to 3.4",
        ),
        (
            ["counterfactual", "--image", "i", "--covariates", "age=1", "--guidance_scale", "sex=1e39"],
            r"--guidance_scale\['sex'\]: 1e[+]39 is invalid; give a finite number from 0 to 3.4",
        ),
        (["demo", "--seed=--"], "--seed: '--' is invalid; give a value"),
        (["demo", "--seed", "1_000"], "--seed: '1_000' is invalid; give a whole number from 0 to"),
        (["generate", "--num_subjects", "9" * 5000], "--num_subjects: '99999.* is invalid; give a whole number"),
    ],
)
def test_known_gaps_are_closed(words: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    assert re.match(f"synthfair: {told}", found := capsys.readouterr().err), found
    assert list(tmp_path.iterdir()) == []


def test_a_leaderboard_is_not_written_among_other_files(tmp_path: Path, store: Path, capsys):
    (tmp_path / "record.json").write_text("{}")
    words = ["benchmark", "--data_dir", str(store), "--views", "sex_imbalanced_90_10", "--output_dir", str(tmp_path)]
    assert run(*words) == 2
    assert "holds other files than a leaderboard" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_answers_are_exported_for_the_domain_of_the_candidates(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from synthfair_hf.domains.phantom.preset import PHANTOM

    Record(stage="candidates", settings={"preset": PHANTOM.model_dump(mode="json")}).write(tmp_path / "record.json")
    words = ["label", "--candidates", str(tmp_path), "--output_file", str(tmp_path / "answers.jsonl")]
    assert run(*words, "--export", str(tmp_path / "out"), "--preset", "chest_xray") == 2
    assert "'chest_xray' is not that of" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_a_remedy_names_flags_as_they_are_written(verb: str):
    told = in_flags("output_dir: x holds a run; give resume_from_checkpoint='latest' to go on", VERBS[verb])
    has = "resume_from_checkpoint" in help_of(VERBS[verb])
    assert ("give --resume_from_checkpoint latest to go on" in told) == has


@pytest.mark.parametrize("words", ["--help", "generate --help", "views --data_dir world"])
def test_a_reader_that_has_enough_ends_a_verb_quietly(tmp_path, words):
    shutil.copytree(Path(__file__).parent / "fixtures" / "bb96b81" / "world", tmp_path / "world")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "synthfair_hf.cli", *words.split()],
            stdout=writer,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
