"""Networks made of ops: plain keyword arguments in, nothing of configs known.

MODELS has, by the name that a config gives, a backbone's builder and the network's head. Their signatures are the
schema of the `model:` section, less what the program derives: a backbone is given `in_channels` and
`bn_images_per_worker`, a head the backbone and `num_classes`.
"""

from models.classifier import Classifier
from models.detection import MaskRCNN, mask_rcnn, pack_masks, paste_mask
from models.resnet import ResNet, resnet
from models.weights import Network, WeightsReport, find_network, from_torch_names, load_weights, to_torch_names

MODELS = {
    "resnet": (resnet, Classifier),
}

__all__ = [
    "MODELS",
    "Classifier",
    "MaskRCNN",
    "Network",
    "ResNet",
    "WeightsReport",
    "find_network",
    "from_torch_names",
    "load_weights",
    "mask_rcnn",
    "pack_masks",
    "paste_mask",
    "resnet",
    "to_torch_names",
]
