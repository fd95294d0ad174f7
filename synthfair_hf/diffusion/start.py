"""A saved generator from whose weights a training starts, and what it leaves to be chosen."""

from dataclasses import dataclass
from pathlib import Path

from ..domains.preset import NetworkChanges, Preset
from ..errors import InputError, counted
from .denoiser import with_variance
from .pipeline import CausalDiffusionPipeline
from .saved import SavedGenerator, find_generator

__all__ = ["Start"]

WIDENED = ("sample", "sample_and_variance")
"""What a start predicts, and what may be asked for beside it."""


@dataclass(frozen=True)
class Start:
    """The start of a training.

    Args:
        name: of the generator, as it was given.
        saved: the generator.
        widened: whether its network, which predicts the image, is to predict a variance beside it.
    """

    name: str | Path
    saved: SavedGenerator
    widened: bool

    @classmethod
    def find(cls, name: str | Path, vae: str | Path | None, network: NetworkChanges) -> "Start":
        """Find a saved generator; InputError where an autoencoder or a network is given beside its own."""
        saved = find_generator(name)
        widened = (saved.preset.network.prediction_type, network.prediction_type) == WIDENED
        for argument, given in (("vae", vae), *network.model_dump().items()):
            if given is not None and not (widened and argument == "prediction_type"):
                raise InputError(
                    f"{argument}: given beside pretrained_model_name_or_path: {name}, which has its own; leave one of "
                    "them out."
                )
        return cls(name, saved, widened)

    def check(self, preset: Preset) -> None:
        """Raise InputError unless it is of this domain, as a source has it."""
        own, resolution = self.saved.preset, self.saved.resolution
        if own.channels != preset.channels:
            raise InputError(
                f"pretrained_model_name_or_path: {self.name} makes images of {counted(own.channels, 'channel')}, and "
                f"the preset has channels: {preset.channels}; give a generator of the same channels, or none."
            )
        if (own.covariates, resolution) != (preset.covariates, preset.resolution):
            names, asked = (", ".join(one.covariates.names) for one in (own, preset))
            raise InputError(
                f"pretrained_model_name_or_path: {self.name} has {names} at {resolution} pixels, not {asked} at "
                f"{preset.resolution}; give a generator of the same covariates, levels and resolution, or none."
            )

    def continue_in(self, pipeline: CausalDiffusionPipeline, trained: CausalDiffusionPipeline) -> None:
        """Let a new pipeline go on with the networks of this generator, which is loaded, and with its solver."""
        kept = ("unet", "covariate_encoder", "vae", *(() if self.widened else ("scheduler",)))
        pipeline.register_modules(**{name: trained.components[name] for name in kept})
        if self.widened:
            pipeline.register_modules(unet=with_variance(pipeline.unet))
