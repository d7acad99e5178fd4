"""Samples: data sets that are read, cropped, flipped and normalised, and the seeded loader that batches them.

A builder's signature is the schema of the `data:` section of a config; it returns (train, validation). dataset.py says
what a data set is, and a batch; ArrayDataset (arrays.py), WarpedDataset (warped.py), ComposedDataset (composed.py, of
the parts in composing/) and ImageDataset (image_folder.py) are the kinds of it. Sets to detect in are SceneDataset
(garment_scenes.py) and CocoDataset (coco.py), of the parts in detection/; sets of clips GarmentClips (garment_clips.py)
and VideoDataset (video_folder.py), of the parts in video/. Archives in the place of folders are
unpacked by archives.py; check.py tells what the stored pictures are like; labelled.py reads new pictures for a model
that is there.
"""

from data.archives import find_archives, unpack
from data.cifar import cifar10, cifar100
from data.coco import coco
from data.composed import composed
from data.dataset import Batch, Dataset, length
from data.detection.preparation import DetectionPreparation
from data.errors import DataError
from data.garment_clips import garment_clips
from data.garment_scenes import garment_scenes
from data.idx import fashion_mnist
from data.image_folder import image_folder
from data.labelled import labelled_pictures, labelled_videos
from data.loader import Loader
from data.pickles import read_pickle
from data.preparation import MAX_PIXELS, PICTURE_ENDINGS, Preparation, read_picture
from data.synthetic import synthetic
from data.video.layout import videos_below
from data.video.preparation import ClipPreparation, film_strip
from data.video.views import open_source, views_of
from data.video_folder import video_folder
from data.walk import picture_files
from data.warped import warped_fashion_mnist

DATASETS = {
    "fashion_mnist": fashion_mnist,
    "warped_fashion_mnist": warped_fashion_mnist,
    "composed": composed,
    "garment_scenes": garment_scenes,
    "coco": coco,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "image_folder": image_folder,
    "synthetic": synthetic,
    "garment_clips": garment_clips,
    "video_folder": video_folder,
}

__all__ = [
    "DATASETS", "MAX_PIXELS", "PICTURE_ENDINGS", "Batch", "ClipPreparation", "DataError", "Dataset",
    "DetectionPreparation", "Loader", "Preparation", "film_strip", "find_archives", "labelled_pictures",
    "labelled_videos", "length", "open_source", "picture_files", "read_pickle", "read_picture", "unpack",
    "videos_below", "views_of",
]
