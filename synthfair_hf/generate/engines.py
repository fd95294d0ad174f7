"""A run spread over processes: each takes its rank from its launcher, or from an engine.

    place     rank r of n, from RANK and WORLD_SIZE, as torchrun and `accelerate launch` set them
    engine    task(rank=r, world_size=n) for every r, in processes of this machine ("local"), or on a cluster through
              the executors of datatrove, an optional extra ("slurm", "ray", "jobs")

A shard is finished when its record is there (`store`), so the same launch continues an interrupted one, whatever engine
or number of tasks that had. An executor's own markers decide nothing: every launch has a new folder for them. Ranks
that have no directory in common, such as those of Jobs, each make a part of the data set (`merge`), which their task
must send away, since a Job's disk ends with it.
"""

import inspect
import math
import multiprocessing
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from subprocess import CalledProcessError
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, get_type_hints

from pydantic import TypeAdapter, ValidationError

from .. import __version__
from ..errors import InputError, unknown
from ..training.devices import whole_number

__all__ = ["ENGINES", "Place", "launch", "place_from_environment"]

EXECUTORS = {"slurm": "SlurmPipelineExecutor", "ray": "RayPipelineExecutor", "jobs": "JobsPipelineExecutor"}

ENGINES = ("local", *EXECUTORS)
"""What can spread a run."""

INSIDE = {"slurm": "SLURM_ARRAY_TASK_ID", "jobs": "DATATROVE_JOB_ARRAY_INDEX"}
"""Variables that are set inside a job of an executor, which then launches none."""

WITHHELD = {
    *("self", "pipeline", "tasks", "workers", "logging_dir", "skip_completed", "depends"),  # `launch` gives them
    "nodes_per_task",  # every node of a task would be the same rank
    *("token", "secrets"),  # those of `hf auth login`, so that no command line holds any
}
"""Settings of the executors that are no options."""

AGAIN = "what is finished stays, so run the same command again"


class Place(NamedTuple):
    """Where a process stands among those that share a run: its rank, from 0 to `world_size` - 1."""

    rank: int
    world_size: int


def place_from_environment(environment: Mapping[str, str] = os.environ) -> Place:
    """The place that torchrun or `accelerate launch` gave this process; (0, 1) without either."""
    if ("RANK" in environment) != ("WORLD_SIZE" in environment):
        raise InputError("RANK, WORLD_SIZE: only one of them is set; set both, or none for a process on its own.")
    place = Place(whole_number(environment, "RANK", 0), whole_number(environment, "WORLD_SIZE", 1))
    if place.rank >= place.world_size:
        raise InputError(f"RANK: {place.rank} is not allowed; it must be below WORLD_SIZE, {place.world_size}.")
    return place


