"""Cells are kept by their recipe, whatever else is requested; a leaderboard prints their figures, better or worse."""

import json
import shutil
import threading
import time
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch
import transformers
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthfair_hf.cli import main
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.audit import EVERYONE, audit
from synthfair_hf.fairness.benchmark import board as module
from synthfair_hf.fairness.benchmark import cells
from synthfair_hf.fairness.benchmark.board import benchmark, load_method
from synthfair_hf.fairness.benchmark.cells import (
    CELL_VERSION,
    FIGURES,
    N_BOOTSTRAP,
    DataSet,
    figures,
    method_identity,
    parts_of,
)
from synthfair_hf.fairness.benchmark.leaderboard import compare, summary, write_leaderboard
from synthfair_hf.fairness.flips import flip_rates
from synthfair_hf.fairness.mitigation import METHODS
from synthfair_hf.fairness.mitigation.method import Method
from synthfair_hf.fairness.pretrained import PretrainedClassifier, open_classifier
from synthfair_hf.records import Record, fingerprint
from synthfair_hf.views.view import get_view

STRONG, WEAK, TWIN = (f"finding_sex_correlated_{a}_{100 - a}" for a in (90, 70, 50))
SMALL = {"steps": 2, "seeds": 2}
SMALLER = ("resampling", {"batch_size": 8})
ROOT = Path(__file__).parents[3]

SUBMITTED = """
import torch
from synthfair_hf.fairness.mitigation.method import Method

class Backwards(Method):
    required_annotations = ("synthetic images",)

    def learn(self, train, validation, seed, synthetic):
        assert not set(validation.subjects) & set(synthetic.subjects)
        return self.optimise(train.concatenate(synthetic), validation, seed)

    def predict_proba(self, images, groups=None):
        return 1 - super().predict_proba(images, groups)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("views")


@pytest.fixture(autouse=True)
def _one_cache(cache, monkeypatch, _private_cache):
    """Every test here reads the same data set, so its views are prepared once."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)


@pytest.fixture(scope="module")
def calls():
    """(view, method, seed) of every cell that was fitted, in order."""
    return []


@pytest.fixture(autouse=True)
def _counted(calls, monkeypatch):
    fit_cell = module.fit_cell

    def counted(data, view, attribute, method, seed, *others):
        calls.append((view.name, type(method).__name__, seed))
        return fit_cell(data, view, attribute, method, seed, *others)

    monkeypatch.setattr(module, "fit_cell", counted)
    calls.clear()


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    """A finished benchmark of one view, read-only."""
    directory = tmp_path_factory.mktemp("benchmarks") / "finished"
    benchmark(store, [STRONG], ["resampling"], directory, **SMALL)
    return directory


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "finished")


def cells_of(directory):
    """Measured figures of a benchmark's cells by file name."""
    return {
        path.name: {key: value for key, value in json.loads(path.read_text())["measured"].items()}
        for path in (directory / "cells").iterdir()
    }


def test_a_killed_run_continues_and_no_cell_is_fitted_twice(store, finished, copied, calls, monkeypatch):
    whole = cells_of(finished)
    for name in sorted(whole)[3:]:
        (copied / "cells" / name).unlink()
    counted, left = module.fit_cell, [None] * 2

    def killed(*given):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return counted(*given)

    with monkeypatch.context() as patch:
        patch.setattr(module, "fit_cell", killed)
        with pytest.raises(KeyboardInterrupt):
            benchmark(store, [STRONG], ["resampling"], copied, **SMALL)
    assert len(calls) == 2
    benchmark(store, [STRONG], ["resampling"], copied, **SMALL)
    assert len(whole) == 8
    assert len(calls) == len(set(calls)) == 5
    assert cells_of(copied) == whole
    benchmark(store, [STRONG], ["resampling"], copied, **SMALL)
    assert len(calls) == 5


def test_processes_share_a_benchmark_and_write_the_cells_of_one(store, finished, tmp_path):
    benchmark(store, [STRONG], ["resampling"], tmp_path / "two", num_proc=2, **SMALL)
    assert cells_of(tmp_path / "two") == cells_of(finished)


