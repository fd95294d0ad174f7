"""Chest radiographs: the preset, the planted scanners and the files of each data set.

- preset — covariates, causal graph and curated views: `preset.CHEST_XRAY`
- scanners — scanners as known transforms of any radiograph: `scanners.SCANNERS`, `scanners.AcquisitionWorld`
- nih_chestxray14 — the label table of ChestX-ray14: `nih_chestxray14.read_table`
- nih_bounding_boxes — boxes around its findings: `nih_bounding_boxes.read_boxes`, `nih_bounding_boxes.finding_masks`
"""
