"""Is a counterfactual sound? Axioms and known truth, for anything that answers `counterfactual(image, covariates, do)`.

    composition_l1            d(f_0^m(x), x), m = 1 and 10              f_0: do nothing
    factual_l1                d(do(a = the value a has), x)
    reversibility_l1          d(do(a) after do(a'), x)                  back from the counterfactual with its covariates
    commutativity_l1          d(do(b) after do(a), do(a) after do(b))
    true_l1, true_ssim        d(x*, x*_true)                            where the world knows x*_true
    mae, accuracy, auc        g_k(x*) against k*, for every k           g_k: a predictor of attribute k, or a ruler
    delta_mae, delta_auc      the same less g_k's own figure on the real images
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
from .intervals import Statistic, area_under_curve, bootstrap, mean_of
from .interventions import INTERVENTIONS, Effect, bins, hold
from .systems import CounterfactualModel, answer

__all__ = ["Encoder", "check_questions", "score"]

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

    A row has system, world, metric, do, attribute, by ("pixels", "ruler", "covariates", "encoder" or the name of a
    predictor), intervention, effect, and the figure with its interval: mean, low, high, n, groups, seeds. Rows of
    do = "none" are the readers' own figures on the real images. Seeds choose the values of do(); what does not depend
    on them is measured once. Where the world knows no truth, k* is what the system itself claims of x*.

    names: the variables to intervene on; all by default.
    pairs: which of them to commute; all pairs by default, save, in effect "total", where one causes the other: the
        order then matters in truth.
    contrasts: two values of a variable, by name, for its direct, indirect and total effect on what predictors read.
    encoder: for minimality, which needs a trained one.
    """
    names = world.covariates.names if names is None else names
    contrasts = contrasts or {}
    if pairs is None:
        pairs = [pair for pair in combinations(names, 2) if effect == "direct" or not _related(world, *pair)]
    check_questions(world.covariates, seeds, interventions, effect, pairs, (*names, *contrasts))
    pairs = [(one, other) for one, other in pairs]
    if batch_size < 1 or min(cycles, default=1) < 1:
        raise InputError(f"batch_size, cycles: {batch_size}, {list(cycles)} must be positive.")
    variables = list(dict.fromkeys((*names, *sum(pairs, ()))))
    plans = [
        (intervention, {name: INTERVENTIONS[intervention](world, name, seed) for name in variables})
        for intervention in interventions
        for seed in seeds
    ]
    session = _Session(model, world, predictors, effect, encoder, batch_size)
    session.composition(cycles)
    for name in names:
        session.factual(name)
    asked: set[str] = set()
    for intervention, values in plans:
        # Two levels leave forced_change no choice: what a system has answered once it answers again alike.
        questions = {name: json.dumps([intervention, name, values[name]]) for name in variables}
        new = {name for name, question in questions.items() if question not in asked}
        asked.update(questions.values())
        open_pairs = [pair for pair in pairs if not new.isdisjoint(pair)]
        # All that starts from one answer is asked in a row, so that a system may remember what it abducted from it.
        for name in variables:
            onward = [pair for pair in open_pairs if name in pair]
            if name not in new and not onward:
                continue
            changed = session.step({name: values[name]})
            if name in new and name in names:
                session.intervene(name, values[name], changed, intervention)
            for pair in onward:
                (other,) = set(pair) - {name}
                session.commute(pair, session.step({other: values[other]}, changed), intervention)
    for name, contrast in contrasts.items():
        session.mediate(name, *contrast)
    return session.rows(n_bootstrap)


def check_questions(
    covariates: Schema,
    seeds: Sequence[int],
    interventions: Sequence[str] = (),
    effect: str = "total",
    pairs: Sequence[tuple[str, str]] | None = None,
    names: Sequence[str] = (),
) -> None:
    """Refuse what `score` can't be asked about these covariates, while there is neither world nor system yet."""
    for name in names:
        covariates[name]
    for pair in pairs or ():
        for name in pair:
            if name not in covariates:
                raise unknown("pairs", name, covariates.names)
        if len(pair) != 2 or pair[0] == pair[1]:
            raise InputError(f"pairs: {', '.join(pair)} is no pair; give two different variables.")
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


def _related(world: World, one: str, other: str) -> bool:
    return other in world.effects(one) or one in world.effects(other)


def _less(one: Statistic, other: Statistic) -> Statistic:
    return lambda weights: one(weights) - other(weights)


