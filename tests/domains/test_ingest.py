"""A data set ingested: the covariates, splits and images of its own reader, and the name of nobody."""

import csv
import hashlib
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import write_folder
from filelock import FileLock
from miniatures import MINIATURES, chexpert
from PIL import Image

from synthfair_hf import cli, get_preset
from synthfair_hf.cli import generators
from synthfair_hf.domains import ingest as module
from synthfair_hf.domains.chest_xray.scanners import AcquisitionWorld
from synthfair_hf.domains.images import gray, open_image
from synthfair_hf.domains.ingest import estimate, ingest
from synthfair_hf.domains.ingested import encode_png, pseudonym
from synthfair_hf.domains.joined import JoinedFolders
from synthfair_hf.domains.readers import DataSetFolder
from synthfair_hf.domains.registry import open_images, open_source
from synthfair_hf.domains.source import access_to, describe_counts
from synthfair_hf.errors import InputError
from synthfair_hf.records import Record

PRESET = get_preset("chest_xray")

KEY = "ab" * 32 + "\n"

SHA256 = b"a" * 64


def opened(folder: Path | DataSetFolder):
    return open_images(folder, PRESET, 32, lambda _: None)


def run(folder: Path | DataSetFolder, output: Path, **settings) -> Record:
    """Ingest by one process, with a key that is known."""
    private = output.with_name(f"{output.name}.private")
    private.mkdir(exist_ok=True)
    if not (private / "key").exists():
        (private / "key").write_text(KEY)
    return ingest(folder, output, PRESET, **{"resolution": 32, "num_proc": 1, **settings})


def contents(output: Path) -> dict[str, bytes]:
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> DataSetFolder:
    root = tmp_path_factory.mktemp("of") / "CheXpert"
    chexpert(root, patients=60)
    return DataSetFolder(directory=root, dataset_name="chexpert")


