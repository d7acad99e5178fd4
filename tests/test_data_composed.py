"""Composed images: which pixel shows which garment, what is drawn at random, and what that depends on."""

import numpy as np
import pytest
from conftest import ROOT

from data import DATASETS, DataError, Loader
from data.composing.backdrops import Backdrops
from data.composing.backgrounds import KINDS, dulled, random_background
from data.composing.camera import Camera, photograph, random_camera, to_bytes
from data.composing.clutter import strew
from data.composing.garments import Garments, Tint, coloured, random_tint, silhouettes
from data.composing.light import cast_shadow, on_garment, over_image, random_light
from data.composing.placing import Pose, random_pose, window
from data.composing.scene import BACKGROUND, Piece, compose
from data.randomness import generator
from engine.build import build_data
from engine.config import load_config
from engine.errors import InputError

WHITE = Tint(np.zeros(3, np.float32), np.ones(3, np.float32))


def rng(*numbers):
    return generator(9, 9, *numbers)


def some_garments(count=20, seed=0):
    """Rectangles of random tones on black, of two classes."""
    draws, pictures = rng(seed), np.zeros((count, 28, 28), np.uint8)
    for picture in pictures:
        top, left, height, width = draws.integers((0, 0, 8, 8), (9, 9, 20, 20))
        picture[top : top + height, left : left + width] = draws.integers(60, 256, (height, width))
    return Garments(pictures, np.arange(count) % 2, ("a", "b"))


def some_pieces(garments, count, shape, seed=0):
    draws = rng(seed, 1)
    return [
        Piece(
            garments.layers[n], garments.corners[n], random_tint(draws),
            random_pose(draws, garments.corners[n], shape, share=(0.3, 0.6)), int(garments.labels[n]),
        )
        for n in range(count)
    ]


def small_sets(**settings):
    return DATASETS["composed"](**{"train_images": 40, "validation_images": 20, "image_size": 32, **settings})


def pixels_of(dataset, epoch=0, seed=3):
    indices = range(len(dataset))
    return np.stack([dataset.composition(index, seed=seed, epoch=epoch).pixels for index in indices])


@pytest.mark.parametrize("shape", [(48, 48), (96, 130)])
@pytest.mark.parametrize("count", [1, 8])
def test_a_garment_changes_the_pixels_of_its_mask_and_no_other(count, shape):
    background = random_background(rng(0), shape)
    pieces = some_pieces(some_garments(), count, shape)
    whole = compose(background, pieces)
    for number, mask in enumerate(whole.masks):
        without = compose(background, pieces[:number] + pieces[number + 1 :])
        changed = (whole.pixels != without.pixels).any(axis=0)
        assert not (changed & ~mask).any()
        assert changed.sum() > 0.9 * mask.sum()  # here and there the colours behind it are the same
    assert whole.masks[-1].any() and whole.classes.tolist() == [0, 1, 0, 1, 0, 1, 0, 1][:count]
    nothing, free = compose(background, []), whole.owner == BACKGROUND
    np.testing.assert_array_equal(whole.pixels[:, free], nothing.pixels[:, free])
    assert nothing.masks.shape == (0, *shape) and nothing.boxes.shape == (0, 4)


def test_what_lies_in_front_hides_what_lies_behind():
    garments = some_garments()
    piece = some_pieces(garments, 1, (40, 50))[0]
    background = np.zeros((3, 40, 50), np.float32)
    alone = compose(background, [piece])
    twice = compose(background, [piece, piece._replace(label=1)])
    np.testing.assert_array_equal(twice.masks, [np.zeros((40, 50), bool), alone.masks[0]])
    assert twice.boxes[0].tolist() == [0, 0, 0, 0] and twice.classes.tolist() == [0, 1]
    far = piece._replace(pose=piece.pose._replace(position=np.array([900.0, -900.0])))
    assert not compose(background, [far]).masks.any()


def test_a_garment_on_whole_pixels_by_hand():
    garments = some_garments()
    piece = Piece(garments.layers[3], garments.corners[3], WHITE, Pose(np.array([15.5, 19.5]), 1.0), 1)
    tone, silhouette = garments.layers[3]
    expected = np.zeros((40, 50), np.uint8)
    expected[2:30, 6:34] = tone
    result = compose(np.zeros((3, 40, 50), np.float32), [piece])
    np.testing.assert_array_equal(result.pixels, [expected] * 3)
    np.testing.assert_array_equal(result.masks[0], expected > 0)
    mirrored = piece._replace(pose=piece.pose._replace(mirrored=True))
    expected[2:30, 6:34] = tone[:, ::-1]
    np.testing.assert_array_equal(compose(np.zeros((3, 40, 50), np.float32), [mirrored]).pixels, [expected] * 3)


