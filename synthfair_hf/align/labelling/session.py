"""Which pair an annotator is shown next, on which side each image is, and what an answer to it means.

    order of the pairs = sort by sha256(seed, annotator, id);      side_swapped = the last bit of it

So both repeat whenever the page is started again and differ between annotators, and neither depends on the images.
Nothing else is remembered but the file of answers: the next pair is the first in that order without a standing answer.
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

__all__ = ["Choice", "Labelling", "Progress", "Question"]

Choice = Literal["left", "right", "tie", "reject"]

PACE = 20
"""Latest answers whose median time says how long the rest will take."""


class Question(NamedTuple):
    """A pair as it is shown: its row among the candidates, and whether `first` is on the right."""

    row: int
    side_swapped: bool


class Progress(NamedTuple):
    """Pairs answered, of how many, and the seconds that the rest will take; None before the first answer."""

    answered: int
    total: int
    seconds_left: float | None


class Labelling:
    """Candidates, their answers, and the annotators who may give them."""

    def __init__(self, candidates: Candidates, answers: Answers, annotators: Sequence[str], seed: int) -> None:
        for name in annotators:
            if not name.strip() or name != name.strip() or "/" in name or "\\" in name or not name.isprintable():
                raise InputError(f"annotators: {name!r} is no name; give one without slashes and spaces around it.")
        if len(set(annotators)) != len(annotators) or not annotators:
            raise InputError("annotators: give at least one name, each once.")
        candidates.check(answers)
        self.candidates, self.answers, self.annotators = candidates, answers, tuple(annotators)
        self._lock = Lock()
        self._orders = {name: self._order(name, seed) for name in annotators}

    def _order(self, annotator: str, seed: int) -> dict[str, Question]:
        digests = [fingerprint([seed, annotator, one], 64) for one in self.candidates.ids]
        rows = sorted(range(len(digests)), key=lambda row: digests[row])
        return {self.candidates.ids[row]: Question(row, int(digests[row][-1], 16) % 2 == 1) for row in rows}

    def question(self, annotator: str) -> Question | None:
        """The next pair; None when all are answered."""
        answered = {answer.id for answer in self.answers.of(annotator)}
        return next((one for id, one in self._questions(annotator).items() if id not in answered), None)

    def token(self, annotator: str) -> str:
        """Names what the annotator is shown now; an answer carries it, so that none counts for a pair not seen."""
        asked = self.question(annotator)
        id = "" if asked is None else self.candidates.ids[asked.row]
        return fingerprint([annotator, id, self.answers.lines(annotator)])

    def progress(self, annotator: str) -> Progress:
        """How far the annotator is."""
        given = self.answers.of(annotator)
        paces = [answer.seconds for answer in given[-PACE:] if answer.seconds is not None]
        left = len(self.candidates) - len(given)
        return Progress(len(given), len(self.candidates), median(paces) * left if paces else None)

    def answer(
        self, annotator: str, token: str, choice: Choice, seconds: float | None = None, comment: str = ""
    ) -> bool:
        """Keep what was said of the pair that `token` names; False, and nothing kept, if another is shown now."""
        if choice not in get_args(Choice):
            raise unknown("choice", choice, get_args(Choice))
        with self._lock:
            asked = self.question(annotator)
            if token != self.token(annotator) or asked is None:
                return False
            left, right = ("second", "first") if asked.side_swapped else ("first", "second")
            meaning: dict[str, Verdict] = {"left": left, "right": right, "tie": "tie", "reject": "reject"}  # type: ignore[dict-item]
            self._append(annotator, asked, meaning[choice], seconds, comment)
            return True

    def undo(self, annotator: str, token: str) -> bool:
        """Take back the annotator's latest answer; False if there is none, or another pair is shown now."""
        with self._lock:
            given = self.answers.of(annotator)
            if token != self.token(annotator) or not given:
                return False
            self._append(annotator, self._questions(annotator)[given[-1].id], "undo", None, "")
            return True

    def _questions(self, annotator: str) -> dict[str, Question]:
        if annotator not in self._orders:
            raise unknown("annotator", annotator, self.annotators)
        return self._orders[annotator]

    def _append(
        self, annotator: str, asked: Question, answer: Verdict | Literal["undo"], seconds: float | None, comment: str
    ) -> None:
        known = seconds is not None and math.isfinite(seconds) and seconds >= 0
        self.answers.append(
            Answer(
                id=self.candidates.ids[asked.row],
                annotator=annotator,
                answer=answer,
                side_swapped=asked.side_swapped,
                seconds=round(seconds, 1) if seconds is not None and known else None,
                comment=comment.strip(),
                time=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )
