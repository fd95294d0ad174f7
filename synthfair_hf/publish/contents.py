"""What the files of a data set hold, as its documents state it: splits, rows, subjects, columns."""

from collections.abc import Mapping
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from datasets import Features

from ..domains.preset import Preset
from ..errors import InputError
from ..schema import MISSING_LEVEL, SPLITS, Variable
from ..views.layout import find_files

__all__ = ["Contents"]


class Contents:
    """The files of a data set and those of their columns that views, counts and statistics need.

    Args:
        directory: the data set, with files named as in `views.layout`.
        preset: its domain.

    Raises:
        InputError: there is no file of train.

    Attributes:
        files: names by split.
        shards: paths by split.
        columns: encoded, `[rows]` by name: split, subject_id, draw, synthetic and the covariates.
        features: of all columns.
    """

    def __init__(self, directory: Path, preset: Preset) -> None:
        self.files = {split: found for split in SPLITS if (found := find_files(directory, split))}
        if "train" not in self.files:
            raise InputError(f"{directory}: no files of train in data/; generate the data set before its card.")
        self.shards = {split: [directory / name for name in found] for split, found in self.files.items()}
        self.columns = _columns([path for paths in self.shards.values() for path in paths], preset)
        self.features = Features.from_arrow_schema(pyarrow.parquet.read_schema(self.shards["train"][0]))

    @cached_property
    def rows(self) -> dict[str, int]:
        """The number of rows by split."""
        return {split: int((self.columns["split"] == split).sum()) for split in self.files}

    @cached_property
    def synthetic(self) -> int:
        """The number of generated images."""
        return int(self.columns["synthetic"].sum())

    @cached_property
    def subjects(self) -> dict[str, int]:
        """The number of subjects by split; InputError where one crosses splits."""
        subjects = {split: set(self.columns["subject_id"][self.columns["split"] == split]) for split in self.files}
        for first, second in combinations(self.files, 2):
            if crossing := subjects[first] & subjects[second]:
                raise InputError(
                    f"subject_id: {min(crossing)!r} is in {first} and in {second}; a subject belongs to one split only."
                )
        return {split: len(names) for split, names in subjects.items()}

    def missing(self, variable: Variable) -> int:
        """The number of images without a value of a covariate."""
        values = self.columns[variable.name]
        return int((values == MISSING_LEVEL if variable.categorical else np.isnan(values)).sum())


def _columns(paths: list[Path], preset: Preset) -> Mapping[str, np.ndarray]:
    names = ["split", "subject_id", "draw", "synthetic", *preset.covariates.names]
    table = pa.concat_tables(
        pyarrow.parquet.read_table(path, columns=names, partitioning=None, page_checksum_verification=True)
        for path in paths
    )
    columns = {}
    for name in names:
        column = table[name]
        if name in preset.covariates and preset.covariates[name].categorical:
            column = pyarrow.compute.fill_null(column, MISSING_LEVEL)
        columns[name] = column.to_numpy()
    return columns