def test_boxes_are_close_around_masks():
    scene = compose(random_background(rng(1), (64, 90)), some_pieces(some_garments(), 6, (64, 90), seed=1))
    assert scene.masks.any(axis=(1, 2)).sum() >= 4
    for mask, (x1, y1, x2, y2) in zip(scene.masks, scene.boxes.astype(int), strict=True):
        assert mask[y1:y2, x1:x2].sum() == mask.sum()
        if mask.any():
            for edge in (mask[y1, :], mask[y2 - 1, :], mask[:, x1], mask[:, x2 - 1]):
                assert edge.any()


def test_a_silhouette_holds_the_dark_within_but_not_what_is_open():
    picture = np.zeros((28, 28), np.uint8)
    picture[4:20, 5:22] = 200
    picture[8:12, 8:12] = 0  # a dark part
    picture[14:20, 15:18] = 3  # a slit from below
    picture[2, 2] = 9  # a trace
    found = silhouettes(picture[None])[0]
    expected = picture == 200
    expected[8:12, 8:12] = True
    np.testing.assert_array_equal(found, expected)
    # A way out that turns: up, right, down.
    picture[:] = 200
    picture[3:25, 4], picture[3, 4:20], picture[3:, 19] = 0, 0, 0
    assert (silhouettes(picture[None])[0] == (picture > 0)).all()


def test_garments_know_their_corners_and_classes():
    garments = some_garments()
    for layers, corners in zip(garments.layers, garments.corners, strict=True):
        rows, columns = np.nonzero(layers[1])
        assert corners.min(axis=0).tolist() == [rows.min() - 13.5, columns.min() - 13.5]
        assert corners.max(axis=0).tolist() == [rows.max() - 13.5, columns.max() - 13.5]
    assert [len(set(garments.labels[own])) for own in garments.with_label] == [1, 1]


@pytest.mark.parametrize("warp", [0.0, 1.0, 2.0])
def test_a_pose_keeps_the_whole_garment_in_its_part_of_the_canvas(warp):
    full = Garments(np.full((1, 28, 28), 255, np.uint8), np.zeros(1, int), ("a",))
    for index in range(40):
        pose = random_pose(rng(index), full.corners[0], (40, 30), warp=warp, share=(0.6, 1.3), origin=(20, 25))
        piece = Piece(full.layers[0], full.corners[0], WHITE, pose, 0)
        mask = compose(np.zeros((3, 100, 100), np.float32), [piece]).masks[0]
        assert mask.sum() > 100 and mask[20:60, 25:55].sum() == mask.sum()
        rows, columns = window(pose.geometry(), full.corners[0], (100, 100))
        assert mask[rows, columns].sum() == mask.sum() and rows.stop - rows.start < 50
        assert abs(pose.turn) <= warp * np.pi / 6 and abs(pose.lean) <= 0.2 * warp


def test_garments_stand_upright_in_the_middle_at_warp_zero():
    corners = some_garments().corners
    for index in range(20):
        pose = random_pose(rng(index), corners[index], (56, 70), warp=0.0, share=(1.0, 1.0), spread=0.0)
        assert (pose.turn, pose.lean, pose.scale) == (0, 0, 2) and not pose.pushes.any()
        assert np.abs(pose.position - (27.5, 34.5)).max() < 1e-9
    train, _ = small_sets(warp=0.0)
    sizes = [np.ptp(train.composition(i, seed=0, epoch=0).boxes.reshape(2, 2), axis=0).max() for i in range(20)]
    assert min(sizes) >= 30  # of 32: the picture's longer side has 27 or 28 of its 28 pixels


def test_a_motion_is_the_same_piece_in_other_poses():
    garments = some_garments()
    piece = some_pieces(garments, 1, (48, 48))[0]
    background = random_background(rng(2), (64, 64))
    frames = [
        compose(background, [piece._replace(pose=piece.pose._replace(position=piece.pose.position + (0, dx)))])
        for dx in range(4)
    ]
    for dx, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.masks[0], np.roll(frames[0].masks[0], dx, axis=1))


