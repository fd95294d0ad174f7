"""Worlds whose true mechanism is known: a procedural thorax, and scanners planted on any radiograph."""
