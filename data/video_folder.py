"""Videos in class folders, split or not, or in the lists of MMAction and PaddleVideo: files, or folders of pictures."""

import contextlib
import hashlib
import logging
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from data.check import Look, look_at
from data.dataset import Batch, Dataset, Indices, labelled_bytes
from data.errors import DataError, printable
from data.preparation import MAX_PIXELS
from data.randomness import AUGMENTATION, generator
from data.user_path import UserPath
from data.video.decoding import VideoFile
from data.video.layout import Part, Wanted, find_videos
from data.video.preparation import ClipPreparation, Crop
from data.video.sampling import check_together
from data.video.stills import Stills
from data.video.views import open_source, timeline, views_of

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)  # of the non-local paper: 114.75 and 57.375 of 255
LOOKED_AT = 8  # frames of a video that its fingerprint, its brightness and its picture on a sheet are made of
log = logging.getLogger("data")


def video_folder(
    root: UserPath, train: UserPath = "train", validation: UserPath = "val", train_videos: UserPath = "",
    validation_videos: UserPath = "", validation_share: float = 0.2, split_seed: int = 0,
    split: Literal["auto", "folders", "none"] = "auto", first_label: int = 0, frames: int = 32, stride: int = 2,
    fps: float | None = 30.0, image_size: int = 224, short_side: tuple[int, int] = (256, 320), flip: bool = True,
    resize_short: int = 256, test_size: int | None = None, test_clips: int = 1, test_crops: Literal[1, 3] = 1,
    on_corrupt_video: Literal["stop", "skip"] = "stop", max_pixels: int = MAX_PIXELS,
) -> tuple[Dataset, Dataset]:
    """Videos below `root` -> (train, validation): clips that are decoded when they are needed.

    A video is a file (they want PyAV: requirements-video.txt) or a folder of its frames as pictures, whose names end in
    numbers. Class folders, split or not, `train`, `validation`, `validation_share`, `split_seed`, `split` and
    `first_label`: as of image_folder. A list has `video label` on each line, or `folder frames label` for pictures;
    its paths begin at train_videos or validation_videos below root, and have no spaces. The names of the classes:
    as of image_folder.

    A clip is `frames` frames, `stride` of them apart in a video of `fps` frames a second: by their time stamps, so that
    videos of other and of changing rates show the same motion at the same speed. With fps null the frames of each
    video are counted, and so are those of pictures always. A clip that is longer than its video goes on at its
    beginning.

    Training: the clip begins anywhere; the short side of all its frames is scaled to one length within `short_side`,
    one square of image_size cut out anywhere, and mirrored half of the time if `flip`. Validation: short side to
    resize_short, test_clips clips evenly spaced (one is the middle), and of each the centre square of test_size
    (null: image_size), or with test_crops 3 those at both ends of the long side too; of several views a batch has
    clips [N, V, C, T, H, W]. on_corrupt_video: "stop" raises DataError with the path of a video that cannot be read;
    "skip" logs and counts it in training, and the next one stands in; in validation it stops all the same. Raises
    DataError.
    """
    test_size = image_size if test_size is None else test_size
    _check_settings(
        validation_share, first_label, frames, stride, fps, image_size, short_side, resize_short, test_size, test_clips,
        max_pixels,
    )
    wanted = Wanted(
        Path(root), train, validation, train_videos, validation_videos, validation_share, split_seed, split, first_label
    )
    try:
        classes, train_part, validation_part = find_videos(wanted)
    except OSError as error:  # a folder that may not be read, lost+found for one
        raise DataError(f"{error.filename}: {error.strerror}") from error
    preparation = ClipPreparation(
        classes, (3, frames, test_size, test_size), MEAN, STD, resize_short, stride=stride, fps=fps
    )
    augmentation = ClipAugmentation(image_size, short_side, flip)
    return (
        VideoDataset(train_part, preparation, augmentation, on_corrupt_video=on_corrupt_video, max_pixels=max_pixels),
        VideoDataset(validation_part, preparation, views=(test_clips, test_crops), max_pixels=max_pixels),
    )


class ClipAugmentation(NamedTuple):
    """What training does to a clip: see video_folder."""

    image_size: int
    short_side: tuple[int, int]
    flip: bool

    def crop(self, rng: np.random.Generator, size: tuple[int, int]) -> Crop:
        """One square for all frames of (width, height), as it lies in them before they are scaled."""
        shortest, longest = self.short_side
        length, left, top, mirrored = rng.random(4).tolist()
        side = self.image_size * min(size) / (shortest + (longest - shortest) * length)
        return Crop(left * (size[0] - side), top * (size[1] - side), side, self.flip and mirrored < 0.5)


class VideoFacts(NamedTuple):
    """What check_data wants to know of a video."""

    frames: int
    promised: int  # by its header or its packets; 0 where those do not tell
    damaged: int  # that the decoder marks so
    is_even: bool  # whether all frames last as long
    clips: float  # that fit into it, one after another


