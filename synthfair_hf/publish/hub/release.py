"""A release: files that become one tagged state of a repository on the Hub.

    commit k    the files of stage k; with the first, what another release left is deleted
    tag         the identity of the bytes, unless another name is given

Whatever is on the Hub already with the same bytes is not sent again, so the same call continues an interrupted push,
and after a whole one does nothing. The files that mark a release as complete are there only once it is.
"""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils.sha import git_hash

from ...errors import InputError
from ...records import Access, Record, file_sha256
from .repository import ARGUMENTS, WORDS, Kind, Repository

__all__ = ["CARD", "PERMISSION", "Publication", "Release", "Target"]

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


class Target:
    """Where a release is to go and under which rules.

    Restricted files go only into a private repository, to which access is approved by hand, or where a permission
    states why they may be public; it is recorded beside them and in every commit.

    Args:
        kind: dataset or model.
        name: <owner>/<name> of the repository.
        private: whether the repository is private.
        tag: of the release; the identity of its bytes by default.
        permission: who permits that restricted files become public, and where, in 20 characters or more.
        token: of the Hub; the one that is logged in by default.
        deadline: seconds after the first failure in a row until which temporary failures are tried again.

    Raises:
        InputError: a name, tag, permission or token that is not allowed; nothing is sent.
    """

    def __init__(
        self,
        kind: Kind,
        name: str,
        private: bool = False,
        tag: str | None = None,
        permission: str | None = None,
        token: str | None = None,
        deadline: float = 300.0,
    ) -> None:
        _check_name(
            ARGUMENTS[kind], name, f"<owner>/<name>, such as my-lab/{'synthfair' if kind == 'dataset' else 'generator'}"
        )
        if tag is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", tag):
            raise InputError(f"tag: {tag!r} is not allowed; give letters, digits, dots and dashes, such as v1.0.")
        if permission is not None and len(_one_line(permission)) < REASON:
            raise InputError(
                f"permission: {permission!r} is no reason; say in {REASON} characters or more who permits it and where."
            )
        self.kind, self.name, self.private, self.tag = kind, name, private, tag
        self.permission = None if permission is None else _one_line(permission)
        self._token, self._deadline = token, deadline

    def check(self, access: Access) -> None:
        """InputError where files made from images of this access may not go there, or nobody is logged in."""
        if access != "open" and not self.private and self.permission is None:
            raise InputError(
                f"access: what this {WORDS[self.kind]} was made from is {access}, not open; push it to a private "
                f"repository, or give the permission under which it may be public, in {REASON} characters or more."
            )
        self._token = _token(self._token)

    def write_permission(self, directory: Path, access: Access, source: str, inputs: dict[str, str]) -> list[str]:
        """Write the record of the permission where there is one; the names of the files written.

        Args:
            directory: of the release.
            access: of what it was made from.
            source: what it was made from.
            inputs: identities, for the record.
        """
        if self.permission is None:
            return []
        settings = {
            ARGUMENTS[self.kind]: self.name,
            "source": source,
            "access": access,
            "permission": self.permission,
        }
        Record(stage="permission", inputs=inputs, settings=settings).write(directory / PERMISSION)
        return [PERMISSION]

    def open(self, access: Access) -> tuple[Repository, str]:
        """The repository and its address; created, and made private where it must be, before files are sent."""
        self.check(access)
        assert self._token is not None
        repository = Repository(self.kind, self.name, self._token, self._deadline)
        url = str(repository.call(repository.api.create_repo, private=self.private, exist_ok=True))
        if self.private:
            _keep_private(repository, gated=access != "open")
        return repository, url


def _check_name(argument: str, name: str, form: str) -> None:
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise InputError(f"{argument}: {name!r} is not allowed; give {form}.") from None
    if "/" not in name:
        raise InputError(f"{argument}: {name!r} has no owner; give {form}.")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _token(token: str | None) -> str:
    """The token given or logged in; InputError for one that could not be a header, since httpx would quote it."""
    token = (token or get_token() or "").strip()
    if not token:
        raise InputError("token: none is given or logged in; log in with `hf auth login`, or set HF_TOKEN.")
    if not re.fullmatch(r"[!-~]+", token):
        raise InputError("token: holds characters that no token has; copy it again from the Hub's settings.")
    return token


