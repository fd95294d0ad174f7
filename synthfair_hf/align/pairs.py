"""Preference pairs: of two images of the same covariates, which one was preferred, by whom and by how much.

    a comparison   two images in either order, and the covariates that they are to show
    an answer      (preferred, rejected), margin = score(preferred) - score(rejected) >= 0

A judge answers a comparison one way; several judges may differ (`agreement`). All pairs of a subject lie in one split.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, unknown
from ..records import fingerprint
from ..schema import SPLITS

__all__ = ["Covariates", "Preferences", "from_scores", "image_digest"]

Covariates = Mapping[str, Tensor]
"""Encoded values `[n]` by name, as `schema.encode` gives them: int64 levels, float32 numbers."""


@dataclass(frozen=True, eq=False)
class Preferences:
    """Pairs of images of one size, each with the judge that preferred one of them.

    Args:
        preferred: uint8 `[n, C, r, r]`, C 1 or 3.
        rejected: of the same shape; the two images of a pair differ.
        covariates: by name, encoded, `[n]`: what both images of a pair are to show; -1 and NaN are missing.
        subjects: `[n]` identifiers, each in one split alone.
        splits: `[n]`, of train, validation and test.
        judges: `[n]` names.
        margins: float32 `[n]`, 0 or more in the judge's own unit; NaN where none was given, as by a person.
        comments: `[n]` texts, empty where there is none.

    Raises:
        InputError: for other shapes, types or values, and where a judge answers one comparison both ways.
    """

    preferred: Tensor
    rejected: Tensor
    covariates: Covariates
    subjects: np.ndarray
    splits: np.ndarray
    judges: np.ndarray
    margins: Tensor
    comments: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(self.preferred.shape)
        for argument, images in (("preferred", self.preferred), ("rejected", self.rejected)):
            found = tuple(images.shape)
            if images.dtype != torch.uint8 or len(found) != 4 or found[1] not in (1, 3) or found[2] != found[3]:
                raise InputError(
                    f"{argument}: {images.dtype} of shape {found}; give torch.uint8 of shape [n, 1 or 3, r, r]."
                )
            if found != shape:
                raise InputError(f"rejected: of shape {found}, but preferred of {shape}; give pairs of one size.")
        for name, column in self.covariates.items():
            if column.dtype not in (torch.int64, torch.float32) or tuple(column.shape) != shape[:1]:
                raise InputError(
                    f"covariates[{name!r}]: {column.dtype} of shape {tuple(column.shape)}; give int64 levels or "
                    f"float32 numbers of shape ({shape[0]},)."
                )
        if self.margins.dtype != torch.float32 or tuple(self.margins.shape) != shape[:1]:
            raise InputError(
                f"margins: {self.margins.dtype} of shape {tuple(self.margins.shape)}; give torch.float32 of shape "
                f"({shape[0]},)."
            )
        if ((self.margins < 0) | self.margins.isinf()).any():
            raise InputError("margins: some are below 0 or infinite; give score differences from 0 on, NaN for none.")
        for argument in ("subjects", "splits", "judges", "comments"):
            if len(getattr(self, argument)) != shape[0]:
                raise InputError(
                    f"{argument}: {len(getattr(self, argument))} values for {shape[0]} pairs; give one per pair."
                )
        self._check_splits()
        self._check_answers()

    def _check_splits(self) -> None:
        held: dict[str, str] = {}
        for subject, split in zip(self.subjects.tolist(), self.splits.tolist(), strict=True):
            if split not in SPLITS:
                raise unknown("splits", split, SPLITS)
            if held.setdefault(subject, split) != split:
                raise InputError(f"splits: subject {subject!r} is in {held[subject]} and in {split}; give it one.")

    def _check_answers(self) -> None:
        same = (self.preferred == self.rejected).flatten(1).all(dim=1)
        if same.any():
            raise InputError(
                f"pairs: {int(same.sum())} of {len(self)} hold the same image twice (first: row "
                f"{int(same.nonzero()[0, 0])}); remove them."
            )
        held: dict[tuple[str, str], tuple[int, bool]] = {}
        for row, (judge, (comparison, answer)) in enumerate(zip(self.judges.tolist(), self.answers(), strict=True)):
            first, other = held.setdefault((judge, comparison), (row, answer))
            if answer != other:
                raise InputError(
                    f"pairs: judge {judge!r} prefers each of the same two images in rows {first} and {row}; keep one."
                )

    def __len__(self) -> int:
        return len(self.preferred)

    def answers(self) -> list[tuple[str, bool]]:
        """Comparison and answer of each row.

        Both are the same whatever the other rows are, so that answers of several judges can be matched.

        Returns:
            By row the comparison's identity, 16 hex digits, and whether the image whose digest sorts first is
            preferred.
        """
        found = []
        for row in range(len(self)):
            preferred, rejected = image_digest(self.preferred[row]), image_digest(self.rejected[row])
            covariates = {name: str(column[row].item()) for name, column in self.covariates.items()}
            images = sorted((preferred, rejected))
            found.append((fingerprint({"images": images, "covariates": covariates}), preferred == images[0]))
        return found

    def select(self, rows: Tensor | np.ndarray) -> "Preferences":
        """Rows by place `[m]`, in that order, or by a mask `[n]`."""
        places = np.asarray(rows)
        places = np.flatnonzero(places) if places.dtype == bool else places.astype(np.int64)
        index = torch.from_numpy(places)
        return Preferences(
            self.preferred[index],
            self.rejected[index],
            {name: column[index] for name, column in self.covariates.items()},
            self.subjects[places],
            self.splits[places],
            self.judges[places],
            self.margins[index],
            self.comments[places],
        )

    def concatenate(self, other: "Preferences") -> "Preferences":
        """These pairs, then the other's, of the same size and covariates."""
        if self.preferred.shape[1:] != other.preferred.shape[1:]:
            sizes = [" x ".join(map(str, one.preferred.shape[1:])) for one in (self, other)]
            raise InputError(f"pairs: of mixed size, {sizes[0]} and {sizes[1]}; give one size.")
        if set(self.covariates) != set(other.covariates):
            raise InputError(
                f"covariates: {', '.join(self.covariates)} and {', '.join(other.covariates)}; give the same."
            )
        return Preferences(
            torch.cat([self.preferred, other.preferred]),
            torch.cat([self.rejected, other.rejected]),
            {name: torch.cat([column, other.covariates[name]]) for name, column in self.covariates.items()},
            np.concatenate([self.subjects, other.subjects]),
            np.concatenate([self.splits, other.splits]),
            np.concatenate([self.judges, other.judges]),
            torch.cat([self.margins, other.margins]),
            np.concatenate([self.comments, other.comments]),
        )

    @property
    def fingerprint(self) -> str:
        """Identity of the pairs and their order: 16 hex digits of the sha256 of every field."""
        digest = hashlib.sha256()
        for one in fields(self):
            value = getattr(self, one.name)
            parts = value if isinstance(value, Mapping) else {"": value}
            for name in sorted(parts):
                digest.update(f"{one.name}/{name}/".encode())
                digest.update(_bytes(parts[name]))
        return digest.hexdigest()[:16]


