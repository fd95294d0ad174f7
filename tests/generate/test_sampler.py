"""Somebody else's text-to-image pipeline makes a data set, of real classes of diffusers with tiny random weights."""

import io
import json
import warnings
from functools import partialmethod
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_dataset
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from hub import Hub
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.causal.uniform import UniformModel
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.diffusion.text_to_image import LUMINANCE, TextToImage, find_text_to_image
from synthfair_hf.domains.joined import JoinedFolders
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.domains.readers import DataSetFolder
from synthfair_hf.errors import InputError
from synthfair_hf.fairness.labelled import LabelledImages
from synthfair_hf.fairness.mitigation.counterfactual_augmentation import with_partners
from synthfair_hf.generate.dataset import generate_dataset, repair_dataset
from synthfair_hf.generate.publish import publish
from synthfair_hf.generate.sampler import _fitted as fitted
from synthfair_hf.generate.sampler import _identity as identity
from synthfair_hf.generate.verification import verify
from synthfair_hf.schema import Schema

pytest_plugins = ["hub.fixtures"]

PRESET = get_preset("chest_xray").model_copy(
    update={"prompt": "{{ view }} of {{ age }}, {{ sex }}, {{ finding }}, {{ scanner }}.", "resolution": 8}
)
ASKED = {
    "num_subjects": 14,
    "preset": PRESET,
    "resolution": 16,
    "factors": ("sex", "finding"),
    "num_inference_steps": 1,
    "batch_size": 56,
    "subjects_per_shard": 10,
}


def tokenizer(folder: Path, length: int) -> CLIPTokenizer:
    """CLIP's own tokenizer with a vocabulary of single characters."""
    folder.mkdir()
    characters = [chr(code) for code in range(33, 127)]
    words = [*characters, *(f"{one}</w>" for one in characters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=length)


def text_config(length: int) -> CLIPTextConfig:
    ends = {"bos_token_id": 188, "eos_token_id": 189, "pad_token_id": 189}
    return CLIPTextConfig(
        vocab_size=190,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=8,
        max_position_embeddings=length,
        **ends,
    )


def autoencoder() -> AutoencoderKL:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(
        block_out_channels=(4, 4), norm_num_groups=2, layers_per_block=1, latent_channels=4, shift_factor=0.0, **blocks
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion checkpoint as RoentGen's: without a safety checker, a model card beside it."""
    folder = tmp_path_factory.mktemp("sd")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8,),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
    )
    with warnings.catch_warnings():
        # of a scheduler's default settings
        warnings.simplefilter("ignore")
        pipeline = StableDiffusionPipeline(
            vae=autoencoder(),
            text_encoder=CLIPTextModel(text_config(60)),
            tokenizer=tokenizer(folder / "words", 60),
            unet=unet,
            scheduler=DDIMScheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder / "roentgen")
    (folder / "roentgen" / "README.md").write_text("---\nlicense: creativeml-openrail-m\n---\n# Chests\n")
    return folder / "roentgen"


