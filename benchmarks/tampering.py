"""Is a changed byte, record or shard of a data set noticed, by whom, and what does looking cost?

    python benchmarks/tampering.py [--flips 60] [--seed 0]

A small data set of the phantom is written, and damaged and mended again and again:
flips     one bit of one byte of the card, the plan or a record: does `verify` name that file, and no other?
edits     a record that says something else, laid out as it was or serialised anew: does the builder refuse it?
shards    swapped, foreign, missing, added, cut: does the builder refuse them?
cost      seconds that the builder's checks take of a load, and bytes that they read
Prints tables, and fails unless everything was noticed.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datasets import disable_progress_bars, load_dataset

from synthfair_hf.errors import InputError
from synthfair_hf.generate.dataset import generate_dataset
from synthfair_hf.generate.verification import verify
from synthfair_hf.records import Record
from synthfair_hf.views.builder import read_record
from synthfair_hf.views.manifest import CARD, PLAN, RUN, check_files, check_footers, check_records

Json = dict[str, Any]
SHARD = "records/train-00000-of-00002.json"
DATA = "data/train-00000-of-00002.parquet"


def variable(preset: Json, name: str) -> Json:
    return next(one for one in preset["covariates"]["variables"] if one["name"] == name)


def swap_levels(preset: Json, name: str) -> None:
    variable(preset, name)["levels"].reverse()


def swap_contrast(preset: Json) -> None:
    one = preset["contrasts"]["sex"]
    one["first"], one["second"] = one["second"], one["first"]


EDITS: dict[str, dict[str, Callable[[Json], Any]]] = {
    "levels of sex swapped": {RUN: lambda run: swap_levels(run["settings"]["preset"], "sex")},
    "levels of the finding swapped": {RUN: lambda run: swap_levels(run["settings"]["preset"], "finding")},
    "groups of a contrast swapped": {RUN: lambda run: swap_contrast(run["settings"]["preset"])},
    "threshold of age": {RUN: lambda run: run["settings"]["preset"]["contrasts"]["age"].update(threshold=65.0)},
    "a view left out of the list": {RUN: lambda run: run["settings"]["preset"]["views"].pop()},
    "strata": {RUN: lambda run: run["settings"]["preset"].update(strata=[])},
    "factors": {RUN: lambda run: run["settings"].update(factors=["sex"])},
    "access": {RUN: lambda run: run["settings"].update(access="credentialed")},
    "seed": {RUN: lambda run: run["settings"].update(seed=1)},
    "world": {RUN: lambda run: run["settings"].update(world=None)},
    "generator": {RUN: lambda run: run["settings"].update(model_revision="0" * 16)},
    "source": {RUN: lambda run: run["settings"].update(source="nih")},
    "number of subjects": {RUN: lambda run: run["settings"].update(num_subjects=10**6)},
    "identity of the plan": {RUN: lambda run: run["inputs"].update(plan="0" * 16)},
    "number of rows": {RUN: lambda run: run["counts"].update(rows=10**6)},
    "identity of the stored bytes": {RUN: lambda run: run["counts"].update(store="0" * 16)},
    "version of a library": {RUN: lambda run: run["versions"].update(torch="1.0")},
    "sha256 of a shard": {RUN: lambda run: run["files"][DATA].update(sha256="0" * 64)},
    "a shard left out of the list": {RUN: lambda run: run["files"].pop(DATA)},
    "no list of files": {RUN: lambda run: run.pop("files")},
    "levels in the plan": {PLAN: lambda plan: swap_levels(plan["preset"], "sex")},
    "access in the plan": {PLAN: lambda plan: plan.update(access="credentialed")},
    "seed of the plan": {PLAN: lambda plan: plan.update(seed=1)},
    "counts of a shard": {SHARD: lambda one: one["counts"].update(rejected_images=9)},
    "version of a shard": {SHARD: lambda one: one["versions"].update(torch="1.0")},
    "sha256 in a shard's record": {SHARD: lambda one: one["counts"]["files"][DATA].update(sha256="0" * 64)},
    "levels in plan and record": {
        PLAN: lambda plan: swap_levels(plan["preset"], "sex"),
        RUN: lambda run: swap_levels(run["settings"]["preset"], "sex"),
    },
    "access in plan and record": {
        PLAN: lambda plan: plan.update(access="credentialed"),
        RUN: lambda run: run["settings"].update(access="credentialed"),
    },
}
"""Changes of what records say, by file; none recomputes a sha256."""

LAYOUTS: dict[str, Callable[[Json], str]] = {
    "as it was": lambda value: f"{json.dumps(value, indent=2)}\n",
    "serialised anew": lambda value: json.dumps(value, sort_keys=True, separators=(",", ":")),
}


def swap(directory: Path, one: str, other: str) -> None:
    first, second = (directory / "data" / f"{name}.parquet" for name in (one, other))
    first.rename(directory / "kept")
    second.rename(first)
    (directory / "kept").rename(second)


SHARDS: dict[str, Callable[[Path, Path], Any]] = {
    "two of train swapped": lambda data, _: swap(data, "train-00000-of-00002", "train-00001-of-00002"),
    "validation and test swapped": lambda data, _: swap(data, "validation-00000-of-00001", "test-00000-of-00001"),
    "one of another plan": lambda data, other: shutil.copy(other / DATA, data / DATA),
    "one missing": lambda data, _: (data / DATA).unlink(),
    "one too many": lambda data, other: shutil.copy(other / DATA, data / "data/train-00002-of-00003.parquet"),
    "one cut": lambda data, _: (data / DATA).write_bytes((data / DATA).read_bytes()[:-100]),
}
"""Changes of the files of a data set, the second argument being another one."""


def write(directory: Path, seed: int = 0) -> Path:
    """A data set of 28 subjects of the phantom, 168 images in four shards."""
    settings = {"world": "phantom", "resolution": 16, "factors": ("sex", "finding"), "subjects_per_shard": 10}
    generate_dataset(directory, 28, seed=seed, **settings)
    return directory


def flips(directory: Path, number: int, seed: int) -> Iterator[tuple[str, list[str]]]:
    """The file of each flip, and what `verify` says; the files take turns, and are as before afterwards."""
    files = [directory / CARD, *sorted((directory / "records").glob("*.json"))]
    random = np.random.default_rng(seed)
    for index in range(number):
        path = files[index % len(files)]
        whole = path.read_bytes()
        position, bit = int(random.integers(len(whole))), 1 << int(random.integers(8))
        path.write_bytes(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
        yield path.relative_to(directory).as_posix(), verify(directory)
        path.write_bytes(whole)


def named(directory: Path, file: str, problems: list[str]) -> bool:
    """Whether the problems are of this file, and of no other."""
    told = [problem.removeprefix(f"{directory}/") for problem in problems]
    return bool(told) and all(problem.startswith(f"{file}:") for problem in told)


def refusal(directory: Path) -> str | None:
    """The sentence with which the builder refuses a data set; None where it serves a row."""
    try:
        for split in load_dataset(
            "synthfair", "sex_imbalanced_90_10", data_dir=str(directory), streaming=True
        ).values():
            next(iter(split))
    except InputError as error:
        return str(error)
    return None


def edited(directory: Path) -> Iterator[tuple[str, str, str | None]]:
    """By edit and layout, the builder's refusal; the files are as before afterwards."""
    for edit, changes in EDITS.items():
        for layout, text in LAYOUTS.items():
            whole = {directory / name: (directory / name).read_bytes() for name in changes}
            for name, change in changes.items():
                value = json.loads((directory / name).read_bytes())
                change(value)
                (directory / name).write_text(text(value))
            yield edit, layout, refusal(directory)
            for path, content in whole.items():
                path.write_bytes(content)


