"""Preferences from candidates: by weighted automatic judges, or by annotators on the labelling page.

`synthfair align` learns from either.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from ..access import recorded_access
from ..arguments import checked
from ..domains.chest_xray.preset import CHEST_XRAY
from ..domains.images import to_batch
from ..domains.joined import SourceFolder
from ..domains.preset import Preset
from ..domains.registry import open_source
from ..domains.source import Source, access_to
from ..errors import InputError, unknown
from ..measure.predictors import AttributePredictor, load_predictor
from ..measure.weights import weights_fingerprint
from ..records import Access, Record, file_inside, strictest
from ..schema import Schema
from .agreement import agreement
from .candidates import KNOWN
from .judges import (
    AttributeFidelity,
    CounterfactualSoundness,
    Judge,
    JudgingPredictor,
    Mixture,
    Realism,
    TruePixels,
    judge_pairs,
)
from .labelling.answers import Answers
from .labelling.candidates import Candidates
from .pixels import read_pixels, stack
from .preferences import write_preferences

__all__ = ["JUDGES", "export_answers", "judge_candidates", "load_judging_predictor", "open_candidates"]

JUDGES = ("attribute_fidelity", "realism", "counterfactual_soundness", "true_pixels")
"""Names of judges (`align.judges`), the last of which needs no predictor."""

COUNTERFACTUAL_JUDGES = JUDGES[2:]
"""Those that need the observation of a counterfactual."""

REFERENCE = 2000
"""Training images at most that realism compares with."""


@checked
def judge_candidates(
    candidates_dir: str | Path,
    output_dir: str | Path,
    predictor: str | Path | None,
    weights: Mapping[str, Annotated[float, Field(gt=0)]],
    tie: Annotated[float, Field(ge=0)] = 0.0,
    source_dir: SourceFolder | None = None,
    access: Access | None = None,
) -> Record:
    """Judge candidates and write them as preferences.

    One judge keeps its own unit; several are standardised over these candidates (`align.judges.Mixture`).

    Args:
        candidates_dir: written by `make_candidates`.
        output_dir: new or empty directory.
        predictor: directory of the attribute predictor of all judges but `true_pixels`, trained on training patients
            alone; measure what is learned from these preferences by another one. None for `true_pixels` alone.
        weights: by name of a judge (JUDGES), above 0.
        tie: difference of scores up to which neither image is preferred, in the scores' unit; such pairs are left out
            and counted.
        source_dir: real images, with whose training part `realism` compares in the predictor's features; None for a
            domain that generates its own.
        access: to these real images; that of the preferences is the strictest of theirs, the candidates' and the
            predictor's.

    Returns:
        The record, as written.

    Raises:
        InputError: for judges that are unknown or do not fit the candidates, before anything is written.
    """
    for name in weights:
        if name not in JUDGES:
            raise unknown("weights", name, JUDGES)
    if not weights:
        raise InputError(f"weights: none is given; give weights by name, of {', '.join(JUDGES)}.")
    directory = Path(candidates_dir)
    record = Record.read(directory / "record.json")
    candidates, made_from = open_candidates(directory)
    preset = candidates.preset
    if record.settings["questions"] != "counterfactuals":
        for name in COUNTERFACTUAL_JUDGES:
            if name in weights:
                raise InputError(f"weights: {name} needs observations, and these candidates are samples.")
    if (set(weights) == {"true_pixels"}) != (predictor is None):
        raise InputError(
            f"predictor: {predictor or 'not given'}; true_pixels needs none, and every other judge needs one."
        )
    if source_dir is None and access not in (None, "unknown"):
        raise InputError(f"access: {access} is for a source of real images, and none is given; leave it out.")
    if source_dir is not None and "realism" not in weights:
        raise InputError(
            f"source_dir: {source_dir} is for realism alone, which compares with its images; leave it out."
        )
    pairs = candidates.pairs
    judging = None if predictor is None else load_judging_predictor(predictor, preset.covariates)
    source, reference = None, None
    if "realism" in weights:
        side = pairs.preferred.shape[-1]
        source = open_source(source_dir, preset, side, check=_training_rows)
        reference = torch.from_numpy(to_batch([source.image(row, side) for row in _training_rows(source)]))
    judges = {judge: weights[judge.name] for judge in _judges(weights, directory, preset, judging, reference)}
    judge = next(iter(judges))
    if len(judges) > 1:
        judge = Mixture(judges, [pairs.preferred.float() / 255, pairs.rejected.float() / 255], pairs.covariates)
    preferences, counts = judge_pairs(
        judge, pairs.preferred, pairs.rejected, pairs.covariates, pairs.subjects, pairs.splits, tie
    )
    accesses: list[Access] = [made_from]
    if source_dir is not None and source is not None:
        accesses.append(access_to(source, access))
    if predictor is not None:
        # one that was trained before its record named an access adds none
        accesses.append(recorded_access(Path(predictor), silent="open"))
    read = None if source_dir is None or source is None else source.counts
    return write_preferences(preferences, output_dir, preset, counts, strictest(*accesses), read)


@checked
def open_candidates(directory: str | Path, preset: Preset | None = None) -> tuple[Candidates, Access]:
    """Open candidates for judges or annotators.

    Args:
        directory: with candidates.jsonl and images.
        preset: the domain of candidates without a record; chest_xray by default.

    Returns:
        The candidates, and the access to the images they were made from: that of the record, else unknown.
    """
    path = Path(directory) / "record.json"
    if not path.exists():
        return Candidates.read(directory, preset or CHEST_XRAY), "unknown"
    record = Record.read(path)
    recorded = Preset.model_validate(record.settings["preset"])
    if preset is not None and preset.name != recorded.name:
        raise InputError(f"preset: {preset.name!r} is not that of {directory}, which is {recorded.name}; leave it out.")
    return Candidates.read(directory, recorded), recorded_access(path.parent)


@checked
def export_answers(
    candidates_dir: str | Path, answers_file: str | Path, output_dir: str | Path, preset: Preset | None = None
) -> dict[str, Any]:
    """Write annotators' answers as preferences.

    Args:
        candidates_dir: the candidates.
        answers_file: the answers of all annotators, as the labelling page writes them.
        output_dir: new or empty directory.
        preset: the domain of candidates without a record; chest_xray by default.

    Returns:
        `pairs`, the number of preferences; `annotators`, the counts of answers of each; and `agreement` of every two.
    """
    candidates, access = open_candidates(candidates_dir, preset)
    preferences, counts = candidates.judged(Answers(answers_file))
    write_preferences(preferences, output_dir, candidates.preset, counts, access)
    between = {" and ".join(judges): found._asdict() for judges, found in agreement(preferences).items()}
    return {"pairs": len(preferences), "annotators": counts, "agreement": between}


def load_judging_predictor(directory: str | Path, schema: Schema) -> JudgingPredictor:
    """A trained predictor for judges, by which an error of one standard deviation of training patients counts as 1."""
    predictor = load_predictor(directory, schema)
    scales = {one: float(predictor.standards[one][1]) for one in schema.names if not schema[one].categorical}
    return JudgingPredictor(predictor, schema, scales, weights_fingerprint(directory))


def _training_rows(source: Source) -> list[int]:
    """Images of training patients, REFERENCE of them at most; InputError where there is none."""
    rows = [row for row, split in enumerate(source.splits) if split == "train"][:REFERENCE]
    if not rows:
        raise InputError(f"source_dir: {source.name} has no image in split 'train'; give images of more patients.")
    return rows


def _judges(
    names: Iterable[str], directory: Path, preset: Preset, predictor: JudgingPredictor | None, reference: Tensor | None
) -> Iterator[Judge]:
    """The judges of these names, of the candidates in a directory; `reference` is for realism."""
    schema = preset.covariates
    try:
        known = [json.loads(line) for line in (directory / KNOWN).read_text(encoding="utf-8").splitlines()]
    except (RecursionError, ValueError) as error:
        raise InputError(
            f"{directory / KNOWN}: not JSON, one object a line ({error}); make the candidates anew."
        ) from None
    for name in names:
        if name == "true_pixels":
            if "truth" not in known[0]:
                raise InputError(
                    "weights: true_pixels needs exact counterfactuals, and these candidates have none; only the "
                    "phantom's have."
                )
            yield TruePixels(_images(directory, known, "truth"))
            continue
        assert predictor is not None  # checked above: every other judge needs one
        if name == "attribute_fidelity":
            yield AttributeFidelity(predictor)
        elif name == "realism":
            trained = predictor.predictor
            assert isinstance(trained, AttributePredictor)  # what `load_predictor` loads
            yield Realism(trained.features, trained.features(reference), predictor.identity)
        else:
            values = {one: [line["observed_covariates"][one] for line in known] for one in schema.names}
            covariates = {one: torch.from_numpy(column) for one, column in schema.encode(values).items()}
            yield CounterfactualSoundness(predictor, _images(directory, known, "observed"), covariates)


def _images(directory: Path, known: Sequence[Mapping[str, Any]], name: str) -> Tensor:
    """The images `[n, C, r, r]` in [0, 1] of this name, of all candidates."""
    ids = [line["id"] for line in known]
    images = [read_pixels(file_inside(directory, line[name]).read_bytes(), line["id"]) for line in known]
    return stack(images, ids).float() / 255
