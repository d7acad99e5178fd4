"""What tools/bench.py times in PyTorch, where it can be imported. Runs in a child, see engine/bench/child.py."""

import os
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.bench.arrays import (
    clip_arrays,
    convolution_arrays,
    image_arrays,
    nms_arrays,
    norm_arrays,
    plain_convolution_arrays,
    pooling_arrays,
    scene_arrays,
)
from engine.bench.child import Job

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def describe() -> dict[str, str | None]:
    """torchvision counts only where its deformable convolution can be called: it often does not fit the torch."""
    try:
        import torchvision
        from torchvision.ops import deform_conv2d  # noqa: F401

        version, why_not = torchvision.__version__, None
    except Exception as error:
        version, why_not = None, f"{type(error).__name__}: {error}".splitlines()[0]
    return {"torch": torch.__version__, "torchvision": version, "torchvision_left_out": why_not}


def numbers(output: Tensor, gradients: Sequence[Tensor]) -> list[float]:
    return [float(np.abs(tensor.detach().numpy()).mean()) for tensor in (output, *gradients)]


def group_norm(shape: Sequence[int], groups: int, relu: bool = False) -> Job:
    x, gamma, beta, dy = _tensors(norm_arrays(shape))

    def forward():
        y = F.group_norm(x, groups, gamma, beta)
        return F.relu(y) if relu else y

    return _job(forward, [x, gamma, beta], dy)


def batch_norm(shape: Sequence[int]) -> Job:
    x, gamma, beta, dy = _tensors(norm_arrays(shape))
    mean, variance = torch.zeros(shape[1]), torch.ones(shape[1])
    return _job(lambda: F.batch_norm(x, mean, variance, gamma, beta, training=True), [x, gamma, beta], dy)


def convolution(shape: Sequence[int]) -> Job:
    from torchvision.ops import deform_conv2d

    x, weight, offset, mask, dy = _tensors(convolution_arrays(shape))
    return _job(lambda: deform_conv2d(x, offset, weight, padding=1, mask=mask), [x, weight, offset, mask], dy)


