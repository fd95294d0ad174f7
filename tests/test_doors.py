"""Every public function and every verb under hostile values: one sentence, quickly, and nothing is written.

A door is opened with arguments that would do, of which one is replaced by what nobody should give. Behind the doors
everything that costs time is replaced: whoever gets there has accepted the value.
"""

import importlib
import math
import os
import pkgutil
import random
import string
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import synthfair_hf
from synthfair_hf import cli
from synthfair_hf.align.config import AlignmentConfig
from synthfair_hf.cli.parser import flags_of
from synthfair_hf.cli.verbs import VERBS
from synthfair_hf.domains.phantom.phantom import PhantomSource
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.errors import InputError, shown
from synthfair_hf.fairness.detection import Scores
from synthfair_hf.training.config import TrainingConfig

ROUNDS = 200


class Reached(BaseException):
    """What costs time would begin now."""


def reached(*_: Any, **__: Any) -> Any:
    raise Reached


def deep(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def hostile_values() -> list[Any]:
    """200 values of every kind, the same in every run."""
    letters = random.Random(0)
    names = ["", " ", "\t", "a\0b", "\0", "x" * 5000, "x" * 300, "\u202egnp.exe", "\u0645\u0631\u0623\u0629", "a\nb"]
    names += ["a\rb", "\x1b[2J", "../..", "/dev/null", "/dev/null/x", "loop", "loop/x", "~", "~root", "\ud800", "."]
    names += ["${HOME}", "$(id)", "%s%n", "{0}", "{{7*7}}", "<script>", "'; DROP TABLE", "-", "--", "--help", "nan"]
    names += ["None", "null", "true", "1e999", "-1", "0x10", "1_000", "\u0661", "a/b", "a\\b", "C:\\", "file:///etc"]
    names += ["https://example.org/x", "a,b", "a=b", "sex", "sex=male", "phantom", "\ufeff", "\u200b", "\U0001f600"]
    numbers: list[Any] = [math.nan, math.inf, -math.inf, -1, 0, 1, -0.5, 0.5, 1.5, 2**31, 2**32, 2**53 + 1, 2**63]
    numbers += [2**64, 2**70, -(2**63), -(2**70), 10**400, 1e39, 1e308, 5e-324, -0.0, True, False, 1j, Decimal("NaN")]
    arrays: list[Any] = [np.int64(-1), np.int64(2), np.float32("inf"), np.float64("nan"), np.bool_(True), np.str_("x")]
    arrays += [np.array([]), np.array([1, 2]), np.array([[0.5, 2.0]]), np.array("x"), np.array([None]), np.array(3)]
    arrays += [np.array(["a", "b"]), np.zeros((2, 0)), np.datetime64("NaT"), torch.zeros(2), torch.tensor(math.nan)]
    arrays += [torch.zeros(0, dtype=torch.int64), torch.zeros(2, 1, 4, 4, dtype=torch.bfloat16)]
    others: list[Any] = [None, b"", b"bytes", b"\0", bytearray(b"x"), [], (), {}, set(), frozenset({1}), [[]], [None]]
    others += [[""], ["a", 1], [math.nan], [["a"], ["a"]], {"a": 1}, {1: "a"}, {"sex": None}, {"sex": {"a": []}}]
    others += [
        {"": ""},
        {"sex": math.nan},
        deep(10_000),
        object(),
        object,
        len,
        lambda: 0,
        range(3),
        range(0),
        iter(()),
    ]
    others += [Ellipsis, NotImplemented, slice(1), ValueError("x"), Path(), Path("a\0b"), Path("x" * 300), Path("/dev")]
    others += [memoryview(b"x"), (1, 2), ("a", "b", "c"), [{}], [b"x"], {"a": b"x"}, [Path("a")], ["sex", "sex"]]
    found = [*names, *numbers, *arrays, *others]
    alphabet = string.printable + "\0\u202e\u00e9\U0001f4a5"
    while len(found) < ROUNDS:
        found.append("".join(letters.choices(alphabet, k=letters.randrange(1, 40))))
    return found


HOSTILE = hostile_values()


def test_there_are_200_hostile_values():
    assert len(HOSTILE) == ROUNDS


EXPENSIVE = (
    "align.candidates.new_directory",
    "align.finetuning.load_generator",
    "align.finetuning._read",
    "align.finetuning.new_directory",
    "align.judgement.open_candidates",
    "diffusion.counterfactual.load_generator",
    "diffusion.fitting.open_source",
    "diffusion.further_training.open_source",
    "diffusion.generator.CausalDiffusionPipeline.load",
    "diffusion.saved.snapshot_download",
    "diffusion.text_to_image.DiffusionPipeline.download",
    "domains.registry.PhantomSource",
    "domains.worlds.PhantomSource",
    "fairness.audit_page.audit",
    "fairness.monitoring.watch",
    "fairness.benchmark.board._fit_missing",
    "fairness.benchmark.board._start",
    "fairness.evaluation.open_classifier",
    "fairness.pretrained._load",
    "fairness.pretrained.snapshot_download",
    "fairness.benchmark.board.ExternalSet",
    "generate.dataset._duration",
    "generate.documents._record_faults",
    "generate.dataset.generate",
    "generate.dataset.launch",
    "generate.dataset.repair",
    "generate.dataset.merge",
    "generate.recipes.write_together",
    "generate.dataset.model_support",
    "generate.demo.generate_dataset",
    "publish.hub.release.Release",
    "measure.predictors.train",
    "measure.predictors.load_weights",
    "measure.calibration.open_for",
    "measure.scoreboard.open_for",
    "publish.report.render",
)
"""Where work begins, or the Hub: below synthfair_hf."""


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory, save_phantom_generator: Callable[..., Path], store: Path) -> Path:
    """A directory with what doors ask for, in which nothing may change."""
    # a module that is imported while names are replaced would keep the replacements
    for module in pkgutil.walk_packages(synthfair_hf.__path__, "synthfair_hf."):
        importlib.import_module(module.name)
    place = tmp_path_factory.mktemp("hall")
    save_phantom_generator(place / "generator", 16, 0)
    (place / "data").symlink_to(store)
    (place / "loop").symlink_to("loop")
    Image.linear_gradient("L").resize((64, 64)).save(place / "image.png")
    (place / "classifier").mkdir()
    (place / "classifier" / "config.json").write_text('{"model_type": "resnet"}')
    (place / "classifier" / "model.safetensors").touch()
    (place / "predictions.csv").write_text("y,p,sex\n0,0.2,f\n1,0.7,f\n0,0.4,m\n1,0.3,m\n")
    (place / "stream.csv").write_text(
        "y,p,sex,time\n0,0.2,f,2026-01-01\n1,0.7,f,2026-01-02\n,0.4,m,2026-02-01\n1,0.3,m,2026-03-01\n"
    )
    return place


