"""Composition on held-out images: L1 (0-255) to the input after 1 and 10 cycles of abduction and prediction.

    python benchmarks/composition.py [--world observed --source NIH --dataset_name nih_chestxray14 --patients held_out]
        [--pretrained_model_name_or_path P] [--steps 2 6 24 100] [--images 64]

Without a world, the shipped generator is asked about radiographs of the phantom, all said to be without a finding: they
stand in for nothing but the arithmetic. Prints one JSON object for the generator, and one for random weights in its
place, at each number of solver steps (the checkpoint's default) in float32: mean, 95 % bootstrap interval over patients
and n, and the spread of abducted noise, which unlike composition must be learned. Fails above 0.05.
"""

import argparse
import json
import sys

from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR, find_generator
from synthfair_hf.domains.findings import findings_of
from synthfair_hf.domains.readers import DataSetFolder
from synthfair_hf.domains.registry import WORLD_SEED
from synthfair_hf.domains.worlds import PhantomWorld
from synthfair_hf.measure.noise import noise_spread, untrained
from synthfair_hf.measure.scoreboard import PipelineSystem, open_for
from synthfair_hf.measure.soundness import score

LIMIT, IMAGES = 0.05, 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world")
    parser.add_argument("--source")
    parser.add_argument("--dataset_name")
    parser.add_argument("--patients", default="all")
    parser.add_argument("--pretrained_model_name_or_path", default=DEFAULT_GENERATOR)
    parser.add_argument("--steps", nargs="+", type=int)
    parser.add_argument("--images", type=int, default=IMAGES)
    settings = parser.parse_args()
    saved = find_generator(settings.pretrained_model_name_or_path)
    if settings.world:
        folder = settings.source
        if settings.dataset_name is not None:
            folder = DataSetFolder(
                directory=settings.source, dataset_name=settings.dataset_name, patients=settings.patients
            )
        world = open_for(saved, settings.world, folder, "test", settings.images)
    else:
        world = PhantomWorld("test", settings.images, WORLD_SEED, num_subjects=1000, resolution=saved.resolution)
        known = saved.preset.covariates
        free = {one: [saved.preset.contrasts[one].second] * len(world.images) for one in findings_of(saved.preset)}
        world.table, world.covariates = {name: (world.table | free)[name] for name in known.names}, known
    pipeline = load_generator(saved)
    worst = 0.0
    for steps in settings.steps or [pipeline.config.default_steps]:
        for name, one in ((saved.revision, pipeline), ("random weights", untrained(pipeline))):
            system = PipelineSystem(name, one, num_inference_steps=steps)
            figures = {row["metric"]: row for row in score(system, world, {}, (0,), names=(), pairs=())}
            worst = max(worst, *(row["high"] for row in figures.values()))
            figures["noise_spread"] = noise_spread(one, world, steps)
            shown = {name: {key: row[key] for key in ("mean", "low", "high", "n")} for name, row in figures.items()}
            print(json.dumps({"world": world.name, "model": name, "steps": steps, **shown}), flush=True)
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
