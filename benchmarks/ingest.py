"""`ingest` against the bare loop that decodes, resizes and saves the same images, by as many processes.

    python benchmarks/ingest.py [--images 400] [--repeats 5] [--resolution 64] [--num_proc 2] [--kinds png16 ...]

The bare loop is what one writes by hand for one kind of file: Pillow or pydicom, a centre crop, Lanczos to the same
size, the fastest PNG, in a `ProcessPoolExecutor`. It checks nothing, reads no table, and could not go on. Both take
turns on the same drawn files of 1024 x 1024 pixels. What the start of processes and libraries takes is measured by
runs on few images, and left out. On a busy machine compare processor time, of one process. Printed are images per
second and the ratio of ingest to the loop, by the wall clock and by processor time: the median over repeats, and a
95 % interval of it by the bootstrap.
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

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless
from scipy.ndimage import zoom

from synthfair_hf.domains.ingest import IMAGES_PER_TASK, ingest
from synthfair_hf.domains.presets import get_preset

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
    "png16": (".png", png16, bare16, 1),
    "png8": (".png", png8, bare8, 1),
    "jpeg": (".jpg", jpeg, bare8, 1),
    "dicom": (".dcm", dicom, bare_dicom, 1),
    "dicom_jpeg2000": (".dcm", partial(dicom, syntax=JPEG2000Lossless), bare_dicom, 8),
}
"""By kind of file its suffix, what writes one, the bare loop, and by how much fewer are read, since it is slow."""


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
    """Seconds by the wall clock, and of processors."""

    def now() -> np.ndarray:
        used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return np.array([time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used)])

    began = now()
    work()
    return now() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--num_proc", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    settings = parser.parse_args()
    print(f"{SIDE} x {SIDE} to {2 * settings.resolution}, {settings.num_proc} processes, {settings.repeats} repeats")
    for kind in settings.kinds:
        suffix, write, bare, fewer = KINDS[kind]
        with TemporaryDirectory() as scratch:
            few, many = IMAGES_PER_TASK * settings.num_proc, settings.images // fewer
            for number in (few, many):
                folder = Path(scratch, str(number))
                folder.mkdir()
                lines = ["file_name,patient_id,age"]
                for place in range(number):
                    path = folder / f"{place:05}{suffix}"
                    first = Path(scratch, str(few), f"{place % DISTINCT:05}{suffix}")
                    write(path, drawn(place)) if path == first else os.link(first, path)
                    lines.append(f"{path.name},p{place % DISTINCT},{20 + place % 60}")
                (folder / "metadata.csv").write_text("\n".join(lines))

            work = partial(bare, side=2 * settings.resolution)
            ways = {"loop": partial(loop, work), "package": partial(package, settings.resolution)}
            seconds: dict[str, list[np.ndarray]] = {name: [] for name in ways}
            for repeat in range(settings.repeats):
                for name in (*ways, *ways)[repeat % 2 : repeat % 2 + 2]:
                    with TemporaryDirectory(dir=scratch) as output:
                        start, whole = (
                            measured(
                                partial(
                                    ways[name],
                                    Path(scratch, str(number)),
                                    Path(output, f"of{number}"),
                                    settings.num_proc,
                                )
                            )
                            for number in (few, many)
                        )
                    seconds[name].append((whole - start) / (many - few))
            ours, theirs = np.array(seconds["package"]), np.array(seconds["loop"])
            ratios = theirs / ours
            drawn_again = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
            low, high = np.quantile(np.median(ratios[drawn_again], axis=1), [0.025, 0.975], axis=0)
            told = [
                f"{unit} {1 / np.median(ours[:, k]):.0f} of {1 / np.median(theirs[:, k]):.0f} images/s, ratio "
                f"{np.median(ratios[:, k]):.2f} [{low[k]:.2f}, {high[k]:.2f}]"
                for k, unit in enumerate(("wall", "processor"))
            ]
            print(f"{kind:15} n {many}: {'; '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
