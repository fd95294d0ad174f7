"""A saved classifier on a data set: its page says what audit and flips say of its scores, and detection is `detect`."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
import transformers
from datasets import load_dataset

import synthfair_hf
from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.cli import main
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.fairness import influence
from synthfair_hf.fairness.audit import audit
from synthfair_hf.fairness.audit_page import audit_predictions
from synthfair_hf.fairness.detection import FALSE_ALARMS, detect
from synthfair_hf.fairness.evaluation import EvaluationRows, audit_classifier, detect_classifier
from synthfair_hf.fairness.flips import flip_rates
from synthfair_hf.fairness.interface import weights_hash
from synthfair_hf.fairness.labelled import LabelledImages
from synthfair_hf.fairness.pretrained import open_classifier
from synthfair_hf.records import Record

CAUSAL_MODEL = Path(synthfair_hf.__file__).parent / "pretrained" / "chest_xray_64"
QUICK = {"n_bootstrap": 20, "permutations": 20}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A classifier with random weights, of some size."""
    directory = tmp_path_factory.mktemp("classifier") / "mine"
    torch.manual_seed(0)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_channels=1)
    model = transformers.AutoModelForImageClassification.from_config(config)
    with torch.no_grad():
        model.classifier[-1].weight *= 40
        model.classifier[-1].bias.zero_()
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def test_rows(store):
    rows = load_dataset("synthfair", "full", data_dir=str(store), split="test")
    return rows, LabelledImages.from_dataset(rows, CHEST_XRAY, ("sex", "view"))


def test_the_audit_is_that_of_the_scores_and_flips_are_of_what_families_cross(store, saved, test_rows, tmp_path):
    rows, examples = test_rows
    scores = open_classifier(saved).logits(examples.images).double().sigmoid().numpy()
    asked = {"threshold": float(np.median(scores)), **QUICK}
    record, _ = audit_classifier(saved, store, ["sex", "scanner", "view", "race"], tmp_path / "out", **asked)
    table = pandas.read_csv(tmp_path / "out" / "predictions.csv")
    assert table["id"].tolist() == rows["id"][:]
    np.testing.assert_allclose(table["score"], scores)
    assert table["finding"].tolist() == examples.labels.tolist()
    assert table["sex"].tolist() == [CHEST_XRAY.covariates["sex"].levels[code] for code in rows["sex"][:]]
    groups = {name: table[name].astype(object).where(table[name].notna(), None).tolist() for name in ("sex", "race")}
    same = audit(scores, examples.labels, groups, table["subject_id"].tolist(), **asked).to_record()
    for attribute in groups:
        ours, theirs = (
            [row for row in found["gaps"] if row["attribute"] == attribute] for found in (record.measured, same)
        )
        assert ours == theirs
    assert list(record.measured["flips"]) == ["sex", "scanner"]
    factors = {name: table[name].tolist() for name in ("sex", "scanner", "finding")}
    moved = flip_rates(scores, table["subject_id"].tolist(), factors, "sex", asked["threshold"], n_bootstrap=20)
    own = {(row["from"], row["metric"]): row for row in record.measured["flips"]["sex"]}
    overall = moved[(moved["from"] == "any") & (moved["metric"] == "flip_rate")].iloc[0]
    assert own["any", "flip_rate"]["value"] == pytest.approx(overall["value"]) != 0
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "do(scanner)" in page
    assert "do(view)" not in page
    assert f"{overall['value']:.3f} [" in page
    assert record.inputs["classifier"] == open_classifier(saved).fingerprint
    assert Record.read(tmp_path / "out" / "audit.json") == record
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("audit.html", "audit.json", "flips.csv", "gaps.csv", "groups.csv", "predictions.csv", "reliability.csv")
    }


def test_of_an_intersection_flips_are_joint_and_within_the_groups_of_the_others(store, saved, tmp_path, capsys):
    asked = {"intersections": [("sex", "scanner"), ("sex", "race")], "threshold": 0.49, **QUICK}
    record, _ = audit_classifier(saved, store, ["sex", "scanner", "race"], tmp_path / "out", **asked)
    found = record.measured["flips"]
    assert list(found) == [
        *("sex", "scanner", "sex & scanner", "sex within scanner", "scanner within sex", "sex within race")
    ]
    table = pandas.read_csv(tmp_path / "out" / "predictions.csv").astype({"race": object})
    given = table["score"], table["subject_id"].tolist(), {n: table[n].tolist() for n in ("sex", "scanner", "finding")}
    race = {"race": [None if pandas.isna(one) else one for one in table["race"]]}
    for name, attribute, within in (("sex & scanner", ["sex", "scanner"], None), ("sex within race", "sex", race)):
        expected = flip_rates(*given, attribute, 0.49, n_bootstrap=20, within=within)
        figures = expected[["metric", "value", "n"]].to_dict("records")
        key = {row["metric"]: 0 for row in figures}
        assert key.keys() == {row["metric"] for row in found[name]}
        ours = sorted((row["metric"], row["n"], row["value"] is None or round(row["value"], 6)) for row in found[name])
        theirs = ((row["metric"], row["n"], pandas.isna(row["value"]) or round(row["value"], 6)) for row in figures)
        assert ours == sorted(theirs)
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "<h3>do(sex &amp; scanner)</h3>" in page
    assert "<h3>do(sex) within race</h3>" in page
    csv = pandas.read_csv(tmp_path / "out" / "flips.csv")
    assert len(csv) == sum(map(len, found.values()))
    words = f"audit --classifier {saved} --data_dir {store} --groups sex scanner --intersections sex,scanner"
    assert main([*words.split(), "--n_bootstrap", "9", "--permutations", "0", "--output_dir", str(tmp_path / "2")]) == 0
    assert "do(sex) within scanner = " in capsys.readouterr().out


