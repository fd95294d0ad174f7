"""Registers the pipeline with `diffusers.DiffusionPipeline.from_pretrained`, without importing it before it is used.

diffusers looks a pipeline's class up as an attribute of its own module. That attribute is added as soon as diffusers is
imported: now, when it already is; otherwise right after, by a finder that steps in for that one import. Reading the
attribute imports the pipeline, and with it torch.

Without this package imported, diffusers has no such attribute, and its error repeats the class's name and nothing
else. So a saved pipeline is of class `synthfair_hf.CausalDiffusionPipeline`: the error names what is to be imported.
Pipelines saved before are of class `CausalDiffusionPipeline`; both are known here.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["announce"]

NAME = "CausalDiffusionPipeline"
SAVED_NAME = f"synthfair_hf.{NAME}"
"""The class of a saved pipeline, as written in its model_index.json."""


def announce() -> None:
    """Make the pipeline known to diffusers now or once it is imported.

    Calling it twice changes nothing.
    """
    if "diffusers" in sys.modules:
        _add_attribute(sys.modules["diffusers"])
    elif not any(isinstance(finder, _DiffusersFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _DiffusersFinder())


def _add_attribute(diffusers: ModuleType) -> None:
    def read(_module: ModuleType) -> type:
        from .pipeline import CausalDiffusionPipeline

        return CausalDiffusionPipeline

    kind = type(diffusers)
    if not hasattr(kind, NAME):
        diffusers.__class__ = type(kind.__name__, (kind,), {NAME: property(read), SAVED_NAME: property(read)})


class _DiffusersFinder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "diffusers":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _AnnouncingLoader(spec.loader)
        return spec


class _AnnouncingLoader(Loader):
    """diffusers' own loader, followed by the announcement."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        # diffusers puts a lazy module in its own place while it is executed.
        _add_attribute(sys.modules["diffusers"])
