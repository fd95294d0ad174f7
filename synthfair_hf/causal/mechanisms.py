"""How one covariate arises from its causes:  x := f(parents, u),  u independent of everything.

The ladder of capability is a ladder of types: every Mechanism can `evaluate`, which sampling and interventions need;
an InvertibleMechanism can also `infer_noise`, which counterfactuals need. The law:
evaluate(parents, infer_noise(x, parents)) = x.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
import zuko
from torch import Tensor, nn

from ..schema import MISSING_LEVEL, Schema, Variable

__all__ = [
    "Covariates",
    "GumbelMaxMechanism",
    "InvertibleMechanism",
    "Mechanism",
    "SplineFlowMechanism",
    "draw",
    "encode_parents",
]

Covariates = dict[str, Tensor]
"""Encoded values `[B]` by name: float32 in the variable's unit, or int64 level indices. Never by position."""

Generators = torch.Generator | list[torch.Generator] | None
"""One generator for the batch, or one per row, which makes a row independent of its batch."""


def draw(sampler: str, shape: tuple[int, ...], generator: Generators, dtype: torch.dtype = torch.float32) -> Tensor:
    """Noise from one generator, or row by row from a list of them.

    Args:
        sampler: "rand", uniform in [0, 1), or "randn", standard normal.
        shape: `[B, ...]`.
        generator: one for the batch; a list of `B`, of which generator i draws row i; or None for torch's global one.
        dtype: of the noise.

    Returns:
        Noise of that shape, on the CPU.
    """
    function = {"rand": torch.rand, "randn": torch.randn}[sampler]
    if isinstance(generator, list):
        return torch.stack(
            [function(shape[1:], generator=one, dtype=dtype, device=one.device).cpu() for one in generator]
        )
    device = "cpu" if generator is None else generator.device
    return function(shape, generator=generator, dtype=dtype, device=device).cpu()


def encode_parents(parents: Mapping[str, Tensor], schema: Schema) -> Tensor:
    """Causes as network input, in the schema's order: one-hot levels, or the range mapped to [-1, 1].

    One that is missing is 0 in all of its columns.

    Args:
        parents: encoded values `[B]` by name.
        schema: the causes.

    Returns:
        float32 `[B, width_of(schema)]`.
    """
    columns = []
    for variable in schema.walk():
        value = parents[variable.name]
        if variable.categorical:
            # missing is the level before the first, which has no column
            columns.append(nn.functional.one_hot(value - MISSING_LEVEL, len(variable.levels) + 1)[:, 1:].float())
        else:
            low, high = variable.bounds
            place = (value - low) / (high - low) * 2 - 1
            columns.append(place.where(~value.isnan(), 0.0)[:, None])
    return torch.cat(columns, dim=1)


def width_of(schema: Schema) -> int:
    """Width of `encode_parents`' result."""
    return sum(len(variable.levels) if variable.categorical else 1 for variable in schema.walk())


