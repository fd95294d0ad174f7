"""Are the files of a data set those that were written? Told by records, sizes and footers, before a row is read.

    records/generate.json   lists size and sha256 of records/plan.json and of every shard's record and files
    README.md               ends with the sha256 of records/generate.json, and of all of itself up to there

So a changed byte in one of them contradicts another, and `generate.verification.verify`, which reads every byte, names
the file. The builder and the pages cannot read every byte: they refuse records that are not those of the card, files
that are not those of the records, and footers that contradict a file's name. The identity of the plan, which every row
and footer carries, is computed anew from the settings of the run. Data sets of earlier versions have no list of files
and no such line; of theirs that identity, records/plan.json, the number of files and bytes, and the footers are
compared, and nothing vouches for what is on the card alone. Whoever writes every record and row anew is not found: that
needs a signature.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from ..domains.preset import Preset
from ..errors import InputError
from ..records import Record, fingerprint
from .layout import known

# the command line asks this file for names alone, and importing `datasets` takes longer than all else that it imports
if TYPE_CHECKING:
    from datasets import DownloadConfig

__all__ = [
    "CARD",
    "PLAN",
    "RUN",
    "Seal",
    "check_files",
    "check_footers",
    "check_records",
    "contradiction",
    "plan_identity",
    "seal_of",
    "sealed",
]

CARD, PLAN, RUN = "README.md", "records/plan.json", "records/generate.json"

FIRST_DRAWS = 1
"""The version of draws that plans did not name; what names a later one was written with a list of its files."""

IDLE = {
    **{"mixed_precision": "no", "channels_last": False, "compile": False},
    **{"draws_version": FIRST_DRAWS, "png_version": 1, "parquet_version": 1},
}
"""Settings that identities leave out where they have these values, as plans from before they existed do."""

READERS = 16
"""Footers read at a time: on the Hub each is a request or two."""

SEAL = b"<!-- sha256 of records/generate.json: %s, of README.md up to here: %s -->\n"
PATTERN = re.compile(SEAL % (2 * (b"([0-9a-f]{64})",)) + rb"\Z")


class Seal(NamedTuple):
    """The last line of a card: `run`, the sha256 of records/generate.json in it; `whole`, that no byte was changed."""

    run: str
    whole: bool


def sealed(card: bytes, run: bytes) -> bytes:
    """A card with its last line, which takes the place of an earlier one.

    Args:
        card: README.md.
        run: the bytes of records/generate.json.
    """
    line = SEAL % (hashlib.sha256(run).hexdigest().encode(), b"%s")
    text = PATTERN.sub(b"", card)
    return text + line % hashlib.sha256(text + line.partition(b"%s")[0]).hexdigest().encode()


def seal_of(card: bytes) -> Seal | None:
    """What a card's last line says; None where it has none, as those of earlier versions."""
    found = PATTERN.search(card)
    if found is None:
        return None
    own = hashlib.sha256(card[: found.start(2)]).hexdigest()
    return Seal(found[1].decode(), own == found[2].decode())


def plan_identity(settings: Mapping[str, Any]) -> str:
    """Identity of a plan: any changed setting changes it, the order of keys never does.

    The preset's network is left out: `model_revision` decides what is drawn, whatever is built by default today. So are
    the views that its card lists, an absent world, an empty target, plain numerics, and `support` where no column shows
    it, which change no row, and the first version of draws, which plans did not name.

    Args:
        settings: of a plan, as JSON holds them.
    """
    kept = {name: value for name, value in settings.items() if name not in IDLE or value != IDLE[name]}
    for name in ("target", "world"):
        if not kept.get(name):
            kept.pop(name, None)
    support, preset = kept.get("support"), kept.get("preset")
    if not (isinstance(support, Mapping) and support.get("training_images") is not None):
        kept.pop("support", None)
    if isinstance(preset, Mapping):
        kept["preset"] = {name: value for name, value in preset.items() if name not in ("network", "views")}
    return fingerprint(kept)


def contradiction(record: Record) -> str | None:
    """How the settings in a run's record contradict its inputs and files; None where they agree.

    Args:
        record: records/generate.json.
    """
    settings, inputs = record.settings, record.inputs
    try:
        own = plan_identity(settings)
    except (TypeError, ValueError, RecursionError):
        own = None
    if own != inputs.get("plan"):
        return "its settings are not those of its plan, which the rows name"
    if settings.get("model_revision") != inputs.get("model", settings.get("model_revision")):
        return "its settings name another generator than its inputs"
    if not record.files and settings.get("draws_version", FIRST_DRAWS) != FIRST_DRAWS:
        return "has lost its list of files"
    return None


def check_records(location: str, record: Record, raw: bytes, download_config: "DownloadConfig | None" = None) -> None:
    """Check that the run's record and card are those written with each other, and the plan and shards' records its own.

    The records of shards are read where they are local; on the Hub, `check_files` compares their sizes.

    Args:
        location: of the data set, a directory or URL.
        record: records/generate.json.
        raw: its bytes.
        download_config: how remote files are read.

    Raises:
        InputError: they are not, or the card or one of them is missing.
    """
    card, plan = (_read(location, name, download_config) for name in (CARD, PLAN))
    seal = None if card is None else seal_of(card)
    if card is None and record.files:
        raise _refused(location, CARD, "is missing, so nothing says whether records/generate.json was changed")
    if seal is None and record.files:
        raise _refused(location, CARD, "has lost its last line, which holds the sha256 of records/generate.json")
    if seal is not None and seal.run != hashlib.sha256(raw).hexdigest():
        raise _refused(location, RUN, "its bytes are not those whose sha256 README.md holds")
    if seal is not None and not seal.whole:
        raise _refused(location, CARD, "its bytes are not those whose sha256 is in its last line")
    if not record.files and plan is None:
        raise _refused(location, PLAN, "is missing")
    if not record.files and plan is not None and _parsed(plan) != record.settings:
        raise _refused(location, PLAN, "has other settings than records/generate.json")
    if (fault := contradiction(record)) is not None:
        raise _refused(location, RUN, fault)
    for name, file in record.files.items():
        if name.startswith("records/") and (name == PLAN or "://" not in location):
            found = plan if name == PLAN else _read(location, name, download_config)
            if found is None:
                raise _refused(location, name, "is missing")
            if hashlib.sha256(found).hexdigest() != file.sha256:
                raise _refused(location, name, "its bytes are not those whose sha256 is in records/generate.json")


