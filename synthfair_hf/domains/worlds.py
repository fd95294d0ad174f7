"""Worlds to measure in: observations, their covariates, and the exact counterfactual under do() wherever one is known.

phantom        procedural radiographs, exact for every do(); so are dermatology_phantom, in colours, and
               brain_mri_phantom
acquisition    real radiographs on planted scanners, exact for do(scanner)
morphomnist    digits, exact for do(thickness) and do(intensity), both of which can be measured in an image
observed       real images of any domain, of which no counterfactual is known
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..arguments import Count, Seed, checked
from ..causal.graph import CausalGraph
from ..errors import InputError, unknown
from ..records import Access, row_generator
from ..schema import SPLITS, Schema
from .brain_mri.phantom import BRAIN_PHANTOM, BrainPhantom
from .chest_xray.preset import CHEST_XRAY
from .chest_xray.scanners import AcquisitionWorld
from .dermatology.phantom import SKIN_PHANTOM, SkinPhantom
from .drawn import DrawnSource, DrawnWorld
from .imagefolder import ImageFolder
from .images import to_batch
from .joined import JoinedFolders, JoinedSource, SourceFolder
from .morphomnist.preset import MORPHOMNIST
from .morphomnist.source import MorphoMNIST
from .morphomnist.world import MEASURED_ATTRIBUTES, MorphoMNISTWorld
from .phantom.phantom import SUBJECTS, Exogenous, Phantom, PhantomSource, sample_noise
from .phantom.preset import PHANTOM
from .preset import Preset
from .registry import WORLD_SEED, open_images, open_joined, open_source
from .source import Source, access_to, totals

__all__ = [
    "WORLDS",
    "Counterfactuals",
    "DigitWorld",
    "Listing",
    "ObservedWorld",
    "PhantomWorld",
    "ScannerWorld",
    "SubjectWorld",
    "Table",
    "World",
    "confounded_scanners",
    "open_world",
]


Table = Mapping[str, list[Any]]
"""Columns of decoded values by name."""


class Counterfactuals(NamedTuple):
    """The images and covariates that one intervention per row makes."""

    images: Tensor
    """float32 `[B, C, H, W]` in [0, 1]."""
    covariates: dict[str, list[Any]]
    """Decoded values of every covariate after the intervention."""


class Listing(NamedTuple):
    """All images of a split whose covariates are known, a patient's second and those beyond a limit among them."""

    covariates: dict[str, list[Any]]
    """Decoded, none missing."""
    groups: list[str]
    """Their patients."""
    file_names: list[str]
    """Their files, below their folder; empty where they are drawn."""


class World(Protocol):
    """Observations of one split and what is known about them. Values are decoded, and none is missing."""

    name: str
    covariates: Schema
    resolution: int
    """Height and width of the images in pixels."""
    table: dict[str, list[Any]]
    """Their covariates."""
    groups: list[str]
    """Unit of resampling: the patient, or the image itself."""
    training: dict[str, list[Any]]
    """Values of every covariate in the training split: the marginals that interventions are drawn from."""
    measured_attributes: dict[str, Callable[[Tensor], np.ndarray]]
    """What measures a continuous attribute in images without learning, values `[n]` in its unit; may be empty."""
    augmented_copies: int
    """Augmented examples of each training image among `training_images`."""
    listing: Listing
    """All images of the split, of which `images` are some."""

    @property
    def images(self) -> Tensor:
        """float32 `[n, C, H, W]` in [0, 1]: the observations, drawn or read when they are first needed."""
        ...

    @property
    def source_counts(self) -> dict[str, Any]:
        """What was read of the data behind the world, and what is missing in it (`source.totals`)."""
        ...

    @property
    def fingerprint(self) -> str:
        """Identity of the data behind the world."""
        ...

    def effects(self, name: str) -> tuple[str, ...]:
        """What `name` causes, directly or not."""
        ...

    def read(self, places: Sequence[int]) -> Tensor:
        """Images of the listing, `[n, C, H, W]` in [0, 1].

        Args:
            places: in the listing.
        """
        ...

    def training_images(self) -> Tensor:
        """Images of the training split, and their augmented examples where training augments, `[m, C, H, W]`."""
        ...

    def truth(self, do: Table, rows: Sequence[int] | None = None) -> Counterfactuals | None:
        """The exact counterfactual of all images, or of `rows`; None where the world has none.

        Args:
            do: decoded values by covariate, one for each requested row; an empty one gives the observations. Setting a
                variable to the value it has changes nothing, so that the counterfactual is known.
            rows: places among the observations; all by default.

        Raises:
            InputError: an unknown covariate, a value that it cannot have, or another number of values than of rows.
        """
        ...


