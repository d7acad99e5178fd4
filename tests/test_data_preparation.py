"""From a picture file to what validation and inference see of it."""

import numpy as np
import pytest
from conftest import denormalised, picture
from PIL import Image

from data import DataError, Preparation, read_picture
from data.transforms import MEAN, STD

ORIENTATION = 0x0112  # of EXIF


def centre_crop(image_size, resize_short):
    return Preparation(("a", "b"), (3, image_size, image_size), MEAN, STD, resize_short, "bicubic")


def test_centre_crop_against_a_hand_made_picture():
    # 40 x 20, resized by nothing (the short side is 20 already): a crop of 10 is columns 15-24, rows 5-14.
    pixels = np.arange(20 * 40 * 3).reshape(20, 40, 3).astype(np.uint8)
    image = centre_crop(10, resize_short=20)(Image.fromarray(pixels))
    expected = pixels[5:15, 15:25].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(denormalised(image), expected, atol=1e-6)


def test_validation_scales_the_short_side():
    image = denormalised(centre_crop(16, resize_short=32)(picture(width=128, height=64)))
    # 128 x 64 becomes 64 x 32; the crop of 16 covers x from 24 to 40 of 64 and y from 8 to 24 of 32.
    for channel, axis, low, high in ((0, 1, 24 / 64, 40 / 64), (1, 0, 8 / 32, 24 / 32)):
        line = image[channel].mean(axis=1 - axis)
        step = 1 / (64 if axis else 32)
        np.testing.assert_allclose(line[[0, -1]], [low + step / 2, high - step / 2], atol=0.01)


@pytest.mark.parametrize(
    "orientation, stored",
    [(1, lambda upright: upright), (0, lambda upright: upright),  # 0: a camera that did not know
     (3, lambda upright: upright.rotate(180)),
     (6, lambda upright: upright.transpose(Image.Transpose.ROTATE_90)),  # to be turned by 90 degrees clockwise
     (2, lambda upright: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT))],
)
def test_pictures_are_read_upright(tmp_path, orientation, stored):
    upright, exif = picture(30, 20), Image.Exif()
    exif[ORIENTATION] = orientation
    stored(upright).save(tmp_path / "phone.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "phone.png"), upright)


def test_damaged_exif_does_no_harm(tmp_path):
    picture(30, 20).save(tmp_path / "with.jpg", exif=b"Exif\0\0nothing of the kind")
    picture(30, 20).save(tmp_path / "without.jpg")
    np.testing.assert_array_equal(*(read_picture(tmp_path / name) for name in ("with.jpg", "without.jpg")))


def test_damage_is_found_where_there_is_exif_too(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture(30, 20).save(tmp_path / "phone.png", exif=exif)
    content = bytearray((tmp_path / "phone.png").read_bytes())
    content[content.index(b"IDAT") + 20] ^= 255
    (tmp_path / "phone.png").write_bytes(content)
    with pytest.raises(DataError, match="phone.png: cannot be read as an image"):
        read_picture(tmp_path / "phone.png")


def test_sixteen_bits_of_grey_keep_their_shades(tmp_path):
    shades = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(shades).save(tmp_path / "scan.png")
    pixels = np.asarray(read_picture(tmp_path / "scan.png"))
    np.testing.assert_array_equal(pixels, np.repeat(np.arange(256).reshape(16, 16, 1), 3, axis=2))


def test_what_is_no_picture_is_named_once(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(DataError) as error:
        read_picture(tmp_path / "text.jpg")
    assert str(error.value) == f"{tmp_path / 'text.jpg'}: cannot be read as an image"
