import html
import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from synthfair_hf.cli import main
from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.publish.view_page import odds_ratio, phi, write_statistics
from synthfair_hf.views.view import get_view

JOINED = "finding_scanner_correlated_90_10+sex_imbalanced_80_20"
MISSED = "finding_underdiagnosed_in_female_30"

counts = st.integers(0, 20)


def lines(page: str) -> dict[str, list[str]]:
    """Cells of every table line, by its first; of several under one name the last."""
    found = {}
    for line in re.findall(r"<tr[^>]*>(.*?)</tr>", page, flags=re.DOTALL):
        first, *rest = (html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", line))
        found[" ".join([first, *rest[:1]]) if "pneumonia" in "".join(rest[:1]) else first] = rest
    return found


@pytest.fixture(scope="module")
def rows(store: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(store / "data", columns=["split", "draw", "sex", "age", "finding", "scanner"])
    return {name: table[name].to_numpy() for name in table.column_names}


@settings(max_examples=40)
@given(counts, counts, counts, counts)
def test_phi_is_the_correlation_and_the_odds_ratio_its_sign(a, b, c, d):
    first = np.repeat([1, 1, 0, 0], [a, b, c, d])
    second = np.repeat([1, 0, 1, 0], [a, b, c, d])
    if len(set(first)) < 2 or len(set(second)) < 2:
        assert phi(a, b, c, d) is None
        return
    expected = np.corrcoef(first, second)[0, 1]
    assert phi(a, b, c, d) == pytest.approx(expected, abs=1e-12)
    if b * c:
        assert np.sign(round(odds_ratio(a, b, c, d) - 1, 12)) == np.sign(round(expected, 12))
    else:
        assert odds_ratio(a, b, c, d) is None


def test_the_page_counts_what_is_there(store, rows, tmp_path):
    page = write_statistics(str(store), JOINED, str(tmp_path)).read_text()
    view, table = get_view(JOINED, CHEST_XRAY), lines(page)
    for fact in (view.sentence, view.fingerprint, view.twin, get_view(view.twin, CHEST_XRAY).fingerprint):
        assert fact in html.unescape(page)
    store_identity = json.loads((store / "records" / "generate.json").read_text())["counts"]["store"]
    assert store_identity in page
    train = rows["split"] == "train"
    samples = [one.mask(rows) & train for one in (view, get_view(view.twin, CHEST_XRAY))]
    samples += [rows["split"] == split for split in ("validation", "test")]
    for (finding, disease), (scanner, device), (sex, code) in product(
        (("pneumonia", 1), ("no_finding", 0)), (("portable", 2), ("flatpanel", 0)), (("male", 0), ("female", 1))
    ):
        here = (rows["finding"] == disease) & (rows["scanner"] == device) & (rows["sex"] == code)
        expected = [f"{(here & one).sum()} {(here & one).sum() / one.sum():.1%}" for one in samples]
        assert table[f"{finding} / {scanner} / {sex}"] == expected
    for device, code in (("portable", 2), ("flatpanel", 0)):
        share = [rows["finding"][one & (rows["scanner"] == code)] for one in samples]
        expected = [f"{values.mean():.1%} n = {len(values)}" for values in share]
        assert table[f"scanner: {device} pneumonia"][1:] == expected
    both = samples[0] & (rows["scanner"] != 1)
    planted = np.corrcoef(rows["finding"][both], rows["scanner"][both] == 2)[0, 1]
    assert table["finding by scanner"][0] == f"{planted:.3g}"
    assert table["finding by scanner"][3:5] == ["0", "1"], "the twin has none"
    assert table["in neither group of one"][0] == "0 0.0%"


def test_observed_labels_stand_beside_the_true_ones(store, rows, tmp_path):
    table = lines(write_statistics(str(store), MISSED, str(tmp_path)).read_text())
    assert table["sex: female pneumonia"][1:3] == ["50.0% n = 120"] * 2
    assert table["sex: female labelled pneumonia"][1:] == ["35.0% n = 120", "50.0% n = 120", *["50.0% n = 24"] * 2]
    assert table["sex: male labelled pneumonia"][1] == "50.0% n = 120"
    assert float(table["sex by observed_finding"][0]) == pytest.approx(0.152, abs=1e-3)
    assert table["sex by finding"][:2] == ["0", "1"]


def test_histograms_hold_every_row_once_for_each_group(store, rows, tmp_path):
    page = write_statistics(str(store), JOINED, str(tmp_path)).read_text()
    train = (rows["split"] == "train") & get_view(JOINED, CHEST_XRAY).mask(rows)
    bars = re.findall(
        r"<title>(male|female), .*?: (\d+)</title>", page.partition("and sex</h3>")[2].partition("train of")[0]
    )
    for sex, code in (("male", 0), ("female", 1)):
        assert sum(int(n) for name, n in bars if name == sex) == (train & (rows["sex"] == code)).sum()


def test_a_view_without_bias_has_no_twin_beside_it(store, tmp_path):
    for name in ("full", "sex_imbalanced_50_50"):
        page = write_statistics(str(store), name, str(tmp_path)).read_text()
        assert "plants no bias" in page
        assert "train of the twin" not in page


def test_the_page_fetches_nothing_and_leaves_nothing_open(store, tmp_path):
    page = write_statistics(str(store), MISSED, str(tmp_path)).read_text()
    assert not re.search(r"https?://|<script|<img|<link|\bNone\b|Undefined", page)


def test_the_command_line_writes_the_page_of_the_data_sets_own_preset(store, tmp_path, capsys):
    asked = ["views", "--view", "sex_missing_female", "--data_dir", str(store), "--output_dir", str(tmp_path / "pages")]
    assert main(asked) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path}/pages/sex_missing_female.html\n"
    assert (tmp_path / "pages" / "sex_missing_female.html").is_file()


def test_the_command_line_tells_a_views_label_rule_twin_and_recipe(capsys):
    assert main(["views", "--view", MISSED]) == 0
    told = capsys.readouterr().out
    assert "observed_finding: finding, but" in told
    assert "twin: finding_underdiagnosed_in_female_0" in told
    assert get_view(MISSED, CHEST_XRAY).fingerprint in told


def test_views_writes_a_page_only_where_it_is_asked_to(store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["views", "--data_dir", str(store)]) == 0
    assert "sex_imbalanced_90_10" in capsys.readouterr().out
    assert main(["views", "--data_dir", str(store), "--view", "sex_imbalanced_85_15"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert main(["views", "--data_dir", str(store), "--output_dir", "pages"]) == 0
    assert [path.name for path in tmp_path.rglob("*.html")] == ["full.html"]
    capsys.readouterr()
    assert main(["views", "--output_dir", "other"]) == 2
    assert "--data_dir: not given" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sex_imbalanced_90_10", "sex_imbalanced_85_15", MISSED])
def test_how_a_view_is_loaded_is_told_and_works(store, name, capsys):
    """Also one that the card does not list, which `datasets` answers with 65 names and no hint."""
    assert main(["views", "--data_dir", str(store), "--view", name]) == 0
    told = capsys.readouterr().out.partition("load: ")[2]
    assert ("import synthfair_hf; " in told) == (name != "sex_imbalanced_90_10")
    call = told.partition("#")[0].rpartition("; ")[2].strip()
    assert len(eval(call, {"load_dataset": load_dataset})["train"]) > 0


def test_bad_input_writes_nothing(store, tmp_path):
    for directory, name in ((tmp_path / "nothing", "full"), (store, "sx_imbalanced_90_10")):
        with pytest.raises(InputError):
            write_statistics(str(directory), name, str(tmp_path / "pages"))
    assert not (tmp_path / "pages").exists()
