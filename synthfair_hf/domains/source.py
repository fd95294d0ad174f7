"""A source: images with covariates and patients, whatever produced them.

source.table[name][i]      value of covariate `name` of image i, None where missing
source.image(i, r)         float32 [r, r] in [0, 1], or [3, r, r] of a source in colours
source.draw(i, r, rng)     the same image as an example of training: jittered, with its covariates
source.splits[i]           fixed by the patient alone: split(i) = f(sha256(patient))

The preset's `channels` decide, and a source in colours says `channels = 3`. A gray image is [r, r] wherever it stands
by itself, one in colours [3, r, r], red, green and blue; `images.to_batch` makes both [n, C, r, r], as networks take
them. Files in colours are read as luminance where the preset is gray, and gray ones as three equal colours where it has
three channels; either is counted.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from ..errors import InputError, counted, printable
from ..records import Access, check_regular, file_sha256, strictest
from ..schema import SPLITS, Schema
from . import nifti
from .dicom import READING, Header, is_dicom, read_dicom
from .images import (
    MAX_PIXELS,
    Fit,
    Plane,
    centre_square,
    halve,
    is_in_colours,
    open_image,
    padded,
    planes,
    size,
    tones,
)
from .nifti import is_nifti, read_nifti

__all__ = [
    "BLANK",
    "NOT_TOLD",
    "Patients",
    "Source",
    "access_to",
    "channels_of",
    "count_colours",
    "count_contradictions",
    "count_contrasts",
    "count_patients",
    "describe_counts",
    "image_sha256",
    "jitter",
    "part_split",
    "patient_split",
    "read_image",
    "read_radiograph",
    "totals",
    "unit_of",
]

Patients = Literal["all", "generator", "judge", "held_out"]
"""Whose images are read: those from which a generator is learned and those from which its judges are never meet, and
from the test patients of the last neither learns."""

JUDGES = 0.25
"""Share of the patients outside of the test split whose images are the judges'."""

BLANK = "shows nothing"
"""What is said of an image whose pixels, but for one in a hundred at either end, are of one gray level at 8 bits."""