def test_a_cell_that_another_process_fits_is_waited_for_and_not_fitted(store, finished, copied, calls):
    name = min(cells_of(finished))
    other = (copied / "cells" / name).read_bytes()
    (copied / "cells" / name).unlink()
    taken = threading.Event()

    def another_process():
        with FileLock((copied / "cells" / name).with_suffix(".lock")):
            taken.set()
            time.sleep(1)
            (copied / "cells" / name).write_bytes(other)

    thread = threading.Thread(target=another_process)
    thread.start()
    taken.wait()
    benchmark(store, [STRONG], ["resampling"], copied, **SMALL)
    thread.join()
    assert not calls
    assert cells_of(copied) == cells_of(finished)


def test_a_shared_twin_is_fitted_once_and_cells_are_independent(store, finished, tmp_path, calls):
    benchmark(store, [WEAK, STRONG], [], tmp_path / "two", **SMALL)
    assert sorted(calls) == sorted((view, "Method", seed) for view in (WEAK, STRONG, TWIN) for seed in (0, 1))
    ours, theirs = cells_of(finished), cells_of(tmp_path / "two")
    shared = ours.keys() & theirs.keys()
    assert len(shared) == 4
    assert all(ours[name] == theirs[name] for name in shared)


@pytest.mark.parametrize(
    ("changed", "fitted"),
    [
        ({"steps": 3}, 8),
        ({"train_subjects": 12}, 8),
        ({"methods": [SMALLER]}, 4),
        ({"methods": ["resampling", SMALLER]}, 4),
        ({"seeds": 3}, 4),
        ({"seeds": 1}, 0),
    ],
)
def test_a_changed_setting_is_another_cell_and_an_unchanged_one_the_same(store, copied, monkeypatch, changed, fitted):
    arguments = []
    monkeypatch.setattr(
        module, "fit_cell", lambda *given: arguments.append(given) or ({}, {"rows": {}, "seconds": 0.0})
    )
    monkeypatch.setattr(module, "write_leaderboard", lambda directory: None)
    benchmark(store, **{"views": [STRONG], "methods": ["resampling"], "output_dir": copied, **SMALL, **changed})
    assert len(arguments) == fitted


def test_a_method_with_settings_bears_them_in_its_name(store, copied, monkeypatch):
    """Cells of earlier benchmarks are found by these names."""
    monkeypatch.setattr(module, "fit_cell", lambda *given: ({}, {"rows": {}, "seconds": 0.0}))
    monkeypatch.setattr(module, "write_leaderboard", lambda directory: None)
    methods = ["resampling", ("resampling", {"batch_size": "8", "steps": 3})]
    record = benchmark(store, [STRONG], methods, copied, **SMALL)
    assert list(record.settings["methods"]) == ["erm", "resampling", "resampling:batch_size=8,steps=3"]


@pytest.fixture
def identity_of(tmp_path):
    """Identity of a submitted method of this text; every text is a file of the same name, in a directory of its own."""

    def identity(text):
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        directory.mkdir()
        (directory / "backwards.py").write_text(text)
        return method_identity(load_method(directory / "backwards.py"))

    return identity


DOCUMENTED = '"""Scores, mirrored."""\n# why not\n' + SUBMITTED.replace(
    "class Backwards(Method):", 'class Backwards(Method):\n    """Backwards,\n    indeed."""\n'
).replace("1 - super()", "1  -  super()")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (SUBMITTED, True),
        (DOCUMENTED, True),
        (DOCUMENTED.replace("indeed", "in deed").replace("why not", "because"), True),
        (SUBMITTED.replace("1 - super", "0.5 * super"), False),
        (SUBMITTED.replace("import torch", "import torch\nTHRESHOLD = 0.5"), False),
        (SUBMITTED.replace("    required_", "    version = 2\n    required_"), False),
        (SUBMITTED + "\ndef more(): return 'text that is returned'", False),
    ],
)
def test_a_submitted_method_is_known_by_its_statements_and_version_not_by_its_words(identity_of, text, same):
    assert (identity_of(text) == identity_of(SUBMITTED)) is same


def test_a_string_that_is_a_value_is_a_statement(identity_of):
    text = SUBMITTED + "\nNAME = {}\n"
    assert identity_of(text.format("'a'")) != identity_of(text.format("'b'"))


def test_a_submitted_file_is_fitted_again_when_its_code_changed_and_not_when_its_words_did(store, tmp_path, calls):
    path, fitted = tmp_path / "backwards.py", []
    for text in (SUBMITTED, DOCUMENTED, SUBMITTED.replace("1 - super", "0.5 * super"), SUBMITTED):
        path.write_text(text)
        calls.clear()
        benchmark(store, [STRONG], [], tmp_path / "b", method_files=[path], steps=2, seeds=1)
        fitted.append([name for _, name, _ in calls])
    assert fitted == [["Method", "Backwards"] * 2, [], ["Backwards"] * 2, []]


