"""Whoever shares out a run and however often it is broken off, the bytes are those of one process.

Ranks that run in other processes import this file, so that it imports little before it is asked to.
"""

import os
import re
import runpy
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthfair_hf.errors import InputError
from synthfair_hf.generate.engines import ENGINES, Place, launch, place_from_environment
from synthfair_hf.records import file_sha256

HERE = Path(__file__).parent

SLURM = {"time": "02:00:00", "partition": "gpu"}
STAMP = r"\d{8}T\d{6}-\d{6}"


def render(directory: Path, rank: int, world_size: int, dies_after: int | None = None) -> None:
    """A rank's share of the stub's 11 shards; one that dies is killed after so many."""
    from synthfair_hf.generate.plan import GenerationPlan
    from synthfair_hf.generate.run import generate
    from synthfair_hf.generate.store import Store

    write, written = Store.write, []

    def write_and_die(store, shard, *arguments):
        record = write(store, shard, *arguments)
        written.append(shard)
        if len(written) == dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return record

    stub = runpy.run_path(str(HERE / "conftest.py"))
    plan = GenerationPlan(
        preset=stub["PRESET"], model_revision="stub", num_subjects=28, subjects_per_shard=3, batch_size=5
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "write", write_and_die)
        generate(plan, stub["StubPipeline"](), directory, progress=False, rank=rank, world_size=world_size)


def note(directory: Path, rank: int, world_size: int, refused: int | None = None, killed: int | None = None) -> None:
    """Write down where this rank runs, unless it fails first."""
    if rank == refused:
        raise InputError("seed: 1.5 is no whole number.")
    if rank == killed:
        os.kill(os.getpid(), signal.SIGKILL)
    (directory / str(rank)).write_text(f"{world_size} {os.environ['LOCAL_RANK']}")


def digests(directory: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in sorted((directory / "data").rglob("*.parquet"))}


def times(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (directory / "data").rglob("*.parquet")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, str]:
    """What one process writes."""
    directory = tmp_path_factory.mktemp("whole")
    render(directory, 0, 1)
    assert len(digests(directory)) == 11
    return digests(directory)


@given(st.integers(1, 10**6), st.data())
def test_a_place_is_what_the_launcher_says(world_size, data):
    rank = data.draw(st.integers(-2, world_size + 2))
    environment = {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": "no matter"}
    if 0 <= rank < world_size:
        assert place_from_environment(environment) == Place(rank, world_size) == (rank, world_size)
    else:
        with pytest.raises(InputError, match=rf"^RANK: '?{rank}'? is not allowed; it must be .*\.$"):
            place_from_environment(environment)


@given(st.sampled_from(["RANK", "WORLD_SIZE"]), st.text().filter(lambda text: not re.fullmatch("[0-9]+", text)))
def test_a_malformed_place_is_refused(name, value):
    with pytest.raises(InputError, match=f"^{name}: .* is not allowed"):
        place_from_environment({"RANK": "0", "WORLD_SIZE": "1", name: value})


def test_a_process_on_its_own_is_rank_0_of_1_and_half_a_place_is_none():
    assert place_from_environment({}) == (0, 1)
    for name in ("RANK", "WORLD_SIZE"):
        with pytest.raises(InputError, match="only one of them is set"):
            place_from_environment({name: "1"})


RANK = """
import sys
import time
from pathlib import Path
from synthfair_hf.generate.engines import place_from_environment
from test_engines import render

place, directory = place_from_environment(), Path(sys.argv[1])
assert place.world_size == 2
render(directory / "whole", *place)
while not (directory / "whole/records/generate.json").exists():
    time.sleep(0.05)
render(directory / "parts", *place, dies_after=2 if place.rank == 1 else None)
"""


def test_torchrun_writes_what_one_process_writes_and_ends_with_a_killed_rank(tmp_path, whole):
    """Two ranks write a whole data set; in a second one, rank 1 is killed with two of its shards written."""
    (tmp_path / "rank.py").write_text(RANK)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*command, tmp_path / "rank.py", tmp_path], env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode != 0
    assert "SIGKILL" in run.stderr, run.stderr
    assert digests(tmp_path / "whole") == whole
    assert 2 <= len(times(tmp_path / "parts")) < 11
    render(tmp_path / "parts", 0, 1)
    assert digests(tmp_path / "parts") == whole


def test_ranks_in_turn_write_what_one_process_writes(tmp_path, whole):
    for rank in (2, 0, 1):
        render(tmp_path, rank, 3)
    assert digests(tmp_path) == whole


