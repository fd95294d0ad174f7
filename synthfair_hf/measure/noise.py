"""What tells a trained generator from algebra: spread of abducted noise, and composition with random weights.

    noise spread = (mean over images and places of u^2)^(1/2),  u: mean of the pair of states to which x is abducted

The pipeline samples from u ~ N(0, 1). Where the noise of real images spreads less or more, real images are not what it
samples, and what it samples is not what it abducts: 1 is right, 0.95 to 1.05 is good. Composition holds for any
weights, because it is algebra of the solver; a generator without knowledge has it too, which `untrained` shows beside
the trained one's.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from ..diffusion.pipeline import CausalDiffusionPipeline
from ..domains.worlds import World
from ..progress import progress_bar
from .intervals import bootstrap, mean_of

__all__ = ["noise_spread", "untrained"]


def noise_spread(
    pipeline: CausalDiffusionPipeline,
    world: World,
    num_inference_steps: int | None = None,
    batch_size: int = 32,
    n_bootstrap: int = 1000,
) -> dict[str, Any]:
    """Spread of the exogenous noise to which a world's images are abducted.

    Args:
        pipeline: the generator.
        world: the images, all covariates known.
        num_inference_steps: solver steps; the generator's own by default.
        batch_size: images per call.
        n_bootstrap: bootstrap replicates of the interval.

    Returns:
        The spread with its interval over groups (`intervals.Estimate`).
    """
    squares = []
    for first in progress_bar(range(0, len(world.images), batch_size), desc="abducting", leave=False):
        rows = slice(first, first + batch_size)
        noise = pipeline(
            image=world.images[rows],
            covariates={name: column[rows] for name, column in world.table.items()},
            do={},
            num_inference_steps=num_inference_steps,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).noise
        squares.append(noise.mean(dim=1).double().square().mean(dim=(1, 2, 3)).numpy())
    variance = mean_of(np.concatenate(squares))
    return asdict(bootstrap([lambda weights: np.sqrt(variance(weights))], [world.groups], n_bootstrap=n_bootstrap))


def untrained(pipeline: CausalDiffusionPipeline, seed: int = 0) -> CausalDiffusionPipeline:
    """The same pipeline with a network of random weights; all its other components are shared.

    Args:
        pipeline: a trained one, which is not changed.
        seed: of the weights; the global generator of torch is not changed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = type(pipeline.unet).from_config(pipeline.unet.config)
    unet.to(pipeline.unet.device).eval()
    other = CausalDiffusionPipeline(**{**pipeline.components, "unet": unet})
    other.set_progress_bar_config(disable=True)
    return other
