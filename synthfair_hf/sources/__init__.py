"""Real images with covariates: one file per data set, on the shared contract in source.py."""
