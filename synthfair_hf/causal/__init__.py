"""What would the covariates have been? Structural causal models of covariates.

- graph — which covariates cause which: `graph.CausalGraph`
- mechanisms — how one covariate arises from its causes: `mechanisms.Mechanism`, `mechanisms.InvertibleMechanism`,
  `mechanisms.SplineFlowMechanism`, `mechanisms.GumbelMaxMechanism`
- fitting — what fits a mechanism: `fitting.fit_by_steps`, `fitting.fit_by_counts`
- uniform — covariates without causes: `uniform.UniformModel`
- scm — observe, intervene, counterfactual: `scm.StructuralCausalModel`
"""
