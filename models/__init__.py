"""Networks made of ops: plain keyword arguments in, nothing of configs known.

MODELS has, by the name that a config gives, a backbone's builder and the network's head. Their signatures are the
schema of the `model:` section, less what the program derives: a backbone is given `in_channels` and
`bn_images_per_worker`, a head the backbone, `num_classes` and, where it asks for it, `images_per_worker`; whether a
detector has masks its name says. A head's `task` is how its predictions are judged and shown.
"""

from models.classifier import Classifier
from models.clip_classifier import ClipClassifier
from models.detection import DetectionGraph, MaskRCNN, faster_rcnn, mask_rcnn, pack_masks, paste_mask
from models.i3d import I3D, i3d, inflated
from models.resnet import ResNet, resnet
from models.vgg import VGG, vgg
from models.weights import Network, WeightsReport, find_network, from_torch_names, load_weights, to_torch_names

MODELS = {
    "resnet": (resnet, Classifier),
    "mask_rcnn": (resnet, mask_rcnn),
    "faster_rcnn": (resnet, faster_rcnn),
    "i3d": (i3d, ClipClassifier),
    "vgg": (vgg, Classifier),
}

__all__ = [
    "MODELS",
    "I3D",
    "VGG",
    "Classifier",
    "ClipClassifier",
    "DetectionGraph",
    "MaskRCNN",
    "Network",
    "ResNet",
    "WeightsReport",
    "faster_rcnn",
    "find_network",
    "from_torch_names",
    "i3d",
    "inflated",
    "load_weights",
    "mask_rcnn",
    "pack_masks",
    "paste_mask",
    "resnet",
    "to_torch_names",
    "vgg",
]
