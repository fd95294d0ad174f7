"""Radiographs in DICOM files, read by pydicom, which is in the extra `dicom`.

    pixels = (LUT(stored) - min) / (max - min),    1 - pixels where white is drawn for the lowest value (MONOCHROME1)

LUT is the file's rescale slope and intercept, or its modality table; min and max are the image's own. Its window is not
applied: it is a wish for the display, differs between vendors and viewers, and would clip grey levels for good.
"""

from pathlib import Path

import numpy as np

from ..errors import InputError

__all__ = ["read_dicom"]


def read_dicom(path: Path, max_pixels: int) -> np.ndarray:
    """The one gray image of a DICOM file, float32 `[H, W]` in [0, 1], from all of its bits.

    Pixels that the file calls padding are black.

    Args:
        path: of a file with the preamble of DICOM's part 10, whatever its suffix.
        max_pixels: an image of more is an error before a pixel is decoded.

    Raises:
        InputError: pydicom or a decoder is not installed; the file is no DICOM file, is damaged, or holds no image,
            several frames or colours. The sentence begins with the path.
    """
    try:
        from pydicom import dcmread
        from pydicom.errors import InvalidDicomError
        from pydicom.pixels import apply_modality_lut, get_decoder
    except ImportError:
        raise InputError(
            f"{path}: pydicom is not installed; install it, or this package with the extra 'dicom'."
        ) from None
    try:
        # pydicom would guess the format of a file without the preamble
        dataset = dcmread(path, force=False)
        if "PixelData" not in dataset:
            raise InputError(f"{path}: holds no image; name a file with one.")
        if int(dataset.get("NumberOfFrames") or 1) > 1:
            raise InputError(f"{path}: has several frames; give one frame per file.")
        kind, samples = dataset.get("PhotometricInterpretation"), dataset.get("SamplesPerPixel", 1)
        if kind not in ("MONOCHROME1", "MONOCHROME2") or samples != 1:
            raise InputError(
                f"{path}: pixels are {samples} samples of {kind}; allowed: one of MONOCHROME1 or MONOCHROME2."
            )
        if dataset.Rows * dataset.Columns > max_pixels:
            raise InputError(f"{path}: {dataset.Columns}x{dataset.Rows} pixels exceed {max_pixels}; not decoded.")
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax.is_compressed and not get_decoder(syntax).is_available:
            raise InputError(
                f"{path}: no decoder for {syntax.name} is installed; install this package with the extra 'dicom', or "
                "store the file uncompressed."
            )
        stored = dataset.pixel_array
        levels = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)
    except InputError:
        raise
    except InvalidDicomError:
        raise InputError(f"{path}: not a DICOM file (no preamble of part 10).") from None
    except Exception as error:
        # a damaged file fails in pydicom and its decoders in more ways than they document
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{path}: not a readable DICOM file ({reason}).") from None
    visible = np.ones(stored.shape, dtype=bool)
    if dataset.get("PixelPaddingValue") is not None:
        visible = stored != dataset.PixelPaddingValue
    if not visible.any():
        return np.zeros(stored.shape, dtype=np.float32)
    low, high = levels[visible].min(), levels[visible].max()
    pixels = (levels - low) / (high - low) if high > low else np.zeros(stored.shape)
    if kind == "MONOCHROME1":
        pixels = 1 - pixels
    return np.where(visible, pixels, 0).astype(np.float32)