@pytest.mark.parametrize("kind", KINDS)
def test_backgrounds_fill_any_shape_and_differ(kind):
    images = [KINDS[kind](rng(index), (31, 52)) for index in range(8)]
    for image in images:
        assert image.shape == (3, 31, 52) and image.dtype == np.float32
        assert image.min() >= -1e-5 and image.max() <= 1 + 1e-5
    assert sum(image.std(axis=(1, 2)).max() > 0.02 for image in images) >= 6
    assert len({image.tobytes() for image in images}) == 8


def test_a_dull_background_has_less_contrast_and_the_same_colour():
    image = random_background(rng(5), (20, 30))
    dull = dulled(image, 0.25)
    np.testing.assert_allclose(dull.mean(axis=(1, 2)), image.mean(axis=(1, 2)), rtol=1e-4)
    np.testing.assert_allclose(dull.std(axis=(1, 2)), image.std(axis=(1, 2)) / 4, rtol=1e-4)


def test_noise_falls_with_frequency():
    powers = np.zeros(32)
    for index in range(20):
        tone = KINDS["noise"](rng(index), (64, 64)).mean(axis=0)
        powers += (np.abs(np.fft.fft2(tone)) ** 2)[0, :32]
    assert powers[1:3].mean() > 4 * powers[8:12].mean() > 4 * powers[26:32].mean()


def test_clutter_is_cut_from_the_garments_it_is_given():
    canvas = np.full((3, 60, 60), 0.5, np.float32)
    strew(rng(0), canvas, some_garments(), 0, 60)
    assert (canvas == 0.5).all()
    strew(rng(0), canvas, some_garments(), 6, 60)
    changed = (canvas != 0.5).any(axis=0)
    assert 0.1 < changed.mean() < 0.95
    bare = Garments(np.zeros((3, 28, 28), np.uint8), np.zeros(3, int), ("a",))
    before = canvas.copy()
    strew(rng(0), canvas, bare, 6, 60)
    np.testing.assert_array_equal(canvas, before)


def test_light_comes_from_its_side():
    light = random_light(rng(3))._replace(direction=(0.0, 1.0), roundness=0.3, slope=0.4, shadow=0.5, reach=0.25)
    factors = over_image(light, (11, 21)) / light.cast[:, None, None]
    np.testing.assert_allclose(factors[:, :, 20] / factors[:, :, 0], 1.4 / 0.6, rtol=1e-5)
    pose = Pose(np.array([5.0, 10.0]), 1.0)
    garment = on_garment(light, np.arange(11), np.arange(21), pose, 10)
    np.testing.assert_allclose(garment[:, [0, 10, 20]], [[0.7, 1, 1.3]] * 11, rtol=1e-5)
    canvas = np.ones((3, 20, 20), np.float32)
    cast_shadow(canvas, light, np.ones((3, 4), np.float32), slice(8, 11), slice(9, 13), 8)
    expected = np.ones((20, 20), np.float32)
    expected[8:11, 7:11] = 0.5  # two columns away from the light
    np.testing.assert_array_equal(canvas, [expected] * 3)
    cast_shadow(canvas, light, np.ones((3, 4), np.float32), slice(8, 11), slice(0, 4), 8)
    assert (canvas[:, 8:11, :2] == 0.5).all() and (canvas[:, 8:11, 2:7] == 1).all()
    cast_shadow(canvas, light._replace(reach=9.0), np.ones((3, 4), np.float32), slice(8, 11), slice(0, 4), 8)


def test_nothing_varies_at_camera_zero():
    image = random_background(rng(4), (20, 30))
    assert random_camera(rng(0), 0.0) == Camera()
    np.testing.assert_array_equal(photograph(image, Camera(), rng(0)), to_bytes(image))
    np.testing.assert_array_equal(over_image(random_light(rng(0), 0.0), (20, 30)), np.ones((3, 20, 30)))


def test_each_setting_of_the_camera_by_hand():
    grey = np.full((3, 6, 8), 0.4, np.float32)

    def level(image=grey, **settings):
        return photograph(image, Camera(**settings), rng(0)) / 255

    assert level(gain=1.5) == pytest.approx(0.6, abs=0.002)
    assert level(contrast=2.0) == pytest.approx(0.3, abs=0.002)
    assert level(curve=0.5) == pytest.approx(0.4 + 0.5 * 0.24, abs=0.002)
    red = grey * np.float32([1.5, 0, 0])[:, None, None]
    assert level(red, saturation=0.0) == pytest.approx(0.2, abs=0.002)
    point = np.zeros((3, 5, 5), np.float32)
    point[:, 2, 2] = 1
    spread = np.outer([0, 0.2, 0.6, 0.2, 0], [0, 0.2, 0.6, 0.2, 0])
    np.testing.assert_allclose(level(point, blur=0.2), [spread] * 3, atol=0.002)
    assert level(blur=0.3) == pytest.approx(0.4, abs=0.002)
    many = np.full((3, 100, 100), 0.5, np.float32)
    assert level(many, noise=0.1).std() == pytest.approx(0.1, rel=0.02)
    assert level(many, noise=0.1).mean() == pytest.approx(0.5, abs=0.003)


