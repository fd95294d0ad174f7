"""Answers of annotators in a file to which lines are appended, one JSON object each.

    {"id": "p17-3", "annotator": "ada", "answer": "first", "side_swapped": true, "seconds": 4.2, "comment": "",
     "time": "2026-11-23T06:10:33+00:00"}

`answer` names the candidate, not its side on the page; `side_swapped` is true where `first` was on the right. A line is
on the disk before `append` returns. An incomplete last line is left by a crash, of an answer that was never confirmed:
it does not count, and the next answer replaces it. `undo` revokes the annotator's latest valid answer.
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import InputError, reason

__all__ = ["Answer", "Answers", "Verdict"]

Verdict = Literal["first", "second", "tie", "reject"]


class Answer(BaseModel):
    """One line: an annotator's answer about a pair, or `undo` of the latest answer, which is about that pair.

    Args:
        id: of the pair.
        annotator: who answered.
        answer: the preferred candidate, `tie`, `reject` of both, or `undo`.
        side_swapped: whether `first` was on the right.
        seconds: how long the pair was shown; None where the page did not report it.
        comment: of the annotator.
        time: ISO 8601 with its offset.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: str
    annotator: str
    answer: Verdict | Literal["undo"]
    side_swapped: bool
    seconds: float | None = Field(None, ge=0)
    comment: str = ""
    time: str


class Answers:
    """The answers of a file, to which more can be appended.

    Args:
        path: of the file, which need not exist yet.

    Raises:
        InputError: naming the line that is not an answer, answers a pair again, or revokes another than the latest.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = Lock()
        self._standing: dict[str, dict[str, Answer]] = {}
        self._lines: dict[str, int] = {}
        data = self.path.read_bytes() if self.path.exists() else b""
        self._size = data.rfind(b"\n") + 1
        for number, line in enumerate(data[: self._size].split(b"\n")[:-1], start=1):
            where = f"{self.path}:{number}"
            try:
                answer = Answer.model_validate_json(line)
            except ValidationError as error:
                fault = reason(error, "answer", Answer.model_fields)
                raise InputError(f"{where}: not an answer ({fault}); correct the line or remove it.") from None
            self._check(answer, where)
            self._count(answer)

    def of(self, annotator: str) -> Sequence[Answer]:
        """The annotator's valid answers, in the order in which they were given."""
        return list(self._standing.get(annotator, {}).values())

    def lines(self, annotator: str) -> int:
        """How many lines are the annotator's, revoked ones and `undo` included."""
        return self._lines.get(annotator, 0)

    @property
    def annotators(self) -> list[str]:
        """Who has valid answers, by name."""
        return sorted(name for name, answers in self._standing.items() if answers)

    def claim(self) -> FileLock:
        """Lock the file for appending, until released or this process ends; InputError where another process has."""
        lock = FileLock(self.path.with_name(self.path.name + ".lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise InputError(f"{self.path}: is in use by another page; stop that one, or give another file.") from None
        return lock

    def append(self, answer: Answer) -> None:
        """Add an answer; it is on the disk when this returns, and does not count where this raises."""
        with self._lock:
            self._check(answer, "answer")
            line = answer.model_dump_json().encode() + b"\n"
            is_new = not self.path.exists()
            # unbuffered: nothing remains to be written when the file is closed after an error
            with open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0) as file:
                file.seek(self._size)
                if os.fstat(file.fileno()).st_size < self._size or b"\n" in file.read():
                    raise InputError(f"{self.path}: another program changed it; start the page again to read it anew.")
                try:
                    file.truncate(self._size)
                    file.seek(self._size)
                    if file.write(line) != len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(self._size)
                    raise
            if is_new:
                _keep_name(self.path.parent)
            self._size += len(line)
            self._count(answer)

    def _check(self, answer: Answer, where: str) -> None:
        standing = self._standing.get(answer.annotator, {})
        latest = next(reversed(standing), None)
        if answer.answer == "undo" and answer.id != latest:
            raise InputError(f"{where}: revokes {answer.id!r}, but {answer.annotator}'s latest answer is {latest!r}.")
        if answer.answer != "undo" and answer.id in standing:
            raise InputError(f"{where}: {answer.annotator} has answered {answer.id!r} before; revoke that first.")

    def _count(self, answer: Answer) -> None:
        standing = self._standing.setdefault(answer.annotator, {})
        self._lines[answer.annotator] = self.lines(answer.annotator) + 1
        if answer.answer == "undo":
            standing.popitem()
        else:
            standing[answer.id] = answer


def _keep_name(directory: Path) -> None:
    """A new file's name is on the disk only when its directory is."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
