"""The digits' two files are read as they are, or refused by name; test pixels wait until they are asked for."""

import io
import zipfile

import numpy as np
import pytest

from synthfair_hf.cli import main
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.domains.morphomnist.source import MorphoMNIST
from synthfair_hf.domains.morphomnist.world import evaluate, sample_noise
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.errors import InputError
from synthfair_hf.training.examples import TrainingExamples

PRESET = get_preset("morphomnist")


def arrays(part: str, n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([n, part == "test"])
    table = evaluate(sample_noise(n, rng))
    images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    found = {
        "images": images,
        "digit": np.array(table["digit"]).astype(np.uint8),
        "thickness": np.array(table["thickness"], np.float32),
        "intensity": np.array(table["intensity"], np.float32),
    }
    return found | ({"originals": 255 - images} if part == "test" else {})


@pytest.fixture
def digits(tmp_path):
    for part, n in (("train", 80), ("test", 20)):
        np.savez(tmp_path / f"{part}.npz", **arrays(part, n))
    return tmp_path


def test_rows_are_the_files_and_splits_never_mix_them(digits):
    source, train, test = MorphoMNIST(digits, PRESET, 32), arrays("train", 80), arrays("test", 20)
    assert len(source) == 100
    assert source.splits[80:] == ["test"] * 20
    assert set(source.splits[:80]) == {"train", "validation"}
    assert source.counts["patients"] == 100
    assert source.table["digit"][:80] == [str(level) for level in train["digit"]]
    assert source.table["thickness"][80:] == test["thickness"].tolist()
    for index, pixels in ((7, train["images"][7]), (85, test["images"][5])):
        image, covariates = source.draw(index, 32, np.random.default_rng(0))
        assert image.dtype == np.float32
        assert np.array_equal(np.rint(image[2:-2, 2:-2] * 255), pixels)
        assert image.sum() == pytest.approx(image[2:-2, 2:-2].sum())
        assert np.array_equal(image, source.image(index, 32))
        assert covariates == {name: column[index] for name, column in source.table.items()}
    assert np.array_equal(source.original(85), 255 - test["images"][5])
    with pytest.raises(InputError, match=r"row 7 is not of test\.npz"):
        source.original(7)


def test_training_reads_no_pixel_of_the_test_file(digits):
    labels = {name: array for name, array in arrays("test", 20).items() if name not in ("images", "originals")}
    np.savez(digits / "test.npz", **labels)
    source = MorphoMNIST(digits, PRESET, 32)
    examples = TrainingExamples(source, "train", 32, seed=0)
    assert examples[0, 0]["image"].shape == (1, 32, 32)
    with pytest.raises(InputError, match=r"test\.npz: .*images.*; needed: images"):
        source.image(80, 32)


def test_one_changed_pixel_changes_the_fingerprint(digits):
    before = MorphoMNIST(digits, PRESET, 32).fingerprint
    assert MorphoMNIST(digits, PRESET, 32).fingerprint == before
    changed = arrays("train", 80)
    changed["images"][3, 4, 5] ^= 1
    np.savez(digits / "train.npz", **changed)
    assert MorphoMNIST(digits, PRESET, 32).fingerprint != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((80, 28, 27), np.uint8)}, r"images is uint8 \[80, 28, 27\]; needed: uint8 \[80, 28, 28\]"),
        ({"images": np.zeros((79, 28, 28), np.uint8)}, "one digit per label"),
        ({"images": np.zeros((80, 28, 28))}, "images is float64"),
        ({"digit": np.zeros(3, np.uint8)}, "differ in length"),
        ({"digit": np.full(80, 11, np.uint8)}, "'11' is unknown"),
        ({"thickness": np.full(80, 70, np.float32)}, "out of range; allowed: 0.5 to 7 pixels"),
        ({"intensity": np.array([{}] * 80)}, "not a readable npz archive"),
        ({"intensity": np.float32(1)}, "differ in length"),
    ],
)
def test_a_malformed_file_is_refused_by_name(digits, change, message):
    np.savez(digits / "train.npz", **{**arrays("train", 80), **change})
    with pytest.raises(InputError, match=message) as error:
        MorphoMNIST(digits, PRESET, 32)
    assert "train.npz" in str(error.value)


def test_missing_and_damaged_files_and_other_resolutions_are_refused(digits):
    with pytest.raises(InputError, match="resolution: 64 is not that of morphomnist; allowed: 32"):
        MorphoMNIST(digits, PRESET, 64)
    whole = (digits / "train.npz").read_bytes()
    for damaged in (whole[:5000], b"text", b""):
        (digits / "train.npz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"train\.npz: not a readable npz archive"):
            MorphoMNIST(digits, PRESET, 32)
    (digits / "train.npz").unlink()
    with pytest.raises(InputError, match=r"train\.npz: no such file; give the folder"):
        MorphoMNIST(digits, PRESET, 32)


def test_an_array_that_no_memory_holds_is_refused_by_its_header(digits):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**50,)})
    with zipfile.ZipFile(digits / "train.npz", "w") as archive:
        archive.writestr("digit.npy", header.getvalue())
    with pytest.raises(InputError, match=r"train\.npz: not a readable npz archive \(Unable to allocate"):
        MorphoMNIST(digits, PRESET, 32)


def test_a_generator_is_trained_by_the_command_line(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("synthfair_hf.diffusion.fitting.fit_scm", lambda scm, table, seed: {name: {} for name in table})
    run = tmp_path / "run"
    command = ["train", "--preset", "morphomnist", "--source", str(digits), "--output_dir", str(run)]
    assert main([*command, "--max_train_steps", "1", "--train_batch_size", "2"]) == 0
    pipeline = CausalDiffusionPipeline.load(run)
    assert pipeline.covariates == PRESET.covariates
    assert pipeline.config.space_to_depth == PRESET.network.space_to_depth
    assert pipeline.image_shape(1) == (1, 1, 32, 32)
