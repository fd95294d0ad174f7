"""Carrying out a plan: shard by shard, each subject observed once and its family rendered from the same noise.

    row = the observation itself                    where the cell is the subject's own
        = pipeline(covariates, noise, do = cell)    elsewhere

Batches are fixed by the plan, so an interrupted run continues to the same bytes, on the same type of device and under
the same versions of the libraries: another device or version may round otherwise.
"""

import io
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from tqdm import tqdm

from ..errors import InputError
from ..records import Record
from ..sources.source import Source
from .plan import SCM, GenerationPlan, Row, Shard
from .store import Store
from .subjects import ModelSubjects, Observation, SourceSubjects, choose, columns, is_sound, pixels, stacked

if TYPE_CHECKING:
    from ..diffusion.pipeline import CausalDiffusionPipeline

__all__ = ["SYNTHETIC_XMP", "check", "encode_png", "generate"]

SYNTHETIC_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
    "</rdf:RDF></x:xmpmeta>"
)
"""The IPTC statement, inside each synthetic PNG, that a trained model made it."""

T = TypeVar("T")


def check(plan: GenerationPlan, output_dir: Path | str, source: Source | None = None) -> None:
    """Raise the InputError that `generate` would raise for want of anything but the model; writes nothing.

    The plan must be for this source, the source must have patients enough, and the directory must be free for the plan:
    not locked, not foreign, not under another plan.
    """
    _check_source(plan, source)
    if source is not None:
        choose(plan, source)
    Store(Path(output_dir), plan).check()


def generate(
    plan: GenerationPlan,
    pipeline: "CausalDiffusionPipeline",
    output_dir: Path | str,
    source: Source | None = None,
    progress: bool = True,
) -> Record:
    """Write the plan's data set into `output_dir` and return the record of the run.

    The same call continues an interrupted run to the same bytes. Raises InputError, before anything is written, when
    the plan is not for this pipeline, and for whatever `check` refuses.
    """
    _check_model(plan, pipeline)
    _check_source(plan, source)
    render = partial(
        pipeline,
        num_inference_steps=plan.num_inference_steps,
        guidance_scale=plan.guidance_scale,
        output_type="pt",
    )
    subjects = ModelSubjects(plan, pipeline, render) if source is None else SourceSubjects(plan, source, render)
    with Store(Path(output_dir), plan).open() as store:
        waiting = [shard for shard in plan.shards() if not store.finished(shard)]
        images = sum(len(shard.subjects) for shard in waiting) * len(plan.cells)
        with tqdm(
            total=plan.num_rows, initial=plan.num_rows - images, unit="image", disable=not progress, desc="generate"
        ) as bar:
            for shard in waiting:
                store.write(shard, *_render_shard(plan, render, subjects, shard, bar))
        return store.finish()


def _check_model(plan: GenerationPlan, pipeline: "CausalDiffusionPipeline") -> None:
    ours, theirs = plan.preset, pipeline.preset
    if ours.covariates != theirs.covariates or set(ours.edges) != set(theirs.edges):
        raise InputError(
            f"plan: its preset {ours.name} has other covariates or edges than the model's {theirs.name} "
            f"({', '.join(theirs.covariates.names)}); plan with the model's preset."
        )
    if plan.resolution != pipeline.config.resolution:
        raise InputError(
            f"resolution: {plan.resolution}, but the model renders {pipeline.config.resolution}; give that."
        )


def _check_source(plan: GenerationPlan, source: Source | None) -> None:
    name, identity = (SCM, None) if source is None else (source.name, source.fingerprint)
    if (plan.source, plan.source_fingerprint) != (name, identity):
        raise InputError(
            f"plan: it is for source {plan.source} ({plan.source_fingerprint}), but {name} ({identity}) was given."
        )