@pytest.fixture(scope="module")
def output(original: DataSetFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("into") / "ingested"
    run(original, place)
    return place


def test_an_ingested_set_is_opened_by_the_preset_of_its_own_name(tmp_path: Path):
    """As the printed next command does: it is a folder of images then, and no longer in the layout of the data set."""
    MINIATURES["nih_chestxray14"](tmp_path / "NIH")
    preset = get_preset("nih_chestxray14")
    folder = DataSetFolder(directory=tmp_path / "NIH", dataset_name="nih_chestxray14")
    ingest(folder, tmp_path / "ingested", preset, resolution=16, num_proc=1)
    before, after = (open_source(one, preset, 16) for one in (folder, tmp_path / "ingested"))
    assert after.covariates.names == before.covariates.names
    assert {name: Counter(column) for name, column in after.table.items()} == {
        name: Counter(column) for name, column in before.table.items()
    }
    joined = JoinedFolders.of([DataSetFolder(directory=tmp_path / "ingested")])
    assert open_source(joined, preset, 16).table == after.table


@pytest.fixture
def copy(output: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(output, tmp_path / "copy"))


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("plain") / "radiographs", patients=10)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few images, and its ingestion."""
    place = tmp_path_factory.mktemp("whole")
    run(write_folder(place / "radiographs", patients=6), place / "out")
    return place


@pytest.fixture
def finished(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "finished"))


def test_what_is_read_back_is_what_the_reader_reads(original: DataSetFolder, output: Path):
    ours, theirs = opened(output), opened(original)
    assert ours.covariates == theirs.covariates
    assert len(ours) == len(theirs) == 60
    places = {Path(name).stem: place for place, name in enumerate(ours.file_names)}
    names = [pseudonym(bytes.fromhex(KEY), "image", "chexpert", name) for name in theirs.file_names]
    same = [places[name] for name in names]
    assert {name: [column[place] for place in same] for name, column in ours.table.items()} == theirs.table
    assert [ours.splits[place] for place in same] == theirs.splits
    pairs = set(zip([ours.patient_ids[place] for place in same], theirs.patient_ids, strict=True))
    assert len(pairs) == len(set(ours.patient_ids)) == len(set(theirs.patient_ids))
    for place, other in list(zip(same, range(len(theirs)), strict=True))[:8]:
        assert np.abs(ours.image(place, 32) - theirs.image(other, 32)).max() <= 1 / 4095


def test_the_record_tells_what_was_done_and_the_access_is_carried_along(original: DataSetFolder, output: Path):
    record = Record.read(output / "record.json")
    assert record.access == opened(output).access == "credentialed"
    assert {name: record.counts[name] for name in ("images", "patients", "quarantined", "left out")} == {
        "images": 60,
        "patients": 60,
        "quarantined": 0,
        "left out": {"lateral view": 60},
    }
    assert record.counts["bytes"] == sum(len(data) for name, data in contents(output).items() if "images/" in name)
    for name, file in record.files.items():
        assert hashlib.sha256((output / name).read_bytes()).hexdigest() == file.sha256
    assert record.files.keys() == {"metadata.csv", "preset.yaml"}


def test_the_output_names_nobody_and_its_order_tells_nothing(original: DataSetFolder, output: Path):
    source = opened(original)
    told = b"".join(data for name, data in contents(output).items() if not name.endswith(".png")).decode()
    told += " ".join(contents(output))
    guessed = [hashlib.sha256(name.encode()).hexdigest()[:16] for name in source.patient_ids]
    guessed += [pseudonym(bytes(32), "patient", "chexpert", name) for name in source.patient_ids]
    for secret in (KEY.strip(), str(original), *source.patient_ids, *guessed):
        assert secret not in told
    with (output / "metadata.csv").open() as file:
        files = [row["file_name"] for row in csv.DictReader(file)]
    assert files == sorted(files)


def test_a_key_is_made_for_its_owner_alone_and_another_gives_other_names(radiographs: Path, tmp_path: Path):
    names = []
    for place in (tmp_path / "one", tmp_path / "two"):
        ingest(radiographs, place, PRESET, 32, num_proc=1)
        key = tmp_path / f"{place.name}.private" / "key"
        assert key.stat().st_mode & 0o777 == 0o600
        assert key.parent.stat().st_mode & 0o777 == 0o700
        names.append(set(opened(place).patient_ids))
    assert not names[0] & names[1]


@pytest.mark.parametrize(("access", "expected"), [(None, "unknown"), ("open", "open")])
def test_a_folder_has_the_access_that_is_said(radiographs: Path, tmp_path: Path, access, expected):
    assert run(radiographs, tmp_path / "out", access=access).access == opened(tmp_path / "out").access == expected


def test_a_credentialed_data_set_is_not_opened(original: DataSetFolder, tmp_path: Path):
    assert run(original, tmp_path / "out", access="open").access == "credentialed"
    # nor by being ingested again
    assert run(tmp_path / "out", tmp_path / "again", access="open", resolution=16).access == "credentialed"
    assert opened(tmp_path / "out").splits
    smaller = open_images(tmp_path / "again", PRESET, 16, lambda _: None)
    assert sorted(smaller.splits) == sorted(opened(original).splits)


# one process without threads, that forks the runs it ends
ENDING = """
import json, os, random, shutil, signal, sys, time
from multiprocessing import get_context
from pathlib import Path

from synthfair_hf import get_preset
from synthfair_hf.domains import ingest as module
from synthfair_hf.errors import InputError

folder, place = map(Path, sys.argv[1:])
module.IMAGES_PER_TASK, module.get_context = 3, lambda _: get_context("fork")
journal, moments, died = place / "killed.private" / "journal.jsonl", random.Random(0), []


def run(name, num_proc=1):
    private = place / f"{name}.private"
    private.mkdir(exist_ok=True)
    (private / "key").write_text("ab" * 32)
    module.ingest(folder, place / name, get_preset("chest_xray"), 32, num_proc=num_proc)