class Mechanism(nn.Module, ABC):
    """x := f(parents, u) for one variable, whose causes are the variables of `parents`.

    Args:
        variable: the effect.
        parents: the causes.
    """

    def __init__(self, variable: Variable, parents: Schema) -> None:
        super().__init__()
        self.variable, self.parents_schema = variable, parents

    @abstractmethod
    def sample_noise(self, rows: int, generator: Generators) -> Tensor:
        """Exogenous noise of `rows` rows, from its prior.

        Args:
            rows: number of rows B.
            generator: one for the batch, or one per row.

        Returns:
            `[B]` or `[B, K]`.
        """

    @abstractmethod
    def evaluate(self, parents: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """The value `[B]` that the causes and the noise make.

        Args:
            parents: encoded causes `[B]` by name.
            noise: as `sample_noise` gives it.
        """

    @abstractmethod
    def log_prob(self, value: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
        """Log p(value | parents) `[B]`: what fitting maximises.

        Args:
            value: encoded `[B]`.
            parents: encoded causes `[B]` by name.
        """

    def prepare(self, value: Tensor) -> None:
        """Take constants such as location and scale from the training values `[B]`. Nothing to take by default."""


class InvertibleMechanism(Mechanism):
    """A mechanism whose noise can be abducted from what was observed."""

    @abstractmethod
    def infer_noise(self, value: Tensor, parents: Mapping[str, Tensor], generator: Generators) -> Tensor:
        """Noise that makes `value` from these causes, drawn from the posterior where several would.

        Args:
            value: encoded `[B]`.
            parents: encoded causes `[B]` by name.
            generator: one for the batch, or one per row; unused where the noise is unique.

        Returns:
            Noise as `sample_noise` gives it.
        """


class SplineFlowMechanism(InvertibleMechanism):
    """A continuous variable by a conditional monotone flow:  x := range(sigmoid(a + b T(u; parents))),  u ~ N(0, 1).

    T is a neural spline flow (Durkan et al. 2019), invertible in u. The logit keeps values inside the range; values
    beyond its ends are censored there. The noise `[B]` is unique, so abduction needs no randomness.
    """

    margin = 1e-3

    location: Tensor
    scale: Tensor

    def __init__(self, variable: Variable, parents: Schema) -> None:
        super().__init__(variable, parents)
        # The schema's width is the context; a root has the constant context 0.
        self.flow = zuko.flows.NSF(1, max(width_of(parents), 1), transforms=2, bins=8, hidden_features=(32, 32))
        self.register_buffer("location", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def _context(self, parents: Mapping[str, Tensor], rows: int) -> Tensor:
        if len(self.parents_schema) == 0:
            return torch.zeros(rows, 1, device=self.location.device)
        return encode_parents(parents, self.parents_schema)

    def _unbounded(self, value: Tensor) -> Tensor:
        low, high = self.variable.bounds
        share = self.margin + (1 - 2 * self.margin) * (value.double() - low) / (high - low)
        return ((torch.logit(share) - self.location) / self.scale).float()

    def prepare(self, value: Tensor) -> None:
        """Centre and scale the logits of the training values."""
        logits = self._unbounded(value) * self.scale + self.location
        self.location.copy_(logits.mean())
        # Values that are all alike have no spread to standardise by.
        self.scale.copy_(logits.std() if logits.std() > 0 else torch.ones(()))

    def log_prob(self, value: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
        """Log density of the standardised logits; the Jacobian of the outer map has no weights and is left out."""
        # a root's density is the same in every row, so that one context serves all
        rows = len(value) if len(self.parents_schema) else 1
        return self.flow(self._context(parents, rows)).log_prob(self._unbounded(value)[:, None])

    def sample_noise(self, rows: int, generator: Generators) -> Tensor:
        """`[B]` standard normal."""
        return draw("randn", (rows,), generator)

    def evaluate(self, parents: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """`[B]` in the variable's unit."""
        transform = self.flow(self._context(parents, len(noise))).transform
        logits = transform.inv(noise[:, None])[:, 0].double() * self.scale + self.location
        low, high = self.variable.bounds
        share = (torch.sigmoid(logits) - self.margin) / (1 - 2 * self.margin)
        return (low + (high - low) * share).clamp(low, high).float()

    def infer_noise(self, value: Tensor, parents: Mapping[str, Tensor], generator: Generators = None) -> Tensor:
        """`[B]`, the only noise that makes the value."""
        return self.flow(self._context(parents, len(value))).transform(self._unbounded(value)[:, None])[:, 0]


class GumbelMaxMechanism(InvertibleMechanism):
    """A categorical variable:  x := argmax_k  l_k(parents) + g_k,  g_k ~ Gumbel(0, 1)  (Oberst and Sontag 2019).

    The noise `[B, K]` is abducted by sampling its posterior given the observed level: the maximum is Gumbel with
    location logsumexp(l), the others are truncated below it (Maddison et al. 2014). A level that becomes relatively
    more likely under new causes is never left for one that becomes less likely.
    """

    def __init__(self, variable: Variable, parents: Schema) -> None:
        super().__init__(variable, parents)
        levels = len(variable.levels)
        self.logits = (
            nn.Sequential(nn.Linear(width_of(parents), 32), nn.SiLU(), nn.Linear(32, levels))
            if len(parents)
            else nn.Linear(1, levels)
        )

    def _log_shares(self, parents: Mapping[str, Tensor], rows: int) -> Tensor:
        causes = (
            encode_parents(parents, self.parents_schema)
            if len(self.parents_schema)
            else torch.zeros(rows, 1, device=next(self.parameters()).device)
        )
        return torch.log_softmax(self.logits(causes).double(), dim=1)

    def log_prob(self, value: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
        """Log probability of the observed levels `[B]`."""
        return self._log_shares(parents, len(value)).gather(1, value[:, None])[:, 0]

    def sample_noise(self, rows: int, generator: Generators) -> Tensor:
        """`[B, K]` standard Gumbel, float64."""
        return _gumbel((rows, len(self.variable.levels)), generator)

    def evaluate(self, parents: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """`[B]` level indices; MISSING_LEVEL where they would be taken from NaN."""
        utilities = self._log_shares(parents, len(noise)) + noise
        return utilities.argmax(dim=1).where(~utilities.isnan().any(dim=1), MISSING_LEVEL)

    def infer_noise(self, value: Tensor, parents: Mapping[str, Tensor], generator: Generators) -> Tensor:
        """`[B, K]` Gumbel noise from its posterior given the observed levels."""
        shares = self._log_shares(parents, len(value))
        gumbel = _gumbel((len(value), shares.shape[1]), generator).to(shares.device)
        # Log shares have logsumexp 0, so the maximum is standard Gumbel; take it from the observed level's own draw.
        maximum = gumbel.gather(1, value[:, None])
        truncated = -torch.logaddexp(-maximum, -(shares + gumbel))
        observed = nn.functional.one_hot(value, shares.shape[1]).bool()
        return torch.where(observed, maximum, truncated) - shares


def _gumbel(shape: tuple[int, ...], generator: Generators) -> Tensor:
    uniform = draw("rand", shape, generator, torch.float64)
    return -torch.log(-torch.log(uniform.clamp(1e-12, 1 - 1e-12)))
