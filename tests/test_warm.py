"""A command that runs in a fork is what it would be in a process of its own."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from warm import commands

TELLS = "import os, sys; print(sys.argv, os.getcwd(), os.environ['PATH'], 'torch' in sys.modules, input())"


@pytest.fixture
def run(offline: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run(script, **variables)` has bash run a script, with the commands first in its PATH."""

    def run(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        own = {**offline, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        path = f"{commands(own)}:{own['PATH']}"
        return subprocess.run(
            ["bash", "-c", script],
            env={**own, "PATH": path, **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


def test_it_has_words_directory_variables_and_streams_of_its_caller(run, tmp_path):
    (tmp_path / "inner").mkdir()
    done = run(f'cd inner; PATH="$PATH:here" python -c "{TELLS}" a "b c" <<< hello')
    told = done.stdout.split()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"['-c', 'a', 'b c'] {tmp_path / 'inner'} ")
    assert told[-3].endswith(":here")
    assert told[-2:] == ["True", "hello"]
    (tmp_path / "file.py").write_text(f"if __name__ == '__main__':\n    {TELLS}\n")
    assert run("python file.py a <<< hello").stdout.startswith("['file.py', 'a'] ")


def test_it_ends_as_what_it_runs_ends(run):
    assert run("python -c 'import sys; sys.exit(3)'").returncode == 3
    done = run("python -c 'import sys; sys.exit(\"told\")'")
    assert (done.returncode, done.stderr) == (1, "told\n")
    done = run("python -c 1/0")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "ZeroDivisionError: division by zero")
    done = run("python -c 'import atexit; atexit.register(print, 2); print(1)'")
    assert done.stdout.split() == ["1", "2"]
    assert run("exec python -c 'import os; os.kill(os.getpid(), 9)'").returncode == -signal.SIGKILL


def test_what_is_killed_takes_along_what_it_runs(run):
    asleep = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"
    done = run(f"coproc python -c '{asleep}'; read -r process <&${{COPROC[0]}}; kill -9 $COPROC_PID; echo $process")
    for _ in range(1000):
        if not Path("/proc", done.stdout.strip()).exists():
            return
        time.sleep(0.01)
    pytest.fail("it goes on")


def test_in_another_environment_it_imports_everything_itself(run):
    asked = "python -c 'import sys; print(\"torch\" in sys.modules)'"
    assert [run(asked).stdout, run(asked, HF_HUB_OFFLINE="0").stdout] == ["True\n", "False\n"]


def test_the_console_script_itself_tells_the_same(run):
    warm, own = run("synthfair trian"), run("synthfair trian", HF_HUB_OFFLINE="0")
    assert (warm.returncode, warm.stdout, warm.stderr) == (own.returncode, own.stdout, own.stderr)
    assert own.returncode == 2