class VideoDataset:
    """The videos of a part; one is decoded each time that it is asked for.

    A training set has an `augmentation`, a test set `views`: how many clips of a video, and crops of each. `paths` [N]
    are encoded, `frames` int32 [N] what lists promise; the other attributes are every Dataset's.
    """

    in_memory = False
    unused = Counter()

    def __init__(
        self, part: Part, preparation: ClipPreparation, augmentation: ClipAugmentation | None = None, *,
        views: tuple[int, int] = (1, 1), on_corrupt_video: Literal["stop", "skip"] = "stop",
        max_pixels: int = MAX_PIXELS,
    ):
        # Blocks of bytes, not a million objects: worker processes share them, for nothing in them counts references.
        self.paths, self.frames = np.array([os.fsencode(path) for path in part.paths]), np.array(part.frames, np.int32)
        self.labels, self.origin = np.asarray(part.labels, np.int64), part.origin
        self.classes, self.preparation, self.augmentation = preparation.classes, preparation, augmentation
        self.image_shape = preparation.image_shape
        if augmentation:
            self.image_shape = (*self.image_shape[:2], augmentation.image_size, augmentation.image_size)
        self.views, self.on_corrupt_video, self.max_pixels = views, on_corrupt_video, max_pixels
        self.skipped = 0

    @property
    def sample_bytes(self) -> int:
        return labelled_bytes(self._clips_shape())

    def __len__(self) -> int:
        return len(self.paths)

    def digest(self) -> str:
        """Another text for videos of other names, labels or promised frames, or another order; wherever they lie."""
        names = self.paths.tolist()
        start = os.path.commonprefix([min(names), max(names)]).rfind(os.sep.encode()) + 1
        content = hashlib.sha256(self.labels)
        content.update(self.frames)
        content.update(b"\0".join(name[start:] for name in names))
        return content.hexdigest()

    def batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """The samples `indices` [N]: {"clip": float32 [N, 3, T, H, W], or [N, V, 3, T, H, W], "label": int64 [N]}.

        What is random about sample i depends on (seed, epoch, i) and nothing else. Raises DataError.
        """
        clips, labels = np.empty((len(indices), *self._clips_shape()), np.float32), np.empty(len(indices), np.int64)
        for row, index in enumerate(map(int, indices)):
            found, clips[row] = self._readable(index, seed, epoch)
            labels[row] = self.labels[found]
        return {"clip": clips, "label": labels}

    def stored_picture(self, index: int) -> Image.Image:
        """The middle frame of a video, RGB and upright. Raises DataError."""
        with self.open(index) as video:
            return video.pictures([len(video.times) // 2])[0]

    def look(self, index: int) -> Look:
        """What a video is like, by some of its frames; all are read, to see whether they can be. Raises DataError."""
        with self.open(index) as video:
            line = timeline(video, self.preparation)
            clip = np.unique(line.clip(0.0))  # which training holds at once
            if isinstance(video, Stills):
                video.check(clip)
            # The first and the last among them: a video file is decoded as a whole.
            some = np.linspace(0, len(video.times) - 1, min(LOOKED_AT, max(2, line.frames), len(video.times)))
            pictures = video.pictures(some.round().astype(int))
            check_together(len(clip), pictures[0].size, self.max_pixels)
            steps = np.diff(video.times)
            is_even = not len(steps) or bool(np.ptp(steps) < 0.5 * np.median(steps))
            facts = VideoFacts(len(video.times), video.promised, video.damaged, is_even, line.length / line.span)
            return look_at(pictures, facts)._replace(mode=video.kind)

    def path(self, index: int) -> str:
        """The file of a video, or the folder of its pictures."""
        return os.fsdecode(self.paths[index])

    def open(self, index: int) -> contextlib.AbstractContextManager[VideoFile | Stills]:
        """A video, open."""
        return open_source(self.path(index), int(self.frames[index]) or None, self.max_pixels)

    def _clips_shape(self):
        clips, crops = self.views
        return self.image_shape if clips * crops == 1 else (clips * crops, *self.image_shape)

    def _readable(self, index, seed, epoch):
        """Index and clips of this sample or, in training where such are skipped, of the next that can be read."""
        for candidate in range(index, index + len(self)):
            candidate %= len(self)
            try:
                return candidate, self._clips(candidate, generator(AUGMENTATION, seed, epoch, index))
            except DataError as error:
                if self.on_corrupt_video == "stop":
                    raise
                self.skipped += 1
                log.warning("skipped %s", printable(str(error)))
        raise DataError(f"{self.path(index)}: cannot be read, and none of the {len(self)} training videos can")

    def _clips(self, index, rng):
        with self.open(index) as video:
            if self.augmentation is None:
                clips = np.stack([view.clip for view in views_of(video, self.preparation, *self.views)])
                return clips if len(clips) > 1 else clips[0]
            line = timeline(video, self.preparation)
            pictures = video.pictures(line.clip(line.random_start(rng)))
            crop = self.augmentation.crop(rng, pictures[0].size)
            preparation = replace(self.preparation, image_shape=self.image_shape)
            return preparation.cropped(pictures, crop)


def _check_settings(
    validation_share, first_label, frames, stride, fps, image_size, short_side, resize_short, test_size, test_clips,
    max_pixels,
):
    for name, value, wanted, right in (
        ("validation_share", validation_share, "a share between 0 and 1", 0 < validation_share < 1),
        ("first_label", first_label, "0 or more", first_label >= 0),
        ("frames", frames, "1 or more", frames >= 1),
        ("stride", stride, "1 or more", stride >= 1),
        ("fps", fps, "more than 0, or null", fps is None or fps > 0),
        ("image_size", image_size, "1 or more pixels", image_size >= 1),
        ("short_side", list(short_side), f"image_size ({image_size}) or more, the smaller one first",
         image_size <= short_side[0] <= short_side[1]),
        ("resize_short", resize_short, f"test_size ({test_size}) or more", resize_short >= test_size),
        ("test_size", test_size, "1 or more pixels", test_size >= 1),
        ("test_clips", test_clips, "1 or more", test_clips >= 1),
        ("max_pixels", max_pixels, "1 or more", max_pixels >= 1),
    ):
        if not right:
            raise DataError(f"video_folder: {name} is {value}, wanted {wanted}")