def launch(
    engine: str,
    task: Callable[..., Any],
    tasks: int,
    *,
    workers: int | None = None,
    logging_dir: str | Path,
    dry_run: bool = False,
    options: Mapping[str, Any] | None = None,
) -> str:
    """Run `task(rank=..., world_size=tasks)` for each rank.

    Returns after the last rank; for Slurm, when the job is submitted.

    Args:
        engine: a name in ENGINES.
        task: picklable, imported from a module (a functools.partial of a function with its settings), with absolute
            paths.
        tasks: number of ranks, 1 or more.
        workers: ranks at a time; all by default.
        logging_dir: scripts, logs and markers go to a new folder in it; for Jobs one that they can reach
            (hf://buckets/...).
        dry_run: run and write nothing.
        options: the datatrove executor's own keywords, as values or as text: time, partition, gpus_per_task,
            sbatch_args='{"account": "lab"}'.

    Returns:
        A description of what was run, or of what would be.

    Raises:
        InputError: before anything runs, for settings that the engine does not allow; after the other ranks have ended,
            for a rank that raised InputError or was killed.
        RuntimeError: from any other error of a rank.
    """
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    for name, number in (("tasks", tasks), ("workers", workers)):
        if number is not None and number < 1:
            raise InputError(f"{name}: {number} is not allowed; give a whole number from 1 on.")
    workers = min(workers or tasks, tasks)
    if engine == "local":
        if options:
            raise unknown("engine_options", next(iter(options)), ())
        if not dry_run:
            _run_locally(task, tasks, workers)
        return f"local: {tasks} tasks on this machine, {workers} at a time."
    kind = _executor(engine)
    settings = _checked(engine, kind, options or {})
    remote = "://" in str(logging_dir)
    folder = f"{logging_dir if remote else Path(logging_dir).absolute()}/{datetime.now(UTC):%Y%m%dT%H%M%S-%f}"
    try:
        executor = kind([_Step(task)], tasks, workers=workers, logging_dir=folder, skip_completed=False, **settings)
    except ValueError as error:
        raise InputError(f"engine: {engine} does not allow these settings ({error}).") from None
    if dry_run:
        return _DESCRIPTIONS[engine](executor, folder)
    _check_launchable(engine)
    try:
        executor.run()
    except CalledProcessError as error:
        raise InputError(
            f"engine: {error.cmd[0]} failed (exit status {error.returncode}); its reason stands above, the script is "
            f"{folder}/launch_script.slurm."
        ) from None
    if engine == "slurm":
        return f"slurm: job {executor.job_id} of {tasks} tasks, {workers} at a time; logs in {folder}."
    # Ray and Jobs log that a rank has failed, and return
    executor.logging_dir.fs.invalidate_cache()
    if failed := executor.get_incomplete_ranks(skip_completed=True):
        raise InputError(f"{_ranks(failed, tasks)} failed, see {folder}/logs; {AGAIN}.")
    return f"{engine}: {tasks} tasks done; logs in {folder}."


def _ranks(ranks: list[int], tasks: int) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))} of {tasks}"


def _run_locally(task: Callable[..., Any], tasks: int, workers: int) -> None:
    """Every rank in a process of this machine.

    Not by datatrove: its pool waits for ever for a process that was killed, and ends the others when one fails.
    """
    # a process that is forked off cannot use the GPU that its parent uses
    context = multiprocessing.get_context("spawn")
    places: SimpleQueue[int] = context.SimpleQueue()
    for place in range(workers):
        places.put(place)
    with ProcessPoolExecutor(workers, context, _settle, (places,)) as pool:
        runs = [pool.submit(task, rank=rank, world_size=tasks) for rank in range(tasks)]
        try:
            wait(runs)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    errors = {rank: error for rank, run in enumerate(runs) if (error := run.exception())}
    if not errors:
        return
    failed = _ranks(list(errors), tasks)
    error = next((error for error in errors.values() if not isinstance(error, BrokenProcessPool)), None)
    if error is None:
        raise InputError(f"{failed}: a process was killed, perhaps for want of memory; {AGAIN}, with fewer workers.")
    if isinstance(error, InputError):
        raise InputError(f"{failed}: {error}") from None
    raise RuntimeError(f"{failed} failed; {AGAIN}.") from error


def _settle(places: "SimpleQueue[int]") -> None:
    os.environ["LOCAL_RANK"] = str(places.get())


@dataclass(frozen=True)
class _Step:
    """The task as the only step of a datatrove pipeline."""

    task: Callable[..., Any]

    def __call__(self, data: None, rank: int, world_size: int) -> None:
        self.task(rank=rank, world_size=world_size)


def _executor(engine: str) -> Any:
    try:
        from datatrove import executor
    except ModuleNotFoundError:
        raise InputError(f"engine: {engine} needs datatrove; pip install 'synthfair-hf[datatrove]'.") from None
    return getattr(executor, EXECUTORS[engine])


