"""A variational autoencoder of a source's images, whose encoder the metric `minimality` needs.

    q(z | x) = N(m(x), diag s(x)^2),    z ~ q,    p(x | z) = Laplace(D(z), b),    p(z) = N(0, 1)
    loss = -ELBO / N = 1 + log 2b + KL(q || p(z)) / N,    b = mean |x - D(z)|

N is the number of pixels and b the scale at which the decoder explains the batch best, so no weight has to be chosen
between error and divergence (Rybkin et al. 2021, "optimal sigma", here for the absolute error). What is saved is a
diffusers AutoencoderKL with the `scaling_factor` that gives its posterior means unit standard deviation. A record
beside the weights names the splits it was trained on; an encoder of others than `train` is not allowed.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ..arguments import checked
from ..domains.drawn import DrawnSource
from ..domains.images import to_batch
from ..domains.source import Source, access_to, channels_of
from ..errors import InputError
from ..records import Access, Record
from ..training.blocks import GROUPS
from ..training.checkpoints import check_output_dir
from ..training.config import TrainingConfig, architecture
from ..training.examples import TrainingExamples
from ..training.loop import train
from .distances import l1
from .predictors import BATCH
from .soundness import Encoder
from .weights import load_weights

__all__ = ["AutoencodingObjective", "load_encoder", "train_autoencoder"]


class AutoencodingObjective(nn.Module):
    """objective(batch, generator) -> (loss, parts), for the one training loop.

    Parts: `reconstruction`, the mean absolute error of D(z) on the 0-255 scale, and `divergence`, KL(q || p(z)) in nats
    per image. The generator draws z.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The module's loss of images `[B, C, r, r]` in [0, 1], in nats per pixel."""
        images = batch["image"]
        mean, log_scale = _posterior(self.autoencoder, images)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        error = (_decode(self.autoencoder, mean + log_scale.exp() * noise) - images).abs().mean()
        divergence = (0.5 * (mean**2 + (2 * log_scale).exp() - 1) - log_scale).flatten(1).sum(dim=1).mean()
        loss = 1 + (2 * error).log() + divergence / images[0].numel()
        return loss, {"reconstruction": 255 * error.detach(), "divergence": divergence.detach()}


