"""The benchmark: views and their twins x planted attributes x methods x seeds, one cell each, kept by recipe.

    BOARD/cells/<recipe>.json    one cell: what was asked, and what came out or why the method refused
    BOARD/cells/<recipe>.lock    held by the process that is fitting it, left behind where that was killed
    BOARD/benchmark.json         what the last call asked for: its cells, in order
    BOARD/README.md, table.csv, figures.csv, gaps.png    printed from these by `leaderboard`, never typed

    recipe = hash(data set, view, attribute, method and settings, seed, subjects, external images, declared versions)

A cell that is there is not fitted again, whoever asked for it: a killed run goes on by the same command, a further view
or method adds its own cells, and a twin that two strengths share is fitted once. Any number of processes may fit one
board, on one machine or on several that share its directory: each takes cells that nobody holds. `erm`, the reference,
is always among the methods. A view that plants several attributes is asked about each. Cells are those of
`fairness.benchmark.cells.fit_cell`.

A method is asked for by its name, or by its name with settings of its own; on the board, and in records, that is
balanced_synthetic:ratio=0.5,order=pretrained, a method beside the one without.
"""

import importlib.util
import multiprocessing
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import copy
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from ...errors import InputError, unknown
from ...records import Record, library_versions, writable_directory
from ...views.view import BiasedView, get_view
from ..mitigation import METHODS
from ..mitigation.method import GroupSettings, Method, Shown
from .cells import DRAWS, HELD_OUT, DataSet, ExternalSet, Refused, fit_cell, method_identity
from .leaderboard import REFERENCE, write_leaderboard

__all__ = ["benchmark", "load_method", "unfinished"]


class _Cell(NamedTuple):
    """A cell that is asked for; the record's fingerprint is its recipe."""

    record: Record
    view: BiasedView
    attribute: str
    method: Method
    seed: int


def benchmark(
    data_dir: str | Path,
    views: Sequence[str],
    methods: Sequence[str | tuple[str, Mapping[str, Any]]],
    output_dir: str | Path,
    seeds: int = 5,
    train_subjects: int | None = None,
    steps: int | None = None,
    method_files: Sequence[str | Path] = (),
    external: str | Path | None = None,
    num_proc: int = 1,
) -> Record:
    """Fit what is not there yet, print the leaderboard, and return the record of what was asked.

    views: names of biased views; their twins are added.
    methods: names in METHODS or of submitted ones, each alone or with settings of its own: (name, {setting: value}).
    method_files: submitted methods, called as their files are: each a Python file that defines one subclass of
        `Method`, and that this process runs with all of its rights. Give files that you would run. Changed code (not
        comments) is another method; where a module that the file imports changed, raise the class's `version`.
    seeds: 0 ... seeds - 1, of first weights and order, and of which fifth of the subjects is validation.
    train_subjects: subjects of train that are used, validation among them; half of them by default. Rows of the others,
        and those that the view withholds, are the synthetic images, shown to methods that see these alone.
    steps: of every fit.
    external: a folder of real images with metadata.csv, on which every cell is judged as well.
    num_proc: processes that fit at a time, which share this machine's cores.

    Everything that is asked for is checked before anything is fitted; raises InputError.
    """
    directory = writable_directory(output_dir)
    if num_proc < 1:
        raise InputError(f"num_proc: {num_proc} is not allowed; give how many, from 1.")
    wanted = (data_dir, views, methods, seeds, train_subjects, steps, method_files, external)
    asked = _asked(*wanted)
    (directory / "cells").mkdir(parents=True, exist_ok=True)
    if num_proc == 1:
        _fit_missing(asked, directory)
    else:
        # a process that is forked off hangs in torch's threads
        with ProcessPoolExecutor(num_proc, multiprocessing.get_context("spawn")) as pool:
            for run in [pool.submit(_fit_beside, wanted, directory, num_proc) for _ in range(num_proc)]:
                run.result()
    asked.record.write(directory / "benchmark.json")
    write_leaderboard(directory)
    return asked.record


