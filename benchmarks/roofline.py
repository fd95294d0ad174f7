"""Where the network stands on this device's roofline, and what a million images of 256 x 256 would take.

    python benchmarks/roofline.py [--device cuda] [--output_dir docs/roofline]

    operations   of one call, by torch's counter: matrix products, convolutions and attention, 2 for a multiply-add
    bytes        of one call, by rule: each operator reads its arguments, weights among them, and writes its result once
    attainable   min(peak operations/s, operations / bytes x peak bytes/s)
    peaks        of this device: the faster of a square matrix product and a convolution of 3 x 3; and a copy of a large
                 array (read and written)

By that rule nothing stays in a cache and nothing is fused, so a rate above the attainable says that something was.
Rates are the best of several rounds in which everything takes its turn. On a GPU the network for 256 x 256, untrained,
is timed; elsewhere its operations and bytes are counted, without computing them, and its time on an H100 is estimated.
Writes roofline.json, and from it README.md and roofline.png.
"""

import argparse
import copy
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from synthfair_hf.diffusion.denoiser import Denoiser, build_unet, predict_velocity
from synthfair_hf.diffusion.generator import load_generator
from synthfair_hf.diffusion.saved import find_generator
from synthfair_hf.publish.editions import edition
from synthfair_hf.records import Record, library_versions
from synthfair_hf.training.devices import local_device

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
MILLION, RESOLUTION = 1_000_000, 256
CALLS = {"euler": 2, "midpoint": 4}
"""Calls of the network for one step of the solver."""


