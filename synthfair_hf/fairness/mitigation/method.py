"""A mitigation: empirical risk minimisation with one of four hooks changed.

    fit:            theta* = argmin over theta in trainable_parameters of  sum over rows of loss(theta; row, weight)
    predict_proba:  1 / (1 + e^-logit(x)), a score of the finding in (0, 1)

    rows                    which rows an epoch visits, and in what order      default: all, shuffled
    sample_weights          what each of them counts                           default: 1
    loss                    what is minimised                                  default: weighted mean cross-entropy
    trainable_parameters    what is changed                                    default: everything

The weights are those of the step with the highest area under the curve on `validation`: rows set aside from `train` by
subject, as biased as it is. No method sees a group label for that choice, and none sees the test. What else a method is
shown is declared in `sees`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from ...errors import InputError, invalid_settings, unknown
from ...records import Record, library_versions
from ..classifier import (
    Batch,
    FittingSettings,
    ImageClassifier,
    LabelledImages,
    all_parameters,
    all_rows,
    equal_weights,
    fit_classifier,
    mean_loss,
    new_classifier,
    save_classifier,
)

__all__ = ["GroupSettings", "Method", "Shown", "present_groups", "probabilities"]

Shown = Literal["training groups", "validation groups", "groups at prediction", "training masks", "synthetic images"]
"""What a method is shown beside images and labels. Synthetic images come with all their covariates."""


class GroupSettings(FittingSettings):
    """Settings of a method that looks at one attribute."""

    attribute: str = Field(min_length=1)


class Method:
    """Empirical risk minimisation, and the base of every mitigation.

    A subclass changes hooks, or, where it has more than one stage, `learn`; settings are keywords of the constructor.
    `fit` returns the method itself, with the network in `classifier` and, in `curve`, the areas under the curve on
    validation of the last stage.
    """

    Settings: ClassVar[type[FittingSettings]] = FittingSettings
    sees: ClassVar[tuple[Shown, ...]] = ()
    version: ClassVar[int] = 1
    """Raise it by one whenever the method's figures change: its cells in a benchmark are then fitted anew, and those
    of its subclasses. Changed words, names and places of code are no reason to."""

    def __init__(self, **settings: Any) -> None:
        try:
            self.settings = self.Settings(**settings)
        except ValidationError as error:
            raise invalid_settings(error, type(self).__name__, self.Settings.model_fields) from None
        self.fitted: ImageClassifier | None = None
        self.curve: list[float] = []
        self._record: Record | None = None

    # -- the four hooks

    def rows(self, train: LabelledImages, generator: torch.Generator) -> Tensor:
        """Places int64 of one epoch's rows, in order."""
        return all_rows(train, generator)

    def sample_weights(self, train: LabelledImages) -> Tensor:
        """Positive weights `[n]`; they are scaled to mean 1."""
        return equal_weights(train)

    def loss(self, classifier: ImageClassifier, batch: Batch) -> Tensor:
        """What a step minimises, a scalar."""
        return mean_loss(classifier, batch)

    def trainable_parameters(self, classifier: ImageClassifier) -> Iterable[nn.Parameter]:
        """What a step changes."""
        return all_parameters(classifier)

    # -- what the caller sees

    def fit(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None = None
    ) -> Self:
        """Fit on `train`, choosing the step on `validation`.

        validation: rows of other subjects than `train`, from the same distribution.
        seed: decides the first weights, the order of rows and their shifts; equal seeds give equal weights.
        synthetic: given if and only if the method sees synthetic images.

        Raises InputError where one class is alone, subjects are shared, or an attribute the method needs is absent.
        """
        if (synthetic is not None) != ("synthetic images" in self.sees):
            need = "give them" if synthetic is None else "leave them out"
            raise InputError(f"synthetic: {type(self).__name__} sees {', '.join(self.sees) or 'labels alone'}; {need}.")
        shared = set(train.subjects.tolist()) & set(validation.subjects.tolist())
        if shared:
            raise InputError(
                f"validation: {len(shared)} subjects are also in train (such as {min(shared)!r}); split by subject."
            )
        sets = {"train": train, "validation": validation}
        sets |= {} if synthetic is None else {"synthetic": synthetic}
        if isinstance(self.settings, GroupSettings):
            for name in self._sets_with_groups():
                if self.settings.attribute not in sets[name].groups:
                    raise unknown(f"attribute (groups of {name})", self.settings.attribute, sets[name].groups)
        self.fitted = self.learn(train, validation, seed, synthetic).eval()
        self._record = Record(
            stage="fit_classifier",
            inputs={
                **{name: one.fingerprint for name, one in sets.items()},
                **{f"{key} of {name}": value for name, one in sets.items() for key, value in one.recipe.items()},
            },
            settings={"method": type(self).__name__, "seed": seed, **self.settings.model_dump(mode="json")},
            versions=library_versions(),
            counts={"rows": {name: len(one) for name, one in sets.items()}},
            measured={"validation_auc": max(self.curve)},
        )
        return self

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> ImageClassifier:
        """The stages of a fit; one call of `optimise` by default."""
        return self.optimise(train, validation, seed)

    def optimise(
        self, train: LabelledImages, validation: LabelledImages, seed: int, start: ImageClassifier | None = None
    ) -> ImageClassifier:
        """One stage under the hooks, from weights drawn from `seed` or from those of `start`, which it changes."""
        classifier = new_classifier(train, self.settings, seed) if start is None else start
        self.curve = fit_classifier(
            classifier,
            train,
            validation,
            self.settings,
            seed,
            rows=self.rows,
            sample_weights=self.sample_weights,
            loss=self.loss,
            trainable_parameters=self.trainable_parameters,
        )
        return classifier

    def empirical_risk_minimisation(self, **changes: Any) -> "Method":
        """The plain method under this one's settings, some of them changed: a first stage of others."""
        plain = {name: getattr(self.settings, name) for name in FittingSettings.model_fields}
        return Method(**{**plain, **changes})

    @property
    def classifier(self) -> ImageClassifier:
        """The fitted network."""
        if self.fitted is None:
            raise InputError(f"{type(self).__name__}: not fitted yet; call fit first.")
        return self.fitted

    def predict_proba(self, images: Tensor, groups: Mapping[str, Tensor] | None = None) -> np.ndarray:
        """Scores float64 `[n]` in [0, 1] that images uint8 `[n, 1, r, r]` show the finding.

        groups: by attribute, int64 `[n]`; looked at by methods that see groups at prediction alone.
        """
        return probabilities(self.classifier.logits(images))

    def save(self, directory: str | Path) -> None:
        """Write the fitted network and its record, for `load_classifier`."""
        classifier = self.classifier
        assert self._record is not None, "a fitted method has a record"
        save_classifier(classifier, directory, self._record)

    def _sets_with_groups(self) -> list[str]:
        needed = {"training groups": "train", "validation groups": "validation", "synthetic images": "synthetic"}
        return [name for shown, name in needed.items() if shown in self.sees]


def present_groups(examples: LabelledImages, attribute: str) -> tuple[Tensor, int]:
    """Each row's group as int64 `[n]`, numbered over the groups that occur, and how many these are."""
    found, codes = examples.groups[attribute].unique(return_inverse=True)
    return codes, len(found)


def probabilities(logits: Tensor) -> np.ndarray:
    """1 / (1 + e^-logit) as float64 `[n]`."""
    return logits.double().sigmoid().numpy()
