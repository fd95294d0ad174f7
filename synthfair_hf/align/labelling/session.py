"""Labelling sessions: the order of an annotator's pairs, the side of each image, and what an answer means.

    order of the pairs = sort by sha256(seed, annotator, id);      side_swapped = the last bit of it

So both repeat whenever the page is started again and differ between annotators, and neither depends on the images.
The only state is the file of answers: the next pair is the first in that order without a valid answer.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median
from threading import Lock
from typing import Literal, NamedTuple, get_args

from ...errors import InputError, unknown
from ...records import fingerprint
from .answers import Answer, Answers, Verdict
from .candidates import Candidates

__all__ = ["LONGEST_COMMENT", "Choice", "Labelling", "Progress", "ShownPair"]

Choice = Literal["left", "right", "tie", "reject"]

LONGEST_COMMENT = 2000
"""Characters of a comment."""

PACE = 20
"""Latest answers whose median time estimates the remaining time."""


class ShownPair(NamedTuple):
    """A pair as it is shown: its row among the candidates, and whether `first` is on the right."""

    row: int
    side_swapped: bool


class Progress(NamedTuple):
    """Pairs answered, of how many, and the estimated remaining seconds; None before the first answer."""

    answered: int
    total: int
    seconds_left: float | None


class Labelling:
    """Candidates, their answers, and the annotators who may give them.

    Args:
        candidates: the pairs.
        answers: the file of answers.
        annotators: names of those who may answer, one or more.
        seed: of the order and sides.

    Raises:
        InputError: for names that are not allowed, and answers to other pairs.
    """

    def __init__(self, candidates: Candidates, answers: Answers, annotators: Sequence[str], seed: int) -> None:
        for name in annotators:
            if not name.strip() or name != name.strip() or "/" in name or "\\" in name or not name.isprintable():
                raise InputError(
                    f"annotators: {name!r} is not allowed; give a name without slashes, and without spaces around it."
                )
        if len(set(annotators)) != len(annotators) or not annotators:
            raise InputError("annotators: give at least one name, each once.")
        candidates.check(answers)
        self.candidates, self.answers, self.annotators = candidates, answers, tuple(annotators)
        self._lock = Lock()
        self._orders = {name: self._order(name, seed) for name in annotators}

    def _order(self, annotator: str, seed: int) -> dict[str, ShownPair]:
        digests = [fingerprint([seed, annotator, one], 64) for one in self.candidates.ids]
        rows = sorted(range(len(digests)), key=lambda row: digests[row])
        return {self.candidates.ids[row]: ShownPair(row, int(digests[row][-1], 16) % 2 == 1) for row in rows}

    def next_pair(self, annotator: str) -> ShownPair | None:
        """The next pair; None when all are answered."""
        answered = {answer.id for answer in self.answers.of(annotator)}
        return next((one for id, one in self._order_of(annotator).items() if id not in answered), None)

    def token(self, annotator: str) -> str:
        """Identity of what the annotator is shown; an answer carries it, so that none counts for a pair not seen."""
        shown = self.next_pair(annotator)
        id = "" if shown is None else self.candidates.ids[shown.row]
        return fingerprint([annotator, id, self.answers.lines(annotator)])

    def progress(self, annotator: str) -> Progress:
        """How many pairs the annotator has answered, and the remaining time."""
        given = self.answers.of(annotator)
        paces = [answer.seconds for answer in given[-PACE:] if answer.seconds is not None]
        left = len(self.candidates) - len(given)
        return Progress(len(given), len(self.candidates), median(paces) * left if paces else None)

    def answer(
        self, annotator: str, token: str, choice: Choice, seconds: float | None = None, comment: str = ""
    ) -> bool:
        """Save an answer.

        Args:
            annotator: who answers.
            token: of the pair that is answered.
            choice: the preferred side, `tie`, or `reject` of both.
            seconds: how long the pair was shown; None where unknown.
            comment: of the annotator.

        Returns:
            False, with nothing saved, if another pair is shown now.

        Raises:
            InputError: for an unknown annotator or choice, and for a comment that is too long.
        """
        if len(comment) > LONGEST_COMMENT:
            raise InputError(f"comment: {len(comment)} characters; allowed: {LONGEST_COMMENT}.")
        if choice not in get_args(Choice):
            raise unknown("choice", choice, get_args(Choice))
        with self._lock:
            shown = self.next_pair(annotator)
            if token != self.token(annotator) or shown is None:
                return False
            left, right = ("second", "first") if shown.side_swapped else ("first", "second")
            meaning: dict[str, Verdict] = {"left": left, "right": right, "tie": "tie", "reject": "reject"}  # type: ignore[dict-item]
            self._append(annotator, shown, meaning[choice], seconds, comment)
            return True

    def undo(self, annotator: str, token: str) -> bool:
        """Revoke the annotator's latest answer; False if there is none, or another pair is shown now."""
        with self._lock:
            given = self.answers.of(annotator)
            if token != self.token(annotator) or not given:
                return False
            self._append(annotator, self._order_of(annotator)[given[-1].id], "undo", None, "")
            return True

    def _order_of(self, annotator: str) -> dict[str, ShownPair]:
        if annotator not in self._orders:
            raise unknown("annotator", annotator, self.annotators)
        return self._orders[annotator]

    def _append(
        self, annotator: str, shown: ShownPair, answer: Verdict | Literal["undo"], seconds: float | None, comment: str
    ) -> None:
        known = seconds is not None and math.isfinite(seconds) and seconds >= 0
        self.answers.append(
            Answer(
                id=self.candidates.ids[shown.row],
                annotator=annotator,
                answer=answer,
                side_swapped=shown.side_swapped,
                seconds=round(seconds, 1) if seconds is not None and known else None,
                comment=comment.strip(),
                time=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )
