"""Candidates: pairs of images by one generator, for people or for judges to prefer one of.

    samples            a subject sampled from the causal model, under do() of its subgroup where these are balanced:
                       two images, each from noise of its own
    guided_samples     the same: two images of one noise, one without and one with classifier-free guidance
    counterfactuals    an observation and an intervention on one covariate: two images, each at a strength of its own

    CANDIDATES/candidates.jsonl, images/     the pairs, without how they were generated: for `synthfair label`
    CANDIDATES/questions.jsonl, observed/    by id what judges may use as well: observation, intervention, strengths,
                                             and for the phantom the exact counterfactual
    CANDIDATES/record.json

`judgement` turns them into preferences.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ..access import RECORD, sealed
from ..arguments import Count, Seed, checked
from ..diffusion.generator import load_generator
from ..diffusion.pipeline import CausalDiffusionPipeline, CausalPipelineOutput
from ..diffusion.saved import SavedGenerator, find_generator
from ..domains.drawn import DrawnSource
from ..domains.images import to_batch
from ..domains.joined import SourceFolder
from ..domains.preset import Preset
from ..domains.registry import open_source
from ..domains.source import Source, access_to, patient_split, totals
from ..errors import InputError, unknown
from ..progress import progress_bar
from ..records import (
    Access,
    Record,
    fingerprint,
    library_versions,
    row_generator,
    row_seed,
    strictest,
    write_atomically,
)
from .labelling.candidates import FILE
from .pairs import image_digest
from .pixels import to_png
from .preferences import new_directory

__all__ = ["KNOWN", "SAMPLE_GUIDANCE", "ComparisonType", "make_candidates"]

ComparisonType = Literal["samples", "guided_samples", "counterfactuals"]

STRENGTHS = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Factors of the generator's own guidance at which the two counterfactuals of a pair are generated."""

SAMPLE_GUIDANCE = (1.5, 2.0)
"""Guidance scales of which the guided image of a pair has one."""

KNOWN = "questions.jsonl"
"""What judges may use beside the candidates, by id; the file's name is part of the format."""


@dataclass(frozen=True)
class _Request:
    """A pair to be generated: two samples of one subject."""

    id: str
    subject_id: str
    split: str
    place: int
    """Number of the pair, which seeds its noise."""

    def line(self) -> dict[str, Any]:
        """What KNOWN holds of it."""
        return {"id": self.id, "place": self.place}


@dataclass(frozen=True)
class _GuidedRequest(_Request):
    """Two samples of one noise, at two guidance scales."""

    guidance: tuple[float, float]

    def line(self) -> dict[str, Any]:
        return {**super().line(), "guidance": list(self.guidance)}


@dataclass(frozen=True)
class _CounterfactualRequest(_Request):
    """Two counterfactuals of one observation, at two strengths."""

    row: int
    """Of the observation in its source."""
    observed_covariates: dict[str, Any]
    do: dict[str, Any]
    """The intervened covariate and its new value."""
    strengths: tuple[float, float]

    @property
    def variable(self) -> str:
        """The intervened covariate."""
        (name,) = self.do
        return name

    def line(self) -> dict[str, Any]:
        names = ("id", "observed_covariates", "do")
        return {**{name: getattr(self, name) for name in names}, "strengths": list(self.strengths)}


class _Pair(NamedTuple):
    """Two images uint8 `[C, r, r]`, and the covariates that both are to show."""

    request: _Request
    covariates: dict[str, Any]
    first: Tensor
    second: Tensor
    observed: Tensor | None = None
    truth: Tensor | None = None
    """The exact counterfactual, where it is known."""


