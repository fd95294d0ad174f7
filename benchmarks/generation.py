"""Speed and scale of generating and loading: ratios, each measured in one run on this machine.

    python benchmarks/generation.py

driver      images/s of `generate` against the same network calls without subjects, files and records
plan        seconds and memory to plan a million rows
view        a 90:10 view against the same rows by `filter`: seconds to its first row, rows/s against the whole data set,
            bytes of the files it opens against bytes of the rows it keeps
import      seconds that `import synthfair_hf` adds to `import datasets`
The network is the shipped generator's. The more rows, the longer a filter takes to its first row, and a view does not.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from datasets import disable_progress_bars, load_dataset, load_dataset_builder
from PIL import Image

from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.guidance import conditional_velocity
from synthfair_hf.diffusion.latents import to_images
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.generate.plan import GenerationPlan
from synthfair_hf.generate.run import generate
from synthfair_hf.generate.store import Store
from synthfair_hf.publish.dataset_card import write_dataset_card

PRESET = CHEST_XRAY.restrict(("age", "sex", "finding", "view", "scanner"))
VIEW = "sex_imbalanced_90_10"


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def report(what: str, figure: float, sign: str, goal: float, details: str) -> None:
    met = figure >= goal if sign == ">=" else figure <= goal
    print(f"{what:34} {figure:8.3g}  goal {sign} {goal:g}: {'met' if met else 'missed'}  ({details})", flush=True)


def driver(steps: int, batch_size: int) -> None:
    """One shard of whole families, so that both sides call the network on as many images."""
    pipeline, revision = load_generator(), find_generator().revision
    # strengths other than 1 ask the network several times a step, which no bare loop does
    pipeline.register_to_config(default_steps=steps, default_guidance_scale=1.0, default_intervention_level=1.0)
    plan = GenerationPlan(preset=pipeline.preset, model_revision=revision, num_subjects=28, batch_size=batch_size)
    images = plan.num_rows

    def bare() -> None:
        encoded = {
            one.name: torch.zeros(batch_size, dtype=torch.long if one.categorical else torch.float32)
            for one in pipeline.covariates.walk()
        }
        with torch.no_grad():
            velocity = conditional_velocity(pipeline.unet, pipeline.covariate_encoder(encoded))
            for _ in range(images // batch_size):
                pair = torch.randn(batch_size, 2, *pipeline.latent_shape())
                states = pipeline.scheduler.predict(velocity, pair, steps)
                to_images(states.mean(dim=1), pipeline.config.space_to_depth, None)

    bare()
    with tempfile.TemporaryDirectory() as directory:
        ours = seconds(lambda: generate(plan, pipeline, directory, progress=False))
    other = seconds(bare)
    other = (other + seconds(bare)) / 2
    report(
        "driver / bare loop, images/s", other / ours, ">=", 0.9,
        f"{images / ours:.1f} against {images / other:.1f} images/s, {steps} steps, batch {batch_size}",
    )  # fmt: skip


def plan(subjects: int = 84_000) -> None:

    def derive() -> None:
        large = GenerationPlan(preset=PRESET, model_revision="r", num_subjects=subjects)
        large.summary()
        rows = sum(len(large.rows(shard)) for shard in large.shards())
        assert rows == large.num_rows

    took = seconds(derive)
    tracemalloc.start()
    derive()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    report(f"plan of {subjects * 12} rows, s", took, "<=", 10, "every row derived, one shard at a time")
    report("plan, peak MiB", peak / 2**20, "<=", 500, "of Python's own memory")


def write(directory: Path, subjects: int, side: int) -> None:
    """A partitioned data set of noise: loading does not look at the pictures."""
    large = GenerationPlan(
        preset=PRESET, model_revision="noise", num_subjects=subjects, resolution=side, partitioned_from=100
    )
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(buffer, "PNG")
    fixed = {
        "parent_id": None, "intervention": "{}", "age": 60.0, "view": "PA", "seed": 0, "synthetic": True,
        "source_dataset": "scm", "plan": large.fingerprint, "model_revision": "noise",
        **{f"noise_{name}": [0.5] for name in PRESET.covariates.names},
    }  # fmt: skip
    with Store(directory, large).open() as store:
        for shard in large.shards():
            rows = [
                {
                    **fixed, **row.cell, "id": row.id, "split": row.split, "subject_id": row.subject_id,
                    "draw": row.draw, "image": {"bytes": buffer.getvalue(), "path": None},
                    "age": 30.0 if row.stratum == ("under 50 years",) else 70.0,
                }
                for row in large.rows(shard)
            ]  # fmt: skip
            store.write(shard, rows)
        record = store.finish()
    assert record is not None
    write_dataset_card(directory, PRESET, record, "cc-by-4.0")


def views(subjects: int, side: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "synthfair"
        write(directory, subjects, side)

        def cold(name: str, **keywords: Any) -> Any:
            return load_dataset(str(directory), name, split="train", cache_dir=tempfile.mkdtemp(dir=folder), **keywords)

        def keep(row: dict[str, Any]) -> bool:
            return (row["sex"] == 0) == (row["draw"] < 0.9)

        first = seconds(lambda: next(iter(cold(VIEW, streaming=True))))
        filtered = seconds(lambda: cold("full").filter(keep)[0])
        report(
            "first row, filter / view",
            filtered / first,
            ">=",
            10,
            f"{filtered:.2f} s against {first:.2f} s, {subjects * 12} rows, cold",
        )
        whole, view = cold("full"), cold(VIEW)
        assert len(view) == len(cold("full").filter(keep))
        rates = []
        for rows in (view, whole):
            took = seconds(lambda rows=rows: [None for row in rows])  # type: ignore[misc]
            rates.append(len(rows) / took)
        details = f"{rates[0]:.0f} against {rates[1]:.0f} rows/s, images decoded"
        report("rows/s, view / unfiltered", rates[0] / rates[1], ">=", 0.9, details)
        opened = [Path(path) for path in load_dataset_builder(str(directory), VIEW).config.data_files["train"]]
        size = {path: path.stat().st_size for path in opened}
        held = {path: pq.read_metadata(path).num_rows for path in opened}
        kept = sum(size.values()) * len(view) / sum(held.values())
        details = f"{len(opened)} files of {sum(held.values())} rows for {len(view)}"
        report("bytes opened / bytes kept", sum(size.values()) / kept, "<=", 1.2, details)


def importing() -> None:
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    took = {
        modules: min(
            float(subprocess.run([sys.executable, "-c", code.format(modules)], capture_output=True, check=True).stdout)
            for _ in range(5)
        )
        for modules in ("datasets", "datasets, synthfair_hf")
    }
    alone, both = took.values()
    report("import, share added", both / alone - 1, "<=", 0.05, json.dumps({k: round(v, 3) for k, v in took.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--subjects", type=int, default=8400, help="of the data set whose views are loaded")
    parser.add_argument("--side", type=int, default=64, help="pixels of its images")
    settings = parser.parse_args()
    disable_progress_bars()
    plan()
    importing()
    views(settings.subjects, settings.side)
    driver(settings.steps, settings.batch_size)


if __name__ == "__main__":
    main()
