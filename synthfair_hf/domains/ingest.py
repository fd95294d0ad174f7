"""One cleaned data set of any source: read once, by several processes, and written in the form of `ingested`.

The data set is finished exactly when its record.json is there. A killed run goes on by the same command and ends in
the same bytes: an image is done when the journal has it, of the size and time of modification that its original has
now, and its file has the size that was written. Images are read in small tasks, so that beside the table memory holds
a few images for each process.
"""

import csv
import errno
import hashlib
import io
import logging
import math
import os
import shutil
import signal
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from PIL import Image

from ..access import RECORD, sealed
from ..arguments import Count, checked
from ..errors import InputError, counted, unknown
from ..progress import progress_bar
from ..records import (
    Access,
    FileRecord,
    Record,
    fingerprint,
    library_versions,
    writable_directory,
    write_together,
)
from .dicom import is_dicom, read_header
from .imagefolder import Examined, ImageFolder
from .images import Fit
from .ingested import COLUMNS, METADATA, SCHEMA, STAGE, encode_png, pseudonym
from .joined import JoinedFolders, SourceFolder
from .journal import Done, Journal
from .preset import Preset
from .preset_file import preset_yaml
from .readers import DataSetFolder
from .registry import READERS, open_images
from .source import access_to, read_radiograph, totals

__all__ = ["estimate", "ingest"]

IMAGES_PER_TASK = 16
"""Few enough that progress is seen, and a killed run loses little."""

TRIED = 8
"""Images that are read before the others, by which the room and the time that all need are estimated."""

