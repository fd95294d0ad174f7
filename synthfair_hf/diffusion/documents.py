"""The card of a saved generator: written from its records, and compared with them and with its settings and weights.

records/card.json                 what no record tells: licence, publisher, names on the Hub
records/soundness-<world>.json    of a scoreboard of this revision, as records/realism-<world>.json
README.md                         printed from these, record.json, calibration.json and model_index.json; it holds
                                  the sha256 of every file of weights, configuration and records

sound = record, configuration and weights agree (`access`), strengths are those that calibration chose, figures are
        of this revision, every file is the one that the card was written with, and the card is, byte for byte,
        what this version writes
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from ..access import RECORD
from ..errors import InputError
from ..publish.croissant import check_line
from ..publish.differences import card_differences
from ..publish.editions import EDITIONS
from ..publish.hub.release import CARD
from ..publish.measured import Measured, scoreboard_records
from ..publish.model_card import model_card
from ..records import FileRecord, Record, check_regular, file_sha256, write_together, written
from .saved import DEFAULT_GENERATOR, INDEX, SavedGenerator, find_generator, read_index

__all__ = [
    "Publisher",
    "card_files",
    "generator_card",
    "is_generator",
    "read_measured",
    "validate_generator",
]

CALIBRATION, PUBLISHER = "calibration.json", "records/card.json"

MOST = 20
"""Differences of a card that are told one by one."""

FILE = re.compile(r"^\| `([^`\n]+)` \| (\d+) \| `([0-9a-f]{64})` \|\n", re.MULTILINE)
"""A line of the card's table of files."""


class Publisher(NamedTuple):
    """What no record of training or measuring tells of a generator.

    Attributes:
        license: an identifier of the Hub.
        creator: a person or an organisation.
        url: address of its page.
        hub_model_id: OWNER/NAME of its repository.
        datasets: OWNER/NAME of the data sets on the Hub that it was trained on.
    """

    license: str = "unknown"
    creator: str = "unknown"
    url: str | None = None
    hub_model_id: str | None = None
    datasets: Sequence[str] = ()

    @classmethod
    def kept(cls, directory: Path, **given: Any) -> "Publisher":
        """What is known of a saved generator, with what is given in its place.

        Args:
            directory: of the generator.
            **given: by the names of the attributes; None is not given.

        Raises:
            InputError: what was there cannot be read, or something is none.
        """
        settings: dict[str, Any] = {}
        if (directory / PUBLISHER).exists():
            check_regular(directory / PUBLISHER, f"{directory}/{PUBLISHER}", "remove it")
            settings = dict(Record.read(directory / PUBLISHER).settings)
        settings |= {name: value for name, value in given.items() if value is not None}
        if unknown := settings.keys() - set(cls._fields):
            raise InputError(f"{directory}/{PUBLISHER}: {min(unknown)!r} is no setting of a card; remove it.")
        found = cls(**settings)
        texts = [found.license, found.creator, *found.datasets]
        texts += [one for one in (found.url, found.hub_model_id) if one is not None]
        if not isinstance(found.datasets, list | tuple) or not all(isinstance(one, str) for one in texts):
            raise InputError(f"{directory}/{PUBLISHER}: holds something else than text; write the card again.")
        for name, value in (("license", found.license), ("creator", found.creator)):
            check_line(name, value)
        return found._replace(datasets=list(found.datasets))

    @property
    def record(self) -> Record:
        """As it lies beside the generator."""
        return Record(stage="card", settings=self._asdict())


def is_generator(directory: Path) -> bool:
    """Whether a directory is to be read as a saved generator, and not as a data set."""
    return (directory / INDEX).is_file()


def generator_card(
    directory: Path, scoreboard: str | Path | None = None, **given: str | Sequence[str] | None
) -> list[Path]:
    """Write the card of a saved generator anew from its records.

    Args:
        directory: of the generator.
        scoreboard: directory that `synthfair measure` wrote for this revision, whose records are kept beside it; by
            default those that are there already.
        **given: what no record tells, by the names of `Publisher`.

    Returns:
        The files written.

    Raises:
        InputError: record, configuration, calibration and weights contradict each other, figures of another revision,
            or a field that a record should hold and does not; nothing is written.
    """
    saved = find_generator(directory)
    for fault in _calibration_faults(saved, directory):
        raise InputError(f"{directory}/{fault}")
    measured = read_measured(saved, scoreboard)
    written_with = _told(directory / CARD)
    for name, content in measured.files.items():
        if scoreboard is None and written_with.get(name, _digest(content)) != _digest(content):
            raise InputError(
                f"{directory}/{name}: its bytes are not those whose sha256 {CARD} holds; restore it, or give the "
                "scoreboard anew."
            )
    files = card_files(saved, directory, Publisher.kept(directory, **given), measured)
    (directory / "records").mkdir(exist_ok=True)
    write_together({directory / name: content for name, content in files.items()})
    return [directory / name for name in files]


def read_measured(saved: SavedGenerator, scoreboard: str | Path | None = None) -> Measured:
    """The measured records of a generator: those of a scoreboard, or without one those beside it.

    Raises:
        InputError: a scoreboard without records, or a record of another revision or split.
    """
    if scoreboard is None:
        return Measured.read(saved.directory, saved.revision)
    return Measured.of(scoreboard_records(Path(scoreboard), saved.revision, some=True))


