"""Labelled images in memory: what a classifier is fitted and evaluated on.

    images uint8 [n, C, r, r],   labels in {0, 1} [n],   groups[attribute] in {0 ... levels - 1} [n],   subjects [n]
    pairs[attribute][i] = pairs[attribute][j]  <=>  i and j are of one subject and differ by do(attribute) alone

A view of a data set provides all of them. The two groups of a contrast are two levels of a categorical covariate, or
the two sides of a threshold on a continuous one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import check_fields
from ..domains.findings import choose_finding
from ..domains.images import open_image, to_batch
from ..domains.preset import CHANNELS, Preset
from ..errors import InputError, unknown
from ..missing import is_missing
from ..records import Access, strictest
from ..views.builder import recipe_of
from ..views.pushing import described_access
from ..views.view import OBSERVED

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["LabelledImages", "crossed_factors", "group_codes_of"]


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with one binary label, any number of attributes and the subject of each row.

    Attributes:
        images: uint8 `[n, C, r, r]`, gray with C = 1 or in colours with C = 3, r a multiple of 16.
        labels: int64 `[n]`, 1 where the finding is present, 0 where it is absent.
        groups: by attribute, int64 `[n]`, an index into its `levels`.
        levels: by attribute, the names of its groups.
        subjects: `[n]` identifiers; all counterfactuals of one observation share theirs.
        pairs: by attribute, `[n]` keys; rows with equal keys differ by an intervention on that attribute alone.
        masks: bool `[n, 1, r, r]`, the region of the finding, or None.
        recipe: the view and data set that the rows come from (`views.builder.recipe_of`), empty if unknown. Records of
            models trained on the rows hold it; the `fingerprint` of the rows does not depend on it.
        access: to the real images that the rows were made from; what is trained on them takes it over.

    Raises:
        InputError: a shape, type or value is invalid.
    """

    images: Tensor
    labels: Tensor
    groups: Mapping[str, Tensor]
    levels: Mapping[str, tuple[str, ...]]
    subjects: np.ndarray
    pairs: Mapping[str, np.ndarray] = field(default_factory=dict)
    masks: Tensor | None = None
    recipe: Mapping[str, str] = field(default_factory=dict)
    access: Access = "unknown"

    def __post_init__(self) -> None:
        check_fields(self)
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8 or len(shape) != 4 or shape[1] not in CHANNELS or shape[2] != shape[3]:
            raise InputError(
                f"images: {self.images.dtype} of shape {shape}; give torch.uint8 of shape [n, 1 or 3, r, r]."
            )
        if shape[2] % 16:
            raise InputError(f"images: {shape[2]} pixels a side; give a multiple of 16.")
        if set(self.groups) != set(self.levels):
            raise InputError(
                f"levels: of {', '.join(self.levels) or '(none)'}; give those of {', '.join(self.groups) or '(none)'}."
            )
        _check_codes("labels", self.labels, shape[0], 2)
        for name, codes in self.groups.items():
            _check_codes(f"groups[{name!r}]", codes, shape[0], len(self.levels[name]))
        keyed = {f"pairs[{name!r}]": keys for name, keys in self.pairs.items()}
        for name, keys in {"subjects": self.subjects, **keyed}.items():
            if len(keys) != shape[0]:
                raise InputError(f"{name}: {len(keys)} values for {shape[0]} images; give one per image.")
        if any(map(is_missing, set(self.subjects))):
            raise InputError("subjects: some are unknown; give every image its subject.")
        region = (shape[0], 1, *shape[2:])
        if self.masks is not None and (self.masks.dtype != torch.bool or tuple(self.masks.shape) != region):
            raise InputError(
                f"masks: {self.masks.dtype} of shape {tuple(self.masks.shape)}; give torch.bool of shape {region}."
            )

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def from_dataset(
        cls,
        dataset: "Dataset",
        preset: Preset,
        attributes: Sequence[str],
        finding: str | None = None,
        label: str | None = None,
    ) -> "LabelledImages":
        """The rows of one split of a view in which the finding is in one of the two groups of its contrast.

        Args:
            dataset: columns `image`, `subject_id`, `intervention`, the attributes and the label, encoded as
                `load_dataset` returns them.
            preset: the domain of the data set.
            attributes: covariates of the preset; a continuous one is split at the threshold of its contrast.
            finding: the covariate whose contrast defines present and absent; rows with other levels are left out. It
                has `pairs`, too. By default the preset's only one, or the one that `label` observes.
            label: the column to learn, if that is not the finding itself (`observed_finding`).

        Returns:
            Images, labels, groups and pairs, in the order of the data set.

        Raises:
            InputError: a column, attribute or contrast does not exist, a value is missing, or the preset has several
                findings and none is named.
        """
        if finding is None and label is not None and label.startswith(OBSERVED):
            finding = label.removeprefix(OBSERVED)
        finding = choose_finding(preset) if finding is None else finding
        column = label or finding
        for name in ("image", "subject_id", "intervention", column, *attributes):
            if name not in dataset.column_names:
                raise unknown("dataset: column", name, dataset.column_names)
        if finding not in preset.contrasts or not preset.covariates[finding].categorical:
            raise unknown("finding", finding, [name for name in preset.contrasts if preset.covariates[name].levels])
        contrast, names = preset.contrasts[finding], preset.covariates[finding].levels
        encoded = _known(dataset, column)
        kept = np.flatnonzero(np.isin(encoded, [names.index(contrast.first), names.index(contrast.second)]))
        if not len(kept):
            raise InputError(f"dataset: no row whose {column} is {contrast.first} or {contrast.second}; give another.")
        dataset = dataset.select(kept)
        groups, levels = {}, {}
        for name in attributes:
            codes, levels[name] = _groups(_known(dataset, name), name, preset)
            groups[name] = torch.from_numpy(codes.astype(np.int64))
        subjects = np.asarray(dataset["subject_id"][:], dtype=str)
        arrays = _pixels(dataset)
        if len({array.shape for array in arrays}) != 1 or arrays[0].dtype != np.uint8:
            raise InputError(
                "dataset: images differ in size or channels, or are not 8-bit; give one resolution, and gray or RGB."
            )
        return cls(
            torch.from_numpy(to_batch([_channels_first(array) for array in arrays])),
            torch.from_numpy((encoded[kept] == names.index(contrast.first)).astype(np.int64)),
            groups,
            levels,
            subjects,
            _pairs(dataset, subjects, (*attributes, finding)),
            recipe=_recipe(dataset),
            access=described_access(dataset.info.description or "") or "unknown",
        )

    def select(self, rows: Tensor | np.ndarray) -> "LabelledImages":
        """Rows by index `[m]`, in that order, or by a boolean mask `[n]`."""
        places = np.asarray(rows)
        places = np.flatnonzero(places) if places.dtype == bool else places
        index = torch.from_numpy(places.astype(np.int64)).to(self.images.device)
        return LabelledImages(
            self.images[index],
            self.labels[index],
            {name: codes[index] for name, codes in self.groups.items()},
            self.levels,
            self.subjects[places],
            {name: keys[places] for name, keys in self.pairs.items()},
            None if self.masks is None else self.masks[index],
            self.recipe,
            self.access,
        )

    def to(self, device: torch.device) -> "LabelledImages":
        """The same rows, whose tensors are on a device; the other fields are text."""
        if self.images.device == device:
            return self
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            groups={name: codes.to(device) for name, codes in self.groups.items()},
            masks=None if self.masks is None else self.masks.to(device),
        )

    def concatenate(self, other: "LabelledImages") -> "LabelledImages":
        """These rows, then the other's; attributes, pairs, masks and recipe that only one of them has are dropped.

        Raises:
            InputError: resolutions, or levels of an attribute that both have, differ.
        """
        if self.images.shape[1] != other.images.shape[1]:
            raise InputError(f"images: {self.images.shape[1]} and {other.images.shape[1]} channels; give the same.")
        if self.images.shape[1:] != other.images.shape[1:]:
            raise InputError(
                f"images: {self.images.shape[-1]} and {other.images.shape[-1]} pixels a side; give one resolution."
            )
        shared = [name for name in self.groups if name in other.groups]
        for name in shared:
            if self.levels[name] != other.levels[name]:
                raise InputError(f"levels[{name!r}]: {self.levels[name]} and {other.levels[name]}; give the same.")
        return LabelledImages(
            torch.cat([self.images, other.images]),
            torch.cat([self.labels, other.labels]),
            {name: torch.cat([self.groups[name], other.groups[name]]) for name in shared},
            {name: self.levels[name] for name in shared},
            np.concatenate([self.subjects, other.subjects]),
            {
                name: np.concatenate([keys, other.pairs[name]])
                for name, keys in self.pairs.items()
                if name in other.pairs
            },
            None if self.masks is None or other.masks is None else torch.cat([self.masks, other.masks]),
            self.recipe if self.recipe == other.recipe else {},
            strictest(self.access, other.access),
        )

    @property
    def fingerprint(self) -> str:
        """Identity of the rows: 16 hex digits of the sha256 of every field but recipe and access."""
        digest = hashlib.sha256()
        for one in fields(self):
            if one.name in ("recipe", "access"):
                continue
            value = getattr(self, one.name)
            parts = value if isinstance(value, Mapping) else {"": value}
            for name in sorted(parts):
                digest.update(f"{one.name}/{name}".encode())
                digest.update(_bytes(parts[name]))
        return digest.hexdigest()[:16]