class _ObservedRows:
    """The part of a world that is data: rows of a source, with the graph of a preset."""

    augmented_copies = 0
    """Augmented examples of each training image to compare with; none where training does not augment."""

    def __init__(
        self,
        name: str,
        source: Source,
        preset: Preset,
        split: str,
        limit: int | None,
        resolution: int,
        one_per_patient: bool = True,
    ) -> None:
        self.name, self.covariates = name, preset.covariates
        self._observed, self.resolution = source, resolution
        self.measured_attributes: dict[str, Callable[[Tensor], np.ndarray]] = {}
        self._graph = CausalGraph(self.covariates.names, preset.edges)
        names = self.covariates.names
        complete = [row for row in range(len(source)) if all(source.table[one][row] is not None for one in names)]
        rows = [row for row in complete if source.splits[row] == split]
        # Folders are often sorted by finding; the hash makes any limit, and a patient's one image, a fair choice.
        rows.sort(key=lambda row: hashlib.sha256(f"{source.patient_ids[row]} {row}".encode()).digest())
        self._listed, names_of_files = rows, getattr(source, "file_names", ())
        self.listing = Listing(
            {one: [source.table[one][row] for row in rows] for one in names},
            [source.patient_ids[row] for row in rows],
            [names_of_files[row] for row in rows] if names_of_files else [],
        )
        if one_per_patient:
            first: dict[str, int] = {}
            for row in rows:
                first.setdefault(source.patient_ids[row], row)
            rows = list(first.values())
        self.kept = rows[:limit]
        """Rows of the source that are scored; those that miss a covariate are not among them."""
        training = [row for row in complete if source.splits[row] == "train"]
        if not self.kept or not training:
            raise InputError(
                f"{name}: {len(self.kept)} images to score in split {split!r} and {len(training)} in 'train' with all "
                f"of {', '.join(names)} known; needed: one or more in each."
            )
        self.table = {one: [source.table[one][row] for row in self.kept] for one in names}
        self.groups = [source.patient_ids[row] for row in self.kept]
        self.training = {one: [source.table[one][row] for row in training] for one in names}

    def effects(self, name: str) -> tuple[str, ...]:
        """What `name` causes, directly or not, in the schema's order."""
        self.covariates[name]
        caused = self._graph.descendants([name])
        return tuple(other for other in self.covariates.names if other in caused)

    @property
    def source_counts(self) -> dict[str, Any]:
        """Of the whole source."""
        return totals(self._observed.counts)

    @property
    def access(self) -> Access:
        """That of the source's data set by itself."""
        return access_to(self._observed, "open")

    @property
    def fingerprint(self) -> str:
        """That of the source."""
        return self._observed.fingerprint

    def read(self, places: Sequence[int]) -> Tensor:
        """As the source has them."""
        images = [self._observed.image(self._listed[place], self.resolution) for place in places]
        return torch.from_numpy(to_batch(images))

    def training_images(self) -> Tensor:
        """Images of the training split, then `augmented_copies` of each, as used in training: `[m, C, H, W]`.

        Images without known covariates are among them.
        """
        rows = [row for row, split in enumerate(self._observed.splits) if split == "train"]
        images = [self._observed.image(row, self.resolution) for row in rows]
        for draw in range(self.augmented_copies):
            rngs = {row: row_generator(draw, row) for row in rows}
            images += [self._observed.draw(row, self.resolution, rng)[0] for row, rng in rngs.items()]
        return torch.from_numpy(to_batch(images))

    def requested_rows(self, do: Table, rows: Sequence[int] | None) -> list[int]:
        """The rows that are requested, all by default, after checking that do has a valid value for each."""
        wanted = list(range(len(self.kept)) if rows is None else rows)
        for name, values in do.items():
            if name not in self.covariates:
                raise unknown("do", name, self.covariates.names)
            if len(values) != len(wanted):
                raise InputError(f"do[{name!r}]: {len(values)} values for {len(wanted)} images; give one for each.")
            self.covariates[name].encode(values, f"do[{name!r}]", known=True)
        return wanted