def test_stripes_stay_on_their_garment():
    tint = Tint(np.zeros(3, np.float32), np.ones(3, np.float32), np.float32([1, 0, 0]), np.float32([np.pi, 0]))
    points = np.float32([[0.5, 1.5, 2.5], [0, 0, 0]])
    np.testing.assert_allclose(coloured(np.float32([0.2, 0.2, 0.2]), points, tint)[0], [1.2, 0.2, 1.2], rtol=1e-5)


def test_training_is_a_function_of_seed_epoch_and_index():
    train, _ = small_sets()
    whole = train.batch(np.arange(40), seed=3, epoch=5)["image"]
    again, _ = small_sets(train_images=500)
    again.batch(np.arange(9), seed=3, epoch=4)  # and not of what was asked for before
    np.testing.assert_array_equal(again.batch(np.array([31, 2]), seed=3, epoch=5)["image"], whole[[31, 2]])
    for changed in ({"seed": 4, "epoch": 5}, {"seed": 3, "epoch": 6}, {"seed": 5, "epoch": 3}):
        other = train.batch(np.arange(40), **changed)["image"]
        assert not any(np.array_equal(a, b) for a, b in zip(other, whole, strict=True))
    assert whole.shape == (40, 3, 32, 32) and whole.dtype == np.float32


def test_fixed_sets_are_the_same_in_every_epoch_and_for_every_seed():
    for dataset, again in zip(small_sets(fresh=False), small_sets(fresh=False), strict=True):
        whole = dataset.batch(np.arange(20), seed=3, epoch=0)["image"]
        for other in (dataset, again):
            np.testing.assert_array_equal(other.batch(np.array([7, 2]), seed=4, epoch=9)["image"], whole[[7, 2]])
        np.testing.assert_array_equal(pixels_of(dataset, epoch=8, seed=1), pixels_of(dataset))
    fixed, (train, validation) = small_sets(fresh=False)[0], small_sets()
    sets = [pixels_of(dataset, epoch, 0) for dataset, epoch in ((fixed, 0), (train, 0), (train, 1), (validation, 0))]
    assert len({picture.tobytes() for pictures in sets for picture in pictures}) == 40 + 40 + 40 + 20


def test_what_stands_for_a_set_without_an_end_is_shown_in_no_epoch():
    (fresh, validation), (fixed, _) = small_sets(), small_sets(fresh=False)
    stored = [fresh.stored_picture(index).tobytes() for index in range(40)]
    assert stored == [picture.transpose(1, 2, 0).tobytes() for picture in pixels_of(fixed)]
    assert set(stored).isdisjoint(picture.tobytes() for picture in pixels_of(fresh, epoch=0, seed=0))
    np.testing.assert_array_equal(np.asarray(validation.stored_picture(3)).transpose(2, 0, 1), pixels_of(validation)[3])


def test_backdrops_depend_on_their_key_alone():
    first, again = (Backdrops(some_garments(), (24, 20), 20.0) for _ in range(2))
    parts = {key: first.part(rng(0), key) for key in ((0, 1, 2), (0, 1, 3), (1, 1, 2))}
    assert len({part.tobytes() for part in parts.values()}) == 3 and parts[0, 1, 2].shape == (3, 24, 20)
    for key in reversed(parts):
        np.testing.assert_array_equal(again.part(rng(0), key), parts[key])
    bare = Backdrops(some_garments(), (24, 20), 0.0).part(rng(0), (0, 1, 2))
    assert not np.array_equal(bare, parts[0, 1, 2])


@pytest.mark.parametrize(("train", "fresh"), [(True, True), (True, False), (False, True)])
def test_bits_are_the_same_for_every_batch_number_of_processes_and_start(train, fresh):
    dataset = small_sets(fresh=fresh)[0 if train else 1]
    loaders = [Loader(dataset, 20, seed=1, train=train, processes=p) for p in (0, 2)]
    whole, shared = (np.concatenate([batch["image"] for batch in loader.epoch(2)]) for loader in loaders)
    np.testing.assert_array_equal(shared, whole)
    resumed = Loader(small_sets(fresh=fresh)[0 if train else 1], 4, seed=1, train=train).epoch(2, start_step=3)
    np.testing.assert_array_equal(np.concatenate([batch["image"] for batch in resumed]), whole[12:])


