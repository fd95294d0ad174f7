"""What a step of Diffusion-DPO costs against a plain denoising step on the same batch: time and peak memory.

    python benchmarks/dpo_step.py [--output_dir docs/roofline]

The same batch is B pairs, that is the same 2B images through either step, forward, backward and update (AdamW):

    full      flow matching of all weights, as `synthfair train` and `finetune` do it
    adapters  flow matching of the adapters alone
    dpo       `align.dpo` of the adapters: the reference once without gradients, the policy once

    seconds   the best of the rounds; on one thread of a CPU by that thread's own time, so that others do not count
    memory    of a process of its own for each: the peak over its steps less what it held before the first; bytes
              allocated on a GPU, resident bytes on a CPU

Writes dpo_step.json, and from it dpo_step.md.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from precision import processor

from synthfair_hf.align.dpo import DPOObjective
from synthfair_hf.align.lora import add_lora
from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.objective import FlowMatchingObjective
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.publish.editions import edition
from synthfair_hf.records import Record, library_versions

WAYS = ("full", "adapters", "dpo")
RANK = 8


def resident(field: str) -> int:
    """Bytes of this process's memory that are resident (VmRSS), or were at most (VmHWM)."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def measure(way: str, pairs: int, rounds: int) -> dict[str, Any]:
    """Seconds and bytes of one way's step."""
    pipeline = load_generator()
    device = pipeline.device
    if way != "full":
        add_lora(pipeline.unet, RANK, RANK, seed=0)
        pipeline.covariate_encoder.requires_grad_(False)
    parts = (pipeline.unet, pipeline.covariate_encoder, pipeline.config.space_to_depth)
    objective = DPOObjective(*parts) if way == "dpo" else FlowMatchingObjective(*parts)
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(pipeline.image_shape(2 * pairs), generator=draw).to(device)
    rows = pairs if way == "dpo" else 2 * pairs
    columns = {
        variable.name: torch.zeros(rows, dtype=torch.int64 if variable.categorical else torch.float32, device=device)
        for variable in pipeline.covariates.walk()
    }
    shown = {"preferred": images[:pairs], "rejected": images[pairs:]} if way == "dpo" else {"image": images}
    optimizer = torch.optim.AdamW([one for one in objective.parameters() if one.requires_grad])
    cuda = device.type == "cuda"
    clock = time.thread_time if not cuda and torch.get_num_threads() == 1 else time.perf_counter
    before = torch.cuda.memory_allocated() if cuda else resident("VmRSS")
    seconds = []
    for step in range(rounds + 1):
        began = clock()
        loss, _ = objective({**shown, **columns}, torch.Generator(device).manual_seed(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(clock() - began)
    peak = torch.cuda.max_memory_allocated() if cuda else resident("VmHWM")
    # the first step also sets up
    return {"seconds": min(seconds[1:]), "bytes": peak - before, "held_bytes": before}


def page(record: Record) -> str:
    settings, full = record.settings, record.measured["full"]
    rows = "\n".join(
        f"| {way} | {one['seconds']:.3f} | {one['seconds'] / full['seconds']:.2f} | {one['bytes'] / 2**20:.0f} | "
        f"{one['bytes'] / full['bytes']:.2f} |"
        for way, one in record.measured.items()
    )
    return f"""# A step of preference alignment

Measured on {edition(record.inputs["generator"])}.

By `python benchmarks/dpo_step.py` on {settings["processor"]}, {settings["threads"]} thread(s),
{settings["pairs"]} pairs, {2 * settings["pairs"]} images for every way; the best of {settings["rounds"]}
steps after a first; adapters of rank {RANK}. {settings["note"]}

| step | s | against full | MiB at its peak | against full |
|---|---:|---:|---:|---:|
{rows}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=Path("docs/roofline"))
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--way", choices=WAYS, help="print the figures of one way; all, each in its process, without")
    parser.add_argument("--note", default="", help="what else was running; it goes on the page")
    settings = parser.parse_args()
    if settings.way:
        print(json.dumps(measure(settings.way, settings.pairs, settings.rounds)))
        return
    measured = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--pairs", settings.pairs, "--rounds", settings.rounds]
        done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
        measured[way] = json.loads(done.stdout.splitlines()[-1])
    named = {name: getattr(settings, name) for name in ("pairs", "rounds", "note")}
    record = Record(
        stage="dpo_step",
        inputs={"generator": find_generator().revision},
        settings={**named, "rank": RANK, "threads": torch.get_num_threads(), "processor": processor()},
        versions=library_versions(),
        measured=measured,
    )
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    record.write(settings.output_dir / "dpo_step.json")
    (settings.output_dir / "dpo_step.md").write_text(page(record))


if __name__ == "__main__":
    main()
