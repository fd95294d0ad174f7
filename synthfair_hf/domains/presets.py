"""The presets of this package by name. To add a domain, write its preset in a folder of its own and list it here.

A domain that needs no code is a YAML file (`preset_file`), as those of users are.
"""

from pathlib import Path

from ..arguments import checked
from ..errors import unknown
from .brain_mri.phantom import BRAIN_PHANTOM
from .chest_xray.findings import CHEST_XRAY_FINDINGS, CHEXPERT, NIH_CHESTXRAY14
from .chest_xray.preset import CHEST_XRAY
from .dermatology.phantom import SKIN_PHANTOM
from .morphomnist.preset import MORPHOMNIST
from .phantom.preset import PHANTOM
from .preset import Preset
from .preset_file import read_preset

__all__ = ["PRESETS", "get_preset"]

FILES = [Path(__file__).parent / domain / "preset.yaml" for domain in ("dermatology", "brain_mri")]
"""Presets that are files."""

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        *(CHEST_XRAY, CHEXPERT, NIH_CHESTXRAY14, CHEST_XRAY_FINDINGS, PHANTOM, MORPHOMNIST),
        *(read_preset(path).preset for path in FILES),
        *(SKIN_PHANTOM, BRAIN_PHANTOM),
    )
}


@checked
def get_preset(name: str) -> Preset:
    """The preset of that name; InputError, which lists the names, for an unknown one."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
