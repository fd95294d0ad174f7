"""Rows to shards: plan (what will exist) -> subjects -> run (carry it out) -> store (files and records)."""
