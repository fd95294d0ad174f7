"""Is a data set what its plan and records say? Every byte is read.

sound = every file of every shard as recorded, every row as planned, the run's record and the card of these shards
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..arguments import checked
from ..errors import InputError
from ..records import Record, file_sha256
from .rows import Row, Shard
from .store import RUN, Store, identity, list_files, read_plan, recorded_files

__all__ = ["damaged_shards", "shard_problems", "verify"]

UNREADABLE = (OSError, ValueError, pa.ArrowException)
"""What pyarrow raises of damaged bytes; a flip inside a name is no UTF-8, a ValueError."""


def damaged_shards(directory: Path) -> list[Shard]:
    """Shards of the plan that are missing, unrecorded or not as recorded; every byte is read."""
    store = Store(directory, read_plan(directory))
    return [shard for shard in store.shards() if any(shard_problems(store, shard))]


@checked
def verify(directory: str | Path) -> list[str]:
    """What is wrong with a generated data set, one sentence a fault, each naming the file; an empty list means sound.

    Every byte is read. Checked: every shard of the plan is there with its record, size, sha256 and exactly the plan's
    rows; no identifier occurs twice and no subject is in two splits; nothing else lies among the data; the record of
    the run agrees with the shards, and the card with the record.
    """
    directory = Path(directory)
    try:
        store = Store(directory, read_plan(directory))
    except InputError as error:
        return [str(error)]
    shards = store.plan.shards()
    problems = list(chain.from_iterable(shard_problems(store, shard) for shard in shards))
    known = set(chain.from_iterable(store.data_paths(shard) for shard in shards))
    strays = {
        *list_files(store.directory / "data"),
        *list_files(store.directory, "*.parquet"),
        *list_files(store.directory / "records", "*.tmp"),
    }
    problems += [f"{_name(store, path)}: not of this plan; remove it." for path in sorted(strays - known)]
    return problems or _run_problems(store, shards)


def shard_problems(store: Store, shard: Shard) -> Iterator[str]:
    """What is wrong with one shard, a sentence a fault; nothing is written.

    Args:
        store: the data set.
        shard: of its plan.
    """
    redo = "delete it and run the same command again"
    try:
        record = Record.read(store.record_path(shard))
        files = recorded_files(record)
    except InputError as error:
        yield f"{_name(store, store.record_path(shard))}: no readable record of its shard ({error}); {redo}."
        return
    missing = [path for path in store.data_paths(shard) if not path.exists()]
    if missing:
        yield from (f"{_name(store, path)}: missing; run the same command again." for path in missing)
        return
    own = (record.inputs.get("plan"), record.settings.get("shard"), set(files))
    if own != (store.plan.fingerprint, shard.stem, set(shard.files)):
        yield f"{_name(store, store.record_path(shard))}: is the record of another plan or shard; {redo}."
        return
    planned = store.plan.rows(shard)
    for name, members in shard.files.items():
        path, recorded = store.directory / name, files[name]
        size = path.stat().st_size
        if size != recorded["bytes"]:
            yield f"{name}: has {size} bytes where its record says {recorded['bytes']}; {redo}."
        elif file_sha256(path) != recorded["sha256"]:
            yield f"{name}: its bytes differ from the recorded sha256 ({_damage(path)}); {redo}."
        else:
            rows = [row for row in planned if row.member in members]
            yield from (f"{name}: {fault}; {redo}." for fault in _row_faults(store, path, rows, recorded["rows"]))


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


def _row_faults(store: Store, path: Path, planned: Sequence[Row], recorded: int) -> Iterator[str]:
    """How an undamaged file's rows differ from the plan's, which have no duplicate and no subject in two splits."""
    columns = ["id", "subject_id", "split", "plan"]
    try:
        table = pq.read_table(path, columns=columns, partitioning=None).to_pydict()
    except UNREADABLE as error:
        yield f"its rows cannot be read ({error})"
        return
    if not len(planned) == len(table["id"]) == recorded:
        yield f"{len(table['id'])} rows, {recorded} recorded, {len(planned)} planned"
    twice = [identifier for identifier, times in Counter(table["id"]).items() if times > 1]
    if twice:
        yield f"id {twice[0]} occurs more than once"
    for column in columns:
        wanted = [getattr(row, column, store.plan.fingerprint) for row in planned]
        for position, (found, expected) in enumerate(zip(table[column], wanted, strict=False)):
            if found != expected:
                yield f"row {position} has {column} {found} where the plan has {expected}"
                break


def _run_problems(store: Store, shards: list[Shard]) -> list[str]:
    path = store.directory / RUN
    try:
        run = Record.read(path)
    except InputError as error:
        return [f"{_name(store, path)}: no readable record of the run ({error}); run the same command again."]
    sound = identity([Record.read(store.record_path(shard)) for shard in shards])
    if run.inputs.get("plan") != store.plan.fingerprint or run.counts.get("store") != sound:
        return [f"{_name(store, path)}: is not the record of these shards; run the same command again."]
    card = store.directory / "README.md"
    if not card.is_file():
        return [f"{card.name}: missing, so load_dataset has no views; run the same generate command again."]
    if sound.encode() not in card.read_bytes():
        return [f"{card.name}: is not the card of these shards ({sound}); run the same generate command again."]
    return []


def _name(store: Store, path: Path) -> str:
    return str(path.relative_to(store.directory))
