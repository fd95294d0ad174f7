"""What `datasets` may publish of a loaded view: only what is open.

    description = sentence, licence and access in words, then recipe as JSON with both

It is part of a data set's info and survives map, filter, select, concatenation and save_to_disk; whatever publishes in
`datasets` reads it, once the package was imported. What the card's YAML loaded has no such description, and `datasets`
keeps no path of it: the access of rows that have this package's columns is unknown then. The package installs the guard
when it is imported, so imports of its own wait until it is asked.
"""

import functools
import json
import os
from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from ..records import Access

__all__ = ["described_access", "guard_push_to_hub"]

PUSHES = ("push_to_hub", "save_to_disk", "to_parquet", "to_csv", "to_json", "download_and_prepare")
"""Methods that write to the Hub; all but the first do so where they are given an address hf://..."""

CLASSES = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict", "DatasetBuilder")

UNSTATED = "; where its record says open, load it by load_dataset('synthfair', data_dir=...), which reads that"

COLUMNS = {"plan", "model_revision", "source_dataset"}
"""Columns by which rows of this package are known."""


def described_access(description: str) -> "Access | None":
    """The strictest access that a description names; None where it names none.

    Args:
        description: of a data set's info.
    """
    from ..records import strictest

    found = list(_accesses(description))
    return strictest(*found) if found else None


def _accesses(description: str) -> "Iterator[Access]":
    from ..records import Access

    for line in description.splitlines():
        try:
            recipe = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(recipe, dict) and "access" in recipe:
            yield next((one for one in get_args(Access) if one == recipe["access"]), "unknown")


def guard_push_to_hub() -> None:
    """Let what publishes in `datasets` raise InputError for what is not open. Calling it twice changes nothing."""
    import datasets

    for kind, name in product((getattr(datasets, one) for one in CLASSES), PUSHES):
        method = getattr(kind, name, None)
        if method is not None and method.__module__ != __name__:
            setattr(kind, name, _guarded(method))
    if datasets.Dataset.to_iterable_dataset.__module__ != __name__:
        datasets.Dataset.to_iterable_dataset = _describing(datasets.Dataset.to_iterable_dataset)


def _guarded(method: Any) -> Any:
    @functools.wraps(method)
    def guarded(self: Any, *arguments: Any, **settings: Any) -> Any:
        if method.__name__ == "push_to_hub" or any(map(_on_the_hub, (*arguments, *settings.values()))):
            for one in self.values() if isinstance(self, Mapping) else (self,):
                access = _access(one)
                if access not in (None, "open"):
                    from ..errors import InputError

                    raise InputError(
                        f"{method.__name__}: this data set was made from images whose access is {access}, not open; "
                        "publish it by `synthfair push`, into a private repository or with the permission under which "
                        "it may be public" + (UNSTATED if access == "unknown" else "") + "."
                    )
        return method(self, *arguments, **settings)

    guarded.__module__ = __name__
    return guarded


def _on_the_hub(value: Any) -> bool:
    """Whether a place is on the Hub: an address, however chained, an open file, or fsspec's options that lead there."""
    if isinstance(value, Mapping):
        return any(one == "hf" or _on_the_hub(one) for one in value.values())
    if isinstance(value, (str, os.PathLike)):
        return "hf://" in os.fspath(value) if isinstance(os.fspath(value), str) else False
    from huggingface_hub import HfFileSystem

    return isinstance(getattr(value, "fs", value), HfFileSystem)


def _access(one: Any) -> "Access | None":
    """The access to the images behind a data set or builder; None for one that is not of this package."""
    told = described_access(one.info.description or "")
    return "unknown" if told is None and _columns(one) >= COLUMNS else told


def _columns(one: Any) -> set[str]:
    """Names of the columns; a stream and a builder may have to read a file for them."""
    from datasets import IterableDataset
    from datasets.packaged_modules.parquet.parquet import Parquet

    features = one.info.features
    if features is None and isinstance(one, Parquet):
        one = next(iter(one.as_streaming_dataset().values()))
    if features is None and isinstance(one, IterableDataset):
        features = one._resolve_features().features
    return set(features or ())


def _describing(method: Any) -> Any:
    """`to_iterable_dataset`, which `datasets` lets forget the description."""

    @functools.wraps(method)
    def describing(self: "Dataset", *arguments: Any, **settings: Any) -> "IterableDataset":
        made: IterableDataset = method(self, *arguments, **settings)
        if described_access(self.info.description or "") is not None:
            made.info.description, made.info.license = self.info.description, self.info.license
        return made

    describing.__module__ = __name__
    return describing
