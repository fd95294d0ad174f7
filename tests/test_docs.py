"""What README.md and the pages of docs/ say of figures: whose they are, and that they are those of the records."""

import importlib
import json
import re
from pathlib import Path

import pandas
import pytest

from synthfair_hf.diffusion.saved import DEFAULT_GENERATOR, find_generator
from synthfair_hf.fairness.benchmark import leaderboard
from synthfair_hf.measure.scoreboard import write_page
from synthfair_hf.publish.editions import EDITIONS, edition
from synthfair_hf.publish.pages import render
from synthfair_hf.records import Record

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "model_card" / "README.md", *DOCS.rglob("*.md")])
RECORDS = sorted(path for path in DOCS.rglob("*.json"))
BOARDS = sorted(path.parent for path in DOCS.rglob("benchmark.json"))
TODAY = {revisions[-1] for revisions in EDITIONS.values()}
EARLIER = {revision for revisions in EDITIONS.values() for revision in revisions[:-1]}


def generators(directory):
    """The revisions that the records in a directory were measured on."""
    inputs = [Record.read(path).inputs for path in sorted(directory.glob("*.json"))]
    return {one["generator"] for one in inputs if "generator" in one}


def blocks(text):
    """Paragraphs, lists and tables of a page, without its code."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(block.split()) for block in re.split(r"\n\s*\n", text) if block.strip()]


def about_the_shipped(text):
    """Blocks that call a generator shipped and give figures."""
    # what is said to be none of them is about another one
    told = [re.sub(r"`[^`]*`|\]\([^)]*\)|\d+ [x×] \d+|\bnone of the shipped\b", "", block) for block in blocks(text)]
    pairs = zip(blocks(text), told, strict=True)
    return [block for block, words in pairs if re.search(r"\bshipped\b", words) and re.search(r"\d", words)]


def named(block):
    """The revisions in a text that were ever shipped."""
    return set(re.findall(r"`([0-9a-f]{16})`", block)) & (TODAY | EARLIER)


def problems(text):
    """Blocks that call figures the shipped generator's without saying, or not of, the revision that is shipped."""
    found = []
    for block in about_the_shipped(text):
        revisions = named(block)
        if not revisions or (revisions & EARLIER and "earlier edition" not in block):
            found.append(block)
    return found


@pytest.mark.parametrize("name", EDITIONS)
def test_the_last_edition_listed_is_the_one_that_is_shipped(name):
    assert find_generator(DEFAULT_GENERATOR.parent / name).revision == EDITIONS[name][-1]


def test_every_shipped_generator_is_listed():
    saved = {path.parent.name for path in DEFAULT_GENERATOR.parent.glob("*/model_index.json")}
    assert saved == set(EDITIONS)


def test_an_edition_is_told_by_its_revision():
    assert edition(EDITIONS["chest_xray_64"][-1]).endswith("the shipped `chest_xray_64`")
    told = edition(EDITIONS["chest_xray_64"][0])
    assert "an earlier edition of `chest_xray_64`" in told
    assert told.endswith(f"today's is `{EDITIONS['chest_xray_64'][-1]}`")
    assert "none of the shipped" in edition("0" * 16)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: str(path.relative_to(DOCS)))
def test_every_page_names_the_generator_that_its_record_measured(path):
    revision = Record.read(path).inputs.get("generator")
    if revision is None:
        # a world's own images, which no generator drew
        return
    pages = [path.with_suffix(".md"), path.parent / "README.md"]
    text = next(page for page in pages if page.exists()).read_text(encoding="utf-8")
    assert edition(revision) in text


