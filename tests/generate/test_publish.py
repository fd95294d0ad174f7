"""Publishing to a Hub on localhost: what arrives, in which order, and what happens when something goes wrong."""

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from datasets import load_dataset
from hub import Fault, Hub
from hub.clients import TOKEN

from synthfair_hf.errors import InputError
from synthfair_hf.generate.documents import write_card
from synthfair_hf.generate.publish import publish
from synthfair_hf.publish.hub import repository as module
from synthfair_hf.records import Record
from synthfair_hf.views.manifest import sealed

pytest_plugins = ["hub.fixtures"]

NAME = "my-lab/radiographs"
REASON = "Data use agreement 12 of the hospital's board, 3 May."


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def monotonic(self) -> float:
        return sum(self.waits)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=clock.sleep, monotonic=clock.monotonic))
    return clock


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, write_store: Callable[..., Path]) -> dict[str, Path]:
    """Data sets by access, and an open one with other rows and other names of files; for reading only."""
    root = tmp_path_factory.mktemp("stores")
    written = {
        access: write_store(root / access, 2, factors=("sex",), access=access)
        for access in ("open", "credentialed", "unknown")
    }
    return written | {"other": write_store(root / "other", 3, factors=("sex",), access="open", partitioned_from=3)}


@pytest.fixture
def directory(stores: dict[str, Path], tmp_path: Path) -> Path:
    """An open data set that a test may change."""
    return copy(stores["open"], tmp_path)


def copy(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "synthfair"))


def local(directory: Path) -> dict[str, bytes]:
    """The files of a data set that belong on the Hub."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.suffix in (".parquet", ".json", ".md", ".svg")
    }


def remote(hub: Hub, revision: str = "main") -> dict[str, bytes]:
    files = hub.repository(NAME).files(revision)
    return {path: file.data for path, file in files.items() if path != ".gitattributes"}


def shards(directory: Path) -> list[str]:
    return [path for path in local(directory) if path.endswith(".parquet")]


def store_of(directory: Path) -> str:
    return Record.read(directory / "records/generate.json").counts["store"]


def check_history(hub: Hub, *directories: Path) -> None:
    """No commit had a card or a run's record without exactly the data it is about."""
    whole = {store_of(directory): local(directory) for directory in directories}
    for _, commit in hub.repository(NAME).history():
        data = {path: file.data for path, file in commit.files.items() if path.startswith("data/")}
        for path in ("README.md", "records/generate.json"):
            if path in commit.files:
                (store,) = (name for name in whole if name.encode() in commit.files[path].data)
                assert data == {path: one for path, one in whole[store].items() if path.startswith("data/")}


def test_a_release_is_the_data_set_and_its_tag(hub: Hub, directory: Path):
    release = publish(directory, NAME)
    assert remote(hub) == local(directory)
    assert release.tag == f"store-{store_of(directory)}"
    assert hub.repository(NAME).tags == {release.tag: release.commit}
    assert release.commit == hub.repository(NAME).find("main")
    assert (release.uploaded, release.already_there) == (len(local(directory)), 0)
    assert release.url == f"{hub.url}/datasets/{NAME}"
    assert hub.repository(NAME).private is False
    check_history(hub, directory)


def test_the_same_call_again_sends_nothing(hub: Hub, directory: Path):
    first = publish(directory, NAME)
    before = len(hub.requests)
    again = publish(directory, NAME)
    assert (again.commit, again.tag, again.url) == (first.commit, first.tag, first.url)
    assert (again.uploaded, again.already_there) == (0, len(local(directory)))
    assert {one.method for one in hub.requests[before:]} <= {"GET", "POST"}
    assert [one.path for one in hub.requests[before:] if one.method == "POST"] == ["/api/repos/create"]


