"""A directory of shards, each with a record, under one plan.

    DIR/data/...                 rows; columns as in `row_features`, page checksums, the same bytes for the same rows;
                                 images as they are, so that what a second release shares with the first is not sent
    DIR/records/plan.json        the GenerationPlan
    DIR/records/<stem>.json      Record of a finished shard: rows, bytes and sha256 of its files, the plan's identity
    DIR/records/generate.json    Record of the whole run

A shard is written under a temporary name, flushed, renamed and then recorded, so a shard is finished exactly when its
record is there; whatever else an interrupted run left is removed or redone by the same command. Ranks share the shards
out among themselves, and the one that finds all of them finished records the run: it lists the sha256 of the plan, of
every shard's record and of every file (`views.manifest`). README.md, the card without which `load_dataset` has no
views, is written after the run and must name the bytes it is about.
"""

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, Image, List, Value

from ..errors import InputError
from ..records import (
    FileRecord,
    Record,
    file_sha256,
    fingerprint,
    first_difference,
    library_versions,
    write_atomically,
    written,
)
from ..schema import Schema
from ..views.manifest import PLAN, RUN
from .balance import stored_balance
from .lock import LOCKS, check_free, lease, mutex
from .plan import VERSIONS, GenerationPlan
from .rows import Shard

__all__ = [
    "PIXELS",
    "PLAN",
    "ROWS_PER_GROUP",
    "RUN",
    "Store",
    "difference",
    "identity",
    "leaves",
    "list_files",
    "plan_of",
    "read_plan",
    "recorded_files",
    "row_features",
]

PIXELS = "image.bytes"
"""Leaf of the images' column: PNG, which cannot be compressed further."""

ROWS_PER_GROUP = 120
"""Few enough that a viewer can scan a group of 512 x 512 images, and that damage is located."""


def row_features(
    covariates: Schema,
    measured: bool = False,
    support: bool = False,
    prompt: bool = False,
    context: Sequence[str] | None = None,
) -> Features:
    """Columns of a data set, in order.

    Args:
        covariates: the plan's.
        measured: add the columns of the quality gate.
        support: add the column that says whether the row's cell is out of support.
        prompt: add the column of what a text-to-image pipeline was asked.
        context: add the column of the recipe, and these of its context; None without recipes.
    """
    read = {f"measured_{name}": feature for name, feature in covariates.features().items()}
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
            **({**read, "reached": Value("bool")} if measured else {}),
            **({"out_of_support": Value("bool")} if support else {}),
            **({"prompt": text} if prompt else {}),
            **({} if context is None else {"recipe": Value("int32"), **dict.fromkeys(context, text)}),
        }
    )


