"""The `datasets` builder behind `import synthfair_hf; load_dataset("synthfair", "sex_imbalanced_90_10", ...)`.

    rows of a view = the files that can hold any, filtered by the view's clauses, page checksums verified

Keywords beside those of the parquet builder: `data_dir`, a directory that `synthfair generate` wrote or the same on the
Hub (hf://datasets/<owner>/<name>), by default $SYNTHFAIR_HOME, then ./synthfair; `strength`, the numbers that the name
leaves out. A view that relabels has a column `observed_<finding>` beside the true one, in memory and streaming.
The cache is keyed by the view's recipe, the run's record and what the file system says of each file (size, times), so
it outlives none of them. A data set whose records or files are not those that were written (`manifest`) is refused
before the first row. Keywords mean what they mean in plain Python, where the card's YAML defines the view, but for
`filters`: here they narrow the view, there they replace its own.

    recipe_of(dataset) = {"view": name, "recipe": hash of the view, "data_set": identity of the stored bytes}

is what a model trained on a view should record: the last line of `dataset.info.description`, as JSON. It survives
map, filter, select and save_to_disk, so it names where the rows came from, and not what was done to them since. Beside
it stand licence and access, which `push_to_hub` asks (`pushing`).
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import yaml
from datasets import Dataset, DatasetInfo, DownloadConfig, Features, IterableDataset
from datasets.data_files import DataFilesDict, DataFilesList
from datasets.load import BuilderConfigsParameters, DatasetModule
from datasets.packaged_modules.parquet.parquet import Parquet, ParquetConfig
from datasets.utils.file_utils import xopen
from datasets.utils.logging import get_logger

from ..domains.preset import Preset
from ..errors import InputError, reason, unknown
from ..records import Access, Record, fingerprint
from ..schema import MISSING_LEVEL, SPLITS
from .layout import known
from .manifest import RUN, check_files, check_footers, check_records
from .shares import Train, listed_views, realised_shares
from .view import BiasedView, get_view

__all__ = ["SynthFair", "SynthFairConfig", "access_of", "dataset_module", "encoded", "read_record", "recipe_of"]

NAME = "synthfair"
HOME = "SYNTHFAIR_HOME"

LICENSE_WITHIN = 4096
"""Characters of a card among which its licence stands; all views follow, and are slow to parse."""

DEEPEST = 64
"""Lists and mappings within each other in a card; the parser needs seconds for thousands."""


@dataclass
class SynthFairConfig(ParquetConfig):
    """A view of one data set; `strength`, whole percentages of 1, completes the names without numbers, in turn."""

    strength: float | Sequence[float] | None = None


class SynthFair(Parquet):
    """Reads the shards through a view's filters; filters of the caller narrow the view further."""

    BUILDER_CONFIG_CLASS = SynthFairConfig

    def _create_builder_config(
        self, config_name: str | None = None, custom_features: Any = None, config_id: str | None = None, **keywords: Any
    ) -> tuple[SynthFairConfig, str]:
        # its version is the identity of its bytes
        allowed = [field.name for field in fields(SynthFairConfig) if field.name != "version"]
        for keyword in keywords:
            if keyword not in allowed:
                raise unknown("load_dataset", keyword, allowed)
        download_config = DownloadConfig(token=self.token, storage_options=self.storage_options)
        record, preset, _ = _read_record(keywords["data_dir"], download_config)
        view = get_view(config_name or "full", preset, keywords.pop("strength", None))
        self.view, self.preset, self.data_set = view, preset, str(record.counts.get("store"))
        train = Train.of(preset, record.settings)
        self.told = " ".join(filter(None, (view.sentence, shares := realised_shares(view, train))))
        if train is not None and not train.meets(view):
            get_logger(__name__).warning(f"{view.name}: {shares}")
        self.record, self.location = record, keywords["data_dir"]
        self.access = access_of(record)
        self.license = _license(keywords["data_dir"], download_config)
        self.hash = fingerprint({"view": view.fingerprint, "record": record, "license": self.license})
        keywords["data_files"], whole = _files_of(view, keywords["data_files"], preset)
        config = SynthFairConfig(**{"description": self.told, **keywords, "name": view.name})
        config.strength = view.strength
        config.filters = config.filters if whole else _both(view.filters_for_parquet(), config.filters)
        if config.fragment_scan_options is None:
            config.fragment_scan_options = pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
        self.wanted, label = config.columns, view.label
        # columns from which observed labels follow; these are added in _cast_table
        self.label = label if label and (self.wanted is None or label.column in self.wanted) else None
        if self.label and self.wanted is not None:
            read = dict.fromkeys((*self.wanted, *self.label.needs))
            config.columns = [name for name in read if name != self.label.column]
        return config, config_id or config.create_config_id(keywords, custom_features=custom_features)

    def _info(self) -> DatasetInfo:
        info = super()._info()
        recipe = {"view": self.view.name, "recipe": self.view.fingerprint, "data_set": self.data_set}
        recipe |= {"license": self.license, "access": self.access}
        known = f"Licence: {self.license}. Access to the images that it was made from: {self.access}."
        info.description, info.license = f"{self.told}\n{known}\n{json.dumps(recipe)}", self.license
        return info

    def _split_generators(self, dl_manager: Any) -> list[Any]:
        generators = super()._split_generators(dl_manager)
        paths = {
            f"data/{address.rpartition('/data/')[2]}": path
            for one in generators
            for address, path in zip(self.config.data_files[one.name], one.gen_kwargs["files"], strict=True)
        }
        check_footers(self.location, paths, self.record, self.preset, dl_manager.download_config)
        if self.label:
            observed = self.preset.covariates.features()[self.label.variable]
            known = {**self.info.features, self.label.column: observed}
            self.info.features = Features({name: known[name] for name in known if name in (self.wanted or known)})
        return generators

    def _cast_table(self, pa_table: pa.Table) -> pa.Table:
        if self.label:
            columns = {name: encoded(pa_table[name], self.preset, name) for name in self.label.needs}
            missing = columns[self.label.variable] == MISSING_LEVEL
            observed = pa.array(self.label.observed(columns), mask=missing)
            pa_table = pa_table.append_column(self.label.column, observed).select(list(self.info.features))
        return super()._cast_table(pa_table)


