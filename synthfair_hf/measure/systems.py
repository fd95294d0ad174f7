"""Counterfactual systems: what is evaluated, and the two references between which every figure lies."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..domains.worlds import Counterfactuals, Table, World
from ..errors import InputError
from ..progress import progress_bar

__all__ = ["CounterfactualModel", "Identity", "Oracle", "answer"]


class CounterfactualModel(Protocol):
    """A system that is evaluated.

    `rows` number the images in the world: what a system samples for an image may depend on its row only. `do` holds one
    decoded value per image; without any the image itself is reconstructed.
    """

    name: str

    def counterfactual(
        self, image: Tensor, covariates: dict[str, list[Any]], do: dict[str, list[Any]], rows: Sequence[int]
    ) -> Counterfactuals:
        """The images and covariates under do."""
        ...


class Identity:
    """Returns the image unchanged, with the requested covariates: the worst reference."""

    name = "identity"

    def counterfactual(
        self, image: Tensor, covariates: dict[str, list[Any]], do: dict[str, list[Any]], rows: Sequence[int]
    ) -> Counterfactuals:
        """The image itself."""
        return Counterfactuals(image, {**covariates, **do})


class Oracle:
    """Returns the world's exact counterfactual: the best reference.

    In a sequence of interventions, covariates keep the values that earlier ones gave them; what the new one causes
    follows it with the observation's noise.

    Args:
        world: the images.
    """

    name = "oracle"

    def __init__(self, world: World) -> None:
        self.world = world

    def counterfactual(
        self, image: Tensor, covariates: dict[str, list[Any]], do: dict[str, list[Any]], rows: Sequence[int]
    ) -> Counterfactuals:
        """The world's exact counterfactual; InputError where it has none."""
        caused = {effect for name in do for effect in self.world.effects(name)}
        kept = {name: values for name, values in covariates.items() if name not in caused}
        truth = self.world.truth({**kept, **do}, rows)
        if truth is None:
            raise InputError(
                f"oracle: {self.world.name} knows no exact counterfactual of do({', '.join(do)}); leave it out."
            )
        return truth


def answer(
    model: CounterfactualModel,
    world: World,
    images: Tensor,
    covariates: Table,
    do: Table,
    batch_size: int = 32,
) -> Counterfactuals:
    """A system's counterfactuals of all images of the world, in batches, checked.

    Args:
        model: the system.
        world: the images' world.
        images: `[n, C, H, W]` in [0, 1].
        covariates: observed values by name, one per image.
        do: interventions by name, one value per image.
        batch_size: images per call, 1 or more.

    Raises:
        InputError: naming the system, where its images are not finite numbers in [0, 1] of the given shape, or its
            covariates not those of the world, one valid value per image and as `do` sets them.
    """
    parts: list[Counterfactuals] = []
    what = f"{model.name}: do({', '.join(do)})"
    for first in progress_bar(range(0, len(images), batch_size), desc=what, leave=False):
        batch = slice(first, min(first + batch_size, len(images)))
        requested = {name: values[batch] for name, values in do.items()}
        given = {name: values[batch] for name, values in covariates.items()}
        with torch.no_grad():
            part = model.counterfactual(images[batch], given, requested, range(batch.start, batch.stop))
        parts.append(Counterfactuals(_checked(model.name, part.images, images[batch].shape), dict(part.covariates)))
        _check_covariates(model.name, world, part.covariates, requested, batch.stop - batch.start)
    names = world.covariates.names
    return Counterfactuals(
        torch.cat([part.images for part in parts]),
        {name: [value for part in parts for value in part.covariates[name]] for name in names},
    )


def _checked(system: str, images: Tensor, shape: torch.Size) -> Tensor:
    if images.shape != shape:
        raise InputError(
            f"{system}: returned images of shape {list(images.shape)}; must be {list(shape)}, as the images given."
        )
    bad = ~torch.isfinite(images)
    if bad.any():
        raise InputError(f"{system}: {int(bad.sum())} pixels are not finite; images must be in [0, 1].")
    if images.min() < 0 or images.max() > 1:
        raise InputError(f"{system}: pixels in [{images.min():g}, {images.max():g}]; images must be in [0, 1].")
    return images.detach().cpu().float()


def _check_covariates(system: str, world: World, table: Table, do: Table, rows: int) -> None:
    try:
        encoded = world.covariates.encode(table, "covariates")
        requested = {name: world.covariates[name].encode(values) for name, values in do.items()}
    except InputError as error:
        raise InputError(f"{system}: {error}") from None
    for name, column in encoded.items():
        known = np.sum(column >= 0 if world.covariates[name].categorical else np.isfinite(column))
        if len(column) != rows or known != rows:
            raise InputError(f"{system}: {known} known values of {name} for {rows} images; return one for each.")
    for name, column in requested.items():
        if not np.allclose(encoded[name], column, rtol=1e-5):
            raise InputError(
                f"{system}: {name} is not the value of do({name}); return the covariates after the intervention."
            )
