"""How good is it? Counterfactual soundness against worlds of known truth, realism, memorisation; always with n."""
