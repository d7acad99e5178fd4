"""A second task, which nothing in the project knows: brightness, scored by r2, which rises and is no error."""

import numpy as np
import paddle
from paddle import nn

from data import picture_files, read_picture
from engine.check_data.samples import of_images
from engine.errors import InputError
from engine.tasks import TASKS, Measure


class Regression:
    measures = (Measure("r2", "coefficient of determination", percent=False, lower_is_better=False),)
    noun = "picture"

    def scores(self, dataset):
        return BrightnessScores()

    def check_files(self, confusion, results):
        if confusion:
            raise InputError("--confusion: there is nothing to confuse in a brightness")
        if results:
            raise InputError("--results: there are no boxes in a brightness")

    def samples(self, batch, predictions):
        return list(zip(batch["image"], predictions.numpy(), strict=True))

    def pictures(self, samples, dataset):
        return {f"eval/sample_{number}": dataset.preparation.shown(image) for number, (image, _) in enumerate(samples)}

    def found_below(self, samples, dataset):
        return None

    def find(self, paths):
        return [file for path in paths for file in picture_files(path)]

    def answers(self, model, preparation, files, **settings):
        for file in files:
            image = preparation(read_picture(file))[None]
            yield {"file": str(file), "brightness": float(model({"image": paddle.to_tensor(image)})[0])}

    def in_words(self, answer):
        return f"{answer['file']}: {answer['brightness']:.3f}"

    def exported(self, model):
        return Exported(model)

    def check(self, dataset):
        pass

    def findings(self, datasets, surveys, network):
        return iter(())

    def sheet(self, dataset):
        return of_images(dataset)

    def class_counts(self, datasets):
        return []


class BrightnessScores:
    def __init__(self):
        self.pairs = []

    @property
    def images(self):
        return len(self.pairs)

    def add(self, batch, predictions):
        self.pairs += zip(batch["brightness"].tolist(), predictions.numpy().tolist(), strict=True)

    def gather(self):
        pass  # the tests have one device

    def numbers(self):
        truth, guess = np.array(self.pairs).T
        error = float(((truth - guess) ** 2).mean())
        return {"loss": error, "r2": 1 - error / float(truth.var())}

    def details(self):
        return {"pairs": len(self.pairs)}

    def in_words(self, longest):
        return ""


class Exported(nn.Layer):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        return self.model.brightness(image)


TASKS["regression"] = Regression()
