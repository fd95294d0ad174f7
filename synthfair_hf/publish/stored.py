"""A data set that `synthfair generate` wrote, as pages show it: every column but image and noise; images on demand."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.dataset

from ..domains.findings import findings_of, is_label
from ..domains.preset import Preset
from ..domains.values import ABSENT
from ..errors import InputError
from ..records import Record
from ..schema import MISSING_LEVEL, SPLITS, Variable
from ..views.manifest import check_files, check_footers, check_records

__all__ = ["NOT_RECORDED", "StoredDataSet", "value_text"]

NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class StoredDataSet:
    """The columns of a data set, covariates encoded, and its files.

    Args:
        preset: the domain.
        factors: the covariates that families cross.
        record: of the run that wrote it.
        columns: `[B]` each, by name.
        files: the Parquet files.
    """

    preset: Preset
    factors: tuple[str, ...]
    record: Record
    columns: dict[str, np.ndarray]
    files: pyarrow.dataset.Dataset

    @classmethod
    def read(cls, directory: Path) -> "StoredDataSet":
        """Read `directory`; InputError for a foreign directory, a damaged file or a missing row."""
        paths = sorted((directory / "data").rglob("*.parquet"))
        plan_path = directory / "records" / "plan.json"
        if not paths or not plan_path.is_file():
            raise InputError(
                f"directory: {str(directory)!r} holds no data set (parquet files in data/ and records/plan.json); "
                "give one that `synthfair generate` wrote."
            )
        try:
            plan = json.loads(plan_path.read_bytes())
            preset = Preset.model_validate(plan["preset"])
            factors = tuple(plan["factors"])
        except (RecursionError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{plan_path}: not a plan of this package ({str(error).splitlines()[0]}).") from None
        names = ("id", "split", "subject_id", "intervention", *preset.covariates.names, "draw")
        names += ("synthetic", "source_dataset", "plan", "model_revision")
        checked = pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
        try:
            files = pyarrow.dataset.dataset(
                paths, format=pyarrow.dataset.ParquetFileFormat(default_fragment_scan_options=checked)
            )
            table = files.to_table(columns=list(names))
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(f"{directory / 'data'}: not readable ({str(error).splitlines()[0]}).") from None
        record = Record.read(plan_path.with_name("generate.json"))
        if record.counts.get("rows") != len(table):
            raise InputError(
                f"directory: the record of {str(directory)!r} counts {record.counts.get('rows')} rows but its data "
                f"hold {len(table)}; run `synthfair generate` again to complete it."
            )
        found = {path.relative_to(directory).as_posix(): str(path) for path in paths}
        check_records(str(directory), record, plan_path.with_name("generate.json").read_bytes())
        check_files(str(directory), record)
        check_footers(str(directory), found, record, preset)
        columns = {name: np.asarray(table[name].to_pylist()) for name in names if name not in preset.covariates}
        for variable in preset.covariates.walk():
            missing = MISSING_LEVEL if variable.categorical else math.nan
            columns[variable.name] = table[variable.name].fill_null(missing).to_numpy()
        return cls(preset, factors, record, columns, files)

    @property
    def sampled(self) -> bool:
        """Whether a text-to-image pipeline made the images, which has no counterfactuals."""
        return self.record.settings.get("sampling") is not None

    @cached_property
    def observed(self) -> np.ndarray:
        """Which rows are observations rather than counterfactuals, bool `[B]`."""
        return self.columns["intervention"] == "{}"

    @cached_property
    def first(self) -> np.ndarray:
        """One row per subject, bool `[B]`: its observation, or its family's first row where none is stored."""
        order = np.argsort(~self.observed, kind="stable")
        _, places = np.unique(self.columns["subject_id"][order], return_index=True)
        return np.isin(np.arange(len(order)), order[places])

    def own(self, variable: Variable) -> np.ndarray:
        """Encoded values of the subjects themselves, `[B]`: in a counterfactual, those of a factor are missing."""
        missing = MISSING_LEVEL if variable.categorical else math.nan
        crossed = variable.name in self.factors
        return np.where(self.observed | (not crossed), self.columns[variable.name], missing)

    @property
    def splits(self) -> list[str]:
        """Splits that hold rows, in the usual order."""
        return [split for split in SPLITS if (self.columns["split"] == split).any()]

    @cached_property
    def shown(self) -> list[Variable]:
        """Covariates that views are described by: of several findings those that are crossed, if any."""
        findings = findings_of(self.preset)
        kept = [name for name in findings if name in self.factors] or findings
        return [one for one in self.preset.covariates.walk() if one.name in kept or one.name not in findings]

    def tells(self, variable: Variable, row: int) -> bool:
        """Whether a covariate is told of an image: one of several findings where it is present, or crossed."""
        absent = is_label(variable) and variable.decode([self.columns[variable.name][row]]) == [ABSENT]
        return not absent or variable.name in self.factors

    def images(self, rows: list[int]) -> dict[int, bytes]:
        """The encoded images of some rows, by row."""
        ids = {str(self.columns["id"][row]): row for row in rows}
        subjects = sorted({str(self.columns["subject_id"][row]) for row in rows})
        wanted = pyarrow.dataset.field("subject_id").isin(subjects) & pyarrow.dataset.field("id").isin(list(ids))
        try:
            table = self.files.to_table(columns=["id", "image"], filter=wanted)
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(f"image: not readable ({str(error).splitlines()[0]}).") from None
        return {ids[row["id"]]: row["image"]["bytes"] for row in table.to_pylist()}


def value_text(variable: Variable, value: float) -> str:
    """An encoded value in words."""
    (decoded,) = variable.decode([value])
    if decoded is None:
        return f"{variable.name} {NOT_RECORDED}"
    return decoded if variable.categorical else f"{decoded:.3g} {variable.unit}"
