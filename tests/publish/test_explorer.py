"""What the explorer answers: pictures and tables from a generator, a data set and records; and the Space it writes."""

import ast
import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from synthfair_hf.cli import main
from synthfair_hf.diffusion.loaded import LoadedGenerator
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.errors import InputError
from synthfair_hf.publish.explorer.counterfactual import LARGEST_UPLOAD, answer, uploaded
from synthfair_hf.publish.explorer.families import families_page, number_of_pages, views_of
from synthfair_hf.publish.explorer.figures import Audit, Leaderboard
from synthfair_hf.publish.explorer.space import write_space
from synthfair_hf.publish.serving import check_host
from synthfair_hf.publish.stored import StoredDataSet
from synthfair_hf.records import Record

BOARD = Path(__file__).parents[2] / "docs" / "benchmark" / "chest_xray"
SEED = 3


@pytest.fixture(scope="module")
def generator(save_phantom_generator, tmp_path_factory) -> LoadedGenerator:
    place = save_phantom_generator(tmp_path_factory.mktemp("generator") / "phantom", 16, 0, default_steps=2)
    return LoadedGenerator(find_generator(place))


@pytest.fixture(scope="module")
def known() -> dict:
    return {one.name: one.levels[0] if one.categorical else sum(one.bounds) / 2 for one in PHANTOM.covariates.walk()}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/png;base64,([^\"]+)", html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


def test_doing_nothing_to_an_upload_changes_nothing(generator, known):
    pixels = np.random.default_rng(SEED).integers(0, 256, (16, 16), dtype=np.uint8)
    image, changed, difference = pictures(answer(generator, None, png(pixels), known, {}, SEED))
    assert np.array_equal(image, pixels)
    assert np.abs(changed.astype(int) - image).max() <= 1
    assert difference.max() - difference.min() <= 2, "black all over"


def test_a_drawn_image_is_its_seed_s_and_its_counterfactual_that_of_the_same_noise(generator, known):
    do = {"sex": PHANTOM.covariates["sex"].levels[1]}
    image, changed, found = generator.drawn(known, do, SEED)
    again, same, _ = generator.drawn(known, {}, SEED)
    assert np.array_equal(image, again)
    np.testing.assert_allclose(same, image, atol=1e-4)
    assert found["sex"] == do["sex"]
    # abduction starts from an image whose pixels are clipped to [0, 1]
    assert np.abs(changed - generator.counterfactual(image, known, do, SEED)[0]).mean() < 0.02


def test_predictions_are_of_both_images_and_their_change_is_theirs(generator, known):
    def predict(images):
        brightness = np.array([image.mean() for image in images])
        return {
            one.name: np.stack([1 - brightness] + [brightness / (len(one.levels) - 1)] * (len(one.levels) - 1), axis=1)
            if one.categorical
            else 100 * brightness
            for one in PHANTOM.covariates.walk()
        }

    html = answer(generator, predict, None, known, {"sex": PHANTOM.covariates["sex"].levels[1]}, SEED)
    rows = re.findall(r"<tr><th scope=\"row\">([^<]*)</th><td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td>", html)
    assert any("sex:" in name for name, *_ in rows)
    for _, before, after, change in rows:
        assert float(change.replace("−", "-")) == pytest.approx(float(after) - float(before), abs=1e-9)
        assert (change.lstrip("0.") == "") == (before == after)
    assert "set by do()" in html


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"size": 3, "data": "!!"}, "was not sent as a file"),
        ({"size": 3}, "was not sent as a file"),
        ([], "was not sent as a file"),
        ("x", "was not sent as a file"),
        ({"size": LARGEST_UPLOAD + 1, "data": ""}, "give a smaller file"),
    ],
)
def test_what_is_no_file_is_one_sentence(sent, told):
    with pytest.raises(InputError, match=told):
        uploaded(sent)