def test_a_record_of_radiographs_names_its_generator():
    of_chests = [path for path in RECORDS if '"chest_xray"' in path.read_text() or '"acquisition"' in path.read_text()]
    assert len(of_chests) >= 6
    for path in of_chests:
        assert "generator" in Record.read(path).inputs, path


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_called_shipped_is_shipped_or_called_an_earlier_edition(page):
    assert problems(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_figures_of_an_earlier_edition_are_called_so_where_they_are_linked(page):
    """A paragraph or table with figures that links to an earlier edition's page says so, or what leads to it does."""
    told = blocks(page.read_text(encoding="utf-8"))
    for before, block in zip(["", *told], told, strict=False):
        for target in re.findall(r"\]\(([^)#:]+)\)", block):
            directory = (page.parent / target).resolve()
            directory = directory if directory.is_dir() else directory.parent
            older = generators(directory) & EARLIER if directory != page.parent and DOCS in directory.parents else set()
            # the number of a preprint is no figure
            if older and re.search(r"\.\d", re.sub(r"\]\([^)]*\)|`[^`]*`|arXiv [\d.]+", "", block)):
                assert "earlier edition" in before + block, (target, block)
                assert older <= named(before + block), (target, block)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("The shipped generator reaches .92.", True),
        (f"The shipped generator `{max(EARLIER)}` reaches .92.", True),
        (f"An earlier edition of the shipped generator, `{max(EARLIER)}`, reaches .92.", False),
        (f"The shipped generator `{EDITIONS['chest_xray_64'][-1]}` reaches .92.", False),
        ("The shipped generator draws 64 × 64 pixels.", False),
        ("Measured on `0123456789abcdef`, none of the shipped: .92.", False),
        ("Measured on `0123456789abcdef`, none of the shipped: .92; the shipped one reaches .93.", True),
        ("```\nthe shipped generator reaches .92\n```", False),
    ],
)
def test_a_planted_claim_is_found(text, wrong):
    assert bool(problems(text)) is wrong


@pytest.mark.parametrize("directory", BOARDS, ids=lambda path: path.name)
def test_a_leaderboard_begins_as_its_record_is_printed(directory):
    text = (directory / "README.md").read_text(encoding="utf-8")
    seconds = int(re.search(r"(\d+) s of fitting", text)[1])
    page = render(
        "leaderboard.md.jinja",
        record=Record.read(directory / "benchmark.json"),
        results=[],
        reference=leaderboard.REFERENCE,
        reduced=leaderboard.REDUCED,
        planted=leaderboard.PLANTED,
        overview=leaderboard.OVERVIEW,
        picture=True,
        seconds=seconds,
        edition=edition,
    )
    assert text.startswith(page.partition("## Does a view")[0])


@pytest.mark.parametrize("directory", BOARDS, ids=lambda path: path.name)
def test_the_figures_of_a_leaderboard_are_those_that_its_page_prints(directory):
    page = (directory / "README.md").read_text(encoding="utf-8")
    found = leaderboard.read_figures(directory)
    assert set(found["metric"]) >= set(leaderboard.DRAWN)
    for line in found.dropna().itertuples():
        assert f"| {line.mean:.3g} [{line.low:.3g}, {line.high:.3g}] |" in page


@pytest.mark.parametrize("directory", BOARDS, ids=lambda path: path.name)
def test_the_picture_of_a_leaderboard_cuts_nothing_off(directory):
    found = leaderboard.read_figures(directory)
    figure = leaderboard.gaps_figure(found[found["set"] == "test"])
    figure.draw_without_rendering()
    lines = [(axis, line) for axis in figure.axes for line in axis.lines if line.get_linestyle() != ":"]
    assert len(lines) >= 2 * len(figure.axes)
    for axis, line in lines:
        left, right = axis.get_xlim()
        low, high = sorted(axis.get_ylim())
        assert left <= min(line.get_xdata()) <= max(line.get_xdata()) <= right
        assert low <= min(line.get_ydata()) <= max(line.get_ydata()) <= high


@pytest.mark.parametrize("directory", ["scoreboard", "scoreboard/chest_xray_128", "scoreboard/chest_xray_findings_128"])
def test_a_scoreboard_is_printed_from_its_records(directory, tmp_path):
    for path in (DOCS / directory).glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert write_page(tmp_path).read_bytes() == (DOCS / directory / "README.md").read_bytes()


def test_the_shares_of_the_real_gap_are_quoted_from_the_board():
    board = Record.read(DOCS / "scoreboard" / "chest_xray_findings_128" / "soundness-observed.json")
    own = {row["do"]: row for row in board.measured["rows"] if row["metric"] == "share_of_gap" and row["mean"]}
    pages = (ROOT / "README.md", DEFAULT_GENERATOR.parent / "README.md")
    quoting = [" ".join(page.read_text(encoding="utf-8").split()) for page in pages]
    for name in ("sex", "view", "age", "effusion"):
        figures = [f"{own[name][end]:.2f}".removeprefix("0") for end in ("mean", "low", "high")]
        told = "{} [{}, {}]".format(*figures)
        assert f"{name} {told}" in quoting[0]
        assert f"| {name} | {told} |" in quoting[1]