def test_a_raised_version_is_another_cell_and_of_nothing_else(monkeypatch, identity_of):
    """Versions of cells count for all methods, those of a method for itself and for what is built on it."""

    def identities():
        known = {name: method_identity(method) for name, method in METHODS.items()}
        return {**known, "own": identity_of(SUBMITTED), "built": identity_of(BUILT)}

    def moved(holder, name, value):
        before = identities()
        with monkeypatch.context() as patch:
            patch.setattr(holder, name, value, raising=False)
            after = identities()
        return {key for key in before if before[key] != after[key]}

    everything = {*METHODS, "own", "built"}
    assert moved(cells, "CELL_VERSION", CELL_VERSION + 1) == everything
    assert moved(Method, "version", Method.version + 1) == everything
    assert moved(METHODS["jtt"], "version", 2) == {"jtt"}
    assert moved(METHODS["resampling"], "version", 2) == {"resampling", "group_dro", "built"}
    with monkeypatch.context() as patch:
        patch.setattr(cells, "CELL_VERSION", 2)
        assert method_identity(METHODS["group_dro"]) == "cells 2, group_dro 1.1.1"
        assert len(set(identities().values())) == len(everything)


BUILT = SUBMITTED.replace("(Method)", "(Resampling)").replace(
    "mitigation.method import Method", "mitigation.resampling import Resampling"
)


@pytest.fixture
def _version_1(monkeypatch):
    monkeypatch.setattr(cells, "CELL_VERSION", 1)
    for method in METHODS.values():
        monkeypatch.setattr(method, "version", 1)


@pytest.mark.usefixtures("_version_1")
def test_version_1_is_called_what_was_recorded_before_versions_were_declared():
    """A literal value, computed by the code that identified a method by the text of modules."""
    recorded = {name: method_identity(method) for name, method in METHODS.items() if name in cells._FIRST}
    assert fingerprint(recorded) == "4d0463e4ac868a95"


@pytest.mark.usefixtures("_version_1")
@pytest.mark.parametrize("page", ["chest_xray", "chest_xray_scanner"])
def test_benchmarks_recorded_before_versions_were_declared_continue(page, monkeypatch):
    """The cells that these benchmarks list are those of the same request under version 1.

    A page that is recorded anew under another version leaves this list.
    """
    recorded = Record.read(ROOT / "docs" / "benchmark" / page / "benchmark.json")
    arguments = recorded.settings
    preset = get_preset(arguments["preset"])
    data = SimpleNamespace(
        identity=recorded.inputs["data_set"],
        preset=preset,
        finding=arguments["finding"],
        resolution=arguments["resolution"],
        subjects=range(recorded.counts["subjects_of_train"]),
        planted=lambda view: tuple(name for name in view.attributes if name != arguments["finding"]),
        world=arguments.get("world"),
        generator=recorded.inputs["generator"],
        access="open",
    )
    counts = {"images": 1, "patients": 1}
    outside = SimpleNamespace(source=SimpleNamespace(fingerprint=recorded.inputs.get("external"), counts=counts))
    monkeypatch.setattr(module, "DataSet", lambda *given: data)
    monkeypatch.setattr(module, "ExternalSet", lambda *given: outside)
    external = "real" if "external" in recorded.inputs else None
    words = (
        list(arguments["views"]),
        list(arguments["methods"]),
        arguments["seeds"],
        arguments["train_subjects"],
        arguments["steps"],
    )
    again = module._plan(module._Request("data", *words, [], external)).record
    assert again.counts["cells"] == recorded.counts["cells"]


CELL = {1: "d2d4ceeeb7ab431c"}
"""Hash of the rows and figures of a cell, by CELL_VERSION."""


