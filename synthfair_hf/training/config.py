"""Settings of the training loop, one class for each thing that is trained; importing this does not import torch.

Each field says in one line what it sets: the command line shows it as the help of its flag.
"""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..errors import Checked
from ..records import fingerprint

__all__ = [
    "AutoencoderTrainingConfig",
    "FinetuningConfig",
    "PredictorTrainingConfig",
    "TrainingConfig",
    "architecture",
]

# Fields whose default depends on what is trained: here once, with their range and their line of help.
BatchSize = Annotated[int, Field(ge=1, description="examples of one forward pass, on each device")]
Steps = Annotated[int, Field(ge=1, description="updates of the weights in all")]
LearningRate = Annotated[float, Field(gt=0, description="of AdamW, at its highest")]
WarmupSteps = Annotated[int, Field(ge=0, description="steps over which the learning rate rises from 0")]
WeightDecay = Annotated[float, Field(ge=0, description="of AdamW")]
Decay = Annotated[float, Field(gt=0, lt=1, description="of the moving average of the weights, which is what is saved")]
CheckpointingSteps = Annotated[int, Field(ge=1, description="steps between two checkpoints")]


class TrainingConfig(Checked, BaseModel):
    """Settings of one run; the names are those of diffusers' training scripts."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    output_dir: Path = Field(description="where checkpoints, the result and its record go")
    seed: int = Field(0, ge=0, lt=2**63, description="of first weights, order, augmentation and noise")
    train_batch_size: BatchSize = 32
    max_train_steps: Steps = 20_000
    gradient_accumulation_steps: int = Field(1, ge=1, description="forward passes whose gradients make one step")
    learning_rate: LearningRate = 3e-4
    lr_scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine"] = Field(
        "cosine", description="how the learning rate changes after the warm-up"
    )
    lr_warmup_steps: WarmupSteps = 200
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="decay of AdamW's first moment")
    adam_beta2: float = Field(0.99, ge=0, lt=1, description="decay of AdamW's second moment")
    adam_weight_decay: WeightDecay = 0.01
    adam_epsilon: float = Field(1e-8, gt=0, description="of AdamW, for numerical stability")
    max_grad_norm: float = Field(1.0, gt=0, description="norm to which longer gradients are clipped")
    ema_decay: Decay = 0.999
    checkpointing_steps: CheckpointingSteps = 1000
    checkpoints_total_limit: int = Field(2, ge=1, description="latest checkpoints that are kept")
    resume_from_checkpoint: str | None = Field(
        None, description="go on from this checkpoint of output_dir: latest, or checkpoint-N"
    )
    mixed_precision: Literal["no", "bf16"] | None = Field(
        None,
        validate_default=True,
        description="of the network; bf16 by default on a GPU that computes in it",
    )
    dataloader_num_workers: int = Field(0, ge=0, description="processes that prepare examples; 0: this one does")
    report_to: Literal["tensorboard", "trackio", "wandb"] | None = Field(
        None, description="tracker that the losses are logged to; none by default"
    )
    logging_dir: str = Field("logs", description="folder of output_dir for the tracker's files")

    @field_validator("mixed_precision")
    @classmethod
    def _resolved(cls, precision: str | None) -> str:
        if precision is not None:
            return precision
        # only a run needs it; whoever reads the fields alone does not pay for it
        import torch

        able = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if able else "no"

    @field_validator("report_to")
    @classmethod
    def _installed(cls, tracker: str | None) -> str | None:
        if tracker and find_spec(tracker) is None:
            raise ValueError(f"{tracker} is not installed; run: pip install {tracker}")
        return tracker

    def identity_settings(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON; where it is written and how it is watched do not."""
        where = {"output_dir", "checkpointing_steps", "checkpoints_total_limit", "resume_from_checkpoint"}
        how = {"dataloader_num_workers", "report_to", "logging_dir"}
        return self.model_dump(mode="json", exclude=where | how)


class FinetuningConfig(TrainingConfig):
    """Settings of a saved generator's further training: shorter and more careful than the first."""

    max_train_steps: Steps = 1000
    learning_rate: LearningRate = 1e-4
    lr_warmup_steps: WarmupSteps = 50
    ema_decay: Decay = 0.99
    checkpointing_steps: CheckpointingSteps = 250


class PredictorTrainingConfig(TrainingConfig):
    """Settings of one attribute predictor's training; the defaults suit some 800 radiographs at 64 x 64."""

    train_batch_size: BatchSize = 64
    max_train_steps: Steps = 2500
    learning_rate: LearningRate = 2e-3
    lr_warmup_steps: WarmupSteps = 100
    adam_weight_decay: WeightDecay = 0.05
    ema_decay: Decay = 0.99


class AutoencoderTrainingConfig(TrainingConfig):
    """Settings of one autoencoder's training."""

    train_batch_size: BatchSize = 16
    max_train_steps: Steps = 2000
    learning_rate: LearningRate = 1e-3
    lr_warmup_steps: WarmupSteps = 50
    ema_decay: Decay = 0.99


def architecture(*configs: Mapping[str, Any]) -> str:
    """Fingerprint of networks by their diffusers configs: equal settings have one, in every process."""
    # diffusers' own entries (underscored) list names in an order that changes from process to process
    settings = [{name: value for name, value in config.items() if not name.startswith("_")} for config in configs]
    return fingerprint(json.loads(json.dumps(settings, default=str)))
