"""The benchmark: views and their twins x planted attributes x methods x seeds, one cell each, kept by recipe.

    OUTPUT_DIR/cells/<recipe>.json    one cell: its settings and figures, or why the method cannot be fitted
    OUTPUT_DIR/cells/<recipe>.lock    held by the process that fits it; left behind by a process that was killed
    OUTPUT_DIR/benchmark.json         the settings of the last call, and its cells in order
    OUTPUT_DIR/README.md, table.csv, figures.csv, gaps.png    printed from these by `leaderboard`

    recipe = hash(data set, view, attribute, method and settings, seed, subjects, external images, declared versions,
                  the finding where there are several, and the classifier where it is given)

A cell that exists is not fitted again: a killed run continues by the same command, a further view or method adds its
own cells, and a twin that two strengths share is fitted once. Any number of processes may fit one benchmark, on one
machine or on several that share its directory: each takes cells that no other holds. `erm`, the reference, is always
among the methods. A view that plants several attributes is evaluated for each. Cells are those of
`benchmark.cells.fit_cell`.

A method is given by its name, or by its name with settings; in the leaderboard, and in records, the latter is called
balanced_synthetic:ratio=0.5,order=pretrained, a method beside the one with default settings.
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

import numpy as np
import torch
from filelock import FileLock, Timeout

from ...arguments import Count, checked
from ...domains.findings import findings_of
from ...domains.readers import DataSetFolder
from ...domains.source import access_to, totals
from ...errors import InputError, unknown
from ...progress import progress_bar
from ...records import Record, library_versions, strictest, writable_directory
from ...views.view import BiasedView, get_view
from ..interface import Hook, TrainableClassifier, check_hooks
from ..mitigation import METHODS
from ..mitigation.method import Annotation, GroupSettings, Method
from ..pretrained import CONFIG, open_classifier
from .cells import HELD_OUT, N_BOOTSTRAP, DataSet, ExternalSet, UnsupportedView, fit_cell, method_identity
from .leaderboard import REFERENCE, write_leaderboard

__all__ = ["benchmark", "load_method", "unfinished"]


class _Request(NamedTuple):
    """The arguments of `benchmark` that decide which cells there are, unchecked."""

    data_dir: str | Path
    views: Sequence[str]
    methods: Sequence[str | tuple[str, Mapping[str, Any]]]
    seeds: int
    train_subjects: int | None
    steps: int | None
    method_files: Sequence[str | Path]
    external: str | Path | DataSetFolder | None
    finding: str | None = None
    classifier: str | Path | None = None
    learning_rate: float | None = None


class _Cell(NamedTuple):
    """A cell to fit; the fingerprint of the record is its recipe."""

    record: Record
    view: BiasedView
    attribute: str
    method: Method
    seed: int


class _Configuration(NamedTuple):
    """A method and the settings that differ from its defaults."""

    kind: type[Method]
    settings: dict[str, Any]


class _Plan(NamedTuple):
    """A checked request: its data, its cells by recipe, and the record of it."""

    data: DataSet
    external: ExternalSet | None
    classifier: TrainableClassifier | None
    cells: dict[str, _Cell]
    record: Record


@checked
def benchmark(
    data_dir: str | Path,
    views: Sequence[str],
    methods: Sequence[str | tuple[str, Mapping[str, Any]]],
    output_dir: str | Path,
    seeds: Count = 5,
    train_subjects: Count | None = None,
    steps: Count | None = None,
    method_files: Sequence[str | Path] = (),
    external: str | Path | DataSetFolder | None = None,
    num_proc: Count = 1,
    finding: str | None = None,
    classifier: str | Path | None = None,
    learning_rate: float | None = None,
) -> Record:
    """Fit the cells that do not exist yet, and print the leaderboard.

    Args:
        data_dir: a directory that `synthfair generate` wrote.
        views: names of biased views; their unbiased twins are added.
        methods: names in METHODS or of submitted methods, each alone or with settings: (name, {setting: value}).
        output_dir: the directory of cells and leaderboard; it may hold cells of earlier calls.
        seeds: number of seeds, which are 0 ... seeds - 1: of first weights and order of rows, and of which fifth of the
            subjects is validation.
        train_subjects: number of subjects of train that are used, validation included; half of them by default. Rows of
            the others, and those that the view withholds, are the synthetic images of methods that require these.
        steps: optimizer steps of every fit; each method's default by default.
        method_files: submitted methods, named like their files: Python files that define one subclass of `Method` each,
            and that this process runs with all of its rights, so give only files that you trust. Changed code (not
            comments) is another method; where a module that the file imports changed, raise the `version` of the class.
        external: a folder of real images with metadata.csv, or a `DataSetFolder` that also says how it is read, on
            which every cell is evaluated as well.
        num_proc: number of processes that fit at the same time, which share this machine's cores.
        finding: the covariate to classify; by default the only finding, or the only one that families cross.
        classifier: what every fit starts from: the directory or Hub repository of an image classifier, or the
            configuration of one, whose weights are then drawn by the seed of the cell (`pretrained.open_classifier`);
            by default the small `ImageClassifier`.
        learning_rate: of every fit; each method's default, which suits the small classifier, by default.

    Returns:
        The record of the call, also written to `benchmark.json`.

    Raises:
        InputError: an argument is invalid; everything is checked before anything is fitted.
    """
    directory = writable_directory(output_dir)
    if num_proc < 1:
        raise InputError(f"num_proc: {num_proc} is not allowed; give how many, from 1.")
    if directory.exists() and any(directory.iterdir()) and not (directory / "cells").exists():
        raise InputError(f"output_dir: {directory} holds other files than a leaderboard; give another directory.")
    request = _Request(
        data_dir,
        views,
        methods,
        seeds,
        train_subjects,
        steps,
        method_files,
        external,
        finding,
        classifier,
        learning_rate,
    )
    plan = _plan(request)
    (directory / "cells").mkdir(parents=True, exist_ok=True)
    if num_proc == 1:
        _fit_missing(plan, directory)
    else:
        # a forked process hangs in torch's threads
        with ProcessPoolExecutor(num_proc, multiprocessing.get_context("spawn")) as pool:
            for run in [pool.submit(_fit_beside, request, directory, num_proc) for _ in range(num_proc)]:
                run.result()
    plan.record.write(directory / "benchmark.json")
    write_leaderboard(directory)
    return plan.record


def _plan(request: _Request) -> _Plan:
    """Check a request and list its cells."""
    if request.seeds < 1:
        raise InputError(f"seeds: {request.seeds} is not allowed; give how many, from 1.")
    if not request.views:
        raise InputError("views: none is given; name biased views, such as finding_sex_correlated_90_10.")
    data = DataSet(request.data_dir, request.finding)
    submitted = _submitted(request.method_files)
    methods = _configurations(request, submitted)
    biased = list({view.name: view for view in (_biased(name, data) for name in request.views)}.values())
    subjects = _subjects(request.train_subjects, data)
    external = None
    if request.external is not None:
        planted = dict.fromkeys(name for view in biased for name in data.planted(view))
        external = ExternalSet(request.external, data, tuple(planted))
    start = None if request.classifier is None else _start(request.classifier, data, methods)
    inputs = {
        "data_set": data.identity,
        **({} if external is None else {"external": external.source.fingerprint}),
        **({} if start is None else {"classifier": start.fingerprint}),
    }
    cells = _cells(data, biased, methods, request.seeds, subjects, inputs)
    # of the leaderboard, not of its cells, which are known by their inputs
    access = strictest(
        data.access,
        *(() if external is None else (access_to(external.source, "unknown"),)),
        *(() if start is None else (start.access,)),
    )
    record = Record(
        stage="benchmark",
        inputs={**inputs, "access": access, **({} if data.world else {"generator": str(data.generator)})},
        settings={
            "preset": data.preset.name,
            "world": data.world,
            "finding": data.finding,
            "resolution": data.resolution,
            "views": {view.name: view.twin for view in biased},
            "methods": {name: list(one.kind.required_annotations) for name, one in methods.items()},
            "submitted": list(submitted),
            "seeds": request.seeds,
            "train_subjects": subjects,
            "steps": request.steps,
            "draws": N_BOOTSTRAP,  # the key that records have
            **({} if request.classifier is None else {"classifier": _title(request.classifier)}),
            **({} if request.learning_rate is None else {"learning_rate": request.learning_rate}),
        },
        versions=library_versions(),
        counts={
            "subjects_of_train": len(data.subjects),
            "cells": list(cells),
            **({} if external is None else {"source": totals(external.source.counts)}),
        },
    )
    return _Plan(data, external, start, cells, record)


def _configurations(request: _Request, submitted: Mapping[str, type[Method]]) -> dict[str, _Configuration]:
    """The methods of a request by the names that they have in the leaderboard, the reference first."""
    known = {**METHODS, **submitted}
    shared = {name: value for name in ("steps", "learning_rate") if (value := getattr(request, name)) is not None}
    found = {}
    for one in (REFERENCE, *request.methods, *submitted):
        name, settings = (one, {}) if isinstance(one, str) else one
        if name not in known:
            raise unknown("methods", name, known)
        found[_label(name, settings)] = _Configuration(known[name], {**shared, **settings})
    return found


def _start(classifier: str | Path, data: DataSet, methods: Mapping[str, _Configuration]) -> TrainableClassifier:
    """What every fit starts from; InputError where it takes no images of the data set, or a method does not take it."""
    opened = open_classifier(classifier, to_fit=True)
    begun = opened.initial(data.rows("full", "test", ()).examples.select(np.arange(2)), 0)
    for name, one in methods.items():
        check_hooks(begun, one.kind.required_hooks, f"the method {name}")
    return opened


def _title(classifier: str | Path) -> str:
    """What a page calls a classifier: its repository, or the name of its directory."""
    place = Path(classifier).resolve()
    if not place.exists():
        return str(classifier)
    return place.parent.name if place.name == CONFIG else place.name


def _label(name: str, settings: Mapping[str, Any]) -> str:
    """The name of a method with its settings."""
    words = ",".join(f"{setting}={value}" for setting, value in settings.items())
    return f"{name}:{words}" if words else name


def _cells(
    data: DataSet,
    biased: Sequence[BiasedView],
    methods: Mapping[str, _Configuration],
    seeds: int,
    subjects: int,
    inputs: Mapping[str, str],
) -> dict[str, _Cell]:
    """Cells by recipe: every view and its twin, planted attribute, method and seed."""
    identities = {name: method_identity(one.kind) for name, one in methods.items()}
    cells: dict[str, _Cell] = {}
    for view in (either for one in biased for either in (one, get_view(str(one.twin), data.preset))):
        for attribute, name, seed in product(data.planted(view), methods, range(seeds)):
            method = _configured(name, methods[name], attribute)
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
                    # cells of domains with one finding have no word of it
                    **({"finding": data.finding} if len(findings_of(data.preset)) > 1 else {}),
                },
                versions=library_versions(),
            )
            # a twin of two views is one cell
            cells[record.fingerprint] = _Cell(record, view, attribute, method, seed)
    return cells


def unfinished(paths: Sequence[Path]) -> Iterator[int]:
    """Indices of the files that do not exist, each locked by this process; then of those that others left unfinished.

    The caller writes the file before it advances the iterator. Any number of processes may go through the same files.

    Args:
        paths: the files, in the same order in every process.

    Yields:
        The index of a file to write.
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


