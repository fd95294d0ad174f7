"""How a patient lies in a picture, by letters of DICOM: the direction of its rows, and that of its columns.

L R   the patient's left, right       A P   front, back       H F   head, feet

L F   frontal and upright, as radiographs are looked at       R F, H L, ...   frontal, mirrored or turned
P F   from the side                                           L P   a transversal slice
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["directions", "is_frontal", "is_lateral", "upright"]


def directions(words: Sequence[str], cosines: Sequence[float]) -> tuple[str, str] | None:
    """The directions of rows and columns; None where they are not told.

    Args:
        words: the two values of PatientOrientation, each the letters of a direction, the principal one first.
        cosines: the six of ImageOrientationPatient, which counts where the other is not told.
    """
    if len(words) == 2 and all(word[0] in "LRAPHF" for word in words):
        return words[0][0], words[1][0]
    if len(cosines) != 6 or not np.isfinite(cosines).all():
        return None
    rows, columns = (np.asarray(part) for part in (cosines[:3], cosines[3:]))
    return _letter(rows), _letter(columns)


def _letter(vector: np.ndarray) -> str:
    axis = int(np.abs(vector).argmax())
    return ("LR", "PA", "HF")[axis][int(vector[axis] < 0)]


def is_frontal(found: tuple[str, str] | None) -> bool:
    """Whether one direction runs between left and right, and the other between head and feet."""
    return found is not None and any(one in "LR" for one in found) and any(one in "HF" for one in found)


def is_lateral(found: tuple[str, str] | None) -> bool:
    """Whether one direction runs between front and back, and the other between head and feet."""
    return found is not None and any(one in "AP" for one in found) and any(one in "HF" for one in found)


def upright(pixels: np.ndarray, found: tuple[str, str] | None) -> np.ndarray:
    """A frontal image `[..., H, W]` with rows to the left and columns to the feet; any other as it is.

    Args:
        pixels: the image.
        found: the directions of its rows and columns.
    """
    if found is None or not is_frontal(found):
        return pixels
    rows, columns = found
    if rows in "HF":
        pixels, rows, columns = pixels.swapaxes(-2, -1), columns, rows
    return np.ascontiguousarray(pixels[..., :: 1 if columns == "F" else -1, :: 1 if rows == "L" else -1])