def test_the_local_engine_goes_on_from_any_division_and_then_has_nothing_to_do(tmp_path, whole):
    directory, logs = tmp_path / "data set", tmp_path / "logs"
    render(directory, 0, 2)
    before = times(directory)
    assert len(before) == 6
    said = launch("local", partial(render, directory), 3, workers=2, logging_dir=logs)
    assert said == "local: 3 tasks on this machine, 2 at a time."
    assert digests(directory) == whole
    assert times(directory).items() >= before.items()
    before = times(directory)
    launch("local", partial(render, directory), 1, logging_dir=logs)
    assert times(directory) == before
    assert not logs.exists()


def test_a_rank_that_fails_ends_the_run_when_the_others_are_done(tmp_path):
    with pytest.raises(InputError, match=r"^rank 0 of 4: seed: 1.5 is no whole number.$"):
        launch("local", partial(note, tmp_path, refused=0), 4, workers=2, logging_dir=tmp_path)
    notes = {path.name: path.read_text().split() for path in tmp_path.iterdir()}
    assert set(notes) == {"1", "2", "3"}
    assert {world_size for world_size, _ in notes.values()} == {"4"}
    assert {device for _, device in notes.values()} <= {"0", "1"}


def test_a_rank_that_is_killed_ends_the_run(tmp_path):
    with pytest.raises(InputError, match=r"^rank.* of 2: a process was killed, .*; what is finished stays"):
        launch("local", partial(note, tmp_path, killed=1), 2, workers=1, logging_dir=tmp_path)


def test_an_error_of_a_rank_is_not_hidden(tmp_path):
    with pytest.raises(RuntimeError, match=r"^ranks 0, 1 of 2 failed") as raised:
        launch("local", partial(int, base="ten"), 2, workers=1, logging_dir=tmp_path)
    assert isinstance(raised.value.__cause__, TypeError)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"engine": "slrum"}, "engine: 'slrum' is unknown; allowed: local, slurm, ray, jobs; did you mean 'slurm'"),
        ({"tasks": 0}, "tasks: 0 is not allowed; give a whole number from 1 on"),
        ({"workers": 0}, "workers: 0 is not allowed"),
        ({"options": {"gpus": 1}}, r"engine_options: 'gpus' is unknown; allowed: \(none\)"),
    ],
)
def test_a_run_that_cannot_be_shared_out_so_is_refused(tmp_path, changed, message):
    asked = {"engine": "local", "tasks": 2, "logging_dir": tmp_path / "logs", **changed}
    with pytest.raises(InputError, match=f"^{message}"):
        launch(asked.pop("engine"), partial(note, tmp_path), asked.pop("tasks"), **asked)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_without_datatrove_its_engines_say_what_to_install(tmp_path, monkeypatch, engine):
    monkeypatch.setitem(sys.modules, "datatrove", None)
    with pytest.raises(InputError, match=r"pip install 'synthfair-hf\[datatrove\]'"):
        launch(engine, partial(note, tmp_path), 2, logging_dir=tmp_path, dry_run=True)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")


def test_a_dry_run_prints_the_sbatch_script_and_writes_nothing(tmp_path, no_network):
    pytest.importorskip("datatrove")
    options = {**SLURM, "gpus_per_task": "1", "tasks_per_job": 2, "sbatch_args": '{"account": "lab"}'}
    said = launch(
        "slurm", partial(note, tmp_path), 7, workers=3, logging_dir=tmp_path / "logs", dry_run=True, options=options
    )
    directives = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", said, flags=re.MULTILINE))
    wanted = {"array": "0-3%3", "time": "02:00:00", "partition": "gpu", "gpus": "1", "account": "lab"}
    assert directives.items() >= wanted.items()
    assert re.fullmatch(rf"{tmp_path}/logs/{STAMP}/slurm_logs/%A_%a.out", directives["output"])
    assert re.search(rf"\nsrun .*launch_pickled_pipeline {tmp_path}/logs/{STAMP}/executor.pik\n", said)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_jobs_tells_command_hardware_and_namespace_and_no_token(tmp_path, no_network):
    pytest.importorskip("datatrove")
    options = {"flavor": "t4-small", "namespace": "lab", "timeout": "2h", "env": {"KEY": "hf_hidden"}}
    said = launch(
        "jobs", partial(note, tmp_path), 5, logging_dir="hf://buckets/lab/logs", dry_run=True, options=options
    )
    for line in ("jobs: 5", "flavor: t4-small", "namespace: lab", "timeout: 2h", "environment: KEY"):
        assert line in said.splitlines()
    assert re.search(rf"uv run .*synthfair-hf.* hf://buckets/lab/logs/{STAMP}/executor.pik$", said)
    assert "hf_" not in said


