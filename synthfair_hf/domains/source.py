"""A source: images with covariates and patients, whatever produced them.

source.table[name][i]      value of covariate `name` of image i, None where missing
source.image(i, r)         float32 [r, r] in [0, 1]
source.draw(i, r, rng)     the same image as an example of training: jittered, with its covariates
source.splits[i]           fixed by the patient alone: split(i) = f(sha256(patient))
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import InputError
from ..records import Access, check_regular, file_sha256, strictest
from ..schema import SPLITS, Schema
from . import nifti
from .dicom import READING, contrast, is_dicom, placement, read_dicom
from .images import MAX_PIXELS, Fit, centre_square, gray, halve, open_image, padded
from .nifti import is_nifti, read_nifti

__all__ = [
    "BLANK",
    "Source",
    "access_to",
    "count_contrasts",
    "count_patients",
    "describe_counts",
    "image_sha256",
    "jitter",
    "patient_split",
    "read_image",
    "read_radiograph",
    "totals",
]

BLANK = "shows nothing"
"""What is said of an image whose pixels, but for one in a hundred at either end, are of one gray level at 8 bits."""


class Source(Protocol):
    """What training and generation need of a data set or world. Values are decoded; images are float32 in [0, 1]."""

    name: str
    covariates: Schema
    table: dict[str, list[Any]]
    patient_ids: list[str]
    splits: list[str]
    fingerprint: str
    counts: dict[str, Any]

    def __len__(self) -> int: ...

    def image(self, index: int, resolution: int) -> np.ndarray:
        """Image `[resolution, resolution]`.

        Args:
            index: 0 to len - 1.
            resolution: height and width in pixels.

        Returns:
            float32 `[resolution, resolution]` in [0, 1].
        """
        ...

    def draw(self, index: int, resolution: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        """One training example: an augmented image and the covariates that hold for it.

        Args:
            index: 0 to len - 1.
            resolution: height and width in pixels.
            rng: decides the augmentation.

        Returns:
            The image, float32 `[resolution, resolution]` in [0, 1], and decoded covariates by name, None where missing.
        """
        ...


def access_to(source: object, access: Access) -> Access:
    """The access to a source: what is said of it, or what its data set is given under where that is stricter.

    Args:
        source: it, or the world that observes it; one that says nothing of access adds nothing.
        access: what is said.
    """
    return strictest(access, getattr(source, "access", "open"))


def patient_split(patient_id: str) -> str:
    """The split of a patient, from the sha256 of the identifier: stable under any change of the file's rows."""
    position = int.from_bytes(hashlib.sha256(patient_id.encode()).digest()[:8], "big") / 2**64
    for split, share in SPLITS.items():
        if position < share:
            return split
        position -= share
    return "test"


def count_patients(patient_ids: list[str], splits: list[str]) -> dict[str, Any]:
    """Numbers of images and patients, for `counts`."""
    pairs = set(zip(patient_ids, splits, strict=True))
    by_split = Counter(split for _, split in pairs)
    return {"images": len(patient_ids), "patients": len(pairs), "patients by split": dict(sorted(by_split.items()))}


def count_contrasts(paths: Sequence[Path]) -> dict[str, Any]:
    """How many files of DICOM or NIfTI had black and white decided by what, and how many were turned, for `counts`.

    Args:
        paths: of images that can be read.
    """
    dicom, volumes = [path for path in paths if is_dicom(path)], sum(is_nifti(path) for path in paths)
    found = Counter(map(contrast, dicom)) + Counter({nifti.CONTRAST: volumes})
    turned = sum(placement(path) == "turned" for path in dicom)
    return {
        **({"contrast": dict(sorted(found.items()))} if found else {}),
        **({"turned upright": turned} if turned else {}),
    }


TOLD = ("left out", "not read", "no image of", "contrast", "turned upright", "fit")
"""Counts of a folder that tell nothing of a person."""


