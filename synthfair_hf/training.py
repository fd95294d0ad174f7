"""The one training loop. It knows one shape:  objective(batch, generator) -> (loss, {name: value}).

Every random choice of step k (rows, augmentation, noise) comes from (seed, k, rank), so a run resumed at step k goes on
exactly as if it had never stopped, and a checkpoint needs weights, optimiser moments and the step, all safetensors.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from .errors import InputError
from .records import Record, fingerprint, first_difference, library_versions
from .sources.source import Source

__all__ = ["TrainingConfig", "TrainingExamples", "train"]


class TrainingConfig(BaseModel):
    """Settings of one run; the names are those of diffusers' training scripts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    output_dir: Path
    seed: int = 0
    train_batch_size: int = Field(32, ge=1)
    max_train_steps: int = Field(20_000, ge=1)
    gradient_accumulation_steps: int = Field(1, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    lr_scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "cosine"
    lr_warmup_steps: int = Field(200, ge=0)
    adam_beta1: float = 0.9
    adam_beta2: float = 0.99
    adam_weight_decay: float = 0.01
    adam_epsilon: float = 1e-8
    max_grad_norm: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.999, gt=0, lt=1)
    checkpointing_steps: int = Field(1000, ge=1)
    checkpoints_total_limit: int = Field(2, ge=1)
    resume_from_checkpoint: str | None = None
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    dataloader_num_workers: int = Field(0, ge=0)
    report_to: str | None = None
    logging_dir: str = "logs"

    def question(self) -> dict[str, Any]:
        """The settings that decide the result; where it is written and how it is watched do not."""
        incidental = {
            "output_dir",
            "checkpointing_steps",
            "checkpoints_total_limit",
            "resume_from_checkpoint",
            "dataloader_num_workers",
            "report_to",
            "logging_dir",
        }
        return self.model_dump(mode="json", exclude=incidental)


class TrainingExamples(Dataset[dict[str, Tensor]]):
    """The rows of a source that belong to one split, as training sees them: `image` `[1, r, r]` and encoded covariates.

    Row, step and place together seed the augmentation, so that it differs in every epoch and repeats in every run.
    """

    def __init__(self, source: Source, split: str, resolution: int, seed: int) -> None:
        self.source, self.resolution, self.seed = source, resolution, seed
        self.rows = [index for index, one in enumerate(source.splits) if one == split]
        if not self.rows:
            raise InputError(f"{source.name}: no image in split {split!r}; give a source with more patients.")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Tensor]:
        row, _, place = key
        image, covariates = self.source.draw(self.rows[row], self.resolution, np.random.default_rng([self.seed, place]))
        encoded = self.source.covariates.encode({name: [value] for name, value in covariates.items()})
        return {
            "image": torch.from_numpy(image)[None],
            **{name: torch.from_numpy(column)[0] for name, column in encoded.items()},
        }