def test_a_dry_run_of_ray_needs_no_ray(tmp_path, no_network):
    pytest.importorskip("datatrove")
    options = {"gpus_per_task": 1, "mem_per_cpu_gb": "8"}
    said = launch(
        "ray", partial(note, tmp_path), 5, workers=9, logging_dir=tmp_path / "logs", dry_run=True, options=options
    )
    assert said.startswith("ray: 5 tasks on the cluster, 5 at a time, each with 1 CPUs of 8.0 GB and 1 GPUs; logs in ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("slurm", {"time": "1:00"}, "engine_options: slurm needs partition; give partition="),
        ("slurm", {}, "engine_options: slurm needs time and partition; give time=... partition=..."),
        ("slurm", {**SLURM, "gpus": 1}, "engine_options: 'gpus' is unknown; allowed: time, partition, cpus_per_task, "),
        ("slurm", {**SLURM, "nodes_per_task": 2}, "engine_options: 'nodes_per_task' is unknown"),
        ("slurm", {**SLURM, "gpus_per_task": "two"}, "engine_options: gpus_per_task='two' is invalid"),
        ("slurm", {**SLURM, "sbatch_args": "{account}"}, "engine_options: sbatch_args='{account}' is invalid"),
        ("slurm", {**SLURM, "tasks_per_job": "0"}, "engine_options: tasks_per_job=0 is not allowed; give 1"),
        ("jobs", {"token": "hf_secret"}, "engine_options: 'token' is unknown; allowed: flavor, "),
        ("jobs", {}, "engine: jobs does not allow these settings .*requires a remote logging_dir"),
        ("ray", {"skip_completed": True}, "engine_options: 'skip_completed' is unknown; allowed: "),
    ],
)
def test_options_are_those_of_the_executor(tmp_path, engine, options, message):
    pytest.importorskip("datatrove")
    with pytest.raises(InputError, match=f"^{message}"):
        launch(engine, partial(note, tmp_path), 2, logging_dir=tmp_path / "logs", options=options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("engine", "settings", "message"),
    [
        ("slurm", {"SLURM_ARRAY_TASK_ID": "0"}, "engine: slurm is used inside one of its jobs"),
        ("slurm", {"PATH": ""}, "engine: slurm has no sbatch here"),
        ("jobs", {"HF_TOKEN": "", "HF_TOKEN_PATH": "/nowhere"}, "engine: jobs needs a token"),
    ],
)
def test_an_engine_that_is_not_here_is_refused_before_anything_is_written(
    tmp_path, monkeypatch, engine, settings, message
):
    pytest.importorskip("datatrove")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    logs = "hf://buckets/lab/logs" if engine == "jobs" else tmp_path / "logs"
    with pytest.raises(InputError, match=f"^{message}"):
        launch(engine, partial(note, tmp_path), 2, logging_dir=logs, options=SLURM if engine == "slurm" else None)
    assert not list(tmp_path.iterdir())


SBATCH = """#!/bin/bash
script="${@: -1}"
grep -q launch_pickled_pipeline "$script" && cp "$script" "$0.given" && SLURM_ARRAY_TASK_ID=0 bash "$script" >&2
echo Submitted batch job 4711
"""
SRUN = """#!/bin/bash
while [ "$1" != launch_pickled_pipeline ]; do shift; done
exec "$@"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Path:
    """A cluster of this machine alone, which runs the first job of an array at once; the folder of its commands."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, code in (("sbatch", SBATCH), ("srun", SRUN), ("scontrol", "#!/bin/bash\necho localhost\n")):
        (commands / name).write_text(code)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_NODELIST", "localhost")
    return commands


def test_slurm_is_given_what_the_dry_run_prints_and_writes_what_one_process_writes(
    tmp_path, cluster, save_phantom_generator
):
    """The task is that of the command line, pickled with a tiny generator's path, and all of it in one job."""
    pytest.importorskip("datatrove")
    from synthfair_hf.generate.dataset import generate_dataset
    from synthfair_hf.generate.verification import verify

    settings = {
        "num_subjects": 8,
        "pretrained_model_name_or_path": save_phantom_generator(tmp_path / "generator", side=16, subjects=50),
        "subjects_per_shard": 1,
        "num_inference_steps": 1,
        "split_fractions": {"train": 0.5, "validation": 0.25, "test": 0.25},
    }
    generate_dataset(tmp_path / "one", **settings)
    task = partial(generate_dataset, tmp_path / "many", **settings)
    asked = {"workers": 1, "logging_dir": tmp_path / "logs", "options": {**SLURM, "tasks_per_job": "3"}}
    dry = launch("slurm", task, 3, dry_run=True, **asked)
    said = launch("slurm", task, 3, **asked)
    assert re.fullmatch(rf"slurm: job 4711 of 3 tasks, 1 at a time; logs in {tmp_path}/logs/{STAMP}\.", said)
    assert re.sub(STAMP, "", (cluster / "sbatch.given").read_text()) == re.sub(STAMP, "", dry)
    assert digests(tmp_path / "many") == digests(tmp_path / "one")
    assert verify(tmp_path / "many") == []


