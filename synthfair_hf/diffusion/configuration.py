"""Settings of a pipeline and of its components: which are allowed, and whether they fit each other.

resolution = sample size of the network x space_to_depth x factor of the autoencoder
channels of the network = space_to_depth^2 x channels of the preset's images or of the autoencoder's latents
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..causal.scm import StructuralCausalModel
from ..domains.preset import Preset
from ..errors import InputError, counted
from ..schema import Schema
from .autoencoders import Autoencoder, compression
from .conditioning import CovariateEncoder
from .denoiser import Denoiser
from .inputs import check_settings, strengths

__all__ = ["DEFAULTS", "check_configuration", "check_fit", "check_sizes"]

DEFAULTS: dict[str, Any] = {
    "resolution": 64,
    "space_to_depth": 4,
    "default_steps": 10,
    "default_guidance_scale": 1.0,
    "default_intervention_level": 1.0,
    "planted_scanner": True,
}
"""Settings of pipelines that were saved without them."""

LARGEST_SIZE = 16_384
"""Pixels of a side that can be meant."""

LARGEST_NUMBER = 1_000_000
"""What a network's configuration can count."""

DEEPEST = 1_000
"""Layers that a network's configuration can count."""


def check_sizes(directory: Path) -> None:
    """Check the configurations of a saved pipeline's components before any memory is taken for them.

    Args:
        directory: of the saved pipeline.

    Raises:
        InputError: for a file that is no configuration, and a number that is negative or larger than a network can be.
    """
    for path in sorted(directory.glob("*/*config.json")):
        try:
            config = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            config = None
        if not isinstance(config, dict):
            raise InputError(f"{path}: is no configuration in JSON; save the pipeline anew.")
        for key, value in config.items() if path.parent.name in ("unet", "vae") else ():
            limit = DEEPEST if "layers" in key else LARGEST_NUMBER
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int | float) and not 0 <= number <= limit:
                    raise InputError(f"{path}: {key} is not allowed; give numbers from 0 to {limit}.")


def check_configuration(
    settings: Mapping[str, Any],
    unet: Denoiser,
    covariate_encoder: CovariateEncoder,
    scm: StructuralCausalModel,
    vae: Autoencoder | None,
) -> Preset:
    """The domain of a pipeline's settings, which must be allowed and fit its components.

    Args:
        settings: `preset`, and those of DEFAULTS.
        unet: the network.
        covariate_encoder: of its tokens.
        scm: the causal model.
        vae: the autoencoder, if there is one.

    Raises:
        InputError: for a setting that is not allowed, and for parts that do not fit each other.
    """
    try:
        preset = Preset.model_validate(settings.get("preset"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("preset", *first["loc"])))
        raise InputError(f"{where}: is invalid ({first['msg']}); give a domain as JSON.") from None
    for name in ("resolution", "space_to_depth"):
        size = settings[name]
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LARGEST_SIZE:
            raise InputError(f"{name}: {size!r} is not allowed; give a whole number from 1 to {LARGEST_SIZE}.")
    check_settings(settings["default_steps"], argument="default_steps")
    strengths(settings["default_guidance_scale"], settings["default_intervention_level"], preset.covariates)
    check_fit(settings, preset, unet, covariate_encoder, scm, vae)
    return preset


def check_fit(
    settings: Mapping[str, Any],
    preset: Preset,
    unet: Denoiser,
    covariate_encoder: CovariateEncoder,
    scm: StructuralCausalModel,
    vae: Autoencoder | None,
) -> None:
    """Check that components fit each other and allowed settings.

    Args:
        settings: `resolution` and `space_to_depth`.
        preset: the domain.
        unet: the network.
        covariate_encoder: of its tokens.
        scm: the causal model.
        vae: the autoencoder, if there is one.

    Raises:
        InputError: for parts that do not fit.
    """
    fold, network = settings["space_to_depth"], unet.config
    size = network.sample_size * fold * (1 if vae is None else compression(vae))
    if size != settings["resolution"]:
        raise InputError(f"resolution: {settings['resolution']} does not fit the network, which makes {size} pixels.")
    images = None if vae is None else vae.config.latent_channels
    if network.in_channels % fold**2 or images not in (None, network.in_channels // fold**2):
        raise InputError(f"space_to_depth: {fold} does not fit the network, which has {network.in_channels} channels.")
    made = network.in_channels // fold**2 if vae is None else vae.config.in_channels
    # autoencoders in colours, as most are, may stand behind gray images too
    if made != preset.channels and (vae is None or made < preset.channels):
        raise InputError(
            f"preset: channels: {preset.channels} does not fit the network, which makes images of "
            f"{counted(made, 'channel')}."
        )
    width = network.get("cross_attention_dim", network.get("joint_attention_dim"))
    if width != covariate_encoder.config.width:
        raise InputError(
            f"covariate_encoder: tokens of width {covariate_encoder.config.width} do not fit the network, which takes "
            f"{width}."
        )
    for name, part in (("covariate_encoder", covariate_encoder), ("scm", scm)):
        if _meaning(part.covariates) != _meaning(preset.covariates):
            raise InputError(
                f"{name}: has other covariates or levels than the preset; give those that it was made with."
            )


def _meaning(covariates: Schema) -> list[tuple[Any, ...]]:
    """What decides how values are encoded, and in which order."""
    return [(one.name, one.kind, one.levels, one.range) for one in covariates.walk()]
