"""What is published on the Hub: a verified data set, or a saved generator, as one tagged release of its repository.

    data set     1 records/plan.json   2 data/, under the names they have here   3 the other records, README.md
    generator    1 its records         2 weights and their configurations        3 model_index.json, README.md

Where there is a permission, records/permission.json is in the first commit. README.md, which names the contents, and
what loads them are there only once they are.
"""

from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..publish.hub.release import CARD, PERMISSION, Publication, Release, Target
from ..records import Access, Record, file_sha256, fingerprint
from .store import PLAN, RUN, Store, read_plan
from .verification import verify

__all__ = ["INDEX", "RECORD", "Publication", "Target", "publish", "publish_generator"]

RECORD, INDEX = "record.json", "model_index.json"
"""Of a saved generator: the record of its training, and what diffusers loads it by."""


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

    The rules, and what the other settings mean, are those of `release.Target`. Raises InputError, one sentence: before
    anything is sent for a data set that `verify` finds wrong, for what may not be published, and for a tag that names
    other files; and for whatever the Hub refuses.
    """
    directory = Path(directory)
    target = Target("dataset", hub_dataset_id, private, tag, permission, token, deadline)
    plan = read_plan(directory)
    target.check(plan.access)
    if problems := verify(directory):
        raise InputError(f"{directory}: {problems[0]}")
    identity = Record.read(directory / RUN).counts["store"]
    inputs = {"plan": plan.fingerprint, "store": identity}
    store, shards = Store(directory, plan), plan.shards()
    records = {shard.stem: store.record_path(shard) for shard in shards}
    release = Release(
        directory,
        stages=[
            [PLAN, *target.write_permission(directory, plan.access, plan.source, inputs)],
            [name for shard in shards for name in shard.files],
            [*(path.relative_to(directory).as_posix() for path in records.values()), RUN, CARD],
        ],
        access=plan.access,
        identity=f"store-{identity}",
        title=f"Data set {identity}",
        own=r"data/.*\.parquet|records/[^/]*\.json",
        contents=r"data/.*",
        telling=(RUN, CARD),
        sha256={
            name: file["sha256"]
            for path in records.values()
            for name, file in Record.read(path).counts["files"].items()
        },
    )
    return release.publish(target)


def publish_generator(
    directory: Path, target: Target, access: Access, revision: str, components: Sequence[str]
) -> Publication:
    """Push a directory that holds a saved generator, its records and its card, and nothing else; tag it by its bytes.

    `components` are the directories of its parts, `revision` the fingerprint of its weights and configuration, and
    `access` that of the images it was trained on. Raises InputError as `publish` does.
    """
    source = Record.read(directory / RECORD).inputs.get("source", "unknown")
    permission = target.write_permission(directory, access, source, {"generator": revision})
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    sha256 = {name: file_sha256(directory / name) for name in names}
    parts = [name for name in names if name.split("/")[0] in components]
    last = [INDEX, CARD]
    release = Release(
        directory,
        stages=[
            [RECORD, *permission, *(name for name in names if name not in (RECORD, PERMISSION, *parts, *last))],
            parts,
            last,
        ],
        access=access,
        identity=f"generator-{fingerprint(sha256)}",
        title=f"Generator {revision}",
        own=rf"(?:{'|'.join((*components, 'records'))})/.*|[^/]*\.json|.*\.(?:safetensors|bin)",
        contents=r".*\.(?:safetensors|bin)|model_index\.json",
        telling=(INDEX, CARD),
        sha256=sha256,
    )
    return release.publish(target)
