"""SynthFair: counterfactual chest radiographs whose biases are planted, known and traceable.

sources/, simulators/  images with covariates, real or from worlds whose mechanism is known
schema, presets        what a covariate is; what a domain is
causal/                what would the covariates have been?
diffusion/             what would the image have been?
generate/              plan -> shards -> records
views, builder         a biased view is a filter; `load_dataset("synthfair", "sex_imbalanced_90_10")`
report, cards, cli     what people look at
"""

from typing import Any

import datasets.load
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

from .diffusion.discovery import announce

__version__ = "0.1.0"


class _ModuleFactory(datasets.load.PackagedDatasetModuleFactory):
    """Answers `load_dataset("synthfair", ...)` with synthfair_hf.views.builder, imported only then, and its files.

    `datasets` has no public registry of builders; tests/views/test_builder.py guards the two private names used here.
    """

    def get_module(self) -> Any:
        if self.name != "synthfair":
            return super().get_module()
        from .views.builder import dataset_module

        return dataset_module(self.data_dir, self.data_files, self.download_config)


_PACKAGED_DATASETS_MODULES["synthfair"] = ("synthfair_hf.views.builder", "")
datasets.load.PackagedDatasetModuleFactory = _ModuleFactory

announce()
