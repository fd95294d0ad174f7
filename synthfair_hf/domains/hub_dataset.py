"""Data sets of the `datasets` library, on the Hub or on this machine, as tables of images.

Encoded images are stored once, as they are, in the library's own cache; from there on they are a folder like any other.
Code is not run: the library reads tables and images alone.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, unknown
from ..records import write_atomically
from .readers import DataSetFolder, Table
from .rows import SAVED

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["store_images"]

SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"II*\0": ".tif", b"MM\0*": ".tif"}
"""By first bytes of an encoded image; of others the suffix that its name has."""


def store_images(folder: DataSetFolder) -> tuple[Path, Table]:
    """The folder in which the images of a data set are stored, and its rows; all of its splits, in order.

    The image column is the one that `folder` names, or the only one there is. Levels are named where the data set names
    them. Splits of its own are not taken over: they need not keep a patient in one.

    Args:
        folder: its directory is OWNER/NAME on the Hub, a folder that `load_dataset` reads, or one of `save_to_disk`.

    Raises:
        InputError: there is no such data set, it has no image column, or several and none is named.
    """
    from datasets import ClassLabel, Image, concatenate_datasets, config

    splits = _load(str(folder))
    data = concatenate_datasets([splits[name] for name in sorted(splits)])
    images = [name for name, kind in data.features.items() if isinstance(kind, Image)]
    column = folder.mapping.get("file_name") or (images[0] if len(images) == 1 else None)
    if column not in images:
        if column is not None:
            raise unknown("image_column", column, images)
        raise InputError(f"image_column: {folder} has {len(images)} columns of images ({', '.join(images)}); name one.")
    place = Path(config.HF_DATASETS_CACHE) / "synthfair_images" / data._fingerprint
    names = {name: kind.names for name, kind in data.features.items() if isinstance(kind, ClassLabel)}
    rows = []
    for index, row in enumerate(data.cast_column(column, Image(decode=False))):
        file = _stored(row.pop(column), place, index)
        cells = {name: _text(value, names.get(name)) for name, value in row.items() if not isinstance(value, Mapping)}
        rows.append((index + 1, {**cells, column: file, "file_name": file}))
    return place, Table(Path(folder), rows, Path(folder).name, mapped={"file_name": str(column)}, own=True)


def _load(name: str) -> "dict[str, Dataset]":
    from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

    try:
        saved = any((Path(name) / one).is_file() for one in SAVED)
        found: Any = load_from_disk(name) if saved else load_dataset(name)
    except Exception as error:
        # the library, the Hub and the formats that it reads fail in more ways than they document
        reason = " ".join(str(error).split())
        raise InputError(f"source_dir: {name} is no data set that `datasets` reads ({reason[:200]}).") from None
    return {"all": found} if isinstance(found, Dataset) else dict(DatasetDict(found))


def _stored(image: Any, place: Path, index: int) -> str:
    """The name of the file of an image; where there is none, an empty one that is quarantined."""
    data = (image or {}).get("bytes") or b""
    if not data and image and Path(image.get("path") or "").is_file():
        data = Path(image["path"]).read_bytes()
    named = os.path.splitext((image or {}).get("path") or "")[1].lower()
    suffix = next((one for start, one in SUFFIXES.items() if data.startswith(start)), named or ".png")
    file = f"{index:08}{suffix}"
    if not (place / file).is_file():
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(place / file, data)
    return file


def _text(value: Any, levels: list[str] | None) -> str:
    if value is None:
        return ""
    if levels is not None:
        return levels[value] if 0 <= value < len(levels) else ""
    return str(value)
