import re
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.errors import InputError
from synthfair_hf.publish.model_card import write_model_card
from synthfair_hf.records import Record

PRESET = CHEST_XRAY.restrict(("age", "sex", "finding", "view", "scanner"))


def row(system, metric, do="none", mean=1.0, **labels):
    figure = {"mean": mean, "low": 0.9, "high": 1.1, "n": 8, "groups": 5, "seeds": 3}
    own = {"attribute": "image", "by": "pixels", "intervention": "from_marginal", **labels}
    return {"system": system, "world": "acquisition", "metric": metric, "do": do, **own, "effect": "total", **figure}


def trained():
    return Record(
        stage="train",
        settings={
            "train_batch_size": 4,
            "gradient_accumulation_steps": 1,
            "learning_rate": 0.1,
            "lr_scheduler": "cosine",
            "ema_decay": 0.9,
            "mixed_precision": "no",
            "seed": 0,
        },
        versions={"torch": "2"},
        counts={
            "training_images": 831,
            "steps": 7,
            "parameters": 1234567,
            "source": {
                "images": 1251,
                "patients": 761,
                "patients by split": {"train": 529},
                "missing": {"age": {"empty": 2, "not a number": 3}},
            },
        },
    )


SOUNDNESS = Record(
    stage="measure_soundness",
    inputs={"generator": "g0", "predictor reader": "aa"},
    settings={
        "world": "acquisition",
        "images": 8,
        "seeds": [0, 1, 2],
        "interventions": ["from_marginal"],
        "effect": "total",
        "split": "test",
    },
    measured={
        "rows": [
            row("identity", "true_l1", "scanner", 27.0),
            row("mine", "composition_l1_at_1", mean=0.0123),
            row("mine", "true_l1", "scanner", 8.0),
            row("mine", "delta_auc", "sex", 0.02, attribute="finding", by="reader"),
            row("mine", "mae", "sex", 5.0, attribute="age", by="reader"),
            row("oracle", "true_l1", "scanner", 0.0),
        ]
    },
)

DISTANCES = {"n": 100, "quantiles": {"0": 0.41, "0.5": 0.5}}
REALISM = Record(
    stage="measure_realism",
    inputs={"generator": "g0"},
    settings={"world": "acquisition", "images": 100, "split": "test"},
    measured={
        "features": {
            "overall": {
                "kernel_distance": {"value": 0.25, "low": 0.125, "high": 0.5},
                "precision": 0.9,
                "recall": None,
            }
        },
        "memorisation": {
            "pixels": {
                "generated": DISTANCES,
                "held_out": DISTANCES,
                "near": {"value": 0.02, "low": 0.0, "high": 0.05, "expected": 0.01},
            }
        },
    },
)


CONFIG = {
    "resolution": 64,
    "space_to_depth": 4,
    "default_steps": 10,
    "default_guidance_scale": {"age": 1.0, "sex": 2.0},
    "default_intervention_level": {"age": 1.0, "sex": 0.6},
    "unet": ["d", "UNet"],
}


CALIBRATION = Record(
    stage="calibrate",
    inputs={"predictor chooser": "bb"},
    settings={"world": "acquisition", "split": "validation"},
    counts={"images": 6},
    measured={"chosen": {"sex": {"scale": 2.0, "level": 0.6, "error": 0.03}}},
)


def write(path, record=None, soundness=(SOUNDNESS,), realism=(REALISM,), calibration=CALIBRATION, **settings):
    """The card's text with its lines joined, after writing it."""
    settings = {"revision": "g0", **settings}
    write_model_card(path, PRESET, record or trained(), CONFIG, soundness, realism, calibration, **settings)
    return " ".join(path.read_text().split())


def test_the_model_card_prints_what_was_measured(tmp_path):
    path = tmp_path / "README.md"
    text = write(path, picture="grid.png", credits="Radiographs of A and B.", limitations=["Labels are noisy."])
    assert "| composition l1 at 1 | none | image | pixels | - | 0.0123 [0.9, 1.1] |" in text
    assert "| true l1 | scanner | image | pixels | 27 [0.9, 1.1] | 8 [0.9, 1.1] |" in text
    assert "| delta auc | sex | finding | reader | - | 0.02 [0.9, 1.1] |" in text
    assert "| mae |" not in text, "the scoreboard has it"
    assert "sex 2.0 at 0.6" in text
    assert "831 images of training patients or subjects out of 1251 images of 761" in text
    assert "1,234,567 parameters" in text
    assert "age 5 images" in text
    assert "Radiographs of A and B." in text
    assert "- Labels are noisy." in text
    assert "chosen on validation images of acquisition." in text
    assert "| do | strength | noise level | error | share of the real gap | images |" in text
    assert "| sex | 2.0 | 0.6 | 0.03 | - | 6 |" in text
    assert "kernel distance 0.25 [0.125, 0.5]" in text
    assert "precision 0.900, recall not defined at this n" in text
    assert "Of 100 samples, 0.020 [0.000, 0.050] lie nearer" in text
    assert "nearest sample is at 0.410" in text
    assert text.count("Measured on generator revision `g0`.") == 2
    assert "![Generated people under interventions](grid.png)" in text
    assert "`race` is not among the covariates" in text
    for gap in ("not measured", "not recorded", "not calibrated", "[More Information Needed]", "None", "{{", "{%"):
        assert gap not in text


