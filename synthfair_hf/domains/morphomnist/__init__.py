"""MorphoMNIST: drawn digits whose thickness and intensity are known causes.

- preset — covariates and causal graph: `preset.MORPHOMNIST`
- source — the digits of a folder: `source.MorphoMNIST`
- stroke — strokes thickened, thinned and measured: `stroke.thicken`, `stroke.mean_thickness`
- world — exact counterfactuals and measured attributes: `world.MorphoMNISTWorld`, `world.MEASURED_ATTRIBUTES`
"""
