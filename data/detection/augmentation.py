"""What training does to a picture, and to its objects with it."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from data.detection.objects import Objects, can_be_learned, clipped, flipped
from data.detection.preparation import resized


def augmented(
    rng: np.random.Generator, picture: Image.Image, objects_at: Callable[[tuple[int, int]], Objects], *,
    short_sides: Sequence[int], long_side: int, flip: bool,
) -> tuple[Image.Image, Objects]:
    """The picture resized and maybe mirrored, with those objects of it that something can be learned of.

    The short side becomes one of `short_sides`, by chance, or less where the long side would be longer than `long_side`
    pixels; half of the pictures are mirrored if `flip`. objects_at gives the objects of the picture when it is resized
    to (height, width): masks of photographs are never there at full size together.
    """
    which, mirrored = rng.random(2).tolist()
    picture = resized(picture, short_sides[int(which * len(short_sides))], long_side)
    width, height = picture.size
    objects = objects_at((height, width))
    if flip and mirrored < 0.5:
        picture, objects = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), flipped(objects, width)
    objects = clipped(objects, height, width)
    return picture, objects.chosen(can_be_learned(objects))
