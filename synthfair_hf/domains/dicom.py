"""Radiographs in DICOM files, read by pydicom, which is in the extra `dicom`.

    stored levels -> modality LUT (a table, or slope and intercept) -> contrast -> [0, 1]

Contrast is the first of CONTRASTS that the file has, and never the image's own minimum and maximum:

    VOI LUT        the first table of its VOI LUT sequence, divided by the table's largest level
    window         its first window of a usable width, by its VOI LUT function: LINEAR, LINEAR_EXACT or SIGMOID
    stored range   all levels that its bits stored and its sign allow; unsigned levels of 16 bits, which also files have
                   whose writer knew no better, by `images.full_scale`, as in PNG

MONOCHROME1 is turned over, so that white is what is drawn white; padding is background, black. Colours have no contrast
to choose: their highest 8 bits become luminance as those of a PNG.

Where the header says how the patient lies in a frontal image (`orientation`), pixels are turned so that rows run to the
patient's left and columns to the feet.

Of the header only ELEMENTS are read, none of which names a patient, and no message repeats what text stands in them.
"""

import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from PIL import Image

from ..errors import InputError
from .images import colours, full_scale, gray, look_up
from .orientation import directions, is_frontal, is_lateral, upright
from .values import view

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["CONTRASTS", "READING", "Header", "decode", "is_dicom", "read_dicom", "read_header"]

CONTRASTS = ("VOI LUT", "window", "stored range")
"""What decides black and white, the first that a file has."""

READING = "dicom 2"
"""Version of the gray levels that `read_dicom` gives; the first stretched images to their own minimum and maximum."""

PALETTES = ("Red", "Green", "Blue")

ELEMENTS = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "BurnedInAnnotation"),
    *("ViewPosition", "PatientOrientation", "ImageOrientationPatient"),
    *(f"{colour}PaletteColorLookupTable{part}" for colour in PALETTES for part in ("Descriptor", "Data")),
)
"""All that is read of a header."""

COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
"""Three samples that pydicom and its decoders turn into red, green and blue."""

SUFFIXES = (".dcm", ".dicom")

HEADER_BYTES = 2**24
"""More than a header has."""


def is_dicom(path: Path) -> bool:
    """Whether a file is to be read as DICOM: by its suffix, or by the mark after the preamble of part 10."""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    # whoever opens it says so
    except OSError:
        return False


def read_dicom(path: Path, max_pixels: int, channels: int = 1) -> np.ndarray:
    """The one image of a DICOM file, from all of its bits: luminance, float32 `[H, W]` in [0, 1], or its colours.

    Args:
        path: of a file with the preamble of DICOM's part 10, whatever its suffix.
        max_pixels: an image of more is an error before a pixel is decoded.
        channels: 1, or 3: then it is `[3, H, W]`, of a gray image three times its luminance.

    Raises:
        InputError: as `decode`; a table or window is malformed. The sentence begins with the path.
    """
    dataset, stored = decode(path, max_pixels)
    with _naming(path):
        if stored.ndim == 3 or _text(dataset, "PhotometricInterpretation") == ["PALETTE COLOR"]:
            image = Image.fromarray(_in_colours(dataset, stored))
            pixels = gray(image, str(path)) if channels == 1 else colours(image, str(path))
            return upright(pixels, _directions(dataset))
        padding = _padding(dataset, stored)
        black, white = _stored_range(dataset, stored if padding is None else stored[~padding])
        if stored.dtype.itemsize <= 2:
            # of every level once, which is faster than of every pixel
            unsigned = stored.view(f"u{stored.dtype.itemsize}")
            every = np.arange(np.iinfo(unsigned.dtype).max + 1, dtype=unsigned.dtype).view(stored.dtype)
            pixels = look_up(_tones(dataset, every.astype(np.int64), black, white), unsigned)
        else:
            pixels = _tones(dataset, stored.astype(np.int64), black, white)
        if padding is not None:
            pixels[padding] = 0
        pixels = upright(pixels, _directions(dataset))
        return pixels if channels == 1 else np.repeat(pixels[None], channels, axis=0)


