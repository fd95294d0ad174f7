"""The one training loop. Its contract:  objective(batch, generator) -> (loss, {name: value}).

A step is one update of the weights, from train_batch_size * gradient_accumulation_steps rows per rank. Every random
choice of step k (rows, augmentation, noise) comes from (seed, k, rank), so a run resumed at step k goes on exactly as
if it had never stopped.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..access import RECORD, sealed
from ..errors import InputError
from ..progress import progress_bar
from ..records import Record, library_versions, row_seed
from .checkpoints import TrainingState, checkpoint_to_resume, finished_record, restore_checkpoint, write_checkpoint
from .config import TrainingConfig
from .examples import StepSampler
from .stopping import StopSignals

__all__ = ["train"]


def train(
    objective: nn.Module,
    dataset: "Dataset[dict[str, Tensor]]",
    config: TrainingConfig,
    save: Callable[[Path], Mapping[str, Any] | None],
    inputs: dict[str, str],
    counts: dict[str, Any],
    validate: Callable[[int], bool] | None = None,
    validation_steps: int = 1,
) -> Record:
    """Minimise the objective and save the averaged weights.

    The same command goes on where a stopped run left off with `resume_from_checkpoint="latest"`, and returns the record
    of a finished one. A run of one process that is interrupted (`training.stopping`) writes a checkpoint first.

    Args:
        objective: called as `objective(batch, generator)`; returns the loss, a scalar, and named values to report.
            Tensors are `[train_batch_size, ...]`. Buffers are part of checkpoints.
        dataset: `dataset[(row, place)]` is one example: tensors by name, as `TrainingExamples` gives them.
        config: settings of the run.
        save: called as `save(output_dir)` at the end on the main process, when `objective` holds the exponential moving
            average of its weights; figures that it returns join the record's `measured`.
        inputs: names and fingerprints of what is trained on, for the record; a resumed run must share them.
        counts: numbers of rows and the like, for the record.
        validate: called as `validate(step)` every `validation_steps` steps and after the last, on every process, with
            the average in place; True ends the run. What it remembers belongs into the objective's buffers.
        validation_steps: 1 or more.

    Returns:
        The record that is written to `output_dir/record.json`, after all else.

    Raises:
        InputError: `output_dir` holds an earlier run that is not to be resumed or has other settings, the checkpoint to
            resume from does not exist, or the loss is not finite.
    """
    checkpoint = checkpoint_to_resume(config)
    identity = {**config.identity_settings(), **inputs}
    if finished := finished_record(config, identity):
        return finished
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        log_with=config.report_to,
        project_dir=str(config.output_dir / config.logging_dir),
    )
    config.output_dir.mkdir(parents=True, exist_ok=True)
    identity["ranks"] = accelerator.num_processes
    state = TrainingState.initial(objective, config)
    done = restore_checkpoint(checkpoint, state, identity) if checkpoint else 0
    update = _Update(accelerator, config, state, done)
    progress = _Progress(accelerator, config, done, identity)
    with StopSignals(accelerator.num_processes == 1) as stop:
        for batch in _batches(dataset, config, accelerator, done):
            progress.report(done, update(done, batch))
            done += 1
            last = done == config.max_train_steps
            if validate and (last or done % validation_steps == 0) and _validate_average(state, validate, done):
                break
            stopping = stop.requested is not None
            due = done % config.checkpointing_steps == 0 or stopping
            if due and not last and accelerator.is_main_process:
                write_checkpoint(config, done, state, identity)
            if stopping and not last:
                stop.obey()
    progress.close()
    state.average.copy_to(state.parameters)
    figures = save(config.output_dir) if accelerator.is_main_process else None
    record = Record(
        stage="train",
        inputs=inputs,
        settings=config.identity_settings(),
        versions=library_versions(),
        counts={**counts, "steps": done, "parameters": sum(p.numel() for p in state.parameters)},
        measured={**progress.figures(), **(figures or {})},
    )
    if accelerator.is_main_process:
        record = sealed(record, config.output_dir)
        record.write(config.output_dir / RECORD)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    # one that came in the last step
    stop.obey()
    return record


def _batches(
    dataset: "Dataset[dict[str, Tensor]]", config: TrainingConfig, accelerator: Accelerator, start: int
) -> "DataLoader[dict[str, Tensor]]":
    """This rank's rows of every step from `start` on."""
    sampler = StepSampler(
        len(dataset),  # type: ignore[arg-type]
        config.train_batch_size * config.gradient_accumulation_steps,
        config.seed,
        start,
        config.max_train_steps,
        accelerator.process_index,
        accelerator.num_processes,
    )
    return DataLoader(dataset, batch_sampler=sampler, num_workers=config.dataloader_num_workers)