def done():
    return len(journal.read_bytes().splitlines()) if journal.exists() else 0


while len(died) < 2:
    pid = os.fork()
    if pid == 0:
        run("killed")
        os._exit(0)
    goal = done() + moments.randrange(1, 9)
    while done() < goal and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
        died.append(done())
        assert not (place / "killed" / "record.json").exists()
    else:
        shutil.rmtree(place / "killed")
        shutil.rmtree(place / "killed.private")
# a line that was cut counts as none
with journal.open("a") as file:
    file.write('["0123456789abcdef", 1')
run("killed")
run("alone")

read, tried = module._read, module._Run.try_some
module._read = lambda path, _: os.kill(os.getpid(), signal.SIGKILL)
module._Run.try_some = lambda *_: {"bytes": 0, "free": 1}
try:
    run("two", num_proc=2)
except InputError as error:
    told = str(error)
module._read, module._Run.try_some = read, tried
run("two", num_proc=2)
print(json.dumps({"died": died, "told": told}))
"""


def test_whatever_process_is_killed_the_same_command_ends_in_the_same_bytes(radiographs: Path, tmp_path: Path):
    script = [sys.executable, "-W", "error", "-c", ENDING, str(radiographs), str(tmp_path)]
    ran = subprocess.run(script, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert len(set(found["died"])) == 2, "they were killed in different places"
    assert re.fullmatch(
        "num_proc: one of 2 processes was ended, .*; give fewer, or run the same .* to go on.", found["told"]
    )
    assert contents(tmp_path / "killed") == contents(tmp_path / "alone") == contents(tmp_path / "two")


def test_a_full_disk_leaves_no_part_and_the_same_command_goes_on(radiographs: Path, tmp_path: Path, output: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(InputError, match=r"\.png: no room for it \(File too large\); free some and run the same"):
            run(radiographs, tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path / "full") == {}
    run(radiographs, tmp_path / "full")
    run(radiographs, tmp_path / "whole")
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")


def test_too_little_room_is_told_before_anything_is_written(
    radiographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = estimate(radiographs, tmp_path / "out", PRESET, 32, num_proc=1)
    assert list(tmp_path.iterdir()) == []
    assert found["images"] == 20
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"has 1000 bytes free, and 20 images need about [0-9]+; free them"):
        run(radiographs, tmp_path / "out")
    monkeypatch.undo()
    run(radiographs, tmp_path / "out")
    written = sum(len(data) for name, data in contents(tmp_path / "out").items() if name.endswith(".png"))
    assert abs(found["bytes"] / written - 1) < 0.1


def test_what_changed_between_two_runs_is_read_again_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    folder = write_folder(tmp_path / "radiographs", patients=12)
    run(folder, tmp_path / "out")
    Image.linear_gradient("L").save(folder / "images" / "007.png")
    table = (folder / "metadata.csv").read_text().replace("images/011.png,p5,25", "images/011.png,p5,26")
    (folder / "metadata.csv").write_text(table.replace("images/020.png,p10,30,M,PA,No Finding\n", ""))
    next((tmp_path / "out" / "images").rglob("*.png")).unlink()
    read = []
    monkeypatch.setattr(module, "_read", lambda path, r, read_one=module._read: read.append(path) or read_one(path, r))
    run(folder, tmp_path / "out")
    assert "2 images changed since, or were lost; they are read again" in caplog.text
    assert len(set(read)) == 2
    run(folder, tmp_path / "anew")
    assert contents(tmp_path / "out") == contents(tmp_path / "anew")


def test_an_image_of_two_patients_is_left_out_and_listed(tmp_path: Path):
    folder = write_folder(tmp_path / "radiographs")
    shutil.copy(folder / "images" / "000.png", folder / "images" / "002.png")
    (folder / "images" / "005.png").write_bytes(b"no image")
    record = run(folder, tmp_path / "out")
    assert (record.counts["images"], record.counts["quarantined"]) == (57, 3)
    listed = (tmp_path / "out.private" / "quarantine.csv").read_text().splitlines()
    assert listed == [
        "file_name,reason",
        "images/000.png,is also the image of another patient",
        "images/002.png,is also the image of another patient",
        "images/005.png,not a readable image (unknown format)",
    ]
    assert len(opened(tmp_path / "out")) == 57


def test_a_source_none_of_whose_images_can_be_used_is_told_at_once(tmp_path: Path):
    folder = write_folder(tmp_path / "radiographs")
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(
        InputError, match=r"source_dir: .*: none of 8 images that were tried can be used \(first: not a"
    ):
        run(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def lose_key(place: Path) -> None:
    (place / "out.private" / "key").unlink()


def damage_key(place: Path) -> None:
    (place / "out.private" / "key").write_text("secret")


def damage_plan(place: Path) -> None:
    (place / "out.private" / "plan.json").write_text("[")


def put_file(place: Path) -> None:
    shutil.rmtree(place / "out")
    (place / "out").write_text("")


def forget(place: Path) -> None:
    shutil.rmtree(place / "out.private")


@pytest.mark.parametrize(
    ("spoil", "settings", "sentence"),
    [
        (
            None,
            {"resolution": 16},
            r"is of another run \(resolution: 16 != 32, ours != theirs\); give the same settings",
        ),
        (None, {"access": "open"}, r"is of another run \(access: 'open' != 'unknown'"),
        (lose_key, {}, r"out\.private/key: is missing, and names in .* follow from it; restore it"),
        (damage_key, {}, r"out\.private/key: is not 64 hexadecimal digits"),
        (damage_plan, {}, r"is of another run \(its plan\.json is damaged"),
        (put_file, {}, "out is a file; give a directory"),
        (forget, {}, "output_dir: .* is not empty; give a new or an empty directory"),
    ],
)
def test_an_output_that_is_not_of_this_run_stays_as_it_is(
    radiographs: Path, tmp_path: Path, spoil: Callable | None, settings: dict, sentence: str
):
    run(radiographs, tmp_path / "out")
    if spoil is not None:
        spoil(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=sentence):
        ingest(radiographs, tmp_path / "out", PRESET, **{"resolution": 32, "num_proc": 1, **settings})
    assert contents(tmp_path) == before


@pytest.mark.parametrize("inside", ["radiographs/out", "radiographs", ".", "link/out"])
def test_an_output_in_the_source_or_around_it_is_refused(tmp_path: Path, inside: str):
    folder = write_folder(tmp_path / "radiographs", patients=2)
    (tmp_path / "link").symlink_to(folder)
    before = contents(tmp_path)
    with pytest.raises(InputError, match="lie in each other; give a directory outside"):
        ingest(folder, tmp_path / inside, PRESET, 32)
    assert contents(tmp_path) == before


def test_a_link_in_the_output_is_not_written_through(radiographs: Path, tmp_path: Path):
    run(radiographs, tmp_path / "out")
    (tmp_path / "other").write_text("kept")
    image = next((tmp_path / "out" / "images").rglob("*.png"))
    image.unlink()
    image.symlink_to(tmp_path / "other")
    run(radiographs, tmp_path / "out")
    assert (tmp_path / "other").read_text() == "kept"
    assert not image.is_symlink()


def link(path: Path) -> None:
    """Leave a link to nowhere in place of a file or folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(path.with_name("elsewhere"))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        *((link, f"out.private/{name}") for name in ("key", "plan.json", "journal.jsonl", "quarantine.csv", "lock")),
        *((pipe, f"out.private/{name}") for name in ("key", "plan.json", "journal.jsonl")),
        *((link, f"out/{name}") for name in ("metadata.csv", "record.json", "images")),
        *((make_folder, "out/metadata.csv"), (pipe, "out/record.json")),
    ],
)
def test_nothing_is_written_or_waited_for_where_no_file_of_the_run_lies(finished: Path, spoil: Callable, name: str):
    (finished / "out.private" / "lock").touch()
    spoil(finished / name)
    with pytest.raises(InputError, match=f"output_dir: .*/{name} is (a link|no file but a link)"):
        ingest(finished / "radiographs", finished / "out", PRESET, 32, num_proc=1)
    assert not (finished / name).with_name("elsewhere").exists()


