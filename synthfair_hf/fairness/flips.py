"""Counterfactual flips: how do(attribute) changes the score of the same subject.

    pair    two rows of a subject that differ in the attribute and in no other factor;  d = score to - score from

    flip_rate                share of pairs whose scores lie on different sides of the threshold
    flip_to_present_rate     share that crosses it upwards; flip_to_absent_rate downwards
    mean_absolute_shift      mean |d|
    mean_shift               mean d

A family crosses its factors, so every subject has every pair. What do(attribute) causes in other covariates is part of
its effect and may differ in a pair. The reverse intervention has the same figures, with up and down exchanged and
mean_shift negated. A joint intervention do(sex, age) changes both; within groups of others, such as do(sex) among those
of 60 and more, pairs are counted whose rows are both in the group.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas

from ..arguments import Fraction, Replicates, Seed, checked
from ..errors import InputError, shown, unknown
from ..measure.intervals import bootstrap_mean
from ..missing import identifier, is_missing
from .groups import attribute_groups
from .rates import check_scores, is_column

__all__ = ["ANY", "Pairs", "flip_rates", "pairs_of"]

ANY = "any"
"""`from` and `to` of the lines over all pairs, whatever their levels; these have no direction."""


@checked
def flip_rates(
    scores: Sequence[float],
    subjects: Sequence[Any],
    factors: Mapping[str, Sequence[Any]],
    attribute: str | Sequence[str],
    threshold: Fraction = 0.5,
    seed: Seed = 0,
    n_bootstrap: Replicates = 1000,
    level: float = 0.95,
    within: Mapping[str, Sequence[str | None]] | None = None,
) -> pandas.DataFrame:
    """Flip rates of a classifier under do(attribute), with bootstrap intervals over subjects.

    Args:
        scores: probabilities `[n]` in [0, 1] that the finding is present.
        subjects: identifiers `[n]`, text or numbers; all counterfactuals of one observation share theirs.
        factors: by name, the value of each row `[n]`: everything that families cross, `attribute` included, and nothing
            else.
        attribute: the factor that is intervened on, or several that are at once: their levels all differ in a pair.
        threshold: scores at or above it are predicted present.
        seed: seed of the bootstrap.
        n_bootstrap: number of bootstrap replicates, from 1.
        level: confidence level of the intervals, in (0, 1).
        within: by name, the group of each row `[n]`, None where unknown: figures are then of each group, of several
            columns of every combination. Pairs that are not in one group, such as where the intervention changes it,
            are in none.

    Returns:
        One line per pair of levels, in their order, and metric, then one per metric over all pairs: attribute, from,
        to, metric, value, low, high, n (pairs), subjects, draws (bootstrap replicates). Without pairs a figure is NaN,
        with n 0. Within groups these lines are of each group in turn, named by two more columns, within and group.

    Raises:
        InputError: an argument is invalid, or a subject has two rows with the same factors.
    """
    check_scores(scores, threshold)
    pairs = pairs_of(scores, subjects, factors, attribute)
    names = [attribute] if isinstance(attribute, str) else list(attribute)
    if within is None:
        found = list(_lines(pairs, threshold, seed, n_bootstrap, level))
    else:
        stranger = next((one for one in within if one in names), None)
        if stranger is not None:
            raise InputError(
                f"within: {stranger!r} is intervened on, so no pair is in one of its groups; leave it out."
            )
        several = [tuple(within)] if len(within) > 1 else []
        title, groups = list(attribute_groups(within, several, len(scores)).items())[-1]
        found = []
        for code, group in enumerate(groups.names):
            own = [pair.where((groups.codes[pair.rows] == code).all(axis=1)) for pair in pairs]
            lines = _lines(own, threshold, seed, n_bootstrap, level)
            found += [{"within": title, "group": group, **line} for line in lines]
    table = pandas.DataFrame([{"attribute": " & ".join(names), **line} for line in found])
    return table.astype(dict.fromkeys(("value", "low", "high"), float))


class Pairs(NamedTuple):
    """Scores `[pairs]` at the levels `start` and `end`, the subject of each pair, and its two rows `[pairs, 2]`."""

    start: str
    end: str
    before: np.ndarray
    after: np.ndarray
    subjects: np.ndarray
    rows: np.ndarray

    def where(self, mask: np.ndarray) -> "Pairs":
        """Those of the pairs that a mask `[pairs]` keeps."""
        return Pairs(self.start, self.end, *(column[mask] for column in self[2:]))


def pairs_of(
    scores: Sequence[float],
    subjects: Sequence[Any],
    factors: Mapping[str, Sequence[Any]],
    attribute: str | Sequence[str],
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
    names = [attribute] if isinstance(attribute, str) else list(attribute)
    if not names or len(set(names)) < len(names):
        raise InputError(f"attribute: {shown(attribute)} is none; name a factor, or several, each once.")
    for name in names:
        if name not in factors:
            raise unknown("attribute", name, factors)
    if "subject" in factors:
        raise InputError("factors: subject is taken; give the factor another name.")
    for argument, column in (("subjects", subjects), *((f"factors[{name!r}]", factors[name]) for name in factors)):
        if not is_column(column, len(score)) or any(map(is_missing, column)):
            raise InputError(f"{argument}: give one value, none missing, for each of the {len(score)} scores.")
    rows = pandas.DataFrame({name: np.asarray(column) for name, column in factors.items()})
    rows["subject"] = [identifier(subject) for subject in subjects]
    cell = ["subject", *(name for name in factors if name not in names)]
    twice = rows.duplicated([*cell, *names])
    if twice.any():
        one = subjects[int(np.argmax(twice))]
        raise InputError(
            f"factors: subject {one!r} has two rows with the same {', '.join(factors)}, so it is not known which are "
            "a pair; give every factor that families cross."
        )
    # rows by subject and other factors, and by level: of several factors a tuple of levels
    numbers = pandas.Series(np.arange(len(score)), pandas.MultiIndex.from_frame(rows[[*cell, *names]]))
    families = numbers.unstack(names).sort_index(axis="columns")
    subject = families.index.get_level_values("subject").to_numpy().astype(str)

    pairs: list[Pairs] = []
    for start, end in combinations(families.columns, 2):
        ends = [one if isinstance(one, tuple) else (one,) for one in (start, end)]
        if any(one == other for one, other in zip(*ends, strict=True)):
            continue
        both = families[[start, end]].to_numpy()
        known = ~np.isnan(both).any(axis=1)
        place = both[known].astype(np.int64)
        first, second = (" & ".join(map(str, one)) for one in ends)
        pairs.append(Pairs(first, second, score[place[:, 0]], score[place[:, 1]], subject[known], place))
    return pairs


def _lines(
    pairs: Sequence[Pairs], threshold: float, seed: int, n_bootstrap: int, level: float
) -> Iterator[dict[str, Any]]:
    """Figures of each pair of levels, and of all."""
    nothing = Pairs(ANY, ANY, np.empty(0), np.empty(0), np.empty(0, dtype=str), np.empty((0, 2), dtype=np.int64))
    columns = zip(*(pair[2:] for pair in (nothing, *pairs)), strict=True)
    everything = Pairs(ANY, ANY, *(np.concatenate(column) for column in columns))
    for pair in (*pairs, everything):
        for metric, values in _figures(pair, threshold).items():
            one = bootstrap_mean([values], [pair.subjects.tolist()], seed, n_bootstrap, level)
            yield (
                {"from": pair.start, "to": pair.end, "metric": metric}
                | {"value": one.mean, "low": one.low, "high": one.high}
                | {"n": one.n, "subjects": one.groups, "draws": one.draws}
            )


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
