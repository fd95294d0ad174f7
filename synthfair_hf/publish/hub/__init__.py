"""Releases on the Hugging Face Hub: one tagged, resumable commit series."""
