"""Parts of one plan, made on several machines, become one data set."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..records import Record
from .store import Store, difference, read_plan
from .verification import shard_problems

__all__ = ["merge"]


def merge(parts: Sequence[Path], output_dir: Path) -> Record:
    """Merge parts of one plan that several machines generated.

    Shards that are damaged in one part are taken from another. The same call continues an interrupted merge.

    Args:
        parts: directories of the parts.
        output_dir: where the data set is written.

    Returns:
        The record of the run.

    Raises:
        InputError: parts of different plans, before anything is written, and, once the others are merged, shards that
            are sound in no part.
    """
    if not parts:
        raise InputError("parts: none given; give the directories that `synthfair generate` wrote.")
    plans = [read_plan(part) for part in parts]
    for part, plan in zip(parts, plans, strict=True):
        if plan.fingerprint != plans[0].fingerprint:
            raise InputError(
                f"{part}: holds another plan than {parts[0]} ({difference(plans[0], plan)}); merge parts of one plan."
            )
    sources, missing = [Store(part, plans[0]) for part in parts], []
    with Store(output_dir, plans[0]).open() as store:
        for shard in store.shards():
            if store.finished(shard) and not any(shard_problems(store, shard)):
                continue
            sound = next((one for one in sources if not any(shard_problems(one, shard))), None)
            if sound is None:
                missing.append(shard.stem)
            else:
                store.adopt(shard, sound)
        record = None if missing else store.finish()
    if record is None:
        raise InputError(
            f"{output_dir}: {len(missing)} shards are sound in none of the parts, such as {missing[0]}; generate or "
            "repair them, and run the same command again."
        )
    return record
