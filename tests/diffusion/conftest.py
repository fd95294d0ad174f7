"""A tiny pipeline: 16-pixel radiographs in two steps, an unfitted causal model, weights from a seed."""

import pytest
import torch

from synthfair_hf.causal.scm import StructuralCausalModel
from synthfair_hf.diffusion.pipeline import CausalDiffusionPipeline
from synthfair_hf.domains.presets import get_preset


def tiny_pipeline(seed: int = 0) -> CausalDiffusionPipeline:
    torch.manual_seed(seed)
    preset = get_preset("chest_xray")
    preset = preset.restrict(tuple(name for name in preset.covariates.names if name != "race"))
    scm = StructuralCausalModel.from_schema(preset.covariates, preset.edges)
    scm.mechanism("age").prepare(torch.tensor([20.0, 50.0, 80.0]))  # type: ignore[attr-defined]
    pipeline = CausalDiffusionPipeline.from_preset(
        preset, scm, resolution=16, channels=(32, 64), space_to_depth=2, width=16
    )
    pipeline.register_to_config(default_steps=2)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.covariate_encoder, pipeline.scm):
        part.eval()
    return pipeline


@pytest.fixture
def fresh_pipeline() -> CausalDiffusionPipeline:
    """One that a test may change."""
    return tiny_pipeline()


@pytest.fixture(scope="session")
def pipeline() -> CausalDiffusionPipeline:
    return tiny_pipeline()


@pytest.fixture
def covariates() -> dict[str, list]:
    return {
        "age": [30, 61.5, 80],
        "sex": ["male", "female", "female"],
        "finding": ["no_finding", "pneumonia", "no_finding"],
        "view": ["PA", "AP", "AP"],
        "scanner": ["flatpanel", "portable", "computed"],
    }


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(11))