@pytest.fixture(scope="module")
def data_set(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sampled") / "synthfair"
    assert generate_dataset(directory, text_to_image=checkpoint, **ASKED)["finished"]
    return directory


@pytest.fixture(scope="module")
def sampler(checkpoint: Path) -> TextToImage:
    return TextToImage(find_text_to_image(checkpoint), PRESET, UniformModel(PRESET.covariates), 8)


def rows(directory: Path) -> list[dict]:
    return [row for path in sorted((directory / "data").rglob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def people(count: int) -> tuple[dict[str, list], torch.Tensor]:
    covariates = PRESET.covariates
    drawn = UniformModel(covariates).sample(count, torch.Generator().manual_seed(0))
    keys = torch.arange(count)[:, None] + 7
    return covariates.decode({name: drawn[name].tolist() for name in covariates.names}), keys


def test_a_data_set_is_sound_and_says_that_it_holds_no_counterfactuals(data_set: Path):
    assert verify(data_set) == []
    record = json.loads((data_set / "records" / "generate.json").read_text())
    assert record["settings"]["sampling"]["capability"] == "sampler"
    assert record["settings"]["access"] == "unknown"
    for row in rows(data_set):
        assert (row["intervention"], row["parent_id"], row["synthetic"]) == (None, None, True)
        sex, finding = PRESET.covariates["sex"].levels[row["sex"]], PRESET.covariates["finding"].levels[row["finding"]]
        assert f" {sex}, {finding.replace('_', ' ')}, " in row["prompt"]
    card = (data_set / "README.md").read_text()
    for said in ("same-noise samples, not counterfactuals", "creativeml-openrail-m", "StableDiffusionPipeline"):
        assert said in card
    assert PRESET.prompt in card
    assert "every counterfactual is exact" not in card
    train = load_dataset(str(data_set), "sex_imbalanced_90_10", split="train")
    assert sorted(np.bincount(train["sex"]).tolist()) == [2, 18]
    assert train[0]["image"].mode == "L"


def test_what_is_pushed_says_what_it_is_and_loads_from_the_hub(data_set: Path, hub: Hub):
    """Of images whose access nobody told; so into a private repository."""
    release = publish(data_set, "my-lab/sampled", private=True)
    commit = hub.repository("my-lab/sampled").commits[release.commit]
    sent = {path: file.data for path, file in commit.files.items() if path != ".gitattributes"}
    own = {path.relative_to(data_set).as_posix(): path for path in data_set.rglob("*.parquet")}
    assert own
    assert {path: sent[path] for path in own} == {path: file.read_bytes() for path, file in own.items()}
    assert b"same-noise samples, not counterfactuals" in sent["README.md"]
    ours, theirs = (
        load_dataset(name, "sex_imbalanced_90_10", split="train") for name in (str(data_set), "my-lab/sampled")
    )
    assert [row["prompt"] for row in theirs] == [row["prompt"] for row in ours]
    assert all(np.array_equal(one["image"], other["image"]) for one, other in zip(ours, theirs, strict=True))


class SeesSex(NamedTuple):
    """A saved attribute predictor that sees everybody as male, and all else as its first level."""

    covariates: Schema
    revision: str = "0123456789abcdef"
    access: str = "open"
    origins: tuple[()] = ()

    def load(self, schema: Schema) -> "SeesSex":
        return self

    def predict(self, images: torch.Tensor) -> dict[str, np.ndarray]:
        first = {one.name: np.eye(len(one.levels))[[0] * len(images)] for one in self.covariates.walk() if one.levels}
        return {"age": np.full(len(images), 50.0), **first}


def test_the_gate_judges_what_was_asked_for_in_words(checkpoint: Path, tmp_path: Path):
    """Members that are asked for as women, or with a finding, fail for all their draws; the data set says so."""
    predictor = SeesSex(PRESET.covariates)
    arguments = {**ASKED, "text_to_image": checkpoint, "predictor": predictor, "gate_attempts": 2}
    assert generate_dataset(tmp_path / "gated", **arguments)["finished"]
    assert verify(tmp_path / "gated") == []
    found = rows(tmp_path / "gated")
    for row in found:
        assert row["reached"] == (row["sex"] == 0 and row["finding"] == 0)
    assert {row["reached"] for row in found} == {True, False}
    lost = sorted((tmp_path / "gated" / "data").rglob("*.parquet"))[0]
    before = lost.read_bytes()
    lost.unlink()
    repair_dataset(tmp_path / "gated", predictor=predictor, text_to_image=checkpoint)
    assert lost.read_bytes() == before


def test_a_site_of_joined_folders_is_crossed_and_said(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    models: dict[str, StructuralCausalModel] = {}

    def fitted_once(preset, table):
        """The rows and edges are the same each time: one model of them is enough."""
        if not models:
            models["one"] = fitted(preset, table)
        return models["one"]

    monkeypatch.setattr("synthfair_hf.generate.sampler._fitted", fitted_once)
    monkeypatch.setattr(StructuralCausalModel, "fit", partialmethod(StructuralCausalModel.fit, steps=200))
    for site in ("east", "west"):
        (tmp_path / site).mkdir()
        lines = ["file_name,patient_id,age,sex,finding,view"]
        for place in range(30):
            pixels = np.random.default_rng([place, site == "east"]).integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / site / f"{place}.png")
            finding = ("No Finding", "Pneumonia")[place // 2 % 2]
            lines.append(
                f"{place}.png,{site}{place},{20 + 2 * place},{'MF'[place % 2]},{finding},{('PA', 'AP')[place // 4 % 2]}"
            )
        (tmp_path / site / "metadata.csv").write_text("\n".join(lines))
    sites = JoinedFolders(folders={site: DataSetFolder(directory=tmp_path / site) for site in ("east", "west")})
    preset = PRESET.model_copy(update={"prompt": "{{ sex }} of {{ site }}, {{ race }}, {{ finding }}."})
    asked = {**ASKED, "preset": preset, "factors": ("sex", "site"), "source_dir": sites}
    assert generate_dataset(tmp_path / "out", text_to_image=checkpoint, **asked)["finished"]
    assert verify(tmp_path / "out") == []
    for row in rows(tmp_path / "out"):
        sex, site = ("male", "female")[row["sex"]], ("east", "west")[row["site"]]
        # nobody's race is known
        assert row["prompt"].startswith(f"{sex} of {site}, ")
        assert row["prompt"] in {f"{sex} of {site}, {one}." for one in ("no finding", "pneumonia")}
    unsaid = preset.model_copy(update={"prompt": "{{ sex }}, {{ finding }}."})
    with pytest.raises(InputError, match="east have one prompt"):
        generate_dataset(tmp_path / "other", text_to_image=checkpoint, **{**asked, "preset": unsaid})
    misspelt = preset.model_copy(update={"prompt": "{{ {'east': 'E', 'wets': 'W'}[site] }}, {{ sex }}."})
    with pytest.raises(InputError, match="no text for site west"):
        generate_dataset(tmp_path / "other", text_to_image=checkpoint, **{**asked, "preset": misspelt})


def test_a_lost_shard_is_made_again_to_the_same_bytes(data_set: Path, checkpoint: Path):
    lost = sorted((data_set / "data").rglob("*.parquet"))[0]
    before = lost.read_bytes()
    lost.unlink()
    with pytest.raises(InputError, match=r"text_to_image: not given, but .* was made by roentgen"):
        repair_dataset(data_set)
    assert len(repair_dataset(data_set, text_to_image=checkpoint)) == 1
    assert lost.read_bytes() == before


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    data_set: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    again, call, calls = tmp_path / "again", TextToImage.__call__, []

    def interrupted(*given: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return call(*given, **named)

    monkeypatch.setattr(TextToImage, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_dataset(again, text_to_image=checkpoint, **ASKED)
    assert generate_dataset(again, text_to_image=checkpoint, **ASKED)["finished"]
    for path in (data_set / "data").rglob("*.parquet"):
        assert path.read_bytes() == (again / path.relative_to(data_set)).read_bytes()


def test_a_causal_model_is_fitted_the_same_again_and_its_draws_follow_the_table():
    preset = PRESET.model_copy(update={"covariates": PRESET.covariates.subset(("sex", "finding")), "edges": ()})
    sexes, findings = preset.covariates["sex"].levels, preset.covariates["finding"].levels
    table = {"sex": [sexes[n % 10 == 0] for n in range(400)], "finding": [findings[n % 2] for n in range(400)]}
    torch.manual_seed(1)
    state = torch.get_rng_state()
    model = fitted(preset, table)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert identity(fitted(preset, table)) == identity(model)
    drawn = model.sample(20_000, torch.Generator().manual_seed(0))
    # of 400 rows a quarter is held out from the fit, so that its tenth is known to a few hundredths
    for name, share in {"sex": 0.1, "finding": 0.5}.items():
        assert drawn[name].float().mean().item() == pytest.approx(share, abs=0.03)


def test_an_edited_prompt_is_found(data_set: Path, tmp_path: Path):
    from synthfair_hf.generate.consistency import subject_faults
    from synthfair_hf.generate.store import Store, read_plan

    plan = read_plan(data_set)
    shard = plan.shards()[0]
    table = pq.read_table(next(iter(Store(data_set, plan).data_paths(shard))))
    planned = plan.rows(shard)
    assert list(subject_faults(Store(data_set, plan), table, planned)) == []
    place = table.schema.get_field_index("prompt")
    forged = table.set_column(place, table.schema.field(place), [["a man"] * len(table)])
    assert "prompt 'a man'" in next(iter(subject_faults(Store(data_set, plan), forged, planned)))[1]


def test_what_needs_counterfactuals_is_refused_with_the_reason(data_set: Path, checkpoint: Path):
    train = load_dataset(str(data_set), "full", split="train")
    examples = LabelledImages.from_dataset(train, PRESET, ["sex"])
    assert examples.pairs == {}
    with pytest.raises(InputError, match="same-noise samples of a text-to-image pipeline are not"):
        with_partners(examples, examples, "sex")
    with pytest.raises(InputError, match="StableDiffusionPipeline, which draws images from prompts and cannot abduct"):
        find_generator(checkpoint)


def test_a_row_depends_on_its_key_and_prompt_alone(sampler: TextToImage):
    covariates, keys = people(5)
    whole = sampler(covariates, keys, num_inference_steps=1).images
    assert whole.shape == (5, 1, 8, 8)
    alone = sampler({name: column[3:4] for name, column in covariates.items()}, keys[3:4], num_inference_steps=1).images
    assert torch.allclose(whole[3:4], alone, atol=1e-5)
    again = sampler(covariates, keys, do={"sex": covariates["sex"]}, num_inference_steps=1).images
    assert torch.equal(whole, again)
    others = sampler(covariates, keys + 1, num_inference_steps=1).images
    assert (whole - others).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_gray_is_the_luminance_of_the_pipelines_own_square_made_smaller(sampler: TextToImage):
    covariates, keys = people(1)
    own = sampler.pipeline(
        prompt="PA of 3.", generator=[torch.Generator().manual_seed(7)], num_inference_steps=1, output_type="np"
    )
    assert own.images.shape == (1, 16, 16, 3)
    drawn = people(1)[0] | {name: [None] for name in covariates} | {"view": ["PA"], "age": [3.0]}
    found = sampler(drawn, keys, num_inference_steps=1).images[0, 0].numpy()
    gray = own.images[0] @ np.array(LUMINANCE)
    # antialiased halving weighs 1, 3, 3, 1
    weights = np.zeros((8, 16))
    for row in range(8):
        for place, weight in zip(range(2 * row - 1, 2 * row + 3), (1, 3, 3, 1), strict=True):
            if 0 <= place < 16:
                weights[row, place] = weight
    weights /= weights.sum(axis=1, keepdims=True)
    assert np.abs(found - weights @ gray @ weights.T).max() < 1e-4


def test_what_a_safety_checker_blacks_out_is_not_kept(sampler: TextToImage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        sampler.pipeline, "run_safety_checker", lambda image, *_: (image, [place == 1 for place in range(len(image))])
    )
    covariates, keys = people(3)
    found = sampler(covariates, keys, num_inference_steps=1).images
    assert found.isnan().flatten(1).all(dim=1).tolist() == [False, True, False]


def test_an_image_to_abduct_is_refused(sampler: TextToImage):
    covariates, keys = people(1)
    with pytest.raises(InputError, match="image: is for a generator that abducts"):
        sampler(covariates, keys, image=torch.zeros(1, 1, 8, 8))


def test_an_adapter_changes_the_images_and_one_that_does_not_fit_is_refused(
    checkpoint: Path, sampler: TextToImage, tmp_path: Path
):
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    covariates, keys = people(2)
    before = sampler(covariates, keys, num_inference_steps=1).images
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet")
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights="gaussian"))
    weights = {name: torch.randn(one.shape) for name, one in get_peft_model_state_dict(unet).items()}
    StableDiffusionPipeline.save_lora_weights(tmp_path / "lora", unet_lora_layers=weights)
    saved = find_text_to_image(checkpoint, tmp_path / "lora")
    assert saved.revision != sampler.saved.revision
    adapted = TextToImage(saved, PRESET, sampler.scm, 8)
    after = adapted(covariates, keys, num_inference_steps=1).images
    assert (before - after).abs().max() > 1e-3
    wrong = {name: torch.ones(*(3 * size for size in one.shape)) for name, one in weights.items()}
    StableDiffusionPipeline.save_lora_weights(tmp_path / "wrong", unet_lora_layers=wrong)
    with pytest.raises(InputError, match=r"lora_weights: .* does not fit roentgen"):
        TextToImage(find_text_to_image(checkpoint, tmp_path / "wrong"), PRESET, sampler.scm, 8)


def test_stable_diffusion_3_draws_from_the_prompt_too(tmp_path: Path):
    torch.manual_seed(0)
    words = tokenizer(tmp_path / "words", 60)
    encoders = [CLIPTextModelWithProjection(text_config(60)) for _ in range(2)]
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        out_channels=4,
        pos_embed_max_size=8,
    )
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(),
        text_encoder=encoders[0],
        tokenizer=words,
        text_encoder_2=encoders[1],
        tokenizer_2=words,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipeline.save_pretrained(tmp_path / "sd3")
    sampler = TextToImage(find_text_to_image(tmp_path / "sd3"), PRESET, UniformModel(PRESET.covariates), 8)
    covariates, keys = people(2)
    found = sampler(covariates, keys, num_inference_steps=1).images
    assert found.shape == (2, 1, 8, 8)
    assert not torch.equal(
        found, sampler(covariates, keys, do={"sex": ["female", "male"]}, num_inference_steps=1).images
    )


def edited(checkpoint: Path, directory: Path, **entries: object) -> Path:
    """A checkpoint with another model_index.json."""
    directory.mkdir()
    for folder in (one for one in checkpoint.iterdir() if one.is_dir()):
        (directory / folder.name).mkdir()
        for file in folder.iterdir():
            (directory / folder.name / file.name).write_bytes(file.read_bytes())
    index = json.loads((checkpoint / "model_index.json").read_text())
    (directory / "model_index.json").write_text(json.dumps({**index, **entries}))
    return directory


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"_class_name": "StableDiffusionImg2ImgPipeline"}, "draws no images from prompts alone"),
        ({"_class_name": "AudioLDMPipeline"}, "draws no images from prompts alone"),
        ({"_class_name": ["pipeline", "Mine"]}, "draws no images from prompts alone"),
        ({"unet": ["my_unet", "Mine"]}, "whose code would be run"),
        ({"tokenizer": [None, None]}, "has no tokenizer for its text_encoder"),
        ({"../elsewhere": ["diffusers", "Mine"]}, "no name of a component"),
        ({"image_encoder": ["transformers", "CLIPVisionModel"]}, "image_encoder is missing"),
    ],
)
def test_what_is_no_text_to_image_pipeline_is_refused(checkpoint: Path, tmp_path: Path, entries: dict, message: str):
    with pytest.raises(InputError, match=message):
        find_text_to_image(edited(checkpoint, tmp_path / "other", **entries))


