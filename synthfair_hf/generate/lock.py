"""Who may write into a directory: workers that share one division of its shards, each holding its own lease.

    DIR/.lock                        held for the moment in which a directory is prepared or finished; waited for
    DIR/.lock-<rank>-of-<size>       a worker's lease, held as long as it runs; a second claim is refused at once

Both are exclusive locks on a file, which the system releases with their owner, so a dead one holds nobody up. POSIX
only (`fcntl`): on Linux and macOS, and on network drives that support it.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import InputError

__all__ = ["LOCKS", "check_free", "lease", "mutex"]

LOCKS = (".lock", ".lock-*-of-*")
"""Patterns of the files in a directory that are locks, held or left behind."""


def check_free(directory: Path, rank: int = 0, world_size: int = 1) -> None:
    """Raise InputError while somebody holds the lease of this rank, or of any rank of another division."""
    own = directory / f".lock-{rank}-of-{world_size}"
    for path in sorted(directory.glob(LOCKS[1])):
        if path == own or not path.name.endswith(f"-of-{world_size}"):
            try:
                file = path.open()
            except FileNotFoundError:
                continue
            with file:
                # shared, so that two who only ask do not meet
                _take(file, path, fcntl.LOCK_SH | fcntl.LOCK_NB)


@contextmanager
def lease(directory: Path, rank: int = 0, world_size: int = 1) -> Iterator[None]:
    """Hold a rank's lease; InputError names an owner who holds it already. Check and take under the `mutex`."""
    with _locked(directory / f".lock-{rank}-of-{world_size}", fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


@contextmanager
def mutex(directory: Path) -> Iterator[None]:
    """Be the only one here who prepares or finishes the directory; waits for its turn."""
    with _locked(directory / LOCKS[0], fcntl.LOCK_EX):
        yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    while True:
        file = path.open("a+")
        try:
            _take(file, path, kind)
        except InputError:
            file.close()
            raise
        # an owner that finished in between has removed the file that was opened here
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
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
        fcntl.flock(file, kind)
    except BlockingIOError:
        file.seek(0)
        owner = file.read() or "another process"
        rank, _, size = path.name.removeprefix(".lock-").partition("-of-")
        part = "" if size == "1" else f", rank {rank} of {size}"
        raise InputError(f"{path.parent}: locked by {owner}{part}; wait for it to end.") from None