@checked
def make_candidates(
    output_dir: str | Path,
    num_pairs: Count,
    comparison_type: ComparisonType = "samples",
    pretrained_model_name_or_path: str | Path | None = None,
    source_dir: SourceFolder | None = None,
    access: Access | None = None,
    seed: Seed = 0,
    batch_size: Count = 16,
    balance: Sequence[str] = (),
) -> Record:
    """Write pairs of images by a saved generator into a new directory.

    Counterfactuals observe each image of the source at most once, and each pair keeps the split of its patient. Pairs
    whose two images are equal are left out and counted. The same seed gives the same pairs whatever the batch size, to
    rounding.

    Args:
        output_dir: new or empty directory.
        num_pairs: pairs to generate, 1 or more.
        comparison_type: what the two images of a pair are, see above.
        pretrained_model_name_or_path: the saved generator; by default the one inside the package.
        source_dir: images that counterfactuals observe; None for a domain that generates its own, and for samples.
        access: to the source.
        seed: of everything that is drawn.
        batch_size: images that the network generates at a time, 1 or more.
        balance: covariates with levels, whose combinations are sampled equally often, so that rare subgroups are judged
            too; by default subjects are distributed as in the causal model.

    Returns:
        The record, as written.

    Raises:
        InputError: for arguments that are not allowed, before the network is loaded; and where all pairs are of two
            equal images.
    """
    _check_arguments(num_pairs, comparison_type, source_dir, access, batch_size, balance)
    saved = find_generator() if pretrained_model_name_or_path is None else find_generator(pretrained_model_name_or_path)
    cells = _cells(balance, saved.preset)
    source = None
    if comparison_type == "counterfactuals":
        preset = saved.preset
        source = open_source(
            source_dir, preset, saved.resolution, check=lambda tabled: _complete(tabled, preset, num_pairs)
        )
        requests = _counterfactual_requests(source, saved.preset, num_pairs, seed)
    else:
        requests = _sample_requests(saved, comparison_type, num_pairs, seed)
    with new_directory(output_dir) as temporary:
        pipeline = load_generator(saved)
        pairs = _generate(pipeline, requests, batch_size, seed, cells, source)
        written, equal = _write_pairs(pairs, temporary, num_pairs)
        inputs = {
            "generator": saved.revision,
            "access": saved.access
            if source is None or source_dir is None
            else strictest(saved.access, access_to(source, access)),
        }
        if source is not None:
            inputs["source"] = source.fingerprint
        record = Record(
            stage="candidates",
            inputs=inputs,
            settings={
                "preset": saved.preset.model_dump(mode="json"),
                "questions": comparison_type,  # named as in the records so far
                "balance": list(balance),
                "num_pairs": num_pairs,
                "seed": seed,
            },
            versions=library_versions(),
            counts={
                "pairs": written,
                "the same image twice": equal,
                **({} if source is None else {"source": totals(source.counts)}),
            },
        )
        record = sealed(record, temporary)
        record.write(temporary / RECORD)
    return record


def _check_arguments(
    num_pairs: int,
    comparison_type: ComparisonType,
    source_dir: SourceFolder | None,
    access: Access | None,
    batch_size: int,
    balance: Sequence[str],
) -> None:
    if comparison_type not in get_args(ComparisonType):
        raise unknown("comparison_type", comparison_type, get_args(ComparisonType))
    for argument, number in (("num_pairs", num_pairs), ("batch_size", batch_size)):
        if number < 1:
            raise InputError(f"{argument}: {number} is not allowed; give a whole number from 1 on.")
    if len(set(balance)) < len(balance):
        raise InputError(f"balance: {', '.join(balance)} names a covariate twice; name each once.")
    if comparison_type == "counterfactuals":
        if balance:
            raise InputError("balance: is for samples; counterfactuals observe the images of the source. Leave it out.")
    elif source_dir is not None or access not in (None, "unknown"):
        raise InputError("source_dir: is for counterfactuals, which observe its images; leave it and access out.")


def _sample_requests(
    saved: SavedGenerator, comparison_type: ComparisonType, num_pairs: int, seed: int
) -> list[_Request]:
    """Pairs of samples, or of guided ones."""
    # Prefixed, so that no subject of another generator or seed bears the same name in another split.
    prefix = fingerprint([saved.revision, seed], 8)
    names = [f"{prefix}-{place}" for place in range(num_pairs)]
    if comparison_type == "samples":
        return [_Request(name, name, patient_split(name), place) for place, name in enumerate(names)]
    rng = row_generator(seed)
    requests: list[_Request] = []
    for place, name in enumerate(names):
        first, second = rng.permutation([1.0, rng.choice(SAMPLE_GUIDANCE)]).tolist()
        requests.append(_GuidedRequest(name, name, patient_split(name), place, (first, second)))
    return requests