def test_a_pickle_is_never_opened(checkpoint: Path, tmp_path: Path):
    other = edited(checkpoint, tmp_path / "other")
    weights = other / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(InputError, match=r"\.bin is a pickle, .* safe_serialization=True"):
        find_text_to_image(other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": None}, "preset: not given"),
        ({"resolution": 64}, "resolution: 64 is more than the 16 pixels"),
        ({"preset": PRESET.model_copy(update={"prompt": f"{'long ' * 12}{{{{ sex }}}}, {{{{ finding }}}}"})}, "tokens"),
        ({"preset": PRESET.model_copy(update={"prompt": "{{ sex }}"})}, "factors: finding .* have one prompt"),
        ({"factors": ("scanner",), "preset": PRESET, "compile": True}, "compile: is for a network of this package"),
        ({"world": "phantom"}, "world: phantom is given beside the pipeline"),
        ({"negative_prompt": "blur " * 20}, "negative_prompt: .* tokens"),
        ({"negative_prompt": "blur", "guidance_scale": 1.0}, "negative_prompt: is not read at a guidance_scale of 1;"),
        ({"lora_weights": "nowhere"}, "lora_weights: nowhere is not one file"),
        ({"text_to_image": None, "negative_prompt": "blur"}, "preset: is for a text-to-image pipeline"),
        ({"source_dir": "a", "pretrained_model_name_or_path": "b"}, "source_dir: a is given beside b"),
    ],
)
def test_what_does_not_go_together_is_refused_and_nothing_written(
    checkpoint: Path, tmp_path: Path, settings: dict, message: str
):
    with pytest.raises(InputError, match=message):
        generate_dataset(tmp_path / "never", **{"text_to_image": checkpoint, **ASKED, **settings})
    assert not (tmp_path / "never").exists()


def test_uniform_draws_are_uniform_in_every_combination():
    covariates = PRESET.covariates.subset(("age", "sex", "view"))
    drawn = UniformModel(covariates).sample(4000, torch.Generator().manual_seed(0))
    counts = np.bincount(2 * drawn["sex"].numpy() + drawn["view"].numpy(), minlength=4)
    assert np.abs(counts - 1000).max() < 120, "four standard deviations"
    assert np.abs(np.histogram(drawn["age"].numpy(), 10, (0, 100))[0] - 400).max() < 80


def picture(row: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))


def test_a_family_shares_its_noise(data_set: Path):
    families: dict[str, list[dict]] = {}
    for row in rows(data_set):
        families.setdefault(row["subject_id"], []).append(row)
    within = [np.abs(picture(one[0]).astype(float) - picture(one[-1])).mean() for one in families.values()]
    firsts = [picture(one[0]).astype(float) for one in families.values()]
    between = [np.abs(a - b).mean() for a, b in pairwise(firsts)]
    assert max(within) < min(between)
