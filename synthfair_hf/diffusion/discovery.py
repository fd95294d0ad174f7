"""Registers the pipeline with `diffusers.DiffusionPipeline.from_pretrained`, without importing it before it is used.

diffusers looks a pipeline's class up as an attribute of its own module. That attribute is added as soon as diffusers is
imported. Reading it imports the pipeline, and with it torch.

Without this package imported, diffusers has no such attribute, and its error repeats the class's name and nothing
else. So a saved pipeline is of class `synthfair_hf.CausalDiffusionPipeline`: the error names what is to be imported.
Pipelines saved before are of class `CausalDiffusionPipeline`; both are known here.
"""

from types import ModuleType

from ..imports import after_import

__all__ = ["announce"]

NAME = "CausalDiffusionPipeline"
SAVED_NAME = f"synthfair_hf.{NAME}"
"""The class of a saved pipeline, as written in its model_index.json."""


def announce() -> None:
    """Make the pipeline known to diffusers now or once it is imported.

    Calling it twice changes nothing.
    """
    after_import("diffusers", _add_attribute)


def _add_attribute(diffusers: ModuleType) -> None:
    def read(_module: ModuleType) -> type:
        from .pipeline import CausalDiffusionPipeline

        return CausalDiffusionPipeline

    kind = type(diffusers)
    if not hasattr(kind, NAME):
        diffusers.__class__ = type(kind.__name__, (kind,), {NAME: property(read), SAVED_NAME: property(read)})
