"""Soundness of counterfactuals: axioms, and the exact counterfactual where it is known, for any CounterfactualModel.

    composition_l1            d(f_0^m(x), x), m = 1 and 10              f_0: no intervention
    factual_l1                d(do(a = the value a has), x)
    reversibility_l1          d(do(a) after do(a'), x)                  back from the counterfactual with its covariates
    commutativity_l1          d(do(b) after do(a), do(a) after do(b))
    true_l1, true_ssim        d(x*, x*_true)                            where the world knows x*_true
    mae, accuracy, auc        g_k(x*) against k*, for every k           g_k: predicts attribute k, or measures it
    delta_mae, delta_auc      the same less g_k's own figure on the real images
    share_of_gap              `gap`: the shift of g_a by do(a) over its difference among real images
    nondescendants_changed    share of images of which do(a) changed a covariate that a does not cause; must be 0
    minimality                `distances.minimality` of x and x*
    total_, direct_, indirect_effect
                              E[g(a', z(a')) - g(a, z(a))], E[g(a', z(a)) - g(a, z(a))], E[g(a, z(a')) - g(a, z(a))]
                              from a contrast (a, a'); z(a): what a causes, as it is under do(a)

d is the mean absolute difference over pixels on the 0-255 scale.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any, get_args

import numpy as np
from torch import Tensor

from ..domains.worlds import Counterfactuals, Table, World
from ..errors import InputError, unknown
from ..schema import AttributePredictor, Predictions, Schema
from .distances import l1, minimality, ssim
from .gap import real_gap, share_of_gap
from .intervals import Estimate, Statistic, area_under_curve, bootstrap, mean_of
from .interventions import INTERVENTIONS, Effect, bins, hold
from .systems import CounterfactualModel, answer

__all__ = ["MEASURED", "Encoder", "check_interventions", "score", "tidy_row"]

MEASURED = "ruler"
"""What records call the measurement of an attribute without learning, in place of a predictor's name."""

Encoder = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images -> mean and log standard deviation `[n, d]` of a trained encoder's posterior."""


def score(
    model: CounterfactualModel,
    world: World,
    predictors: Mapping[str, AttributePredictor],
    seeds: Sequence[int],
    names: Sequence[str] | None = None,
    interventions: Sequence[str] = ("from_marginal",),
    effect: Effect = "total",
    cycles: Sequence[int] = (1, 10),
    pairs: Sequence[tuple[str, str]] | None = None,
    contrasts: Mapping[str, tuple[Any, Any]] | None = None,
    encoder: Encoder | None = None,
    batch_size: int = 32,
    n_bootstrap: int = 1000,
) -> list[dict[str, Any]]:
    """Every metric of this module for one system in one world, as tidy rows.

    Where the world knows no exact counterfactual, k* is the system's own covariate of x*.

    Args:
        model: the system.
        world: the images.
        predictors: of attributes, by name.
        seeds: of the values of do(), distinct, 0 or more; what does not depend on them is measured once.
        names: the variables that are intervened on; all by default.
        interventions: how the values of do() are chosen, of `interventions.INTERVENTIONS`.
        effect: "total": what do() causes follows; "direct": it is held.
        cycles: numbers of reconstructions after which composition is measured.
        pairs: variables whose do()s are exchanged in order; all pairs by default, except, in effect "total", where one
            causes the other: the order then matters.
        contrasts: by name of a variable, two values whose direct, indirect and total effect on predictions is measured.
        encoder: trained, for minimality; not measured without.
        batch_size: images per call of the system.
        n_bootstrap: number of bootstrap replicates of every interval.

    Returns:
        Rows of system, world, metric, do, attribute, by ("pixels", "covariates", "encoder", the name of a predictor, or
        MEASURED where the attribute is measured without learning), intervention, effect, and the figure with its
        interval (`intervals.Estimate`). Rows of do = "none" are the predictors' own figures on the real images.

    Raises:
        InputError: for arguments that are not allowed, and counterfactuals that are not (`systems.answer`).
    """
    names = world.covariates.names if names is None else names
    contrasts = contrasts or {}
    if pairs is None:
        pairs = [pair for pair in combinations(names, 2) if effect == "direct" or not _related(world, *pair)]
    check_interventions(world.covariates, seeds, interventions, effect, pairs, (*names, *contrasts))
    pairs = [(one, other) for one, other in pairs]
    if batch_size < 1 or min(cycles, default=1) < 1:
        raise InputError(f"batch_size, cycles: {batch_size}, {list(cycles)} must be positive.")
    variables = list(dict.fromkeys((*names, *sum(pairs, ()))))
    plans = [
        (intervention, {name: INTERVENTIONS[intervention](world, name, seed) for name in variables})
        for intervention in interventions
        for seed in seeds
    ]
    evaluation = _Evaluation(model, world, predictors, effect, encoder, batch_size)
    evaluation.composition(cycles)
    for name in names:
        evaluation.factual(name)
    evaluated: set[str] = set()
    for intervention, values in plans:
        # With two levels forced_change has no choice; equal interventions give equal counterfactuals, so one is enough.
        keys = {name: json.dumps([intervention, name, values[name]]) for name in variables}
        new = {name for name, key in keys.items() if key not in evaluated}
        evaluated.update(keys.values())
        open_pairs = [pair for pair in pairs if not new.isdisjoint(pair)]
        # What starts from one counterfactual is evaluated in sequence, so that a system may cache its abduction.
        for name in variables:
            onward = [pair for pair in open_pairs if name in pair]
            if name not in new and not onward:
                continue
            changed = evaluation.step({name: values[name]})
            if name in new and name in names:
                evaluation.single(name, values[name], changed, intervention)
            for pair in onward:
                (other,) = set(pair) - {name}
                evaluation.commute(pair, evaluation.step({other: values[other]}, changed), intervention)
    for name, contrast in contrasts.items():
        evaluation.mediate(name, *contrast)
    return evaluation.rows(n_bootstrap)