def test_rows_and_figures_of_a_cell_are_those_of_its_version(write_store, tmp_path):
    """Rows, masks and figures; the fit between them is pinned by `fairness.mitigation.test_method_version`."""
    # the data set of the hash: its draws and files are of the first version
    data, rows = DataSet(write_store(tmp_path / "synthfair", draws_version=1, png_version=1, parquet_version=1)), []
    for view, seed in product((STRONG, "finding_underdiagnosed_in_female_30"), (0, 1)):
        parts = parts_of(data, get_view(view, data.preset), ("training masks", "synthetic images"), seed, 20)
        for part in parts:
            columns = (part.images.flatten(1).sum(1), part.labels, part.groups["sex"])
            rows.append([sorted(part.subjects), *(column.tolist() for column in columns)])
        rows += [part.masks.flatten(1).sum(1).tolist() for part in parts[:2]]
    measured = judge(data)[2].figures
    for name in FIGURES:
        figure = measured[name]
        rows.append([round(value, 4) for value in (figure["value"], *figure["draws"][:5])])
    assert fingerprint(rows) == CELL.get(CELL_VERSION), (
        "rows or figures of cells changed: raise cells.CELL_VERSION, and add the new hash to CELL"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"views": ["finding_sex_corelated_90_10"]}, "is no view"),
        ({"views": [TWIN]}, "plants no bias"),
        ({"views": ["full"]}, "plants no bias"),
        ({"views": []}, "views: none"),
        ({"methods": ["resampelling"]}, "did you mean 'resampling'"),
        ({"methods": [("resampelling", {"batch_size": 8})]}, "did you mean 'resampling'"),
        ({"seeds": 0}, "seeds: 0"),
        ({"steps": 0}, "steps"),
        ({"train_subjects": 4}, "allowed: 5 to 20"),
        ({"train_subjects": 21}, "allowed: 5 to 20"),
        ({"methods": [("resampling", {"bach_size": 3})]}, "batch_size"),
        ({"methods": [("resampling", {"steps": 0})]}, r"^methods\['resampling'\]: steps: 0 is invalid"),
        ({"methods": [("resampling", {"batch_size": 8})], "steps": 0}, "^steps: 0 is invalid"),
        ({"num_proc": 0}, "num_proc: 0"),
        ({"external": "nowhere"}, "metadata.csv"),
        ({"method_files": ["nowhere.py"]}, "no Python file"),
    ],
)
def test_an_invalid_request_is_an_error_before_anything_is_fitted(store, tmp_path, calls, arguments, message):
    with pytest.raises(InputError, match=message) as raised:
        benchmark(
            store, **{"views": [STRONG], "methods": ["resampling"], "output_dir": tmp_path / "b", **SMALL, **arguments}
        )
    assert "\n" not in str(raised.value)
    assert not calls
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("x = 1", "defines 0 subclasses"),
        (SUBMITTED + "class Another(Method): pass", "defines 2 subclasses"),
        (SUBMITTED.replace("required_annotations", "sees"), "sets `sees`, which is now `required_annotations`"),
        (SUBMITTED.replace("synthetic images", "test labels"), "required_annotations: 'test labels' is unknown"),
    ],
)
def test_a_file_that_is_no_method_is_an_error(tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_method(path)


def test_a_file_does_not_take_a_methods_name(store, tmp_path):
    (tmp_path / "erm.py").write_text(SUBMITTED)
    with pytest.raises(InputError, match="has the name of another method"):
        benchmark(store, [STRONG], [], tmp_path / "b", method_files=[tmp_path / "erm.py"])


def external(directory, n=24, side=40):
    """A folder of random images of both sexes and findings, and one row whose finding is missing."""
    directory.mkdir()
    rng = np.random.default_rng(0)
    lines = ["file_name,patient_id,age,sex,finding,view,scanner"]
    for row in range(n + 1):
        Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(directory / f"{row}.png")
        finding = "" if row == n else ("pneumonia", "no_finding")[row % 2]
        lines.append(f"{row}.png,p{row // 2},50,{'MF'[row // 2 % 2]},{finding},PA,portable")
    (directory / "metadata.csv").write_text("\n".join(lines) + "\n")
    return directory


def test_a_submitted_method_appears_by_its_files_name_and_real_images_judge_it(store, tmp_path, capsys):
    (tmp_path / "backwards.py").write_text(SUBMITTED)
    words = f"benchmark --data_dir {store} --views {STRONG} --method_file {tmp_path / 'backwards.py'} --seeds 1"
    words += f" --steps 4 --external {external(tmp_path / 'real')} --output_dir {tmp_path / 'b'}"
    assert main(words.split()) == 0
    assert "of 4 cells" in capsys.readouterr().out
    table = pandas.read_csv(tmp_path / "b" / "table.csv")
    assert set(table["method"]) == {"erm", "backwards"}
    assert set(table["set"]) == {"test", "external"}
    assert table.loc[table["set"] == "external", "rows"].unique() == [24]
    page = (tmp_path / "b" / "README.md").read_text()
    assert "| backwards | synthetic images | 1 |" in page
    assert "Submitted methods" in page
    assert str(tmp_path) not in page


def test_a_view_that_a_method_does_not_support_is_printed_with_the_reason(store, tmp_path):
    arguments = {"train_subjects": 20, "steps": 2, "seeds": 1}
    benchmark(store, [STRONG], ["balanced_synthetic"], tmp_path, **arguments)
    page = (tmp_path / "README.md").read_text()
    assert f"`balanced_synthetic` does not support {STRONG}: synthetic:" in page
    assert pandas.read_csv(tmp_path / "table.csv")["refused"].str.contains("synthetic:").any()


@pytest.mark.parametrize("view", [STRONG, "age_imbalanced_90_10", "finding_underdiagnosed_in_female_30"])
def test_validation_is_as_biased_as_train_and_shares_no_subject_with_other_rows(store, tmp_path, view, monkeypatch):
    fits = []

    class Recording(Method):
        required_annotations = ("synthetic images",)

        def learn(self, train, validation, seed, synthetic):
            fits.append((train, validation, synthetic))
            return self.optimise(train, validation, seed)

    monkeypatch.setitem(METHODS, "recording", Recording)
    benchmark(store, [view], ["recording"], tmp_path, seeds=5, steps=1, train_subjects=20)
    data = DataSet(store)
    attribute = data.planted(get_view(view, data.preset))[0]
    held = []
    for train, validation, synthetic in fits[:5]:
        parts = [set(one.subjects) for one in (train, validation)]
        assert not parts[0] & parts[1]
        assert not parts[1] & set(synthetic.subjects)
        held += sorted(parts[1])
        keys = [
            set(zip(one.images.flatten(1).sum(1).tolist(), one.subjects, strict=True)) for one in (train, synthetic)
        ]
        assert not keys[0] & keys[1]
        both = train.concatenate(validation)
        for group in (0, 1):
            members = [one.groups[attribute] == group for one in (train, both)]
            shares = [float(own.double().mean()) for own in members]
            assert shares[0] == pytest.approx(shares[1], abs=0.13)
    assert len(held) == len(set(held))  # five fifths


def test_masks_are_where_a_row_with_the_finding_differs_from_its_counterfactual_without(store):
    data = DataSet(store)
    train, validation, synthetic = parts_of(data, get_view(STRONG, data.preset), ("training masks",), 0, 20)
    assert synthetic is None
    full = data.rows("full", "train", ("sex",)).examples
    for examples in (train, validation):
        assert examples.masks[examples.labels == 1].any()
        assert not examples.masks[examples.labels == 0].any()
    for row in torch.nonzero(train.labels)[:5, 0].tolist():
        family = (full.pairs["finding"] == train.pairs["finding"][row]) & (full.labels == 0).numpy()
        (other,) = full.images[family]
        assert torch.equal(train.masks[row], (train.images[row].int() - other.int()).abs() >= 8)


@pytest.fixture(scope="module")
def judged(store):
    """Test rows, random scores, and their figures."""
    return judge(DataSet(store))


def judge(data):
    examples = data.rows("full", "test", ("sex",)).examples
    scores = np.random.default_rng(0).random(len(examples))
    return examples, scores, figures(scores, examples, "sex", data.preset)


def test_figures_are_those_of_audit_and_flips(judged):
    examples, scores, found = judged
    codes = examples.groups["sex"].numpy()
    names = np.array(examples.levels["sex"])[codes]
    audited = audit(scores, examples.labels.numpy(), {"sex": names}, examples.subjects, permutations=0, n_bootstrap=1)
    expected = dict(zip(audited.gaps["metric"], audited.gaps["value"], strict=True))
    overall = audited.groups[(audited.groups["attribute"] == EVERYONE) & (audited.groups["metric"] == "auc")]
    expected["auc"] = overall["value"].item()
    flipped = flip_rates(scores, examples.subjects, {"pair": examples.pairs["sex"], "sex": codes}, "sex", n_bootstrap=1)
    expected["flip_rate"] = flipped[flipped["metric"] == "flip_rate"]["value"].iloc[-1]
    for name in FIGURES:
        assert found.figures[name]["value"] == pytest.approx(expected[name], rel=1e-5), name
        assert len(found.figures[name]["draws"]) == N_BOOTSTRAP


def test_all_cells_of_a_test_split_have_the_same_replicates(judged, store):
    examples, scores, found = judged
    again = figures(scores, examples, "sex", DataSet(store).preset)
    assert again == found
    # the same subjects: replicates of one are replicates of the other
    mirrored = figures(1 - scores, examples, "sex", DataSet(store).preset)
    flip, other = (np.array(one.figures["auc"]["draws"]) for one in (found, mirrored))
    assert flip + other == pytest.approx(np.ones(N_BOOTSTRAP), abs=1e-5)


def test_a_group_that_is_not_there_leaves_gaps_undefined(judged, store):
    examples, scores, _ = judged
    men = (examples.groups["sex"] == 0).numpy()
    alone = figures(scores[men], examples.select(men), "sex", DataSet(store).preset)
    assert alone.figures["auc"]["value"] is not None
    assert alone.figures["auc_gap"]["value"] is None


values = st.floats(0.01, 1).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(values, values), min_size=1, max_size=4))
def test_reduction_is_by_its_formula_and_worse_is_negative(pairs):
    plain, own = ([{"value": one, "draws": [one] * 8} for one in side] for side in zip(*pairs, strict=True))
    difference, reduction = compare(plain, own)
    means = [np.mean([one["value"] for one in side]) for side in (plain, own)]
    assert difference["mean"] == pytest.approx(means[1] - means[0])
    assert reduction["mean"] == pytest.approx(100 * (means[0] - means[1]) / means[0])
    assert (reduction["mean"] < 0) == (means[1] > means[0])
    assert summary(own)["mean"] == pytest.approx(means[1])


