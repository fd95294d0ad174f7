"""From preferences to adapters, by the command line: what is learned, kept, recorded, loaded again and refused."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from synthfair_hf.align.config import AlignmentConfig
from synthfair_hf.align.dpo import LOSSES
from synthfair_hf.align.finetuning import EarlyStopping, align_generator
from synthfair_hf.align.preferences import Preferences, write_preferences
from synthfair_hf.cli import main
from synthfair_hf.diffusion.denoiser import predict_velocity
from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.domains.phantom.preset import PHANTOM
from synthfair_hf.errors import InputError
from synthfair_hf.records import Record

SIDE, PAIRS = 16, {"train": 24, "validation": 8, "test": 8}
FILE = "pytorch_lora_weights.safetensors"


def preferences(side=SIDE, pairs=PAIRS, seed=0):
    """Of two random images the darker one is preferred."""
    rng, rows = np.random.default_rng(seed), sum(pairs.values())
    dark = torch.from_numpy(rng.integers(0, 120, (rows, 1, side, side), dtype=np.uint8))
    covariates = {}
    for variable in PHANTOM.covariates.walk():
        if variable.categorical:
            covariates[variable.name] = torch.arange(rows) % len(variable.levels)
        else:
            covariates[variable.name] = torch.from_numpy(rng.uniform(*variable.bounds, rows).astype(np.float32))
    return Preferences(
        dark,
        dark + 120,
        covariates,
        np.array([f"subject {row}" for row in range(rows)]),
        np.repeat(list(pairs), list(pairs.values())),
        np.full(rows, "darker"),
        torch.full((rows,), 120.0),
        np.full(rows, ""),
    )


@pytest.fixture(scope="module")
def generator(tmp_path_factory, save_phantom_generator):
    return save_phantom_generator(tmp_path_factory.mktemp("generators") / "tiny", SIDE, 0)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("preferences") / "darker"
    write_preferences(preferences(), directory, PHANTOM)
    return directory


def command(generator, pairs, directory, **settings):
    chosen = {
        "max_train_steps": 36,
        "train_batch_size": 8,
        "learning_rate": 1e-2,
        "lr_warmup_steps": 0,
        "ema_decay": 0.5,
        "beta_dpo": 20,
        "validation_steps": 12,
        "checkpointing_steps": 15,
        **settings,
    }
    words = [word for name, value in chosen.items() for word in (f"--{name}", str(value))]
    start = ["--pretrained_model_name_or_path", generator, "--train_data_dir", pairs, "--output_dir", directory]
    return main(["align", *map(str, start), *words])


@pytest.fixture(scope="module")
def run(tmp_path_factory, generator, pairs):
    directory = tmp_path_factory.mktemp("runs") / "lora"
    assert command(generator, pairs, directory) == 0
    return directory


@torch.no_grad()
def answer(unet):
    draw = torch.Generator().manual_seed(5)
    latents, tokens = (torch.randn(shape, generator=draw) for shape in ((2, 4, 8, 8), (2, 7, 16)))
    return predict_velocity(unet, latents, torch.tensor([0.2, 0.7]), tokens)


def test_a_plain_preference_is_learned_and_the_record_and_card_say_how(run, generator):
    record = Record.read(run / "record.json")
    assert record.measured["test"]["accuracy"]["mean"] > 0.9
    assert record.measured["test"]["distance"] > 0
    assert record.inputs["initial_weights"] == find_generator(generator).revision
    assert record.inputs["preferences"] == preferences().fingerprint
    assert record.inputs["access"] == "unknown"
    assert record.counts["pairs"] == PAIRS
    assert record.counts["parameters"] == sum(one.numel() for one in load_file(run / FILE).values())
    assert [row["step"] for row in record.measured["evaluations"]] == [12, 24, 36]
    assert record.measured["kept_step"] in (12, 24, 36)
    assert {"training_gradient_norm", "training_clipped", "training_distance"} <= set(record.measured)
    assert record.measured["test"]["groups"]["sex"]["female"]["n"] == 4
    card = (run / "README.md").read_text()
    for told in ("darker", record.inputs["preferences"], record.inputs["initial_weights"], "8 pairs of 8 subjects"):
        assert told in card
    assert str(generator) not in card
    assert not list(run.glob("checkpoint-*/*.bin"))


def test_a_network_that_predicts_the_image_is_aligned_by_its_velocity(pairs, save_phantom_generator, tmp_path):
    generator = save_phantom_generator(tmp_path / "sample", SIDE, 0, prediction_type="sample")
    settings = {"max_train_steps": 2, "validation_steps": 1, "checkpointing_steps": 2}
    assert command(generator, pairs, tmp_path / "lora", **settings) == 0
    plain, aligned = CausalDiffusionPipeline.load(generator), CausalDiffusionPipeline.load(generator)
    aligned.load_lora_weights(tmp_path / "lora")
    assert aligned.unet.prediction_type == "sample"
    assert not torch.equal(answer(plain.unet), answer(aligned.unet))
    aligned.fuse_lora(components=["unet"])
    aligned.unload_lora_weights()
    aligned.save_pretrained(tmp_path / "merged")
    assert CausalDiffusionPipeline.load(tmp_path / "merged").unet.prediction_type == "sample"


def test_the_adapters_load_merge_and_unload(run, generator, tmp_path):
    """Plain diffusers, our pipeline, and the pipeline with adapters merged and saved give the same velocities."""
    plain, ours = (CausalDiffusionPipeline.load(generator) for _ in range(2))
    base = answer(plain.unet)
    plain.unet.load_lora_adapter(run, prefix="unet", use_safetensors=True)
    ours.load_lora_weights(run)
    aligned = answer(ours.unet)
    assert torch.equal(answer(plain.unet), aligned)
    assert (aligned - base).abs().max() > 1e-3
    ours.disable_lora()
    assert torch.equal(answer(ours.unet), base)
    ours.enable_lora()
    ours.fuse_lora(components=["unet"])
    ours.unload_lora_weights()
    ours.save_pretrained(tmp_path / "merged")
    merged = CausalDiffusionPipeline.load(tmp_path / "merged")
    assert torch.allclose(answer(merged.unet), aligned, atol=1e-5)


def test_the_predictor_that_judged_is_in_the_record(generator, pairs, tmp_path):
    told = {"judge": {"judge": "mixture", "parts": [{"reader": "aa"}, {"judge": "true pixels"}]}}
    write_preferences(preferences(), tmp_path / "read", PHANTOM, {"mixture": told})
    for directory, readers in ((tmp_path / "read", "aa"), (pairs, None)):
        run = tmp_path / f"run-{readers}"
        assert command(generator, directory, run, max_train_steps=1, validation_steps=1) == 0
        assert Record.read(run / "record.json").inputs.get("judge") == readers


def test_a_fused_generator_answers_as_the_adapters_at_their_strength(run, generator, tmp_path, capsys):
    ours = CausalDiffusionPipeline.load(generator)
    base = answer(ours.unet)
    ours.load_lora_weights(run)
    for scale in (0, 0.5, 1):
        words = f"fuse --pretrained_model_name_or_path {generator} --lora_weights {run} --lora_scale {scale}"
        assert main([*words.split(), "--output_dir", str(tmp_path / str(scale))]) == 0
        fused = find_generator(tmp_path / str(scale))
        ours.set_adapters("default_0", scale)
        assert torch.allclose(answer(load_generator(fused).unet), answer(ours.unet), atol=1e-5)
    assert torch.allclose(answer(load_generator(tmp_path / "0").unet), base, atol=1e-6)
    assert fused.revision != find_generator(generator).revision
    assert fused.causal_model().evaluate(fused.causal_model().sample_noise(2, torch.Generator().manual_seed(0)))
    record = Record.read(tmp_path / "1" / "record.json")
    assert record.inputs["fused_into"] == find_generator(generator).revision
    assert record.inputs["access"] == "unknown"
    assert record.settings["lora_scale"] == 1
    # refused: adapters of another generator, a strength that is none, a directory that is in use
    refusals = {
        "--lora_weights": {"pretrained_model_name_or_path": tmp_path / "1"},
        "--lora_scale": {"lora_scale": "-1"},
        "--output_dir": {"output_dir": tmp_path / "1"},
    }
    asked = {"pretrained_model_name_or_path": generator, "lora_weights": run, "output_dir": tmp_path / "new"}
    for argument, changed in refusals.items():
        words = [str(word) for name, value in {**asked, **changed}.items() for word in (f"--{name}", value)]
        assert main(["fuse", *words]) == 2
        assert argument in capsys.readouterr().err
        assert not (tmp_path / "new").exists()


def test_a_resumed_run_ends_where_an_unbroken_one_does(run, generator, pairs, tmp_path):
    again = shutil.copytree(run, tmp_path / "again")
    for name in ("record.json", "README.md", FILE):
        (again / name).unlink()
    shutil.rmtree(again / "checkpoint-30")
    assert command(generator, pairs, again, resume_from_checkpoint="latest") == 0
    assert (again / FILE).read_bytes() == (run / FILE).read_bytes()
    records = [Record.read(one / "record.json") for one in (run, again)]
    for name in ("evaluations", "kept_step", "validation", "test"):
        assert records[0].measured[name] == records[1].measured[name]


def test_a_finished_run_is_left_as_it_is_and_other_settings_are_refused(run, generator, pairs, capsys):
    before = (run / FILE).read_bytes()
    assert command(generator, pairs, run, resume_from_checkpoint="latest") == 0
    assert (run / FILE).read_bytes() == before
    assert command(generator, pairs, run, resume_from_checkpoint="latest", beta_dpo=7) == 2
    assert "made by other settings (beta_dpo: 7.0 != 20.0)" in capsys.readouterr().err


class Scripted(nn.Module):
    """An objective whose held-out pairs answer as written, and whose adapter is the number of the answer."""

    def __init__(self, answers):
        super().__init__()
        self.adapters = nn.ParameterList([nn.Parameter(torch.zeros(1))])
        self.loss, self.answers = LOSSES["sigmoid"], iter(answers)

    def held_out(self, examples, seed, batch_size):
        with torch.no_grad():
            self.adapters[0] += 1
        accuracy, sure = next(self.answers)
        right = round(10 * accuracy)
        logits = sure * torch.tensor([1.0] * right + [-1.0] * (10 - right), dtype=torch.float64)
        return logits, torch.full((10,), 0.25, dtype=torch.float64)


@pytest.mark.parametrize(
    ("accuracies", "asked", "kept"),
    [
        ([0.6, 0.7, 0.7, 0.6, 0.9], 4, 2),
        ([0.6, 0.5, 0.8, 0.9, 1.0], 5, 5),
        ([0.5, 0.4, 0.9], 2, 0),
        ([1.0, 1.0, 1.0], 3, 1),
    ],
)
def test_two_answers_that_are_no_better_end_it_and_the_first_best_is_kept(tmp_path, accuracies, asked, kept):
    _follow(tmp_path, [(accuracy, 1.0) for accuracy in accuracies], asked, kept)


@pytest.mark.parametrize(
    ("answers", "asked", "kept"),
    [
        # 7 of 10 right: losses 0.624, 0.613, 0.651
        ([(0.7, 0.5), (0.7, 1.0), (0.7, 1.5), (0.6, 0.1)], 4, 2),
        ([(0.7, 0.1), (0.7, 0.2), (0.7, 0.3), (0.7, 0.4)], 4, 4),
        ([(0.8, 2.0), (0.7, 0.2), (0.7, 0.1)], 3, 1),
    ],
)
def test_of_equal_accuracies_the_lower_loss_is_better(tmp_path, answers, asked, kept):
    _follow(tmp_path, answers, asked, kept)


def _follow(tmp_path, answers, asked, kept):
    accuracies = [accuracy for accuracy, _ in answers]
    config = AlignmentConfig(output_dir=tmp_path, max_train_steps=50, validation_steps=10, patience=2)
    objective = Scripted(answers)
    stopping = EarlyStopping(objective, [], config)
    for step in range(1, len(accuracies) + 1):
        if stopping.validate(10 * step):
            break
        copy = EarlyStopping(Scripted([]), [], config)
        copy.load_state_dict(stopping.state_dict())
        assert (copy.history(), copy.kept_step) == (stopping.history(), stopping.kept_step)
    assert step == asked
    assert stopping.kept_step == 10 * kept
    assert [row["accuracy"] for row in stopping.history()] == accuracies[:asked]
    stopping.keep_best()
    assert objective.adapters[0].item() == kept


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss_type": "sigmoidal"}, "--loss_type: 'sigmoidal' is unknown; allowed: sigmoid, ipo, hinge; did you mean"),
        ({"rank": 0}, "--rank: '0' is invalid"),
        ({"beta_dpo": "nan"}, "--beta_dpo: 'nan' is invalid"),
        ({"balance": "sex,colour"}, "balance: 'colour' is unknown"),
        ({"train_data_dir": "nowhere"}, "no pairs there"),
        ({"pairs": {"train": 4}}, "has no pair in split validation"),
        ({"pairs": {"validation": 4}}, "has no pair in split train"),
        ({"side": 8}, "images of shape (1, 8, 8), but this generator makes (1, 16, 16)"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(settings, sentence, generator, pairs, tmp_path, capsys):
    made = {name: settings[name] for name in ("pairs", "side") if name in settings}
    if made:
        pairs = tmp_path / "made"
        write_preferences(preferences(**made), pairs, PHANTOM)
    pairs = settings.get("train_data_dir", pairs)
    rest = {name: value for name, value in settings.items() if name not in (*made, "train_data_dir")}
    assert command(generator, pairs, tmp_path / "run", **rest) == 2
    # what the bar of loading leaves is above it
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_preferences_of_another_domain_are_refused(generator, pairs, tmp_path):
    other = shutil.copytree(pairs, tmp_path / "other")
    record = Record.read(other / "record.json")
    record.model_copy(update={"settings": {**record.settings, "preset": "chest_xray"}}).write(other / "record.json")
    with pytest.raises(InputError, match=r"holds preferences of chest_xray, but this generator makes phantom"):
        align_generator(other, generator, AlignmentConfig(output_dir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_preferences_of_several_judges_are_learned_together_and_of_one_subject_in_one_split(generator, pairs, tmp_path):
    second = preferences(seed=1)
    others = replace(second, subjects=np.array([f"other {one}" for one in second.subjects]))
    write_preferences(others, tmp_path / "others", PHANTOM)
    write_preferences(replace(second, splits=second.splits[::-1].copy()), tmp_path / "clash", PHANTOM)

    def align(directory, name):
        settings = {"max_train_steps": 1, "validation_steps": 1, "train_batch_size": 4}
        config = AlignmentConfig(output_dir=tmp_path / name, **settings)
        return align_generator([pairs, tmp_path / directory], generator, config)

    record = align("others", "run")
    assert record.counts["pairs"] == {split: 2 * number for split, number in PAIRS.items()}
    assert record.inputs["preferences"] not in (preferences().fingerprint, others.fingerprint)
    with pytest.raises(InputError, match="splits: subject"):
        align("clash", "refused")
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize("balancing", ["sampling", "weights"])
def test_training_is_balanced_over_subgroups_either_way(balancing, generator, pairs, tmp_path):
    settings = {"max_train_steps": 1, "validation_steps": 1, "balance": "sex,finding", "balancing": balancing}
    assert command(generator, pairs, tmp_path / "run", **settings) == 0
    record = Record.read(tmp_path / "run" / "record.json")
    assert (record.settings["balance"], record.settings["balancing"]) == (["sex", "finding"], balancing)
    assert (
        f"balanced over the subgroups of sex x finding by {balancing}" in (tmp_path / "run" / "README.md").read_text()
    )


def test_what_holds_no_fitting_adapters_is_refused(run, generator, tmp_path):
    pipeline = CausalDiffusionPipeline.load(generator)
    base, weights = answer(pipeline.unet), load_file(run / FILE)
    first = next(iter(weights))
    spoilt = {
        "other": {name.replace("unet.", "text_encoder."): tensor for name, tensor in weights.items()},
        "larger": {**weights, first: torch.zeros(8, 1000)},
        "elsewhere": {name.replace("blocks.1", "blocks.9"): tensor for name, tensor in weights.items()},
    }
    for name, tensors in spoilt.items():
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / FILE)
    for name, sentence in {
        "other": "weights for layers that this network does not have .text_encoder.",
        "larger": "can't be loaded",
        "elsewhere": "weights for layers that this network does not have .unet.down_blocks.9",
        "nowhere": "can't be loaded",
    }.items():
        with pytest.raises(InputError, match=sentence):
            pipeline.load_lora_weights(tmp_path / name)
        assert torch.equal(answer(pipeline.unet), base)
    for settings in ({"use_safetensors": False}, {"weight_name": "pytorch_lora_weights.bin"}):
        with pytest.raises(InputError, match="only True is allowed; pickle weights can run code"):
            pipeline.load_lora_weights(run, **settings)
