"""Mitigation methods, one per file. To add one: its file, and its line in METHODS.

- `method` — `Method`: empirical risk minimisation, the base class with its five hooks
- `resampling` — `Resampling`: groups balanced by sampling
- `reweighting` — `Reweighting`: groups balanced by weights
- `group_dro` — `GroupDRO`: group distributionally robust optimisation
- `jtt` — `JustTrainTwice`: mistakes of a first classifier are upweighted
- `last_layer_retraining` — `LastLayerRetraining`: the last layer is refitted on balanced validation rows
- `cvar_dro` — `CVaRDRO`: the mean loss of the worst rows
- `focal` — `Focal`: rows that are classified well count less
- `lff` — `LearningFromFailure`: rows that a biased classifier finds hard count more
- `mixup` — `Mixup`: rows are mixed
- `lisa` — `LISA`: rows are mixed across groups within a label, or across labels within a group
- `sam` — `SAM`: sharpness-aware minimisation
- `domain_independent` — `DomainIndependent`: a last layer for each group
- `domain_adversarial` — `DomainAdversarial`: features from which the group cannot be predicted
- `threshold_postprocessing` — `ThresholdPostprocessing`: a threshold per group
- `equalized_odds_postprocessing` — `EqualizedOddsPostprocessing`: randomised thresholds per group
- `balanced_synthetic` — `BalancedSynthetic`: balanced synthetic rows are added
- `counterfactual_augmentation` — `CounterfactualAugmentation` and `PairConsistency`: counterfactual rows are added
- `selective_finetuning` — `SelectiveFinetuning`: parameters chosen by gradients are fine-tuned on synthetic rows
- `attention_alignment` — `AttentionAlignment`: attention is aligned with the region of the finding
"""

from .attention_alignment import AttentionAlignment
from .balanced_synthetic import BalancedSynthetic
from .counterfactual_augmentation import CounterfactualAugmentation, PairConsistency
from .cvar_dro import CVaRDRO
from .domain_adversarial import DomainAdversarial
from .domain_independent import DomainIndependent
from .equalized_odds_postprocessing import EqualizedOddsPostprocessing
from .focal import Focal
from .group_dro import GroupDRO
from .jtt import JustTrainTwice
from .last_layer_retraining import LastLayerRetraining
from .lff import LearningFromFailure
from .lisa import LISA
from .method import Method
from .mixup import Mixup
from .resampling import Resampling
from .reweighting import Reweighting
from .sam import SAM
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
    "cvar_dro": CVaRDRO,
    "focal": Focal,
    "lff": LearningFromFailure,
    "mixup": Mixup,
    "lisa": LISA,
    "sam": SAM,
    "domain_independent": DomainIndependent,
    "domain_adversarial": DomainAdversarial,
    "threshold_postprocessing": ThresholdPostprocessing,
    "equalized_odds_postprocessing": EqualizedOddsPostprocessing,
    "balanced_synthetic": BalancedSynthetic,
    "counterfactual_augmentation": CounterfactualAugmentation,
    "pair_consistency": PairConsistency,
    "selective_finetuning": SelectiveFinetuning,
    "attention_alignment": AttentionAlignment,
}
"""Every method by name; `erm`, empirical risk minimisation, is what the others are compared with."""
