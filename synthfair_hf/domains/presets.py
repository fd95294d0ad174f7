"""The presets of this package by name. To add a domain, write its preset in a folder of its own and list it here.

A domain that needs no code is a YAML file (`preset_file`), as those of users are.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from ..arguments import checked
from ..errors import unknown
from .brain_mri.phantom import BRAIN_PHANTOM
from .chest_xray.findings import CHEST_XRAY_FINDINGS, CHEXPERT, NIH_CHESTXRAY14
from .chest_xray.preset import CHEST_XRAY
from .dermatology.phantom import SKIN_PHANTOM
from .findings import is_label, labels_of
from .morphomnist.preset import MORPHOMNIST
from .phantom.preset import PHANTOM
from .preset import Preset
from .preset_file import read_preset

__all__ = ["PRESETS", "findings_among", "get_preset", "preset_with"]

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


def preset_with(labels: Mapping[str, int], data_set: str) -> str | None:
    """The preset of this package that has most of these labels; None where none has one.

    Args:
        labels: how often each occurs.
        data_set: whose own preset is taken of those that have as many.
    """
    known = {
        name: sum(labels[label] for label in labels if findings_among(preset, (label,)))
        for name, preset in PRESETS.items()
    }
    best = max(known, key=lambda name: (known[name], name == data_set))
    return best if known[best] else None


def findings_among(preset: Preset, labels: Collection[str]) -> list[str]:
    """The covariates of a preset that these labels say to be present."""
    return [one.name for one in preset.covariates.walk() if is_label(one) and labels_of(one, labels)]
