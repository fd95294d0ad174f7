"""Is a data set what its plan and records say? Every byte is read.

sound = every file of every shard as recorded, every row as planned (`consistency`), and one unbroken chain: the plan
        and the shards' records as the run's record lists them, that as the card's last line names it, and the card as
        it was written
"""

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..arguments import checked
from ..errors import InputError
from ..publish.dataset_card import card_fault
from ..records import FileRecord, Record, file_sha256, write_atomically, written
from ..views.manifest import CARD, PLAN, RUN, contradiction, seal_of, sealed
from .consistency import UNREADABLE, read_rows, row_faults, subject_faults
from .plan import GenerationPlan
from .rows import Row, Shard
from .store import Store, identity, list_files, plan_of, read_plan, recorded_files

REWRITE = "write it again by the generate command that wrote it"

__all__ = ["damaged_shards", "known_plan", "reseal", "restore_plan", "sealed_run", "shard_problems", "verify"]


def sealed_run(directory: Path) -> Record | None:
    """The record of the run, where the card's last line names its bytes; None where nothing vouches for it."""
    try:
        seal, path = seal_of((directory / CARD).read_bytes()), directory / RUN
        return Record.read(path) if seal is not None and seal.run == file_sha256(path) else None
    except (OSError, InputError):
        return None


def restore_plan(directory: Path) -> None:
    """Write records/plan.json as the record of the run holds it, where it is damaged and that is not."""
    recorded = _recorded_plan(directory)
    if recorded is not None and not _is(directory / PLAN, recorded[1]):
        write_atomically(directory / PLAN, recorded[1])


def reseal(directory: Path) -> None:
    """Let the last line of a card that is as it was written name the record of the run as it is now."""
    card, run = directory / CARD, directory / RUN
    if not card.is_file() or not run.is_file():
        return
    text = card.read_bytes()
    seal, store = seal_of(text), str(Record.read(run).counts.get("store"))
    if (seal is None or seal.whole) and store.encode() in text:
        write_atomically(card, sealed(text, run.read_bytes()))


def damaged_shards(directory: Path) -> list[Shard]:
    """Shards of the plan that are missing, unrecorded or not as recorded; every byte is read."""
    store, run = Store(directory, read_plan(directory)), sealed_run(directory)
    files = {} if run is None else run.files
    return [shard for shard in store.shards() if any(shard_problems(store, shard, files))]


@checked
def verify(directory: str | Path) -> list[str]:
    """What is wrong with a generated data set, one sentence a fault, each naming the file; an empty list means sound.

    Every byte is read. Checked: every shard of the plan is there with its record, size, sha256 and exactly the plan's
    rows; no identifier occurs twice, no subject is in two splits, and families agree with themselves; nothing else lies
    among the data; the plan and the shards' records are those that the record of the run lists, that is the one that
    the card names, and the card the one that was written. Of data sets of earlier versions, whose records list no
    files, the record of the run must agree with the plan and the shards, and the card with the record.
    """
    directory = Path(directory)
    plan, problems = known_plan(directory), []
    recorded = _recorded_plan(directory)
    if recorded is None:
        try:
            read_plan(directory)
        except InputError as error:
            problems = [str(error)]
    elif not _is(directory / PLAN, recorded[1]):
        fault = f"its bytes are not those that {RUN} was written with" if (directory / PLAN).exists() else "missing"
        problems = [f"{PLAN}: {fault}; repair the data set."]
    if plan is None:
        return problems
    store, run = Store(directory, plan), sealed_run(directory)
    shards = store.plan.shards()
    files = {} if run is None else run.files
    problems += chain.from_iterable(shard_problems(store, shard, files) for shard in shards)
    known = set(chain.from_iterable(store.data_paths(shard) for shard in shards))
    strays = {
        *list_files(store.directory / "data"),
        *list_files(store.directory, "*.parquet"),
        *list_files(store.directory / "records", "*.tmp"),
    }
    problems += [f"{_name(store, path)}: not of this plan; remove it." for path in sorted(strays - known)]
    return problems or _run_problems(store, shards)


def known_plan(directory: Path) -> GenerationPlan | None:
    """The plan of a data set, that of the record of the run where the plan's own file is damaged; None if both are."""
    recorded = _recorded_plan(directory)
    try:
        return read_plan(directory) if recorded is None else recorded[0]
    except InputError:
        return None


def _recorded_plan(directory: Path) -> tuple[GenerationPlan, bytes] | None:
    """The plan that the record of the run holds, and its file; None where the record is missing or damaged."""
    try:
        run = Record.read(directory / RUN)
        plan = plan_of(run.settings)
    except (InputError, TypeError):
        return None
    sound = plan.fingerprint == run.inputs.get("plan") and (not run.files or sealed_run(directory) is not None)
    return (plan, written(run.settings)) if sound else None