def test_a_causal_model_tells_the_shares_that_covariates_have(store, saved, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(influence, "DRAWS", 512)
    asked = {"causal_model": CAUSAL_MODEL, "split": "train", **QUICK}
    record, _ = audit_classifier(saved, store, ["sex"], tmp_path / "out", **asked)
    rows = EvaluationRows(store, "full", "train", None)
    scores = pandas.read_csv(tmp_path / "out" / "predictions.csv")["score"].to_numpy()
    model = StructuralCausalModel.from_pretrained(CAUSAL_MODEL / "scm")
    columns = {name: rows.dataset[name][:] for name in model.covariates.names}
    expected = influence.causal_influence(scores, columns, model, rows.dataset["subject_id"][:], n_bootstrap=20)
    found = pandas.DataFrame(record.measured["influence"])
    assert found["covariate"].tolist() == [*model.covariates.names, influence.REST]
    np.testing.assert_allclose(found["value"], expected["value"], atol=1e-6)
    assert record.inputs["causal_model"] == weights_hash(model)
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "Share of predictions owed to each covariate" in page
    assert len(pandas.read_csv(tmp_path / "out" / "influence.csv")) == len(found)
    words = f"audit --classifier {saved} --data_dir {store} --groups sex --split train --causal_model {CAUSAL_MODEL}"
    assert main([*words.split(), "--n_bootstrap", "5", "--permutations", "0", "--output_dir", str(tmp_path / "2")]) == 0
    assert "owed to finding: " in capsys.readouterr().out


def test_the_table_it_writes_is_audited_to_the_same_figures(store, saved, tmp_path):
    asked = {"intersections": [("sex", "age")], "fail_if": ["gap(tpr, sex) > 0"], "bins": {"age": [40, 60]}, **QUICK}
    record, outcomes = audit_classifier(saved, store, ["sex", "age"], tmp_path / "out", split="validation", **asked)
    columns = {"label": "finding", "score": "score", "groups": ["sex", "age"], "subject": "subject_id"}
    again, same = audit_predictions(tmp_path / "out" / "predictions.csv", **columns, output_dir=tmp_path / "2", **asked)
    assert again.measured["gaps"] == record.measured["gaps"]
    assert again.inputs["predictions"] == record.inputs["predictions"]
    assert [one.condition for one in outcomes] == [one.condition for one in same] == ["gap(tpr, sex) > 0"]
    assert {row["group"] for row in record.measured["groups"] if row["attribute"] == "age"} == {"<40", "40-60", ">=60"}


def test_detection_is_that_of_the_rows_that_are_known(store, saved, test_rows, tmp_path):
    file = tmp_path / "detection.json"
    record, found = detect_classifier(saved, store, ["sex", "view"], permutations=59, output_file=file)
    same = detect(open_classifier(saved), test_rows[1], ("sex", "view"), "counterfactual", permutations=59)
    assert found.table.equals(same.table)
    assert Record.read(file) == record
    assert record.measured["verdict"] == same.verdict
    assert record.measured["table"][1]["reason"] == "no counterfactual pairs of both labels"


def test_rows_without_a_value_are_kept_by_an_audit_and_left_out_by_a_detection_and_counted(store, saved, tmp_path):
    record, _ = audit_classifier(saved, store, ["race"], tmp_path / "out", split="train", n_bootstrap=2, permutations=0)
    unknown = record.measured["gaps"][0]["unknown"]
    assert 0 < unknown < record.counts["n"]
    detected, _ = detect_classifier(saved, store, ["race"], "subgroup_gap", split="train", permutations=19)
    assert detected.counts["left_out"] == unknown
    assert detected.counts["rows"] == record.counts["n"] - unknown


def test_flips_are_of_rows_whose_factors_are_known_and_need_none_of_what_is_held_fixed(store):
    rows = EvaluationRows(store, "full", "test", None)
    scores = np.random.default_rng(0).random(len(rows.dataset))
    before = rows.flips(scores, ["sex", "view"], n_bootstrap=5)
    rows.dataset = rows.dataset.remove_columns("view").add_column("view", [-1] * len(scores))
    after = rows.flips(scores, ["sex", "view"], n_bootstrap=5)
    assert list(before) == list(after) == ["sex"]
    assert before["sex"].equals(after["sex"])
    scanners = rows.dataset["scanner"][:]
    rows.dataset = rows.dataset.remove_columns("scanner").add_column("scanner", [-1] * 12 + scanners[12:])
    some = rows.flips(scores, ["sex"], n_bootstrap=5)["sex"]
    assert some["n"].max() == before["sex"]["n"].max() - 6


def test_the_verbs_print_what_was_found(store, saved, tmp_path, capsys):
    who = ["--classifier", str(saved), "--data_dir", str(store)]
    quick = ["--n_bootstrap", "9", "--permutations", "9", "--output_dir", str(tmp_path / "out")]
    assert main(["audit", *who, "--groups", "sex", *quick]) == 0
    told = capsys.readouterr().out
    assert "do(sex): flips 0." in told
    assert "predictions.csv" in told
    assert main(["audit", *who, "--groups", "sex", *quick, "--fail_if", "auc(everyone) > 0"]) == 1
    capsys.readouterr()
    assert main(["detect", *who, "--attributes", "sex", "view", "--permutations", "59"]) == 0
    told = capsys.readouterr().out
    assert "sex: 0." in told
    assert "view: no value, no counterfactual pairs of both labels" in told
    assert "verdict: " in told
    assert "named an attribute for 24 of 30 classifiers fitted without bias" in told


ROWS = "--data_dir d"
TABLE = "--predictions p.csv --label y --score p"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "--predictions, --classifier: give one of them, a table or what predicts"),
        (f"{TABLE} --classifier c {ROWS}", "--predictions, --classifier: give one of them"),
        ("--classifier c", "--data_dir: not given; classifier needs it"),
        ("--predictions p.csv --score p", "--label: not given; predictions needs it"),
        (f"{TABLE} --split test", "--split: is given, and says nothing of predictions; leave it out"),
        (f"--classifier c {ROWS} --subject patient", "--subject: is given, and says nothing of classifier"),
    ],
)
def test_a_table_or_a_classifier_is_audited_and_each_has_its_flags(words, told, capsys):
    assert main(["audit", *words.split(), "--groups", "sex", "--output_dir", "out"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "tset"}, "split: 'tset' is unknown; allowed: train, validation, test; did you mean 'test'"),
        ({"groups": ["sxe"]}, "groups: 'sxe' is unknown; allowed: .*sex.*; did you mean 'sex'"),
        ({"groups": ["finding"]}, "groups: 'finding' is unknown"),
        ({"groups": []}, "groups: none; name one or more"),
        ({"view": "nonsense"}, "nonsense"),
        ({"finding": "effusion"}, "finding: 'effusion' is unknown"),
        ({"bins": {"sex": [1]}}, r"bins\['sex'\]: sex is no number; leave its bins out"),
        ({"bins": {"age": [1]}}, "bins: 'age' is unknown; allowed: sex"),
        ({"label": "edema"}, "label: 'edema' is unknown; allowed: LABEL_0, LABEL_1"),
        ({"data_dir": "nowhere"}, "nowhere"),
        ({"causal_model": "nowhere"}, "causal_model: nowhere can't be loaded .*; give the directory of a generator"),
        (
            {"causal_model": CAUSAL_MODEL.parent / "phantom_64"},
            "causal_model: its habitus is no covariate of this data",
        ),
        ({"fail_if": ["gap(tpr, race) > 0"]}, "race"),
    ],
)
def test_what_cannot_be_audited_is_told_and_nothing_is_written(store, saved, tmp_path, change, message):
    asked = {"classifier": saved, "data_dir": store, "groups": ["sex"], "output_dir": tmp_path / "out", **QUICK}
    with pytest.raises(InputError, match=message):
        audit_classifier(**{**asked, **change})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detector": "gap"}, "detector: 'gap' is unknown; allowed: subgroup_gap, counterfactual, shortcut, slices"),
        ({"attributes": []}, "attributes: none; give one or more"),
        ({"attributes": ["sex", "sex"]}, "attributes: 'sex' is given twice"),
        ({"attributes": ["seks"]}, "attributes: 'seks' is unknown"),
        ({"permutations": 3}, "permutations: 3 for 1 attributes never reach alpha 0.05; give 19 or more"),
        ({"alpha": 1.0}, r"alpha: 1 out of range; allowed: \(0, 1\)"),
    ],
)
def test_what_cannot_be_detected_is_told(store, saved, tmp_path, change, message):
    asked = {"classifier": saved, "data_dir": store, "attributes": ["sex"], "output_file": tmp_path / "found.json"}
    with pytest.raises(InputError, match=message):
        detect_classifier(**{**asked, "permutations": 19, **change})
    assert not (tmp_path / "found.json").exists()


def test_false_alarms_are_those_of_the_page():
    path = Path(__file__).parents[2] / "docs" / "detection" / "detection.json"
    scored = json.loads(path.read_text())["measured"]["score"]
    for detector, (named, of) in FALSE_ALARMS.items():
        (row,) = [
            row
            for row in scored
            if (row["detector"], row["rule"], row["planted"], row["metric"])
            == (detector, "permutation", "any", "false_alarm")
        ]
        assert (named, of) == (round(row["value"] * row["n"]), row["n"])
