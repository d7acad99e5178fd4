"""From a picture file to what validation and inference see of it."""

import struct
import zlib

import numpy as np
import pytest
from conftest import denormalised, picture
from PIL import Image

from data import DATASETS, DataError, Preparation, read_picture
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


def test_a_prepared_image_is_shown_as_the_picture_that_it_was():
    upright = picture(30, 20)
    prepare = Preparation(("a",), (3, 20, 30), MEAN, STD)
    images = np.stack([prepare(upright), prepare(upright.rotate(180))])
    np.testing.assert_array_equal(prepare.shown(images[0]), upright)
    np.testing.assert_array_equal(prepare.shown(images)[1], upright.rotate(180))
    grey = Preparation(("a",), (1, 1, 4), (0.3,), (0.5,))
    pixels = (np.array([[[-1, 0.05, 0.2, 7]]]) - 0.3) / 0.5
    assert grey.shown(pixels).tolist() == [[[value] * 3 for value in (0, 13, 51, 255)]]
    assert grey.shown(pixels).dtype == np.uint8


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


@pytest.mark.parametrize("highest, shift", [(200, 0), (4095, 4), (4096, 8), (65535, 8)])
@pytest.mark.parametrize("name", ["scan.png", "scan.tif"])
def test_twelve_bits_in_a_file_of_sixteen_are_not_black(tmp_path, name, highest, shift):
    shades = np.linspace(0, highest, 20 * 30).round().astype(np.uint16).reshape(20, 30)
    Image.fromarray(shades).save(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(read_picture(tmp_path / name))[..., 1], shades >> shift)


@pytest.mark.parametrize("values, complaint", [
    (np.full((4, 4), 0.5, np.float32), "floating-point numbers; wanted 8 or 16 bits"),
    (np.full((4, 4), 70_000, np.int32), "pixels go from 70000 to 70000; wanted 8 or 16 bits"),
    (np.full((4, 4), -1, np.int32), "pixels go from -1 to -1"),
])
def test_pixels_that_are_no_shades_are_named(tmp_path, values, complaint):
    Image.fromarray(values).save(tmp_path / "scan.tif")
    with pytest.raises(DataError, match=f"scan.tif: .*{complaint}"):
        read_picture(tmp_path / "scan.tif")


def test_postscript_called_jpg_starts_nothing(tmp_path, monkeypatch):
    def started(*arguments, **settings):
        raise AssertionError(f"started {arguments}")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", started)
    monkeypatch.setattr("subprocess.Popen", started)
    picture(20, 20).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="a.jpg: cannot be read as an image$"):
        read_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", ["ico", "icns", "tga", "pcx", "sgi", "jpeg2000", "xbm"])
def test_other_formats_are_not_opened_whatever_the_name(tmp_path, kind):
    Image.new("1" if kind == "xbm" else "RGB", (64, 64)).save(tmp_path / "a.jpg", kind)
    with pytest.raises(DataError, match="a.jpg: cannot be read as an image$"):
        read_picture(tmp_path / "a.jpg")


def test_a_tiff_of_a_rare_compression_is_named(tmp_path):
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        picture(20, 20).save(tmp_path / "a.tif", compression=compression)
        assert read_picture(tmp_path / "a.tif").size == (20, 20)
    picture(20, 20).convert("1").save(tmp_path / "a.tif", compression="group4")
    with pytest.raises(DataError, match="a.tif: .*compressed as group4; wanted one of raw, packbits"):
        read_picture(tmp_path / "a.tif")


def header(width, height):
    """A PNG that promises much and holds nothing."""
    chunk = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2, 0, 0, 0)
    end = b"".join(struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) for body in (
        chunk, b"IDAT" + zlib.compress(b""), b"IEND"
    ))
    return b"\x89PNG\r\n\x1a\n" + end


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("width, height, complaint", [
    (20_000, 20_000, "20000 x 20000 pixels; data.max_pixels allows 178,956,970"),
    (1, 1_000_000, "1 x 1000000 pixels, which are more once its short side is scaled to 256; data.max_pixels"),
])
def test_a_picture_that_would_take_gigabytes_is_refused_by_its_header(tmp_path, width, height, complaint):
    (tmp_path / "bomb.png").write_bytes(header(width, height))
    with pytest.raises(DataError, match=f"bomb.png: .*{complaint}"):
        read_picture(tmp_path / "bomb.png")
    with pytest.raises(DataError, match="truncated|broken|premature"):  # allowed, and then seen to be empty
        read_picture(tmp_path / "bomb.png", max_pixels=10**11, short_side=1)


def test_a_key_bounds_the_pixels(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(2):
            picture(60, 50, shift=number).save(tmp_path / name / f"{number}.png")
    settings = {"root": str(tmp_path), "image_size": 16, "resize_short": 20}
    train, _ = DATASETS["image_folder"](**settings, max_pixels=2_999)
    with pytest.raises(DataError, match="60 x 50 pixels; data.max_pixels allows 2,999"):
        train.batch([0], seed=0, epoch=0)
    train, _ = DATASETS["image_folder"](**settings, max_pixels=3_000)
    assert len(train.batch([0], seed=0, epoch=0)["label"]) == 1


@pytest.mark.parametrize("name", ["a\0b.png", "\udc80\ud800.png", "x" * 300 + ".png"])
def test_names_that_no_file_has_are_one_line(tmp_path, name):
    with pytest.raises(DataError, match="no file can have this name|File name too long|no such image"):
        read_picture(f"{tmp_path}/{name}")
