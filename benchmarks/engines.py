"""One small data set by each engine: seconds, and whether the bytes are those of one process.

    python benchmarks/engines.py --pretrained_model_name_or_path P [--num_subjects 28] [--tasks 4] [--workers 2]

Runs one process, ranks in turn, the local engine and Ray through datatrove, and fails where bytes differ. Seconds hold
everything: the start of the processes, the loading of the libraries and weights in each, and of Ray itself.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR
from synthfair_hf.generate.dataset import generate_dataset
from synthfair_hf.generate.engines import launch
from synthfair_hf.records import Record


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrained_model_name_or_path", default=DEFAULT_GENERATOR)
    parser.add_argument("--num_subjects", type=int, default=28)
    parser.add_argument("--num_inference_steps", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    settings = parser.parse_args()
    task = partial(
        generate_dataset,
        num_subjects=settings.num_subjects,
        pretrained_model_name_or_path=settings.pretrained_model_name_or_path,
        num_inference_steps=settings.num_inference_steps,
        subjects_per_shard=2,
    )

    def in_turn(directory: Path) -> None:
        for rank in range(settings.tasks):
            task(directory, rank=rank, world_size=settings.tasks)

    def engine(name: str, options: dict[str, Any], directory: Path) -> None:
        spread = {"workers": settings.workers, "logging_dir": f"{directory}-logs", "options": options}
        launch(name, partial(task, directory), settings.tasks, **spread)

    ways: dict[str, Callable[[Path], Any]] = {
        "one process": task,
        "ranks in turn": in_turn,
        "local": partial(engine, "local", {}),
        "ray": partial(engine, "ray", {"mem_per_cpu_gb": 1}),
    }
    if find_spec("ray") is None or find_spec("datatrove") is None:
        print("ray: left out, since Ray or datatrove is not installed; pip install ray 'synthfair-hf[datatrove]'.")
        del ways["ray"]
    stores = {}
    with TemporaryDirectory() as scratch:
        for name, way in ways.items():
            directory, began = Path(scratch, name.replace(" ", "-")), time.perf_counter()
            way(directory)
            stores[name] = Record.read(directory / "records" / "generate.json").counts["store"]
            same = stores[name] == stores["one process"]
            print(
                f"{name:14} {time.perf_counter() - began:7.1f} s  {stores[name]}  {'same' if same else 'OTHER'} bytes"
            )
    return int(len(set(stores.values())) > 1)


if __name__ == "__main__":
    sys.exit(main())
