"""Gray levels of a DICOM file mean what the file says, and a file that can't be read is named with the reason."""

import shutil
import sys

import numpy as np
import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.dicom import read_dicom
from synthfair_hf.domains.imagefolder import ImageFolder
from synthfair_hf.domains.source import read_film
from synthfair_hf.errors import InputError

MAX_PIXELS = 10_000


def levels(seed=0, side=64, bits=12):
    """12 bits in 16, from 0 to the highest level."""
    drawn = np.random.default_rng(seed).integers(0, 2**bits, (side, side), dtype=np.uint16)
    drawn.flat[:2] = 0, 2**bits - 1
    return drawn


def write(path, stored=None, syntax=ExplicitVRLittleEndian, **elements):
    stored = levels() if stored is None else stored
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=["film"])
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = stored.tobytes()
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    if syntax is JPEG2000Lossless:
        dataset.compress(syntax, generate_instance_uid=False)
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless], ids=["uncompressed", "JPEG 2000"])
def test_every_bit_is_kept(tmp_path, syntax):
    pixels = read_dicom(write(tmp_path / "film.dcm", syntax=syntax), MAX_PIXELS)
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(np.rint(pixels.astype(np.float64) * 4095), levels())


def test_white_is_high_whatever_the_file_draws_white(tmp_path):
    drawn, inverted, negative = (
        read_dicom(write(tmp_path / f"{name}.dcm", **elements), MAX_PIXELS)
        for name, elements in {
            "drawn": {},
            "inverted": {"PhotometricInterpretation": "MONOCHROME1"},
            "negative": {"RescaleSlope": -2, "RescaleIntercept": 100},
        }.items()
    )
    np.testing.assert_allclose(inverted, 1 - drawn, atol=1e-6)
    np.testing.assert_allclose(negative, 1 - drawn, atol=1e-6)


def test_a_window_and_a_linear_rescale_change_nothing(tmp_path):
    elements = {"WindowCenter": 300, "WindowWidth": 50, "RescaleSlope": 0.5, "RescaleIntercept": -1024}
    plain, other = write(tmp_path / "plain.dcm"), write(tmp_path / "other.dcm", **elements)
    np.testing.assert_allclose(read_dicom(other, MAX_PIXELS), read_dicom(plain, MAX_PIXELS), atol=1e-6)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_no_gray_level(tmp_path, kind):
    stored = levels(bits=8) + np.uint16(1000)
    stored[:8] = 4095
    path = write(tmp_path / "film.dcm", stored, PixelPaddingValue=4095, PhotometricInterpretation=kind)
    pixels = read_dicom(path, MAX_PIXELS)
    assert not pixels[:8].any()
    rest = stored[8:].astype(np.float64)
    expected = (rest - rest.min()) / np.ptp(rest)
    np.testing.assert_allclose(pixels[8:], 1 - expected if kind == "MONOCHROME1" else expected, atol=1e-6)


def test_an_image_of_one_level_is_finite(tmp_path):
    flat = np.full((64, 64), 7, dtype=np.uint16)
    assert not read_dicom(write(tmp_path / "flat.dcm", flat), MAX_PIXELS).any()
    assert not read_dicom(write(tmp_path / "padding.dcm", flat, PixelPaddingValue=7), MAX_PIXELS).any()


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PixelData": None}, "holds no image"),
        ({"NumberOfFrames": 2}, "has several frames"),
        ({"PhotometricInterpretation": "RGB"}, "pixels are 1 samples of RGB; allowed"),
        ({"PhotometricInterpretation": None}, "pixels are 1 samples of None; allowed"),
        ({"SamplesPerPixel": 3}, "pixels are 3 samples of MONOCHROME2; allowed: one of MONOCHROME1 or MONOCHROME2"),
        ({"Rows": 65535}, "64x65535 pixels exceed 10000; not decoded"),
        ({"Rows": 128}, "not a readable DICOM file"),
        ({"BitsStored": None}, "not a readable DICOM file"),
    ],
)
def test_what_is_no_gray_image_is_refused_by_name(tmp_path, elements, reason):
    path = write(tmp_path / "film.dcm", **elements)
    with pytest.raises(InputError, match=rf"^{path}: {reason}"):
        read_dicom(path, MAX_PIXELS)


def test_what_is_no_dicom_file_is_refused_by_name(tmp_path):
    path = tmp_path / "film.dcm"
    for content in (b"", b"\x89PNG" + b"0" * 1000):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"^{path}: not a"):
            read_dicom(path, MAX_PIXELS)
    with pytest.raises(InputError, match=r"gone\.dcm: not a readable DICOM file \(No such file"):
        read_dicom(tmp_path / "gone.dcm", MAX_PIXELS)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of some damage and reads on
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless], ids=["uncompressed", "JPEG 2000"])
def test_a_damaged_file_is_an_image_or_refused_by_name(tmp_path, syntax):
    path = write(tmp_path / "film.dcm", syntax=syntax)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), []
    for turn in range(100):
        damaged = bytearray(whole)
        if turn % 2:
            del damaged[rng.integers(1, len(whole)) :]
        else:
            for place in rng.integers(0, 600, 3):
                damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            pixels = read_dicom(path, MAX_PIXELS)
        except InputError as error:
            refused.append(str(error))
        else:
            assert pixels.ndim == 2
            assert np.isfinite(pixels).all()
            assert 0 <= pixels.min() <= pixels.max() <= 1
    assert refused
    assert all(sentence.startswith(f"{path}: ") for sentence in refused)


def test_a_decoder_or_library_that_is_absent_is_told(tmp_path, monkeypatch):
    path = write(tmp_path / "film.dcm", syntax=JPEG2000Lossless)
    monkeypatch.setattr(Decoder, "is_available", False)
    with pytest.raises(InputError, match=r"no decoder for JPEG 2000 .* is installed; install this package"):
        read_dicom(path, MAX_PIXELS)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        InputError, match="pydicom is not installed; install it, or this package with the extra 'dicom'"
    ):
        read_dicom(path, MAX_PIXELS)


def test_a_folder_may_hold_dicom_files(folder):
    for name, side in (("000", 64), ("001", 32)):
        (folder / "images" / f"{name}.png").unlink()
        write(folder / "images" / f"{name}.dcm", levels(side=side))
    shutil.copy(folder / "images" / "000.dcm", folder / "images" / "002.DCM")
    (folder / "images" / "002.png").unlink()
    text = (folder / "metadata.csv").read_text()
    text = text.replace("000.png", "000.dcm").replace("001.png", "001.dcm").replace("002.png,p1", "002.DCM,p0")
    (folder / "metadata.csv").write_text(text)
    source = ImageFolder(folder, CHEST_XRAY, 32)
    assert source.file_names[:2] == ["images/000.dcm", "images/002.DCM"]
    assert source.counts["quarantined"] == {
        "images/001.dcm": "32x32 is too small; resolution 32 needs films of at least 64 pixels"
    }
    np.testing.assert_allclose(read_film(folder / "images" / "000.dcm", 32), levels() / 4095, atol=1e-6)
    assert source.image(0, 32).shape == (32, 32)