def test_what_a_cluster_refuses_is_one_sentence(tmp_path, cluster, monkeypatch):
    pytest.importorskip("datatrove")
    (cluster / "sbatch").write_text("#!/bin/bash\nexit 3\n")
    with pytest.raises(InputError, match=r"^engine: sbatch failed \(exit status 3\); .*/launch_script.slurm\.$"):
        launch("slurm", SimpleNamespace, 2, logging_dir=tmp_path / "logs", options=SLURM)


def test_a_rank_that_an_executor_only_logs_ends_the_run(tmp_path, monkeypatch):
    """Ray and Jobs return as if nothing had happened; here without either, by an executor of this process."""
    local = pytest.importorskip("datatrove.executor").LocalPipelineExecutor

    class Quiet(local):
        def run(self):
            for rank in range(self.tasks):
                try:
                    self._run_for_rank(rank)
                except InputError:
                    continue

    monkeypatch.setattr("datatrove.executor.RayPipelineExecutor", Quiet)
    monkeypatch.setattr("synthfair_hf.generate.engines.find_spec", lambda name: name)
    monkeypatch.setenv("LOCAL_RANK", "0")
    for refused in (1, None):
        task = partial(note, tmp_path, refused=refused)
        if refused is None:
            assert launch("ray", task, 3, logging_dir=tmp_path / "logs").startswith("ray: 3 tasks done; logs in ")
        else:
            with pytest.raises(InputError, match=r"^rank 1 of 3 failed, see .*/logs/.*; what is finished stays"):
                launch("ray", task, 3, logging_dir=tmp_path / "logs")
        assert {path.name for path in tmp_path.glob("?")} == ({"0", "2"} if refused else {"0", "1", "2"})


def test_datatroves_local_executor_writes_what_one_process_writes(tmp_path, monkeypatch, whole):
    """The step that Slurm, Ray and Jobs are given, run by datatrove's own executor for one machine."""
    local = pytest.importorskip("datatrove.executor").LocalPipelineExecutor
    monkeypatch.setattr("datatrove.executor.RayPipelineExecutor", local)
    monkeypatch.setattr("synthfair_hf.generate.engines.find_spec", lambda name: name)
    task = partial(render, tmp_path / "data set")
    said = launch("ray", task, 2, workers=2, logging_dir=tmp_path / "logs")
    assert said.startswith("ray: 2 tasks done; logs in ")
    assert digests(tmp_path / "data set") == whole
    before = times(tmp_path / "data set")
    launch("ray", task, 2, workers=1, logging_dir=tmp_path / "logs")
    assert times(tmp_path / "data set") == before, "the second launch has nothing to do"
    assert len(list((tmp_path / "logs").glob("*/completions/*"))) == 4


HUNG = """
import os
import signal
import sys
from pathlib import Path
from synthfair_hf.generate.store import Store
from test_engines import render

write = Store.write

def write_and_stop(store, shard, *arguments):
    record = write(store, shard, *arguments)
    os.kill(os.getpid(), signal.SIGSTOP)
    return record

Store.write = write_and_stop
render(Path(sys.argv[1]), 1, 2)
"""


def test_a_rank_that_hangs_holds_its_own_share_until_it_is_killed(tmp_path, whole):
    hung = subprocess.Popen(
        [sys.executable, "-c", HUNG, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    )
    try:
        assert os.waitid(os.P_PID, hung.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT).si_code == os.CLD_STOPPED
        render(tmp_path, 0, 2)
        assert len(digests(tmp_path)) == 7, "six of its own and one of the other's"
        for place in ((1, 2), (0, 1)):
            with pytest.raises(InputError, match=rf"locked by pid {hung.pid} on host .*, rank 1 of 2; wait"):
                render(tmp_path, *place)
    finally:
        hung.kill()
        hung.wait()
    before = times(tmp_path)
    render(tmp_path, 1, 2)
    assert digests(tmp_path) == whole
    assert times(tmp_path).items() >= before.items()
