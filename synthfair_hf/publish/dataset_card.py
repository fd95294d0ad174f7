"""The card of a data set, printed from its record and its rows; an absent field is an error, not a blank.

    README.md = YAML(configs: one per curated selection, files and filters; dataset_info: row counts) + prose(records)
    covariates.svg, views.svg    the figures that it shows

The YAML alone makes `load_dataset("./synthfair", "sex_imbalanced_90_10")` work in plain Python. `datasets` keys its
cache by that YAML, not by the shards, so every config carries the identity of the stored bytes, and asks for page
checksums, without which rows of a damaged shard would be kept there.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute
import pyarrow.parquet
import yaml
from datasets import ClassLabel, DatasetInfo, List, SplitDict, SplitInfo

from ..domains.preset import Preset
from ..errors import InputError
from ..records import Record, write_together
from ..views.layout import Known, known, patterns
from ..views.manifest import CARD, RUN, sealed
from ..views.shares import Train, listed_views, unmet_views
from ..views.view import BiasedView, curated_views, get_view
from ..yaml_files import UNREADABLE, Loader
from .contents import Contents
from .covariates import FIGURES, View, figures, split_table, view_header, view_row
from .croissant import CROISSANT, NO_DETAILS, Details, croissant
from .datasheet import datasheet, origins
from .measured import NOTHING, Measured
from .pages import render

__all__ = ["card_fault", "dataset_card", "measured_beside", "update_view_table", "write_dataset_card"]

SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}
PRINTED = {
    "inputs": ("plan",),
    "settings": ("access", "factors", "model_revision", "num_subjects", "resolution", "seed", "source"),
    "versions": ("synthfair-hf",),
    "counts": ("store",),
}
"""What the card prints of the run's record."""

VOUCHED = ("description", "data_files", "filters")
"""What a view's configuration has said since the first cards."""


def write_dataset_card(
    directory: Path,
    preset: Preset,
    record: Record,
    license: str,
    details: Details = NO_DETAILS,
    measured: Measured | None = None,
) -> list[Path]:
    """Write README.md, its figures and croissant.json of a finished data set.

    Args:
        directory: the data set, with files named as in `views.layout`.
        preset: its domain.
        record: of the run that wrote it.
        license: an identifier of the Hub, such as cc-by-4.0.
        details: what else no record tells.
        measured: records whose figures the card prints, written with it; by default those beside the data set.

    Returns:
        The files written.

    Raises:
        InputError: a data set without train, a subject in two splits, a measured record of another one or its
            generator, or a field that is printed but that the record does not hold; nothing is written.
    """
    _check_recorded(record)
    contents = Contents(directory, preset)
    found = measured_beside(directory, record) if measured is None else measured
    card, figures = dataset_card(contents, preset, record, license, details, found)
    files = {directory / CARD: sealed(card, (directory / RUN).read_bytes())}
    if record.files:
        # a record of an earlier version lists none
        files[directory / CROISSANT] = croissant(contents, preset, record, license, details)
    told = {**figures, **({} if measured is None else measured.files)}
    write_together({**{directory / name: content for name, content in told.items()}, **files})
    return [*files, *(directory / name for name in told)]


def measured_beside(directory: Path, record: Record) -> Measured:
    """The measured records beside a data set; InputError for one of another data set or generator.

    Args:
        directory: the data set.
        record: of the run that wrote it.
    """
    return Measured.read(directory, str(record.settings["model_revision"]), str(record.counts["store"]))


