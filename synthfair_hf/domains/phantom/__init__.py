"""The phantom: procedural chest radiographs whose every counterfactual is known."""
