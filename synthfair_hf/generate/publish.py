"""A verified data set becomes one tagged release of a data set repository on the Hub.

    commit 1     records/plan.json, and records/permission.json where there is one; less what another release left
    commit 2..   data/, under the names they have here
    last commit  the other records and README.md
    tag          store-<identity of the stored bytes>, unless another name is given

Whatever is on the Hub already with the same bytes is not sent again, so the same call continues an interrupted push,
and after a whole one does nothing. README.md, which names the data, is there only once they are.
"""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils.sha import git_hash

from ..errors import InputError
from ..records import Record, file_sha256
from .plan import GenerationPlan
from .repository import Repository
from .store import PLAN, RUN, Store, read_plan
from .verification import verify

__all__ = ["Publication", "publish"]

CARD, PERMISSION = "README.md", "records/permission.json"

REASON = 20
"""Characters of the shortest reason that can be one."""


@dataclass(frozen=True)
class Publication:
    """A release on the Hub: its address, commit and tag, and how many of its files were sent or there already."""

    url: str
    commit: str
    tag: str
    uploaded: int
    already_there: int


def publish(
    directory: Path | str,
    hub_dataset_id: str,
    *,
    private: bool = False,
    tag: str | None = None,
    permission: str | None = None,
    token: str | None = None,
    deadline: float = 300.0,
) -> Publication:
    """Push a generated data set to `hub_dataset_id`, "<owner>/<name>", and tag it.

    A data set whose access is not open goes only into a `private` repository, whose readers are approved by hand, or
    where `permission` says in writing why it may be seen; that is recorded beside the data and in every commit. `token`
    is by default the one that is logged in. Failures that may pass are tried again until `deadline` seconds after the
    first in a row. Raises InputError, one sentence: before anything is sent for a data set that `verify` finds wrong,
    for what may not be published, and for a tag that names other files; and for whatever the Hub refuses.
    """
    directory = Path(directory)
    _check_name("hub_dataset_id", hub_dataset_id, "<owner>/<name>, such as my-lab/synthfair")
    if tag is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", tag):
        raise InputError(f"tag: {tag!r} is not allowed; give letters, digits, dots and dashes, such as v1.0.")
    plan = read_plan(directory)
    _check_permission(plan, private, permission)
    token = _token(token)
    if problems := verify(directory):
        raise InputError(f"{directory}: {problems[0]}")
    store = Record.read(directory / RUN).counts["store"]
    tag = tag or f"store-{store}"
    note = "" if permission is None else f"Permission: {_one_line(permission)}"
    if permission is not None:
        _permission_record(plan, store, hub_dataset_id, permission).write(directory / PERMISSION)
    release = _Release(directory, plan, with_permission=permission is not None)
    repository = Repository(hub_dataset_id, token, deadline)

    url = str(repository.ask(repository.api.create_repo, private=private, exist_ok=True))
    if private:
        _keep_private(repository, gated=plan.access != "open")
    commit = repository.commit_of(tag)
    if commit is not None:
        different = release.missing(release.files, repository.files(commit))
        if different:
            raise InputError(
                f"tag: {tag!r} is on the Hub already, for another {different[0]}; give another tag for these files."
            )
        return Publication(url, commit, tag, 0, len(release.files))
    missing, commit = _upload(repository, release, f"Data set {store}", note)
    repository.ask(repository.api.create_tag, tag=tag, revision=commit, exist_ok=True)
    if repository.commit_of(tag) != commit:
        raise InputError(f"tag: {tag!r} was given to another commit meanwhile; give another tag for these files.")
    return Publication(url, commit, tag, missing, len(release.files) - missing)


def _check_name(argument: str, name: str, form: str) -> None:
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise InputError(f"{argument}: {name!r} is not allowed; give {form}.") from None
    if "/" not in name:
        raise InputError(f"{argument}: {name!r} has no owner; give {form}.")


