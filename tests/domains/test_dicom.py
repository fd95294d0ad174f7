"""Gray levels of a DICOM file mean what the file says, and a file that can't be read is named with the reason."""

import base64
import io
import shutil
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite, uid
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.pixels.decoders.base import Decoder
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from synthfair_hf.domains.chest_xray.preset import CHEST_XRAY
from synthfair_hf.domains.dicom import ELEMENTS, HEADER_BYTES, decode, is_dicom, read_dicom, read_header
from synthfair_hf.domains.imagefolder import ImageFolder
from synthfair_hf.domains.images import gray, open_image
from synthfair_hf.domains.source import describe_counts, image_sha256, read_image, read_radiograph, totals
from synthfair_hf.errors import InputError
from synthfair_hf.records import file_sha256

MAX_PIXELS = 10_000


def levels(seed=0, side=64, bits=12):
    """Levels of so many bits in 16, from 0 to the highest."""
    drawn = np.random.default_rng(seed).integers(0, 2**bits, (side, side), dtype=np.uint16)
    drawn.flat[:2] = 0, 2**bits - 1
    return drawn


def depth(stored, bits=None):
    """The elements that describe an array of levels."""
    allocated = 8 * stored.dtype.itemsize
    bits = bits or allocated
    return {
        "BitsAllocated": allocated,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
    }