def _is(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def shard_problems(store: Store, shard: Shard, listed: Mapping[str, FileRecord] | None = None) -> Iterator[str]:
    """What is wrong with one shard, a sentence a fault; nothing is written.

    Args:
        store: the data set.
        shard: of its plan.
        listed: the files in a record of the run that is as it was written.
    """
    redo = "repair the data set"
    try:
        record = Record.read(store.record_path(shard))
        files = recorded_files(record)
    except InputError as error:
        yield f"{_name(store, store.record_path(shard))}: no readable record of its shard ({error}); {redo}."
        return
    kept = (listed or {}).get(_name(store, store.record_path(shard)))
    if kept is not None and kept.sha256 != file_sha256(store.record_path(shard)):
        yield f"{_name(store, store.record_path(shard))}: its bytes differ from the sha256 in {RUN}; {redo}."
        return
    missing = [path for path in store.data_paths(shard) if not path.exists()]
    if missing:
        yield from (f"{_name(store, path)}: missing; repair the data set." for path in missing)
        return
    own = (record.inputs.get("plan"), record.settings.get("shard"), set(files))
    if own != (store.plan.fingerprint, shard.stem, set(shard.files)):
        yield f"{_name(store, store.record_path(shard))}: is the record of another plan or shard; {redo}."
        return
    planned, faults = store.plan.rows(shard), []
    tables: list[pa.Table] = []
    places: list[tuple[str, int, Row]] = []
    for name, members in shard.files.items():
        path, recorded = store.directory / name, files[name]
        rows = [row for row in planned if row.member in members]
        size = path.stat().st_size
        if size != recorded["bytes"]:
            faults.append(f"{name}: has {size} bytes where its record says {recorded['bytes']}")
        elif file_sha256(path) != recorded["sha256"]:
            faults.append(f"{name}: its bytes differ from the recorded sha256 ({_damage(path)})")
        else:
            try:
                tables.append(read_rows(path, store.features))
            except UNREADABLE as error:
                faults.append(f"{name}: its rows cannot be read ({error})")
                continue
            faults += (f"{name}: {fault}" for fault in row_faults(store, tables[-1], rows, recorded["rows"]))
            places += ((name, position, row) for position, row in enumerate(rows))
    if not faults:
        for place, fault in subject_faults(store, pa.concat_tables(tables), [row for _, _, row in places]):
            faults.append(f"{places[place][0]}: row {places[place][1]} {fault}")
    yield from (f"{fault}; {redo}." for fault in faults)


def _damage(path: Path) -> str:
    """Which row groups of a damaged file fail their page checksums."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        groups = [group for group in range(file.num_row_groups) if not _readable(file, group)]
    except UNREADABLE:
        return "its footer cannot be read"
    return f"damaged row groups: {', '.join(map(str, groups))}" if groups else "damage lies outside the pages"


def _readable(file: pq.ParquetFile, group: int) -> bool:
    try:
        file.read_row_group(group)
    except UNREADABLE:
        return False
    return True


def _run_problems(store: Store, shards: list[Shard]) -> list[str]:
    path = store.directory / RUN
    try:
        run = Record.read(path)
    except InputError as error:
        return [f"{_name(store, path)}: no readable record of the run ({error}); repair the data set."]
    if (fault := contradiction(run)) is not None:
        return [f"{_name(store, path)}: {fault}; repair the data set."]
    if run.settings != json.loads((store.directory / PLAN).read_bytes()):
        return [f"{_name(store, path)}: has other settings than {PLAN}; repair the data set."]
    records = [Record.read(store.record_path(shard)) for shard in shards]
    sound, derived = identity(records), store.run_record(records)
    if run.inputs.get("plan") != store.plan.fingerprint or run.counts.get("store") != sound or not _agree(run, derived):
        return [f"{_name(store, path)}: is not the record of these shards; repair the data set."]
    card = store.directory / CARD
    if not card.is_file():
        return [f"{card.name}: missing, so load_dataset has no views; {REWRITE}."]
    text = card.read_bytes()
    if sound.encode() not in text:
        return [f"{card.name}: is not the card of these shards ({sound}); {REWRITE}."]
    seal = seal_of(text)
    if seal is None and run.files:
        return [f"{card.name}: has lost its last line, the sha256 of {RUN}; {REWRITE}."]
    if seal is None:
        names: dict[str, list[str]] = {}
        for shard in shards:
            names.setdefault(shard.split, []).extend(shard.files)
        fault = card_fault(text, {split: sorted(found) for split, found in names.items()}, store.plan.preset, run)
        return [] if fault is None else [f"{card.name}: {fault}; {REWRITE}."]
    if not seal.whole:
        return [f"{card.name}: its bytes differ from the sha256 in its last line; {REWRITE}."]
    if seal.run != file_sha256(path):
        return [f"{RUN}: its bytes differ from the sha256 in {card.name}; repair the data set."]
    return []


def _agree(one: Record, other: Record) -> bool:
    """Whether two records hold the same of every input and count that both hold."""
    pairs = (one.inputs, other.inputs), (one.counts, other.counts)
    return all(ours[name] == theirs[name] for ours, theirs in pairs for name in ours.keys() & theirs.keys())


def _name(store: Store, path: Path) -> str:
    return str(path.relative_to(store.directory))
