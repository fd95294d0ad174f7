"""Same-patient pairs: a counterfactual against another real image of the patient, who had the other value then.

    pair_share_of_gap   sum of s(x*) - s(x)  /  sum of s(x') - s(x),     s = log p(a') - log p(a)
    pair_gap            mean of s(x') - s(x)
    pair_drift          mean |g_j(x*) - g_j(x)| of every other attribute j; of the patient's other image x' in its place
    pair_distance       mean |h(x*) - h(x')|
    pair_nearer         share of other people's images of a' that lie farther from x* than x' does, ties counted half

x and x' are of one patient, differ in a and agree in every other covariate that is no finding, numbers within CLOSE;
what a causes is held. g: the predicted value, or half the summed change of the levels' probabilities; h: features of an
attribute predictor, in their standard deviations over the images. What does not follow from a in a patient should drift
no more than between x and x'. pair_nearer is an area under the curve: 1/2 for the image of anybody, 1 where the
patient's own is always nearest.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch

from ..domains.worlds import Table, World
from ..schema import AttributePredictor, Schema, Variable
from .gap import scores
from .intervals import Statistic, bootstrap, mean_of
from .interventions import hold
from .soundness import tidy_row
from .systems import CounterfactualModel, answer

__all__ = ["CLOSE", "REAL", "distances", "drift", "find_pairs", "score_pairs"]

CLOSE = 1
"""How far numbers of a pair may differ, in their unit: a year of age."""


REAL = "other image"
"""What records call the patient's other image, where it stands in a system's place."""


def score_pairs(
    models: Sequence[CounterfactualModel],
    world: World,
    predictors: Mapping[str, AttributePredictor],
    planted: Sequence[str] = (),
    names: Sequence[str] | None = None,
    limit: int | None = None,
    batch_size: int = 32,
    n_bootstrap: int = 1000,
) -> list[dict[str, Any]]:
    """Every metric of this module for some systems in one world, as the tidy rows of `soundness.score`.

    Args:
        models: the systems.
        world: of whose split every image is looked at, a patient's second too.
        predictors: of attributes, by name; those without `features` measure no distance.
        planted: covariates that nobody observed: no pair is made of them, or must agree in them.
        names: attributes that are changed; all by default.
        limit: patients of each attribute at most; all by default.
        batch_size: images per call of a system.
        n_bootstrap: number of bootstrap replicates of every interval.

    Returns:
        Rows; none of an attribute without pairs. What the patient's other image gives is of the system REAL.
    """
    rows: list[dict[str, Any]] = []
    observed = [one for one in world.covariates.walk() if one.name not in planted]
    for variable in observed:
        if not variable.categorical or variable.role == "protected" or variable.name not in (names or [variable.name]):
            continue
        matched = [one.name for one in observed if one.role != "finding" and one is not variable]
        pairs = find_pairs(world.covariates, *world.listing[:2], variable.name, matched)
        if pairs and predictors:
            rows += _score(
                models, world, predictors, variable, pairs[: 2 * (limit or len(pairs))], batch_size, n_bootstrap
            )
    return rows


def _score(
    models: Sequence[CounterfactualModel],
    world: World,
    predictors: Mapping[str, AttributePredictor],
    variable: Variable,
    pairs: Sequence[tuple[int, int]],
    batch_size: int,
    n_bootstrap: int,
) -> list[dict[str, Any]]:
    """The rows of one attribute."""
    places, partners = ([pair[side] for pair in pairs] for side in (0, 1))
    table = {name: [column[place] for place in places] for name, column in world.listing.covariates.items()}
    patients = [world.listing.groups[place] for place in places]
    requested = [world.listing.covariates[variable.name][place] for place in partners]
    images = world.read(places)
    # of one patient both orders follow each other, so that the second image of a pair is that of the next or the last
    others = images[[places.index(place) for place in partners]]
    do = hold(world, {variable.name: requested}, table, "direct")
    changed = {model.name: answer(model, world, images, table, do, batch_size).images for model in models}
    rows: list[dict[str, Any]] = []

    def add(system: str, metric: str, attribute: str, by: str, values: np.ndarray | Statistic) -> None:
        groups = patients
        if isinstance(values, np.ndarray):
            groups = [patient for patient, kept in zip(patients, np.isfinite(values), strict=True) if kept]
            values = mean_of(values[np.isfinite(values)])
        estimate = bootstrap([values], [groups], n_bootstrap=n_bootstrap)
        labels = (metric, variable.name, attribute, by, REAL)
        rows.append(tidy_row(system, world.name, labels, "direct", estimate))

    for by, predictor in predictors.items():
        before, real = predictor.predict(images), predictor.predict(others)
        extract = getattr(predictor, "features", None)
        for system, answered in {**changed, REAL: others}.items():
            after = real if system == REAL else predictor.predict(answered)
            for one in world.covariates.walk():
                if one.name == variable.name and one.name in after:
                    asked = (one, table[one.name], requested, before[one.name])
                    gap, moved = shift(*asked, real[one.name]), shift(*asked, after[one.name])
                    found = ("pair_gap", gap) if system == REAL else ("pair_share_of_gap", share(moved, gap))
                    add(system, found[0], one.name, by, found[1])
                elif one.name != variable.name and one.name in after:
                    add(system, "pair_drift", one.name, by, drift(one, before[one.name], after[one.name]))
            if extract is not None and system != REAL:
                own, partner = (torch.as_tensor(extract(some)).double().numpy() for some in (answered, others))
                for metric, values in distances(own, partner, patients, requested).items():
                    add(system, metric, "image", by, values)
    return rows


def find_pairs(
    covariates: Schema, table: Table, patients: Sequence[str], name: str, matched: Sequence[str]
) -> list[tuple[int, int]]:
    """One pair of images of every patient who has one, in both orders.

    Args:
        covariates: the schema.
        table: decoded values, none of them missing.
        patients: of the same images.
        name: of the categorical variable in which the two differ.
        matched: names of those in which they agree.

    Returns:
        Numbers of image and other image, in the order of the images: of a patient with several pairs that which
        differs least in the covariates that are neither.
    """
    encoded = covariates.encode({one: table[one] for one in covariates.names})
    own: dict[str, list[int]] = defaultdict(list)
    for row, patient in enumerate(patients):
        own[patient].append(row)
    free = [one for one in covariates.names if one not in (name, *matched)]
    found = []
    for rows in own.values():
        pairs = [
            (sum(encoded[column][one] != encoded[column][other] for column in free), place, (one, other))
            for place, (one, other) in enumerate(combinations(rows, 2))
            if encoded[name][one] != encoded[name][other]
            and all(_agree(covariates[column], encoded[column][[one, other]]) for column in matched)
        ]
        if pairs:
            _, _, (one, other) = min(pairs)
            found += [(one, other), (other, one)]
    return found


def _agree(variable: Variable, values: np.ndarray) -> bool:
    return bool(values[0] == values[1] if variable.categorical else abs(values[0] - values[1]) <= CLOSE)


def shift(
    variable: Variable, values: Sequence[Any], requested: Sequence[Any], before: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """How far log p(a') - log p(a) moves from each image to another, `[n]`.

    Args:
        variable: the categorical attribute.
        values: its levels a in the n images.
        requested: the levels a'.
        before: predicted probabilities of the images `[n, levels]`.
        after: of the others, likewise.
    """
    change, rows = scores(variable, after) - scores(variable, before), np.arange(len(before))
    moved: np.ndarray = change[rows, variable.encode(requested)] - change[rows, variable.encode(values)]
    return moved


def share(moved: np.ndarray, real: np.ndarray) -> Statistic:
    """The sum of some shifts over that of the real ones, `[n]` each."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        total = weights @ real
        return np.divide(weights @ moved, total, out=np.full(len(weights), np.nan), where=total != 0)

    return statistic


def drift(variable: Variable, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far a prediction changed: in the unit, or the total variation of the levels' probabilities, `[n]`.

    Args:
        variable: the attribute.
        before: predictions of the images, values `[n]` or probabilities `[n, levels]`.
        after: of other images, likewise.
    """
    change = np.abs(after - before)
    return change.sum(axis=1) / 2 if variable.categorical else change


def distances(
    features: np.ndarray, others: np.ndarray, patients: Sequence[str], levels: Sequence[Any]
) -> Mapping[str, np.ndarray]:
    """Distances of images to the patients' own other images, and whether those of other people lie farther.

    Args:
        features: of the n images, or of their counterfactuals, `[n, d]`.
        others: of the patients' other images, `[n, d]`.
        patients: of both.
        levels: of the attribute in the other images: those of the same level are compared.

    Returns:
        `pair_distance` and `pair_nearer`, `[n]` each; the second NaN where nobody else has the level.
    """
    spread = others.std(axis=0)
    scale = np.where(spread > 0, spread, 1)
    squares = (((features[:, None] - others[None]) / scale) ** 2).sum(axis=2)
    own = squares.diagonal()
    people, values = np.asarray(patients), np.asarray(levels)
    among = (people[:, None] != people) & (values[:, None] == values)
    farther = ((squares > own[:, None]) + 0.5 * (squares == own[:, None])) * among
    counts = among.sum(axis=1)
    nearer = np.divide(farther.sum(axis=1), counts, out=np.full(len(own), np.nan), where=counts > 0)
    return {"pair_distance": np.sqrt(own), "pair_nearer": nearer}