class _Update:
    """One update of the weights, of their average and of the learning rate: update(step, batch) -> reported means."""

    def __init__(self, accelerator: Accelerator, config: TrainingConfig, state: TrainingState, start: int) -> None:
        self.accelerator, self.config, self.state = accelerator, config, state
        # a restored optimiser does not say the rate that the schedule multiplies
        for group in state.optimizer.param_groups:
            group["initial_lr"] = config.learning_rate
        self.schedule = get_scheduler(
            config.lr_scheduler,
            state.optimizer,
            num_warmup_steps=config.lr_warmup_steps,
            num_training_steps=config.max_train_steps,
            last_epoch=start - 1,
        )
        state.average.to(accelerator.device)
        self.objective, self.optimizer = accelerator.prepare(state.objective, state.optimizer)
        self.objective.train()

    def __call__(self, step: int, batch: dict[str, Tensor]) -> dict[str, float]:
        generator = torch.Generator(self.accelerator.device)
        generator.manual_seed(row_seed(self.config.seed, step) * 1009 + self.accelerator.process_index)
        means = self._backward(batch, generator)
        if not math.isfinite(means["loss"]):
            raise InputError(
                f"step {step}: the loss is {means['loss']}; give a lower learning_rate and another output_dir, for a "
                "run that is resumed keeps its settings."
            )
        parameters = self.state.parameters
        norm = float(self.accelerator.clip_grad_norm_(parameters, self.config.max_grad_norm))
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.state.average.step(parameters)
        return {**means, "gradient_norm": norm, "clipped": float(norm > self.config.max_grad_norm)}

    def _backward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, float]:
        """Gradient of the mean loss, `train_batch_size` rows at a time; the means of what the objective reports."""
        size = self.config.train_batch_size
        batch = {name: column.to(self.accelerator.device) for name, column in batch.items()}
        rows = range(0, len(next(iter(batch.values()))), size)
        pieces = [{name: column[first : first + size] for name, column in batch.items()} for first in rows]
        reported: dict[str, list[float]] = {}
        for piece in pieces:
            with nullcontext() if piece is pieces[-1] else self.accelerator.no_sync(self.objective):
                loss, parts = self.objective(piece, generator)
                self.accelerator.backward(loss / len(pieces))
            for name, value in {"loss": loss.detach(), **parts}.items():
                reported.setdefault(name, []).append(float(value))
        return {name: float(np.mean(values)) for name, values in reported.items()}


class _Progress:
    """Running means of what the steps report, on the progress bar and in the tracker every 50 steps."""

    def __init__(
        self, accelerator: Accelerator, config: TrainingConfig, start: int, identity: Mapping[str, Any]
    ) -> None:
        self.tracker = accelerator if config.report_to else None
        if self.tracker:
            self.tracker.init_trackers("synthfair", {name: str(value) for name, value in identity.items()})
        self.means: dict[str, float] = {}
        self.bar = progress_bar(
            total=config.max_train_steps, initial=start, desc="training", disable=not accelerator.is_main_process
        )

    def report(self, step: int, reported: Mapping[str, float]) -> None:
        for name, number in reported.items():
            if math.isfinite(number):
                self.means[name] = 0.98 * self.means.get(name, number) + 0.02 * number
        self.bar.update()
        if step % 50 == 0:
            self.bar.set_postfix({name: f"{number:.4f}" for name, number in self.means.items()}, refresh=False)
            if self.tracker:
                self.tracker.log(self.means, step=step)

    def close(self) -> None:
        self.bar.close()

    def figures(self) -> dict[str, float]:
        return {f"training_{name}": round(number, 5) for name, number in self.means.items()}


def _validate_average(state: TrainingState, validate: Callable[[int], bool], step: int) -> bool:
    """Validate with the average in place of the weights; whether that ends the run."""
    parameters = state.parameters
    state.average.store(parameters)
    state.average.copy_to(parameters)
    ends = validate(step)
    state.average.restore(parameters)
    return ends
