"""The Hub on localhost, asked by the real client: what goes in comes out, and every declared fault is felt."""

from pathlib import Path

import pytest
from httpx2 import ReadTimeout, TransportError
from hub import Fault, Hub
from hub.clients import environment
from huggingface_hub import HfApi, HfFileSystem, get_session, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

pytest_plugins = ["hub.fixtures"]

NAME = "org/radiographs"
FILES = {
    "README.md": b"# Radiographs\n",
    "data/a.parquet": bytes(range(256)) * 40,
    "data/b.parquet": b"\0" + b"b" * 999,
    "records/plan.json": b'{"seed": 0}\n',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, data in FILES.items():
        (tmp_path / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / path).write_bytes(data)
    return tmp_path / "folder"


@pytest.fixture
def api(hub: Hub) -> HfApi:
    api = HfApi()
    api.create_repo(NAME, repo_type="dataset")
    return api


def upload(api: HfApi, folder: Path) -> str:
    return api.upload_folder(repo_id=NAME, repo_type="dataset", folder_path=folder).oid


def test_a_folder_comes_back_byte_for_byte(hub: Hub, api: HfApi, folder: Path, tmp_path: Path):
    commit = upload(api, folder)
    assert {".gitattributes", *FILES} == set(api.list_repo_files(NAME, repo_type="dataset"))
    back = Path(snapshot_download(NAME, repo_type="dataset", local_dir=tmp_path / "back"))
    assert {path: (back / path).read_bytes() for path in FILES} == FILES
    assert api.dataset_info(NAME).sha == commit
    assert len(hub.seen("PUT", "/lfs/")) == 2, "the parquet files, and they alone, are large"


def test_nothing_is_sent_twice(hub: Hub, api: HfApi, folder: Path):
    first = upload(api, folder)
    assert upload(api, folder) == first
    assert len(hub.seen("PUT", "/lfs/")) == 2
    assert len(hub.seen("POST", "/commit/")) == 1


def test_the_log_has_every_request_with_its_bytes(hub: Hub, api: HfApi, folder: Path):
    upload(api, folder)
    assert sorted(one.received for one in hub.requests if one.method == "PUT") == sorted(
        len(FILES[path]) for path in ("data/a.parquet", "data/b.parquet")
    )
    hf_hub_download(NAME, "data/b.parquet", repo_type="dataset")
    downloads = [one for one in hub.requests if one.method == "GET" and one.path.endswith("b.parquet")]
    assert [(one.status, one.sent) for one in downloads] == [(200, len(FILES["data/b.parquet"]))]


def test_a_range_is_read_alone(hub: Hub, api: HfApi, folder: Path):
    upload(api, folder)
    data, url = FILES["data/a.parquet"], hf_hub_url(NAME, "data/a.parquet", repo_type="dataset")
    assert HfFileSystem().cat_file(f"datasets/{NAME}/data/a.parquet", start=300, end=310) == data[300:310]
    for wanted, expected in (("300-309", data[300:310]), ("10000-", data[10000:]), ("10200-99999", data[10200:])):
        answer = get_session().get(url, headers={"Range": f"bytes={wanted}"})
        assert (answer.status_code, answer.content) == (206, expected)
    assert get_session().get(url, headers={"Range": "bytes=10240-"}).status_code == 416


def test_lists_are_read_page_by_page(monkeypatch: pytest.MonkeyPatch, folder: Path, api: HfApi, hub: Hub):
    upload(api, folder)
    whole = [one.path for one in api.list_repo_tree(NAME, repo_type="dataset", recursive=True)]
    monkeypatch.setattr(hub.state, "page", 2)
    assert [one.path for one in api.list_repo_tree(NAME, repo_type="dataset", recursive=True)] == whole
    assert sorted(whole) == sorted([".gitattributes", "data", "records", *FILES])
    assert {one.path for one in api.list_repo_tree(NAME, "data", repo_type="dataset")} == {
        "data/a.parquet",
        "data/b.parquet",
    }
    infos = api.get_paths_info(NAME, ["README.md", "data", "none"], repo_type="dataset", expand=True)
    assert {one.path for one in infos} == {"README.md", "data"}


def test_tags_and_branches_name_commits(hub: Hub, api: HfApi, folder: Path):
    first = upload(api, folder)
    api.create_tag(NAME, tag="v1", repo_type="dataset")
    api.create_branch(NAME, branch="draft", repo_type="dataset")
    (folder / "README.md").write_bytes(b"# Other radiographs\n")
    second = upload(api, folder)
    references = api.list_repo_refs(NAME, repo_type="dataset")
    assert {one.name: one.target_commit for one in references.tags} == {"v1": first}
    assert {one.name: one.target_commit for one in references.branches} == {"main": second, "draft": first}
    old = hf_hub_download(NAME, "README.md", repo_type="dataset", revision="v1")
    assert Path(old).read_bytes() == FILES["README.md"]
    assert [one.commit_id for one in api.list_repo_commits(NAME, repo_type="dataset")][:2] == [second, first]
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag(NAME, tag="v1", repo_type="dataset")
    api.delete_tag(NAME, tag="v1", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info(NAME, revision="v1")


def test_files_and_folders_can_be_deleted(hub: Hub, api: HfApi, folder: Path):
    upload(api, folder)
    api.delete_folder("data", NAME, repo_type="dataset")
    api.delete_file("README.md", NAME, repo_type="dataset")
    assert set(api.list_repo_files(NAME, repo_type="dataset")) == {".gitattributes", "records/plan.json"}
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(NAME, "README.md", repo_type="dataset")


def test_private_repositories_are_not_there_for_strangers(hub: Hub, api: HfApi, folder: Path):
    upload(api, folder)
    assert HfApi(token=False).dataset_info(NAME).private is False
    api.update_repo_settings(NAME, repo_type="dataset", private=True, gated="manual")
    information = api.dataset_info(NAME)
    assert (information.private, information.gated) == (True, "manual")
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=False).dataset_info(NAME)
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(token=False).create_repo("org/other")
    assert api.whoami()["name"] == "tester"
    api.delete_repo(NAME, repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info(NAME)


def test_a_stale_parent_is_refused(hub: Hub, api: HfApi, folder: Path):
    first = upload(api, folder)
    api.delete_file("README.md", NAME, repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="412"):
        api.delete_file("data/a.parquet", NAME, repo_type="dataset", parent_commit=first)


@pytest.mark.parametrize("status", [401, 403, 404, 409, 412, 500, 503])
def test_a_status_is_seen_once_and_with_its_message(hub: Hub, api: HfApi, status: int):
    hub.faults.append(Fault("GET", f"/api/datasets/{NAME}$", status, message="out of radiographs"))
    with pytest.raises(HfHubHTTPError, match="out of radiographs") as raised:
        api.dataset_info(NAME)
    assert raised.value.response.status_code == status
    assert api.dataset_info(NAME).id == NAME


@pytest.mark.parametrize(("status", "retry_after", "wait"), [(429, 7, 8), (503, 3, 4), (500, None, 1)])
def test_the_client_is_told_how_long_to_wait(
    hub: Hub, api: HfApi, folder: Path, status: int, retry_after: int | None, wait: float
):
    hub.faults.append(Fault("PUT", "/lfs/", status, retry_after=retry_after))
    upload(api, folder)
    assert hub.waits == [wait]
    assert len(hub.seen("PUT", "/lfs/", status)) == 1
    assert len(hub.seen("PUT", "/lfs/")) == 2


@pytest.mark.parametrize("kind", ["reset", "cut"])
def test_a_broken_connection_is_felt_and_healed(hub: Hub, api: HfApi, folder: Path, kind: str):
    sizes = sorted(len(data) for path, data in FILES.items() if path.endswith(".parquet"))
    hub.faults.append(Fault("PUT", "/lfs/", kind, skip=1))
    upload(api, folder)
    assert hub.waits == [1]
    puts = [one for one in hub.requests if one.method == "PUT"]
    assert sorted(one.received for one in puts if one.status == 200) == sizes
    (broken,) = (one.received for one in puts if one.status == 0)
    assert broken in ([0] if kind == "reset" else [size // 2 for size in sizes])
    hub.faults.append(Fault("POST", "/commit/", kind))
    with pytest.raises(TransportError):
        api.delete_file("README.md", NAME, repo_type="dataset")


def test_a_silent_hub_is_left(hub: Hub, api: HfApi):
    hub.faults.append(Fault("GET", f"/api/datasets/{NAME}$", "timeout"))
    with pytest.raises(ReadTimeout):
        api.dataset_info(NAME, timeout=0.1)
    assert api.dataset_info(NAME, timeout=10).id == NAME


def test_a_fault_strikes_as_often_as_declared():
    fault = Fault("GET", "/tree/", 500, times=2, skip=1)
    asked = ["/tree/main", "/refs", "/tree/main", "/tree/v1", "/tree/main"]
    assert [fault.strikes("GET", path) for path in asked] == [False, False, True, True, False]
    assert not Fault("GET", "", 500).strikes("POST", "/")
    with pytest.raises(ValueError, match="418"):
        Fault("GET", "", 418)


def test_the_hubs_own_errors_are_not_lost(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hub.server.answer", lambda *_: {}["organization"])
    with pytest.raises(KeyError, match="organization"), Hub() as hub:
        get_session().get(hub.url)


def test_a_subprocess_is_pointed_at_the_hub_by_its_environment(hub: Hub, tmp_path: Path):
    variables = environment(hub, tmp_path)
    assert variables["HF_ENDPOINT"] == hub.url
    assert variables["HF_HOME"] == str(tmp_path)