def _fit_missing(plan: _Plan, directory: Path) -> None:
    """Fit every cell that does not exist and that no other process is fitting; then wait for those."""
    cells = list(plan.cells.items())
    paths = [_path(directory, key) for key, _ in cells]
    with progress_bar(total=sum(not path.exists() for path in paths), desc="cells") as progress:
        for place in unfinished(paths):
            _fitted(cells[place][1], plan).write(paths[place])
            progress.update()


def _fit_beside(request: _Request, directory: Path, processes: int) -> None:
    """The share of one of several processes."""
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    _fit_missing(_plan(request), directory)


def load_method(path: str | Path) -> type[Method]:
    """The one subclass of `Method` that a Python file defines. The file is run, with all rights of this process.

    Raises:
        InputError: the file does not run, does not define exactly one subclass, or that one is declared wrongly.
    """
    path = Path(path)
    spec = importlib.util.spec_from_file_location(f"submitted_{path.stem}", path)
    if path.suffix != ".py" or not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"method_files: {path} is no Python file; give FILE.py with one subclass of Method.")
    module = importlib.util.module_from_spec(spec)
    # pydantic and `method_identity` look a class up by its module
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    # a file may also exit, or raise what is no Exception
    except BaseException as error:
        sys.modules.pop(spec.name, None)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"method_files: {path} does not run ({reason}); correct it.") from error
    found = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Method) and one.__module__ == spec.name
    ]
    if len(found) != 1:
        raise InputError(f"method_files: {path} defines {len(found)} subclasses of Method; define one.")
    if any("sees" in vars(kind) for kind in found[0].__mro__):
        raise InputError(f"method_files: {path} sets `sees`, which is now `required_annotations`; rename it.")
    for name, allowed in (("required_annotations", get_args(Annotation)), ("required_hooks", get_args(Hook))):
        for one in getattr(found[0], name):
            if one not in allowed:
                raise unknown(f"method_files: {path}: {name}", one, allowed)
    return found[0]


