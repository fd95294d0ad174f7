"""The one training loop. It knows one shape:  objective(batch, generator) -> (loss, {name: value}).

A step is one update of the weights, from train_batch_size * gradient_accumulation_steps rows per rank. Every random
choice of step k (rows, augmentation, noise) comes from (seed, k, rank), so a run resumed at step k goes on exactly as
if it had never stopped, and a checkpoint needs weights, optimiser moments and the step, all safetensors.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from ..domains.source import Source
from ..errors import InputError
from ..records import Record, fingerprint, first_difference, library_versions, row_generator, row_seed
from .config import TrainingConfig

__all__ = ["StepSampler", "TrainingExamples", "architecture", "check_output_dir", "train"]


class TrainingExamples(Dataset[dict[str, Tensor]]):
    """The rows of a source that belong to one split, as training sees them: `image` `[1, r, r]` and encoded covariates.

    A key is (row, place): the row of the split and the place in the whole run's sequence of examples. The place and the
    seed decide the augmentation, so that it differs in every epoch and repeats in every run.
    """

    def __init__(self, source: Source, split: str, resolution: int, seed: int) -> None:
        self.source, self.resolution, self.seed = source, resolution, seed
        self.rows = [index for index, one in enumerate(source.splits) if one == split]
        if not self.rows:
            raise InputError(f"{source.name}: no image in split {split!r}; give a source with more patients.")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        row, place = key
        image, covariates = self.source.draw(self.rows[row], self.resolution, row_generator(self.seed, place))
        encoded = self.source.covariates.encode({name: [value] for name, value in covariates.items()})
        return {
            "image": torch.from_numpy(image)[None],
            **{name: torch.from_numpy(column)[0] for name, column in encoded.items()},
        }


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (row, place) from step `start` on: each epoch is a permutation drawn from (seed, epoch)."""

    def __init__(self, rows: int, batch_size: int, seed: int, start: int, stop: int, rank: int, ranks: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.start, self.stop, self.rank, self.ranks = start, stop, rank, ranks

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        permutations: dict[int, np.ndarray] = {}
        for step in range(self.start, self.stop):
            first = (step * self.ranks + self.rank) * self.batch_size
            batch = []
            for place in range(first, first + self.batch_size):
                epoch = place // self.rows
                if epoch not in permutations:
                    permutations = {
                        one: row_generator(self.seed, one).permutation(self.rows)
                        for one in range(epoch, epoch + 1 + math.ceil(self.batch_size / self.rows))
                    }
                batch.append((int(permutations[epoch][place % self.rows]), place))
            yield batch


def architecture(*configs: Mapping[str, Any]) -> str:
    """Fingerprint of networks by their diffusers configs: equal settings have one, in every process."""
    # diffusers' own entries (underscored) list names in an order that changes from process to process
    settings = [{name: value for name, value in config.items() if not name.startswith("_")} for config in configs]
    return fingerprint(json.loads(json.dumps(settings, default=str)))


def check_output_dir(config: TrainingConfig) -> None:
    """Refuse an output directory that holds an earlier run, or lacks the checkpoint asked for, before data is read."""
    _checkpoint_to_resume(config)


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

    `dataset[(row, place)]` is one example. `save(directory)` is called at the end on the main process, when `objective`
    holds the exponential moving average; figures that it returns join the record's `measured`. `validate(step)` is
    called every `validation_steps` steps and after the last, on every process, with the average in place too, and True
    ends the run; what it remembers belongs into the objective's buffers, which checkpoints hold. Returns the record
    that is written beside the result, after all else. The same command goes on where a stopped run left off with
    `resume_from_checkpoint="latest"`, and returns the record of a finished one; other settings there are refused by
    name.
    """
    checkpoint = _checkpoint_to_resume(config)
    finished = config.output_dir / "record.json"
    if finished.exists():
        record = Record.read(finished)
        _require_same_settings(finished, {**config.question(), **inputs}, {**record.settings, **record.inputs})
        return record
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        log_with=config.report_to,
        project_dir=str(config.output_dir / config.logging_dir),
    )
    config.output_dir.mkdir(parents=True, exist_ok=True)
    steps = config.max_train_steps
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        weight_decay=config.adam_weight_decay,
        eps=config.adam_epsilon,
    )
    average = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=False)
    question = {**config.question(), **inputs, "ranks": accelerator.num_processes}

    start = _restore(checkpoint, objective, optimizer, average, question) if checkpoint else 0
    for group in optimizer.param_groups:
        group["initial_lr"] = config.learning_rate
    schedule = get_scheduler(
        config.lr_scheduler,
        optimizer,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=steps,
        last_epoch=start - 1,
    )
    average.to(accelerator.device)
    prepared, optimizer = accelerator.prepare(objective, optimizer)
    sampler = StepSampler(
        len(dataset),  # type: ignore[arg-type]
        config.train_batch_size * config.gradient_accumulation_steps,
        config.seed,
        start,
        steps,
        accelerator.process_index,
        accelerator.num_processes,
    )
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=config.dataloader_num_workers)
    if config.report_to:
        accelerator.init_trackers("synthfair", {name: str(value) for name, value in question.items()})

    done, stopped = start, False
    progress = tqdm(total=steps, initial=start, desc="training", disable=not accelerator.is_main_process)
    smooth: dict[str, float] = {}
    prepared.train()
    for step, batch in enumerate(loader, start=start):
        generator = torch.Generator(accelerator.device)
        generator.manual_seed(row_seed(config.seed, step) * 1009 + accelerator.process_index)
        means = _backward(accelerator, prepared, batch, config.train_batch_size, generator)
        if not math.isfinite(means["loss"]):
            raise InputError(
                f"step {step}: the loss is {means['loss']}; lower learning_rate and resume from a checkpoint."
            )
        norm = float(accelerator.clip_grad_norm_(parameters, config.max_grad_norm))
        means |= {"gradient_norm": norm, "clipped": float(norm > config.max_grad_norm)}
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        average.step(parameters)
        for name, number in means.items():
            if math.isfinite(number):
                smooth[name] = 0.98 * smooth.get(name, number) + 0.02 * number
        progress.update()
        if step % 50 == 0:
            progress.set_postfix({name: f"{number:.4f}" for name, number in smooth.items()})
            if config.report_to:
                accelerator.log(smooth, step=step)
        done = step + 1
        if validate and (done % validation_steps == 0 or done == steps):
            average.store(parameters)
            average.copy_to(parameters)
            stopped = validate(done)
            average.restore(parameters)
        if stopped:
            break
        if done % config.checkpointing_steps == 0 and done < steps and accelerator.is_main_process:
            _write_checkpoint(config, done, objective, optimizer, average, question)
    progress.close()
    average.copy_to(parameters)
    figures = save(config.output_dir) if accelerator.is_main_process else None
    record = Record(
        stage="train",
        inputs=inputs,
        settings=config.question(),
        versions=library_versions(),
        counts={**counts, "steps": done, "parameters": sum(p.numel() for p in parameters)},
        measured={**{f"training_{name}": round(number, 5) for name, number in smooth.items()}, **(figures or {})},
    )
    if accelerator.is_main_process:
        record.write(config.output_dir / "record.json")
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return record


def _backward(
    accelerator: Accelerator, objective: nn.Module, batch: dict[str, Tensor], size: int, generator: torch.Generator
) -> dict[str, float]:
    """Gradient of the mean loss of a batch, `size` rows at a time; the means of what the objective reports."""
    batch = {name: column.to(accelerator.device) for name, column in batch.items()}
    rows = range(0, len(next(iter(batch.values()))), size)
    pieces = [{name: column[first : first + size] for name, column in batch.items()} for first in rows]
    reported: dict[str, list[float]] = {}
    for piece in pieces:
        with nullcontext() if piece is pieces[-1] else accelerator.no_sync(objective):
            loss, parts = objective(piece, generator)
            accelerator.backward(loss / len(pieces))
        for name, value in {"loss": loss.detach(), **parts}.items():
            reported.setdefault(name, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in reported.items()}


def _write_checkpoint(
    config: TrainingConfig,
    step: int,
    objective: nn.Module,
    optimizer: Any,
    average: EMAModel,
    question: dict[str, Any],
) -> None:
    final = config.output_dir / f"checkpoint-{step}"
    temporary = config.output_dir / f".checkpoint-{step}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    save_file(
        {name: tensor.contiguous() for name, tensor in objective.state_dict().items()}, temporary / "model.safetensors"
    )
    save_file(
        {str(i): shadow.contiguous() for i, shadow in enumerate(average.shadow_params)}, temporary / "ema.safetensors"
    )
    moments = {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    save_file(moments, temporary / "optimizer.safetensors")
    state = {"step": step, "ema_steps": average.optimization_step, "settings": question}
    (temporary / "state.json").write_text(json.dumps(state, indent=2))
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)
    for old in _checkpoints(config.output_dir)[: -config.checkpoints_total_limit]:
        shutil.rmtree(old)


def _checkpoints(directory: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    found = [path for path in directory.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _checkpoint_to_resume(config: TrainingConfig) -> Path | None:
    """The checkpoint to go on from; None starts afresh. Finished or half-done work is never overwritten unasked."""
    if config.output_dir.exists() and not config.output_dir.is_dir():
        raise InputError(f"output_dir: {config.output_dir} is a file; give a directory.")
    found = _checkpoints(config.output_dir)
    if config.resume_from_checkpoint is None:
        if found or (config.output_dir / "record.json").exists():
            raise InputError(
                f"output_dir: {config.output_dir} holds an earlier run; give resume_from_checkpoint latest to go "
                "on with it, or another directory."
            )
        return None
    if config.resume_from_checkpoint == "latest":
        return found[-1] if found else None
    path = config.output_dir / Path(config.resume_from_checkpoint).name
    if path not in found:
        names = ", ".join(one.name for one in found) or "(none)"
        raise InputError(f"resume_from_checkpoint: no {path.name!r} in {config.output_dir}; allowed: latest, {names}.")
    return path


def _require_same_settings(place: Path, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    if difference := first_difference(ours, theirs):
        raise InputError(f"{place}: made by other settings ({difference}); repeat them or give another directory.")


def _restore(
    checkpoint: Path, objective: nn.Module, optimizer: Any, average: EMAModel, question: dict[str, Any]
) -> int:
    state = json.loads((checkpoint / "state.json").read_text())
    _require_same_settings(checkpoint, question, state["settings"])
    objective.load_state_dict(load_file(checkpoint / "model.safetensors"))
    shadows = load_file(checkpoint / "ema.safetensors")
    for index, shadow in enumerate(average.shadow_params):
        shadow.copy_(shadows[str(index)])
    average.optimization_step = state["ema_steps"]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in load_file(checkpoint / "optimizer.safetensors").items():
        place, name = key.split(".", 1)
        moments.setdefault(int(place), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return int(state["step"])