def test_a_second_name_for_the_same_files_is_a_second_tag(hub: Hub, directory: Path):
    first = publish(directory, NAME)
    second = publish(directory, NAME, tag="v1.0")
    assert hub.repository(NAME).tags == {first.tag: first.commit, "v1.0": first.commit}
    assert (second.uploaded, second.already_there) == (0, len(local(directory)))


def test_nothing_but_the_data_set_is_sent(hub: Hub, directory: Path):
    expected = local(directory)
    for stray in ("notes.txt", ".lock", ".env", "records/notes.json", "records/permission.json", "other/README.md"):
        (directory / stray).parent.mkdir(exist_ok=True)
        (directory / stray).write_text("{}")
    publish(directory, NAME)
    assert remote(hub) == expected


@pytest.mark.parametrize("kind", ["reset", "cut", 503])
def test_an_interrupted_push_goes_on_where_it_was(hub: Hub, directory: Path, kind: Any):
    hub.faults.append(Fault("PUT", "/lfs/", kind, skip=2, times=1000))
    with pytest.raises(
        InputError, match=rf"^{NAME}: .* what was uploaded stays, so run the same command again later\.$"
    ):
        publish(directory, NAME, deadline=0)
    assert "README.md" not in remote(hub)
    assert len(hub.seen("PUT", "/lfs/")) == 2
    hub.faults.clear()
    publish(directory, NAME)
    assert remote(hub) == local(directory)
    assert len(hub.seen("PUT", "/lfs/")) == len(set(hub.seen("PUT", "/lfs/"))) == len(shards(directory))
    check_history(hub, directory)


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_a_push_that_ends_between_its_commits_goes_on(hub: Hub, directory: Path, skip: int):
    hub.faults.append(Fault("POST", "/commit/", "cut", skip=skip))
    with pytest.raises(InputError, match="run the same command again"):
        publish(directory, NAME, deadline=0)
    assert "README.md" not in remote(hub)
    release = publish(directory, NAME)
    assert remote(hub) == local(directory)
    assert release.already_there == (0, 1, 1 + len(shards(directory)))[skip]
    assert len(hub.seen("PUT", "/lfs/")) == len(shards(directory))


def test_a_lost_answer_to_the_tag_is_no_conflict(hub: Hub, directory: Path):
    hub.faults.append(Fault("POST", "/tag/", 500))
    release = publish(directory, NAME)
    assert hub.repository(NAME).tags == {release.tag: release.commit}


def test_trouble_that_passes_is_waited_out(hub: Hub, directory: Path, clock: Clock):
    for status, wait in ((429, 7), (503, None), (500, None), (503, 2)):
        hub.faults.append(Fault("POST", "/api/repos/create", status, retry_after=wait))
    publish(directory, NAME)
    # 1 s, 2 s, 4 s, 8 s, or what the Hub asks for where that is more
    assert clock.waits == [7, 2, 4, 8]
    assert remote(hub) == local(directory)


def test_patience_ends_at_the_deadline(hub: Hub, directory: Path, clock: Clock):
    hub.faults.append(Fault("POST", "/api/repos/create", 503, times=1000))
    with pytest.raises(InputError, match=rf"^{NAME}: .* 100 s .*\(status 503\).* run the same command again"):
        publish(directory, NAME, deadline=100)
    assert clock.waits == [1, 2, 4, 8, 16, 30, 30]
    hub.faults[0] = Fault("POST", "/api/repos/create", 429, times=1000, retry_after=3600)
    with pytest.raises(InputError, match="status 429"):
        publish(directory, NAME, deadline=100)
    assert len(clock.waits) == 7, "an hour is not waited for"