def _keep_private(repository: Repository, gated: bool) -> None:
    """Make sure that the repository is private, and with `gated` that access is approved by hand."""
    found = repository.info()
    if not found.private:
        raise InputError(
            f"{repository.name}: is public on the Hub already; make it private in its settings, or give "
            f"another {repository.argument}."
        )
    if gated and found.gated != "manual":
        repository.call(repository.api.update_repo_settings, private=True, gated="manual")


@dataclass(frozen=True)
class Release:
    """The files that are published: names relative to `directory`, in the order of the commits.

    The first name of the first stage is in every release of this kind, and marks a repository as ours; the second
    stage are the contents. `own` are names that would count as a part of a release, `contents` those that only a
    release may have there, `completing` those that mark the contents as complete. `sha256` is known of some files.
    """

    directory: Path
    stages: Sequence[Sequence[str]]
    access: Access
    identity: str
    title: str
    own: str
    contents: str
    completing: Sequence[str]
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """All names."""
        return [name for stage in self.stages for name in stage]

    def publish(self, target: Target) -> Publication:
        """Send what is missing and tag it.

        Raises:
            InputError: the rules of `target` do not allow it, the tag names other files, or the Hub returns an error.
        """
        repository, url = target.open(self.access)
        tag = target.tag or self.identity
        commit = repository.commit_of(tag)
        if commit is not None:
            different = self._missing(self.files, repository.files(commit))
            if different:
                raise InputError(
                    f"tag: {tag!r} is on the Hub already, for another {different[0]}; give another tag for these files."
                )
            return Publication(url, commit, tag, 0, len(self.files))
        missing, commit = self._upload(
            repository, "" if target.permission is None else f"Permission: {target.permission}"
        )
        repository.call(repository.api.create_tag, tag=tag, revision=commit, exist_ok=True)
        if repository.commit_of(tag) != commit:
            raise InputError(f"tag: {tag!r} was given to another commit meanwhile; give another tag for these files.")
        return Publication(url, commit, tag, missing, len(self.files) - missing)

    def _upload(self, repository: Repository, note: str) -> tuple[int, str]:
        """Send what is missing, stage by stage; the number of files sent, and the commit that holds all."""
        there = repository.files("main")
        if self.stages[0][0] not in there and any(re.fullmatch(self.contents, name) for name in there):
            raise InputError(
                f"{repository.name}: holds a {WORDS[repository.kind]} that this package did not put there; give "
                f"another {repository.argument}."
            )
        deleted = sorted(name for name in there if re.fullmatch(self.own, name) and name not in self.files)
        if self._missing(self.stages[1], there):
            # until the contents are complete, no file may mark them so
            deleted += [name for name in self.completing if there.pop(name, None)]
        sent = 0
        for stage in self.stages:
            missing = self._missing(stage, there)
            if missing or deleted:
                repository.call(
                    repository.api.upload_folder,
                    folder_path=self.directory,
                    allow_patterns=[glob.escape(name) for name in missing],
                    delete_patterns=[glob.escape(name) for name in deleted],
                    commit_message=self.title,
                    commit_description=note,
                )
            sent, deleted = sent + len(missing), []
        commit = repository.commit_of("main")
        assert commit is not None
        return sent, commit

    def _missing(self, names: Sequence[str], there: Mapping[str, RepoFile]) -> list[str]:
        """Those of the names that are not `there` with the same bytes."""
        return [name for name in names if name not in there or not self._is_same(name, there[name])]

    def _is_same(self, name: str, file: RepoFile) -> bool:
        path = self.directory / name
        if file.lfs is None:
            return file.blob_id == git_hash(path.read_bytes())
        return file.lfs.sha256 == (self.sha256.get(name) or file_sha256(path))
