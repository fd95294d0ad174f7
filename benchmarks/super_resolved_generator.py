"""Finish and measure a super-resolved generator: half-precision weights, decoder error, scoreboard, picture.

    synthfair super_resolve --pretrained_model_name_or_path synthfair_hf/pretrained/chest_xray_64
        --source ../shared/data/cxr --resolution 128 --output_dir RUN
    python benchmarks/super_resolved_generator.py RUN --source ../shared/data/cxr

On radiographs of test patients: the error of a radiograph decoded from its smaller version, beside
bicubic interpolation of the same; then the axioms and the true pixels of do(scanner) at the higher resolution. The
figures of attribute predictors are on the scoreboard of the generator it was made from, whose images its latents are.
"""

import argparse
import time
from pathlib import Path

import torch
from default_generator import finish, grid
from torch.nn.functional import avg_pool2d, interpolate

from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.domains.worlds import World, open_world
from synthfair_hf.measure.distances import l1, ssim
from synthfair_hf.measure.intervals import bootstrap_mean
from synthfair_hf.measure.scoreboard import measure_soundness

GENERATOR = Path("weights/chest_xray_128")
WORLD = "acquisition"


def decoded(pipeline: CausalDiffusionPipeline, world: World) -> None:
    """Print how well radiographs `[n, 1, R, R]` are reconstructed from their block means `[n, 1, r, r]`."""
    radiographs = world.images
    small = avg_pool2d(
        radiographs, radiographs.shape[-1] // pipeline.vae.encode(radiographs[:1]).latent_dist.mean.shape[-1]
    )
    ways = {
        "decoder": (pipeline.vae.decode(2 * small - 1).sample + 1) / 2,
        "bicubic": interpolate(small, size=radiographs.shape[-2:], mode="bicubic", align_corners=False),
    }
    for name, images in ways.items():
        for metric, distance in {"l1": l1, "ssim": ssim}.items():
            one = bootstrap_mean([distance(images.clamp(0, 1), radiographs)], [world.groups])
            print(f"{name} {metric}: {one.mean:.3g} [{one.low:.3g}, {one.high:.3g}], n {len(radiographs)}")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, default=GENERATOR)
    parser.add_argument("--scoreboard_dir", type=Path, default=Path("docs/scoreboard") / GENERATOR.name)
    parser.add_argument(
        "--picture", type=Path, default=Path("docs/scoreboard") / GENERATOR.name / "counterfactuals.png"
    )
    parser.add_argument("--radiographs", type=int, default=32, help="test patients whose counterfactuals are measured")
    settings = parser.parse_args()

    began = time.perf_counter()
    finish(settings.run, settings.output_dir)
    pipeline = CausalDiffusionPipeline.load(settings.output_dir)
    pipeline.set_progress_bar_config(disable=True)
    resolution = pipeline.config.resolution
    decoded(pipeline, open_world(WORLD, "test", directory=settings.source, resolution=resolution))
    measure_soundness(
        settings.scoreboard_dir,
        WORLD,
        source_dir=settings.source,
        pretrained_model_name_or_path=settings.output_dir,
        limit=settings.radiographs,
        interventions=("forced_change",),
        effect="direct",
        pairs=(),
    )
    grid(pipeline, settings.picture)
    places = f"{settings.output_dir}, {settings.scoreboard_dir}, {settings.picture}"
    print(f"{time.perf_counter() - began:.0f} s; wrote {places}")


if __name__ == "__main__":
    main()
