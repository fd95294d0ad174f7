"""The pictures of the worlds of skin and brain: subjects in rows, their exact counterfactuals in columns.

python benchmarks/domain_worlds.py --output_dir docs/domains
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sheet import sheet

from synthfair_hf.diffusion.images import to_pil
from synthfair_hf.domains.brain_mri.phantom import BrainPhantom
from synthfair_hf.domains.dermatology.phantom import SkinPhantom
from synthfair_hf.domains.drawn import DrawnWorld
from synthfair_hf.domains.images import to_batch

SEED, SUBJECTS, RESOLUTION = 3, 2, 96
"""Of the picture: drawn and shown at so many pixels."""

SKIN = {"age": 45, "sex": "male", "skin_tone": "II", "site": "trunk", "diagnosis": "nevus"}
BRAIN = {"age": 60, "sex": "male", "field_strength": "3T", "sequence": "T1w", "diagnosis": "no_dementia"}
PICTURES: dict[str, tuple[DrawnWorld, dict[str, Any], tuple[dict[str, Any], ...]]] = {
    "dermatology_phantom": (
        SkinPhantom(),
        SKIN,
        (
            *({"diagnosis": one} for one in SkinPhantom.preset.covariates["diagnosis"].levels[1:]),
            *({"skin_tone": one} for one in ("IV", "VI")),
            *({"site": one} for one in ("head_neck", "hands_feet")),
            *({"age": 85}, {"sex": "female"}),
        ),
    ),
    "brain_mri_phantom": (
        BrainPhantom(),
        BRAIN,
        (
            *({"age": 25}, {"age": 90}, {"diagnosis": "dementia"}, {"sex": "female"}, {"field_strength": "1.5T"}),
            *({"sequence": one} for one in ("T2w", "FLAIR", "PDw")),
        ),
    ),
}


def picture(world: DrawnWorld, base: dict[str, Any], interventions: tuple[dict[str, Any], ...]) -> Image.Image:
    """Subjects with the covariates of `base`, and what each intervention makes of them."""
    noise, columns = world.sample_noise(SUBJECTS, SEED), {}
    for do in ({}, *interventions):
        images, _ = world.counterfactual(noise, {**base, **do}, RESOLUTION)
        label = "".join(f"{value} years" if name == "age" else value.replace("_", "\n") for name, value in do.items())
        columns[label or "observation"] = to_pil(torch.from_numpy(to_batch(images)))
    rows = [[images[row].convert("RGB") for images in columns.values()] for row in range(SUBJECTS)]
    return sheet(rows, list(columns), [""] * SUBJECTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=Path("docs/domains"))
    settings = parser.parse_args()
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    for name, drawn in PICTURES.items():
        picture(*drawn).save(settings.output_dir / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