def _counterfactual_requests(source: Source, preset: Preset, num_pairs: int, seed: int) -> list[_Request]:
    """Pairs of counterfactuals of images of which every covariate is known."""
    complete = _complete(source, preset, num_pairs)
    rng, schema = row_generator(seed), preset.covariates
    requests: list[_Request] = []
    for place, row in enumerate(rng.permutation(complete)[:num_pairs].tolist()):
        own = {name: source.table[name][row] for name in schema.names}
        name = schema.names[rng.integers(len(schema.names))]
        others = sorted({source.table[name][other] for other in complete} - {own[name]})
        if not others:
            raise InputError(
                f"source_dir: every image of {source.name} has one value of {name}, so no other can be set; give "
                "images of several."
            )
        first, second = (STRENGTHS[one] for one in rng.choice(len(STRENGTHS), 2, replace=False))
        requests.append(
            _CounterfactualRequest(
                id=f"{source.patient_ids[row]}-{place}",
                subject_id=source.patient_ids[row],
                split=source.splits[row],
                place=place,
                row=row,
                observed_covariates=own,
                do={name: others[rng.integers(len(others))]},
                strengths=(first, second),
            )
        )
    return requests


def _complete(source: Source, preset: Preset, num_pairs: int) -> list[int]:
    """Images of which every covariate is known; InputError for fewer than so many pairs need."""
    if len(source) < num_pairs:
        raise InputError(f"num_pairs: {num_pairs} is too many; {source.name} has {len(source)} images to observe.")
    names = preset.covariates.names
    for name in names:
        if name not in source.table:
            raise unknown(f"source_dir: {source.name}", name, source.table)
    complete = [row for row in range(len(source)) if all(source.table[name][row] is not None for name in names)]
    if len(complete) < num_pairs:
        raise InputError(f"num_pairs: {num_pairs} is too many; {len(complete)} images have every covariate.")
    return complete


def _cells(balance: Sequence[str], preset: Preset) -> list[dict[str, Tensor]]:
    """Every combination of the levels of these covariates, encoded `[1]` each; one empty combination of none."""
    for name in balance:
        if name not in preset.covariates:
            raise unknown("balance", name, preset.covariates.names)
        if not preset.covariates[name].categorical:
            raise InputError(f"balance: {name} is continuous; give covariates with levels.")
    levels = [range(len(preset.covariates[name].levels)) for name in balance]
    return [{name: torch.tensor([code]) for name, code in zip(balance, cell, strict=True)} for cell in product(*levels)]


def _generate(
    pipeline: CausalDiffusionPipeline,
    requests: Sequence[_Request],
    batch_size: int,
    seed: int,
    cells: Sequence[dict[str, Tensor]],
    source: Source | None,
) -> Iterator[_Pair]:
    """The pairs, in batches of samples, or of counterfactuals that intervene on the same variable."""

    def variable(request: _Request) -> str:
        return request.variable if isinstance(request, _CounterfactualRequest) else ""

    for _, group in groupby(sorted(requests, key=variable), variable):
        alike = list(group)
        for start in range(0, len(alike), batch_size):
            batch = alike[start : start + batch_size]
            if source is None:
                yield from _samples(pipeline, batch, seed, cells)
            else:
                interventions = [one for one in batch if isinstance(one, _CounterfactualRequest)]
                yield from _counterfactuals(pipeline, interventions, seed, source)


def _samples(
    pipeline: CausalDiffusionPipeline, batch: Sequence[_Request], seed: int, cells: Sequence[dict[str, Tensor]]
) -> Iterator[_Pair]:
    """Two images of each subject that the causal model samples in its cell.

    Each image is from a seed of its own; or both are from one seed, and one of them is guided.
    """
    rows = []
    for request in batch:
        generator = torch.Generator().manual_seed(row_seed(seed, 3 * request.place))
        noise = pipeline.scm.sample_noise(1, generator)
        rows.append(pipeline.scm.evaluate(noise, cells[request.place % len(cells)]))
    encoded = {name: torch.cat([row[name] for row in rows]).numpy() for name in pipeline.covariates.names}
    covariates = pipeline.covariates.decode(encoded)

    def sampled(rows: Sequence[int], image: int, scale: float) -> Tensor:
        seeds = [torch.Generator().manual_seed(row_seed(seed, 3 * batch[row].place + image)) for row in rows]
        given = {name: [column[row] for row in rows] for name, column in covariates.items()}
        return _pixels(
            pipeline(covariates=given, generator=seeds, sample_guidance_scale=scale, output_type="pt").images
        )

    images: list[Any]
    guided = [one for one in batch if isinstance(one, _GuidedRequest)]
    if guided:
        made: dict[tuple[int, float], Tensor] = {}
        for scale in sorted({scale for one in guided for scale in one.guidance}):
            chosen = [row for row, one in enumerate(guided) if scale in one.guidance]
            made |= {(row, scale): image for row, image in zip(chosen, sampled(chosen, 1, scale), strict=True)}
        images = [[made[row, one.guidance[side]] for row, one in enumerate(guided)] for side in (0, 1)]
    else:
        images = [sampled(range(len(batch)), image, 1.0) for image in (1, 2)]
    for row, (request, first, second) in enumerate(zip(batch, *images, strict=True)):
        yield _Pair(request, {name: covariates[name][row] for name in covariates}, first, second)


