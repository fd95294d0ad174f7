"""Counterfactual flips: how do(attribute) changes the score of the same subject.

    pair    two rows of a subject that differ in the attribute and in no other factor;  d = score to - score from

    flip_rate                share of pairs whose scores lie on different sides of the threshold
    flip_to_present_rate     share that crosses it upwards; flip_to_absent_rate downwards
    mean_absolute_shift      mean |d|
    mean_shift               mean d

A family crosses its factors, so every subject has every pair. What do(attribute) causes in other covariates is part of
its effect and may differ in a pair. The reverse intervention has the same figures, with up and down exchanged and
mean_shift negated.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas

from ..arguments import Fraction, Replicates, Seed, checked
from ..errors import InputError, unknown
from ..measure.intervals import bootstrap_mean
from ..missing import identifier, is_missing
from .rates import check_scores, is_column

__all__ = ["ANY", "Pairs", "flip_rates", "pairs_of"]

ANY = "any"
"""`from` and `to` of the lines over all pairs, whatever their levels; these have no direction."""


@checked
def flip_rates(
    scores: Sequence[float],
    subjects: Sequence[Any],
    factors: Mapping[str, Sequence[Any]],
    attribute: str,
    threshold: Fraction = 0.5,
    seed: Seed = 0,
    n_bootstrap: Replicates = 1000,
    level: float = 0.95,
) -> pandas.DataFrame:
    """Flip rates of a classifier under do(attribute), with bootstrap intervals over subjects.

    Args:
        scores: probabilities `[n]` in [0, 1] that the finding is present.
        subjects: identifiers `[n]`, text or numbers; all counterfactuals of one observation share theirs.
        factors: by name, the value of each row `[n]`: everything that families cross, `attribute` included, and nothing
            else.
        attribute: the factor that is intervened on.
        threshold: scores at or above it are predicted present.
        seed: seed of the bootstrap.
        n_bootstrap: number of bootstrap replicates, from 1.
        level: confidence level of the intervals, in (0, 1).

    Returns:
        One line per pair of levels, in their order, and metric, then one per metric over all pairs: attribute, from,
        to, metric, value, low, high, n (pairs), subjects, draws (bootstrap replicates). Without pairs a figure is NaN,
        with n 0.

    Raises:
        InputError: an argument is invalid, or a subject has two rows with the same factors.
    """
    check_scores(scores, threshold)
    pairs = pairs_of(scores, subjects, factors, attribute)
    columns = zip(*(pair[2:] for pair in pairs), strict=True) if pairs else [[np.empty(0)]] * 3
    everything = Pairs(ANY, ANY, *(np.concatenate(column) for column in columns))
    found = []
    for pair in (*pairs, everything):
        for metric, values in _figures(pair, threshold).items():
            one = bootstrap_mean([values], [pair.subjects.tolist()], seed, n_bootstrap, level)
            found.append(
                {"attribute": attribute, "from": pair.start, "to": pair.end, "metric": metric}
                | {"value": one.mean, "low": one.low, "high": one.high}
                | {"n": one.n, "subjects": one.groups, "draws": one.draws}
            )
    return pandas.DataFrame(found).astype(dict.fromkeys(("value", "low", "high"), float))


class Pairs(NamedTuple):
    """Scores `[pairs]` at the levels `start` and `end`, and the subject of each pair."""

    start: str
    end: str
    before: np.ndarray
    after: np.ndarray
    subjects: np.ndarray


def pairs_of(
    scores: Sequence[float],
    subjects: Sequence[Any],
    factors: Mapping[str, Sequence[Any]],
    attribute: str,
) -> list[Pairs]:
    """The pairs of rows between which do(attribute) is all that differs, by pair of levels.

    Args:
        scores: as of `flip_rates`.
        subjects: as of `flip_rates`.
        factors: as of `flip_rates`.
        attribute: as of `flip_rates`.

    Raises:
        InputError: as of `flip_rates`.
    """
    score = check_scores(scores)
    if attribute not in factors:
        raise unknown("attribute", attribute, factors)
    if "subject" in factors or "score" in factors:
        raise InputError("factors: subject and score are taken; give the factor another name.")
    for argument, column in (("subjects", subjects), *((f"factors[{name!r}]", factors[name]) for name in factors)):
        if not is_column(column, len(score)) or any(map(is_missing, column)):
            raise InputError(f"{argument}: give one value, none missing, for each of the {len(score)} scores.")
    rows = pandas.DataFrame({name: np.asarray(column) for name, column in factors.items()})
    rows["subject"], rows["score"] = [identifier(subject) for subject in subjects], score
    cell = ["subject", *(name for name in factors if name != attribute)]
    twice = rows.duplicated([*cell, attribute])
    if twice.any():
        first = subjects[int(np.argmax(twice))]
        raise InputError(
            f"factors: subject {first!r} has two rows with the same {', '.join(factors)}, so it is not known which are "
            "a pair; give every factor that families cross."
        )
    families = rows.pivot(index=cell, columns=attribute, values="score")
    subject = families.index.get_level_values("subject").to_numpy().astype(str)

    pairs: list[Pairs] = []
    for start, end in combinations(families.columns, 2):
        before, after = families[start].to_numpy(), families[end].to_numpy()
        both = ~np.isnan(before + after)
        pairs.append(Pairs(str(start), str(end), before[both], after[both], subject[both]))
    return pairs


def _figures(pairs: Pairs, threshold: float) -> dict[str, np.ndarray]:
    """Values `[pairs]` whose means are the figures; directed figures only where the pairs have a direction."""
    shift = pairs.after - pairs.before
    crossed = (pairs.after >= threshold).astype(float) - (pairs.before >= threshold)
    found = {"flip_rate": np.abs(crossed), "mean_absolute_shift": np.abs(shift)}
    if pairs.start != ANY:
        found["flip_to_present_rate"] = (crossed > 0).astype(float)
        found["flip_to_absent_rate"] = (crossed < 0).astype(float)
        found["mean_shift"] = shift
    return found
