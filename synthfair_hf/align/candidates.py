"""Questions with two answers of one generator, for people or for judges to prefer one of.

    samples            a subject drawn from the causal model, under do() of its subgroup where these are balanced:
                       two images, each from noise of its own
    guided_samples     the same: two images of one noise, one plain, one under classifier-free guidance
    counterfactuals    an observation, one covariate set to another's value:  two answers, each at a strength of its own

    CANDIDATES/candidates.jsonl, images/     what is asked, and nothing of how it was answered: for `synthfair label`
    CANDIDATES/questions.jsonl, observed/    by id what a judge may know beside: observation, what was set, strengths,
                                             and of the phantom the exact answer
    CANDIDATES/record.json

`judging` turns them into preferences.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from ..diffusion.generator import load_generator
from ..diffusion.pipeline import CausalDiffusionPipeline, CausalPipelineOutput
from ..diffusion.saved import SavedGenerator, find_generator
from ..domains.phantom.phantom import PhantomSource
from ..domains.preset import Preset
from ..domains.registry import open_source
from ..domains.source import Source, patient_split
from ..errors import InputError, unknown
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

__all__ = ["KNOWN", "SAMPLE_GUIDANCE", "Questions", "make_candidates"]

Questions = Literal["samples", "guided_samples", "counterfactuals"]

STRENGTHS = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Factors of the generator's own guidance at which the two answers of a counterfactual question are given."""

SAMPLE_GUIDANCE = (1.5, 2.0)
"""Guidance scales of which the guided image of a pair has one."""

KNOWN = "questions.jsonl"
"""What a judge may know beside the candidates, by id."""


def make_candidates(
    output_dir: str | Path,
    num_pairs: int,
    questions: Questions = "samples",
    pretrained_model_name_or_path: str | Path | None = None,
    source_dir: str | Path | None = None,
    access: Access = "unknown",
    seed: int = 0,
    batch_size: int = 16,
    balance: Sequence[str] = (),
) -> Record:
    """Write `num_pairs` candidates of a saved generator, the package's own by default, into a new directory.

    Samples are of subjects as the causal model draws them; `balance` names covariates with levels, whose combinations
    are then asked for equally often: what is rare among patients would hardly be judged. Counterfactual questions
    observe the images of `source_dir` (the phantom draws its own), each at most once, and each pair keeps the split of
    its patient. Pairs whose answers come out as one image are left out and counted. The same seed gives the same pairs
    whatever the batch size, to rounding. Raises InputError before the network is loaded.
    """
    if questions not in get_args(Questions):
        raise unknown("questions", questions, get_args(Questions))
    for argument, number in (("num_pairs", num_pairs), ("batch_size", batch_size)):
        if number < 1:
            raise InputError(f"{argument}: {number} is not allowed; give how many, from 1.")
    sampled = questions != "counterfactuals"
    if sampled and (source_dir is not None or access != "unknown"):
        raise InputError(
            "source_dir: is for counterfactual questions, which observe its images; leave it and access out."
        )
    if balance and not sampled:
        raise InputError("balance: is for samples; counterfactual questions observe the images there are.")
    saved = find_generator() if pretrained_model_name_or_path is None else find_generator(pretrained_model_name_or_path)
    cells = _cells(balance, saved.preset)
    asked, source = _asked(saved, questions, source_dir, num_pairs, seed)
    with new_directory(output_dir) as temporary:
        pipeline = load_generator(saved)
        for name in ("images", "observed"):
            (temporary / name).mkdir()
        shown, known, same = [], [], 0
        with tqdm(total=num_pairs, desc="candidates", unit="pair") as progress:
            for batch in _batches(asked, batch_size):
                if source is None:
                    answers = _samples(pipeline, batch, seed, cells)
                else:
                    answers = _counterfactuals(pipeline, batch, seed, source)
                for one, first, second in answers:
                    if torch.equal(first, second):
                        same += 1
                        continue
                    files = {
                        name: _keep(image, temporary, "images")
                        for name, image in (("first", first), ("second", second))
                    }
                    shown.append({key: one[key] for key in ("id", "subject_id", "split", "covariates")} | files)
                    for name in ("observed", "truth"):
                        if name in one:
                            one[name] = _keep(one[name], temporary, "observed")
                    known.append(
                        {key: value for key, value in one.items() if key not in ("subject_id", "split", "covariates")}
                    )
                progress.update(len(batch))
        if not shown:
            raise InputError(
                f"questions: all {same} pairs came out as one image twice; this generator ignores what is set."
            )
        for name, lines in ((FILE, shown), (KNOWN, known)):
            write_atomically(temporary / name, "".join(f"{json.dumps(line)}\n" for line in lines).encode())
        record = Record(
            stage="candidates",
            inputs={
                "generator": saved.revision,
                "access": saved.access if source_dir is None else strictest(saved.access, access),
                **({} if source is None else {"source": source.fingerprint}),
            },
            settings={
                "preset": saved.preset.model_dump(mode="json"),
                "questions": questions,
                "balance": list(balance),
                "num_pairs": num_pairs,
                "seed": seed,
            },
            versions=library_versions(),
            counts={"pairs": len(shown), "the same image twice": same},
        )
        record.write(temporary / "record.json")
    return record


