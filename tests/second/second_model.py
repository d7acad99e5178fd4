"""A set without labels and a network that is no classifier: the mean brightness of an image."""

from collections import Counter

import numpy as np
from paddle import nn

from data import DATASETS, Preparation
from data.dataset import picture_of
from data.normalise import normalise
from models import MODELS
from ops import BatchNorm


def brightness_images(train_images: int = 64, validation_images: int = 24, image_size: int = 8):
    """Grey noise of a brightness of its own -> (train, validation)."""
    return BrightnessDataset(0, train_images, image_size), BrightnessDataset(1, validation_images, image_size)


class BrightnessDataset:
    classes, labels, origin, unused, skipped, in_memory = (), None, "", Counter(), 0, True

    def __init__(self, split, images, size):
        rng = np.random.default_rng(split)
        level = rng.uniform(0, 200, (images, 1, 1, 1))
        self.pixels = (level + rng.uniform(0, 55, (images, 1, size, size))).astype(np.uint8)
        self.image_shape = (1, size, size)
        self.sample_bytes = 4 * size * size + 4
        self.preparation = Preparation((), self.image_shape, (0.5,), (0.25,))

    def __len__(self):
        return len(self.pixels)

    def batch(self, indices, *, seed, epoch):
        pixels = self.pixels[indices]
        brightness = pixels.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32) / 255
        return {"image": normalise(pixels, (0.5,), (0.25,)), "brightness": brightness}

    def digest(self):
        return f"{len(self)} {self.pixels.sum()}"

    def stored_picture(self, index):
        return picture_of(self.pixels[index])

    def path(self, index):
        return None


def small_backbone(*, width: int = 4, in_channels: int = 1, bn_images_per_worker: int | None = None):
    return Backbone(width, in_channels, bn_images_per_worker)


class Backbone(nn.Layer):
    def __init__(self, width, in_channels, images_per_worker):
        super().__init__()
        self.conv = nn.Conv2D(in_channels, width, 3, padding=1)
        self.norm = BatchNorm(width, images_per_worker=images_per_worker)
        self.out_channels = {"c5": width}

    def forward(self, image):
        y = self.conv(image)
        return {"c5": y + 0.1 * self.norm(y)}  # batch norm alone would take the brightness away


class BrightnessHead(nn.Layer):
    task = "regression"

    def __init__(self, backbone, num_classes: int, *, bias: bool = True):
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(backbone.out_channels["c5"], 1, bias_attr=None if bias else False)

    def brightness(self, image):
        return self.fc(self.backbone(image)["c5"].mean(axis=[2, 3]))[:, 0]

    def forward(self, batch):
        guess = self.brightness(batch["image"])
        return {"loss": ((guess - batch["brightness"]) ** 2).mean()} if self.training else guess


MODELS["brightness"] = (small_backbone, BrightnessHead)
DATASETS["brightness"] = brightness_images