class Traffic(TorchDispatchMode):
    """Counts the bytes of every operator's tensors, except where it is another view of the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            tensors = [one for one in tree_leaves((args, kwargs, result)) if isinstance(one, torch.Tensor)]
            self.bytes += sum(one.numel() * one.element_size() for one in tensors)
        return result


def call_of(network: Denoiser, rows: int, tokens: int) -> Callable[[], torch.Tensor]:
    """A call of the network on `rows` rows, on its device and in its precision."""
    size, where = network.config.sample_size, {"device": network.device, "dtype": network.dtype}
    latents = torch.zeros(rows, network.config.in_channels, size, size, **where)
    sigma = torch.full((rows,), 0.5, device=network.device)
    known = torch.zeros(rows, tokens, network.config.cross_attention_dim, **where)
    return lambda: predict_velocity(network, latents, sigma, known)


def count(network: Denoiser, rows: int, tokens: int) -> dict[str, int]:
    """Operations and bytes of a call; among tensors without storage they are known without computing."""
    with FlopCounterMode(display=False) as operations, Traffic() as traffic:
        call_of(network, rows, tokens)()
    return {"operations": operations.get_total_flops(), "bytes": traffic.bytes}


def timed(work: Callable[[], Any], device: str) -> float:
    """Seconds of one go; on one thread of a CPU that thread's own, so that other processes' turns do not count."""
    if not device.startswith("cuda"):
        clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
        began = clock()
        work()
        return clock() - began
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - began


def probes(device: str, dtype: torch.dtype) -> dict[str, tuple[Callable[[], Any], int]]:
    """A matrix product and a convolution with their operations, a copy that no cache holds with its bytes."""
    gpu = device.startswith("cuda")
    side, numbers, images, channels = (8192, 2**30, 32, 512) if gpu else (1024, 2**26, 2, 256)
    where: dict[str, Any] = {"device": device, "dtype": dtype}
    one, source = torch.ones(side, side, **where), torch.ones(numbers, **where)
    into, kernels = torch.empty_like(source), torch.ones(channels, channels, 3, 3, **where)
    pixels = torch.ones(images, channels, 32, 32, **where)
    return {
        "product": (lambda: one @ one, 2 * side**3),
        "convolution": (lambda: torch.conv2d(pixels, kernels, padding=1), 2 * pixels.numel() * kernels[0].numel()),
        "copy": (lambda: into.copy_(source), 2 * source.nbytes),
    }


@torch.no_grad()
def measure(settings: argparse.Namespace) -> dict[str, Any]:
    device, saved = settings.device, find_generator()
    pipeline = load_generator(saved)
    width, tokens = pipeline.unet.config.cross_attention_dim, len(saved.preset.covariates.names)
    calls = pipeline.config.default_steps * CALLS[pipeline.scheduler.base]
    large: dict[str, Any] = {"channels": list(settings.channels), "space_to_depth": settings.space_to_depth}
    networks: dict[str, Denoiser] = {}
    works: dict[Any, Callable[[], Any]] = {}
    amounts: dict[Any, int] = {}
    for name, dtype in DTYPES.items():
        # past diffusers' own `to`, which warns of modules to be kept in float32, and this network has none
        networks[name] = torch.nn.Module.to(copy.deepcopy(pipeline.unet), device, dtype)
        wide = large_network(settings, width, dtype)
        large["weights"] = sum(one.numel() for one in wide.parameters())
        with FakeTensorMode(allow_non_fake_inputs=True):
            large[name] = {"rows": settings.rows, **count(wide, settings.rows, tokens)}
        for what, (work, amount) in probes(device, dtype).items():
            works[name, what], amounts[name, what] = work, amount
        for rows in settings.batch_sizes:
            works[name, rows] = call_of(networks[name], rows, tokens)
        if device.startswith("cuda"):
            works[name, "large"] = call_of(wide, settings.rows, tokens)
    seconds = defaultdict(list)
    for _ in range(settings.rounds):
        for what, work in works.items():
            seconds[what].append(timed(work, device))
    best = {what: min(several) for what, several in seconds.items()}
    precisions = {}
    for name, network in networks.items():
        rates = {what: amounts[name, what] / best[name, what] for what in ("product", "convolution", "copy")}
        peak, bandwidth = max(rates["product"], rates["convolution"]), rates["copy"]
        batches = []
        for rows in settings.batch_sizes:
            counts, took = count(network, rows, tokens), best[name, rows]
            found = {"rows": rows, **counts, **place(counts, took, peak, bandwidth), "rows_per_s": rows / took}
            batches.append(found)
        precisions[name] = {**rates, "peak": peak, "bandwidth": bandwidth, "batches": batches}
        if took := best.get((name, "large")):
            large[name] |= place(large[name], took, peak, bandwidth)
            large[name]["hours"] = MILLION * calls * took / settings.rows / 3600
    large["h100"] = on_h100(large["bf16"], calls, settings)
    return {"calls": calls, "precisions": precisions, "large": large}


def on_h100(counts: dict[str, int], calls: int, settings: argparse.Namespace) -> dict[str, Any]:
    """What its published figures allow, and the hours of a million images at that and at the assumed shares of it."""
    attainable = min(settings.peak, counts["operations"] / counts["bytes"] * settings.bandwidth)
    hours = MILLION * calls * counts["operations"] / counts["rows"] / attainable / 3600
    return {
        "attainable": attainable,
        "bound": "compute" if attainable == settings.peak else "memory",
        "hours_at_roof": hours,
        "hours": [hours / max(settings.shares), hours / min(settings.shares)],
    }


def large_network(settings: argparse.Namespace, width: int, dtype: torch.dtype) -> Denoiser:
    """The untrained network for 256 x 256."""
    network = build_unet(
        tuple(settings.channels), settings.space_to_depth**2, RESOLUTION // settings.space_to_depth, width
    )
    return torch.nn.Module.to(network, settings.device, dtype)


def place(counts: dict[str, int], seconds: float, peak: float, bandwidth: float) -> dict[str, Any]:
    """Where a call stands under the roof."""
    intensity = counts["operations"] / counts["bytes"]
    attainable, rate = min(peak, intensity * bandwidth), counts["operations"] / seconds
    bound = "memory" if intensity * bandwidth < peak else "compute"
    return {"intensity": intensity, "rate": rate, "attainable": attainable, "share": rate / attainable, "bound": bound}


def draw(record: Record, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    precisions = record.measured["precisions"]
    intensities = [one["intensity"] for part in precisions.values() for one in part["batches"]]
    ridges = [part["peak"] / part["bandwidth"] for part in precisions.values()]
    low, high = min(*intensities, *ridges) / 3, max(*intensities, *ridges) * 4
    for color, (name, part) in zip(("tab:blue", "tab:orange"), precisions.items(), strict=True):
        ridge = part["peak"] / part["bandwidth"]
        roof = [low * part["bandwidth"] / 1e9, part["peak"] / 1e9, part["peak"] / 1e9]
        label = f"roof in {name}: {part['peak'] / 1e9:.0f} GFLOP/s, {part['bandwidth'] / 1e9:.1f} GB/s"
        axes.plot([low, ridge, high], roof, color=color, label=label)
        batches = part["batches"]
        x, y = [one["intensity"] for one in batches], [one["rate"] / 1e9 for one in batches]
        rows = f"{batches[0]['rows']} to {batches[-1]['rows']}"
        axes.plot(x, y, "o-", linewidth=0.8, color=color, label=f"network in {name}, {rows} rows a call")
        for one, up in ((batches[0], -16), (batches[-1], 8)):
            at = one["intensity"], one["rate"] / 1e9
            axes.annotate(str(one["rows"]), at, (0, up), textcoords="offset points", ha="center", color=color)
    rates = [one["rate"] / 1e9 for part in precisions.values() for one in part["batches"]]
    top = max(part["peak"] for part in precisions.values()) / 1e9
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(min(rates) / 1.6, top * 1.6))
    axes.set_xlabel("operations per byte, every operator reading and writing memory (FLOP/B)")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(f"Network of generator {record.inputs['generator']}, 64 × 64, on {record.settings['processor']}")
    axes.grid(which="major", alpha=0.3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(ticker.StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(ticker.LogLocator(subs=(2, 5)))
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    figure.savefig(path, dpi=120, metadata={"Software": None})


def page(record: Record) -> str:
    """The record as a page."""
    settings, measured = record.settings, record.measured
    large, h100, where = measured["large"], measured["large"]["h100"], settings["processor"]
    in_bf16, (low, high), shares = large["bf16"], h100["hours"], settings["shares"]
    fold, rows = large["space_to_depth"], in_bf16["rows"]
    peaks = "\n".join(
        f"| {name} | {one['product'] / 1e9:.1f} | {one['convolution'] / 1e9:.1f} | {one['copy'] / 1e9:.1f} "
        f"| {one['peak'] / one['bandwidth']:.1f} |"
        for name, one in measured["precisions"].items()
    )
    calls = "\n".join(
        f"| {name} | {one['rows']} | {one['operations'] / 1e9:.2f} | {one['bytes'] / 1e6:.1f} | {one['intensity']:.1f} "
        f"| {one['bound']} | {one['rate'] / 1e9:.1f} | {one['share']:.0%} | {one['rows_per_s']:.1f} |"
        for name, part in measured["precisions"].items()
        for one in part["batches"]
    )
    timed_here = ""
    if "hours" in in_bf16:
        times = " and ".join(f"{large[name]['hours']:.1f} hours in {name}" for name in measured["precisions"])
        timed_here = f"\nTimed on {where}, a million images take {times} of network.\n"
    return f"""# Roofline of the network