def totals(counts: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of a source as numbers alone, for what is published: cells and names of files may tell who is in it.

    Args:
        counts: those of a source, or their totals.

    Returns:
        `images` and `patients`; of a folder also `missing` cells by covariate, images `quarantined`, levels with
        `no image of` them, and DICOM files by their `contrast`.
    """
    if "missing" not in counts:
        return {"images": counts["images"], "patients": counts["patients"]}
    missing, quarantined = counts["missing"], counts["quarantined"]
    return {
        "images": counts["images"],
        "patients": counts["patients"],
        "missing": {name: n if isinstance(n, int) else sum(n.values()) for name, n in missing.items()},
        "quarantined": quarantined if isinstance(quarantined, int) else len(quarantined),
        **{name: counts[name] for name in TOLD if name in counts},
    }


def describe_counts(counts: Mapping[str, Any]) -> list[str]:
    """What was read of a source and what was not, as lines to print.

    Args:
        counts: those of a source, or their `totals`.
    """
    lines = [f"source: {counts['images']} images of {counts['patients']} patients"]
    quarantined = counts.get("quarantined") or 0
    if isinstance(quarantined, Mapping):
        first, reason = next(iter(quarantined.items()))
        lines.append(f"  left out: {len(quarantined)} images (first: {first}: {reason})")
    elif quarantined:
        lines.append(f"  left out: {quarantined} images that can't be read or show nothing")
    lines += [f"  left out: {n} images ({reason})" for reason, n in counts.get("left out", {}).items()]
    lines += [f"  not read: {name} ({reason})" for name, reason in counts.get("not read", {}).items()]
    if unseen := counts.get("unknown view"):
        lines.append(f"  left out: {unseen} images of unknown view")
    for name, reasons in counts.get("missing", {}).items():
        if not isinstance(reasons, Mapping):
            lines.append(f"  missing {name}: {reasons}")
            continue
        shown = sorted(reasons.items(), key=lambda one: -one[1])[:5]
        words = ", ".join(f"{reason} {n}" for reason, n in shown) + (", ..." if len(reasons) > len(shown) else "")
        lines.append(f"  missing {name}: {sum(reasons.values())} ({words})")
    lines += [f"  no image of {name} {', '.join(levels)}" for name, levels in counts.get("no image of", {}).items()]
    if contrasts := counts.get("contrast"):
        kinds = dict.fromkeys("NIfTI" if name == nifti.CONTRAST else "DICOM" for name in contrasts)
        lines.append(
            f"  gray levels of {' and '.join(kinds)} by " + ", ".join(f"{name} {n}" for name, n in contrasts.items())
        )
    if turned := counts.get("turned upright"):
        lines.append(f"  turned upright: {turned} images")
    if counts.get("fit") == "pad":
        lines.append("  padded to squares: all images")
    return lines


def read_radiograph(path: Path, resolution: int, fit: Fit = "crop") -> np.ndarray:
    """A grayscale radiograph as float32 `[2 * resolution, 2 * resolution]` in [0, 1], centre-cropped to a square.

    Twice the resolution, so that `jitter` can move it before the pixels are averaged. DICOM is read by
    `dicom.read_dicom`, the middle slice of NIfTI by `nifti.read_nifti`, every other file by `images.open_image`,
    upright and by the full scale of its file.

    Args:
        path: of an image, or of a DICOM or NIfTI file.
        resolution: half the height and width of what is returned, in pixels.
        fit: "pad" keeps the whole image, with black beside it, instead of cropping it.

    Raises:
        InputError: naming the file, which is unreadable, truncated, animated, too small, too large, in colours that
            are not luminance, or BLANK.
    """
    check_regular(path, str(path), "name an image")
    if is_dicom(path):
        pixels = read_dicom(path, MAX_PIXELS)
    else:
        pixels = read_nifti(path, MAX_PIXELS) if is_nifti(path) else gray(open_image(path), str(path))
    if fit == "pad":
        pixels = padded(pixels)
    height, width = pixels.shape
    if min(height, width) < 2 * resolution:
        raise InputError(
            f"{path}: {width}x{height} is too small; resolution {resolution} needs images of at least "
            f"{2 * resolution} pixels."
        )
    return _shown(centre_square(pixels, 2 * resolution), path)


def _shown(pixels: np.ndarray, path: Path) -> np.ndarray:
    """The pixels themselves; InputError where they are BLANK."""
    low, high = np.quantile(pixels, [0.01, 0.99])
    if high - low < 1 / 255:
        raise InputError(f"{path}: {BLANK}: its pixels are of one gray level, {low:.3g} of 1.")
    return pixels


def image_sha256(path: Path) -> str:
    """The sha256 of an image's file; of DICOM and NIfTI with how it is read, which another version may do otherwise."""
    if is_dicom(path):
        return f"{file_sha256(path)} {READING}" + (" turned" if placement(path) == "turned" else "")
    return f"{file_sha256(path)} {nifti.READING}" if is_nifti(path) else file_sha256(path)


def read_image(path: Path, resolution: int, own_size: bool = False, fit: Fit = "crop") -> np.ndarray:
    """A grayscale radiograph as float32 `[resolution, resolution]` in [0, 1]: 2 x 2 means of `read_radiograph`.

    Args:
        path: of the image.
        resolution: height and width in pixels.
        own_size: take an image of exactly this size, such as a generator makes, as it is.
        fit: as in `read_radiograph`.

    Raises:
        InputError: as `read_radiograph`.
    """
    check_regular(path, str(path), "name an image")
    if own_size and not (is_dicom(path) or is_nifti(path)):
        pixels = gray(open_image(path), str(path))
        if pixels.shape == (resolution, resolution):
            return _shown(pixels, path)
    return halve(read_radiograph(path, resolution, fit))


def jitter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small rotation, shear, zoom of each axis and shift of an image, `[2r, 2r] -> [r, r]`.

    No mirror (the heart is on the left) and no change of brightness (the scanner decides that): nothing that a
    covariate could explain is changed.

    Args:
        image: float32 or float16 `[2r, 2r]` in [0, 1], as `read_radiograph` gives it.
        rng: decides the change.
    """
    from scipy.ndimage import affine_transform

    side = len(image)
    angle, shear = np.deg2rad(rng.uniform(-5, 5, size=2))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ np.array([[1, 0], [np.tan(shear), 1]]) @ np.diag(1 / rng.uniform(0.9, 1.1, size=2))
    centre = (side - 1) / 2
    offset = centre - matrix @ np.full(2, centre) + rng.uniform(-0.06, 0.06, size=2) * side
    moved = affine_transform(image.astype(np.float32), matrix, offset, order=1, mode="nearest")
    return halve(moved)
