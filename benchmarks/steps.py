"""Quality against solver steps: where is the knee?

    python benchmarks/steps.py --world acquisition --source ../shared/data/cxr [--pretrained_model_name_or_path P]

For each do() of forced changes, with what it causes held, on validation images: L1 (0-255) to the true image where the
world knows it, and to the same generator's answer at the most steps; seconds per image on this machine.
"""

import argparse
import json
import time

import numpy as np

from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR, find_generator
from synthfair_hf.measure.distances import l1
from synthfair_hf.measure.interventions import forced_change, hold
from synthfair_hf.measure.scoreboard import PipelineSystem, open_for
from synthfair_hf.measure.systems import answer

STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", required=True)
    parser.add_argument("--source")
    parser.add_argument("--pretrained_model_name_or_path", default=DEFAULT_GENERATOR)
    parser.add_argument("--limit", type=int, default=32)
    settings = parser.parse_args()
    saved = find_generator(settings.pretrained_model_name_or_path)
    world = open_for(saved, settings.world, settings.source, "validation", settings.limit)
    pipeline = load_generator(saved)
    questions = {
        name: hold(world, {name: forced_change(world, name, 0)}, world.table, "direct")
        for name in world.covariates.names
    }
    truths = {name: world.truth(do) for name, do in questions.items()}
    best, lines = {}, []
    for steps in reversed(STEPS):
        answers, began = {}, time.perf_counter()
        for name, do in questions.items():
            # A new system for each question: it abducts anew, as one who asks a single question does.
            system = PipelineSystem(saved.directory.name, pipeline, num_inference_steps=steps)
            answers[name] = answer(system, world, world.images, world.table, do).images
        seconds = (time.perf_counter() - began) / (len(world.images) * len(questions))
        best = best or answers
        line = {"steps": steps, "seconds_per_image": round(seconds, 4)}
        for name, images in answers.items():
            truth = truths[name]
            line[f"{name}: to {STEPS[-1]} steps"] = round(float(np.mean(l1(images, best[name]))), 3)
            if truth is not None:
                line[f"{name}: to truth"] = round(float(np.mean(l1(images, truth.images))), 3)
        lines.append(line)
    for line in reversed(lines):
        print(json.dumps(line))


if __name__ == "__main__":
    main()