class PhantomWorld(_ObservedRows):
    """Subjects of the procedural thorax: those of `split` among the first `num_subjects` of `seed`.

    Args:
        split: train, validation or test.
        limit: images at most; all if None.
        seed: of the world.
        num_subjects: subjects over all splits.
        resolution: height and width in pixels, 16 to 1024.

    Raises:
        InputError: no subject in the split.
    """

    def __init__(
        self, split: str, limit: int | None, seed: int, num_subjects: int, resolution: int = PHANTOM.resolution
    ) -> None:
        super().__init__("phantom", PhantomSource(num_subjects, seed), PHANTOM, split, limit, resolution)
        self._phantom, self._seed = Phantom(), seed

    @cached_property
    def _noise(self) -> Exogenous:
        """The noise of the subjects kept."""
        subjects = [sample_noise(1, self._seed, row) for row in self.kept]
        return Exogenous(
            {one: np.concatenate([subject.covariates[one] for subject in subjects]) for one in self.covariates.names},
            *(
                np.concatenate([getattr(subject, part) for subject in subjects])
                for part in ("anatomy", "texture", "grain")
            ),
        )

    @cached_property
    def images(self) -> Tensor:
        """The subjects' radiographs."""
        return self.truth({}).images

    def truth(self, do: Table, rows: Sequence[int] | None = None) -> Counterfactuals:
        """The same subjects, rendered anew."""
        noise = self._noise[self.requested_rows(do, rows)]
        images, encoded = self._phantom.counterfactual(noise, do, self.resolution)
        return Counterfactuals(torch.from_numpy(images)[:, None], self.covariates.decode(encoded))


class SubjectWorld(_ObservedRows):
    """Subjects of a world that draws them one by one: those of `split` among the first `num_subjects` of `seed`.

    Args:
        world: draws them.
        split: train, validation or test.
        limit: images at most; all if None.
        seed: of the world.
        num_subjects: subjects over all splits.
        resolution: height and width in pixels, 16 to 1024.

    Raises:
        InputError: no subject in the split.
    """

    def __init__(
        self, world: DrawnWorld, split: str, limit: int | None, seed: int, num_subjects: int, resolution: int
    ) -> None:
        source, preset = DrawnSource(world, num_subjects, seed), world.preset
        super().__init__(preset.name, source, preset, split, limit, resolution)
        self._world, self._source = world, source

    @cached_property
    def images(self) -> Tensor:
        """The subjects' images."""
        return self.truth({}).images

    def truth(self, do: Table, rows: Sequence[int] | None = None) -> Counterfactuals:
        """The same subjects, drawn anew."""
        wanted, answers = self.requested_rows(do, rows), []
        for place, row in enumerate(wanted):
            noise = self._source.noise(self.kept[row])
            answers.append(self._world.counterfactual(noise, {name: [do[name][place]] for name in do}, self.resolution))
        images, covariates = zip(*answers, strict=True)
        encoded = {name: np.concatenate([one[name] for one in covariates]) for name in self.covariates.names}
        drawn = torch.from_numpy(to_batch([one[0] for one in images]))
        return Counterfactuals(drawn, self.covariates.decode(encoded))


class ScannerWorld(_ObservedRows):
    """Real radiographs of a split on planted scanners, every covariate known, by default one of each patient.

    With `confounding` above 0 the scanners of the scored radiographs follow `confounded_scanners` instead of the view
    alone.

    Args:
        source: radiographs on planted scanners.
        preset: the domain.
        split: train, validation or test.
        limit: images at most; all if None.
        one_per_patient: keep one image of each patient.
        confounding: strength in [0, 1] of the correlation between scanner and finding.
        seed: decides which scanners are confounded.
        resolution: height and width in pixels.

    Raises:
        InputError: no image of the split, or of train, with every covariate known.
    """

    augmented_copies = 8

    def __init__(
        self,
        source: AcquisitionWorld,
        preset: Preset,
        split: str,
        limit: int | None,
        one_per_patient: bool = True,
        confounding: float = 0.0,
        seed: int = 0,
        resolution: int = CHEST_XRAY.resolution,
    ) -> None:
        preset = preset.observed_in(source.covariates)
        super().__init__("acquisition", source, preset, split, limit, resolution, one_per_patient)
        self._source = source
        if confounding:
            self.table["scanner"] = confounded_scanners(self.table, preset, self.kept, confounding, seed)

    @cached_property
    def images(self) -> Tensor:
        """The radiographs, each on its scanner."""
        return self._radiographs(range(len(self.kept)), self.table["scanner"])

    def truth(self, do: Table, rows: Sequence[int] | None = None) -> Counterfactuals | None:
        """The same radiographs on other scanners; None where do changes anything else."""
        wanted = self.requested_rows(do, rows)
        observed = {name: [column[row] for row in wanted] for name, column in self.table.items()}
        if any(list(values) != observed[name] for name, values in do.items() if name != "scanner"):
            return None
        observed["scanner"] = list(do.get("scanner", observed["scanner"]))
        return Counterfactuals(self._radiographs(wanted, observed["scanner"]), observed)

    def _radiographs(self, rows: Iterable[int], scanners: Sequence[str]) -> Tensor:
        images = [
            self._source.counterfactual(self.kept[row], scanner, self.resolution)
            for row, scanner in zip(rows, scanners, strict=True)
        ]
        return torch.from_numpy(np.stack(images))[:, None]