def test_a_folder_of_images_that_is_a_link_loses_nothing(finished: Path):
    other = finished / "other"
    other.mkdir()
    (other / "keep.png").write_text("kept")
    shutil.rmtree(finished / "out" / "images")
    (finished / "out" / "images").symlink_to(other)
    with pytest.raises(InputError, match="out/images is a link"):
        run(finished / "radiographs", finished / "out")
    assert [path.name for path in other.iterdir()] == ["keep.png"]


def test_an_image_of_somebody_elses_is_not_removed(finished: Path):
    own = finished / "out" / "images" / "mine.png"
    own.write_text("kept")
    run(finished / "radiographs", finished / "out")
    assert own.read_text() == "kept"


@pytest.mark.parametrize(
    "line",
    [
        b'[["x"], 1, 2, "%s", 3, "", null]' % SHA256,
        b"[" * 100_000,
        b'["../../../other", 1, 2, "%s", 3, "", null]' % SHA256,
        b'["0123456789abcdef", 1, 2, null, 3, "", null]',
        b'["0123456789abcdef", 1, 2, "", 0, {"a": 1}, null]',
        b'["0123456789abcdef", 1, 2, "%s", 3, "", [["a"], {}]]' % SHA256,
        b'["0123456789abcdef", 1, 2, "%s", 3, ""]' % SHA256,
    ],
)
def test_a_damaged_line_of_the_journal_counts_as_none(finished: Path, line: bytes):
    before = contents(finished / "out")
    written = (finished / "out.private" / "journal.jsonl").read_bytes().splitlines()
    assert len(json.loads(written[0])) == 7, "the lines above are those of today but for one thing"
    (finished / "out.private" / "journal.jsonl").write_bytes(line + b"\n")
    run(finished / "radiographs", finished / "out")
    assert contents(finished / "out") == before
    assert line not in (finished / "out.private" / "journal.jsonl").read_bytes()


