"""A biased view against what a user of `datasets` would write without one, cold: first row, whole stream, in memory.

    synthfair generate --world phantom --resolution 32 --num_subjects 5600 --batch_size 72 --output_dir PHANTOM
    python benchmarks/views.py --data_dir PHANTOM [--view sex_imbalanced_90_10] [--repeats 5] [--note TEXT]
                               [--output_dir docs/view_loading]

The view is loaded by the card's YAML alone, in plain `datasets`. The alternatives load the whole data set and keep the
same rows by `filter`: row by row, or in batches of the columns that it needs; in memory also by `select`, of the places
that numpy finds in these columns. All take turns, each with an empty cache of its own; files are warm in the system's.
Images are not decoded, and of a stream one column is read: whole rows become Python's objects at the same cost in every
way. That every way keeps the same rows is checked. The ratio is of the quickest alternative's seconds to the view's of
the same repeat: the median, with a 95 % interval of it by the bootstrap. Writes view_loading.json, and README.md.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import disable_progress_bars, load_dataset
from precision import processor

from synthfair_hf.generate.store import read_plan
from synthfair_hf.records import Record, library_versions
from synthfair_hf.views.view import BiasedView, get_view

GOALS = {"first row, streamed": 1.5, "all rows, streamed": 10.0, "in memory": 1.5}
"""Times as quick as the quickest alternative."""

Batch = dict[str, Any]


def columns_of(view: BiasedView) -> list[str]:
    """What its filters read."""
    return sorted({name for conjunction in view.filters for name, *_ in conjunction})


def whole(directory: Path, cache: str, **settings: Any) -> Any:
    return load_dataset(str(directory), "full", split="train", cache_dir=cache, **settings)


def by_row(view: BiasedView, names: list[str], data: Any) -> Any:
    return data.filter(lambda row: bool(view.mask({name: np.array([row[name]]) for name in names})[0]))


def by_batch(view: BiasedView, names: list[str], data: Any) -> Any:
    def keep(*columns: list[Any]) -> list[bool]:
        mask: list[bool] = view.mask(dict(zip(names, map(np.array, columns), strict=True))).tolist()
        return mask

    return data.filter(keep, input_columns=names, batched=True)


def by_select(view: BiasedView, names: list[str], data: Any) -> Any:
    columns = data.select_columns(names).with_format("numpy")[:]
    return data.select(np.flatnonzero(view.mask(columns)))


def ids(data: Any) -> list[str]:
    return [row["id"] for row in data]


def ways(directory: Path, view: BiasedView) -> dict[str, dict[str, Callable[[str], list[str]]]]:
    """By task and way, what is timed: it is given an empty cache and returns the ids of the rows that it read."""
    names = columns_of(view)

    def streamed(narrow: Callable[[Any], Any] | None, read: Callable[[Any], list[str]], cache: str) -> list[str]:
        if narrow is None:
            data = load_dataset(str(directory), view.name, split="train", cache_dir=cache, streaming=True)
        else:
            data = narrow(whole(directory, cache, streaming=True).decode(False))
        return read(data.decode(False).select_columns(["id"]))

    def loaded(narrow: Callable[[Any], Any] | None, cache: str) -> list[str]:
        if narrow is None:
            data = load_dataset(str(directory), view.name, split="train", cache_dir=cache)
        else:
            data = narrow(whole(directory, cache))
        found: list[str] = data["id"][:]
        return found

    filters = {
        "the view": None,
        "filter by row": partial(by_row, view, names),
        "filter by batch": partial(by_batch, view, names),
    }
    return {
        "first row, streamed": {
            name: partial(streamed, one, lambda data: [next(iter(data))["id"]]) for name, one in filters.items()
        },
        "all rows, streamed": {name: partial(streamed, one, ids) for name, one in filters.items()},
        "in memory": {
            name: partial(loaded, one)
            for name, one in {**filters, "select of numpy's": partial(by_select, view, names)}.items()
        },
    }


def measure(directory: Path, view: BiasedView, repeats: int) -> dict[str, Any]:
    """Seconds of every way, and the ratio of the quickest alternative's to the view's."""
    found = {}
    for task, own in ways(directory, view).items():
        seconds: dict[str, list[float]] = {name: [] for name in own}
        rows: dict[str, list[str]] = {}
        for repeat in range(repeats):
            names = list(own)
            for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
                with tempfile.TemporaryDirectory() as cache:
                    began = time.perf_counter()
                    rows[name] = own[name](cache)
                    seconds[name].append(time.perf_counter() - began)
        if any(one != rows["the view"] for one in rows.values()):
            raise SystemExit(f"{task}: the ways keep other rows than the view.")
        medians = {name: float(np.median(one)) for name, one in seconds.items()}
        best = min((name for name in own if name != "the view"), key=medians.__getitem__)
        ratios = np.array(seconds[best]) / np.array(seconds["the view"])
        again = np.random.default_rng(0).integers(0, repeats, (2000, repeats))
        interval = np.quantile(np.median(ratios[again], axis=1), [0.025, 0.975])
        found[task] = {
            "rows": len(rows["the view"]),
            "seconds": {name: round(one, 3) for name, one in medians.items()},
            "best": best,
            "ratio": [round(float(one), 2) for one in (np.median(ratios), *interval)],
        }
        print(task, found[task], flush=True)
    return found


def page(record: Record) -> str:
    """The page of a record."""
    settings = record.settings
    rows = []
    for task, one in record.measured.items():
        low, goal = one["ratio"][1], GOALS[task]
        others = ", ".join(f"{name} {seconds:.2f}" for name, seconds in one["seconds"].items() if name != "the view")
        rows.append(
            f"| {task} | {one['rows']:,} | {one['seconds']['the view']:.2f} | {others} | "
            "{:.1f} [{:.1f}, {:.1f}]".format(*one["ratio"])
            + f" of {one['best']} | {goal:g}: {'met' if one['ratio'][0] >= goal else 'missed'}"
            + (" by the whole interval" if low >= goal else "")
            + " |"
        )
    table = "\n".join(rows)
    return f"""# How quickly a view is loaded

By `python benchmarks/views.py` on {settings["processor"]}: `{settings["view"]}` of {record.counts["rows"]:,} rows of
the phantom, by the card's YAML in plain `datasets` {record.versions["datasets"]}, against what one would write without
it, each with an empty cache. Seconds are medians of {settings["repeats"]} repeats, in which all ways take turns; images
are not decoded, and of a stream one column is read. The ratio is to the quickest alternative, with its 95 %
interval. {settings["note"]}

| task | rows | the view, s | alternatives, s | ratio | goal |
|---|---:|---:|---|---:|---|
{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--view", default="sex_imbalanced_90_10")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--note", default="", help="what else was running; it goes on the page")
    parser.add_argument("--output_dir", type=Path, default=Path("docs/view_loading"))
    settings = parser.parse_args()
    disable_progress_bars()
    plan = read_plan(settings.data_dir)
    record = Record(
        stage="view_loading",
        inputs={"plan": plan.fingerprint},
        settings={
            "view": settings.view,
            "repeats": settings.repeats,
            "note": settings.note,
            "processor": processor(),
        },
        versions=library_versions(),
        counts={"rows": plan.num_rows},
        measured=measure(settings.data_dir, get_view(settings.view, plan.preset), settings.repeats),
    )
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    record.write(settings.output_dir / "view_loading.json")
    (settings.output_dir / "README.md").write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
