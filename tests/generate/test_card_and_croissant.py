"""README.md and croissant.json against the records: what is edited, missing or stale is found, and its field named."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas
import pytest
from edits import of_json

from synthfair_hf.errors import InputError
from synthfair_hf.generate.documents import validate, write_card
from synthfair_hf.generate.store import RUN
from synthfair_hf.publish.croissant import REQUIRED
from synthfair_hf.publish.differences import differences
from synthfair_hf.records import Record
from synthfair_hf.views.manifest import sealed

CARD, CROISSANT, SOUNDNESS = "README.md", "croissant.json", "records/soundness-phantom.json"
BENCHMARK = "records/benchmark.json"

SHOWN = {"metric": "share_of_gap", "do": "sex", "attribute": "sex", "by": "reader", "intervention": "forced_change"}
ESTIMATE = {"mean": 0.9, "low": 0.8, "high": 1.0, "n": 40}


def measured(directory: Path, generator: str) -> Path:
    """A scoreboard of this generator, as `synthfair measure` leaves one."""
    directory.mkdir()
    settings = {"world": "phantom", "split": "test", "images": 40, "seeds": [0], "interventions": ["forced_change"]}
    row = {"system": "mine", **SHOWN, "effect": "direct", **ESTIMATE}
    record = Record(
        stage="measure_soundness",
        inputs={"generator": generator},
        settings={**settings, "effect": "direct"},
        measured={"rows": [row]},
    )
    record.write(directory / "soundness-phantom.json")
    return directory


def benchmarked(directory: Path, data_set: str) -> Path:
    """A leaderboard of this data set, as `synthfair benchmark` leaves one."""
    directory.mkdir()
    Record(stage="benchmark", inputs={"data_set": data_set}, settings={"finding": "finding"}).write(
        directory / "benchmark.json"
    )
    names = "view,twin,attribute,set,fitted_on,method,metric,mean,low,high,n\n"
    lines = [
        f"finding_sex_correlated_90_10,finding_sex_correlated_50_50,sex,test,{on},erm,auc_gap,{mean},0.1,0.3,5\n"
        for on, mean in (("view", 0.25), ("twin", 0.125))
    ]
    (directory / "figures.csv").write_text(names + "".join(lines))
    return directory


@pytest.fixture(scope="module")
def documented(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose card prints figures of its generator and of classifiers."""
    root = tmp_path_factory.mktemp("documented")
    directory = Path(shutil.copytree(store, root / "synthfair"))
    identity = Record.read(directory / RUN).counts["store"]
    write_card(
        directory, scoreboard=measured(root / "board", "stub"), leaderboard=benchmarked(root / "leaders", identity)
    )
    return directory


@pytest.fixture
def copy(documented: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(documented, tmp_path / "synthfair"))


def replaced(name, old, new, seal=False):
    """An edit of the first such place; `seal` writes a last line that vouches for it, as a careful hand would."""

    def edit(directory):
        path = directory / name
        text = path.read_text()
        found = re.sub(old, new, text, count=1, flags=re.MULTILINE)
        assert found != text, old
        path.write_text(found)
        if seal:
            path.write_bytes(sealed(path.read_bytes(), (directory / RUN).read_bytes()))

    return edit


def of_croissant(change):
    return of_json(CROISSANT, change)


def removed(name):
    return lambda directory: (directory / name).unlink()