def _asked(
    saved: SavedGenerator, questions: Questions, source_dir: str | Path | None, num_pairs: int, seed: int
) -> tuple[list[dict[str, Any]], Source | None]:
    """What is asked, pair by pair: id, subject, split, and what the answers need; and the source that is observed."""
    if questions != "counterfactuals":
        # told apart from the subjects of another generator or seed, so that no split shares one
        names = [f"{fingerprint([saved.revision, seed], 8)}-{place}" for place in range(num_pairs)]
        samples = [
            {"id": name, "subject_id": name, "split": patient_split(name), "place": place}
            for place, name in enumerate(names)
        ]
        if questions == "guided_samples":
            rng = row_generator(seed)
            for one in samples:
                one["guidance"] = rng.permutation([1.0, rng.choice(SAMPLE_GUIDANCE)]).tolist()
        return samples, None
    source = open_source(source_dir, saved.preset, saved.resolution)
    if len(source) < num_pairs:
        raise InputError(f"num_pairs: {num_pairs} is too many; {source.name} has {len(source)} images to observe.")
    rng, schema = row_generator(seed), saved.preset.covariates
    complete = [row for row in range(len(source)) if all(source.table[name][row] is not None for name in schema.names)]
    if len(complete) < num_pairs:
        raise InputError(f"num_pairs: {num_pairs} is too many; {len(complete)} images have every covariate.")
    asked = []
    for place, row in enumerate(rng.permutation(complete)[:num_pairs].tolist()):
        own = {name: source.table[name][row] for name in schema.names}
        name = schema.names[rng.integers(len(schema.names))]
        others = sorted({source.table[name][other] for other in complete} - {own[name]})
        if not others:
            raise InputError(f"{source.name}: every image has one value of {name}; nothing else can be asked.")
        strengths = rng.choice(len(STRENGTHS), 2, replace=False)
        asked.append(
            {
                "id": f"{source.patient_ids[row]}-{place}",
                "subject_id": source.patient_ids[row],
                "split": source.splits[row],
                "place": place,
                "row": row,
                "observed_covariates": own,
                "do": {name: others[rng.integers(len(others))]},
                "strengths": [STRENGTHS[one] for one in strengths],
            }
        )
    return asked, source