class _Asked(NamedTuple):
    """What a call asked for, checked: its cells by recipe, and the record of it."""

    data: DataSet
    external: ExternalSet | None
    cells: dict[str, _Cell]
    record: Record


def _asked(
    data_dir: str | Path,
    views: Sequence[str],
    methods: Sequence[str | tuple[str, Mapping[str, Any]]],
    seeds: int,
    train_subjects: int | None,
    steps: int | None,
    method_files: Sequence[str | Path],
    external: str | Path | None,
) -> _Asked:
    if seeds < 1:
        raise InputError(f"seeds: {seeds} is not allowed; give how many, from 1.")
    if not views:
        raise InputError("views: none is given; name biased views, such as finding_sex_correlated_90_10.")
    data = DataSet(data_dir)
    submitted = _submitted(method_files)
    known = {**METHODS, **submitted}
    kinds, own = {}, {}
    for one in (REFERENCE, *methods, *submitted):
        name, settings = (one, {}) if isinstance(one, str) else one
        if name not in known:
            raise unknown("methods", name, known)
        label = _label(name, settings)
        kinds[label] = known[name]
        own[label] = {**({} if steps is None else {"steps": steps}), **settings}
    wanted = list(kinds)
    biased = list({view.name: view for view in (_biased(name, data) for name in views)}.values())
    subjects = _subjects(train_subjects, data)
    outside = None
    if external is not None:
        planted = dict.fromkeys(name for view in biased for name in data.planted(view))
        outside = ExternalSet(external, data, tuple(planted))
    inputs = {"data_set": data.identity, **({} if outside is None else {"external": outside.source.fingerprint})}
    identities = {name: method_identity(kinds[name]) for name in wanted}
    cells: dict[str, _Cell] = {}
    for view in (either for one in biased for either in (one, get_view(str(one.twin), data.preset))):
        for attribute, name, seed in product(data.planted(view), wanted, range(seeds)):
            method = _configured(kinds[name], attribute, own[name])
            record = Record(
                stage="benchmark_cell",
                inputs={**inputs, "view": view.fingerprint, "code": identities[name]},
                settings={
                    "view": view.name,
                    "attribute": attribute,
                    "method": name,
                    "method_settings": method.settings.model_dump(mode="json"),
                    "seed": seed,
                    "train_subjects": subjects,
                },
                versions=library_versions(),
            )
            # a twin of two views is one cell
            cells[record.fingerprint] = _Cell(record, view, attribute, method, seed)
    world = data.made.get("world")
    record = Record(
        stage="benchmark",
        inputs=inputs if world else {**inputs, "generator": data.made["model_revision"]},
        settings={
            "preset": data.preset.name,
            "world": world,
            "finding": data.finding,
            "resolution": data.resolution,
            "views": {view.name: view.twin for view in biased},
            "methods": {name: list(kinds[name].sees) for name in wanted},
            "submitted": list(submitted),
            "seeds": seeds,
            "train_subjects": subjects,
            "steps": steps,
            "draws": DRAWS,
        },
        versions=library_versions(),
        counts={"subjects_of_train": len(data.subjects), "cells": list(cells)},
    )
    return _Asked(data, outside, cells, record)


def _label(name: str, settings: Mapping[str, Any]) -> str:
    """What a method is called on the board."""
    told = ",".join(f"{setting}={value}" for setting, value in settings.items())
    return f"{name}:{told}" if told else name


def unfinished(paths: Sequence[Path]) -> Iterator[int]:
    """Places of the files that are not there, each while nobody else holds it; then of those that others left undone.

    The caller writes the file before it asks for the next, and any number of processes may go through the same files.
    """
    for blocking in (False, True):
        for place, path in enumerate(paths):
            if path.exists():
                continue
            try:
                held = FileLock(path.with_suffix(".lock")).acquire(blocking=blocking)
            except Timeout:
                continue
            with held:
                # it may have been finished since
                if not path.exists():
                    yield place
                path.with_suffix(".lock").unlink(missing_ok=True)