@pytest.mark.parametrize(("task", "classes"), [("one", 10), ("pair", 100)])
def test_labels_are_what_the_image_shows(task, classes):
    for dataset in DATASETS["composed"](task, train_images=250, validation_images=200, image_size=40, warp=0.0):
        assert len(dataset.classes) == classes and set(dataset.labels) == set(range(classes))
        for index in range(60, 180, 4):
            scene = dataset.composition(index, seed=0, epoch=0)
            left_to_right = np.argsort(scene.boxes[:, 0] + scene.boxes[:, 2])
            shown = scene.classes[left_to_right].tolist()
            label = int(dataset.labels[index])
            assert shown == ([label] if task == "one" else list(divmod(label, 10)))
            assert dataset.classes[label] == " | ".join(dataset.garments.classes[each] for each in shown)


def test_all_garments_of_a_class_are_used():
    train, _ = small_sets()
    shown = {train.composition(0, seed=0, epoch=epoch).masks.tobytes() for epoch in range(30)}
    assert len(shown) == 30


def test_training_and_validation_share_no_garment():
    train, validation = small_sets()
    assert (len(train.garments), len(validation.garments)) == (12000, 2000)
    seen = {layers.tobytes() for layers in train.garments.layers}
    assert seen.isdisjoint(layers.tobytes() for layers in validation.garments.layers)
    assert train._backdrops.garments is train.garments and validation._backdrops.garments is validation.garments


def test_of_some_classes_there_is_nothing_of_the_others():
    """Neither as what is to be told apart nor in the clutter."""
    for part, count in zip(small_sets(task="pair", classes=("Bag", "Coat")), (2400, 400), strict=True):
        assert part.classes == ("Bag | Bag", "Bag | Coat", "Coat | Bag", "Coat | Coat")
        assert len(part.garments) == count and set(part.garments.labels) == {0, 1}
        assert part._backdrops.garments is part.garments
    with pytest.raises(DataError, match="^classes: Tie is none of T-shirt/top"):
        small_sets(classes=("Tie",))


def test_mean_and_deviation_are_those_of_the_pixels():
    for dataset in small_sets(train_images=400, validation_images=400):
        image = dataset.batch(np.arange(400), seed=0, epoch=0)["image"]
        assert np.abs(image.mean(axis=(0, 2, 3))).max() < 0.15
        assert np.abs(image.std(axis=(0, 2, 3)) - 1).max() < 0.1


def test_colours_do_not_tell_the_class():
    """The mean colour of the garment and of the image: a nearest-mean classifier stays near chance."""
    train, validation = small_sets(train_images=600, validation_images=300)

    def colours(dataset):
        return pixels_of(dataset).mean(axis=(2, 3))

    means = np.stack([colours(train)[train.labels == label].mean(axis=0) for label in range(10)])
    guesses = ((colours(validation)[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (guesses == validation.labels).mean() < 0.2


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"train_images": 0}, "train_images is 0, wanted 1 or more"),
        ({"validation_images": -1}, "validation_images is -1, wanted 1 or more"),
        ({"image_size": 15}, "image_size is 15, wanted 16 or more pixels"),
        ({"warp": 2.5}, "warp is 2.5, wanted 0 to 2"),
        ({"clutter": -1}, "clutter is -1, wanted 0 to 20"),
        ({"camera": -0.1}, "camera is -0.1, wanted 0 to 2"),
    ],
)
def test_bad_settings_are_one_clear_line(setting, complaint):
    with pytest.raises(DataError) as error:
        DATASETS["composed"](**setting)
    assert str(error.value) == f"composed: {complaint}"


def test_the_config_knows_the_settings():
    few = ["data.train_images=40", "data.validation_images=20"]
    train, validation = build_data(load_config(ROOT / "configs" / "composed.yaml", ["data.task=pair", *few]))
    assert (len(train.classes), train.image_shape) == (100, (3, 32, 32))
    assert (train.in_memory, validation.in_memory) == (False, True)
    with pytest.raises(InputError, match="data.task: .*'one' or 'pair'"):
        load_config(ROOT / "configs" / "composed.yaml", ["data.task=three"])
    with pytest.raises(InputError, match="^-o data.cluter=1: data.cluter: unknown key; did you mean clutter?"):
        load_config(ROOT / "configs" / "composed.yaml", ["data.cluter=1"])
