# /// script
# requires-python = ">=3.11"
# dependencies = ["synthfair-hf"]
# ///
"""Generate one part of a data set, as a Job of the Hub, and push it to a branch of its own.

    hf jobs uv run --secrets HF_TOKEN examples/generate_part.py \
        --rank 0 --world_size 4 --hub_dataset_id my-lab/synthfair-parts --num_subjects 84000

Other flags are those of `synthfair generate`, the same for every part. Part i of n is the branch `part-i-of-n` of a
private repository, gated where the images are not open; `docs/jobs.md` has how parts become one data set. A part that
is there already is fetched first, so that the same command again generates only what is missing. The token is that of
the environment (HF_TOKEN) or of `hf auth login`.
"""

import os
import sys
from argparse import ArgumentParser
from pathlib import Path

from huggingface_hub import snapshot_download

from synthfair_hf.cli import main
from synthfair_hf.errors import InputError
from synthfair_hf.generate.store import PLAN, read_plan
from synthfair_hf.publish.hub.release import Target

PART = ["data/*", "records/*"]
"""What of a part is on the Hub."""


def generate_and_push(rank: int, world_size: int, hub_dataset_id: str, output_dir: Path, settings: list[str]) -> int:
    """Generate a part and push it; the exit status of `synthfair generate`."""
    target = Target("dataset", hub_dataset_id, private=True)
    # before hours of work: that there is a token, and that it may write there
    repository, url = target.open("open")
    branch = f"part-{rank}-of-{world_size}"
    if repository.commit_of(branch) and PLAN in repository.files(branch):
        repository.call(snapshot_download, revision=branch, local_dir=output_dir, allow_patterns=PART)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size))
    if status := main(["generate", *settings, "--output_dir", str(output_dir)]):
        return status
    target.open(read_plan(output_dir).access)
    repository.call(repository.api.create_branch, branch=branch, exist_ok=True)
    repository.call(
        repository.api.upload_folder,
        folder_path=output_dir,
        revision=branch,
        allow_patterns=PART,
        commit_message=f"Part {rank} of {world_size}",
    )
    print(f"pushed to {url}, branch {branch}")
    return 0


if __name__ == "__main__":
    parser = ArgumentParser(
        description="Generate one part of a data set and push it; other flags are those of `synthfair generate`.",
        allow_abbrev=False,  # --world is no short form of --world_size
    )
    parser.add_argument("--rank", type=int, required=True, help="which part, from 0 on")
    parser.add_argument("--world_size", type=int, required=True, help="number of parts")
    parser.add_argument("--hub_dataset_id", required=True, help="OWNER/NAME of the private repository of the parts")
    parser.add_argument("--output_dir", type=Path, default=Path("part"), help="where the part is written here")
    asked, others = parser.parse_known_args()
    try:
        sys.exit(generate_and_push(**vars(asked), settings=others))
    except InputError as error:
        sys.exit(f"generate_part: {error}")
