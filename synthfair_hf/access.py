"""Access: who may see the real images that something was made from, and what follows for publishing it.

    seal = fingerprint(access, sha256 of the contents)         contents = weights, or rows, beside a record.json

A sealed record vouches for the contents beside it alone, so that neither its access nor they can be changed without
the other. Records written before seals count as they stand. What diffusers would publish by itself, a component or its
configuration, is published only if the images behind it are open: `restrict`.
"""

import inspect
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from .errors import InputError
from .records import Access, Record, file_inside, file_sha256, fingerprint, strictest

__all__ = [
    "RECORD",
    "component_names",
    "held_access",
    "recorded_access",
    "restrict",
    "same_weights",
    "sealed",
    "warn_of_unsealed",
]

RECORD, INDEX = "record.json", "model_index.json"

CONTENTS = ("*.safetensors", "data/*.parquet", "candidates.jsonl", "questions.jsonl", "metadata.csv")
"""What a record is about, beside the weights of a pipeline's components."""

ALWAYS_SEALED = ("ingest",)
"""Stages of which no record was ever written without a seal, so that one without was changed."""

PUSHES = ("push_to_hub", "save_pretrained", "save_config")
"""diffusers' methods that publish; the last two only on request."""

ORIGIN, HELD = "_saved_in", "_access"
"""Attributes of a component: the folder it was loaded from, and the access of a pipeline it is part of."""

LOGGER = logging.getLogger(__name__)


def component_names(config: Any, where: str | Path) -> list[str]:
    """Names of the components in a pipeline's configuration, each of which is a folder beside it.

    Args:
        config: parsed model_index.json.
        where: that file, for messages.

    Raises:
        InputError: a name that is not a plain word, and so could lead to another directory.
    """
    found = [
        name
        for name, value in config.items()
        # names of diffusers' own entries begin with an underscore
        if isinstance(value, list)
        and len(value) == 2
        and all(isinstance(one, str) for one in value)
        and name[:1] != "_"
    ]
    for name in found:
        if not (name.isascii() and name.isidentifier()):
            raise InputError(
                f"{where}: {name!r} is no name of a component; give one of letters, digits and underscores."
            )
    return found


def sealed(record: Record, directory: Path) -> Record:
    """The record with the seal of its access and the contents of its directory."""
    return record.model_copy(update={"seal": _seal(record.access, directory)})


def _seal(access: Access, directory: Path) -> str:
    hashes = {path.relative_to(directory).as_posix(): file_sha256(path) for path in _contents(directory)}
    return fingerprint({"access": access, "contents": hashes})


def _contents(directory: Path) -> Iterator[Path]:
    for pattern in CONTENTS:
        yield from sorted(directory.glob(pattern))
    index = directory / INDEX
    if index.is_file():
        for name in component_names(json.loads(index.read_bytes()), index):
            yield from sorted(file_inside(directory, name).glob("*.safetensors"))


def recorded_access(directory: Path, silent: Access = "unknown") -> Access:
    """The access in the record of a directory.

    Args:
        directory: with record.json.
        silent: the answer where there is no record, or one that names no access.

    Raises:
        InputError: access or contents are others than those that were sealed.
    """
    path = directory / RECORD
    if not path.exists():
        return silent
    record = Record.read(path)
    unsealed = record.seal is None and record.stage not in ALWAYS_SEALED
    if not unsealed and record.seal != _seal(record.access, directory):
        raise InputError(
            f"{path}: its access {record.access!r} was recorded of other contents than those beside it, or was "
            "changed since; restore both as they were written, or make them anew."
        )
    return record.access if "access" in record.inputs else silent


def warn_of_unsealed(directory: Path) -> None:
    """Say of a record without seal that its access counts as it stands."""
    path = directory / RECORD
    if path.exists() and Record.read(path).seal is None:
        LOGGER.warning("%s: its access was recorded without a seal, and counts as it stands", path)


def held_access(access: Any, *components: Any) -> Any:
    """The strictest of a pipeline's access and those that its components came with; as it is where they have none.

    Args:
        access: that of the pipeline, None where none is recorded.
        *components: of the pipeline.
    """
    known = [one for one in (access, *(vars(part).get(HELD) for part in components)) if one is not None]
    return strictest(*known) if known and access in (None, *get_args(Access)) else access


def restrict(component: Any, directory: str | Path | None = None, access: Access | None = None) -> None:
    """Let a model, scheduler or configuration of diffusers' be published only if the images behind it are open.

    Args:
        component: changed in place: its methods that publish raise InputError where its access is not open.
        directory: the folder that it was loaded from, whose record, or that of the folder above, tells the access; by
            default what diffusers remembers of it. Of what was loaded from nowhere, or has changed since, the access
            is unknown.
        access: that of the pipeline it is part of: it never opens the component, but may close it.
    """
    held = vars(component)
    if directory is not None:
        held[ORIGIN] = str(directory)
    if access is not None:
        # a word that is none of them, as an edited configuration may hold, opens nothing
        held[HELD] = access if access in get_args(Access) else "unknown"
    for name in PUSHES:
        if callable(getattr(type(component), name, None)):
            held.setdefault(name, _Push(component, name))


class _Push:
    """A component's method that publishes what is open, and else raises InputError before it does anything."""

    def __init__(self, component: Any, name: str) -> None:
        self.component, self.name = component, name

    @property
    def _method(self) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(type(self.component), self.name).__get__(self.component)
        return method

    @property
    def __signature__(self) -> inspect.Signature:
        # diffusers looks up what a component's method takes
        return inspect.signature(self._method)

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        given = self.__signature__.bind_partial(*arguments, **settings).arguments
        if (self.name == "push_to_hub" or given.get("push_to_hub")) and (access := _access(self.component)) != "open":
            raise InputError(
                f"{self.name}: this {type(self.component).__name__} was made from images whose access is {access}, "
                "not open; push the whole generator, by the pipeline's push_to_hub or `synthfair push`, into a private "
                "repository or with the permission under which it may be public."
            )
        if self.name == "save_pretrained" and (names := ", ".join(getattr(self.component, "peft_config", None) or {})):
            raise InputError(
                f"save_pretrained: the network has adapters ({names}), and could not be loaded from there; save them "
                "by save_lora_adapter, or call pipe.unload_lora_weights() on its pipeline, and before it "
                "pipe.fuse_lora(components=['unet']) to save it with them merged."
            )
        return self._method(*arguments, **settings)


def _access(component: Any) -> Access:
    """The access to the images behind a component, by the record it was saved with and the pipeline it is part of."""
    return strictest(_recorded(component), vars(component).get(HELD, "open"))


def _recorded(component: Any) -> Access:
    place = vars(component).get(ORIGIN) or getattr(component, "config", {}).get("_name_or_path")
    if not place or not Path(place).is_dir():
        return "unknown"
    folder = Path(place)
    root = next((one for one in (folder, folder.parent) if (one / RECORD).exists()), None)
    if root is None or (hasattr(component, "state_dict") and not same_weights(component, folder)):
        return "unknown"
    return recorded_access(root)


def same_weights(module: Any, folder: Path) -> bool:
    """Whether a module's weights are those saved in a folder, in whatever precision they are held."""
    import torch
    from safetensors.torch import load_file

    stored: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        stored |= load_file(file)
    held = {key: one.cpu() for key, one in module.state_dict().items()}
    return stored.keys() == held.keys() and all(torch.equal(stored[key].to(one), one) for key, one in held.items())