EDITS = {
    # the card's YAML
    "licence": (replaced(CARD, r"^license: .*", "license: mit", True), "Licence"),
    "no licence": (replaced(CARD, r"^license: .*\n", "", True), "license: is absent"),
    "title": (replaced(CARD, r"^pretty_name: .*", "pretty_name: Mine", True), "pretty_name"),
    "task": (replaced(CARD, "image-classification", "image-segmentation", True), "task_categories"),
    "size": (replaced(CARD, "size_categories: .*", "size_categories: [n>10M]", True), "size_categories"),
    "tag": (replaced(CARD, r"tags: \[synthetic, ", "tags: [", True), "tags"),
    "annotators": (replaced(CARD, "machine-generated", "expert-generated", True), "annotations_creators"),
    "view's name": (replaced(CARD, "config_name: sex_imbalanced_90_10", "config_name: sexes", True), "config_name"),
    "view's recipe": (replaced(CARD, "Recipe [0-9a-f]{4}", "Recipe 0000", True), "description"),
    "view's files": (replaced(CARD, r"path: data/train-\S+?([,}])", r"path: data/test-*\1", True), "path"),
    "view's filter": (replaced(CARD, r"draw, <, 0\.9", "draw, <, 0.8", True), "filters"),
    "view's attribute": (replaced(CARD, r"\[sex, ==, 0\]", "[sex, ==, 1]", True), "filters"),
    "default": (replaced(CARD, r"^  default: true\n", "", True), "default"),
    "checksums": (replaced(CARD, "verification: true", "verification: false", True), "page_checksum_verification"),
    "rows of a split": (replaced(CARD, r"num_examples: (\d)", r"num_examples: 9\1", True), "num_examples"),
    "bytes": (replaced(CARD, r"dataset_size: (\d)", r"dataset_size: 9\1", True), "dataset_size"),
    "download": (replaced(CARD, r"download_size: (\d)", r"download_size: 9\1", True), "download_size"),
    "spelling": (replaced(CARD, r"^license: (.*)", r'license: "\1"', True), "spelling of its YAML"),
    # its text
    "licence in the text": (replaced(CARD, r"\*\*Licence:\*\* .*", "**Licence:** mit", True), "Dataset Description"),
    "rows of a view": (replaced(CARD, r"^\| `full` \| (\d)", r"| `full` | 9\1", True), "Views"),
    "rows in the table": (replaced(CARD, r"^\| train \| (\d)", r"| train | 9\1", True), "Dataset Structure"),
    "research only": (replaced(CARD, "For research only", "For everything", True), "Mine|SynthFair"),
    "a refused use": (replaced(CARD, r"^- Diagnosis, .*\n", "", True), "Out-of-Scope Use"),
    "a figure": (replaced(CARD, r"^\| shards \| (\d)", r"| shards | 9\1", True), "Bias, Risks"),
    "citation": (replaced(CARD, r"^@misc\{synthfair_....", "@misc{synthfair_0000", True), "Citation"),
    "a section": (replaced(CARD, r"^## Glossary", "## Words", True), "has '## Words'"),
    "a line more": (replaced(CARD, r"^## Citation", "It is perfect.\n\n## Citation", True), "It is perfect"),
    "its last line": (replaced(CARD, "up to here: [0-9a-f]{4}", "up to here: 0000"), "its last line"),
    "unsealed": (replaced(CARD, "For research only", "For everything"), "For everything"),
    "no card": (removed(CARD), "README.md: is missing"),
    "install line": (replaced(CARD, "^pip install synthfair-hf", "pip install mine", True), "pip install mine"),
    "publisher": (replaced(CARD, r"\*\*Curated by:\*\* .*", "**Curated by:** me", True), "Curated by:.. me"),
    "access": (replaced(CARD, r"\*\*Access\*\* to .*", "**Access**: open to all", True), "Dataset Description"),
    "a share": (replaced(CARD, r"^(\| sex \| male \|) \d+", r"\1 999", True), "Covariates by Split"),
    "a mean": (replaced(CARD, r"^(\| `full` \|) \d+\.\d", r"\1 1.0", True), "Covariates by View"),
    "no figure": (replaced(CARD, r"^!\[Covariates by split\].*\n", "", True), "Covariates by Split"),
    "terms of a source": (replaced(CARD, r"^\| generator \|.*\n", "", True), "Licence and access of sources"),
    "soundness": (replaced(CARD, r"0\.9 \[0\.8, 1\]", "1 [1, 1]", True), "Soundness in the world phantom"),
    "fairness": (replaced(CARD, r"0\.25 \[0\.1, 0\.3\]", "0 [0, 0]", True), "Fairness of classifiers"),
    "a known failure": (replaced(CARD, "^- The intervals above .*", "- None.", True), "Known Failures"),
    "datasheet": (replaced(CARD, r"^- \*\*Purpose:\*\* .*", "- **Purpose:** profit", True), "Motivation"),
    "datasheet's versions": (replaced(CARD, r"^- \*\*Versions:\*\* .*\n", "", True), "Maintenance"),
    # its figures
    "a bar": (replaced("covariates.svg", r'width="\d+\.\d"', 'width="300.0"'), "covariates.svg: shows something else"),
    "a number on a bar": (replaced("views.svg", r">\d+\.\d%<", ">99.9%<"), "views.svg: shows something else"),
    "no picture": (removed("covariates.svg"), "covariates.svg: is missing"),
    # records of measurements
    "a measured figure": (
        of_json(SOUNDNESS, lambda one: one["measured"]["rows"][0].update(mean=1.5)),
        f"{SOUNDNESS}: its bytes",
    ),
    "what is not printed": (of_json(SOUNDNESS, lambda one: one["measured"].update(more=1)), f"{SOUNDNESS}: its bytes"),
    "another generator": (
        of_json(SOUNDNESS, lambda one: one["inputs"].update(generator="x")),
        f"{SOUNDNESS}: its bytes",
    ),
    "not on test": (of_json(SOUNDNESS, lambda one: one["settings"].update(split="train")), f"{SOUNDNESS}: its bytes"),
    "no measured record": (removed(SOUNDNESS), f"{SOUNDNESS}: is missing"),
    "another data set's": (
        of_json(BENCHMARK, lambda one: one["inputs"].update(data_set="x")),
        f"{BENCHMARK}: its bytes",
    ),
    "a classifier's figure": (
        of_json(BENCHMARK, lambda one: one["measured"]["figures"][0].update(high=0.9)),
        f"{BENCHMARK}: its bytes",
    ),
    # Croissant
    "name": (of_croissant(lambda one: one.update(name="Mine")), "name: is 'Mine'"),
    "other licence": (of_croissant(lambda one: one.update(license="mit")), "license: is 'mit'"),
    "sha256": (of_croissant(lambda one: one["distribution"][0].update(sha256="0" * 64)), r"distribution\[0\].sha256"),
    "a file": (of_croissant(lambda one: one["distribution"].pop(0)), "distribution"),
    "a pattern": (of_croissant(lambda one: one["distribution"][-1].update(includes="*")), "includes"),
    "no biases": (of_croissant(lambda one: one.pop("rai:dataBiases")), "rai:dataBiases: is absent"),
    "a limitation": (of_croissant(lambda one: one["rai:dataLimitations"].pop()), r"rai:dataLimitations\["),
    "not synthetic": (of_croissant(lambda one: one.update({"rai:hasSyntheticData": False})), "rai:hasSyntheticData"),
    "share": (of_croissant(lambda one: one.update({"rai:syntheticDataExplanation": "a few"})), "syntheticDataExpl"),
    "generator": (of_croissant(lambda one: one.update({"prov:wasGeneratedBy": "hand"})), "prov:wasGeneratedBy"),
    "version": (of_croissant(lambda one: one.update(version="9.9.9")), "version"),
    "a type": (of_croissant(lambda one: one["recordSet"][-1]["field"][0].update(dataType="sc:Date")), "dataType"),
    "a level": (of_croissant(lambda one: one["recordSet"][0]["data"].reverse()), r"recordSet\[0\].data"),
    "a split": (of_croissant(lambda one: one["recordSet"].pop()), "recordSet"),
    "a property more": (of_croissant(lambda one: one.update(audited=True)), "audited: is none of"),
    "nobody": (of_croissant(lambda one: one.pop("creator")), "creator: is absent"),
    "no address": (of_croissant(lambda one: one.update(url="here")), "url: 'here' is no address"),
    "no date": (of_croissant(lambda one: one.update(datePublished="2026-02-31")), "date_published"),
    "order": (of_croissant(lambda one: one.update(name=one.pop("name"))), "order or spelling"),
    "no JSON": (replaced(CROISSANT, r"\{", ""), "no JSON"),
    "no Croissant": (removed(CROISSANT), "croissant.json: is missing"),
    # records
    "plan": (of_json("records/plan.json", lambda one: one.update(seed=99)), "plan.json: seed: is 99"),
    "no plan": (removed("records/plan.json"), "plan.json: is missing"),
    "run's setting": (of_json(RUN, lambda one: one["settings"].update(seed=99)), "generate.json: its settings"),
    "run's count": (of_json(RUN, lambda one: one["counts"].update(rows=1)), "counts.rows: is 1"),
    "run's version": (of_json(RUN, lambda one: one["versions"].update(torch="0")), "generate.json: its bytes"),
    "run's file": (
        of_json(RUN, lambda one: next(iter(one["files"].values())).update(bytes=1)),
        r"files\.\S+\.bytes: is 1",
    ),
    "shard's record": (
        replaced("records/test-00000-of-00001.json", r'"rows": \d', r'"rows": 0'),
        "its bytes differ from the sha256",
    ),
    "no shard's record": (removed("records/test-00000-of-00001.json"), "no readable record"),
}
"""Single edits, and what names their field."""

