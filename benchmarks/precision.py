"""What each way of computing the network gains and costs: images/s, composition, grey levels of difference.

    python benchmarks/precision.py [--output_dir docs/roofline]

    rate          rows/s of one call of the shipped network, the best of rounds in which every way takes its turn; on
                  one thread of a CPU by that thread's own time, so that other processes' turns do not count
    prepare       seconds until the network is ready, compiling included; less where the compiler's cache knows it
    composition   L1 on the 0-255 scale to the input after 1 and 10 cycles of do={}, for images that the generator draws
    difference    L1 on the same scale between those images and the plain network's, of the same seeds

Writes precision.json, and from it precision.md.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from synthfair_hf.diffusion.denoiser import predict_velocity
from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.generate.numerics import Numerics
from synthfair_hf.generate.render import prepared
from synthfair_hf.publish.editions import edition
from synthfair_hf.records import Record, library_versions

WAYS = {
    "plain": Numerics(),
    "channels_last": Numerics(channels_last=True),
    "bf16": Numerics(mixed_precision="bf16"),
    "bf16, channels_last": Numerics(mixed_precision="bf16", channels_last=True),
    "compile": Numerics(compile=True),
    "all three": Numerics(mixed_precision="bf16", channels_last=True, compile=True),
}
CYCLES = (1, 10)


def people(pipeline: CausalDiffusionPipeline, images: int, seed: int) -> dict[str, list[Any]]:
    """Covariates drawn from the causal model, brought into range."""
    known = pipeline.covariates
    drawn = pipeline.scm.evaluate(pipeline.scm.sample_noise(images, torch.Generator().manual_seed(seed)))
    within = {
        name: value if known[name].categorical else value.clamp(*known[name].bounds) for name, value in drawn.items()
    }
    return known.decode({name: value.numpy() for name, value in within.items()})


@torch.no_grad()
def measure(settings: argparse.Namespace) -> dict[str, Any]:
    plain = load_generator()
    pipelines, ready = {}, {}
    for name, numerics in WAYS.items():
        began = time.perf_counter()
        pipelines[name] = prepared(plain, numerics, settings.batch_size)
        ready[name] = time.perf_counter() - began
    latents = torch.zeros(settings.batch_size, *plain.latent_shape(), device=plain.device)
    sigma = torch.full((settings.batch_size,), 0.5, device=plain.device)
    names, width = plain.covariates.names, plain.unet.config.cross_attention_dim
    tokens = torch.zeros(settings.batch_size, len(names), width, device=plain.device)
    alone = plain.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter
    seconds = defaultdict(list)
    for _ in range(settings.rounds):
        for name, pipeline in pipelines.items():
            began = clock()
            # .cpu() waits for a GPU
            predict_velocity(pipeline.unet, latents, sigma, tokens).cpu()
            seconds[name].append(clock() - began)
    known = people(plain, settings.images, settings.seed)
    found, first = {}, None
    for name, pipeline in pipelines.items():
        generators = [torch.Generator().manual_seed(settings.seed + row) for row in range(settings.images)]
        images = torch.as_tensor(pipeline(covariates=known, generator=generators, output_type="pt").images)
        first = images if first is None else first
        again, composition = images, {}
        for cycle in range(1, max(CYCLES) + 1):
            generators = [torch.Generator().manual_seed(row) for row in range(settings.images)]
            answer = pipeline(image=again, covariates=known, do={}, generator=generators, output_type="pt")
            again = torch.as_tensor(answer.images)
            if cycle in CYCLES:
                composition[str(cycle)] = 255 * float((again - images).abs().mean())
        found[name] = {
            "rows_per_s": settings.batch_size / min(seconds[name]),
            "prepare_s": ready[name],
            "composition": composition,
            "difference": 255 * float((images - first).abs().mean()),
        }
    return found


def page(record: Record) -> str:
    settings, plain = record.settings, record.measured["plain"]["rows_per_s"]
    rows = "\n".join(
        f"| {name} | {one['rows_per_s']:.1f} | {one['rows_per_s'] / plain:.2f} | {one['prepare_s']:.0f} | "
        + " | ".join(f"{one['composition'][str(cycle)]:.4f}" for cycle in CYCLES)
        + f" | {one['difference']:.4f} |"
        for name, one in record.measured.items()
    )
    return f"""# Ways of computing the network

Measured on {edition(record.inputs["generator"])}.

By `python benchmarks/precision.py` on {settings["processor"]}, {settings["threads"]} thread(s),
{settings["batch_size"]} rows a call, the best of {settings["rounds"]} rounds in which every way took its
turn, on one thread of a CPU by that thread's own time. {settings["note"]}

Composition: L1 (0-255) to the input after 1 and 10 cycles of do={{}}, on {settings["films"]} images that each way draws
(seed {settings["seed"]}); difference: L1 between those images and the plain network's.

| network | rows/s | against plain | s to prepare | composition, 1 | composition, 10 | difference |
|---|---:|---:|---:|---:|---:|---:|
{rows}
"""


def processor() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.backends.cpu.get_cpu_capability()} CPU"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=Path("docs/roofline"))
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--note", default="", help="what else was running; it goes on the page")
    settings = parser.parse_args()
    named = {name: value for name, value in vars(settings).items() if name != "output_dir"}
    named["films"] = named.pop("images")  # what records call it
    record = Record(
        stage="precision",
        inputs={"generator": find_generator().revision},
        settings={**named, "threads": torch.get_num_threads(), "processor": processor()},
        versions=library_versions(),
        measured=measure(settings),
    )
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    record.write(settings.output_dir / "precision.json")
    written = Record.read(settings.output_dir / "precision.json")
    (settings.output_dir / "precision.md").write_text(page(written))


if __name__ == "__main__":
    main()
