"""The device of this process, as set by its launcher."""

import os
from collections.abc import Mapping

from ..errors import InputError

__all__ = ["local_device", "whole_number"]


def local_device(environment: Mapping[str, str] = os.environ) -> str:
    """This process's GPU, "cuda:<index>", assigned by LOCAL_RANK among the visible ones; "cpu" without one."""
    # who asks for a number alone needs no torch
    import torch

    own = whole_number(environment, "LOCAL_RANK", 0)
    return f"cuda:{own % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


def whole_number(environment: Mapping[str, str], name: str, default: int) -> int:
    """A variable of the environment as an integer from 0 on.

    Args:
        environment: variables by name.
        name: of the variable.
        default: where it is not set.

    Raises:
        InputError: for any other value.
    """
    value = environment.get(name, str(default))
    if not (value.isascii() and value.isdecimal()):
        raise InputError(f"{name}: {value!r} is not allowed; it must be a whole number from 0 on.")
    return int(value)
