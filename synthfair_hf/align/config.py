"""Settings of one alignment, checked before anything is read."""

from typing import Literal

from pydantic import Field, field_validator

from ..training.loop import FinetuningConfig

__all__ = ["AlignmentConfig", "LossType", "PredictionType"]

LossType = Literal["sigmoid", "ipo", "hinge"]
PredictionType = Literal["flow_prediction", "epsilon", "v_prediction"]


class AlignmentConfig(FinetuningConfig):
    """Settings of one alignment; `train_batch_size` counts pairs, each two images.

    `rank` and `lora_alpha` (the rank by default) are those of `align.lora`; `beta_dpo`, `loss_type`, `anchor` and
    `prediction_type` those of `align.dpo`. `balance` names covariates, as `sex,finding`, over whose subgroups training
    is balanced: by `sampling` each equally often, or by `weights` in the loss. Every `validation_steps` steps the
    held-out pairs are asked; after `patience` times without a better accuracy, or a lower loss at the same, the run
    ends. A higher `beta_dpo` holds the adapters nearer to the generator they start from; docs/alignment has what these
    defaults do.
    """

    train_batch_size: int = Field(16, ge=1)
    max_train_steps: int = Field(300, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    lr_warmup_steps: int = Field(20, ge=0)
    ema_decay: float = Field(0.9, gt=0, lt=1)
    rank: int = Field(8, ge=1)
    lora_alpha: float | None = Field(None, gt=0)
    beta_dpo: float = Field(500.0, gt=0)
    loss_type: LossType = "sigmoid"
    anchor: float = Field(1.0, ge=0)
    prediction_type: PredictionType = "flow_prediction"
    balance: tuple[str, ...] | None = None
    balancing: Literal["sampling", "weights"] = "sampling"
    validation_steps: int = Field(50, ge=1)
    patience: int = Field(4, ge=1)

    @field_validator("balance", mode="before")
    @classmethod
    def _names(cls, given: object) -> object:
        return tuple(name.strip() for name in given.split(",")) if isinstance(given, str) else given