def test_a_run_goes_on_whose_last_images_are_the_bad_ones(tmp_path: Path):
    folder = write_folder(tmp_path / "radiographs", patients=12)
    (folder / "images" / "023.png").write_bytes(b"")
    run(folder, tmp_path / "out")
    before, journal = contents(tmp_path / "out"), tmp_path / "out.private" / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    for name in ("record.json", "metadata.csv"):
        (tmp_path / "out" / name).unlink()
    run(folder, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_times_and_the_folders_name_tell_nothing(radiographs: Path, tmp_path: Path):
    folder = Path(shutil.copytree(radiographs, tmp_path / "ward_of_smith"))
    (tmp_path / "out.private").mkdir(mode=0o777)
    run(folder, tmp_path / "out")
    assert "smith" not in (tmp_path / "out" / "record.json").read_text()
    assert len({path.stat().st_mtime_ns for path in (tmp_path / "out" / "images").glob("??/**")}) == 1
    assert (tmp_path / "out.private").stat().st_mode & 0o777 == 0o700


def test_the_private_folder_is_not_in_the_source(radiographs: Path, tmp_path: Path):
    shutil.copytree(radiographs, tmp_path / "out.private")
    with pytest.raises(InputError, match=r"out\.private and the source .* lie in each other"):
        run(tmp_path / "out.private", tmp_path / "out")


def test_two_runs_do_not_share_an_output(radiographs: Path, tmp_path: Path):
    run(radiographs, tmp_path / "out")
    with (
        FileLock(tmp_path / "out.private" / "lock"),
        pytest.raises(InputError, match="another process writes it"),
    ):
        run(radiographs, tmp_path / "out")


def test_what_has_no_folder_of_images_is_not_ingested(tmp_path: Path):
    with pytest.raises(
        InputError, match="dataset_name: 'phantom' is unknown; allowed: imagefolder, datasets, mimic_cxr"
    ):
        ingest(DataSetFolder(directory=tmp_path, dataset_name="phantom"), tmp_path / "out", PRESET)
    renamed = [v.model_copy(update={"name": "split"}) if v.name == "sex" else v for v in PRESET.covariates.walk()]
    own = PRESET.model_copy(update={"covariates": type(PRESET.covariates)(variables=tuple(renamed))})
    with pytest.raises(InputError, match="preset: the covariate 'split' has the name of a column"):
        ingest(tmp_path, tmp_path / "out", own)
    assert list(tmp_path.iterdir()) == []


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def unseal(out: Path, **seal: None) -> None:
    """Open the access, as who has no seal for it."""
    record = json.loads((out / "record.json").read_text())
    del record["seal"]
    record["inputs"]["access"] = "open"
    (out / "record.json").write_text(json.dumps({**record, **seal}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda out: edit(out / "record.json", '"credentialed"', '"open"'), "its access 'open' was recorded of other"),
        (
            lambda out: edit(out / "metadata.csv", ",train,", ",test,"),
            "its access 'credentialed' was recorded of other",
        ),
        (lambda out: (out / "record.json").unlink(), "record.json: no record here"),
        (lambda out: edit(out / "record.json", '"ingest"', '"train"'), "is of train; restore that of ingest"),
        (lambda out: unseal(out, seal=None), "its access 'open' was recorded of other"),
        (lambda out: unseal(out), "its access 'open' was recorded of other"),
        (
            lambda out: edit(out / "metadata.csv", "sha256", "sha_256"),
            "its access 'credentialed' was recorded of other",
        ),
        (lambda out: edit(out / "metadata.csv", "split", "Split"), "its access 'credentialed' was recorded of other"),
        (lambda out: edit(out / "record.json", '"source": "chexpert"', '"source": ["x"]'), "its source is not a name"),
        (lambda out: edit(out / "record.json", '"source": "chex', '"people": ["x"], "source": "chex'), "its people is"),
        (lambda out: (out / "record.json").unlink() or os.mkfifo(out / "record.json"), "record.json: is not a file"),
    ],
)
def test_what_was_changed_since_is_not_read(copy: Path, change: Callable[[Path], None], sentence: str):
    change(copy)
    with pytest.raises(InputError, match=sentence):
        opened(copy)


