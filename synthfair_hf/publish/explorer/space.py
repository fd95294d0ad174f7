"""The explorer as a Space of the Hub: app.py, requirements.txt, README.md, and what it shows.

DIR/README.md, app.py, requirements.txt       the Space
DIR/generator, predictor, data, ...           copies of what was given as directories
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ... import __version__
from ...errors import InputError
from ...records import Access, writable_directory, write_together
from ..pages import render

__all__ = ["write_space"]


def write_space(
    directory: Path,
    title: str,
    options: Sequence[str],
    copied: Mapping[str, Mapping[str, Path]],
    access: Access,
    gradio_version: str,
) -> None:
    """Write a Space that serves the explorer.

    Args:
        directory: that is written; new or empty.
        title: of the domain.
        options: words of the command line, in which a copied directory goes by its new name.
        copied: by new name of a directory, its files by their names in it.
        access: to the real images that what is shown was made from.
        gradio_version: the version to run.

    Raises:
        InputError: the directory holds files, or what is shown is not open.
    """
    if access != "open":
        raise InputError(
            f"access: what this Space would show was made from images that are {access}, not open; give a generator, "
            "predictor and data set made from open ones, or serve the page on your own machine."
        )
    directory = writable_directory(directory)
    if directory.is_dir() and any(directory.iterdir()):
        raise InputError(f"output_dir: {directory} holds files; give a new or an empty directory.")
    page = render(
        "space.md.jinja",
        title=title,
        gradio_version=gradio_version,
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        parts=list(copied),
    )
    for part, files in copied.items():
        for name, path in files.items():
            target = directory / part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    directory.mkdir(parents=True, exist_ok=True)
    write_together(
        {
            directory / "README.md": page.encode(),
            directory / "requirements.txt": f"synthfair-hf[app]=={__version__}\n".encode(),
            directory / "app.py": APP.format(words=["app", *options]).encode(),
        }
    )


APP = '''"""The SynthFair explorer, as `synthfair app` wrote it."""

import os
import sys
from pathlib import Path

from synthfair_hf.cli import main

os.chdir(Path(__file__).parent)
sys.exit(main({words}))
'''
