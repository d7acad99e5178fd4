"""Garments in random geometry: what one geometry draws, what is drawn at random, and what that depends on."""

import numpy as np
import pytest
from conftest import ROOT, is_one_line, run_tool
from PIL import Image

from data import DATASETS, DataError, Loader
from data.arrays import ArrayDataset
from data.randomness import generator
from data.warped import Geometry, WarpedDataset, draw, random_geometry
from engine.build import build_data
from engine.config import load_config
from engine.errors import InputError

NO_WAVES = {"waves": np.zeros((1, 2)), "phases": np.zeros(1), "pushes": np.zeros((1, 2))}


def garment(height=5, width=8, seed=0):
    return generator(9, seed).integers(1, 256, (height, width), dtype=np.uint8)


def white_set(image_size, warp, count=200, **settings):
    images = np.full((count, 1, 28, 28), 255, np.uint8)
    whites = ArrayDataset(images, np.zeros(count), ("white",), source="here", mean=(0.5,), std=(0.25,))
    return WarpedDataset(whites, image_size, warp, **settings)


def small_sets(**settings):
    return DATASETS["warped_fashion_mnist"](train_images=40, validation_images=20, **settings)


def pixels_of(batch):
    return np.rint((batch["image"] * 0.3530 + 0.2860) * 255).astype(np.uint8)


def drawn_slowly(picture, geometry, size):
    """The docstring of Geometry in float64, pixel by pixel."""
    height, width = picture.shape

    def at(y, x):
        return float(picture[y, x]) if 0 <= y < height and 0 <= x < width else 0.0

    canvas = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            u = np.linalg.solve(geometry.matrix, np.array([i, j]) - geometry.position)
            q = u.copy()
            for wave, phase, push in zip(geometry.waves, geometry.phases, geometry.pushes, strict=True):
                q += push * np.sin(wave @ u + phase)
            y, x = q + ((height - 1) / 2, (width - 1) / 2)
            top, left = int(np.floor(y)), int(np.floor(x))
            canvas[i, j] = sum(
                (1 - abs(y - row)) * (1 - abs(x - column)) * at(row, column)
                for row in (top, top + 1) for column in (left, left + 1)
            )
    return canvas


def test_a_quarter_turn_and_a_wave_by_hand():
    picture = garment(5, 8)
    turned = draw(picture, Geometry(np.array([[0, -1], [1, 0]]), np.array([6.5, 4.0]), **NO_WAVES), 12)
    expected = np.zeros((12, 12), np.uint8)
    expected[3:11, 2:7] = np.rot90(picture)
    np.testing.assert_array_equal(turned, expected)
    # A wave of length infinity at its crest pushes the whole garment: what is seen one column to the right comes here.
    pushed = Geometry(np.eye(2), np.array([4.0, 5.5]), np.zeros((1, 2)), np.array([np.pi / 2]), np.array([[0.0, 1.0]]))
    expected = np.zeros((12, 12), np.uint8)
    expected[2:7, 1:9] = picture
    np.testing.assert_array_equal(draw(picture, pushed, 12), expected)


@pytest.mark.parametrize("seed", range(3))
def test_drawing_is_the_definition(seed):
    picture = garment(9, 14, seed)
    geometry = random_geometry(picture, 31, 1.0, generator(9, seed))
    np.testing.assert_allclose(draw(picture, geometry, 31), drawn_slowly(picture, geometry, 31), atol=0.51)


@pytest.mark.parametrize(("image_size", "start"), [(64, 18), (29, 0), (28, 0)])
def test_strength_zero_is_the_garment_in_the_middle_pixel_for_pixel(image_size, start):
    for dataset in small_sets(image_size=image_size, warp=0.0):
        batch = dataset.batch(np.arange(20), seed=3, epoch=4)
        expected = np.zeros((20, 1, image_size, image_size), np.uint8)
        expected[:, :, start : start + 28, start : start + 28] = dataset.garments.images[:20]
        np.testing.assert_array_equal(pixels_of(batch), expected)
        assert batch["image"].dtype == np.float32 and batch["label"].dtype == np.int64
        assert batch["label"].tolist() == dataset.garments.labels[:20].tolist()