def _submitted(files: Sequence[str | Path]) -> dict[str, type[Method]]:
    """Submitted methods by the names of their files."""
    found: dict[str, type[Method]] = {}
    for path in map(Path, files):
        if path.stem in METHODS or path.stem in found:
            raise InputError(f"method_files: {path} has the name of another method; rename it.")
        found[path.stem] = load_method(path)
    return found


def _biased(name: str, data: DataSet) -> BiasedView:
    view = get_view(name, data.preset)
    if view.label is not None and view.label.variable != data.finding:
        raise InputError(
            f"views: {name!r} relabels {view.label.variable}, and the classifiers learn {data.finding}; give another "
            "view, or that finding."
        )
    if view.twin in (None, view.name) or not data.planted(view):
        raise InputError(f"views: {name!r} plants no bias of an attribute; give a biased view, twins are added.")
    return view


def _subjects(requested: int | None, data: DataSet) -> int:
    count = len(data.subjects)
    if requested is None:
        return max(HELD_OUT, count // 2)
    if not HELD_OUT <= requested <= count:
        raise InputError(f"train_subjects: {requested} is not allowed; allowed: {HELD_OUT} to {count}.")
    return requested


def _configured(label: str, one: _Configuration, attribute: str) -> Method:
    """A method that is not fitted yet; a method of one attribute is given this attribute."""
    own = {"attribute": attribute} if issubclass(one.kind.Settings, GroupSettings) else {}
    try:
        return one.kind(**{**own, **one.settings})
    except InputError as error:
        name, with_settings, _ = label.partition(":")
        # what all methods share has been accepted by the reference, which has no settings of its own
        if not with_settings:
            raise
        raise InputError(f"methods[{name!r}]: {error}") from None


def _fitted(cell: _Cell, plan: _Plan) -> Record:
    """The cell's record with its figures, or with the reason why the method does not support the view."""
    subjects = cell.record.settings["train_subjects"]
    try:
        # the network goes with the copy that was fitted
        judged, counts = fit_cell(
            plan.data,
            cell.view,
            cell.attribute,
            copy(cell.method),
            cell.seed,
            subjects,
            plan.external,
            plan.classifier,
        )
    except UnsupportedView as error:
        # records written so far have the key "refused"
        return cell.record.model_copy(update={"measured": {"refused": str(error)}})
    sizes = {name: one.counts for name, one in judged.items()}
    found = {name: one.figures for name, one in judged.items()}
    return cell.record.model_copy(update={"counts": {**counts, **sizes}, "measured": found})


def _path(directory: Path, key: str) -> Path:
    return directory / "cells" / f"{key}.json"