def _fit_missing(asked: _Asked, directory: Path) -> None:
    """Fit every cell that is not there and that no other process is fitting; then wait for those."""
    cells = list(asked.cells.items())
    paths = [_path(directory, key) for key, _ in cells]
    with tqdm(total=sum(not path.exists() for path in paths), desc="cells") as progress:
        for place in unfinished(paths):
            _fitted(cells[place][1], asked.data, asked.external).write(paths[place])
            progress.update()


def _fit_beside(wanted: tuple[Any, ...], directory: Path, processes: int) -> None:
    """What one of several processes does."""
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    _fit_missing(_asked(*wanted), directory)


def load_method(path: str | Path) -> type[Method]:
    """The one subclass of `Method` that a Python file defines. The file is run, with all rights of this process."""
    path = Path(path)
    spec = importlib.util.spec_from_file_location(f"submitted_{path.stem}", path)
    if path.suffix != ".py" or not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"method_files: {path} is no Python file; give FILE.py with one subclass of Method.")
    module = importlib.util.module_from_spec(spec)
    # pydantic and `method_identity` look a class up by its module
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"method_files: {path} does not run ({type(error).__name__}: {error}); mend it.") from error
    found = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Method) and one.__module__ == spec.name
    ]
    if len(found) != 1:
        raise InputError(f"method_files: {path} defines {len(found)} subclasses of Method; define one.")
    for shown in found[0].sees:
        if shown not in get_args(Shown):
            raise unknown(f"method_files: {path}: sees", shown, get_args(Shown))
    return found[0]


def _submitted(files: Sequence[str | Path]) -> dict[str, type[Method]]:
    """Submitted methods by the names of their files."""
    found: dict[str, type[Method]] = {}
    for path in map(Path, files):
        if path.stem in METHODS or path.stem in found:
            raise InputError(f"method_files: {path} bears the name of another method; rename it.")
        found[path.stem] = load_method(path)
    return found


def _biased(name: str, data: DataSet) -> BiasedView:
    view = get_view(name, data.preset)
    if view.twin in (None, view.name) or not data.planted(view):
        raise InputError(f"views: {name!r} plants no bias of an attribute; give a biased view, twins are added.")
    return view


def _subjects(asked: int | None, data: DataSet) -> int:
    count = len(data.subjects)
    if asked is None:
        return max(HELD_OUT, count // 2)
    if not HELD_OUT <= asked <= count:
        raise InputError(f"train_subjects: {asked} is not allowed; allowed: {HELD_OUT} to {count}.")
    return asked


def _configured(method: type[Method], attribute: str, settings: Mapping[str, Any]) -> Method:
    """A method that is not fitted, under these settings; one that looks at an attribute looks at this one."""
    own = {"attribute": attribute} if issubclass(method.Settings, GroupSettings) else {}
    return method(**{**own, **settings})


def _fitted(cell: _Cell, data: DataSet, external: ExternalSet | None) -> Record:
    """The cell's record with its figures, or with the sentence by which the method refused the view."""
    subjects = cell.record.settings["train_subjects"]
    try:
        # the network goes with the copy that was fitted
        judged, counts = fit_cell(data, cell.view, cell.attribute, copy(cell.method), cell.seed, subjects, external)
    except Refused as error:
        return cell.record.model_copy(update={"measured": {"refused": str(error)}})
    sizes = {name: one.counts for name, one in judged.items()}
    found = {name: one.figures for name, one in judged.items()}
    return cell.record.model_copy(update={"counts": {**counts, **sizes}, "measured": found})


def _path(directory: Path, key: str) -> Path:
    return directory / "cells" / f"{key}.json"