def check_interventions(
    covariates: Schema,
    seeds: Sequence[int],
    interventions: Sequence[str] = (),
    effect: str = "total",
    pairs: Sequence[tuple[str, str]] | None = None,
    names: Sequence[str] = (),
) -> None:
    """Raise InputError for arguments of `score` that are not allowed, before there is a world or a system.

    Args:
        covariates: the schema.
        seeds: as of `score`.
        interventions: as of `score`.
        effect: as of `score`.
        pairs: as of `score`.
        names: of variables that are intervened on.
    """
    for name in names:
        covariates[name]
    for pair in pairs or ():
        for name in pair:
            if name not in covariates:
                raise unknown("pairs", name, covariates.names)
        if len(pair) != 2 or pair[0] == pair[1]:
            raise InputError(f"pairs: {', '.join(pair)} is not a pair; give two different variables.")
    if len({frozenset(pair) for pair in pairs or ()}) != len(pairs or ()):
        raise InputError("pairs: one is given twice; give each once, in either order.")
    for intervention in interventions:
        if intervention not in INTERVENTIONS:
            raise unknown("interventions", intervention, INTERVENTIONS)
    if len(set(interventions)) != len(interventions):
        raise InputError(f"interventions: {', '.join(interventions)} names one twice; give each once.")
    if effect not in get_args(Effect):
        raise unknown("effect", effect, get_args(Effect))
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise InputError(f"seeds: {list(seeds)} must be one or more distinct integers from 0 on.")


def tidy_row(system: str, world: str, labels: Sequence[str], effect: str, estimate: Estimate) -> dict[str, Any]:
    """A figure as records hold it.

    Args:
        system: what was measured.
        world: where.
        labels: the metric; the variable that was intervened on, or "none"; what was looked at, a covariate or "image";
            what measured it; and how the values of do() were chosen.
        effect: "total" or "direct".
        estimate: the figure.
    """
    names = ("metric", "do", "attribute", "by", "intervention")
    named = dict(zip(names, labels, strict=True))
    return {"system": system, "world": world, **named, "effect": effect, **asdict(estimate)}


def _related(world: World, one: str, other: str) -> bool:
    return other in world.effects(one) or one in world.effects(other)


def _less(one: Statistic, other: Statistic) -> Statistic:
    return lambda weights: one(weights) - other(weights)


