import base64
import html.parser
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.preset import Contrast
from synthfair_hf.errors import InputError
from synthfair_hf.publish.report import write_report
from synthfair_hf.schema import Schema

Row = dict[str, Any]
VOID = {"meta", "img", "br"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list["Element | str"] = field(default_factory=list)

    def find(self, *tags: str) -> "list[Element]":
        """Elements below with one of these tags, in document order."""
        return [element for element in self.walk() if element.tag in tags]

    def walk(self) -> "Iterator[Element]":
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.walk()

    @property
    def text(self) -> str:
        parts = (child if isinstance(child, str) else child.text for child in self.children)
        return " ".join(" ".join(parts).split())


class Reader(html.parser.HTMLParser):
    """A tree of elements; a tag closed out of turn fails."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(path: Path) -> Element:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == [reader.root]
    return reader.root


def rows_of(directory: Path) -> list[Row]:
    return [
        row for path in sorted((directory / "data").iterdir()) for row in pyarrow.parquet.read_table(path).to_pylist()
    ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, write_store: Callable[..., Path]) -> Path:
    directory = write_store(tmp_path_factory.mktemp("report") / "store")
    assert write_report(directory) == directory / "report.html"
    return directory


@pytest.fixture(scope="module")
def page(directory: Path) -> Element:
    return parse(directory / "report.html")


@pytest.fixture(scope="module")
def rows(directory: Path) -> list[Row]:
    return rows_of(directory)


@pytest.fixture
def copy(directory: Path, tmp_path: Path) -> Path:
    """A copy to damage, without a report."""
    copy = shutil.copytree(directory, tmp_path / "copy")
    (copy / "report.html").unlink()
    return copy


def test_the_page_asks_for_nothing_from_outside(page: Element):
    assert not page.find("script", "link", "iframe", "object", "embed", "form", "base")
    for element in page.walk():
        for name, value in element.attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert value.startswith(("data:image/png;base64,", "#"))
    (style,) = page.find("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    policy = next(meta for meta in page.find("meta") if "http-equiv" in meta.attributes)
    assert policy.attributes["content"].startswith("default-src 'none';")


def test_the_page_can_be_read_without_seeing_it(page: Element):
    assert page.find("html")[0].attributes["lang"] == "en"
    assert all(image.attributes["alt"] for image in page.find("img"))
    assert all(svg.attributes.get("aria-label") or svg.attributes["aria-hidden"] == "true" for svg in page.find("svg"))
    for table in page.find("table"):
        assert table.find("th")
        assert all(header.attributes["scope"] in ("col", "row", "colgroup") for header in table.find("th"))
    names = [element.attributes["id"] for element in page.walk() if "id" in element.attributes]
    assert len(names) == len(set(names))
    assert {link.attributes["href"] for link in page.find("a")} <= {f"#{name}" for name in names}


def test_the_same_data_gives_the_same_page(directory: Path):
    before = (directory / "report.html").read_bytes()
    write_report(directory)
    assert (directory / "report.html").read_bytes() == before


def test_headline_counts(page: Element, rows: list[Row]):
    subjects = {row["subject_id"] for row in rows}
    assert f"{len(rows):,} images of {len(subjects):,} subjects" in page.text
    assert "All of the images are synthetic" in page.text
    facts = dict(zip((term.text for term in page.find("dt")), (fact.text for fact in page.find("dd")), strict=True))
    for split in ("train", "validation", "test"):
        here = [row for row in rows if row["split"] == split]
        assert facts[f"subjects in {split}, {len(here):,} images"] == f"{len({row['subject_id'] for row in here}):,}"
    assert facts["plan"] == rows[0]["plan"]


def captioned(page: Element, caption: str) -> dict[str, list[str]]:
    """Cells of the table of that caption by row label."""
    for table in page.find("table"):
        if table.find("caption") and table.find("caption")[0].text.startswith(caption):
            (body,) = table.find("tbody")
            return {line.find("th")[0].text: [cell.text for cell in line.find("td")] for line in body.find("tr")}
    raise AssertionError(f"no table {caption}")


@pytest.mark.parametrize("name", CHEST_XRAY.covariates.names)
def test_tables_by_split_agree_with_counting_rows(name: str, page: Element, rows: list[Row]):
    variable = CHEST_XRAY.covariates[name]
    samples = [
        [row[name] for row in rows if row["split"] == split and (everything or row["parent_id"] is None)]
        for split, everything in product(("train", "validation", "test"), (False, True))
    ]
    cells = captioned(page, name)
    expected = {
        level: [f"{sample.count(code):,} {sample.count(code) / len(sample):.1%}" for sample in samples]
        for code, level in enumerate(variable.levels)
    }
    if not variable.categorical:
        known = [[value for value in sample if value is not None] for sample in samples]
        quantiles = {"minimum": 0, "lower quartile": 25, "median": 50, "upper quartile": 75, "maximum": 100}
        expected = {label: [f"{np.percentile(s, at):.1f}" for s in known] for label, at in quantiles.items()}
    if any(None in sample for sample in samples):
        expected["not recorded"] = [f"{s.count(None):,} {s.count(None) / len(s):.1%}" for s in samples]
    assert cells == expected


def test_some_covariate_is_missing_somewhere(rows: list[Row]):
    assert any(row["race"] is None for row in rows)


def test_histograms_show_every_subject_once(page: Element, rows: list[Row]):
    bars = [int(title.text.rsplit(": ", 1)[1]) for title in page.find("title")[1:]]
    assert sum(bars) == len({row["subject_id"] for row in rows})


def view_lines(page: Element) -> dict[str, tuple[list[str], str]]:
    lines = {}
    for table in page.find("table"):
        for body in table.find("tbody"):
            for code in body.find("code"):
                numbers, sentence = body.find("tr")
                lines[code.text] = ([cell.text for cell in numbers.find("td")], sentence.text)
    return lines


@pytest.mark.parametrize("percent", [5, 20, 50, 95])
def test_a_planted_bias_is_counted_as_it_is_defined(percent: int, page: Element, rows: list[Row]):
    train = [row for row in rows if row["split"] == "train"]
    male = sum(row["sex"] == 0 and row["draw"] < percent / 100 for row in train)
    female = sum(row["sex"] == 1 and row["draw"] >= percent / 100 for row in train)
    both = male + female
    cells, sentence = view_lines(page)[f"sex_imbalanced_{percent}_{100 - percent}"]
    assert cells[:3] == [f"{male:,} {male / both:.1%}", f"{female:,} {female / both:.1%}", f"{both:,}"]
    assert f"{percent} % of train is male" in sentence


def test_every_curated_view_is_there_strongest_first(page: Element):
    names = list(view_lines(page))
    assert sorted(names) == sorted(("full", *CHEST_XRAY.views))
    strengths = [int(name.split("_")[-2]) for name in names if re.fullmatch(r"sex_imbalanced_\d+_\d+", name)]
    assert strengths == sorted(strengths, reverse=True)


def test_covariates_are_told_by_view(page: Element, rows: list[Row]):
    cells = captioned(page, "Covariates of train by view")
    assert set(cells) == {"full", *CHEST_XRAY.views}
    for name, first, share in (("full", 0, 1.0), ("sex_imbalanced_80_20", 0, 0.8), ("sex_imbalanced_20_80", 0, 0.2)):
        kept = [row for row in rows if row["split"] == "train"]
        if name != "full":
            kept = [row for row in kept if (row["sex"] == first) == (row["draw"] < share)]
        expected = []
        for variable in CHEST_XRAY.covariates.walk():
            values = [row[variable.name] for row in kept]
            if variable.categorical:
                expected += [f"{values.count(code) / len(values):.1%}" for code in range(len(variable.levels))]
            else:
                expected.append(f"{np.mean(values):.1f}")
        assert cells[name] == expected


def test_only_what_the_data_set_balances_is_listed(store_of_sexes: Path, tmp_path: Path):
    copy = shutil.copytree(store_of_sexes, tmp_path / "copy")
    names = {"full", *(name for name in CHEST_XRAY.views if name.startswith(("sex", "age")))}
    assert set(view_lines(parse(write_report(copy)))) == names


def test_families_without_an_observation_are_shown_from_their_first_row(
    tmp_path: Path, write_store: Callable[..., Path]
):
    directory = write_store(tmp_path / "store", 2, factors=("age",), levels={"age": (30, 70)})
    rows = rows_of(directory)
    assert "{}" not in {row["intervention"] for row in rows}
    subjects = list(dict.fromkeys(row["subject_id"] for row in rows))
    page = parse(write_report(directory))
    assert f"{len(rows)} images of {len(subjects)} subjects" in page.text
    assert "none of these images is an observation" in page.text
    shown = [[figure.find("img")[0].attributes["title"] for figure in family] for family in families(page)]
    assert len(shown) == 6
    for first, other in shown:
        own = [row["id"] for row in rows if row["subject_id"] == first.rpartition("-")[0]]
        assert [first, other] == own
    assert [figure.find("div")[0].text for figure in families(page)[0]] == ["first of family", "do(age)"]
    train = sum(row["split"] == "train" for row in rows)
    ages = captioned(page, "age")
    assert ages["not recorded"][:2] == [f"{train // 2} 100.0%", "0 0.0%"]
    assert ages["maximum"][:2] == ["", "70.0"]
    assert sum(int(cell.split()[0]) for cell in captioned(page, "sex")["male"][::2]) == sum(
        row["sex"] == 0 for row in rows[::2]
    )


def test_some_families_may_hold_their_observation_and_others_not(
    tmp_path: Path, write_store: Callable[..., Path], record_again: Callable[[Path], None]
):
    directory = write_store(tmp_path / "store", 1)
    shards = sorted((directory / "data").iterdir())
    assert len(shards) == 6
    for path in shards[::2]:
        table = pyarrow.parquet.read_table(path)
        at = table.schema.get_field_index("intervention")
        do = pyarrow.array(['{"sex": "male"}'] * len(table))
        pyarrow.parquet.write_table(table.set_column(at, "intervention", do), path)
    record_again(directory)
    page = parse(write_report(directory))
    assert "where the subject's own values are among those crossed" in page.text
    words = [family[0].find("div")[0].text for family in families(page)]
    assert sorted(words) == ["first of family"] * 3 + ["observation"] * 3


def test_a_data_set_that_crosses_nothing_shows_observations_alone(tmp_path: Path, write_store: Callable[..., Path]):
    page = parse(write_report(write_store(tmp_path / "store", 20, factors=())))
    assert [len(family) for family in families(page)] == [1] * 6
    assert set(view_lines(page)) == {"full", *(name for name in CHEST_XRAY.views if name.startswith("age"))}


def grey(uri: str) -> np.ndarray:
    """Pixels of an image on the page, as signed integers."""
    encoded = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(encoded))).astype(int)


def families(page: Element) -> list[list[Element]]:
    return [[figure for figure in article.find("figure") if figure.find("img")] for article in page.find("article")]


def test_radiographs_are_the_rows_that_change_one_factor(page: Element, rows: list[Row]):
    by_id = {row["id"]: row for row in rows}
    assert len(families(page)) == 6
    for first, *others in families(page):
        observation = by_id[first.find("img")[0].attributes["title"]]
        assert observation["parent_id"] is None
        shown = [by_id[figure.find("img")[0].attributes["title"]] for figure in others]
        expected = [
            row["id"]
            for row in rows
            if row["parent_id"] == observation["id"]
            and sum(row[name] != observation[name] for name in CHEST_XRAY.factors) == 1
        ]
        assert sorted(row["id"] for row in shown) == sorted(expected)
        for figure, row in zip(others, shown, strict=True):
            (changed,) = [name for name in CHEST_XRAY.factors if row[name] != observation[name]]
            assert f"do({changed})" in figure.text
            assert figure.find("strong")[0].text == CHEST_XRAY.covariates[changed].levels[row[changed]]


def test_subjects_shown_are_spread_over_age(page: Element, rows: list[Row]):
    by_id = {row["id"]: row for row in rows}
    ages = [by_id[first.find("img")[0].attributes["title"]]["age"] for first, *_ in families(page)]
    everyone = sorted(row["age"] for row in rows if row["parent_id"] is None)
    ranks = [everyone.index(age) for age in ages]
    assert ranks == sorted(ranks)
    assert all(abs(rank - (place + 0.5) / 6 * len(everyone)) <= 1 for place, rank in enumerate(ranks))


def test_difference_maps_are_blue_where_darker_and_red_where_brighter(page: Element, rows: list[Row]):
    by_id = {row["id"]: row for row in rows}
    limit = float(re.search(r"\+(\d\.\d\d) brighter", page.text)[1])
    for first, *others in families(page):
        observation = grey(first.find("img")[0].attributes["src"])
        for figure in others:
            image, difference = (grey(picture.attributes["src"]) for picture in figure.find("img"))
            row = by_id[figure.find("img")[0].attributes["title"]]
            assert np.array_equal(image, np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))))
            signed = image - observation
            assert np.array_equal(np.sign(difference[..., 0] - difference[..., 2]), np.sign(signed))
            assert f"mean |Δ| {np.abs(signed).mean() / 255:.3f}" in figure.text
            saturated = np.abs(signed) / 255 >= limit
            assert len(np.unique(difference[saturated].reshape(-1, 3), axis=0)) <= 2


def test_labels_are_text_never_markup(tmp_path: Path, write_store: Callable[..., Path]):
    hostile = '<script>alert("1")</script> & \'<b>'
    variables = [
        variable.model_copy(update={"levels": (hostile, "female"), "aliases": {}})
        if variable.name == "sex"
        else variable
        for variable in CHEST_XRAY.covariates.walk()
    ]
    preset = CHEST_XRAY.model_copy(
        update={
            "title": hostile,
            "covariates": Schema(variables=tuple(variables)),
            "contrasts": {**CHEST_XRAY.contrasts, "sex": Contrast(first=hostile, second="female")},
        }
    )
    page = parse(write_report(write_store(tmp_path / "store", 1, preset)))
    assert not page.find("script", "b")
    assert page.find("h1")[0].text == hostile
    assert hostile in captioned(page, "sex")
    assert any(hostile in image.attributes["alt"] for image in page.find("img"))


def test_a_data_set_of_fewer_subjects_than_places_shows_each_once(tmp_path: Path, write_store: Callable[..., Path]):
    directory = write_store(tmp_path / "store", 1)
    subjects = {row["subject_id"] for row in rows_of(directory)}
    shown = [
        heading.text for heading in parse(write_report(directory)).find("h3") if heading.text.startswith("Subject ")
    ]
    assert len(shown) == len(set(shown)) == min(6, len(subjects))


@pytest.mark.parametrize("left", [(), ("data",), ("records",)])
def test_a_directory_that_is_no_data_set_is_refused(left: tuple[str, ...], copy: Path):
    for name in {"data", "records"} - set(left):
        shutil.rmtree(copy / name)
    with pytest.raises(InputError, match=r"holds no data set .* give one that `synthfair generate` wrote"):
        write_report(copy)
    with pytest.raises(InputError, match="holds no data set"):
        write_report(copy / "nowhere")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"preset": {"name": "x"}, "factors": []}', '{"preset": null}'])
def test_a_foreign_plan_is_refused(content: str, copy: Path):
    (copy / "records" / "plan.json").write_text(content)
    with pytest.raises(InputError, match=r"plan\.json: not a plan of this package"):
        write_report(copy)


def test_missing_rows_are_refused(copy: Path):
    next((copy / "data").glob("test-*")).unlink()
    with pytest.raises(InputError, match=r"counts \d+ rows but its data hold \d+; run `synthfair generate` again"):
        write_report(copy)


def test_an_unfinished_data_set_is_refused(copy: Path):
    (copy / "records" / "generate.json").unlink()
    with pytest.raises(InputError, match=r"generate\.json: no record here"):
        write_report(copy)


def test_damaged_files_are_refused_and_leave_no_page(copy: Path):
    path = next((copy / "data").glob("train-*"))
    whole = path.read_bytes()
    png = pyarrow.parquet.read_table(path, columns=["image"])["image"][0].as_py()["bytes"]
    path.write_bytes(whole.replace(png[40:60], bytes(20)))
    for damaged in (path.read_bytes(), whole[: len(whole) // 2], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="not readable"):
            write_report(copy)
    assert not (copy / "report.html").exists()


def test_a_foreign_table_is_refused(copy: Path):
    for path in (copy / "data").iterdir():
        pyarrow.parquet.write_table(pyarrow.table({"id": ["a"]}), path)
    with pytest.raises(InputError, match="not readable"):
        write_report(copy)
    assert json.loads((copy / "records" / "generate.json").read_text())["counts"]["rows"] > 1
