"""A text-to-image pipeline as the generator of a data set: what it is asked, of which subjects, before it is loaded.

subjects      draws from the causal model fitted on a source, from that of a saved generator, or uniform
prompt        of every cell: another one than that of every other cell, and short enough for the text encoder
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..causal.scm import StructuralCausalModel
from ..causal.uniform import UniformModel
from ..diffusion.fitting import fit_scm
from ..diffusion.saved import find_generator
from ..domains.joined import SourceFolder
from ..domains.preset import Preset
from ..domains.prompts import render_prompt, why_no_template
from ..domains.registry import open_source
from ..domains.source import access_to, totals
from ..errors import InputError
from ..records import Access, fingerprint, strictest
from .plan import GenerationPlan
from .sampling import Sampling

if TYPE_CHECKING:
    from ..diffusion.text_to_image import SavedTextToImage, TextToImage

__all__ = ["SavedSampler", "check_prompts", "find_sampler"]

FITTED = 0
"""Seed of the causal model that is fitted on a source: one model of one source."""

TRIED = 64
"""Subjects whose prompts are read before anything is generated; every other prompt is before its image is."""


class SavedSampler(NamedTuple):
    """A text-to-image pipeline with a domain and a model of its covariates."""

    saved: "SavedTextToImage"
    preset: Preset
    resolution: int
    model: Any
    sampling: Sampling
    access: Access
    revision: str
    counts: Mapping[str, Any]
    """Of the source on which the causal model was fitted; empty without one."""

    coverage: None = None

    def causal_model(self) -> Any:
        """The model of covariates, without the network."""
        return self.model

    def load(self, plan: GenerationPlan) -> "TextToImage":
        """The pipeline with its weights, in the plan's precision."""
        from ..diffusion.text_to_image import TextToImage

        dtype = torch.bfloat16 if plan.mixed_precision == "bf16" else torch.float32
        return TextToImage(self.saved, self.preset, self.model, self.resolution, self.sampling.negative_prompt, dtype)


def find_sampler(
    text_to_image: str | Path,
    preset: Preset | None,
    pretrained_model_name_or_path: str | Path | None = None,
    source_dir: SourceFolder | None = None,
    access: Access | None = None,
    resolution: int | None = None,
    lora_weights: str | Path | None = None,
    negative_prompt: str | None = None,
) -> SavedSampler:
    """Find a text-to-image pipeline, and the subjects that it is asked for.

    Args:
        text_to_image: directory of the pipeline, or its name on the Hub.
        preset: the domain, whose `prompt` is the template; that of the saved generator by default.
        pretrained_model_name_or_path: a saved generator, whose causal model draws the subjects.
        source_dir: a folder of images, on whose covariates a causal model is fitted. No image of it is observed.
        access: who may see the images that the pipeline was trained on, and the source.
        resolution: of the images, in pixels; the preset's by default.
        lora_weights: of an adapter.
        negative_prompt: what images shall not show.

    Raises:
        InputError: both or neither of what would give subjects, or something that is not what it should be.
    """
    # every pipeline of diffusers, which takes seconds to import
    from ..diffusion.text_to_image import find_text_to_image

    if source_dir is not None and pretrained_model_name_or_path is not None:
        raise InputError(
            f"source_dir: {source_dir} is given beside {pretrained_model_name_or_path}, and subjects are drawn from "
            "one causal model; leave one of them out."
        )
    known: list[Access] = [access or "unknown"]
    counts: Mapping[str, Any] = {}
    subjects: dict[str, str] = {}
    identity: dict[str, str] = {}
    model: Any
    if pretrained_model_name_or_path is not None:
        trained = find_generator(pretrained_model_name_or_path)
        preset = trained.preset if preset is None else preset
        if (preset.covariates, set(preset.edges)) != (trained.preset.covariates, set(trained.preset.edges)):
            raise InputError(
                f"preset: {preset.name} has other covariates or edges than the causal model of "
                f"{pretrained_model_name_or_path}; leave one of them out."
            )
        model, words = trained.causal_model(), f"draws from the causal model of generator {trained.revision}"
        known.append(trained.access)
        subjects |= {"causal_model": trained.revision}
    if preset is None:
        raise InputError("preset: not given; a text-to-image pipeline has no domain of its own, so give one.")
    resolution = preset.resolution if resolution is None else resolution
    if source_dir is not None:
        source = open_source(source_dir, preset, resolution)
        preset = preset.observed_in(source.covariates)
        # the sites are levels that a file of the domain did not know
        if preset.prompt is not None and (why := why_no_template(preset.prompt, preset.covariates, preset.unobserved)):
            raise InputError(f"preset {preset.name}: prompt: {why}")
        train = [place for place, split in enumerate(source.splits) if split == "train"]
        table = {name: [source.table[name][place] for place in train] for name in preset.covariates.names}
        model = _fitted(preset, table)
        words = f"draws from a causal model fitted on the training patients of {source.name} ({source.fingerprint})"
        subjects |= {"source": source.name}
        identity["causal_model"] = _identity(model)
        known.append(access_to(source, access))
        counts = totals(source.counts)
    elif pretrained_model_name_or_path is None:
        model = UniformModel(preset.covariates)
        words = "uniform draws, every covariate independent of the others"
    saved = find_text_to_image(text_to_image, lora_weights)
    sampling = Sampling(
        generator=saved.name,
        pipeline=saved.pipeline,
        subjects=words,
        lora_weights=None if saved.lora_weights is None else saved.lora_weights.name,
        negative_prompt=negative_prompt,
        license=saved.license,
        source=subjects.get("source"),
        causal_model=subjects.get("causal_model"),
    )
    revision = fingerprint({"files": saved.revision, "subjects": words, **identity})
    preset = preset.model_copy(update={"resolution": resolution})
    return SavedSampler(saved, preset, resolution, model, sampling, strictest(*known), revision, counts)


