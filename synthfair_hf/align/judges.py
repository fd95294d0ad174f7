"""Judges: which of two images answers a question better?  judge(images, covariates) -> scores, higher is better.

    AttributeFidelity         sum over k of f_k(x, c_k)                                         shows what was asked
    Realism                   -|h(x) - h(x_(K))|, x_(K): the K-th nearest real image            looks like a real image
    CounterfactualSoundness   a mean over changed k of f_k(x*, c*_k)                            effective
                              - b mean over the other k of d_k(x*, x) - c mean |x* - x|         identity kept, minimal
    TruePixels                -mean |x* - t|, t: the exact answer of a world that knows it      is the counterfactual
    Mixture                   sum over judges of w_j (s_j - m_j) / sd_j, the w_j summing to 1

    f_k = log p_k(c_k | x) of a level, -|g_k(x) - c_k| / scale_k of a number, 0 where nothing was asked
    d_k = half the sum of |p_k(. | x*) - p_k(. | x)|, or |g_k(x*) - g_k(x)| / scale_k

p and g are what a reader trained on the training patients alone reads. A person is no function: what people prefer
comes as a file (`preferences.read_preferences`). A reader errs more often in some subgroups than in others, and a judge
that asks it prefers accordingly: `agreement` with a person shows where.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..schema import AttributePredictor, Schema
from .pairs import Covariates, Preferences, from_scores

__all__ = [
    "AttributeFidelity",
    "CounterfactualSoundness",
    "Judge",
    "Mixture",
    "Realism",
    "TruePixels",
    "judge_pairs",
]

FLOOR = 1e-6
"""Least probability that a reader is taken at its word for: log p stays finite."""


class Judge(Protocol):
    """Scores images by how well they answer a question; `description` is JSON, for records and fingerprints."""

    @property
    def name(self) -> str:
        """What `Preferences.judges` says."""

    @property
    def description(self) -> dict[str, Any]:
        """All that decides the scores."""

    def __call__(self, images: Tensor, covariates: Covariates) -> Tensor:
        """Scores float64 `[n]` of images `[n, C, r, r]` in [0, 1] that were asked to show the covariates `[n]`."""


def judge_pairs(
    judge: Judge,
    first: Tensor,
    second: Tensor,
    covariates: Covariates,
    subjects: Sequence[str] | np.ndarray,
    splits: Sequence[str] | np.ndarray,
    tie: float = 0.0,
) -> tuple[Preferences, dict[str, dict[str, Any]]]:
    """`from_scores` of a judge's scores of images uint8 `[n, C, r, r]`; the counts say who the judge is, too."""
    one, other = (judge(images.float() / 255, covariates) for images in (first, second))
    preferences, counts = from_scores(first, second, one, other, covariates, subjects, splits, judge.name, tie)
    return preferences, {judge.name: {**counts[judge.name], "judge": judge.description}}


@dataclass(frozen=True, eq=False)
class AttributeFidelity:
    """Does the image show what was asked?

    reader: reads every covariate of `schema`.
    schema: the covariates that are judged, a subset of what was asked.
    scales: by continuous covariate of the schema, the error in its unit that counts as 1.
    identity: fingerprint of the reader's weights, for the record.
    """

    reader: AttributePredictor
    schema: Schema
    scales: Mapping[str, float]
    identity: str
    name: str = "attribute_fidelity"

    def __post_init__(self) -> None:
        _check_scales(self.schema, self.scales)

    @property
    def description(self) -> dict[str, Any]:
        """Judge, reader, covariates and scales."""
        told = {"judge": "attribute fidelity", "reader": self.identity, "covariates": list(self.schema.names)}
        return {**told, "scales": dict(self.scales)}

    def __call__(self, images: Tensor, covariates: Covariates) -> Tensor:
        """The sum of the parts."""
        return torch.stack(list(self.parts(images, covariates).values())).sum(dim=0)

    def parts(self, images: Tensor, covariates: Covariates) -> dict[str, Tensor]:
        """f_k `[n]`, 0 or less, by covariate."""
        _check_names("covariates", covariates, self.schema)
        read = _read(self.reader, images, self.schema)
        return {name: _fidelity(self.schema, self.scales, name, read[name], covariates) for name in self.schema.names}


