"""The paper's augmentation of ImageNet pictures, built on paddle.vision.transforms.

The recipe is that of fb.resnet.torch, which the Group Normalization paper follows (arXiv:1803.08494, section 4.1).
Its random numbers come from the globals of `random` and `np.random`, as Paddle's do: see randomness.py.
"""

import numpy as np
from paddle.vision import transforms
from PIL import Image

from data.normalise import normalise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of R, G, B over ImageNet
INTERPOLATION = "bicubic"  # as fb.resnet.torch scales; Paddle's own default is bilinear
# Principal components of RGB over ImageNet's pixels (Krizhevsky et al. 2012), columns of EIGENVECTORS; range 0..1.
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


class TrainingTransform:
    """An RGB PIL picture -> float32 [3, image_size, image_size], augmented and normalised.

    In this order: a crop of random area (min_area..1 of the picture) and aspect (3/4..4/3), scaled to the size;
    mirrored half of the time if `flip`; brightness, contrast and saturation changed in random order, each by a factor
    from 1 - color_jitter to 1 + color_jitter; colour shifted along ImageNet's principal components, each
    with a weight drawn from N(0, lighting).
    """

    def __init__(self, image_size: int, min_area: float, flip: bool, color_jitter: float, lighting: float):
        self.lighting = lighting
        self.of_picture = transforms.Compose([
            transforms.RandomResizedCrop(image_size, scale=(min_area, 1.0), interpolation=INTERPOLATION),
            transforms.RandomHorizontalFlip(0.5 if flip else 0.0),
            transforms.ColorJitter(color_jitter, color_jitter, color_jitter),
        ])

    def __call__(self, picture: Image.Image) -> np.ndarray:
        pixels = np.asarray(self.of_picture(picture), np.uint8).transpose(2, 0, 1)
        shift = EIGENVECTORS @ (EIGENVALUES * np.random.normal(0.0, self.lighting, size=3))
        return normalise(pixels, np.array(MEAN) - shift, STD)  # adding the shift is taking it off the mean
