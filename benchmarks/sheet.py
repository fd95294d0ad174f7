"""A sheet of pictures with a label above every column and beside every row."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

__all__ = ["sheet"]

INK, PAPER = "black", "white"


def sheet(
    pictures: Sequence[Sequence[Image.Image | None]],
    columns: Sequence[str],
    rows: Sequence[str],
    gap: int = 4,
    size: int = 13,
) -> Image.Image:
    """Pictures in rows, labelled.

    Args:
        pictures: Rows of equally many pictures of one size; None leaves its place empty.
        columns: A label for each column, above it; may have several lines.
        rows: A label for each row, to its left; may have several lines, or be empty.
        gap: Pixels between pictures.
        size: Height of the letters in pixels.

    Raises:
        ValueError: If labels and pictures differ in number, or a label is wider than its column.
    """
    if len(rows) != len(pictures) or any(len(line) != len(columns) for line in pictures):
        raise ValueError("columns and rows: there must be one label for each column and each row of pictures.")
    font = ImageFont.load_default(size)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    boxes = {text: measure.multiline_textbbox((0, 0), text, font=font) for text in (*columns, *rows)}
    width, height = next(one.size for line in pictures for one in line if one is not None)
    for text in columns:
        if boxes[text][2] > width + gap:
            raise ValueError(
                f"columns: {text!r} is {boxes[text][2]:.0f} pixels wide, a picture {width}; break the line."
            )
    left = round(max(boxes[text][2] for text in rows)) + 2 * gap
    top = round(max(boxes[text][3] for text in columns)) + 2 * gap
    drawn = Image.new("RGB", (left + len(columns) * (width + gap), top + len(rows) * (height + gap)), PAPER)
    pen = ImageDraw.Draw(drawn)
    for place, text in enumerate(columns):
        at = (left + place * (width + gap) + width // 2, top - gap)
        pen.multiline_text(at, text, INK, font, anchor="md", align="center")
    for place, (text, line) in enumerate(zip(rows, pictures, strict=True)):
        edge = top + place * (height + gap)
        pen.multiline_text((left - gap, edge + height // 2), text, INK, font, anchor="rm", align="right")
        for column, one in enumerate(line):
            if one is not None:
                drawn.paste(one, (left + column * (width + gap), edge))
    return drawn