def _fitted(preset: Preset, table: dict[str, list[Any]]) -> StructuralCausalModel:
    """The causal model fitted on a table, the same in every process: a run that goes on fits it again."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(FITTED)
        # sums of several threads depend on their number
        torch.set_num_threads(1)
        try:
            model = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
            fit_scm(model, table, FITTED)
        finally:
            torch.set_num_threads(threads)
    return model


def _identity(model: torch.nn.Module) -> str:
    """Of its parameters: where another processor or version fits others, the subjects are others, too."""
    return fingerprint({name: one.tolist() for name, one in model.state_dict().items()})


def check_prompts(plan: GenerationPlan, sampler: SavedSampler) -> None:
    """Check the prompts of some subjects in every cell, before the network's weights are loaded.

    Args:
        plan: the cells.
        sampler: with the tokenizers.

    Raises:
        InputError: two cells have the same prompt, so that their images would be the same under different labels, a
            prompt is longer than any text encoder reads, none says what a recipe does, or a negative prompt would not
            be read.
    """
    if sampler.sampling.negative_prompt is not None:
        sampler.saved.check_prompt(sampler.sampling.negative_prompt, "negative_prompt")
        if plan.guidance_scale is not None and plan.guidance_scale <= 1:
            raise InputError(
                f"negative_prompt: is not read at a guidance_scale of {plan.guidance_scale:g}; give one above 1, or "
                "leave the negative prompt out."
            )
    covariates, unsaid = plan.preset.covariates, dict.fromkeys(plan.recipe_table.said)
    drawn = sampler.model.sample(TRIED, torch.Generator().manual_seed(plan.seed % 2**63))
    table = covariates.decode({name: drawn[name].tolist() for name in covariates.names})
    bounded = {one.name: one.bounds for one in covariates.walk() if not one.categorical}
    for place in range(TRIED):
        values = {name: column[place] for name, column in table.items()}
        # a normalizing flow's tail may lie outside
        values |= {
            name: min(max(values[name], low), high) for name, (low, high) in bounded.items() if values[name] is not None
        }
        seen: dict[str, Mapping[str, Any]] = {}
        recipe = place % len(plan.recipes) if plan.recipes else None
        values |= plan.recipe_table.conditions(recipe)
        for cell in plan.cells:
            prompt = plan.prompt({**values, **cell}, recipe)
            context = plan.recipe_table.context(recipe)
            unsaid = {
                name: None
                for name in unsaid
                if prompt == render_prompt(plan.preset, {**values, **cell}, {**context, name: ""})
            }
            sampler.saved.check_prompt(prompt)
            if (other := seen.setdefault(prompt, cell)) is not cell:
                name = next(one for one in cell if cell[one] != other[one])
                raise InputError(
                    f"factors: {name} {cell[name]} and {other[name]} have one prompt, {prompt!r}; let the template of "
                    f"preset {plan.preset.name} say {name}, or leave it out of the factors."
                )
    if unsaid:
        raise InputError(
            f"recipes: {', '.join(unsaid)} is in no prompt; let the template of preset {plan.preset.name} say "
            f"{' and '.join(f'context.{name}' for name in unsaid)}, or write recipes without it."
        )