def test_a_silent_hub_is_left_and_asked_again(hub: Hub, directory: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SILENCE", 0.3)
    hub.faults.append(Fault("POST", "/api/repos/create", "timeout"))
    hub.faults.append(Fault("GET", f"/api/datasets/{NAME}/revision/", "timeout"))
    publish(directory, NAME)
    assert clock.waits == [1, 1]
    assert remote(hub) == local(directory)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "log in with `hf auth login`"),
        (403, "another hub_dataset_id"),
        (404, "check the name"),
        (412, "run the same command again"),
        (402, "out of storage"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/api/repos/create"), ("POST", "/preupload/"), ("PUT", "/lfs/")])
def test_a_refusal_is_one_sentence_and_not_repeated(
    hub: Hub, directory: Path, clock: Clock, method: str, path: str, status: int, remedy: str
):
    hub.faults.append(Fault(method, path, status, times=1000, message="out of storage"))
    with pytest.raises(InputError, match=rf"^{NAME}: [^\n]*{status}[^\n]*{remedy}[^\n]*\.$"):
        publish(directory, NAME)
    assert clock.waits == []
    assert hub.faults[0].struck <= len(shards(directory))


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, TypeError])
def test_an_interruption_or_a_mistake_of_ours_is_not_repeated(clock: Clock, raised: type[BaseException]):
    def call(**where: Any) -> None:
        raise raised

    with pytest.raises(raised):
        module.Repository("dataset", NAME, TOKEN, 300).call(call)
    assert clock.waits == []


