"""SynthFair: counterfactual chest radiographs whose biases are planted, known and traceable.

domains/     what is observed, and where images come from
causal/      what would the covariates have been?
training/    the one training loop
views/       a biased view is a filter; `load_dataset("./synthfair", "sex_imbalanced_90_10")`
publish/     pages printed from records, releases on the Hub
diffusion/   what would the image have been?
generate/    plan -> run -> store
measure/     is the generator true?
align/       which of two images is better?
fairness/    is the classifier fair?
cli/         `synthfair VERB`: one verb, one class

What stands beside the rooms is used by several: errors, arguments, missing, records, schema, access, yaml_files,
progress, imports.
Importing the package registers its builder with `datasets` and its pipeline with `diffusers`, and keeps `datasets` from
pushing rows that are not open: now, or as soon as those are imported. The public names below are imported when they
are asked for.
"""

import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from threading import RLock, current_thread, main_thread
from typing import Any

if {"synthfair", "synthfair_hf.cli"} & {Path(word).name for word in sys.orig_argv[:6]}:
    # Imports take seconds and turn an interrupt into errors of their own; `cli.main` sets Python's handler again.
    def _end(*_: object) -> None:
        os.write(2, b"synthfair: interrupted before anything was begun.\n")
        os._exit(130)

    if current_thread() is main_thread():
        signal.signal(signal.SIGINT, _end)

from .diffusion.discovery import announce
from .imports import after_import
from .views.registration import register

__version__ = "0.1.0"

_PUBLIC = {
    "InputError": "errors",
    "Record": "records",
    "Schema": "schema",
    "Variable": "schema",
    "Preset": "domains.preset",
    "get_preset": "domains.presets",
    "DataSetFolder": "domains.readers",
    "JoinedFolders": "domains.joined",
    "ingest": "domains.ingest",
    "open_source": "domains.registry",
    "open_world": "domains.worlds",
    "CausalGraph": "causal.graph",
    "StructuralCausalModel": "causal.scm",
    "BiasedView": "views.view",
    "curated_views": "views.view",
    "get_view": "views.view",
    "load_preset": "views.preset",
    "CausalDiffusionPipeline": "diffusion.pipeline",
    "counterfactual": "diffusion.counterfactual",
    "find_generator": "diffusion.saved",
    "load_generator": "diffusion.generator",
    "train_generator": "diffusion.fitting",
    "GenerationPlan": "generate.plan",
    "generate_dataset": "generate.dataset",
    "validate": "generate.documents",
    "verify": "generate.verification",
    "write_card": "generate.documents",
    "write_governance": "generate.governance",
    "load_predictor": "measure.predictors",
    "measure_realism": "measure.scoreboard",
    "measure_soundness": "measure.scoreboard",
    "train_predictor": "measure.predictors",
    "align_generator": "align.finetuning",
    "make_candidates": "align.candidates",
    "DETECTORS": "fairness.detectors",
    "METHODS": "fairness.mitigation",
    "Method": "fairness.mitigation.method",
    "LabelledImages": "fairness.labelled",
    "AdaptedClassifier": "fairness.adapter",
    "open_classifier": "fairness.pretrained",
    "audit": "fairness.audit",
    "audit_classifier": "fairness.evaluation",
    "audit_metrics": "fairness.trainer_metrics",
    "audit_predictions": "fairness.audit_page",
    "causal_influence": "fairness.influence",
    "benchmark": "fairness.benchmark.board",
    "detect": "fairness.detection",
    "detect_classifier": "fairness.evaluation",
    "flip_rates": "fairness.flips",
    "invariance_test": "fairness.invariance",
    "load_metric": "fairness.hf_metrics",
    "monitor_predictions": "fairness.monitoring",
}
"""Public names, and the modules that hold them."""

__all__ = [*_PUBLIC]

_IMPORTING = RLock()


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # diffusers' own lazy modules fail where several threads import them at once
    with _IMPORTING:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return [*_PUBLIC, "__version__"]


after_import("datasets", register)
announce()
