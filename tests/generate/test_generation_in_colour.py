"""Data sets in colours, from subjects to a view: each channel is what a gray data set of it would be."""

import io

import numpy as np
import pytest
import torch
from datasets import load_dataset
from PIL import Image

from synthfair_hf.errors import InputError
from synthfair_hf.generate.run import generate
from synthfair_hf.generate.subjects import is_sound, pixels
from synthfair_hf.generate.verification import verify
from synthfair_hf.publish.dataset_card import write_dataset_card
from synthfair_hf.publish.report import _pixels


def levels(row) -> np.ndarray:
    """Of the PNG of a row, `[H, W]` or `[H, W, 3]`."""
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))


def in_colours(plan):
    return plan.preset.model_copy(update={"channels": 3})


@pytest.fixture
def colour_pipeline(pipeline, make_plan):
    """The stub in three channels: the first has its noise, the second half of it, the third none."""
    plain = pipeline.sample_noise
    pipeline.preset = in_colours(make_plan())
    pipeline.sample_noise = lambda generators: torch.cat([plain(generators) * share for share in (1, 0.5, 0)], dim=2)
    return pipeline


def read(directory):
    table = load_dataset("parquet", data_files=f"{directory}/data/**/*.parquet", split="train").to_list()
    # but for the identity of the plan
    return {row["id"].partition("-")[2]: row for row in table}


def test_each_channel_is_what_a_gray_data_set_would_be(tmp_path, make_plan, make_pipeline, colour_pipeline):
    plan = make_plan(preset=colour_pipeline.preset, num_subjects=10)
    record = generate(plan, colour_pipeline, tmp_path / "colour", progress=False)
    generate(make_plan(num_subjects=10), make_pipeline(), tmp_path / "gray", progress=False)
    colour, gray = (read(tmp_path / name) for name in ("colour", "gray"))
    assert colour.keys() == gray.keys()
    for name, row in colour.items():
        assert np.array_equal(levels(row)[..., 0], levels(gray[name]))
        assert b"trainedAlgorithmicMedia" in row["image"]["bytes"]
    assert any((levels(row)[..., 0] != levels(row)[..., 2]).any() for row in colour.values())
    write_dataset_card(tmp_path / "colour", plan.preset, record, "cc-by-4.0")
    assert verify(tmp_path / "colour") == []
    view = load_dataset("synthfair", "sex_imbalanced_50_50", data_dir=str(tmp_path / "colour"), split="train")
    assert {one["image"].mode for one in view.select(range(5))} == {"RGB"}


def test_an_observation_in_colours_keeps_its_pixels(tmp_path, make_plan, colour_pipeline, source):
    plain = source.image
    source.image = lambda index, resolution: np.stack([plain(index, resolution) * share for share in (1, 0.5, 0.25)])
    plan = make_plan(
        preset=colour_pipeline.preset, num_subjects=10, source=source.name, source_fingerprint=source.fingerprint
    )
    generate(plan, colour_pipeline, tmp_path, source, progress=False)
    originals = {np.rint(source.image(index, 8) * 255).astype(np.uint8).tobytes() for index in range(len(source))}
    kept = [np.moveaxis(levels(row), -1, 0).tobytes() for row in read(tmp_path).values() if not row["synthetic"]]
    assert kept
    assert set(kept) <= originals
    source.image = plain
    with pytest.raises(InputError, match="is not 8 x 8 pixels, finite and varied, in colours; remove it"):
        generate(plan, colour_pipeline, tmp_path / "other", source, progress=False)


def test_a_plan_and_a_generator_of_other_channels_are_refused(tmp_path, make_plan, pipeline):
    with pytest.raises(InputError, match="has channels: 3, and the model's channels: 1; plan with the model's preset"):
        generate(make_plan(preset=in_colours(make_plan())), pipeline, tmp_path, progress=False)


def test_the_report_compares_the_luminance_of_colours():
    drawn = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for image in (Image.fromarray(drawn), Image.fromarray(drawn[..., 0])):
        file = io.BytesIO()
        image.save(file, "PNG")
        np.testing.assert_allclose(_pixels(file.getvalue()), np.asarray(image.convert("L")) / 255, atol=0.51 / 255)


def test_one_colour_shows_nothing_and_two_of_one_brightness_do():
    assert not is_sound(np.full((3, 4, 4), [[[0.1]], [[0.9]], [[0.3]]], dtype=np.float32))
    varied = np.full((3, 4, 4), 0.5, dtype=np.float32)
    varied[1, 0] = 0.9
    assert is_sound(varied)


def test_a_gray_preset_takes_one_channel_of_an_autoencoder_in_colours():
    images = torch.rand(2, 3, 4, 4)
    assert np.array_equal(pixels(images, 1), images[:, 0].numpy())
    assert np.array_equal(pixels(images, 3), images.numpy())