def dataset_card(
    contents: Contents,
    preset: Preset,
    record: Record,
    license: str,
    details: Details = NO_DETAILS,
    measured: Measured = NOTHING,
) -> tuple[bytes, dict[str, bytes]]:
    """README.md of a finished data set, but for its last line, and the figures that it shows by name.

    Args:
        contents: of its files.
        preset: its domain.
        record: of the run that wrote it; holds `inputs["plan"]`, the plan's settings and `counts["store"]`, the
            identity of the stored bytes.
        license: an identifier of the Hub, such as cc-by-4.0.
        details: who publishes it, and where.
        measured: records whose figures it prints.

    Raises:
        InputError: a subject in two splits, or a field that the card prints but the record does not hold.
    """
    _check_recorded(record)
    views = _views(contents, preset, record)
    body = _body(contents, preset, record, license, details, measured, views)
    metadata = _metadata(contents, preset, record, license, views)
    front = yaml.dump(metadata, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{front}---\n\n{body}".encode(), figures(contents, preset, views)


def card_fault(card: bytes, names: Mapping[str, list[str]], preset: Preset, record: Record) -> str | None:
    """How a card without a last line that vouches for it contradicts the record of its data set; None where it agrees.

    Compared are the files, filters and description of every view in its YAML, and its two mentions of the licence, of
    which no record tells.

    Args:
        card: README.md.
        names: files of the data set by split, as in `views.layout`.
        preset: its domain.
        record: of the run.
    """
    _, _, rest = card.decode(errors="replace").partition("---\n")
    front, _, body = rest.partition("\n---\n")
    try:
        metadata = yaml.load(front, Loader)
        found = [(str(one["config_name"]), one) for one in metadata["configs"]]
        license = str(metadata["license"])
    except (*UNREADABLE, TypeError, KeyError):
        return "has no YAML with license and configs"
    if f"- **Licence:** {license}\n" not in body:
        return f"its licence is {license} in the YAML and another one below"
    held = _held(names, preset)
    for name, config in found:
        try:
            view, store = get_view(name, preset), str(record.counts["store"])
        except InputError:
            return f"its view {name} is none of this data set"
        ours = [_config(view, held, store, brief) for brief in (True, False)]
        if not any(all(json.dumps(config.get(part)) == json.dumps(one.get(part)) for part in VOUCHED) for one in ours):
            return f"its view {name} has other files, filters or recipe than the record of the run"
    return None


def _check_recorded(record: Record) -> None:
    for section, names in PRINTED.items():
        for name in names:
            if getattr(record, section).get(name) in (None, ""):
                raise InputError(f"record: {section}.{name} is absent; the data set card prints it, so record it.")


def _views(contents: Contents, preset: Preset, record: Record) -> list[View]:
    """The views that the card lists: selections, then those that relabel."""
    columns = contents.columns
    train = columns["split"] == "train"
    found = []
    for view in listed_views(preset, Train.of(preset, record.settings)):
        counts = view.counts(columns) | ({} if view.label is None else view.label.counts(columns))
        found.append(View(view, view.mask(columns) & train, counts))
    return sorted(found, key=lambda one: one.view.label is not None)


def _body(
    contents: Contents,
    preset: Preset,
    record: Record,
    license: str,
    details: Details,
    measured: Measured,
    views: Sequence[View],
) -> str:
    """The card's prose."""
    selections = [one for one in views if one.view.label is None]
    return render(
        "dataset_card.md.jinja",
        preset=preset,
        record=record,
        license=license,
        details=details,
        types={name: _type_name(feature) for name, feature in contents.features.items()},
        rows=contents.rows,
        subjects=contents.subjects,
        synthetic=contents.synthetic,
        example=next((one.view.name for one in selections if one.view.name.endswith("_90_10")), "full"),
        views=selections,
        relabelled=[one for one in views if one.view.label is not None],
        not_listed=unmet_views(preset, Train.of(preset, record.settings)),
        by_split=split_table(contents, preset),
        view_header=view_header(preset),
        by_view=[(one.view.name, view_row(contents, preset, one.kept)) for one in views],
        pictures=FIGURES,
        origins=origins(record),
        datasheet=datasheet(contents, preset, record, license, details.creator),
        measured=measured,
        boards=measured.boards(record.settings["factors"]),
        digests={name: sha256(content).hexdigest() for name, content in measured.files.items()},
        figures=dict(_flatten({**record.counts, **record.measured})),
    )


def _metadata(
    contents: Contents, preset: Preset, record: Record, license: str, views: Sequence[View]
) -> dict[str, Any]:
    """The card's YAML; its configs are the views that are filters alone."""
    selections = [one.view for one in views if one.view.label is None]
    held, columns = _held(contents.files, preset), contents.columns
    sizes = {split: _Size.of(paths, columns["split"] == split) for split, paths in contents.shards.items()}
    return {
        "license": license,
        "pretty_name": f"SynthFair: {preset.title}",
        "task_categories": ["image-classification"],
        "annotations_creators": ["machine-generated"],
        "source_datasets": ["original" if record.settings["source"] == "scm" else "extended"],
        "size_categories": [next((size for limit, size in SIZES.items() if len(columns["split"]) < limit), "n>10M")],
        "tags": [
            "synthetic",
            "text-to-image" if record.settings.get("sampling") else "counterfactual",
            *("fairness", "bias", "medical", preset.name.replace("_", "-")),
        ],
        "configs": [_config(view, held, record.counts["store"]) for view in selections],
        "dataset_info": [
            {"config_name": view.name, **_info(view, columns, sizes)._to_yaml_dict()} for view in selections
        ],
    }


class _Dumper(yaml.CSafeDumper):
    """Innermost lists and mappings on one line; no anchors, which some parsers of cards do not support."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **{**keywords, "default_flow_style": None})

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _held(names: Mapping[str, list[str]], preset: Preset) -> dict[str, dict[str, Known]]:
    """What the name of each file implies for its rows, by split and name."""
    return {split: {name: known(name, preset) for name in found} for split, found in names.items()}


def _config(
    view: BiasedView, held: Mapping[str, Mapping[str, Known]], store: str, brief: bool = True
) -> dict[str, Any]:
    """A view as `datasets` and the Hub read it: the files that can hold its rows, and filters where these hold others.

    The store's identity in it renews their caches. The first cards were not brief: every cell had its pattern.
    """
    kept = {split: [(name, view.keeps(of)) for name, of in files.items()] for split, files in held.items()}
    paths = {
        split: patterns((name for name, whole in found if whole is not False), held[split] if brief else None)
        for split, found in kept.items()
    }
    config: dict[str, Any] = {
        "config_name": view.name,
        "description": f"Recipe {view.fingerprint}. Data set {store}.",
        "fragment_scan_options": {"page_checksum_verification": True},
        "data_files": [
            {"split": split, "path": found[0] if len(found) == 1 else found} for split, found in paths.items() if found
        ],
    }
    if any(whole is None for found in kept.values() for _, whole in found):
        return config | {"filters": [[list(clause) for clause in clauses] for clauses in view.filters]}
    return config | ({} if view.filters else {"default": True})


class _Size(NamedTuple):
    """A split: which rows of the columns are its own `[B]`, their bytes once uncompressed, and those of its files."""

    rows: np.ndarray
    uncompressed: int
    stored: int

    @classmethod
    def of(cls, paths: Sequence[Path], rows: np.ndarray) -> "_Size":
        """That of the split in these files."""
        return cls(rows, sum(map(_uncompressed_bytes, paths)), sum(path.stat().st_size for path in paths))


def _info(view: BiasedView, columns: Mapping[str, np.ndarray], sizes: Mapping[str, _Size]) -> DatasetInfo:
    """Exact row counts; bytes in proportion to the rows kept of each split. Features stand in the shards' schema.

    The YAML of all views is parsed, slowly, before the first row of one: what the table below or the shards hold is
    not in it.
    """
    kept = view.mask(columns)
    splits = SplitDict()
    for split, size in sizes.items():
        count = int(kept[size.rows].sum())
        share = round(size.uncompressed * count / int(size.rows.sum()))
        splits.add(SplitInfo(split, num_bytes=share, num_examples=count))
    return DatasetInfo(
        splits=splits,
        download_size=sum(size.stored for size in sizes.values()),
        dataset_size=sum(split.num_bytes for split in splits.values()),
        config_name=view.name,
    )


def _uncompressed_bytes(path: Path) -> int:
    metadata = pyarrow.parquet.read_metadata(path)
    return sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))


def _type_name(feature: Any) -> str:
    """How a column's type reads in a table."""
    if isinstance(feature, ClassLabel):
        return "one of " + ", ".join(feature.names)
    return f"list of {feature.feature.dtype}" if isinstance(feature, List) else feature.dtype


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def update_view_table(script: str, preset: Preset) -> str:
    """The loading script's text with its table of selections rewritten from the preset, level names for indices.

    Args:
        script: text with the lines `VIEWS = {`, `}` and `# fmt: on`.
        preset: the domain whose curated views are listed.

    Raises:
        InputError: the script has no such lines.
    """
    lines = []
    for view in (view for view in curated_views(preset) if view.label is None):
        lines.append(f'    "{view.name}": [\n')
        for clauses in view.filters:
            written = [[column, operator, _in_words(value, column, preset)] for column, operator, value in clauses]
            lines.append(f"      {json.dumps(written)},\n")
        lines.append("    ],\n")
    table = re.compile(r"(?<=^VIEWS = \{\n).*(?=^\}\n# fmt: on)", flags=re.DOTALL | re.MULTILINE)
    if not table.search(script):
        raise InputError("script: has no table of views; give one with the lines `VIEWS = {`, `}` and `# fmt: on`.")
    return table.sub(lambda _: "".join(lines), script)


def _in_words(value: object, column: str, preset: Preset) -> object:
    if column in preset.covariates and preset.covariates[column].categorical:
        return preset.covariates[column].decode([value])[0]
    return value