class DigitWorld(_ObservedRows):
    """MorphoMNIST: digits of a split, and of the test split the originals they were drawn from.

    Args:
        source: the digits.
        split: train, validation or test.
        limit: images at most; all if None.

    Raises:
        InputError: no image in the split.
    """

    def __init__(self, source: MorphoMNIST, split: str, limit: int | None) -> None:
        super().__init__("morphomnist", source, MORPHOMNIST, split, limit, MORPHOMNIST.resolution)
        self.measured_attributes |= MEASURED_ATTRIBUTES
        self._drawn = None
        if split == "test":
            self._drawn = MorphoMNISTWorld(np.stack([source.original(row) for row in self.kept]), self.table)

    @cached_property
    def images(self) -> Tensor:
        """The digits as they are stored."""
        return torch.from_numpy(np.stack([self._observed.image(row, self.resolution) for row in self.kept]))[:, None]

    def truth(self, do: Table, rows: Sequence[int] | None = None) -> Counterfactuals | None:
        """The same originals drawn anew; None where do changes the digit, or without originals.

        Where do changes nothing it is the observation itself, which the renderer meets to 0.3 grey levels only.
        """
        wanted = self.requested_rows(do, rows)
        observed = {name: [column[row] for row in wanted] for name, column in self.table.items()}
        changed = {name for name, values in do.items() if list(values) != observed[name]}
        if not changed:
            return Counterfactuals(self.images[wanted], observed)
        if self._drawn is None or "digit" in changed:
            return None
        drawn, covariates = self._drawn.counterfactual(do, wanted)
        images = torch.from_numpy(drawn)[:, None]
        for place, row in enumerate(wanted):
            if all(covariates[name][place] == observed[name][place] for name in covariates):
                images[place] = self.images[row]
        return Counterfactuals(images, covariates)


class ObservedWorld(_ObservedRows):
    """Images of a split as they are, every covariate known, one of each patient: no counterfactual of them is known.

    Args:
        source: the images.
        preset: the domain, with the covariates that the source has.
        split: train, validation or test.
        limit: images at most; all if None.
        resolution: height and width in pixels.

    Raises:
        InputError: no image of the split, or of train, with every covariate known.
    """

    augmented_copies = 8

    def __init__(self, source: Source, preset: Preset, split: str, limit: int | None, resolution: int) -> None:
        preset = preset.restrict(source.covariates.names)
        super().__init__("observed", source, preset, split, limit, resolution)

    @cached_property
    def images(self) -> Tensor:
        """The images as they are read."""
        return torch.from_numpy(to_batch([self._observed.image(row, self.resolution) for row in self.kept]))

    def truth(self, do: Table, rows: Sequence[int] | None = None) -> Counterfactuals | None:
        """The observation itself where do changes nothing, else None."""
        wanted = self.requested_rows(do, rows)
        observed = {name: [column[row] for row in wanted] for name, column in self.table.items()}
        if any(list(values) != observed[name] for name, values in do.items()):
            return None
        return Counterfactuals(self.images[wanted], observed)


def confounded_scanners(table: Table, preset: Preset, indices: Sequence[int], strength: float, seed: int) -> list[str]:
    """Scanners correlated with the finding: with probability `strength` the finding's own, else that in the table.

        scanner := partner(finding) if u < strength else table["scanner"],    u ~ U(0, 1) from (seed, index)

    Partners are the sides of the preset's contrasts: pneumonia with portable, no_finding with flatpanel. The noise of a
    image is unchanged, so do(scanner) stays exact, and a higher strength changes a superset of images.

    Args:
        table: decoded columns `finding` and `scanner`, of n images.
        preset: has contrasts of both.
        indices: of the n images in their source.
        strength: 0 to 1.
        seed: decides with the index which scanners change.

    Raises:
        InputError: a strength out of range.
    """
    if not 0 <= strength <= 1:
        raise InputError(f"strength: {strength:g} is out of range; allowed: 0 to 1.")
    finding, scanner = preset.contrasts["finding"], preset.contrasts["scanner"]
    partner = {finding.first: scanner.first, finding.second: scanner.second}
    return [
        partner.get(found, own) if row_generator(seed, index).random() < strength else own
        for found, own, index in zip(table["finding"], table["scanner"], indices, strict=True)
    ]