class Header(NamedTuple):
    """What the header of a file says, beside its pixels.

    `contrast` is the one of CONTRASTS that decides its gray levels, or "colour"; `placement` is how its patient lies in
    it: from the side, or frontal and turned by `read_dicom`, or neither.
    """

    contrast: str
    placement: Literal["lateral", "turned", "as stored"]


def read_header(path: Path) -> Header:
    """The header of a file that `read_dicom` can read."""
    from pydicom import dcmread

    with _naming(path):
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=list(ELEMENTS))
        gray_levels = _text(dataset, "PhotometricInterpretation")[0].startswith("MONOCHROME")
        chosen = _contrast(dataset) if gray_levels else "colour"
        found = _directions(dataset)
        if any(view(text) == "lateral" for text in _text(dataset, "ViewPosition")) or is_lateral(found):
            return Header(chosen, "lateral")
        return Header(chosen, "turned" if is_frontal(found) and found != ("L", "F") else "as stored")


def _directions(dataset: "Dataset") -> tuple[str, str] | None:
    try:
        cosines = _numbers(dataset, "ImageOrientationPatient")
    except ValueError:
        cosines = []
    return directions(_text(dataset, "PatientOrientation"), cosines)


def decode(path: Path, max_pixels: int) -> tuple["Dataset", np.ndarray]:
    """The ELEMENTS of a DICOM file, and its pixels as pydicom gives them.

    Args:
        path: of a file with the preamble of DICOM's part 10, whatever its suffix.
        max_pixels: an image of more is an error before a pixel is decoded.

    Returns:
        The elements, and stored levels `[H, W]`, or colours `[H, W, 3]`.

    Raises:
        InputError: pydicom or a decoder is not installed; the file is no DICOM file, is damaged, is larger than an
            image or would become so, holds no image, several frames, other pixels than MONOCHROME, PALETTE COLOR or
            COLOURS, or says that text is burned into its pixels. The sentence begins with the path.
    """
    try:
        from pydicom import dcmread
    except ImportError:
        raise InputError(
            f"{path}: pydicom is not installed; install it, or this package with the extra 'dicom'."
        ) from None
    with _naming(path):
        content = _content(path, 4 * max_pixels + HEADER_BYTES)
        # pydicom would guess the format of a file without the preamble
        dataset = dcmread(io.BytesIO(content), force=False, specific_tags=[*ELEMENTS, "PixelData"])
        del content
        if "PixelData" not in dataset:
            raise InputError(f"{path}: holds no image; name a file with one.")
        if any(_numbers(dataset, "NumberOfFrames")) and _numbers(dataset, "NumberOfFrames") != [1]:
            raise InputError(f"{path}: has several frames; give one frame per file.")
        if [word.upper() for word in _text(dataset, "BurnedInAnnotation")] == ["YES"]:
            raise InputError(
                f"{path}: has text in its pixels (BurnedInAnnotation is YES), which may name the patient; blacken it "
                "and write NO."
            )
        _check_pixels(path, dataset, max_pixels)
        _check_coding(path, dataset)
        return dataset, dataset.pixel_array


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever fails is an InputError that begins with the path."""
    from pydicom.errors import InvalidDicomError

    try:
        yield
    except InputError:
        raise
    except InvalidDicomError:
        raise InputError(f"{path}: not a DICOM file (no preamble of part 10).") from None
    except Exception as error:
        # a damaged file fails in pydicom and its decoders in more ways than they document
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a readable DICOM file ({reason}).") from None


def _content(path: Path, limit: int) -> bytes:
    """The bytes of a file, of which pydicom would unpack any number if they are deflated."""
    from pydicom.filereader import read_dataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    if path.stat().st_size <= limit:
        content = path.read_bytes()
        rest = io.BytesIO(content)
        rest.seek(132)
        if content[128:132] != b"DICM":
            return content
        meta = read_dataset(rest, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return content
        unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
        unpacking.decompress(rest.read(), limit)
        if not unpacking.unconsumed_tail:
            return content
    raise InputError(f"{path}: more than {limit} bytes, and no image has as many; not read.")


def _check_pixels(path: Path, dataset: "Dataset", max_pixels: int) -> None:
    """Refuse what is no image of one frame, by the header alone."""
    samples, kinds = dataset.get("SamplesPerPixel", 1), _text(dataset, "PhotometricInterpretation")
    gray_kinds = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    if (samples, *kinds) not in [*((1, kind) for kind in gray_kinds), *((3, kind) for kind in COLOURS)]:
        # what stands there instead may be anything
        known = len(kinds) == 1 and kinds[0] in (*gray_kinds, *COLOURS)
        kind = kinds[0] if known else "an unknown kind" if kinds else "None"
        raise InputError(
            f"{path}: pixels are {samples if isinstance(samples, int) else 'several'} samples of {kind}; allowed: one "
            f"of MONOCHROME1 or MONOCHROME2, one of PALETTE COLOR, three of {', '.join(COLOURS)}."
        )
    rows, columns = (_whole(dataset, name, range(1, 2**16)) for name in ("Rows", "Columns"))
    if rows * columns > max_pixels:
        raise InputError(f"{path}: {columns}x{rows} pixels exceed {max_pixels}; not decoded.")
    allocated = _whole(dataset, "BitsAllocated", (1, 8, 16, 32))
    stored = _whole(dataset, "BitsStored", range(1, allocated + 1))
    _whole(dataset, "PixelRepresentation", (0, 1))
    if "HighBit" in dataset:
        _whole(dataset, "HighBit", (stored - 1,))


def _check_coding(path: Path, dataset: "Dataset") -> None:
    """Refuse what no installed decoder decodes, and compressed pixels that are more than the header says."""
    from pydicom import uid
    from pydicom.encaps import get_frame
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise InputError(
            f"{path}: no decoder for {syntax.name} is known to pydicom; store the file uncompressed."
        ) from None
    if not syntax.is_compressed or syntax == uid.DeflatedExplicitVRLittleEndian:
        return
    # Pillow, which is always installed, decodes JPEG of 8 bits only
    too_deep = syntax == uid.JPEGExtended12Bit and dataset.BitsStored > 8 and decoder.available_plugins == ("pillow",)
    if too_deep or not decoder.is_available:
        in_extra = (*uid.JPEG2000TransferSyntaxes, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
        wanted = re.findall(r"pylibjpeg-\w+|pyjpegls|gdcm(?=>)", " ".join(decoder.missing_dependencies))
        packages = " or ".join(name.replace("gdcm", "python-gdcm") for name in dict.fromkeys(wanted))
        raise InputError(
            f"{path}: no decoder for {syntax.name} is installed; install "
            f"{'this package with the extra ' + repr('dicom') if syntax in in_extra else packages}, or store the file "
            "uncompressed."
        )
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    rows, columns, samples = dataset.Rows, dataset.Columns, dataset.get("SamplesPerPixel", 1)
    if syntax == uid.RLELossless:
        # each two bytes may become 128
        most = 2 * rows * columns * samples * dataset.BitsAllocated // 8 + 1024
        if len(frame) > most:
            raise ValueError(f"{len(frame)} compressed bytes are more than {columns}x{rows} pixels need")
    for coded in _coded_sizes(frame):
        if coded != (columns, rows, samples):
            found, told = ("x".join(map(str, size)) for size in (coded, (columns, rows, samples)))
            raise ValueError(f"compressed pixels are {found}, and {told} by the header")


def _coded_sizes(frame: bytes) -> Iterator[tuple[int, int, int]]:
    """Width, height and samples in the headers of a codestream, which decoders allocate by."""
    # SIZ of JPEG 2000; by accident its four bytes are in one of a thousand images, but not beside its length
    for found in re.finditer(rb"\xff\x4f\xff\x51(..)..(.{16}).{16}(..)", frame, re.DOTALL):
        length, samples = int.from_bytes(found[1]), int.from_bytes(found[3])
        right, bottom, left, top = (int.from_bytes(found[2][at : at + 4]) for at in (0, 4, 8, 12))
        if length == 38 + 3 * samples:
            yield right - left, bottom - top, samples
    # SOF of JPEG, among whose numbers are also DHT, JPG and DAC; 0xF7 is that of JPEG-LS
    place = 2
    while frame[:2] == b"\xff\xd8" and place + 10 <= len(frame) and frame[place] == 0xFF:
        marker, length = frame[place + 1], int.from_bytes(frame[place + 2 : place + 4])
        if marker == 0xFF:
            place += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            height, width = (int.from_bytes(frame[place + at : place + at + 2]) for at in (5, 7))
            yield width, height, frame[place + 9]
        place += 2 + length


def _padding(dataset: "Dataset", stored: np.ndarray) -> np.ndarray | None:
    """Which pixels are padding, bool `[H, W]`; None of a file that has none."""
    padding = dataset.get("PixelPaddingValue")
    if padding is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    # either may be written with the other sign, so that 63536 is -2000
    ends = np.array([padding, padding if limit is None else limit], dtype=np.int64).astype(stored.dtype)
    return (stored >= ends.min()) & (stored <= ends.max())


def _stored_range(dataset: "Dataset", shown: np.ndarray) -> tuple[int, int]:
    """The lowest and the highest level that can be stored; `shown` are those that are."""
    bits = dataset.BitsStored
    if dataset.PixelRepresentation == 1:
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, _white(bits, shown)


def _white(bits: int, levels: np.ndarray) -> int:
    """The level of white among unsigned levels of so many bits."""
    return full_scale(levels) if bits == 16 and levels.size else 2**bits - 1


def _tones(dataset: "Dataset", levels: np.ndarray, black: float, white: float) -> np.ndarray:
    """Float32 in [0, 1] of stored levels, of which `black` and `white` are the lowest and highest possible."""
    signed = dataset.PixelRepresentation == 1
    values = levels.astype(np.float64)
    if dataset.get("ModalityLUTSequence"):
        values, white = _look_up(levels, dataset.ModalityLUTSequence[0], signed)
        black, signed = 0, False
    elif (slope := _numbers(dataset, "RescaleSlope")) and (intercept := _numbers(dataset, "RescaleIntercept")):
        values = values * slope[0] + intercept[0]
        black, white = sorted((black * slope[0] + intercept[0], white * slope[0] + intercept[0]))
    chosen = _contrast(dataset)
    if chosen == "VOI LUT":
        table = np.rint(values).astype(np.int64)
        values, white = _look_up(table, dataset.VOILUTSequence[0], signed or black < 0)
        black = 0
    if chosen == "window":
        tones = _windowed(values, *_window(dataset))
    else:
        tones = (values - black) / (white - black) if white > black else np.zeros(values.shape)
    if _text(dataset, "PhotometricInterpretation") == ["MONOCHROME1"]:
        tones = 1 - tones
    return tones.clip(0, 1).astype(np.float32)


def _contrast(dataset: "Dataset") -> str:
    """Which of CONTRASTS a gray image has."""
    tables = dataset.get("VOILUTSequence")
    if tables and "LUTDescriptor" in tables[0] and "LUTData" in tables[0]:
        return "VOI LUT"
    _, width, function = _window(dataset)
    return "window" if width >= 1 or (width > 0 and function != "LINEAR") else "stored range"


def _window(dataset: "Dataset") -> tuple[float, float, str]:
    """Centre, width and function of the first window, of width 0 where there is none."""
    centre, width = _numbers(dataset, "WindowCenter"), _numbers(dataset, "WindowWidth")
    function = [*_text(dataset, "VOILUTFunction"), "LINEAR"][0].upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise ValueError("VOILUTFunction is unknown; allowed: LINEAR, LINEAR_EXACT or SIGMOID")
    return (centre[0], width[0], function) if centre and width else (0.0, 0.0, function)


def _windowed(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """In [0, 1] what a window shows of values: DICOM's part 3, C.11.2.1."""
    if function == "SIGMOID":
        # beyond these it is 0 or 1 in any case
        tones: np.ndarray = 1 / (1 + np.exp((-4 * (values - centre) / width).clip(-700, 700)))
        return tones
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return (values > centre).astype(np.float64)
    return ((values - centre) / width + 0.5).clip(0, 1)


