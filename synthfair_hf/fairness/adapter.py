"""Anybody's network or function as a classifier, from images in [0, 1] to what it outputs.

    output                          logit of the finding being present
    [n] or [n, 1]                   l                                          log p - log(1 - p)     of probabilities
    [n, 2]                          l_1 - l_0                                  log p_1 - log p_0
    [n, k], one label named         l_label - log sum over others e^l          log p_label - log(1 - p_label)
    [n, k], labels that may be present together (multi_label)      l_label     log p_label - log(1 - p_label)

The features are the input of the linear layer whose output the logit is, of several heads that of the finding; where
there is none, of the linear layer that runs last. A network that is fitted has one logit: of two outputs
the difference of both rows of that layer, which is the same function; of more, if no label is named, a new layer.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NoReturn, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from ..arguments import checked
from ..errors import InputError, shown, with_article
from ..records import Access, fingerprint
from .classifier import BATCH, unit_range
from .interface import Hook, weights_hash
from .labelled import LabelledImages

__all__ = ["AdaptedClassifier", "log_odds"]

_LEAST = 1e-7
"""Probabilities are kept so far from 0 and 1, that their logits are finite."""


Column = Annotated[int, Field(ge=0, lt=2**31)]
"""Of the outputs, from 0."""


class _Layer(NamedTuple):
    """A linear layer that ran: its name in the network, itself, its input and its output."""

    name: str
    layer: nn.Linear
    features: Tensor
    output: Tensor


class AdaptedClassifier(nn.Module):
    """A `torch.nn.Module` or a function as a classifier.

    A module is set to evaluation. It can be fitted, and has features where a linear layer runs last; a function has
    neither.

    Args:
        network: from images float32 `[n, C, H, W]` in [0, 1] to `[n]`, `[n, 1]`, `[n, 2]` or `[n, k]`.
        outputs: what it outputs.
        label: the column of the finding among k > 2 outputs, or instead of the second of two.
        multi_label: whether several labels may be present at once, so that each column is a finding of its own.

    Raises:
        InputError: an argument is invalid.
    """

    head: nn.Linear

    @checked
    def __init__(
        self,
        network: nn.Module | Callable[[Tensor], Tensor],
        outputs: Literal["logits", "probabilities"] = "logits",
        label: Column | None = None,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        if not callable(network):
            raise InputError(f"network: {shown(network)} is no function; give a torch.nn.Module, or a function.")
        self.network = network
        self.outputs, self.label, self.multi_label = outputs, label, multi_label
        self._hooks: tuple[Hook, ...] = ()
        self.eval()

    # -- the protocol

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """What the network has beside a logit; known of what `initial` returns."""
        return self._hooks

    @property
    def access(self) -> Access:
        """Unknown: nobody recorded what the weights were trained on."""
        return "unknown"

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next((one.device for one in self.parameters()), torch.device("cpu"))

    @property
    def fingerprint(self) -> str:
        """Identity of weights and settings; of a function "unknown"."""
        if not isinstance(self.network, nn.Module):
            return "unknown"
        settings = [type(self.network).__name__, self.outputs, self.label, self.multi_label]
        return fingerprint([*settings, self._described(), weights_hash(self.network)])

    def _described(self) -> Any:
        """What else than weights decides the outputs."""
        return None

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[B]` of images `[B, C, H, W]` in [0, 1], differentiably where the network is."""
        return self._logit(self._output(images), len(images))

    def embed(self, images: Tensor) -> Tensor:
        """Features `[B, d]` of images `[B, C, H, W]` in [0, 1], differentiably; InputError where there are none."""
        found = self._last_layer(images)[1]
        if found is None or found.features.ndim != 2:
            raise InputError(
                "classifier: it has no features, because no linear layer of [n, d] runs last in it; give one that has, "
                "or a detector or method that needs none."
            )
        return found.features

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 `[n]` of images uint8 `[n, C, H, W]`, on the CPU; InputError for images that do not fit."""
        found = self._in_parts(self, images, torch.zeros(0))
        if not torch.isfinite(found).all():
            raise InputError("classifier: some of its outputs are not finite; give one whose outputs are.")
        return found

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features float32 `[n, d]` of images uint8 `[n, C, H, W]`, on the CPU; InputError where there are none."""
        return self._in_parts(self.embed, images, torch.zeros(0, 0))

    def _in_parts(self, function: Callable[[Tensor], Tensor], images: Tensor, none: Tensor) -> Tensor:
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise InputError(
                f"images: {images.dtype} of shape {tuple(images.shape)}; give torch.uint8 of shape [n, C, H, W]."
            )
        if not len(images):
            return none
        try:
            return torch.cat([function(unit_range(part.to(self.device))).float().cpu() for part in images.split(BATCH)])
        except (InputError, MemoryError):
            raise
        except Exception as error:  # whatever somebody's network raises
            self._refuse(images, error)

    def _refuse(self, images: Tensor, error: Exception) -> NoReturn:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"classifier: it takes no images of {' x '.join(map(str, images.shape[1:]))} ({told.rstrip('.')}); give "
            "one that does, or images that it was made for."
        ) from error

    def initial(self, examples: LabelledImages, seed: int) -> Self:
        """A copy to fit on `examples`, with one logit; a new last layer is drawn from `seed`.

        Raises:
            InputError: this is a function, or the images do not fit.
        """
        if not isinstance(self.network, nn.Module):
            raise InputError("classifier: a function has no weights to fit; give a torch.nn.Module.")
        # in training, statistics of normalisation layers would change
        made = self._copy(seed).eval()
        images = examples.images[:2]
        pixels = unit_range(images.to(made.device))
        try:
            with torch.no_grad():
                values, found = made._last_layer(pixels)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # whatever somebody's network raises
            self._refuse(images, error)
        with torch.no_grad():
            if found is not None and found.features.ndim == 2:
                made._hooks = ("features",)
                if isinstance(values, Tensor) and torch.equal(values, found.output):
                    made._give_head(found, seed)
                if _is_head(made, pixels):
                    made._hooks = ("features", "last layer")
            made(pixels)
        return made.train()

    def _copy(self, seed: int) -> Self:
        """The network that a fit starts from: by default of these weights."""
        made = copy.deepcopy(self)
        for parameter in made.parameters():
            parameter.requires_grad_(True)
        return made

    def save_pretrained(self, save_directory: str | Path, **settings: Any) -> None:
        """Refuse: how a network of one's own is built again stands in its code alone."""
        kind = with_article(type(self.network).__name__)
        raise InputError(f"save: {kind} can't be built again from a file; save its weights by code of your own.")

    # -- outputs

    def _output(self, images: Tensor) -> Tensor:
        found = self.network(images)
        return found if isinstance(found, Tensor) else getattr(found, "logits", found)

    def _logit(self, values: Any, n: int) -> Tensor:
        """Logits `[n]` of outputs."""
        if not isinstance(values, Tensor) or values.ndim not in (1, 2) or len(values) != n:
            shape = f"of shape {list(values.shape)}" if isinstance(values, Tensor) else shown(values)
            raise InputError(
                f"classifier: its output for {n} images is {shape}; give one that outputs [n], [n, 1] or [n, 2]."
            )
        return log_odds(values, self.outputs, self.label, self.multi_label)

    # -- the last layer

    def _last_layer(self, images: Tensor) -> tuple[Any, _Layer | None]:
        """Outputs of images, and the linear layer that has them, or the finding's, as its output; else the last."""
        ran: dict[str, _Layer] = {}

        def note(name: str) -> Callable[..., None]:
            def hook(layer: nn.Linear, given: tuple[Tensor, ...], output: Tensor) -> None:
                ran.pop(name, None)
                ran[name] = _Layer(name, layer, given[0], output)

            return hook

        network = self.network
        layers = network.named_modules() if isinstance(network, nn.Module) else ()
        handles = [one.register_forward_hook(note(name)) for name, one in layers if isinstance(one, nn.Linear)]
        try:
            values = self._output(images)
        finally:
            for handle in handles:
                handle.remove()
        last_first = list(ran.values())[::-1]
        return values, next((one for one in last_first if self._is_output(one, values)), next(iter(last_first), None))

    def _is_output(self, layer: _Layer, values: Any) -> bool:
        """Whether a layer's output is the network's, or the column of the label among those of several heads."""
        if not isinstance(values, Tensor) or values.ndim not in (1, 2) or layer.output.ndim != 2:
            return False
        wanted = [values.reshape(len(values), -1)]
        if self.label is not None and self.multi_label and self.label < wanted[0].shape[1]:
            wanted.append(wanted[0][:, [self.label]])
        return any(one.shape == layer.output.shape and torch.equal(one, layer.output) for one in wanted)

    def _give_head(self, found: _Layer, seed: int) -> None:
        """Give the network one logit where its last layer has several: the row of the label, a difference, or anew."""
        old, label = found.layer, self.label
        count, anew = old.out_features, self._is_drawn(old.out_features)
        exclusive = label is not None and count > 2 and not self.multi_label
        if self.outputs != "logits" or exclusive or (count == 1 and not anew):
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            new = nn.Linear(old.in_features, 1, bias=old.bias is not None).to(old.weight)
        with torch.no_grad():
            for ours, theirs in ((new.weight, old.weight), (new.bias, old.bias)):
                if anew or theirs is None:
                    continue
                present = 1 if label is None else label
                row = theirs[present]
                ours.copy_((row if self.multi_label else row - theirs[1 - present]).view_as(ours))
        self._replace(found.name, new)
        self.label, self.multi_label = None, False

    def _is_drawn(self, count: int) -> bool:
        """Whether a last layer of so many outputs is drawn anew for a fit."""
        return self.label is None and count > (1 if self.multi_label else 2)

    def _replace(self, name: str, layer: nn.Linear) -> None:
        assert isinstance(self.network, nn.Module), "a function has no layers"
        parent, _, own = name.rpartition(".")
        holder = self.network.get_submodule(parent)
        setattr(holder, own, layer)


