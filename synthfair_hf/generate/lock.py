"""One writer a directory: an exclusive lock on a file, which the system releases with its owner.

So a dead owner's file holds nobody up. POSIX only (`fcntl`): on Linux and macOS, and on network drives that support it.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import InputError

__all__ = ["check_unlocked", "locked"]


def check_unlocked(path: Path) -> None:
    """Raise the InputError of `locked` while somebody holds the lock; writes nothing."""
    try:
        file = path.open()
    except FileNotFoundError:
        return
    with file:
        # shared, so that two who only ask do not meet
        _take(file, path, fcntl.LOCK_SH)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock at `path`; InputError names an owner who holds it already."""
    while True:
        file = path.open("a+")
        try:
            _take(file, path, fcntl.LOCK_EX)
        except InputError:
            file.close()
            raise
        # an owner that finished in between has removed the file that was opened here
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            break
        file.close()
    with file:
        file.truncate(0)
        file.write(f"pid {os.getpid()} on host {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _take(file: IO[str], path: Path, kind: int) -> None:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read() or "another process"
        raise InputError(f"{path.parent}: locked by {owner}; wait for it to end.") from None
