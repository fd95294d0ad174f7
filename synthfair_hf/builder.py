"""The `datasets` builder behind `import synthfair_hf; load_dataset("synthfair", "sex_imbalanced_90_10", ...)`.

    rows of a view = the files that can hold any, filtered by the view's clauses, page checksums verified

Keywords beside those of the parquet builder: `data_dir`, a directory that `synthfair generate` wrote or the same on the
Hub (hf://datasets/<owner>/<name>), by default $SYNTHFAIR_HOME, then ./synthfair; `strength`, the share A/100 of a name
without its _A_B. The cache is keyed by the view's recipe and the run's record, so it outlives neither.
"""

import os
from dataclasses import dataclass, fields
from typing import Any

import pyarrow.dataset
import pyarrow.parquet
from datasets import DownloadConfig
from datasets.data_files import DataFilesDict, DataFilesList
from datasets.load import BuilderConfigsParameters, DatasetModule
from datasets.packaged_modules.parquet.parquet import Parquet, ParquetConfig
from datasets.utils.file_utils import xopen

from .errors import InputError, unknown
from .layout import known
from .presets import Preset
from .records import Record, fingerprint
from .schema import SPLITS
from .views import BiasedView, curated_views, get_view

__all__ = ["SynthFair", "SynthFairConfig", "dataset_module"]

NAME = "synthfair"
HOME = "SYNTHFAIR_HOME"


@dataclass
class SynthFairConfig(ParquetConfig):
    """A view of one data set; `strength` in [0.01, 0.99] completes a name without its _A_B."""

    strength: float | None = None


class SynthFair(Parquet):
    """Reads the shards through a view's filters; filters of the caller narrow the view further."""

    BUILDER_CONFIG_CLASS = SynthFairConfig

    def _create_builder_config(
        self, config_name: str | None = None, custom_features: Any = None, config_id: str | None = None, **keywords: Any
    ) -> tuple[SynthFairConfig, str]:
        allowed = [field.name for field in fields(SynthFairConfig)]
        for keyword in keywords:
            if keyword not in allowed:
                raise unknown("load_dataset", keyword, allowed)
        download_config = DownloadConfig(token=self.token, storage_options=self.storage_options)
        record, preset = _record(keywords["data_dir"], download_config)
        view = get_view(config_name or "full", preset, keywords.pop("strength", None))
        self.hash = fingerprint({"view": view.fingerprint, "record": record})
        keywords["data_files"], whole = _files_of(view, keywords["data_files"], preset)
        config = SynthFairConfig(**{"description": view.sentence, **keywords, "name": view.name})
        config.strength = view.strength
        config.filters = config.filters if whole else _both(view.filters_for_parquet(), config.filters)
        if config.fragment_scan_options is None:
            config.fragment_scan_options = pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
        return config, config_id or config.create_config_id(keywords, custom_features=custom_features)


def dataset_module(
    data_dir: str | None, data_files: object | None, download_config: DownloadConfig | None
) -> DatasetModule:
    """What `datasets` needs to build from the data set at `data_dir`, or where it is looked for by default."""
    if data_files is not None:
        raise InputError(f"data_files: not taken by {NAME!r}; give data_dir, a directory `synthfair generate` wrote.")
    location = _locate(data_dir)
    _, preset = _record(location, download_config)
    files = DataFilesDict()
    for split in SPLITS:
        either = [f"data/{split}-*.parquet", f"data/{split}/*/*.parquet"]
        if found := DataFilesList.from_patterns(either, location, [".parquet"], download_config):
            files[split] = found
    if not files:
        raise InputError(f"data_dir: {location} holds no shards; give a directory `synthfair generate` finished.")
    return DatasetModule(
        SynthFair.__module__,
        hash="",
        builder_kwargs={"data_files": files, "data_dir": location, "dataset_name": NAME},
        builder_configs_parameters=BuilderConfigsParameters(
            builder_configs=[SynthFairConfig(view.name, description=view.sentence) for view in curated_views(preset)],
            default_config_name="full",
        ),
    )


def _files_of(view: BiasedView, files: DataFilesDict, preset: Preset) -> tuple[DataFilesDict, bool]:
    """The files that can hold rows of a view, and whether every row in them belongs, so that none needs a filter."""
    kept, whole = DataFilesDict(), True
    for split, found in files.items():
        told = {path: view.keeps(known(path, preset)) for path in found}
        origins = dict(zip(found, found.origin_metadata, strict=True))
        wanted = [path for path in found if told[path] is not False]
        kept[split] = DataFilesList(wanted, [origins[path] for path in wanted])
        whole &= None not in told.values()
    return kept, whole


def _locate(data_dir: str | None) -> str:
    """The data set's directory as an absolute path or URL."""
    location = data_dir or os.environ.get(HOME) or (NAME if os.path.isdir(NAME) else None)
    if location is None:
        raise InputError(
            f"data_dir: not given, ${HOME} is not set and there is no directory ./{NAME}; write one with "
            f"`synthfair generate`, or give a directory or hf://datasets/<owner>/<name> in either."
        )
    return location if "://" in location else os.path.abspath(os.path.expanduser(location))


def _record(location: str, download_config: DownloadConfig | None) -> tuple[Record, Preset]:
    """The record of the run that wrote the data set, and the preset in it."""
    path = f"{location}/records/generate.json"
    try:
        with xopen(path, "r", download_config=download_config) as file:
            record = Record.model_validate_json(file.read())
        return record, Preset.model_validate(record.settings.get("preset"))
    except FileNotFoundError:
        raise InputError(
            f"data_dir: {location} has no records/generate.json; give a directory `synthfair generate` finished."
        ) from None
    except ValueError as error:
        raise InputError(
            f"data_dir: {path} is not the record of a data set of this package ({str(error).splitlines()[0]}); "
            "run `synthfair generate` again."
        ) from None


def _both(first: Any, second: Any) -> Any:
    """Rows that pass two filters; None passes everything."""
    if first is None or second is None:
        return second if first is None else first
    first, second = (
        pyarrow.parquet.filters_to_expression(filters) if isinstance(filters, list) else filters
        for filters in (first, second)
    )
    return first & second
