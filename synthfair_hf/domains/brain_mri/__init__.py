"""Brain MRI: the preset, which is a file, and a reader per data set.

- oasis1 — OASIS-1: `oasis1.OASIS1`
- phantom — procedural slices with exact counterfactuals: `phantom.BRAIN_PHANTOM`, `phantom.BrainPhantom`
- ixi — IXI: `ixi.IXI`
- adni — ADNI: `adni.ADNI`
"""