def _look_up(levels: np.ndarray, owner: "Dataset", signed: bool) -> tuple[np.ndarray, int]:
    """Levels through a table of DICOM, and the table's white; `signed` says whether the first level can be negative.

    pydicom's own functions wrap around in tables of more than 256 entries of 8 bits.
    """
    table, first, bits = _table(owner, "LUT", signed)
    return table[(levels - first).clip(0, len(table) - 1)], _white(bits, table)


def _table(owner: "Dataset", of: str, signed: bool) -> tuple[np.ndarray, int, int]:
    """A table of DICOM, the level that its first entry is for, and its bits."""
    descriptor, words = (_words(owner, f"{of}{part}") for part in ("Descriptor", "Data"))
    if len(descriptor) != 3 or not 1 <= descriptor[2] <= 16:
        raise ValueError(f"{of}Descriptor is malformed; allowed: entries, first level, and 1 to 16 bits")
    entries, first, bits = int(descriptor[0]) or 2**16, int(descriptor[1]), int(descriptor[2])
    if signed and first >= 2**15:
        first -= 2**16
    # two entries of 8 bits may share a word
    table = words if len(words) >= entries else words.astype("<u2").view(np.uint8)
    if len(table) < entries:
        raise ValueError(f"{of}Data has fewer entries than the {entries} of its descriptor")
    return table[:entries].astype(np.int64), first, bits


