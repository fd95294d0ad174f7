"""A folder of images with a metadata.csv: the Hugging Face `imagefolder` layout plus covariates and patients.

file_name,patient_id,age,sex,view,finding
images/0001.png,p17,61,F,PA,Pneumonia

Images are of the formats in `images`, or DICOM; their covariates stand in metadata.csv, or come from the reader of a
data set (`readers`). Levels are read in any case and with any separators, ages in DICOM's form too
(`schema.Variable.parse`).
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError, counted, shown
from ..missing import bare_identifier, identifier
from ..progress import progress_bar
from ..records import Access, file_sha256, fingerprint
from ..schema import SPLITS, Schema, Variable
from .cells import (
    absent_levels,
    allowed_cells,
    check_identifiers,
    check_images,
    check_readable,
    match_columns,
    near_column,
    unread_columns,
    unreadable_cells,
    untaught_levels,
)
from .dicom import Header, is_dicom, read_header
from .findings import FINDINGS, is_label, state_in
from .images import Fit
from .ingested import read_metadata
from .preset import Preset
from .readers import IMAGE_SUFFIXES, Table
from .several_findings import labels_told, remedy_of_several
from .source import (
    BLANK,
    NOT_TOLD,
    Patients,
    count_colours,
    count_contradictions,
    count_contrasts,
    count_copies,
    count_patients,
    image_sha256,
    jitter,
    part_split,
    read_image,
    read_radiograph,
)
from .values import NO_FINDING, published

__all__ = ["CACHE_BYTES", "MAX_BLANK", "Examine", "Examined", "ImageFolder"]

CACHE_BYTES = 4 * 2**30
"""Decoded images that one source keeps in memory; the others are decoded anew at every draw."""


LATERAL = "lateral view"
"""Why a DICOM file is left out that shows its patient from the side, where a schema tells frontal views apart."""

MAX_BLANK = 0.2
"""Share of the images of a folder, 0 to 1, that may show nothing."""

ALTERED = "is not the image that was ingested"
"""What is said of one whose bytes are not those that its table was sealed with."""


class Examined(NamedTuple):
    """What was found of an image: its sha256; empty where it can be read, why not; of DICOM that can, the header."""

    sha256: str
    reason: str
    header: Header | None = None


Examine = Callable[[Sequence[Path], Path], Iterable[Examined]]
"""What reads the images of a folder."""


class ImageFolder:
    """Images and covariates of a folder, as far as the preset has them.

    The table is checked first, then every image is decoded once. Images that can't be read, and those that show nothing
    (`source.BLANK`), are quarantined: left out, counted and listed in `counts["quarantined"]`; more than
    `max_bad_fraction` that can't be read, or MAX_BLANK that show nothing, is an error, because then the folder is not
    what it seems; so is a level all of whose images are left out. Cells without a
    value are missing and counted in `counts["missing"]`, by reason; of a column, `cells.MAX_UNREADABLE` may be cells
    that no rule can read. No level may be lost: one without an image is an error in a column of findings, and in every
    column with missing cells; in a column that is known throughout it is listed in `counts["no image of"]`. An optional
    finding that lacks a level in train is not read, and stands in `counts["not read"]`. Findings without a column
    are read from `findings`, labels joined by |, where a preset has several.

    Args:
        directory: holds metadata.csv with the columns `file_name`, `patient_id` and some of the preset's covariates, in
            any case and with any separators.
        preset: the domain, whose covariates are read.
        resolution: height and width in pixels that images will have; theirs must be twice that or more.
        max_bad_fraction: share of unreadable images, 0 to 1, that is tolerated.
        check: what needs the table alone; called with this source before an image is read. Then it has all rows.
        table: what a reader made of another layout; read from metadata.csv by default.
        examine: what reads the images, of their paths and the folder's; by default all are decoded, in threads.
        fit: how images become square, as in `source.read_radiograph`; another than the default is part of the identity.
        patients: of which part images are read (`source.part_split`).

    Raises:
        InputError: a damaged table, two columns of one name, a column that can't be read, has no value or has lost a
            level, a row without image or patient, two patients with the same image, an image outside the folder, or too
            many unreadable or blank ones.
    """

    def __init__(
        self,
        directory: str | Path,
        preset: Preset,
        resolution: int,
        max_bad_fraction: float = 0.05,
        check: Callable[["ImageFolder"], object] | None = None,
        table: Table | None = None,
        examine: "Examine | None" = None,
        fit: Fit = "crop",
        patients: Patients = "all",
    ) -> None:
        self.fit, self._part = fit, patients
        root = Path(directory)
        if table is None:
            table = read_metadata(root)
        named = _named(table, preset.covariates) if table.own else table.rows
        told_apart = _told_apart(named, preset.covariates) if table.own else named
        known = {*preset.covariates.names, *table.mapped.values(), *([FINDINGS] if told_apart is not named else [])}
        # what else a published data set tells is known
        self._unread = unread_columns(named[0][1], known) if table.own or table.sha256 else []
        self._joined = set(told_apart[0][1]) - set(named[0][1])
        table.rows = told_apart
        self._metadata, self._rows, self._listing = table.path, table.rows, table
        self._paths, self.patient_ids = _locate(root, table)
        # of a data set that is read in part, most images are not listed, and its reader says which
        unlisted = 0 if table.name is not None else _unlisted(root.resolve(), self._paths)
        sha256 = table.sha256
        if patients != "all":
            own = [row for row, patient in enumerate(self.patient_ids) if self._split_of(patient) is not None]
            self._rows = [self._rows[row] for row in own]
            self._paths = [self._paths[row] for row in own]
            self.patient_ids = [self.patient_ids[row] for row in own]
            sha256 = tuple(sha256[row] for row in own) if sha256 else sha256
        root = root.resolve()
        self.name = table.name or root.name
        self.recorded_access = table.access
        """Of the data set by itself, whatever is said of the folder; None where nobody tells."""
        self.access: Access = table.access or "open"
        """The same; nobody's word restricts nothing."""
        self.channels = preset.channels
        """Of its images: 1, gray, or 3, colours."""
        self.people, self.names_patients = table.people, table.names_patients
        """Whose identifiers its patients have, where others have them too, and if they have (`readers.Reader`)."""
        self.unit = table.unit
        """What `patient_ids` name, and is kept in one split."""
        columns = self._rows[0][1]
        absent = [one.name for one in preset.covariates.walk() if one.optional and one.name not in columns]
        table.not_read = {**{name: NOT_TOLD for name in absent}, **table.not_read}
        self.covariates = preset.covariates.subset(name for name in preset.covariates.names if name in columns)
        self._cells = [[variable.parse(text) for text in self._texts(variable)] for variable in self.covariates.walk()]
        for variable, cells in zip(self.covariates.walk(), self._cells, strict=True):
            check_readable(
                self._metadata, variable, self._texts(variable), cells, self._remedy(variable), self._labels(variable)
            )
        self._leave_out_findings()
        self._keep(range(len(self._rows)), {}, [""] * len(self._rows))
        if check is not None:
            check(self)

        paths = self._paths
        examined_here = examine is None
        examine = examine or partial(_examine_all, resolution=resolution, channels=preset.channels, fit=fit)
        hashes, reasons, headers = zip(*examine(paths, root), strict=True)
        if sha256:
            read = zip(hashes if examined_here else map(file_sha256, paths), reasons, sha256, strict=True)
            reasons = tuple(reason or ("" if found == own else ALTERED) for found, reason, own in read)
        if "view" in preset.covariates:
            # a DICOM file that says that it is not frontal is none
            sides = (header is not None and header.placement == "lateral" for header in headers)
            reasons = tuple(reason or LATERAL * lateral for reason, lateral in zip(reasons, sides, strict=True))
        quarantined = {
            str(path.relative_to(root)): reason for path, reason in zip(paths, reasons, strict=True) if reason
        }
        sideways = [name for name, reason in quarantined.items() if reason == LATERAL]
        if all(reasons) and sideways and max_bad_fraction < 1:
            raise InputError(f"{directory}: no image can be used ({_first(quarantined)}); give others.")
        quarantined = {name: reason for name, reason in quarantined.items() if reason != LATERAL}
        bad = {name: reason for name, reason in quarantined.items() if not reason.startswith(BLANK)}
        if len(bad) > max_bad_fraction * len(paths):
            raise InputError(
                f"{directory}: {len(bad)} of {len(paths)} images are unreadable ({_first(bad)}); "
                f"at most {max_bad_fraction:.0%} may be; repair or remove them."
            )
        if len(quarantined) == len(paths) and max_bad_fraction < 1:
            raise InputError(f"{directory}: no image can be used ({_first(quarantined)}); give others.")
        for variable, cells in zip(self.covariates.walk(), self._cells, strict=True):
            # whoever tolerates that nothing can be read asks for no level
            if max_bad_fraction < 1:
                check_images(self._metadata, variable, cells, reasons)
        blank = {name: reason for name, reason in quarantined.items() if name not in bad}
        if len(blank) > max(MAX_BLANK, max_bad_fraction) * len(paths):
            raise InputError(
                f"{directory}: {len(blank)} of {len(paths)} images show nothing ({_first(blank)}); "
                f"at most {max(MAX_BLANK, max_bad_fraction):.0%} may; repair or remove them."
            )
        kept = [index for index, reason in enumerate(reasons) if not reason]
        self._check_owners(kept, hashes, max_bad_fraction)
        self._keep(kept, quarantined, hashes)
        headers = tuple(headers[index] for index in kept)
        self.counts |= count_copies(self.image_sha256, self.table)
        self.counts |= count_contrasts(self._paths, headers)
        others = [path for path, header in zip(self._paths, headers, strict=True) if header is None]
        self.counts |= count_colours(others, self.channels)
        if sideways:
            listed = self.counts.get("left out", {})
            self.counts["left out"] = {**listed, LATERAL: listed.get(LATERAL, 0) + len(sideways)}
        if unlisted:
            self.counts["without a row"] = unlisted
        if fit != "crop":
            self.counts["fit"] = fit
        # only needed so far, and large
        del self._rows, self._cells, self._listing
        self.file_names = [path.relative_to(root).as_posix() for path in self._paths]
        """Of each image, relative to the folder."""
        self._cache: dict[tuple[int, int], np.ndarray] = {}
        self._cached_bytes = 0

    def _remedy(self, variable: Variable) -> str | None:
        """What is to be done with a column of cells that can't be read, where it joins several findings."""
        if not self._listing.own or variable.role != "finding" or is_label(variable):
            return None
        labels, joined = labels_told([row for _, row in self._rows], [variable.name])
        mapped = {name: column for name, column in self._listing.mapped.items() if name == variable.name}
        column = mapped.get(variable.name, variable.name)
        return remedy_of_several(self._metadata, labels, column, mapped) if joined else None

    def _labels(self, variable: Variable) -> list[str]:
        """The labels that cells of FINDINGS may have, where a covariate is told by them."""
        if variable.name not in self._joined:
            return []
        told = (one for one in self.covariates.walk() if one.name in self._joined)
        return [*(next(iter(one.aliases), one.name) for one in told), NO_FINDING]

    def _leave_out_findings(self) -> None:
        """Read no optional finding of which some level has no image in train, where nothing could be learned of it."""
        splits = [str(self._split_of(patient)) for patient in self.patient_ids]
        read = dict(zip(self.covariates.names, self._cells, strict=True))
        for variable in self.covariates.walk():
            if variable.role != "finding" or not variable.optional:
                continue
            absent = untaught_levels(variable.levels, (value for value, _ in read[variable.name]), splits)
            if absent:
                self._listing.leave_out(variable.name, f"no image of {', '.join(absent)} in {next(iter(SPLITS))}")
                del read[variable.name]
        self.covariates, self._cells = self.covariates.subset(read), [*read.values()]

    def _check_owners(self, kept: Sequence[int], hashes: Sequence[str], max_bad_fraction: float) -> None:
        """Raise InputError where rows of two patients have one image."""
        owners: dict[str, list[int]] = {}
        for index in kept:
            owners.setdefault(hashes[index], []).append(index)
        shared = [own for own in owners.values() if len({self.patient_ids[index] for index in own}) > 1]
        if not shared:
            return
        of = [self.patient_ids[index] for index in shared[0]]
        other = next(index for index, patient in zip(shared[0], of, strict=True) if patient != of[0])
        rows = sum(map(len, shared))
        left_out = f", or let `synthfair ingest` write the folder without these {rows} images, which it counts"
        raise InputError(
            f"{self._metadata}:{self._rows[other][0]}: the image is byte for byte that of line "
            f"{self._rows[shared[0][0]][0]}, of another patient{_more(len(shared))}; give both the same patient_id or "
            f"remove one{left_out if rows <= max_bad_fraction * len(hashes) else ''}."
        )

    def _split_of(self, patient: str) -> str | None:
        """The split of a patient in the part that is read; None for one of another part."""
        return part_split(self._part, self._listing.split_of(patient), patient)

    def _texts(self, variable: Variable) -> list[str]:
        """The column of a covariate, in the schema's words."""
        return [published(variable, row[variable.name]) for _, row in self._rows]

    def _keep(self, kept: Iterable[int], quarantined: dict[str, str], hashes: Sequence[str]) -> None:
        """Keep these rows, and set everything that follows from them."""
        kept = list(kept)
        self._rows = [self._rows[index] for index in kept]
        self._paths = [self._paths[index] for index in kept]
        self.patient_ids = [self.patient_ids[index] for index in kept]
        self._cells = [[cells[index] for index in kept] for cells in self._cells]
        self.splits = [str(self._split_of(patient)) for patient in self.patient_ids]
        self.image_sha256 = [hashes[index] for index in kept]
        """Of each image's file; empty before it is read."""
        names = self.covariates.names
        self.table: dict[str, list[Any]] = {
            name: [value for value, _ in cells] for name, cells in zip(names, self._cells, strict=True)
        }
        absent = {
            variable.name: absent_levels(self._metadata, variable, self._texts(variable), cells)
            for variable, cells in zip(self.covariates.walk(), self._cells, strict=True)
        }
        reasons = {
            name: dict(Counter(reason for _, reason in cells if reason))
            for name, cells in zip(names, self._cells, strict=True)
        }
        self.counts: dict[str, Any] = {
            **count_patients(self.patient_ids, self.splits, self.unit),
            "missing": {name: counted for name, counted in reasons.items() if counted},
            "quarantined": quarantined,
            **count_contradictions(self.covariates, self.table, self.patient_ids),
        }
        # whose cells are a reader's own, it has read
        if self._listing.own:
            self.counts |= self._count_allowed()
        if self._part != "all":
            self.counts["part"] = self._part
        if self._listing.left_out:
            self.counts["left out"] = dict(self._listing.left_out)
        if self._listing.not_read:
            self.counts["not read"] = dict(self._listing.not_read)
        if self._unread:
            self.counts["columns not read"] = list(self._unread)
        if self._listing.others_in is not None and "finding" in self.counts["missing"]:
            self.counts["others in"] = {"finding": self._listing.others_in}
        if any(absent.values()):
            self.counts["no image of"] = {name: levels for name, levels in absent.items() if levels}
        # what a row says, and not how a patient's name was spelt
        described: list[Any] = [
            [sorted(row.items()), hashes[index]] for index, (_, row) in zip(kept, self._rows, strict=True)
        ]
        if self.channels != 1:
            described.append(self.channels)
        if self.fit != "crop":
            described.append(self.fit)
        self.fingerprint = fingerprint(described)

    def _count_allowed(self) -> dict[str, dict[str, str]]:
        """What cells may be, of each column of levels with one that cannot be read, for `counts`."""
        allowed = {
            variable.name: allowed_cells(variable, self._labels(variable))
            for variable, cells in zip(self.covariates.walk(), self._cells, strict=True)
            if variable.categorical and unreadable_cells(variable, self._texts(variable), cells)
        }
        return {"allowed": allowed} if allowed else {}

    def __len__(self) -> int:
        return len(self._paths)

    def image(self, index: int, resolution: int) -> np.ndarray:
        """Image `[resolution, resolution]`, or `[3, resolution, resolution]` in colours, float32 in [0, 1]."""
        return read_image(self._paths[index], resolution, channels=self.channels, fit=self.fit)

    def draw(self, index: int, resolution: int, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any]]:
        """A jittered image and its covariates. Decoded images stay in memory, in half precision, up to CACHE_BYTES."""
        decoded = self._cache.get((index, resolution))
        if decoded is None:
            decoded = read_radiograph(self._paths[index], resolution, self.channels, self.fit).astype(np.float16)
            if self._cached_bytes + decoded.nbytes <= CACHE_BYTES:
                self._cache[index, resolution] = decoded
                self._cached_bytes += decoded.nbytes
        return jitter(decoded, rng), {name: self.table[name][index] for name in self.table}


