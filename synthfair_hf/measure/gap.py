"""Share of the real gap: how far do() moves a prediction, in units of how far it differs among real images.

    share = sum_i c_i (s(x_i*) - s(x_i))  /  sum_i c_i B c_i
    gap   = mean of c B c over the pairs of levels, or over a step of 1

    s          log probabilities of the levels, or the predicted value of a continuous attribute
    c          e_{a'} - e_a for do(a -> a'), so that c s = log p(a') - log p(a); or a' - a of a continuous attribute
    B          least squares of s on the attribute and the other covariates W of the real images,  s = W C + e_a B

0: as far as the unchanged image; 1: as far as real images of the other value, at equal other covariates. Both sums are
of one resample, so that the interval is that of the ratio.

B is regression adjustment, by the theorem of Frisch, Waugh and Lovell: numbers enter W as they are, levels as
indicators, without interactions (Angrist and Pischke, Mostly Harmless Econometrics, 2009, chapter 3). Where what do()
causes follows it, W has no descendants of the attribute, so that B is its total effect too (the backdoor criterion).
"""

import numpy as np

from ..domains.worlds import Table
from ..schema import Schema, Variable
from .intervals import Statistic

__all__ = ["real_gap", "scores", "share_of_gap"]

LEAST = 1e-12
"""Probability below which a level's logarithm falls no further."""

DETERMINED = 1e-9
"""Share of a column's squares that must be left once others are regressed out, for its slope to be determined."""

DIGITS = 9
"""After the point of a share or gap; what follows is rounding error."""


def share_of_gap(
    variable: Variable, others: Schema, observed: Table, values: list[object], before: np.ndarray, after: np.ndarray
) -> Statistic:
    """The share of the real gap that do() moves predictions of the attribute that it sets.

    Args:
        variable: the attribute.
        others: covariates at which real images are compared.
        observed: decoded covariates of the n images.
        values: what do() set the attribute to, one per image.
        before: predictions on the images: probabilities `[n, levels]`, or values `[n]`.
        after: predictions on their counterfactuals, likewise.

    Returns:
        The share; NaN where nothing was asked to change, or a level is absent among the real images, or they tell the
        attribute from no other covariate.
    """
    slopes = _Slopes(variable, others, observed, before)
    change = _design(variable, values) - _design(variable, observed[variable.name])
    moved = (change * (scores(variable, after) - scores(variable, before))).sum(axis=1)
    products = (change[:, :, None] * change[:, None, :]).reshape(len(change), -1)

    def statistic(weights: np.ndarray) -> np.ndarray:
        real = np.einsum("bij,bij->b", (weights @ products).reshape(len(weights), *slopes.shape), slopes(weights))
        return np.round(np.divide(weights @ moved, real, out=np.full(len(weights), np.nan), where=real != 0), DIGITS)

    return statistic


def real_gap(variable: Variable, others: Schema, observed: Table, predicted: np.ndarray) -> Statistic:
    """The gap itself: log odds between two levels, the mean of all pairs of several; or the slope on a number.

    Args:
        variable: the attribute.
        others: covariates at which real images are compared.
        observed: decoded covariates of the n images.
        predicted: predictions on them, as of `share_of_gap`.
    """
    slopes = _Slopes(variable, others, observed, predicted)
    levels = np.eye(len(variable.levels)) if variable.categorical else np.array([[0.0], [1.0]])
    change = np.array([one - other for place, one in enumerate(levels) for other in levels[:place]])
    mean = change.T @ change / len(change)
    return lambda weights: np.round(np.einsum("ij,bij->b", mean, slopes(weights)), DIGITS)


class _Slopes:
    """Least squares of predictions on an attribute, others regressed out; NaN where it is not determined."""

    def __init__(self, variable: Variable, others: Schema, observed: Table, predicted: np.ndarray) -> None:
        adjusted = [_standard(_design(one, observed[one.name])[:, one.categorical :]) for one in others.walk()]
        attribute = _design(variable, observed[variable.name])
        columns = [np.ones((len(attribute), 1)), *adjusted, attribute, scores(variable, predicted)]
        self.shape = (attribute.shape[1],) * 2
        self._adjusted = 1 + sum(one.shape[1] for one in adjusted)
        self._determined = max(attribute.shape[1] - 1, 1)
        joined = np.concatenate(columns, axis=1)
        self._products = (joined[:, :, None] * joined[:, None, :]).reshape(len(joined), -1)
        self._columns = joined.shape[1]

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Slopes of row weights `[b, n]`: by level and predicted level `[b, K, K]`; of a number K is 1."""
        gram = (weights @ self._products).reshape(len(weights), self._columns, self._columns)
        first, last = self._adjusted, self._adjusted + self.shape[0]
        inverse = np.linalg.pinv(gram[:, :first, :first], rcond=DETERMINED, hermitian=True)
        # the Schur complement: products of the residuals
        left = gram[:, first:, first:] - gram[:, first:, :first] @ inverse @ gram[:, :first, first:]
        own, width = left[:, : last - first, : last - first], gram[:, first:last, first:last]
        least = DETERMINED * np.trace(width, axis1=1, axis2=2)
        determined = (np.linalg.eigvalsh(own) > least[:, None]).sum(axis=1) >= self._determined
        # an indicator less its mean is a combination of the others', so that one direction never counts
        slopes = np.linalg.pinv(own, rcond=DETERMINED, hermitian=True) @ left[:, : last - first, last - first :]
        return np.where(determined[:, None, None], slopes, np.nan)


def _design(variable: Variable, values: list[object]) -> np.ndarray:
    """Values as columns: indicators `[n, levels]`, or the numbers `[n, 1]`."""
    encoded = variable.encode(values)
    if not variable.categorical:
        return encoded[:, None].astype(np.float64)
    return (encoded[:, None] == np.arange(len(variable.levels))).astype(np.float64)


def scores(variable: Variable, predicted: np.ndarray) -> np.ndarray:
    """Predictions as columns: log probabilities `[n, levels]`, or the values `[n, 1]`."""
    return np.log(predicted.clip(LEAST, None)) if variable.categorical else predicted[:, None].astype(np.float64)


def _standard(columns: np.ndarray) -> np.ndarray:
    """Columns less their mean, in standard deviations, so that products of all are of one size."""
    spread = columns.std(axis=0)
    return (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1)