@pytest.mark.parametrize("file", [b"", b"GIF89a", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", png(np.zeros((40, 40), np.uint8))])
def test_a_file_that_shows_no_image_is_one_sentence_and_leaves_nothing(generator, known, file, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(InputError) as raised:
        answer(generator, None, file, known, {}, SEED)
    told = str(raised.value)
    assert told.startswith("radiograph: ")
    assert str(tmp_path) not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, None, "1", True])
def test_a_seed_that_is_none_is_refused(generator, known, seed):
    with pytest.raises(InputError, match="seed: "):
        answer(generator, None, None, known, {}, seed)


def test_families_are_told_by_their_rows(store):
    data = StoredDataSet.read(store)
    views = views_of(data)
    name = "sex_imbalanced_90_10"
    kept = views[name].mask(data.columns) & (data.columns["split"] == "train")
    subjects = len(set(data.columns["subject_id"][kept].tolist()))
    pages = [
        families_page(data, views[name], "train", 1 + page)
        for page in range(number_of_pages(data, views[name], "train"))
    ]
    assert f"{int(kept.sum())} of " in pages[0]
    assert sum(page.count('class="family"') for page in pages) == subjects
    # a family is shown whole, and what the view leaves out of it is marked
    assert (
        sum(len(pictures(page)) for page in pages) - sum(page.count("not in this view") for page in pages) == kept.sum()
    )


def test_a_leaderboard_shows_its_figures_with_intervals():
    board = Leaderboard(BOARD)
    first = board.figures.iloc[0]
    html = board.page(first["view"], first["set"], first["metric"])
    assert f"{first['mean']:.3f}" in html
    assert f"[{first['low']:.3f}, {first['high']:.3f}]" in html
    assert html.count("<tr>") == 1 + board.figures["method"].nunique()


def test_a_table_that_is_no_leaderboard_s_is_one_sentence(tmp_path):
    shutil.copy(BOARD / "benchmark.json", tmp_path)
    for content in (b"a,b\n1,2\n", b"", b"\xff\xfe"):
        (tmp_path / "figures.csv").write_bytes(content)
        with pytest.raises(InputError, match=r"leaderboard: .*figures.csv is no table of figures"):
            Leaderboard(tmp_path)


def test_an_audit_shows_undefined_figures_as_such(tmp_path):
    row = {"attribute": "sex", "metric": "auc_gap", "value": None, "low": None, "high": None, "p": None}
    ends = {"lowest": None, "highest": None}
    group = {"group": "female", "n": 4, "positives": 0, **row, "metric": "auc"}
    measured = {"conditions": [], "gaps": [{**row, **ends}], "groups": [group]}
    settings = {"level": 0.95, "draws": 100, "permutations": 10}
    Record(stage="audit", settings=settings, measured=measured).write(tmp_path / "audit.json")
    audit = Audit(tmp_path)
    html = audit.page("sex", None)
    assert 'data-name="AUC">–' in re.sub(r"\s+", " ", html).replace("> ", ">")
    assert "nan" not in html.lower()
    Record(stage="audit", settings=settings, measured={}).write(tmp_path / "audit.json")
    with pytest.raises(InputError, match="is not the record of an audit"):
        Audit(tmp_path)


def test_a_space_runs_what_was_given(tmp_path, monkeypatch):
    (tmp_path / "audit.json").write_text("{}")
    words = ["--audit", "audit"]
    write_space(
        tmp_path / "space", "Chests", words, {"audit": {"audit.json": tmp_path / "audit.json"}}, "open", "6.31.0"
    )
    page = (tmp_path / "space" / "README.md").read_text()
    front = yaml.safe_load(page.split("---\n")[1])
    assert (front["sdk"], front["sdk_version"], front["app_file"]) == ("gradio", "6.31.0", "app.py")
    assert len(front["short_description"]) <= 60
    assert (tmp_path / "space" / "requirements.txt").read_text().startswith("synthfair-hf[app]==")
    assert (tmp_path / "space" / "audit" / "audit.json").read_text() == "{}"
    call = ast.parse((tmp_path / "space" / "app.py").read_text()).body[-1].value.args[0]
    assert ast.literal_eval(call.args[0]) == ["app", *words]
    with pytest.raises(InputError, match="holds files"):
        write_space(tmp_path / "space", "Chests", [], {}, "open", "6.31.0")


@pytest.mark.parametrize("access", ["unknown", "credentialed"])
def test_a_space_shows_nothing_that_is_not_open(tmp_path, access):
    with pytest.raises(InputError, match=f"made from images that are {access}, not open"):
        write_space(tmp_path / "space", "Chests", [], {}, access, "6.31.0")
    assert not (tmp_path / "space").exists()


@pytest.mark.parametrize("host", ["", "localhost", "example.org", "::", "1.2.3", "\0", "127.0.0.1:80"])
def test_a_host_that_is_no_address_is_refused(host, capsys):
    with pytest.raises(InputError, match=r"host: .*; give 127.0.0.1, or 0.0.0.0"):
        check_host(host)


def test_without_gradio_the_remedy_is_told(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    assert main(["app"]) == 2
    assert capsys.readouterr().err == "synthfair: app: needs gradio; install it by `pip install 'synthfair-hf[app]'`.\n"
