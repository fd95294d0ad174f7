"""A domain as data: covariates, causal edges, plan defaults and curated views; each domain's folder holds its own."""

import re
from collections.abc import Collection, Iterable
from typing import Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ..errors import Checked, InputError
from ..schema import Schema, Variable

__all__ = [
    "CHANNELS",
    "HEAD",
    "SITE_NAMES",
    "UNCHANGED",
    "Contrast",
    "Network",
    "NetworkChanges",
    "PredictionType",
    "Preset",
    "strengths",
]

CHANNELS = (1, 3)
"""Of an image: gray, or red, green and blue."""

HEAD = 32
"""Channels of one attention head."""

SITE_NAMES = ("site", "data_set")
"""What the covariate is called that tells several sources apart; the second where a domain calls something else so."""

OF_THE_PERSON = "patient/"
"""How the natures begin of what stays as it is wherever a person is examined."""


class Contrast(Checked, BaseModel):
    """The two groups of a variable that a biased view trades against each other.

    For a categorical variable two of its levels; for a continuous one the two sides of a threshold in its unit
    (`first` is value < threshold, `second` is value >= threshold).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    first: str
    second: str
    threshold: float | None = None


PredictionType: TypeAlias = Literal["velocity", "sample", "sample_and_variance"]
"""What a network predicts: the velocity, the image, or the image and the variance of what it leaves out."""


class Network(Checked, BaseModel):
    """The network that suits a domain's images.

    `channels` of its levels, each half as high and wide as the one before; `space_to_depth` by which pixels are folded
    into channels before the first; `width` of covariate tokens; `prediction_type`, whether it predicts the velocity or
    the image, "sample", which suits patches of many pixels, alone or with the variance of what it leaves out of it,
    "sample_and_variance" (`diffusion.denoiser`); `architecture`, a UNet or a
    transformer, whose `channels` are the equal widths of its layers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[PositiveInt, ...] = (96, 128, 160)
    space_to_depth: PositiveInt = 4
    width: PositiveInt = 128
    prediction_type: PredictionType = "velocity"
    architecture: Literal["unet", "transformer"] = "unet"

    @model_serializer(mode="wrap")
    def _as_stored(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what networks did not have at first and this one does not use: identities made from it stay."""
        found: dict[str, Any] = handler(self)
        later = {"prediction_type": "velocity", "architecture": "unet"}
        return {name: value for name, value in found.items() if name not in later or value != later[name]}

    @model_validator(mode="after")
    def _layers_are_equal(self) -> "Network":
        if self.architecture == "transformer" and (len(set(self.channels)) != 1 or self.channels[0] % HEAD):
            raise ValueError(
                f"channels: {self.channels} are not the layers of a transformer; give equal multiples of {HEAD}, one "
                "per layer"
            )
        return self

    @property
    def factor(self) -> int:
        """The resolution of images is a multiple of this: every level of a UNet halves its folded input."""
        return int(self.space_to_depth * (1 if self.architecture == "transformer" else 2 ** (len(self.channels) - 1)))


class NetworkChanges(Checked, BaseModel):
    """Fields of a preset's network that are replaced; None keeps the preset's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: Literal["unet", "transformer"] | None = Field(
        default=None, description="of the network; the preset's by default, and so for the next three"
    )
    channels: tuple[PositiveInt, ...] | None = Field(
        default=None,
        description="of each level of a UNet, halving the one before, or of each layer of a transformer",
    )
    space_to_depth: PositiveInt | None = Field(
        default=None,
        description="pixels of a side, or latents, folded into channels; latents are not by default",
    )
    prediction_type: PredictionType | None = Field(
        default=None,
        description="what the network predicts: sample, the image, suits folded pixels, which leave out grain; "
        "sample_and_variance makes that too, and may be given beside a generator that predicts the image",
    )

    def of(self, network: Network) -> Network:
        """The network with these changes.

        Raises:
            InputError: for fields that do not fit each other.
        """
        return Network(**{**network.model_dump(), **self.model_dump(exclude_none=True)})


UNCHANGED = NetworkChanges()


class Preset(Checked, BaseModel):
    """A domain: what is observed, what causes what, and what is generated by default.

    `edges` are (cause, effect) among covariates; every covariate is a cause of the image. `factors` are the variables
    whose levels a family of counterfactuals crosses; the others are held at the subject's value. `strata` are variables
    whose contrast groups receive equally many subjects. `views` are the curated names listed in the data set card.
    `network` is what `synthfair train` builds. `channels` of an image are 1, gray, or 3: red, green and blue. `prompt`
    is the template from which a text-to-image generator's prompt is rendered; without one it lists the covariates.
    `unobserved` are covariates that the template names and a source lacks (`restrict`): unknown of everybody.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    covariates: Schema
    edges: tuple[tuple[str, str], ...]
    resolution: int
    factors: tuple[str, ...]
    strata: tuple[str, ...]
    contrasts: dict[str, Contrast]
    views: tuple[str, ...]
    network: Network = Network()
    channels: PositiveInt = 1
    prompt: str | None = None
    unobserved: tuple[str, ...] = ()

    def __hash__(self) -> int:
        """That of the name, as its dictionaries have none; so what is computed of a preset alone can be kept."""
        return hash(self.name)

    @model_serializer(mode="wrap")
    def _as_stored(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what presets did not have at first and this one does not use: identities made from it stay."""
        found: dict[str, Any] = handler(self)
        # as JSON has a tuple and as Python does
        later: dict[str, Any] = {"channels": (1,), "prompt": (None,), "unobserved": ((), [])}
        return {name: value for name, value in found.items() if value not in later.get(name, ())}

    @model_validator(mode="after")
    def _has_colours_or_none(self) -> "Preset":
        if self.channels not in CHANNELS:
            raise ValueError(f"channels: {self.channels} are not allowed; give 1, gray, or 3, colours")
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> "Preset":
        for name in (*(end for edge in self.edges for end in edge), *self.factors, *self.strata, *self.contrasts):
            self.covariates[name]
        for name, contrast in self.contrasts.items():
            variable = self.covariates[name]
            if variable.categorical and not {contrast.first, contrast.second} <= set(variable.levels):
                raise ValueError(f"contrast of {name}: {contrast.first}, {contrast.second} are not levels of it")
            if not variable.categorical and contrast.threshold is None:
                raise ValueError(f"contrast of {name}: a continuous variable needs a threshold")
        site = self.covariates.site
        for variable in self.covariates.walk():
            if not set(variable.unobserved_at) <= set(() if site is None or site == variable else site.levels):
                where = ", ".join(variable.unobserved_at)
                raise ValueError(f"{variable.name}: unobserved_at: {where}: not levels of a covariate external/site")
        return self

    def with_site(self, sites: Iterable[str]) -> "Preset":
        """The same domain with a covariate that says which of several sources an image is of.

        It causes how a person is examined, and with what. It neither causes nor follows what is the person's own,
        demographics, anatomy and disease: had the same person been examined elsewhere, those would be what they are.
        Who comes where, and how ill, is selection, and drawn people of all sites are of one population.

        Args:
            sites: names of two sources or more; of fewer the domain stays as it is, unless it has a site.

        Returns:
            The domain itself where it has a site whose levels these are.

        Raises:
            InputError: it has a site of other levels.
        """
        levels, own = tuple(sorted(set(sites))), self.covariates.site
        if own is not None and not set(levels) <= set(own.levels):
            raise InputError(
                f"source_dir: {', '.join(levels)} are not all sites of {self.name}, whose {own.name} has the levels "
                f"{', '.join(own.levels)}; name the sources so, as NAME=DIR."
            )
        if own is not None or len(levels) < 2:
            return self
        name = next((one for one in SITE_NAMES if one not in self.covariates), None)
        if name is None:
            raise InputError(f"source_dir: {self.name} has covariates {' and '.join(SITE_NAMES)} already; rename one.")
        site = Variable(name=name, kind="categorical", role="acquisition", nature="external/site", levels=levels)
        effects = [one.name for one in self.covariates.walk() if not one.nature.startswith(OF_THE_PERSON)]
        findings = [one.name for one in self.covariates.walk() if one.role == "finding"]
        stems = (f"{name}_imbalanced", *(f"{finding}_{name}_correlated" for finding in findings))
        return self.model_copy(
            update={
                "covariates": Schema(variables=(*self.covariates.variables, site)),
                "edges": (*self.edges, *((name, effect) for effect in effects)),
                "contrasts": {**self.contrasts, name: Contrast(first=levels[0], second=levels[1])},
                "views": (*self.views, *(view for stem in stems for view in strengths(stem))),
            }
        )

    def views_of(self, names: Collection[str]) -> tuple[str, ...]:
        """The views but those that are of a covariate that is not among `names`."""
        lost = "|".join(one for one in self.covariates.names if one not in names)
        return tuple(view for view in self.views if not lost or not re.search(rf"(^|_)({lost})(_|$)", view))

    def observed_in(self, covariates: Schema) -> "Preset":
        """The same domain as a source has it.

        Args:
            covariates: the source's: some of the domain's, and a site where it is made of several.

        Raises:
            InputError: as `restrict`, and as `with_site`.
        """
        site = covariates.site
        own = (self if site is None else self.with_site(site.levels)).restrict(covariates.names)
        return own.model_copy(update={"covariates": covariates})

    def restrict(self, names: tuple[str, ...]) -> "Preset":
        """The same domain observed through fewer covariates.

        Raises:
            InputError: a covariate that is not optional, or every one of several findings, is not among `names`.
        """
        needed = [variable.name for variable in self.covariates.walk() if not variable.optional]
        absent = [name for name in needed if name not in names]
        if absent:
            raise InputError(
                f"{self.name}: {', '.join(absent)} not among {', '.join(names) or 'what is told (nothing)'}, and not "
                "optional; give every source a column of that name, or say which one it is, as in "
                f"columns={ {absent[0]: 'COLUMN'} }."
            )
        kept = set(self.covariates.subset(names).names)
        findings = [variable.name for variable in self.covariates.walk() if variable.role == "finding"]
        if len(findings) > 1 and not kept & set(findings):
            raise InputError(
                f"{self.name}: none of its findings ({', '.join(findings)}) among {', '.join(names)}; give one or "
                f"more, or, of a folder ingested for another preset, ingest its original with preset={self.name!r}."
            )
        named = set(re.findall(r"\w+", self.prompt or ""))
        return self.model_copy(
            update={
                "unobserved": (*self.unobserved, *(one for one in self.covariates.names if one in named - kept)),
                "covariates": self.covariates.subset(names),
                "edges": tuple(edge for edge in self.edges if set(edge) <= kept),
                "factors": tuple(name for name in self.factors if name in kept),
                "strata": tuple(name for name in self.strata if name in kept),
                "contrasts": {name: contrast for name, contrast in self.contrasts.items() if name in kept},
                "views": self.views_of(kept),
            }
        )


def strengths(stem: str, shares: tuple[int, ...] = (50, 60, 70, 80, 90, 95)) -> tuple[str, ...]:
    """Names of views `<stem>_<share>_<100 - share>` and of their mirrors.

    Args:
        stem: what is biased, such as `sex_imbalanced`.
        shares: of the first group, whole percentages from 1 to 99; the first of them gets no mirror.
    """
    mirrors = (*shares, *(100 - share for share in shares[1:]))
    return tuple(f"{stem}_{share}_{100 - share}" for share in mirrors)
