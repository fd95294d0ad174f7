"""The Hub's endpoints: a table of method, path and the function that answers, over repositories in memory.

Each function takes the state, the request and the path's named groups, and returns an Answer or raises Refusal.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from .repositories import File, Repository

__all__ = ["Answer", "Refusal", "Request", "State", "answer"]

LARGE = 10 * 2**20
"""Files of this size, and all binary ones, are stored as large files."""

BINARY = (".parquet", ".safetensors", ".png")
WHEN = "2026-01-01T00:00:00.000Z"
CHALLENGED = 401
ABSENT = 404


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def authorized(self) -> bool:
        """Any token is good; tests that need another answer declare a fault."""
        return self.headers.get("Authorization", "").startswith("Bearer ")


@dataclass(frozen=True)
class Answer:
    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    type: str = "application/json"


class Refusal(Exception):
    """A status with the codes by which the client tells its reason."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = Answer(
            json.dumps({"error": message}).encode(),
            status,
            {"X-Error-Code": code, "X-Error-Message": message, **headers},
        )


@dataclass
class State:
    """Everything the Hub remembers. `objects` are the large files by sha256; lists come in pages of `page` items."""

    url: str
    page: int = 1000
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)

    def repository(self, request: Request, kind: str | None, name: str) -> Repository:
        """An unknown repository, and a private one to a stranger, look the same."""
        found = self.repositories.get((kind or "models", name))
        if found is None or (found.private and not request.authorized):
            raise Refusal(ABSENT if request.authorized else CHALLENGED, "RepoNotFound", "Repository not found")
        if request.method in ("PUT", "DELETE") and not request.authorized:
            raise Refusal(CHALLENGED, "", "Unauthorized")
        return found


def answer(state: State, request: Request) -> Answer:
    """The answer of the first endpoint whose method and path fit."""
    path = urlsplit(request.path).path
    for methods, pattern, function in ENDPOINTS:
        match = re.fullmatch(pattern, path)
        if match and request.method in methods.split():
            groups = {name: unquote(value) if value else value for name, value in match.groupdict().items()}
            try:
                return function(state, request, **groups)
            except Refusal as refusal:
                return refusal.answer
    return Refusal(ABSENT, "", f"no endpoint {request.method} {path}").answer


def _as_json(value: Any, **headers: str) -> Answer:
    return Answer(json.dumps(value).encode(), headers=headers)


def _authorized(request: Request) -> None:
    if not request.authorized:
        raise Refusal(CHALLENGED, "", "Unauthorized")


def _commit_of(repository: Repository, revision: str) -> str:
    found = repository.find(revision)
    if found is None:
        raise Refusal(ABSENT, "RevisionNotFound", f"Invalid rev id: {revision}")
    return found


def _address(state: State, kind: str, name: str) -> str:
    return f"{state.url}/{name}" if kind == "models" else f"{state.url}/{kind}/{name}"


def whoami(state: State, request: Request) -> Answer:
    _authorized(request)
    token = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
    return _as_json({"type": "user", "name": "tester", "orgs": [], "auth": token})


def create(state: State, request: Request) -> Answer:
    _authorized(request)
    wanted = request.json
    kind, name = f"{wanted.get('type') or 'model'}s", f"{wanted.get('organization') or 'tester'}/{wanted['name']}"
    address = _address(state, kind, name)
    if (kind, name) in state.repositories:
        return Answer(json.dumps({"error": "You already created this repo", "url": address}).encode(), 409)
    private = wanted.get("visibility") == "private"
    state.repositories[kind, name] = Repository(kind, name, private)
    return _as_json({"url": address, "name": name, "id": name})


def delete(state: State, request: Request) -> Answer:
    wanted = request.json
    kind, name = f"{wanted.get('type') or 'model'}s", f"{wanted.get('organization') or 'tester'}/{wanted['name']}"
    state.repository(request, kind, name)
    del state.repositories[kind, name]
    return Answer()


def settings(state: State, request: Request, kind: str, name: str) -> Answer:
    repository, wanted = state.repository(request, kind, name), request.json
    repository.gated = wanted.get("gated", repository.gated)
    repository.private = wanted.get("visibility", "private" if repository.private else "public") == "private"
    return _as_json(wanted)


def validate_yaml(state: State, request: Request) -> Answer:
    return _as_json({"errors": [], "warnings": []})


def information(state: State, request: Request, kind: str, name: str, revision: str | None = None) -> Answer:
    repository = state.repository(request, kind, name)
    commit = _commit_of(repository, revision or "main")
    return _as_json(
        {
            "_id": name,
            "id": name,
            "author": name.split("/")[0],
            "sha": commit,
            "private": repository.private,
            "gated": repository.gated,
            "disabled": False,
            "createdAt": WHEN,
            "lastModified": WHEN,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": path} for path in sorted(repository.files(commit))],
        }
    )


