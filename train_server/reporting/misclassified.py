"""Draw a picture of misclassified test images."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLUMNS, ROWS = 6, 2
SIZE, CAPTION, GAP = 112, 36, 8  # pixels: images are scaled by four, with two lines of text below


def draw_misclassified(images: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> Image.Image | None:
    """Draw the first misclassified images, each with its label and the predicted one; return None if there are none.

    Args:
        images: uint8 (N,28,28).
        labels: the correct labels (N).
        predictions: the labels that the model predicted (N).
    """
    wrong = np.flatnonzero(predictions != labels)[: COLUMNS * ROWS]
    if not len(wrong):
        return None
    picture = Image.new("L", (COLUMNS * (SIZE + GAP) + GAP, ROWS * (SIZE + CAPTION + GAP) + GAP), 255)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)
    for place, number in enumerate(wrong):
        row, column = divmod(place, COLUMNS)
        x, y = GAP + column * (SIZE + GAP), GAP + row * (SIZE + CAPTION + GAP)
        picture.paste(Image.fromarray(images[number]).resize((SIZE, SIZE), Image.Resampling.NEAREST), (x, y))
        draw.multiline_text((x, y + SIZE + 2), f"label {labels[number]}\npredicted {predictions[number]}", 0, font, spacing=2)
    return picture


def as_png(picture: Image.Image) -> bytes:
    """Encode a picture as PNG."""
    content = BytesIO()
    picture.save(content, "PNG", optimize=True)
    return content.getvalue()
