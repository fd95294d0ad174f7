"""Volumes in NIfTI files, of each the axial slice in the middle, read by nibabel, which is in the extra `nifti`.

    voxels -> axes named by the affine -> axial slice Z // 2 -> square pixels -> [0, 1]

The affine (sform, else qform) says which axis goes to the patient's right, front and head; a header without one is
refused, for then nothing tells which slice is axial. Axes are turned to the nearest of these three, voxels are not
resampled to an oblique plane. As in DICOM, the picture's left is the patient's right, and its top the front. Pixels
become square, as fine as the finer side of a voxel.

Levels of magnetic resonance have no unit. Black and white are the PERCENTILES of all voxels of the volume, the same for
each of its slices; what lies beyond is cut off.
"""

import gzip
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import InputError

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

__all__ = ["CONTRAST", "MAX_BYTES", "READING", "is_nifti", "read_nifti", "volumes"]

PERCENTILES = (0.5, 99.5)
"""Of a volume, what is black and what is white."""

CONTRAST = "percentiles 0.5 and 99.5 of the volume"
"""What decides black and white, for counts."""

READING = "nifti 1"
"""Version of the pixels that `read_nifti` gives."""

MAX_BYTES = 2**29
"""Of the voxels of a volume, unpacked; larger ones are an error before they are unpacked."""

BEYOND = 60
"""Levels of 2 to this power, or as small, are scaled by a power of two before anything is computed of them."""

SUFFIXES = (".nii", ".nii.gz")

HEADER_BYTES = 540
"""Of NIfTI-2, whose header is the longer one."""


def is_nifti(path: Path) -> bool:
    """Whether a file is to be read as NIfTI, by its suffix."""
    return path.name.lower().endswith(SUFFIXES)


def volumes(root: Path) -> list[str]:
    """The NIfTI files below a folder, relative to it and in order."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.nii*") if is_nifti(path))


def read_nifti(path: Path, max_pixels: int) -> np.ndarray:
    """The axial slice in the middle of a volume, float32 `[H, W]` in [0, 1].

    Args:
        path: of one file that holds header and voxels, plain or gzipped.
        max_pixels: a slice of more is an error.

    Raises:
        InputError: nibabel is not installed; the file is no NIfTI file, is damaged or larger than MAX_BYTES, holds
            anything but one volume of real numbers, or has no orientation. The sentence begins with the path.
    """
    try:
        from nibabel.affines import voxel_sizes
        from nibabel.orientations import apply_orientation, io_orientation
    except ImportError:
        raise InputError(
            f"{path}: nibabel is not installed; install it, or this package with the extra 'nifti'."
        ) from None
    try:
        header, voxels = _read(path)
        affine = header.get_best_affine()
        with np.errstate(over="ignore"):  # sizes that are infinite are refused below
            sizes = voxel_sizes(affine)
        if not (np.isfinite([*affine.ravel(), *sizes]).all() and (sizes > 0).all()):
            raise ValueError("the affine of its header is no orientation")
        axes = io_orientation(affine)
        if not np.isfinite(axes).all():
            raise ValueError("two axes of its affine are one")
        levels = voxels[np.isfinite(voxels)] if voxels.dtype.kind == "f" else voxels
        if not levels.size:
            raise ValueError("no voxel is a number")
        exponent = int(np.frexp(max(levels.max(), -levels.min()))[1]) if voxels.dtype.kind == "f" else 0
        if abs(exponent) > BEYOND:
            # differences between such levels, or the levels as float32, would be infinite or 0
            voxels, levels = np.ldexp(voxels, -exponent), np.ldexp(levels, -exponent)
        low, high = np.percentile(levels, PERCENTILES)
        volume = apply_orientation(voxels, axes)
        across, along = (float(sizes[int(np.flatnonzero(axes[:, 0] == axis)[0])]) for axis in (0, 1))
        # what overflows is beyond the percentiles, and so black or white
        with np.errstate(over="ignore"):
            plane = volume[::-1, ::-1, volume.shape[2] // 2].T.astype(np.float32)
    except InputError:
        raise
    except Exception as error:
        # a damaged file fails in nibabel and gzip in more ways than they document
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a readable NIfTI file ({reason}).") from None
    slope = header.get_slope_inter()[0]
    span = high - low if slope is None or slope > 0 else low - high
    black = low if span > 0 else high
    width = np.float32(span)
    with np.errstate(over="ignore"):  # what lies far beyond white is cut off below
        tones = (plane - np.float32(black)) / width if width else np.zeros_like(plane)
    tones = np.nan_to_num(tones, nan=0.0).clip(0, 1)
    return _square_pixels(tones, along, across, path, max_pixels)


def _read(path: Path) -> tuple["Nifti1Header", np.ndarray]:
    """The header, and the stored voxels `[X, Y, Z]`, of which no more are unpacked than the header says."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        start: bytes = file.read(HEADER_BYTES)
        kind = next((one for one in (Nifti1Header, Nifti2Header) if one.may_contain_header(start)), None)
        if kind is None:
            raise ValueError("no header of NIfTI")
        header: Any = kind(start[: kind.sizeof_hdr], check=False)
        dtype, shape = header.get_data_dtype(), header.get_data_shape()
        if header["magic"].item()[:2] != b"n+":
            raise InputError(f"{path}: its voxels lie in another file; convert it to one .nii file.")
        if len(shape) < 3 or min(shape) < 1 or any(length > 1 for length in shape[3:]):
            held = "several volumes" if len(shape) > 3 else "no volume"
            raise InputError(f"{path}: holds {held} ({'x'.join(map(str, shape))}); give a file of one volume.")
        if dtype.kind not in "iuf":
            raise InputError(f"{path}: voxels are of type {dtype}; give real numbers, one per voxel.")
        if int(header["sform_code"]) == int(header["qform_code"]) == 0:
            raise InputError(
                f"{path}: its header has no orientation (sform_code and qform_code are 0), which says what slice is "
                "axial; convert it anew from DICOM, or write one."
            )
        offset, size = header.get_data_offset(), int(np.prod(shape, dtype=object)) * dtype.itemsize
        if offset < kind.sizeof_hdr:
            raise ValueError(f"voxels begin at byte {offset}, inside the header")
        if offset + size > MAX_BYTES:
            raise InputError(f"{path}: {offset + size} bytes by its header exceed {MAX_BYTES}; not unpacked.")
        content = start + file.read(max(0, offset + size - len(start)))
    if len(content) < offset + size:
        raise ValueError(f"{len(content)} bytes, and {offset + size} by its header")
    voxels = header.raw_data_from_fileobj(io.BytesIO(content))
    return header, voxels.reshape(shape[:3])


def _square_pixels(tones: np.ndarray, along: float, across: float, path: Path, max_pixels: int) -> np.ndarray:
    """A slice of pixels `along` high and `across` wide, in millimetres, with pixels as wide as high."""
    finest = min(along, across)
    height, width = round(tones.shape[0] * along / finest), round(tones.shape[1] * across / finest)
    if height * width > max_pixels:
        raise InputError(f"{path}: {width}x{height} pixels exceed {max_pixels}; give a volume of finer slices.")
    if (height, width) == tones.shape:
        return tones
    return np.asarray(Image.fromarray(tones).resize((width, height), Image.Resampling.BILINEAR)).clip(0, 1)