class _Session:
    """One system in one world: asks, and keeps per figure one statistic for each seed."""

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
        """By pair, where its first order led, until the second is known."""
        self.readers: dict[str, Callable[[Tensor], Predictions]] = {
            name: predictor.predict for name, predictor in predictors.items()
        }
        if world.measured_attributes:
            self.readers["ruler"] = lambda images: {
                name: ruler(images) for name, ruler in world.measured_attributes.items()
            }
        self.figures: dict[tuple[str, ...], list[tuple[Statistic, list[str]]]] = defaultdict(list)
        self.own: dict[tuple[str, str], Any] = {}
        """By reader and attribute: its errors, or its area under the curve, on the real images."""
        for by in self.readers:
            self._compare(by, world.images, world.table, "none", "none")

    def add(
        self,
        metric: str,
        values: np.ndarray | Statistic,
        do: str,
        intervention: str = "none",
        attribute: str = "image",
        by: str = "pixels",
    ) -> None:
        """One seed of a figure: values of the images, of which NaN are left out, or a statistic of all of them."""
        groups = self.world.groups
        if isinstance(values, np.ndarray):
            defined = np.isfinite(values)
            groups = [group for group, kept in zip(groups, defined, strict=True) if kept]
            values = mean_of(values[defined].astype(np.float64))
        self.figures[metric, do, attribute, by, intervention].append((values, groups))

    def rows(self, n_bootstrap: int) -> list[dict[str, Any]]:
        """Figures with their intervals."""
        rows = []
        for (metric, do, attribute, by, intervention), parts in self.figures.items():
            labels = {"metric": metric, "do": do, "attribute": attribute, "by": by, "intervention": intervention}
            estimate = bootstrap(
                [statistic for statistic, _ in parts], [groups for _, groups in parts], n_bootstrap=n_bootstrap
            )
            names = {"system": self.model.name, "world": self.world.name}
            rows.append({**names, **labels, "effect": self.effect, **asdict(estimate)})
        return rows

    def ask(self, do: Table, state: Counterfactuals | None = None) -> Counterfactuals:
        """The system's answer to do, from the observations or from an earlier answer."""
        images, covariates = state or (self.world.images, self.world.table)
        return answer(self.model, self.world, images, covariates, do, self.batch_size)

    def step(self, do: Table, state: Counterfactuals | None = None) -> Counterfactuals:
        """The same, with what do causes held where it is in effect "direct"."""
        table = self.world.table if state is None else state.covariates
        return self.ask(hold(self.world, do, table, self.effect), state)

    def read(self, by: str, images: Tensor) -> Predictions:
        """Finite readings of the world's covariates."""
        reading = {name: np.asarray(read) for name, read in self.readers[by](images).items()}
        reading = {name: reading[name] for name in self.world.covariates.names if name in reading}
        for name, read in reading.items():
            variable = self.world.covariates[name]
            shape = (len(images), len(variable.levels)) if variable.categorical else (len(images),)
            if read.shape != shape or not np.isfinite(read).all():
                raise InputError(
                    f"{by}: read {name} of images of {self.model.name} as {list(read.shape)} with "
                    f"{np.sum(~np.isfinite(read))} not finite; must be {list(shape)}, finite."
                )
        return reading

    def composition(self, cycles: Sequence[int]) -> None:
        """do() nothing, over and over."""
        state = Counterfactuals(self.world.images, dict(self.world.table))
        for cycle in range(1, max(cycles, default=0) + 1):
            state = Counterfactuals(self.ask({}, state).images, state.covariates)
            if cycle in cycles:
                self.add(f"composition_l1_at_{cycle}", l1(state.images, self.world.images), "none")

    def factual(self, name: str) -> None:
        """do() what is."""
        same = self.step({name: self.world.table[name]})
        self.add("factual_l1", l1(same.images, self.world.images), name, "factual")

    def intervene(self, name: str, values: list[Any], changed: Counterfactuals, intervention: str) -> None:
        """All that one do() with one seed shows."""
        world = self.world
        truth = world.truth(hold(world, {name: values}, world.table, self.effect))
        if truth is not None:
            self.add("true_l1", l1(changed.images, truth.images), name, intervention)
            self.add("true_ssim", ssim(changed.images, truth.images), name, intervention)
        target = changed.covariates if truth is None else truth.covariates
        for by in self.readers:
            self._compare(by, changed.images, target, name, intervention)
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
        """Natural effects of low -> high on what each reader reads (probability of each level but the first)."""
        n = len(self.world.images)
        before, after = (self.ask({name: [value] * n}) for value in (low, high))
        caused = self.world.effects(name)
        mixed = {
            metric: self.ask({**{one: state.covariates[one] for one in caused}, name: [value] * n})
            for metric, value, state in (("direct_effect", high, before), ("indirect_effect", low, after))
        }
        for by in self.readers:
            start = self.read(by, before.images)
            for metric, state in {"total_effect": after, **mixed}.items():
                for attribute, read in self.read(by, state.images).items():
                    change = read - start[attribute]
                    levels = self.world.covariates[attribute].levels
                    columns = (
                        {attribute: change}
                        if not levels
                        else {f"{attribute}={level}": change[:, code] for code, level in enumerate(levels) if code}
                    )
                    for label, column in columns.items():
                        self.add(metric, column, name, f"{low} -> {high}", label, by)

    def _compare(self, by: str, images: Tensor, target: Table, do: str, intervention: str) -> None:
        """Readings against the values that the images should show."""
        for attribute, read in self.read(by, images).items():
            variable = self.world.covariates[attribute]
            truth, labels = variable.encode(target[attribute]), (do, intervention, attribute, by)
            if variable.categorical:
                self.add("accuracy", (read.argmax(axis=1) == truth).astype(float), *labels)
                curve = area_under_curve(read, truth)
                self.add("auc", curve, *labels)
                own = self.own.setdefault((by, attribute), curve)
                if do != "none":
                    self.add("delta_auc", _less(curve, own), *labels)
            else:
                errors = np.abs(read - truth)
                self.add("mae", errors, *labels)
                own = self.own.setdefault((by, attribute), errors)
                if do != "none":
                    self.add("delta_mae", errors - own, *labels)
