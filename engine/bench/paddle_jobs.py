"""What tools/bench.py times in Paddle: our ops and Paddle's own. Runs in a child, see engine/bench/child.py."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer
from paddle.nn import functional as F
from paddle.vision.ops import deform_conv2d as paddle_deform_conv2d

import ops
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
from models import Classifier, ClipClassifier, i3d, mask_rcnn, pack_masks, resnet
from ops import native
from ops.conv2d import onednn

paddle.set_device("cpu")


def describe() -> dict[str, str]:
    return {"paddle": paddle.__version__, "ours": _ours()}


def _ours():
    if not native.available():
        return "made of Paddle's kernels"
    return f"C++ kernels, convolutions by {onednn() or 'Paddle'}"


def numbers(output: Tensor, gradients: Sequence[Tensor]) -> list[float]:
    return [float(np.abs(tensor.numpy()).mean()) for tensor in (output, *gradients)]


def group_norm(by: Literal["ours", "Paddle"], shape: Sequence[int], groups: int, relu: bool = False) -> Job:
    """`by` us or Paddle's layer, then a ReLU where asked."""
    x, gamma, beta, dy = _tensors(norm_arrays(shape))
    layer = nn.GroupNorm(groups, shape[1])
    layer.weight, layer.bias = _parameter(gamma), _parameter(beta)
    forward = {
        "ours": lambda: ops.group_norm(x, groups, layer.weight, layer.bias, relu=relu),
        "Paddle": lambda: F.relu(layer(x)) if relu else layer(x),
    }[by]
    return _job(forward, [x, layer.weight, layer.bias], dy)


def batch_norm(by: Literal["ours", "Paddle"], shape: Sequence[int], images_per_worker: int | None = None) -> Job:
    """`by` us over workers, or Paddle's plain layer over all images."""
    x, gamma, beta, dy = _tensors(norm_arrays(shape))
    layer = nn.BatchNorm2D(shape[1])
    layer.weight, layer.bias = _parameter(gamma), _parameter(beta)
    forward = {
        "ours": lambda: ops.batch_norm(
            x, layer._mean, layer._variance, layer.weight, layer.bias, training=True,
            images_per_worker=images_per_worker,
        ),
        "Paddle": lambda: layer(x),
    }[by]
    return _job(forward, [x, layer.weight, layer.bias], dy)


def other_norm(by: Literal["ours", "composed"], norm: Literal["brn", "frn", "evonorm_s0"], shape: Sequence[int]) -> Job:
    """A norm that Paddle has no layer for, with its activation in it, `by` our kernels or made of plain operations."""
    x, gamma, beta, dy = _tensors(norm_arrays(shape))
    make = {
        "brn": partial(ops.BatchRenorm, images_per_worker=2, relu=True),
        "frn": partial(ops.FilterResponseNorm, activated=True), "evonorm_s0": partial(ops.EvoNormS0, activated=True),
    }[norm]
    layer = make(shape[1], implementation="auto" if by == "ours" else by)
    layer.weight, layer.bias = _parameter(gamma), _parameter(beta)
    return _job(lambda: layer(x), [x, *layer.parameters()], dy)


def convolution(by: Literal["ours", "Paddle", "convolution"], shape: Sequence[int]) -> Job:
    """DCNv2 3x3 `by` our op or Paddle's, or Paddle's plain convolution of the same shape."""
    x, weight, offset, mask, dy = _tensors(convolution_arrays(shape))
    forward = {
        "ours": lambda: ops.deform_conv2d(x, offset, weight, mask=mask, padding=1),
        "Paddle": lambda: paddle_deform_conv2d(x, offset, weight, padding=1, mask=mask),
        "convolution": lambda: F.conv2d(x, weight, padding=1),
    }[by]
    return _job(forward, [x, weight] if by == "convolution" else [x, weight, offset, mask], dy)


