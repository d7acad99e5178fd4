"""Classifying clips: as images, but that an answer is the mean over the views of a video."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from paddle import nn
from PIL import Image

from data import MAX_PIXELS, ClipPreparation, DataError, Dataset, film_strip, open_source, videos_below, views_of
from data.check import Survey
from engine.check_data.findings import Finding
from engine.check_data.samples import Sheet, of_clips
from engine.errors import InputError
from engine.tasks.classification import SIDE, Classification, probabilities_of, stretched, top_guesses
from engine.tasks.video_findings import video_findings


class Clips(Classification):
    """See `engine.tasks.task.Task`. Predictions are logits float32 [N, classes] of the mean over a video's views."""

    noun = "video"
    sees = "clip"
    axes = ("C", "T", "H", "W")

    def shown(self, image: np.ndarray) -> Image.Image:
        """A row of frames of what the network has seen, float [C, T, H, W]; the first of views [V, C, T, H, W]."""
        frames = stretched(image if image.ndim == 4 else image[0])
        strip = Image.fromarray(film_strip(frames))
        height = SIDE // 2
        return strip.resize((round(strip.width * height / strip.height), height), Image.Resampling.NEAREST)

    def find(self, paths: Sequence[str]) -> list[Path]:
        """The videos among paths, in order: files, and folders of pictures. Raises InputError where there is none.

        A folder without pictures is searched to any depth for both; a file is taken whatever its ending.
        """
        found = []
        for path in map(Path, paths):
            if not path.exists():
                raise InputError(f"{path}: no such video or folder")
            below = list(map(Path, videos_below(path))) if path.is_dir() else [path]
            if not below:
                raise InputError(f"{path}: no videos in this folder, and no pictures that are the frames of one")
            found += below
        return found

    def answers(
        self, model: nn.Layer, preparation: ClipPreparation, files: list[Path], *, top: int | None = None,
        least: float | None = None, max_pixels: int = MAX_PIXELS, test_clips: int = 1, test_crops: int = 1,
    ) -> Iterator[dict]:
        """Yield {"file", "top": [{"class", "probability"}, ...], "clips": [{"start", "crop", "top"}, ...]} for each.

        The first `top` is of the mean over all views, the most probable class first; `start` is in seconds, or in
        frames where those count. A video that cannot be read gives {"file", "error"} in its place.
        """
        for file in files:
            try:
                with open_source(str(file), max_pixels=max_pixels) as video:
                    seen = [
                        (view.start, view.crop, probabilities_of(model, {self.sees: view.clip[None]})[0])
                        for view in views_of(video, preparation, test_clips, test_crops)
                    ]
            except DataError as error:
                yield {"file": str(file), "error": str(error)}
                continue
            clips = [
                {"start": start, "crop": crop, "top": top_guesses(row, preparation.classes, top, least)}
                for start, crop, row in seen
            ]
            mean = np.mean([row for *_, row in seen], axis=0)
            yield {"file": str(file), "top": top_guesses(mean, preparation.classes, top, least), "clips": clips}

    def drawing(self) -> NoReturn:
        raise InputError("--draw: a class is of the whole video, there is nothing to draw; --json tells it")

    def sheet(self, dataset: Dataset) -> Sheet:
        return of_clips(dataset)

    def findings(
        self, datasets: Sequence[Dataset], surveys: Sequence[Survey], network: Callable[[], nn.Layer]
    ) -> Iterator[Finding]:
        yield from super().findings(datasets, surveys, network)
        yield from video_findings(datasets, surveys)