def _is_head(made: AdaptedClassifier, images: Tensor) -> bool:
    """Whether the logit is the output of the linear layer that runs last; this layer is then `head`."""
    values, found = made._last_layer(images)
    if found is None or found.layer.out_features != 1 or found.layer.bias is None or made.outputs != "logits":
        return False
    if not isinstance(values, Tensor) or not made._is_output(found, values):
        return False
    # not registered: it is the network's, and has its name there
    object.__setattr__(made, "head", found.layer)
    return True


def log_odds(
    values: Tensor,
    outputs: Literal["logits", "probabilities"] = "logits",
    label: int | None = None,
    multi_label: bool = False,
) -> Tensor:
    """The logit of the finding by the table above.

    Args:
        values: outputs `[n]` or `[n, k]`.
        outputs: what they are.
        label: the column of the finding.
        multi_label: whether several labels may be present at once.

    Returns:
        Logits `[n]`.

    Raises:
        InputError: there is no such column, none is named of more than two, or a probability is none.
    """
    values = values[:, None] if values.ndim == 1 else values
    values = values if values.is_floating_point() else values.float()
    count = values.shape[1]
    label = {1: 0, **({} if multi_label else {2: 1})}.get(count) if label is None else label
    if label is None:
        raise InputError(f"label: not given, and the classifier has {count} outputs; say which is the finding.")
    if label >= count:
        raise InputError(f"label: {label} is out of range; the classifier has the outputs 0 to {count - 1}.")
    alone = multi_label or count == 1
    if outputs == "probabilities":
        if not ((values >= 0) & (values <= 1)).all():
            raise InputError("outputs: some are no probabilities in [0, 1]; say that they are logits.")
        values = values.clamp(_LEAST, 1 - _LEAST)
        if alone or count > 2:
            return values[:, label].logit()
        return values[:, label].log() - values[:, 1 - label].log()
    if alone:
        return values[:, label]
    others = [column for column in range(count) if column != label]
    return values[:, label] - values[:, others].logsumexp(dim=1)
