"""Scenes to detect in: what is annotated is what can be seen, and a batch holds it as a detector wants it."""

from functools import cache

import numpy as np
import pytest

from data import DATASETS, DataError, Loader, length
from data.dataset import Dataset
from data.detection.dataset import DetectionDataset
from data.garment_scenes import KINDS, TRIES, VISIBLE, _covered
from models import pack_masks


@cache  # nothing is kept in them but backdrops
def small_sets(**settings):
    values = {"train_images": 24, "validation_images": 12, "image_size": 64, "warp": 0.3, **settings}
    return DATASETS["garment_scenes"](**values)


def test_ten_classes_are_five_kinds():
    (_, garments), (_, kinds) = small_sets(), small_sets(classes="kinds")
    assert kinds.classes == ("Top", "Trouser", "Dress", "Shoe", "Bag") and kinds.category_ids == (1, 2, 3, 4, 5)
    for index in range(12):
        seen = [garments.classes[label] for label in garments.objects(index).classes]
        assert all(name in KINDS[kinds.classes[kind]]
                   for name, kind in zip(seen, kinds.objects(index).classes, strict=True))


def bits_of(batch):
    return {name: array.tobytes() for name, array in batch.items()}


def test_scenes_are_a_set_to_detect_in():
    for dataset in small_sets():
        assert isinstance(dataset, Dataset) and isinstance(dataset, DetectionDataset)
        assert dataset.image_ids.min() == 1 and len(dataset.category_ids) == len(dataset.classes) == 10


def test_what_is_annotated_is_what_the_scene_shows():
    train, validation = small_sets()
    for index in range(12):
        scene, objects = validation.composition(index, seed=5, epoch=5), validation.objects(index)
        shown = [mask for mask in scene.masks if mask.sum() >= VISIBLE]
        np.testing.assert_array_equal(objects.masks, shown)
        assert 1 <= len(objects) <= 8 and not objects.crowd.any() and objects.masks.sum(axis=0).max() == 1
        for mask, (x1, y1, x2, y2) in zip(objects.masks, objects.boxes.astype(int), strict=True):
            assert mask[y1:y2, x1:x2].sum() == mask.sum()
            assert mask[[y1, y2 - 1]].any(axis=1).all() and mask[:, [x1, x2 - 1]].any(axis=0).all()
    batch = train.batch([7, 3], seed=1, epoch=2)
    for row, index in enumerate((7, 3)):
        scene = train.composition(index, seed=1, epoch=2)
        count = batch["objects"][row]
        np.testing.assert_array_equal(batch["boxes"][row, :count], scene.boxes)
        np.testing.assert_array_equal(batch["classes"][row, :count], scene.classes)
        np.testing.assert_array_equal(batch["masks"][row, :count], pack_masks(scene.masks))
        assert not batch["boxes"][row, count:].any() and not batch["masks"][row, count:].any()


def test_a_batch_can_be_cut_and_an_evaluation_asks_for_no_objects():
    train, validation = small_sets()
    batch = train.batch(np.arange(5), seed=0, epoch=0)
    assert length(batch) == 5 and batch["image"].shape == (5, 3, 64, 64) and batch["masks"].shape[2:] == (64, 8)
    assert length(train.batch([], seed=0, epoch=0)) == 0
    assert train.batch([], seed=0, epoch=0).keys() == batch.keys()
    assert sum(array.nbytes for array in train.batch([3], seed=0, epoch=0).values()) <= train.sample_bytes
    evaluation = validation.batch([4, 2], seed=0, epoch=0)
    assert evaluation.keys() == {"image", "size", "original_size", "index"} and evaluation["index"].tolist() == [4, 2]
    assert evaluation["size"].tolist() == evaluation["original_size"].tolist() == [[64, 64]] * 2
    prepared = validation.preparation(validation.stored_picture(4))
    np.testing.assert_array_equal(evaluation["image"][0], prepared)


def test_fresh_scenes_follow_from_seed_epoch_and_index():
    first, again = small_sets()[0], small_sets(train_images=50)[0]
    batch = bits_of(first.batch([9, 4], seed=3, epoch=2))
    again.batch([1, 2], seed=3, epoch=1)
    assert bits_of(again.batch([9, 4], seed=3, epoch=2)) == batch
    for other in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 1}):
        changed = bits_of(first.batch([9, 4], **other))
        assert changed["image"] != batch["image"] and changed["sampling_seed"] != batch["sampling_seed"]


def test_fixed_scenes_stay_while_the_draw_of_anchors_goes_on():
    fixed = small_sets(fresh=False)[0]
    batch, later = (fixed.batch([0, 5], seed=3, epoch=epoch) for epoch in (0, 1))
    assert batch["image"].tobytes() == later["image"].tobytes()
    assert not (batch["sampling_seed"] == later["sampling_seed"]).any()
    np.testing.assert_array_equal(np.asarray(fixed.stored_picture(5)), np.asarray(fixed.stored_picture(5)))


def test_the_draw_of_anchors_depends_on_no_step():
    train, _ = small_sets()
    whole = train.batch(np.arange(24), seed=3, epoch=2)["sampling_seed"]
    apart = [train.batch([index], seed=3, epoch=2)["sampling_seed"][0] for index in range(24)]
    assert whole.tolist() == apart and len(set(apart)) == 24 and min(apart) >= 0


@pytest.mark.parametrize("processes", [2])
def test_batches_are_the_same_from_any_number_of_processes(processes):
    train, _ = small_sets()
    batches = [bits_of(batch) for batch in Loader(train, 6, seed=1, train=True).epoch(1)]
    others = [bits_of(batch) for batch in Loader(train, 6, seed=1, train=True, processes=processes).epoch(1)]
    assert batches == others and len(batches) == 4


def test_garments_lie_apart_where_no_overlap_is_allowed():
    apart, over = (small_sets(overlap=overlap, validation_images=40)[1] for overlap in (0.0, 1.0))
    for index in range(40):
        boxes = apart.objects(index).boxes.reshape(-1, 2, 2)
        assert all(_covered(one, other) == 0 for at, one in enumerate(boxes) for other in boxes[:at])
    assert sum(len(over.objects(index)) for index in range(40)) > sum(len(apart.objects(index)) for index in range(40))
    assert _covered(np.array([[0, 0], [4, 4]]), np.array([[2, 2], [10, 10]])) == 4 / 16 and TRIES > 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [("train_images", 0), ("validation_images", 0), ("image_size", 31), ("most_garments", 9), ("most_garments", 0),
     ("overlap", 1.5), ("warp", 3.0), ("clutter", -1.0), ("camera", 2.5)],
)
def test_bad_settings_are_named(setting, value):
    with pytest.raises(DataError, match=f"garment_scenes: {setting} is {value}, wanted"):
        small_sets(**{setting: value})