def test_training_geometry_is_a_function_of_seed_epoch_and_index():
    train, _ = small_sets()
    whole = train.batch(np.arange(40), seed=3, epoch=5)["image"]
    again, _ = small_sets()
    np.testing.assert_array_equal(again.batch(np.array([31, 2]), seed=3, epoch=5)["image"], whole[[31, 2]])
    for changed in ({"seed": 4, "epoch": 5}, {"seed": 3, "epoch": 6}, {"seed": 5, "epoch": 3}):
        other = train.batch(np.arange(40), **changed)["image"]
        assert not any(np.array_equal(a, b) for a, b in zip(other, whole, strict=True))
    angles = {train.geometry(i, seed=3, epoch=5).phases[0] for i in range(40)}
    assert len(angles) == 40


def test_validation_geometry_is_the_same_in_every_epoch():
    train, validation = small_sets()
    whole = validation.batch(np.arange(20), seed=3, epoch=0)["image"]
    np.testing.assert_array_equal(validation.batch(np.array([7, 2]), seed=3, epoch=9)["image"], whole[[7, 2]])
    assert not np.array_equal(validation.batch(np.arange(20), seed=4, epoch=0)["image"], whole)
    phases = {validation.geometry(i, seed=0, epoch=0).phases[0] for i in range(20)}
    assert phases.isdisjoint(train.geometry(i, seed=0, epoch=e).phases[0] for e in range(3) for i in range(20))


@pytest.mark.parametrize("train", [True, False])
def test_bits_are_the_same_for_every_batch_and_number_of_processes(train):
    dataset = small_sets()[0 if train else 1]
    loaders = [Loader(dataset, 20, seed=1, train=train, processes=p) for p in (0, 2)]
    whole, shared = (np.concatenate([batch["image"] for batch in loader.epoch(2)]) for loader in loaders)
    np.testing.assert_array_equal(shared, whole)
    parts = np.concatenate([batch["image"] for batch in Loader(dataset, 4, seed=1, train=train).epoch(2)])
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize("warp", [0.5, 1.0])
def test_ranges_grow_with_the_strength_and_are_used(warp):
    dataset = white_set(200, warp)  # room enough: no garment is shrunk
    geometries = [dataset.geometry(i, seed=0, epoch=0) for i in range(200)]
    matrices = np.stack([geometry.matrix for geometry in geometries])
    scale = np.sqrt(np.linalg.det(matrices))
    angle = np.degrees(np.arctan2(-matrices[:, 0, 1], matrices[:, 1, 1]))
    shear = (matrices[:, :, 0] * matrices[:, :, 1]).sum(axis=1) / scale**2  # 0 where the columns stay at right angles
    for values, low, high in (
        (angle, -60 * warp, 60 * warp), (np.log(scale), warp * np.log(0.6), warp * np.log(1.6)),
        (shear, -0.4 * warp, 0.4 * warp),
    ):
        assert low <= values.min() < low + 0.05 * (high - low) and high >= values.max() > high - 0.05 * (high - low)
    for geometry in geometries:
        slopes = np.linalg.norm(geometry.waves, axis=1) * np.linalg.norm(geometry.pushes, axis=1)
        np.testing.assert_allclose(slopes, 0.25 * warp)
        lengths = 2 * np.pi / np.linalg.norm(geometry.waves, axis=1)
        assert lengths.min() > 14 - 1e-9 and lengths.max() < 42 + 1e-9


def test_strengths_compare_the_same_geometry_more_or_less():
    weak, strong = white_set(200, 0.4), white_set(200, 0.8)
    for index in range(5):
        a, b = (dataset.geometry(index, seed=0, epoch=0) for dataset in (weak, strong))
        np.testing.assert_allclose(2 * a.pushes, b.pushes)
        turns = [np.arctan2(-geometry.matrix[0, 1], geometry.matrix[1, 1]) for geometry in (a, b)]
        assert 2 * turns[0] == pytest.approx(turns[1])
        assert np.linalg.det(a.matrix) ** 2 == pytest.approx(np.linalg.det(b.matrix))


