"""Scenes to detect in: one to eight garments, each with its class, its box and every pixel that shows it."""

from collections import Counter
from typing import Literal

import numpy as np
from PIL import Image

from data.composed import FRESH, MEAN, STD, TRAINING, VALIDATION
from data.composing.backdrops import Backdrops
from data.composing.camera import random_camera
from data.composing.garments import Garments, random_tint
from data.composing.light import random_light
from data.composing.placing import random_pose
from data.composing.scene import Composition, Piece, compose
from data.dataset import Batch, Dataset, Indices, picture_of
from data.detection.batch import Sample, detection_batch, sample_bytes
from data.detection.dataset import annotations_of, sampling_seed
from data.detection.objects import Objects
from data.detection.preparation import DetectionPreparation
from data.errors import DataError
from data.geometry import extent
from data.idx import fashion_mnist
from data.normalise import normalise
from data.randomness import SCENE, generator
from data.user_path import UserPath

KINDS = {
    "Top": ("T-shirt/top", "Pullover", "Coat", "Shirt"), "Trouser": ("Trouser",), "Dress": ("Dress",),
    "Shoe": ("Sandal", "Sneaker", "Ankle boot"), "Bag": ("Bag",),
}
SMALLEST, MOST = 32, 8  # pixels of a scene's side; garments in a scene
SMALL, LARGE = 0.2, 0.6  # of a garment's square in the scene's side
TRIES = 12  # places that are tried for a garment before it is left out,
SHRINKING = 0.92  # the largest that it may be there falling by this each time
VISIBLE = 16  # pixels; a garment that shows fewer is no object
LONGEST = 2  # times the short side; a longer picture is made smaller in inference


def garment_scenes(
    train_images: int = 4000,
    validation_images: int = 500,
    image_size: int = 128,
    classes: Literal["garments", "kinds"] = "garments",
    most_garments: int = 8,
    overlap: float = 0.3,
    warp: float = 0.5,
    clutter: float = 2.0,
    camera: float = 1.0,
    fresh: bool = True,
    root: UserPath | None = None,
) -> tuple[Dataset, Dataset]:
    """Scenes of Fashion-MNIST garments with boxes and exact masks, RGB, 10 or 5 classes -> (train, validation).

    Composed as `composed` says, and of as many images as are asked for. A scene holds 1 to `most_garments` garments of
    any class; a garment's square is 0.2 to 0.6 of the scene's side, and all of it lies in the
    scene. A mask is what can be seen of a garment: no pixel belongs to two of them, and a box is close around its mask.

    train_images: of an epoch. validation_images: always the same ones, whatever the seed, of other garments.
    image_size: pixels of height and width, 32 or more; made for 128 to 256.
    classes: the ten of Fashion-MNIST, or the five "kinds" top, trouser, dress, shoe and bag, told apart sooner.
    most_garments: 1 to 8.
    overlap: how much of the smaller of two garments' upright boxes the other may cover, 0 to 1. A garment for which
        twelve places were tried in vain, in ever smaller sizes, is left out.
    warp, clutter, camera, fresh, root: as of `composed`.

    A fresh scene depends on (seed, epoch, index) and the settings, and nothing else. Raises DataError.
    """
    for name, value, wanted, right in (
        ("train_images", train_images, "1 or more", train_images >= 1),
        ("validation_images", validation_images, "1 or more", validation_images >= 1),
        ("image_size", image_size, f"{SMALLEST} or more pixels", image_size >= SMALLEST),
        ("most_garments", most_garments, f"1 to {MOST}", 1 <= most_garments <= MOST),
        ("overlap", overlap, "0 to 1", 0 <= overlap <= 1),
        ("warp", warp, "0 to 2", 0 <= warp <= 2),
        ("clutter", clutter, "0 to 20", 0 <= clutter <= 20),
        ("camera", camera, "0 to 2", 0 <= camera <= 2),
    ):
        if not right:
            raise DataError(f"garment_scenes: {name} is {value}, wanted {wanted}")
    train, validation = (_garments(part, classes) for part in fashion_mnist(root))
    settings = {
        "image_size": image_size, "most_garments": most_garments, "overlap": overlap, "warp": warp, "clutter": clutter,
        "camera": camera,
    }
    return (
        SceneDataset(train, train_images, FRESH if fresh else TRAINING, **settings),
        SceneDataset(validation, validation_images, VALIDATION, **settings),
    )