def test_another_image_in_the_place_of_one_is_left_out(copy: Path):
    first, second, *_ = sorted((copy / "images").rglob("*.png"))
    shutil.copy(second, first)
    assert opened(copy).counts["quarantined"] == {
        first.relative_to(copy).as_posix(): "is not the image that was ingested"
    }


def test_images_keep_twelve_bits_however_dark(tmp_path: Path):
    random_numbers = np.random.default_rng(0)
    for scale in (1, 0.3, 0.05, 0.01):
        pixels = (random_numbers.uniform(0, scale, (24, 24))).astype(np.float32)
        found = gray(open_image(encode_png(pixels)), "")
        assert np.abs(found - pixels).max() <= 0.5 / 4095 + 1 / 65535
    for levels in ([0, 16, 240], [0, 64, 252], [0, 4095], [0, 1]):
        pixels = (np.resize(levels, (8, 8)) / 4095).astype(np.float32)
        assert np.abs(gray(open_image(encode_png(pixels)), "") - pixels).max() <= 1 / 4095


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 9), (3, 1, 1), (3, 4, 6)])
def test_every_shape_is_a_png_that_others_read(shape):
    pixels = np.random.default_rng(1).uniform(0, 1, shape).astype(np.float32)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        image.verify()
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        read = np.asarray(image).astype(np.float64)
    expected = np.moveaxis(pixels, 0, -1) if len(shape) == 3 else pixels
    assert read.shape == expected.shape
    assert np.abs(read / (255 if len(shape) == 3 else 65535) - expected).max() <= 0.6 / (
        255 if len(shape) == 3 else 4095
    )