@pytest.mark.parametrize(("image_size", "warp"), [(64, 0.5), (64, 1.0), (64, 2.0), (36, 1.0), (28, 1.0)])
def test_the_whole_garment_stays_on_the_canvas(image_size, warp):
    dataset = white_set(image_size, warp, count=60)
    touched = 0
    for index in range(60):
        geometry = dataset.geometry(index, seed=0, epoch=0)
        wider = geometry._replace(position=geometry.position + 30)
        canvas = draw(dataset.garments.images[index, 0], wider, image_size + 60)
        inside = canvas[30:-30, 30:-30].copy()
        np.testing.assert_array_equal(inside, draw(dataset.garments.images[index, 0], geometry, image_size))
        canvas[30:-30, 30:-30] = 0
        assert canvas.max() <= 128  # half of a white pixel reaches beyond its own square
        touched += inside[[0, -1]].any() or inside[:, [0, -1]].any()
    assert touched or image_size == 64  # where there is little room all of it is used


def test_positions_are_anywhere_at_full_strength():
    dataset = WarpedDataset(small_sets()[0].garments, 64, 1.0)
    positions = np.stack([dataset.geometry(i % 40, seed=0, epoch=i).position for i in range(400)])
    assert (positions.min(axis=0) < 14).all() and (positions.max(axis=0) > 49).all()
    assert abs(positions.mean(axis=0) - 31.5).max() < 2


def test_nothing_folds_up_to_strength_one():
    dataset = white_set(64, 1.0, count=100)
    for index in range(100):
        geometry = dataset.geometry(index, seed=0, epoch=0)
        points = np.indices((28, 28)).reshape(2, -1) - 13.5
        slopes = np.cos(geometry.waves @ points + geometry.phases[:, None])
        jacobian = np.eye(2) + np.einsum("wi,wj,wp->pij", geometry.pushes, geometry.waves, slopes)
        assert np.linalg.det(jacobian).min() > 0


def test_an_empty_picture_stays_empty():
    black = ArrayDataset(np.zeros((1, 1, 28, 28), np.uint8), [0], ("a",), source="here", mean=(0.5,), std=(0.5,))
    assert (WarpedDataset(black, 64, 1.0).batch(np.array([0]), seed=0, epoch=0)["image"] == -1).all()


def test_garments_of_training_and_validation_are_disjoint():
    train, validation = DATASETS["warped_fashion_mnist"]()
    assert (len(train), len(validation), train.image_shape) == (12000, 2000, (1, 64, 64))
    seen = {picture.tobytes() for picture in train.garments.images}
    assert seen.isdisjoint(picture.tobytes() for picture in validation.garments.images)


def test_a_saved_picture_is_prepared_as_validation_sees_it():
    _, validation = small_sets()
    batch = validation.batch(np.array([11]), seed=0, epoch=0)
    picture = Image.fromarray(pixels_of(batch)[0, 0])
    np.testing.assert_array_equal(validation.preparation(picture), batch["image"][0])


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"warp": -0.1}, "warp is -0.1, wanted 0 to 2"),
        ({"warp": 2.5}, "warp is 2.5, wanted 0 to 2"),
        ({"image_size": 27}, "image_size is 27, wanted 28 or more pixels, a garment's own size"),
    ],
)
def test_bad_settings_are_one_clear_line(setting, complaint):
    with pytest.raises(DataError) as error:
        DATASETS["warped_fashion_mnist"](**setting)
    assert str(error.value) == f"warped_fashion_mnist: {complaint}"


def test_the_config_knows_the_strength():
    few = ["data.train_images=40", "data.validation_images=20"]
    config = load_config(ROOT / "configs" / "warped.yaml", ["data.warp=0.5", *few])
    train, validation = build_data(config)
    assert (train.warp, validation.warp, train.image_shape) == (0.5, 0.5, (1, 64, 64))
    with pytest.raises(InputError, match="^-o data.wrap=1: data.wrap: unknown key; did you mean warp?"):
        load_config(ROOT / "configs" / "warped.yaml", ["data.wrap=1"])
    with pytest.raises(InputError, match="^-o data.warp=strong: data.warp: should be a valid number, got 'strong'"):
        load_config(ROOT / "configs" / "warped.yaml", ["data.warp=strong"])


def test_the_command_ends_with_status_2_and_one_line(tmp_path):
    done = run_tool("train.py", "-c", ROOT / "configs" / "warped.yaml", "-o", "data.warp=-1", f"output={tmp_path}")
    assert done.returncode == 2 and is_one_line(done.stderr)
    assert "warped_fashion_mnist: warp is -1.0, wanted 0 to 2" in done.stderr and not list(tmp_path.iterdir())