def card_files(saved: SavedGenerator, place: Path, publisher: Publisher, measured: Measured) -> dict[str, bytes]:
    """The card of a generator and the records that lie beside it because of it, by name.

    Args:
        saved: the generator.
        place: where its files are, or links to them, with record.json and calibration.json as they are published.
        publisher: what no record tells.
        measured: figures that it prints.
    """
    beside = {**measured.files, PUBLISHER: written(publisher.record.model_dump(mode="json"))}
    return {**beside, CARD: _card(saved, place, publisher, measured, _digests(saved, place, beside))}


def validate_generator(directory: Path) -> list[str]:
    """What is missing, stale or edited in the card, settings and records of a saved generator; empty means nothing.

    Args:
        directory: of the generator.

    Raises:
        InputError: there is no saved generator.
    """
    for name in (CARD, RECORD, CALIBRATION):
        check_regular(directory / name, f"{directory}/{name}", "remove it")
    remedy = f"write it again by `synthfair card {directory}`"
    try:
        saved = find_generator(directory)
        if faults := list(_calibration_faults(saved, directory)):
            return faults
    except InputError as error:
        return [str(error)]
    if not (directory / CARD).is_file():
        return [f"{CARD}: is missing; {remedy}."]
    beside = {path.relative_to(directory).as_posix(): path.read_bytes() for path in _beside(directory)}
    digests, found = _digests(saved, directory, beside), (directory / CARD).read_bytes()
    faults = list(_file_faults(_told_in(found), digests))
    try:
        publisher, measured = Publisher.kept(directory), Measured.read(directory, saved.revision)
        expected = _card(saved, directory, publisher, measured, digests)
    except InputError as error:
        return [*(f"{fault}; {remedy}." for fault in faults), str(error)]
    return [f"{fault}; {remedy}." for fault in (*faults, *_card_faults(expected, found, digests))]


def _beside(directory: Path) -> Iterator[Path]:
    """Records of measurements and of the publisher."""
    for pattern in ("soundness-*.json", "realism-*.json", Path(PUBLISHER).name):
        yield from sorted(path for path in (directory / "records").glob(pattern) if path.is_file())


def _file_faults(told: Mapping[str, FileRecord], digests: Mapping[str, FileRecord]) -> Iterator[str]:
    """Which files are not those that a card was written with."""
    for name, file in digests.items():
        if name not in told:
            yield f"{name}: is not among the files of {CARD}"
        elif told[name] != file:
            yield f"{name}: its bytes are not those whose sha256 {CARD} holds; restore them"
    yield from (f"{name}: is missing, but among the files of {CARD}" for name in sorted(told.keys() - digests.keys()))


def _card_faults(expected: bytes, found: bytes, digests: Mapping[str, FileRecord]) -> Iterator[str]:
    """How a card differs from what its records say, but for its table of files."""
    if expected == found:
        return
    ours, theirs = (FILE.sub("", one.decode(errors="replace")).encode() for one in (expected, found))
    others = card_differences(ours, theirs, "the records")
    if not others and _told_in(found) == digests:
        others = ["the order or spelling of its table of files was changed"]
    yield from (f"{CARD}: {one}" for one in others[:MOST])


def _card(
    saved: SavedGenerator, place: Path, publisher: Publisher, measured: Measured, digests: Mapping[str, FileRecord]
) -> bytes:
    calibration = place / CALIBRATION
    record = Record.read(place / RECORD) if (place / RECORD).exists() else _unrecorded(saved)
    return model_card(
        saved.preset,
        record,
        read_index(saved.directory / INDEX),
        list(measured.soundness.values()),
        list(measured.realism.values()),
        Record.read(calibration) if calibration.exists() else None,
        revision=saved.revision,
        files=digests,
        shipped=saved.revision == EDITIONS[DEFAULT_GENERATOR.name][-1],
        **publisher._asdict(),
    )


def _unrecorded(saved: SavedGenerator) -> Record:
    """What stands for the record of a pipeline that was saved without one."""
    return Record(stage="save", inputs={"access": saved.access})


def _digests(saved: SavedGenerator, place: Path, beside: Mapping[str, bytes]) -> dict[str, FileRecord]:
    """Size and sha256 of weights, configuration and records, and of what lies beside them because of the card."""
    names = [*saved.files, *(name for name in (RECORD, CALIBRATION) if (place / name).exists())]
    paths = {name: place / name for name in names}
    found = {name: FileRecord(bytes=one.stat().st_size, sha256=file_sha256(one)) for name, one in paths.items()}
    return {**found, **{name: _digest(one) for name, one in beside.items()}}


def _digest(content: bytes) -> FileRecord:
    return FileRecord(bytes=len(content), sha256=sha256(content).hexdigest())


def _told(path: Path) -> dict[str, FileRecord]:
    """The table of files on a card; empty without one."""
    return _told_in(path.read_bytes()) if path.is_file() else {}


def _told_in(card: bytes) -> dict[str, FileRecord]:
    found = FILE.findall(card.decode(errors="replace"))
    return {name: FileRecord(bytes=int(size), sha256=digest) for name, size, digest in found}


def _calibration_faults(saved: SavedGenerator, directory: Path) -> Iterator[str]:
    """How the strengths in a generator's configuration differ from those that its calibration chose."""
    if not (directory / CALIBRATION).exists():
        return
    record, config = Record.read(directory / CALIBRATION), read_index(directory / INDEX)
    kept = {"scale": config.get("default_guidance_scale"), "level": config.get("default_intervention_level")}
    for name, one in record.measured["chosen"].items():
        for part, strengths in kept.items():
            own = strengths.get(name) if isinstance(strengths, Mapping) else strengths
            if own != one[part]:
                yield (
                    f"{CALIBRATION}: chose {part} {one[part]} for {name} where {INDEX} has {own}; restore both, or "
                    "calibrate it anew."
                )