def recipe_of(dataset: Dataset | IterableDataset) -> dict[str, str]:
    """What a model trained on a view should record: `view`, its `recipe`, and `data_set`, the identity of the bytes.

    Of a view that the card's YAML defines, the same stands in the description of its configuration:
    `load_dataset_builder(path, name).config.description`.

    Raises:
        InputError: another builder loaded the data set.
    """
    try:
        recipe = json.loads((dataset.info.description or "").rpartition("\n")[2])
        return {name: recipe[name] for name in ("view", "recipe", "data_set")}
    except (ValueError, KeyError, TypeError):
        raise InputError(
            "dataset: has no recipe; load it with `import synthfair_hf` and load_dataset('synthfair', ...), or read "
            "the description of its configuration, load_dataset_builder(path, name).config.description."
        ) from None


def dataset_module(
    data_dir: str | None, data_files: object | None, download_config: DownloadConfig | None
) -> DatasetModule:
    """What `datasets` needs to build from a data set.

    Args:
        data_dir: a directory that `synthfair generate` wrote, or its address on the Hub; by default $SYNTHFAIR_HOME,
            then ./synthfair.
        data_files: must be None.
        download_config: how remote files are read.

    Raises:
        InputError: `data_files` is given, there is no finished data set, or it is not as it was written.
    """
    if data_files is not None:
        raise InputError(f"data_files: not taken by {NAME!r}; give data_dir, a directory `synthfair generate` wrote.")
    location = _locate(data_dir)
    record, preset, raw = _read_record(location, download_config)
    listed = listed_views(preset, Train.of(preset, record.settings))
    files = DataFilesDict()
    for split in SPLITS:
        either = [f"data/{split}-*.parquet", f"data/{split}/*/*.parquet"]
        if found := DataFilesList.from_patterns(either, location, [".parquet"], download_config):
            files[split] = found
    if not files:
        raise InputError(f"data_dir: {location} holds no shards; give a directory `synthfair generate` finished.")
    check_records(location, record, raw, download_config)
    check_files(location, record, download_config)
    return DatasetModule(
        SynthFair.__module__,
        hash="",
        builder_kwargs={"data_files": files, "data_dir": location, "dataset_name": NAME},
        builder_configs_parameters=BuilderConfigsParameters(
            builder_configs=[SynthFairConfig(view.name, description=view.sentence) for view in listed],
            default_config_name="full",
        ),
    )