Measured on {edition(record.inputs["generator"])}.

Measured by `python benchmarks/roofline.py` on {where}, {settings["threads"]} thread(s), the best of
{settings["rounds"]} rounds in which everything took its turn; on one thread of a CPU by that thread's own time.
{settings["note"]}

Operations are those of matrix products, convolutions and attention, 2 for a multiply-add. Bytes follow a rule: each
operator reads its arguments, weights among them, and writes its result once. Caches and fused operators move fewer, so
that a share may exceed 100 %. Attainable is the smaller of the peak, which is the faster of a matrix product and a
convolution, and of FLOP/B times the copy's bytes/s.

![Roofline](roofline.png)

| precision | matrix product, GFLOP/s | convolution, GFLOP/s | copy, GB/s | ridge, FLOP/B |
|---|---:|---:|---:|---:|
{peaks}

## The generator's network, 64 × 64

One call gives one velocity of each row; an image takes {measured["calls"]} calls, at the checkpoint's default steps and
without guidance.

| precision | rows | GFLOP a call | MB a call | FLOP/B | bound by | GFLOP/s | of the attainable | rows/s |
|---|---:|---:|---:|---:|---|---:|---:|---:|
{calls}

## A million images of 256 × 256

Assumed: the same kind of network, untrained, with channels {", ".join(map(str, large["channels"]))} and pixels folded
{fold} × {fold}: {large["weights"] / 1e6:.1f} million weights. An image takes {measured["calls"]} calls, as before.
Counted in bf16, {rows} rows a call: {in_bf16["operations"] / rows / 1e9:.1f} GFLOP and
{in_bf16["bytes"] / rows / 1e6:.0f} MB a row, {in_bf16["operations"] / in_bf16["bytes"]:.0f} FLOP/B.
{timed_here}
Estimated for one H100 by its published figures ({settings["peak"] / 1e12:g} TFLOP/s dense bf16,
{settings["bandwidth"] / 1e12:g} TB/s): {h100["attainable"] / 1e12:.0f} TFLOP/s are attainable, {h100["bound"]} bound.
A million images take {h100["hours_at_roof"]:.1f} hours of network at that roof, and **{low:.1f} to {high:.1f} hours**
at {max(shares):.0%} to {min(shares):.0%} of it, shares that are assumed.

Subjects, PNG encoding and files come on top: `python benchmarks/generation.py` measures the driver against the bare
network, and the bytes that a view opens against those it keeps. What bf16, channels-last and compiling gain and cost at
64 × 64 is in [precision.md](precision.md), by `python benchmarks/precision.py`.
"""


def processor(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{torch.backends.cpu.get_cpu_capability()} CPU"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default=local_device())
    parser.add_argument("--output_dir", type=Path, default=Path("docs/roofline"))
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=(1, 4, 16, 64))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--channels", type=int, nargs="+", default=(192, 256, 320), help="of the network for 256 x 256")
    parser.add_argument("--space_to_depth", type=int, default=4, help="of the network for 256 x 256")
    parser.add_argument("--rows", type=int, default=32, help="of a call of the network for 256 x 256")
    parser.add_argument("--peak", type=float, default=989e12, help="published dense bf16 FLOP/s of the H100 (SXM)")
    parser.add_argument("--bandwidth", type=float, default=3.35e12, help="published bytes/s of its memory")
    parser.add_argument("--shares", type=float, nargs=2, default=(0.2, 0.6), help="of the attainable, assumed there")
    parser.add_argument("--note", default="", help="what else was running; it goes on the page")
    settings = parser.parse_args()
    named = {name: value for name, value in vars(settings).items() if name != "output_dir"}
    named |= {"processor": processor(settings.device), "threads": torch.get_num_threads()}
    record = Record(
        stage="roofline",
        inputs={"generator": find_generator().revision},
        settings=named,
        versions=library_versions(),
        measured=measure(settings),
    )
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    record.write(settings.output_dir / "roofline.json")
    written = Record.read(settings.output_dir / "roofline.json")
    draw(written, settings.output_dir / "roofline.png")
    (settings.output_dir / "README.md").write_text(page(written))


if __name__ == "__main__":
    main()
