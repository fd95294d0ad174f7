"""Loading script of SynthFair data sets for `datasets` < 4; a newer one reads the data set's card instead.

    load_dataset("loading_script/synthfair.py", "sex_imbalanced_90_10", data_dir="synthfair", trust_remote_code=True)

Self-contained. Keep it away from the data: `datasets` >= 4 does not load a directory that holds a script of its own name.
"""

import glob
import json
import os

import datasets
import pyarrow.dataset
import pyarrow.parquet

SPLITS = ("train", "validation", "test")

# A view keeps the rows that pass every clause of one of its lines; no line keeps every row. Levels are given by name.
# The table is written by synthfair_hf.publish.dataset_card.update_view_table.
# fmt: off
VIEWS = {
    "full": [
    ],
    "sex_imbalanced_50_50": [
      [["split", "==", "train"], ["sex", "==", "male"], ["draw", "<", 0.5]],
      [["split", "==", "train"], ["sex", "==", "female"], ["draw", ">=", 0.5]],
      [["split", "!=", "train"]],
    ],
    "sex_imbalanced_60_40": [
      [["split", "==", "train"], ["sex", "==", "male"], ["draw", "<", 0.6]],
      [["split", "==", "train"], ["sex", "==", "female"], ["draw", ">=", 0.6]],
      [["split", "!=", "train"]],
    ],
    "sex_imbalanced_70_30": [
      [["split", "==", "train"], ["sex", "==", "male"], ["draw", "<", 0.7]],
      [["split", "==", "train"], ["sex", "==", "female"], ["draw", ">=", 0.7]],
      [["split", "!=", "train"]],
    ],
    "sex_imbalanced_80_20": [
      [["split", "==", "train"], ["sex", "==", "male"], ["draw", "<", 0.8]],
      [["split", "==", "train"], ["sex", "==", "female"], ["draw", ">=", 0.8]],
      [["split", "!=", "train"]],
    ],
    "sex_imbalanced_90_10": [
      [["split", "==", "train"], ["sex", "==", "male"], ["draw", "<", 0.9]],
      [["split", "==", "train"], ["sex", "==", "female"], ["draw", ">=", 0.9]],
      [["split", "!=", "train"]],
    ],
    "sex_imbalanced_95_5": [
      [["split", "==", "train"], ["sex", "==", "male"], ["draw", "<", 0.95]],
      [["split", "==", "train"], ["sex", "==", "female"], ["draw", ">=", 0.95]],
      [["split", "!=", "train"]],
    ],
    "sex_imbalanced_40_60": [
      [["split", "==", "train"], ["sex", "==", "male"], ["draw", "<", 0.4]],
      [["split", "==", "train"], ["sex", "==", "female"], ["draw", ">=", 0.4]],
      [["split", "!=", "train"]],
    ],
    "sex_imbalanced_30_70": [
      [["split", "==", "train"], ["sex", "==", "male"], ["draw", "<", 0.3]],
      [["split", "==", "train"], ["sex", "==", "female"], ["draw", ">=", 0.3]],
      [["split", "!=", "train"]],
    ],
    "sex_imbalanced_20_80": [
      [["split", "==", "train"], ["sex", "==", "male"], ["draw", "<", 0.2]],
      [["split", "==", "train"], ["sex", "==", "female"], ["draw", ">=", 0.2]],
      [["split", "!=", "train"]],
    ],
    "sex_imbalanced_10_90": [
      [["split", "==", "train"], ["sex", "==", "male"], ["draw", "<", 0.1]],
      [["split", "==", "train"], ["sex", "==", "female"], ["draw", ">=", 0.1]],
      [["split", "!=", "train"]],
    ],
    "sex_imbalanced_5_95": [
      [["split", "==", "train"], ["sex", "==", "male"], ["draw", "<", 0.05]],
      [["split", "==", "train"], ["sex", "==", "female"], ["draw", ">=", 0.05]],
      [["split", "!=", "train"]],
    ],
    "age_imbalanced_50_50": [
      [["split", "==", "train"], ["age", "<", 50.0], ["draw", "<", 0.5]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["draw", ">=", 0.5]],
      [["split", "!=", "train"]],
    ],
    "age_imbalanced_60_40": [
      [["split", "==", "train"], ["age", "<", 50.0], ["draw", "<", 0.6]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["draw", ">=", 0.6]],
      [["split", "!=", "train"]],
    ],
    "age_imbalanced_70_30": [
      [["split", "==", "train"], ["age", "<", 50.0], ["draw", "<", 0.7]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["draw", ">=", 0.7]],
      [["split", "!=", "train"]],
    ],
    "age_imbalanced_80_20": [
      [["split", "==", "train"], ["age", "<", 50.0], ["draw", "<", 0.8]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["draw", ">=", 0.8]],
      [["split", "!=", "train"]],
    ],
    "age_imbalanced_90_10": [
      [["split", "==", "train"], ["age", "<", 50.0], ["draw", "<", 0.9]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["draw", ">=", 0.9]],
      [["split", "!=", "train"]],
    ],
    "age_imbalanced_95_5": [
      [["split", "==", "train"], ["age", "<", 50.0], ["draw", "<", 0.95]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["draw", ">=", 0.95]],
      [["split", "!=", "train"]],
    ],
    "age_imbalanced_40_60": [
      [["split", "==", "train"], ["age", "<", 50.0], ["draw", "<", 0.4]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["draw", ">=", 0.4]],
      [["split", "!=", "train"]],
    ],
    "age_imbalanced_30_70": [
      [["split", "==", "train"], ["age", "<", 50.0], ["draw", "<", 0.3]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["draw", ">=", 0.3]],
      [["split", "!=", "train"]],
    ],
    "age_imbalanced_20_80": [
      [["split", "==", "train"], ["age", "<", 50.0], ["draw", "<", 0.2]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["draw", ">=", 0.2]],
      [["split", "!=", "train"]],
    ],
    "age_imbalanced_10_90": [
      [["split", "==", "train"], ["age", "<", 50.0], ["draw", "<", 0.1]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["draw", ">=", 0.1]],
      [["split", "!=", "train"]],
    ],
    "age_imbalanced_5_95": [
      [["split", "==", "train"], ["age", "<", 50.0], ["draw", "<", 0.05]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["draw", ">=", 0.05]],
      [["split", "!=", "train"]],
    ],
    "finding_sex_correlated_50_50": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "male"], ["draw", "<", 0.5]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "female"], ["draw", ">=", 0.5]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "male"], ["draw", ">=", 0.5]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "female"], ["draw", "<", 0.5]],
      [["split", "!=", "train"]],
    ],
    "finding_sex_correlated_60_40": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "male"], ["draw", "<", 0.6]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "female"], ["draw", ">=", 0.6]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "male"], ["draw", ">=", 0.6]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "female"], ["draw", "<", 0.6]],
      [["split", "!=", "train"]],
    ],
    "finding_sex_correlated_70_30": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "male"], ["draw", "<", 0.7]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "female"], ["draw", ">=", 0.7]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "male"], ["draw", ">=", 0.7]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "female"], ["draw", "<", 0.7]],
      [["split", "!=", "train"]],
    ],
    "finding_sex_correlated_80_20": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "male"], ["draw", "<", 0.8]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "female"], ["draw", ">=", 0.8]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "male"], ["draw", ">=", 0.8]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "female"], ["draw", "<", 0.8]],
      [["split", "!=", "train"]],
    ],
    "finding_sex_correlated_90_10": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "male"], ["draw", "<", 0.9]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "female"], ["draw", ">=", 0.9]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "male"], ["draw", ">=", 0.9]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "female"], ["draw", "<", 0.9]],
      [["split", "!=", "train"]],
    ],
    "finding_sex_correlated_95_5": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "male"], ["draw", "<", 0.95]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "female"], ["draw", ">=", 0.95]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "male"], ["draw", ">=", 0.95]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "female"], ["draw", "<", 0.95]],
      [["split", "!=", "train"]],
    ],
    "finding_sex_correlated_40_60": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "male"], ["draw", "<", 0.4]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "female"], ["draw", ">=", 0.4]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "male"], ["draw", ">=", 0.4]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "female"], ["draw", "<", 0.4]],
      [["split", "!=", "train"]],
    ],
    "finding_sex_correlated_30_70": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "male"], ["draw", "<", 0.3]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "female"], ["draw", ">=", 0.3]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "male"], ["draw", ">=", 0.3]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "female"], ["draw", "<", 0.3]],
      [["split", "!=", "train"]],
    ],
    "finding_sex_correlated_20_80": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "male"], ["draw", "<", 0.2]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "female"], ["draw", ">=", 0.2]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "male"], ["draw", ">=", 0.2]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "female"], ["draw", "<", 0.2]],
      [["split", "!=", "train"]],
    ],
    "finding_sex_correlated_10_90": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "male"], ["draw", "<", 0.1]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "female"], ["draw", ">=", 0.1]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "male"], ["draw", ">=", 0.1]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "female"], ["draw", "<", 0.1]],
      [["split", "!=", "train"]],
    ],
    "finding_sex_correlated_5_95": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "male"], ["draw", "<", 0.05]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["sex", "==", "female"], ["draw", ">=", 0.05]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "male"], ["draw", ">=", 0.05]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["sex", "==", "female"], ["draw", "<", 0.05]],
      [["split", "!=", "train"]],
    ],
    "finding_scanner_correlated_50_50": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["draw", "<", 0.5]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["draw", ">=", 0.5]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["draw", ">=", 0.5]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["draw", "<", 0.5]],
      [["split", "!=", "train"]],
    ],
    "finding_scanner_correlated_60_40": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["draw", "<", 0.6]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["draw", ">=", 0.6]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["draw", ">=", 0.6]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["draw", "<", 0.6]],
      [["split", "!=", "train"]],
    ],
    "finding_scanner_correlated_70_30": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["draw", "<", 0.7]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["draw", ">=", 0.7]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["draw", ">=", 0.7]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["draw", "<", 0.7]],
      [["split", "!=", "train"]],
    ],
    "finding_scanner_correlated_80_20": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["draw", "<", 0.8]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["draw", ">=", 0.8]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["draw", ">=", 0.8]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["draw", "<", 0.8]],
      [["split", "!=", "train"]],
    ],
    "finding_scanner_correlated_90_10": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["draw", "<", 0.9]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["draw", ">=", 0.9]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["draw", ">=", 0.9]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["draw", "<", 0.9]],
      [["split", "!=", "train"]],
    ],
    "finding_scanner_correlated_95_5": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["draw", "<", 0.95]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["draw", ">=", 0.95]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["draw", ">=", 0.95]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["draw", "<", 0.95]],
      [["split", "!=", "train"]],
    ],
    "finding_scanner_correlated_40_60": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["draw", "<", 0.4]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["draw", ">=", 0.4]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["draw", ">=", 0.4]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["draw", "<", 0.4]],
      [["split", "!=", "train"]],
    ],
    "finding_scanner_correlated_30_70": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["draw", "<", 0.3]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["draw", ">=", 0.3]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["draw", ">=", 0.3]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["draw", "<", 0.3]],
      [["split", "!=", "train"]],
    ],
    "finding_scanner_correlated_20_80": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["draw", "<", 0.2]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["draw", ">=", 0.2]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["draw", ">=", 0.2]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["draw", "<", 0.2]],
      [["split", "!=", "train"]],
    ],
    "finding_scanner_correlated_10_90": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["draw", "<", 0.1]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["draw", ">=", 0.1]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["draw", ">=", 0.1]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["draw", "<", 0.1]],
      [["split", "!=", "train"]],
    ],
    "finding_scanner_correlated_5_95": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["draw", "<", 0.05]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["draw", ">=", 0.05]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["draw", ">=", 0.05]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["draw", "<", 0.05]],
      [["split", "!=", "train"]],
    ],
    "finding_age_correlated_50_50": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["age", "<", 50.0], ["draw", "<", 0.5]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["age", ">=", 50.0], ["draw", ">=", 0.5]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["age", "<", 50.0], ["draw", ">=", 0.5]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["age", ">=", 50.0], ["draw", "<", 0.5]],
      [["split", "!=", "train"]],
    ],
    "finding_age_correlated_90_10": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["age", "<", 50.0], ["draw", "<", 0.9]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["age", ">=", 50.0], ["draw", ">=", 0.9]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["age", "<", 50.0], ["draw", ">=", 0.9]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["age", ">=", 50.0], ["draw", "<", 0.9]],
      [["split", "!=", "train"]],
    ],
    "finding_age_correlated_10_90": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["age", "<", 50.0], ["draw", "<", 0.1]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["age", ">=", 50.0], ["draw", ">=", 0.1]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["age", "<", 50.0], ["draw", ">=", 0.1]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["age", ">=", 50.0], ["draw", "<", 0.1]],
      [["split", "!=", "train"]],
    ],
    "scanner_sex_correlated_50_50": [
      [["split", "==", "train"], ["scanner", "==", "portable"], ["sex", "==", "male"], ["draw", "<", 0.5]],
      [["split", "==", "train"], ["scanner", "==", "portable"], ["sex", "==", "female"], ["draw", ">=", 0.5]],
      [["split", "==", "train"], ["scanner", "==", "flatpanel"], ["sex", "==", "male"], ["draw", ">=", 0.5]],
      [["split", "==", "train"], ["scanner", "==", "flatpanel"], ["sex", "==", "female"], ["draw", "<", 0.5]],
      [["split", "!=", "train"]],
    ],
    "scanner_sex_correlated_90_10": [
      [["split", "==", "train"], ["scanner", "==", "portable"], ["sex", "==", "male"], ["draw", "<", 0.9]],
      [["split", "==", "train"], ["scanner", "==", "portable"], ["sex", "==", "female"], ["draw", ">=", 0.9]],
      [["split", "==", "train"], ["scanner", "==", "flatpanel"], ["sex", "==", "male"], ["draw", ">=", 0.9]],
      [["split", "==", "train"], ["scanner", "==", "flatpanel"], ["sex", "==", "female"], ["draw", "<", 0.9]],
      [["split", "!=", "train"]],
    ],
    "scanner_sex_correlated_10_90": [
      [["split", "==", "train"], ["scanner", "==", "portable"], ["sex", "==", "male"], ["draw", "<", 0.1]],
      [["split", "==", "train"], ["scanner", "==", "portable"], ["sex", "==", "female"], ["draw", ">=", 0.1]],
      [["split", "==", "train"], ["scanner", "==", "flatpanel"], ["sex", "==", "male"], ["draw", ">=", 0.1]],
      [["split", "==", "train"], ["scanner", "==", "flatpanel"], ["sex", "==", "female"], ["draw", "<", 0.1]],
      [["split", "!=", "train"]],
    ],
    "sex_imbalanced_in_50_years_and_older_50_50": [
      [["split", "==", "train"], ["age", "<", 50.0], ["sex", "==", "male"], ["draw", "<", 0.5]],
      [["split", "==", "train"], ["age", "<", 50.0], ["sex", "==", "female"], ["draw", ">=", 0.5]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["sex", "==", "male"], ["draw", "<", 0.5]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["sex", "==", "female"], ["draw", ">=", 0.5]],
      [["split", "!=", "train"]],
    ],
    "sex_imbalanced_in_50_years_and_older_90_10": [
      [["split", "==", "train"], ["age", "<", 50.0], ["sex", "==", "male"], ["draw", "<", 0.5]],
      [["split", "==", "train"], ["age", "<", 50.0], ["sex", "==", "female"], ["draw", ">=", 0.5]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["sex", "==", "male"], ["draw", "<", 0.9]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["sex", "==", "female"], ["draw", ">=", 0.9]],
      [["split", "!=", "train"]],
    ],
    "sex_imbalanced_in_50_years_and_older_10_90": [
      [["split", "==", "train"], ["age", "<", 50.0], ["sex", "==", "male"], ["draw", "<", 0.5]],
      [["split", "==", "train"], ["age", "<", 50.0], ["sex", "==", "female"], ["draw", ">=", 0.5]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["sex", "==", "male"], ["draw", "<", 0.1]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["sex", "==", "female"], ["draw", ">=", 0.1]],
      [["split", "!=", "train"]],
    ],
    "finding_prevalence_by_sex_50_50": [
      [["split", "==", "train"], ["sex", "==", "male"], ["finding", "==", "pneumonia"], ["draw", "<", 0.5]],
      [["split", "==", "train"], ["sex", "==", "male"], ["finding", "==", "no_finding"], ["draw", ">=", 0.5]],
      [["split", "==", "train"], ["sex", "==", "female"], ["finding", "==", "pneumonia"], ["draw", "<", 0.5]],
      [["split", "==", "train"], ["sex", "==", "female"], ["finding", "==", "no_finding"], ["draw", ">=", 0.5]],
      [["split", "!=", "train"]],
    ],
    "finding_prevalence_by_sex_80_20": [
      [["split", "==", "train"], ["sex", "==", "male"], ["finding", "==", "pneumonia"], ["draw", "<", 0.8]],
      [["split", "==", "train"], ["sex", "==", "male"], ["finding", "==", "no_finding"], ["draw", ">=", 0.8]],
      [["split", "==", "train"], ["sex", "==", "female"], ["finding", "==", "pneumonia"], ["draw", "<", 0.2]],
      [["split", "==", "train"], ["sex", "==", "female"], ["finding", "==", "no_finding"], ["draw", ">=", 0.2]],
      [["split", "!=", "train"]],
    ],
    "finding_prevalence_by_sex_20_80": [
      [["split", "==", "train"], ["sex", "==", "male"], ["finding", "==", "pneumonia"], ["draw", "<", 0.2]],
      [["split", "==", "train"], ["sex", "==", "male"], ["finding", "==", "no_finding"], ["draw", ">=", 0.2]],
      [["split", "==", "train"], ["sex", "==", "female"], ["finding", "==", "pneumonia"], ["draw", "<", 0.8]],
      [["split", "==", "train"], ["sex", "==", "female"], ["finding", "==", "no_finding"], ["draw", ">=", 0.8]],
      [["split", "!=", "train"]],
    ],
    "finding_prevalence_by_age_60_20": [
      [["split", "==", "train"], ["age", "<", 50.0], ["finding", "==", "pneumonia"], ["draw", "<", 0.6]],
      [["split", "==", "train"], ["age", "<", 50.0], ["finding", "==", "no_finding"], ["draw", ">=", 0.6]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["finding", "==", "pneumonia"], ["draw", "<", 0.2]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["finding", "==", "no_finding"], ["draw", ">=", 0.2]],
      [["split", "!=", "train"]],
    ],
    "finding_prevalence_by_age_40_40": [
      [["split", "==", "train"], ["age", "<", 50.0], ["finding", "==", "pneumonia"], ["draw", "<", 0.4]],
      [["split", "==", "train"], ["age", "<", 50.0], ["finding", "==", "no_finding"], ["draw", ">=", 0.4]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["finding", "==", "pneumonia"], ["draw", "<", 0.4]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["finding", "==", "no_finding"], ["draw", ">=", 0.4]],
      [["split", "!=", "train"]],
    ],
    "sex_missing_male": [
      [["split", "==", "train"], ["sex", "==", "male"], ["draw", "<", 0.0]],
      [["split", "==", "train"], ["sex", "==", "female"]],
      [["split", "!=", "train"]],
    ],
    "sex_missing_female": [
      [["split", "==", "train"], ["sex", "==", "male"]],
      [["split", "==", "train"], ["sex", "==", "female"], ["draw", ">=", 1.0]],
      [["split", "!=", "train"]],
    ],
    "age_missing_under_50_years": [
      [["split", "==", "train"], ["age", "<", 50.0], ["draw", "<", 0.0]],
      [["split", "==", "train"], ["age", ">=", 50.0]],
      [["split", "!=", "train"]],
    ],
    "age_missing_50_years_and_older": [
      [["split", "==", "train"], ["age", "<", 50.0]],
      [["split", "==", "train"], ["age", ">=", 50.0], ["draw", ">=", 1.0]],
      [["split", "!=", "train"]],
    ],
    "finding_scanner_correlated_50_50+sex_imbalanced_50_50": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["sex", "==", "male"], ["draw", "<", 0.25]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["sex", "==", "female"], ["draw", ">=", 0.25], ["draw", "<", 0.5]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["sex", "==", "male"], ["draw", ">=", 0.5], ["draw", "<", 0.75]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["sex", "==", "female"], ["draw", ">=", 0.75]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["sex", "==", "male"], ["draw", ">=", 0.5], ["draw", "<", 0.75]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["sex", "==", "female"], ["draw", ">=", 0.75]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["sex", "==", "male"], ["draw", "<", 0.25]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["sex", "==", "female"], ["draw", ">=", 0.25], ["draw", "<", 0.5]],
      [["split", "!=", "train"]],
    ],
    "finding_scanner_correlated_90_10+sex_imbalanced_90_10": [
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["sex", "==", "male"], ["draw", "<", 0.81]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "portable"], ["sex", "==", "female"], ["draw", ">=", 0.81], ["draw", "<", 0.9]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["sex", "==", "male"], ["draw", ">=", 0.9], ["draw", "<", 0.99]],
      [["split", "==", "train"], ["finding", "==", "pneumonia"], ["scanner", "==", "flatpanel"], ["sex", "==", "female"], ["draw", ">=", 0.99]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["sex", "==", "male"], ["draw", ">=", 0.9], ["draw", "<", 0.99]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "portable"], ["sex", "==", "female"], ["draw", ">=", 0.99]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["sex", "==", "male"], ["draw", "<", 0.81]],
      [["split", "==", "train"], ["finding", "==", "no_finding"], ["scanner", "==", "flatpanel"], ["sex", "==", "female"], ["draw", ">=", 0.81], ["draw", "<", 0.9]],
      [["split", "!=", "train"]],
    ],
}
# fmt: on


