"""A folder of images with a metadata.csv: the Hugging Face `imagefolder` layout plus covariates and patients.

file_name,patient_id,age,sex,view,finding
images/0001.png,p17,61,F,PA,Pneumonia

Images are what Pillow reads, or DICOM (.dcm); their covariates stand in metadata.csv, never in a DICOM file's header.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import InputError
from ..records import file_sha256, fingerprint
from .preset import Preset
from .rows import read_rows
from .source import count_patients, jitter, patient_split, read_image, read_radiograph

__all__ = ["CACHE_BYTES", "ImageFolder"]


CACHE_BYTES = 4 * 2**30
"""Decoded images that one source keeps in memory; the others are decoded anew at every draw."""


class ImageFolder:
    """Images and covariates of a folder, as far as the preset has them.

    Every image is decoded once at opening. Images that can't be read are quarantined: left out, counted and listed in
    `counts["quarantined"]`; more than `max_bad_fraction` of them is an error, because then the folder is not what it
    seems. Cells no rule can read become missing and are counted in `counts["missing"]`.

    Args:
        directory: holds metadata.csv with the columns `file_name`, `patient_id` and some of the preset's covariates.
        preset: the domain, whose covariates are read.
        resolution: height and width in pixels that images will have; theirs must be twice that or more.
        max_bad_fraction: share of unreadable images, 0 to 1, that is tolerated.

    Raises:
        InputError: a damaged table, a row without image or patient, two patients with the same image, an image outside
            the folder, or too many unreadable ones.
    """

    def __init__(self, directory: str | Path, preset: Preset, resolution: int, max_bad_fraction: float = 0.05) -> None:
        root = Path(directory)
        table = read_rows(root / "metadata.csv")
        rows = [row for _, row in table]
        paths, patients = _locate(root, table)
        self.name = root.resolve().name
        self.covariates = preset.covariates.subset(name for name in preset.covariates.names if name in rows[0])

        with ThreadPoolExecutor() as threads:
            examined = threads.map(lambda path: _examine(path, resolution), paths)
            hashes, reasons = zip(*tqdm(examined, total=len(paths), desc="reading images"), strict=True)
        quarantined = {
            str(path.relative_to(root.resolve())): reason for path, reason in zip(paths, reasons, strict=True) if reason
        }
        if len(quarantined) > max_bad_fraction * len(rows):
            first, reason = next(iter(quarantined.items()))
            raise InputError(
                f"{root}: {len(quarantined)} of {len(rows)} images are unreadable (first: {first}: {reason}); "
                f"at most {max_bad_fraction:.0%} may be; repair or remove them."
            )
        kept = [index for index, reason in enumerate(reasons) if not reason]
        owners: dict[str, int] = {}
        for index in kept:
            owner = owners.setdefault(hashes[index], index)
            if patients[owner] != patients[index]:
                raise InputError(
                    f"{root / 'metadata.csv'}:{table[index][0]}: the image is byte for byte that of line "
                    f"{table[owner][0]}, of another patient; give both the same patient_id or remove one."
                )

        self._paths = [paths[index] for index in kept]
        self.file_names = [path.relative_to(root.resolve()).as_posix() for path in self._paths]
        """Of each image, relative to the folder."""
        self.patient_ids = [patients[index] for index in kept]
        self.splits = [patient_split(patient) for patient in self.patient_ids]
        missing: dict[str, Counter[str]] = {name: Counter() for name in self.covariates.names}
        self.table: dict[str, list[Any]] = {name: [] for name in self.covariates.names}
        for index in kept:
            for variable in self.covariates.walk():
                value, reason = variable.parse(rows[index][variable.name])
                self.table[variable.name].append(value)
                if reason:
                    missing[variable.name][reason] += 1
        self.counts: dict[str, Any] = {
            **count_patients(self.patient_ids, self.splits),
            "missing": {name: dict(reasons) for name, reasons in missing.items() if reasons},
            "quarantined": quarantined,
        }
        self.fingerprint = fingerprint([[sorted(rows[index].items()), hashes[index]] for index in kept])
        self._cache: dict[tuple[int, int], np.ndarray] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return len(self._paths)

    def image(self, index: int, resolution: int) -> np.ndarray:
        """Image `[resolution, resolution]`, float32 in [0, 1]."""
        return read_image(self._paths[index], resolution)

    def draw(self, index: int, resolution: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        """A jittered image and its covariates. Decoded images stay in memory, in half precision, up to CACHE_BYTES."""
        decoded = self._cache.get((index, resolution))
        if decoded is None:
            decoded = read_radiograph(self._paths[index], resolution).astype(np.float16)
            if self._cached_bytes + decoded.nbytes <= CACHE_BYTES:
                self._cache[index, resolution] = decoded
                self._cached_bytes += decoded.nbytes
        return jitter(decoded, rng), {name: self.table[name][index] for name in self.table}


def _locate(root: Path, table: list[tuple[int, dict[str, str]]]) -> tuple[list[Path], list[str]]:
    """The image file and the patient of each row; every row has both, and no two rows the same file."""
    metadata = root / "metadata.csv"
    for column, purpose in (("file_name", "names the image"), ("patient_id", "keeps a patient in one split")):
        if column not in table[0][1]:
            raise InputError(f"{metadata}:1: no column {column!r}; add it (it {purpose}).")
    lines: dict[Path, int] = {}
    patients = []
    for line, row in table:
        path = _inside(root, row["file_name"], f"{metadata}:{line}")
        if path in lines:
            raise InputError(
                f"{metadata}:{line}: file_name {row['file_name']!r} is the image of line {lines[path]} again; "
                "give every image one row."
            )
        lines[path] = line
        patients.append(row["patient_id"].strip())
        if not patients[-1]:
            raise InputError(f"{metadata}:{line}: patient_id is empty; give every image its patient.")
    return list(lines), patients


def _inside(root: Path, name: str, where: str) -> Path:
    """The file `name` under `root`; a path that leaves the folder is never opened."""
    try:
        path = (root / name).resolve()
        openable = path.is_file() or not path.exists()
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: file_name {name!r} is not a path ({error}).") from None
    if not path.is_relative_to(root.resolve()):
        raise InputError(f"{where}: file_name {name!r} leaves the folder; keep images under {root}.")
    # a pipe would be waited for
    if not openable:
        raise InputError(f"{where}: file_name {name!r} is not a file; name an image.")
    return path


def _examine(path: Path, resolution: int) -> tuple[str, str]:
    """The sha256 of an image file and, empty for a readable one, the reason why it is not, without its directory."""
    try:
        read_radiograph(path, resolution)
    except InputError as error:
        return "", str(error).removeprefix(f"{path}: ").rstrip(".")
    return file_sha256(path), ""
