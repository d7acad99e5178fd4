"""Networks made of ops: plain keyword arguments in, nothing of configs known.

MODELS has, by the name that a config gives, a backbone's builder and the network's head. Their signatures are the
schema of the `model:` section, less what the program derives: a backbone is given `in_channels` and
`bn_images_per_worker`, a head the backbone and `num_classes`.
"""

from models.classifier import Classifier
from models.clip_classifier import ClipClassifier
from models.detection import MaskRCNN, mask_rcnn, pack_masks, paste_mask
from models.i3d import I3D, i3d, inflated
from models.resnet import ResNet, from_paddle_names, resnet
from models.weights import WeightsReport, load_weights

MODELS = {
    "resnet": (resnet, Classifier),
    "i3d": (i3d, ClipClassifier),
}

__all__ = [
    "MODELS",
    "I3D",
    "Classifier",
    "ClipClassifier",
    "MaskRCNN",
    "ResNet",
    "WeightsReport",
    "from_paddle_names",
    "i3d",
    "inflated",
    "load_weights",
    "mask_rcnn",
    "pack_masks",
    "paste_mask",
    "resnet",
]
