"""A folder of images with a metadata.csv: the Hugging Face `imagefolder` layout plus covariates and patients.

file_name,patient_id,age,sex,view,finding
images/0001.png,p17,61,F,PA,Pneumonia
"""

import csv
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import InputError
from ..presets import Preset
from ..records import fingerprint
from .source import jitter, patient_split, read_image

__all__ = ["ImageFolder", "read_rows"]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as dicts of text; a malformed file is refused with file:line and nothing is read in part."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            repeated = [name for name, times in Counter(header).items() if times > 1]
            if repeated:
                raise InputError(f"{path}:1: column {repeated[0]!r} appears twice; columns must have distinct names.")
            rows = []
            for cells in reader:
                if len(cells) != len(header):
                    raise InputError(f"{path}:{reader.line_num}: {len(cells)} cells, but the header has {len(header)}.")
                rows.append(dict(zip(header, cells, strict=True)))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a source needs a metadata.csv with a row per image.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not UTF-8 comma-separated text ({error}); save it as UTF-8 CSV.") from None
    if not rows:
        raise InputError(f"{path}: no rows; a source needs one row per image.")
    return rows


class ImageFolder:
    """Images and covariates of a folder, as far as the preset knows them.

    Every image is decoded once at opening. Images that can't be read are quarantined: left out, counted and listed in
    `counts["quarantined"]`; more than `max_bad_fraction` of them is an error, because then the folder is not what it
    seems. Cells no rule can read become missing and are counted in `counts["missing"]`.
    """

    def __init__(self, directory: str | Path, preset: Preset, resolution: int, max_bad_fraction: float = 0.05) -> None:
        root = Path(directory)
        metadata = root / "metadata.csv"
        rows = read_rows(metadata)
        for column in ("file_name", "patient_id"):
            if column not in rows[0]:
                remedy = "it names the image" if column == "file_name" else "it keeps a patient in one split"
                raise InputError(f"{metadata}:1: no column {column!r}; add it ({remedy}).")
        self.name = root.resolve().name
        self.covariates = preset.covariates.subset(name for name in preset.covariates.names if name in rows[0])
        paths = [_inside(root, row["file_name"], f"{metadata}:{line}") for line, row in enumerate(rows, start=2)]
        for line, row in enumerate(rows, start=2):
            if not row["patient_id"].strip():
                raise InputError(f"{metadata}:{line}: patient_id is empty; give every image its patient.")

        with ThreadPoolExecutor() as threads:
            reasons = list(
                tqdm(
                    threads.map(lambda path: _reason_unreadable(path, resolution), paths),
                    total=len(paths),
                    desc="reading images",
                )
            )
        quarantined = {row["file_name"]: reason for row, reason in zip(rows, reasons, strict=True) if reason}
        if len(quarantined) > max_bad_fraction * len(rows):
            first = next(iter(quarantined.values()))
            raise InputError(
                f"{root}: {len(quarantined)} of {len(rows)} images are unreadable (first: {first}); "
                f"at most {max_bad_fraction:.0%} may be; mend or remove them."
            )
        kept = [index for index, reason in enumerate(reasons) if not reason]
        rows, self._paths = [rows[index] for index in kept], [paths[index] for index in kept]

        missing: dict[str, Counter[str]] = {name: Counter() for name in self.covariates.names}
        self.table: dict[str, list[Any]] = {name: [] for name in self.covariates.names}
        for row in rows:
            for variable in self.covariates.walk():
                value, reason = variable.parse(row[variable.name])
                self.table[variable.name].append(value)
                if reason:
                    missing[variable.name][reason] += 1
        self.patient_ids = [row["patient_id"] for row in rows]
        self.splits = [patient_split(patient) for patient in self.patient_ids]
        self.counts: dict[str, Any] = {
            "images": len(rows),
            "patients": len(set(self.patient_ids)),
            "patients by split": {
                split: len({p for p, s in zip(self.patient_ids, self.splits, strict=True) if s == split})
                for split in sorted(set(self.splits))
            },
            "missing": {name: dict(reasons) for name, reasons in missing.items() if reasons},
            "quarantined": quarantined,
        }
        self.fingerprint = fingerprint([sorted(row.items()) for row in rows])
        self._cache: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def image(self, index: int, resolution: int) -> np.ndarray:
        """Image `[resolution, resolution]`, float32 in [0, 1]."""
        return read_image(self._paths[index], resolution)

    def draw(self, index: int, resolution: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        """A jittered image and its covariates. Decoded images stay in memory, in half precision."""
        if (index, resolution) not in self._cache:
            self._cache[index, resolution] = read_image(self._paths[index], 2 * resolution).astype(np.float16)
        return jitter(self._cache[index, resolution], rng), {name: self.table[name][index] for name in self.table}


def _inside(root: Path, name: str, where: str) -> Path:
    """The file `name` under `root`; a path that leaves the folder is never opened."""
    try:
        path = (root / name).resolve()
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: file_name {name!r} is not a path ({error}).") from None
    if not path.is_relative_to(root.resolve()):
        raise InputError(f"{where}: file_name {name!r} leaves the folder; keep images under {root}.")
    return path


def _reason_unreadable(path: Path, resolution: int) -> str | None:
    try:
        read_image(path, resolution)
    except InputError as error:
        return str(error)
    return None