def plain_convolution(shape: Sequence[int]) -> Job:
    x, weight, dy = _tensors(plain_convolution_arrays(shape))
    *_, kernel, stride = shape
    x.requires_grad_(shape[1] != 3)
    inputs = [x, weight] if x.requires_grad else [weight]
    return _job(lambda: F.conv2d(x, weight, stride=stride, padding=kernel // 2), inputs, dy)


def pooling(shape: Sequence[int]) -> Job:
    """RoIAlign to 7 x 7 bins."""
    from torchvision.ops import roi_align

    arrays = pooling_arrays(shape)
    image = np.repeat(np.arange(shape[0], dtype=np.float32), shape[-1] // shape[0])
    boxes = torch.from_numpy(np.concatenate([image[:, None], arrays["boxes"]], axis=1))
    x, dy = _tensors({"x": arrays["x"], "dy": arrays["dy"]})
    return _job(lambda: roi_align(x, boxes, 7, sampling_ratio=2, aligned=True), [x], dy)


def nms(shape: Sequence[int]) -> Job:
    from torchvision.ops import nms as torchvision_nms

    boxes, scores = map(torch.from_numpy, nms_arrays(shape).values())
    return Job(lambda: torchvision_nms(boxes, scores, 0.7), lambda kept: [])


def step(images: int, size: int, width: int, classes: int) -> Job:
    torch.manual_seed(0)
    return _training_step(ResNet50(width, min(32, width), classes), image_arrays(images, size, classes))


def clip_step(clips: int, frames: int, size: int, width: int, classes: int, stem_time_stride: int) -> Job:
    torch.manual_seed(0)
    model = I3DResNet50(width, min(32, width), classes, stem_time_stride)
    return _training_step(model, clip_arrays(clips, frames, size, classes))


def _training_step(model, arrays):
    image, label = map(torch.from_numpy, arrays.values())
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9, nesterov=True, weight_decay=1e-4)
    return Job(lambda: F.cross_entropy(model(image), label), partial(_learn, optimizer))


def detection(images: int, size: int, width: int, classes: int, objects: int) -> Job:
    """torchvision's maskrcnn_resnet50_fpn with GroupNorm; it knows one width, 64, and counts the background."""
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    if width != 64:
        raise ValueError(f"torchvision's detectors have a width of 64, asked for {width}")
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=partial(nn.GroupNorm, 32), trainable_layers=5
    )
    model = MaskRCNN(
        backbone, classes + 1, min_size=size, max_size=size, rpn_post_nms_top_n_train=1000, image_mean=[0, 0, 0],
        image_std=[1, 1, 1],
    ).train()
    arrays = {name: torch.from_numpy(array) for name, array in scene_arrays(images, size, classes, objects).items()}
    targets = [
        {"boxes": boxes, "labels": labels + 1, "masks": masks.to(torch.uint8)}
        for boxes, labels, masks in zip(arrays["boxes"], arrays["classes"], arrays["masks"], strict=True)
    ]
    optimizer = torch.optim.SGD(model.parameters(), 1e-4, momentum=0.9, weight_decay=1e-4)
    return Job(lambda: sum(model(list(arrays["image"]), targets).values()), partial(_learn, optimizer))


JOBS = {
    "group_norm": group_norm, "batch_norm": batch_norm, "convolution": convolution,
    "plain_convolution": plain_convolution, "pooling": pooling, "nms": nms, "step": step, "clip_step": clip_step,
    "detection": detection,
}


def _learn(optimizer, loss):
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return []


class Bottleneck(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int, groups: int):
        super().__init__()
        out_channels = 4 * channels
        self.conv1, self.norm1 = nn.Conv2d(in_channels, channels, 1, bias=False), nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv3, self.norm3 = nn.Conv2d(channels, out_channels, 1, bias=False), nn.GroupNorm(groups, out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.GroupNorm(groups, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = F.relu(self.norm2(self.conv2(y)), inplace=True)
        return F.relu(self.norm3(self.conv3(y)) + self.shortcut(x), inplace=True)


class ResNet50(nn.Sequential):
    """The network of models/resnet.py, and torchvision's with GroupNorm; its names and initial values do not matter."""

    def __init__(self, width: int, groups: int, classes: int):
        layers = [nn.Conv2d(3, width, 7, 2, padding=3, bias=False), nn.GroupNorm(groups, width), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(3, 2, padding=1))
        channels = width
        for stage, count in enumerate((3, 4, 6, 3)):
            for position in range(count):
                stride = 2 if stage > 0 and position == 0 else 1
                layers.append(Bottleneck(channels, width * 2**stage, stride, groups))
                channels = 4 * width * 2**stage
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class ClipBottleneck(Bottleneck):
    """The same over clips, whose first convolution sees so many frames."""

    def __init__(self, in_channels: int, channels: int, stride: int, groups: int, frames: int):
        super().__init__(in_channels, channels, stride, groups)
        self.conv1 = nn.Conv3d(in_channels, channels, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False)
        self.conv2 = nn.Conv3d(channels, channels, (1, 3, 3), (1, stride, stride), padding=(0, 1, 1), bias=False)
        self.conv3 = nn.Conv3d(channels, 4 * channels, 1, bias=False)
        if isinstance(self.shortcut, nn.Sequential):
            self.shortcut[0] = nn.Conv3d(in_channels, 4 * channels, 1, (1, stride, stride), bias=False)


class I3DResNet50(nn.Sequential):
    """The network of models/i3d.py; its names and initial values do not matter."""

    def __init__(self, width: int, groups: int, classes: int, time_stride: int):
        strides = (time_stride, 2, 2)
        layers = [nn.Conv3d(3, width, (5, 7, 7), strides, padding=(2, 3, 3), bias=False), nn.GroupNorm(groups, width)]
        layers += [nn.ReLU(inplace=True), nn.MaxPool3d((time_stride, 3, 3), strides)]
        channels = width
        for stage, (count, looks) in enumerate(((3, (3,)), (4, (3, 1)), (6, (3, 1)), (3, (1, 3)))):
            layers += [nn.MaxPool3d((2, 1, 1), (2, 1, 1))] if stage == 1 else []
            for position in range(count):
                stride, frames = 2 if stage > 0 and position == 0 else 1, looks[position % len(looks)]
                layers.append(ClipBottleneck(channels, width * 2**stage, stride, groups, frames))
                channels = 4 * width * 2**stage
        super().__init__(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(channels, classes))


def _tensors(arrays):
    """Tensors that want a gradient, but for the last, dy."""
    *learned, dy = (torch.from_numpy(array) for array in arrays.values())
    return [*(tensor.requires_grad_() for tensor in learned), dy]


def _job(forward, inputs, dy):
    return Job(forward, lambda y: torch.autograd.grad(y, inputs, dy))
