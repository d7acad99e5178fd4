"""A picture with its objects drawn into it: what is annotated, and what a network answers."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from engine.drawing import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, fonts_for_names
from engine.tasks.detection.results import pixels_of
from engine.terminal import printable

COLOURS = (ORANGE, SKY, GREEN, VERMILLION, PURPLE, BLUE)  # of one object after the other
OPACITY = 0.45  # of a mask
LETTER = 11  # pixels of a name's height, whatever the picture's size


def draw_objects(
    picture: Image.Image, boxes: np.ndarray, names: Sequence[str], masks: np.ndarray | None = None, *, scale: int = 1
) -> Image.Image:
    """A copy of an RGB picture, `scale` times as large, with each object's box, name and mask.

    boxes [M, 4], x1, y1, x2, y2 in the picture's pixels; masks bool [M, H, W]. The first object is drawn last, so that
    of answers, the best first, the best is seen whole.
    """
    colours = np.array([ImageColor.getrgb(COLOURS[number % len(COLOURS)]) for number in range(len(boxes))], np.float32)
    if masks is not None and len(masks):
        pixels = np.asarray(picture, np.float32).copy()
        for mask, colour in zip(masks[::-1], colours[::-1], strict=True):
            pixels[mask] += OPACITY * (colour - pixels[mask])
        picture = Image.fromarray(pixels.round().astype(np.uint8))
    drawn = picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.NEAREST)
    draw, font = ImageDraw.Draw(drawn), _font()
    for box, name, colour in list(zip(scale * np.asarray(boxes), names, colours.astype(int), strict=True))[::-1]:
        x1, y1, x2, y2 = (int(round(float(edge))) for edge in box)
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=tuple(colour))
        _, _, width, height = font.getbbox(name)
        left, top = max(0, min(x1, drawn.width - width - 2)), max(0, y1 - height - 2)
        draw.rectangle((left, top, left + width + 1, top + height + 1), fill=tuple(colour))
        draw.text((left + 1, top), name, fill="white" if colour.sum() < 400 else "black", font=font)
    return drawn


def drawable(objects: Sequence[dict]) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """Boxes, names and masks of objects as `told` says them, for `draw_objects`."""
    boxes = np.array([each["box"] for each in objects]).reshape(-1, 4)
    names = [printable(f"{each['class']} {100 * each['score']:.0f} %") for each in objects]
    has_masks = bool(objects) and "mask" in objects[0]
    return boxes, names, np.array([pixels_of(each["mask"]) for each in objects]) if has_masks else None


def _font():
    from matplotlib.font_manager import findfont

    return ImageFont.truetype(findfont(fonts_for_names()[:2][-1]), LETTER)  # the first that has Chinese, if any has
