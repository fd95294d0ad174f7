"""The documents of a data set, README.md with its figures and croissant.json: written from its records, and compared.

    sound = every record is the one that the card's last line leads to (`views.manifest`), and all documents are, byte
            for byte, what this version writes from records, rows, licence and details; records of measurements beside
            them (`publish.measured`) are those whose figures and digests the card prints

So a field that is missing, edited by hand, or stale since the records or this package changed, is found and named. The
images are not read: `verification.verify` does that.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..arguments import checked
from ..diffusion.documents import generator_card, is_generator, validate_generator
from ..errors import InputError, shown
from ..publish.contents import Contents
from ..publish.covariates import FIGURES
from ..publish.croissant import (
    CROISSANT,
    NO_DETAILS,
    REQUIRED,
    Details,
    check_details,
    check_line,
    croissant,
    raw_details,
)
from ..publish.dataset_card import dataset_card, measured_beside, write_dataset_card
from ..publish.differences import ABSENT, card_differences, differences, front_matter
from ..publish.measured import BENCHMARK, Measured, changed_records, leaderboard_record, scoreboard_records
from ..records import Record, check_regular, file_sha256, written
from ..views.manifest import CARD, PATTERN, PLAN, RUN, contradiction, seal_of, sealed
from .consistency import UNREADABLE
from .plan import SCM, GenerationPlan
from .store import Store, list_files, plan_of, read_plan

__all__ = ["check_license", "default_license", "kept_details", "kept_license", "validate", "write_card"]

UNREADABLE_ROWS = (*UNREADABLE, AttributeError, ArithmeticError)
"""What files of other contents than their records say can make a reader of their columns raise."""

DETAILS = ("creator", "url", "datePublished")
"""Keys of croissant.json that only the publisher knows."""

MOST = 20
"""Differences of a document that are told one by one."""


def default_license(plan: GenerationPlan) -> str:
    """The licence of a data set where none is given: drawn subjects are nobody's, a source has terms of its own."""
    return "cc-by-4.0" if plan.source == SCM and plan.sampling is None else "unknown"


@checked
def write_card(
    directory: str | Path,
    license: str | None = None,
    creator: str | None = None,
    url: str | None = None,
    date_published: str | None = None,
    scoreboard: str | Path | None = None,
    leaderboard: str | Path | None = None,
    hub_model_id: str | None = None,
    datasets: Sequence[str] | None = None,
) -> list[Path]:
    """Write README.md, its figures and croissant.json of a finished data set anew from its records and rows.

    Of a saved generator, README.md and records/card.json.

    Args:
        directory: the data set, or the generator.
        license: an identifier of the Hub; by default the one on the card, or in croissant.json.
        creator: a person or an organisation; by default the one in croissant.json, and so for the next two.
        url: address of its page.
        date_published: as 2026-11-28.
        scoreboard: directory that `synthfair measure` wrote for its generator, whose records are kept in `records/`
            and whose figures the card prints; by default those that are there already, and so for the next.
        leaderboard: directory that `synthfair benchmark` wrote for this data set.
        hub_model_id: of a generator, OWNER/NAME of its repository on the Hub.
        datasets: of a generator, OWNER/NAME of the data sets on the Hub that it was trained on.

    Returns:
        The files written.

    Raises:
        InputError: records that contradict each other or the files, a value that is none, what was there cannot be
            kept, or a data set that is not finished; nothing is written.
    """
    directory = Path(directory)
    Details("unknown" if creator is None else creator, url, date_published).check()
    check_license(license)
    if is_generator(directory):
        for name, value in {"date_published": date_published, "leaderboard": leaderboard}.items():
            if value is not None:
                raise InputError(f"{name}: is for a data set, and {directory} is a generator; leave it out.")
        named = {"hub_model_id": hub_model_id, "datasets": datasets}
        return generator_card(directory, scoreboard, license=license, creator=creator, url=url, **named)
    for name, own in {"hub_model_id": hub_model_id, "datasets": datasets}.items():
        if own is not None:
            raise InputError(f"{name}: is for a generator, and {directory} is none; leave it out.")
    _check_finished(directory)
    for fault in _record_faults(directory):
        raise InputError(f"{directory}: {fault}")
    given_anew = {BENCHMARK: leaderboard is not None}
    for name, fault in _measured_faults(directory).items():
        if not given_anew.get(name, scoreboard is not None):
            raise InputError(f"{directory}: {fault}")
    record, plan = Record.read(directory / RUN), read_plan(directory)
    given = {"creator": creator, "url": url, "date_published": date_published}
    details = kept_details(directory, {name: value for name, value in given.items() if value is not None})
    license = license or kept_license(directory)
    if license is None:
        raise InputError(f"license: neither {CARD} nor {CROISSANT} of {directory} names one; give it, or unknown.")
    try:
        measured = _measured(directory, record, scoreboard, leaderboard)
        return write_dataset_card(directory, plan.preset, record, license, details, measured)
    except InputError:
        raise
    except UNREADABLE_ROWS as error:
        raise InputError(f"{directory}: its rows cannot be read ({_line(error)}); repair the data set.") from None


