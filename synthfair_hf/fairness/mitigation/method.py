"""A mitigation: empirical risk minimisation with one of five hooks changed.

    fit:            theta* = argmin over theta in trainable_parameters of  sum over rows of loss(theta; row, weight)
    predict_proba:  1 / (1 + e^-logit(x)), a score of the finding in (0, 1)

    rows                    which rows an epoch visits, and in what order      default: all, shuffled
    sample_weights          what each of them counts                           default: 1
    loss                    what is minimised                                  default: weighted mean cross-entropy
    trainable_parameters    what is changed                                    default: everything
    update                  how a step changes it                              default: one step of AdamW

The weights are those of the evaluation with the highest AUC on `validation`: rows set aside from `train` by subject,
and as biased as it is. That choice uses no group labels, and no method uses the test split. What a method requires
beside images and labels is declared in `required_annotations`.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from ...errors import InputError, invalid_settings, shown, unknown
from ...records import Record, library_versions, strictest
from ..classifier import (
    Batch,
    FittingSettings,
    LabelledImages,
    all_parameters,
    all_rows,
    equal_weights,
    fit_classifier,
    mean_loss,
    new_classifier,
    one_step,
    save_classifier,
)
from ..interface import Hook, TrainableClassifier, check_hooks

__all__ = ["Annotation", "GroupSettings", "Method", "present_groups", "probabilities"]

Annotation = Literal[
    "training groups", "validation groups", "groups at prediction", "training masks", "synthetic images"
]
"""What a method may require beside images and labels. Synthetic images come with all their covariates."""


class GroupSettings(FittingSettings):
    """Settings of a method that uses the groups of one `attribute`."""

    attribute: str = Field(min_length=1)


class Method:
    """Empirical risk minimisation, and the base of every mitigation.

    A subclass changes hooks, or, if it has more than one stage, `learn`; settings are keywords of the constructor.
    `fit` returns the method itself, with the network in `classifier` and, in `curve`, the AUC of each evaluation on
    validation in the last stage.

    Attributes:
        Settings: class of the settings.
        required_annotations: what the method requires beside images and labels.
        required_hooks: what it requires of a classifier beside a logit and parameters to train.
        version: raise it by one whenever the figures of the method change: its cells in a benchmark are then fitted
            anew, and those of its subclasses. Code that was only reworded, renamed or moved keeps its version.
        settings: the settings of this instance.
    """

    Settings: ClassVar[type[FittingSettings]] = FittingSettings
    required_annotations: ClassVar[tuple[Annotation, ...]] = ()
    required_hooks: ClassVar[tuple[Hook, ...]] = ()
    version: ClassVar[int] = 1

    def __init__(self, **settings: Any) -> None:
        try:
            self.settings = self.Settings(**settings)
        except ValidationError as error:
            raise invalid_settings(error, type(self).__name__, self.Settings.model_fields) from None
        self.fitted: TrainableClassifier | None = None
        self.curve: list[float] = []
        self._record: Record | None = None
        self._given: TrainableClassifier | None = None

    # -- the five hooks

    def rows(self, train: LabelledImages, generator: torch.Generator) -> Tensor:
        """Indices int64 of the rows that an epoch visits, in order, drawn from `generator`."""
        return all_rows(train, generator)

    def sample_weights(self, train: LabelledImages) -> Tensor:
        """Positive weights `[n]` of the rows of `train`; they are scaled to mean 1."""
        return equal_weights(train)

    def loss(self, classifier: TrainableClassifier, batch: Batch) -> Tensor:
        """The scalar that a step minimises."""
        return mean_loss(classifier, batch)

    def trainable_parameters(self, classifier: TrainableClassifier) -> Iterable[nn.Parameter]:
        """The parameters that a step updates."""
        return all_parameters(classifier)

    def update(self, optimizer: torch.optim.Optimizer, gradients: Callable[[], None]) -> None:
        """One step: `gradients` sets the gradients of the step's batch, at the weights as they are then."""
        one_step(optimizer, gradients)

    # -- for the caller

    def fit(
        self,
        train: LabelledImages,
        validation: LabelledImages,
        seed: int,
        synthetic: LabelledImages | None = None,
        classifier: TrainableClassifier | None = None,
    ) -> Self:
        """Fit on `train`, selecting the weights on `validation`.

        Args:
            train: rows to learn from.
            validation: rows of other subjects than `train`, from the same distribution.
            seed: decides the first weights, the order of rows and their shifts; equal seeds give equal weights.
            synthetic: synthetic rows, given if and only if `required_annotations` has "synthetic images".
            classifier: the fit starts from a copy of it, whose setting `channels` is then not used; by default from a
                new `ImageClassifier`.

        Returns:
            The method itself, fitted.

        Raises:
            InputError: a set has rows of one class only, subjects are shared, or an attribute, masks or synthetic rows
                that the method requires are missing, or the classifier lacks a hook that it requires.
        """
        if (synthetic is not None) != ("synthetic images" in self.required_annotations):
            need = "requires them; give them" if synthetic is None else "does not use them; leave them out"
            raise InputError(f"synthetic: {type(self).__name__} {need}.")
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
        self._given = classifier
        if classifier is not None and not hasattr(classifier, "initial"):
            raise InputError(
                f"classifier: {shown(classifier)} is none to fit; open it by open_classifier, or give "
                "AdaptedClassifier(network)."
            )
        if classifier is not None:
            check_hooks(classifier.initial(train, seed), self.required_hooks, type(self).__name__)
        self.fitted = self.learn(train, validation, seed, synthetic).eval()
        accesses = [one.access for one in sets.values()] + ([] if classifier is None else [classifier.access])
        self._record = Record(
            stage="fit_classifier",
            inputs={
                **{name: one.fingerprint for name, one in sets.items()},
                **{f"{key} of {name}": value for name, one in sets.items() for key, value in one.recipe.items()},
                **({} if classifier is None else {"classifier": classifier.fingerprint}),
                "access": strictest(*accesses),
            },
            settings={"method": type(self).__name__, "seed": seed, **self.settings.model_dump(mode="json")},
            versions=library_versions(),
            counts={"rows": {name: len(one) for name, one in sets.items()}},
            measured={"validation_auc": max(self.curve)},
        )
        return self

    def learn(
        self, train: LabelledImages, validation: LabelledImages, seed: int, synthetic: LabelledImages | None
    ) -> TrainableClassifier:
        """The stages of a fit, with the arguments of `fit`; by default one call of `optimise`."""
        return self.optimise(train, validation, seed)

    def initial(self, train: LabelledImages, seed: int) -> TrainableClassifier:
        """The network that a fit starts from: a copy of the classifier given to `fit`, or a new `ImageClassifier`."""
        if self._given is None:
            return new_classifier(train, self.settings, seed)
        return self._given.initial(train, seed)

    def optimise(
        self, train: LabelledImages, validation: LabelledImages, seed: int, start: TrainableClassifier | None = None
    ) -> TrainableClassifier:
        """One stage of training with the hooks.

        Args:
            train: rows to learn from.
            validation: rows to select the weights on.
            seed: decides the first weights, the order of rows and their shifts.
            start: a network to train on, in place; by default that of `initial`.

        Returns:
            The network, with the weights of the best evaluation.
        """
        classifier = self.initial(train, seed) if start is None else start
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
            update=self.update,
        )
        return classifier

    def empirical_risk_minimisation(self, **changes: Any) -> "Method":
        """Empirical risk minimisation with this method's settings, some of them changed, as the first of two stages."""
        plain = {name: getattr(self.settings, name) for name in FittingSettings.model_fields}
        first = Method(**{**plain, **changes})
        first._given = self._given
        return first

    @property
    def classifier(self) -> TrainableClassifier:
        """The fitted network; InputError before `fit`."""
        if self.fitted is None:
            raise InputError(f"{type(self).__name__}: not fitted yet; call fit first.")
        return self.fitted

    def predict_proba(self, images: Tensor, groups: Mapping[str, Tensor] | None = None) -> np.ndarray:
        """Predict the probability of the finding.

        Args:
            images: uint8 `[n, C, r, r]`.
            groups: by attribute, int64 `[n]`; used only by methods that require groups at prediction.

        Returns:
            Scores float64 `[n]` in [0, 1].
        """
        return probabilities(self.classifier.logits(images))

    def save(self, directory: str | Path) -> None:
        """Write the fitted network and its record, for `load_classifier`."""
        classifier = self.classifier
        assert self._record is not None, "a fitted method has a record"
        save_classifier(classifier, directory, self._record)

    def _sets_with_groups(self) -> list[str]:
        needed = {"training groups": "train", "validation groups": "validation", "synthetic images": "synthetic"}
        return [name for annotation, name in needed.items() if annotation in self.required_annotations]


def present_groups(examples: LabelledImages, attribute: str) -> tuple[Tensor, int]:
    """Number the groups that occur.

    Args:
        examples: `n` rows.
        attribute: one of their attributes.

    Returns:
        The group of each row, int64 `[n]` in 0 ... G - 1, and the number G of groups that occur.
    """
    found, codes = examples.groups[attribute].unique(return_inverse=True)
    return codes, len(found)


def probabilities(logits: Tensor) -> np.ndarray:
    """1 / (1 + e^-logit) as float64 `[n]`."""
    return logits.double().sigmoid().numpy()
