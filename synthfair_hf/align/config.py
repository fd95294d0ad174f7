"""Settings of one alignment, checked before anything is read."""

from typing import Literal

from pydantic import Field

from ..training.config import BatchSize, Decay, FinetuningConfig, LearningRate, Steps, WarmupSteps

__all__ = ["AlignmentConfig", "LossType", "PredictionType"]

LossType = Literal["sigmoid", "ipo", "hinge"]
PredictionType = Literal["flow_prediction", "epsilon", "v_prediction"]


class AlignmentConfig(FinetuningConfig):
    """Settings of one alignment; `train_batch_size` counts pairs, each two images.

    `rank` and `lora_alpha` (the rank by default) are those of `align.lora`; `beta_dpo`, `loss_type`, `anchor` and
    `prediction_type` those of `align.dpo`. `balance` names covariates, as `sex,finding`, over whose subgroups training
    is balanced: by `sampling` each equally often, or by `weights` in the loss. Every `validation_steps` steps the
    held-out pairs are evaluated; after `patience` evaluations without a better accuracy, or a lower loss at the same,
    the run ends. A higher `beta_dpo` keeps the adapters nearer to the generator they start from; docs/alignment has the
    effect of these defaults.
    """

    train_batch_size: BatchSize = 16
    max_train_steps: Steps = 300
    learning_rate: LearningRate = 2e-3
    lr_warmup_steps: WarmupSteps = 20
    ema_decay: Decay = 0.9
    rank: int = Field(8, ge=1, description="of the adapters")
    lora_alpha: float | None = Field(None, gt=0, description="scale of the adapters, times rank; rank by default")
    beta_dpo: float = Field(500.0, gt=0, description="a higher one holds the adapters nearer to their start")
    loss_type: LossType = Field("sigmoid", description="of a pair's margin")
    anchor: float = Field(1.0, ge=0, description="weight of staying as likely as at the start; 0: none")
    prediction_type: PredictionType = Field("flow_prediction", description="what the network predicts")
    balance: tuple[str, ...] | None = Field(
        None, description="covariates over whose subgroups training is balanced, as sex,finding"
    )
    balancing: Literal["sampling", "weights"] = Field("sampling", description="how balance is reached")
    validation_steps: int = Field(50, ge=1, description="steps between two evaluations on the held-out pairs")
    patience: int = Field(4, ge=1, description="evaluations without improvement after which the run ends")