@pytest.fixture(autouse=True)
def _inside(hall: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hall)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in EXPENSIVE:
        monkeypatch.setattr(f"synthfair_hf.{name}", reached)


def snapshot(place: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in sorted(place.rglob("*"))}


def config(kind: type[TrainingConfig] = TrainingConfig) -> TrainingConfig:
    return kind(output_dir="out", mixed_precision="no")


def labelled() -> synthfair_hf.LabelledImages:
    return synthfair_hf.LabelledImages(**LABELLED)


LABELLED: dict[str, Any] = {
    "images": torch.zeros(8, 1, 16, 16, dtype=torch.uint8),
    "labels": torch.arange(8) % 2,
    "groups": {"sex": torch.arange(8) // 2 % 2},
    "levels": {"sex": ("female", "male")},
    "subjects": np.array(list("abcdefgh")),
}
SCORES = {"scores": [0.1, 0.9, 0.4, 0.6], "labels": [0, 1, 0, 1], "groups": {"sex": ["f", "m", "m", "f"]}}

COVARIATES = {
    "age": 60,
    "sex": "male",
    "race": "white",
    "habitus": 25,
    "finding": "pneumonia",
    "view": "PA",
    "scanner": "flatpanel",
}

DOORS: dict[str, dict[str, Any]] = {
    "get_preset": {"name": "phantom"},
    "open_source": {"directory": None, "preset": PHANTOM, "resolution": 16, "dataset_name": "phantom"},
    "open_world": {"name": "phantom", "split": "test", "limit": 2, "seed": 0, "directory": None, "resolution": 16},
    "CausalGraph": {"names": ["a", "b"], "edges": [("a", "b")]},
    "StructuralCausalModel": {
        "variables": PHANTOM.covariates.model_dump(mode="json")["variables"],
        "edges": [list(edge) for edge in PHANTOM.edges],
    },
    "curated_views": {"preset": PHANTOM},
    "get_view": {"name": "sex_imbalanced", "preset": PHANTOM, "strength": 0.9},
    "counterfactual": {
        "image": "image.png",
        "covariates": COVARIATES,
        "do": {"sex": "female"},
        "output_dir": "out",
        "seed": 0,
        "pretrained_model_name_or_path": "generator",
        "num_inference_steps": 2,
        "guidance_scale": 1.0,
        "intervention_level": 1.0,
        "plant_scanner": False,
    },
    "find_generator": {"path": "generator"},
    "load_generator": {"generator": "generator"},
    "train_generator": {
        "preset": PHANTOM,
        "source_dir": None,
        "config": config(),
        "resolution": 16,
        "covariate_table": None,
        "default_steps": 2,
        "default_guidance_scale": 1.0,
        "pretrained_model_name_or_path": None,
        "access": "open",
    },
    "generate_dataset": {
        "output_dir": "out",
        "num_subjects": 28,
        "seed": 0,
        "pretrained_model_name_or_path": "generator",
        "source_dir": None,
        "dry_run": False,
        "license": None,
        "access": "unknown",
        "predictor": None,
        "world": None,
        "resolution": None,
        "recipes": None,
        "rank": 0,
        "world_size": 1,
        "factors": ("sex",),
        "levels": {},
        "target": {},
        "subjects_per_shard": 10,
        "batch_size": 2,
        "guidance_scale": 1.0,
        "gate_attempts": 1,
        "gate_tolerance": {},
        "text_to_image": None,
        "preset": None,
        "lora_weights": None,
        "negative_prompt": None,
    },
    "validate": {"directory": "data"},
    "verify": {"directory": "nowhere"},
    "write_card": {
        "directory": "data",
        "license": None,
        "creator": None,
        "url": None,
        "date_published": None,
        "scoreboard": None,
        "leaderboard": None,
        "hub_model_id": None,
        "datasets": None,
    },
    "write_governance": {
        "directory": "data",
        "output_dir": "out",
        "pretrained_model_name_or_path": None,
        "scoreboard": None,
        "audit": (),
        "monitoring": (),
    },
    "load_predictor": {"directory": "predictor", "schema": PHANTOM.covariates},
    "measure_realism": {
        "output_dir": "out",
        "world": "phantom",
        "predictor": "predictor",
        "source_dir": None,
        "pretrained_model_name_or_path": "generator",
        "split": "test",
        "limit": 2,
        "group": "sex",
        "seed": 0,
    },
    "measure_soundness": {
        "output_dir": "out",
        "world": "phantom",
        "source_dir": None,
        "pretrained_model_name_or_path": "generator",
        "predictors": (),
        "split": "test",
        "limit": 2,
        "seeds": (0,),
        "interventions": ("from_marginal",),
        "effect": "total",
        "num_inference_steps": 2,
        "pairs": [("sex", "age")],
        "encoder": None,
        "contrasts": {"sex": ["male", "female"]},
    },
    "train_predictor": {
        "source": PhantomSource(40, 0),
        "config": config(),
        "resolution": 16,
        "channels": (8, 8),
        "width": 8,
    },
    "align_generator": {
        "train_data_dir": "preferences",
        "pretrained_model_name_or_path": "generator",
        "config": config(AlignmentConfig),
    },
    "make_candidates": {
        "output_dir": "out",
        "num_pairs": 2,
        "comparison_type": "samples",
        "pretrained_model_name_or_path": "generator",
        "source_dir": None,
        "access": "unknown",
        "seed": 0,
        "batch_size": 2,
        "balance": ("sex",),
    },
    "Method": {"steps": 10, "batch_size": 4},
    "LabelledImages": LABELLED,
    "audit": {
        **SCORES,
        "subjects": ["a", "b", "c", "d"],
        "threshold": 0.5,
        "intersections": [],
        "seed": 0,
        "n_bootstrap": 2,
        "permutations": 2,
        "level": 0.9,
        "max_fpr": None,
    },
    "audit_metrics": {"groups": SCORES["groups"], "metrics": ["auc_gap"], "label": 1, "threshold": 0.5},
    "monitor_predictions": {
        "predictions": "stream.csv",
        "reference": "predictions.csv",
        "time": "time",
        "label": "y",
        "score": "p",
        "groups": ["sex"],
        "output_dir": "out",
        "window": "month",
        "subject": None,
        "positive": None,
        "negative": None,
        "bins": {},
        "intersections": (),
        "fail_if": (),
        "threshold": 0.5,
        "alpha": 0.5,
        "horizon": None,
        "seed": 0,
        "n_bootstrap": 2,
        "permutations": 20,
    },
    "audit_predictions": {
        "predictions": "predictions.csv",
        "label": "y",
        "score": "p",
        "groups": ["sex"],
        "output_dir": "out",
        "subject": None,
        "weight": None,
        "positive": None,
        "negative": None,
        "bins": {},
        "intersections": (),
        "fail_if": (),
        "threshold": 0.5,
        "seed": 0,
        "n_bootstrap": 2,
        "permutations": 2,
        "max_fpr": None,
    },
    "causal_influence": {
        "scores": [0.1, 0.9] * 10,
        "covariates": {"sex": [0, 1] * 10},
        "model": synthfair_hf.StructuralCausalModel.from_schema(PHANTOM.covariates.subset(["sex"]), []),
        "subjects": list(range(20)),
        "seed": 0,
        "n_bootstrap": 2,
        "level": 0.9,
    },
    "invariance_test": {
        "scores": [0.1, 0.9],
        "subjects": ["a", "a"],
        "factors": {"sex": ["f", "m"]},
        "attribute": "sex",
        "seed": 0,
        "permutations": 2,
    },
    "load_metric": {"name": "equalized_odds"},
    "AdaptedClassifier": {"network": torch.nn.Flatten(), "outputs": "logits", "label": None, "multi_label": False},
    "open_classifier": {"classifier": "classifier", "label": None, "to_fit": False},
    "audit_classifier": {
        "classifier": "classifier",
        "data_dir": "data",
        "groups": ["sex"],
        "output_dir": "out",
        "finding": None,
        "view": "full",
        "split": "test",
        "label": None,
        "bins": {},
        "intersections": (),
        "fail_if": (),
        "threshold": 0.5,
        "seed": 0,
        "n_bootstrap": 2,
        "permutations": 2,
        "max_fpr": None,
        "causal_model": None,
    },
    "detect_classifier": {
        "classifier": "classifier",
        "data_dir": "data",
        "attributes": ["sex"],
        "detector": "subgroup_gap",
        "finding": None,
        "view": "full",
        "split": "test",
        "label": None,
        "seed": 0,
        "alpha": 0.05,
        "permutations": 19,
        "output_file": None,
    },
    "benchmark": {
        "data_dir": "data",
        "views": ["sex_imbalanced_90_10"],
        "methods": ["erm"],
        "output_dir": "out",
        "seeds": 1,
        "train_subjects": None,
        "steps": 2,
        "method_files": (),
        "external": None,
        "num_proc": 1,
        "classifier": None,
        "learning_rate": 0.001,
    },
    "detect": {
        "scores": Scores(np.zeros(8), np.zeros((8, 2))),
        "examples": labelled(),
        "attributes": ["sex"],
        "detector": "subgroup_gap",
        "seed": 0,
        "alpha": 0.05,
        "permutations": 19,
    },
    "flip_rates": {
        "scores": [0.1, 0.9],
        "subjects": ["a", "a"],
        "factors": {"sex": ["f", "m"]},
        "attribute": "sex",
        "threshold": 0.5,
        "seed": 0,
        "n_bootstrap": 2,
        "level": 0.9,
        "within": None,
    },
    "Record": {"stage": "x", "inputs": {}, "settings": {}, "versions": {}, "counts": {}, "measured": {}},
    "Variable": PHANTOM.covariates["sex"].model_dump(),
    "Schema": {"variables": tuple(PHANTOM.covariates.walk())},
    "Preset": dict(PHANTOM),
    "BiasedView": dict(synthfair_hf.get_view("sex_imbalanced_90_10", PHANTOM)),
    "GenerationPlan": {
        "preset": PHANTOM,
        "model_revision": "x",
        "num_subjects": 28,
        "seed": 0,
        "factors": ("sex",),
        "levels": {},
        "split_fractions": {"train": 0.7, "validation": 0.15, "test": 0.15},
        "subjects_per_shard": 10,
        "partitioned_from": 500,
        "batch_size": 2,
        "num_inference_steps": 2,
        "guidance_scale": 1.0,
        "resolution": 16,
        "world": None,
        "source": "scm",
        "source_fingerprint": None,
        "access": "open",
        "gate": None,
        "target": {},
        "gate_attempts": 1,
        "gate_tolerance": {},
        "mixed_precision": "no",
        "channels_last": False,
        "compile": False,
        "recipes": ({"view": "PA"}, {"view": "AP"}),
    },
}
"""By public name, arguments that would do."""


def attempts(arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every hostile value once, as each of the arguments in turn; and all of those that are few by nature."""
    names = list(arguments)
    for place, value in enumerate(HOSTILE):
        yield names[place % len(names)], value
        yield names[(place * 7 + place // len(names)) % len(names)], value


def fault(error: BaseException, value: Any) -> str | None:
    """What is wrong with how a door refused a value; None if nothing is."""
    text = str(error)
    if not isinstance(error, InputError):
        return f"{type(error).__name__}: {text[:300]}"
    # a path is told as it is, with its line breaks
    if not text or len(text) > 8000 or (len(text.splitlines()) > 1 and len(str(value).splitlines()) == 1):
        return f"not a sentence: {text[:300]}"
    return None


@pytest.mark.parametrize("name", DOORS)
def test_the_arguments_of_a_door_would_do(name: str):
    with suppress(Reached):
        getattr(synthfair_hf, name)(**DOORS[name])


@pytest.mark.parametrize("name", DOORS)
def test_a_public_function_refuses_in_one_sentence_and_writes_nothing(name: str, hall: Path):
    before, wrong = snapshot(hall), {}
    for argument, value in attempts(DOORS[name]):
        there = os.listdir()
        try:
            getattr(synthfair_hf, name)(**{**DOORS[name], argument: value})
        except Reached:
            continue
        except BaseException as error:
            if found := fault(error, value):
                wrong.setdefault((argument, found), value)
            if os.listdir() != there:
                wrong.setdefault((argument, f"left {set(os.listdir()) - set(there)}"), value)
    assert not wrong, "\n".join(f"{argument}={shown(value)}: {found}" for (argument, found), value in wrong.items())
    assert snapshot(hall).items() >= before.items()


WORDS: dict[str, list[str]] = {
    "train": ["--preset", "phantom", "--output_dir", "out", "--resolution", "16"],
    "finetune": ["--pretrained_model_name_or_path", "generator", "--predictor", "predictor", "--output_dir", "out"],
    "rectify": ["--pretrained_model_name_or_path", "generator", "--output_dir", "out"],
    "super_resolve": ["--pretrained_model_name_or_path", "generator", "--resolution", "32", "--output_dir", "out"],
    "predictor": ["--preset", "phantom", "--output_dir", "out"],
    "autoencoder": ["--preset", "phantom", "--output_dir", "out"],
    "candidates": ["--pretrained_model_name_or_path", "generator", "--num_pairs", "2", "--output_dir", "out"],
    "judge": ["--candidates", "data", "--predictor", "predictor", "--judges", "realism=1", "--output_dir", "out"],
    "label": ["--candidates", "data", "--annotator", "ada", "--output_file", "answers.jsonl"],
    "align": [
        *("--pretrained_model_name_or_path", "generator", "--train_data_dir", "preferences", "--output_dir", "out")
    ],
    "fuse": ["--pretrained_model_name_or_path", "generator", "--lora_weights", "lora", "--output_dir", "out"],
    "calibrate": ["--pretrained_model_name_or_path", "generator", "--world", "phantom"],
    "measure soundness": [
        *("--world", "phantom", "--pretrained_model_name_or_path", "generator", "--output_dir", "out")
    ],
    "measure realism": [
        *("--world", "phantom", "--pretrained_model_name_or_path", "generator", "--predictor", "predictor"),
        *("--output_dir", "out"),
    ],
    "measure shortcuts": ["--preset", "phantom", "--resolution", "16", "--output_dir", "out"],
    "recipes": ["--preset", "chest_xray", "--num_recipes", "5", "--output_file", "recipes.jsonl"],
    "generate": ["--num_subjects", "28", "--pretrained_model_name_or_path", "generator", "--output_dir", "out"],
    "preset": ["phantom"],
    "verify": ["nowhere"],
    "validate": ["data"],
    "card": ["data"],
    "governance": ["data", "--output_dir", "out"],
    "merge": ["data", "data", "--output_dir", "out"],
    "push": ["data", "--hub_dataset_id", "me/data"],
    "counterfactual": [
        *("--image", "image.png", "--covariates", *(f"{name}={value}" for name, value in COVARIATES.items())),
        *("--do", "sex=female", "--pretrained_model_name_or_path", "generator", "--output_dir", "out"),
    ],
    "audit": [
        *("--predictions", "predictions.csv", "--label", "y", "--score", "p", "--groups", "sex"),
        *("--n_bootstrap", "2", "--permutations", "2", "--output_dir", "out"),
    ],
    "monitor": [
        *("--predictions", "stream.csv", "--reference", "predictions.csv", "--time", "time", "--label", "y"),
        *("--score", "p", "--groups", "sex", "--n_bootstrap", "2", "--permutations", "200", "--output_dir", "out"),
    ],
    "detect": ["--classifier", "classifier", "--data_dir", "data", "--attributes", "sex", "--permutations", "19"],
    "benchmark": [
        *("--data_dir", "data", "--views", "sex_imbalanced_90_10", "--methods", "erm", "--output_dir", "out")
    ],
    "sources": ["mimic_cxr"],
    "ingest": ["imagefolder", "data", "--output_dir", "out"],
    "views": ["--preset", "phantom", "--view", "sex_imbalanced_90_10"],
    "report": ["nowhere"],
    "demo": ["--output_dir", "out"],
    "app": ["--pretrained_model_name_or_path", "generator", "--data_dir", "data"],
}
"""By verb, words that would do."""


def test_there_are_words_for_every_verb():
    assert WORDS.keys() == VERBS.keys()


def written(value: Any) -> str:
    """A hostile value as a word of a command line, which holds no NUL where a shell passes it on; here it may."""
    return value if isinstance(value, str) else shown(value)


def commands(verb: str) -> Iterator[list[str]]:
    """The words of a verb with every hostile value, as the value of each flag in turn, or in place of a word."""
    flags = [one for one in flags_of(VERBS[verb]).values() if not one.positional]
    names = [*(one.name for one in flags), "config_file"]
    for place, value in enumerate(HOSTILE):
        words, word = WORDS[verb], written(value)
        if place % 8 == 7:
            cut = place // 8 % (len(words) + 1)
            yield [*words[:cut], word, *words[cut + 1 :]]
        else:
            yield [*words, f"--{names[place % len(names)]}={word}"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_refuses_in_one_line_and_writes_nothing(
    verb: str, hall: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("synthfair_hf.align.labelling.page.serve", reached)
    monkeypatch.setattr("synthfair_hf.publish.explorer.page.explore", reached)
    monkeypatch.setattr("synthfair_hf.publish.explorer.space.write_space", reached)
    before, wrong = snapshot(hall), {}
    for words in commands(verb):
        there = os.listdir()
        try:
            status = cli.main([*verb.split(), *words])
        except Reached:
            continue
        except BaseException as error:
            wrong[f"{type(error).__name__}: {error}"[:300]] = words
            continue
        told = capsys.readouterr()
        if status not in (0, 1, 2):
            wrong[f"status {status}"] = words
        if status == 2 and (len(told.err.splitlines()) != 1 or not told.err.startswith("synthfair: ")):
            wrong[f"not one line: {told.err[:300]}"] = words
        if status == 2 and ("Input should" in told.err or len(told.err) > 6000 or "\x1b" in told.err):
            wrong[f"not in our words: {told.err[:300]}"] = words
        if status == 2 and os.listdir() != there:
            wrong[f"left {set(os.listdir()) - set(there)}"] = words
    assert not wrong, "\n".join(f"{found}   of   {shown(words)}" for found, words in wrong.items())
    assert snapshot(hall).items() >= before.items()
