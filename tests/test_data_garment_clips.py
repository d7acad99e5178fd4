"""Composed clips: told by their motion alone, in no frame, and the same wherever and whenever they are composed."""

import numpy as np
import pytest
from conftest import ROOT

from data import DATASETS, DataError, Dataset, Loader
from data.composing.garments import Tint
from data.composing.light import Light, cast_shadow
from data.composing.motion import LARGEST, MOTIONS, SMALLEST, random_poses
from data.composing.scene import Piece
from data.garment_clips import FRESH, _put_without_borders
from data.randomness import generator
from engine.build import build_data
from engine.config import load_config
from engine.errors import InputError

OPPOSITE = {"left": "right", "up": "down", "grow": "shrink", "anticlockwise": "clockwise"}
SIDE = 64


def clips(**settings):
    small = {"train_clips": 40, "validation_clips": 20, "image_size": 32, "frames": 5}
    return DATASETS["garment_clips"](**{**small, **settings})


def poses(motion, seed, frames=5, **settings):
    settings = {"warp": 0.3, "speed": 1.0, "shake": 0.0, **settings}
    return random_poses(generator(9, seed), MOTIONS[motion][0], frames, SIDE, **settings)


def test_the_contract_of_a_set():
    for dataset in clips():
        assert isinstance(dataset, Dataset) and dataset.image_shape == dataset.preparation.image_shape == (3, 5, 32, 32)
        assert dataset.classes == tuple(MOTIONS) and np.bincount(dataset.labels).tolist() == [len(dataset) // 10] * 10
        two, none = (dataset.batch(np.arange(count), seed=0, epoch=0) for count in (2, 0))
        assert two["clip"].dtype == np.float32 and two["clip"].shape == (2, 3, 5, 32, 32)
        assert sum(values.nbytes for values in two.values()) == 2 * dataset.sample_bytes
        assert none["clip"].shape == (0, 3, 5, 32, 32) and none["label"].shape == (0,)
        frames = dataset.preparation.frames_shown(two["clip"][1])
        np.testing.assert_array_equal(frames, dataset.pixels(1, seed=0, epoch=0).transpose(0, 2, 3, 1))
        assert dataset.stored_picture(0).size == (32, 32) and dataset.path(0) is None


@pytest.mark.parametrize("one, other", OPPOSITE.items())
def test_opposite_classes_are_time_reversals_of_each_other(one, other):
    train, _ = clips(shake=0.05)
    for index in range(3):
        forward, backward = (train.composed(train.classes.index(name), index, (FRESH, 0, 0)) for name in (one, other))
        np.testing.assert_array_equal(forward, backward[::-1])
        assert (forward[0] != forward[-1]).any()


def test_still_and_bouncing_are_their_own_reversals():
    assert len(set(map(str, poses("still", 1)))) == 1
    heights, reversed_heights = (
        [[pose.position[0] for pose in poses("bounce", seed)][::step] for seed in range(300)] for step in (1, -1)
    )
    np.testing.assert_allclose(np.std(heights, axis=0), np.std(reversed_heights, axis=0), rtol=0.15)
    rising = np.sign(np.diff(heights)) > 0
    assert 0.4 < rising.mean() < 0.6


def moments(motion, frame, count=400):
    """What a pose at one moment of a motion is, over many draws; each should be uniform from 0 to 1."""
    values = []
    for seed in range(count):
        pose = poses(motion, seed)[frame]
        scale = np.log(pose.scale * 28 / SIDE / SMALLEST) / np.log(LARGEST / SMALLEST)
        values.append([*(pose.position / SIDE), scale, pose.turn / (2 * np.pi) % 1])
    return np.sort(values, axis=0)


@pytest.mark.parametrize("motion", MOTIONS)
def test_at_every_moment_a_pose_is_as_likely_in_one_motion_as_in_another(motion):
    """Kolmogorov's distance to the uniform distribution; one of 100,000 honest ones is as far off as the bound."""
    for frame in (0, 2, 4):
        found = moments(motion, frame)
        distance = np.abs(found - (np.arange(len(found)) + 0.5)[:, None] / len(found)).max()
        assert distance < 2.4 / len(found) ** 0.5, (motion, frame)


@pytest.mark.ci
def test_what_is_drawn_does_not_depend_on_the_motion():
    for seed in range(20):
        starts = {name: poses(name, seed, frames=10000)[0] for name in MOTIONS}
        for name, pose in starts.items():
            off = (pose.position - starts["still"].position + SIDE / 2) % SIDE - SIDE / 2
            assert np.abs(off[1:] if name == "bounce" else off).max() < 0.05
            assert pose.mirrored == starts["still"].mirrored and (pose.waves == starts["still"].waves).all()
            assert abs(pose.scale - starts["still"].scale) < 1e-3 and abs(pose.turn - starts["still"].turn) < 1e-3


def test_motions_go_where_their_names_say():
    ways = {"right": (0, 1), "down": (1, 0)}
    for seed in range(30):
        for name, (down, right) in ways.items():
            first, second = (pose.position for pose in poses(name, seed)[:2])
            way = (second - first + SIDE / 2) % SIDE - SIDE / 2
            assert way @ (down, right) > 0.05 * SIDE and abs(way @ (right, down)) < 0.3 * way @ (down, right)
        growth = [np.diff(np.log([pose.scale for pose in poses("grow", seed)]))]
        assert (np.sum(np.array(growth) > 0.03) >= 3) and np.sum(np.array(growth) < 0) <= 1
        turns = np.diff([pose.turn for pose in poses("anticlockwise", seed)])
        np.testing.assert_allclose(turns, turns[0])
        assert 0 < turns[0] < np.pi / 2
    assert np.hypot(*(poses("right", 0, speed=0.5)[1].position - poses("right", 0, speed=0.5)[0].position)) < 0.1 * SIDE


def similarity(first, second, reach=3):
    """How alike two frames [N, H, W] are under each small shift of one: [N, (2 * reach + 1)^2]."""
    shifts = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    distances = [
        ((np.roll(second, shift, axis=(1, 2)) - first) ** 2).mean(axis=(1, 2)) for shift in shifts
    ]
    return np.log(np.stack(distances, axis=1) + 1e-4)


def accuracy(features, labels, train):
    """Of a linear classifier (ridge regression on one-hot labels) on the features that it was not made of."""
    features = (features - features[:train].mean(axis=0)) / (features[:train].std(axis=0) + 1e-6)
    features = np.c_[features, np.ones(len(features))]
    own = features[:train]
    weight = np.linalg.solve(own.T @ own + 10 * np.eye(own.shape[1]), own.T @ np.eye(10)[labels[:train]])
    return ((features[train:] @ weight).argmax(axis=1) == labels[train:]).mean()


def test_the_middle_frame_tells_nothing_of_the_class():
    """The same features of the middle frame alone, beside its pixels, and of the middle and the next one."""
    count, train = 1500, 1000
    dataset, _ = clips(train_clips=count, frames=3, clutter=0.0, camera=0.3)
    pixels = np.stack([dataset.pixels(index, seed=0, epoch=0) for index in range(count)]).mean(axis=2) / 255
    middle, following = pixels[:, 1], pixels[:, 2]
    order = np.random.default_rng(0).permutation(count)
    middle, following, labels = middle[order], following[order], dataset.labels[order]
    small = middle.reshape(count, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(count, -1)
    alone = np.c_[similarity(middle, middle), small, np.abs(small - small.mean(axis=1, keepdims=True))]
    deviation = (0.1 * 0.9 / (count - train)) ** 0.5
    assert abs(accuracy(alone, labels, train) - 0.1) < 3 * deviation
    assert accuracy(similarity(middle, following), labels, train) > 0.1 + 10 * deviation


def test_a_canvas_without_borders():
    """A garment that is moved by whole pixels is the same picture, moved: no place is different from others."""
    train, _ = clips(camera=0.0)
    drawn = []
    for shift in ((0, 0), (13, -9), (20, 25)):
        pose = poses("still", 3)[0]
        pose = pose._replace(position=(pose.position + shift) % SIDE, scale=0.7 * SIDE / 28)
        piece = Piece(
            train.garments.layers[5], train.garments.corners[5], Tint(np.zeros(3, "f4"), np.ones(3, "f4")), pose, 0
        )
        canvas = np.empty((3, SIDE, SIDE), np.float32)
        light = Light((0.6, 0.8), 0.2, 0.0, 0.5, 0.1, np.ones(3, np.float32))
        _put_without_borders(canvas, np.full_like(canvas, 0.5), piece, light)
        drawn.append(np.roll(canvas, [-by for by in shift], axis=(1, 2)))
    np.testing.assert_allclose(drawn[1], drawn[0], atol=1e-5)
    np.testing.assert_allclose(drawn[2], drawn[0], atol=1e-5)
    assert (drawn[0] != 0.5).mean() > 0.2


@pytest.mark.parametrize("direction", [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_a_shadow_that_falls_beyond_the_canvas_darkens_nothing_else(direction):
    canvas = np.ones((3, 20, 20), np.float32)
    light = Light(direction, 0.0, 0.0, 0.5, 0.5, np.ones(3, np.float32))
    for rows, columns in ((slice(0, 2), slice(0, 3)), (slice(18, 20), slice(17, 20)), (slice(0, 0), slice(4, 9))):
        cover = np.ones((rows.stop - rows.start, columns.stop - columns.start), np.float32)
        cast_shadow(canvas, light, cover, rows, columns, side=20)
    assert (canvas < 1).sum() in (3 * 6, 3 * 2 * 6)  # where it falls on the canvas it has the garment's size


def test_shuffled_frames_are_the_same_ones_in_an_order_of_their_own():
    plain, shuffled = clips(frames=6)[0], clips(frames=6, shuffled=True)[0]
    orders = set()
    for index in range(10, 20):
        one, other = (each.pixels(index, seed=0, epoch=0) for each in (plain, shuffled))
        if plain.classes[plain.labels[index]] in ("right", "anticlockwise"):
            order = [[(frame == known).all() for known in one].index(True) for frame in other]
            assert sorted(order) == list(range(6))
            orders.add(tuple(order))
    assert len(orders) == 2


def test_a_clip_depends_on_seed_epoch_and_index_alone():
    train, validation = clips()
    batch = train.batch([3, 17], seed=1, epoch=2)["clip"]
    for indices, seed, epoch in (([17, 3], 1, 2), ([3, 17], 2, 2), ([3, 17], 1, 3)):
        other = clips()[0].batch(indices, seed=seed, epoch=epoch)["clip"]
        same = (seed, epoch) == (1, 2)
        assert (other[::-1] == batch).all() == same
    fixed = clips(fresh=False)[0]
    for dataset in (fixed, validation):
        assert dataset.in_memory and not train.in_memory
        one, other = (dataset.batch([4], seed=seed, epoch=epoch)["clip"] for seed, epoch in ((0, 0), (5, 6)))
        np.testing.assert_array_equal(one, other)
    assert (validation.pixels(4, seed=0, epoch=0) != fixed.pixels(4, seed=0, epoch=0)).any()
    plain, *_ = Loader(train, 8, seed=1, train=True).epoch(2)
    with_processes, *_ = Loader(train, 8, seed=1, train=True, processes=2).epoch(2)
    np.testing.assert_array_equal(plain["clip"], with_processes["clip"])


def test_training_and_validation_share_no_garment_and_mean_and_deviation_are_right():
    train, validation = clips(train_clips=200, validation_clips=200)
    assert (len(train.garments), len(validation.garments)) == (12000, 2000)
    for dataset in (train, validation):
        clip = dataset.batch(np.arange(200), seed=0, epoch=0)["clip"]
        assert np.abs(clip.mean(axis=(0, 2, 3, 4))).max() < 0.2
        assert np.abs(clip.std(axis=(0, 2, 3, 4)) - 1).max() < 0.15


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"train_clips": 0}, "train_clips is 0, wanted 1 or more"), ({"frames": 1}, "frames is 1, wanted 2 or more"),
        ({"validation_clips": -1}, "validation_clips is -1, wanted 1 or more"),
        ({"image_size": 15}, "image_size is 15, wanted 16 or more pixels"),
        ({"speed": 0.0}, "speed is 0.0, wanted more than 0 and at most 2"),
        ({"shake": 0.3}, "shake is 0.3, wanted 0 to 0.2"), ({"clutter": 21}, "clutter is 21, wanted 0 to 20"),
        ({"backdrop": 1.5}, "backdrop is 1.5, wanted 0 to 1"),
        ({"warp": -1}, "warp is -1, wanted 0 to 2"), ({"camera": 3}, "camera is 3, wanted 0 to 2"),
    ],
)
def test_bad_settings_are_one_clear_line(setting, complaint):
    with pytest.raises(DataError) as error:
        DATASETS["garment_clips"](**setting)
    assert str(error.value) == f"garment_clips: {complaint}"


def test_without_a_backdrop_only_the_garment_changes():
    scene, plain = (clips(backdrop=backdrop, clutter=2.0, camera=0.0)[0] for backdrop in (1.0, 0.0))
    rich, bare = (dataset.composed(0, 3, (0, 0, 0))[0] for dataset in (scene, plain))  # still, whatever else it is
    colours = [len(np.unique(frame.reshape(3, -1), axis=1).T) for frame in (rich, bare)]
    behind = np.median(bare.reshape(3, -1), axis=1)
    assert (bare == behind[:, None, None]).all(axis=0).mean() > 0.2  # one colour, which most of the picture has
    assert colours[1] < colours[0]


def test_the_config_knows_the_settings():
    config = ROOT / "configs" / "video" / "garment_clips.yaml"
    few = ["data.train_clips=40", "data.validation_clips=20", "data.frames=4"]
    train, validation = build_data(load_config(config, few))
    assert train.image_shape[:2] == (3, 4) and len(validation) == 20
    with pytest.raises(InputError, match="^-o data.frame=4: data.frame: unknown key; did you mean frames?"):
        load_config(config, ["data.frame=4"])