def exchanged(directory: Path, other: Path) -> Iterator[tuple[str, str | None]]:
    """By change of a copy's shards, the builder's refusal."""
    for change, make in SHARDS.items():
        copy = shutil.copytree(directory, directory.with_name("copy"))
        make(copy, other)
        yield change, refusal(copy)
        shutil.rmtree(copy)


def cost(directory: Path, repeats: int = 20) -> dict[str, float]:
    """Seconds of the checks, of opening a view and of loading it, and the share of the bytes that the checks read."""
    record, preset = read_record(str(directory))
    files = {name: str(directory / name) for name in record.files if name.startswith("data/")}

    def check() -> None:
        check_records(str(directory), record, (directory / RUN).read_bytes())
        check_files(str(directory), record)
        check_footers(str(directory), files, record, preset)

    def load() -> None:
        next(iter(load_dataset("synthfair", "full", data_dir=str(directory), streaming=True, split="train")))

    footers = [int.from_bytes((directory / name).read_bytes()[-8:-4], "little") + 8 for name in files]
    read = sum(path.stat().st_size for path in (directory / CARD, *(directory / "records").glob("*.json")))
    found = {}
    for name, work in (("check", check), ("first row", load)):
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
        found[f"seconds: {name}"] = float(np.median(times))
    whole = sum((directory / name).stat().st_size for name in files)
    return {**found, "bytes: records and card": read, "bytes: footers": sum(footers), "bytes: data": whole}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as place:
        directory, other = write(Path(place) / "synthfair"), write(Path(place) / "other", seed=1)
        if problems := verify(directory):
            print(problems[0])
            return 1
        tried: Counter[str] = Counter()
        found: Counter[str] = Counter()
        for file, told in flips(directory, settings.flips, settings.seed):
            tried[file] += 1
            found[file] += named(directory, file, told)
        print("| file | flips | named by verify |\n|---|---|---|")
        print("".join(f"| {file} | {tried[file]} | {found[file]} |\n" for file in tried))
        print("| edit of the records | layout | refused |\n|---|---|---|")
        edits = list(edited(directory))
        print("".join(f"| {edit} | {layout} | {told is not None} |\n" for edit, layout, told in edits))
        print("| shards | refused |\n|---|---|")
        changes = list(exchanged(directory, other))
        print("".join(f"| {change} | {told is not None} |\n" for change, told in changes))
        rows = Record.read(directory / RUN).counts["rows"]
        print(json.dumps({"rows": rows, **cost(directory)}, indent=2))
    refused = [told is not None for *_, told in (*edits, *changes)]
    print(f"{sum(found.values())} of {settings.flips} flips named, {sum(refused)} of {len(refused)} changes refused")
    return int(found != tried or not all(refused))


if __name__ == "__main__":
    sys.exit(main())