NOT_TOLD = "not told"
"""Why an optional covariate is not read that a table has no column of."""


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
        """Image `[resolution, resolution]`, or `[3, resolution, resolution]` of a source in colours.

        Args:
            index: 0 to len - 1.
            resolution: height and width in pixels.

        Returns:
            float32 of that shape, in [0, 1].
        """
        ...

    def draw(self, index: int, resolution: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        """One training example: an augmented image and the covariates that hold for it.

        Args:
            index: 0 to len - 1.
            resolution: height and width in pixels.
            rng: decides the augmentation.

        Returns:
            The image, as `image` gives it, and decoded covariates by name, None where missing.
        """
        ...


def channels_of(source: object) -> int:
    """1 for a source of gray images, and for one that says nothing of it; 3 for one in colours."""
    return int(getattr(source, "channels", 1))


def access_to(source: object, access: Access | None) -> Access:
    """The access to a source: what is said of it, or what its data set is given under where that is stricter.

    Args:
        source: it, or the world that observes it; one that says nothing of access adds nothing.
        access: what is said; None for what its data set's reader tells, or the record of what was ingested, and unknown
            where neither does.
    """
    told: Access = access or getattr(source, "recorded_access", None) or "unknown"
    return strictest(told, getattr(source, "access", "open"))


def patient_split(patient_id: str) -> str:
    """The split of a patient, from the sha256 of the identifier: stable under any change of the file's rows."""
    position = int.from_bytes(hashlib.sha256(patient_id.encode()).digest()[:8], "big") / 2**64
    for split, share in SPLITS.items():
        if position < share:
            return split
        position -= share
    return "test"


def part_split(patients: Patients, split: str, patient_id: str) -> str | None:
    """The split of a patient in a part of the patients; None for one who is not of it.

        judge  <=>  u < 1/4,    u = sha256("judge " + patient) in [0, 1)

        patients     train          validation        test
        generator    no judge       no judge          all
        judge        judge          judge             all
        held_out     no judge       no judge          all, and the judges' validation patients

    A predictor that is trained on the judges' patients has seen none that a generator of the other part, its
    calibration or its fine-tuning saw. Nothing is learned from the test patients of `held_out`, by either. The part
    does not depend on the split: each has training and validation patients.

    Args:
        patients: the part, or "all".
        split: of the patient.
        patient_id: its identifier.
    """
    if patients == "all" or split == "test":
        return split
    position = int.from_bytes(hashlib.sha256(f"judge {patient_id}".encode()).digest()[:8], "big") / 2**64
    is_judge = position < JUDGES
    if patients == "held_out" and is_judge and split == "validation":
        return "test"
    return split if is_judge == (patients == "judge") else None


def unit_of(source: object) -> str:
    """What the patients of a source are: patients, or what it tells instead, such as lesions."""
    return str(getattr(source, "unit", "patient"))


def count_patients(patient_ids: list[str], splits: list[str], unit: str = "patient") -> dict[str, Any]:
    """Numbers of images and patients, for `counts`, which name another `unit` than patients."""
    pairs = set(zip(patient_ids, splits, strict=True))
    by_split = Counter(split for _, split in pairs)
    return {
        "images": len(patient_ids),
        "patients": len(pairs),
        "patients by split": dict(sorted(by_split.items())),
        **({} if unit == "patient" else {"unit": unit}),
    }


def count_contradictions(
    covariates: Schema, table: Mapping[str, list[Any]], patient_ids: list[str]
) -> dict[str, dict[str, int]]:
    """How many patients have several levels of what a person has one of (sex, race), for `counts`; else empty.

    Args:
        covariates: the schema.
        table: decoded values by covariate, None where missing; they stay as they are.
        patient_ids: of the same rows.
    """
    found = {}
    for variable in covariates.walk():
        if variable.categorical and variable.nature == "patient/demographic":
            pairs = set(zip(patient_ids, table[variable.name], strict=True))
            several = Counter(patient for patient, value in pairs if value is not None)
            found[variable.name] = sum(times > 1 for times in several.values())
    found = {name: patients for name, patients in found.items() if patients}
    return {"contradictory": found} if found else {}


def count_copies(digests: Sequence[str], table: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, int]]:
    """How many images have, byte for byte, copies of another value, for `counts`; else empty.

    Args:
        digests: of the images `[n]`.
        table: decoded values by covariate `[n]`, None where missing; they stay as they are.
    """
    times = Counter(digests)
    copies = [row for row, digest in enumerate(digests) if times[digest] > 1]
    found = {}
    for name, values in table.items():
        pairs = {(digests[row], values[row]) for row in copies if values[row] is not None}
        found[name] = sum(several > 1 for several in Counter(digest for digest, _ in pairs).values())
    found = {name: images for name, images in found.items() if images}
    return {"copies differ": found} if found else {}


def count_contrasts(paths: Iterable[Path], headers: Iterable[Header | None]) -> dict[str, Any]:
    """How many files of DICOM or NIfTI had black and white decided by what, and how many were turned, for `counts`.

    Args:
        paths: of images that can be read.
        headers: of those that are DICOM.
    """
    known = [header for header in headers if header is not None]
    found = Counter(header.contrast for header in known) + Counter({nifti.CONTRAST: sum(map(is_nifti, paths))})
    turned = sum(header.placement == "turned" for header in known)
    return {
        **({"contrast": dict(sorted(found.items()))} if found else {}),
        **({"turned upright": turned} if turned else {}),
    }


def count_colours(paths: Iterable[Path], channels: int) -> dict[str, int]:
    """How many images have colours where they are read as gray, or none where they are read in colours, for `counts`.

    Args:
        paths: of images that are not DICOM.
        channels: that they are read in, 1 or 3.

    Returns:
        `in colours` or `gray`; empty where there is none.
    """
    files = list(paths)
    with ThreadPoolExecutor() as threads:
        in_colours = sum(threads.map(is_in_colours, files))
    name, found = ("in colours", in_colours) if channels == 1 else ("gray", len(files) - in_colours)
    return {name: found} if found else {}


