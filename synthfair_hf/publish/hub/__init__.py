"""Releases on the Hugging Face Hub.

- release — files that become one tagged state of a repository: `release.Release`, `release.Target`
- repository — calls that are repeated while failures are temporary: `repository.Repository`
"""
