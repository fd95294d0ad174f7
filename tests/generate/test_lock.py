"""Locks between processes: one at a time, nothing left behind, and who only asks never stands in the way."""

import os
import subprocess
import sys
from multiprocessing import get_context

import pytest

from synthfair_hf.errors import InputError
from synthfair_hf.generate.lock import check_free, lease, mutex

TURNS = 40


def count_up(directory):
    """Read, wait for others to interfere, write."""
    for _ in range(TURNS):
        with mutex(directory):
            number = int((directory / "count").read_text())
            os.sched_yield()
            (directory / "count").write_text(str(number + 1))


def ask(directory, asked):
    while not asked.is_set():
        check_free(directory, 0, 3)


def start(target, *arguments):
    process = get_context("spawn").Process(target=target, args=arguments)
    process.start()
    return process


def end(process):
    process.join()
    assert process.exitcode == 0


def test_one_at_a_time_although_each_removes_the_file(tmp_path):
    (tmp_path / "count").write_text("0")
    processes = [start(count_up, tmp_path) for _ in range(3)]
    for process in processes:
        end(process)
    assert (tmp_path / "count").read_text() == str(3 * TURNS)
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_who_only_asks_is_in_nobodys_way(tmp_path):
    """Askers of another division meet each other and whoever claims a lease; nobody is refused on their account."""
    left_behind = tmp_path / ".lock-1-of-2"
    asked = get_context("spawn").Event()
    askers = [start(ask, tmp_path, asked) for _ in range(2)]
    try:
        for _ in range(200):
            left_behind.touch()
            with mutex(tmp_path), lease(tmp_path, 0, 3):
                pass
            with lease(tmp_path, 1, 3):
                pass
    finally:
        asked.set()
    for process in askers:
        end(process)


def test_a_lease_names_its_owner_and_what_a_dead_one_left_holds_nobody_up(tmp_path):
    code = "import os, sys; from pathlib import Path; from synthfair_hf.generate.lock import lease\n"
    code += "with lease(Path(sys.argv[1]), 1, 2): os._exit(3)"
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert died.returncode == 3
    assert (tmp_path / ".lock-1-of-2").read_text().startswith("pid ")
    check_free(tmp_path)
    with lease(tmp_path, 1, 2):
        for place in ((1, 2), (0, 1), (2, 3)):
            with pytest.raises(InputError, match=rf"locked by pid {os.getpid()} on host .*, rank 1 of 2; wait"):
                check_free(tmp_path, *place)
        check_free(tmp_path, 0, 2)
    assert not list(tmp_path.iterdir())
