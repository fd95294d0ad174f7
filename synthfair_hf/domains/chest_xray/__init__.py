"""Chest radiographs: the preset, the planted scanners and the files of each data set."""