def test_colours_keep_eight_bits():
    pixels = np.random.default_rng(0).uniform(0, 1, (3, 8, 8)).astype(np.float32)
    image = open_image(encode_png(pixels))
    assert image.mode == "RGB"
    assert np.abs(np.moveaxis(np.asarray(image), -1, 0) / 255 - pixels).max() <= 0.5 / 255 + 1e-7


def test_joined_sources_are_not_ingested_as_one(radiographs: Path, tmp_path: Path):
    one = DataSetFolder(directory=radiographs)
    joined = JoinedFolders(folders={"west": one, "east": DataSetFolder(directory=tmp_path / "east")})
    for act in (ingest, estimate):
        with pytest.raises(
            InputError, match=r"^source_dir: east, west are joined, and one source is .*; ingest each, and"
        ):
            act(joined, tmp_path / "out", PRESET, 32)
    assert not (tmp_path / "out").exists()
    assert estimate(JoinedFolders(folders={"west": one}), tmp_path / "out", PRESET, 32)["images"] == 20


def test_a_place_that_cannot_be_written_is_one_sentence(radiographs: Path):
    with pytest.raises(
        InputError, match=r"^output_dir: /proc/out\.private can't be written \(.*\); give another place"
    ):
        ingest(radiographs, Path("/proc/out"), PRESET, 32)


def test_the_output_says_what_its_patients_are(tmp_path: Path):
    dermatology = get_preset("dermatology")
    MINIATURES["ham10000"](tmp_path / "ham10000")
    original = DataSetFolder(directory=tmp_path / "ham10000", dataset_name="ham10000")
    record = ingest(original, tmp_path / "out", dermatology, 32, num_proc=1)
    assert record.settings["unit"] == record.counts["unit"] == "lesion"
    counts = open_images(tmp_path / "out", dermatology, 32, lambda _: None).counts
    assert describe_counts(counts)[0] == f"source: {counts['images']} images of {counts['patients']} lesions"
    assert "  not told of any image: skin_tone" in describe_counts(record.counts)
    # as those were written that did not say it
    path = tmp_path / "out" / "record.json"
    path.write_text(path.read_text().replace('"unit": "lesion"', '"was": "lesion"', 1))
    assert open_images(tmp_path / "out", dermatology, 32, lambda _: None).unit == "patient"


