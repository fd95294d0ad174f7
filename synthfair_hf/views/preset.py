"""A preset by its name or from a file of one's own, whose curated views and groups mean something."""

from collections.abc import Sequence
from pathlib import Path

from ..domains.preset import Preset
from ..domains.preset_file import Keys, PresetFile, read_preset
from ..domains.presets import PRESETS
from ..errors import InputError, unknown
from ..schema import spelling
from .layout import word
from .view import get_view

__all__ = ["load_preset"]


def load_preset(name_or_path: str | Path) -> Preset:
    """The preset of that name, or the one in a YAML file (`domains.preset_file`).

    Args:
        name_or_path: a name in `domains.presets.PRESETS`, or the path of a file.

    Raises:
        InputError: neither; or, with file and line, a file that is no valid preset, has a view that is none of it, two
            groups that files of a data set could not tell apart, or the name of one of this package's presets.
    """
    text = str(name_or_path)
    if text in PRESETS:
        return PRESETS[text]
    if not text.endswith((".yaml", ".yml")) and not _is_file(text):
        raise unknown("preset", text, [*PRESETS, "the path of a YAML file"])
    own = read_preset(text)
    _check(own)
    return own.preset


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _check(own: PresetFile) -> None:
    preset = own.preset
    if preset == PRESETS.get(preset.name):
        return
    if preset.name in PRESETS:
        raise own.error(("name",), f"name: {preset.name!r} is a preset of this package, and differs; use another name.")
    for variable in preset.covariates.walk():
        for alias, level in variable.aliases.items():
            # a word that is only spelt anew, as in presets of this package for other findings, promises no level
            if level not in variable.levels and spelling(alias) != spelling(level):
                where = f"covariates.{variable.name}: alias {alias!r}"
                error = unknown(where, level, variable.levels)
                raise own.error(("covariates", variable.name, "aliases", alias), str(error))
    for name in preset.factors:
        _check_words(own, ("covariates", name, "levels"), preset.covariates[name].levels)
    for name in preset.contrasts:
        contrast = preset.contrasts[name]
        _check_words(own, ("contrasts", name), (contrast.first, contrast.second))
    for place, name in enumerate(preset.views):
        try:
            get_view(name, preset)
        except InputError as error:
            raise own.error(("views", place), f"views: {str(error).removeprefix('name: ')}") from None


def _check_words(own: PresetFile, keys: Keys, names: Sequence[str]) -> None:
    """Groups whose names in paths are equal would overwrite each other's files."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(word(name), name)) != name:
            where = ".".join(map(str, keys))
            raise own.error(
                keys, f"{where}: {other!r} and {name!r} have one name in paths ({word(name)}); give them other names."
            )