Directory = SourceFolder | None


def _open_phantom(
    preset: Preset, split: str, limit: int | None, seed: int, directory: Directory, resolution: int
) -> World:
    return PhantomWorld(split, limit, seed, SUBJECTS, resolution)


def _open_subjects(
    world: DrawnWorld,
    preset: Preset,
    split: str,
    limit: int | None,
    seed: int,
    directory: Directory,
    resolution: int,
) -> World:
    return SubjectWorld(world, split, limit, seed, SUBJECTS, resolution)


def _open_acquisition(
    preset: Preset, split: str, limit: int | None, seed: int, directory: Directory, resolution: int
) -> World:
    if directory is None:
        raise InputError(
            "source_dir: the acquisition world needs a folder of radiographs with a metadata.csv; give one."
        )

    def planted(radiographs: ImageFolder) -> ScannerWorld:
        return ScannerWorld(AcquisitionWorld(radiographs, seed), preset, split, limit, resolution=resolution)

    if isinstance(directory, JoinedFolders):

        def several(joined: JoinedSource) -> ScannerWorld:
            source = AcquisitionWorld(joined, seed, joined.domain)
            return ScannerWorld(source, joined.domain, split, limit, resolution=resolution)

        return several(open_joined(directory, preset, resolution, several))
    # whether there is anything to score is told by the table, before its images are read
    return planted(open_images(directory, preset, resolution, planted))


def _open_morphomnist(
    preset: Preset, split: str, limit: int | None, seed: int, directory: Directory, resolution: int
) -> World:
    if directory is None:
        raise InputError("source_dir: the morphomnist world needs a folder with train.npz and test.npz; give one.")
    if isinstance(directory, JoinedFolders):
        raise InputError(f"source_dir: {directory} are several; the morphomnist world needs one folder.")
    return DigitWorld(MorphoMNIST(Path(directory), preset, resolution), split, limit)


def _open_observed(
    preset: Preset, split: str, limit: int | None, seed: int, directory: Directory, resolution: int
) -> World:
    def observed(source: Source) -> ObservedWorld:
        return ObservedWorld(source, preset, split, limit, resolution)

    if directory is None:
        raise InputError("source_dir: the observed world needs a folder of images; give one.")
    return observed(open_source(directory, preset, resolution, check=observed))


WORLDS: dict[str, tuple[Preset | None, Callable[[Preset, str, int | None, int, Directory, int], World]]] = {
    "phantom": (PHANTOM, _open_phantom),
    "acquisition": (CHEST_XRAY, _open_acquisition),
    "morphomnist": (MORPHOMNIST, _open_morphomnist),
    "dermatology_phantom": (SKIN_PHANTOM, partial(_open_subjects, SkinPhantom())),
    "brain_mri_phantom": (BRAIN_PHANTOM, partial(_open_subjects, BrainPhantom())),
    "observed": (None, _open_observed),
}
"""By name, the domain of a world, None where it may be any, and what opens it."""


@checked
def open_world(
    name: str,
    split: str,
    limit: Count | None = None,
    seed: Seed = WORLD_SEED,
    directory: SourceFolder | None = None,
    resolution: int | None = None,
    preset: Preset = CHEST_XRAY,
) -> World:
    """A world by name, none of whose images is drawn yet.

    Args:
        name: a name in WORLDS.
        split: train, validation or test.
        limit: images at most, 1 or more; all by default.
        seed: draws the phantom's subjects, or plants the scanners.
        directory: holds the real images of the other worlds; None for the phantom.
        resolution: height and width in pixels; the domain's own by default.
        preset: the domain of the observed world, chest_xray by default; the other worlds have their own.

    Raises:
        InputError: an unknown name or split, a limit below 1, or a directory that is missing or holds something else.
    """
    if name not in WORLDS:
        raise unknown("world", name, WORLDS)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if limit is not None and limit < 1:
        raise InputError(f"limit: {limit} must be positive, or None for all images.")
    own, opened = WORLDS[name]
    preset = own or preset
    return opened(preset, split, limit, seed, directory, preset.resolution if resolution is None else resolution)
