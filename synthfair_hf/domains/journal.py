"""What a run of `ingest` keeps beside its output, for its owner alone: a key, its settings, and which images are done.

    OUT.private/key             names of patients and images in OUT follow from it
    OUT.private/plan.json       settings of the run
    OUT.private/journal.jsonl   a line for every image that is done: what was read, and what was written
    OUT.private/quarantine.csv  images that were left out, by their own names, and why

A line is added when its file is written, so that a killed run loses its last images alone; a torn line counts as none.
"""

import csv
import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from ..errors import InputError
from ..records import first_difference, writable_directory, write_atomically, written, written_to
from .dicom import Header

__all__ = ["Done", "Journal"]


class Done(NamedTuple):
    """An image that is done: of its file bytes and nanoseconds of modification; what was written, or why nothing.

    `header` is that of its file, where it is DICOM and was written.
    """

    size: int
    modified: int
    sha256: str
    stored: int
    reason: str
    header: Header | None


IMAGE_NAME, SHA256 = re.compile("[0-9a-f]{16}"), re.compile("[0-9a-f]{64}|")
"""Of an image in the output its name (`ingested.pseudonym`), and its sha256, empty where none was written."""


class Journal:
    """The directory beside an output. Use it as `with journal.open() as key`.

    Args:
        output: the directory of the data set.
        plan: settings on which its bytes depend.
        files: names of the files that are written into the output, beside its images.

    Raises:
        InputError: the output is not empty and not of this plan, its key is lost, or something is in the way: a link,
            a pipe, a file where there is a directory or the other way round.
    """

    def __init__(self, output: Path, plan: Mapping[str, Any], files: Sequence[str]) -> None:
        self.output, self.plan = output, plan
        self.directory = writable_directory(output.with_name(f"{output.name}.private"))
        own = [self.directory / name for name in ("key", "plan.json", "journal.jsonl", "quarantine.csv", "lock")]
        self._key, self._plan, self._lines, self.quarantine, self._lock = own
        _check_places(self.directory, output, [*own, *(output / name for name in files)])
        self.done: dict[str, Done] = {}
        """By the name of an image in the output."""
        filled = output.exists() and any(output.iterdir())
        if filled and not self._plan.exists():
            raise InputError(f"output_dir: {output} is not empty; give a new or an empty directory.")
        if filled and not self._key.exists():
            raise InputError(
                f"{self._key}: is missing, and names in {output} follow from it; restore it, or give another "
                "output_dir."
            )
        if self._plan.exists():
            try:
                differs = first_difference(plan, json.loads(self._plan.read_bytes()))
            except (ValueError, TypeError, AttributeError, RecursionError):
                differs = "its plan.json is damaged"
            if differs is not None:
                raise InputError(
                    f"output_dir: {output} is of another run ({differs}, ours != theirs); give the same settings, or "
                    "another output_dir."
                )

    @contextmanager
    def open(self) -> Iterator[bytes]:
        """Hold the directory; the key, 32 bytes. `done` is what earlier runs did.

        Raises:
            InputError: another process holds it, or the key is damaged.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        # also where it was made before, by whatever means
        self.directory.chmod(0o700)
        try:
            with FileLock(self._lock, timeout=0):
                key = self._read_key()
                if not self._plan.exists():
                    write_atomically(self._plan, written(self.plan))
                self._read_lines()
                yield key
        except Timeout:
            raise InputError(
                f"{self.output}: another process writes it; wait for it, or give another output_dir."
            ) from None

    def _read_key(self) -> bytes:
        if not self._key.exists():
            with os.fdopen(os.open(self._key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"{secrets.token_hex(32)}\n")
        with suppress(ValueError):
            key = bytes.fromhex(self._key.read_text("ascii"))
            if len(key) == 32:
                return key
        raise InputError(f"{self._key}: is not 64 hexadecimal digits; restore it, or remove it and {self.output}.")

    def _read_lines(self) -> None:
        whole = 0
        if self._lines.exists():
            for line in self._lines.read_bytes().splitlines(keepends=True):
                try:
                    name, *values, header = json.loads(line)
                    one = Done(*[*values, None if header is None else Header(*header)])
                except (ValueError, TypeError, RecursionError):
                    break
                if not (line.endswith(b"\n") and _is_whole(name, one)):
                    break
                self.done[name] = one
                whole += len(line)
            os.truncate(self._lines, whole)

    def add(self, images: Mapping[str, Done]) -> None:
        """Note that images are done, by their names in the output."""
        lines = [json.dumps([name, *one]) + "\n" for name, one in images.items()]
        with written_to(self._lines), self._lines.open("a", encoding="utf-8") as file:
            file.writelines(lines)
        self.done.update(images)

    def write_quarantine(self, reasons: Iterable[tuple[str, str]]) -> None:
        """Write the images that were left out, by their own names, and why."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("file_name", "reason"), *reasons])
        write_atomically(self.quarantine, text.getvalue().encode("utf-8", "surrogateescape"))


def _is_whole(name: Any, one: Done) -> bool:
    """Whether a line can be one that `Journal.add` wrote: its name leads nowhere else, and values have their types."""
    texts = all(isinstance(text, str) for text in (name, one.sha256, one.reason, *(one.header or ())))
    numbers = all(type(number) is int for number in (one.size, one.modified, one.stored))
    if not (texts and numbers and IMAGE_NAME.fullmatch(name) and SHA256.fullmatch(one.sha256)):
        return False
    return bool(one.sha256) != bool(one.reason)


def _check_places(directory: Path, output: Path, files: Iterable[Path]) -> None:
    """Raise InputError for a link, or anything else that is no file or directory of its own, where they are written."""
    images = output / "images"
    for path in (directory, images, *([] if images.is_symlink() else images.glob("??"))):
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise InputError(f"output_dir: {path} is a link or a file where a directory is written; remove it.")
    for path in (one for file in files for one in (file, file.with_name(f"{file.name}.tmp"))):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise InputError(f"output_dir: {path} is no file but a link, directory or pipe; remove it.")