def _bytes(value: Tensor | np.ndarray) -> bytes:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes()
    return json.dumps([str(one) for one in value]).encode()


def image_digest(image: Tensor) -> str:
    """Identity of an image uint8 `[C, r, r]`: 16 hex digits of the sha256 of its shape and pixels."""
    return hashlib.sha256(_bytes(image)).hexdigest()[:16]


def from_scores(
    first: Tensor,
    second: Tensor,
    first_scores: Tensor,
    second_scores: Tensor,
    covariates: Covariates,
    subjects: Sequence[str] | np.ndarray,
    splits: Sequence[str] | np.ndarray,
    judge: str,
    tie: float = 0.0,
) -> tuple[Preferences, dict[str, dict[str, Any]]]:
    """Preferences by scores: the image with the higher score is preferred.

    Args:
        first: uint8 `[n, C, r, r]`.
        second: uint8 `[n, C, r, r]`, in the same order.
        first_scores: `[n]`, finite, higher is better.
        second_scores: `[n]`, likewise.
        covariates: encoded, `[n]` each: what both images of a pair are to show.
        subjects: identifiers `[n]`.
        splits: of the source that the subjects come from, or `domains.source.patient_split` of each, `[n]`.
        judge: the name of who gave the scores.
        tie: difference of scores up to which neither image is preferred and the pair is left out, 0 or more.

    Returns:
        The pairs and, by judge, the counts of comparisons, `first` + `second` + `ties` = `compared`, and `tie`.

    Raises:
        InputError: for scores that are not finite, and for arguments of different lengths.
    """
    if isinstance(tie, bool) or not isinstance(tie, int | float) or not math.isfinite(tie) or tie < 0:
        raise InputError(f"tie: {tie!r} is not allowed; give a score difference from 0 on.")
    for argument, scores in (("first_scores", first_scores), ("second_scores", second_scores)):
        if tuple(scores.shape) != (len(first),):
            raise InputError(f"{argument}: of shape {tuple(scores.shape)}; give one score per pair, ({len(first)},).")
        if not torch.isfinite(scores).all():
            raise InputError(f"{argument}: {int((~torch.isfinite(scores)).sum())} are not finite; leave them out.")
    if first.shape != second.shape:
        raise InputError(
            f"second: of shape {tuple(second.shape)}, but first of {tuple(first.shape)}; give pairs of one size."
        )
    for argument, column in {"subjects": subjects, "splits": splits, **covariates}.items():
        if len(column) != len(first):
            raise InputError(f"{argument}: {len(column)} values for {len(first)} pairs; give one per pair.")
    difference = first_scores.double() - second_scores.double()
    kept = difference.abs() > tie
    wins = (difference > 0).view(-1, *(1 for _ in first.shape[1:]))
    rows = len(first)
    places = kept.nonzero()[:, 0]
    preferences = Preferences(
        torch.where(wins, first, second)[places],
        torch.where(wins, second, first)[places],
        {name: column[places] for name, column in covariates.items()},
        np.asarray(subjects, dtype=str)[places.numpy()],
        np.asarray(splits, dtype=str)[places.numpy()],
        np.full(len(places), judge),
        difference.abs().float()[places],
        np.full(len(places), ""),
    )
    counts = {
        "compared": rows,
        "first": int((kept & (difference > 0)).sum()),
        "second": int((kept & (difference < 0)).sum()),
        "ties": int((~kept).sum()),
        "tie": float(tie),
    }
    return preferences, {judge: counts}
