"""Worlds whose true mechanism is known: a procedural thorax, scanners planted on any radiograph, and drawn digits."""

WORLD_SEED = 0
"""Seed of the planted acquisition and of the phantom: one fixed world, seen alike by every run."""