def _files_of(view: BiasedView, files: DataFilesDict, preset: Preset) -> tuple[DataFilesDict, bool]:
    """The files that can hold rows of a view, and whether every row in them belongs, so that none needs a filter."""
    kept, whole = DataFilesDict(), True
    for split, found in files.items():
        kept_whole = {path: view.keeps(known(path, preset)) for path in found}
        origins = dict(zip(found, found.origin_metadata, strict=True))
        wanted = [path for path in found if kept_whole[path] is not False]
        # hashed into the name of the cache
        kept[split] = DataFilesList(wanted, [(*origins[path], *_stored(path)) for path in wanted])
        whole &= None not in kept_whole.values()
    return kept, whole


def _stored(path: str) -> tuple[str, ...]:
    """Size and times of a local file; what `datasets` hashes of it, the time of the last change, a copy may keep."""
    if "://" in path:
        return ()
    found = os.stat(path)
    return str(found.st_size), str(found.st_mtime_ns), str(found.st_ctime_ns)


def _locate(data_dir: str | os.PathLike[str] | None) -> str:
    """The data set's directory as an absolute path or URL."""
    location = os.fspath(data_dir or "") or os.environ.get(HOME) or (NAME if os.path.isdir(NAME) else None)
    if location is None:
        raise InputError(
            f"data_dir: not given, ${HOME} is not set and there is no directory ./{NAME}; write one with "
            f"`synthfair generate`, or give a directory or hf://datasets/<owner>/<name> in either."
        )
    return location if "://" in location else os.path.abspath(os.path.expanduser(location))


def read_record(location: str, download_config: DownloadConfig | None = None) -> tuple[Record, Preset]:
    """The record of the run that wrote the data set, and the preset in it.

    Args:
        location: a directory or URL.
        download_config: how remote files are read.

    Raises:
        InputError: no such record, one of another package, or one that is not as it was written (`views.manifest`).
    """
    record, preset, raw = _read_record(location, download_config)
    check_records(location, record, raw, download_config)
    return record, preset


def _read_record(location: str, download_config: DownloadConfig | None) -> tuple[Record, Preset, bytes]:
    """`read_record` of whatever is there, and its bytes."""
    path = f"{location}/{RUN}"
    fields: Mapping[str, Any] = Record.model_fields
    try:
        with xopen(path, "rb", download_config=download_config) as file:
            raw = file.read()
        record = Record.model_validate_json(raw)
        fields = Preset.model_fields
        return record, Preset.model_validate(record.settings.get("preset")), raw
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"data_dir: {location} has no records/generate.json; give a directory `synthfair generate` finished."
        ) from None
    except ValueError as error:
        raise InputError(
            f"data_dir: {path} is not the record of a data set of this package ({reason(error, 'record', fields)}); "
            "run `synthfair generate` again."
        ) from None


def access_of(record: Record) -> Access:
    """The access in the plan's settings that a run recorded."""
    return next((one for one in get_args(Access) if one == record.settings.get("access")), "unknown")


def _license(location: str, download_config: DownloadConfig | None) -> str:
    """The licence on a data set's card; unknown without a card."""
    try:
        with xopen(f"{location}/README.md", "r", download_config=download_config) as file:
            front = file.read(LICENSE_WITHIN)
    except (OSError, ValueError):
        return "unknown"
    return _license_in(front)


def _license_in(front: str) -> str:
    """The licence in the first characters of a card, of whose YAML no more is read than it takes to find it."""
    depth, key = 0, None
    try:
        for event in yaml.parse(front.partition("\n---")[0], yaml.SafeLoader):
            if depth == 1 and isinstance(event, yaml.ScalarEvent) and key is None:
                key = event.value
            elif depth == 1 and isinstance(event, yaml.NodeEvent):
                if key == "license":
                    return getattr(event, "value", None) or "unknown"
                key = None
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > DEEPEST:
                    break
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except (yaml.YAMLError, RecursionError):
        pass
    return "unknown"


def encoded(column: pa.ChunkedArray, preset: Preset, name: str) -> np.ndarray:
    """A stored column as views take it, `[B]`.

    Args:
        column: as parquet holds it, with nulls.
        preset: the domain.
        name: of the column.

    Returns:
        Level indices or numbers; missing is -1 or NaN.
    """
    if name in preset.covariates and preset.covariates[name].categorical:
        return column.fill_null(MISSING_LEVEL).to_numpy()
    return column.to_numpy()


def _both(first: Any, second: Any) -> Any:
    """Rows that pass two filters; None passes everything."""
    if first is None or second is None:
        return second if first is None else first
    first, second = (
        pyarrow.parquet.filters_to_expression(filters) if isinstance(filters, list) else filters
        for filters in (first, second)
    )
    return first & second
