"""The documents of a data set, README.md and croissant.json: written anew from its records, and compared with them.

    sound = every record is the one that the card's last line leads to (`views.manifest`), and both documents are, byte
            for byte, what this version writes from records, rows, licence and details

So a field that is missing, edited by hand, or stale since the records or this package changed, is found and named. The
images are not read: `verification.verify` does that.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..arguments import checked
from ..errors import InputError, shown
from ..publish.contents import Contents
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
from ..publish.dataset_card import dataset_card, write_dataset_card
from ..publish.differences import ABSENT, card_differences, differences, front_matter
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
) -> list[Path]:
    """Write README.md and croissant.json of a finished data set anew from its records and rows.

    Args:
        directory: the data set.
        license: an identifier of the Hub; by default the one on the card, or in croissant.json.
        creator: a person or an organisation; by default the one in croissant.json, and so for the next two.
        url: address of its page.
        date_published: as 2026-11-28.

    Returns:
        The files written.

    Raises:
        InputError: records that contradict each other or the files, a value that is none, what was there cannot be
            kept, or a data set that is not finished; nothing is written.
    """
    directory = Path(directory)
    Details("unknown" if creator is None else creator, url, date_published).check()
    check_license(license)
    _check_finished(directory)
    for fault in _record_faults(directory):
        raise InputError(f"{directory}: {fault}")
    record, plan = Record.read(directory / RUN), read_plan(directory)
    given = {"creator": creator, "url": url, "date_published": date_published}
    details = kept_details(directory, {name: value for name, value in given.items() if value is not None})
    license = license or kept_license(directory)
    if license is None:
        raise InputError(f"license: neither {CARD} nor {CROISSANT} of {directory} names one; give it, or unknown.")
    try:
        write_dataset_card(directory, plan.preset, record, license, details)
    except InputError:
        raise
    except UNREADABLE_ROWS as error:
        raise InputError(f"{directory}: its rows cannot be read ({_line(error)}); repair the data set.") from None
    return [path for path in (directory / CARD, directory / CROISSANT) if path.exists()]


@checked
def validate(directory: str | Path) -> list[str]:
    """What is missing, stale or edited by hand in the documents and records of a data set; an empty list means nothing.

    One sentence a fault names the file and the field. Compared are records/plan.json, the records of all shards and of
    the run with each other and with the sizes of the files, and README.md and croissant.json with what this version
    writes from them and from the rows' columns. What only the publisher knows, licence and `Details`, is compared
    between the two documents, or not at all.

    Args:
        directory: the data set.

    Raises:
        InputError: there is no record of a finished data set.
    """
    directory = Path(directory)
    _check_finished(directory)
    if problems := list(_record_faults(directory)):
        return problems
    record, plan = Record.read(directory / RUN), read_plan(directory)
    try:
        given = (directory, Contents(directory, plan.preset), plan, record)
        faults = [*_card_faults(*given), *_croissant_faults(*given)]
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
    for name in (RUN, PLAN, CARD, CROISSANT):
        check_regular(directory / name, f"{directory}/{name}", "remove it")
    if not (directory / RUN).is_file():
        raise InputError(f"directory: {directory} holds no {RUN}; give a data set that `synthfair generate` finished.")


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
        ours, theirs = (one.model_dump(mode="json")[part] for one in (derived, run))
        # counts of the source are known to the run alone
        compared = {name: theirs.get(name, ABSENT) for name in ours} if part == "counts" else theirs
        if run.files or part != "files":
            told = differences(ours, compared, "the records of the shards", part)
            yield from (f"{RUN}: {one}; {repair}." for one in told)
    card = directory / CARD
    seal = seal_of(card.read_bytes()) if card.is_file() else None
    if seal is not None and seal.run != file_sha256(directory / RUN):
        yield f"{RUN}: its bytes differ from the sha256 in the last line of {CARD}; {repair}."


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
    expected = dataset_card(contents, plan.preset, record, license or kept_license(directory) or default_license(plan))
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
