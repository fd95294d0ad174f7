"""One mitigation method per file. To add one: its file, and its line in METHODS."""

from .attention_alignment import AttentionAlignment
from .balanced_synthetic import BalancedSynthetic
from .counterfactual_augmentation import CounterfactualAugmentation, PairConsistency
from .domain_adversarial import DomainAdversarial
from .group_dro import GroupDRO
from .jtt import JustTrainTwice
from .last_layer_retraining import LastLayerRetraining
from .method import Method
from .resampling import Resampling
from .reweighting import Reweighting
from .selective_finetuning import SelectiveFinetuning
from .threshold_postprocessing import ThresholdPostprocessing

__all__ = ["METHODS"]

METHODS: dict[str, type[Method]] = {
    "erm": Method,
    "resampling": Resampling,
    "reweighting": Reweighting,
    "group_dro": GroupDRO,
    "jtt": JustTrainTwice,
    "last_layer_retraining": LastLayerRetraining,
    "domain_adversarial": DomainAdversarial,
    "threshold_postprocessing": ThresholdPostprocessing,
    "balanced_synthetic": BalancedSynthetic,
    "counterfactual_augmentation": CounterfactualAugmentation,
    "pair_consistency": PairConsistency,
    "selective_finetuning": SelectiveFinetuning,
    "attention_alignment": AttentionAlignment,
}
"""Every method by name; `erm`, which mitigates nothing, is what the others are compared with."""
