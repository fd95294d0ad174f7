"""Where a pipeline computes, and in which precision.

    pipe.to("cuda", torch.bfloat16)       networks in half precision; causal model and states of the solver in float32
    pipe.enable_model_cpu_offload()       networks on the device one at a time
    pipe.enable_sequential_cpu_offload()  layers on the device one at a time

All are diffusers' own; what a device or this pipeline cannot do is one sentence.
"""

import logging
from collections.abc import Callable
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline

from ..errors import InputError

__all__ = ["PRECISIONS", "PlacedPipeline", "check_precision"]

PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What networks can compute in."""

MODELS = logging.getLogger("diffusers.models.modeling_utils")


def check_precision(dtype: Any, argument: str = "dtype") -> None:
    """Raise InputError unless a precision, or each of a dict by component, is one of PRECISIONS; None is any."""
    for one in dtype.values() if isinstance(dtype, dict) else (dtype,):
        if one is not None and one not in PRECISIONS:
            names = ", ".join(str(each) for each in PRECISIONS)
            raise InputError(f"{argument}: {one!r} is not allowed; give one of {names}.")


def _tells(record: logging.LogRecord) -> bool:
    """Whether a warning of diffusers says anything: of every model without parts to keep in float32 it lists none."""
    return "kept in float32: []" not in record.getMessage()


class PlacedPipeline(DiffusionPipeline):
    """Gives a pipeline diffusers' methods of placement, with errors of one sentence."""

    model_cpu_offload_seq = "covariate_encoder->unet->vae"
    # small, and called by parts, which hooks do not see
    _exclude_from_cpu_offload = ["scm"]  # noqa: RUF012 (diffusers reads a list here)

    def to(self, *args: Any, **settings: Any) -> Self:
        """As diffusers does.

        Args:
            *args: a device, a precision of PRECISIONS, or both.
            **settings: diffusers'.

        Raises:
            InputError: for another precision, and for a device that is not here or lacks the precision.
        """
        for one in (*args, settings.get("dtype")):
            if isinstance(one, torch.dtype):
                check_precision(one, "to")
        MODELS.addFilter(_tells)
        try:
            _in_one_sentence("to", super().to, *args, **settings)
        finally:
            MODELS.removeFilter(_tells)
        return self

    def check_placement(self) -> None:
        """Raise InputError where a network was moved to the device "meta", which keeps no weights."""
        for name, part in self.components.items():
            # what is offloaded waits there, and its hooks bring it back
            waits = isinstance(part, torch.nn.Module) and any(hasattr(one, "_hf_hook") for one in part.modules())
            if isinstance(part, torch.nn.Module) and not waits and any(one.is_meta for one in part.parameters()):
                raise InputError(f"{name}: is on the device 'meta', which keeps no weights; load the pipeline anew.")

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str | None = None) -> None:
        """As diffusers does.

        Args:
            gpu_id: number of the accelerator.
            device: kind of accelerator; by default the one that is here.

        Raises:
            InputError: where there is no accelerator.
        """
        _in_one_sentence("enable_model_cpu_offload", super().enable_model_cpu_offload, gpu_id, device)

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """As diffusers does.

        Args:
            gpu_id: number of the accelerator.
            device: kind of accelerator; by default the one that is here.

        Raises:
            InputError: where there is no accelerator.
        """
        if device is not None and torch.device(device).type == "cpu":
            raise InputError(
                "enable_sequential_cpu_offload: device 'cpu' is not allowed; give an accelerator, or none."
            )
        _in_one_sentence("enable_sequential_cpu_offload", super().enable_sequential_cpu_offload, gpu_id, device)


def _in_one_sentence(argument: str, place: Callable[..., object], *args: Any, **settings: Any) -> None:
    try:
        place(*args, **settings)
    except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"{argument}: is not possible here ({reason}); stay on the CPU, or use another device."
        ) from None
