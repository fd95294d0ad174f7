"""The documents of a data set, README.md and croissant.json: written anew from its records, and compared with them.

    sound = every record is the one that the card's last line leads to (`views.manifest`), and both documents are, byte
            for byte, what this version writes from records, rows, licence and details

So a field that is missing, edited by hand, or stale since the records or this package changed, is found and named. The
images are not read: `verification.verify` does that.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..arguments import checked
from ..errors import InputError
from ..publish.contents import Contents
from ..publish.croissant import CROISSANT, NO_DETAILS, REQUIRED, Details, croissant, details_of
from ..publish.dataset_card import dataset_card, write_dataset_card
from ..publish.differences import ABSENT, card_differences, differences, front_matter
from ..records import Record, file_sha256
from ..views.manifest import CARD, PATTERN, PLAN, RUN, contradiction, seal_of, sealed
from .plan import SCM, GenerationPlan
from .store import Store, plan_of, read_plan

__all__ = ["default_license", "validate", "write_card"]

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
        license: an identifier of the Hub; by default the one on the card.
        creator: a person or an organisation; by default the one in croissant.json, and so for the next two.
        url: address of its page.
        date_published: as 2026-11-28.

    Returns:
        The files written.

    Raises:
        InputError: records that contradict each other, a value that is none, or a data set that is not finished;
            nothing is written.
    """
    directory = Path(directory)
    Details("unknown" if creator is None else creator, url, date_published).check()
    if license is not None and not license.strip():
        raise InputError("license: is empty; give an identifier, such as cc-by-4.0.")
    if not (directory / RUN).is_file():
        raise InputError(f"directory: {directory} holds no {RUN}; give a data set that `synthfair generate` finished.")
    for fault in _record_faults(directory):
        raise InputError(f"{directory}: {fault}")
    record, plan = Record.read(directory / RUN), read_plan(directory)
    known = _kept(directory, plan)
    given = {"creator": creator, "url": url, "date_published": date_published}
    details = known[1]._replace(**{name: value for name, value in given.items() if value is not None})
    write_dataset_card(directory, plan.preset, record, license or known[0], details)
    return [path for path in (directory / CARD, directory / CROISSANT) if path.exists()]


@checked
def validate(directory: str | Path) -> list[str]:
    """What is missing, stale or edited by hand in the documents and records of a data set; an empty list means nothing.

    One sentence a fault names the file and the field. Compared are records/plan.json, the records of all shards and of
    the run with each other, and README.md and croissant.json with what this version writes from them and from the rows'
    columns.

    Args:
        directory: the data set.

    Raises:
        InputError: there is no record of a finished data set.
    """
    directory = Path(directory)
    if not (directory / RUN).is_file():
        raise InputError(f"directory: {directory} holds no {RUN}; give a data set that `synthfair generate` finished.")
    problems = list(_record_faults(directory))
    if problems:
        return [f"{problem.removesuffix('.')}; repair the data set." for problem in problems]
    record, plan = Record.read(directory / RUN), read_plan(directory)
    try:
        contents = Contents(directory, plan.preset)
        faults = [
            *_card_faults(directory, contents, plan, record),
            *_croissant_faults(directory, contents, plan, record),
        ]
    except InputError as error:
        return [f"{directory}: {error}"]
    remedy = f"write it again by `synthfair card {directory}`"
    return [f"{fault}; {remedy}." for fault in faults]


def _record_faults(directory: Path) -> Iterator[str]:
    """How the records contradict each other, a sentence each without a remedy."""
    try:
        run = Record.read(directory / RUN)
        plan = plan_of(run.settings)
    except (InputError, TypeError) as error:
        yield f"{RUN}: no readable record of the run ({error})."
        return
    card = directory / CARD
    seal = seal_of(card.read_bytes()) if card.is_file() else None
    if (fault := contradiction(run)) is not None:
        yield f"{RUN}: {fault}."
        return
    found = _json(directory / PLAN)
    if found is None:
        yield f"{PLAN}: is missing or no JSON."
    else:
        yield from (f"{PLAN}: {one}" for one in differences(run.settings, found, RUN))
    store, records = Store(directory, plan), []
    for shard in plan.shards():
        path = store.record_path(shard)
        name = path.relative_to(directory).as_posix()
        listed = run.files.get(name)
        try:
            records.append(Record.read(path))
        except InputError as error:
            yield f"{name}: no readable record of its shard ({error})."
            continue
        if listed is not None and listed.sha256 != file_sha256(path):
            yield f"{name}: its bytes differ from the sha256 in {RUN}."
    if len(records) == len(plan.shards()) and found is not None:
        derived = store.run_record(records)
        for part in ("inputs", "counts", "files"):
            ours, theirs = (one.model_dump(mode="json")[part] for one in (derived, run))
            # counts of the source are known to the run alone
            kept = {name: theirs.get(name, ABSENT) for name in ours} if part == "counts" else theirs
            if run.files or part != "files":
                yield from (f"{RUN}: {one}" for one in differences(ours, kept, "the shards' records", part))
    if seal is not None and seal.run != file_sha256(directory / RUN):
        yield f"{RUN}: its bytes differ from the sha256 in the last line of {CARD}."


def _kept(directory: Path, plan: GenerationPlan) -> tuple[str, Details]:
    """Licence and details that the documents have now; defaults where they have none."""
    license, details = _license(directory), NO_DETAILS
    found = _json(directory / CROISSANT)
    if isinstance(found, dict):
        try:
            details = details_of(found)
        except InputError:
            details = NO_DETAILS
    return license or default_license(plan), details


def _license(directory: Path) -> str | None:
    """The licence in the card's YAML; None where it has none."""
    try:
        front = front_matter((directory / CARD).read_bytes())
    except OSError:
        return None
    license = front.get("license") if isinstance(front, dict) else None
    return license if isinstance(license, str) and license.strip() else None


def _card_faults(directory: Path, contents: Contents, plan: GenerationPlan, record: Record) -> Iterator[str]:
    path = directory / CARD
    if not path.is_file():
        yield f"{CARD}: is missing"
        return
    found, license = path.read_bytes(), _license(directory)
    if license is None:
        yield f"{CARD}: license: is absent from the YAML"
    expected = dataset_card(contents, plan.preset, record, license or default_license(plan))
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
    try:
        details = details_of(found)
    except InputError as error:
        if "creator" not in absent:
            yield f"{CROISSANT}: {str(error).partition(';')[0]}"
        details = NO_DETAILS
    expected = croissant(contents, plan.preset, record, _license(directory) or default_license(plan), details)
    if expected == path.read_bytes():
        return
    ours = json.loads(expected)
    told = list(differences(ours, {**{name: ours[name] for name in absent if name in ours}, **found}, "the records"))
    if not told and not absent:
        told = ["the order or spelling of its fields was changed"]
    yield from (f"{CROISSANT}: {one}" for one in _first(told))


def _first(told: list[str]) -> list[str]:
    return told if len(told) <= MOST else [*told[:MOST], f"and {len(told) - MOST} differences more"]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
