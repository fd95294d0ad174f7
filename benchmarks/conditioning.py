"""How much a generator's network knows of each covariate: its error under the wrong value less that under the right.

    python benchmarks/conditioning.py --pretrained_model_name_or_path BEFORE AFTER --source DIR \
        [--dataset_name nih_chestxray14] [--patients generator] [--split validation] [--variables effusion sex]

    gain_k = mean over images and noise levels of |v(x_s, s | c, k wrong) - (e - x)|^2 - |v(x_s, s | c) - (e - x)|^2

The noise e is the same for both, for every generator and at every level, so that they differ by the covariate alone. 0:
the network ignores k. *told right* is the share of images whose error is lower under the right value, .5 by chance (the
diffusion classifier of Li et al., ICCV 2023). Figures have 95 % bootstrap intervals over patients; of several
generators also the difference of each from the first.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from synthfair_hf.diffusion.denoiser import predict_velocity
from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.latents import to_latents
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.domains.readers import DataSetFolder
from synthfair_hf.measure.intervals import bootstrap, mean_of
from synthfair_hf.measure.interventions import forced_change
from synthfair_hf.measure.scoreboard import open_for
from synthfair_hf.progress import progress_bar

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrained_model_name_or_path", nargs="+", required=True)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--dataset_name")
    parser.add_argument("--patients", default="all")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--variables", nargs="+")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    folder = DataSetFolder(directory=settings.source, dataset_name=settings.dataset_name, patients=settings.patients)
    first: dict[str, np.ndarray] = {}
    for name in settings.pretrained_model_name_or_path:
        saved = find_generator(name)
        world = open_for(saved, "observed", folder, settings.split, settings.limit)
        names = settings.variables or world.covariates.names
        gains = _gains(load_generator(saved), world, names, settings.seed)
        first = first or gains
        for variable, gain in gains.items():
            line = {
                "gain": _estimate(gain.mean(axis=1), world.groups, 1e5),
                "told_right": _estimate((gain.mean(axis=1) > 0).astype(float), world.groups),
                "gain_by_level": [round(float(value) * 1e5, 1) for value in gain.mean(axis=0)],
            }
            if gains is not first:
                line["gain_less_the_first_s"] = _estimate((gain - first[variable]).mean(axis=1), world.groups, 1e5)
            print(
                json.dumps({"generator": saved.revision, "n": len(world.images), "variable": variable} | line),
                flush=True,
            )


def _gains(pipeline, world, names: list[str], seed: int) -> dict[str, np.ndarray]:
    """By covariate, the error under the wrong value less that under the right, `[images, levels]`."""
    schema = pipeline.covariates
    right = schema.encode(world.table)
    wrong = {name: schema.encode({**world.table, name: forced_change(world, name, seed)}) for name in names}
    gains = {name: np.zeros((len(world.images), len(LEVELS))) for name in names}
    for start in progress_bar(range(0, len(world.images), BATCH)):
        rows = slice(start, start + BATCH)
        latents = to_latents(world.images[rows], pipeline.config.space_to_depth, pipeline.vae)
        noise = torch.stack(
            [
                torch.randn(latents[0].shape, generator=torch.Generator().manual_seed(seed + row))
                for row in range(start, start + len(latents))
            ]
        )
        for place, level in enumerate(LEVELS):
            errors = {}
            for name, values in {"": right, **wrong}.items():
                tokens = pipeline.covariate_encoder(
                    {one: torch.from_numpy(column[rows]) for one, column in values.items()}
                )
                with torch.no_grad():
                    velocity = predict_velocity(
                        pipeline.unet, (1 - level) * latents + level * noise, torch.full((len(latents),), level), tokens
                    )
                errors[name] = ((velocity - (noise - latents)) ** 2).mean(dim=(1, 2, 3)).double().numpy()
            for name in names:
                gains[name][rows, place] = errors[name] - errors[""]
    return gains


def _estimate(values: np.ndarray, groups: list[str], unit: float = 1.0) -> str:
    found = bootstrap([mean_of(values * unit)], [groups])
    return f"{found.mean:.3g} [{found.low:.3g}, {found.high:.3g}]"


if __name__ == "__main__":
    main()
