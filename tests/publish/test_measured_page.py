"""What a report shows of measurements: every number of the records is where it belongs, and nothing else."""

import re
import shutil
from pathlib import Path

import pytest

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.publish.measured import Measured
from synthfair_hf.publish.measured_page import PLOT_HEIGHT, heat_maps, nearest_samples, strength_plots
from synthfair_hf.publish.report import write_report
from synthfair_hf.records import Record


def row(do, attribute, metric, mean, low, high, system="mine"):
    figure = {"mean": mean, "low": low, "high": high, "n": 40}
    return {"system": system, "do": do, "attribute": attribute, "metric": metric, "by": "reader", **figure}


SOUNDNESS = Record(
    stage="measure_soundness",
    inputs={"generator": "stub"},
    settings={"world": "acquisition", "split": "test", "images": 40},
    measured={
        "rows": [
            row("sex", "sex", "delta_auc", -0.1, -0.2, 0.0),
            row("sex", "sex", "share_of_gap", 0.8, 0.7, 0.9),
            row("sex", "sex", "share_of_gap", 0.0, 0.0, 0.0, "identity"),
            row("sex", "age", "delta_mae", 5.0, 4.0, 6.0),
            row("sex", "finding", "delta_auc", None, None, None),
            row("view", "finding", "delta_auc", -0.6, -0.7, -0.5),
            row("sex", "image", "true_l1", 3.0, 2.0, 4.0),
        ]
    },
)


def estimate(view, on, metric, mean):
    labels = {"view": view, "twin": "sex_imbalanced_50_50", "attribute": "sex", "set": "test", "fitted_on": on}
    return {**labels, "method": "erm", "metric": metric, "mean": mean, "low": 0.0, "high": mean + 0.1, "n": 5}


BENCHMARK = Record(
    stage="benchmark",
    inputs={"data_set": "bytes"},
    settings={"finding": "finding"},
    measured={
        "figures": [
            estimate("sex_imbalanced_90_10", "view", "auc_gap", 0.3),
            estimate("sex_imbalanced_60_40", "view", "auc_gap", 0.1),
            estimate("sex_imbalanced_60_40", "twin", "auc_gap", 0.05),
            estimate("age_imbalanced_90_10", "view", "auc_gap", 0.2) | {"twin": "age_imbalanced_50_50"},
            estimate("sex_imbalanced_90_10", "view", "auc_gap", 9.0) | {"method": "reweighting"},
            estimate("sex_imbalanced_90_10", "view", "auc", 0.9),
        ]
    },
)

DISTANCES = {"n": 100, "quantiles": {"0": 0.41, "0.5": 0.5}}
REALISM = Record(
    stage="measure_realism",
    inputs={"generator": "stub"},
    settings={"world": "acquisition", "split": "test"},
    measured={
        "memorisation": {
            "pixels": {
                "generated": DISTANCES,
                "held_out": {"n": 90, "quantiles": {"0": 0.4, "0.5": 0.45}},
                "near": {"value": 0.02, "low": 0.0, "high": 0.05, "expected": 0.01},
                "suspicious": [{"generated": 73, "training": 3166, "distance": 0.233, "held_out_share": 0.009}],
            }
        }
    },
)

MEASURED = Measured({"soundness": SOUNDNESS}, {"realism": REALISM}, {"benchmark": BENCHMARK})


def test_a_heat_map_has_the_share_of_the_gap_on_what_is_set_and_shifts_elsewhere():
    (found,) = heat_maps(MEASURED, CHEST_XRAY)
    assert (found.world, found.by, found.images, found.generator) == ("acquisition", "reader", 40, "stub")
    assert found.attributes == ["age", "sex", "finding"]
    rows = {do: dict(zip(found.attributes, cells, strict=True)) for do, cells in found.rows}
    assert list(rows) == ["sex", "view"]
    own = rows["sex"]["sex"]
    assert (own.text, own.interval, own.own, own.intensity) == ("+0.80", "0.7 to 0.9", True, 0.8)
    assert own.told == "do(sex): share of the real gap of sex 0.8, 95 % interval 0.7 to 0.9, n = 40"
    low, high = CHEST_XRAY.covariates["age"].bounds
    assert rows["sex"]["age"].intensity == pytest.approx(min(1, 5.0 / ((high - low) / 10)))
    assert (rows["sex"]["finding"].text, rows["sex"]["finding"].intensity) == ("–", 0.0)
    assert rows["view"]["finding"].intensity == -1.0, "colours saturate"
    assert rows["view"]["age"] is None


def test_strengths_are_in_order_after_their_twin_and_what_has_one_strength_is_not_plotted():
    (plot,) = strength_plots(MEASURED, CHEST_XRAY)
    assert (plot.metric, plot.attribute, plot.twin, plot.seeds) == ("auc gap", "sex", "sex_imbalanced_50_50", 5)
    assert [point["label"] for point in plot.points] == ["twin", "0.6", "0.9"]
    assert [point["x"] for point in plot.points] == sorted(point["x"] for point in plot.points)
    heights = [point["y"] for point in plot.points]
    assert heights == sorted(heights, reverse=True), "a larger gap is higher"
    for point in plot.points:
        assert 0 <= point["high"] <= point["y"] <= point["low"] <= PLOT_HEIGHT
    assert plot.points[-1]["text"] == "sex_imbalanced_90_10: 0.3, 95 % interval 0 to 0.4, 5 seeds"


def test_neighbours_are_numbers_of_samples_and_never_of_training_images():
    (found,) = nearest_samples(MEASURED)
    assert found["suspicious"] == [{"generated": 73, "distance": 0.233, "held_out_share": 0.009}]
    assert found["quantiles"] == [("0%", 0.41, 0.4), ("50%", 0.5, 0.45)]


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    directory = Path(shutil.copytree(store, tmp_path / "synthfair"))
    identity = Record.read(directory / "records" / "generate.json").counts["store"]
    SOUNDNESS.write(directory / "records" / "soundness-acquisition.json")
    REALISM.write(directory / "records" / "realism-acquisition.json")
    BENCHMARK.model_copy(update={"inputs": {"data_set": identity}}).write(directory / "records" / "benchmark.json")
    return directory


def test_the_report_shows_them_and_fetches_nothing(copy):
    page = write_report(copy).read_text()
    for section in ("Soundness of the generator", "Gap against strength", "Suspicious neighbours"):
        assert f">{section}</h2>" in page
    assert 'title="do(sex): share of the real gap of sex 0.8, 95 % interval 0.7 to 0.9, n = 40"' in page
    assert "<title>sex_imbalanced_90_10: 0.3, 95 % interval 0 to 0.4, 5 seeds</title>" in page
    assert "<td>73</td><td>0.233</td><td>0.9%</td>" in page
    assert "3166" not in page
    assert "not measured here" not in page.lower()
    assert not re.search(r"(?:src|href)=\"(?!data:|#)|url\(|<script|@import", page)


def test_without_measurements_the_report_says_so(store, tmp_path):
    page = write_report(Path(shutil.copytree(store, tmp_path / "synthfair"))).read_text()
    assert page.lower().count("not measured here") == 3


def test_a_record_of_another_generator_is_one_sentence_and_no_report(copy):
    SOUNDNESS.model_copy(update={"inputs": {"generator": "another"}}).write(
        copy / "records" / "soundness-acquisition.json"
    )
    with pytest.raises(InputError, match="is of generator another, not of stub; measure this one"):
        write_report(copy)
    assert not (copy / "report.html").exists()
