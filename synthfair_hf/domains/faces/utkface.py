"""UTKFace: faces whose age, sex and race stand in the names of the files.

    [age]_[sex]_[race]_[date and time].jpg      sex 0 male, 1 female; race 0 white, 1 black, 2 asian, 3 indian, 4 other

Zhang et al., Age progression by conditional adversarial autoencoder, CVPR 2017.
"""

import re
from collections.abc import Iterator

from ..readers import Reader, Row

__all__ = ["UTKFace"]

NAME = re.compile(r"([0-9]{1,3})_([01])_([0-4])_.*")
SEXES, RACES = ("male", "female"), ("white", "black", "asian", "indian", "other")


class UTKFace(Reader):
    """Lines in errors count files in order of their names; people are not told, so that each image is one."""

    name, title = "utkface", "UTKFace"
    covariates = ("age", "sex", "race")
    license, access = "for non-commercial research; images belong to their owners", "unknown"
    download = "needs the images, under the names they were published with, in any folder"
    request = "https://susanqq.github.io/UTKFace/"
    unit = "image"

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        for line, name in enumerate(sorted(self.images), 1):
            found = NAME.fullmatch(name)
            if found is None:
                self.left_out["name without age, sex and race"] += 1
                continue
            cells = {"age": found[1], "sex": SEXES[int(found[2])], "race": RACES[int(found[3])]}
            yield Row(line, self.image(name), "", cells)