def plain_convolution(by: Literal["ours", "Paddle"], shape: Sequence[int]) -> Job:
    """A convolution `by` us or Paddle; three channels are pictures, which want no gradient."""
    x, weight, dy = _tensors(plain_convolution_arrays(shape))
    *_, kernel, stride = shape
    x.stop_gradient = shape[1] == 3
    forward = {
        "ours": lambda: ops.conv2d(x, weight, stride=stride, padding=kernel // 2),
        "Paddle": lambda: F.conv2d(x, weight, stride=stride, padding=kernel // 2),
    }[by]
    return _job(forward, [weight] if x.stop_gradient else [x, weight], dy)


def pooling(by: Literal["ours", "composed", "RoIAlign"], shape: Sequence[int]) -> Job:
    """Boxes to 7 x 7 bins: deformable, `by` our kernel or made of plain operations, or RoIAlign, which moves no bin."""
    arrays = pooling_arrays(shape)
    boxes = paddle.to_tensor(arrays.pop("boxes"))
    count = paddle.full([shape[0]], shape[-1] // shape[0], "int32")
    x, offset, dy = _tensors(arrays)
    if by == "RoIAlign":
        return _job(lambda: ops.roi_align(x, boxes, count, 7, sampling_ratio=2), [x], dy)
    implementation = "auto" if by == "ours" else by
    return _job(lambda: ops.deform_roi_pool(x, boxes, count, 7, offset, implementation=implementation), [x, offset], dy)


def nms(shape: Sequence[int]) -> Job:
    boxes, scores = map(paddle.to_tensor, nms_arrays(shape).values())
    return Job(lambda: ops.nms(boxes, scores, 0.7), lambda kept: [])


def step(
    norm: Literal["ours", "Paddle", "none"], images: int, size: int, width: int, classes: int,
    deformable_stages: Sequence[str] = (), convolutions: Literal["ours", "Paddle"] = "ours",
) -> Job:
    """A training step of a ResNet-50; `norm` "Paddle" is the same network with Paddle's GroupNorm, "none" has none.

    Offsets are drawn, about a pixel: those of a network that starts are zero.
    """
    paddle.seed(0)
    backbone = resnet(
        norm="none" if norm == "none" else "gn", width=width, norm_groups=min(32, width),
        deformable_stages=tuple(deformable_stages),
    )
    model = Classifier(backbone, classes)
    for layer in model.sublayers():
        if isinstance(layer, ops.GroupNorm) and norm == "Paddle":
            layer.implementation = "paddle"
        if isinstance(layer, ops.Conv2D) and convolutions == "Paddle":
            layer.implementation = "paddle"
        if isinstance(layer, ops.DeformConv2D):
            weight = layer.offset.weight
            weight.set_value(paddle.randn(weight.shape) / np.prod(weight.shape[1:]) ** 0.5)
    return _training_step(model, image_arrays(images, size, classes))


def clip_step(clips: int, frames: int, size: int, width: int, classes: int, stem_time_stride: int) -> Job:
    """A training step of an I3D ResNet-50; NATIVE_OPS=0 in the environment leaves Paddle's kernels to it."""
    paddle.seed(0)
    backbone = i3d(width=width, norm_groups=min(32, width), stem_time_stride=stem_time_stride)
    return _training_step(ClipClassifier(backbone, classes, dropout=0.0), clip_arrays(clips, frames, size, classes))


def _training_step(model, arrays):
    batch = {name: paddle.to_tensor(array) for name, array in arrays.items()}
    optimizer = paddle.optimizer.Momentum(
        1e-4, momentum=0.9, use_nesterov=True, weight_decay=1e-4, parameters=model.parameters()
    )
    return Job(lambda: model(batch)["loss"], partial(_learn, optimizer))


def detection(images: int, size: int, width: int, classes: int, objects: int) -> Job:
    """A training step of Mask R-CNN over a GN ResNet-50 with a pyramid, as torchvision has it."""
    paddle.seed(0)
    backbone = resnet(norm="gn", width=width, norm_groups=min(32, width))
    model = mask_rcnn(backbone, classes, roi_sampling_ratio=2)
    arrays = scene_arrays(images, size, classes, objects)
    arrays |= {
        "masks": pack_masks(arrays["masks"]), "size": np.full([images, 2], size),
        "objects": np.full([images], objects), "sampling_seed": np.arange(images),
    }
    batch = {name: paddle.to_tensor(array) for name, array in arrays.items()}
    optimizer = paddle.optimizer.Momentum(1e-4, momentum=0.9, weight_decay=1e-4, parameters=model.parameters())
    return Job(lambda: model(batch)["loss"], partial(_learn, optimizer))


JOBS = {
    "group_norm": group_norm, "batch_norm": batch_norm, "other_norm": other_norm, "convolution": convolution,
    "plain_convolution": plain_convolution, "pooling": pooling, "nms": nms, "step": step, "clip_step": clip_step,
    "detection": detection,
}


def _learn(optimizer, loss):
    loss.backward()
    optimizer.step()
    optimizer.clear_grad(set_to_zero=False)
    return []


def _tensors(arrays):
    """Tensors that want a gradient, but for the last, dy."""
    tensors = [paddle.to_tensor(array) for array in arrays.values()]
    for tensor in tensors[:-1]:
        tensor.stop_gradient = False
    return tensors


def _parameter(tensor):
    return paddle.create_parameter(tensor.shape, "float32", default_initializer=nn.initializer.Assign(tensor))


def _job(forward, inputs, dy):
    return Job(forward, lambda y: paddle.grad([_Given.apply(y, dy)], inputs))


class _Given(PyLayer):
    """Starts the backward pass with dy. Paddle copies a dy that it is handed, which no layer in a network meets: on a
    tensor of 25 MB that takes longer than group norm's whole gradient. This costs some 15 microseconds instead.
    """

    @staticmethod
    def forward(ctx, y, dy):
        ctx.dy = dy
        return paddle.zeros([1])

    @staticmethod
    def backward(ctx, _):
        return ctx.dy
