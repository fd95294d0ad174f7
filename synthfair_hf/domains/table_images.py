"""The images that the rows of a table name, as far as a draft looks at them: where they are, and what can be learned.

    taught[level] = rows of the level whose patient is in the training split, and whose image can be read

Of levels that many rows have the images are taken as they are; those of rare levels are opened, for one that cannot be
read may be the only one.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from ..missing import identifier
from .cells import TRAIN
from .images import is_in_colours
from .source import patient_split, read_image

__all__ = ["RESOLUTIONS", "TableImages"]

RESOLUTIONS = (64, 32)

EXAMINED = 16
"""Images that are opened to see how large they are, and whether most have colours; and of a rare level, at most."""


class TableImages:
    """The images of a folder's table.

    Args:
        directory: the folder.
        rows: of the table, with `file_name` and `patient_id`.
    """

    def __init__(self, directory: Path, rows: Sequence[Mapping[str, str]]) -> None:
        self.directory, self.rows = directory, rows
        self._readable: dict[int, bool] = {}

    @cached_property
    def missing(self) -> list[str]:
        """Names of those that are not there."""
        names = (row["file_name"] for row in self.rows)
        return [name for name in names if "\0" in name or not os.path.exists(self.directory / name.replace("\\", "/"))]

    @cached_property
    def examined(self) -> list[Path]:
        """EXAMINED of them at most, evenly spaced; what is no file of the folder is not opened."""
        found = (self._file(place) for place in range(0, len(self.rows), max(1, len(self.rows) // EXAMINED)))
        return [path for path, _ in zip(found, range(EXAMINED), strict=False) if path is not None]

    @cached_property
    def resolution(self) -> int:
        """The largest of RESOLUTIONS for which as many of the examined images are large enough as for any."""
        return max(RESOLUTIONS, key=lambda one: (sum(_can_be_read(path, one) for path in self.examined), one))

    @cached_property
    def channels(self) -> int:
        """3 where most of the examined images have colours, else 1."""
        return 3 if 2 * sum(map(is_in_colours, self.examined)) > len(self.examined) else 1

    @cached_property
    def _in_train(self) -> list[bool]:
        return [patient_split(identifier(row["patient_id"]) or "") == TRAIN for row in self.rows]

    def taught(self, levels: Sequence[str | None]) -> Counter[str]:
        """How many images of each level can be learned from.

        Args:
            levels: of the rows, None where missing.
        """
        places = defaultdict(list)
        for place, level in enumerate(levels):
            if level is not None and self._in_train[place]:
                places[level].append(place)
        # where none is there yet, none is to be read
        unopened = len(self.missing) == len(self.rows)
        return Counter(
            {
                level: len(own) if unopened or len(own) > EXAMINED else sum(map(self._can_be_learned, own))
                for level, own in places.items()
            }
        )

    def _can_be_learned(self, place: int) -> bool:
        if place not in self._readable:
            path = self._file(place)
            self._readable[place] = path is not None and _can_be_read(path, self.resolution)
        return self._readable[place]

    def _file(self, place: int) -> Path | None:
        """The file of a row; None where there is none in the folder."""
        # of a name that no file can have, whoever reads it will say so
        with suppress(OSError, ValueError):
            path = (self.directory / self.rows[place]["file_name"].replace("\\", "/")).resolve()
            if path.is_relative_to(self.directory.resolve()) and path.is_file():
                return path
        return None


def _can_be_read(path: Path, resolution: int) -> bool:
    """Whether an image can; whoever reads it will say what is wrong with it."""
    try:
        return len(read_image(path, resolution)) > 0
    # an InputError too
    except (OSError, ValueError):
        return False
