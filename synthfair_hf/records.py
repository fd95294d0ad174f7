"""Every stage leaves a record: what went in, under which settings and versions, and what came out, in counts.

fingerprint(x) is the sha256 of x's canonical JSON, so key order never matters and one changed setting always does.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from .arguments import usable_path
from .errors import Checked, InputError, reason

__all__ = [
    "Access",
    "Entries",
    "FileRecord",
    "MissingEntry",
    "Record",
    "check_new_files",
    "check_regular",
    "file_inside",
    "file_sha256",
    "fingerprint",
    "first_difference",
    "library_versions",
    "row_generator",
    "row_seed",
    "strictest",
    "writable_directory",
    "write_atomically",
    "write_together",
    "written",
    "written_to",
]

Access = Literal["open", "unknown", "credentialed"]
"""Who may see the real images that something was made from; only what is known to be open is published openly."""


def strictest(*accesses: Access) -> Access:
    """The access that holds for what was made from all of these."""
    return max(accesses, key=get_args(Access).index, default="open")


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces; NaN is an error, because no two parsers agree on it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def written(value: object) -> bytes:
    """The bytes of a JSON file: indented, with a line's end; NaN is an error."""
    return f"{json.dumps(value, indent=2, allow_nan=False)}\n".encode()


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no canonical JSON")


def fingerprint(value: object, length: int = 16) -> str:
    """First `length` hex digits of the sha256 of the canonical JSON.

    Args:
        value: anything that JSON can hold, and pydantic models.
        length: hex digits, up to 64.
    """
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def check_regular(path: Path, where: str, remedy: str) -> None:
    """Raise InputError for what is there and no file: whoever opens a pipe or a terminal waits for its other end.

    Args:
        path: of a file, which may be absent.
        where: what the error begins with.
        remedy: what it ends with.
    """
    try:
        found = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{where}: cannot be read ({reason}); {remedy}.") from None
    if not found:
        raise InputError(f"{where}: is not a file; {remedy}.")


def check_new_files(argument: str, *paths: Path) -> None:
    """Raise InputError unless files of these names can be written in one directory, before the work that needs them.

    Args:
        argument: named by an error.
        paths: of files that must not be there.
    """
    for path in paths:
        if not path.name:
            raise InputError(f"{argument}: {str(path)!r} names no file; give a file's name.")
        usable_path(argument, path.with_name(f"{path.name}.tmp"))
        if path.exists():
            raise InputError(f"{argument}: {path} exists already; give another name, or remove it.")
    place = paths[0].parent
    if not place.is_dir():
        raise InputError(f"{argument}: {place} is not a directory; give a place that exists.")
    try:
        with TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise InputError(f"{argument}: {place} can't be written ({error.strerror}); give another place.") from None


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_inside(directory: Path, name: str) -> Path:
    """The file or folder of a directory that some configuration, table or record names.

    Args:
        directory: that of the configuration.
        name: relative, with `/` between folders, on every system.

    Returns:
        `directory / name`, which need not exist.

    Raises:
        InputError: a name that leads elsewhere: absolute, by `..`, a drive or a backslash, with a NUL, or by a link. In
            a snapshot of the Hub's cache, links to the blobs of its own repository are the files themselves.
    """
    plain = isinstance(name, str) and name.isprintable() and not set(name) & {"\\", ":"}
    plain = plain and not {"", ".", ".."} & set(name.split("/"))
    path, root = directory / name if plain else directory, directory.resolve()
    allowed = [root, *([root.parents[1] / "blobs"] if root.parent.name == "snapshots" else [])]
    try:
        inside = plain and any(path.resolve().is_relative_to(one) for one in allowed)
    except (OSError, RuntimeError):
        inside = False
    if not inside:
        raise InputError(f"{directory}: {name!r} leads out of it; give the name of a file or folder inside.")
    return path


@cache
def library_versions() -> dict[str, str]:
    """Versions of this package and of the libraries whose numerics or formats show in results."""
    names = ("synthfair-hf", "torch", "diffusers", "datasets", "transformers", "zuko", "pyarrow", "numpy", "pillow")
    return {name: version(name) for name in names}


def row_generator(seed: int, *keys: int) -> np.random.Generator:
    """The random numbers of one row, draw or place: a function of (seed, *keys) alone, whatever else was drawn.

    Data sets and leaderboards written so far depend on these streams.

    Args:
        seed: 0 or more.
        keys: integers that name the row, draw or place, 0 or more.
    """
    return np.random.default_rng([seed, *keys])


