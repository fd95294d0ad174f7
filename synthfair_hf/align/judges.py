"""Judges of images that are to show given covariates: judge(images, covariates) -> scores, higher is better.

    AttributeFidelity         sum over k of f_k(x, c_k)                                         shows the covariates
    Realism                   -|h(x) - h(x_(K))|, x_(K): the K-th nearest real image            looks like a real image
    CounterfactualSoundness   a mean over changed k of f_k(x*, c*_k)                            effective
                              - b mean over the other k of d_k(x*, x) - c mean |x* - x|         identity kept, minimal
    TruePixels                -mean |x* - t|, t: the exact counterfactual, where it is known    is the counterfactual
    Mixture                   sum over judges of w_j (s_j - m_j) / sd_j, the w_j summing to 1

    f_k = log p_k(c_k | x) of a level, -|g_k(x) - c_k| / scale_k of a number, 0 where c_k is missing
    d_k = half the sum of |p_k(. | x*) - p_k(. | x)|, or |g_k(x*) - g_k(x)| / scale_k

p and g are the predictions of an attribute predictor trained on the training patients alone. Preferences of people
come as a file (`preferences.read_preferences`). A predictor errs more often in some subgroups than in others, and so
does a judge that uses it: `agreement` with a person shows where.
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
    "JudgingPredictor",
    "Mixture",
    "Realism",
    "TruePixels",
    "judge_pairs",
]

FLOOR = 1e-6
"""Lower bound of a predicted probability, so that log p stays finite."""


class Judge(Protocol):
    """Scores images by how well they show given covariates; `description` is JSON, for records and fingerprints."""

    @property
    def name(self) -> str:
        """Its name in `Preferences.judges`."""

    @property
    def description(self) -> dict[str, Any]:
        """Everything that determines the scores."""

    def __call__(self, images: Tensor, covariates: Covariates) -> Tensor:
        """Scores float64 `[n]` of images `[n, C, r, r]` in [0, 1] that are to show the covariates `[n]`."""


def judge_pairs(
    judge: Judge,
    first: Tensor,
    second: Tensor,
    covariates: Covariates,
    subjects: Sequence[str] | np.ndarray,
    splits: Sequence[str] | np.ndarray,
    tie: float = 0.0,
) -> tuple[Preferences, dict[str, dict[str, Any]]]:
    """Preferences by a judge's scores; see `pairs.from_scores`.

    Args:
        judge: scores the images.
        first: uint8 `[n, C, r, r]`.
        second: uint8 `[n, C, r, r]`, in the same order.
        covariates: encoded, `[n]` each: what both images of a pair are to show.
        subjects: identifiers `[n]`.
        splits: of the subjects, `[n]`.
        tie: difference of scores up to which neither image is preferred, 0 or more.

    Returns:
        The pairs and, by judge, the counts of comparisons with the judge's description.

    Raises:
        InputError: as `pairs.from_scores` does.
    """
    one, other = (judge(images.float() / 255, covariates) for images in (first, second))
    preferences, counts = from_scores(first, second, one, other, covariates, subjects, splits, judge.name, tie)
    return preferences, {judge.name: {**counts[judge.name], "judge": judge.description}}


@dataclass(frozen=True, eq=False)
class JudgingPredictor:
    """An attribute predictor, and how judges count its errors.

    Args:
        predictor: predicts every covariate of `schema`.
        schema: the covariates that are judged.
        scales: by continuous covariate of the schema, the error in its unit that counts as 1.
        identity: fingerprint of the predictor's weights, for the record.

    Raises:
        InputError: for scales that are not positive, or not those of the schema.
    """

    predictor: AttributePredictor
    schema: Schema
    scales: Mapping[str, float]
    identity: str

    def __post_init__(self) -> None:
        numbers = [variable.name for variable in self.schema.walk() if not variable.categorical]
        positive = all(math.isfinite(scale) and scale > 0 for scale in self.scales.values())
        if set(self.scales) != set(numbers) or not positive:
            raise InputError(
                f"scales: {dict(self.scales)}; give one above 0, in its unit, for each of "
                f"{', '.join(numbers) or '(none)'}."
            )

    def describe(self, judge: str) -> dict[str, Any]:
        """A judge's description; "reader" is the predictor's name in records."""
        return {
            "judge": judge,
            "reader": self.identity,
            "covariates": list(self.schema.names),
            "scales": dict(self.scales),
        }

    def predict(self, images: Tensor) -> dict[str, Tensor]:
        """Predictions of the schema's covariates, float64 `[n, levels]` or `[n]`."""
        predicted = self.predictor.predict(images)
        if absent := [name for name in self.schema.names if name not in predicted]:
            raise InputError(
                f"predictor: does not predict {', '.join(absent)}; it predicts {', '.join(predicted) or '(nothing)'}."
            )
        return {name: torch.as_tensor(predicted[name], dtype=torch.float64) for name in self.schema.names}

    def known(self, name: str, values: Tensor) -> Tensor:
        """Which encoded values of a covariate are not missing, bool `[n]`."""
        return values >= 0 if self.schema[name].categorical else ~values.isnan()

    def fidelity(self, name: str, predicted: Tensor, value: Tensor) -> Tensor:
        """f_k `[n]` of predictions and encoded values of a covariate."""
        if self.schema[name].categorical:
            found = predicted.gather(1, value.clamp(min=0)[:, None])[:, 0].clamp(min=FLOOR).log()
        else:
            found = -(predicted - torch.nan_to_num(value.double())).abs() / self.scales[name]
        return torch.where(self.known(name, value), found, 0)

    def change(self, name: str, after: Tensor, before: Tensor) -> Tensor:
        """d_k `[n]` between predictions of a covariate."""
        difference = (after - before).abs()
        return difference / self.scales[name] if name in self.scales else difference.sum(dim=1) / 2

    def require(self, argument: str, covariates: Covariates) -> None:
        """Raise InputError, by the argument's name, where a covariate of the schema is absent."""
        if absent := [name for name in self.schema.names if name not in covariates]:
            raise InputError(f"{argument}: {', '.join(absent)} not given; needed: {', '.join(self.schema.names)}.")