LOST = {"nobody", "no address", "no date", "no JSON"}
"""Edits of what no record tells, which is asked for."""


def test_there_are_enough_edits():
    assert len(EDITS) >= 40


def test_what_was_written_agrees(store, documented):
    assert validate(store) == []
    assert validate(documented) == []


def test_figures_of_measurements_are_printed_with_their_intervals(documented):
    text = (documented / CARD).read_text()
    assert "| share of gap | sex | sex | reader | - | 0.9 [0.8, 1] |" in text
    assert "| `finding_sex_correlated_90_10` | sex | auc gap | 0.25 [0.1, 0.3] | 0.125 [0.1, 0.3] | 5 |" in text
    before = text
    write_card(documented)
    assert (documented / CARD).read_text() == before, "what was measured is kept"


def test_measurements_of_something_else_are_refused_and_nothing_is_written(copy, tmp_path):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    for argument, directory, told in (
        ("scoreboard", measured(tmp_path / "of another", "another"), "is of generator another, not of stub; measure"),
        ("leaderboard", benchmarked(tmp_path / "other", "another"), "is of data set another, not of .*; benchmark"),
        ("scoreboard", tmp_path, "holds no record; give the output directory of `synthfair measure`"),
        ("leaderboard", tmp_path, "no record here"),
    ):
        with pytest.raises(InputError, match=told):
            write_card(copy, **{argument: directory})
    with pytest.raises(InputError, match=r"hub_model_id: is for a generator, and .* is none; leave it out"):
        write_card(copy, hub_model_id="lab/generator")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_statistics_are_those_of_the_rows(documented):
    rows = pandas.concat(pandas.read_parquet(path) for path in sorted((documented / "data").rglob("*.parquet")))
    text = (documented / CARD).read_text()
    ages = [rows.age[rows.split == split] for split in ("train", "validation", "test")]
    told = " | ".join(f"{one.mean():.1f} ({one.std(ddof=0):.1f})" for one in ages)
    assert f"| age (years) | mean (standard deviation) | {told} |" in text
    unknown = " | ".join(str(rows.race[rows.split == split].isna().sum()) for split in ("train", "validation", "test"))
    assert f"| race | not recorded | {unknown} |" in text
    kept = rows[(rows.split == "train") & np.where(rows.sex == 0, rows.draw < 0.9, rows.draw >= 0.9)]
    line = next(one for one in text.splitlines() if one.startswith("| `sex_imbalanced_90_10` |") and " / " in one)
    shares = " / ".join(f"{100 * (kept.sex == code).mean():.1f}" for code in (0, 1))
    assert [cell.strip() for cell in line.split("|")][2:4] == [f"{kept.age.mean():.1f}", shares]


