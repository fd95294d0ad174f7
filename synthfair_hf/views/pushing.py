"""What `datasets` may publish of a loaded view: only what is open.

    description = sentence, licence and access in words, then recipe as JSON with both

It is part of a data set's info and survives map, filter, select, concatenation and save_to_disk; whatever publishes in
`datasets` reads it, once the builder was used. Without the builder, as by the card in plain Python, nothing holds back.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, get_args

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from ..errors import InputError
from ..records import Access, strictest

__all__ = ["described_access", "guard_push_to_hub"]

PUSHES = ("push_to_hub", "save_to_disk", "to_parquet", "to_csv", "to_json")
"""Methods that write to the Hub; all but the first do so where they are given an address hf://..."""

CLASSES = (Dataset, DatasetDict, IterableDataset, IterableDatasetDict)


def described_access(description: str) -> Access | None:
    """The strictest access that a description names; None where it names none.

    Args:
        description: of a data set's info.
    """
    found = list(_accesses(description))
    return strictest(*found) if found else None


def _accesses(description: str) -> Iterator[Access]:
    for line in description.splitlines():
        try:
            recipe = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(recipe, dict) and "access" in recipe:
            yield next((one for one in get_args(Access) if one == recipe["access"]), "unknown")


def guard_push_to_hub() -> None:
    """Let what publishes in `datasets` raise InputError for what is not open. Calling it twice changes nothing."""
    for kind, name in product(CLASSES, PUSHES):
        method = getattr(kind, name, None)
        if method is not None and method.__module__ != __name__:
            setattr(kind, name, _guarded(method))
    if Dataset.to_iterable_dataset.__module__ != __name__:
        Dataset.to_iterable_dataset = _describing(Dataset.to_iterable_dataset)


def _guarded(method: Any) -> Any:
    @functools.wraps(method)
    def guarded(self: Any, *arguments: Any, **settings: Any) -> Any:
        places = map(str, (*arguments[:1], *settings.values()))
        if method.__name__ == "push_to_hub" or any(place.startswith("hf://") for place in places):
            for one in self.values() if isinstance(self, Mapping) else (self,):
                access = described_access(one.info.description or "")
                if access not in (None, "open"):
                    raise InputError(
                        f"{method.__name__}: this data set was made from images whose access is {access}, not open; "
                        "publish it by `synthfair push`, into a private repository or with the permission under which "
                        "it may be public."
                    )
        return method(self, *arguments, **settings)

    guarded.__module__ = __name__
    return guarded


def _describing(method: Any) -> Any:
    """`to_iterable_dataset`, which `datasets` lets forget the description."""

    @functools.wraps(method)
    def describing(self: Dataset, *arguments: Any, **settings: Any) -> IterableDataset:
        made: IterableDataset = method(self, *arguments, **settings)
        if described_access(self.info.description or "") is not None:
            made.info.description, made.info.license = self.info.description, self.info.license
        return made

    describing.__module__ = __name__
    return describing
