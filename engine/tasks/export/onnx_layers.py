"""How each kind of layer is written in ONNX. A layer that is not in EMITTERS is an error and never left out."""

from collections.abc import Callable

import numpy as np
from paddle import nn

from engine.tasks.classification import Probabilities
from models import VGG, Classifier, ResNet
from models.resnet import Basic, Bottleneck, Shortcut, Stage, Stem
from ops import BatchNorm, Conv2D, DeformConv2D, FrozenBatchNorm, GroupNorm, SyncBatchNorm
from ops.deform_conv import pair


def _identity(graph, layer, x):
    return x


def _relu(graph, layer, x):
    return graph.node("Relu", x)


def _linear(graph, layer, x):
    return graph.node("Gemm", x, *graph.weights(layer, *_weight_and_bias(layer)))


def _max_pool(graph, layer, x):
    if layer.ceil_mode or layer.return_mask or layer.data_format != "NCHW" or isinstance(layer.padding, str):
        raise graph.refusal(layer, "is no plain max pool")
    size, stride, padding = pair(layer.ksize), pair(layer.stride or layer.ksize), pair(layer.padding)
    return graph.node("MaxPool", x, kernel_shape=size, strides=stride, pads=padding * 2)


def _convolution(graph, layer, x):
    if layer.geometry is None:
        raise graph.refusal(layer, "is padded by more than a number a side, or not [N, C, H, W]")
    stride, padding, dilation = (layer.geometry[start : start + 2] for start in (0, 2, 4))
    weights = graph.weights(layer, *_weight_and_bias(layer))
    return graph.node("Conv", x, *weights, **_attributes(layer, stride, padding, dilation))


def _deformable_convolution(graph, layer, x):
    """ONNX's offsets and modulation lie as ours do: (dy, dx) for each tap, a deformable group after the other."""
    offset, mask = graph.run(layer.offset, x), ""
    if layer.version == 2:
        offset, raw = _channels(graph, offset, 0, 2 * layer.taps), _channels(graph, offset, 2 * layer.taps, None)
        mask = graph.node("Sigmoid", raw)
        if layer.modulation == "2sigmoid":
            mask = graph.node("Add", mask, mask)
    weight, *bias = graph.weights(layer, *_weight_and_bias(layer))
    geometry = (pair(layer.geometry[name]) for name in ("stride", "padding", "dilation"))
    return graph.node(
        "DeformConv", x, weight, offset, *(bias or [""]), mask, since=19, offset_group=layer.deformable_groups,
        **_attributes(layer, *geometry),
    )


def _attributes(convolution, stride, padding, dilation):
    return {
        "kernel_shape": convolution.weight.shape[2:], "strides": stride, "pads": [*padding, *padding],
        "dilations": dilation, "group": convolution.groups,
    }


def _weight_and_bias(layer):
    return ["weight"] if layer.bias is None else ["weight", "bias"]


def _channels(graph, x, start, end):
    """x[:, start:end]"""
    bounds = {"from": start, "to": np.iinfo(np.int64).max if end is None else end, "axis": 1}
    return graph.node("Slice", x, *(graph.constant(f"{name}_{at}", np.array([at])) for name, at in bounds.items()))


def _batch_norm(graph, layer, x):
    eps = layer._epsilon if type(layer) is SyncBatchNorm else layer.eps
    statistics = graph.weights(layer, "weight", "bias", "_mean", "_variance")
    return _with_relu(graph, layer, graph.node("BatchNormalization", x, *statistics, epsilon=eps))


def _group_norm(graph, layer, x):
    """By InstanceNormalization of the groups, which all runtimes have and compute alike.

    ONNX's GroupNormalization has one gamma a group in opset 18 and one a channel only from 21 on, which onnxruntime of
    2023, TensorRT 10.7 and OpenVINO of 2025 do not run.
    """
    channels, groups = layer.weight.shape[0], layer.groups
    if groups == channels:
        y = graph.node("InstanceNormalization", x, *graph.weights(layer, "weight", "bias"), epsilon=layer.eps)
        return _with_relu(graph, layer, y)
    grouped = graph.node("Reshape", x, graph.constant("groups", np.array([0, groups, -1])))
    ones = graph.constant("ones", np.ones(groups, np.float32)), graph.constant("zeros", np.zeros(groups, np.float32))
    y = graph.node("InstanceNormalization", grouped, *ones, epsilon=layer.eps)
    y = graph.node("Reshape", y, graph.node("Shape", x))
    weight, bias = graph.weights(layer, "weight", "bias", shape=[channels] + [1] * (len(graph.image_shape) - 1))
    return _with_relu(graph, layer, graph.node("Add", graph.node("Mul", y, weight), bias))


