"""Realism of generated images, as distances between two sets of features `[n, d]`.

    frechet_distance = |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2))                      (Heusel et al. 2017)
    kernel_distance  = E k(x, x~) + E k(y, y~) - 2 E k(x, y),  k = (x.y / d + 1)^3    (Binkowski et al. 2018, unbiased)
    precision, recall, density, coverage: shares of one set inside the balls around the other, each ball reaching
    to its centre's k-th nearest neighbour                                           (Naeem et al. 2020)

Known as FID, KID and PRDC where the features are those of Inception; here they are those of the caller, compared in
float64. The Fréchet distance is biased upward at small n, the kernel distance is not: compare groups by the latter.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..records import row_generator
from .intervals import percentile_interval

__all__ = ["as_vectors", "frechet_distance", "kernel_distance", "neighbourhood_shares", "realism", "realism_by_group"]

NEIGHBOURS = 5
SUBSETS = 1000
SMALLEST_GROUP = 10
"""Sets of fewer images get no figure."""


def as_vectors(vectors: Tensor, argument: str) -> Tensor:
    """Feature vectors as float64 on the CPU.

    Args:
        vectors: `[n, d]`, finite.
        argument: its name in messages.

    Raises:
        InputError: for another shape or a value that is not finite.
    """
    if vectors.ndim != 2:
        raise InputError(f"{argument}: unexpected shape {tuple(vectors.shape)}; expected [n, d], one row per image.")
    if not torch.isfinite(vectors).all():
        raise InputError(f"{argument}: some values are not finite; leave those images out and count them.")
    return vectors.detach().to("cpu", torch.float64)


def _as_pair(real: Tensor, generated: Tensor) -> tuple[Tensor, Tensor]:
    real, generated = as_vectors(real, "real"), as_vectors(generated, "generated")
    if real.shape[1] != generated.shape[1]:
        raise InputError(
            f"generated: features of length {generated.shape[1]}, but real ones of {real.shape[1]}; use one encoder."
        )
    return real, generated


def _require_rows(real: Tensor, generated: Tensor, least: int) -> None:
    for argument, rows in (("real", len(real)), ("generated", len(generated))):
        if rows < least:
            raise InputError(f"{argument}: {rows} images are too few; give {least} or more.")


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    """Squared Fréchet distance between normal distributions fitted to two sets of features.

    With S = A'A and S' = B'B, tr (S S')^(1/2) is the sum of the singular values of A B': exact for singular S too.

    Args:
        real: features `[n, d]`, n from 2 on.
        generated: features `[m, d]`, m from 2 on.

    Returns:
        0 or more, in squared units of the features.

    Raises:
        InputError: for too few rows, other shapes or values that are not finite.
    """
    real, generated = _as_pair(real, generated)
    _require_rows(real, generated, 2)
    roots, traces = [], 0.0
    for features in (real, generated):
        centred = (features - features.mean(dim=0)) / (len(features) - 1) ** 0.5
        roots.append(torch.linalg.qr(centred, mode="r").R)
        traces += float(centred.square().sum())
    means = float((real.mean(dim=0) - generated.mean(dim=0)).square().sum())
    return max(means + traces - 2 * float(torch.linalg.svdvals(roots[0] @ roots[1].T).sum()), 0.0)


def kernel_distance(real: Tensor, generated: Tensor, seed: int = 0, subsets: int = SUBSETS) -> dict[str, float]:
    """Squared maximum mean discrepancy, unbiased (so it may fall below 0), with a 95 % interval.

    The interval is the spread of the same estimate on random halves of both sets, drawn without replacement: as the
    half differs from the whole by the variance of the whole itself, no scaling is needed. Where both sets have one
    distribution it is too wide rather than too narrow. Rows are taken as independent: give one image per patient.

    Args:
        real: features `[n, d]`, n from 4 on.
        generated: features `[m, d]`, m from 4 on.
        seed: of the halves.
        subsets: number of pairs of halves.

    Returns:
        `value`, `low` and `high`.

    Raises:
        InputError: for too few rows, other shapes or values that are not finite.
    """
    real, generated = _as_pair(real, generated)
    _require_rows(real, generated, 4)
    rng = row_generator(seed)
    chosen = [_halves(len(features), subsets, rng) for features in (real, generated)]
    whole = [torch.ones(1, len(features), dtype=torch.float64) for features in (real, generated)]
    kernels = [_kernel(real, real), _kernel(generated, generated), _kernel(real, generated)]
    value, halves = (_discrepancy(kernels, *weights) for weights in (whole, chosen))
    low, high = percentile_interval(halves.numpy())
    return {"value": float(value[0]), "low": float(low), "high": float(high)}


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    return (one @ other.T / one.shape[1] + 1) ** 3


def _halves(rows: int, subsets: int, rng: np.random.Generator) -> Tensor:
    """Random halves of the rows as 0 and 1, `[subsets, rows]`."""
    ranks = rng.random((subsets, rows)).argsort(axis=1)
    return torch.from_numpy(ranks < rows // 2).double()


def _discrepancy(kernels: list[Tensor], first: Tensor, second: Tensor) -> Tensor:
    """Unbiased estimates `[subsets]` on the rows that `first` `[subsets, n]` and `second` `[subsets, m]` mark by 1."""
    total = -2 * ((first @ kernels[2]) * second).mean(dim=1) * second.shape[1]
    total = total / (first.sum(dim=1) * second.sum(dim=1))
    for kernel, marks in ((kernels[0], first), (kernels[1], second)):
        n = marks.sum(dim=1)
        pairs = ((marks @ kernel) * marks).sum(dim=1) - marks @ kernel.diagonal()
        total = total + pairs / (n * (n - 1))
    return total


def neighbourhood_shares(real: Tensor, generated: Tensor, neighbours: int = NEIGHBOURS) -> dict[str, float]:
    """Precision, recall, density and coverage; of a set with itself all are 1.

    precision: generated images inside a real ball. recall: real images inside a generated ball. density: real balls
    around a generated image, over k. coverage: real balls that hold a generated image. Recall and coverage depend on
    both numbers of images: compare systems, and held-out real images, at the same ones.

    Args:
        real: features `[n, d]`, n above `neighbours`.
        generated: features `[m, d]`, m above `neighbours`.
        neighbours: k, 1 or more.

    Raises:
        InputError: for too few rows, other shapes or values that are not finite.
    """
    real, generated = _as_pair(real, generated)
    _require_rows(real, generated, neighbours + 1)
    between = _distances(real, generated)
    inside_real = between < _radii(real, neighbours)[:, None]
    inside_generated = between < _radii(generated, neighbours)[None]
    return {
        "precision": float(inside_real.any(dim=0).double().mean()),
        "recall": float(inside_generated.any(dim=1).double().mean()),
        "density": float(inside_real.sum(dim=0).double().mean() / neighbours),
        "coverage": float(inside_real.any(dim=1).double().mean()),
    }


def _distances(one: Tensor, other: Tensor) -> Tensor:
    # The faster product form leaves a distance of about 1e-7 between equal rows.
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")


def _radii(vectors: Tensor, neighbours: int) -> Tensor:
    """Distance of each row to its k-th nearest other row `[n]`."""
    return _distances(vectors, vectors).fill_diagonal_(torch.inf).kthvalue(neighbours, dim=1).values


def realism(real: Tensor, generated: Tensor, seed: int = 0, neighbours: int = NEIGHBOURS) -> dict[str, Any]:
    """All figures of this module.

    Args:
        real: features `[n, d]`.
        generated: features `[m, d]`.
        seed: of the kernel distance's interval.
        neighbours: k of precision, recall, density and coverage.

    Returns:
        Figures by name, `n_real` and `n_generated`. A figure is None where images are too few: the Fréchet distance
        needs more than d of each (a covariance of full rank), the others SMALLEST_GROUP and more than `neighbours`.
    """
    real, generated = _as_pair(real, generated)
    least = min(len(real), len(generated))
    figures: dict[str, Any] = {"n_real": len(real), "n_generated": len(generated)}
    figures["frechet_distance"] = frechet_distance(real, generated) if least > max(real.shape[1], 1) else None
    enough = least >= max(SMALLEST_GROUP, neighbours + 1)
    figures["kernel_distance"] = kernel_distance(real, generated, seed) if enough else None
    shares = neighbourhood_shares(real, generated, neighbours) if enough else {}
    return figures | {name: shares.get(name) for name in ("precision", "recall", "density", "coverage")}


def realism_by_group(
    real: Tensor,
    generated: Tensor,
    real_groups: Sequence[str | None],
    generated_groups: Sequence[str | None],
    seed: int = 0,
    neighbours: int = NEIGHBOURS,
) -> dict[str, Any]:
    """`realism` of all images, and of each group's real against its generated ones.

    Args:
        real: features `[n, d]`.
        generated: features `[m, d]`.
        real_groups: the group of each real image; None belongs to no group, and is counted overall only.
        generated_groups: the group of each generated image, likewise.
        seed: of the kernel distances' intervals.
        neighbours: k of precision, recall, density and coverage.

    Returns:
        `overall`, and `groups` by name.

    Raises:
        InputError: for another number of groups than of images.
    """
    for argument, groups, features in (
        ("real_groups", real_groups, real),
        ("generated_groups", generated_groups, generated),
    ):
        if len(groups) != len(features):
            raise InputError(f"{argument}: {len(groups)} names for {len(features)} images; give one per image.")
    names = sorted({name for name in (*real_groups, *generated_groups) if name is not None})
    by_group = {}
    for name in names:
        ours, theirs = ([one == name for one in groups] for groups in (real_groups, generated_groups))
        by_group[name] = realism(real[torch.tensor(ours)], generated[torch.tensor(theirs)], seed, neighbours)
    return {"overall": realism(real, generated, seed, neighbours), "groups": by_group}
