"""Chest radiographs: the preset, the planted scanners and the readers of each data set."""