def _measured(
    directory: Path, record: Record, scoreboard: str | Path | None, leaderboard: str | Path | None
) -> Measured | None:
    """The records of measurements that a card is to print, new ones in place of those there; None for those there."""
    if scoreboard is None and leaderboard is None:
        return None
    beside = {} if scoreboard is not None and leaderboard is not None else measured_beside(directory, record).records
    if scoreboard is not None:
        beside = beside | scoreboard_records(Path(scoreboard), str(record.settings["model_revision"]), some=True)
    if leaderboard is not None:
        beside = beside | leaderboard_record(Path(leaderboard), str(record.counts["store"]))
    return Measured.of(beside)


@checked
def validate(directory: str | Path) -> list[str]:
    """What is missing, stale or edited by hand in the documents and records of a data set; an empty list means nothing.

    One sentence a fault names the file and the field. Compared are records/plan.json, the records of all shards and of
    the run with each other and with the sizes of the files, and README.md, its figures and croissant.json with what
    this version writes from them, from records of measurements and from the rows' columns. What only the publisher
    knows, licence and `Details`, is compared between the two documents, or not at all. Of a saved generator, README.md
    is compared with its records, settings and weights, and these with each other (`diffusion.documents`).

    Args:
        directory: the data set, or the generator.

    Raises:
        InputError: there is no record of a finished data set, and no generator.
    """
    directory = Path(directory)
    if is_generator(directory):
        return validate_generator(directory)
    _check_finished(directory)
    if problems := [*_record_faults(directory), *_measured_faults(directory).values()]:
        return problems
    record, plan = Record.read(directory / RUN), read_plan(directory)
    try:
        given = (directory, Contents(directory, plan.preset), plan, record)
        # a record of an earlier version lists no files, of which croissant.json tells the sha256
        croissants = _croissant_faults(*given) if record.files else ()
        faults = [*_card_faults(*given), *croissants]
    except InputError as error:
        return [str(error)]
    except UNREADABLE_ROWS as error:
        return [f"data: its rows cannot be read ({_line(error)}); repair the data set."]
    remedy = f"write it again by `synthfair card {directory}`"
    return [f"{fault}; {remedy}." for fault in faults]


def check_license(license: str | None) -> None:
    """InputError for a licence that is no line of text; None is none that is given."""
    if license is not None:
        check_line("license", license)


def kept_license(directory: Path) -> str | None:
    """The licence that the documents of a data set have now; None where none of them tells.

    That of the card, unless it is not as it was written; else that of croissant.json.
    """
    path, found = directory / CARD, _json(directory / CROISSANT)
    seal = seal_of(path.read_bytes()) if path.is_file() else None
    of_card = None if seal is not None and not seal.whole else _license(directory)
    own = found.get("license") if isinstance(found, dict) else None
    return of_card or (own if isinstance(own, str) and own.strip() else None)


def kept_details(directory: Path, given: Mapping[str, str] | None = None) -> Details:
    """What croissant.json says now that no record tells, with what is given in its place.

    Args:
        directory: the data set.
        given: new values by the names of `Details`.

    Raises:
        InputError: what is there can't be read, and nothing is given for it.
    """
    given = given or {}
    if not (directory / CROISSANT).exists():
        return NO_DETAILS._replace(**given)
    found = _json(directory / CROISSANT)
    if not isinstance(found, dict) and "creator" not in given:
        raise InputError(
            f"creator: {CROISSANT} of {directory} cannot be read, so who publishes the data set is lost; give creator."
        )
    return check_details({**(raw_details(found) if isinstance(found, dict) else {}), **given})


def _check_finished(directory: Path) -> None:
    """InputError where there is no record of a run, or something that is no file bears the name of one."""
    for name in (RUN, PLAN, CARD, CROISSANT, *FIGURES):
        check_regular(directory / name, f"{directory}/{name}", "remove it")
    if not (directory / RUN).is_file():
        raise InputError(
            f"directory: {directory} holds no {RUN}; give a data set that `synthfair generate` finished, or a "
            "saved generator."
        )