def leaves(schema: pa.Schema) -> list[str]:
    """The columns of a file, by their paths."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    stored = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [stored.column(place).path for place in range(len(stored))]


def plan_of(settings: Mapping[str, Any]) -> GenerationPlan:
    """The plan that a file or a record holds; InputError or TypeError for one of another version."""
    # plans did not always name the version of their draws
    return GenerationPlan(**{**dict.fromkeys(VERSIONS, 1), **settings})


def read_plan(directory: Path) -> GenerationPlan:
    """The plan of a generated data set; InputError names what is missing, damaged or from another version."""
    path = Path(directory) / PLAN
    try:
        return plan_of(json.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: not there, so {directory} holds no generated data set.") from None
    except (OSError, RecursionError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not a plan of this version ({error}).") from None


class Store:
    """The files of one plan in one directory. Use it as `with Store(directory, plan).open() as store`.

    Of `world_size` workers on one directory, the one of `rank` writes every world_size-th shard from its rank on.

    Args:
        directory: of the data set.
        plan: what it holds.
        rank: 0 to world_size - 1.
        world_size: number of workers.

    Raises:
        InputError: a rank out of range.
    """

    def __init__(self, directory: Path, plan: GenerationPlan, rank: int = 0, world_size: int = 1) -> None:
        if not 0 <= rank < world_size:
            raise InputError(f"rank: {rank} is not allowed; give a whole number from 0 to {world_size - 1}.")
        self.directory = Path(directory)
        self.plan = plan
        self.rank, self.world_size = rank, world_size
        context = [plan.recipe_table.column(name) for name in plan.recipe_table.said] if plan.recipes else None
        self._features = row_features(
            plan.preset.covariates, plan.gate is not None, plan.shows_support, plan.sampling is not None, context
        )
        self._versions = library_versions()

    @property
    def features(self) -> Features:
        """Columns of the data set."""
        return self._features

    def data_paths(self, shard: Shard) -> list[Path]:
        """The files of the shard's rows."""
        return [self.directory / name for name in shard.files]

    def record_path(self, shard: Shard) -> Path:
        """The shard's record."""
        return self.directory / "records" / f"{shard.stem}.json"

    def check(self) -> None:
        """Raise the InputError that `open` would raise, and write nothing."""
        self._check_owner()
        check_free(self.directory, self.rank, self.world_size)

    @contextmanager
    def open(self) -> Iterator["Store"]:
        """Hold this rank's share of the directory, with what an interrupted run left of it cleared.

        A plan that failed before its first shard blocks nobody.

        Raises:
            InputError: another process holds it or divides it otherwise, it belongs to another plan (the first setting
                that differs is named), or it holds files but no plan.
        """
        # before anything is created in a directory that may not be ours, and again once no other process can change it
        self.check()
        for folder in ("data", "records"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            with mutex(self.directory):
                self.check()
                held.enter_context(lease(self.directory, self.rank, self.world_size))
                self._prepare()
            yield self

    def _prepare(self) -> None:
        for path in self._written(self.shards()):
            path.with_name(f"{path.name}.tmp").unlink(missing_ok=True)
        settings = written(self.plan.model_dump(mode="json"))
        path = self.directory / PLAN
        if not path.exists() or path.read_bytes() != settings:
            write_atomically(path, settings)

    def shards(self) -> list[Shard]:
        """This rank's shards."""
        return self.plan.shards()[self.rank :: self.world_size]

    def _check_owner(self) -> None:
        if self.directory.exists() and not self.directory.is_dir():
            raise InputError(f"{self.directory}: is a file; give a directory as output_dir.")
        # files first: another rank that starts now writes the plan before its first shard
        found = set(list_files(self.directory))
        theirs = read_plan(self.directory) if (self.directory / PLAN).exists() else None
        # by name: a lock that was listed may be gone by now
        locks = (path for path in found if any(fnmatch(path.name, pattern) for pattern in LOCKS))
        unexplained = found - {*locks, self.directory / PLAN}
        # a plan may have a million files: they are only named where something lies
        if not unexplained or unexplained <= {
            path.with_name(f"{path.name}.tmp") for path in self._written(self.plan.shards())
        }:
            return
        if theirs is None:
            raise InputError(f"{self.directory}: is not empty and holds no plan; give a new or an empty output_dir.")
        if theirs.fingerprint != self.plan.fingerprint:
            raise InputError(
                f"{self.directory}: holds another plan ({difference(self.plan, theirs)}, ours != theirs); "
                "give the same settings, or another output_dir."
            )

    def discard(self, shard: Shard) -> None:
        """Remove what there is of a shard: first its record, so that it is never taken for finished."""
        for path in (self.record_path(shard), *self.data_paths(shard)):
            path.unlink(missing_ok=True)

    def adopt(self, shard: Shard, other: "Store") -> None:
        """Copy a finished shard of another directory of this plan, its record last."""
        for path, copied in zip(self.data_paths(shard), other.data_paths(shard), strict=True):
            self._write_data(path, copied.read_bytes())
        write_atomically(self.record_path(shard), other.record_path(shard).read_bytes())

    def _written(self, shards: Sequence[Shard]) -> Iterator[Path]:
        """Every file that a run over these shards writes under a temporary name first."""
        yield from (self.directory / PLAN, self.directory / RUN)
        for shard in shards:
            yield from (*self.data_paths(shard), self.record_path(shard))

    def finished(self, shard: Shard) -> bool:
        """Whether the shard has a record of this plan and files of the recorded sizes; `verify` reads the bytes."""
        try:
            record = Record.read(self.record_path(shard))
            recorded = {name: file["bytes"] for name, file in recorded_files(record).items()}
            sizes = {name: (self.directory / name).stat().st_size for name in shard.files}
        except (InputError, FileNotFoundError):
            return False
        return record.inputs.get("plan") == self.plan.fingerprint and sizes == recorded

    def write(self, shard: Shard, rows: list[dict[str, Any]], counts: Mapping[str, Any] | None = None) -> Record:
        """Write a shard's rows, in the order of `plan.rows`, then its record with `counts` added.

        Values are decoded, images {"bytes", "path"}.

        Args:
            shard: of the plan.
            rows: values by column, in the order of `plan.rows`.
            counts: further counts for the record.
        """
        planned = self.plan.rows(shard)
        files = {}
        for name, members in shard.files.items():
            own = [row for row, one in zip(rows, planned, strict=False) if one.member in members]
            data = self._encode(own)
            self._write_data(self.directory / name, data)
            files[name] = {"rows": len(own), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        record = Record(
            stage="shard",
            inputs={"plan": self.plan.fingerprint},
            settings={"shard": shard.stem},
            versions=self._versions,
            counts={
                "rows": len(rows),
                "bytes": sum(file["bytes"] for file in files.values()),
                "files": files,
                **(counts or {}),
            },
        )
        record.write(self.record_path(shard))
        return record

    def _write_data(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_atomically(path, data)
        except OSError as error:
            path.with_name(f"{path.name}.tmp").unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise InputError(
                f"{path}: no room for its {len(data)} bytes ({error.strerror}); free it and run the same command again."
            ) from None

    def _encode(self, rows: list[dict[str, Any]]) -> bytes:
        # not Features.encode_example: it drops an image's bytes when a file of its name lies in the working directory
        schema = self._features.arrow_schema
        columns = {name: [row[name] for row in rows] for name in schema.names}
        for name in schema.names:
            if isinstance(label := self._features[name], ClassLabel):
                columns[name] = [None if one is None else label.str2int(one) for one in columns[name]]
        table = pa.table(columns, schema=schema)
        sink = pa.BufferOutputStream()
        options: dict[str, Any] = {"write_page_checksum": True, "write_page_index": True}
        if self.plan.parquet_version > 1:
            # as they are: compressed from another row on, the same images are other bytes, which a push sends again
            options["compression"] = {name: "NONE" if name == PIXELS else "SNAPPY" for name in leaves(schema)}
        with pq.ParquetWriter(sink, schema, **options) as writer:
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        return sink.getvalue().to_pybytes()

    def finish(self, counts: Mapping[str, Any] | None = None) -> Record | None:
        """Write and return the record of the whole run; None while another rank has shards to write.

        It is that of `run_record`.

        Args:
            counts: further counts for the record, such as of the source.
        """
        with mutex(self.directory):
            shards = self.plan.shards()
            if not all(self.finished(shard) for shard in shards):
                return None
            record = self.run_record([Record.read(self.record_path(shard)) for shard in shards])
            record = record.model_copy(update={"counts": {**record.counts, **(counts or {})}})
            record.write(self.directory / RUN)
            return record

    def run_record(self, records: Sequence[Record]) -> Record:
        """The record of the whole run, from those of all shards in order.

        It holds counts summed over the shards, every version that made one of them, `store`, the identity of the
        stored bytes, and the sha256 of the plan, of the shards' records and of their files.

        Args:
            records: of the shards.
        """
        shards = self.plan.shards()
        paths = chain.from_iterable(map(self.data_paths, shards))
        summed = sorted({name for record in records for name in record.counts} - {"files"})
        versions: dict[str, dict[str, None]] = {}
        files = {PLAN: _file_record(self.directory / PLAN)}
        for shard, record in zip(shards, records, strict=True):
            path = self.record_path(shard)
            files[path.relative_to(self.directory).as_posix()] = _file_record(path)
            for name, file in recorded_files(record).items():
                files[name] = FileRecord(bytes=file["bytes"], sha256=file["sha256"])
            for name, version in record.versions.items():
                versions.setdefault(name, {})[version] = None
        return Record(
            stage="generate",
            inputs={
                "plan": self.plan.fingerprint,
                "model": self.plan.model_revision,
                **({"source": self.plan.source_fingerprint} if self.plan.source_fingerprint else {}),
            },
            settings=self.plan.model_dump(mode="json"),
            versions={name: ", ".join(found) for name, found in versions.items()},
            counts={
                "subjects": self.plan.num_subjects,
                "shards": len(shards),
                "files": sum(len(shard.files) for shard in shards),
                **{name: sum(record.counts.get(name, 0) for record in records) for name in summed},
                "store": identity(records),
                **({"recipes": stored_balance(self.plan, paths)} if self.plan.recipes else {}),
            },
            files=files,
        )


def _file_record(path: Path) -> FileRecord:
    return FileRecord(bytes=path.stat().st_size, sha256=file_sha256(path))


def recorded_files(record: Record) -> dict[str, dict[str, Any]]:
    """rows, bytes and sha256 of a finished shard's files by name; InputError names what its record does not hold."""
    whole = {"rows": int, "bytes": int, "sha256": str}
    files = record.counts.get("files")
    if not isinstance(files, dict):
        raise InputError("counts.files is absent")
    for name, file in files.items():
        for field, kind in whole.items():
            if not isinstance(file, dict) or not isinstance(file.get(field), kind):
                raise InputError(f"counts.files[{name!r}].{field} is absent")
    if not isinstance(record.counts.get("rows"), int):
        raise InputError("counts.rows is absent")
    return files


def identity(records: Sequence[Record]) -> str:
    """Identity of the stored bytes, from the sha256 of every file."""
    return fingerprint({name: file["sha256"] for record in records for name, file in record.counts["files"].items()})


def list_files(directory: Path, pattern: str = "*") -> Iterator[Path]:
    """Every file below a directory.

    Args:
        directory: may not exist.
        pattern: of file names.
    """
    return (path for path in directory.rglob(pattern) if path.is_file())


def difference(ours: GenerationPlan, theirs: GenerationPlan) -> str | None:
    """The first setting in which two plans differ, as `name: ours != theirs`."""
    idle = None if ours.shows_support or theirs.shows_support else {"support"}
    return first_difference(*(_flat(plan.model_dump(mode="json", exclude=idle)) for plan in (ours, theirs)))


def _flat(settings: object, name: str = "") -> dict[str, Any]:
    """Nested settings by dotted name, so that a difference is one value and not a whole branch."""
    if isinstance(settings, dict) and settings:
        return dict(chain.from_iterable(_flat(value, f"{name}.{key}").items() for key, value in settings.items()))
    if isinstance(settings, list) and any(isinstance(value, dict) for value in settings):
        return _flat(dict(enumerate(settings)), name)
    return {name.removeprefix("."): settings}