def test_neither_times_nor_folders_nor_order_of_files_tell_of_a_patient(
    original: DataSetFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Files of the same originals of other times are alike in all but names, and made in the order of these."""
    made: list[Path] = []
    monkeypatch.setattr(
        module, "_write", lambda path, data, write=module._write: made.append(path) or write(path, data)
    )
    renamed = Path(shutil.copytree(original.directory, tmp_path / "renamed"))
    for number, path in enumerate(sorted(renamed.rglob("*.jpg"), reverse=True)):
        os.utime(path, (1e9 + number, 1e9 + number))
    found = []
    for folder, key in ((original, KEY), (DataSetFolder(directory=renamed, dataset_name="chexpert"), "cd" * 32)):
        out = tmp_path / f"out{len(found)}"
        (tmp_path / f"{out.name}.private").mkdir()
        (tmp_path / f"{out.name}.private" / "key").write_text(key)
        run(folder, out)
        images = sorted((out / "images").rglob("*.png"))
        assert {path.stat().st_mtime for path in (*images, *(one.parent for one in images))} == {module.WRITTEN}
        assert all(path.parent.name == path.stem[:2] for path in images)
        for path in images:
            with Image.open(path) as image:
                assert not image.info
        # file systems keep the order of creation
        assert made == sorted(made, key=lambda path: path.name)
        made.clear()
        found.append(images)
    assert not {path.name for path in found[0]} & {path.name for path in found[1]}
    one, other = (sorted(path.read_bytes() for path in images) for images in found)
    assert one == other


@pytest.mark.parametrize(("access", "expected"), [(None, "credentialed"), ("open", "credentialed")])
def test_one_rule_of_access_for_a_data_set_and_for_what_was_ingested(original, output: Path, access, expected):
    assert access_to(opened(original), access) == access_to(opened(output), access) == expected


@pytest.mark.parametrize(("said", "expected"), [(None, "unknown"), ("open", "open")])
def test_what_is_said_on_ingesting_holds_for_what_is_trained(radiographs: Path, tmp_path: Path, said, expected):
    assert access_to(opened(radiographs), None) == "unknown"
    run(radiographs, tmp_path / "out", access=said)
    assert access_to(opened(tmp_path / "out"), None) == expected
    planted = open_source(tmp_path / "out", PRESET, 32)
    assert isinstance(planted, AcquisitionWorld)
    assert access_to(planted, None) == expected


def test_an_ingested_folder_is_read_by_its_own_preset(radiographs: Path, tmp_path: Path, monkeypatch, capsys):
    own = PRESET.model_copy(update={"name": "own"})
    for place, preset in (("own", own), ("ours", PRESET), ("again", own)):
        ingest(radiographs, tmp_path / place, preset, 32, num_proc=1)
    given = []
    monkeypatch.setattr(generators, "print_saved", lambda place, record: 0)
    monkeypatch.setattr("synthfair_hf.diffusion.fitting.train_generator", lambda preset, **others: given.append(preset))
    monkeypatch.setattr("synthfair_hf.diffusion.saved.find_generator", lambda place: SimpleNamespace(preset=given[-1]))
    words = ["train", "--output_dir", str(tmp_path / "run"), "--source"]
    assert cli.main([*words, str(tmp_path / "own")]) == 0
    assert f"preset: own, for which {tmp_path / 'own'} was ingested" in capsys.readouterr().out
    assert cli.main([*words, str(tmp_path / "ours")]) == 0
    assert cli.main([*words, str(tmp_path / "own"), str(tmp_path / "again")]) == 0
    assert cli.main([*words, str(radiographs)]) == 0
    assert cli.main([*words, str(tmp_path / "own"), "--preset", "chest_xray"]) == 0
    assert [one.name for one in given] == ["own", "chest_xray", "own", "chest_xray", "chest_xray"]
    assert cli.main([*words, str(tmp_path / "own"), str(tmp_path / "ours")]) == 2
    assert capsys.readouterr().err.endswith("were not all ingested for one; give one that suits all of them.\n")


def test_an_image_column_that_is_not_there_is_told_by_its_own_flag(radiographs: Path, tmp_path: Path, capsys):
    words = ["ingest", "imagefolder", str(radiographs), "--output_dir", str(tmp_path / "out"), "--image_column", "nope"]
    assert cli.main(words) == 2
    assert capsys.readouterr().err.startswith("synthfair: --image_column: ")


def test_a_set_that_its_preset_cannot_be_trained_on_is_told_to_draft_one(tmp_path: Path, capsys):
    """The default preset needs what a foreign table lacks; the verb that is offered instead runs."""
    folder = tmp_path / "retina"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["file_name,patient_id,age,sex,diagnosis"]
    for number in range(30):
        Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,p{number},{40 + number},{'FM'[number % 2]},{('AMD', 'DR')[number % 2]}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    output = tmp_path / "out"
    words = f"ingest imagefolder {folder} --output_dir {output} --resolution 32 --num_proc 1"
    assert cli.main(words.split()) == 0
    told = capsys.readouterr().out
    assert "preset chest_xray, the default: needs finding, view as well" in told
    assert "synthfair train" not in told
    offered = told.splitlines()[-1].partition("synthfair ")[2].replace("out.yaml", str(tmp_path / "out.yaml"))
    assert cli.main(offered.split()) == 0
    assert (tmp_path / "out.yaml").exists()
