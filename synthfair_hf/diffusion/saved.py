"""Saved generators: where they are, and what their configuration contains, before weights are loaded."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import snapshot_download

from ..arguments import checked
from ..causal.scm import StructuralCausalModel
from ..domains.preset import Preset
from ..domains.presets import PRESETS
from ..errors import InputError
from ..records import Access, Record, file_sha256, fingerprint

__all__ = ["DEFAULT_GENERATOR", "SavedGenerator", "download", "find_generator"]

DEFAULT_GENERATOR = Path(__file__).parents[1] / "pretrained" / "chest_xray_64"
"""The generator inside the package."""

WEIGHTS = (".json", ".safetensors")
"""Suffixes of the files of a saved pipeline's components."""


class SavedGenerator(NamedTuple):
    """A saved pipeline as described by its configuration."""

    directory: Path
    preset: Preset
    resolution: int
    revision: str
    """Fingerprint of the weights and configuration."""
    planted_scanner: bool
    """Whether its training images have scanners planted by `domains.chest_xray.scanners`, as its inputs must."""

    access: Access
    """Access to the images it was trained on, from its record."""

    files: tuple[str, ...]
    """Its files, relative to the directory: model_index.json, and those of its components."""

    def causal_model(self) -> StructuralCausalModel:
        """Its causal model, without its network."""
        try:
            model: StructuralCausalModel = StructuralCausalModel.from_pretrained(
                self.directory / "scm", use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{self.directory}/scm: can't be loaded ({str(error).splitlines()[0]}).") from None
        return model


@checked
def find_generator(path: str | Path = DEFAULT_GENERATOR) -> SavedGenerator:
    """Find a saved pipeline.

    Args:
        path: a directory or the name of a Hub repository; by default the generator inside the package.

    Raises:
        InputError: for anything that is not a saved pipeline of this package.
    """
    directory = Path(path) if Path(path).exists() else _fetch(str(path))
    index = directory / "model_index.json"
    try:
        config = json.loads(index.read_bytes())
        preset, resolution = Preset.model_validate(config["preset"]), int(config["resolution"])
    except (OSError, RecursionError, ValueError, KeyError, TypeError):
        raise InputError(
            f"pretrained_model_name_or_path: {path} is not a saved pipeline of this package (no readable "
            "model_index.json); give the output directory of a finished `synthfair train`."
        ) from None
    if preset.name in PRESETS:
        # views are those of this version of the package, not of the one that trained the generator
        preset = preset.model_copy(update={"views": PRESETS[preset.name].views})
    parts = [name for name, value in config.items() if isinstance(value, list) and value[0] is not None]
    files = sorted(file for name in parts for file in (directory / name).iterdir() if file.suffix in WEIGHTS)
    hashes = {file.relative_to(directory).as_posix(): file_sha256(file) for file in (index, *files)}
    planted = "scanner" in preset.covariates and bool(config.get("planted_scanner", True))
    record = directory / "record.json"
    access: Access = Record.read(record).access if record.exists() else "unknown"
    return SavedGenerator(directory, preset, resolution, fingerprint(hashes), planted, access, tuple(hashes))


def download(repository: str, **settings: Any) -> str:
    """The local copy of a Hub repository's configuration, safetensors and records, downloaded where needed.

    Args:
        repository: its name.
        **settings: diffusers'; those about what is downloaded and where to are used.
    """
    known = ("cache_dir", "force_download", "local_files_only", "revision", "token")
    patterns = ["*.json", "*/*.json", "*/*.safetensors"]
    given = {name: settings[name] for name in known if name in settings}
    return snapshot_download(repository, allow_patterns=patterns, **given)


def _fetch(repository: str) -> Path:
    """The local copy of a Hub repository."""
    try:
        return Path(download(repository))
    except (OSError, ValueError) as error:
        raise InputError(
            f"pretrained_model_name_or_path: {repository!r} is neither a directory nor a Hub repository that can "
            f"be read ({str(error).splitlines()[0]})."
        ) from error
