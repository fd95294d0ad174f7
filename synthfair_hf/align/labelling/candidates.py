"""Pairs of images to be compared: a directory with images and one JSON object per line in `candidates.jsonl`.

    {"id": "p17-3", "first": "images/0f.png", "second": "images/a2.png", "subject_id": "p17", "split": "train",
     "covariates": {"age": 61, "sex": "female", "finding": "pneumonia", "view": "PA", "scanner": null}}

A covariate that is null or left out is missing. Paths are relative to the file and below its directory. The lines do
not identify the generators of the images; only the id leads back to them.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...domains.preset import Preset
from ...errors import InputError, unknown
from ...missing import is_missing
from ...records import check_regular
from ..pixels import read_pixels, stack
from ..preferences import Preferences
from .answers import Answers

__all__ = ["FILE", "Candidates"]

FILE = "candidates.jsonl"
TEXTS = ("id", "first", "second", "subject_id", "split")
KEYS = (*TEXTS, "covariates")


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs to be compared: `pairs` holds `first` as preferred, `second` as rejected, and ids in place of judges."""

    ids: tuple[str, ...]
    pairs: Preferences
    preset: Preset

    @classmethod
    def read(cls, directory: str | Path, preset: Preset) -> "Candidates":
        """Read every pair of a directory, images included.

        Args:
            directory: with candidates.jsonl.
            preset: the domain.

        Raises:
            InputError: naming the line where it is not of this form, has a covariate or value that the preset does not
                allow, or names no image below the directory; where images differ in size; where a pair holds one image
                twice or occurs twice; and where a subject lies in two splits.
        """
        path = Path(directory) / FILE
        check_regular(path, str(path), "give a file of pairs")
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InputError(f"candidates_dir: {directory} holds no {FILE}; give a directory with one.") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 text ({error.reason}).") from None
        lines = {f"{path}:{number}": one for number, one in enumerate(text.split("\n"), start=1) if one.strip()}
        if not lines:
            raise InputError(f"{path}: holds no pairs; give one {{{', '.join(KEYS)}}} a line.")
        rows = {where: _row(line, where, preset) for where, line in lines.items()}
        _check_distinct([row["id"] for row in rows.values()], list(rows), "is the id of")
        files = [(row[key], f"{where}: {key}") for key in ("first", "second") for where, row in rows.items()]
        images = stack([_image(path.parent, *file) for file in files], [where for _, where in files])
        columns = {name: [row["covariates"].get(name) for row in rows.values()] for name in preset.covariates.names}
        encoded = preset.covariates.encode(columns)
        count = len(rows)
        try:
            pairs = Preferences(
                images[:count],
                images[count:],
                {name: torch.from_numpy(column) for name, column in encoded.items()},
                np.array([row["subject_id"] for row in rows.values()], dtype=str),
                np.array([row["split"] for row in rows.values()], dtype=str),
                # no judges yet; distinct names, so that a pair that occurs twice is found by its lines below
                np.array([row["id"] for row in rows.values()], dtype=str),
                torch.full((count,), torch.nan),
                np.array([""] * count, dtype=str),
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        _check_distinct([comparison for comparison, _ in pairs.answers()], list(rows), "is the same pair as")
        return cls(tuple(row["id"] for row in rows.values()), pairs, preset)

    def __len__(self) -> int:
        return len(self.ids)

    def values(self, row: int) -> dict[str, Any]:
        """The covariates that both images of a pair are to show, decoded, by name; None where missing."""
        columns = {name: column[row : row + 1].numpy() for name, column in self.pairs.covariates.items()}
        return {name: value for name, (value,) in self.preset.covariates.decode(columns).items()}

    def check(self, answers: Answers) -> None:
        """Raise InputError for answers to pairs that are not among these."""
        for annotator in answers.annotators:
            for answer in answers.of(annotator):
                if answer.id not in self.ids:
                    raise InputError(
                        f"{answers.path}: answers {answer.id!r}, which is not among the "
                        f"{len(self)} candidates; give the file of these candidates, or a new one."
                    )

    def judged(self, answers: Answers) -> tuple[Preferences, dict[str, dict[str, int]]]:
        """Preferences from answers; the annotator is the judge, margins are unknown.

        Args:
            answers: to these candidates.

        Returns:
            The pairs of which an annotator preferred one image and, by annotator, the counts of answers, `first` +
            `second` + `ties` + `rejects` = `compared`.

        Raises:
            InputError: for answers to other pairs.
        """
        self.check(answers)
        place = {one: row for row, one in enumerate(self.ids)}
        counts: dict[str, dict[str, int]] = {}
        kept = []
        for annotator in answers.annotators:
            given = answers.of(annotator)
            tally = Counter(answer.answer for answer in given)
            counts[annotator] = {
                "compared": len(given),
                "first": tally["first"],
                "second": tally["second"],
                "ties": tally["tie"],
                "rejects": tally["reject"],
            }
            kept += [answer for answer in given if answer.answer in ("first", "second")]
        pairs = self.pairs.select(np.array([place[answer.id] for answer in kept], dtype=np.int64))
        wins = torch.tensor([answer.answer == "first" for answer in kept], dtype=torch.bool).view(-1, 1, 1, 1)
        preferences = Preferences(
            torch.where(wins, pairs.preferred, pairs.rejected),
            torch.where(wins, pairs.rejected, pairs.preferred),
            pairs.covariates,
            pairs.subjects,
            pairs.splits,
            np.array([answer.annotator for answer in kept], dtype=str),
            pairs.margins,
            np.array([answer.comment for answer in kept], dtype=str),
        )
        return preferences, counts


def _row(line: str, where: str, preset: Preset) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (RecursionError, ValueError) as error:
        raise InputError(f"{where}: not JSON ({error}); give {{{', '.join(KEYS)}}}.") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: not an object; give {{{', '.join(KEYS)}}}.")
    for key in row:
        if key not in KEYS:
            raise unknown(where, key, KEYS)
    for key in TEXTS:
        if not isinstance(row.get(key), str) or not row[key]:
            raise InputError(f"{where}: {key} is not given as text; give {{{', '.join(KEYS)}}}.")
    if is_missing(row["subject_id"]):
        raise InputError(f"{where}: subject_id is {row['subject_id']!r}; give every pair its subject.")
    if not isinstance(row.get("covariates"), dict):
        raise InputError(f"{where}: covariates are not given by name; write {{}} where all are missing.")
    for name, value in row["covariates"].items():
        if name not in preset.covariates:
            raise unknown(f"{where}: covariates", name, preset.covariates.names)
        preset.covariates[name].encode_value(value, f"{where}: covariates[{name!r}]")
    return row


def _image(root: Path, name: str, where: str) -> torch.Tensor:
    """The image `name` below `root`; a path that leaves it is never opened."""
    try:
        path = (root / name).resolve()
    # RuntimeError: a link to itself
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{where}: {name!r} is not a path ({error}).") from None
    if not path.is_relative_to(root.resolve()):
        raise InputError(f"{where}: {name!r} leaves the directory; keep images below {root}.")
    if not path.is_file():
        raise InputError(f"{where}: {name!r} is not a file below {root}; name an image.")
    return read_pixels(path.read_bytes(), where)


def _check_distinct(keys: list[str], places: list[str], relation: str) -> None:
    held: dict[str, str] = {}
    for key, place in zip(keys, places, strict=True):
        if (other := held.setdefault(key, place)) != place:
            raise InputError(f"{place}: {relation} {other} too; keep one of them.")
