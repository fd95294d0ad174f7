"""Processes of Python that begin with the libraries imported: forks of one that imported them and did nothing else.

    commands(environment)     a directory with `python` and `synthfair`, the first in a PATH

Importing torch, datasets and diffusers takes longer than most of what tests run in processes of their own. Each of
these commands has the words, working directory, variables and streams that it is given, and ends as what it runs ends;
one that is killed takes that along. `python` takes `-c CODE`, `-m MODULE` or a file; `synthfair` is the console script.

Libraries read variables while they are imported. So each environment has a process of its own to fork from, and where a
command finds other variables than that process began with, it becomes a Python that imports everything itself.
"""

import atexit
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType

__all__ = ["commands"]

UNREAD = {"PATH", "PWD", "OLDPWD", "SHLVL", "_", "COLUMNS", "LINES", "PYTEST_CURRENT_TEST"}
UNREAD |= {"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"}  # torch and accelerate set them in whatever imports them
"""Variables of shell, pytest and imports themselves; no library reads another value of them while it is imported."""

COMMAND = """#!{python} -IS
import json, os, socket, sys
words, variables = {words} + sys.argv[1:], dict(os.environ)
if {{name: value for name, value in variables.items() if name not in {unread}}} != {read}:
    os.execve({python!r}, [{python!r}, *words], variables)
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
socket.send_fds(server, [json.dumps([words, os.getcwd(), variables]).encode()], [0, 1, 2])
status = int(server.recv(16))
if status < 0:
    os.kill(os.getpid(), -status)
os._exit(status)
"""

_started: dict[frozenset[tuple[str, str]], Path] = {}


def commands(environment: Mapping[str, str] = os.environ) -> Path:
    """A directory with the commands `python` and `synthfair`, which are quick where they are given this environment."""
    read = {name: value for name, value in environment.items() if name not in UNREAD}
    key = frozenset(read.items())
    if key not in _started:
        directory = Path(tempfile.mkdtemp(prefix="warm-"))
        address, synthfair = str(directory / "socket"), str(Path(sys.executable).with_name("synthfair"))
        for name, words in (("python", []), ("synthfair", [synthfair])):
            code = COMMAND.format(python=sys.executable, words=words, unread=UNREAD, read=read, address=address)
            (directory / name).write_text(code)
            (directory / name).chmod(0o700)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(address)
            listening.listen()
            # it ends when its input does: at the latest with this process
            process = subprocess.Popen(
                [sys.executable, __file__, str(listening.fileno())],
                # libraries ask for GPUs while they are imported, and a fork of who has asked cannot use them
                env={**environment, "CUDA_VISIBLE_DEVICES": ""},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listening.fileno()],
            )
        atexit.register(process.communicate)
        _started[key] = directory
    return _started[key]


def _serve(listening: socket.socket) -> list[str]:
    """Answer until the input ends; every command goes on from here in a fork, as what it was given, with its words."""
    # what is imported stays
    gc.disable()
    import synthfair_hf

    for name in synthfair_hf.__all__:
        getattr(synthfair_hf, name)
    threads = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    # a fork lacks the other threads; that of pyarrow's allocator is started again
    assert threads <= {Path("/proc/self/comm").read_text().strip(), "jemalloc_bg_thd"}, threads
    gc.freeze()
    gc.enable()
    running: dict[int, tuple[int, socket.socket]] = {}
    """Process and connection of every command, by the file descriptor that tells of its end."""
    while True:
        connections = [connection for _, connection in running.values()]
        ready, _, _ = select.select([0, listening, *running, *connections], [], [])
        for ended, (process, connection) in list(running.items()):
            if connection in ready:
                os.kill(process, signal.SIGKILL)
            if ended in ready:
                with suppress(BrokenPipeError):
                    connection.send(str(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])).encode())
                connection.close()
                os.close(ended)
                del running[ended]
        if listening in ready:
            connection, _ = listening.accept()
            message, streams, _, _ = socket.recv_fds(connection, 2**20, 3)
            process = os.fork()
            if process == 0:
                for one in (listening, connection, *connections):
                    one.close()
                words, directory, variables = json.loads(message)
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                    os.close(stream)
                os.chdir(directory)
                os.environ.clear()
                os.environ.update(variables)
                return words
            for stream in streams:
                os.close(stream)
            running[os.pidfd_open(process)] = process, connection
        elif 0 in ready:
            shutil.rmtree(Path(listening.getsockname()).parent)
            os._exit(0)


def _run(words: list[str]) -> int:
    """What Python does with such words; the status that it ends with."""
    kind, *rest = words
    sys.orig_argv = [sys.executable, *words]
    try:
        if kind == "-c":
            sys.path[0], sys.argv = "", ["-c", *rest[1:]]
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(rest[0], vars(main))
        elif kind == "-m":
            sys.path[0], sys.argv = os.getcwd(), rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.path[0], sys.argv = str(Path(kind).parent), words
            runpy.run_path(kind, run_name="__main__")
    except SystemExit as exit:
        if isinstance(exit.code, int | None):
            return exit.code or 0
        print(exit.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    status = _run(_serve(socket.socket(fileno=int(sys.argv[1]))))
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # Python's own end would look through all that was imported
    os._exit(status & 255)
