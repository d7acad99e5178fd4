"""Samples: data sets that are read, cropped, flipped and normalised, and the seeded loader that batches them.

A builder's signature is the schema of the `data:` section of a config; it returns (train, validation). A set has

    classes         names, in the order of the labels
    image_shape     (C, H, W)
    in_memory       whether the loader batches it without worker processes
    skipped         how many corrupt images were left out so far
    preparation     what turns a picture into an input in validation and inference
    len(set), set.batch(indices, seed=, epoch=)

and ArrayDataset (arrays.py), WarpedDataset (warped.py), ComposedDataset (composed.py, of the parts in composing/) and
ImageDataset (image_folder.py) are the kinds of it. Archives in the place of folders are unpacked by archives.py;
check.py tells what the stored pictures are like.
"""

from data.archives import find_archives, unpack
from data.cifar import cifar10, cifar100
from data.composed import composed
from data.errors import DataError
from data.idx import fashion_mnist
from data.image_folder import image_folder
from data.layout import picture_files
from data.loader import Loader
from data.pickles import read_pickle
from data.preparation import PICTURE_ENDINGS, Preparation, read_picture
from data.synthetic import synthetic
from data.warped import warped_fashion_mnist

DATASETS = {
    "fashion_mnist": fashion_mnist,
    "warped_fashion_mnist": warped_fashion_mnist,
    "composed": composed,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "image_folder": image_folder,
    "synthetic": synthetic,
}

__all__ = [
    "DATASETS", "PICTURE_ENDINGS", "DataError", "Loader", "Preparation", "find_archives", "picture_files",
    "read_pickle", "read_picture", "unpack",
]
