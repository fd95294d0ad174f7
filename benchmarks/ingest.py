"""`ingest` against the bare loop that decodes, resizes and saves the same images, by as many processes.

    python benchmarks/ingest.py [--images 800] [--repeats 5] [--resolution 64] [--num_proc 1]
                                [--note TEXT] [--output_dir docs/ingest]

The bare loop is what one writes by hand for one kind of file: Pillow or pydicom, a centre crop, Lanczos to the same
size, the fastest PNG, in a `ProcessPoolExecutor`. It checks nothing, reads no table, and could not go on. Both take
turns on the same drawn files of 1024 x 1024 pixels. What the start of processes and libraries takes is measured by
runs on few images, and left out. Compared is processor time, as other programs take turns on a machine, and the wall
clock: the ratio of ingest to the loop is the median over repeats, with a 95 % interval of it by the bootstrap. Writes
ingest.json, and from it README.md.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from precision import processor
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless
from scipy.ndimage import zoom

from synthfair_hf.domains.ingest import IMAGES_PER_TASK, ingest
from synthfair_hf.domains.presets import get_preset
from synthfair_hf.records import Record, library_versions

SIDE, DISTINCT = 1024, 16
"""Pixels of an image, and images that are drawn; the others are links to them."""


def drawn(seed: int) -> np.ndarray:
    """Large shapes with the noise of a detector, in [0, 1]."""
    rng = np.random.default_rng(seed)
    shapes = zoom(rng.uniform(0, 1, (12, 12)), SIDE / 12, order=3)
    return (0.1 + 0.8 * shapes + rng.normal(0, 0.006, (SIDE, SIDE))).clip(0, 1)


def png16(path: Path, image: np.ndarray) -> None:
    Image.fromarray(np.rint(image * 65535).astype(np.uint16)).save(path, "png")


def png8(path: Path, image: np.ndarray) -> None:
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(path, "png")


def jpeg(path: Path, image: np.ndarray) -> None:
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(path, "jpeg", quality=92)


def dicom(path: Path, image: np.ndarray, syntax: str = ExplicitVRLittleEndian) -> None:
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.4"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *image.shape, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.WindowCenter, dataset.WindowWidth = "2048", "3800"
    dataset.PixelData = np.rint(image * 4095).astype(np.uint16).tobytes()
    if syntax != ExplicitVRLittleEndian:
        dataset.compress(syntax)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def resized(image: Image.Image, side: int) -> Image.Image:
    length = min(image.size)
    left, top = (image.width - length) // 2, (image.height - length) // 2
    box = (left, top, left + length, top + length)
    return image.resize((side, side), Image.Resampling.LANCZOS, box=box)


def save16(levels: np.ndarray, path: Path) -> None:
    Image.fromarray(levels.round().clip(0, 65535).astype(np.uint16)).save(path, compress_level=1)


def bare8(path: Path, output: Path, side: int) -> None:
    with Image.open(path) as image:
        resized(image.convert("L"), side).save(output / f"{path.stem}.png", compress_level=1)


def bare16(path: Path, output: Path, side: int) -> None:
    with Image.open(path) as image:
        levels = np.asarray(image, dtype=np.float32)
    save16(np.asarray(resized(Image.fromarray(levels), side)), output / f"{path.stem}.png")


def bare_dicom(path: Path, output: Path, side: int) -> None:
    dataset = pydicom.dcmread(path)
    low = float(dataset.WindowCenter) - 0.5 - (float(dataset.WindowWidth) - 1) / 2
    shown = (dataset.pixel_array.astype(np.float32) - low) * (65535 / (float(dataset.WindowWidth) - 1))
    save16(np.asarray(resized(Image.fromarray(shown.clip(0, 65535)), side)), output / f"{path.stem}.png")


KINDS: dict[str, tuple[str, Callable[[Path, np.ndarray], None], Callable[[Path, Path, int], None], int]] = {
    "png16": (".png", png16, bare16, 4),
    "png8": (".png", png8, bare8, 1),
    "jpeg": (".jpg", jpeg, bare8, 1),
    "dicom": (".dcm", dicom, bare_dicom, 4),
    "dicom_jpeg2000": (".dcm", partial(dicom, syntax=JPEG2000Lossless), bare_dicom, 4),
}
"""By kind of file its suffix, what writes one, the bare loop, and by how much fewer are read, since it is slow."""

TITLES = {
    "png16": "PNG, 16 bits",
    "png8": "PNG, 8 bits",
    "jpeg": "JPEG",
    "dicom": "DICOM, uncompressed",
    "dicom_jpeg2000": "DICOM, JPEG 2000",
}
CLOCKS = ("processor", "wall")


def loop(work: Callable[..., None], folder: Path, output: Path, num_proc: int) -> None:
    output.mkdir()
    paths = [path for path in sorted(folder.iterdir()) if path.suffix != ".csv"]
    work = partial(work, output=output)
    if num_proc == 1:
        list(map(work, paths))
        return
    with ProcessPoolExecutor(num_proc) as pool:
        list(pool.map(work, paths, chunksize=IMAGES_PER_TASK))


def package(resolution: int, folder: Path, output: Path, num_proc: int) -> None:
    ingest(folder, output, get_preset("chest_xray"), resolution, "open", num_proc)


def measured(work: Callable[[], object]) -> np.ndarray:
    """Seconds of processors, and by the wall clock, as CLOCKS."""

    def now() -> np.ndarray:
        used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return np.array([sum(one.ru_utime + one.ru_stime for one in used), time.perf_counter()])

    began = now()
    work()
    return now() - began


def folders(kind: str, scratch: Path, numbers: tuple[int, ...]) -> dict[int, Path]:
    """A folder of so many images for each number, with its table."""
    suffix, write, *_ = KINDS[kind]
    originals = [scratch / f"{place:02}{suffix}" for place in range(DISTINCT)]
    for place, path in enumerate(originals):
        write(path, drawn(place))
    made = {number: scratch / f"{number} images" for number in numbers}
    for number, folder in made.items():
        folder.mkdir()
        lines = ["file_name,patient_id,age"]
        for place in range(number):
            path = folder / f"{place:05}{suffix}"
            os.link(originals[place % DISTINCT], path)
            lines.append(f"{path.name},p{place % DISTINCT},{20 + place % 60}")
        (folder / "metadata.csv").write_text("\n".join(lines))
    return made


def compare(kind: str, images: int, repeats: int, resolution: int, num_proc: int) -> dict[str, Any]:
    """Images per second of both, by processor and wall clock, and the ratio with its interval."""
    *_, bare, fewer = KINDS[kind]
    few, many = IMAGES_PER_TASK * num_proc, images // fewer
    ways = {"loop": partial(loop, partial(bare, side=2 * resolution)), "ingest": partial(package, resolution)}
    seconds: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    with TemporaryDirectory() as scratch:
        made = folders(kind, Path(scratch), (few, many))
        for repeat in range(repeats):
            for name in (*ways, *ways)[repeat % 2 : repeat % 2 + 2]:
                with TemporaryDirectory(dir=scratch) as output:
                    start, whole = (
                        measured(partial(ways[name], made[number], Path(output, f"of{number}"), num_proc))
                        for number in (few, many)
                    )
                seconds[name].append((whole - start) / (many - few))
    ours, theirs = np.array(seconds["ingest"]), np.array(seconds["loop"])
    ratios = theirs / ours
    again = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
    intervals = np.quantile(np.median(ratios[again], axis=1), [0.025, 0.975], axis=0)
    return {
        "images": many,
        **{
            clock: {
                "ingest": round(1 / np.median(ours[:, place]), 1),
                "loop": round(1 / np.median(theirs[:, place]), 1),
                "ratio": [round(float(one), 3) for one in (np.median(ratios[:, place]), *intervals[:, place])],
            }
            for place, clock in enumerate(CLOCKS)
        },
    }


def page(record: Record) -> str:
    """The page of a record."""
    settings, stored = record.settings, 2 * record.settings["resolution"]
    rows = "\n".join(
        f"| {TITLES[kind]} | {one['images']} | {one['processor']['ingest']:.0f} | {one['processor']['loop']:.0f} | "
        + " | ".join("{:.2f} [{:.2f}, {:.2f}]".format(*one[clock]["ratio"]) for clock in CLOCKS)
        + " |"
        for kind, one in record.measured.items()
    )
    return f"""# What ingestion costs