def test_the_token_is_nowhere(
    hub: Hub,
    stores: dict[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    directory = copy(stores["unknown"], tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_DEBUG", True)
    library = logging.getLogger("huggingface_hub")
    monkeypatch.setattr(library, "propagate", True)
    messages = []
    hub.faults.append(Fault("POST", "/api/repos/create", 503))
    hub.faults.append(Fault("PUT", "/lfs/", 402, times=1000, message="not paid"))
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "huggingface_hub"):
        for token in (None, TOKEN, f"{TOKEN}\n", f"{TOKEN}\nX-Evil: 1", f"{TOKEN}\N{EM DASH}"):
            with pytest.raises(InputError) as raised:
                publish(directory, NAME, token=token, permission=REASON)
            messages.append(str(raised.value))
        assert "not paid" in messages[0]
        assert "token: holds characters" in messages[-1]
        hub.faults.clear()
        publish(directory, NAME, permission=REASON)
    assert "/commit/main" in caplog.text, "the log is that of the pushes"
    out, err = capfd.readouterr()
    assert TOKEN not in "\n".join([*messages, caplog.text, out, err])
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= len(local(directory))
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
    for identity, commit in hub.repository(NAME).history():
        assert TOKEN not in f"{identity} {commit.title} {commit.description}"
        assert not [path for path, file in commit.files.items() if TOKEN.encode() in file.data]


def test_a_hub_that_repeats_the_token_is_not_quoted(hub: Hub, directory: Path):
    hub.faults.append(Fault("POST", "/preupload/", 402, message=f"the owner of {TOKEN} has not paid"))
    with pytest.raises(InputError, match=r"\(402: the owner of \*\*\* has not paid\)"):
        publish(directory, NAME)


def test_a_token_is_needed(hub: Hub, directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match="token: none is given or logged in; log in with"):
        publish(directory, NAME)
    assert publish(directory, NAME, token=TOKEN).uploaded


@pytest.mark.parametrize("access", ["credentialed", "unknown"])
def test_what_is_not_open_is_not_published_openly(hub: Hub, stores: dict[str, Path], access: str):
    with pytest.raises(InputError, match=f"access: .* is {access}, not open; push it to a private repository"):
        publish(stores[access], NAME)
    for permission in ("", "yes", " " * 40 + "because" + " " * 40):
        with pytest.raises(InputError, match=r"permission: .* say in 20 characters or more"):
            publish(stores[access], NAME, permission=permission)
    assert hub.requests == []


def test_restricted_data_are_private_and_gated_before_they_are_sent(hub: Hub, stores: dict[str, Path], tmp_path: Path):
    directory = copy(stores["credentialed"], tmp_path)
    publish(directory, NAME, private=True)
    repository = hub.repository(NAME)
    assert (repository.private, repository.gated) == (True, "manual")
    assert remote(hub) == local(directory)
    order = [one.path for one in hub.requests if one.method in ("PUT", "POST") and one.status == 200]
    settings = order.index(f"/api/datasets/{NAME}/settings")
    assert all(settings < place for place, path in enumerate(order) if re.search("/lfs/|/preupload/|/commit/", path))
    before = len(hub.requests)
    publish(directory, NAME, private=True)
    assert not [one for one in hub.requests[before:] if one.method == "PUT"]


def test_restricted_data_wait_until_the_gate_is_closed(hub: Hub, stores: dict[str, Path]):
    hub.faults.append(Fault("PUT", "/settings", 403))
    with pytest.raises(InputError, match="403"):
        publish(stores["credentialed"], NAME, private=True)
    assert remote(hub) == {}
    assert hub.state.objects == {}


def test_an_open_data_set_may_be_private_without_a_gate(hub: Hub, directory: Path):
    publish(directory, NAME, private=True)
    assert (hub.repository(NAME).private, hub.repository(NAME).gated) == (True, False)


@pytest.mark.parametrize("access", ["open", "credentialed"])
def test_a_private_push_does_not_land_in_a_public_place(hub: Hub, stores: dict[str, Path], access: str):
    publish(stores["other"], NAME)
    before = remote(hub)
    with pytest.raises(InputError, match=f"^{NAME}: is public on the Hub already; make it private"):
        publish(stores[access], NAME, private=True)
    assert remote(hub) == before
    assert not hub.repository(NAME).gated


def test_a_permission_is_on_record(hub: Hub, stores: dict[str, Path], tmp_path: Path):
    directory = copy(stores["credentialed"], tmp_path)
    release = publish(directory, NAME, permission=f"  {REASON}\n")
    assert hub.repository(NAME).private is False
    record = Record.model_validate_json(remote(hub)["records/permission.json"])
    assert record.settings == {
        "hub_dataset_id": NAME,
        "source": "scm",
        "access": "credentialed",
        "permission": REASON,
    }
    assert record.inputs["store"] == store_of(directory)
    history = hub.repository(NAME).history()
    assert len(history) == 4
    assert all(REASON in commit.description for _, commit in history[:-1])
    assert "records/permission.json" in history[-2][1].files, "it is there before any image"
    assert publish(directory, NAME, permission=REASON).commit == release.commit


def test_a_tag_is_never_moved(hub: Hub, directory: Path, stores: dict[str, Path]):
    first = publish(directory, NAME, tag="v1")
    before = len(hub.requests)
    with pytest.raises(InputError, match=r"tag: 'v1' is on the Hub already, for another records/plan\.json; give"):
        publish(stores["other"], NAME, tag="v1")
    write_card(directory, license="mit")
    with pytest.raises(InputError, match=r"tag: 'v1' .* for another croissant.json"):
        publish(directory, NAME, tag="v1")
    assert hub.repository(NAME).tags == {"v1": first.commit}
    assert {one.method for one in hub.requests[before:]} == {"GET", "POST"}
    assert not hub.seen("POST", "/commit/")[3:]


def test_documents_edited_by_hand_are_not_published(hub: Hub, directory: Path):
    for name in ("README.md", "croissant.json"):
        path, run = directory / name, (directory / "records" / "generate.json").read_bytes()
        edited = path.read_bytes().replace(b"triage", b"anything")
        path.write_bytes(sealed(edited, run) if name == "README.md" else edited)
        with pytest.raises(InputError, match=rf"{name}: .*write it again by `synthfair card"):
            publish(directory, NAME)
        assert not hub.requests
        write_card(directory)


def test_another_release_replaces_the_one_before(hub: Hub, directory: Path, stores: dict[str, Path]):
    first = publish(directory, NAME)
    hub.repository(NAME).commit("main", {"figure.png": next(iter(hub.repository(NAME).files().values()))})
    hub.faults.append(Fault("PUT", "/lfs/", 503, skip=1, times=1000))
    with pytest.raises(InputError, match="run the same command again"):
        publish(stores["other"], NAME, deadline=0)
    assert not {"README.md", "records/generate.json"} & set(remote(hub))
    hub.faults.clear()
    second = publish(stores["other"], NAME)
    files = remote(hub)
    assert files.pop("figure.png"), "what others put there stays"
    assert files == local(stores["other"])
    assert remote(hub, first.tag) == local(directory)
    assert {first.tag, second.tag} == set(hub.repository(NAME).tags)
    check_history(hub, directory, stores["other"])


def test_somebody_elses_data_set_is_left_alone(hub: Hub, directory: Path, stores: dict[str, Path]):
    publish(stores["other"], NAME)
    hub.repository(NAME).commit("main", {}, deleted=("records/",))
    before = remote(hub)
    with pytest.raises(InputError, match="that this package did not put there; give another hub_dataset_id"):
        publish(directory, NAME)
    assert remote(hub) == before


@pytest.mark.parametrize(
    "name",
    [
        "radiographs",
        "my-lab/radiographs/more",
        "my lab/radiographs",
        "my-lab/",
        "datasets/my-lab/radiographs",
        "a/b--c",
    ],
)
def test_a_name_must_be_one_the_hub_takes(hub: Hub, directory: Path, name: str):
    with pytest.raises(InputError, match=r"hub_dataset_id: .* give <owner>/<name>"):
        publish(directory, name)
    assert hub.requests == []


def test_a_damaged_data_set_is_not_sent(hub: Hub, directory: Path):
    with pytest.raises(InputError, match="tag: 'a b' is not allowed"):
        publish(directory, NAME, tag="a b")
    path = directory / shards(directory)[0]
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=re.escape(shards(directory)[0])):
        publish(directory, NAME)
    shutil.rmtree(directory / "records")
    with pytest.raises(InputError, match="holds no generated data set"):
        publish(directory, NAME)
    assert hub.requests == []


def test_views_load_from_the_hub_as_from_the_directory(hub: Hub, tmp_path: Path, write_store: Callable[..., Path]):
    directory = write_store(tmp_path / "synthfair", 10, factors=("sex",), access="open", partitioned_from=10)
    publish(directory, NAME)
    cached: set[str] = set()
    for view, split in (("sex_imbalanced_90_10", "train"), ("full", "test")):
        before = len(hub.requests)
        expected = list(load_dataset(str(directory), view, split=split))
        assert len(hub.requests) == before
        for streaming in (True, False):
            before = len(hub.requests)
            rows = list(load_dataset(NAME, view, split=split, streaming=streaming))
            assert [{**row, "image": row["image"].tobytes()} for row in rows] == [
                {**row, "image": row["image"].tobytes()} for row in expected
            ]
            read = {
                unquote(one.path).partition("/resolve/")[2].partition("/")[2]
                for one in hub.requests[before:]
                if one.method == "GET" and one.path.endswith(".parquet")
            }
            own = listed(directory, view)
            if streaming:
                # of another split at most the first file's schema, which tells the features
                asked = {path for path in own if path.startswith(f"data/{split}")}
                assert asked <= read <= own
                assert len(read - asked) <= 1
            else:
                assert read == own - cached
                cached |= read
    assert listed(directory, "sex_imbalanced_90_10") < cached, "the view leaves whole files out"
    assert cached == set(shards(directory))


def listed(directory: Path, view: str) -> set[str]:
    """The files that the card names for a view."""
    card = yaml.safe_load((directory / "README.md").read_text().split("---\n")[1])
    (config,) = (one for one in card["configs"] if one["config_name"] == view)
    paths = [group["path"] for group in config["data_files"]]
    patterns = [pattern for path in paths for pattern in ([path] if isinstance(path, str) else path)]
    return {path.relative_to(directory).as_posix() for pattern in patterns for path in directory.glob(pattern)}