def table(values, first=0, bits=16, packed=False):
    """An item of a sequence of lookup tables, packed where two entries of 8 bits share a word."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(values) % 2**16, first % 2**16, bits])
    item.add_new("LUTData", "OW", np.asarray(values, dtype="u1" if packed else "<u2").tobytes())
    return item


def short_table():
    """A table of fewer entries than its descriptor says."""
    item = table([1, 2])
    item.LUTDescriptor[0] = 9
    return item


def write(path, stored=None, syntax=ExplicitVRLittleEndian, frame=None, **elements):
    """A file of levels `[H, W]` or colours `[H, W, 3]`; `frame` is compressed already, as the syntax says."""
    stored = levels() if stored is None else stored
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax if frame or not syntax.is_encapsulated else ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid.generate_uid(
        entropy_srcs=["radiograph"]
    )
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.SamplesPerPixel = 3 if stored.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if stored.ndim == 3 else "MONOCHROME2"
    if stored.ndim == 3:
        dataset.PlanarConfiguration = 0
    for name, value in {**depth(stored, 12 if stored.dtype == np.uint16 else None), **elements}.items():
        if value is not None:
            setattr(dataset, name, value)
    words = stored.astype(stored.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<"))
    if "PixelData" not in elements:
        dataset.PixelData = encapsulate([frame]) if frame else words.tobytes()
        dataset["PixelData"].VR = "OB" if frame or stored.dtype.itemsize == 1 else "OW"
    if syntax.is_encapsulated and not frame:
        lossy = {"j2k_cr": [10]} if syntax == uid.JPEG2000 else {}
        dataset.compress(syntax, generate_instance_uid=False, **lossy)
    for name, value in elements.items():
        if value is None and name in dataset:
            delattr(dataset, name)
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def jpeg(stored, kind="JPEG", **settings):
    """A codestream by Pillow."""
    file = io.BytesIO()
    Image.fromarray(stored).save(file, kind, **settings)
    return file.getvalue()


NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
LOSSLESS = (*NATIVE, RLELossless, JPEG2000Lossless)
CODESTREAMS = {
    uid.JPEGBaseline8Bit: jpeg,
    uid.JPEGExtended12Bit: jpeg,
    uid.HTJ2KLossless: lambda stored: jpeg(stored, "JPEG2000", no_jp2=True),
    uid.HTJ2KLosslessRPCL: lambda stored: jpeg(stored, "JPEG2000", no_jp2=True),
    uid.HTJ2K: lambda stored: jpeg(stored, "JPEG2000", no_jp2=True),
}
"""What makes a frame of 8 bits for a syntax that pydicom decodes and does not encode; of High-Throughput JPEG 2000 in
the block coding of JPEG 2000, which its decoders take as well. Its own is in HIGH_THROUGHPUT."""

HIGH_THROUGHPUT = {
    8: (
        "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABBwEB/1AACAACAAAAAv9SAAwAAgABAAUEBEAB/1wAEyBIUFBQUFBQ"
        "UFBQUFBQSEhI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAX0AAf+TwCX5AEd0AADAEkASwBKA/gBjAOoAB3QAnQEHdADAE8AV"
        "EAVAgj2QAEDUAGXnEf4ARrQADU4TuQDAtADAFpwBakAWyF9t6VSMnDuUWJtW7fEQXBEhlgB21zDYt8hl/GPcIj7UAF7QECmXAGEhbhRdvfld"
        "UNw4IlB0f+PmAN4uEIFxuADAL0yAXqcAvRA/34//b+/j+/m9Pg8S6fH4PB/f7/P5/T7eHxLh+/LweTw+z8f3+3z81CB8Pt+f7+vh8fh8no+n"
        "hvwBKub0N4r4XoPNWIAABgAAMJMBP368f3y9P3x9Prx8vr0+fv1+fPP4+fb+8fX+8PX58PDy4+fHl8fPN4+fb+8fX+9/P59kb/ovuh/JHnTf"
        "9D9J3nQAKoV7QG8X4eQXCEDNghAhkgH/f/9v7+/3+/1/v/9vn/9//3/3+/fz8/9//3/+/x//f/9/3/9fn/9//3//d/9z/3cAhh8G/G9b0PyH"
        "tFwAA3wCJrp0Af/Z"
    ),
    16: (
        "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQ"
        "kJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAe0AAf+TwAAm2foDB3QAAMAAE0AAE0AAEwAywASHdABE4gQHdAAD"
        "9AUHdADAABVwAAVcAAFUjvzKZ0428QIDNADOFC68og7wAgC0AB7z1x7zmwHCtADAABdJAABdTAABdQD+vf9zf/MP++f+gNVhtf9r/fX+Q3/D"
        "P/GHrEwr5QxFznAxlwD+nf99/H/8jfwj/Jv+If4b/2/cPPUPMRb2fzLW+OczPvgBo50pAqq4AP57/Af+N/xv/Mf9P/xv/m/8H/6H/w/8b/kf"
        "/A/8b/k//AL2kpAxlwDAAC9SgABe6QAAu8D+7/99/3z/fSx/lv9//P9/v/9Pl8ZL4/97/0P/R/9v/3//cf9rS+Ol+f95/3D/f/9+f/w//x9e"
        "Gi/NAVOoiX5fLKoL5qHIqor9oQA7lMUDv3gB/j/8P/x//n//f/0//1/+H/4f/n//P/9/+H/4f/v/e/99/3P/Q/8P/b//P/j/f/98/2D/A/8P"
        "/X/+/37/cP9D/3f/D/7/f/896P1/e+j5f3joeeh56Pgu7v9hd5H/Bw9dAYenSvb9qe+X25dJQASzSkAnVAH+v/9f/1//f/9f/3//f/9//3//"
        "f/93/3f/f/9//3f/f/97/3v/fxUL79ISM5UIteF1Au2k4D+VBwO/dgH/2Q=="
    ),
}
"""Codestreams of `drawn(bits)` that OpenJPH 0.26.3 wrote."""


def drawn(bits):
    row, column = np.mgrid[:16, :16]
    return ((column * 37 + row * 91) % 256 if bits == 8 else (column * 211 + row * 977) * 16 % 65536).astype(
        f"u{bits // 8}"
    )


def named(syntax):
    return syntax.keyword


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("syntax", [*LOSSLESS, uid.JPEG2000], ids=named)
def test_pixels_are_those_of_pydicom_bit_for_bit(tmp_path, syntax, bits, signed):
    stored = levels(bits=bits).astype(np.uint8 if bits == 8 else np.uint16)
    if signed:
        stored = (stored.astype(np.int32) - 2 ** (bits - 1)).astype(np.int8 if bits == 8 else np.int16)
    path = write(tmp_path / "radiograph.dcm", stored, syntax, **depth(stored, bits))
    expected, found = dcmread(path).pixel_array, decode(path, MAX_PIXELS)[1]
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)
    if syntax != uid.JPEG2000:
        assert np.array_equal(found, stored)
        span = 2**bits - 1
        low = -(2 ** (bits - 1)) if signed else 0
        pixels = read_dicom(path, MAX_PIXELS)
        assert pixels.dtype == np.float32
        assert np.array_equal(np.rint(pixels.astype(np.float64) * span) + low, stored)


@pytest.mark.parametrize("syntax", CODESTREAMS, ids=named)
def test_codestreams_that_pydicom_decodes_only_are_its_own_bit_for_bit(tmp_path, syntax):
    stored = (levels() // 16).astype(np.uint8)
    path = write(tmp_path / "radiograph.dcm", stored, syntax, frame=CODESTREAMS[syntax](stored))
    expected = dcmread(path).pixel_array
    assert np.array_equal(decode(path, MAX_PIXELS)[1], expected)
    assert np.array_equal(read_dicom(path, MAX_PIXELS), (expected / 255).astype(np.float32))


@pytest.mark.parametrize("bits", HIGH_THROUGHPUT)
@pytest.mark.parametrize("syntax", [uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K], ids=named)
def test_block_coding_of_high_throughput_is_decoded_bit_for_bit(tmp_path, syntax, bits):
    frame, stored = base64.b64decode(HIGH_THROUGHPUT[bits]), drawn(bits)
    assert b"\xff\x50" in frame, "the marker that says so"
    path = write(tmp_path / "radiograph.dcm", stored, syntax, frame=frame, **depth(stored, bits))
    found = decode(path, MAX_PIXELS)[1]
    assert np.array_equal(found, dcmread(path).pixel_array)
    assert np.array_equal(found, stored)


def test_every_syntax_is_decoded_or_named_with_its_packages(tmp_path):
    """Of all that DICOM's dictionary has, so that none is forgotten."""
    decoded = {*LOSSLESS, uid.JPEG2000, *CODESTREAMS}
    stored = (levels() // 16).astype(np.uint8)
    for syntax in map(uid.UID, uid.AllTransferSyntaxes):
        if syntax in decoded:
            continue
        path = write(tmp_path / "radiograph.dcm", stored, syntax, frame=jpeg(stored))
        with pytest.raises(InputError, match=r"no decoder for .* is (installed|known)") as error:
            read_dicom(path, MAX_PIXELS)
        sentence = str(error.value)
        if syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
            assert "install python-gdcm or pylibjpeg-libjpeg, or store the file uncompressed" in sentence
        elif syntax in (uid.JPEGLSLossless, uid.JPEGLSNearLossless):
            assert "install python-gdcm or pylibjpeg-libjpeg or pyjpegls, or store" in sentence
        else:
            assert "is known to pydicom; store the file uncompressed" in sentence


def test_jpeg_of_twelve_bits_is_named_with_its_packages(tmp_path):
    stored = levels()
    path = write(
        tmp_path / "radiograph.dcm", stored, uid.JPEGExtended12Bit, frame=jpeg((stored // 16).astype(np.uint8))
    )
    with pytest.raises(InputError, match=r"no decoder for JPEG Extended .* install python-gdcm or pylibjpeg-libjpeg,"):
        read_dicom(path, MAX_PIXELS)


SAMPLES = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of some damage and reads on
def test_files_of_many_makers_are_pydicoms_own_arrays_or_one_sentence():
    """Those that pydicom ships for its own tests."""
    read, refused = 0, []
    for path in SAMPLES:
        try:
            _, found = decode(path, 10**6)
            pixels = read_dicom(path, 10**6)
        except InputError as error:
            refused.append((path, str(error)))
            continue
        read += 1
        expected = dcmread(path).pixel_array
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
        assert pixels.dtype == np.float32
        assert pixels.shape == expected.shape[:2]
        assert 0 <= pixels.min() <= pixels.max() <= 1
    assert read >= 40
    assert all(sentence.startswith(f"{path}: ") and "\n" not in sentence for path, sentence in refused)


@pytest.mark.parametrize("bits", [8, 12, 14, 16])
def test_copies_in_dicom_and_png_are_one_image(tmp_path, bits):
    """Also where the image is far from its darkest and brightest: its own extremes decide nothing."""
    stored = np.rint(levels() / 4095 * 0.5 * (2**bits - 1) + 0.2 * (2**bits - 1)).astype(np.uint16)
    stored = stored.astype(np.uint8) if bits == 8 else stored
    Image.fromarray(stored).save(tmp_path / "copy.png")
    copy = gray(open_image(tmp_path / "copy.png"), "copy")
    for kind, shown in (("MONOCHROME2", copy), ("MONOCHROME1", (1 - copy.astype(np.float64)).astype(np.float32))):
        path = write(tmp_path / "file.dcm", stored, PhotometricInterpretation=kind, **depth(stored, bits))
        np.testing.assert_allclose(read_dicom(path, MAX_PIXELS), shown, atol=1e-7)
    path = write(tmp_path / "file.dcm", stored, **depth(stored, bits))
    assert np.array_equal(read_dicom(path, MAX_PIXELS), copy)
    assert np.array_equal(read_image(path, 16), read_image(tmp_path / "copy.png", 16))
    # a writer that knew no better than 16 bits
    path = write(tmp_path / "file.dcm", stored.astype(np.uint16), **depth(stored.astype(np.uint16), 16))
    assert np.array_equal(read_dicom(path, MAX_PIXELS), copy)


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


def test_a_linear_rescale_changes_nothing(tmp_path):
    plain = write(tmp_path / "plain.dcm")
    other = write(tmp_path / "other.dcm", RescaleSlope=0.5, RescaleIntercept=-1024)
    np.testing.assert_allclose(read_dicom(other, MAX_PIXELS), read_dicom(plain, MAX_PIXELS), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    centre=st.integers(-3000, 5000),
    width=st.integers(1, 5000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID", None]),
    slope=st.sampled_from([1.0, 0.5, 2.0, -1.5]),
    intercept=st.sampled_from([0.0, -1024.0, 12.5]),
    signed=st.booleans(),
    inverse=st.booleans(),
)
def test_the_first_window_is_that_of_pydicom(
    tmp_path_factory, centre, width, function, slope, intercept, signed, inverse
):
    stored = levels()
    if signed:
        stored = (stored.astype(np.int32) - 2048).astype(np.int16)
    elements = {
        "WindowCenter": [centre, 7],
        "WindowWidth": [width, 9],
        "VOILUTFunction": function,
        "RescaleSlope": slope,
        "RescaleIntercept": intercept,
        "PhotometricInterpretation": "MONOCHROME1" if inverse else "MONOCHROME2",
    }
    path = write(tmp_path_factory.mktemp("window") / "radiograph.dcm", stored, **depth(stored, 12) | elements)
    assert read_header(path).contrast == "window"
    dataset = dcmread(path)
    shown = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    # pydicom spreads what is shown over the rescaled range of stored levels
    first, last = ((end - 2048 * signed) * slope + intercept for end in (0, 4095))
    expected = (shown - first) / (last - first)
    np.testing.assert_allclose(read_dicom(path, MAX_PIXELS), 1 - expected if inverse else expected, atol=1e-6)


@pytest.mark.parametrize(
    ("elements", "chosen"),
    [
        ({}, "stored range"),
        ({"WindowCenter": 9, "WindowWidth": 0}, "stored range"),
        ({"WindowCenter": 9}, "stored range"),
        ({"WindowCenter": 9, "WindowWidth": 0.5}, "stored range"),
        ({"WindowCenter": 9, "WindowWidth": 0.5, "VOILUTFunction": "LINEAR_EXACT"}, "window"),
        ({"WindowCenter": 900, "WindowWidth": 1}, "window"),
        ({"WindowCenter": 9, "WindowWidth": 9, "VOILUTSequence": [table([0, 9])]}, "VOI LUT"),
        ({"WindowCenter": 9, "WindowWidth": 9, "VOILUTSequence": [Dataset()]}, "window"),
    ],
)
def test_contrast_is_the_first_that_the_file_has(tmp_path, elements, chosen):
    path = write(tmp_path / "radiograph.dcm", **elements)
    assert read_header(path).contrast == chosen
    pixels = read_dicom(path, MAX_PIXELS)
    if chosen == "stored range":
        assert np.array_equal(pixels, (levels() / 4095).astype(np.float32))
    if elements.get("WindowWidth") == 1:
        assert np.array_equal(pixels, levels() > 899.5)


@pytest.mark.parametrize("syntax", NATIVE, ids=named)
@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
def test_tables_are_looked_up_level_by_level(tmp_path, sequence, syntax):
    """Also of 8 bits with more than 256 entries, where pydicom's own functions wrap around."""
    signed = (levels().astype(np.int32) - 2048).astype(np.int16)
    for stored, first in ((levels(), 100), (signed, -2000)):
        for bits, top in ((8, 255), (10, 1023), (12, 4095), (16, 65535)):
            values = np.linspace(0, top, 3001).astype(int)
            path = write(tmp_path / "file.dcm", stored, syntax, **depth(stored, 12))
            dataset = dcmread(path)
            setattr(dataset, sequence, [table(values, first, bits)])
            if syntax == ExplicitVRBigEndian:
                item = getattr(dataset, sequence)[0]
                item.LUTData = np.asarray(values, dtype=">u2").tobytes()
            dcmwrite(path, dataset)
            expected = values[(stored.astype(int) - first).clip(0, 3000)] / top
            np.testing.assert_allclose(read_dicom(path, MAX_PIXELS), expected, atol=1e-6)


def test_two_entries_of_a_table_may_share_a_word(tmp_path):
    values = np.linspace(255, 0, 4096).astype(int)
    path = write(tmp_path / "file.dcm", VOILUTSequence=[table(values, bits=8, packed=True)])
    np.testing.assert_allclose(read_dicom(path, MAX_PIXELS), values[levels()] / 255, atol=1e-6)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_no_gray_level(tmp_path, kind):
    stored = levels(bits=8) + np.uint16(1000)
    stored[:8], stored[8:16] = 4095, 4001
    expected = stored / 4095
    for elements, rows in (
        ({"PixelPaddingValue": 4095}, 8),
        ({"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4000}, 16),
        ({"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095}, 16),
    ):
        path = write(tmp_path / "radiograph.dcm", stored, PhotometricInterpretation=kind, **elements)
        pixels = read_dicom(path, MAX_PIXELS)
        assert not pixels[:rows].any()
        rest = 1 - expected[rows:] if kind == "MONOCHROME1" else expected[rows:]
        np.testing.assert_allclose(pixels[rows:], rest, atol=1e-6)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=named)
@pytest.mark.parametrize(("vr", "value"), [("SS", -2000), ("US", 63536)])
def test_padding_may_be_written_with_either_sign(tmp_path, syntax, vr, value):
    stored = (levels().astype(np.int32) - 1024).astype(np.int16)
    stored[:8] = -2000
    path = write(tmp_path / "file.dcm", stored, syntax, **depth(stored, 16))
    dataset = dcmread(path)
    dataset.add_new("PixelPaddingValue", vr, value)
    dcmwrite(path, dataset)
    pixels = read_dicom(path, MAX_PIXELS)
    assert not pixels[:8].any()
    np.testing.assert_allclose(pixels[8:], (stored[8:] + 32768.0) / 65535, atol=1e-6)


def test_padding_does_not_decide_what_is_white(tmp_path):
    """Of levels of 12 bits in 16, padded by the highest of 16."""
    stored = levels()
    stored[:8] = 65535
    path = write(tmp_path / "file.dcm", stored, **depth(stored, 16), PixelPaddingValue=65535)
    np.testing.assert_allclose(read_dicom(path, MAX_PIXELS)[8:], levels()[8:] / 4095, atol=1e-6)


def test_an_image_of_one_level_is_finite_and_shows_nothing(tmp_path):
    flat = np.full((64, 64), 7, dtype=np.uint16)
    assert np.allclose(read_dicom(write(tmp_path / "flat.dcm", flat), MAX_PIXELS), 7 / 4095)
    assert not read_dicom(write(tmp_path / "padding.dcm", flat, PixelPaddingValue=7), MAX_PIXELS).any()
    assert not read_dicom(write(tmp_path / "slope.dcm", RescaleSlope=0, RescaleIntercept=1), MAX_PIXELS).any()
    for name in ("flat", "padding", "slope"):
        with pytest.raises(InputError, match="shows nothing"):
            read_image(tmp_path / f"{name}.dcm", 32)


def colours(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_colours_become_the_luminance_of_a_png(tmp_path):
    drawn = Image.fromarray(colours())
    expected = np.asarray(drawn.convert("L")) / 255
    path = write(tmp_path / "file.dcm", colours(), WindowCenter=9, WindowWidth=2)
    assert read_header(path).contrast == "colour"
    np.testing.assert_allclose(read_dicom(path, MAX_PIXELS), expected, atol=1e-6)
    np.testing.assert_allclose(read_dicom(path, MAX_PIXELS, 3), np.moveaxis(colours() / 255, -1, 0), atol=1e-6)
    for syntax in (RLELossless, JPEG2000Lossless):
        assert np.array_equal(
            read_dicom(write(tmp_path / "other.dcm", colours(), syntax), MAX_PIXELS), read_dicom(path, MAX_PIXELS)
        )
    deep = colours().astype(np.uint16) * 257
    np.testing.assert_allclose(
        read_dicom(write(tmp_path / "deep.dcm", deep, **depth(deep, 16)), MAX_PIXELS), expected, atol=1e-6
    )
    luma = np.asarray(drawn.convert("YCbCr"))
    path = write(tmp_path / "luma.dcm", luma, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(read_dicom(path, MAX_PIXELS), expected, atol=4 / 255)


@pytest.mark.parametrize("factor", [1, 256, 257])
def test_a_palette_is_its_colours(tmp_path, factor):
    indices = np.arange(4096).reshape(64, 64).astype(np.uint16)
    palette = np.random.default_rng(0).integers(0, 256, (4096, 3))
    elements = {}
    for place, colour in enumerate(("Red", "Green", "Blue")):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [4096, 0, 8 if factor == 1 else 16]
        data = (palette[:, place] * factor).astype("u1" if factor == 1 else "<u2").tobytes()
        elements[f"{colour}PaletteColorLookupTableData"] = data
    path = write(tmp_path / "file.dcm", indices, PhotometricInterpretation="PALETTE COLOR", **elements)
    drawn = Image.fromarray(palette.astype(np.uint8).reshape(64, 64, 3))
    np.testing.assert_allclose(read_dicom(path, MAX_PIXELS), np.asarray(drawn.convert("L")) / 255, atol=1e-6)
    np.testing.assert_allclose(read_dicom(path, MAX_PIXELS, 3), np.moveaxis(np.asarray(drawn) / 255, -1, 0), atol=1e-6)


def test_a_gray_file_is_three_equal_colours(tmp_path):
    path = write(tmp_path / "file.dcm")
    assert np.array_equal(read_dicom(path, MAX_PIXELS, 3), np.stack([read_dicom(path, MAX_PIXELS)] * 3))


def test_text_in_the_pixels_is_refused(tmp_path):
    path = write(tmp_path / "radiograph.dcm", BurnedInAnnotation="YES")
    with pytest.raises(
        InputError, match=r"has text in its pixels \(BurnedInAnnotation is YES\), which may name the pat"
    ):
        read_dicom(path, MAX_PIXELS)
    read_dicom(write(path, BurnedInAnnotation="NO"), MAX_PIXELS)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PixelData": None}, "holds no image"),
        ({"NumberOfFrames": 2}, "has several frames"),
        ({"PhotometricInterpretation": "RGB"}, "pixels are 1 samples of RGB; allowed"),
        ({"PhotometricInterpretation": None}, "pixels are 1 samples of None; allowed"),
        ({"PhotometricInterpretation": "CMYK"}, "pixels are 1 samples of an unknown kind; allowed"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_422"}, "pixels are 1 samples of an unknown kind; allowed"),
        ({"SamplesPerPixel": 3}, "pixels are 3 samples of MONOCHROME2; allowed: one of MONOCHROME1 or MONOCHROME2"),
        ({"Rows": 65535}, "64x65535 pixels exceed 10000; not decoded"),
        ({"Rows": 128}, "not a readable DICOM file"),
        ({"Rows": 0}, r"not a readable DICOM file \(Rows is 0; allowed: 1 to 65535"),
        ({"Columns": None}, r"not a readable DICOM file \(Columns is missing; allowed: 1 to 65535"),
        ({"BitsStored": None}, r"not a readable DICOM file \(BitsStored is missing; allowed: 1 to 16"),
        ({"BitsStored": 0}, r"not a readable DICOM file \(BitsStored is 0; allowed: 1 to 16"),
        ({"BitsStored": 17}, r"not a readable DICOM file \(BitsStored is 17; allowed: 1 to 16"),
        ({"BitsAllocated": 0}, r"not a readable DICOM file \(BitsAllocated is 0; allowed: 1, 8, 16, 32"),
        ({"HighBit": 15}, r"not a readable DICOM file \(HighBit is 15; allowed: 11"),
        ({"PixelRepresentation": 2}, r"not a readable DICOM file \(PixelRepresentation is 2; allowed: 0, 1"),
        ({"RescaleSlope": "nan", "RescaleIntercept": 0}, r"not a readable DICOM file \(RescaleSlope is no number"),
        ({"WindowCenter": "inf", "WindowWidth": 9}, r"not a readable DICOM file \(WindowCenter is no number"),
        ({"VOILUTFunction": "CUBIC"}, r"not a readable DICOM file \(VOILUTFunction is unknown; allowed: LINEAR"),
        ({"VOILUTSequence": [table([1, 2], bits=0)]}, r"not a readable DICOM file \(LUTDescriptor is malformed"),
        ({"VOILUTSequence": [short_table()]}, r"not a readable DICOM file \(LUTData has fewer entries than the 9"),
        ({"VOILUTSequence": [table([])]}, r"not a readable DICOM file \(LUTData is missing"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, which writes what it would not
def test_what_is_no_image_is_refused_by_name(tmp_path, elements, reason):
    path = write(tmp_path / "radiograph.dcm", **elements)
    with pytest.raises(InputError, match=rf"^{path}: {reason}"):
        read_dicom(path, MAX_PIXELS)


def test_what_is_no_dicom_file_is_refused_by_name(tmp_path):
    path = tmp_path / "radiograph.dcm"
    for content in (b"", b"\x89PNG" + b"0" * 1000):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"^{path}: not a"):
            read_dicom(path, MAX_PIXELS)
    with pytest.raises(InputError, match=r"gone\.dcm: not a readable DICOM file \(No such file"):
        read_dicom(tmp_path / "gone.dcm", MAX_PIXELS)


def sized(frame, side):
    """A codestream that says that it is of `side` x `side` pixels."""
    siz, sof = frame.find(b"\xff\x4f\xff\x51"), frame.find(b"\xff\xc0")
    if siz >= 0:
        return frame[: siz + 8] + struct.pack(">II", side, side) + frame[siz + 16 :]
    return frame[: sof + 5] + struct.pack(">HH", side, side) + frame[sof + 9 :]


def bombs(directory):
    """Files of a few kilobytes that would become gigabytes, by what is said of them."""
    small = (levels() // 16).astype(np.uint8)
    for syntax in (uid.JPEGBaseline8Bit, uid.JPEG2000Lossless, uid.HTJ2K):
        frame = jpeg(small) if syntax == uid.JPEGBaseline8Bit else jpeg(small, "JPEG2000", no_jp2=True)
        path = write(directory / f"{syntax.keyword}.dcm", small, syntax, frame=sized(frame, 60_000))
        yield path, r"not a readable DICOM file \(compressed pixels are 60000x60000x1, and 64x64x1 by the header"
    path = write(directory / "jp2.dcm", small, JPEG2000Lossless, frame=sized(jpeg(small, "JPEG2000"), 60_000))
    yield path, r"not a readable DICOM file \(compressed pixels are 60000x60000"
    siz = jpeg(small, "JPEG2000", no_jp2=True)
    many = siz[:4] + struct.pack(">H", 38 + 3 * 16384) + siz[6:40] + struct.pack(">H", 16384) + siz[42:45] * 16384
    path = write(directory / "samples.dcm", small, JPEG2000Lossless, frame=many + siz[45:])
    yield path, r"not a readable DICOM file \(compressed pixels are 64x64x16384, and 64x64x1 by the header"
    runs = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x07" * 200_000
    path = write(directory / "runs.dcm", small, RLELossless, frame=runs)
    yield path, r"not a readable DICOM file \(400064 compressed bytes are more than 64x64 pixels need"
    path = write(directory / "deflated.dcm", syntax=DeflatedExplicitVRLittleEndian)
    head = path.read_bytes()[: 132 + 12 + int(dcmread(path).file_meta.FileMetaInformationGroupLength)]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 2**28) + bytes(2**28)
    path.write_bytes(head + deflate.compress(zeros) + deflate.flush())
    yield path, f"more than {4 * MAX_PIXELS + HEADER_BYTES} bytes, and no image has as many; not read"
    path = write(directory / "sparse.dcm")
    with path.open("r+b") as file:
        file.truncate(2**36)
    yield path, f"more than {4 * MAX_PIXELS + HEADER_BYTES} bytes"
    path = write(directory / "length.dcm")
    content = path.read_bytes()
    place = content.find(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 64 * 64 * 2))
    path.write_bytes(content[: place + 8] + struct.pack("<L", 2**32 - 2) + content[place + 12 :])
    yield path, "not a readable DICOM file|"
    path = write(directory / "header.dcm", Rows=65535, Columns=65535)
    yield path, "65535x65535 pixels exceed 10000; not decoded"


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of some damage and reads on
def test_what_would_become_gigabytes_is_refused_before(tmp_path):
    for path, reason in bombs(tmp_path):
        tracemalloc.start()
        try:
            if path.name == "length.dcm":
                # there are as many bytes as the image has
                assert read_dicom(path, MAX_PIXELS).shape == (64, 64)
            else:
                with pytest.raises(InputError, match=rf"^{path}: {reason}"):
                    read_dicom(path, MAX_PIXELS)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 3 * HEADER_BYTES, path.name


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom warns of some damage and reads on
@pytest.mark.parametrize("syntax", [*LOSSLESS, uid.JPEGBaseline8Bit], ids=named)
def test_a_damaged_file_is_an_image_or_refused_by_name(tmp_path, syntax):
    small = (levels() // 16).astype(np.uint8)
    frame = jpeg(small) if syntax == uid.JPEGBaseline8Bit else None
    path = write(tmp_path / "radiograph.dcm", small if frame else levels(), syntax, frame=frame)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), []
    for turn in range(60):
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
    assert all(sentence.startswith(f"{path}: ") and "\n" not in sentence for sentence in refused)


def test_a_decoder_or_library_that_is_absent_is_told(tmp_path, monkeypatch):
    path = write(tmp_path / "radiograph.dcm", syntax=JPEG2000Lossless)
    monkeypatch.setattr(Decoder, "is_available", False)
    with pytest.raises(InputError, match=r"no decoder for JPEG 2000 .* is installed; install this package"):
        read_dicom(path, MAX_PIXELS)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        InputError, match="pydicom is not installed; install it, or this package with the extra 'dicom'"
    ):
        read_dicom(path, MAX_PIXELS)


NAME = "ZZANNA^ROE"
"""A patient's, where only a patient's name could come from."""

TEXT = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")


def planted(path, tags):
    """The file with the name in these elements, whatever they may hold."""
    dataset = dcmread(path)
    for tag in tags:
        vr = DicomDictionary[tag][0]
        dataset[Tag(tag)] = RawDataElement(Tag(tag), vr, len(NAME), NAME.encode(), 0, False, True)
    dcmwrite(path, dataset)
    return path


def test_nothing_of_a_header_is_carried_over(folder, recwarn, capsys, caplog):
    """The name stands in every element of text that DICOM knows, and that is not one of pixels."""
    tags = [
        tag
        for tag, (vr, *_) in DicomDictionary.items()
        if vr in TEXT and tag >> 16 > 2 and keyword_for_tag(tag) not in ELEMENTS and tag != 0x00080005
    ]
    assert len(tags) > 2000
    for name in ("000", "001"):
        (folder / "images" / f"{name}.png").unlink()
        plain = write(folder / "images" / f"{name}.dcm", levels(int(name)))
        expected = read_image(plain, 32)
        assert np.array_equal(read_image(planted(plain, tags), 32), expected)
    text = (folder / "metadata.csv").read_text()
    (folder / "metadata.csv").write_text(text.replace("000.png", "000.dcm").replace("001.png", "001.dcm"))
    source = ImageFolder(folder, CHEST_XRAY, 32)
    assert source.counts["contrast"] == {"stored range": 2}
    dataset, _ = decode(folder / "images" / "000.dcm", MAX_PIXELS)
    said = (
        [repr(value) for key, value in vars(source).items() if key != "_cache"],
        describe_counts(source.counts),
        [*map(str, (totals(source.counts), dataset, *recwarn.list)), *capsys.readouterr(), caplog.text],
    )
    assert "ANNA" not in str(said)
    assert "  gray levels of DICOM by stored range 2" in describe_counts(source.counts)


@pytest.mark.parametrize("keyword", [keyword for keyword in ELEMENTS if DicomDictionary[Tag(keyword)][0] in TEXT])
def test_no_sentence_repeats_what_stands_in_a_header(tmp_path, keyword, recwarn):
    path = planted(write(tmp_path / "radiograph.dcm", WindowCenter=900, WindowWidth=900), [int(Tag(keyword))])
    said = []
    try:
        read_dicom(path, MAX_PIXELS)
    except InputError as error:
        said.append(str(error))
    assert "ANNA" not in str([*said, *(str(one.message) for one in recwarn.list)])


def test_dicom_is_known_by_its_mark_or_its_suffix(tmp_path):
    path = write(tmp_path / "000434271f63a053", levels())
    assert is_dicom(path)
    assert is_dicom(tmp_path / "gone.dicom")
    assert not is_dicom(tmp_path / "gone.png")
    assert np.array_equal(read_image(path, 32), read_image(shutil.copy(path, tmp_path / "copy.DCM"), 32))


def test_a_folder_may_hold_dicom_files(folder):
    for name, side in (("000", 64), ("001", 32)):
        (folder / "images" / f"{name}.png").unlink()
        write(folder / "images" / f"{name}.dcm", levels(side=side))
    shutil.copy(folder / "images" / "000.dcm", folder / "images" / "002.DCM")
    (folder / "images" / "002.png").unlink()
    # by its mark, whatever it is called
    write(folder / "images" / "003.png", BurnedInAnnotation="YES")
    text = (folder / "metadata.csv").read_text()
    text = text.replace("000.png", "000.dcm").replace("001.png", "001.dcm").replace("002.png,p1", "002.DCM,p0")
    (folder / "metadata.csv").write_text(text)
    source = ImageFolder(folder, CHEST_XRAY, 32)
    assert source.file_names[:2] == ["images/000.dcm", "images/002.DCM"]
    assert source.counts["quarantined"] == {
        "images/001.dcm": "32x32 is too small; resolution 32 needs images of at least 64 pixels",
        "images/003.png": "has text in its pixels (BurnedInAnnotation is YES), which may name the patient; blacken it "
        "and write NO",
    }
    np.testing.assert_allclose(read_radiograph(folder / "images" / "000.dcm", 32), levels() / 4095, atol=1e-6)
    assert source.image(0, 32).shape == (32, 32)


def test_what_was_read_of_dicom_before_is_another_source(tmp_path):
    """Images were stretched to their own extremes; other files are what they were."""
    path = write(tmp_path / "radiograph.dcm")
    assert image_sha256(path, read_header(path)) == f"{file_sha256(path)} dicom 2"
    Image.fromarray(levels()).save(tmp_path / "radiograph.png")
    assert image_sha256(tmp_path / "radiograph.png") == file_sha256(tmp_path / "radiograph.png")
