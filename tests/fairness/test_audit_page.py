"""The audit of a table, written down: what the page shows is the record, and the verb's exit status its conditions."""

import json
import re

import numpy as np
import pandas
import pytest

from synthfair_hf.cli import main
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.audit import audit, plain_rows
from synthfair_hf.fairness.audit_figures import PLOTTED, axis_of
from synthfair_hf.fairness.audit_page import HEADLINES, audit_predictions
from synthfair_hf.fairness.reliability import reliability
from synthfair_hf.records import Record

QUICK = {"n_bootstrap": 30, "permutations": 20}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 300)
    frame = pandas.DataFrame(
        {
            "y": labels,
            "p": np.clip(0.4 * labels + 0.6 * rng.random(300), 0, 1).round(3),
            "sex": rng.choice(["f", "m", "<script>alert(1)</script>"], 300, p=[0.5, 0.45, 0.05]),
            "age": rng.integers(20, 90, 300),
            "patient": rng.integers(0, 120, 300),
            "w": rng.integers(0, 3, 300),
        }
    )
    path = tmp_path_factory.mktemp("predictions") / "p.csv"
    frame.to_csv(path, index=False)
    return path


def test_page_tables_and_record_say_the_same(table, tmp_path):
    asked = {"bins": {"age": [50]}, "subject": "patient", "intersections": [("sex", "age")], **QUICK}
    conditions = ["gap(tpr, sex) > 0", "auc(everyone) < 0.1"]
    record, outcomes = audit_predictions(table, "y", "p", ["sex", "age"], tmp_path / "out", fail_if=conditions, **asked)
    assert [one.holds for one in outcomes] == [True, False]
    assert Record.read(tmp_path / "out" / "audit.json") == record
    frame = pandas.read_csv(table)
    groups = {"sex": frame["sex"].tolist(), "age": np.where(frame["age"] < 50, "<50", ">=50").tolist()}
    same = audit(
        frame["p"], frame["y"], groups, frame["patient"].tolist(), intersections=[("sex", "age")], **QUICK
    ).to_record()
    assert record.measured["gaps"] == same["gaps"]
    assert record.measured["groups"] == same["groups"]
    curves = reliability(
        frame["p"], frame["y"], groups, frame["patient"].tolist(), [("sex", "age")], n_bootstrap=QUICK["n_bootstrap"]
    )
    assert record.measured["reliability"] == plain_rows(curves)
    for name in ("gaps", "groups", "reliability"):
        read = pandas.read_csv(tmp_path / "out" / f"{name}.csv")
        assert len(read) == len(record.measured[name])
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert ">holds:<" in page
    assert "does not hold:" in page
    for row in same["groups"]:
        if row["metric"] in PLOTTED and row["value"] is not None:
            assert f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in page
    assert page.count("<svg") == len(curves.groupby(["attribute", "group"])) - 1
    assert page.count("<circle") == (curves["n"] > 0)[curves["attribute"] != "everyone"].sum()
    for row in plain_rows(curves):
        if row["n"] and row["attribute"] == "age":
            assert f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}] of n = {row['n']}" in page
    places = [float(place) for place in re.findall(r"left: ([-\d.]+)%", page)]
    assert min(places) >= 0
    assert max(places) <= 100


