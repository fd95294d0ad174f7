"""Who may write into a directory: workers that share one division of its shards, each holding its own lease.

    DIR/.lock                        held for the moment in which a directory is prepared or finished; waited for
    DIR/.lock-<rank>-of-<size>       a worker's lease, held as long as it runs; a second claim is an error

Both are exclusive locks on a file, which the system releases with their owner, so a dead one blocks nobody. A lock file
that it left is removed by the next process that takes the lock.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import InputError

__all__ = ["LOCKS", "check_free", "lease", "mutex"]

LOCKS = (".lock", ".lock-*-of-*")
"""Patterns of the files in a directory that are locks, held or left behind."""

MOMENT = 0.5
"""Seconds that a claim waits: a lease is held for longer, but a process that only checks holds it for a moment."""


def check_free(directory: Path, rank: int = 0, world_size: int = 1) -> None:
    """Check that no process holds the lease of this rank, or of any rank of another division.

    Args:
        directory: of the data set.
        rank: 0 to world_size - 1.
        world_size: number of processes that share the shards.

    Raises:
        InputError: one does; its process and host are named.
    """
    own = directory / f".lock-{rank}-of-{world_size}"
    for path in sorted(directory.glob(LOCKS[1])):
        if path == own or not path.name.endswith(f"-of-{world_size}"):
            with _locked(path, MOMENT):
                pass


@contextmanager
def lease(directory: Path, rank: int = 0, world_size: int = 1) -> Iterator[None]:
    """Hold a rank's lease; check and take it under the `mutex`.

    Args:
        directory: of the data set.
        rank: 0 to world_size - 1.
        world_size: number of processes that share the shards.

    Raises:
        InputError: another process holds it; process and host are named.
    """
    with _locked(directory / f".lock-{rank}-of-{world_size}", MOMENT):
        yield


@contextmanager
def mutex(directory: Path) -> Iterator[None]:
    """Prepare or finish the directory exclusively; waits until no other process does."""
    with _locked(directory / LOCKS[0], timeout=-1):
        yield


@contextmanager
def _locked(path: Path, timeout: float) -> Iterator[None]:
    """Hold a lock whose file names its owner; waits for `timeout` seconds, or as long as it takes where that is -1."""
    lock = FileLock(path, on_acquired=_sign)
    try:
        lock.acquire(timeout=timeout, poll_interval=0.01)
    except Timeout:
        rank, _, size = path.name.removeprefix(".lock-").partition("-of-")
        part = "" if size == "1" else f", rank {rank} of {size}"
        raise InputError(f"{path.parent}: locked by {_owner(path)}{part}; wait for it to end.") from None
    try:
        yield
    finally:
        # while it is held: filelock never takes a lock on a file that is gone
        path.unlink(missing_ok=True)
        lock.release()


def _sign(file: int) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, f"pid {os.getpid()} on host {socket.gethostname()}".encode(), 0)


def _owner(path: Path) -> str:
    try:
        return path.read_text() or "another process"
    except FileNotFoundError:
        return "another process"
