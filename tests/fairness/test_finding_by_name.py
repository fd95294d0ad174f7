"""One of several findings, by name: labelled images, cells of a benchmark, the page of a view."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image

from synthfair_hf.cli import main
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.benchmark import board
from synthfair_hf.fairness.benchmark.cells import DataSet, ExternalSet, parts_of
from synthfair_hf.fairness.flips import flip_rates
from synthfair_hf.fairness.labelled import LabelledImages
from synthfair_hf.publish.report import write_report
from synthfair_hf.publish.view_page import write_statistics
from synthfair_hf.views.view import get_view

WHOLE = get_preset("nih_chestxray14").restrict(("age", "sex", "view", "effusion", "edema", "mass"))
PRESET = WHOLE.model_copy(
    update={
        "covariates": WHOLE.covariates.model_copy(
            update={"variables": tuple(one.model_copy(update={"optional": False}) for one in WHOLE.covariates.walk())}
        )
    }
)
STRONG = "effusion_sex_correlated_90_10"


@pytest.fixture(scope="module")
def crossed(write_store, tmp_path_factory):
    """A data set that crosses effusion, edema and sex; a mass is what it happens to be."""
    directory = tmp_path_factory.mktemp("findings") / "synthfair"
    return write_store(directory, 5, preset=PRESET, factors=("sex", "effusion", "edema"))


@pytest.fixture(scope="module")
def rows(crossed):
    return {name: pq.read_table(crossed / "data")[name].to_numpy() for name in ("split", *PRESET.covariates.names)}


def test_labels_are_those_of_the_finding_that_is_named(crossed, rows):
    dataset = load_dataset("synthfair", "full", data_dir=str(crossed), split="test")
    masses = LabelledImages.from_dataset(dataset, PRESET, ("sex",), "mass")
    assert masses.labels.tolist() == rows["mass"][rows["split"] == "test"].tolist()
    finding = "effusion"
    images = LabelledImages.from_dataset(dataset, PRESET, ("sex",), finding)
    assert images.labels.tolist() == rows[finding][rows["split"] == "test"].tolist()
    assert set(images.pairs) >= {"sex"}
    # whoever knows the finding alone is moved by do() of it and of nothing else
    crossed_values = {name: rows[name][rows["split"] == "test"] for name in ("sex", "effusion", "edema")}
    for name in crossed_values:
        moved = flip_rates(images.labels.numpy().astype(float), images.subjects, crossed_values, name, n_bootstrap=1)
        assert float(moved["value"].iloc[0]) == (name == finding)


def test_of_several_findings_one_must_be_meant(crossed):
    dataset = load_dataset("synthfair", "effusion_underdiagnosed_in_female_30", data_dir=str(crossed), split="train")
    with pytest.raises(
        InputError, match="finding: not given, and nih_chestxray14 has several; name one of effusion, m"
    ):
        LabelledImages.from_dataset(dataset, PRESET, ("sex",))
    observed = LabelledImages.from_dataset(dataset, PRESET, ("sex",), label="observed_effusion")
    true = LabelledImages.from_dataset(dataset, PRESET, ("sex",), "effusion")
    changed = (observed.labels != true.labels).numpy()
    women = true.groups["sex"].numpy() == 1
    assert changed.sum() == round(0.3 * (women & (true.labels == 1).numpy()).sum())
    assert (observed.labels.numpy()[changed] == 0).all()
    with pytest.raises(InputError, match="finding: not given, and families cross effusion and edema; name one of"):
        DataSet(crossed)
    with pytest.raises(InputError, match="finding: 'efusion' is unknown; allowed: effusion, mass, edema; did you mean"):
        DataSet(crossed, "efusion")


def request(crossed, *views, finding):
    return board._Request(crossed, views, ["balanced_synthetic"], 1, None, 1, (), None, finding)


def test_cells_of_another_finding_are_other_cells_and_learn_that_finding(crossed, rows):
    plans = {one: board._plan(request(crossed, STRONG, finding=one)) for one in ("effusion", "edema")}
    assert not plans["effusion"].cells.keys() & plans["edema"].cells.keys()
    assert [plan.record.settings["finding"] for plan in plans.values()] == ["effusion", "edema"]
    assert plans["edema"].data.planted(get_view(STRONG, PRESET)) == ("effusion", "sex")
    plan = plans["edema"]
    view = next(iter(plan.cells.values())).view
    parts = parts_of(plan.data, view, ("synthetic images",), 0, 10)
    whole = plan.data.rows("full", "train", plan.data.planted(view)).examples
    assert whole.labels.tolist() == rows["edema"][rows["split"] == "train"].tolist()
    assert len(parts.synthetic) + len(parts.train) < len(whole)
    assert "edema" in whole.pairs


def test_a_view_that_relabels_another_finding_is_refused(crossed):
    with pytest.raises(
        InputError, match=r"views: 'edema_noise_in_female_20' relabels edema, and .* learn effusion; give"
    ):
        board._plan(request(crossed, "edema_noise_in_female_20", finding="effusion"))


def test_the_finding_is_a_flag(crossed, tmp_path, capsys):
    words = f"benchmark --data_dir {crossed} --views {STRONG} --seeds 1 --steps 1 --output_dir {tmp_path / 'b'}"
    assert main(words.split()) == 2
    assert capsys.readouterr().err.startswith("synthfair: --finding: not given, and families cross effusion and edema")
    assert main([*words.split(), "--finding", "mas"]) == 2
    assert "--finding: 'mas' is unknown; allowed: effusion, mass, edema" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_real_images_are_judged_by_the_finding_that_is_named(crossed, tmp_path):
    lines = ["file_name,patient_id,age,sex,Effusion,edema"]
    for row in range(8):
        pixels = np.random.default_rng(row).integers(0, 256, (40, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{row}.png")
        lines.append(f"{row}.png,p{row},50,{'MF'[row % 2]},{row // 2 % 2},0")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    optional = DataSet(crossed, "effusion")
    optional.preset = WHOLE
    examples = ExternalSet(tmp_path, optional, ("sex",)).examples(("sex",))
    assert examples.labels.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    optional.finding = "edema"
    with pytest.raises(InputError, match=r"metadata\.csv: column 'edema': no image of level 'present'"):
        ExternalSet(tmp_path, optional, ("sex",))


def test_pages_tell_of_the_findings_that_are_crossed(crossed, tmp_path):
    page = write_statistics(crossed, STRONG, tmp_path).read_text()
    assert "effusion by edema" in page
    assert "effusion present/male" in page or "effusion present / male" in page
    assert "mass" not in page
    report = write_report(crossed).read_text()
    assert "effusion absent" in report
    # told of nobody who has none, in a caption
    assert "mass absent" not in report