def test_what_moves_both_leaves_the_comparison():
    rng = np.random.default_rng(0)
    noise = rng.random((3, N_BOOTSTRAP))
    plain = [{"value": 0.5, "draws": (0.2 + one).tolist()} for one in noise]
    own = [{"value": 0.6, "draws": (0.3 + one).tolist()} for one in noise]
    difference, _ = compare(plain, own)
    assert difference["low"] == pytest.approx(0.1)
    assert difference["high"] == pytest.approx(0.1)
    assert summary(own)["high"] - summary(own)["low"] > 0.3


def test_an_interval_is_that_of_replicates_of_subjects_and_seeds_by_brute_force():
    rng = np.random.default_rng(1)
    draws = rng.normal(0.5, 0.1, (4, 4000)) + np.array([[0], [0.1], [0.2], [0.3]])
    found = summary([{"value": 0.0, "draws": one.tolist()} for one in draws])
    slow = [np.mean([draws[seed, draw] for seed in rng.integers(0, 4, 4)]) for draw in range(4000)]
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.01)


def test_no_gap_at_the_reference_is_no_reduction():
    none, some = {"value": 0.0, "draws": [0.0, 0.0]}, {"value": 0.1, "draws": [0.1, 0.1]}
    assert compare([none], [some])[1]["mean"] is None
    undefined = {"value": None, "draws": [None, None]}
    assert compare([some], [undefined])[0]["mean"] is None


