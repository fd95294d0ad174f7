"""Fitzpatrick17k: clinical photographs with Fitzpatrick skin types, of two atlases.

Groh et al., Fitzpatrick17k, CVPR workshops 2021.
"""

from collections.abc import Iterator

from ..readers import Reader, Row

__all__ = ["Fitzpatrick17k"]


class Fitzpatrick17k(Reader):
    """Neither age nor sex nor patients are told: give it a preset of your own, in which each image is a patient."""

    name, title = "fitzpatrick17k", "Fitzpatrick17k"
    covariates = ("skin_tone", "label", "nine_partition_label", "three_partition_label")
    license, access = "CC BY-NC-SA 3.0 for labels; images belong to the atlases", "unknown"
    download = "needs fitzpatrick17k.csv and the images by their md5hash, in any folder"
    request = "https://github.com/mattgroh/fitzpatrick17k"
    tables = ("fitzpatrick17k.csv",)
    unit = "image"

    def rows(self) -> Iterator[Row]:
        """As `Reader.rows`."""
        for line, row in self.read(*self.tables, needs=("md5hash", *self.covariates[1:])):
            # called fitzpatrick in its first release; -1 is not known
            tone = row.get("fitzpatrick_scale", row.get("fitzpatrick", "")).removesuffix(".0")
            cells = {"skin_tone": "" if tone == "-1" else tone, **{name: row[name] for name in self.covariates[1:]}}
            yield Row(line, self.image(row["md5hash"]), "", cells)