def _named(table: Table, covariates: Schema) -> list[tuple[int, dict[str, str]]]:
    """The rows, with the columns that are read under their own names, however the table spells them."""
    metadata, rows = table.path, table.rows
    joined = [FINDINGS] if any(is_label(variable) for variable in covariates.walk()) else []
    columns = match_columns(metadata, list(rows[0][1]), ["file_name", "patient_id", *joined, *covariates.names])
    others = [column for column in rows[0][1] if column not in columns.values()]
    # before what one preset needs and another does not
    check_identifiers(metadata, [*columns, *others])
    for variable in covariates.walk():
        if variable.name in columns or variable.optional:
            continue
        if variable.role == "finding" and not is_label(variable):
            labels, joining = labels_told([row for _, row in rows], others)
            if labels:
                what = f"{joining!r}, which joins several" if joining else ", ".join(map(repr, labels))
                remedy = remedy_of_several(metadata, labels, joining, {})
                raise InputError(f"{metadata}:1: no column {variable.name!r}, but {what}; {remedy}.")
        near = near_column(others, variable.name)
        if near is not None and variable.role == "finding" and any("|" in row[near] for _, row in rows):
            raise InputError(
                f"{metadata}:1: no column {variable.name!r}, but {near!r}, which joins several; "
                f"{remedy_of_several(metadata, {}, near, {})}."
            )
        if near is not None:
            raise InputError(
                f"{metadata}:1: no column {variable.name!r}, but {near!r}; give that column its name, or "
                f"columns={ {variable.name: near} }."
            )
    names = {column: name for name, column in columns.items()}
    return [(line, {names.get(column, column): cell for column, cell in row.items()}) for line, row in rows]


