"""The share of a classifier's predictions that is owed to each covariate along the causal graph.

    u        = noise of the covariates in a structural causal model;  x = x(u),  m(x) = E[score | x]
    v(S)     = Var(E[m | u_S])                                     what the noise of the covariates in S explains
    phi_j    = Shapley value of j in the game v:  sum_j phi_j = Var(m)
    share_j  = phi_j / (Var(m) + E[Var(score | x)])                 the rest is of images of the same covariates

It is the intrinsic causal influence of Janzing et al. (2024, PMLR 238:2188-2196) on the score: what a covariate adds
that it has not inherited from its causes. Where age causes a finding, what age does by the finding is owed to age. v(S)
is that of people as the causal model draws them, whoever was scored. It depends on how mechanisms write their noise.

m is a ridge regression on levels, splines and their products in pairs, fitted on the rows that were scored; what takes
three covariates together is in the rest. It is fitted twice, m and m' on two halves of the subjects. With another draw
of the noise, u', and y = m(x(u)), y_S = m(x(u_S, u'_rest)), and y' and y'_S likewise by m',

    v(S) = Var(m) - E[(y - y_S) (y' - y'_S)] / 2                    (Jansen 1999, with two regressions)

so that what a regression makes of chance is not counted: a covariate without influence has a share of 0 on average,
and may have less. Rows of families, that cross covariates, tell their effects apart best.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas
import torch
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, SplineTransformer
from torch import Tensor

from ..access import restrict
from ..arguments import Replicates, Seed, checked, usable_path
from ..causal.scm import StructuralCausalModel
from ..errors import InputError, unknown
from ..measure.intervals import percentile_interval
from ..records import row_generator
from ..schema import MISSING_LEVEL, Schema, Variable
from .groups import subject_numbers
from .rates import check_scores, is_column

__all__ = ["REST", "CausalModel", "causal_influence", "check_causal_model", "open_causal_model"]

REST = "not explained by covariates"
"""The line of images of the same covariates: anatomy, noise, and what takes three covariates together."""

MOST_COVARIATES = 10
"""Every subset of them is weighed."""

DRAWS = 8192
"""Of the noise of all covariates: shares are exact to about .01 where everything else is."""

FEWEST_SUBJECTS = 20

ALPHAS = np.logspace(-2, 4, 13)
"""Of the ridge regression; the one with the least leave-one-out error is taken."""


class CausalModel(Protocol):
    """What is asked of a causal model, as `causal.scm.StructuralCausalModel` answers it."""

    @property
    def covariates(self) -> Schema:
        """The variables."""

    def sample_noise(self, rows: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Noise by name, of so many rows."""

    def evaluate(self, noise: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Encoded covariates by name."""


@checked
def causal_influence(
    scores: Sequence[float],
    covariates: Mapping[str, Sequence[Any]],
    model: CausalModel,
    subjects: Sequence[Any] | None = None,
    seed: Seed = 0,
    n_bootstrap: Replicates = 200,
    level: float = 0.95,
) -> pandas.DataFrame:
    """The share of the variance of scores that is owed to the noise of each covariate.

    Args:
        scores: probabilities `[n]` in [0, 1] that the finding is present.
        covariates: by name, encoded values `[n]` of all covariates of the model: numbers, and the places of levels, as
            data sets hold them. Rows that lack one are left out.
        model: the causal model of the covariates, such as `StructuralCausalModel.from_pretrained`.
        subjects: identifiers `[n]`; all images of one person share theirs. Each row is one of its own by default.
        seed: of the halves, the noise and the bootstrap over subjects.
        n_bootstrap: number of bootstrap replicates, from 1; each fits the regressions anew.
        level: confidence level of the intervals, in (0, 1).

    Returns:
        A line per covariate, in the order of the model, and one called REST: covariate, value (its share; they add up
        to 1), low, high, values (how many different ones the rows have: of a covariate with one no effect is seen), n
        (rows), subjects, draws (bootstrap replicates). Of constant scores shares are NaN.

    Raises:
        InputError: an argument is invalid, there are fewer than FEWEST_SUBJECTS subjects, or the model has more than
            MOST_COVARIATES covariates.
    """
    score, names = check_scores(scores), model.covariates.names
    if n_bootstrap < 1 or not 0 < level < 1:
        raise InputError(
            f"n_bootstrap, level: {n_bootstrap}, {level:g} out of range; allowed: n_bootstrap from 1, level in (0, 1)."
        )
    check_causal_model(model.covariates)
    variables = list(model.covariates.walk())
    members = subject_numbers(subjects, len(score))
    table = pandas.DataFrame({one.name: _column(one, covariates, len(score)) for one in variables})
    known = table.notna().all(axis=1).to_numpy()
    table, score = table[known].reset_index(drop=True), score[known]
    members, people = np.unique(members[known], return_inverse=True)[1], len(np.unique(members[known]))
    if people < FEWEST_SUBJECTS:
        raise InputError(
            f"covariates: {people} subjects have all of {', '.join(names)}; give the rows of {FEWEST_SUBJECTS} or more."
        )

    features = _features(model.covariates, table)
    inputs = features.fit_transform(table)
    rng = row_generator(seed)
    half = rng.permutation(people) % 2
    times = np.stack([np.ones(people), *(_resampled(rng, half) for _ in range(n_bootstrap))])
    alpha = RidgeCV(ALPHAS).fit(inputs, score).alpha_
    sides = half[members]
    (first, of_first), (second, of_second) = (
        _regressions(inputs, score, sides == side, times[:, members], alpha) for side in (0, 1)
    )
    # of each row from the regression that has not seen its subject, less what that errs, which is half of what both do
    squares = np.where(sides == 0, of_second, of_first) ** 2 - (of_first - of_second) ** 2 / 2
    rest = times[:, members] @ squares / times[:, members].sum(axis=1)

    lost = {subset: _lost(moved, first, second) for subset, moved in _moved(model, features, seed)}
    owed = np.stack([_shapley(name, names, lost) for name in names], axis=1)
    total = owed.sum(axis=1) + rest
    shares = np.column_stack([owed, rest])
    shares = np.divide(shares, total[:, None], out=np.full_like(shares, np.nan), where=total[:, None] > 0)
    low, high = percentile_interval(shares[1:], (1 - level) / 2)
    return pandas.DataFrame(
        {
            "covariate": [*names, REST],
            "value": shares[0],
            "low": low,
            "high": high,
            "values": [*(table[name].nunique() for name in names), None],
            "n": len(score),
            "subjects": people,
            "draws": n_bootstrap,
        }
    ).astype({"values": "Int64"})


def check_causal_model(covariates: Schema, argument: str = "model") -> None:
    """Raise InputError where shares of these covariates cannot be told: too many, or unobserved at some sites."""
    if len(covariates.names) > MOST_COVARIATES:
        raise InputError(
            f"{argument}: it has {len(covariates.names)} covariates, more than {MOST_COVARIATES}, and every subset is "
            "weighed; give a model of fewer."
        )
    hidden = next((one.name for one in covariates.walk() if one.unobserved_at), None)
    if hidden is not None:
        raise InputError(
            f"{argument}: {hidden} is unobserved at some sites; give a model whose covariates are known everywhere."
        )


def open_causal_model(causal_model: str | Path) -> StructuralCausalModel:
    """The causal model of a generator.

    Args:
        causal_model: directory of a generator of this package, or of its causal model alone.

    Raises:
        InputError: there is none.
    """
    usable_path("causal_model", causal_model)
    directory = Path(causal_model)
    directory = directory / "scm" if (directory / "scm").is_dir() else directory
    try:
        if not directory.is_dir():
            raise OSError("no such directory")
        model = StructuralCausalModel.from_pretrained(directory, use_safetensors=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        told = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"causal_model: {directory} can't be loaded ({told}); give the directory of a generator."
        ) from None
    restrict(model, directory)
    return model


def _column(variable: Variable, covariates: Mapping[str, Sequence[Any]], n: int) -> np.ndarray:
    """Encoded values of a covariate as float64 `[n]`, NaN where missing."""
    name = variable.name
    if name not in covariates:
        raise unknown("model: covariate", name, list(covariates))
    try:
        if not is_column(covariates[name], n):
            raise TypeError
        values = np.array([np.nan if one is None else one for one in covariates[name]], dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"covariates[{name!r}]: not one number for each of {n} scores; give numbers and places of levels, as data "
            "sets hold them."
        ) from None
    if not variable.categorical:
        return values
    wrong = values[~np.isnan(values) & ~np.isin(values, range(MISSING_LEVEL, len(variable.levels)))]
    if len(wrong):
        raise InputError(
            f"covariates[{name!r}]: {wrong[0]:g} is no level; allowed: 0 to {len(variable.levels) - 1}, or "
            f"{MISSING_LEVEL} where it is unknown."
        )
    return np.where(values == MISSING_LEVEL, np.nan, values)


def _features(schema: Schema, table: pandas.DataFrame) -> Pipeline:
    """Levels, splines, and the products of pairs, of the covariates that differ between rows."""
    varied = [one for one in schema.walk() if table[one.name].nunique() > 1]
    levels = [one.name for one in varied if one.categorical]
    encoder = OneHotEncoder(categories=[range(len(schema[name].levels)) for name in levels], sparse_output=False)
    spline = SplineTransformer(n_knots=4, knots="quantile", extrapolation="constant", include_bias=False)
    numbers = [one.name for one in varied if not one.categorical]
    parts = [("levels", encoder, levels), ("numbers", spline, numbers)]
    columns = ColumnTransformer([part for part in parts if part[2]])
    return make_pipeline(columns, PolynomialFeatures(2, interaction_only=True, include_bias=False))


def _resampled(rng: np.random.Generator, half: np.ndarray) -> np.ndarray:
    """How often each subject is drawn where those of a half are drawn from that half `[people]`."""
    times = np.zeros(len(half))
    for side in (0, 1):
        own = np.flatnonzero(half == side)
        np.add.at(times, rng.choice(own, len(own)), 1)
    return times


def _regressions(
    inputs: np.ndarray, score: np.ndarray, rows: np.ndarray, weights: np.ndarray, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Regressions on some rows: coefficients by replicate `[replicates, features]`, residuals of the first `[n]`."""
    fits = [Ridge(alpha / 2).fit(inputs[rows], score[rows], sample_weight=own[rows]) for own in weights]
    return np.stack([one.coef_ for one in fits]), score - fits[0].predict(inputs)


def _moved(model: CausalModel, features: Pipeline, seed: int) -> Iterator[tuple[frozenset[str], np.ndarray]]:
    """By subset whose noise is kept, how features `[DRAWS, features]` differ where the other noise is drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    noise, other = (model.sample_noise(DRAWS, generator) for _ in range(2))

    def evaluated(kept: frozenset[str]) -> np.ndarray:
        found = model.evaluate({name: (noise if name in kept else other)[name] for name in noise})
        frame = pandas.DataFrame({name: found[name].double().numpy() for name in model.covariates.names})
        result: np.ndarray = features.transform(frame)
        return result

    names = model.covariates.names
    whole = evaluated(frozenset(names))
    for size in range(len(names) + 1):
        for kept in map(frozenset, combinations(names, size)):
            yield kept, whole - evaluated(kept)


def _lost(moved: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Var(m) - v(S) of each replicate, of coefficients `[replicates, features]` of two regressions."""
    products = moved.T @ moved / (2 * len(moved))
    lost: np.ndarray = np.einsum("bp,pq,bq->b", first, products, second, optimize=True)
    return lost


def _shapley(name: str, names: Sequence[str], lost: Mapping[frozenset[str], np.ndarray]) -> np.ndarray:
    """The Shapley value of a covariate by replicate, from what is lost where the noise of a subset alone is kept."""
    weights = {size: 1 / (len(names) * comb(len(names) - 1, size)) for size in range(len(names))}
    without = [subset for subset in lost if name not in subset]
    return np.sum([weights[len(subset)] * (lost[subset] - lost[subset | {name}]) for subset in without], axis=0)
