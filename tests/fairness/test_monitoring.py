"""Monitoring: windows hold each row once, figures are those of the audit, alarms are as rare as they are said to be."""

import importlib
import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from synthfair_hf.cli import main
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.audit import audit, plain_rows
from synthfair_hf.fairness.drift import UNKNOWN, Sample, drift, population_stability_index
from synthfair_hf.fairness.groups import Groups
from synthfair_hf.fairness.monitoring import monitor_predictions, watch
from synthfair_hf.fairness.stream import PERIODS, Window, _windows
from synthfair_hf.records import Record

QUICK = {"n_bootstrap": 20, "permutations": 200}
COLUMNS = {"time": "time", "label": "y", "score": "p", "groups": ["sex"]}


def rows(n: int, rng: np.random.Generator, bias: float = 0.0, women: float = 0.5) -> pandas.DataFrame:
    """Predictions in which women's findings are missed the more, the larger the bias is."""
    y, sex = rng.integers(0, 2, n), np.where(rng.random(n) < women, "f", "m")
    logit = 1.3 * (2 * y - 1) + rng.normal(size=n) - bias * ((sex == "f") & (y == 1))
    return pandas.DataFrame({"y": y, "p": 1 / (1 + np.exp(-logit)), "sex": sex, "patient": rng.integers(0, n // 2, n)})


def sample(frame: pandas.DataFrame) -> Sample:
    codes = (frame["sex"] == "m").to_numpy().astype(np.int64)
    groups = {"sex": Groups(codes, ("f", "m"))}
    return Sample(frame["p"].to_numpy(), frame["y"].to_numpy(), groups, frame["patient"].to_numpy())


@pytest.fixture
def tables(tmp_path):
    """A reference, and a stream of four months whose third is biased and whose fourth has no labels yet."""
    rng = np.random.default_rng(0)
    rows(600, rng).to_csv(tmp_path / "reference.csv", index=False)
    months = []
    for month, bias in enumerate((0, 0, 3, 3), 1):
        days = [f"2026-{month:02d}-{day:02d}T08:30:00+01:00" for day in rng.integers(1, 29, 200)]
        months.append(rows(200, rng, bias).assign(time=days))
    months[-1] = months[-1].assign(y="")
    stream = pandas.concat(months).sample(frac=1, random_state=0)
    stream.to_csv(tmp_path / "stream.csv", index=False)
    return tmp_path, stream


def monitored(place, **asked):
    return monitor_predictions(
        **{
            **{**COLUMNS, **QUICK, "predictions": place / "stream.csv", "reference": place / "reference.csv"},
            **{"output_dir": place / "out", **asked},
        }
    )


def test_the_planted_drift_is_found_and_page_tables_and_record_say_the_same(tables):
    place, stream = tables
    record, outcomes = monitored(place, subject="patient", fail_if=["alarm", "gap(tpr, sex).low > 0.2"])
    assert Record.read(place / "out" / "monitoring.json") == record
    alarms = [row for row in record.measured["drift"] if row["alarm"]]
    assert {row["window"] for row in alarms} == {"2026-03", "2026-04"}
    found = {(row["window"], row["kind"], row["attribute"], row["group"], row["metric"]) for row in alarms}
    assert ("2026-03", "performance", "sex", "f", "tpr") in found
    assert ("2026-03", "gap", "sex", "", "tpr") in found
    assert ("2026-04", "scores", "sex", "f", "psi") in found, "without a label"
    assert [(one.window, one.holds) for one in outcomes] == [
        (None, True),
        ("2026-01", False),
        ("2026-02", False),
        ("2026-03", True),
    ]
    # the figures of a window are those of its audit
    own = stream[stream["time"].str.startswith("2026-03")].sort_values("time", kind="stable")
    columns = (own["p"].tolist(), own["y"].astype(int).tolist(), {"sex": own["sex"].tolist()}, own["patient"].tolist())
    same = audit(*columns, n_bootstrap=20, permutations=0)
    for name, frame in (("gaps", same.gaps), ("groups", same.groups)):
        told = [row for row in record.measured[name] if row["window"] == "2026-03"]
        assert [row["value"] for row in told] == pytest.approx([row["value"] for row in plain_rows(frame)], nan_ok=True)
        assert len(pandas.read_csv(place / "out" / f"{name}.csv")) == len(record.measured[name])
    page = (place / "out" / "monitoring.html").read_text()
    assert page.count('<td class="holds">') == len(alarms)
    assert "<script" not in page
    for row in alarms:
        assert f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in page
    heights = [float(one) for one in re.findall(r' cy="([-\d.]+)"', page)]
    assert 0 <= min(heights) <= max(heights) <= 100


def test_the_verb_exits_with_one_where_there_is_an_alarm(tables, capsys):
    place, _ = tables
    words = (
        f"monitor --predictions {place}/stream.csv --reference {place}/reference.csv --time time --label y --score p"
    )
    words = [*words.split(), "--groups", "sex", "--n_bootstrap", "2", "--permutations", "200"]
    words += ["--output_dir", str(place / "out")]
    assert main(words) == 0
    assert main([*words, "--fail_if", "alarm"]) == 1
    assert "alarm: 2026-03: gap of sex, tpr" in capsys.readouterr().out
    assert main([*words, "--permutations", "20"]) == 2
    told = capsys.readouterr().err
    number = re.search(r"--permutations: 20 .* give (\d+) or more", told)[1]
    assert main([*words, "--permutations", number]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": "fortnight"}, "window: 'fortnight' is no number of rows and no period; give a number"),
        ({"window": "0"}, "window"),
        ({"window": "5000"}, "window: 5000 rows, but stream.csv has 800 whole rows"),
        ({"time": "p"}, "'p' is named twice"),
        ({"time": "when"}, "time: column of stream.csv"),
        ({"time": "sex"}, "'sex' is named twice"),
        ({"time": "patient"}, r"stream.csv:\d+: patient is '\d+', no time in ISO 8601; write it as 2026-01-31"),
        ({"horizon": 3}, "horizon: 3, but the stream has 4 windows already; give 4 or more"),
        ({"alpha": 0.0}, "alpha"),
        ({"fail_if": ["gap(tpr, sex).p < 0.1"]}, "p-value.* write 'alarm'"),
        ({"fail_if": ["gap(tpr, age) > 0.1"]}, "attribute"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(tables, change, message):
    place, _ = tables
    with pytest.raises(InputError, match=message):
        monitored(place, **change)
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["2026-01-01", "2026-01-02T03:00+01:00"], "stream.csv:3: time is '2026-01-02T03:00.01:00'.*it has one"),
        (["2026-01-01T00:00Z", "2026-01-02"], "it has none"),
        (["2026-01-01", "31/01/2026"], "stream.csv:3: time is '31/01/2026', no time"),
        (["0001-01-01T00:00+10:00", "2026-01-01T00:00Z"], "no time"),
        (["0001-01-01", "2026-01-01"], "more than 1000 windows"),
    ],
)
def test_times_that_cannot_be_are_named_with_their_line(tables, times, message):
    place, _ = tables
    pandas.DataFrame({"y": 1, "p": 0.5, "sex": ["f", "m"], "time": times}).to_csv(place / "stream.csv", index=False)
    with pytest.raises(InputError, match=message):
        monitored(place, window="day")


def test_windows_without_rows_labels_classes_or_groups_have_no_value_and_no_error(tables):
    """One row of a group, one class, NaN scores, no label, no group, a group that the reference has not."""
    place, _ = tables
    months = {
        "2026-01-05": [(1, 0.5, "f"), (1, "nan", "m"), (1, 0.7, "m")],
        "2026-03-05": [("", 0.5, "f")],
        "2026-04-05": [(1, 0.5, ""), (0, 0.5, "")],
        "2026-05-05": [(1, 0.5, "F"), (0, 0.25, "X")],
    }
    lines = [(y, p, sex, time) for time, own in months.items() for y, p, sex in own]
    frame = pandas.DataFrame(lines, columns=["y", "p", "sex", "time"])
    frame.assign(time=[*frame["time"][:-1], ""]).to_csv(place / "stream.csv", index=False)
    record, outcomes = monitored(place, fail_if=["gap(auc, sex) > 0.9"])
    assert record.counts["stream"]["left_out"] == {"p": 1, "time": 1}
    windows = {row["window"]: row for row in record.measured["windows"]}
    assert [one["n"] for one in windows.values()] == [2, 0, 1, 2, 1]
    assert [one["labelled"] for one in windows.values()] == [2, 0, 0, 2, 1]
    values = {(row["window"], row["metric"]): row["value"] for row in record.measured["gaps"]}
    assert values["2026-01", "auc_gap"] is None, "one class"
    assert {name for name, _ in values} == {"2026-01", "2026-05"}
    assert all(one.holds for one in outcomes), "what cannot be seen does not pass"
    empty = [row for row in record.measured["drift"] if row["window"] == "2026-02"]
    assert {(row["value"], row["p"], row["n"], row["alarm"]) for row in empty} == {(None, None, 0, False)}
    groups = {row["group"] for row in record.measured["drift"] if row["kind"] == "scores"}
    assert groups == {"everyone", "f", "m"}, "F is f"
    json.loads((place / "out" / "monitoring.json").read_text())


def test_a_stream_needs_no_column_of_labels(tables):
    place, stream = tables
    stream.drop(columns="y").to_parquet(place / "stream.parquet")
    record, _ = monitored(place, predictions=place / "stream.parquet")
    assert record.counts["stream"]["labelled"] == 0
    assert record.measured["gaps"] == []
    assert any(row["alarm"] for row in record.measured["drift"])


@given(st.lists(st.datetimes(datetime(1999, 1, 1), datetime(2002, 1, 1)), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_windows_of_periods_hold_every_row_once_in_the_order_of_time(times):
    times = sorted(times)
    for period in set(PERIODS) - {"day"}:
        windows = list(_windows(times, period))
        assert np.concatenate([one.rows for one in windows]).tolist() == list(range(len(times)))
        for one in windows:
            assert all(one.start <= times[row].date().isoformat() <= one.end for row in one.rows)
        ends = [datetime.fromisoformat(one.end) + timedelta(1) for one in windows[:-1]]
        assert [end.date().isoformat() for end in ends] == [one.start for one in windows[1:]]
    for size in (1, 3):
        windows = list(_windows(times, size))
        assert [len(one.rows) for one in windows] == [size] * (len(times) // size)


def test_psi_is_its_sum_and_zero_for_equal_shares():
    p, q = np.array([10.0, 20.0, 0.0]), np.array([5.0, 5.0, 5.0])
    brute = 0.0
    for a, b in zip((p + 0.5) / 31.5, (q + 0.5) / 16.5, strict=True):
        brute += (b - a) * np.log(b / a)
    assert population_stability_index(p, q) == pytest.approx(brute)
    assert population_stability_index(p, p) == 0
    assert population_stability_index(p, q) == pytest.approx(population_stability_index(q, p))
    assert np.isnan(population_stability_index(p, 0 * q))


def test_figures_of_drift_are_those_of_masks_and_loops():
    rng = np.random.default_rng(5)
    before, after = rows(200, rng), rows(90, rng, bias=2)
    found = {one[:4]: one for one in drift(sample(before), sample(after), 0.5, (0,), 50, 50)}

    def rate(frame, sex, label):
        own = frame[(frame["y"] == label) & ((frame["sex"] == sex) | (sex == "everyone"))]
        return (own["p"] >= 0.5).mean()

    change = {}
    for sex in ("everyone", "f", "m"):
        attribute = "everyone" if sex == "everyone" else "sex"
        for metric, label in (("tpr", 1), ("fpr", 0)):
            one = found["performance", attribute, sex, metric]
            assert one.value == pytest.approx(rate(after, sex, label) - rate(before, sex, label))
            assert one.low <= one.value <= one.high
        assert one.n == (len(after) if sex == "everyone" else (after["sex"] == sex).sum())
    for metric, label in (("tpr", 1), ("fpr", 0)):
        gaps = [abs(rate(frame, "f", label) - rate(frame, "m", label)) for frame in (before, after)]
        change[metric] = gaps[1] - gaps[0]
        assert found["gap", "sex", "", metric].value == pytest.approx(change[metric])
    assert found["mix", "sex", "", "psi"].value == pytest.approx(
        population_stability_index(*(np.bincount(sample(one).groups["sex"].codes) for one in (before, after)))
    )


def stream_of(rng: np.random.Generator, windows: int, size: int, **changed: float):
    """A reference, and windows of which the last ones are changed."""
    frames = [rows(size, rng, **(changed if number >= windows // 2 else {})) for number in range(windows)]
    stream = sample(pandas.concat(frames))
    parts = [Window(str(n), "", "", np.arange(n * size, (n + 1) * size)) for n in range(windows)]
    return sample(rows(150, rng)), stream, parts


def alarmed(seed: int, alpha: float, labelled: bool = True, **changed: float) -> list[bool]:
    """By window, whether there is an alarm; the patients of a window have two rows each, or some, or one."""
    reference, stream, windows = stream_of(np.random.default_rng(seed), 2, 60, **changed)
    stream = stream if labelled else stream._replace(labels=np.full_like(stream.labels, UNKNOWN))
    found = watch(reference, stream, windows, 0.5, alpha, len(windows), seed, 1, 79)
    return [any(one.p <= found.level for one in own) for own in found.drift]


@pytest.mark.parametrize("first", [0])
def test_without_drift_there_is_an_alarm_in_a_stream_no_more_often_than_alpha(first):
    alpha, streams = 0.2, 40
    raised = sum(any(alarmed(first + seed, alpha)) for seed in range(streams))
    # above this number by chance in one of a thousand such tests, were the rate alpha
    assert raised <= binom.ppf(0.999, streams, alpha)


@pytest.mark.parametrize(
    ("labelled", "changed"), [(True, {"bias": 4.0}), (False, {"bias": 4.0}), (False, {"women": 0.1})]
)
def test_planted_drift_raises_alarms_after_it_began(labelled, changed):
    found = np.array([alarmed(1000 + seed, 0.2, labelled, **changed) for seed in range(12)])
    assert found[:, 1].mean() >= 0.9
    assert found[:, 0].mean() <= 0.3


def test_the_page_of_the_simulation_is_what_its_record_prints(monkeypatch):
    root = Path(__file__).parents[2]
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    record = Record.read(root / "docs" / "monitoring" / "monitoring.json")
    page = importlib.import_module("monitoring").page(record)
    assert (root / "docs" / "monitoring" / "README.md").read_text() == page
    whole = record.measured["no drift"]["whole"]
    assert whole["low"] <= record.settings["alpha"]