def _in_colours(dataset: "Dataset", stored: np.ndarray) -> np.ndarray:
    """Uint8 `[H, W, 3]`, the highest 8 bits of each colour."""
    if stored.ndim == 3:
        return (stored >> max(dataset.BitsStored - 8, 0)).astype(np.uint8)
    levels, signed = stored.astype(np.int64), dataset.PixelRepresentation == 1
    tables = [_table(dataset, f"{colour}PaletteColorLookupTable", signed) for colour in PALETTES]
    white = _white(max(bits for *_, bits in tables), np.concatenate([table for table, *_ in tables]))
    looked_up = [table[(levels - first).clip(0, len(table) - 1)] for table, first, _ in tables]
    return (np.stack(looked_up, axis=-1) * 255 // white).clip(0, 255).astype(np.uint8)


def _text(dataset: "Dataset", keyword: str) -> list[str]:
    """The values of an element of text, not empty ones; read without pydicom, which would print what is malformed."""
    element = dataset.get_item(keyword)
    value = getattr(element, "value", None)
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return [part.strip(" \0") for part in text.split("\\") if part.strip(" \0")]


def _numbers(dataset: "Dataset", keyword: str) -> list[float]:
    """The numbers in an element of text."""
    try:
        numbers = [float(part) for part in _text(dataset, keyword)]
    except ValueError:
        numbers = [np.nan]
    if not np.isfinite(numbers).all():
        raise ValueError(f"{keyword} is no number")
    return numbers


def _whole(dataset: "Dataset", keyword: str, allowed: range | tuple[int, ...]) -> int:
    """The whole number of an element."""
    value = dataset.get(keyword)
    if not isinstance(value, int) or value not in allowed:
        numbers = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else ", ".join(map(str, allowed))
        raise ValueError(f"{keyword} is {value if isinstance(value, int) else 'missing'}; allowed: {numbers}")
    return value


def _words(dataset: "Dataset", keyword: str) -> np.ndarray:
    """The 16-bit words of an element, unsigned whatever it calls them."""
    element = dataset.get_item(keyword)
    value = getattr(element, "value", None)
    if not isinstance(value, bytes):
        raise ValueError(f"{keyword} is missing")
    order = "<u2" if getattr(element, "is_little_endian", True) else ">u2"
    return np.frombuffer(value[: len(value) // 2 * 2], dtype=order)