class Realism:
    """Does the image look like a real one? Minus the distance to its K-th nearest real image among features h.

    embed: images `[n, C, r, r]` in [0, 1] to features `[n, d]`.
    reference: features `[m, d]` of real images of training patients, m at least `neighbours`.
    neighbours: K, from 1 on.
    identity: fingerprint of the encoder's weights, for the record.

    A group that is rare among the real images has farther neighbours: compare two images of one question only.
    """

    def __init__(
        self,
        embed: Callable[[Tensor], Tensor],
        reference: Tensor,
        identity: str,
        neighbours: int = 5,
        name: str = "realism",
    ) -> None:
        if reference.ndim != 2 or not torch.isfinite(reference).all():
            raise InputError(f"reference: {tuple(reference.shape)}; give finite features [m, d], one row per image.")
        if not 1 <= neighbours <= len(reference):
            raise InputError(f"neighbours: {neighbours} is not allowed; give 1 to {len(reference)}, the real images.")
        self.embed, self.reference, self.neighbours = embed, reference.double(), neighbours
        self.name, self._identity = name, identity

    @property
    def description(self) -> dict[str, Any]:
        """Judge, encoder, real features and K."""
        digest = hashlib.sha256(self.reference.contiguous().numpy().tobytes()).hexdigest()[:16]
        return {"judge": "realism", "encoder": self._identity, "reference": digest, "neighbours": self.neighbours}

    def __call__(self, images: Tensor, covariates: Covariates) -> Tensor:
        """Minus the distance, 0 or less; what was asked plays no part."""
        features = self.embed(images).detach().cpu().double()
        distances = torch.cdist(features, self.reference, compute_mode="donot_use_mm_for_euclid_dist")
        return -distances.kthvalue(self.neighbours, dim=1).values