KEPT_BLOCKS = 64
"""Blocks of memory that Pillow keeps for the next image, which it would else give back and ask for at every one."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

WRITTEN = 315532800
"""Time of modification of every image, in seconds: 1980, the first that archives can hold."""

SHARED = "is also the image of another patient"
"""Why both of two images are left out that cannot be told apart."""

LOGGER = logging.getLogger(__name__)


@checked
def ingest(
    source_dir: SourceFolder,
    output_dir: str | Path,
    preset: Preset,
    resolution: Count | None = None,
    access: Access | None = None,
    num_proc: Count | None = None,
) -> Record:
    """Write images and covariates of a data set as a folder that is read as it is, wherever a source is.

    Covariates, patients and splits are those that the data set's own reader gives. Images that cannot be read, show
    nothing, or are those of two patients are left out; more than `ImageFolder` tolerates are an error.

    Args:
        source_dir: the data set; without a `dataset_name` a folder with a metadata.csv.
        output_dir: new, empty, or what the same call left of itself. Beside it is a `Journal`, with the key of its
            names.
        preset: the domain, whose covariates are read.
        resolution: of training, in pixels; images are stored at twice that. The preset's by default.
        access: to the source; by default that of the data set, and unknown of a folder (`source.access_to`). It is
            never weakened.
        num_proc: processes that read images; as many as this one may use processors by default.

    Returns:
        The record, as written.

    Raises:
        InputError: before an image is written, for what `open_source` refuses, an output in the source or of another
            run, and for too little room; later for too many images that cannot be read, a full disk, and a process
            that was ended. What was done stays, and the same call goes on.
    """
    run = _Run(source_dir, output_dir, preset, resolution, access, num_proc)
    with _told_of_room(run.output):
        return run.finish(open_images(run.folder, preset, run.resolution, run.check, run.examine))


@checked
def estimate(
    source_dir: SourceFolder,
    output_dir: str | Path,
    preset: Preset,
    resolution: Count | None = None,
    access: Access | None = None,
    num_proc: Count | None = None,
) -> dict[str, Any]:
    """What `ingest` would need, by the table and TRIED of the images; nothing is written.

    Args:
        source_dir: this and the others as for `ingest`.
        output_dir: not made.
        preset: the domain.
        resolution: of training, in pixels.
        access: to the source.
        num_proc: processes that would read.

    Returns:
        `counts` of the table; `images`, and the `bytes` and `seconds` that they need; bytes that are `free`.

    Raises:
        InputError: as `ingest`, before an image is written.
    """
    run = _Run(source_dir, output_dir, preset, resolution, access, num_proc)
    try:
        open_images(run.folder, preset, run.resolution, run.check, run.stop)
    except _Stopped:
        return {"counts": run.counts, **run.try_some(run.paths)}
    raise AssertionError("no table is read without its images")


class _Stopped(Exception):
    """Ends the reading of a source before its images."""


class _Run:
    """One data set on its way into one directory; InputError for what is wrong with either."""

    def __init__(
        self,
        source_dir: SourceFolder,
        output_dir: str | Path,
        preset: Preset,
        resolution: int | None,
        access: Access | None,
        num_proc: int | None,
    ) -> None:
        if isinstance(source_dir, JoinedFolders) and len(source_dir.folders) > 1:
            raise InputError(
                f"source_dir: {', '.join(source_dir.folders)} are joined, and one source is ingested at a time; ingest "
                "each, and join what was written where it is read."
            )
        if isinstance(source_dir, JoinedFolders):
            (source_dir,) = source_dir.folders.values()
        folder = source_dir if isinstance(source_dir, DataSetFolder) else DataSetFolder(directory=source_dir)
        self.data_set = folder.dataset_name or "imagefolder"
        if self.data_set not in (allowed := ("imagefolder", "datasets", *READERS)):
            raise unknown("dataset_name", self.data_set, allowed)
        taken = [name for name in COLUMNS if name in preset.covariates]
        if taken:
            raise InputError(f"preset: the covariate {taken[0]!r} has the name of a column; give it another.")
        self.folder = folder.model_copy(update={"dataset_name": self.data_set})
        self.preset, self.resolution = preset, resolution or preset.resolution
        self.form = Form(self.resolution, preset.channels, folder.fit)
        self.num_proc = num_proc or len(os.sched_getaffinity(0))
        self.output = _outside(writable_directory(output_dir), Path(folder))
        _outside(self.output.with_name(f"{self.output.name}.private"), Path(folder))
        self.access = access
        self.settings = {
            "data_set": self.data_set,
            "preset": preset.name,
            "resolution": self.resolution,
            "uncertain": folder.uncertain,
            "columns": folder.mapping,
            **({} if folder.fit == "crop" else {"fit": folder.fit}),
        }
        # what a reader says of access is added by the source
        known = "open" if self.data_set in READERS else "unknown"
        plan = {**self.settings, "preset": fingerprint(preset), "access": access or known}
        self.journal = Journal(self.output, plan, (METADATA, SCHEMA, RECORD))
        self.names: dict[str, str] = {}

    def check(self, rows: ImageFolder) -> None:
        """Note patients and counts of all rows."""
        self.patients, self.counts = rows.patient_ids, rows.counts

    def stop(self, paths: Sequence[Path], root: Path) -> list[Examined]:
        """Examine nothing."""
        self.paths = paths
        raise _Stopped

    def try_some(self, paths: Sequence[Path]) -> dict[str, Any]:
        """The number of images, the bytes and seconds that they need, by some of them, and bytes that are free."""
        place = next(one for one in (self.output, *self.output.parents) if one.exists())
        found = {"images": len(paths), "bytes": 0, "seconds": 0.0, "free": shutil.disk_usage(place).free}
        some = [paths[number * len(paths) // TRIED] for number in range(min(TRIED, len(paths)))]
        began = time.perf_counter()
        read = [_read(path, self.form) for path in some]
        # of a run that goes on, those that are left may be the bad ones
        if some and all(reason for _, reason in read) and not any(one.stored for one in self.journal.done.values()):
            raise InputError(
                f"source_dir: {self.folder}: none of {counted(len(some), 'image')} that were tried can be used (first: "
                f"{read[0][1]}); repair the images, or give others."
            )
        if some:
            found["bytes"] = math.ceil(sum(len(data) for data, _ in read) / len(some) * len(paths))
            found["seconds"] = (time.perf_counter() - began) / len(some) * len(paths) / self.num_proc
        return found

    def examine(self, paths: Sequence[Path], root: Path) -> list[Examined]:
        """Write the images that are not done; of all the sha256 of what was written, or why they are left out."""
        with self.journal.open() as key:
            own = [path.relative_to(root).as_posix() for path in paths]
            names = [pseudonym(key, "image", self.data_set, name) for name in own]
            self.names = dict(zip(own, names, strict=True))
            # made in the order of their new names: file systems keep it, and that of the original tells of identifiers
            pairs = sorted(zip(names, paths, strict=True))
            waiting = [(name, path) for name, path in pairs if not self._is_done(name, path)]
            if changed := sum(name in self.journal.done for name, _ in waiting):
                LOGGER.warning("%s changed since, or were lost; they are read again", counted(changed, "image"))
            need = self.try_some([path for _, path in waiting])
            if need["bytes"] > need["free"]:
                raise InputError(
                    f"output_dir: {self.output} has {need['free']} bytes free, and {counted(len(waiting), 'image')} "
                    f"need about {need['bytes']}; free them, give a lower resolution or another output_dir."
                )
            if waiting:
                (self.output / RECORD).unlink(missing_ok=True)
            with progress_bar(total=len(paths), initial=len(paths) - len(waiting), unit="image", desc="ingest") as bar:
                tasks = (
                    [(name, path, self._file(name)) for name, path in waiting[start : start + IMAGES_PER_TASK]]
                    for start in range(0, len(waiting), IMAGES_PER_TASK)
                )
                for found in _stored(tasks, self.form, self.num_proc):
                    self.journal.add(found)
                    bar.update(len(found))
            done = [self.journal.done[name] for name in names]
            owners = defaultdict(set)
            for one, patient in zip(done, self.patients, strict=True):
                owners[one.sha256].add(patient)
            examined = [
                Examined(one.sha256, one.reason or (SHARED if len(owners[one.sha256]) > 1 else ""), one.header)
                for one in done
            ]
            reasons = ((name, one.reason) for name, one in zip(own, examined, strict=True))
            self.journal.write_quarantine((name, reason) for name, reason in reasons if reason)
            return examined

    def _file(self, name: str) -> Path:
        return self.output / "images" / name[:2] / f"{name}.png"

    def _is_done(self, name: str, path: Path) -> bool:
        one = self.journal.done.get(name)
        if one is None or (one.size, one.modified) != _state(path):
            return False
        with suppress(OSError):
            return bool(one.reason) or self._file(name).stat().st_size == one.stored
        return False

    def finish(self, source: ImageFolder) -> Record:
        """Write the table, the schema and the record of what the source keeps, and remove what it does not."""
        with self.journal.open() as key:
            rows, stored = [], 0
            for index, own in enumerate(source.file_names):
                name = self.names[own]
                patient = pseudonym(key, "patient", self.data_set, source.patient_ids[index])
                values = ["" if column[index] is None else str(column[index]) for column in source.table.values()]
                one = self.journal.done[name]
                file = self._file(name).relative_to(self.output).as_posix()
                # a digit first could be read as a number
                rows.append([file, f"p{patient}", source.splits[index], one.sha256, *values])
                stored += one.stored
            kept = {self.output / file for file, *_ in rows}
            for path in map(self._file, self.journal.done):
                if path not in kept:
                    path.unlink(missing_ok=True)
            # what was read again later is not to be told from the others
            for path in (*kept, *{path.parent for path in kept}):
                os.utime(path, (WRITTEN, WRITTEN))
            text = io.StringIO(newline="")
            csv.writer(text, lineterminator="\n").writerows([[*COLUMNS, *source.table], *sorted(rows)])
            files = {METADATA: text.getvalue().encode(), SCHEMA: preset_yaml(self.preset).encode()}
            write_together({self.output / name: data for name, data in files.items()})
            record = Record(
                stage=STAGE,
                inputs={
                    "source": source.fingerprint,
                    "preset": fingerprint(self.preset),
                    "key": hashlib.sha256(key).hexdigest()[:16],
                    "access": access_to(source, self.access),
                },
                settings={
                    **self.settings,
                    # a folder's own name may be that of a hospital or a person
                    "source": source.name if source.name in READERS else self.data_set,
                    **({} if source.people is None else {"people": source.people}),
                    **({} if source.unit == "patient" else {"unit": source.unit}),
                },
                versions=library_versions(),
                counts={
                    **totals(source.counts),
                    "patients by split": source.counts["patients by split"],
                    "bytes": stored,
                },
                files={
                    name: FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
                    for name, data in files.items()
                },
            )
            record = sealed(record, self.output)
            record.write(self.output / RECORD)
            return record


class Form(NamedTuple):
    """What every image becomes, as `source.read_radiograph` takes it."""

    resolution: int
    channels: int
    fit: Fit


Task = list[tuple[str, Path, Path]]
"""Of some images their names, their originals, and the files to write."""


def _stored(tasks: Iterator[Task], form: Form, num_proc: int) -> Iterator[dict[str, Done]]:
    """What `_store` makes of each task, in order, by so many processes."""
    store = partial(_store, form=form)
    if num_proc == 1:
        before = Image.core.get_blocks_max()
        Image.core.set_blocks_max(KEPT_BLOCKS)
        try:
            yield from map(store, tasks)
        finally:
            Image.core.set_blocks_max(before)
        return
    # forked processes hang in the threads of libraries
    with ProcessPoolExecutor(num_proc, get_context("spawn"), _begin) as pool:
        running: deque[Future[dict[str, Done]]] = deque()
        try:
            for task in tasks:
                running.append(pool.submit(store, task))
                if len(running) > 2 * num_proc:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BrokenProcessPool:
            raise InputError(
                f"num_proc: one of {num_proc} processes was ended, mostly for lack of memory; give fewer, or run the "
                "same command again to go on."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Prepare a process, whose Ctrl-C is its parent's, and which ends with its parent, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Image.core.set_blocks_max(KEPT_BLOCKS)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _store(task: Task, form: Form) -> dict[str, Done]:
    found = {}
    for name, path, file in task:
        size, modified = _state(path)
        data, reason = _read(path, form)
        if data:
            _write(file, data)
        header = read_header(path) if data and is_dicom(path) else None
        sha256 = hashlib.sha256(data).hexdigest() if data else ""
        found[name] = Done(size, modified, sha256, len(data), reason, header)
    return found


def _state(path: Path) -> tuple[int, int]:
    """Size and time of modification of a file; of none, numbers that no file has."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _read(path: Path, form: Form) -> tuple[bytes, str]:
    """An image as it is stored; or nothing, and why it is left out, without its directory."""
    try:
        return encode_png(read_radiograph(path, *form)), ""
    except InputError as error:
        return b"", str(error).removeprefix(f"{path}: ").rstrip(".")


def _write(path: Path, data: bytes) -> None:
    """Write a new file, never through a link that lies in its place, or none."""
    try:
        try:
            file = path.open("xb")
        # the first of its directory, or one of an earlier run
        except (FileNotFoundError, FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            file = path.open("xb")
        with file:
            file.write(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def _outside(output: Path, source: Path) -> Path:
    """The absolute output; InputError where it and the source lie in each other."""
    try:
        output, source = output.resolve(), source.resolve()
    # RuntimeError: a link to itself
    except (OSError, RuntimeError) as error:
        raise InputError(f"output_dir: {output} is not a place that can be written ({error}); give another.") from None
    if output.is_relative_to(source) or source.is_relative_to(output):
        raise InputError(
            f"output_dir: {output} and the source {source} lie in each other; give a directory outside it."
        )
    return output


@contextmanager
def _told_of_room(output: Path) -> Iterator[None]:
    """A full disk, and a place that cannot be written, is an InputError."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            if not str(error.filename).startswith(str(output)):
                raise
            raise InputError(
                f"output_dir: {error.filename} can't be written ({error.strerror}); give another place."
            ) from None
        raise InputError(
            f"{error.filename or output}: no room for it ({error.strerror}); free some and run the same command again."
        ) from None
