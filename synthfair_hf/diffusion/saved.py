"""Saved generators: where they are, and what their configuration contains, before weights are loaded."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, get_args

from huggingface_hub import snapshot_download

from ..access import RECORD, component_names, recorded_access, restrict
from ..arguments import checked
from ..causal.scm import StructuralCausalModel
from ..domains.preset import Preset
from ..domains.presets import PRESETS
from ..errors import InputError
from ..records import Access, Record, file_inside, file_sha256, fingerprint, strictest
from .coverage import Coverage

__all__ = [
    "DEFAULT_GENERATOR",
    "SavedGenerator",
    "access_to_training_images",
    "component_files",
    "download",
    "find_generator",
    "read_index",
]

DEFAULT_GENERATOR = Path(__file__).parents[1] / "pretrained" / "chest_xray_findings_128"
"""The generator inside the package."""

INDEX = "model_index.json"

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
    """Access to the images it was trained on, from its record and configuration."""

    coverage: Coverage | None
    """How many of its training images each combination of covariates has; None where its record does not count."""

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
        restrict(model, self.directory / "scm")
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
    index = directory / INDEX
    config = read_index(index)
    try:
        preset, resolution = Preset.model_validate(config["preset"]), int(config["resolution"])
    except (OSError, RecursionError, ValueError, KeyError, TypeError, OverflowError):
        raise (_of_diffusers(path, config) or _not_saved(path)) from None
    if preset.name in PRESETS:
        # views are those of this version of the package, not of the one that trained the generator
        today, site = PRESETS[preset.name], preset.covariates.site
        today = today if site is None else today.with_site(site.levels)
        preset = preset.model_copy(update={"views": today.views_of(preset.covariates.names)})
    files = [index, *component_files(directory, config)]
    hashes = {file.relative_to(directory).as_posix(): file_sha256(file) for file in files}
    planted = "scanner" in preset.covariates and bool(config.get("planted_scanner", True))
    access = access_to_training_images(directory)
    coverage = Coverage.of(Record.read(directory / RECORD)) if (directory / RECORD).exists() else None
    return SavedGenerator(directory, preset, resolution, fingerprint(hashes), planted, access, coverage, tuple(hashes))


def read_index(path: Path) -> dict[str, Any]:
    """A pipeline's model_index.json; InputError where there is none, or it lies elsewhere by a link."""
    config = None
    if path.is_file():
        file_inside(path.parent, path.name)
        with suppress(OSError, ValueError, RecursionError):
            config = json.loads(path.read_bytes())
    if not isinstance(config, dict):
        raise _not_saved(path.parent)
    return config


def _not_saved(path: str | Path) -> InputError:
    return InputError(
        f"pretrained_model_name_or_path: {path} is not a saved pipeline of this package (no readable "
        f"{INDEX}); give the output directory of a finished `synthfair train`."
    )


def _of_diffusers(path: str | Path, config: dict[str, Any]) -> InputError | None:
    """The error for somebody else's text-to-image pipeline, with the reason it can't be used here."""
    # every pipeline of diffusers, which takes seconds to import
    from .text_to_image import draws_from_prompts

    if not draws_from_prompts(config):
        return None
    return InputError(
        f"pretrained_model_name_or_path: {path} is a {config['_class_name']}, which draws images from prompts and "
        "cannot abduct the noise of one, as counterfactuals and what is measured of them need; use it as "
        "text_to_image of `synthfair generate` alone."
    )


def component_files(directory: Path, config: dict[str, Any]) -> list[Path]:
    """Configurations and weights of a pipeline's components.

    Args:
        directory: of the pipeline.
        config: its model_index.json.

    Raises:
        InputError: a component, file, link or list of weights that leads out of the directory; a missing component.
    """
    files: list[Path] = []
    for name in component_names(config, directory / INDEX):
        folder = file_inside(directory, name)
        if not folder.is_dir():
            raise InputError(f"{folder}: is missing, but model_index.json names it; save the pipeline anew.")
        kept = [file.name for file in folder.iterdir() if file.suffix in WEIGHTS and file.is_file()]
        found = [file_inside(directory, f"{name}/{file}") for file in kept]
        for path in (file for file in found if file.name.endswith(".index.json")):
            for part in _parts(path):
                file_inside(folder, part)
        files += found
    return sorted(files)


def _parts(path: Path) -> list[str]:
    """The files that diffusers' index of a component's weights names."""
    try:
        return list(json.loads(path.read_bytes()).get("weight_map", {}).values())
    except (ValueError, AttributeError):
        raise InputError(f"{path}: is no index of weights; save the pipeline anew.") from None


def access_to_training_images(directory: Path) -> Access:
    """The access to the images that a saved pipeline was trained on; no weights are loaded.

    Its configuration, which its revision covers, and its sealed record both name it. Without a record it is at least
    unknown; one that was written before either named it counts as it stands.

    Args:
        directory: of the pipeline.

    Raises:
        InputError: record, configuration and weights contradict each other.
    """
    index = directory / INDEX
    own = read_index(index).get("access")
    if own is not None and own not in get_args(Access):
        raise InputError(f"{index}: access {own!r} is unknown; allowed: {', '.join(get_args(Access))}.")
    recorded = recorded_access(directory)
    if own is None:
        return recorded
    if (directory / RECORD).exists() and recorded != own:
        raise InputError(
            f"{directory / RECORD}: its access is {recorded}, but model_index.json was saved with {own}; restore both "
            "as they were written, or train it anew."
        )
    return strictest(own, recorded)


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
            f"pretrained_model_name_or_path: there is no directory {repository!r}, and no Hub repository of that name "
            f"that can be read ({str(error).splitlines()[0].rstrip('.')}); give the output directory of a finished "
            "`synthfair train`, or OWNER/NAME."
        ) from error