def _pixels(dataset: "Dataset") -> list[np.ndarray]:
    """The images of the rows, opened by the decoders that this package lists and not by all that `datasets` would."""
    from datasets import Image

    column = dataset.select_columns(["image"])
    if not isinstance(column.features["image"], Image):
        return [np.asarray(row["image"]) for row in column]
    files = (row["image"] or {} for row in column.cast_column("image", Image(decode=False)))
    return [
        np.asarray(open_image(file.get("bytes") or Path(file.get("path") or ""), f"dataset: image {row}"))
        for row, file in enumerate(files)
    ]


def _channels_first(array: np.ndarray) -> np.ndarray:
    """An image `[H, W]`, or `[3, H, W]` of `[H, W, 3]`."""
    return np.moveaxis(array, -1, 0) if array.ndim == 3 else array


def _recipe(dataset: "Dataset") -> dict[str, str]:
    try:
        return recipe_of(dataset)
    except InputError:
        return {}


def _bytes(value: Any) -> bytes:
    if isinstance(value, Tensor):
        return value.contiguous().numpy().tobytes()
    return json.dumps(None if value is None else [str(one) for one in value]).encode()


def _check_codes(argument: str, codes: Tensor, rows: int, count: int) -> None:
    if codes.dtype != torch.int64 or tuple(codes.shape) != (rows,):
        raise InputError(
            f"{argument}: {codes.dtype} of shape {tuple(codes.shape)}; give torch.int64 of shape ({rows},), all known."
        )
    if rows and not 0 <= int(codes.min()) <= int(codes.max()) < count:
        raise InputError(f"{argument}: values {int(codes.min())} to {int(codes.max())}; allowed: 0 to {count - 1}.")


