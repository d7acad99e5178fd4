"""Composed clips to classify by their motion alone: a garment that moves in a scene that stands still."""

from collections import Counter

import numpy as np
from PIL import Image

from data.check import Look, look_at
from data.composed import FRESH, MEAN, SMALLEST, STD, TRAINING, VALIDATION
from data.composing.backdrops import Backdrops
from data.composing.camera import photograph, random_camera
from data.composing.garments import Garments, random_tint
from data.composing.light import over_image, random_light
from data.composing.motion import MOTIONS, random_poses
from data.composing.scene import Piece, put
from data.dataset import Batch, Dataset, Indices, labelled_bytes, picture_of
from data.errors import DataError
from data.idx import fashion_mnist
from data.normalise import normalise
from data.randomness import COMPOSITION, generator
from data.user_path import UserPath
from data.video.preparation import ClipPreparation


def garment_clips(
    train_clips: int = 4000,
    validation_clips: int = 1000,
    frames: int = 8,
    image_size: int = 64,
    speed: float = 1.0,
    shake: float = 0.0,
    warp: float = 0.3,
    clutter: float = 2.0,
    backdrop: float = 1.0,
    camera: float = 1.0,
    shuffled: bool = False,
    fresh: bool = True,
    root: UserPath | None = None,
) -> tuple[Dataset, Dataset]:
    """Clips of Fashion-MNIST garments in scenes drawn by formula: RGB, 10 motions as classes -> (train, validation).

    A garment moves left, right, up or down, grows, shrinks, turns one way or the other, bounces or stands still. Which
    garment it is, its colours, what lies behind it, where it begins and how fast it is tell nothing of the class. The
    canvas has no borders: what leaves on the right comes in on the left, and a garment that has grown to the largest
    size is at the smallest again. So no single frame tells the class either, and each class played backwards is
    another, or, for still and bouncing, itself.

    train_clips: of an epoch; classes are as even as can be.
    validation_clips: always the same ones, whatever the seed, of other garments than training.
    frames: of a clip; more show the same motion at shorter intervals.
    image_size: pixels of height and width, 16 or more.
    speed: above 0, up to 2. At 1 a garment moves by 0.45 to 0.9 of the width in a clip, grows by a factor of 1.26 to
        1.6, turns by 117 to 234 degrees, bounces one to two times.
    shake: 0 to 0.2, by how much a frame's garment is off its way: a standard deviation, in widths.
    backdrop: 0 to 1, the contrast of what lies behind; at 0 it has one colour, and there is only the garment to see.
    shuffled: the frames of each clip in a random order, as a control: what is left tells motions that have a direction
        from those that have none at most.
    warp, clutter, camera, fresh, root: as for composed; warp is of the garment's bends alone.

    A fresh clip depends on (seed, epoch, index) and the settings, and nothing else. Raises DataError.
    """
    for name, value, wanted, right in (
        ("train_clips", train_clips, "1 or more", train_clips >= 1),
        ("validation_clips", validation_clips, "1 or more", validation_clips >= 1),
        ("frames", frames, "2 or more", frames >= 2),
        ("image_size", image_size, f"{SMALLEST} or more pixels", image_size >= SMALLEST),
        ("speed", speed, "more than 0 and at most 2", 0 < speed <= 2),
        ("shake", shake, "0 to 0.2", 0 <= shake <= 0.2),
        ("warp", warp, "0 to 2", 0 <= warp <= 2),
        ("clutter", clutter, "0 to 20", 0 <= clutter <= 20),
        ("backdrop", backdrop, "0 to 1", 0 <= backdrop <= 1),
        ("camera", camera, "0 to 2", 0 <= camera <= 2),
    ):
        if not right:
            raise DataError(f"garment_clips: {name} is {value}, wanted {wanted}")
    train, validation = (Garments(part.images[:, 0], part.labels, part.classes) for part in fashion_mnist(root))
    shape = (3, frames, image_size, image_size)
    settings = {
        "shape": shape, "speed": speed, "shake": shake, "warp": warp, "clutter": clutter, "backdrop": backdrop,
        "camera": camera, "shuffled": shuffled,
    }
    return (
        GarmentClips(train, train_clips, FRESH if fresh else TRAINING, **settings),
        GarmentClips(validation, validation_clips, VALIDATION, **settings),
    )