def references(state: State, request: Request, kind: str, name: str) -> Answer:
    repository = state.repository(request, kind, name)
    listed = {
        plural: [
            {"name": one, "ref": f"refs/{folder}/{one}", "targetCommit": commit}
            for one, commit in sorted(names.items())
        ]
        for plural, folder, names in (("branches", "heads", repository.branches), ("tags", "tags", repository.tags))
    }
    return _as_json({**listed, "converts": []})


def commits(state: State, request: Request, kind: str, name: str, revision: str) -> Answer:
    repository = state.repository(request, kind, name)
    history = repository.history(_commit_of(repository, revision))
    return _as_json(
        [
            {
                "id": identity,
                "title": commit.title,
                "message": commit.description,
                "authors": [{"user": "tester"}],
                "date": WHEN,
            }
            for identity, commit in history
        ]
    )


def branch(state: State, request: Request, kind: str, name: str, branch: str) -> Answer:
    repository = state.repository(request, kind, name)
    if request.method == "DELETE":
        repository.branches.pop(branch, None)
        return Answer()
    if branch in repository.branches:
        raise Refusal(409, "", f"Reference already exists: {branch}")
    start = request.json.get("startingPoint", "main") if request.body else "main"
    repository.branches[branch] = _commit_of(repository, start)
    return Answer()


def tag(state: State, request: Request, kind: str, name: str, revision: str) -> Answer:
    repository = state.repository(request, kind, name)
    if request.method == "DELETE":
        repository.tags.pop(revision, None)
        return Answer()
    _authorized(request)
    wanted = request.json["tag"]
    if wanted in repository.tags:
        raise Refusal(409, "", f"Tag reference exists already: {wanted}")
    repository.tags[wanted] = _commit_of(repository, revision)
    return Answer()


def preupload(state: State, request: Request, kind: str, name: str, revision: str) -> Answer:
    _authorized(request)
    repository = state.repository(request, kind, name)
    there = repository.files(_commit_of(repository, revision))
    modes = []
    for one in request.json["files"]:
        path, sample = one["path"], base64.b64decode(one["sample"])
        large = one["size"] >= LARGE or path.endswith(BINARY) or b"\0" in sample
        mode = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        modes.append(mode | ({"oid": there[path].etag} if path in there else {}))
    return _as_json({"files": modes})


def batch(state: State, request: Request, kind: str | None, name: str) -> Answer:
    """Where to send the large files that the Hub does not have."""
    _authorized(request)
    state.repository(request, kind, name)
    objects = []
    for one in request.json["objects"]:
        place = f"{state.url}/lfs/{one['oid']}"
        actions = {"upload": {"href": place, "header": {}}, "verify": {"href": f"{place}/verify"}}
        missing = one["oid"] not in state.objects
        objects.append({"oid": one["oid"], "size": one["size"], **({"actions": actions} if missing else {})})
    return _as_json({"transfer": "basic", "objects": objects})


def put(state: State, request: Request, oid: str) -> Answer:
    """A large file; without a token, like the presigned addresses of the real Hub."""
    if File(request.body, True).sha256 != oid:
        raise Refusal(400, "", "the bytes are not those of the sha256")
    state.objects[oid] = request.body
    return Answer(headers={"ETag": f'"{oid}"'})


def verify(state: State, request: Request, oid: str) -> Answer:
    if len(state.objects.get(oid, b"")) != request.json["size"]:
        raise Refusal(ABSENT, "", "the large file is not there")
    return Answer()


def commit(state: State, request: Request, kind: str, name: str, revision: str) -> Answer:
    _authorized(request)
    repository = state.repository(request, kind, name)
    header: dict[str, Any] = {}
    added: dict[str, File] = {}
    deleted: list[str] = []
    for line in request.body.splitlines():
        key, value = (operation := json.loads(line))["key"], operation["value"]
        if key == "header":
            header = value
        elif key == "file":
            added[value["path"]] = File(base64.b64decode(value["content"]), False)
        elif key == "lfsFile":
            if value["oid"] not in state.objects:
                raise Refusal(400, "", f"LFS pointer pointed to a file that does not exist: {value['path']}")
            added[value["path"]] = File(state.objects[value["oid"]], True)
        elif key == "deletedFile":
            deleted.append(value["path"])
        elif key == "deletedFolder":
            deleted.append(value["path"].rstrip("/") + "/")
    if header.get("parentCommit") not in (None, _commit_of(repository, revision)):
        raise Refusal(412, "", "A commit has happened since. Please refresh and try again.")
    identity = repository.commit(revision, added, tuple(deleted), header["summary"], header["description"])
    address = _address(state, kind, name)
    return _as_json({"success": True, "commitOid": identity, "commitUrl": f"{address}/commit/{identity}"})