def _checked(engine: str, kind: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the executor's types, with our own defaults."""
    known = {name: one for name, one in inspect.signature(kind.__init__).parameters.items() if name not in WITHHELD}
    hints, settings = get_type_hints(kind.__init__), _defaults(engine, options)
    for name, value in options.items():
        if name not in known:
            raise unknown("engine_options", name, known)
        try:
            settings[name] = _typed(TypeAdapter(hints[name] | None), value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise InputError(f"engine_options: {name}={value!r} is invalid ({reason}); correct it.") from None
    missing = [name for name, one in known.items() if one.default is one.empty and name not in settings]
    if missing:
        raise InputError(f"engine_options: {engine} needs {' and '.join(missing)}; give {'=... '.join(missing)}=....")
    if settings.get("tasks_per_job", 1) < 1:
        raise InputError(
            f"engine_options: tasks_per_job={settings['tasks_per_job']} is not allowed; give 1, or a larger number."
        )
    return settings


def _typed(kind: TypeAdapter[Any], value: Any) -> Any:
    """A value of the command line or of Python; what is no text to an executor may be written as JSON."""
    try:
        return kind.validate_python(value)
    except ValidationError:
        if not isinstance(value, str) or not value.startswith(("{", "[")):
            raise
        return kind.validate_json(value)


def _defaults(engine: str, options: Mapping[str, Any]) -> dict[str, Any]:
    if engine == "jobs":
        return {"job_name": "synthfair", "dependencies": [f"synthfair-hf[datatrove]=={__version__}"]}
    if engine == "slurm":
        # the jobs find the Python that launches them, unless another is given
        path = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
        given = {"env_command", "condaenv", "venv_path"} & set(options)
        return {"job_name": "synthfair", **({} if given else {"env_command": path})}
    return {}


def _check_launchable(engine: str) -> None:
    if INSIDE.get(engine, "") in os.environ:
        raise InputError(f"engine: {engine} is used inside one of its jobs; launch outside of jobs.")
    if engine == "slurm" and shutil.which("sbatch") is None:
        raise InputError("engine: slurm has no sbatch here; launch from a login node of the cluster, or try a dry run.")
    if engine == "ray" and find_spec("ray") is None:
        raise InputError("engine: ray is not installed; pip install ray.")
    if engine == "jobs":
        from huggingface_hub import get_token

        if get_token() is None:
            raise InputError("engine: jobs needs a token of the Hub; log in with `hf auth login`.")


def _describe_slurm(executor: Any, folder: str) -> str:
    """The script that sbatch would be given."""
    array = math.ceil(executor.tasks / executor.tasks_per_job)
    if executor.max_array_size != -1:
        array = min(array, executor.max_array_size)
    command = f"launch_pickled_pipeline {folder}/executor.pik"
    if executor.with_srun:
        words = " ".join(f"--{name}={value}" for name, value in (executor.srun_args or {}).items())
        command = f"srun {words} -l -n {executor.nodes_per_task} {command}"
    # the call for the directives makes the folder of the logs
    with TemporaryDirectory() as elsewhere:
        logs, executor.slurm_logs_folder = executor.slurm_logs_folder, elsewhere
        script: str = executor.get_launch_file_contents(executor.get_sbatch_args(array), command)
        return script.replace(elsewhere, logs)


def _describe_ray(executor: Any, folder: str) -> str:
    return (
        f"ray: {executor.tasks} tasks on the cluster, {executor.workers} at a time, each with {executor.cpus_per_task} "
        f"CPUs of {executor.mem_per_cpu_gb} GB and {executor.gpus_per_task} GPUs; logs in {folder}."
    )


def _describe_jobs(executor: Any, folder: str) -> str:
    """The command, hardware and namespace of the Jobs; values of their environment are not printed."""
    packages = " ".join(f"--with {shlex.quote(package)}" for package in executor.dependencies)
    described = {
        "jobs": math.ceil(executor.tasks / executor.tasks_per_job),
        "tasks": executor.tasks,
        "at a time": executor.workers,
        "flavor": executor.flavor,
        "image": executor.image or "the Hub's for uv",
        "namespace": executor.namespace or "that of the token",
        "timeout": executor.timeout or "the Hub's",
        "environment": ", ".join(executor.env or {}) or "(none)",
        "command": f"uv run --python {executor.python} {packages} launch_pickled_pipeline.py {folder}/executor.pik",
    }
    return "\n".join(f"{name}: {value}" for name, value in described.items())


_DESCRIPTIONS: dict[str, Callable[[Any, str], str]] = {
    "slurm": _describe_slurm,
    "ray": _describe_ray,
    "jobs": _describe_jobs,
}