class GarmentClips:
    """`clips` composed clips [C, T, H, W] of some Garments. The rest as garment_clips says.

    draws is FRESH, TRAINING or VALIDATION, as for composed images. Fixed clips stay in memory once they are composed.
    """

    skipped = 0
    unused = Counter()

    def __init__(
        self, garments: Garments, clips: int, draws: int, *, shape: tuple[int, int, int, int], speed: float,
        shake: float, warp: float, clutter: float, backdrop: float, camera: float, shuffled: bool,
    ):
        self.garments, self.draws, self.camera, self.shuffled = garments, draws, camera, shuffled
        self.motion = {"frames": shape[1], "side": shape[2], "warp": warp, "speed": speed, "shake": shake}
        self.classes = tuple(MOTIONS)
        self.labels = np.arange(clips) % len(self.classes)
        self.image_shape, self.sample_bytes = shape, labelled_bytes(shape)
        self.preparation = ClipPreparation(self.classes, shape, MEAN, STD)
        self.in_memory = draws != FRESH
        self.origin = f"composed with {len(garments):,} garments"
        self._backdrops = Backdrops(garments, shape[2:], clutter, backdrop)
        self._kept = {}

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """Another text for other garments; what is composed of them follows from settings."""
        return self.garments.digest()

    def batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """The samples `indices` [N]: {"clip": float32 [N, 3, T, H, W] normalised, "label": int64 [N]}."""
        pixels = np.empty((len(indices), *np.take(self.image_shape, [1, 0, 2, 3])), np.uint8)
        for row, index in enumerate(map(int, indices)):
            pixels[row] = self.pixels(index, seed=seed, epoch=epoch)
        clip = normalise(pixels, self.preparation.mean, self.preparation.std).swapaxes(1, 2)
        return {"clip": np.ascontiguousarray(clip), "label": self.labels[indices]}

    def pixels(self, index: int, *, seed: int, epoch: int) -> np.ndarray:
        """The frames of one sample as `batch` shows them, uint8 [T, 3, H, W]."""
        if self.draws == FRESH:
            return self.composed(int(self.labels[index]), index, (FRESH, seed, epoch))
        if index not in self._kept:
            self._kept[index] = self._fixed(index)
        return self._kept[index]

    def composed(self, label: int, index: int, key: tuple[int, int, int]) -> np.ndarray:
        """The frames uint8 [T, 3, H, W] that the class `label` has of what is drawn for (key, index)."""
        rng, garments = generator(COMPOSITION, *key, index), self.garments
        motion, is_backwards = MOTIONS[self.classes[label]]
        number, tint, light = int(rng.random() * len(garments)), random_tint(rng), random_light(rng, self.camera)
        camera, background = random_camera(rng, self.camera), self._backdrops.part(rng, key)
        order = rng.permutation(self.motion["frames"])  # drawn in any case: the control has the same frames
        corners = garments.corners[number]
        clip = np.empty((self.motion["frames"], *background.shape), np.float32)
        for frame, pose in zip(clip, random_poses(rng, motion, **self.motion), strict=True):
            _put_without_borders(frame, background, Piece(garments.layers[number], corners, tint, pose, label), light)
        clip *= over_image(light, background.shape[1:])
        pixels = photograph(clip, camera, rng)
        if self.shuffled:
            return pixels[order]
        return pixels[::-1] if is_backwards else pixels

    def stored_picture(self, index: int) -> Image.Image:
        """The middle frame of the sample as a fixed set would have it."""
        frames = self._fixed(index)
        return picture_of(frames[len(frames) // 2])

    def look(self, index: int) -> Look:
        """What the sample is like, all its frames, as a fixed set would have it."""
        return look_at([picture_of(frame) for frame in self._fixed(index)])

    def path(self, index: int) -> None:
        """None: there is no file."""

    def _fixed(self, index):
        return self.composed(int(self.labels[index]), index, (self.draws or TRAINING, 0, 0))


def _put_without_borders(canvas, background, piece, light):
    """Draw a piece on a canvas whose opposite sides are one: in its middle, and moved to its place by whole pixels."""
    shape = canvas.shape[1:]
    shift = [round(place) - side // 2 for place, side in zip(piece.pose.position.tolist(), shape, strict=True)]
    drawn = np.roll(background, [-by for by in shift], axis=(1, 2))
    middle = piece._replace(pose=piece.pose._replace(position=piece.pose.position - shift))
    put(drawn, np.zeros(shape, np.intp), 0, middle, light)
    canvas[:] = np.roll(drawn, shift, axis=(1, 2))