@dataclass(frozen=True, eq=False)
class CounterfactualSoundness:
    """Is the image a sound answer to "what would this observation have been"?

    reader, schema, scales, identity: as of `AttributeFidelity`.
    observed: the observations float `[n, C, r, r]` in [0, 1], in the order of the images that are judged.
    observed_covariates: theirs, `[n]`. Where a value differs from what is asked, it was changed; where either is
        missing, it is not judged.
    effective, identity_kept, minimal: the weights a, b and c, 0 or more, not all 0.
    """

    reader: AttributePredictor
    schema: Schema
    scales: Mapping[str, float]
    identity: str
    observed: Tensor
    observed_covariates: Covariates
    effective: float = 1.0
    identity_kept: float = 1.0
    minimal: float = 1.0
    name: str = "counterfactual_soundness"
    _before: dict[str, Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_scales(self.schema, self.scales)
        _check_names("observed_covariates", self.observed_covariates, self.schema)
        weights = (self.effective, self.identity_kept, self.minimal)
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise InputError(f"effective, identity_kept, minimal: {weights}; give weights from 0 on, not all 0.")
        object.__setattr__(self, "_before", _read(self.reader, self.observed, self.schema))

    @property
    def description(self) -> dict[str, Any]:
        """Judge, reader, covariates, scales and weights."""
        weights = {name: getattr(self, name) for name in ("effective", "identity_kept", "minimal")}
        told = {"judge": "counterfactual soundness", "reader": self.identity, "covariates": list(self.schema.names)}
        return {**told, "scales": dict(self.scales), "weights": weights}

    def __call__(self, images: Tensor, covariates: Covariates) -> Tensor:
        """The weighted sum of the parts."""
        parts = self.parts(images, covariates)
        return sum((getattr(self, name) * part for name, part in parts.items()), torch.zeros(len(images)).double())

    def parts(self, images: Tensor, covariates: Covariates) -> dict[str, Tensor]:
        """`effective`, `identity_kept` and `minimal`, `[n]` each, 0 or less, unweighted; a mean over none is 0."""
        if images.shape != self.observed.shape:
            raise InputError(
                f"images: of shape {tuple(images.shape)}; give one per observation, {tuple(self.observed.shape)}."
            )
        _check_names("covariates", covariates, self.schema)
        read, rows = _read(self.reader, images, self.schema), len(images)
        gained, moved, changed, kept = (torch.zeros(rows, dtype=torch.float64) for _ in range(4))
        for name in self.schema.names:
            value, before = covariates[name], self.observed_covariates[name]
            known = _known(self.schema, name, value) & _known(self.schema, name, before)
            acts, rests = known & (value != before), known & (value == before)
            gained += acts * _fidelity(self.schema, self.scales, name, read[name], covariates)
            moved += rests * _change(self.scales, name, read[name], self._before[name])
            changed, kept = changed + acts, kept + rests
        return {
            "effective": gained / changed.clamp(min=1),
            "identity_kept": -moved / kept.clamp(min=1),
            "minimal": -(images.double() - self.observed.double()).abs().mean(dim=(1, 2, 3)),
        }


class TruePixels:
    """Is the image the counterfactual? Minus its mean absolute difference to the exact one, in grey levels of 255.

    truth: the exact answers float `[n, C, r, r]` in [0, 1], in the order of the images that are judged.
    """

    def __init__(self, truth: Tensor, name: str = "true_pixels") -> None:
        self.truth, self.name = truth.double(), name

    @property
    def description(self) -> dict[str, Any]:
        """Judge and truth."""
        digest = hashlib.sha256(self.truth.contiguous().numpy().tobytes()).hexdigest()[:16]
        return {"judge": "true pixels", "truth": digest}

    def __call__(self, images: Tensor, covariates: Covariates) -> Tensor:
        """Minus the difference, 0 or less; the truth already is what was asked."""
        if images.shape != self.truth.shape:
            raise InputError(f"images: of shape {tuple(images.shape)}; give one per answer, {tuple(self.truth.shape)}.")
        return -255 * (images.double() - self.truth).abs().mean(dim=(1, 2, 3))


class Mixture:
    """Several judges at once, each on the scale of its own scores.

    weights: by judge, above 0; they are scaled to sum 1.
    images: sets `[n, C, r, r]` in [0, 1], as the first and the second answers to the questions in `covariates`; the
        mean m_j and standard deviation sd_j of each judge's scores over all of them are kept for every later call, so
        that scores of two calls can be compared.

    Raises InputError where a judge gives all these images one score, or one that is not finite.
    """

    def __init__(
        self,
        weights: Mapping[Judge, float],
        images: Sequence[Tensor],
        covariates: Covariates,
        name: str = "mixture",
    ) -> None:
        if not weights or not all(math.isfinite(weight) and weight > 0 for weight in weights.values()):
            told = {judge.name: weight for judge, weight in weights.items()}
            raise InputError(f"weights: {told}; give one or more judges, each with a weight above 0.")
        self.name, total = name, sum(weights.values())
        self.weights = {judge: weight / total for judge, weight in weights.items()}
        self.standards: dict[Judge, tuple[float, float]] = {}
        for judge in weights:
            scores = torch.cat([judge(one, covariates).double() for one in images])
            if not torch.isfinite(scores).all():
                raise InputError(f"weights: judge {judge.name!r} gives scores that are not finite; mend it.")
            deviation = float(scores.std(correction=0))
            # all the same but for rounding
            if deviation <= 1e-12 * max(1.0, float(scores.abs().max())):
                raise InputError(f"weights: judge {judge.name!r} gives all images one score; leave it out.")
            self.standards[judge] = (float(scores.mean()), deviation)

    @property
    def description(self) -> dict[str, Any]:
        """Every judge with its weight, mean and standard deviation."""
        parts = [
            {"weight": weight, "mean": self.standards[judge][0], "sd": self.standards[judge][1], **judge.description}
            for judge, weight in self.weights.items()
        ]
        return {"judge": "mixture", "parts": parts}

    def __call__(self, images: Tensor, covariates: Covariates) -> Tensor:
        """The weighted sum of standardised scores."""
        scores = torch.zeros(len(images), dtype=torch.float64)
        for judge, weight in self.weights.items():
            mean, deviation = self.standards[judge]
            scores += weight * (judge(images, covariates).double() - mean) / deviation
        return scores


def _check_scales(schema: Schema, scales: Mapping[str, float]) -> None:
    numbers = [variable.name for variable in schema.walk() if not variable.categorical]
    if set(scales) != set(numbers) or not all(math.isfinite(scale) and scale > 0 for scale in scales.values()):
        raise InputError(
            f"scales: {dict(scales)}; give one above 0, in its unit, for each of {', '.join(numbers) or '(none)'}."
        )


def _check_names(argument: str, covariates: Covariates, schema: Schema) -> None:
    if absent := [name for name in schema.names if name not in covariates]:
        raise InputError(f"{argument}: {', '.join(absent)} not given; needed: {', '.join(schema.names)}.")


def _read(reader: AttributePredictor, images: Tensor, schema: Schema) -> dict[str, Tensor]:
    read = reader.predict(images)
    if absent := [name for name in schema.names if name not in read]:
        raise InputError(f"reader: does not read {', '.join(absent)}; it reads {', '.join(read) or '(nothing)'}.")
    return {name: torch.as_tensor(read[name], dtype=torch.float64) for name in schema.names}


def _known(schema: Schema, name: str, values: Tensor) -> Tensor:
    return values >= 0 if schema[name].categorical else ~values.isnan()


def _fidelity(schema: Schema, scales: Mapping[str, float], name: str, read: Tensor, covariates: Covariates) -> Tensor:
    """f_k `[n]`."""
    value = covariates[name]
    if schema[name].categorical:
        asked = read.gather(1, value.clamp(min=0)[:, None])[:, 0]
        found = asked.clamp(min=FLOOR).log()
    else:
        found = -(read - torch.nan_to_num(value.double())).abs() / scales[name]
    return torch.where(_known(schema, name, value), found, 0)


def _change(scales: Mapping[str, float], name: str, after: Tensor, before: Tensor) -> Tensor:
    """d_k `[n]`."""
    difference = (after - before).abs()
    return difference / scales[name] if name in scales else difference.sum(dim=1) / 2
