"""The form of an ingested data set: images of one size, a table that names nobody, and a sealed record.

    OUT/images/ab/ab….png   gray in 12 bits, widened to 16; colours in 8; twice the resolution of training
    OUT/metadata.csv        file_name, patient_id, split, sha256 of the image, then covariates; sorted by file_name
    OUT/preset.yaml         the schema: the domain that it was read for
    OUT/record.json         settings, counts, access; its seal binds the access to metadata.csv, and so to every image

Names are HMAC-SHA256(key, what · data set · name), cut to 64 bits: an unkeyed hash of identifiers that can be counted
through, as those of MIMIC-CXR or ChestX-ray14, is reversed by counting, and so is one whose salt lies in the output.
The key is random and lies beside the output, never in it. Rows are sorted by these names, since their order in the
original, which is mostly that of its identifiers, would tell as much. A split is the original's and is recorded: it
cannot be drawn again from the new names.

This keeps whoever has OUT alone from the identifiers. It hides no patient from whoever has the original images or the
key, and does not make the images anonymous: the access of the original stays.
"""

import hashlib
import hmac
import struct
import zlib
from pathlib import Path

import numpy as np

from ..access import RECORD, recorded_access
from ..errors import InputError
from ..records import Record
from .preset_file import read_preset
from .presets import PRESETS
from .readers import Table
from .rows import read_rows

__all__ = [
    "COLUMNS",
    "METADATA",
    "SCHEMA",
    "STAGE",
    "encode_png",
    "ingested_preset",
    "is_ingested",
    "pseudonym",
    "read_metadata",
]

METADATA, SCHEMA, STAGE = "metadata.csv", "preset.yaml", "ingest"

COLUMNS = ("file_name", "patient_id", "split", "sha256")
"""Columns of metadata.csv beside the covariates, in order."""

PNG_UP, PNG_GRAY, PNG_RGB = 2, 0, 2
"""Of the PNG specification the filter that subtracts the row above (of the first, nothing), and two types of pixels."""

LONGEST_NAME = 255
"""Characters of the name of a source, which may be that of a folder."""


def pseudonym(key: bytes, what: str, data_set: str, name: str) -> str:
    """Sixteen hexadecimal digits that stand for a name, and tell it to nobody without the key.

    Args:
        key: 32 random bytes.
        what: "patient" or "image".
        data_set: equal names in two of them are two names.
        name: of a patient, or of an image's file.
    """
    message = "\0".join((what, data_set, name)).encode("utf-8", "surrogateescape")
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:16]


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG that `images.gray` reads to 1/4095, less than the half precision that training keeps near white.

    Args:
        pixels: float32 `[H, W]` in [0, 1], or colours `[3, H, W]`, which are stored in 8 bits.
    """
    if pixels.ndim == 2:
        # widened by repetition: only so are 12 bits in 16 known as such (`images.full_scale`)
        levels = np.rint(pixels * 4095).astype(np.uint16)
        levels = (levels << 4 | levels >> 8).astype(">u2")
    else:
        levels = np.moveaxis(np.rint(pixels * 255).astype(np.uint8), 0, -1)
    # by the row above and by runs alone: about as small as Pillow makes it, in a third of the time
    height, width, *colours = levels.shape
    rows = np.ascontiguousarray(levels).view(np.uint8).reshape(height, -1)
    filtered = np.full((height, rows.shape[1] + 1), PNG_UP, dtype=np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    compressor = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width, height, 8 * levels.itemsize, PNG_RGB if colours else PNG_GRAY, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": compressor.compress(filtered.tobytes()) + compressor.flush(), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )


def is_ingested(directory: Path) -> bool:
    """Whether a folder's table begins as that of an ingested data set does; False where there is none to read."""
    header = ",".join(COLUMNS)
    try:
        path = directory / METADATA
        # a pipe would be waited for
        if not path.is_file():
            return False
        with path.open(encoding="utf-8") as table:
            return table.read(len(header)) == header
    except (OSError, ValueError):
        return False


def ingested_preset(directory: Path) -> str | None:
    """The preset of an ingested folder: the name of one of this package, else its file; None for any other folder."""
    path = directory / SCHEMA
    if not (is_ingested(directory) and path.is_file()):
        return None
    name = read_preset(path).preset.name
    return name if name in PRESETS else str(path)


def read_metadata(directory: Path) -> Table:
    """The metadata.csv of a folder of images; of an ingested one with access, splits and sha256 as recorded.

    Args:
        directory: the folder.

    Raises:
        InputError: no readable table; that of an ingested data set without its record, or changed since, its header
            included.
    """
    path = directory / METADATA
    rows = read_rows(path)
    ours = tuple(rows[0][1])[: len(COLUMNS)] == COLUMNS
    try:
        record = Record.read(directory / RECORD)
    except InputError:
        if ours:
            raise
        return Table(path, rows, own=True)
    if not ours and record.stage != STAGE:
        return Table(path, rows, own=True)
    if record.stage != STAGE:
        raise InputError(f"{directory / RECORD}: is of {record.stage}; restore that of {STAGE}, whose table this is.")
    access = recorded_access(directory)
    name, people = record.settings["source"], record.settings.get("people")
    unit = record.settings.get("unit", "patient")
    # the seal is of access and contents alone
    for entry, one in (("source", name), ("people", name if people is None else people), ("unit", unit)):
        if not (isinstance(one, str) and one.isprintable() and 0 < len(one) <= LONGEST_NAME):
            raise InputError(f"{directory / RECORD}: its {entry} is not a name; restore the record.")
    splits = {row["patient_id"]: row["split"] for _, row in rows}
    return Table(
        *(path, rows, name, access, splits),
        sha256=tuple(row["sha256"] for _, row in rows),
        # whoever else shows these people can no longer be told which of them
        people=people,
        names_patients=False,
        unit=unit,
    )