def _record_faults(directory: Path) -> Iterator[str]:
    """How records contradict each other and the files, a sentence each."""
    repair = "repair the data set"
    try:
        run = Record.read(directory / RUN)
        plan = plan_of(run.settings)
    except (InputError, TypeError) as error:
        yield f"{RUN}: no readable record of the run ({_line(error)}); {repair}."
        return
    if (fault := contradiction(run)) is not None:
        yield f"{RUN}: {fault}; {repair}."
        return
    found = _json(directory / PLAN)
    if found is None:
        yield f"{PLAN}: is missing or no JSON; {repair}."
    else:
        yield from (f"{PLAN}: {one}; {repair}." for one in differences(run.settings, found, f"those of {RUN}"))
    there = {path.relative_to(directory).as_posix(): path for path in list_files(directory / "data")}
    for name, file in run.files.items():
        if not (directory / name).is_file():
            yield f"{name}: is missing; {repair}."
        elif (size := (directory / name).stat().st_size) != file.bytes:
            yield f"{name}: has {size} bytes where {RUN} says {file.bytes}; {repair}."
        elif not name.startswith("data/") and file_sha256(directory / name) != file.sha256:
            yield f"{name}: its bytes differ from the sha256 in {RUN}; {repair}."
    if run.files:
        yield from (f"{name}: is not of this data set; remove it." for name in sorted(there.keys() - run.files.keys()))
    if found is None:
        return
    store = Store(directory, plan)
    try:
        derived = store.run_record([Record.read(store.record_path(shard)) for shard in plan.shards()])
    except (InputError, OSError) as error:
        yield f"records: no readable record of a shard ({_line(error)}); {repair}."
        return
    for part in ("stage", "inputs", "versions", "counts", "files"):
        ours, theirs = (one.model_dump(mode="json").get(part, {}) for one in (derived, run))
        # counts of the source are known to the run alone
        compared = {name: theirs.get(name, ABSENT) for name in ours} if part == "counts" else theirs
        if run.files or part != "files":
            told = differences(ours, compared, "the records of the shards", part)
            yield from (f"{RUN}: {one}; {repair}." for one in told)
    card = directory / CARD
    seal = seal_of(card.read_bytes()) if card.is_file() else None
    if seal is not None and seal.run != file_sha256(directory / RUN):
        yield f"{RUN}: its bytes differ from the sha256 in the last line of {CARD}; {repair}."


def _measured_faults(directory: Path) -> dict[str, str]:
    """What is wrong with each record of measurements that a card names; nothing where the card is not as written."""
    card = directory / CARD
    text = card.read_bytes() if card.is_file() else b""
    seal = seal_of(text)
    return changed_records(directory, text.decode()) if seal is not None and seal.whole else {}


def _license(directory: Path) -> str | None:
    """The licence in the card's YAML; None where it has none."""
    try:
        card = (directory / CARD).read_bytes()
    except OSError:
        return None
    return _license_of(card)


@lru_cache(maxsize=4)
def _license_of(card: bytes) -> str | None:
    """The licence in the YAML of a card, which is asked for repeatedly and takes as long to parse as views are many."""
    front = front_matter(card)
    license = front.get("license") if isinstance(front, dict) else None
    return license if isinstance(license, str) and license.strip() else None


def _card_faults(directory: Path, contents: Contents, plan: GenerationPlan, record: Record) -> Iterator[str]:
    path = directory / CARD
    if not path.is_file():
        yield f"{CARD}: is missing"
        return
    found, license = path.read_bytes(), _license(directory)
    if license is None:
        yield f"{CARD}: license: is absent from the YAML, or no word"
    license = license or kept_license(directory) or default_license(plan)
    measured = measured_beside(directory, record)
    expected, figures = dataset_card(contents, plan.preset, record, license, _told_details(directory), measured)
    for name, content in figures.items():
        if not (directory / name).is_file():
            yield f"{name}: is missing"
        elif (directory / name).read_bytes() != content:
            yield f"{name}: shows something else than the rows"
    if sealed(expected, (directory / RUN).read_bytes()) == found:
        return
    told = card_differences(expected, PATTERN.sub(b"", found), "the records") or ["its last line was changed"]
    yield from (f"{CARD}: {one}" for one in _first(told))


def _croissant_faults(directory: Path, contents: Contents, plan: GenerationPlan, record: Record) -> Iterator[str]:
    path, found = directory / CROISSANT, _json(directory / CROISSANT)
    if not path.is_file():
        yield f"{CROISSANT}: is missing"
        return
    if not isinstance(found, dict):
        yield f"{CROISSANT}: is no JSON object"
        return
    absent = [name for name in REQUIRED if name not in found]
    yield from (f"{CROISSANT}: {name}: is absent" for name in absent)
    license = _license(directory) or kept_license(directory) or default_license(plan)
    if "license" in found and found["license"] != license:
        yield f"{CROISSANT}: license: is {shown(found['license'])} where {CARD} has {shown(license)}"
    try:
        details = check_details(raw_details(found))
    except InputError as error:
        details = None
        if "creator" not in absent:
            yield f"{CROISSANT}: {str(error).partition(';')[0]}"
    ours = json.loads(croissant(contents, plan.preset, record, license, details or NO_DETAILS))
    if details is not None and written(ours) == path.read_bytes():
        return
    # what was told above is not told again
    alike = {name: ours[name] for name in (*absent, "license", *(() if details else DETAILS)) if name in ours}
    theirs = {name: value for name, value in found.items() if details or name not in DETAILS}
    told = list(differences(ours, {**theirs, **alike}, "the records"))
    if not told and not absent and details is not None and found.get("license") == license:
        told = ["the order or spelling of its fields was changed"]
    yield from (f"{CROISSANT}: {one}" for one in _first(told))


def _told_details(directory: Path) -> Details:
    """Who publishes a data set; nobody where that cannot be read, which is another fault."""
    try:
        return kept_details(directory)
    except InputError:
        return NO_DETAILS


def _first(told: list[str]) -> list[str]:
    return told if len(told) <= MOST else [*told[:MOST], f"and {len(told) - MOST} differences more"]


def _line(error: Exception) -> str:
    """What an error says, in one line without its full stop."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