def test_what_a_view_plants_is_the_reference_on_it_less_the_reference_on_its_twin(copied):
    planted = {STRONG: 0.3, TWIN: 0.1}
    for path in (copied / "cells").iterdir():
        cell = json.loads(path.read_text())
        one = planted[cell["settings"]["view"]] if cell["settings"]["method"] == "erm" else 0.9
        cell["measured"]["test"]["auc_gap"] = {"value": one, "draws": [one] * N_BOOTSTRAP}
        cell["measured"]["test"]["flip_rate"] = {"value": 0.1, "draws": [0.1] * N_BOOTSTRAP}
        path.write_text(json.dumps(cell))
    write_leaderboard(copied)
    (row,) = [line for line in (copied / "README.md").read_text().splitlines() if line.startswith(f"| {STRONG} | sex")]
    assert "| 0.3 [0.3, 0.3] | **0.2 [0.2, 0.2]** |" in row
    assert "| 0.1 [0.1, 0.1] | 0 [0, 0] |" in row


def test_the_page_is_printed_from_cells_and_shows_what_got_worse(copied):
    for path in (copied / "cells").iterdir():
        cell = json.loads(path.read_text())
        worse = 0.4 if cell["settings"]["method"] == "resampling" else 0.1
        cell["measured"]["test"]["auc_gap"] = {"value": worse, "draws": [worse] * N_BOOTSTRAP}
        path.write_text(json.dumps(cell))
    write_leaderboard(copied)
    page = (copied / "README.md").read_text()
    assert "| -300 [-300, -300] |" in page
    assert "0.4 [0.4, 0.4]" in page
    assert "Its images were made by generator revision `stub`, which is none of the shipped." in page
    drawn = pandas.read_csv(copied / "figures.csv")
    assert set(drawn.loc[(drawn["metric"] == "auc_gap") & (drawn["method"] == "resampling"), "mean"]) == {0.4}
    table = pandas.read_csv(copied / "table.csv")
    assert set(table.loc[(table["metric"] == "auc_gap"), "value"]) == {0.1, 0.4}
    with Image.open(copied / "gaps.png") as picture:
        assert picture.size[0] > 500


