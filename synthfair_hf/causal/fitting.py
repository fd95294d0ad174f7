"""Fitting one mechanism by maximum likelihood: by steps on batches of rows, or by counts of all rows at once.

    by steps    Adam, a given number of updates, of which each sees some rows
    by counts   L-BFGS on the mean negative log likelihood of all rows, plus |W|^2 / 2N of the weights W

Rows that are alike are one row with a count, so that the cost is that of what occurs and not of how often: of 112,120
radiographs, age, sex and one finding make about 400. The penalty is a standard normal prior on every weight but biases;
without it the odds of a finding that few people have would grow without bound where it has not been seen.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from .mechanisms import Mechanism

__all__ = ["fit_by_counts", "fit_by_steps"]

MOST_ITERATIONS = 200
ENOUGH = 1e-7
"""Nats of the mean: an iteration that lowers it by less is the last one."""

MOST_ROWS = {True: 2**16, False: 2**12}
"""Distinct rows that are looked at, by whether a variable is categorical: a density costs far more than a share. Of
more, as many are taken at even distances in the order of the variable's values, so that its distribution stays."""


def fit_by_steps(
    mechanism: Mechanism, columns: Mapping[str, Tensor], generator: torch.Generator, steps: int, batch_size: int
) -> None:
    """Update a mechanism's weights so many times, each time on rows drawn with replacement.

    Args:
        mechanism: fitted in place.
        columns: encoded values `[N]` of its variable and of its causes, by name.
        generator: of the batches.
        steps: number of updates, at a step size that falls from 0.01 to 0 by a cosine.
        batch_size: rows of one update.
    """
    name = mechanism.variable.name
    rows = len(columns[name])
    optimizer = torch.optim.Adam(mechanism.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = torch.randint(rows, (min(batch_size, rows),), generator=generator)
        values = {one: column[batch] for one, column in columns.items()}
        loss = -mechanism.log_prob(values[name], values).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def fit_by_counts(mechanism: Mechanism, columns: Mapping[str, Tensor]) -> None:
    """Minimise the mean negative log likelihood of all rows until ENOUGH, in MOST_ITERATIONS at most.

    Args:
        mechanism: fitted in place.
        columns: encoded values `[N]` of its variable and of its causes, by name.
    """
    name = mechanism.variable.name
    names = [name, *(one for one in columns if one != name)]
    distinct, counts = _distinct(torch.stack([columns[one].double() for one in names], dim=1))
    most = MOST_ROWS[mechanism.variable.categorical]
    if len(distinct) > most:
        kept = torch.linspace(0, len(distinct) - 1, most).round().long()
        distinct, counts = distinct[kept], counts[kept]
    values = {one: distinct[:, place].to(columns[one].dtype) for place, one in enumerate(names)}
    shares = counts.double() / counts.sum()
    weights = [parameter for parameter in mechanism.parameters() if parameter.ndim > 1]
    optimizer = torch.optim.LBFGS(
        mechanism.parameters(), max_iter=MOST_ITERATIONS, tolerance_change=ENOUGH, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        prior = torch.stack([weight.square().sum() for weight in weights]).sum() / (2 * len(columns[name]))
        found = prior - (shares * mechanism.log_prob(values[name], values)).sum()
        found.backward()
        return found

    optimizer.step(loss)


def _distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct ones of rows `[N, C]` in their order `[D, C]`, and how often each occurs `[D]`.

    As `Tensor.unique(dim=0)`, which takes several times as long for a hundred thousand rows.
    """
    for place in reversed(range(rows.shape[1])):
        rows = rows[rows[:, place].argsort(stable=True)]
    first = torch.ones(len(rows), dtype=torch.bool)
    first[1:] = (rows[1:] != rows[:-1]).any(dim=1)
    return rows[first], (first.cumsum(dim=0) - 1).bincount()
