"""Brain MRI: the preset, which is a file, and a reader per data set.

- oasis1 — OASIS-1: `oasis1.OASIS1`
- ixi — IXI: `ixi.IXI`
- adni — ADNI: `adni.ADNI`
"""
