"""A structural causal model of the covariates: a graph, and one mechanism per variable.

    observe         sample_noise -> evaluate
    intervene       evaluate(noise, do)
    counterfactual  abduct (the noise that made these values) -> act (do) -> predict (evaluate the descendants)

Covariates and their noise are small and live on the CPU, whatever device the mechanisms are on. Mechanisms stay float32
whatever precision the rest of a pipeline has: abduction undoes what they compute.

Laws: do() of no variable is the identity; what is not a descendant of the intervention stays bit-equal.

A variable may be unobserved at some sites (`schema.Variable.unobserved_at`), as where several sources are one. There it
is missing: in what is drawn, and to the mechanisms of its effects, which are fitted on those rows without it. It has a
value all the same, from its own mechanism and its noise, of which nothing is known there but the prior; under do() of
another site only mechanisms of what the site causes are given it. Whatever else a person has stays bit-equal then,
known or missing.

Levels of a person that are unknown are drawn from their posterior, which what is known of the person decides:

    p(unknown | known)  ~  product of p(x | causes of x)  over the unknown ones and their effects

Every combination of them is weighed, so that the posterior is exact. Then the noise is abducted as if they were known.
Effects follow through them, and they themselves stay unknown.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..access import restrict
from ..arguments import checked
from ..errors import InputError, unknown
from ..schema import MISSING_LEVEL, Schema, Variable
from .fitting import fit_by_counts, fit_by_steps
from .graph import CausalGraph
from .mechanisms import Covariates, Generators, GumbelMaxMechanism, InvertibleMechanism, SplineFlowMechanism, draw

__all__ = ["StructuralCausalModel"]

MOST_COMBINATIONS = 2**16
"""Of levels that are unknown of one person: sixteen findings, present or absent."""


class StructuralCausalModel(ModelMixin, ConfigMixin):
    """Mechanisms of every covariate in a causal graph; a component of a diffusers pipeline.

    Args:
        variables: the schema's variables as plain JSON, so that the configuration says what the weights mean.
        edges: (cause, effect) pairs. They are fixed with the weights: another graph is another model.
    """

    config_name = "config.json"

    @register_to_config
    @checked
    def __init__(self, variables: list[dict[str, Any]], edges: Iterable[tuple[str, str]]) -> None:
        super().__init__()
        self.covariates = Schema(variables=tuple(Variable(**variable) for variable in variables))
        self.graph = CausalGraph(self.covariates.names, edges)
        self.mechanisms = nn.ModuleDict(
            {
                variable.name: (SplineFlowMechanism, GumbelMaxMechanism)[variable.categorical](
                    variable, self.covariates.subset(self.graph.parents(variable.name))
                )
                for variable in self.covariates.walk()
            }
        )
        site = self.covariates.site
        self._unobserved = (
            {}
            if site is None
            else {
                one.name: torch.tensor([site.levels.index(level) for level in one.unobserved_at])
                for one in self.covariates.walk()
                if one.unobserved_at
            }
        )
        """By variable, the levels of the site at which it is unobserved."""
        order = list(self.graph.edges)
        for cause, effect in self.graph.edges:
            if site is not None and cause in self._unobserved:
                if effect == site.name:
                    raise InputError(f"edges: {cause} -> {effect}, at some of which {cause} is unobserved; remove it.")
                # whether a cause is observed must be known before its effects
                order.append((site.name, effect))
        self._order = CausalGraph(self.covariates.names, order).names
        restrict(self)

    @classmethod
    def from_pretrained(cls, path: str | Path, **settings: Any) -> "StructuralCausalModel":
        """As diffusers does, in float32 whatever `dtype` is asked for.

        Args:
            path: a directory or the name of a Hub repository.
            **settings: diffusers'.
        """
        settings.pop("torch_dtype", None)
        model: StructuralCausalModel = super().from_pretrained(path, **{**settings, "dtype": torch.float32})
        return model

    def to(self, *args: Any, **settings: Any) -> "StructuralCausalModel":
        """As torch does, but to a device only: a precision is ignored.

        Args:
            *args: torch's.
            **settings: torch's.
        """
        settings.pop("dtype", None)
        places = [one for one in args if one is not None and not isinstance(one, torch.dtype)]
        if places or settings:
            super().to(*places, **settings)
        return self

    def half(self) -> "StructuralCausalModel":
        """The model as it is, in float32."""
        return self

    def bfloat16(self) -> "StructuralCausalModel":
        """The model as it is, in float32."""
        return self

    def double(self) -> "StructuralCausalModel":
        """The model as it is, in float32."""
        return self

    @classmethod
    def from_schema(cls, covariates: Schema, edges: Iterable[tuple[str, str]]) -> "StructuralCausalModel":
        """An unfitted model of these covariates.

        Args:
            covariates: the variables.
            edges: (cause, effect) pairs.

        Raises:
            InputError: an edge that names an unknown covariate, or a cycle.
        """
        return cls(covariates.model_dump(mode="json")["variables"], [list(edge) for edge in edges])

    def mechanism(self, name: str) -> InvertibleMechanism:
        """The mechanism of one covariate."""
        return self.mechanisms[name]  # type: ignore[return-value]

    def fit(
        self,
        table: Mapping[str, Tensor],
        seed: int,
        steps: int = 1500,
        batch_size: int = 2048,
        by_counts: bool = False,
    ) -> dict[str, Any]:
        """Fit every mechanism by maximum likelihood on the rows where it and its causes are known.

        A cause that is unobserved at a row's site need not be known there. Integers of a continuous variable are spread
        over their unit interval, as densities need.

        Args:
            table: encoded columns `[N]` by name (missing: NaN, -1).
            seed: of the order of rows, the batches and the spreading.
            steps: updates of each mechanism.
            batch_size: rows of one update.
            by_counts: fit all rows at once instead, until the likelihood rises no more (`fitting`): faster, the more
                variables there are, and without `steps` and `batch_size`.

        Returns:
            By variable the `rows` used, and the mean negative log likelihood `held_out_nll` of `held_out_rows` others;
            where the variables have a site, `rows_by_site` of both.

        Raises:
            InputError: fewer than 20 rows have a variable and its causes, or the loss is not finite.
        """
        report: dict[str, Any] = {}
        for name in self.graph.names:
            mechanism = self.mechanism(name)
            generator = torch.Generator().manual_seed(seed)
            needed = (name, *self.graph.parents(name))
            known = torch.stack(
                [_known(table[one]) | (one != name) & self.is_unobserved(one, table) for one in needed]
            ).all(dim=0)
            rows = known.nonzero()[:, 0]
            if len(rows) < 20:
                raise InputError(f"table: {len(rows)} rows have {', '.join(needed)}; fitting {name} needs 20 or more.")
            rows = rows[torch.randperm(len(rows), generator=generator)]
            columns = {one: self._hidden(one, table)[rows] if one != name else table[one][rows] for one in needed}
            if not mechanism.variable.categorical:
                columns[name] = _spread(columns[name], mechanism.variable, generator)
            held_out, train = len(rows) // 10, len(rows) - len(rows) // 10
            mechanism.prepare(columns[name][:train])
            mechanism.train()
            fitted = {one: column[:train] for one, column in columns.items()}
            if by_counts:
                fit_by_counts(mechanism, fitted)
            else:
                fit_by_steps(mechanism, fitted, generator, steps, batch_size)
            mechanism.eval()
            tail = {one: column[train:] for one, column in columns.items()}
            with torch.no_grad():
                loss = -mechanism.log_prob(tail[name], tail).mean()
            if not loss.isfinite():
                raise InputError(f"table: fitting {name} ended in a loss that is not finite; check its values.")
            report[name] = {"rows": train, "held_out_rows": held_out, "held_out_nll": round(loss.item(), 4)}
            if (site := self.covariates.site) is not None:
                levels = table[site.name][rows]
                by_site = {level: int((levels == index).sum()) for index, level in enumerate(site.levels)}
                report[name]["rows_by_site"] = by_site
        return report

    @torch.no_grad()
    def sample_noise(self, rows: int, generator: Generators) -> dict[str, Tensor]:
        """Exogenous noise by name: `[B]` for a continuous variable, `[B, K]` for a categorical one.

        Args:
            rows: number of rows B.
            generator: one for the batch, or one per row.
        """
        return {name: self.mechanism(name).sample_noise(rows, generator) for name in self.graph.names}

    @torch.no_grad()
    def evaluate(self, noise: Mapping[str, Tensor], do: Mapping[str, Tensor] | None = None) -> Covariates:
        """Covariates that this noise makes, under do().

        Args:
            noise: by name, as `sample_noise` or `abduct` gives it.
            do: encoded values `[B]` of the variables that are set; none by default.

        Returns:
            Encoded covariates `[B]` by name; missing where they are unobserved and not set.

        Raises:
            InputError: `do` names an unknown variable.
        """
        do = self._check(do)
        values: Covariates = {}
        for name in self._order:
            values[name] = do[name] if name in do else self._evaluate(name, values, noise[name])
        return {name: values[name] if name in do else self._hidden(name, values) for name in self.covariates.names}

    def sample(self, rows: int, generator: Generators) -> Covariates:
        """Covariates `[rows]` from the observational distribution.

        Args:
            rows: number of rows.
            generator: one for the batch, or one per row.
        """
        return self.evaluate(self.sample_noise(rows, generator))

    @torch.no_grad()
    def abduct(
        self, covariates: Mapping[str, Tensor], generator: Generators, may_lack: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Noise that made these covariates; drawn from its posterior where it is not unique.

        Args:
            covariates: encoded values `[B]` by name; known, but for those of `may_lack`, and for what is unobserved at
                a row's site, whose noise is drawn from the prior.
            generator: one for the batch, or one per row.
            may_lack: categorical covariates that may be missing. Each that has effects is drawn from its posterior
                given what is known of the row; of one without, which nothing follows from, the first level is taken.

        Returns:
            Noise by name, `[B]` or `[B, K]`, on the CPU.

        Raises:
            InputError: another covariate is missing in some rows, or so many are in one that their combinations are
                more than MOST_COMBINATIONS.
        """
        for name in self.covariates.names:
            known = _known(covariates[name]) | self.is_unobserved(name, covariates)
            if not known.all() and not (name in may_lack and self.covariates[name].categorical):
                raise InputError(f"covariates[{name!r}]: missing in some rows; abduction needs every covariate.")
        device = self.device  # asked once: diffusers looks through every module for it
        covariates = self._complete(covariates, generator, device)
        noise = {}
        for name in self._order:
            mechanism, value = self.mechanism(name), covariates[name]
            causes = _place(self._causes(name, covariates), device)
            known = _known(value)
            filled = value.where(known, 0 if mechanism.variable.categorical else mechanism.variable.bounds[0])
            found = mechanism.infer_noise(filled.to(device), causes, generator).cpu()
            if name in self._unobserved:
                # drawn for every row, so that one does not depend on the others of its batch
                prior = mechanism.sample_noise(len(value), generator)
                found = torch.where(known.reshape(-1, *[1] * (found.ndim - 1)), found, prior)
            noise[name] = _finite(name, found)
        return noise

    @torch.no_grad()
    def counterfactual(
        self, covariates: Mapping[str, Tensor], do: Mapping[str, Tensor], noise: Mapping[str, Tensor]
    ) -> Covariates:
        """What the covariates would have been under `do`, for the same noise.

        A row's value is evaluated anew only where one of its causes has changed in that row, so everything else stays
        bit-equal, also under do(x = the value x has). One that is missing has the value that its noise makes, which its
        effects follow, and stays missing unless it is set.

        Args:
            covariates: the factual ones, encoded `[B]` by name.
            do: encoded values `[B]` of the variables that are set.
            noise: what `abduct` gives for the factual covariates.

        Returns:
            Encoded covariates `[B]` by name.

        Raises:
            InputError: `do` names an unknown variable.
        """
        do = self._check(do)
        before: Covariates = {}
        values: Covariates = {}
        told: Covariates = {}
        site = self.covariates.site
        stays = {} if site is None else {site.name: covariates[site.name]}
        follows = self.graph.descendants(stays)
        for name in self._order:
            factual = before[name] = told[name] = values[name] = covariates[name]
            unknown = self._is_unknown(name, covariates)
            if not _known(factual).all():
                before[name] = values[name] = torch.where(
                    _known(factual), factual, self._evaluate(name, before, noise[name])
                )
            # do(site) leaves what the site does not cause as it is, and so are its causes observed where they were
            now = values if name in follows else {**values, **stays}
            causes, others = self._causes(name, now), self._causes(name, before)
            changes = [_differ(causes[parent], others[parent]) for parent in causes]
            if name in do:
                told[name] = values[name] = do[name].to(factual)
            elif changes and (changed := torch.stack(changes).any(dim=0)).any():
                values[name] = torch.where(changed, self._evaluate(name, now, noise[name]), values[name])
                told[name] = torch.where(changed & ~unknown, self._hidden(name, {**now, name: values[name]}), factual)
        return {name: told[name] for name in self.covariates.names}

    def is_unobserved(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        """Whether a covariate is unobserved at the site of each row, bool `[B]`.

        Args:
            name: of the covariate.
            values: encoded `[B]` by name, with the site where there is one.
        """
        site = self.covariates.site
        if name not in self._unobserved or site is None:
            return torch.zeros(len(values[name]), dtype=torch.bool)
        return torch.isin(values[site.name].cpu(), self._unobserved[name])

    def _is_unknown(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        """Whether a covariate is missing in a row at whose site it is observed, bool `[B]`."""
        return ~_known(values[name]) & ~self.is_unobserved(name, values)

    def _complete(self, covariates: Mapping[str, Tensor], generator: Generators, device: torch.device) -> Covariates:
        """Covariates of which each that is unknown and has effects is drawn from its posterior given what is known."""
        unknown = {
            name: self._is_unknown(name, covariates) for name in self.graph.names if self.graph.descendants([name])
        }
        complete = {name: column.clone() for name, column in covariates.items()}
        for row in range(len(next(iter(covariates.values())))):
            names = [name for name in unknown if unknown[name][row]]
            # a row with everything known draws nothing, so that it does not depend on the others of its batch
            if not names:
                continue
            own = [generator[row]] if isinstance(generator, list) else generator
            place = draw("rand", (1,), own, torch.float64)
            person = {one: column[row : row + 1] for one, column in covariates.items()}
            levels = self._draw_levels(names, person, place, device)
            for name, level in zip(names, levels, strict=True):
                complete[name][row] = level
        return complete

    def _draw_levels(
        self, names: list[str], person: Mapping[str, Tensor], place: Tensor, device: torch.device
    ) -> tuple[int, ...]:
        """Levels of unknown covariates of one person, from their posterior given the known ones.

        Args:
            names: the unknown ones.
            person: encoded values `[1]` by name.
            place: of the combination that is drawn, uniform in [0, 1), `[1]`.
            device: of the mechanisms.
        """
        counts = [len(self.covariates[name].levels) for name in names]
        if math.prod(counts) > MOST_COMBINATIONS:
            raise InputError(
                f"covariates: {', '.join(names)} are unknown, which are too many to weigh every combination of; give "
                "some of them."
            )
        log_weights = torch.zeros(counts, dtype=torch.float64)
        for name in self.graph.names:
            among = {name, *self.graph.parents(name)}
            if among.isdisjoint(names) or (name not in names and not _known(person[name]).all()):
                continue
            # the combinations of those that this mechanism is about alone: [c, d]
            shape = [count if one in among else 1 for one, count in zip(names, counts, strict=True)]
            places = torch.cartesian_prod(*map(torch.arange, shape)).reshape(-1, len(names))
            values = {one: column.expand(len(places)) for one, column in person.items()}
            values |= {one: places[:, axis] for axis, one in enumerate(names) if one in among}
            causes = _place(self._causes(name, values), device)
            found = self.mechanism(name).log_prob(values[name].to(device), causes).cpu()
            log_weights = log_weights + found.double().reshape(shape)
        shares = log_weights.flatten().softmax(dim=0).cumsum(dim=0)
        index = min(int(torch.searchsorted(shares, place, right=True)), len(shares) - 1)
        return tuple(int(one) for one in torch.unravel_index(torch.tensor(index), counts))

    def _hidden(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        """The values of a covariate, missing where it is unobserved."""
        value = values[name]
        if name not in self._unobserved:
            return value
        return value.where(~self.is_unobserved(name, values), torch.nan if value.is_floating_point() else MISSING_LEVEL)

    def _causes(self, name: str, values: Mapping[str, Tensor]) -> Covariates:
        """The causes of a covariate as its mechanism is given them."""
        return {parent: self._hidden(parent, values) for parent in self.graph.parents(name)}

    def _evaluate(self, name: str, values: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        device = self.device
        causes = _place(self._causes(name, values), device)
        return _finite(name, self.mechanism(name).evaluate(causes, noise.to(device)).cpu())

    def _check(self, do: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
        for name in do or {}:
            if name not in self.covariates:
                raise unknown("do", name, self.covariates.names)
        return do or {}


def _place(values: Mapping[str, Tensor], device: torch.device) -> Covariates:
    return {name: value.to(device) for name, value in values.items()}


def _known(column: Tensor) -> Tensor:
    return ~column.isnan() if column.is_floating_point() else column >= 0


def _differ(one: Tensor, other: Tensor) -> Tensor:
    """Whether values differ `[B]`; one that is missing equals itself."""
    return (one != other) & (_known(one) | _known(other))


def _finite(name: str, values: Tensor) -> Tensor:
    """The values or noise of a covariate; InputError for NaN, or a level that was taken from it."""
    if not (values.isfinite() if values.is_floating_point() else values >= 0).all():
        raise InputError(f"scm: the mechanism of {name} gives values that are not finite; fit or load it anew.")
    return values


def _spread(column: Tensor, variable: Variable, generator: torch.Generator) -> Tensor:
    """Values recorded as integers, spread uniformly over half a unit either side, within the range."""
    if not torch.equal(column, column.round()):
        return column
    low, high = variable.bounds
    spread = column + torch.rand(column.shape, generator=generator) - 0.5
    return torch.where(spread < low, 2 * low - spread, torch.where(spread > high, 2 * high - spread, spread))