def check_files(location: str, record: Record, download_config: "DownloadConfig | None" = None) -> None:
    """Check that exactly the recorded files are there, of the recorded sizes and, on the Hub, sha256.

    Args:
        location: of the data set, a directory or URL.
        record: of the run.
        download_config: how remote files are read.

    Raises:
        InputError: a file that is missing, of another size, or not of this data set.
    """
    found = _listed(location, download_config)
    data = {name: info for name, info in found.items() if name.startswith("data/") and name.endswith(".parquet")}
    if not record.files:
        counted, there = (record.counts.get("files"), record.counts.get("bytes")), _sizes(data)
        if None not in counted and counted != there:
            raise _refused(
                location,
                "data",
                f"holds {there[0]} files of {there[1]} bytes where records/generate.json counts {counted[0]} of "
                f"{counted[1]}",
            )
        return
    for name, file in record.files.items():
        info = found.get(name)
        if info is None:
            raise _refused(location, name, "is missing")
        if info["size"] != file.bytes:
            raise _refused(location, name, f"has {info['size']} bytes where records/generate.json says {file.bytes}")
        if (info.get("lfs") or {}).get("sha256", file.sha256) != file.sha256:
            raise _refused(location, name, "its bytes are not those whose sha256 is in records/generate.json")
    if foreign := sorted(data.keys() - record.files.keys()):
        raise _refused(location, foreign[0], "is not of this data set")


def check_footers(
    location: str,
    paths: Mapping[str, str],
    record: Record,
    preset: Preset,
    download_config: "DownloadConfig | None" = None,
) -> None:
    """Check that files hold the columns, levels and plan of the data set, and rows of the split and cell in their name.

    Args:
        location: of the data set, a directory or URL.
        paths: of parquet files, by name in the data set; the path may be that of a download.
        record: of the run.
        preset: of the data set.
        download_config: how remote files are read.

    Raises:
        InputError: a footer that cannot be read, or says otherwise.
    """
    from datasets import Features
    from datasets.utils.file_utils import xopen

    covariates, accepted = preset.covariates.features(), set[bytes]()

    def fault(item: tuple[str, str]) -> str | None:
        name, path = item
        try:
            with xopen(path, "rb", download_config=download_config) as file:
                opened = pq.ParquetFile(file)
                metadata, schema = opened.metadata, opened.schema_arrow
            written = schema.serialize().to_pybytes()
            if written not in accepted:
                features = Features.from_arrow_schema(schema)
                for variable, feature in covariates.items():
                    if features.get(variable) != feature:
                        return f"has other values of {variable} than the preset in records/generate.json"
                accepted.add(written)
            return _contradiction(metadata, {"plan": record.inputs["plan"], **known(name, preset)})
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            return f"its footer cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})"

    with ThreadPoolExecutor(READERS) as threads:
        for name, found in zip(paths, threads.map(fault, paths.items()), strict=True):
            if found is not None:
                raise _refused(location, name, found)


def _contradiction(metadata: pq.FileMetaData, expected: Mapping[str, Any]) -> str | None:
    """How the smallest and largest value of a column contradict what holds for every row of the file."""
    places = {metadata.schema.column(place).path: place for place in range(metadata.num_columns)}
    for name, value in expected.items():
        for group in range(metadata.num_row_groups):
            found = metadata.row_group(group).column(places[name]).statistics
            if found is None or not found.has_min_max:
                return f"its footer does not tell {name}"
            if isinstance(value, tuple):
                low, high = value
                wrong = not (low <= found.min and found.max < high)
            elif isinstance(value, float):
                wrong = not np.float32(found.min) == np.float32(found.max) == np.float32(value)
            else:
                wrong = not found.min == found.max == value
            if wrong:
                return f"holds rows of another {name}"
    return None


def _read(location: str, name: str, download_config: "DownloadConfig | None") -> bytes | None:
    """The bytes of a file; None where there is none."""
    from datasets.utils.file_utils import xopen

    try:
        with xopen(f"{location}/{name}", "rb", download_config=download_config) as file:
            content: bytes = file.read()
            return content
    except FileNotFoundError:
        return None


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _listed(location: str, download_config: "DownloadConfig | None") -> dict[str, Mapping[str, Any]]:
    """What the file system says of every file in data/ and records/, by name."""
    from datasets.utils.file_utils import _prepare_path_and_storage_options

    prepared, options = _prepare_path_and_storage_options(location, download_config=download_config)
    system, root = url_to_fs(prepared, **options)
    return {
        f"{folder}/{path.rpartition(f'/{folder}/')[2]}": info
        for folder in ("data", "records")
        for path, info in system.find(f"{root}/{folder}", detail=True).items()
    }


def _sizes(files: Mapping[str, Mapping[str, Any]]) -> tuple[int, int]:
    return len(files), sum(info["size"] for info in files.values())


def _refused(location: str, name: str, fault: str) -> InputError:
    remedy = "load another revision of it" if "://" in location else f"see `synthfair verify {location}`"
    return InputError(f"data_dir: {location} is not as it was written ({name}: {fault}); {remedy}.")
