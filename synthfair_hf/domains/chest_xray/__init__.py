"""Chest radiographs: the preset, the planted scanners and the files of each data set.

- preset — covariates, causal graph and curated views: `preset.CHEST_XRAY`
- findings — presets with several findings: `findings.CHEXPERT`, `findings.NIH_CHESTXRAY14`
- scanners — scanners as known transforms of any radiograph: `scanners.SCANNERS`, `scanners.AcquisitionWorld`
- mimic_cxr — MIMIC-CXR-JPG with MIMIC-IV: `mimic_cxr.MimicCXR`
- chexpert — CheXpert: `chexpert.CheXpert`
- chexpert_plus — CheXpert Plus: `chexpert_plus.CheXpertPlus`
- padchest — PadChest: `padchest.PadChest`
- vindr_cxr — VinDr-CXR: `vindr_cxr.VinDrCXR`
- brax — BRAX: `brax.Brax`
- rsna_pneumonia — the RSNA Pneumonia Detection Challenge: `rsna_pneumonia.RSNAPneumonia`
- nih_chestxray14 — ChestX-ray14, and its labels alone: `nih_chestxray14.NIHChestXray14`, `nih_chestxray14.read_table`
- nih_bounding_boxes — boxes around its findings: `nih_bounding_boxes.read_boxes`, `nih_bounding_boxes.finding_masks`
"""
