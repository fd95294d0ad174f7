"""Memorisation: nearest-training distances of generated images, against those of held-out patients.

    distance(x) = min over training images t of |v(x) - v(t)|

Samples of a generator without memorisation are as far from the training images as held-out patients' images are. v is
`standard_pixels` or any encoder's features. Counterfactuals of training images are near by construction, so only
samples are compared.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from ..domains.preset import CHANNELS
from ..errors import InputError
from ..records import row_generator
from .intervals import percentile_interval
from .realism import as_vectors

__all__ = ["Nearest", "memorisation", "nearest", "standard_pixels", "suspicious_png"]

BATCH = 256
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
NEAR = 0.01
"""The quantile of held-out distances below which a generated image counts as near."""


class Nearest(NamedTuple):
    """The nearest training image of each query: distance `[n]` float64, and its row among them `[n]`."""

    distance: np.ndarray
    row: np.ndarray


def standard_pixels(images: Tensor) -> Tensor:
    """Images `[n, C, r, r]` as vectors `[n, C * r * r / 4]` whose distance is the root mean square of their pixels.

    The pixels are 2 x 2 means, standardised by the image's own mean and deviation over all its channels, so that
    exposure does not hide a copy; what tells its colours apart stays.
    """
    if images.ndim != 4 or images.shape[1] not in CHANNELS or min(images.shape[2:]) < 2:
        raise InputError(f"images: unexpected shape {tuple(images.shape)}; expected [n, 1 or 3, r, r], r from 2 on.")
    flat = functional.avg_pool2d(images.double(), 2).flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    # an image of one grey level has no deviation and stays at the origin
    deviation = centred.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
    return centred / deviation / flat.shape[1] ** 0.5


def nearest(queries: Tensor, training: Tensor) -> Nearest:
    """The nearest training vector of each query, by Euclidean distance.

    Args:
        queries: `[n, d]`.
        training: `[m, d]`, one or more.

    Raises:
        InputError: for vectors of different length or values that are not finite.
    """
    queries, training = as_vectors(queries, "queries"), as_vectors(training, "training")
    if not len(training):
        raise InputError("training: no images; give those the generator was trained on.")
    if queries.shape[1] != training.shape[1]:
        raise InputError(
            f"queries: vectors of length {queries.shape[1]}, but training ones of {training.shape[1]}; use one encoder."
        )
    found = [
        torch.cdist(part, training, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
        for part in queries.split(BATCH)
    ]
    return Nearest(torch.cat([one.values for one in found]).numpy(), torch.cat([one.indices for one in found]).numpy())


def memorisation(
    generated: Tensor,
    held_out: Tensor,
    training: Tensor,
    held_out_groups: Sequence[str],
    seed: int = 0,
    suspicious: int = 10,
    n_bootstrap: int = 1000,
) -> dict[str, Any]:
    """Compare nearest-training distances of generated and held-out images.

    Intervals are 95 % bootstrap intervals over generated images and whole patients.

    Args:
        generated: samples as vectors of one encoder, `[n, d]`.
        held_out: held-out images, likewise.
        training: training images, likewise.
        held_out_groups: the patient of each held-out image.
        seed: of the bootstrap.
        suspicious: number of nearest pairs that are listed.
        n_bootstrap: number of bootstrap replicates.

    Returns:
        A JSON object. `generated`, `held_out`: n, and quantiles of the distances. `near`: share of generated images
        nearer than the first percentile of held-out ones; without memorisation `expected` (0.01, or 1 / (n + 1) where
        fewer than 99 held-out images can't resolve that). `nearer`: probability that a generated image is nearer than a
        held-out one, ties half (Mann-Whitney); 0.5 without memorisation, less for images unlike any real one.
        `suspicious`: the nearest pairs, as rows of `generated` and `training`, with the share of held-out images at
        least as near.

    Raises:
        InputError: for no images, and another number of groups than of held-out images.
    """
    for argument, images in (("generated", generated), ("held_out", held_out)):
        if not len(images):
            raise InputError(f"{argument}: no images; give one or more.")
    if len(held_out_groups) != len(held_out):
        raise InputError(
            f"held_out_groups: {len(held_out_groups)} names for {len(held_out)} held-out images; give one per image."
        )
    found, held = nearest(generated, training), nearest(held_out, training).distance
    patients, patient = np.unique(np.asarray(held_out_groups, dtype=str), return_inverse=True)
    rows_of = [np.flatnonzero(patient == one) for one in range(len(patients))]
    rng = row_generator(seed)
    drawn = np.empty((n_bootstrap, 2))
    for replicate in range(n_bootstrap):
        ours = found.distance[rng.integers(0, len(found.distance), len(found.distance))]
        theirs = held[np.concatenate([rows_of[one] for one in rng.integers(0, len(patients), len(patients))])]
        drawn[replicate] = _share_near(ours, theirs), _share_nearer(ours, theirs)
    lows, highs = percentile_interval(drawn).tolist()
    near, nearer = _share_near(found.distance, held), _share_nearer(found.distance, held)
    return {
        "generated": {"n": len(found.distance), "quantiles": _quantiles(found.distance)},
        "held_out": {"n": len(held), "groups": len(patients), "quantiles": _quantiles(held)},
        "near": {"value": near, "low": lows[0], "high": highs[0], "expected": max(NEAR, 1 / (len(held) + 1))},
        "nearer": {"value": nearer, "low": lows[1], "high": highs[1], "expected": 0.5},
        "suspicious": [
            {
                "generated": int(row),
                "training": int(found.row[row]),
                "distance": float(found.distance[row]),
                "held_out_share": float((held <= found.distance[row]).mean()),
            }
            for row in np.argsort(found.distance, kind="stable")[:suspicious]
        ],
    }


def _quantiles(distances: np.ndarray) -> dict[str, float]:
    return {f"{level:g}": float(np.quantile(distances, level)) for level in QUANTILES}


def _share_near(generated: np.ndarray, held_out: np.ndarray) -> float:
    # (n + 1) p is the place of the quantile below which a further draw falls with probability p exactly
    return float((generated < np.quantile(held_out, NEAR, method="weibull")).mean())


def _share_nearer(generated: np.ndarray, held_out: np.ndarray) -> float:
    ordered = np.sort(held_out)
    farther = (
        len(ordered) - (np.searchsorted(ordered, generated, "left") + np.searchsorted(ordered, generated, "right")) / 2
    )
    return float(farther.mean() / len(ordered))


IMAGE_SIDE, GAP, CAPTION_WIDTH, LINE = 128, 8, 300, 18
"""Pixels of the picture of suspicious pairs: least side of an image, gap, width of a caption, height of a line."""

WHITE_AT = 0.5
"""Difference, as a share of the grey range, that the picture shows as white."""


def suspicious_png(
    generated: Tensor, training: Tensor, originals: int, suspicious: Sequence[Mapping[str, Any]]
) -> bytes:
    """A picture of suspicious pairs: by row, sample, training image and their absolute difference.

    The training image is first given the mean and standard deviation of the sample, so that, as in `standard_pixels`, a
    copy of another exposure is found; the difference to a copy is black.

    Args:
        generated: samples `[n, C, r, r]` in [0, 1].
        training: training images `[m, C, r, r]` in [0, 1]: the originals, then as many augmented examples, and so on.
        originals: number of training images that are not augmented.
        suspicious: the pairs of `memorisation`.

    Returns:
        A PNG file.
    """
    resolution = generated.shape[-1]
    side = resolution * -(-IMAGE_SIDE // resolution)
    places = [GAP + column * (side + GAP) for column in range(4)]
    font = ImageFont.load_default(13)
    sheet = Image.new("RGB", (places[-1] + CAPTION_WIDTH, GAP + LINE + len(suspicious) * (side + GAP)), "white")
    text = ImageDraw.Draw(sheet)
    for place, title in zip(places[:3], ("sample", "nearest training", "difference"), strict=True):
        text.text((place, GAP / 2), title, "black", font)
    for row, pair in enumerate(suspicious):
        top = GAP + LINE + row * (side + GAP)
        sample, original = generated[pair["generated"]].numpy(), training[pair["training"]].numpy()
        # an image of one grey level has no deviation and stays at the mean
        exposed = sample.mean() + (original - original.mean()) / max(original.std(), 1e-6) * sample.std()
        difference = np.abs(sample - exposed).clip(0, WHITE_AT) / WHITE_AT
        for place, pixels in zip(places[:3], (sample, original, difference), strict=True):
            levels = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
            picture = Image.fromarray(levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1))
            sheet.paste(picture.resize((side, side), Image.Resampling.NEAREST), (place, top))
        example, number = divmod(pair["training"], originals)
        caption = (
            f"sample {pair['generated']}",
            f"training image {number}" + (f", augmented example {example}" if example else ""),
            f"distance {pair['distance']:.3f}",
            f"held-out images as near: {pair['held_out_share']:.1%}",
            "difference at equal mean and deviation,",
            f"white from {WHITE_AT:.0%} of the range",
        )
        for line, words in enumerate(caption):
            text.text((places[3], top + line * LINE), words, "black", font)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()
