"""A procedural thorax whose counterfactuals are exact.

- preset — covariates and causal graph: `preset.PHANTOM`
- phantom — structural equations of covariates and image: `phantom.Phantom`, `phantom.PhantomSource`
- anatomy — covariates to lengths inside a chest: `anatomy.Body`, `anatomy.measure`
- thorax — a body to a radiograph: `thorax.Thorax`
"""
