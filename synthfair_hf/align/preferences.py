"""A data set of preferences: a directory that `datasets` and the Hub read.

    DIR/data/<split>-00000-of-00001.parquet     one pair a row
        preferred, rejected   images
        <covariates>          class labels and numbers, missing = null
        subject_id, judge, comment, margin (null where a person gave none)
    DIR/record.json                             judges, pairs by split, judge and subgroup, comparisons and ties

`read_preferences(DIR, preset)` returns what `write_preferences` was given, split by split; training samples from that
by `PreferenceExamples`.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..access import RECORD, sealed
from ..domains.preset import Preset
from ..domains.source import totals
from ..errors import InputError, unknown
from ..missing import is_missing
from ..records import Access, Record, library_versions, writable_directory, write_atomically
from ..schema import MISSING_LEVEL, SPLITS
from .examples import PreferenceExamples, groups_of, has_groups
from .pairs import Covariates, Preferences, from_scores
from .pixels import read_pixels, stack, to_png

__all__ = [
    "PreferenceExamples",
    "Preferences",
    "check_covariates",
    "from_scores",
    "new_directory",
    "read_preferences",
    "write_preferences",
]

IMAGES = ("preferred", "rejected")


def write_preferences(
    preferences: Preferences,
    directory: str | Path,
    preset: Preset,
    counts: Mapping[str, Mapping[str, Any]] | None = None,
    access: Access = "unknown",
    source: Mapping[str, Any] | None = None,
) -> Record:
    """Write pairs into a directory, all or nothing.

    Args:
        preferences: at least one pair, with all covariates of the preset.
        directory: new or empty.
        preset: the domain.
        counts: by judge, the counts of `from_scores`; none by default.
        access: to the images that these were made from (`records.strictest`).
        source: counts of the real images that judges compared with, if any.

    Returns:
        The record; its `inputs["preferences"]` is the fingerprint of `read_preferences(directory, preset)`.

    Raises:
        InputError: for no pairs, covariates that are not the preset's, or a directory that holds files.
    """
    if not len(preferences):
        raise InputError("preferences: no pairs; give at least one (were all of them ties?).")
    check_covariates(preferences.covariates, preset)
    rank = [list(SPLITS).index(split) for split in preferences.splits.tolist()]
    ordered = preferences.select(np.argsort(rank, kind="stable"))
    parts = {split: ordered.select(ordered.splits == split) for split in SPLITS if split in ordered.splits}
    record = Record(
        stage="preferences",
        inputs={"preferences": ordered.fingerprint, "access": access},
        settings={"preset": preset.name, "judges": sorted(set(ordered.judges.tolist()))},
        versions=library_versions(),
        counts={
            "pairs": len(ordered),
            "subjects": len(set(ordered.subjects.tolist())),
            "by split": {split: _counts(part, preset) for split, part in parts.items()},
            "comparisons": {judge: dict(counted) for judge, counted in (counts or {}).items()},
            **({} if source is None else {"source": totals(source)}),
        },
    )
    with new_directory(directory) as temporary:
        (temporary / "data").mkdir()
        for split, part in parts.items():
            write_atomically(temporary / "data" / f"{split}-00000-of-00001.parquet", _parquet(part, preset))
        record = sealed(record, temporary)
        record.write(temporary / RECORD)
    return record


@contextmanager
def new_directory(directory: str | Path) -> Iterator[Path]:
    """A temporary directory that takes the place of a new or empty one when the body ends, and vanishes if it fails."""
    final = writable_directory(directory).resolve()
    if final.exists() and any(final.iterdir()):
        raise InputError(f"output_dir: {final} holds files; give a new or an empty directory.")
    temporary = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def check_covariates(covariates: Covariates, preset: Preset) -> None:
    """Raise InputError for encoded columns that are not the preset's, or hold values that its variables don't allow."""
    for name in covariates:
        if name not in preset.covariates:
            raise unknown("covariates", name, preset.covariates.names)
    for variable in preset.covariates.walk():
        if variable.name not in covariates:
            raise InputError(f"covariates: {variable.name} not given; needed: {', '.join(preset.covariates.names)}.")
        column = covariates[variable.name]
        low, high = (MISSING_LEVEL, len(variable.levels) - 1) if variable.categorical else variable.bounds
        kind = torch.int64 if variable.categorical else torch.float32
        strange = (column < low) | (column > high)
        if column.dtype != kind or strange.any():
            found = f"{column[strange][0].item():g}" if strange.any() else str(column.dtype)
            raise InputError(f"covariates[{variable.name!r}]: {found}; allowed: {kind}, {low:g} to {high:g}.")


def _features(preset: Preset) -> datasets.Features:
    texts = {name: datasets.Value("string") for name in ("subject_id", "judge", "comment")}
    return datasets.Features(
        {
            **{name: datasets.Image() for name in IMAGES},
            **preset.covariates.features(),
            **texts,
            "margin": datasets.Value("float32"),
        }
    )


def _parquet(preferences: Preferences, preset: Preset) -> bytes:
    columns: dict[str, Any] = {
        name: [{"bytes": to_png(image), "path": None} for image in getattr(preferences, name)] for name in IMAGES
    }
    for name, column in preferences.covariates.items():
        missing = column == MISSING_LEVEL if preset.covariates[name].categorical else column.isnan()
        columns[name] = pa.array(column.numpy(), mask=missing.numpy())
    columns |= {
        "subject_id": preferences.subjects.tolist(),
        "judge": preferences.judges.tolist(),
        "comment": preferences.comments.tolist(),
        "margin": pa.array(preferences.margins.numpy(), mask=preferences.margins.isnan().numpy()),
    }
    table = pa.table(columns, schema=_features(preset).arrow_schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def _counts(preferences: Preferences, preset: Preset) -> dict[str, Any]:
    """Pairs and subjects, and pairs by judge and by group of each covariate, a group without pairs as 0."""
    groups = {}
    for name in preset.covariates.names:
        if has_groups(name, preset):
            codes, names = groups_of(preferences.covariates[name], name, preset)
            groups[name] = {group: int((codes == code).sum()) for code, group in enumerate(names)}
    return {
        "pairs": len(preferences),
        "subjects": len(set(preferences.subjects.tolist())),
        "judges": dict(sorted(Counter(preferences.judges.tolist()).items())),
        "groups": groups,
    }


def read_preferences(directory: str | Path, preset: Preset, split: str | None = None) -> Preferences:
    """Read the pairs of a directory.

    Args:
        directory: with parquet files of the columns above, whoever wrote them.
        preset: the domain, by which covariates are encoded.
        split: the split that is read; all by default.

    Raises:
        InputError: naming the file where there is none, no row, another column than those above, a value that the
            preset does not allow, or an image that is damaged or of another size; and as `Preferences` does.
    """
    if split is not None and split not in SPLITS:
        raise unknown("split", split, SPLITS)
    found = {one: sorted(Path(directory).glob(f"data/{one}-*.parquet")) for one in SPLITS if split in (None, one)}
    files = [(path, one) for one, paths in found.items() for path in paths]
    if not files:
        names = ", ".join(f"data/{one}-*.parquet" for one in found)
        raise InputError(f"{directory}: no pairs there ({names}); give a directory that `write_preferences` wrote.")
    tables = [_read(path, preset) for path, _ in files]
    places = [
        f"{path}: row {row}, {name}"
        for name in IMAGES
        for (path, _), table in zip(files, tables, strict=True)
        for row in range(len(table["judge"]))
    ]
    table = {name: [one for part in tables for one in part[name]] for name in tables[0]}
    if not table["judge"]:
        raise InputError(f"{directory}: its files hold no pairs; give at least one.")
    margins = [np.nan if margin is None else margin for margin in table["margin"]]
    images = stack([read_pixels(data, where) for data, where in zip(_bytes_of(table), places, strict=True)], places)
    try:
        return Preferences(
            images[: len(margins)],
            images[len(margins) :],
            {name: torch.tensor(table[name], dtype=_dtype(name, preset)) for name in preset.covariates.names},
            np.array(table["subject_id"], dtype=str),
            np.repeat([one for _, one in files], [len(part["judge"]) for part in tables]),
            np.array(table["judge"], dtype=str),
            torch.tensor(margins, dtype=torch.float32),
            np.array(["" if comment is None else comment for comment in table["comment"]], dtype=str),
        )
    except InputError as error:
        raise InputError(f"{directory}: {error}") from None


def _dtype(name: str, preset: Preset) -> torch.dtype:
    return torch.int64 if preset.covariates[name].categorical else torch.float32


def _bytes_of(table: Mapping[str, list[Any]]) -> Iterator[bytes]:
    """The files of all preferred images, then of all rejected ones."""
    for name in IMAGES:
        for image in table[name]:
            yield (image or {}).get("bytes") or b""


def _read(path: Path, preset: Preset) -> dict[str, list[Any]]:
    """The columns of one file, covariates encoded."""
    try:
        table = pq.read_table(pa.BufferReader(path.read_bytes()), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]}).") from None
    features, found = _features(preset), datasets.Features.from_arrow_schema(table.schema)
    for name in table.column_names:
        if name not in features:
            raise unknown(f"{path}: column", name, features)
    if absent := [name for name in features if name not in table.column_names]:
        raise InputError(f"{path}: without the columns {', '.join(absent)}; needed: {', '.join(features)}.")
    for name in IMAGES:
        if not isinstance(found[name], datasets.Image):
            raise InputError(f"{path}: column {name!r} holds no images; write it with the feature datasets.Image().")
    columns = {name: table[name].to_pylist() for name in features}
    for name in ("subject_id", "judge"):
        if not all(isinstance(one, str) and one for one in columns[name]):
            raise InputError(f"{path}: some rows have no {name}; give each one.")
    if any(map(is_missing, columns["subject_id"])):
        raise InputError(f"{path}: some rows have a subject_id that says unknown; give each one.")
    values = {name: _values(columns[name], found[name]) for name in preset.covariates.names}
    encoded = preset.covariates.encode(values, str(path))
    return {**columns, **{name: column.tolist() for name, column in encoded.items()}}


def _values(column: list[Any], feature: Any) -> list[Any]:
    """Level names and numbers; missing, in whichever way, is None."""
    if isinstance(feature, datasets.ClassLabel):
        return [None if code is None or code < 0 else feature.int2str(code) for code in column]
    return [None if isinstance(one, float) and np.isnan(one) else one for one in column]
