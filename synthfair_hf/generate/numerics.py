"""How the network is computed: in which numbers, which order in memory, by which program.

    v(x, s) = float32(network(bf16(x), s))        with bf16: the solver's states and the causal model stay float32

Each setting makes the network round otherwise, and a solver of many steps carries that into the pixels. So all of them
decide bytes and belong to the plan: neither a resumed run nor another machine's part can mix them.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Numerics"]


class Numerics(BaseModel):
    """Float32 as it stands by default; each setting by itself, or with the others.

    `mixed_precision` "bf16" halves the bytes of weights and activations. Composition, do={}, is then exact no longer: a
    state recovered to float32 rounding may be rounded to the neighbouring bf16, and the network answers otherwise.
    `channels_last` keeps the channels of a pixel side by side. `compile` is torch.compile, with a compiler on this
    machine, for batches of one size.
    """

    model_config = ConfigDict(frozen=True)

    mixed_precision: Literal["no", "bf16"] = Field(
        "no", description="bf16 for the network alone: quicker, and do={} is exact no longer"
    )
    channels_last: bool = Field(False, description="keep the channels of a pixel side by side in memory")
    compile: bool = Field(False, description="compile the network first, by a C++ compiler of this machine")

    @property
    def plain(self) -> dict[str, Literal[True]]:
        """The settings that are as by default. Identities leave them out, as those from before they existed do."""
        return {name: True for name, one in Numerics.model_fields.items() if getattr(self, name) == one.default}
