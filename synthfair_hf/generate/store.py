"""A directory of shards, each with a record, under one plan.

    DIR/data/<stem>.parquet      rows; columns as in `row_features`, page checksums, the same bytes for the same rows
    DIR/records/plan.json        the GenerationPlan
    DIR/records/<stem>.json      Record of a finished shard: rows, bytes, sha256, fingerprint of the plan
    DIR/records/generate.json    Record of the whole run

A shard is written under a temporary name, flushed, renamed and then recorded, so a shard is finished exactly when its
record is there; whatever else an interrupted run left is removed or redone by the same command. README.md, the card
without which `load_dataset` knows no view, is written after the run and must name the bytes it is about.
"""

import errno
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, List, Value

from ..errors import InputError
from ..records import Record, file_sha256, fingerprint, first_difference, library_versions, write_atomically
from ..schema import Schema
from .lock import check_unlocked, locked
from .plan import GenerationPlan, Shard

__all__ = ["Store", "read_plan", "row_features", "verify"]

ROWS_PER_GROUP = 120
"""Few enough that a viewer can scan a group of 512 x 512 images, and that damage is located."""

LOCK = ".lock"

PLAN = "records/plan.json"

TEMPORARY = ("data/*.parquet.tmp", "records/*.json.tmp")
"""What a killed run leaves; any other *.tmp is somebody else's."""


def row_features(covariates: Schema) -> Features:
    """Columns of a data set over these covariates, in order."""
    text, noise = Value("string"), List(Value("float32"))
    return Features(
        {
            "id": text,
            "image": Image(),
            "split": text,
            "subject_id": text,
            "parent_id": text,
            "intervention": text,
            **covariates.features(),
            **{f"noise_{name}": noise for name in covariates.names},
            "seed": Value("int64"),
            "draw": Value("float64"),
            "synthetic": Value("bool"),
            "source_dataset": text,
            "plan": text,
            "model_revision": text,
        }
    )