def test_figures_are_valid_alone_and_show_every_share(documented):
    for name in ("covariates.svg", "views.svg"):
        root = ElementTree.parse(documented / name).getroot()
        width, height = float(root.get("width")), float(root.get("height"))
        for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
            x, y, wide, tall = (float(bar.get(key, 0)) for key in ("x", "y", "width", "height"))
            assert 0 <= x <= x + wide <= width + 0.1
            assert 0 <= y <= y + tall <= height + 0.1
        assert not re.search(r"href|script|@import|url\(", (documented / name).read_text())


@pytest.mark.parametrize("name", EDITS)
def test_every_single_edit_is_found_and_named(name, copy):
    edit, told = EDITS[name]
    written = {one: (copy / one).read_bytes() for one in (CARD, CROISSANT)}
    edit(copy)
    problems = validate(copy)
    assert problems
    assert re.search(told, " ".join(problems)), problems
    assert all(problem.endswith(".") and "; " in problem for problem in problems)
    if not all(f"write it again by `synthfair card {copy}`" in problem for problem in problems):
        with pytest.raises(InputError):
            write_card(copy)
        return
    if name in LOST:
        with pytest.raises(InputError, match=r"; (give|write it as) "):
            write_card(copy)
        assert validate(copy) == problems, "nothing is written"
    elif name != "licence":
        write_card(copy)
        assert {one: (copy / one).read_bytes() for one in written} == written, "the remedy"
    write_card(copy, "cc-by-4.0", "unknown", "https://example.org", "2026-11-28")
    assert validate(copy) == []


def test_what_a_publisher_adds_is_kept_and_checked(copy):
    write_card(copy, "mit", "My lab", "https://example.org/synthfair", "2026-11-28")
    found = json.loads((copy / CROISSANT).read_bytes())
    assert (found["license"], found["creator"]["name"], found["datePublished"]) == ("mit", "My lab", "2026-11-28")
    before = (copy / CROISSANT).read_bytes(), (copy / CARD).read_bytes()
    write_card(copy)
    assert ((copy / CROISSANT).read_bytes(), (copy / CARD).read_bytes()) == before
    for given, told in (
        ({"url": "ftp://x"}, "url: 'ftp://x' is no address; give one that begins with https://."),
        ({"date_published": "28.11.2026"}, "date_published: '28.11.2026' is no date; write it as 2026-01-31."),
        ({"creator": " "}, "creator: ' ' is no line of 1 to 200 characters; give a name, or unknown."),
    ):
        with pytest.raises(InputError, match=re.escape(told)):
            write_card(copy, **given)
        assert ((copy / CROISSANT).read_bytes(), (copy / CARD).read_bytes()) == before


