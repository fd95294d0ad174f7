"""How the images of a data set were sampled, where somebody else's generator made them: part of its plan.

Such a generator abducts nothing, so that the members of a family are same-noise samples and no counterfactuals.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

__all__ = ["Sampling"]


class Sampling(BaseModel):
    """A text-to-image pipeline, and where its subjects come from.

    `generator` is its name, `pipeline` its class in diffusers, `license` that of its model card. `subjects` says what
    their covariates are draws from: `source` is the name of the data set on which their causal model was fitted,
    `causal_model` the revision of the generator whose it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    capability: Literal["sampler"] = "sampler"
    generator: str
    pipeline: str
    subjects: str
    lora_weights: str | None = None
    negative_prompt: str | None = None
    license: str | None = None
    source: str | None = None
    causal_model: str | None = None

    @model_serializer(mode="wrap")
    def _as_stored(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what plans did not name at first: their files stay as they were written."""
        late = ("source", "causal_model")
        found: dict[str, Any] = handler(self)
        return {name: value for name, value in found.items() if name not in late or value is not None}
