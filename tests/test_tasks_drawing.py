"""A picture with its objects: boxes where they are, masks that let the picture through, and nothing else changed."""

import numpy as np
import pytest
from PIL import Image

from data import garment_scenes
from engine.tasks.detection.drawing import COLOURS, LETTER, draw_objects
from engine.tasks.detection.results import Answer
from engine.tasks.detection.sheet import CELL, found_below


def test_boxes_and_masks_lie_where_they_are_and_nothing_else_changes():
    picture = Image.new("RGB", (60, 50), (10, 20, 30))
    mask = np.zeros((1, 50, 60), bool)
    mask[0, 35:39, 12:20] = True
    drawn = np.asarray(draw_objects(picture, np.array([[10.0, 30, 25, 45]]), [""], mask, scale=2))
    assert drawn.shape == (100, 120, 3)
    changed = (drawn != (10, 20, 30)).any(axis=2)
    expected = np.zeros((100, 120), bool)
    expected[60:90, 20:50] = True  # the box's edges,
    expected[61:89, 21:49] = False
    expected[70:78, 24:40] = True  # the mask,
    caption = np.zeros_like(expected)
    caption[60 - LETTER - 8 : 60, 20:24] = True  # and a name of no letters
    np.testing.assert_array_equal(changed & ~caption, expected & ~caption)
    orange = np.array([230, 159, 0])
    assert COLOURS[0].lower() == "#e69f00" and (drawn[60, 30] == orange).all()
    np.testing.assert_allclose(drawn[72, 30], 0.55 * np.array([10, 20, 30]) + 0.45 * orange, atol=1)
    assert np.asarray(picture).max() == 30


def test_the_first_of_two_lies_on_top_and_names_stay_in_the_picture():
    picture = Image.new("RGB", (64, 64))
    box = np.array([[5.0, 20, 60, 60]])
    alone, both = (np.asarray(draw_objects(picture, boxes, [name] * len(boxes)))
                   for boxes, name in ((box, ""), (np.repeat(box, 2, axis=0), "")))
    np.testing.assert_array_equal(alone, both)
    corner = np.asarray(draw_objects(picture, np.array([[62.0, 0, 64, 3]]), ["coat"]))
    assert corner[:12].any() and corner.shape == (64, 64, 3)
    assert not np.asarray(draw_objects(picture, np.zeros((0, 4)), [], np.zeros((0, 64, 64), bool))).any()


def test_what_was_found_stands_below_what_is_annotated():
    pytest.importorskip("pycocotools")
    _, scenes = garment_scenes(1, 2, image_size=64)
    nothing = Answer(np.zeros([0, 4]), np.zeros(0), np.zeros(0, int), np.zeros([0, 28, 28]))
    one = Answer(np.float32([[8, 16, 40, 48]]), np.float32([0.9]), np.int64([0]), np.ones([1, 28, 28]))
    plain = [np.asarray(scenes.stored_picture(index).resize((CELL, CELL))) for index in (0, 1)]
    picture = found_below(scenes, [(1, nothing), (0, one)], 0.5)
    assert picture.shape == (2 * CELL, 2 * CELL, 3)
    for column, index in enumerate((1, 0)):
        assert (picture[:CELL, column * CELL : (column + 1) * CELL] != plain[index]).any()
    below = picture[CELL:]
    np.testing.assert_array_equal(below[:, :CELL], plain[1])
    scale = CELL / 64
    box = np.zeros([CELL, CELL], bool)
    box[int(16 * scale) : int(48 * scale), int(8 * scale) : int(40 * scale)] = True
    changed = (below[:, CELL:] != plain[0]).any(axis=2)
    assert changed[box].mean() > 0.95 and not changed[int(48 * scale) + 1 :].any()
    np.testing.assert_array_equal(found_below(scenes, [(0, one)], 0.95)[CELL:], plain[0])