def row_seed(seed: int, row: int) -> int:
    """The seed of one row for generators that take a single integer, as torch's do.

    Distinct for all (seed, row) with rows below 1,000,003. Leaderboards written so far depend on these streams.

    Args:
        seed: 0 or more.
        row: 0 to 1,000,002.
    """
    return seed * 1_000_003 + row


def writable_directory(output_dir: str | Path) -> Path:
    """The directory as a path, checked before hours of work need it; InputError where a file is in its place."""
    usable_path("output_dir", output_dir)
    directory = Path(output_dir)
    for place in (directory, *directory.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"output_dir: {place} is a file; give a directory.")
    return directory


@contextmanager
def written_to(path: Path) -> Iterator[None]:
    """Names the file in an OSError of the body that names none, as that of a full disk does."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write under a temporary name, flush to disk, rename: others read the old file or the new one, never a part.

    Args:
        path: its directory exists.
        data: the whole file.
    """
    write_together({path: data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write several files as `write_atomically` does, and rename none of them before all are on the disk.

    Args:
        files: the whole contents by path; their directories exist.
    """
    temporary = {path: path.with_name(path.name + ".tmp") for path in files}
    try:
        for path, data in files.items():
            if temporary[path].is_symlink():
                # opened, it would write where the link leads
                temporary[path].unlink()
            with written_to(path), temporary[path].open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, one in temporary.items():
            os.replace(one, path)
    except OSError:
        for one in temporary.values():
            one.unlink(missing_ok=True)
        raise


class FileRecord(BaseModel):
    """Size and sha256 of a file as it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class MissingEntry(InputError, KeyError):
    """A record that was read lacks an entry."""


class Entries(dict[str, Any]):
    """The entries of one field of a record that was read; an absent one is named, with the file.

    Args:
        entries: by name.
        field: of the record.
        path: of its file.
    """

    def __init__(self, entries: Mapping[str, Any], field: str, path: Path) -> None:
        super().__init__(entries)
        self.field, self.path = field, path

    def __missing__(self, name: str) -> Any:
        raise MissingEntry(
            f"{self.path}: no {name!r} in {self.field}; write the directory anew, the record is damaged."
        )


class Record(Checked, BaseModel):
    """What one stage did. `inputs` maps names to fingerprints; `measured` holds figures with their n.

    `files` lists the files that the record vouches for, by path; it is written only where there are any.
    `seal` binds the access in `inputs` to what lies beside the record (`access`); records before it have none.
    """

    # "constants" hands NaN through to `write`, where it is an error; pydantic's default would turn it into null
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    stage: str
    inputs: dict[str, str] = {}
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    counts: dict[str, Any] = {}
    measured: dict[str, Any] = {}
    files: dict[str, FileRecord] = {}

    seal: str | None = None

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        absent = {name for name in ("files", "seal") if not getattr(self, name)}
        return {name: value for name, value in found.items() if name not in absent}

    @property
    def fingerprint(self) -> str:
        """Identity of what was computed: stage, inputs and settings (not versions, counts or figures)."""
        return fingerprint({"stage": self.stage, "inputs": self.inputs, "settings": self.settings})

    @property
    def access(self) -> Access:
        """Who may see what this was made from; unknown where the record does not say."""
        return next((one for one in get_args(Access) if one == self.inputs.get("access")), "unknown")

    def write(self, path: Path) -> None:
        """Write as indented JSON, atomically."""
        write_atomically(path, written(self.model_dump(mode="json")))

    @classmethod
    def read(cls, path: Path) -> "Record":
        """Read a record; InputError names a damaged or foreign file."""
        check_regular(path, str(path), "restore the record of this directory")
        try:
            record = cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise InputError(f"{path}: no record here; is this a directory this package wrote?") from None
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: not a record of this package ({reason(error, 'record', cls.model_fields)})."
            ) from None
        entries = {name: value for name, value in record if isinstance(value, dict)}
        return record.model_copy(update={name: Entries(value, name, path) for name, value in entries.items()})


def first_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """The first key (sorted) whose values differ, as `key: ours != theirs`; None when equal.

    Args:
        ours: settings by name.
        theirs: others.
    """
    for key in sorted(set(ours) | set(theirs)):
        if key not in ours or key not in theirs or ours[key] != theirs[key]:
            left, right = (repr(side[key]) if key in side else "(absent)" for side in (ours, theirs))
            return f"{key}: {left} != {right}"
    return None
