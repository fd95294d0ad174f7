"""The phantom: a world of procedural chest radiographs in which every counterfactual is known exactly.

    age      := 18 + 77 sigmoid(0.15 + 0.9 e)                                              years
    habitus  := 15 + 30 sigmoid(-0.55 - 0.35 t^2 + 0.15 t + 0.12 female + 0.55 e)          kg/m2
    sex, race, finding, view, scanner := argmax_k (logit_k(parents) + g_k)
    image    := acquire(radiograph(measure(age, sex, race, habitus, view, a), finding, a, b), scanner, c)

with t = (age - 50) / 20 and, all independent and kept in `Exogenous`, e ~ N(0, 1), g_k ~ Gumbel(0, 1), anatomical
noise a, texture b and grain c ~ N(0, 1). So do(x) with the noise held is the exact counterfactual: covariates that
x does not cause, and what they draw, stay bit-equal. `LOGITS` holds the logits, `anatomy` measures, `thorax` draws and
`scanners` record. Numbers are assumptions of a toy world, chosen to be findable; none is a claim about people.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import InputError
from ...records import row_generator
from ...schema import Schema
from ..chest_xray import scanners
from ..drawn import RESOLUTIONS, DrawnSource, Equations, grain_on
from ..preset import Preset
from . import anatomy, thorax
from .preset import PHANTOM

__all__ = [
    "EQUATIONS_VERSION",
    "LOGITS",
    "LOGIT_NORMAL",
    "SUBJECTS",
    "Exogenous",
    "Phantom",
    "PhantomSource",
    "equations",
    "sample_noise",
]

EQUATIONS_VERSION = 1
"""Version of the phantom (this module, `anatomy` and `thorax`): raise it by one whenever a change moves a covariate or
a pixel of any subject. Changed words, names and places of code are no reason to. The scanners have a version of their
own, `scanners.EQUATIONS_VERSION`; where it is raised, `equations` gives another phantom as well."""

Parents = Mapping[str, np.ndarray]

GRAIN = 128
"""Side of the stored field of grain; images of other sizes resample it to unit variance."""

PARTS = ("anatomy", "texture", "grain")
"""Of the noise, what the image is drawn from."""

_BATCH = 8  # radiographs drawn at once: their maps still fit the processor's cache


def _decades(parents: Parents) -> np.ndarray:
    return (parents["age"].astype(np.float64) - 50) / 20


def _is(parents: Parents, name: str, level: str) -> np.ndarray:
    return (parents[name] == PHANTOM.covariates[name].levels.index(level)).astype(np.float64)


def _scanner_logit(scanner: str) -> Callable[[Parents], Any]:
    shares = {view: share[scanner] for view, share in scanners.SCANNER_GIVEN_VIEW.items()}
    return lambda parents: sum(_is(parents, "view", view) * np.log(share) for view, share in shares.items())


LOGIT_NORMAL: dict[str, tuple[float, float, Callable[[Parents], Any], float]] = {
    "age": (18, 77, lambda parents: 0.15, 0.9),
    "habitus": (
        15,
        30,
        lambda parents: (
            -0.55 - 0.35 * _decades(parents) ** 2 + 0.15 * _decades(parents) + 0.12 * _is(parents, "sex", "female")
        ),
        0.55,
    ),
}
"""value := low + span * sigmoid(location(parents) + scale * e)"""

LOGITS: dict[str, dict[str, Callable[[Parents], Any]]] = {
    "sex": {"male": lambda parents: 0.0, "female": lambda parents: -0.08},
    "race": {
        "white": lambda parents: np.log(0.60),
        "black": lambda parents: np.log(0.25),
        "asian": lambda parents: np.log(0.15),
    },
    "finding": {
        "no_finding": lambda parents: 1.2,
        "pneumonia": lambda parents: (
            0.3 * _decades(parents) - 0.2 * _is(parents, "sex", "female") + 0.3 * _is(parents, "race", "black")
        ),
        "effusion": lambda parents: -0.8 + 0.7 * _decades(parents) - 0.1 * _is(parents, "sex", "female"),
    },
    "view": {
        "PA": lambda parents: 0.0,
        "AP": lambda parents: -1.0 + 0.6 * _decades(parents) + 1.1 * (1 - _is(parents, "finding", "no_finding")),
    },
    "scanner": {scanner: _scanner_logit(scanner) for scanner in PHANTOM.covariates["scanner"].levels},
}
"""level := argmax over levels of (logit(parents) + g)"""


@dataclass(frozen=True)
class Exogenous:
    """All randomness of n subjects, float32, everything else being an equation.

    covariates: by name, `[n, 1]` standard normal or `[n, levels]` Gumbel; anatomy: `[n, len(anatomy.ANATOMY)]`;
    texture: `[n, *thorax.TEXTURE_SHAPE]`; grain: `[n, GRAIN, GRAIN]`, these three standard normal.
    """

    covariates: dict[str, np.ndarray]
    anatomy: np.ndarray
    texture: np.ndarray
    grain: np.ndarray

    def __len__(self) -> int:
        return len(self.anatomy)

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray) -> "Exogenous":
        covariates = {name: values[rows] for name, values in self.covariates.items()}
        return Exogenous(covariates, self.anatomy[rows], self.texture[rows], self.grain[rows])


def sample_noise(n: int, seed: int, first: int = 0) -> Exogenous:
    """The noise of subjects first ... first + n - 1; that of subject i is a function of (seed, i) alone.

    Args:
        n: number of subjects.
        seed: of the world; all three are 0 or more.
        first: the first subject.

    Raises:
        InputError: a negative number.
    """
    if min(n, seed, first) < 0:
        raise InputError(f"n, seed, first: {n}, {seed}, {first} must not be negative; give integers from 0.")
    schema = PHANTOM.covariates
    noise = Exogenous(
        {v.name: np.empty((n, len(v.levels) if v.categorical else 1), np.float32) for v in schema.walk()},
        np.empty((n, len(anatomy.ANATOMY)), np.float32),
        np.empty((n, *thorax.TEXTURE_SHAPE), np.float32),
        np.empty((n, GRAIN, GRAIN), np.float32),
    )
    for row in range(n):
        rng = row_generator(seed, first + row)
        for variable in schema.walk():
            values = noise.covariates[variable.name][row]
            values[:] = rng.gumbel(size=values.size) if variable.categorical else rng.standard_normal(values.size)
        for field in (noise.anatomy, noise.texture, noise.grain):
            rng.standard_normal(dtype=np.float32, out=field[row])
    return noise


class Phantom:
    """The world: structural equations of the covariates of the `phantom` preset and of the radiograph."""

    preset: Preset = PHANTOM
    structure = Equations(PHANTOM, LOGIT_NORMAL, LOGITS)
    schema: Schema = PHANTOM.covariates

    def covariates(self, noise: Exogenous, do: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Encoded covariates `[n]` by name, under do(...) if given (`drawn.Equations.covariates`)."""
        return self.structure.covariates(noise.covariates, do)

    def sample_noise(self, n: int, seed: int, first: int = 0) -> Exogenous:
        """The noise of subjects first ... first + n - 1, as `sample_noise` draws it."""
        return sample_noise(n, seed, first)

    def equations(self) -> list[str]:
        """Identity of the world."""
        return equations()

    def render(self, covariates: Mapping[str, np.ndarray], noise: Exogenous, resolution: int) -> np.ndarray:
        """The radiographs `[n, resolution, resolution]`, float32 in [0, 1], of encoded covariates `[n]`.

        Args:
            covariates: encoded `[n]` by name, none missing.
            noise: of n subjects.
            resolution: height and width in pixels, 16 to 1024.

        Raises:
            InputError: a resolution out of range, or a missing value.
        """
        return self.acquire(self.expose(covariates, noise, resolution), covariates["scanner"], noise)

    def expose(self, covariates: Mapping[str, np.ndarray], noise: Exogenous, resolution: int) -> np.ndarray:
        """What reaches the detector, `[n, resolution, resolution]`: radiographs before any scanner.

        Args:
            covariates: encoded `[n]` by name, none missing.
            noise: of n subjects.
            resolution: height and width in pixels, 16 to 1024.

        Raises:
            InputError: a resolution out of range, or a missing value.
        """
        images = np.empty((len(noise), resolution, resolution), np.float32)
        for rows, chest, air in self._chests(covariates, noise, resolution):
            images[rows] = chest.develop(air * (1 - self._displaced(chest, covariates["finding"][rows])), resolution)
        return images

    def acquire(self, images: np.ndarray, scanner: np.ndarray, noise: Exogenous) -> np.ndarray:
        """Exposed radiographs `[n, H, W]` as the scanners of codes `[n]` record them, each with its subject's grain.

        Args:
            images: float32 `[n, H, W]` in [0, 1], as `expose` gives them.
            scanner: level indices `[n]`.
            noise: of n subjects.

        Returns:
            float32 `[n, H, W]` in [0, 1].
        """
        recorded, grain = np.empty_like(images), grain_on(noise.grain, images.shape[-1])
        for code, name in enumerate(self.schema["scanner"].levels):
            rows = scanner == code
            if rows.any():
                recorded[rows] = scanners.acquire(images[rows], name, grain[rows])
        return recorded

    def lesion_mask(self, covariates: Mapping[str, np.ndarray], noise: Exogenous, resolution: int) -> np.ndarray:
        """Where the finding replaces air in the lungs, bool `[n, resolution, resolution]`.

        Elsewhere a change of finding moves no pixel, except within the reach of the scanner's blur.

        Args:
            covariates: encoded `[n]` by name, none missing.
            noise: of n subjects.
            resolution: height and width in pixels, 16 to 1024.

        Raises:
            InputError: a resolution out of range, or a missing value.
        """
        mask = np.empty((len(noise), resolution, resolution), bool)
        for rows, chest, air in self._chests(covariates, noise, resolution):
            ratio = chest.grid // resolution
            changed = air * self._displaced(chest, covariates["finding"][rows]) > 0
            mask[rows] = changed.reshape(-1, resolution, ratio, resolution, ratio).any(axis=(2, 4))
        return mask

    def counterfactual(
        self, noise: Exogenous, do: Mapping[str, Any], resolution: int
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Radiographs and covariates of the same subjects under do(...); with do = {} the observation itself.

        Args:
            noise: of n subjects.
            do: as in `covariates`.
            resolution: height and width in pixels, 16 to 1024.

        Returns:
            Images float32 `[n, resolution, resolution]` in [0, 1], and encoded covariates `[n]` by name.

        Raises:
            InputError: as in `covariates`, and for a resolution out of range.
        """
        covariates = self.covariates(noise, do)
        return self.render(covariates, noise, resolution), covariates

    def members(self, covariates: Mapping[str, np.ndarray], keys: Sequence[int], resolution: int) -> np.ndarray:
        """Images under encoded covariates `[n]`, of subjects whose noise of the image is that of seed `keys[i]`.

        Rows that differ in the scanner alone share one exposure, which is most of the work.
        """
        unique, place = np.unique(np.array(keys), return_inverse=True)
        drawn = [sample_noise(1, key) for key in unique.tolist()]
        subjects = Exogenous({}, *(np.concatenate([getattr(one, part) for one in drawn]) for part in PARTS))
        others = [values for name, values in covariates.items() if name != "scanner"]
        _, row, exposure = np.unique(np.stack([place, *others], axis=1), axis=0, return_index=True, return_inverse=True)
        exposed = self.expose(
            {name: values[row] for name, values in covariates.items()}, subjects[place[row]], resolution
        )
        return self.acquire(exposed[exposure], covariates["scanner"], subjects[place])

    def _chests(
        self, covariates: Mapping[str, np.ndarray], noise: Exogenous, resolution: int
    ) -> Iterator[tuple[slice, thorax.Thorax, np.ndarray]]:
        """For each batch of rows: (rows, chest, depth of air in its lungs before any finding)."""
        low, high = RESOLUTIONS
        if not low <= resolution <= high:
            raise InputError(f"resolution: {resolution} is out of range; allowed: {low} to {high} pixels.")
        for name in self.schema.names:
            values = covariates[name]
            if len(values) != len(noise) or not np.all(values >= 0):
                raise InputError(
                    f"covariates[{name!r}]: {len(values)} values with {np.sum(~(values >= 0))} missing for "
                    f"{len(noise)} subjects; give one known value per subject."
                )
        density = np.array([anatomy.BONE_DENSITY[race] for race in self.schema["race"].levels])[covariates["race"]]
        causes = {
            "age": covariates["age"],
            "female": _is(covariates, "sex", "female"),
            "ap": _is(covariates, "view", "AP"),
            "habitus": covariates["habitus"],
        }
        # Radiographs are drawn on a grid that resolves fine structures, then averaged down to the detector's pixels.
        grid = resolution * -(-GRAIN // resolution)
        for start in range(0, len(noise), _BATCH):
            rows = slice(start, start + _BATCH)
            variation = dict(zip(anatomy.ANATOMY, noise.anatomy[rows].T, strict=True))
            body = anatomy.measure({name: values[rows] for name, values in causes.items()}, density[rows], variation)
            chest = thorax.Thorax(body, variation, noise.texture[rows], grid)
            yield rows, chest, chest.lung_air()

    def _displaced(self, chest: thorax.Thorax, finding: np.ndarray) -> np.ndarray:
        """Share of the lungs' air that the finding of each row replaces `[B, grid, grid]`."""
        parents = {"finding": finding[:, None, None]}
        share = np.zeros((1, 1, 1), np.float32)
        for name, lesion in (("pneumonia", chest.pneumonia), ("effusion", chest.effusion)):
            present = _is(parents, "finding", name).astype(np.float32)
            if present.any():
                share = share + present * lesion()
        return share


SUBJECTS = 20_000
"""Subjects of the phantom that training and measuring share: about 14,000 in train, 3,000 each held out."""


def equations() -> list[str]:
    """Identity of the world, by the declared versions of the phantom and of the scanners that it depends on."""
    # Records made before versions were declared hold the sha256 that phantom.py, anatomy.py and thorax.py had then.
    # They name version 1, so that these records stay equal to what is computed today.
    first = [
        "51d648ad9227b5ff5fc863b8494edd4e150019a6a198c0dc9d7ccd155ff8e2d9",
        "2ffcc57cd05c23c87cc780f32ebf0aa6a7e602b4d54b09e41eb7470ed4f147d6",
        "7ac61b93a48d83b43853b34f08235b68601a555e8c9bbb23722447604705e0af",
    ]
    own = first if EQUATIONS_VERSION == 1 else [f"phantom equations {EQUATIONS_VERSION}"]
    return [*own, scanners.equations()]


class PhantomSource(DrawnSource):
    """Subjects 0 ... num_subjects - 1 of the phantom of a seed (`drawn.DrawnSource`).

    Args:
        num_subjects: 1 or more.
        seed: of the world, 0 or more.

    Raises:
        InputError: fewer than one subject.
    """

    covariates: Schema = PHANTOM.covariates

    def __init__(self, num_subjects: int, seed: int) -> None:
        super().__init__(Phantom(), num_subjects, seed)

    def lesion_mask(self, index: int, resolution: int) -> np.ndarray:
        """Where the subject's finding replaces air in the lungs, bool `[resolution, resolution]`."""
        noise = self.noise(index)
        mask: np.ndarray = self.world.lesion_mask(self.world.covariates(noise), noise, resolution)[0]
        return mask