class _Evaluation:
    """The evaluation of one system in one world: by figure, one statistic for each seed."""

    def __init__(
        self,
        model: CounterfactualModel,
        world: World,
        predictors: Mapping[str, AttributePredictor],
        effect: Effect,
        encoder: Encoder | None,
        batch_size: int,
    ) -> None:
        self.model, self.world, self.effect, self.batch_size = model, world, effect, batch_size
        self.encoder, self.posterior = encoder, None if encoder is None else encoder(world.images)
        self.ends: dict[tuple[str, str], Tensor] = {}
        """By pair, the images of its first order, until those of the second are known."""
        self.predictors: dict[str, Callable[[Tensor], Predictions]] = {
            name: predictor.predict for name, predictor in predictors.items()
        }
        if world.measured_attributes:
            self.predictors[MEASURED] = lambda images: {
                name: measure(images) for name, measure in world.measured_attributes.items()
            }
        self.figures: dict[tuple[str, ...], list[tuple[Statistic, list[str]]]] = defaultdict(list)
        self.own: dict[tuple[str, str], Any] = {}
        """By predictor and attribute, its errors or its area under the curve on the real images."""
        self.real = {by: self.predict(by, world.images) for by in self.predictors}
        for by, real in self.real.items():
            self._compare(by, real, world.table, "none", "none")
            for name, predicted in real.items():
                gap = real_gap(world.covariates[name], self._adjusted(name), world.table, predicted)
                self.add("real_gap", gap, "none", "none", name, by)

    def add(
        self,
        metric: str,
        values: np.ndarray | Statistic,
        do: str,
        intervention: str = "none",
        attribute: str = "image",
        by: str = "pixels",
    ) -> None:
        """Add one seed of a figure: values of the images, of which NaN are left out, or a statistic of all of them."""
        groups = self.world.groups
        if isinstance(values, np.ndarray):
            defined = np.isfinite(values)
            groups = [group for group, kept in zip(groups, defined, strict=True) if kept]
            values = mean_of(values[defined].astype(np.float64))
        self.figures[metric, do, attribute, by, intervention].append((values, groups))

    def rows(self, n_bootstrap: int) -> list[dict[str, Any]]:
        """Figures with their intervals."""
        rows = []
        for labels, parts in self.figures.items():
            estimate = bootstrap(
                [statistic for statistic, _ in parts], [groups for _, groups in parts], n_bootstrap=n_bootstrap
            )
            rows.append(tidy_row(self.model.name, self.world.name, labels, self.effect, estimate))
        return rows

    def intervene(self, do: Table, state: Counterfactuals | None = None) -> Counterfactuals:
        """The system's counterfactuals of the observations, or of earlier counterfactuals."""
        images, covariates = state or (self.world.images, self.world.table)
        return answer(self.model, self.world, images, covariates, do, self.batch_size)

    def step(self, do: Table, state: Counterfactuals | None = None) -> Counterfactuals:
        """The same, with descendants held in effect "direct"."""
        table = self.world.table if state is None else state.covariates
        return self.intervene(hold(self.world, do, table, self.effect), state)

    def predict(self, by: str, images: Tensor) -> Predictions:
        """Predictions of the world's covariates, checked to be finite and of their shape."""
        predicted = {name: np.asarray(one) for name, one in self.predictors[by](images).items()}
        predicted = {name: predicted[name] for name in self.world.covariates.names if name in predicted}
        for name, one in predicted.items():
            variable = self.world.covariates[name]
            shape = (len(images), len(variable.levels)) if variable.categorical else (len(images),)
            if one.shape != shape or not np.isfinite(one).all():
                raise InputError(
                    f"{by}: predicted {name} of images of {self.model.name} as {list(one.shape)} with "
                    f"{np.sum(~np.isfinite(one))} not finite; must be {list(shape)}, finite."
                )
        return predicted

    def composition(self, cycles: Sequence[int]) -> None:
        """Repeated reconstruction without intervention."""
        state = Counterfactuals(self.world.images, dict(self.world.table))
        for cycle in range(1, max(cycles, default=0) + 1):
            state = Counterfactuals(self.intervene({}, state).images, state.covariates)
            if cycle in cycles:
                self.add(f"composition_l1_at_{cycle}", l1(state.images, self.world.images), "none")

    def factual(self, name: str) -> None:
        """do() of the observed value."""
        same = self.step({name: self.world.table[name]})
        self.add("factual_l1", l1(same.images, self.world.images), name, "factual")

    def single(self, name: str, values: list[Any], changed: Counterfactuals, intervention: str) -> None:
        """Metrics of one do() with one seed."""
        world = self.world
        truth = world.truth(hold(world, {name: values}, world.table, self.effect))
        if truth is not None:
            self.add("true_l1", l1(changed.images, truth.images), name, intervention)
            self.add("true_ssim", ssim(changed.images, truth.images), name, intervention)
        target = changed.covariates if truth is None else truth.covariates
        for by in self.predictors:
            predicted = self.predict(by, changed.images)
            self._compare(by, predicted, target, name, intervention)
            if name in predicted:
                share = share_of_gap(
                    world.covariates[name],
                    self._adjusted(name),
                    world.table,
                    values,
                    self.real[by][name],
                    predicted[name],
                )
                self.add("share_of_gap", share, name, intervention, name, by)
        kept = set(world.covariates.names) - {name, *world.effects(name)}
        before, after = (
            world.covariates.subset(kept).encode({one: table[one] for one in kept})
            for table in (world.table, changed.covariates)
        )
        moved = np.any([before[one] != after[one] for one in kept] or [[False] * len(values)], axis=0)
        self.add("nondescendants_changed", moved.astype(float), name, intervention, "covariates", "covariates")
        back = self.step({name: world.table[name]}, changed)
        self.add("reversibility_l1", l1(back.images, world.images), name, intervention)
        if self.encoder is not None and self.posterior is not None:
            levels = (bins(world, name, world.table[name]), bins(world, name, values))
            divergent = minimality(self.posterior, self.encoder(changed.images), *levels)
            self.add("minimality", divergent, name, intervention, by="encoder")

    def commute(self, pair: tuple[str, str], end: Counterfactuals, intervention: str) -> None:
        """The end of two do()s in one order; the second order of a pair is compared with its first."""
        if pair in self.ends:
            self.add("commutativity_l1", l1(self.ends.pop(pair), end.images), ", ".join(pair), intervention)
        else:
            self.ends[pair] = end.images

    def mediate(self, name: str, low: Any, high: Any) -> None:
        """Natural effects of low -> high on predictions (of a level, on its probability)."""
        n = len(self.world.images)
        before, after = (self.intervene({name: [value] * n}) for value in (low, high))
        caused = self.world.effects(name)
        mixed = {
            metric: self.intervene({**{one: state.covariates[one] for one in caused}, name: [value] * n})
            for metric, value, state in (("direct_effect", high, before), ("indirect_effect", low, after))
        }
        for by in self.predictors:
            start = self.predict(by, before.images)
            for metric, state in {"total_effect": after, **mixed}.items():
                for attribute, one in self.predict(by, state.images).items():
                    change = one - start[attribute]
                    levels = self.world.covariates[attribute].levels
                    columns = (
                        {attribute: change}
                        if not levels
                        else {f"{attribute}={level}": change[:, code] for code, level in enumerate(levels) if code}
                    )
                    for label, column in columns.items():
                        self.add(metric, column, name, f"{low} -> {high}", label, by)

    def _adjusted(self, name: str) -> Schema:
        """What real images are compared at: all other covariates, or, where they follow, those that `name` leaves."""
        following = self.world.effects(name) if self.effect == "total" else ()
        return self.world.covariates.subset(set(self.world.covariates.names) - {name, *following})

    def _compare(self, by: str, predictions: Predictions, target: Table, do: str, intervention: str) -> None:
        """Predictions against the values that the images should show."""
        for attribute, predicted in predictions.items():
            variable = self.world.covariates[attribute]
            truth, labels = variable.encode(target[attribute]), (do, intervention, attribute, by)
            if variable.categorical:
                self.add("accuracy", (predicted.argmax(axis=1) == truth).astype(float), *labels)
                curve = area_under_curve(predicted, truth)
                self.add("auc", curve, *labels)
                own = self.own.setdefault((by, attribute), curve)
                if do != "none":
                    self.add("delta_auc", _less(curve, own), *labels)
            else:
                errors = np.abs(predicted - truth)
                self.add("mae", errors, *labels)
                own = self.own.setdefault((by, attribute), errors)
                if do != "none":
                    self.add("delta_mae", errors - own, *labels)
