"""Whatever moment a run is killed at, the same command ends in the bytes of a run that was left alone."""

import json
import subprocess
import sys
from pathlib import Path

KILLS = 24

# one process that forks the runs it kills, so that the libraries are imported once
KILLER = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from conftest import PRESET, StubPipeline

from synthfair_hf.generate.plan import GenerationPlan
from synthfair_hf.generate.run import generate
from synthfair_hf.generate.verification import verify

directory, kills = Path(sys.argv[2]), int(sys.argv[3])
plan = GenerationPlan(preset=PRESET, model_revision="stub", num_subjects=140, subjects_per_shard=2, batch_size=5)
moments, died, found = random.Random(0), [], set()


def run(where):
    generate(plan, StubPipeline(), where, progress=False)


def finished():
    return len(list((directory / "killed" / "records").glob("*-of-*.json")))


while len(died) < kills:
    pid = os.fork()
    if pid == 0:
        run(directory / "killed")
        os._exit(0)
    # by progress and not by the clock, so that a busy machine is killed in as many places as an idle one
    goal = finished() + moments.randrange(6)
    while finished() < goal and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.001)
    time.sleep(moments.uniform(0, 0.02))
    os.kill(pid, signal.SIGKILL)
    if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
        died.append(finished())
        # what is wrong with an interrupted run is that something is missing, never that something is false
        problems = {problem.split(": ", 1)[1].split(" (")[0] for problem in verify(directory / "killed")}
        torn = (directory / "killed" / "records" / "generate.json").exists()
        if torn and "no readable record of the run" in problems:
            problems.add("the record of the run is there and torn")
        found |= problems
    else:
        shutil.rmtree(directory / "killed")
run(directory / "killed")
run(directory / "alone")
print(json.dumps({"died": died, "found": sorted(found)}))
"""


def test_a_run_killed_again_and_again_ends_in_the_same_bytes(tmp_path):
    script = [sys.executable, "-W", "error", "-c", KILLER, str(Path(__file__).parent), str(tmp_path), str(KILLS)]
    ran = subprocess.run(script, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert len(told["died"]) == KILLS
    assert len(set(told["died"])) > 6, "they were killed in different places"
    for problem in told["found"]:
        assert problem.startswith(
            (
                *("missing; run", "no readable record of its shard", "no readable record of the run"),
                *("not of this plan; remove", "not there"),
            )
        )
    alone, killed = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "data").iterdir()} for name in ("alone", "killed")
    )
    assert killed == alone
    assert (tmp_path / "killed" / "records" / "generate.json").read_bytes() == (
        tmp_path / "alone" / "records" / "generate.json"
    ).read_bytes()