def _told_apart(rows: list[tuple[int, dict[str, str]]], covariates: Schema) -> list[tuple[int, dict[str, str]]]:
    """The rows, with a cell of its own for each finding that has no column, where all are told in one column."""
    columns = rows[0][1]
    findings = [one for one in covariates.walk() if is_label(one)]
    labels = [one for one in findings if one.name not in columns]
    if FINDINGS not in columns or not labels:
        return rows
    # a million cells say a thousand different things
    states = {
        cell: {one.name: state_in(one, cell, findings) for one in labels} for cell in {row[FINDINGS] for _, row in rows}
    }
    return [(line, {**row, **states[row[FINDINGS]]}) for line, row in rows]


def _more(images: int) -> str:
    """How many images of several patients there are beside the first."""
    return f", and {counted(images - 1, 'more image')} of several patients" if images > 1 else ""


def _first(quarantined: dict[str, str]) -> str:
    """The first of the images that are left out, and the commonest reason where it has another."""
    name, reason = next(iter(quarantined.items()))
    commonest, times = Counter(quarantined.values()).most_common(1)[0]
    return f"first: {name}: {reason}" + (f"; most often: {commonest}, {times} times" if commonest != reason else "")


def _locate(root: Path, table: Table) -> tuple[list[Path], list[str]]:
    """The image file and the patient of each row; every row has both, and no two rows the same file."""
    metadata = table.path
    check_identifiers(metadata, list(table.rows[0][1]))
    lines: dict[Path, int] = {}
    spelt: dict[str, tuple[str, int]] = {}
    patients = []
    for line, row in table.rows:
        path = _inside(root, row["file_name"], f"{metadata}:{line}")
        if path in lines:
            raise InputError(
                f"{metadata}:{line}: file_name {row['file_name']!r} is the image of line {lines[path]} again; "
                "give every image one row."
            )
        lines[path] = line
        if "\0" in row["patient_id"]:
            raise InputError(f"{metadata}:{line}: patient_id {shown(row['patient_id'])} holds a NUL; leave it out.")
        patient = identifier(row["patient_id"])
        if patient is None:
            cell = row["patient_id"].strip()
            raise InputError(
                f"{metadata}:{line}: patient_id is {repr(cell) if cell else 'empty'}; give every image its patient."
            )
        # where patients are not told, names of files are theirs
        if patient != row["file_name"]:
            other, first = spelt.setdefault(bare_identifier(patient), (patient, line))
            if other != patient:
                but_for = "leading zeros" if patient.isdecimal() else "case, spaces or the encoding of its letters"
                raise InputError(
                    f"{metadata}:{line}: patient_id {shown(patient)} is {shown(other)} of line {first} but for "
                    f"{but_for}; give one patient one name, and two patients names that differ otherwise."
                )
        patients.append(patient)
    return list(lines), patients