def test_the_model_card_has_the_sections_of_the_annotated_template_and_begins_with_the_install_line(tmp_path):
    template = (Path(huggingface_hub.__file__).parent / "templates" / "modelcard_template.md").read_text()
    sections = {name.removesuffix(" [optional]") for name in re.findall(r"^#{2,} (.+)$", template, flags=re.MULTILINE)}
    for arguments in ({}, {"record": Record(stage="save"), "soundness": (), "realism": (), "calibration": None}):
        write(tmp_path / "README.md", **arguments)
        text = ModelCard.load(tmp_path / "README.md").text
        assert sections <= set(re.findall(r"^#{2,} (.+)$", text, flags=re.MULTILINE))
        assert text.split("```")[1] == "bash\npip install synthfair-hf\n"


def test_what_was_measured_to_fail_is_among_the_known_failures(tmp_path):
    failing = [
        row("identity", "true_l1", "age", 2.0),
        row("mine", "true_l1", "age", 5.0) | {"low": 4.0, "high": 6.0},
        row("mine", "share_of_gap", "sex", 0.1, attribute="sex", by="reader") | {"low": -0.2},
        row("mine", "delta_auc", "sex", -0.3, attribute="finding", by="reader") | {"high": -0.1, "effect": "direct"},
        row("mine", "share_of_gap", "age", 0.9, attribute="age", by="reader"),
        row("mine", "delta_auc", "sex", -0.3, attribute="view", by="reader") | {"low": -1.0, "effect": "direct"},
    ]
    text = write(tmp_path / "README.md", soundness=(SOUNDNESS.model_copy(update={"measured": {"rows": failing}}),))
    assert "share of the real gap 0.1 [-0.2, 1.1], n = 8, by reader, not told from an unchanged image" in text
    assert "off-target change of the AUC of finding -0.3 [0.9, -0.1]" in text
    assert "L1 to the truth 5 [4, 6], n = 8, by pixels, more than 2 [0.9, 1.1] of the unchanged image" in text
    assert "3 known failures are listed above" in text


def test_the_yaml_holds_the_figures_as_the_hub_lists_them(tmp_path):
    write(tmp_path / "README.md", license="cc-by-4.0", datasets=["lab/radiographs"], hub_model_id="lab/generator")
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.license, data.library_name, data.datasets) == ("cc-by-4.0", "diffusers", ["lab/radiographs"])
    assert {"counterfactual", "chest-xray"} <= set(data.tags)
    values = {(one.metric_type, one.metric_value) for one in data.eval_results}
    sampled = {("kernel_distance", 0.25), ("precision", 0.9), ("memorisation", 0.02)}
    assert values == {("composition_l1_at_1", 0.0123), ("true_l1", 8.0), ("delta_auc", 0.02)} | sampled
    intervals = {one.metric_type: one.metric_args for one in data.eval_results}
    assert intervals["true_l1"] == {"n": 8, "low": 0.9, "high": 1.1}
    assert intervals["memorisation"] == {"n": 100, "low": 0.0, "high": 0.05}
    assert {(one.dataset_name, one.dataset_split) for one in data.eval_results} == {("acquisition", "test")}


def test_what_has_no_record_is_said_to_have_none(tmp_path):
    record = Record(stage="save", inputs={"access": "credentialed"})
    text = write(tmp_path / "README.md", record, (), (), None)
    assert "number of parameters not recorded" in text
    assert "Not recorded: this pipeline was saved without the record of its training." in text
    assert "Access to the training images: credentialed." in text
    assert "## Training Procedure Not recorded." in text
    assert "changes: not calibrated." in text
    assert "counterfactuals): not measured." in text
    assert "training images:** not measured." in text
    assert ModelCard.load(tmp_path / "README.md").data.eval_results is None
    assert "None" not in text