class StepSampler(Sampler[list[tuple[int, int, int]]]):
    """Batches of (row, step, place) from step `start` on: each epoch is a permutation drawn from (seed, epoch)."""

    def __init__(self, rows: int, batch_size: int, seed: int, start: int, stop: int, rank: int, ranks: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.start, self.stop, self.rank, self.ranks = start, stop, rank, ranks

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        permutations: dict[int, np.ndarray] = {}
        for step in range(self.start, self.stop):
            first = (step * self.ranks + self.rank) * self.batch_size
            batch = []
            for place in range(first, first + self.batch_size):
                epoch = place // self.rows
                if epoch not in permutations:
                    permutations = {
                        one: np.random.default_rng([self.seed, one]).permutation(self.rows)
                        for one in range(epoch, epoch + 1 + math.ceil(self.batch_size / self.rows))
                    }
                batch.append((int(permutations[epoch][place % self.rows]), step, place))
            yield batch


def train(
    objective: nn.Module,
    dataset: "Dataset[dict[str, Tensor]]",
    config: TrainingConfig,
    save: Callable[[Path], None],
    inputs: dict[str, str],
    counts: dict[str, Any],
) -> Record:
    """Minimise the objective and save the averaged weights.

    `dataset[(row, step, place)]` is one example. `save(directory)` is called at the end, when `objective` holds the
    exponential moving average. Returns the record that is also written beside the result. The same command goes on
    where a stopped run left off with `resume_from_checkpoint="latest"`; other settings there are refused by name.
    """
    accelerator = Accelerator(
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        mixed_precision=config.mixed_precision,
        log_with=config.report_to,
        project_dir=str(config.output_dir / config.logging_dir),
    )
    config.output_dir.mkdir(parents=True, exist_ok=True)
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

    start = 0
    if checkpoint := _checkpoint_to_resume(config):
        start = _restore(checkpoint, objective, optimizer, average, question)
    for group in optimizer.param_groups:
        group["initial_lr"] = config.learning_rate
    schedule = get_scheduler(
        config.lr_scheduler,
        optimizer,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=config.max_train_steps,
        last_epoch=start - 1,
    )
    average.to(accelerator.device)
    prepared, optimizer = accelerator.prepare(objective, optimizer)
    sampler = StepSampler(
        len(dataset),  # type: ignore[arg-type]
        config.train_batch_size,
        config.seed,
        start,
        config.max_train_steps,
        accelerator.process_index,
        accelerator.num_processes,
    )
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=config.dataloader_num_workers)
    if config.report_to:
        accelerator.init_trackers("synthfair", {name: str(value) for name, value in question.items()})

    progress = tqdm(
        total=config.max_train_steps, initial=start, desc="training", disable=not accelerator.is_main_process
    )
    smooth: dict[str, float] = {}
    prepared.train()
    for step, batch in enumerate(loader, start=start):
        generator = torch.Generator(accelerator.device)
        generator.manual_seed((config.seed * 1_000_003 + step) * 1009 + accelerator.process_index)
        batch = {name: value.to(accelerator.device) for name, value in batch.items()}
        with accelerator.accumulate(prepared):
            loss, parts = prepared(batch, generator)
            if not torch.isfinite(loss):
                raise InputError(
                    f"step {step}: the loss is {loss.item()}; lower --learning_rate and resume from a checkpoint."
                )
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(parameters, config.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        average.step(parameters)
        for name, value in {"loss": loss.detach(), **parts}.items():
            number = float(value)
            if math.isfinite(number):
                smooth[name] = 0.98 * smooth.get(name, number) + 0.02 * number
        progress.update()
        if step % 50 == 0:
            progress.set_postfix({name: f"{number:.4f}" for name, number in smooth.items()})
            if config.report_to:
                accelerator.log(smooth, step=step)
        done = step + 1
        if done % config.checkpointing_steps == 0 and done < config.max_train_steps and accelerator.is_main_process:
            _write_checkpoint(config, done, objective, optimizer, average, question)
    progress.close()
    accelerator.end_training()

    average.copy_to(parameters)
    record = Record(
        stage="train",
        inputs=inputs,
        settings=config.question(),
        versions=library_versions(),
        counts={**counts, "steps": config.max_train_steps, "parameters": sum(p.numel() for p in parameters)},
        measured={f"training_{name}": round(number, 5) for name, number in smooth.items()},
    )
    if accelerator.is_main_process:
        save(config.output_dir)
        record.write(config.output_dir / "record.json")
    accelerator.wait_for_everyone()
    return record


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
    found = _checkpoints(config.output_dir)
    if config.resume_from_checkpoint is None:
        if found or (config.output_dir / "record.json").exists():
            raise InputError(
                f"--output_dir {config.output_dir}: holds an earlier run; add --resume_from_checkpoint latest to go on "
                "with it, or give another directory."
            )
        return None
    if config.resume_from_checkpoint == "latest":
        return found[-1] if found else None
    path = config.output_dir / Path(config.resume_from_checkpoint).name
    if path not in found:
        names = ", ".join(one.name for one in found) or "(none)"
        raise InputError(
            f"--resume_from_checkpoint: no {path.name!r} in {config.output_dir}; allowed: latest, {names}."
        )
    return path


def _restore(
    checkpoint: Path, objective: nn.Module, optimizer: Any, average: EMAModel, question: dict[str, Any]
) -> int:
    state = json.loads((checkpoint / "state.json").read_text())
    if fingerprint(state["settings"]) != fingerprint(question):
        difference = first_difference(json.loads(json.dumps(question)), state["settings"])
        raise InputError(f"{checkpoint}: made by other settings ({difference}); repeat them or give another directory.")
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
