"""How the images of a data set were sampled, where somebody else's generator made them: part of its plan.

Such a generator abducts nothing, so that the members of a family are same-noise samples and no counterfactuals.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Sampling"]


class Sampling(BaseModel):
    """A text-to-image pipeline, and where its subjects come from.

    `generator` is its name, `pipeline` its class in diffusers, `license` that of its model card. `subjects` says what
    their covariates are draws from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    capability: Literal["sampler"] = "sampler"
    generator: str
    pipeline: str
    subjects: str
    lora_weights: str | None = None
    negative_prompt: str | None = None
    license: str | None = None
