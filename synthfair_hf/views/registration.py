"""`load_dataset("synthfair", ...)`, and what `datasets` may publish, once `datasets` is imported.

`datasets` has no public registry of builders; tests/views/test_builder.py guards the two private names used here.
"""

from types import ModuleType
from typing import Any

__all__ = ["register"]


def register(_: ModuleType) -> None:
    """Make the builder known to `datasets`, and guard what it pushes. Calling it twice changes nothing."""
    from .pushing import guard_push_to_hub

    # first, so that whatever fails below cannot leave it out
    guard_push_to_hub()
    import datasets.load
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    if "synthfair" not in _PACKAGED_DATASETS_MODULES:
        _PACKAGED_DATASETS_MODULES["synthfair"] = ("synthfair_hf.views.builder", "")
        datasets.load.PackagedDatasetModuleFactory = _answering(datasets.load.PackagedDatasetModuleFactory)


def _answering(factory: Any) -> type:
    """The factory of modules, which answers "synthfair" with `views.builder`, imported only then, and its files."""

    class ModuleFactory(factory):
        def get_module(self) -> Any:
            if self.name != "synthfair":
                return super().get_module()
            from .builder import dataset_module

            return dataset_module(self.data_dir, self.data_files, self.download_config)

    return ModuleFactory
