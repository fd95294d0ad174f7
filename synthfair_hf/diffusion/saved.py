"""Saved generators: where they are, what their configuration tells, and how they are loaded."""

import json
from pathlib import Path
from typing import NamedTuple

from ..causal.scm import StructuralCausalModel
from ..domains.presets import PRESETS, Preset
from ..errors import InputError
from ..generate.engines import local_device
from ..records import Access, Record, file_sha256, fingerprint
from .pipeline import CausalDiffusionPipeline

__all__ = ["DEFAULT_GENERATOR", "EDITIONS", "SavedGenerator", "edition", "find_generator", "load_generator"]

DEFAULT_GENERATOR = Path(__file__).parents[1] / "pretrained" / "chest_xray_64"
"""The generator inside the package."""

EDITIONS: dict[str, list[str]] = json.loads((DEFAULT_GENERATOR.parent / "editions.json").read_bytes())
"""The revisions of each shipped generator, the oldest first, today's last."""

WEIGHTS = (".json", ".safetensors")
"""What a saved pipeline's components consist of."""


class SavedGenerator(NamedTuple):
    """A saved pipeline as far as its configuration tells, before any weights are loaded."""

    directory: Path
    preset: Preset
    resolution: int
    revision: str
    """Fingerprint of the weights and configuration."""
    planted_scanner: bool
    """Whether a film must be put on its scanner by `domains.chest_xray.scanners` before this generator knows it."""

    access: Access
    """Who may see the films it was trained on, as its record says."""

    files: tuple[str, ...]
    """What it consists of, relative to the directory: model_index.json, and the files of its components."""

    def causal_model(self) -> StructuralCausalModel:
        """Its causal model, without its network."""
        try:
            model: StructuralCausalModel = StructuralCausalModel.from_pretrained(
                self.directory / "scm", use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{self.directory}/scm: can't be loaded ({str(error).splitlines()[0]}).") from None
        return model

    def load(self) -> CausalDiffusionPipeline:
        """The pipeline, on this process's GPU where there is one."""
        pipeline = CausalDiffusionPipeline.load(self.directory)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.to(local_device())
        return pipeline


def find_generator(path: str | Path = DEFAULT_GENERATOR) -> SavedGenerator:
    """A saved pipeline in a directory or a Hub repository."""
    directory = Path(path) if Path(path).exists() else _fetch(str(path))
    index = directory / "model_index.json"
    try:
        config = json.loads(index.read_bytes())
        preset, resolution = Preset.model_validate(config["preset"]), int(config["resolution"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"--pretrained_model_name_or_path: {path} is not a saved pipeline of this package (no readable "
            "model_index.json); give the --output_dir of a finished `synthfair train`."
        ) from None
    if preset.name in PRESETS:
        # which views a data set lists is today's choice, not that of the day on which the generator was trained
        preset = preset.model_copy(update={"views": PRESETS[preset.name].views})
    parts = [name for name, value in config.items() if isinstance(value, list) and value[0] is not None]
    files = sorted(file for name in parts for file in (directory / name).iterdir() if file.suffix in WEIGHTS)
    hashes = {file.relative_to(directory).as_posix(): file_sha256(file) for file in (index, *files)}
    planted = "scanner" in preset.covariates and bool(config.get("planted_scanner", True))
    record = directory / "record.json"
    access: Access = Record.read(record).access if record.exists() else "unknown"
    return SavedGenerator(directory, preset, resolution, fingerprint(hashes), planted, access, tuple(hashes))


def _fetch(repository: str) -> Path:
    """The local copy of a Hub repository."""
    try:
        return Path(CausalDiffusionPipeline.download(repository))
    except (OSError, ValueError) as error:
        raise InputError(
            f"--pretrained_model_name_or_path: {repository!r} is neither a directory nor a Hub repository that can "
            f"be read ({str(error).splitlines()[0]})."
        ) from error


def load_generator(path: str | Path = DEFAULT_GENERATOR) -> tuple[CausalDiffusionPipeline, str]:
    """A saved pipeline from a directory or a Hub repository, and the fingerprint of its weights and configuration."""
    saved = find_generator(path)
    return saved.load(), saved.revision


def edition(revision: str) -> str:
    """What a page says of the generator whose figures it gives: its revision, and whether that is shipped today.

    Args:
        revision: Fingerprint of weights and configuration, as records hold it.

    Returns:
        A phrase that follows "measured on" or begins with "Generator" elsewhere.
    """
    for name, revisions in EDITIONS.items():
        if revision == revisions[-1]:
            return f"generator revision `{revision}`, the shipped `{name}`"
        if revision in revisions:
            return f"generator revision `{revision}`, an earlier edition of `{name}`; today's is `{revisions[-1]}`"
    return f"generator revision `{revision}`, which is none of the shipped"