@pytest.mark.parametrize(
    ("directory", "name", "page"),
    [
        ("roofline", "roofline", "README.md"),
        ("roofline", "precision", "precision.md"),
        ("roofline", "dpo_step", "dpo_step.md"),
        ("ingest", "ingest", "README.md"),
        ("view_loading", "views", "README.md"),
        ("second_release", "second_release", "README.md"),
        ("causal_fitting", "causal_fitting", "README.md"),
    ],
)
def test_a_page_of_costs_is_printed_from_its_record(directory, name, page, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    (path,) = (DOCS / directory).glob(f"{name if directory == 'roofline' else '*'}.json")
    record = Record.read(path)
    text = (DOCS / directory / page).read_text(encoding="utf-8")
    assert importlib.import_module(name).page(record) == text


@pytest.mark.parametrize(
    ("directory", "name", "table"),
    [
        ("detection", "detection", "score"),
        ("attention_alignment", "attention_alignment", "table"),
        ("box_alignment", "box_alignment", "table"),
        ("box_alignment/view_90_10", "box_alignment", "table"),
        ("aim_fair", "aim_fair", "table"),
        ("audit_set", "audit_set", "table"),
    ],
)
def test_a_page_of_a_benchmark_is_printed_from_its_record(directory, name, table, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    record = Record.read(DOCS / directory / f"{name}.json")
    text = (DOCS / directory / "README.md").read_text(encoding="utf-8")
    assert importlib.import_module(name).page(record, pandas.DataFrame(record.measured[table])) == text


@pytest.mark.parametrize("domain", ["brain_mri", "dermatology"])
def test_a_page_of_a_domain_is_printed_from_its_records(domain, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    directory = DOCS / "domains" / domain
    records = [Record.read(directory / f"{name}-observed.json") for name in ("soundness", "realism")]
    page = importlib.import_module("domains").page(*records)
    assert page == (directory / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "quoted"), [("workbench", ROOT / "README.md"), ("workbench_resnet", DOCS / "audit_and_mitigate.md")]
)
def test_a_workbench_is_quoted_from_its_record(name, quoted):
    measured = json.loads((DOCS / name / "workbench.json").read_text())["measured"]
    quoting = quoted.read_text(encoding="utf-8")
    page = (DOCS / name / "README.md").read_text(encoding="utf-8")
    for method, found in measured.items():
        shown = ("worst-group accuracy", "flip rate of do(scanner)")
        texts = ["{:.2f} [{:.2f}, {:.2f}]".format(*found[name]) for name in shown]
        assert f"| {method} | {' | '.join(texts)} |" in quoting
        assert all(text in page for text in texts)


def test_every_link_of_a_page_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page, target)


def test_a_sheet_has_a_label_for_every_column_and_row(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from PIL import Image

    sheet = importlib.import_module("sheet").sheet
    black = Image.new("RGB", (64, 32), "black")
    drawn = sheet([[black, None], [black, black]], ["a", "b,\nc"], ["one", "two"])
    pixels = drawn.load()
    dark = [(x, y) for x in range(drawn.width) for y in range(drawn.height) if pixels[x, y] == (0, 0, 0)]
    assert len(dark) >= 3 * 64 * 32
    assert drawn.width > 2 * 68
    assert drawn.height > 2 * 36
    with pytest.raises(ValueError, match="one label for each column"):
        sheet([[black]], ["a", "b"], ["one"])
    with pytest.raises(ValueError, match="break the line"):
        sheet([[black]], ["much wider than a picture is"], ["one"])


TASKS = (
    "generate",
    "train",
    "counterfactuals",
    "views",
    "audit_and_mitigate",
    "preferences",
    "measure",
    "publish",
    "jobs",
    "explorer",
    "figures",
)


@pytest.mark.parametrize("name", TASKS)
def test_a_page_of_a_task_begins_with_its_command_and_is_found(name):
    assert re.match(r"# [^\n]+\n\n```(bash|python)\n", (DOCS / f"{name}.md").read_text(encoding="utf-8"))
    assert f"(docs/{name}.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"({name}.md)" in (DOCS / "README.md").read_text(encoding="utf-8")


def test_readme_is_for_a_first_visit():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_page_of_figures_is_listed_with_the_generators_it_measured():
    table = (DOCS / "figures.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| [")]
    listed = {target: row for row in rows for target in re.findall(r"\]\(([^)]+)\)", row)}
    for directory in {path.parent for path in RECORDS}:
        row = listed[directory.relative_to(DOCS).as_posix()]
        assert all(f"`{revision}`" in row for revision in generators(directory)), directory
