"""Faces: readers for a preset of the user's own.

- utkface — UTKFace: `utkface.UTKFace`
"""