def totals(counts: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of a source as numbers alone, for what is published: cells and names of files may tell who is in it.

    Args:
        counts: those of a source, or their totals.

    Returns:
        `images` and `patients`, with another `unit` than these; of a folder also `missing` cells by covariate, presets
        that have `others in` them, `columns not read`, images `quarantined`, levels with `no image of` them, patients
        with `contradictory` values, DICOM files by their `contrast`, and images `in colours`, or `gray`, where the
        preset has other channels; of several sources those of each.
    """
    if "missing" not in counts:
        return {name: counts[name] for name in ("images", "patients", "unit") if name in counts}
    missing, quarantined = counts["missing"], counts["quarantined"]
    return {
        "images": counts["images"],
        "patients": counts["patients"],
        "missing": {name: n if isinstance(n, int) else sum(n.values()) for name, n in missing.items()},
        "quarantined": quarantined if isinstance(quarantined, int) else len(quarantined),
        **{name: counts[name] for name in PUBLISHED if name in counts},
        **({"sources": {name: totals(one) for name, one in counts["sources"].items()}} if "sources" in counts else {}),
    }


PUBLISHED = (
    *("left out", "not read", "columns not read", "no image of", "contradictory", "copies differ", "contrast"),
    *("in colours", "gray", "turned upright", "fit", "part", "unit", "others in", "without a row"),
    *("patients of several sources", "patients of several splits"),
)
"""Counts that tell of nobody."""


SHOWN = 8
"""Columns that are named in a line."""


def describe_counts(counts: Mapping[str, Any]) -> list[str]:
    """What was read of a source and what was not, as lines to print.

    Args:
        counts: those of a source, or their `totals`.
    """
    lines = [f"source: {_images(counts)}"]
    lines += [f"  {name}: {_images(one)}" for name, one in counts.get("sources", {}).items()]
    if "patients of several sources" in counts:
        lines.append(
            f"  in several of them: {counts['patients of several sources']} {_units(counts)}, "
            f"{counts['patients of several splits']} of them in several splits and put into one"
        )
    quarantined = counts.get("quarantined") or 0
    if isinstance(quarantined, Mapping):
        first, reason = next(iter(quarantined.items()))
        lines.append(f"  left out: {len(quarantined)} images (first: {first}: {reason})")
    elif quarantined:
        lines.append(f"  left out: {quarantined} images that can't be read or show nothing")
    lines += [f"  left out: {n} images ({reason})" for reason, n in counts.get("left out", {}).items()]
    if unlisted := counts.get("without a row"):
        lines.append(f"  not read: {counted(unlisted, 'image')} of the folder that no row of its table names")
    not_read = counts.get("not read", {})
    lines += [f"  not read: {name} ({reason})" for name, reason in not_read.items() if reason != NOT_TOLD]
    if columns := counts.get("columns not read"):
        several = "s" * (len(columns) > 1)
        words = ", ".join(map(printable, columns[:SHOWN]))
        more = f" and {len(columns) - SHOWN} more" if len(columns) > SHOWN else ""
        lines.append(
            f"  not read: column{several} {words}{more}, no covariate of the preset; a drafted one may have them"
        )
    if untold := [name for name, reason in not_read.items() if reason == NOT_TOLD]:
        lines.append(f"  {NOT_TOLD} of any image: {', '.join(untold)}")
    if unseen := counts.get("unknown view"):
        lines.append(f"  left out: {unseen} images of unknown view")
    missing = counts.get("missing", {})
    for name, reasons in missing.items():
        # a label that no finding is known by is missing from all that a column tells of
        alike = [one for one, its in missing.items() if its == reasons and isinstance(its, Mapping)]
        if name in alike[1:]:
            continue
        others = counts.get("others in", {}).get(name)
        known = "" if others is None else f"; the preset {others} has findings that this one lacks"
        if not isinstance(reasons, Mapping):
            lines.append(f"  missing {name}: {reasons}{known}")
            continue
        shown = sorted(reasons.items(), key=lambda one: -one[1])[:5]
        words = ", ".join(f"{reason} {n}" for reason, n in shown) + (", ..." if len(reasons) > len(shown) else "")
        if allowed := counts.get("allowed", {}).get(name):
            words += f"; allowed: {allowed}"
        each = " of each" * (len(alike) > 1)
        lines.append(f"  missing {', '.join(alike)}: {sum(reasons.values())}{each} ({words}){known}")
    lines += [
        f"  contradictory {name}: {patients} {_units(counts)} have several"
        for name, patients in counts.get("contradictory", {}).items()
    ]
    lines += [
        f"  contradictory {name}: {counted(images, 'image')} with copies of another value"
        for name, images in counts.get("copies differ", {}).items()
    ]
    lines += [f"  no image of {name} {', '.join(levels)}" for name, levels in counts.get("no image of", {}).items()]
    if in_colours := counts.get("in colours"):
        lines.append(
            f"  read as gray: {in_colours} images in colours, by luminance; a preset with channels: 3 keeps them so"
        )
    if without := counts.get("gray"):
        lines.append(f"  read as three equal colours: {without} gray images")
    if contrasts := counts.get("contrast"):
        kinds = dict.fromkeys("NIfTI" if name == nifti.CONTRAST else "DICOM" for name in contrasts)
        lines.append(
            f"  gray levels of {' and '.join(kinds)} by " + ", ".join(f"{name} {n}" for name, n in contrasts.items())
        )
    if turned := counts.get("turned upright"):
        lines.append(f"  turned upright: {turned} images")
    if "part" in counts:
        lines.append(f"  read: the part of the {counts['part']}, and the test patients")
    if counts.get("fit") == "pad":
        lines.append("  padded to squares: all images")
    # names of files, and cells, are others' text
    return list(map(printable, lines))


def _images(counts: Mapping[str, Any]) -> str:
    return f"{counts['images']} images of {counts['patients']} {_units(counts)}"


def _units(counts: Mapping[str, Any]) -> str:
    """What the patients of a source are, in the plural: `lesions`, `lesions or patients`."""
    return " or ".join(f"{one}s" for one in counts.get("unit", "patient").split(" or "))


def read_radiograph(path: Path, resolution: int, channels: int = 1, fit: Fit = "crop") -> np.ndarray:
    """An image as float32 `[2 * resolution, 2 * resolution]` in [0, 1], centre-cropped to a square.

    Twice the resolution, so that `jitter` can move it before the pixels are averaged. DICOM is read by
    `dicom.read_dicom`, the middle slice of NIfTI by `nifti.read_nifti`, every other file by `images.open_image`,
    upright and by the full scale of its file.

    Args:
        path: of an image, or of a DICOM or NIfTI file.
        resolution: half the height and width of what is returned, in pixels.
        channels: 1, luminance, or 3, colours: then it is `[3, 2 * resolution, 2 * resolution]`.
        fit: "pad" keeps the whole image, with black beside it, instead of cropping it.

    Raises:
        InputError: naming the file, which is unreadable, truncated, animated, too small, too large, of pixels that are
            neither gray nor RGB, or BLANK.
    """
    check_regular(path, str(path), "name an image")
    decoded = _decoded(path, channels)
    if fit == "pad":
        side = max(size(decoded[0]))
        if side**2 > MAX_PIXELS:
            raise InputError(f"{path}: padded to {side}x{side} pixels exceeds {MAX_PIXELS}; crop it, or leave it out.")
        decoded = [padded(plane) for plane in decoded]
    width, height = size(decoded[0])
    if min(height, width) < 2 * resolution:
        raise InputError(
            f"{path}: {width}x{height} is too small; resolution {resolution} needs images of at least "
            f"{2 * resolution} pixels."
        )
    return _shown([centre_square(plane, 2 * resolution) for plane in decoded], path)


def _shown(decoded: Sequence[np.ndarray], path: Path) -> np.ndarray:
    """The pixels themselves, of one plane or of three; InputError where they are BLANK."""
    pixels = decoded[0] if len(decoded) == 1 else np.stack(decoded)
    outer = math.ceil(0.01 * (decoded[0].size - 1))
    for plane in decoded:
        # where more than one in a hundred are below a span, and above it, so are the quantiles, which take longer
        middle = plane.mean()
        if min(np.count_nonzero(plane < middle - 1 / 255), np.count_nonzero(plane > middle + 1 / 255)) > outer:
            return pixels
    ordered = pixels.reshape(len(decoded), -1)
    low, high = np.quantile(ordered, [0.01, 0.99], axis=-1)
    if np.max(high - low) < 1 / 255:
        shown = "gray level" if len(decoded) == 1 else "colour"
        level = ", ".join(f"{one:.3g}" for one in low)
        raise InputError(f"{path}: {BLANK}: its pixels are of one {shown}, {level} of 1.")
    return pixels


def _decoded(path: Path, channels: int) -> list[Plane]:
    """The planes of the whole image."""
    if is_dicom(path):
        pixels = read_dicom(path, MAX_PIXELS, channels)
        return [pixels] if channels == 1 else list(pixels)
    if is_nifti(path):
        return [read_nifti(path, MAX_PIXELS)] * channels
    return planes(open_image(path), str(path), channels)


def image_sha256(path: Path, header: Header | None = None) -> str:
    """The sha256 of an image's file; of DICOM and NIfTI with how it is read, which another version may do otherwise.

    Args:
        path: of the image.
        header: of one that is DICOM.
    """
    if header is not None:
        return f"{file_sha256(path)} {READING}" + (" turned" if header.placement == "turned" else "")
    return f"{file_sha256(path)} {nifti.READING}" if is_nifti(path) else file_sha256(path)


def read_image(path: Path, resolution: int, own_size: bool = False, channels: int = 1, fit: Fit = "crop") -> np.ndarray:
    """An image as float32 `[resolution, resolution]` in [0, 1]: 2 x 2 means of `read_radiograph`.

    Args:
        path: of the image.
        resolution: height and width in pixels.
        own_size: take an image of exactly this size, such as a generator makes, as it is.
        channels: 1, luminance, or 3, colours: then it is `[3, resolution, resolution]`.
        fit: as in `read_radiograph`.

    Raises:
        InputError: as `read_radiograph`.
    """
    check_regular(path, str(path), "name an image")
    if own_size and not (is_dicom(path) or is_nifti(path)):
        decoded = _decoded(path, channels)
        if size(decoded[0]) == (resolution, resolution):
            return _shown([tones(plane) for plane in decoded], path)
    return halve(read_radiograph(path, resolution, channels, fit))


def jitter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small rotation, shear, zoom of each axis and shift of an image, `[2r, 2r] -> [r, r]`; the same of each colour.

    No mirror (the heart is on the left) and no change of brightness (the scanner decides that): nothing that a
    covariate could explain is changed.

    Args:
        image: float32 or float16 `[2r, 2r]` or `[3, 2r, 2r]` in [0, 1], as `read_radiograph` gives it.
        rng: decides the change.
    """
    from scipy.ndimage import affine_transform

    side = image.shape[-1]
    angle, shear = np.deg2rad(rng.uniform(-5, 5, size=2))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ np.array([[1, 0], [np.tan(shear), 1]]) @ np.diag(1 / rng.uniform(0.9, 1.1, size=2))
    centre = (side - 1) / 2
    offset = centre - matrix @ np.full(2, centre) + rng.uniform(-0.06, 0.06, size=2) * side

    def moved(one: np.ndarray) -> np.ndarray:
        return halve(affine_transform(one.astype(np.float32), matrix, offset, order=1, mode="nearest"))

    return moved(image) if image.ndim == 2 else np.stack([moved(one) for one in image])
