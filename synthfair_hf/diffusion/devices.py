"""Which device this process computes on, as its launcher tells it."""

import os
from collections.abc import Mapping

import torch

from ..errors import InputError

__all__ = ["local_device", "whole_number"]


def local_device(environment: Mapping[str, str] = os.environ) -> str:
    """This process's GPU, "cuda:<index>", shared out by LOCAL_RANK over those it can see; "cpu" without one."""
    own = whole_number(environment, "LOCAL_RANK", 0)
    return f"cuda:{own % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


def whole_number(environment: Mapping[str, str], name: str, default: int) -> int:
    """The variable of that name as an integer from 0 on, `default` where it is not set."""
    value = environment.get(name, str(default))
    if not (value.isascii() and value.isdecimal()):
        raise InputError(f"{name}: {value!r} is not allowed; it must be a whole number from 0 on.")
    return int(value)