def _batches(asked: Sequence[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Questions that are answered at once: samples, or counterfactuals that set the same variable."""

    def variable(one: dict[str, Any]) -> str:
        return next(iter(one.get("do", ("",))))

    for _, alike in groupby(sorted(asked, key=variable), variable):
        questions = list(alike)
        yield from (questions[start : start + size] for start in range(0, len(questions), size))


Answered = list[tuple[dict[str, Any], Tensor, Tensor]]


def _cells(balance: Sequence[str], preset: Preset) -> list[dict[str, Tensor]]:
    """Every combination of the levels of these covariates, encoded `[1]` each; one empty combination of none."""
    for name in balance:
        if name not in preset.covariates:
            raise unknown("balance", name, preset.covariates.names)
        if not preset.covariates[name].categorical:
            raise InputError(f"balance: {name} is continuous; give covariates with levels.")
    levels = [range(len(preset.covariates[name].levels)) for name in balance]
    return [{name: torch.tensor([code]) for name, code in zip(balance, cell, strict=True)} for cell in product(*levels)]


def _samples(
    pipeline: CausalDiffusionPipeline, batch: Sequence[dict[str, Any]], seed: int, cells: Sequence[dict[str, Tensor]]
) -> Answered:
    """Two images of each subject that the causal model draws in its cell: each from a seed of its own, or of one seed
    and one of them guided.
    """
    rows = []
    for one in batch:
        generator = torch.Generator().manual_seed(row_seed(seed, 3 * one["place"]))
        noise = pipeline.scm.sample_noise(1, generator)
        rows.append(pipeline.scm.evaluate(noise, cells[one["place"] % len(cells)]))
    encoded = {name: torch.cat([row[name] for row in rows]).numpy() for name in pipeline.covariates.names}
    covariates = pipeline.covariates.decode(encoded)

    def sampled(rows: Sequence[int], answer: int, scale: float) -> Tensor:
        seeds = [torch.Generator().manual_seed(row_seed(seed, 3 * batch[row]["place"] + answer)) for row in rows]
        asked = {name: [column[row] for row in rows] for name, column in covariates.items()}
        return _pixels(
            pipeline(covariates=asked, generator=seeds, sample_guidance_scale=scale, output_type="pt").images
        )

    images: list[Any]
    if "guidance" in batch[0]:
        made: dict[tuple[int, float], Tensor] = {}
        for scale in sorted({scale for one in batch for scale in one["guidance"]}):
            rows = [row for row, one in enumerate(batch) if scale in one["guidance"]]
            made |= {(row, scale): image for row, image in zip(rows, sampled(rows, 1, scale), strict=True)}
        images = [[made[row, one["guidance"][answer]] for row, one in enumerate(batch)] for answer in (0, 1)]
    else:
        images = [sampled(range(len(batch)), answer, 1.0) for answer in (1, 2)]
    told = [
        {**one, "covariates": {name: covariates[name][row] for name in covariates}} for row, one in enumerate(batch)
    ]
    return list(zip(told, *images, strict=True))


def _counterfactuals(
    pipeline: CausalDiffusionPipeline, batch: Sequence[dict[str, Any]], seed: int, source: Source
) -> Answered:
    """Two answers to each question, at its two strengths; all questions set one variable."""
    names, side = pipeline.covariates.names, pipeline.config.resolution
    own = pipeline.config.default_guidance_scale
    films = torch.stack([torch.from_numpy(source.image(one["row"], side))[None] for one in batch])
    (variable,) = batch[0]["do"]

    def answered(rows: Sequence[int], strength: float, **known: Any) -> CausalPipelineOutput:
        asked = [batch[row] for row in rows]
        scale = {name: strength * (own.get(name, 1.0) if isinstance(own, Mapping) else own) for name in names}
        return pipeline(
            covariates={name: [one["observed_covariates"][name] for one in asked] for name in names},
            do={variable: [one["do"][variable] for one in asked]},
            guidance_scale=scale,
            generator=[torch.Generator().manual_seed(row_seed(seed, one["place"])) for one in asked],
            output_type="pt",
            **known,
        )

    # one abduction of films and covariates: both answers are asked to show the same
    first = answered(range(len(batch)), 1.0, image=films)
    answers = {(row, 1.0): first.images[row] for row in range(len(batch))}
    for strength in {one for asked in batch for one in asked["strengths"]} - {1.0}:
        rows = [row for row, asked in enumerate(batch) if strength in asked["strengths"]]
        known = {name: values[rows] for name, values in (first.covariate_noise or {}).items()}
        residual = None if first.residual is None else first.residual[rows]
        found = answered(rows, strength, noise=first.noise[rows], covariate_noise=known, residual=residual)
        answers |= {(row, strength): image for row, image in zip(rows, found.images, strict=True)}
    told: Answered = []
    for row, one in enumerate(batch):
        covariates = {name: values[row] for name, values in first.covariates.items()}
        kept = {key: value for key, value in one.items() if key not in ("row", "place")}
        kept |= {"observed": _pixels(films[row]), "covariates": covariates}
        if isinstance(source, PhantomSource):
            # of everything that the answers are asked to show, also where the generator's own causal model erred
            kept["truth"] = _pixels(torch.from_numpy(source.counterfactual(one["row"], covariates, side))[None])
        one_answer, other_answer = (_pixels(answers[row, strength]) for strength in one["strengths"])
        told.append((kept, one_answer, other_answer))
    return told


def _pixels(images: Any) -> Tensor:
    """Images in [0, 1] as uint8."""
    return (images * 255).round().to(torch.uint8)


def _keep(image: Tensor, directory: Path, folder: str) -> str:
    """Write an image under the digest of its pixels; its path relative to the directory."""
    name = f"{folder}/{image_digest(image)}.png"
    write_atomically(directory / name, to_png(image))
    return name
