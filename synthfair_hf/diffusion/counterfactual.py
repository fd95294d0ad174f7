"""The counterfactual of one radiograph file, and a picture of the difference.

The radiograph is answered as it is: nothing is drawn over it and its grey levels stay. Which scanner took a real one is
unknown, so that it is left to the null token, which the network was trained on as well: each covariate is hidden from
it with probability 0.1 (`objective`). That explains real radiographs better than any planted scanner does
(docs/counterfactuals.md has figures).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..arguments import Count, Guidance, Seed, checked
from ..domains.chest_xray.scanners import acquire, expose
from ..domains.images import Fit, from_batch, luminance, to_batch
from ..domains.source import read_image
from ..errors import InputError
from ..publish.pictures import DIFFERENCE_LIMIT, difference_png, image_png
from ..records import (
    Record,
    check_regular,
    file_sha256,
    library_versions,
    writable_directory,
    write_together,
    written,
)
from .generator import load_generator
from .inputs import check_settings, parse_counterfactual, strengths
from .saved import DEFAULT_GENERATOR, find_generator

__all__ = ["counterfactual"]

PICTURES, RECORD_NAME = ("observation.png", "counterfactual.png", "difference.png"), "counterfactual.json"
"""What is written, all of it or nothing."""


@checked
def counterfactual(
    image: str | Path,
    covariates: dict[str, Any],
    do: dict[str, Any],
    output_dir: str | Path,
    seed: Seed = 0,
    pretrained_model_name_or_path: str | Path = DEFAULT_GENERATOR,
    num_inference_steps: Count | None = None,
    guidance_scale: Guidance | dict[str, Guidance] | None = None,
    intervention_level: float | dict[str, float] | None = None,
    plant_scanner: bool = False,
    fit: Fit = "crop",
) -> dict[str, Any]:
    """The counterfactual of one radiograph file, written as observation.png, counterfactual.png and difference.png.

    The difference, of luminance where images have colours, is blue where the image became darker, red where brighter,
    saturated at DIFFERENCE_LIMIT. The radiograph itself is not changed: its centre square is averaged to the
    generator's resolution, unless it has that.

    Args:
        image: the radiograph's file, of at least twice the generator's resolution, or exactly that.
        covariates: its covariates: level names, numbers in the variable's unit, or their text. All of the generator's,
            except a scanner that is unknown, findings that are unknown where there are several (`causal.scm` says how
            they are answered), and what is unobserved at the site.
        do: interventions by name.
        output_dir: where the pictures and counterfactual.json are written.
        seed: of everything that is drawn, 0 or more.
        pretrained_model_name_or_path: the saved generator; by default the one inside the package.
        num_inference_steps: solver steps; the generator's own by default.
        guidance_scale: strength on changed covariates, for all or by name; the generator's own by default.
        intervention_level: noise level up to which a change acts, for all or by name; the generator's own by default.
        plant_scanner: first take the radiograph anew, in standard exposure on the scanner among the covariates, with
            its side marker, as the training images of generators with planted scanners were. The record says so.
        fit: how the radiograph becomes square: its centre is cropped, or it is padded with black; as were the images
            that the generator was trained on.

    Returns:
        The counterfactual's covariates; a scanner or a finding that is unknown stays None, unless it is set.

    Raises:
        InputError: for arguments that are not allowed, before the weights are loaded.
    """
    directory = writable_directory(output_dir)
    for name in (*PICTURES, RECORD_NAME):
        # a pipe under the temporary name would be waited for as well
        for path in (directory / name, directory / f"{name}.tmp"):
            check_regular(path, f"output_dir: {path}", "remove it, or give another directory")
    if seed < 0:
        raise InputError(f"seed: {seed} is not allowed; give a whole number from 0 on.")
    saved = find_generator(pretrained_model_name_or_path)
    covariates, do, unknown = parse_counterfactual(covariates, do, saved.preset)
    if plant_scanner and (not saved.planted_scanner or "scanner" in unknown):
        raise InputError(
            "plant_scanner: "
            + (
                "no scanner is among the covariates; give the one to plant, or leave plant_scanner out."
                if saved.planted_scanner
                else "this generator was not trained on planted scanners; leave it out."
            )
        )
    check_settings(1 if num_inference_steps is None else num_inference_steps)
    strengths(
        1.0 if guidance_scale is None else guidance_scale,
        1.0 if intervention_level is None else intervention_level,
        saved.preset.covariates,
    )
    observed = read_image(Path(image), saved.resolution, own_size=True, channels=saved.preset.channels, fit=fit)
    if plant_scanner:
        noise = np.random.default_rng(seed).standard_normal(observed.shape, dtype=np.float32)
        observed = acquire(expose(observed), covariates["scanner"], noise)
    output = load_generator(saved)(
        image=torch.from_numpy(to_batch([observed])),
        covariates={name: [value] for name, value in covariates.items()},
        do=do,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        intervention_level=intervention_level,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
    )
    changed = from_batch(torch.as_tensor(output.images).numpy())[0]
    answer = {name: column[0] for name, column in output.covariates.items()}
    record = Record(
        stage="counterfactual",
        inputs={"generator": saved.revision, "image": file_sha256(Path(image))},
        settings={
            "image": Path(image).name,
            "covariates": covariates,
            "do": do,
            "seed": seed,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "intervention_level": intervention_level,
            "plant_scanner": plant_scanner,
            **({} if fit == "crop" else {"fit": fit}),
        },
        versions=library_versions(),
        measured={"counterfactual": answer},
    )
    directory.mkdir(parents=True, exist_ok=True)
    write_together(
        {
            directory / "observation.png": image_png(observed),
            directory / "counterfactual.png": image_png(changed),
            directory / "difference.png": difference_png(luminance(changed) - luminance(observed), DIFFERENCE_LIMIT),
            directory / RECORD_NAME: written(record.model_dump(mode="json")),
        }
    )
    return answer