@dataclass(frozen=True, eq=False)
class AttributeFidelity:
    """Does the image show the covariates?"""

    predictor: JudgingPredictor
    name: str = "attribute_fidelity"

    @property
    def description(self) -> dict[str, Any]:
        """Judge, predictor, covariates and scales."""
        return self.predictor.describe("attribute fidelity")

    def __call__(self, images: Tensor, covariates: Covariates) -> Tensor:
        """The sum of the parts."""
        return torch.stack(list(self.parts(images, covariates).values())).sum(dim=0)

    def parts(self, images: Tensor, covariates: Covariates) -> dict[str, Tensor]:
        """The terms of the score.

        Args:
            images: `[n, C, r, r]` in [0, 1].
            covariates: encoded, `[n]` each.

        Returns:
            f_k `[n]`, 0 or less, by covariate.
        """
        self.predictor.require("covariates", covariates)
        predicted = self.predictor.predict(images)
        return {name: self.predictor.fidelity(name, one, covariates[name]) for name, one in predicted.items()}


class Realism:
    """Does the image look like a real one? Minus the distance to its K-th nearest real image among features h.

    A group that is rare among the real images has farther neighbours: compare two images of the same covariates only.

    Args:
        embed: images `[n, C, r, r]` in [0, 1] to features `[n, d]`.
        reference: features `[m, d]` of real images of training patients, m at least `neighbours`.
        identity: fingerprint of the encoder's weights, for the record.
        neighbours: K, 1 or more.

    Raises:
        InputError: for features that are not finite rows, or fewer of them than `neighbours`.
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
        """Minus the distance, 0 or less; the covariates are not used."""
        features = self.embed(images).detach().cpu().double()
        distances = torch.cdist(features, self.reference, compute_mode="donot_use_mm_for_euclid_dist")
        return -distances.kthvalue(self.neighbours, dim=1).values


@dataclass(frozen=True, eq=False)
class CounterfactualSoundness:
    """Is the image a sound counterfactual of its observation?

    Args:
        predictor: predicts the covariates, of images and observations.
        observed: the observations float `[n, C, r, r]` in [0, 1], in the order of the images that are judged.
        observed_covariates: theirs, encoded, `[n]` each. A covariate whose value differs from the requested one was
            changed; one of which either value is missing is not judged.
        effective: the weight a, 0 or more; a, b and c are not all 0.
        identity_kept: the weight b, 0 or more.
        minimal: the weight c, 0 or more.

    Raises:
        InputError: for weights that are not allowed, or covariates that are absent.
    """

    predictor: JudgingPredictor
    observed: Tensor
    observed_covariates: Covariates
    effective: float = 1.0
    identity_kept: float = 1.0
    minimal: float = 1.0
    name: str = "counterfactual_soundness"
    _before: dict[str, Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.predictor.require("observed_covariates", self.observed_covariates)
        weights = (self.effective, self.identity_kept, self.minimal)
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
            raise InputError(f"effective, identity_kept, minimal: {weights}; give weights from 0 on, not all 0.")
        object.__setattr__(self, "_before", self.predictor.predict(self.observed))

    @property
    def description(self) -> dict[str, Any]:
        """Judge, predictor, covariates, scales and weights."""
        weights = {name: getattr(self, name) for name in ("effective", "identity_kept", "minimal")}
        return {**self.predictor.describe("counterfactual soundness"), "weights": weights}

    def __call__(self, images: Tensor, covariates: Covariates) -> Tensor:
        """The weighted sum of the parts."""
        parts = self.parts(images, covariates)
        return sum((getattr(self, name) * part for name, part in parts.items()), torch.zeros(len(images)).double())

    def parts(self, images: Tensor, covariates: Covariates) -> dict[str, Tensor]:
        """The terms of the score, unweighted; a mean over no covariate is 0.

        Args:
            images: counterfactuals `[n, C, r, r]` in [0, 1], one per observation.
            covariates: encoded, `[n]` each: what they are to show.

        Returns:
            `effective`, `identity_kept` and `minimal`, `[n]` each, 0 or less.
        """
        if images.shape != self.observed.shape:
            raise InputError(
                f"images: of shape {tuple(images.shape)}; give one per observation, {tuple(self.observed.shape)}."
            )
        self.predictor.require("covariates", covariates)
        gained, moved, changed, kept = (torch.zeros(len(images), dtype=torch.float64) for _ in range(4))
        for name, after in self.predictor.predict(images).items():
            value, before = covariates[name], self.observed_covariates[name]
            known = self.predictor.known(name, value) & self.predictor.known(name, before)
            acts, rests = known & (value != before), known & (value == before)
            gained += acts * self.predictor.fidelity(name, after, value)
            moved += rests * self.predictor.change(name, after, self._before[name])
            changed, kept = changed + acts, kept + rests
        return {
            "effective": gained / changed.clamp(min=1),
            "identity_kept": -moved / kept.clamp(min=1),
            "minimal": -(images.double() - self.observed.double()).abs().mean(dim=(1, 2, 3)),
        }


class TruePixels:
    """Is the image the counterfactual? Minus its mean absolute difference to the exact one, in grey levels of 255.

    Args:
        truth: the exact counterfactuals float `[n, C, r, r]` in [0, 1], in the order of the images that are judged.
    """

    def __init__(self, truth: Tensor, name: str = "true_pixels") -> None:
        self.truth, self.name = truth.double(), name

    @property
    def description(self) -> dict[str, Any]:
        """Judge and truth."""
        digest = hashlib.sha256(self.truth.contiguous().numpy().tobytes()).hexdigest()[:16]
        return {"judge": "true pixels", "truth": digest}

    def __call__(self, images: Tensor, covariates: Covariates) -> Tensor:
        """Minus the difference, 0 or less; the covariates are not used, because the truth shows them."""
        if images.shape != self.truth.shape:
            raise InputError(
                f"images: of shape {tuple(images.shape)}; give one per counterfactual, {tuple(self.truth.shape)}."
            )
        return -255 * (images.double() - self.truth).abs().mean(dim=(1, 2, 3))


class Mixture:
    """Several judges at once, each on the scale of its own scores.

    Args:
        weights: by judge, above 0; they are scaled to sum 1.
        images: sets `[n, C, r, r]` in [0, 1], such as the first and the second images of all pairs. The mean m_j and
            standard deviation sd_j of each judge's scores over all of them are kept for every later call, so that
            scores of two calls can be compared.
        covariates: encoded, `[n]` each: what the images of every set are to show.

    Raises:
        InputError: where a judge gives all these images one score, or one that is not finite.
    """

    def __init__(
        self,
        weights: Mapping[Judge, float],
        images: Sequence[Tensor],
        covariates: Covariates,
        name: str = "mixture",
    ) -> None:
        if not weights or not all(math.isfinite(weight) and weight > 0 for weight in weights.values()):
            given = {judge.name: weight for judge, weight in weights.items()}
            raise InputError(f"weights: {given}; give one or more judges, each with a weight above 0.")
        self.name, total = name, sum(weights.values())
        self.weights = {judge: weight / total for judge, weight in weights.items()}
        self.standards: dict[Judge, tuple[float, float]] = {}
        for judge in weights:
            scores = torch.cat([judge(one, covariates).double() for one in images])
            if not torch.isfinite(scores).all():
                raise InputError(f"weights: judge {judge.name!r} gives scores that are not finite; leave it out.")
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
