"""A Hub on localhost: what huggingface_hub and datasets ask of the real one, in memory, with faults on request.

repositories -> endpoints -> server, faults -> clients. Read through plain LFS; Xet, pull requests, Spaces and multipart
uploads are not here.
"""

from .faults import Fault
from .server import Entry, Hub

__all__ = ["Entry", "Fault", "Hub"]
