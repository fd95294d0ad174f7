"""The Trainer of transformers logs the figures of an audit of its evaluation set."""

import numpy as np
import pytest
import torch
import transformers

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.audit import EVERYONE, audit
from synthfair_hf.fairness.trainer_metrics import audit_metrics

N = 24
SEX = ["f", "m", "m"] * 8
IMAGES = torch.rand(N, 1, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = np.arange(N) % 2


def evaluated(logits, labels=LABELS):
    return transformers.EvalPrediction(predictions=logits, label_ids=labels)


def expected(scores, labels=LABELS, **settings):
    found = audit(scores, labels, {"sex": SEX}, n_bootstrap=1, permutations=0, **settings)
    values = found.groups[found.groups["attribute"] == EVERYONE].set_index("metric")["value"]
    gaps = found.gaps.set_index("metric")["value"]
    return {"auc": values["auc"], "accuracy": values["accuracy"], "sex_auc_gap": gaps["auc_gap"]}


@pytest.mark.parametrize("count", [1, 2])
def test_a_trainer_logs_them(tmp_path, count):
    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_channels=1)
    config.num_labels = count
    model = transformers.AutoModelForImageClassification.from_config(config)
    rows = [
        {"pixel_values": image, "labels": float(label) if count == 1 else int(label)}
        for image, label in zip(IMAGES, LABELS, strict=True)
    ]
    trainer = transformers.Trainer(
        model,
        transformers.TrainingArguments(str(tmp_path), report_to=[], use_cpu=True, disable_tqdm=True),
        eval_dataset=rows,
        compute_metrics=audit_metrics({"sex": SEX}, ["auc_gap"]),
    )
    logged = trainer.evaluate()
    with torch.no_grad():
        logits = model.eval()(IMAGES).logits.double()
    scores = (logits.softmax(dim=1)[:, 1] if count == 2 else logits[:, 0].sigmoid()).numpy()
    for name, value in expected(scores).items():
        assert logged[f"eval_{name}"] == pytest.approx(value, abs=1e-6)


def test_one_label_of_several_is_the_finding():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(N, 4)), rng.integers(0, 4, N)
    scores = torch.from_numpy(logits).softmax(dim=1)[:, 3].numpy()
    found = audit_metrics({"sex": SEX}, ["auc_gap"], label=3, threshold=0.2)(evaluated(logits, labels))
    assert found == pytest.approx(expected(scores, (labels == 3).astype(int), threshold=0.2))
    assert audit_metrics({"sex": SEX}, ["auc_gap"], label=3)(evaluated((logits, labels), labels)).keys() == found.keys()


@pytest.mark.parametrize(
    ("settings", "logits", "message"),
    [
        ({"metrics": ["auc_gpa"]}, np.zeros(N), "metrics: 'auc_gpa' is unknown; allowed: .*; did you mean 'auc_gap'"),
        ({"label": -1}, np.zeros(N), "label: -1 is invalid"),
        ({"label": 2}, np.zeros((N, 2)), "label: 2 is out of range"),
        ({}, np.zeros((N, 3)), "label: not given, and the classifier has 3 outputs"),
        ({}, np.zeros((N, 3, 3)), r"predictions: of shape \[24, 3, 3\] for 24 labels; give a model that classifies"),
        ({}, np.zeros((N - 1, 2)), "predictions: of shape .* for 24 labels"),
    ],
)
def test_what_does_not_fit_is_told(settings, logits, message):
    with pytest.raises(InputError, match=message):
        audit_metrics({"sex": SEX}, **settings)(evaluated(logits))
    with pytest.raises(InputError, match=r"groups\['sex'\]: 3 values for 24 scores"):
        audit_metrics({"sex": SEX[:3]})(evaluated(np.zeros(N)))
