"""How the files of a data set are named, and what a name implies for every row of its file.

    data/<split>-<index>-of-<count>.parquet                                a split for evaluation, or a small one
    data/train/<name>.<level>,<name>.<level>/draw-<tenth>-<index>.parquet
                                                one cell of factors and strata, one tenth of `draw`: [t/10, (t+1)/10)

So a view whose strength is a multiple of ten is a list of whole files, and another needs to filter a few of them.
(No `=` in names: parquet libraries would take that for columns.)
"""

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..domains.preset import Preset
from ..errors import unknown

__all__ = ["TENTHS", "Known", "find_files", "known", "patterns", "train_directory", "train_file", "word"]

TENTHS = 10

Known = Mapping[str, str | float | tuple[float, float]]
"""What holds for every row of a file, by column: a value (a level's index), or an interval [low, high)."""

CELL = re.compile(r"data/(?P<split>\w+)/(?P<cell>[^/]+)/draw-(?P<tenth>\d)-\d+\.parquet$")
WHOLE = re.compile(r"data/(?P<split>\w+)-\d+-of-\d+\.parquet$")


def train_directory(cell: Mapping[str, Any]) -> str:
    """The directory of a cell: the value of each factor, the contrast group of each stratum, by name."""
    return "data/train/" + (",".join(f"{name}.{word(value)}" for name, value in cell.items()) or "all")


def train_file(cell: Mapping[str, Any], tenth: int, index: int) -> str:
    """The name of a cell's `index`-th file with draws of one tenth.

    Args:
        cell: value of each factor and group of each stratum, by name.
        tenth: 0 to 9.
        index: 0 or more.
    """
    return f"{train_directory(cell)}/draw-{tenth}-{index:05d}.parquet"


def known(path: str, preset: Preset) -> Known:
    """What the name of a file, or the address that ends in it, implies for its rows.

    Args:
        path: of a file of a data set.
        preset: the domain.

    Raises:
        InputError: a covariate or level in the name that the preset does not have.
    """
    whole, match = WHOLE.search(path), CELL.search(path)
    if whole is not None:
        return {"split": whole["split"]}
    if match is None:
        return {}
    tenth = int(match["tenth"])
    found: dict[str, Any] = {"split": match["split"], "draw": (tenth / TENTHS, (tenth + 1) / TENTHS)}
    if match["cell"] == "all":
        return found
    for pair in match["cell"].split(","):
        name, _, written = pair.partition(".")
        found[name] = _meaning(name, written, preset)
    return found


def _meaning(name: str, written: str, preset: Preset) -> float | tuple[float, float]:
    if name not in preset.covariates:
        raise unknown("data files", name, preset.covariates.names)
    variable = preset.covariates[name]
    if variable.categorical:
        levels = [word(level) for level in variable.levels]
        if written not in levels:
            raise unknown(f"data files: {name}", written, levels)
        return levels.index(written)
    contrast = preset.contrasts.get(name)
    if contrast is not None and contrast.threshold is not None and written == word(contrast.first):
        return -math.inf, contrast.threshold
    if contrast is not None and contrast.threshold is not None and written == word(contrast.second):
        return contrast.threshold, math.inf
    try:
        return float(written)
    except ValueError:
        groups = [] if contrast is None else [word(contrast.first), word(contrast.second)]
        raise unknown(f"data files: {name}", written, [*groups, "a number"]) from None


def find_files(directory: Path, split: str) -> list[str]:
    """Names of the files of one split of a data set, in order.

    Args:
        directory: the data set.
        split: train, validation or test.
    """
    found = (path.relative_to(directory).as_posix() for path in (directory / "data").rglob("*.parquet"))
    return sorted(name for name in found if name.startswith((f"data/{split}-", f"data/{split}/")))


def patterns(names: Iterable[str], beside: Iterable[str] | None = None) -> list[str]:
    """The same files, in the same order, as few patterns: shorter cards, which plain `datasets` reads at every loading.

    Cells that begin alike and have the same tenths among the names are one pattern: `sex.female,*/draw-[01]-*.parquet`.

    Args:
        names: of files, in the order of `find_files`.
        beside: all files of the data set; no pattern matches one of these that is not among the names. Without them
            every cell has a pattern of its own, as in the first cards.
    """
    tenths: dict[str, set[str]] = {}
    for name in names:
        match = CELL.search(name)
        if match is None:
            tenths[re.sub(r"-\d+-of-\d+\.parquet$", "-*.parquet", name)] = set()
        else:
            tenths.setdefault(name.rpartition("/")[0], set()).add(match["tenth"])
    others = {name.rpartition("/")[0] for name in beside or () if CELL.search(name)} - set(tenths)
    found: dict[str, None] = {}
    for directory, own in tenths.items():
        if own:
            unlike = others | {cell for cell, theirs in tenths.items() if theirs != own}
            cells = directory if beside is None else _shared(directory, unlike)
            directory = f"{cells}/draw-{_among(sorted(own))}-*.parquet"
        found[directory] = None
    return list(found)


def _shared(directory: str, unlike: Iterable[str]) -> str:
    """The shortest beginning of a cell's directory that none of the unlike begins with, up to a comma, and a star."""
    start = directory.rpartition("/")[0] + "/"
    while start != directory:
        if not any(cell.startswith(start) for cell in unlike):
            return f"{start}*"
        start = directory[: directory.find(",", len(start)) + 1] or directory
    return directory


def _among(tenths: list[str]) -> str:
    if len(tenths) == TENTHS:
        return "?"
    return f"[{''.join(tenths)}]" if len(tenths) > 1 else tenths[0]


def word(value: Any) -> str:
    """A level or number as part of a path: letters, digits, dots, + and -; an underscore for whatever else.

    Cut to 40 characters, so that the names of several fit the 255 bytes of a file system.
    """
    return _word(str(value))


@lru_cache(maxsize=4096)
def _word(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z.+-]+", "_", text)[:40]
