"""Verbs that train a generator, and that ask one for a counterfactual."""

import json
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from ..domains.images import Fit
from ..domains.preset import UNCHANGED, NetworkChanges, Preset
from ..training.config import AutoencoderTrainingConfig, FinetuningConfig, TrainingConfig
from .folders import Source, own_preset
from .output import next_command, print_saved
from .settings import Generator, KnownAccess, OutputDirectory, OwnPreset, Seed, Start, Steps, VerbSettings
from .words import STRENGTH, VALUES, VALUES_OR_NONE

__all__ = ["Counterfactual", "Finetune", "Rectify", "SuperResolve", "Train"]


class Train(VerbSettings):
    """Train a generator on a folder of images and save it as a pipeline."""

    verb = "train"
    example = "--preset phantom --output_dir runs/phantom"
    library_names: ClassVar = {"guidance_scale": "default_guidance_scale"}
    preset: OwnPreset = None
    source_dir: Source = None
    covariate_table: Path | None = Field(None, description="ChestX-ray14 label file to fit the causal model on")
    pretrained_model_name_or_path: str | None = Field(None, description="saved pipeline to start from; none by default")
    resolution: int | None = Field(None, description="height and width in pixels; the preset's by default")
    default_steps: int | None = Field(
        None, description="solver steps saved with the pipeline; 10, or those of the starting one, by default"
    )
    default_guidance_scale: float = Field(1.0, description="strength on changed covariates saved with the pipeline")
    access: KnownAccess = None
    vae: str | None = Field(
        None, description="autoencoder of diffusers, a directory or Hub name, in whose latents the network works"
    )
    cache_latents: int | None = Field(
        None, description="encode so many augmentations of each image once, in output_dir; at every step by default"
    )
    gradient_checkpointing: bool = Field(False, description="less memory and more time")
    logit_mean: float | None = Field(
        None, description="of the noise levels trained on: high for shapes, low for texture; 0, or -1 with a variance"
    )
    logit_std: float | None = Field(None, description="of that logit; 1, or 1.5 with a variance, by default")
    network: NetworkChanges = UNCHANGED
    config: TrainingConfig

    def run(self) -> None:
        from ..diffusion.fitting import train_generator
        from ..diffusion.saved import find_generator

        domain, place = own_preset(self.preset, self.source_dir), self.config.output_dir
        print_saved(place, train_generator(**{**dict(self), "preset": domain}))
        if self.source_dir is not None:
            words = ("--pretrained_model_name_or_path", place, "--output_dir", "counterfactual")
            print(next_command("counterfactual", *_somebody(find_generator(place).preset), *words))


def _somebody(preset: Preset) -> tuple[object, ...]:
    """Of an image of somebody, whose covariates are the reader's to replace, and of one that changes."""
    values = {
        one.name: one.levels[0] if one.categorical else f"{sum(one.bounds) / 2:g}" for one in preset.covariates.walk()
    }
    changed = next(one for one in preset.covariates.walk() if one.categorical)
    known = (f"{name}={value}" for name, value in values.items())
    return ("--image", "IMAGE", "--covariates", *known, "--do", f"{changed.name}={changed.levels[1]}")


class Finetune(VerbSettings):
    """Finetune a saved generator, with an attribute predictor that scores its counterfactuals."""

    verb = "finetune"
    example = (
        "--pretrained_model_name_or_path runs/phantom --predictor runs/predictor --output_dir runs/phantom_finetuned"
    )
    renamed_flags: ClassVar = {"leak": "off_target_weight"}
    pretrained_model_name_or_path: Start
    predictor: Path = Field(description="attribute predictor of the loss; measure the result with another one")
    source_dir: Source = None
    weight: float = Field(0.1, description="of the predictor's disagreement, against flow matching")
    off_target_weight: float = Field(1.0, description="of disagreement on covariates that were not changed")
    access: KnownAccess = None
    config: FinetuningConfig

    def run(self) -> None:
        from ..diffusion.further_training import finetune_generator
        from ..measure.predictors import SavedPredictor

        arguments = {**dict(self), "predictor": SavedPredictor(self.predictor)}
        print_saved(self.config.output_dir, finetune_generator(**arguments))


class Rectify(VerbSettings):
    """Rectify a saved generator's flow on its own pairs (reflow), so that fewer solver steps lose less."""

    verb = "rectify"
    example = "--pretrained_model_name_or_path runs/phantom --output_dir runs/phantom_rectified"
    renamed_flags: ClassVar = {"pairs": "images"}
    pretrained_model_name_or_path: Start
    source_dir: Source = None
    images: int = Field(2048, description="training images, each of three pairs")
    num_inference_steps: int = Field(10, description="midpoint steps that make a pair")
    access: KnownAccess = None
    config: FinetuningConfig

    def run(self) -> None:
        from ..diffusion.further_training import rectify_generator

        print_saved(self.config.output_dir, rectify_generator(**dict(self)))


class SuperResolve(VerbSettings):
    """Super-resolve a saved generator by an autoencoder whose latents are its images."""

    verb = "super_resolve"
    example = "--pretrained_model_name_or_path runs/phantom --resolution 128 --output_dir runs/phantom_128"
    pretrained_model_name_or_path: Start
    source_dir: Source = None
    resolution: int = Field(description="twice or four times the pipeline's own")
    access: KnownAccess = None
    config: AutoencoderTrainingConfig

    def run(self) -> None:
        from ..diffusion.further_training import super_resolve_generator

        print_saved(self.config.output_dir, super_resolve_generator(**dict(self)))


class Counterfactual(VerbSettings):
    """Show what an image would have been under other covariates."""

    verb = "counterfactual"
    example = "--image radiograph.png --covariates age=61 sex=male effusion=absent view=PA --do sex=female"
    image: Path = Field(description="of the generator's domain, such as a frontal chest radiograph")
    covariates: Annotated[dict[str, str], VALUES] = Field(
        description="its covariates, all of those of the generator; an unknown scanner is left out, and unknown "
        "findings where there are several"
    )
    plant_scanner: bool = Field(
        False, description="first take the radiograph anew on the scanner among its covariates, which changes it"
    )
    do: Annotated[dict[str, str], VALUES_OR_NONE] = Field(
        {}, description="interventions, such as sex=female effusion=present"
    )
    fit: Fit = Field("crop", description="how the image becomes square; as the generator's source was read")
    output_dir: OutputDirectory = Path("counterfactual")
    seed: Seed = 0
    pretrained_model_name_or_path: Generator = None
    num_inference_steps: Steps = None
    guidance_scale: Annotated[float | dict[str, float] | None, STRENGTH] = Field(
        None, description="strength on changed covariates; the generator's own by default"
    )
    intervention_level: Annotated[float | dict[str, float] | None, STRENGTH] = Field(
        None, description="noise level up to which a change acts; the generator's own by default"
    )

    def run(self) -> None:
        from ..diffusion.counterfactual import counterfactual

        print(json.dumps(counterfactual(**self.given())))
        if self.plant_scanner:
            print(
                f"planted scanner {self.covariates['scanner']} on the radiograph first: observation.png is not as given"
            )
        print(f"wrote {self.output_dir}/observation.png, counterfactual.png, difference.png, counterfactual.json")