def test_a_predictor_that_chose_or_judged_is_told_from_one_that_did_not(tmp_path):
    independent = "measures was not used to choose the strengths"
    same = CALIBRATION.model_copy(update={"inputs": {"predictor other_name": "aa"}})
    judged = trained().model_copy(update={"inputs": {"predictor": "aa"}})
    assert independent in write(tmp_path / "README.md")
    for flattering in ({"calibration": same}, {"record": judged}, {"record": judged, "calibration": None}):
        text = write(tmp_path / "README.md", **flattering)
        assert "its figures are optimistic" in text
        assert independent not in text
    assert "`synthfair finetune`" in text
    for later, verb in (("pairs", "rectify"), ("autoencoder", "super_resolve")):
        further = judged.model_copy(update={"inputs": {"predictor": "aa", later: "bb"}})
        text = write(tmp_path / "README.md", record=further)
        assert "its figures are optimistic" in text, "who judged once has judged"
        assert f"`synthfair {verb}`" in text
    silent = write(tmp_path / "README.md", calibration=None)
    assert independent not in silent
    assert "optimistic" not in silent


def test_merged_adapters_and_the_predictor_behind_their_preferences_are_named(tmp_path):
    fused = {"adapters": "a1", "preferences": "p1", "fused_into": "g1", "judge": "aa"}
    for record in (trained(), Record(stage="fuse")):
        record = record.model_copy(update={"inputs": fused, "settings": {**record.settings, "lora_scale": 0.5}})
        text = write(tmp_path / "README.md", record)
        assert "adapters (`a1`), trained by `synthfair align` on preferences `p1`, were merged" in text
        assert "(of generator `g1`) at scale 0.5" in text
        assert "its figures are optimistic" in text
    assert "adapters" not in write(tmp_path / "README.md")


def test_a_figure_the_model_card_needs_is_an_error_when_absent(tmp_path):
    for absent in (
        {"record": trained().model_copy(update={"settings": {}})},
        {"realism": [Record(stage="measure_realism", settings=REALISM.settings)]},
        {"realism": [REALISM.model_copy(update={"settings": {"split": "validation"}})]},
        {"realism": [REALISM.model_copy(update={"inputs": {"generator": "another"}})]},
        {"soundness": [Record(stage="measure_soundness", settings=SOUNDNESS.settings)]},
    ):
        with pytest.raises(InputError, match="first"):
            write(tmp_path / "README.md", **absent)
        assert not (tmp_path / "README.md").exists()


EVIL = (
    "<script>alert(1)</script> | `x` [a](javascript:alert(1)) 'q' \"r\": {yaml: [1]} # & * ! % @ \\ ``` {{ 1 }}",
    "a\n---\n# b\n\n<img src=x onerror=y>\u2028---\u2028",
)


def replaced(tree, word):
    """A record's fields with every text in them replaced; names and numbers stay."""
    if isinstance(tree, dict):
        return {name: replaced(value, word) for name, value in tree.items()}
    if isinstance(tree, list):
        return [replaced(value, word) for value in tree]
    return word if isinstance(tree, str) else tree


@pytest.mark.parametrize("word", EVIL)
def test_nothing_recorded_or_given_is_markup_on_the_card_or_breaks_its_yaml(tmp_path, word):
    found = []
    for text in ("plain", word):
        trained_with = trained()
        record = trained_with.model_copy(
            update={
                "inputs": {"access": text, "adapters": text, "preferences": text, "fused_into": text},
                "settings": replaced(trained_with.settings, text) | {"lora_scale": 1},
                "versions": {text: text},
                "counts": trained_with.counts
                | {"mechanisms": {text: {"rows": 1, "held_out_rows": 1, "held_out_nll": text}}},
            }
        )
        keywords = {"license": text, "picture": text, "credits": text, "limitations": [text], "datasets": [text]}
        calibrated = CALIBRATION.model_copy(
            update={"measured": {"chosen": {text: {"scale": 1, "level": text, "error": 0}}}}
        )
        soundness = SOUNDNESS.model_copy(update={"settings": SOUNDNESS.settings | {"world": text, "effect": text}})
        preset = PRESET.model_copy(update={"title": text})
        path = tmp_path / "README.md"
        write_model_card(
            *(path, preset, record, CONFIG, [soundness], [REALISM], calibrated),
            revision="g0",
            hub_model_id=text,
            **keywords,
        )
        card = ModelCard.load(path)
        assert (card.data.license, card.data.datasets, card.data.model_name) == (text, [text], text)
        shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(card.text)
        found.append([tag.split("=")[0] for tag in re.findall(r"<[^>]*>", shown) if "code" not in tag])
    assert found[0] == found[1]
