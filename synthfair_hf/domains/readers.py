"""What reads a data set in its own layout: a reader gives one row per image, and `ImageFolder` does the rest.

A reader says where images, patients and values stand, in the words of the preset; from there on a data set is like any
folder of images. To add one: a subclass of `Reader` with `rows`, and its line in `registry.READERS`.

    class Lungs(Reader):
        name, title, files = "lungs", "Lungs 2", ("lungs.csv",)
        ...
        def rows(self):
            for line, row in self.read("lungs.csv"):
                yield Row(line, row["file"], row["patient"], {"age": row["years"], "view": row["view"]})
"""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from filecmp import cmp
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from ..arguments import usable_path
from ..errors import Checked, InputError, shown
from ..missing import identifier, is_missing
from ..records import Access
from ..schema import SPLITS
from .cells import INDEX
from .findings import FINDINGS, is_label, labels_of, state_of
from .images import Fit
from .preset import Preset
from .rows import read_rows
from .source import Patients, patient_split
from .values import NO_FINDING, PRESENT, Uncertain, published, view

__all__ = ["NO_FINDING", "DataSetFolder", "Reader", "Row", "Table", "key_of", "map_columns", "patient_name"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom")


class DataSetFolder(Checked, BaseModel):
    """A folder of images and how it is read; it goes wherever a source's directory does.

    `dataset_name` is a name in `registry.SOURCES`; by default the preset's where it is one, else "imagefolder".
    `uncertain` says what labels count as that their authors call uncertain. `columns` give the preset's covariates,
    `file_name` or `patient_id` the columns of the table that hold them; `image_column` is short for `file_name`'s.
    `fit` says how an image becomes square: its ends are cut, or it is padded with black. `patients` says of which part
    images are read (`source.part_split`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: str | Path
    dataset_name: str | None = None
    uncertain: Uncertain = "missing"
    columns: dict[str, str] = {}
    image_column: str | None = None
    fit: Fit = "crop"
    patients: Patients = "all"

    def __fspath__(self) -> str:
        return os.fspath(self.directory)

    def __str__(self) -> str:
        return str(self.directory)

    def absolute(self) -> "DataSetFolder":
        """The same folder by its absolute path."""
        return self.model_copy(update={"directory": Path(self.directory).absolute()})

    @property
    def mapping(self) -> dict[str, str]:
        """`columns`, with `image_column` among them."""
        return {**({} if self.image_column is None else {"file_name": self.image_column}), **self.columns}


class Row(NamedTuple):
    """One image of a data set.

    `line` of the reader's table; `file` relative to the folder; `patient` as the set calls it, empty where it does not
    tell (the image is its own patient then); `cells` by covariate, each present in all rows; `labels` by the set's
    names, `values.PRESENT`, `values.ABSENT` or empty; `split` where the set has one that keeps patients together.
    """

    line: int
    file: str
    patient: str
    cells: Mapping[str, str]
    labels: Mapping[str, str] = {}
    split: str | None = None


@dataclass
class Table:
    """Rows of images in the words of a metadata.csv: `file_name`, `patient_id` and covariates.

    `path` is the file whose lines are told in errors; `splits` those of the data set, by patient; `left_out` and
    `not_read` are numbers of rows, and covariates, by reason; `people`, `names_patients` and `unit` are as in `Reader`;
    `sha256` are those that the images must have, by row. `others` counts labels of images whose finding is no level of
    the preset's, and `others_in` names a preset that has them. `mapped` has, by new name, columns that had another.
    `own` says that names and cells are those of whoever made the table, and not in the words of the preset.
    """

    path: Path
    rows: list[tuple[int, dict[str, str]]]
    name: str | None = None
    access: Access | None = None
    splits: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    not_read: dict[str, str] = field(default_factory=dict)
    people: str | None = None
    names_patients: bool = True
    unit: str = "patient"
    sha256: tuple[str, ...] = ()
    others: dict[str, int] = field(default_factory=dict)
    others_in: str | None = None
    mapped: dict[str, str] = field(default_factory=dict)
    own: bool = False

    def split_of(self, patient: str) -> str:
        """The split of a patient: the data set's own, else by `source.patient_split`."""
        return self.splits.get(patient) or patient_split(patient)

    def leave_out(self, name: str, reason: str) -> None:
        """Read no covariate of this name, for this reason."""
        self.not_read[name] = reason
        for _, row in self.rows:
            del row[name]

    def map_columns(
        self,
        columns: Mapping[str, str],
        preset: Preset,
        image_column: str | None = None,
        site: str | None = None,
    ) -> None:
        """Give columns the names of covariates.

        Args:
            columns: by covariate, `file_name`, `patient_id`, or `findings` where a preset has several, the column that
                holds it.
            preset: the domain.
            image_column: short for that of `file_name`.
            site: name of the source where it is one of several, which an error tells.

        Raises:
            InputError: a name that is no covariate, or a column that the table does not have.
        """
        joined = (FINDINGS,) if any(map(is_label, preset.covariates.walk())) else ()
        allowed = ("file_name", "patient_id", *joined, *preset.covariates.names)
        for name in columns:
            if name not in allowed:
                raise InputError(f"columns: {name!r} is no covariate of {preset.name}; allowed: {', '.join(allowed)}.")
        map_columns(self.path, self.rows, columns, image_column, site)
        self.mapped |= columns


def map_columns(
    path: Path,
    rows: list[tuple[int, dict[str, str]]],
    columns: Mapping[str, str],
    image_column: str | None = None,
    site: str | None = None,
) -> None:
    """Give columns of a table other names, where they stand; a column that has one of these already is left out.

    Args:
        path: of the table.
        rows: of it, by line.
        columns: by new name, the column.
        image_column: short for that of `file_name`, unless `columns` has it.
        site: name of the source where it is one of several, which an error tells.

    Raises:
        InputError: a column that the table does not have.
    """
    own, columns = columns, {**({} if image_column is None else {"file_name": image_column}), **columns}
    for name, column in columns.items():
        if column not in rows[0][1]:
            argument = "columns" if name in own else "image_column"
            alone = "" if site is None else f"for {site} alone give columns={ {f'{site}.{name}': 'COLUMN'} }; "
            raise InputError(f"{argument}: {path} has no column {column!r}; {alone}allowed: {', '.join(rows[0][1])}.")
    taken = {*columns, *columns.values()}
    called = [
        (name, column)
        for column in rows[0][1]
        for name in (*(() if column in taken else (column,)), *(one for one, own in columns.items() if own == column))
    ]
    for place, (line, row) in enumerate(rows):
        rows[place] = line, {name: row[column] for name, column in called}


class Reader(ABC):
    """One data set: what it is, and its rows.

    Args:
        root: its folder.
        preset: the domain, whose covariates are read.
        uncertain: what uncertain labels count as.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    covariates: ClassVar[tuple[str, ...]]
    """Covariates that it knows, beside those that its labels are."""
    presets: ClassVar[tuple[str, ...]] = ()
    """Presets of this package by which it can be read."""
    labels: ClassVar[tuple[str, ...]] = ()
    """Its labels, or those that other data sets have too."""
    license: ClassVar[str]
    access: ClassVar[Access]
    """credentialed: given only to whom its owner admits; open: to everybody; unknown: its images are others' own."""
    download: ClassVar[str]
    """What to download, and where it goes in the folder."""
    request: ClassVar[str]
    """Where access is asked for, or where it is downloaded."""
    tables: ClassVar[tuple[str, ...]] = (".",)
    """The table whose lines are told in errors, as `file` finds it; the folder itself for a set without one."""
    adults: ClassVar[bool] = False
    """Whether an age of 0 stands for one that is not known, because no patient is a child."""
    beside_no_finding: ClassVar[tuple[str, ...]] = ()
    """Labels that an image without findings may have: they are none."""
    people: ClassVar[str | None] = None
    """What sets have in common that show the same people under the same identifiers; None for one of its own."""
    names_patients: bool = True
    """Whether it tells which images are of one of these people."""
    unit: str = "patient"
    """What is kept in one split: a patient, or whatever the set tells of it, such as a lesion."""

    def __init__(self, root: Path, preset: Preset, uncertain: Uncertain = "missing") -> None:
        self.root, self.preset, self.uncertain = root, preset, uncertain
        self.left_out: Counter[str] = Counter()
        self._others: Counter[str] = Counter()
        self._labels: dict[str, tuple[str, ...]] | None = None

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Every image that the set lists; what cannot be used is counted in `left_out` instead."""

    def table(self) -> Table:
        """The images that are in the folder, in the words of the preset.

        Left out and counted are lateral and other views where the set tells the view, and images that are not in the
        folder. `finding` is the first label, in the set's order, that is a level of the preset's; "Other" where
        another is present. A covariate that is present or absent is read from the labels that are its aliases; one
        that is present beside "No Finding" contradicts it, and is counted as a cell that cannot be read. An optional
        covariate that is not known of any image, or lacks a level, is not read; nor is a finding that lacks one in
        train, where nothing could be learned of it.

        Raises:
            InputError: the folder is not this data set, or nothing of it can be used; patients in two splits.
        """
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder; {self.title} {self.download}.")
        where = self.file(*self.tables)
        rows: list[tuple[int, dict[str, str]]] = []
        splits: dict[str, str] = {}
        absent = None
        for one in self.rows():
            cells = dict(one.cells)
            if not self._exists(one.file):
                absent = absent or one.file
                self.left_out["image not in the folder"] += 1
                continue
            if "view" in cells and (reason := self._not_frontal(cells)):
                self.left_out[reason] += 1
                continue
            patient = patient_name(one.patient) or one.file
            if one.split is not None and splits.setdefault(patient, one.split) != one.split:
                raise InputError(
                    f"{where}:{one.line}: patient {shown(patient)} is in {one.split} and in {splits[patient]}; a "
                    "patient must be in one split; restore the tables of the data set."
                )
            rows.append((one.line, {"file_name": one.file, "patient_id": patient, **self._cells(cells, one.labels)}))
        if not rows:
            reasons = ", ".join(f"{n} {reason}" for reason, n in self.left_out.items())
            raise InputError(
                f"{self.root}: no image of {self.title} can be used ({reasons or 'none is listed'}"
                f"{f'; first: {shown(absent)}' if absent else ''}); it {self.download}."
            )
        table = Table(
            *(where, rows, self.name, self.access, splits, dict(self.left_out)),
            people=self.people,
            names_patients=self.names_patients,
            unit=self.unit,
            others=dict(self._others),
        )
        self._drop_unknown(table)
        return table

    def _not_frontal(self, cells: dict[str, str]) -> str | None:
        """Why a radiograph is not used, by its view; None for a frontal one."""
        seen = view(cells["view"])
        if seen in ("PA", "AP"):
            return None
        return "lateral view" if seen == "lateral" else "view not recorded" if is_missing(seen) else "other view"

    def _cells(self, cells: dict[str, str], labels: Mapping[str, str]) -> dict[str, str]:
        if self.adults and cells.get("age", "").strip().rstrip("Yy").removesuffix(".0").strip("0") == "":
            cells["age"] = ""
        if not labels:
            return cells
        named = {key_of(name): state for name, state in labels.items()}
        return {**named, **self._states(labels), "finding": self._finding(labels), **cells}

    def _states(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Cells of what is present or absent, by covariate, where a label names it."""
        if self._labels is None:
            found = {one.name: labels_of(one, labels) for one in self.preset.covariates.walk() if is_label(one)}
            self._labels = {name: own for name, own in found.items() if own}
        healthy = labels.get(NO_FINDING) == PRESENT
        cells = {}
        for name, own in self._labels.items():
            state = state_of({label: labels.get(label, "") for label in own})
            contradicts = healthy and state == PRESENT and not set(own) <= set(self.beside_no_finding)
            cells[name] = f"{own[0]} beside {NO_FINDING}" if contradicts else state
        return cells

    def _finding(self, labels: Mapping[str, str]) -> str:
        """The one finding of an image, by its labels."""
        present = [name for name, state in labels.items() if state == PRESENT and name not in self.beside_no_finding]
        if NO_FINDING in present:
            # a contradiction is no level, and counted as a cell that cannot be read
            return " beside ".join(present)
        if "finding" in self.preset.covariates:
            variable = self.preset.covariates["finding"]
            known = next((name for name in present if variable.parse(name)[0] is not None), None)
            if known is not None:
                return known
            self._others.update(present)
        return "Other" if present else ""

    def _drop_unknown(self, table: Table) -> None:
        train = next(iter(SPLITS))
        for variable in self.preset.covariates.walk():
            is_finding = variable.role == "finding"
            if not variable.optional:
                continue
            if variable.name not in table.rows[0][1]:
                table.not_read |= {variable.name: f"no label of {self.title}"} if is_finding else {}
                continue
            found = {
                variable.parse(published(variable, row[variable.name]))[0]
                for _, row in table.rows
                if not is_finding or table.split_of(row["patient_id"]) == train
            }
            absent = [level for level in variable.levels if level not in found]
            if found == {None} or (absent and (is_finding or None in found)):
                where = f" in {train}" if is_finding else ""
                table.leave_out(
                    variable.name, f"no image of {', '.join(absent)}{where}" if absent else "known of no image"
                )

    def file(self, *names: str) -> Path:
        """The first of these files that is in the folder, plain or gzipped; "." is the folder.

        Args:
            names: relative to the folder; `*` stands for any folder.

        Raises:
            InputError: none is there.
        """
        found = self.find(*names)
        if found is None:
            raise InputError(f"{self.root}: no {names[0]}; {self.title} {self.download}.")
        return found

    def find(self, *names: str) -> Path | None:
        """As `file`, but None where there is none."""
        for name in names:
            for either in (name, f"{name}.gz"):
                found = [self.root] if name == "." else sorted(self.root.glob(either))
                if found:
                    return found[0]
        return None

    def read(
        self, *names: str, needs: Collection[str] = (), keep: Collection[str] | None = None
    ) -> list[tuple[int, dict[str, str]]]:
        """The rows of a table of the folder, as `rows.read_rows`.

        Args:
            names: as in `file`.
            needs: columns that it must have.
            keep: columns that are kept; all by default.
        """
        path = self.file(*names)
        rows = read_rows(path, keep)
        lacking = [column for column in needs if column not in rows[0][1]]
        if lacking:
            raise InputError(f"{path}:1: no column {lacking[0]!r}; this is not that table of {self.title}.")
        if index := [column for column in rows[0][1] if INDEX.fullmatch(column)]:
            for _, row in rows:
                for column in index:
                    del row[column]
        return rows

    @cached_property
    def images(self) -> dict[str, list[str]]:
        """Every image file of the folder by its name without suffix, relative to the folder, in order."""
        found: dict[str, list[str]] = {}
        for folder, folders, names in os.walk(self.root):
            folders.sort()
            for name in sorted(names):
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in IMAGE_SUFFIXES:
                    found.setdefault(stem, []).append((Path(folder) / name).relative_to(self.root).as_posix())
        return found

    def image(self, name: str) -> str:
        """The file of an image by its name, wherever it lies in the folder and whatever its suffix; else the name.

        Of several a file of exactly this name counts, and of these the first in order, as they are copies.

        Raises:
            InputError: two of them differ, as a radiograph and a mask of the same name.
        """
        stem, suffix = os.path.splitext(name)
        files = self.images.get(stem if suffix.lower() in IMAGE_SUFFIXES else name, [name])
        files = [file for file in files if os.path.basename(file) == name] or files
        for other in files[1:]:
            try:
                alike = cmp(self.root / files[0], self.root / other, shallow=False)
            # whoever reads the first will say what is wrong with it
            except OSError:
                alike = True
            if not alike:
                raise InputError(
                    f"{self.root}: {shown(files[0])} and {shown(other)} differ, and either may be the image "
                    f"{shown(name)}; move all but the data set's own images out of the folder."
                )
        return files[0]

    def _exists(self, file: str) -> bool:
        try:
            for path in (file, self.root / file):
                usable_path("file_name", path)
            return (self.root / file).exists()
        except InputError:
            return False

    def header(self, file: str, names: Collection[str]) -> dict[str, str]:
        """Elements of the header of a DICOM file of the folder as text, empty where absent; no pixels are read.

        Args:
            file: relative to the folder; one outside it, or that is none, has none of them.
            names: keywords of the elements, such as PatientAge.

        Raises:
            InputError: pydicom is not installed.
        """
        path = (self.root / file).resolve() if self._exists(file) else self.root
        if not (path.is_relative_to(self.root.resolve()) and path.is_file()):
            return dict.fromkeys(names, "")
        try:
            from pydicom import dcmread
        except ImportError:
            raise InputError(
                f"{path}: pydicom is not installed; install it, or this package with the extra 'dicom'."
            ) from None
        try:
            found = dcmread(path, stop_before_pixels=True, specific_tags=list(names))
            # as it stands: many files have ages that pydicom warns of
            raw = {name: found.get_item(name).value or b"" for name in names if name in found}
            return {name: raw.get(name, b"").decode("ascii", "replace").strip(" \0") for name in names}
        except Exception:
            # quarantined with its reason, once its pixels are read
            return dict.fromkeys(names, "")

    def split_of(self, patient: str, is_test: bool) -> str:
        """A split of three for a set that publishes its test patients alone; the others by `source.patient_split`."""
        if is_test:
            return "test"
        drawn = patient_split(patient)
        return drawn if drawn != "test" else next(iter(SPLITS))


def key_of(label: str) -> str:
    """The column of a label: `Pleural Effusion` is pleural_effusion."""
    return "_".join("".join(one if one.isalnum() else " " for one in label).casefold().split())


def patient_name(text: str) -> str:
    """The name of a patient, the same for 3 and 3.0; empty where missing."""
    return identifier(text) or ""
