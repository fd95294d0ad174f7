"""Skin lesions: the preset, which is a file, and a reader per data set.

- ham10000 — HAM10000: `ham10000.HAM10000`
- isic — the ISIC challenges of 2019 and 2020: `isic.ISIC`
- fitzpatrick17k — Fitzpatrick17k: `fitzpatrick17k.Fitzpatrick17k`
- phantom — procedural lesions with exact counterfactuals: `phantom.SKIN_PHANTOM`, `phantom.SkinPhantom`
- appearance — what its skin and lesions look like: `appearance.LESIONS`, `appearance.SITES`
"""
