"""Every verb by name, in the order of the help."""

from .datasets import Demo, Generate, Merge, Recipes, Verify
from .documents import Card, Governance, Push, Validate
from .explorer import App, Report, Views
from .fairness import Audit, Benchmark, Detect, Monitor
from .generators import Counterfactual, Finetune, Rectify, SuperResolve, Train
from .measures import Autoencoder, Calibrate, MeasureRealism, MeasureShortcuts, MeasureSoundness, Predictor
from .preferences import Align, Candidates, Fuse, Judge, Label
from .settings import VerbSettings
from .sources import Ingest, PresetFile, Sources

__all__ = ["RENAMED_VERBS", "VERBS"]

_GENERATORS = (Train, Finetune, Rectify, SuperResolve)
_MEASURES = (Predictor, Autoencoder, Calibrate, MeasureSoundness, MeasureRealism, MeasureShortcuts)
_PREFERENCES = (Candidates, Judge, Label, Align, Fuse)
_DATA_SETS = (Recipes, Generate, Verify, Validate, Card, Governance, Merge, Push)
_CLASSIFIERS = (Audit, Monitor, Detect, Benchmark)
_REST = (PresetFile, Sources, Ingest, Views, Report, Demo, App)

VERBS: dict[str, type[VerbSettings]] = {
    one.verb: one
    for one in (*_GENERATORS, *_MEASURES, *_PREFERENCES, *_DATA_SETS, Counterfactual, *_CLASSIFIERS, *_REST)
}

RENAMED_VERBS: dict[str, str] = {"straighten": "rectify", "enlarge": "super_resolve"}
"""Verbs that go by another name now."""