def _render_shard(
    plan: GenerationPlan,
    render: Callable[..., Any],
    subjects: ModelSubjects | SourceSubjects,
    shard: Shard,
    bar: "tqdm[Any]",
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The shard's rows, and counts of candidates and images rejected on the way.

    A family with an unsound image is drawn again from its subject's next seed, as far as its kind of subject allows.
    """
    families = {family[0].subject: family for family in _batches(plan.rows(shard), len(plan.cells))}
    lines: dict[int, list[dict[str, Any]]] = {}
    counts = {"rejected_candidates": 0, "rejected_images": 0}
    for attempt in range(subjects.attempts):
        waiting = [family for subject, family in families.items() if subject not in lines]
        observations: dict[int, Observation] = {}
        for batch in _batches([family[0] for family in waiting], plan.batch_size):
            observed = subjects.observe(batch, attempt)
            observations |= {row.subject: one for row, one in zip(batch, observed, strict=True)}
        images = _render_families(plan, render, [row for family in waiting for row in family], observations, bar)
        for family in waiting:
            observation = observations[family[0].subject]
            unsound = sum(images[row.id] is None for row in family)
            counts["rejected_candidates"] += observation.rejected
            counts["rejected_images"] += unsound
            if unsound:
                bar.update(-len(family))
            else:
                lines[family[0].subject] = _lines(plan, family, observation, images)
        if len(lines) == len(families):
            return [line for subject in families for line in lines[subject]], counts
    failed = next(family[0].subject_id for subject, family in families.items() if subject not in lines)
    raise InputError(
        f"subject {failed}: some of its images are NaN, infinite or constant after {subjects.attempts} attempts; "
        "check the model's weights."
    )


def _render_families(
    plan: GenerationPlan,
    render: Callable[..., Any],
    rows: Sequence[Row],
    observations: dict[int, Observation],
    bar: "tqdm[Any]",
) -> dict[str, bytes | None]:
    """The PNG of every row by id; None for an unsound image.

    Naming all factors and their effects in `do`, at the row's values, fixes each covariate of the row: they are exactly
    the cell's and otherwise the subject's, and the causal model only draws or abducts subjects. For those that keep the
    subject's value that is the identity, so that rows with different interventions share a batch.
    """
    images: dict[str, bytes | None] = {}
    edited = []
    for row in rows:
        if plan.intervention(row.cell, observations[row.subject].values):
            edited.append(row)
        else:
            images[row.id] = encode_png(observations[row.subject].image, synthetic=plan.source == SCM)
            bar.update()
    for batch in _batches(edited, plan.batch_size):
        subjects = [observations[row.subject] for row in batch]
        values = columns([{**subject.values, **row.cell} for subject, row in zip(subjects, batch, strict=True)])
        result = render(
            covariates=columns([subject.values for subject in subjects]),
            noise=torch.stack([subject.noise for subject in subjects]),
            covariate_noise=stacked([subject.covariate_noise for subject in subjects]),
            residual=_residuals(subjects),
            do={name: values[name] for name in plan.acted_on},
        )
        for row, image in zip(batch, pixels(result.images), strict=True):
            images[row.id] = encode_png(image, synthetic=True)
        bar.update(len(batch))
    return images


def _residuals(subjects: Sequence[Observation]) -> Tensor | None:
    """What the decoder loses of each subject's image, `[B, C, H, W]`; None where nothing is lost."""
    residuals = [subject.residual for subject in subjects if subject.residual is not None]
    return torch.stack(residuals) if residuals else None


def _lines(
    plan: GenerationPlan, family: Sequence[Row], observation: Observation, images: dict[str, bytes | None]
) -> list[dict[str, Any]]:
    """A family as it is stored. Without its own cell among the factors' levels, nobody is the family's parent."""
    interventions = [plan.intervention(row.cell, observation.values) for row in family]
    parent = next((row.id for row, do in zip(family, interventions, strict=True) if not do), None)
    noise = {f"noise_{name}": value.reshape(-1).tolist() for name, value in observation.covariate_noise.items()}
    return [
        {
            "id": row.id,
            "image": {"bytes": images[row.id], "path": f"{row.id}.png"},
            "split": row.split,
            "subject_id": row.subject_id,
            "parent_id": parent if do else None,
            "intervention": json.dumps(do, sort_keys=True),
            **observation.values,
            **row.cell,
            **noise,
            "seed": observation.seed,
            "draw": row.draw,
            "synthetic": bool(do) or plan.source == SCM,
            "source_dataset": plan.source,
            "plan": plan.fingerprint,
            "model_revision": plan.model_revision,
        }
        for row, do in zip(family, interventions, strict=True)
    ]


def encode_png(image: np.ndarray, synthetic: bool) -> bytes | None:
    """An image `[H, W]` in [0, 1] as 8-bit grayscale PNG, rounded; None when it is NaN, infinite or constant."""
    if not is_sound(image):
        return None
    statement = PngInfo()
    if synthetic:
        statement.add_itxt("XML:com.adobe.xmp", SYNTHETIC_XMP)
    buffer = io.BytesIO()
    Image.fromarray(np.rint(image.clip(0, 1) * 255).astype(np.uint8)).save(buffer, "PNG", pnginfo=statement)
    return buffer.getvalue()


def _batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
