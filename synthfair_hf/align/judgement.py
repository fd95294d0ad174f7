"""Preferences from candidates (`questions`): by weighted automatic judges, or by what people said on the page.

`synthfair align` learns from either.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..domains.chest_xray.preset import CHEST_XRAY
from ..domains.preset import Preset
from ..domains.presets import get_preset
from ..domains.registry import open_source
from ..errors import InputError, unknown
from ..measure.predictors import load_predictor
from ..measure.weights import weights_fingerprint
from ..records import Access, Record
from ..schema import Schema
from .agreement import agreement
from .candidates import KNOWN
from .judges import AttributeFidelity, CounterfactualSoundness, Judge, Mixture, Realism, TruePixels, judge_pairs
from .labelling.answers import Answers
from .labelling.candidates import Candidates
from .pixels import read_pixels, stack
from .preferences import write_preferences

__all__ = ["JUDGES", "export_answers", "judge_candidates", "open_candidates", "reading"]

JUDGES = ("attribute_fidelity", "realism", "counterfactual_soundness", "true_pixels")
"""What may judge, the last without a predictor; `align.judges` says how."""

OF_OBSERVATIONS = JUDGES[2:]
"""Those that compare with the film a counterfactual was asked of."""

REFERENCE = 2000
"""Training films at most that realism compares with."""


def judge_candidates(
    candidates_dir: str | Path,
    output_dir: str | Path,
    predictor: str | Path | None,
    weights: Mapping[str, float],
    tie: float = 0.0,
    source_dir: str | Path | None = None,
) -> Record:
    """Judge candidates by JUDGES of these weights and write them as preferences.

    One judge keeps its own unit, several are standardised over these candidates (`align.judges.Mixture`), and `tie` is
    in that unit: closer pairs are dropped and counted. The predictor, by which all judges but `true_pixels` read, must
    have seen training patients alone; measure what is learned from these preferences by another one. `source_dir` has
    the real films whose training part `realism` compares with, in the predictor's features; the phantom draws its own.
    """
    for name in weights:
        if name not in JUDGES:
            raise unknown("weights", name, JUDGES)
    if not weights:
        raise InputError(f"weights: none is given; give weights by name, of {', '.join(JUDGES)}.")
    directory = Path(candidates_dir)
    record = Record.read(directory / "record.json")
    candidates, access = open_candidates(directory)
    preset = candidates.preset
    if record.settings["questions"] != "counterfactuals":
        for name in OF_OBSERVATIONS:
            if name in weights:
                raise InputError(f"weights: {name} needs observations, and these candidates are samples.")
    if (set(weights) == {"true_pixels"}) != (predictor is None):
        raise InputError(
            f"predictor: {predictor or 'not given'}; true_pixels needs none, and every other judge reads by one."
        )
    if source_dir is not None and "realism" not in weights:
        raise InputError(f"source_dir: {source_dir} is for realism alone, which compares with its films; leave it out.")
    pairs = candidates.pairs
    read = {} if predictor is None else reading(predictor, preset.covariates)
    reference = _training_films(source_dir, preset, pairs.preferred.shape[-1]) if "realism" in weights else None
    judges = {judge: weights[judge.name] for judge in _judges(weights, directory, preset, read, reference)}
    judge = next(iter(judges))
    if len(judges) > 1:
        judge = Mixture(judges, [pairs.preferred.float() / 255, pairs.rejected.float() / 255], pairs.covariates)
    preferences, counts = judge_pairs(
        judge, pairs.preferred, pairs.rejected, pairs.covariates, pairs.subjects, pairs.splits, tie
    )
    return write_preferences(preferences, output_dir, preset, counts, access)


def open_candidates(directory: str | Path, preset: str | None = None) -> tuple[Candidates, Access]:
    """The candidates of a directory, of the domain and access in its record; without one, of `preset` and unknown."""
    told = Path(directory) / "record.json"
    if not told.exists():
        return Candidates.read(directory, get_preset(preset or CHEST_XRAY.name)), "unknown"
    record = Record.read(told)
    return Candidates.read(directory, Preset.model_validate(record.settings["preset"])), record.access


def export_answers(
    candidates_dir: str | Path, answers_file: str | Path, output_dir: str | Path, preset: str | None = None
) -> dict[str, Any]:
    """Write what people said of candidates as preferences; returns what each said, and how far they agree."""
    candidates, access = open_candidates(candidates_dir, preset)
    preferences, counts = candidates.judged(Answers(answers_file))
    write_preferences(preferences, output_dir, candidates.preset, counts, access)
    between = {" and ".join(judges): found._asdict() for judges, found in agreement(preferences).items()}
    return {"pairs": len(preferences), "annotators": counts, "agreement": between}


def reading(predictor: str | Path, schema: Schema) -> dict[str, Any]:
    """What judges read by (`align.judges`): an error of one standard deviation of training patients counts as 1."""
    reader = load_predictor(predictor, schema)
    scales = {one: float(reader.standards[one][1]) for one in schema.names if not schema[one].categorical}
    return {"reader": reader, "schema": schema, "scales": scales, "identity": weights_fingerprint(predictor)}


def _training_films(source_dir: str | Path | None, preset: Preset, side: int) -> Tensor:
    """Real films `[n, 1, side, side]` in [0, 1] of training patients."""
    source = open_source(source_dir, preset, side)
    rows = [row for row, split in enumerate(source.splits) if split == "train"][:REFERENCE]
    return torch.from_numpy(np.stack([source.image(row, side) for row in rows]))[:, None]


def _judges(
    names: Iterable[str], directory: Path, preset: Preset, read: Mapping[str, Any], reference: Tensor | None
) -> Iterator[Judge]:
    """The judges of these names, of the candidates in a directory."""
    schema = preset.covariates
    told = [json.loads(line) for line in (directory / KNOWN).read_text(encoding="utf-8").splitlines()]
    for name in names:
        if name == "attribute_fidelity":
            yield AttributeFidelity(**read)
        elif name == "realism":
            embed = read["reader"].features
            yield Realism(embed, embed(reference), read["identity"])
        elif name == "true_pixels":
            if "truth" not in told[0]:
                raise InputError(
                    "weights: true_pixels needs exact answers, and these have none; the phantom knows them."
                )
            yield TruePixels(_films(directory, told, "truth"))
        else:
            values = {one: [line["observed_covariates"][one] for line in told] for one in schema.names}
            covariates = {one: torch.from_numpy(column) for one, column in schema.encode(values).items()}
            yield CounterfactualSoundness(
                **read, observed=_films(directory, told, "observed"), observed_covariates=covariates
            )


def _films(directory: Path, told: Sequence[Mapping[str, Any]], name: str) -> Tensor:
    """The films `[n, C, r, r]` in [0, 1] that every question names so."""
    ids = [line["id"] for line in told]
    films = [read_pixels((directory / line[name]).read_bytes(), line["id"]) for line in told]
    return stack(films, ids).float() / 255
