"""MorphoMNIST: drawn digits whose thickness and intensity are known causes."""