def test_no_remedy_changes_the_licence_or_the_publisher(copy):
    write_card(copy, "cc-by-nc-4.0", "My lab", "https://example.org/synthfair", "2026-11-28")
    written = {one: (copy / one).read_bytes() for one in (CARD, CROISSANT)}
    for damage in (removed(CARD), replaced(CARD, "^configs:", "configs: ]")):
        damage(copy)
        write_card(copy)
        assert {one: (copy / one).read_bytes() for one in written} == written
    for name in written:
        (copy / name).unlink()
    with pytest.raises(InputError, match=r"license: neither README.md nor croissant.json .* names one; give it"):
        write_card(copy)
    write_card(copy, "cc-by-nc-4.0", "My lab", "https://example.org/synthfair", "2026-11-28")
    assert {one: (copy / one).read_bytes() for one in written} == written


@pytest.mark.parametrize("damage", ["fewer bytes", "other bytes", "missing", "one more"])
def test_files_that_are_not_those_of_the_records_are_not_described(damage, copy):
    path = next(iter(sorted((copy / "data").rglob("test*.parquet"))))
    if damage == "missing":
        path.unlink()
    elif damage == "one more":
        shutil.copy(path, path.with_name(path.name + ".bak"))
    else:
        path.write_bytes(path.read_bytes()[:-9] if damage == "fewer bytes" else b"x" * path.stat().st_size)
    problems = validate(copy)
    assert problems
    assert all(re.search("; (repair the data set|remove it)\\.$", problem) for problem in problems), problems
    with pytest.raises(InputError, match=r"; (repair the data set|remove it)"):
        write_card(copy)


@pytest.mark.parametrize("name", [CARD, CROISSANT, "records/plan.json"])
def test_what_is_no_file_is_told_and_not_waited_for(name, copy):
    (copy / name).unlink()
    os.mkfifo(copy / name)
    for function in (validate, write_card):
        with pytest.raises(InputError, match=f"{name}: is not a file; remove it"):
            function(copy)


@pytest.mark.parametrize("value", ["", " mit", "a\nb", "a\0b", "\x1b[31m", "a\x85b", "x" * 201, "\ud800"])
def test_a_licence_or_name_is_a_short_line(value, copy):
    for argument in ("license", "creator"):
        with pytest.raises(InputError, match=f"{argument}: .* is no line of 1 to 200 characters; give a name"):
            write_card(copy, **{argument: value})


def test_an_unfinished_data_set_has_no_card(tmp_path):
    for function in (validate, write_card):
        with pytest.raises(InputError, match=r"directory: .* holds no records/generate.json; give a data set that"):
            function(tmp_path)


@pytest.mark.parametrize("name", ["store", "partitioned_store"])
def test_mlcroissant_validates_it_and_loads_its_rows(name, request):
    directory = request.getfixturevalue(name)
    found = json.loads((directory / CROISSANT).read_bytes())
    assert set(found) >= set(REQUIRED)
    code = (
        "import json, sys, mlcroissant\n"
        f"data = mlcroissant.Dataset({str(directory / CROISSANT)!r})\n"
        "row = next(iter(data.records('train')))\n"
        "levels = {one['levels/sex/code']: one['levels/sex/name'] for one in data.records('levels/sex')}\n"
        "counts = {split: sum(1 for _ in data.records(split)) for split in ('validation', 'test')}\n"
        "told = [str(one) for one in data.metadata.issues.warnings]\n"
        "print(json.dumps([sorted(row), row['train/image'].size, levels[row['train/sex']], counts, told]))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    names, size, level, counts, told = json.loads(run.stdout.splitlines()[-1])
    rows = next(one for one in found["recordSet"] if one["@id"] == "train")
    assert names == sorted(field["@id"] for field in rows["field"])
    assert size == [16, 16]
    assert level in ("male", "female")
    assert all(counts.values())
    # a date is the publisher's to give
    assert [one for one in told if "datePublished" not in one] == []


def test_differences_are_none_of_equal_values_and_one_a_leaf():
    one = {"a": [1, {"b": 2}], "c": "x"}
    assert list(differences(one, one, "it")) == []
    other = {"a": [1, {"b": 3}, 4], "d": 1}
    told = list(differences(one, other, "it"))
    assert [line.partition(":")[0] for line in told] == ["a[1].b", "a[2]", "c", "d"]
    assert list(differences(True, 1, "it", "x")) == ["x: is 1 where it have True"]