def read_plan(directory: Path) -> GenerationPlan:
    """The plan of a generated data set; InputError names what is missing, damaged or from another version."""
    path = Path(directory) / PLAN
    try:
        return GenerationPlan(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(f"{path}: not there, so {directory} holds no generated data set.") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not a plan of this version ({error}).") from None


class Store:
    """The files of one plan in one directory. Use it as `with Store(directory, plan).open() as store`."""

    def __init__(self, directory: Path, plan: GenerationPlan) -> None:
        self.directory = Path(directory)
        self.plan = plan
        self._features = row_features(plan.preset.covariates)
        self._versions = library_versions()

    def data_path(self, shard: Shard) -> Path:
        """The shard's rows."""
        return self.directory / "data" / f"{shard.stem}.parquet"

    def record_path(self, shard: Shard) -> Path:
        """The shard's record."""
        return self.directory / "records" / f"{shard.stem}.json"

    def check(self) -> None:
        """Raise the InputError that `open` would raise, and write nothing."""
        self._check_owner()
        check_unlocked(self.directory / LOCK)

    @contextmanager
    def open(self) -> Iterator["Store"]:
        """Hold the directory for this process, with the leftovers of an interrupted run cleared.

        Raises InputError when another process holds it, when it belongs to another plan (naming the first setting that
        differs), and when it holds files but no plan. A plan that failed before its first shard holds nobody up.
        """
        # before anything is created in a directory that may not be ours, and again once nobody else can change it
        self._check_owner()
        for folder in ("data", "records"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        with locked(self.directory / LOCK):
            self._check_owner()
            for leftover in self._temporary():
                leftover.unlink()
            settings = json.dumps(self.plan.model_dump(mode="json"), indent=2, allow_nan=False)
            write_atomically(self.directory / PLAN, f"{settings}\n".encode())
            yield self

    def _check_owner(self) -> None:
        if self.directory.exists() and not self.directory.is_dir():
            raise InputError(f"{self.directory}: is a file; give a directory as output_dir.")
        theirs = read_plan(self.directory) if (self.directory / PLAN).exists() else None
        without_loss = {self.directory / LOCK, self.directory / PLAN, *self._temporary()}
        if without_loss.issuperset(_files(self.directory)):
            return
        if theirs is None:
            raise InputError(f"{self.directory}: is not empty and holds no plan; give a new or an empty output_dir.")
        if theirs.fingerprint != self.plan.fingerprint:
            settings = (_flat(plan.model_dump(mode="json")) for plan in (self.plan, theirs))
            raise InputError(
                f"{self.directory}: holds another plan ({first_difference(*settings)}, ours != theirs); "
                "give the same settings, or another output_dir."
            )

    def _temporary(self) -> list[Path]:
        return [path for pattern in TEMPORARY for path in self.directory.glob(pattern)]

    def finished(self, shard: Shard) -> bool:
        """Whether the shard has a record of this plan and a file of the recorded size; `verify` reads the bytes."""
        try:
            record, size = Record.read(self.record_path(shard)), self.data_path(shard).stat().st_size
        except (InputError, FileNotFoundError):
            return False
        return record.inputs.get("plan") == self.plan.fingerprint and record.counts.get("bytes") == size

    def write(self, shard: Shard, rows: list[dict[str, Any]], counts: Mapping[str, Any] | None = None) -> Record:
        """Write a shard's rows (values decoded, image as {"bytes", "path"}), then its record with `counts` added."""
        data, path = self._encode(rows), self.data_path(shard)
        try:
            write_atomically(path, data)
        except OSError as error:
            path.with_name(f"{path.name}.tmp").unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise InputError(
                f"{path}: no room for its {len(data)} bytes ({error.strerror}); free it and run the same command again."
            ) from None
        record = Record(
            stage="shard",
            inputs={"plan": self.plan.fingerprint},
            settings={"shard": shard.stem},
            versions=self._versions,
            counts={
                "rows": len(rows),
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                **(counts or {}),
            },
        )
        record.write(self.record_path(shard))
        return record

    def _encode(self, rows: list[dict[str, Any]]) -> bytes:
        # not Features.encode_example: it drops an image's bytes when a file of its name lies in the working directory
        schema = self._features.arrow_schema
        columns = {name: [row[name] for row in rows] for name in schema.names}
        for variable in self.plan.preset.covariates.walk():
            if variable.categorical:
                codes = {level: code for code, level in enumerate(variable.levels)}
                columns[variable.name] = [None if one is None else codes[one] for one in columns[variable.name]]
        table = pa.table(columns, schema=schema)
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, schema, write_page_checksum=True, write_page_index=True) as writer:
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        return sink.getvalue().to_pybytes()

    def finish(self) -> Record:
        """Write and return the record of the whole run: counts summed over the shards, and `store`, their identity."""
        shards = self.plan.shards()
        records = [Record.read(self.record_path(shard)) for shard in shards]
        summed = sorted({name for record in records for name in record.counts} - {"sha256"})
        record = Record(
            stage="generate",
            inputs={
                "plan": self.plan.fingerprint,
                "model": self.plan.model_revision,
                **({"source": self.plan.source_fingerprint} if self.plan.source_fingerprint else {}),
            },
            settings=self.plan.model_dump(mode="json"),
            versions=self._versions,
            counts={
                "subjects": self.plan.num_subjects,
                "shards": len(shards),
                **{name: sum(record.counts.get(name, 0) for record in records) for name in summed},
                "store": _store_fingerprint(
                    {shard.stem: record for shard, record in zip(shards, records, strict=True)}
                ),
            },
        )
        record.write(self.directory / "records" / "generate.json")
        return record


def verify(directory: Path) -> list[str]:
    """What is wrong with a generated data set, one sentence a fault, each naming the file; an empty list means sound.

    Every byte is read. Checked: every shard of the plan is there with its record, size, sha256 and exactly the plan's
    rows; no identifier occurs twice and no subject is in two splits; nothing else lies among the data; the record of
    the run agrees with the shards, and the card with the record.
    """
    try:
        store = Store(directory, read_plan(directory))
    except InputError as error:
        return [str(error)]
    shards = store.plan.shards()
    problems = list(chain.from_iterable(_shard_problems(store, shard) for shard in shards))
    known = {store.data_path(shard) for shard in shards}
    strays = {
        *_files(store.directory / "data"),
        *_files(store.directory, "*.parquet"),
        *_files(store.directory / "records", "*.tmp"),
    }
    problems += [f"{_name(store, path)}: not of this plan; remove it." for path in sorted(strays - known)]
    return problems or _run_problems(store, shards)


def _shard_problems(store: Store, shard: Shard) -> Iterator[str]:
    path, name = store.data_path(shard), _name(store, store.data_path(shard))
    redo = "delete it and run the same command again"
    try:
        record = Record.read(store.record_path(shard))
    except InputError as error:
        yield f"{_name(store, store.record_path(shard))}: no readable record of its shard ({error}); {redo}."
        return
    if not path.exists():
        yield f"{name}: missing; run the same command again."
        return
    if record.inputs.get("plan") != store.plan.fingerprint or record.settings.get("shard") != shard.stem:
        yield f"{_name(store, store.record_path(shard))}: is the record of another plan or shard; {redo}."
        return
    size, expected = path.stat().st_size, record.counts.get("bytes")
    if size != expected:
        yield f"{name}: has {size} bytes where its record says {expected}; {redo}."
    elif file_sha256(path) != record.counts.get("sha256"):
        yield f"{name}: its bytes differ from the recorded sha256 ({_damage(path)}); {redo}."
    else:
        yield from (f"{name}: {fault}; {redo}." for fault in _row_faults(store, shard, record))


def _damage(path: Path) -> str:
    """Which row groups of a damaged file fail their page checksums."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        groups = [group for group in range(file.num_row_groups) if not _readable(file, group)]
    except (OSError, pa.ArrowException):
        return "its footer cannot be read"
    return f"damaged row groups: {', '.join(map(str, groups))}" if groups else "damage lies outside the pages"


def _readable(file: pq.ParquetFile, group: int) -> bool:
    try:
        file.read_row_group(group)
    except (OSError, pa.ArrowException):
        return False
    return True


def _row_faults(store: Store, shard: Shard, record: Record) -> Iterator[str]:
    """How an undamaged file's rows differ from the plan's, which have no duplicate and no subject in two splits."""
    planned, columns = store.plan.rows(shard), ["id", "subject_id", "split", "plan"]
    try:
        table = pq.read_table(store.data_path(shard), columns=columns).to_pydict()
    except (OSError, pa.ArrowException) as error:
        yield f"its rows cannot be read ({error})"
        return
    if not len(planned) == len(table["id"]) == record.counts.get("rows"):
        yield f"{len(table['id'])} rows, {record.counts.get('rows')} recorded, {len(planned)} planned"
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
    path = store.directory / "records" / "generate.json"
    try:
        run = Record.read(path)
    except InputError as error:
        return [f"{_name(store, path)}: no readable record of the run ({error}); run the same command again."]
    sound = _store_fingerprint({shard.stem: Record.read(store.record_path(shard)) for shard in shards})
    if run.inputs.get("plan") != store.plan.fingerprint or run.counts.get("store") != sound:
        return [f"{_name(store, path)}: is not the record of these shards; run the same command again."]
    card = store.directory / "README.md"
    if not card.is_file():
        return [f"{card.name}: missing, so load_dataset knows no view; run the same generate command again."]
    if sound.encode() not in card.read_bytes():
        return [f"{card.name}: is not the card of these shards ({sound}); run the same generate command again."]
    return []


def _store_fingerprint(records: Mapping[str, Record]) -> str:
    """Identity of the stored bytes, from the sha256 of every shard."""
    return fingerprint({stem: record.counts.get("sha256") for stem, record in records.items()})


def _name(store: Store, path: Path) -> str:
    return str(path.relative_to(store.directory))


def _files(directory: Path, pattern: str = "*") -> Iterator[Path]:
    return (path for path in directory.rglob(pattern) if path.is_file())


def _flat(settings: object, name: str = "") -> dict[str, Any]:
    """Nested settings by dotted name, so that a difference is one value and not a whole branch."""
    if isinstance(settings, dict) and settings:
        return dict(chain.from_iterable(_flat(value, f"{name}.{key}").items() for key, value in settings.items()))
    if isinstance(settings, list) and any(isinstance(value, dict) for value in settings):
        return _flat(dict(enumerate(settings)), name)
    return {name.removeprefix("."): settings}
