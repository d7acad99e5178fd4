"""Classifying images: errors, sample images with answers, names of what is on picture files, the exported form."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F
from PIL import Image, ImageDraw, ImageFont

from data import MAX_PIXELS, DataError, Dataset, Preparation, read_picture
from data.check import Survey
from engine.check_data.findings import Finding
from engine.check_data.samples import Sheet, of_images
from engine.drawing import check_target, fonts_for_names
from engine.errors import InputError
from engine.run.measure import Measure
from engine.tasks.class_findings import class_counts, class_findings
from engine.tasks.confusion import Confusion, by_class_text
from engine.tasks.confusion_figure import write_confusion_figure
from engine.tasks.picture_files import find_pictures
from engine.terminal import printable

SIDE = 160  # pixels of a sample image, caption apart
TOP = 3  # classes that are named of a picture


class Classification:
    """See `engine.tasks.task.Task`. Predictions are logits float32 [N, classes]."""

    measures = (Measure("top1_error", "top-1 error"),)
    noun = "picture"
    sees = "image"  # what the networks take of a batch
    axes = ("C", "H", "W")  # of it

    def scores(self, dataset: Dataset) -> "ClassScores":
        return ClassScores(dataset.classes)

    def check_files(self, confusion: Path | None, results: Path | None) -> None:
        if results:
            raise InputError("--results: COCO's result files hold boxes, and there are none; --json tells all")

    def samples(self, batch: dict, predictions: paddle.Tensor) -> list:
        """(image float [C, H, W], label, probabilities [classes]) of each image."""
        return list(zip(batch[self.sees], batch["label"], F.softmax(predictions, axis=1).numpy(), strict=True))

    def pictures(self, samples: Sequence, dataset: Dataset) -> dict[str, np.ndarray]:
        """{tag: uint8 [H, W, 3]}: what was predicted and, where that is wrong, what it is."""
        from matplotlib.font_manager import findfont

        font = ImageFont.truetype(findfont(fonts_for_names()[:2][-1]), 11)  # the first that has Chinese, if any has
        pictures = {}
        for number, (image, label, probabilities) in enumerate(samples):
            guess = int(np.argmax(probabilities))
            caption = f"{guess} {dataset.classes[guess]}, {100 * probabilities[guess]:.0f} %"
            if guess != label:
                caption += f"\nis {int(label)} {dataset.classes[int(label)]}"
            picture = self.shown(image)
            sheet = Image.new(
                "RGB", (picture.width, picture.height + 30), "white" if guess == label else "mistyrose"
            )
            sheet.paste(picture)
            ImageDraw.Draw(sheet).multiline_text((3, picture.height + 1), caption, fill="black", font=font, spacing=1)
            pictures[f"eval/sample_{number}"] = np.asarray(sheet)
        return pictures

    def found_below(self, samples: Sequence, dataset: Dataset) -> None:
        return None

    def shown(self, image: np.ndarray) -> Image.Image:
        """An RGB picture of what the network has seen, float [C, H, W]."""
        return Image.fromarray(stretched(image)).resize((SIDE, SIDE), Image.Resampling.NEAREST)

    def find(self, paths: Sequence[str]) -> list[Path]:
        return find_pictures(paths)

    def answers(
        self, model: nn.Layer, preparation: Preparation, files: list[Path], *, top: int | None = None,
        least: float | None = None, batch: int = 32, max_pixels: int = MAX_PIXELS,
    ) -> Iterator[dict]:
        """Yield {"file", "top": [{"class", "probability"}, ...]} for each file, the most probable class first.

        A picture that cannot be read gives {"file", "error"} in its place, with the path and the reason. max_pixels:
        as of image_folder; top: 3 where it is None; least: 0.
        """
        for start in range(0, len(files), batch):
            part = files[start : start + batch]
            prepared = [_prepared(preparation, file, max_pixels) for file in part]
            images = [image for image in prepared if not isinstance(image, DataError)]
            rows = iter(probabilities_of(model, {self.sees: np.stack(images)}) if images else [])
            for file, image in zip(part, prepared, strict=True):
                if isinstance(image, DataError):
                    yield {"file": str(file), "error": str(image)}
                    continue
                yield {"file": str(file), "top": top_guesses(next(rows), preparation.classes, top, least)}

    def in_words(self, answer: dict) -> str:
        """What `answers` gave for a picture that could be read, as a line."""
        guesses = (f"{guess['class']} {100 * guess['probability']:.1f} %" for guess in answer["top"])
        return printable(f"{answer['file']}: {', '.join(guesses) or 'nothing so sure'}")

    def drawing(self) -> NoReturn:
        raise InputError("--draw: a class is of the whole picture, there is nothing to draw; --json tells it")

    def exported(self, model: nn.Layer) -> nn.Layer:
        return Probabilities(model)

    def check(self, dataset: Dataset) -> None:
        if len(dataset.classes) < 2:
            raise InputError(
                f"data: has {len(dataset.classes)} class, and so nothing to tell apart; expected 2 or more"
            )
        if dataset.labels is None:
            raise InputError("data: its pictures have not one class each; a classifier wants that they have")
        if len(dataset.image_shape) != len(self.axes):
            shape, wanted = " x ".join(map(str, dataset.image_shape)), " x ".join(self.axes)
            raise InputError(f"data: has samples of {shape}; this model.name wants {self.sees}s of {wanted}")

    def findings(
        self, datasets: Sequence[Dataset], surveys: Sequence[Survey], network: Callable[[], nn.Layer]
    ) -> Iterator[Finding]:
        return class_findings(datasets, surveys, self.noun)

    def sheet(self, dataset: Dataset) -> Sheet:
        return of_images(dataset)

    def class_counts(self, datasets: Sequence[Dataset]) -> list[dict]:
        return class_counts(datasets)


def stretched(image: np.ndarray) -> np.ndarray:
    """Whatever was normalised, float [C, ..., H, W], in full contrast: uint8 [..., H, W, 3]."""
    pixels = np.uint8(255 * (image - image.min()) / max(float(np.ptp(image)), 1e-6))
    pixels = np.moveaxis(pixels, 0, -1)
    return pixels if pixels.shape[-1] == 3 else np.repeat(pixels[..., :1], 3, axis=-1)


class ClassScores:
    """Mean cross entropy, top-1 and (with more than five classes) top-5 error, as fractions; and the confusion."""

    def __init__(self, classes: Sequence[str]):
        self.confusion = Confusion(classes)
        self.sums = np.zeros(4)  # images, summed loss, wrong at top 1 and at top 5: exact, and the same in any split

    @property
    def images(self) -> int:
        return int(self.sums[0])

    def add(self, batch: dict, predictions: paddle.Tensor) -> None:
        label = batch["label"]
        loss = F.cross_entropy(predictions, paddle.to_tensor(label), reduction="none").numpy().astype(np.float64)
        ranked = predictions.argsort(axis=1, descending=True)[:, :5].numpy()
        hit = ranked == label[:, None]
        self.confusion.add(label, ranked[:, 0])
        self.sums += (len(hit), loss.sum(), (~hit[:, 0]).sum(), (~hit.any(axis=1)).sum())

    def gather(self) -> None:
        if paddle.distributed.get_world_size() > 1:
            total = paddle.to_tensor(self.sums)
            paddle.distributed.all_reduce(total)
            self.sums = total.numpy()
        self.confusion.gather()

    def numbers(self) -> dict[str, float]:
        images, loss, wrong1, wrong5 = self.sums.tolist()
        errors = {"loss": loss / images, "top1_error": wrong1 / images}
        if len(self.confusion.classes) > 5:
            errors["top5_error"] = wrong5 / images
        return errors

    def details(self) -> dict:
        """classes: images and errors of each; confusion: images by [true class][class that was said]."""
        return {"classes": self.confusion.by_class(), "confusion": self.confusion.matrix().tolist()}

    def in_words(self, longest: int) -> str:
        return by_class_text(self.confusion, longest)

    def draw(self, path: Path) -> None:
        """Which class is taken for which, as .png or .svg."""
        write_confusion_figure(self.confusion, check_target(path))


class Probabilities(nn.Layer):
    """image [N, C, H, W] -> probabilities [N, classes]: the batch dict of training is no matter of deployment."""

    def __init__(self, classifier: nn.Layer):
        super().__init__()
        self.classifier = classifier

    def forward(self, image: paddle.Tensor) -> paddle.Tensor:
        return F.softmax(self.classifier.logits(image), axis=1)


def _prepared(preparation, file, max_pixels):
    try:
        return preparation(read_picture(file, max_pixels, preparation.resize_short or 0))
    except DataError as error:
        return error


@paddle.no_grad()
def probabilities_of(model: nn.Layer, batch: dict[str, np.ndarray]) -> np.ndarray:
    """float32 [N, classes] of the N samples of a batch."""
    return F.softmax(model({name: paddle.to_tensor(value) for name, value in batch.items()}), axis=1).numpy()


def top_guesses(
    probabilities: np.ndarray, classes: Sequence[str], top: int | None, least: float | None
) -> list[dict]:
    """{"class", "probability"} of the most probable classes, the most probable one first.

    top: how many at most, None for TOP; least: only those that are that sure, None for all.
    """
    best = [index for index in np.argsort(-probabilities)[: top or TOP] if probabilities[index] >= (least or 0.0)]
    return [{"class": classes[index], "probability": float(probabilities[index])} for index in best]
