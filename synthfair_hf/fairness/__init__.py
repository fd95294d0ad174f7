"""Is the classifier fair? Audit, flips, detection, mitigation and the benchmark of methods."""