def test_the_verb_exits_with_one_where_a_condition_holds(table, tmp_path, capsys):
    words = f"audit --predictions {table} --label y --score p --groups sex --n_bootstrap 20 --permutations 20"
    words = [*words.split(), "--output_dir", str(tmp_path / "out"), "--fail_if"]
    assert main([*words, "auc(everyone) < 0.1"]) == 0
    assert "does not hold: auc(everyone) < 0.1 (it is 0.9" in capsys.readouterr().out
    assert main([*words, "auc(everyone) > 0.1"]) == 1
    assert "holds: auc(everyone) > 0.1" in capsys.readouterr().out
    assert main([*words, "auc(all) > 0.1"]) == 2
    assert "--fail_if" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "missing"}, "label: column of p.csv"),
        ({"fail_if": ["gap(tpr, age) > 1"]}, "attribute: 'age' is unknown"),
        ({"intersections": [("sex",)]}, "intersections"),
        ({"score": "age"}, "scores: .* not in .0, 1"),
        ({"weight": "p", "threshold": 2}, "threshold"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(table, tmp_path, change, message):
    asked = {"label": "y", "score": "p", "groups": ["sex"], **QUICK, **change}
    with pytest.raises(InputError, match=message):
        audit_predictions(table, output_dir=tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_one_class_and_constant_scores_have_no_value_and_no_error(tmp_path):
    pandas.DataFrame({"y": [1, 1, 1, 1], "p": [0.5] * 4, "g": list("aabb")}).to_csv(tmp_path / "p.csv", index=False)
    record, _ = audit_predictions(tmp_path / "p.csv", "y", "p", ["g"], tmp_path / "out", **QUICK)
    (auc,) = [row for row in record.measured["gaps"] if row["metric"] == "auc_gap"]
    assert (auc["value"], auc["p"], auc["n"]) == (None, None, 4)
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["counts"]["positives"] == 4


@pytest.fixture
def findings(tmp_path):
    """A table of two findings, one of which is unknown of some rows, and biased."""
    rng = np.random.default_rng(3)
    frame = pandas.DataFrame({"sex": rng.choice(["f", "m"], 200), "patient": rng.integers(0, 90, 200)})
    for name, effect in (("effusion", 0.0), ("edema", 0.5)):
        frame[name] = rng.integers(0, 2, 200)
        frame[f"p_{name}"] = (0.5 * frame[name] * (1 - effect * (frame["sex"] == "f")) + 0.5 * rng.random(200)).round(3)
    frame["edema"] = frame["edema"].astype(object).where(rng.random(200) > 0.1, "")
    path = tmp_path / "several.csv"
    frame.to_csv(path, index=False)
    return path


def test_several_findings_are_the_audits_of_each_adjusted_together(findings, tmp_path):
    names = ["effusion", "edema"]
    asked = {"groups": ["sex"], "subject": "patient", "max_fpr": 0.3, **QUICK}
    conditions = ["gap(tpr, sex) > 0.1", "edema : auc(everyone) > 0"]
    several, outcomes = audit_predictions(
        findings, names, [f"p_{name}" for name in names], output_dir=tmp_path / "all", fail_if=conditions, **asked
    )
    told = ["effusion: gap(tpr, sex) > 0.1", "edema: gap(tpr, sex) > 0.1", "edema : auc(everyone) > 0"]
    assert [one.condition for one in outcomes] == several.settings["fail_if"] == told
    page, tested = (tmp_path / "all" / "audit.html").read_text(), []
    for name in names:
        record, (own,) = audit_predictions(
            findings, name, f"p_{name}", output_dir=tmp_path / name, fail_if=conditions[:1], **asked
        )
        (same,) = [one for one in outcomes if one.condition == f"{name}: {own.condition}"]
        assert (same.holds, same.figure) == (own.holds, own.figure)
        assert several.counts["findings"][name] == record.counts
        for table in ("groups", "gaps", "reliability"):
            ours = [row for row in several.measured[table] if row["finding"] == name]
            assert [{"finding": name, **row} for row in record.measured[table]] == ours
            read = pandas.read_csv(tmp_path / "all" / f"{table}.csv")
            assert read.columns[0] == "finding"
            assert (read["finding"] == name).sum() == len(ours)
        headlines = [row["p"] for row in record.measured["gaps"] if row["metric"] in HEADLINES]
        tested += [p for p in headlines if p is not None]
        # as it is alone
        listed, _ = audit_predictions(findings, [name], [f"p_{name}"], output_dir=tmp_path / "2", **asked)
        assert listed.measured["gaps"] == record.measured["gaps"]
        assert listed.settings["columns"] == record.settings["columns"]
    assert f"for all {len(tested)} tests on this page, of 2 findings" in page
    assert f'data-name="Holm">{min(1, min(tested) * len(tested)):.3f}<' in page
    assert page.count('class="finding"') == 2
    assert f"permutations for so many tests the least of them is {min(1, len(tested) / 21):.2f} or more" in page


def test_the_verb_audits_several_findings(findings, tmp_path, capsys):
    words = f"audit --predictions {findings} --groups sex --n_bootstrap 9 --permutations 9 --output_dir {tmp_path}/out"
    both = ["--label", "effusion", "edema", "--score", "p_effusion", "p_edema"]
    assert main([*words.split(), *both, "--fail_if", "edema: auc(everyone) > 0"]) == 1
    told = capsys.readouterr().out
    assert "edema: left out: " in told
    assert "effusion, sex: auc_gap" in told
    assert "holds: edema: auc(everyone) > 0" in told
    assert main([*words.split(), *both[:5]]) == 2
    assert "--label, --score: 2 labels and 1 score; give a column of each" in capsys.readouterr().err
    assert main(f"audit --classifier c --data_dir d --groups sex --output_dir o {' '.join(both[:3])}".split()) == 2
    assert "--label: effusion, edema; give one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": ["p_effusion"]}, "label, score: 2 labels and 1 score; give a column of each for every finding"),
        ({"label": [], "score": []}, "label, score: 0 labels and 0 scores"),
        ({"score": ["p_edema", "p_edema"]}, "label, score: 'p_edema' is named twice"),
        ({"fail_if": ["edma: auc(everyone) > 0"]}, "fail_if: finding: 'edma' is unknown; .*did you mean 'edema'"),
        ({"label": ["effusion", "oedema"]}, "label: column of several.csv: 'oedema' is unknown"),
    ],
)
def test_findings_that_do_not_fit_are_named_and_nothing_is_written(findings, tmp_path, change, message):
    asked = {"label": ["effusion", "edema"], "score": ["p_effusion", "p_edema"], "groups": ["sex"], **QUICK, **change}
    with pytest.raises(InputError, match=message):
        audit_predictions(findings, output_dir=tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.31, 0.34), (0.5, 0.5), (0.0, 0.0), (0.999, 1.0)])
def test_an_axis_holds_its_figures(ends):
    low, high, step = axis_of(*ends)
    assert low <= ends[0] + 1e-9
    assert high >= ends[1] - 1e-9
    assert high > low
    assert 1 <= round((high - low) / step) <= 7


def test_small_groups_and_unknown_ones_are_told(tmp_path, capsys):
    frame = pandas.DataFrame({"y": [0, 1] * 20, "p": [0.2, 0.7] * 20, "g": ["a"] * 20 + ["b"] * 16 + ["c"] * 3 + [""]})
    frame.to_csv(tmp_path / "p.csv", index=False)
    words = ["audit", "--predictions", str(tmp_path / "p.csv"), "--label", "y", "--score", "p", "--groups", "g"]
    assert main([*words, "--n_bootstrap", "5", "--permutations", "5", "--output_dir", str(tmp_path / "out")]) == 0
    assert "1 of unknown group" in capsys.readouterr().out
    assert "g=c has 3 rows: a difference may be theirs by chance" in (tmp_path / "out" / "audit.html").read_text()
    assert main([*words, "--n_bootstrap", "5", "--permutations", "0", "--output_dir", str(tmp_path / "no")]) == 0
    untested = (tmp_path / "no" / "audit.html").read_text()
    assert "no test was made" in untested
    assert ">p</th>" not in untested
    assert "Holm" not in untested
