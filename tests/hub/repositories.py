"""What a repository on the Hub is: commits of files, and names for commits.

    commit = (parent, path -> file),  branch, tag: name -> commit

A file is a git blob, or a pointer to a large file kept beside the repositories by its sha256.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Commit", "File", "Repository"]


@dataclass(frozen=True)
class File:
    """The bytes of a file, and whether it is stored as a large file."""

    data: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def blob(self) -> str:
        """The git blob's identity: of the file, or of the pointer to a large one."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        data = pointer.encode() if self.large else self.data
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        """What a client compares its own file with."""
        return self.sha256 if self.large else self.blob


@dataclass(frozen=True)
class Commit:
    parent: str | None
    files: Mapping[str, File]
    title: str
    description: str


@dataclass
class Repository:
    """`kind` is models, datasets or spaces; `gated` is False, "auto" or "manual". `main` always has a commit."""

    kind: str
    name: str
    private: bool = False
    gated: bool | str = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit("main", {".gitattributes": File(b"*.parquet filter=lfs diff=lfs merge=lfs -text\n", False)})

    def find(self, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit's own identity names."""
        named = {**self.tags, **self.branches}.get(revision, revision)
        return named if named in self.commits else None

    def files(self, revision: str = "main") -> dict[str, File]:
        """The files of a revision by path."""
        return dict(self.commits[self.find(revision) or ""].files)

    def commit(
        self,
        branch: str,
        added: Mapping[str, File],
        deleted: tuple[str, ...] = (),
        title: str = "initial commit",
        description: str = "",
    ) -> str:
        """A new commit on a branch; a deleted path that ends with a slash is a folder. Returns its identity."""
        parent = self.branches.get(branch)
        files = dict(self.commits[parent].files) if parent else {}
        for path in deleted:
            files = {name: file for name, file in files.items() if name != path and not _within(name, path)}
        files |= added
        tree = [f"{path} {file.blob}" for path, file in sorted(files.items())]
        identity = hashlib.sha1("\n".join([str(parent), title, description, *tree]).encode()).hexdigest()
        self.commits[identity] = Commit(parent, files, title, description)
        self.branches[branch] = identity
        return identity

    def history(self, revision: str = "main") -> list[tuple[str, Commit]]:
        """Commits from a revision back to the first."""
        found, identity = [], self.find(revision)
        while identity is not None:
            found.append((identity, self.commits[identity]))
            identity = self.commits[identity].parent
        return found


def _within(path: str, folder: str) -> bool:
    return folder.endswith("/") and path.startswith(folder)