By `python benchmarks/ingest.py` on {settings["processor"]}, {settings["num_proc"]} process(es): drawn images of
{SIDE} x {SIDE} pixels, stored at {stored} x {stored}. The bare loop decodes, crops, resizes and saves the same
files, and does nothing else: it reads no table, checks no pixel, hashes nothing and could not go on. {settings["note"]}

Images per second are of processor time. The ratio is that of `synthfair ingest` to the loop, above 1 where ingest is
faster: the median of {settings["repeats"]} repeats, in which both take turns, and its 95 % interval.

| files | images | ingest, images/s | bare loop, images/s | ratio, processor | ratio, wall clock |
|---|---:|---:|---:|---:|---:|
{rows}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--num_proc", type=int, default=1)
    parser.add_argument("--note", default="", help="what else was running; it goes on the page")
    parser.add_argument("--output_dir", type=Path, default=Path("docs/ingest"))
    settings = parser.parse_args()
    named = {name: getattr(settings, name) for name in ("images", "repeats", "resolution", "num_proc")}
    found = {}
    for kind in KINDS:
        found[kind] = compare(kind, **named)
        print(kind, found[kind], flush=True)
    record = Record(
        stage="ingest_benchmark",
        settings={**named, "note": settings.note, "processor": processor()},
        versions=library_versions(),
        measured=found,
    )
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    record.write(settings.output_dir / "ingest.json")
    (settings.output_dir / "README.md").write_text(page(record))


if __name__ == "__main__":
    main()