def _posterior(autoencoder: AutoencoderKL, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation, float32 `[B, c, h, w]`, of images in [0, 1]; float32 even under autocast."""
    posterior = autoencoder.encode(2 * images - 1).latent_dist
    return posterior.mean.float(), posterior.logvar.float() / 2


def _decode(autoencoder: AutoencoderKL, latents: Tensor) -> Tensor:
    """Images, not clipped, float32 `[B, C, r, r]`, of unscaled latents."""
    return (autoencoder.decode(latents).sample.float() + 1) / 2


@checked
def train_autoencoder(
    source: Source,
    config: TrainingConfig,
    resolution: int,
    block_out_channels: Sequence[int] = (16, 32, 64),
    latent_channels: int = 4,
    access: Access | None = None,
) -> Record:
    """Train an autoencoder of a source's images on its training patients and save it in `config.output_dir`.

    Args:
        source: the images.
        config: settings of the training run.
        resolution: height and width of the images in pixels.
        block_out_channels: feature maps at 1, 1/2, 1/4, ... of the resolution, two or more, each a multiple of 8; the
            latents have the last of these sizes.
        latent_channels: channels of the latents, one or more.
        access: to the source, recorded because it limits what may be published.

    Returns:
        The record, with the splits trained on and, where the source has a validation split, the mean absolute error of
        its images decoded from posterior means, on the 0-255 scale.

    Raises:
        InputError: for sizes that are not allowed, before any image is read.
    """
    if len(block_out_channels) < 2:
        raise InputError(f"block_out_channels: {list(block_out_channels)} is not allowed; give two or more numbers.")
    if any(channels < GROUPS or channels % GROUPS for channels in block_out_channels):
        raise InputError(
            f"block_out_channels: {list(block_out_channels)} is not allowed; give multiples of {GROUPS} alone."
        )
    if latent_channels < 1:
        raise InputError(f"latent_channels: {latent_channels} is not allowed; give a whole number from 1 on.")
    reduction = 2 ** (len(block_out_channels) - 1)
    if resolution < reduction or resolution % reduction:
        raise InputError(f"resolution: {resolution} is not allowed; give a multiple of {reduction}.")
    check_output_dir(config)
    access = "open" if isinstance(source, DrawnSource) else access_to(source, access)
    examples = TrainingExamples(source, "train", resolution, config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        autoencoder = AutoencoderKL(
            in_channels=channels_of(source),
            out_channels=channels_of(source),
            down_block_types=("DownEncoderBlock2D",) * len(block_out_channels),
            up_block_types=("UpDecoderBlock2D",) * len(block_out_channels),
            block_out_channels=tuple(block_out_channels),
            latent_channels=latent_channels,
            norm_num_groups=GROUPS,
            sample_size=resolution,
            mid_block_add_attention=False,
        )
    patients = {source.patient_ids[row] for row in examples.rows}
    counts = {"source": source.counts, "seen": {"train": {"images": len(examples), "patients": len(patients)}}}
    inputs = {"source": source.fingerprint, "access": access, "architecture": architecture(autoencoder.config)}
    held_out = [row for row, split in enumerate(source.splits) if split == "validation"]

    def save(directory: Path) -> dict[str, dict[str, float]]:
        scale = _latent_scale(autoencoder, _images(source, examples.rows, resolution))
        autoencoder.register_to_config(scaling_factor=1 / scale)
        autoencoder.save_pretrained(directory, safe_serialization=True)
        if not held_out:
            return {}
        error = _reconstruction_error(autoencoder, _images(source, held_out, resolution))
        return {"validation": {"reconstruction": round(error, 5), "n": len(held_out)}}

    return train(AutoencodingObjective(autoencoder), examples, config, save, inputs, counts)


def _images(source: Source, rows: Sequence[int], resolution: int) -> Iterator[Tensor]:
    """The rows' images as they are, in batches `[B, C, r, r]`."""
    for first in range(0, len(rows), BATCH):
        images = [source.image(row, resolution) for row in rows[first : first + BATCH]]
        yield torch.from_numpy(to_batch(images))


@torch.no_grad()
def _latent_scale(autoencoder: AutoencoderKL, batches: Iterator[Tensor]) -> float:
    """Standard deviation of all numbers of all posterior means."""
    count, total, squares = 0, 0.0, 0.0
    for images in batches:
        mean = _posterior(autoencoder, images.to(autoencoder.device))[0].double()
        count, total, squares = count + mean.numel(), total + mean.sum().item(), squares + mean.square().sum().item()
    return float(np.sqrt(squares / count - (total / count) ** 2))


@torch.no_grad()
def _reconstruction_error(autoencoder: AutoencoderKL, batches: Iterator[Tensor]) -> float:
    """Mean `l1` of images and what their posterior means decode to."""
    errors = []
    for images in batches:
        mean, _ = _posterior(autoencoder, images.to(autoencoder.device))
        errors.append(l1(_decode(autoencoder, mean).cpu(), images))
    return float(np.concatenate(errors).mean())


def load_encoder(directory: str | Path) -> Encoder:
    """The encoder of the autoencoder saved in a directory, if it was trained on training patients alone.

    Args:
        directory: written by `train_autoencoder`.

    Returns:
        A function from images `[n, C, r, r]` in [0, 1] to mean and log standard deviation of their posteriors, float32
        `[n, d]` on the CPU, d = c h w; it raises InputError for images of another shape or range.

    Raises:
        InputError: for missing or damaged files, pickle weights and any split but `train` in the record.
    """
    autoencoder = load_weights(directory, AutoencoderKL, "autoencoder")
    channels, side = autoencoder.config["in_channels"], autoencoder.config["sample_size"]

    @torch.no_grad()
    def encoder(images: Tensor) -> tuple[Tensor, Tensor]:
        if images.ndim != 4 or tuple(images.shape[1:]) != (channels, side, side):
            raise InputError(
                f"images: unexpected shape {tuple(images.shape)}; this encoder takes [n, {channels}, {side}, {side}]."
            )
        if not torch.isfinite(images).all() or (len(images) and (images.min() < 0 or images.max() > 1)):
            raise InputError(f"images: values span {images.min():g} to {images.max():g}; expected [0, 1].")
        parts = [_posterior(autoencoder, part.to(autoencoder.device, torch.float32)) for part in images.split(BATCH)]
        means, log_scales = zip(*parts, strict=True)
        return torch.cat(means).flatten(1).cpu(), torch.cat(log_scales).flatten(1).cpu()

    return encoder