@pytest.fixture
def configuration(tmp_path):
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_channels=1)
    config.save_pretrained(tmp_path / "configuration")
    return tmp_path / "configuration"


def test_cells_of_another_classifier_are_others_and_their_seeds_draw_its_weights(
    store, copied, calls, configuration, monkeypatch
):
    first = cells_of(copied)
    initial, begun = PretrainedClassifier.initial, []

    def noted(self, examples, seed):
        network = initial(self, examples, seed)
        begun.append((seed, network.fingerprint))
        return network

    monkeypatch.setattr(PretrainedClassifier, "initial", noted)
    again = {"classifier": configuration, "learning_rate": 1e-4, **SMALL}
    record = benchmark(store, [STRONG], ["resampling"], copied, **again)
    assert len(calls) == len(record.counts["cells"]) == len(first)
    assert not set(record.counts["cells"]) & {name.removesuffix(".json") for name in first}
    assert {key: found for key, found in cells_of(copied).items() if key in first} == first
    assert len(set(begun)) == len({seed for seed, _ in begun}) == SMALL["seeds"]
    cell = Record.read(copied / "cells" / f"{record.counts['cells'][0]}.json")
    assert (
        cell.inputs["classifier"]
        == record.inputs["classifier"]
        == open_classifier(configuration, None, True).fingerprint
    )
    assert cell.settings["method_settings"]["learning_rate"] == 1e-4
    page = (copied / "README.md").read_text()
    assert f"from the classifier `configuration` (`{record.inputs['classifier']}`)" in page
    calls.clear()
    again["classifier"] = configuration / "config.json"
    assert benchmark(store, [STRONG], ["resampling"], copied, **again) == record
    assert not calls


def test_every_cell_starts_from_the_same_given_weights(store, tmp_path, configuration, monkeypatch):
    model = transformers.AutoModelForImageClassification.from_config(
        transformers.AutoConfig.from_pretrained(configuration)
    )
    model.save_pretrained(tmp_path / "weights")
    initial, begun = PretrainedClassifier.initial, set()

    def noted(self, examples, seed):
        network = initial(self, examples, seed)
        begun.add(network.fingerprint)
        return network

    monkeypatch.setattr(PretrainedClassifier, "initial", noted)
    benchmark(store, [STRONG], [], tmp_path / "b", classifier=tmp_path / "weights", **SMALL)
    assert len(begun) == 1


def test_a_method_that_the_classifier_does_not_suit_is_an_error_before_anything_is_fitted(
    store, tmp_path, calls, configuration, monkeypatch
):
    monkeypatch.setattr(PretrainedClassifier, "hooks", ("features",))
    with pytest.raises(InputError, match="classifier: the method domain_adversarial needs a last linear layer"):
        benchmark(store, [STRONG], ["domain_adversarial"], tmp_path / "b", classifier=configuration)
    (tmp_path / "mine.py").write_text(
        SUBMITTED.replace('required_annotations = ("synthetic images",)', 'required_hooks = ("maps",)')
    )
    with pytest.raises(InputError, match="required_hooks: 'maps' is unknown; allowed: features, last layer"):
        load_method(tmp_path / "mine.py")
    with pytest.raises(InputError, match=r"^learning_rate: -1.0 is invalid"):
        benchmark(store, [STRONG], [], tmp_path / "b", learning_rate=-1.0)
    assert not calls
    assert not (tmp_path / "b").exists()
