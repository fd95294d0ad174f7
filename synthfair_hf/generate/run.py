"""Carrying out a plan: shard by shard, each subject observed once and its family rendered from the same noise.

    row = the observation itself                    where the cell is the subject's own
        = pipeline(covariates, noise, do = cell)    elsewhere

Batches are fixed by the plan, so an interrupted run continues to the same bytes, on the same type of device and under
the same versions of the libraries: another device or version may round otherwise. While the network renders a batch,
threads encode the one before.
"""

import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..domains.contexts import acquisition
from ..domains.source import Source, totals
from ..errors import InputError
from ..progress import progress_bar
from ..records import Record, first_difference
from .gate import QualityGate, Reading
from .generator import Sampler
from .plan import SCM, GenerationPlan
from .render import EDITED, MODEL, WORLD, Renderer, encode_png, statement
from .rows import Row, Shard
from .store import RUN, Store, read_plan
from .subjects import ModelSubjects, Observation, SourceSubjects, choose, columns, pixels, stacked
from .verification import damaged_shards, reseal, restore_plan

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["check", "generate", "repair", "seconds_per_image"]

T = TypeVar("T")

ENCODERS = 2
"""Threads that turn images into files beside the network: a core does hundreds of them a second."""


def check(
    plan: GenerationPlan,
    output_dir: Path | str,
    source: Source | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> None:
    """Check, without the model and without writing, that `generate` can run.

    Args:
        plan: what is to be generated.
        output_dir: where.
        source: the subjects' images, if the plan is for a source.
        rank: this process among `world_size`.
        world_size: number of processes that share the shards.

    Raises:
        InputError: the plan is for another source, the source has too few patients, or the directory is locked, holds
            something else, or belongs to another plan.
    """
    _check_drawable(plan)
    _check_source(plan, source)
    if source is not None:
        choose(plan, source)
    Store(Path(output_dir), plan, rank, world_size).check()


def generate(
    plan: GenerationPlan,
    pipeline: Sampler,
    output_dir: Path | str,
    source: Source | None = None,
    progress: bool = True,
    gate: QualityGate | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Record | None:
    """Write the plan's data set; the same call continues an interrupted run to the same bytes.

    Args:
        plan: what is generated.
        pipeline: the generator that the plan is for; a `generator.CausalGenerator` where subjects are observed.
        output_dir: where the data set is written.
        source: the subjects' images, if the plan is for a source.
        progress: show a progress bar.
        gate: the quality gate, where the plan names one.
        rank: this process among `world_size`; it writes its share of the shards.
        world_size: number of processes that share the shards.

    Returns:
        The record of the run; None for a process that ends before the last one.

    Raises:
        InputError: before anything is written, as `check`, and when the plan is for another pipeline or gate.
    """
    _check_model(plan, pipeline)
    _check_drawable(plan)
    _check_source(plan, source)
    _check_gate(plan, gate)
    render = Renderer(pipeline, plan)
    subjects = ModelSubjects(plan, pipeline, render) if source is None else SourceSubjects(plan, source, render)
    with Store(Path(output_dir), plan, rank, world_size).open() as store, ThreadPoolExecutor(ENCODERS) as threads:
        studio = _Studio(render, subjects, gate, threads)
        own = store.shards()
        waiting = [shard for shard in own if not store.finished(shard)]
        images, left = (sum(map(plan.count, shards)) for shards in (own, waiting))
        settings: dict[str, Any] = {"total": images, "initial": images - left, "unit": "image", "desc": "generate"}
        with progress_bar(**settings, disable=not progress) as bar:
            for shard in waiting:
                store.write(shard, *_render_shard(plan, studio, shard, bar))
        return store.finish({} if source is None else _lacking(source))


def _lacking(source: Source) -> dict[str, Any]:
    """What is missing in a source, and how its DICOM was read, for the record; nothing where neither is, as so far."""
    found = totals(source.counts)
    lacks = any(found.get(name) for name in ("missing", "quarantined", "no image of", "contrast"))
    return {"source": found} if lacks else {}


def seconds_per_image(
    plan: GenerationPlan,
    pipeline: Sampler,
    source: Source | None = None,
    gate: QualityGate | None = None,
) -> float:
    """Seconds that this device takes for an image, by the wall clock; nothing is kept or written.

    Timed are the first families that fill a batch, after one that warms up an accelerator: subjects, network, gate and
    encoding, as `generate` does them. Writing is not, nor are families that a gate has drawn again later on.

    Args:
        plan: what is to be generated.
        pipeline: the generator.
        source: the subjects' images, if the plan is for a source.
        gate: the quality gate, where the plan names one.
    """
    render = Renderer(pipeline, plan)
    subjects = ModelSubjects(plan, pipeline, render) if source is None else SourceSubjects(plan, source, render)
    first = plan.shards()[0]
    number = math.ceil(plan.batch_size / len(plan.cells))
    with ThreadPoolExecutor(ENCODERS) as threads, progress_bar(disable=True) as bar:
        studio = _Studio(render, subjects, gate, threads)
        # the first call compiles a network, and chooses the kernels of an accelerator
        if plan.compile or torch.accelerator.is_available():
            _render_shard(plan, studio, replace(first, subjects=first.subjects[:1]), bar)
        began = time.perf_counter()
        rows, _ = _render_shard(plan, studio, replace(first, subjects=first.subjects[:number]), bar)
        return (time.perf_counter() - began) / len(rows)


class _Studio(NamedTuple):
    """What makes the rows of a shard: subjects, renderer, quality gate, and threads that encode images."""

    render: Renderer
    subjects: ModelSubjects | SourceSubjects
    gate: QualityGate | None
    threads: ThreadPoolExecutor


def repair(
    directory: Path | str,
    pipeline: Sampler,
    source: Source | None = None,
    gate: QualityGate | None = None,
    progress: bool = True,
) -> list[str]:
    """Generate exactly the damaged and missing shards of a data set again.

    A damaged plan is restored from the record of the run, that record from the shards', and the card's last line names
    the new one; a damaged card is left, because it alone holds the licence.

    Args:
        directory: the data set.
        pipeline: the generator it was made with.
        source: its subjects' images, if its plan is for a source.
        gate: its quality gate, if it has one.
        progress: show a progress bar.

    Returns:
        Names of the shards that were made.

    Raises:
        InputError: the plan is for another pipeline, source or gate, or the new bytes are not those in the record of
            the run: another type of device or other versions of the libraries may round otherwise.
    """
    directory = Path(directory)
    restore_plan(directory)
    plan = read_plan(directory)
    _check_model(plan, pipeline)
    _check_source(plan, source)
    _check_gate(plan, gate)
    # under the lock, so that no other process finishes a shard between the check and its end
    with Store(directory, plan).open() as store:
        damaged, before = damaged_shards(directory), None
        with suppress(InputError):
            before = Record.read(directory / RUN)
        for shard in damaged:
            store.discard(shard)
    after = generate(plan, pipeline, directory, source, progress, gate)
    if damaged and before is not None and after is not None and before.counts.get("store") != after.counts["store"]:
        raise InputError(
            f"{directory}: the shards made anew are not, byte for byte, those that were lost "
            f"({first_difference(before.versions, after.versions) or 'another type of device'}); make the data set "
            "where it was made, or write its card anew by the same generate command."
        )
    reseal(directory)
    return [shard.stem for shard in damaged]


def _check_model(plan: GenerationPlan, pipeline: Sampler) -> None:
    ours, theirs = plan.preset, pipeline.preset
    if ours.covariates != theirs.covariates or set(ours.edges) != set(theirs.edges):
        raise InputError(
            f"plan: its preset {ours.name} has other covariates or edges than the model's {theirs.name} "
            f"({', '.join(theirs.covariates.names)}); plan with the model's preset."
        )
    if ours.channels != theirs.channels:
        raise InputError(
            f"plan: its preset {ours.name} has channels: {ours.channels}, and the model's channels: {theirs.channels}; "
            "plan with the model's preset."
        )
    if plan.resolution != pipeline.config.resolution:
        raise InputError(
            f"resolution: {plan.resolution}, but the model renders {pipeline.config.resolution}; give that."
        )


def _check_drawable(plan: GenerationPlan) -> None:
    """Refuse contexts that the generator is not told: rows would say of images what these do not show."""
    said = plan.recipe_table.said
    if said and plan.sampling is None:
        allowed = ", ".join(one.name for one in acquisition(plan.preset) if one.name not in plan.factors)
        remedy = (
            f"write recipes of these variables: {allowed}"
            if allowed
            else "there is nothing else of which recipes can be written for it; leave recipes out"
        )
        raise InputError(
            f"recipes: {', '.join(said)} can be told to a generator that reads prompts alone, and this one draws "
            f"covariates; {remedy}."
        )


def _check_gate(plan: GenerationPlan, gate: QualityGate | None) -> None:
    if (plan.gate is None) != (gate is None):
        raise InputError(
            f"gate: {'not given' if gate is None else 'given'}, but the plan {'names' if plan.gate else 'has'} "
            f"{plan.gate or 'none'}; {'give it' if gate is None else 'leave it out'}."
        )


def _check_source(plan: GenerationPlan, source: Source | None) -> None:
    known = f"{plan.source} ({plan.source_fingerprint})"
    if source is None and plan.source != SCM:
        raise InputError(f"source: not given, but the subjects of the plan are observed in {known}; give it.")
    if source is not None and plan.source == SCM:
        raise InputError(f"source: {source.name} is given, but the plan draws its subjects; leave it out.")
    if source is not None and (plan.source, plan.source_fingerprint) != (source.name, source.fingerprint):
        raise InputError(
            f"source: {source.name} ({source.fingerprint}) is given, but the subjects of the plan are observed in "
            f"{known}; give that."
        )


def _render_shard(
    plan: GenerationPlan, studio: "_Studio", shard: Shard, bar: "tqdm[Any]"
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The shard's rows, and counts of rejected candidates and images.

    A family with an unsound image is drawn again from its subject's next seed, as far as its kind of subject allows; so
    is one that does not pass the gate, as often as the plan says, and then its best draw is kept.
    """
    subjects = studio.subjects
    families: dict[int, list[Row]] = {}
    for row in plan.rows(shard):
        families.setdefault(row.subject, []).append(row)
    best: dict[int, list[dict[str, Any]]] = {}
    draws: Counter[int] = Counter()
    counts = {"rejected_candidates": 0, "rejected_images": 0}
    if studio.gate is not None:
        counts |= {"redrawn_families": 0, "unreached_rows": 0}
    for attempt in range(subjects.attempts):
        waiting = [
            family
            for subject, family in families.items()
            if subject not in best or (draws[subject] < plan.gate_attempts and _unreached(best[subject]))
        ]
        observations: dict[int, Observation] = {}
        for batch in _batches([family[0] for family in waiting], plan.batch_size):
            observed = subjects.observe(batch, attempt)
            observations |= {row.subject: one for row, one in zip(batch, observed, strict=True)}
        # families drawn again are not done yet
        bar.update(-sum(len(family) for family in waiting) if attempt else 0)
        images, readings = _render_families(plan, studio, waiting, observations, bar)
        for family in waiting:
            subject = family[0].subject
            unsound = sum(images[row.id] is None for row in family)
            counts["rejected_candidates"] += observations[subject].rejected
            counts["rejected_images"] += unsound
            if unsound:
                continue
            lines = _lines(plan, family, observations[subject], images, readings)
            draws[subject] += 1
            if subject not in best or _unreached(lines) < _unreached(best[subject]):
                best[subject] = lines
    failed = next((family[0].subject_id for subject, family in families.items() if subject not in best), None)
    if failed is not None:
        raise InputError(
            f"subject {failed}: some of its images are NaN, infinite or constant after {subjects.attempts} attempts"
            f"{'' if plan.sampling is None else ', or a safety checker blacked them out'}; check the model's weights."
        )
    if studio.gate is not None:
        counts["redrawn_families"] = sum(times > 1 for times in draws.values())
        counts["unreached_rows"] = sum(map(_unreached, best.values()))
    return [line for subject in families for line in best[subject]], counts


def _unreached(lines: Sequence[Mapping[str, Any]]) -> int:
    """Rows of a family that do not have the requested attributes; none without a gate."""
    return sum(line.get("reached") is False for line in lines)


def _render_families(
    plan: GenerationPlan,
    studio: "_Studio",
    families: Sequence[Sequence[Row]],
    observations: dict[int, Observation],
    bar: "tqdm[Any]",
) -> tuple[dict[str, bytes | None], dict[str, Reading]]:
    """The PNG of every row by id, None for an unsound image, and its predicted attributes where there is a gate.

    Naming all factors and their effects in `do`, at the row's values, fixes each covariate of the row: they are exactly
    the cell's and otherwise the subject's, and the causal model only draws or abducts subjects. For those that keep the
    subject's value that is the identity, so that rows with different interventions share a batch.
    """
    images: dict[str, Future[bytes | None]] = {}
    readings: dict[str, Reading] = {}

    generator = MODEL if plan.world is None else WORLD
    of_observed = plan.source != SCM and plan.png_version > 1

    def take(batch: Sequence[Row], found: Sequence[np.ndarray], made_by: str | None) -> None:
        for row, image in zip(batch, found, strict=True):
            said = statement(made_by, row.id if plan.png_version > 1 else None)
            images[row.id] = studio.threads.submit(encode_png, image, said)
        if studio.gate is not None:
            read = studio.gate.read(np.stack(found), [row.cell for row in batch])
            readings.update({row.id: one for row, one in zip(batch, read, strict=True)})
        bar.update(len(batch))

    rows = [row for family in families for row in family]
    edited = [row for row in rows if plan.intervention(row.cell, observations[row.subject].values)]
    changed = {row.id for row in edited}
    for batch in _batches([row for row in rows if row.id not in changed], plan.batch_size):
        take(batch, [observations[row.subject].image for row in batch], generator if plan.source == SCM else None)
    # what is set has a value in every row of a batch
    held: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in edited:
        values = {**observations[row.subject].values, **row.cell}
        held[tuple(name for name in plan.acted_on if values[name] is not None)].append(row)
    for names, batch in ((names, batch) for names, some in held.items() for batch in _batches(some, plan.batch_size)):
        subjects = [observations[row.subject] for row in batch]
        values = columns([{**subject.values, **row.cell} for subject, row in zip(subjects, batch, strict=True)])
        result = studio.render(
            covariates=columns([subject.values for subject in subjects]),
            noise=torch.stack([subject.noise for subject in subjects]),
            covariate_noise=stacked([subject.covariate_noise for subject in subjects]),
            residual=_stacked_residuals(subjects),
            do={name: values[name] for name in names},
            **plan.told(batch),
        )
        take(batch, list(pixels(result.images, plan.preset.channels)), EDITED if of_observed else generator)
    return {name: image.result() for name, image in images.items()}, readings


def _stacked_residuals(subjects: Sequence[Observation]) -> Tensor | None:
    """The decoder's reconstruction error of each image, `[B, C, H, W]`; None for a lossless decoder."""
    residuals = [subject.residual for subject in subjects if subject.residual is not None]
    return torch.stack(residuals) if residuals else None


def _lines(
    plan: GenerationPlan,
    family: Sequence[Row],
    observation: Observation,
    images: Mapping[str, bytes | None],
    readings: Mapping[str, Reading],
) -> list[dict[str, Any]]:
    """A family as it is stored. Without its own cell among the factors' levels, a family has no parent row."""
    interventions = [plan.intervention(row.cell, observation.values) for row in family]
    parent = next((row.id for row, do in zip(family, interventions, strict=True) if not do), None)
    noise = {f"noise_{name}": value.reshape(-1).tolist() for name, value in observation.covariate_noise.items()}
    return [
        {
            "id": row.id,
            "image": {"bytes": images[row.id], "path": f"{row.id}.png"},
            "split": row.split,
            "subject_id": row.subject_id,
            "parent_id": parent if do and plan.sampling is None else None,
            # nothing was abducted, so that nothing was intervened on
            "intervention": json.dumps(do, sort_keys=True) if plan.sampling is None else None,
            **observation.values,
            **row.cell,
            **noise,
            "seed": observation.seed,
            "draw": row.draw,
            "synthetic": bool(do) or plan.source == SCM,
            "source_dataset": plan.source,
            "plan": plan.fingerprint,
            "model_revision": plan.model_revision,
            **(_measured(readings[row.id]) if readings else {}),
            **({"out_of_support": plan.is_out_of_support(row)} if plan.shows_support else {}),
            **(
                {} if plan.sampling is None else {"prompt": plan.prompt({**observation.values, **row.cell}, row.recipe)}
            ),
            **_context(plan, row),
        }
        for row, do in zip(family, interventions, strict=True)
    ]


def _context(plan: GenerationPlan, row: Row) -> dict[str, Any]:
    table = plan.recipe_table
    said = {table.column(name): text for name, text in table.context(row.recipe).items()}
    return {} if row.recipe is None else {"recipe": row.recipe, **said}


def _measured(reading: Reading) -> dict[str, Any]:
    return {**{f"measured_{name}": value for name, value in reading.values.items()}, "reached": reading.reached}


def _batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