def _with_relu(graph, norm, y):
    return graph.node("Relu", y) if norm.relu else y


def _conv_and_norm(graph, layer, x):
    return graph.run(layer.norm, graph.run(layer.conv, x))


def _residual_block(graph, block, x):
    y = x
    for conv, norm in block.residual().path:
        y = graph.run(norm, graph.run(conv, y))
    return graph.node("Relu", graph.node("Add", y, graph.run(block.shortcut, x)))


def _one_after_another(graph, layers, x):
    for layer in layers:
        x = graph.run(layer, x)
    return x


def _stem(graph, stem, x):
    return graph.run(stem.pool, _conv_and_norm(graph, stem, x))


def _resnet(graph, network, x):
    stages, x = {}, graph.run(network.stem, x)
    for stage in network.out_channels:
        stages[stage] = x = graph.run(getattr(network, stage), x)
    return stages


def _vgg(graph, network, x):
    for number, block in enumerate(network.blocks(), 1):
        for conv, norm in block:
            x = graph.run(norm, graph.run(conv, x))
        if number <= network.poolings:
            x = graph.run(network.pool, x)
    if network.hidden:
        x = graph.node("Flatten", graph.run(network.average, x))
        for name in network.hidden:
            x = graph.node("Relu", graph.run(getattr(network, name), x))
        x = graph.node("Unsqueeze", x, graph.constant("sides", np.array([2, 3])))
    return {"c5": x}


def _average_to_a_size(graph, layer, x):
    """Over each axis a product with a matrix that has the share of each pixel in each cell: ONNX lacks this pool."""
    rows, columns = (_shares(graph, x, axis, layer._output_size) for axis in (2, 3))
    return graph.node("MatMul", graph.node("MatMul", rows, x), graph.node("Transpose", columns, perm=[1, 0]))


def _shares(graph, x, axis, cells):
    """[cells, pixels]: cell i has the mean from pixel floor(i pixels / cells) to below ceil((i + 1) pixels / cells)."""
    numbers = {"zero": 0, "one": 1, "cells": cells, "cells_less_one": cells - 1, "cell": np.arange(cells)[:, None]}
    zero, one, cells, less_one, cell = (graph.constant(name, np.array(value)) for name, value in numbers.items())
    pixels = graph.node("Squeeze", graph.node("Shape", x, start=axis, end=axis + 1))
    pixel = graph.node("Range", zero, pixels, one)
    first = graph.node("Div", graph.node("Mul", cell, pixels), cells)
    next_cell = graph.node("Mul", graph.node("Add", cell, one), pixels)
    end = graph.node("Div", graph.node("Add", next_cell, less_one), cells)
    inside = graph.node("And", graph.node("GreaterOrEqual", pixel, first), graph.node("Less", pixel, end))
    inside, size = (graph.node("CastLike", each, x) for each in (inside, graph.node("Sub", end, first)))
    return graph.node("Div", inside, size)


def _classifier(graph, classifier, image):
    pooled = graph.node("GlobalAveragePool", graph.run(classifier.backbone, image)["c5"])
    return graph.run(classifier.fc, graph.node("Flatten", pooled))


def _probabilities(graph, layer, image):
    graph.outputs["probabilities"] = ["batch", layer.classifier.fc.weight.shape[1]]
    return graph.node("Softmax", graph.run(layer.classifier, image), axis=1, output="probabilities")


EMITTERS: dict[type, Callable] = {
    nn.AdaptiveAvgPool2D: _average_to_a_size,
    nn.Identity: _identity,
    nn.Linear: _linear,
    nn.MaxPool2D: _max_pool,
    nn.ReLU: _relu,
    Conv2D: _convolution,
    DeformConv2D: _deformable_convolution,
    BatchNorm: _batch_norm,
    FrozenBatchNorm: _batch_norm,
    SyncBatchNorm: _batch_norm,
    GroupNorm: _group_norm,
    Basic: _residual_block,
    Bottleneck: _residual_block,
    Shortcut: _conv_and_norm,
    Stage: _one_after_another,
    Stem: _stem,
    ResNet: _resnet,
    VGG: _vgg,
    Classifier: _classifier,
    Probabilities: _probabilities,
}