def _known(dataset: "Dataset", name: str) -> np.ndarray:
    """An encoded column as numbers; a missing value is an error, because dropping its row would be a choice."""
    values = _numbers(dataset, name)
    missing = int(_is_unknown(values).sum())
    if missing:
        raise InputError(f"dataset: {missing} rows without a value of {name!r}; filter them out first.")
    return values


def _numbers(dataset: "Dataset", name: str) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in dataset[name][:]], dtype=np.float64)


def _is_unknown(values: np.ndarray) -> np.ndarray:
    return np.isnan(values) | (values == -1)


def _groups(values: np.ndarray, name: str, preset: Preset) -> tuple[np.ndarray, tuple[str, ...]]:
    variable = preset.covariates[name]
    if variable.categorical:
        return values, variable.levels
    if name not in preset.contrasts:
        raise unknown("attributes", name, [one.name for one in preset.covariates.walk() if one.categorical])
    contrast = preset.contrasts[name]
    return values >= contrast.threshold, (contrast.first, contrast.second)


def crossed_factors(dataset: "Dataset") -> list[str]:
    """The factors that the families of a data set cross; none where its images are no counterfactuals."""
    written = set(dataset["intervention"][:])
    if None in written:
        # same-noise samples of a text-to-image pipeline are no counterfactuals of each other
        return []
    return sorted({name for text in written for name in json.loads(text)})


def _pairs(dataset: "Dataset", subjects: np.ndarray, attributes: Sequence[str]) -> dict[str, np.ndarray]:
    """Pair keys by crossed attribute: the subject and the values of every factor but the attribute."""
    factors = crossed_factors(dataset)
    columns = {name: dataset[name][:] for name in factors}
    return {
        attribute: np.array(
            [
                json.dumps([subject, *(columns[name][row] for name in factors if name != attribute)])
                for row, subject in enumerate(subjects)
            ]
        )
        for attribute in attributes
        if attribute in factors
    }


def group_codes_of(dataset: "Dataset", name: str, preset: Preset) -> tuple[np.ndarray, tuple[str, ...]]:
    """The group of each row `[n]` in an attribute, an index into its levels, -1 where unknown; and these levels."""
    values = _numbers(dataset, name)
    known = ~_is_unknown(values)
    codes, levels = _groups(np.where(known, values, 0), name, preset)
    return np.where(known, codes, -1).astype(np.int64), levels
