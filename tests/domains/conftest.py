"""A folder of drawn radiographs with a metadata.csv."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HEADER = "file_name,patient_id,age,sex,view,finding"


def write_folder(directory: Path, patients: int = 30, side: int = 64) -> Path:
    """Two radiographs per patient, with covariates that follow from the patient's number."""
    (directory / "images").mkdir(parents=True)
    lines = [HEADER]
    for index in range(2 * patients):
        patient = index // 2
        pixels = np.random.default_rng(index).integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(directory / "images" / f"{index:03}.png")
        sex, view = "MF"[patient % 2], ("PA", "AP")[index % 2]
        finding = ("No Finding", "Pneumonia")[patient % 3 == 0]
        lines.append(f"images/{index:03}.png,p{patient},{20 + patient},{sex},{view},{finding}")
    (directory / "metadata.csv").write_text("\n".join(lines) + "\n")
    return directory


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_folder(tmp_path / "radiographs")


@pytest.fixture
def edit(folder) -> Callable[[Callable[[str], str]], Path]:
    """Rewrite metadata.csv by a function of its text."""

    def rewrite(change: Callable[[str], str]) -> Path:
        path = folder / "metadata.csv"
        path.write_bytes(change(path.read_text()).encode())
        return folder

    return rewrite


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.fixture(params=[_pipe, _device, _loop, Path.mkdir], ids=["pipe", "device", "loop", "directory"])
def make_no_file(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """`make_no_file(path)` puts there what is no file, and would be waited for, read without end or followed."""
    return request.param
