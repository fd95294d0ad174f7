"""Counterfactuals beside a plain diffusers inversion and guided sampling of the same network: time and the way back.

    python benchmarks/inversion.py [--pretrained_model_name_or_path P] [--world observed --source NIH \
        --dataset_name nih_chestxray14 --patients held_out] [--variables effusion sex] [--images 32] --output_dir OUT

Every image is sent to do(a') and back to do(a), by

- *reversible*: the pipeline as a user calls it, with its own steps and strengths;
- *inversion*: the Euler steps of diffusers' FlowMatchEulerDiscreteScheduler from the image to noise under the observed
  covariates, and as many (`--steps`, 50) from there under a', with classifier-free guidance of the strength that the
  generator has for this covariate (none costs half); all in one process on the same images and threads.

Reversibility is the L1 distance (0-255) of the image after both, composition that after do() of nothing; seconds are
per image and direction. All with 95 % bootstrap intervals over patients; of seconds over repetitions of the batches.
Writes OUT/inversion.json and prints its table.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.guidance import classifier_free_velocity, conditional_velocity
from synthfair_hf.diffusion.inputs import strengths
from synthfair_hf.diffusion.latents import to_images, to_latents
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR, find_generator
from synthfair_hf.domains.readers import DataSetFolder
from synthfair_hf.domains.worlds import Table, World
from synthfair_hf.measure.intervals import bootstrap, mean_of
from synthfair_hf.measure.interventions import forced_change, hold
from synthfair_hf.measure.scoreboard import open_for
from synthfair_hf.records import library_versions

BATCH = 8

Way = Callable[[torch.Tensor, Table, Table], torch.Tensor]
"""(images, covariates, do) -> counterfactuals; an empty do() asks for the images themselves."""


def reversible(pipeline: CausalDiffusionPipeline) -> Way:
    def way(images: torch.Tensor, covariates: Table, do: Table) -> torch.Tensor:
        return pipeline(
            image=images,
            covariates=covariates,
            do=do,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).images

    return way


def inversion(pipeline: CausalDiffusionPipeline, steps: int) -> Way:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(steps)
    levels = [float(level) for level in scheduler.sigmas]
    network, encoder, fold = pipeline.unet, pipeline.covariate_encoder, pipeline.config.space_to_depth
    schema = pipeline.covariates
    scales = strengths(pipeline.config.default_guidance_scale, pipeline.config.default_intervention_level, schema)

    def tokens(table: Table, hidden: bool = False) -> torch.Tensor:
        encoded = {name: torch.as_tensor(column) for name, column in schema.encode(table).items()}
        rows = len(next(iter(encoded.values())))
        keep = torch.zeros(rows, len(schema), dtype=torch.bool) if hidden else None
        return encoder(encoded, keep)

    @torch.inference_mode()
    def way(images: torch.Tensor, covariates: Table, do: Table) -> torch.Tensor:
        state = to_latents(images, fold, pipeline.vae)
        velocity = conditional_velocity(network, tokens(covariates))
        for now, after in pairwise(reversed(levels)):
            state = state + (after - now) * velocity(state, now)
        target = {**covariates, **do}
        scale = max((scales[schema.names.index(name)].scale for name in do), default=1.0)
        velocity = classifier_free_velocity(network, tokens(target), tokens(target, hidden=True), scale)
        for now, after in pairwise(levels):
            state = state + (after - now) * velocity(state, now)
        return to_images(state, fold, pipeline.vae, images.shape[1]).clamp(0, 1)

    return way


def measure(way: Way, world: World, name: str, seed: int) -> dict[str, object]:
    """Seconds, reversibility and composition of one way under do(name)."""
    changed = forced_change(world, name, seed)
    seconds, there_and_back, composed = [], [], []
    for first in range(0, len(world.images), BATCH):
        rows = slice(first, first + BATCH)
        images = world.images[rows]
        held = {key: column[rows] for key, column in world.table.items()}
        do = hold(world, {name: changed[rows]}, held, "direct")
        began = time.perf_counter()
        star = way(images, held, do)
        seconds += [(time.perf_counter() - began) / len(images)] * len(images)
        back = way(star, {**held, **do}, {key: held[key] for key in do})
        there_and_back.append((back - images).abs().mean(dim=(1, 2, 3)) * 255)
        composed.append((way(images, held, {}) - images).abs().mean(dim=(1, 2, 3)) * 255)
    columns = {
        "seconds": np.array(seconds),
        "reversibility_l1": torch.cat(there_and_back).double().numpy(),
        "composition_l1": torch.cat(composed).double().numpy(),
    }
    return {key: asdict(bootstrap([mean_of(values)], [world.groups])) for key, values in columns.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrained_model_name_or_path", default=DEFAULT_GENERATOR)
    parser.add_argument("--world", default="observed")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--dataset_name")
    parser.add_argument("--patients", default="all")
    parser.add_argument("--variables", nargs="+", default=["effusion", "sex"])
    parser.add_argument("--steps", nargs="+", type=int, default=[50])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", type=Path, required=True)
    settings = parser.parse_args()
    saved = find_generator(settings.pretrained_model_name_or_path)
    folder = settings.source
    if settings.dataset_name is not None:
        folder = DataSetFolder(
            directory=settings.source, dataset_name=settings.dataset_name, patients=settings.patients
        )
    world = open_for(saved, settings.world, folder, "test", settings.images)
    pipeline = load_generator(saved)
    ways = {"reversible": reversible(pipeline)}
    ways |= {f"inversion, {steps} steps": inversion(pipeline, steps) for steps in settings.steps}
    found = {
        name: {way: measure(call, world, name, settings.seed) for way, call in ways.items()}
        for name in settings.variables
    }
    record = {
        "generator": saved.revision,
        "images": len(world.images),
        "patients": len(set(world.groups)),
        "seed": settings.seed,
        "threads": torch.get_num_threads(),
        "steps": pipeline.config.default_steps,
        "versions": library_versions(),
        "measured": found,
    }
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    (settings.output_dir / "inversion.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    for name, figures in found.items():
        for way, row in figures.items():
            shown = {key: [round(value[bound], 3) for bound in ("mean", "low", "high")] for key, value in row.items()}
            print(json.dumps({"do": name, "way": way, **shown}))


if __name__ == "__main__":
    main()
