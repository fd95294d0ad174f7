"""What `synthfair_hf` offers, for type checkers and editors; `__init__.py` imports it when it is asked for."""

from .align.candidates import make_candidates as make_candidates
from .align.finetuning import align_generator as align_generator
from .causal.graph import CausalGraph as CausalGraph
from .causal.scm import StructuralCausalModel as StructuralCausalModel
from .diffusion.counterfactual import counterfactual as counterfactual
from .diffusion.fitting import train_generator as train_generator
from .diffusion.generator import load_generator as load_generator
from .diffusion.pipeline import CausalDiffusionPipeline as CausalDiffusionPipeline
from .diffusion.saved import find_generator as find_generator
from .domains.ingest import ingest as ingest
from .domains.joined import JoinedFolders as JoinedFolders
from .domains.preset import Preset as Preset
from .domains.presets import get_preset as get_preset
from .domains.readers import DataSetFolder as DataSetFolder
from .domains.registry import open_source as open_source
from .domains.worlds import open_world as open_world
from .errors import InputError as InputError
from .fairness.adapter import AdaptedClassifier as AdaptedClassifier
from .fairness.audit import audit as audit
from .fairness.audit_page import audit_predictions as audit_predictions
from .fairness.benchmark.board import benchmark as benchmark
from .fairness.detection import detect as detect
from .fairness.detectors import DETECTORS as DETECTORS
from .fairness.evaluation import audit_classifier as audit_classifier
from .fairness.evaluation import detect_classifier as detect_classifier
from .fairness.flips import flip_rates as flip_rates
from .fairness.labelled import LabelledImages as LabelledImages
from .fairness.mitigation import METHODS as METHODS
from .fairness.mitigation.method import Method as Method
from .fairness.pretrained import open_classifier as open_classifier
from .generate.dataset import generate_dataset as generate_dataset
from .generate.plan import GenerationPlan as GenerationPlan
from .generate.verification import verify as verify
from .measure.predictors import load_predictor as load_predictor
from .measure.predictors import train_predictor as train_predictor
from .measure.scoreboard import measure_realism as measure_realism
from .measure.scoreboard import measure_soundness as measure_soundness
from .records import Record as Record
from .schema import Schema as Schema
from .schema import Variable as Variable
from .views.preset import load_preset as load_preset
from .views.view import BiasedView as BiasedView
from .views.view import curated_views as curated_views
from .views.view import get_view as get_view

__version__: str