def _inside(root: Path, name: str, where: str) -> Path:
    """The file `name` under `root`; a path that leaves the folder is never opened."""
    try:
        # as tables written on Windows have it
        if "\\" in name and not (root / name).exists():
            name = name.replace("\\", "/")
        path = (root / name).resolve()
        openable = path.is_file() or not path.exists()
    # RuntimeError: a link to itself
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{where}: file_name {shown(name)} is not a path ({reason}); name an image.") from None
    if not path.is_relative_to(root.resolve()):
        raise InputError(f"{where}: file_name {shown(name)} leaves the folder; keep images under {root}.")
    # a pipe would be waited for
    if not openable:
        raise InputError(f"{where}: file_name {shown(name)} is not a file; name an image.")
    return path


def _unlisted(root: Path, paths: Iterable[Path]) -> int:
    """How many images of a folder no row names; links lead to others."""
    listed = set(paths)
    places = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
    return sum(one.suffix.lower() in IMAGE_SUFFIXES and one not in listed and not one.is_symlink() for one in places)


def _examine_all(paths: Sequence[Path], root: Path, resolution: int, channels: int, fit: Fit) -> list[Examined]:
    with ThreadPoolExecutor() as threads:
        examined = threads.map(lambda path: _examine(path, resolution, channels, fit), paths)
        return list(progress_bar(examined, total=len(paths), desc="reading images"))


def _examine(path: Path, resolution: int, channels: int, fit: Fit) -> Examined:
    """The `image_sha256` of a file, or the reason why it can't be read, without its directory."""
    try:
        read_radiograph(path, resolution, channels, fit)
    except InputError as error:
        return Examined("", str(error).removeprefix(f"{path}: ").rstrip("."))
    header = read_header(path) if is_dicom(path) else None
    return Examined(image_sha256(path, header), "", header)
