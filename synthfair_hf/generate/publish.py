"""A verified data set on the Hub, as one tagged release of its repository.

    1 records/plan.json   2 data/, under the names they have here   3 the other records and documents, README.md

Where there is a permission, records/permission.json is in the first commit. README.md, which names the contents, is
there only once they are.
"""

import re
from pathlib import Path

from ..arguments import checked
from ..errors import InputError
from ..publish.covariates import FIGURES
from ..publish.croissant import CROISSANT
from ..publish.dataset_card import measured_beside
from ..publish.hub.release import CARD, Publication, Release, Target
from ..records import Record
from .documents import validate
from .store import PLAN, RUN, Store, read_plan
from .verification import verify

__all__ = ["publish"]


@checked
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
    """Push a generated data set to `hub_dataset_id`, "<owner>/<name>", and tag it "store-<identity of the bytes>".

    Args:
        directory: the data set.
        hub_dataset_id: the repository; created where it does not exist.
        private: publish in a private repository.
        tag: of the release; named after the bytes by default.
        permission: who permits that restricted images become public, and where.
        token: of the Hub; the one logged in by default.
        deadline: seconds that the Hub is given to recover from failures.

    Returns:
        Where the release is, and how many files were sent.

    Raises:
        InputError: before anything is sent, for a data set that `verify` finds wrong, for what may not be published,
            and for a tag that names other files; and for errors that the Hub returns.
    """
    directory = Path(directory)
    target = Target("dataset", hub_dataset_id, private, tag, permission, token, deadline)
    plan = read_plan(directory)
    target.check(plan.access)
    documents = [name for name in (CROISSANT, *FIGURES) if (directory / name).exists()]
    if problems := verify(directory) or (validate(directory) if documents else []):
        raise InputError(f"{directory}: {problems[0]}")
    identity = Record.read(directory / RUN).counts["store"]
    inputs = {"plan": plan.fingerprint, "store": identity}
    documents += measured_beside(directory, Record.read(directory / RUN)).records
    store, shards = Store(directory, plan), plan.shards()
    records = {shard.stem: store.record_path(shard) for shard in shards}
    release = Release(
        directory,
        stages=[
            [PLAN, *target.write_permission(directory, plan.access, plan.source, inputs)],
            [name for shard in shards for name in shard.files],
            [*(path.relative_to(directory).as_posix() for path in records.values()), *documents, RUN, CARD],
        ],
        access=plan.access,
        identity=f"store-{identity}",
        title=f"Data set {identity}",
        own=rf"data/.*\.parquet|records/[^/]*\.json|{'|'.join(map(re.escape, (CROISSANT, *FIGURES)))}",
        contents=r"data/.*",
        completing=(RUN, CARD),
        sha256={
            name: file["sha256"]
            for path in records.values()
            for name, file in Record.read(path).counts["files"].items()
        },
    )
    return release.publish(target)
