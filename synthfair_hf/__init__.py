"""SynthFair: counterfactual chest radiographs whose biases are planted, known and traceable.

sources/, simulators/  images with covariates, real or from worlds whose mechanism is known
schema, presets        what a covariate is; what a domain is
causal/                what would the covariates have been?
diffusion/             what would the image have been?
generate/              plan -> shards -> records
views, builder         a biased view is a filter; `load_dataset("synthfair", "sex_imbalanced_90_10")`
report, cards, cli     what people look at
"""

__version__ = "0.1.0"