class Config(datasets.BuilderConfig):
    """A view; its cache is keyed by the bytes of the data set as well, so that it does not outlive them."""

    def create_config_id(self, config_kwargs, custom_features=None):
        """The name of the cache directory."""
        return super().create_config_id({**config_kwargs, "store": identity(self.data_dir)}, custom_features)


class SynthFair(datasets.ArrowBasedBuilder):
    """A view of the data set that `synthfair generate` wrote to `data_dir`."""

    BUILDER_CONFIGS = [Config(name=name) for name in VIEWS]  # noqa: RUF012
    BUILDER_CONFIG_CLASS = Config
    DEFAULT_CONFIG_NAME = "full"

    def _info(self):
        return datasets.DatasetInfo()

    def _split_generators(self, dl_manager):
        patterns = [os.path.join(self.config.data_dir, "data", "{}" + rest) for rest in ("-*.parquet", "/*/*.parquet")]
        files = {split: sorted(path for one in patterns for path in glob.glob(one.format(split))) for split in SPLITS}
        self.info.features = features_of(pyarrow.parquet.read_schema(files["train"][0]))
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"files": paths}) for split, paths in files.items() if paths
        ]

    def _generate_tables(self, files):
        schema = self.info.features.arrow_schema
        keep = expression(VIEWS[self.config.name], self.info.features)
        checked = pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)
        parquet = pyarrow.dataset.ParquetFileFormat(default_fragment_scan_options=checked)
        for path in files:
            for index, batch in enumerate(pyarrow.dataset.dataset(path, format=parquet).to_batches(filter=keep)):
                yield f"{path}-{index}", pyarrow.Table.from_batches([batch]).cast(schema)


def identity(directory):
    """Identity of the stored bytes, from the record of the run that wrote them."""
    if directory is None:
        raise ValueError("data_dir: not given; give the directory that `synthfair generate` wrote.")
    path = os.path.join(directory, "records", "generate.json")
    if not os.path.isfile(path):
        raise ValueError(f"data_dir: {path} is not there; give the directory that `synthfair generate` finished.")
    with open(path) as file:
        return json.load(file)["counts"]["store"]


def features_of(schema):
    """The features a newer `datasets` wrote into the file, in words this one knows."""
    written = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    return datasets.Features.from_dict(_older(written))


def _older(feature):
    """`List` was called `Sequence`."""
    if not isinstance(feature, dict):
        return feature
    if feature.get("_type") == "List":
        feature = {**feature, "_type": "Sequence"}
    return {key: _older(value) for key, value in feature.items()}


def expression(lines, features):
    """A view's lines as a filter on the stored columns; None keeps every row."""
    if not lines:
        return None
    return pyarrow.parquet.filters_to_expression(
        [[(column, operator, _stored(value, features[column])) for column, operator, value in line] for line in lines]
    )


def _stored(value, feature):
    return feature.str2int(value) if isinstance(feature, datasets.ClassLabel) else value