class SceneDataset:
    """`images` scenes of some Garments; draws is FRESH, TRAINING or VALIDATION. The rest as garment_scenes() says.

    A DetectionDataset. Nothing is kept: a scene is composed anew each time, much faster than a network uses it.
    """

    labels = None
    skipped = 0
    unused = Counter()
    has_masks = True
    left_out: dict[str, list[str]] = {}

    def __init__(
        self, garments: Garments, images: int, draws: int, *, image_size: int, most_garments: int, overlap: float,
        warp: float, clutter: float, camera: float,
    ):
        self.garments, self.images, self.draws, self.most_garments = garments, images, draws, most_garments
        self.overlap, self.warp, self.camera = overlap, warp, camera
        self.classes = garments.classes
        self.image_ids = np.arange(1, images + 1)  # to pycocotools an id of 0 is none
        self.category_ids = tuple(range(1, len(self.classes) + 1))
        self.image_shape = (3, image_size, image_size)
        self.sample_bytes = sample_bytes(self.image_shape[1:], most_garments, masks=True)
        self.preparation = DetectionPreparation(
            self.classes, self.image_shape, MEAN, STD, image_size, resize_long=LONGEST * image_size,
            category_ids=self.category_ids,
        )
        self.in_memory = draws != FRESH
        self.stored = "another draw" if draws == FRESH else "unchanged"  # what stored_picture is, on a sheet of samples
        self.origin = f"scenes composed with {len(garments):,} garments"
        self._fixed_key = draws or TRAINING, 0, 0
        self._backdrops = Backdrops(garments, self.image_shape[1:], clutter)

    def __len__(self) -> int:
        return self.images

    def digest(self) -> str:
        """Another text for other garments; what is composed of them follows from settings."""
        return self.garments.digest()

    def batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """The samples `indices` [N], in that order, as `detection_batch` says."""
        training = self.draws != VALIDATION
        samples = [self._sample(int(index), seed, epoch, training) for index in indices]
        return detection_batch(samples, training=training)

    def composition(self, index: int, *, seed: int, epoch: int) -> Composition:
        """One sample with all that is known of it, as `batch` shows it."""
        return self._composition(index, (FRESH, seed, epoch) if self.draws == FRESH else self._fixed_key)

    def stored_picture(self, index: int) -> Image.Image:
        """The sample as a fixed set would have it, which is what stands for a set without an end."""
        return picture_of(self._composition(index, self._fixed_key).pixels)

    def objects(self, index: int) -> Objects:
        """What stored_picture shows: what lies where is known without background, light and camera."""
        pieces = self._pieces(generator(SCENE, *self._fixed_key, index))
        return _objects(compose(np.zeros(self.image_shape, np.float32), pieces))

    def annotations(self, index: int) -> list[dict]:
        """The same as COCO writes it."""
        return annotations_of(self.objects(index), self.image_ids[index], self.category_ids)

    def path(self, index: int) -> None:
        """None: there is no file."""

    def _sample(self, index, seed, epoch, training):
        scene = self.composition(index, seed=seed, epoch=epoch)
        image = normalise(scene.pixels, MEAN, STD)
        return Sample(
            image, image.shape[1:], index, _objects(scene) if training else None,
            sampling_seed(seed, epoch, index) if training else 0,
        )

    def _composition(self, index, key):
        rng = generator(SCENE, *key, index)
        pieces, background = self._pieces(rng), self._backdrops.part(rng, key)
        return compose(background, pieces, random_light(rng, self.camera), random_camera(rng, self.camera), rng)

    def _pieces(self, rng):
        pieces, taken = [], []
        for _ in range(1 + int(self.most_garments * rng.random())):
            piece, box = self._placed(rng, taken)
            if piece:
                pieces.append(piece)
                taken.append(box)
        return pieces

    def _placed(self, rng, taken):
        """A garment that covers none of the boxes `taken` too much, nor they it, and its box; (None, None) if there is
        no room."""
        garments, shape = self.garments, self.image_shape[1:]
        number, tint = int(rng.random() * len(garments)), random_tint(rng)
        layers, corners, label = garments.layers[number], garments.corners[number], garments.labels[number]
        for shrunk in range(TRIES):
            share = SMALL, max(SMALL, LARGE * SHRINKING**shrunk)
            pose = random_pose(rng, corners, shape, warp=self.warp, share=share)
            low, high = extent(corners, pose.matrix, pose.pushes)
            box = pose.position + low, pose.position + high
            if all(_covered(box, other) <= self.overlap for other in taken):
                return Piece(layers, corners, tint, pose, label), box
        return None, None


def _garments(part, classes):
    if classes == "garments":
        return Garments(part.images[:, 0], part.labels, part.classes)
    kind_of = {name: kind for kind, names in enumerate(KINDS.values()) for name in names}
    return Garments(part.images[:, 0], np.array([kind_of[name] for name in part.classes])[part.labels], KINDS)


def _covered(one, other):
    """How much of the smaller of two boxes, (low, high) each, lies in the other."""
    common = np.prod(np.maximum(0, np.minimum(one[1], other[1]) - np.maximum(one[0], other[0])))
    return common / min(np.prod(one[1] - one[0]), np.prod(other[1] - other[0]))


def _objects(scene):
    masks = scene.masks
    seen = np.flatnonzero(masks.sum(axis=(1, 2)) >= VISIBLE)
    return Objects(scene.boxes[seen], scene.classes[seen], masks[seen], np.zeros(len(seen), bool))