def _item(path: str, file: File | None, commit: str, expand: str | None) -> dict[str, Any]:
    """A file, or without one a folder, as lists show it."""
    item: dict[str, Any] = {"type": "file" if file else "directory", "path": path, "size": 0, "oid": "0" * 40}
    if file:
        item |= {"size": len(file.data), "oid": file.blob}
        if file.large:
            item["lfs"] = {"oid": file.sha256, "size": len(file.data), "pointerSize": 134}
    if (expand or "").lower() == "true":
        item["lastCommit"] = {"id": commit, "title": "", "date": WHEN}
    return item


def tree(state: State, request: Request, kind: str, name: str, revision: str, folder: str | None = None) -> Answer:
    repository, query = state.repository(request, kind, name), request.query
    commit = _commit_of(repository, revision)
    above = f"{folder.rstrip('/')}/" if folder else ""
    below = {
        path.removeprefix(above): file for path, file in repository.files(commit).items() if path.startswith(above)
    }
    if above and not below:
        raise Refusal(ABSENT, "EntryNotFound", f"{folder} does not exist on {revision}", X_Repo_Commit=commit)
    deep = query.get("recursive", "").lower() == "true"
    listed: dict[str, File | None] = {}
    for path, file in sorted(below.items()):
        parts = path.split("/")
        for depth in range(1, len(parts) if deep else min(2, len(parts))):
            listed.setdefault("/".join(parts[:depth]))
        if deep or len(parts) == 1:
            listed[path] = file
    items = [_item(above + path, file, commit, query.get("expand")) for path, file in listed.items()]
    start = int(query.get("cursor", "0"))
    end = start + state.page
    here = urlsplit(request.path).path
    following = f'<{state.url}{here}?{urlencode({**query, "cursor": end})}>; rel="next"'
    return _as_json(items[start:end], **({"Link": following} if end < len(items) else {}))


def paths_info(state: State, request: Request, kind: str, name: str, revision: str) -> Answer:
    repository = state.repository(request, kind, name)
    commit = _commit_of(repository, revision)
    files, form = repository.files(commit), parse_qs(request.body.decode())
    items = []
    for path in form.get("paths", []):
        if path in files or any(other.startswith(f"{path.rstrip('/')}/") for other in files):
            items.append(_item(path, files.get(path), commit, form.get("expand", [None])[-1]))
    return _as_json(items)


def resolve(state: State, request: Request, kind: str | None, name: str, revision: str, path: str) -> Answer:
    """A file's bytes, or the range of them that is asked for, with the names clients cache it under."""
    repository = state.repository(request, kind, name)
    if repository.gated and not request.authorized:
        raise Refusal(CHALLENGED, "GatedRepo", "Access to this repository is restricted")
    commit = _commit_of(repository, revision)
    file = repository.files(commit).get(path)
    if file is None:
        raise Refusal(ABSENT, "EntryNotFound", "Entry not found", X_Repo_Commit=commit)
    headers = {"X-Repo-Commit": commit, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
    size, kept = len(file.data), file.data
    status = 200
    if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")):
        start, end = int(wanted[1]), min(int(wanted[2] or size), size - 1)
        if start >= size:
            return Answer(status=416, headers=headers | {"Content-Range": f"bytes */{size}"})
        status, kept = 206, file.data[start : end + 1]
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Answer(kept, status, headers, "application/octet-stream")


NAME = "(?P<name>[^/]+/[^/]+)"
API = f"/api/(?P<kind>models|datasets|spaces)/{NAME}"
WEB = f"/(?:(?P<kind>datasets|spaces)/)?{NAME}"
REVISION = "(?P<revision>[^/]+)"

ENDPOINTS: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/repos/create", create),
    ("DELETE", "/api/repos/delete", delete),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("PUT", f"{API}/settings", settings),
    ("GET", f"{API}(?:/revision/{REVISION})?", information),
    ("GET", f"{API}/refs", references),
    ("GET", f"{API}/commits/{REVISION}", commits),
    ("POST DELETE", f"{API}/branch/(?P<branch>[^/]+)", branch),
    ("POST DELETE", f"{API}/tag/{REVISION}", tag),
    ("POST", f"{API}/preupload/{REVISION}", preupload),
    ("POST", f"{API}/commit/{REVISION}", commit),
    ("POST", f"{API}/paths-info/{REVISION}", paths_info),
    ("GET", f"{API}/tree/{REVISION}(?:/(?P<folder>.+))?", tree),
    ("POST", rf"{WEB}\.git/info/lfs/objects/batch", batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", put),
    ("POST", "/lfs/(?P<oid>[0-9a-f]{64})/verify", verify),
    ("GET HEAD", f"{WEB}/resolve/{REVISION}/(?P<path>.+)", resolve),
]
