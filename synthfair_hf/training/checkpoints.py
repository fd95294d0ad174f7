"""Checkpoints of a training run: weights, their moving average, optimiser moments and the step, all safetensors.

output_dir/checkpoint-N/   model.safetensors  ema.safetensors  optimizer.safetensors  state.json
output_dir/record.json     written last: a run with a record is finished
"""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import InputError
from ..records import Record, first_difference, writable_directory, written_to
from .config import TrainingConfig

__all__ = [
    "TrainingState",
    "check_output_dir",
    "checkpoint_to_resume",
    "finished_record",
    "restore_checkpoint",
    "write_checkpoint",
]


@dataclass(frozen=True)
class TrainingState:
    """What changes while training: the objective's weights, their moving average and the optimiser's moments."""

    objective: nn.Module
    optimizer: torch.optim.Optimizer
    average: EMAModel

    @classmethod
    def initial(cls, objective: nn.Module, config: TrainingConfig) -> "TrainingState":
        """AdamW and the average of the objective's trainable parameters, before the first step.

        Args:
            objective: what is trained.
            config: learning rate, weight decay and moments of AdamW, and the decay of the average.
        """
        parameters = _trainable(objective)
        optimizer = torch.optim.AdamW(
            parameters,
            lr=config.learning_rate,
            betas=(config.adam_beta1, config.adam_beta2),
            weight_decay=config.adam_weight_decay,
            eps=config.adam_epsilon,
        )
        return cls(objective, optimizer, EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=False))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The objective's trainable parameters, in the order of optimiser and average."""
        return _trainable(self.objective)


def _trainable(objective: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in objective.parameters() if parameter.requires_grad]


def check_output_dir(config: TrainingConfig) -> None:
    """Check, before any data is read, that the run may write to its output directory.

    Args:
        config: its `output_dir` and `resume_from_checkpoint` are read; nothing is written.

    Raises:
        InputError: `output_dir` is a file, holds an earlier run that is not to be resumed, or lacks the named
            checkpoint.
    """
    checkpoint_to_resume(config)


def checkpoint_to_resume(config: TrainingConfig) -> Path | None:
    """The checkpoint to go on from; None starts afresh, so that earlier work is never overwritten by accident.

    Raises:
        InputError: as `check_output_dir`.
    """
    writable_directory(config.output_dir)
    found = _checkpoints(config.output_dir)
    if config.resume_from_checkpoint is None:
        if found or (config.output_dir / "record.json").exists():
            raise InputError(
                f"output_dir: {config.output_dir} holds an earlier run; give resume_from_checkpoint='latest' "
                "to go on with it, or another output_dir."
            )
        return None
    if config.resume_from_checkpoint == "latest":
        return found[-1] if found else None
    path = config.output_dir / Path(config.resume_from_checkpoint).name
    if path not in found:
        names = ", ".join(one.name for one in found) or "(none)"
        raise InputError(f"resume_from_checkpoint: no {path.name!r} in {config.output_dir}; allowed: latest, {names}.")
    return path


def finished_record(config: TrainingConfig, identity: Mapping[str, Any]) -> Record | None:
    """The record of a run that has finished in `output_dir`; None where none has.

    Args:
        config: its `output_dir` is read.
        identity: settings and inputs of the requested run.

    Raises:
        InputError: the run that finished there had other settings or inputs.
    """
    path = config.output_dir / "record.json"
    if not path.exists():
        return None
    record = Record.read(path)
    _require_same_settings(path, identity, {**record.settings, **record.inputs})
    return record


def write_checkpoint(config: TrainingConfig, step: int, state: TrainingState, identity: Mapping[str, Any]) -> None:
    """Write `checkpoint-STEP` under a temporary name, rename it, and remove all but the latest ones.

    Args:
        config: `output_dir`, and how many checkpoints are kept there.
        step: number of updates done.
        state: what is written.
        identity: settings and inputs that a run must share to resume from here.
    """
    final = config.output_dir / f"checkpoint-{step}"
    temporary = config.output_dir / f".checkpoint-{step}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with written_to(final):
            _write(temporary, step, state, identity)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise
        raise OSError(errno.EIO, str(error), str(final)) from error
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    for old in _checkpoints(config.output_dir)[: -config.checkpoints_total_limit]:
        shutil.rmtree(old)


def _write(directory: Path, step: int, state: TrainingState, identity: Mapping[str, Any]) -> None:
    weights = {name: tensor.contiguous() for name, tensor in state.objective.state_dict().items()}
    save_file(weights, directory / "model.safetensors")
    shadows = {str(i): shadow.contiguous() for i, shadow in enumerate(state.average.shadow_params)}
    save_file(shadows, directory / "ema.safetensors")
    moments = {
        f"{index}.{name}": value
        for index, values in state.optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }
    save_file(moments, directory / "optimizer.safetensors")
    written = {"step": step, "ema_steps": state.average.optimization_step, "settings": identity}
    (directory / "state.json").write_text(json.dumps(written, indent=2))


def restore_checkpoint(checkpoint: Path, state: TrainingState, identity: Mapping[str, Any]) -> int:
    """Load a checkpoint into `state`, in place.

    Args:
        checkpoint: a directory that `write_checkpoint` wrote.
        state: as `TrainingState.initial` makes it; its weights, average and moments are replaced.
        identity: settings and inputs of the run that resumes.

    Returns:
        The number of updates done.

    Raises:
        InputError: the checkpoint belongs to a run with other settings or inputs.
    """
    try:
        written = json.loads((checkpoint / "state.json").read_bytes())
        _require_same_settings(checkpoint, identity, written["settings"])
    except InputError:
        raise
    except (OSError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"{checkpoint}: not a whole checkpoint ({type(error).__name__}: {error}); resume from another."
        ) from None
    state.objective.load_state_dict(load_file(checkpoint / "model.safetensors"))
    shadows = load_file(checkpoint / "ema.safetensors")
    for index, shadow in enumerate(state.average.shadow_params):
        shadow.copy_(shadows[str(index)])
    state.average.optimization_step = written["ema_steps"]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in load_file(checkpoint / "optimizer.safetensors").items():
        place, name = key.split(".", 1)
        moments.setdefault(int(place), {})[name] = value
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": moments})
    return int(written["step"])


def _checkpoints(directory: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    found = [path for path in directory.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _require_same_settings(place: Path, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    if "access" not in theirs:
        # measuring networks that were trained so far do not name it
        ours = {name: value for name, value in ours.items() if name != "access"}
    if difference := first_difference(ours, theirs):
        raise InputError(f"{place}: made by other settings ({difference}); repeat them or give another output_dir.")