def _counterfactuals(
    pipeline: CausalDiffusionPipeline, batch: Sequence[_CounterfactualRequest], seed: int, source: Source
) -> Iterator[_Pair]:
    """Two counterfactuals of each observation, at its two strengths; all intervene on one variable."""
    names, side = pipeline.covariates.names, pipeline.config.resolution
    own = pipeline.config.default_guidance_scale
    observed = torch.from_numpy(to_batch([source.image(one.row, side) for one in batch]))
    variable = batch[0].variable

    def intervened(rows: Sequence[int], strength: float, **abducted: Any) -> CausalPipelineOutput:
        requests = [batch[row] for row in rows]
        scale = {name: strength * (own.get(name, 1.0) if isinstance(own, Mapping) else own) for name in names}
        return pipeline(
            covariates={name: [one.observed_covariates[name] for one in requests] for name in names},
            do={variable: [one.do[variable] for one in requests]},
            guidance_scale=scale,
            generator=[torch.Generator().manual_seed(row_seed(seed, one.place)) for one in requests],
            output_type="pt",
            **abducted,
        )

    # one abduction of images and covariates: both counterfactuals are to show the same covariates
    plain = intervened(range(len(batch)), 1.0, image=observed)
    made = {(row, 1.0): plain.images[row] for row in range(len(batch))}
    for strength in {one for request in batch for one in request.strengths} - {1.0}:
        rows = [row for row, request in enumerate(batch) if strength in request.strengths]
        noise = {name: values[rows] for name, values in (plain.covariate_noise or {}).items()}
        residual = None if plain.residual is None else plain.residual[rows]
        found = intervened(rows, strength, noise=plain.noise[rows], covariate_noise=noise, residual=residual)
        made |= {(row, strength): image for row, image in zip(rows, found.images, strict=True)}
    for row, request in enumerate(batch):
        covariates = {name: values[row] for name, values in plain.covariates.items()}
        truth = None
        if isinstance(source, DrawnSource):
            # of all covariates that the images are to show, also where the generator's own causal model errs
            truth = _pixels(torch.from_numpy(to_batch([source.counterfactual(request.row, covariates, side)]))[0])
        first, second = (_pixels(made[row, strength]) for strength in request.strengths)
        yield _Pair(request, covariates, first, second, _pixels(observed[row]), truth)


def _write_pairs(pairs: Iterable[_Pair], directory: Path, num_pairs: int) -> tuple[int, int]:
    """Write the pairs; returns how many, and how many were left out because their images are equal."""
    for name in ("images", "observed"):
        (directory / name).mkdir()
    candidates, known, equal = [], [], 0
    for pair in progress_bar(pairs, total=num_pairs, desc="candidates", unit="pair"):
        if torch.equal(pair.first, pair.second):
            equal += 1
            continue
        request = pair.request
        candidates.append(
            {
                "id": request.id,
                "subject_id": request.subject_id,
                "split": request.split,
                "covariates": pair.covariates,
                "first": _keep(pair.first, directory, "images"),
                "second": _keep(pair.second, directory, "images"),
            }
        )
        further = {"observed": pair.observed, "truth": pair.truth}
        files = {name: _keep(image, directory, "observed") for name, image in further.items() if image is not None}
        known.append({**request.line(), **files})
    if not candidates:
        raise InputError(
            f"comparison_type: all {equal} pairs are of two equal images, so this generator ignores what is set; give "
            "another type, or another generator."
        )
    for name, lines in ((FILE, candidates), (KNOWN, known)):
        write_atomically(directory / name, "".join(f"{json.dumps(line)}\n" for line in lines).encode())
    return len(candidates), equal


def _pixels(images: Any) -> Tensor:
    """Images in [0, 1] as uint8."""
    return (images * 255).round().to(torch.uint8)


def _keep(image: Tensor, directory: Path, folder: str) -> str:
    """Write an image under the digest of its pixels; its path relative to the directory."""
    name = f"{folder}/{image_digest(image)}.png"
    write_atomically(directory / name, to_png(image))
    return name
