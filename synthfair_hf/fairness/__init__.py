"""Audit a classifier for bias, detect what it exploits, and mitigate it.

- `labelled` — `LabelledImages`: images with labels, groups and subjects, in memory
- `classifier` — `ImageClassifier` and `fit_classifier`: the small classifier that methods are compared on
- `interface` — `Classifier` and `TrainableClassifier`: what is asked of a classifier to audit it, and to fit it
- `adapter` — `AdaptedClassifier`: anybody's network or function as a classifier
- `pretrained` — `open_classifier`: image classifiers of transformers, by directory, Hub or configuration
- `rates` — `METRICS`: metrics of one group, for many bootstrap weightings at once
- `summaries` — `SUMMARIES`: gaps, ratios and worst groups, made of the metrics of every group
- `groups` — `group_codes`: the groups of attributes and of their intersections
- `audit` — `audit`: every metric of every group and intersection, with intervals and permutation tests
- `reliability` — `reliability`: reliability curves, the share with the finding by group and bin of scores
- `predictions` — `read_predictions`: a table of anybody's predictions, CSV or Parquet
- `conditions` — `parse_condition`: conditions on an audit, for checks that fail
- `audit_figures` — `plots_of`: what the page of an audit draws
- `audit_page` — `audit_predictions`: the audit of a table, as a page, tables and a record
- `evaluation` — `audit_classifier` and `detect_classifier`: a saved classifier on a data set of this package
- `trainer_metrics` — `audit_metrics`: fairness metrics for the Trainer of transformers
- `group_figure` — `group_figure`: a picture of one metric by group
- `flips` — `flip_rates`: how often an intervention on an attribute changes the prediction
- `invariance` — `invariance_test`: whether an intervention changes the distribution of scores, by a test
- `influence` — `causal_influence`: the share of predictions owed to each covariate along the causal graph
- `permutation` — `permute`: group labels permuted between subjects and within them
- `detectors` — `DETECTORS`: statistics of how much scores depend on an attribute
- `detection` — `detect`: which attribute a classifier exploits
- `hf_metrics` — `load_metric`: fairness metrics for the library `evaluate`
- `mitigation` — `METHODS`: mitigation methods, one per file
- `benchmark` — `benchmark.board`: views x methods x seeds, and the leaderboard
"""