def _check_permission(plan: GenerationPlan, private: bool, permission: str | None) -> None:
    if permission is not None and len(_one_line(permission)) < REASON:
        raise InputError(
            f"permission: {permission!r} is no reason; say in {REASON} characters or more who permits it and where."
        )
    if plan.access != "open" and not private and permission is None:
        raise InputError(
            f"access: what this data set was made from is {plan.access}, not open; push it to a private repository, or "
            f"give the permission under which it may be public, in {REASON} characters or more."
        )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _token(token: str | None) -> str:
    """The token given or logged in; one that could not be a header is refused here, since httpx would quote it."""
    token = (token or get_token() or "").strip()
    if not token:
        raise InputError("token: none is given or logged in; log in with `hf auth login`, or set HF_TOKEN.")
    if not re.fullmatch(r"[!-~]+", token):
        raise InputError("token: holds characters that no token has; copy it again from the Hub's settings.")
    return token


def _permission_record(plan: GenerationPlan, store: str, hub_dataset_id: str, permission: str) -> Record:
    return Record(
        stage="permission",
        inputs={"plan": plan.fingerprint, "store": store},
        settings={
            "hub_dataset_id": hub_dataset_id,
            "source": plan.source,
            "access": plan.access,
            "permission": _one_line(permission),
        },
    )


class _Release:
    """The files of a data set that are published, in `stages`: names relative to `directory`."""

    def __init__(self, directory: Path, plan: GenerationPlan, with_permission: bool) -> None:
        store, shards = Store(directory, plan), plan.shards()
        records = {shard.stem: store.record_path(shard) for shard in shards}
        self.directory = directory
        self.sha256 = {
            name: file["sha256"]
            for path in records.values()
            for name, file in Record.read(path).counts["files"].items()
        }
        self.stages = [
            [PLAN, *([PERMISSION] if with_permission else [])],
            [name for shard in shards for name in shard.files],
            [*(path.relative_to(directory).as_posix() for path in records.values()), RUN, CARD],
        ]

    @property
    def files(self) -> list[str]:
        return [name for stage in self.stages for name in stage]

    def missing(self, names: Sequence[str], there: dict[str, RepoFile]) -> list[str]:
        """Those of the names that are not `there` with the same bytes."""
        return [name for name in names if name not in there or not self._is_same(name, there[name])]

    def _is_same(self, name: str, file: RepoFile) -> bool:
        path = self.directory / name
        if file.lfs is None:
            return file.blob_id == git_hash(path.read_bytes())
        return file.lfs.sha256 == (self.sha256.get(name) or file_sha256(path))

    def stale(self, there: dict[str, RepoFile]) -> list[str]:
        """What another release left there, which a reader would take for a part of this one."""
        own = re.compile(r"data/.*\.parquet|records/[^/]*\.json")
        return sorted(name for name in there if own.fullmatch(name) and name not in self.files)


def _keep_private(repository: Repository, gated: bool) -> None:
    """Make sure that nobody can look, and with `gated` that nobody gets in unapproved, before there is what to see."""
    found = repository.info()
    if not found.private:
        raise InputError(
            f"{repository.name}: is public on the Hub already; make it private in its settings, or give another "
            "hub_dataset_id."
        )
    if gated and found.gated != "manual":
        repository.ask(repository.api.update_repo_settings, private=True, gated="manual")


def _upload(repository: Repository, release: _Release, message: str, note: str) -> tuple[int, str]:
    """Send what is missing, stage by stage; the number of files sent, and the commit that holds all."""
    there = repository.files("main")
    if PLAN not in there and any(name.startswith("data/") for name in there):
        raise InputError(
            f"{repository.name}: holds a data set that this package did not put there; give another hub_dataset_id."
        )
    deleted = release.stale(there)
    if release.missing(release.stages[1], there):
        # until the data are whole, nothing may say that they are
        deleted += [name for name in (RUN, CARD) if there.pop(name, None)]
    sent = 0
    for stage in release.stages:
        missing = release.missing(stage, there)
        if missing or deleted:
            repository.ask(
                repository.api.upload_folder,
                folder_path=release.directory,
                allow_patterns=[glob.escape(name) for name in missing],
                delete_patterns=[glob.escape(name) for name in deleted],
                commit_message=message,
                commit_description=note,
            )
        sent, deleted = sent + len(missing), []
    commit = repository.commit_of("main")
    assert commit is not None
    return sent, commit
