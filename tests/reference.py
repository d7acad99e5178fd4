"""Slow, obvious NumPy definitions in float64 of what `ops/` computes, and gradients by finite differences."""

import numpy as np
import paddle


def group_norm(x, groups, weight=None, bias=None, eps=1e-5):
    """arXiv:1803.08494, equations 1, 2, 6 and 7: one mean and one deviation an image and group of channels."""
    x = np.asarray(x, np.float64)
    y = np.empty_like(x)
    images, channels = x.shape[:2]
    size = channels // groups
    for image in range(images):
        for group in range(groups):
            members = range(group * size, (group + 1) * size)
            values = np.concatenate([x[image, channel].ravel() for channel in members])
            mean = values.sum() / values.size
            variance = ((values - mean) ** 2).sum() / values.size
            for channel in members:
                y[image, channel] = (x[image, channel] - mean) / np.sqrt(variance + eps)
    return _affine(y, weight, bias)


def batch_norm(
    x, running_mean, running_variance, weight=None, bias=None, *, training, momentum=0.9, eps=1e-5,
    images_per_worker=None, running_statistics="first",
):
    """arXiv:1502.03167, algorithm 1, worker by worker -> y and the running mean and variance afterwards."""
    x = np.asarray(x, np.float64)
    y = np.empty_like(x)
    images, channels = x.shape[:2]
    if not training:
        for channel in range(channels):
            y[:, channel] = (x[:, channel] - running_mean[channel]) / np.sqrt(running_variance[channel] + eps)
        return _affine(y, weight, bias), running_mean, running_variance
    per_worker = images_per_worker or images
    means, variances = [], []
    for first in range(0, images, per_worker):
        worker = slice(first, first + per_worker)
        mean, variance = np.empty(channels), np.empty(channels)
        for channel in range(channels):
            values = x[worker, channel]
            mean[channel] = values.sum() / values.size
            variance[channel] = ((values - mean[channel]) ** 2).sum() / values.size
            y[worker, channel] = (values - mean[channel]) / np.sqrt(variance[channel] + eps)
        means.append(mean)
        variances.append(variance)
    if running_statistics == "first":
        mean, variance = means[0], variances[0]
    else:
        mean, variance = sum(means) / len(means), sum(variances) / len(variances)
    running_mean = momentum * running_mean + (1 - momentum) * mean
    running_variance = momentum * running_variance + (1 - momentum) * variance
    return _affine(y, weight, bias), running_mean, running_variance


def batch_renorm(
    x, running_mean, running_variance, weight=None, bias=None, *, r_max, d_max, momentum=0.9, eps=1e-5,
    images_per_worker=None, running_statistics="first", fixed=None,
):
    """arXiv:1702.03275, algorithm 1, worker by worker -> y and the running mean and variance afterwards.

    fixed: an x whose r and d are taken, as its gradient takes them for constants.
    """
    x = np.asarray(x, np.float64)
    y = np.empty_like(x)
    per_worker = images_per_worker or len(x)
    statistics = {"training": True, "momentum": 0.0, "eps": eps}
    means, variances = [], []
    for first in range(0, len(x), per_worker):
        worker = slice(first, first + per_worker)
        normalised, mean, variance = batch_norm(x[worker], running_mean, running_variance, **statistics)
        means.append(mean)
        variances.append(variance)
        if fixed is not None:
            _, mean, variance = batch_norm(fixed[worker], running_mean, running_variance, **statistics)
        for channel in range(x.shape[1]):
            running_sigma, sigma = np.sqrt(running_variance[channel] + eps), np.sqrt(variance[channel] + eps)
            r = min(max(sigma / running_sigma, 1 / r_max), r_max)
            d = min(max((mean[channel] - running_mean[channel]) / running_sigma, -d_max), d_max)
            y[worker, channel] = normalised[:, channel] * r + d
    kept = slice(0, 1) if running_statistics == "first" else slice(None)
    running_mean = momentum * running_mean + (1 - momentum) * np.mean(means[kept], axis=0)
    running_variance = momentum * running_variance + (1 - momentum) * np.mean(variances[kept], axis=0)
    return _affine(y, weight, bias), running_mean, running_variance


def frozen_batch_norm(x, mean, variance, weight, bias, eps=1e-5):
    """gamma * (x - mean) / sqrt(variance + eps) + beta, channel by channel."""
    x = np.asarray(x, np.float64)
    y = np.empty_like(x)
    for channel in range(x.shape[1]):
        y[:, channel] = (x[:, channel] - mean[channel]) / np.sqrt(variance[channel] + eps)
    return _affine(y, weight, bias)


def _affine(x, weight, bias):
    y = x.copy()
    for channel in range(x.shape[1]):
        scale = 1 if weight is None else weight[channel]
        shift = 0 if bias is None else bias[channel]
        y[:, channel] = scale * x[:, channel] + shift
    return y


def evonorm_s0(x, groups, slope, weight=None, bias=None, eps=1e-5):
    """arXiv:2004.02967, table 2: x * sigmoid(slope * x) over the deviation of an image's group of channels."""
    x = np.asarray(x, np.float64)
    y = np.empty_like(x)
    size = x.shape[1] // groups
    for image, channel in np.ndindex(x.shape[:2]):
        first = channel // size * size
        values = x[image, first : first + size]
        deviation = np.sqrt(((values - values.mean()) ** 2).mean() + eps)
        own = x[image, channel]
        y[image, channel] = own / (1 + np.exp(-slope[channel] * own)) / deviation
    return _affine(y, weight, bias)


def filter_response_norm(x, weight=None, bias=None, threshold=None, eps=1e-6):
    """arXiv:1911.09737, equations 1 to 3, map by map."""
    x = np.asarray(x, np.float64)
    y = np.empty_like(x)
    for image, channel in np.ndindex(x.shape[:2]):
        values = x[image, channel]
        y[image, channel] = values / np.sqrt((values**2).sum() / values.size + eps)
    y = _affine(y, weight, bias)
    return y if threshold is None else thresholded_linear(y, threshold)


def thresholded_linear(x, threshold):
    """max(x, threshold), channel by channel."""
    return np.stack([np.maximum(x[:, channel], threshold[channel]) for channel in range(len(threshold))], axis=1)


def standardize(weight, eps=1e-10):
    """arXiv:1903.10520, equations 8 and 9, filter by filter; eps is added to the variance."""
    weight = np.asarray(weight, np.float64)
    standardized = np.empty_like(weight)
    for number, values in enumerate(weight):
        mean = values.sum() / values.size
        deviation = np.sqrt(((values - mean) ** 2).sum() / values.size + eps)
        standardized[number] = (values - mean) / deviation
    return standardized


def bilinear(x, point_y, point_x):
    """arXiv:1703.06211, equations 3 and 4: x(p) = sum of G(q, p) x(q) over ALL pixels q; x [C, H, W] -> [C]."""
    _, height, width = x.shape
    g_y = np.maximum(0, 1 - np.abs(np.arange(height) - point_y))
    g_x = np.maximum(0, 1 - np.abs(np.arange(width) - point_x))
    return (x * np.outer(g_y, g_x)).sum(axis=(1, 2))


def deform_conv2d(
    x, offset, weight, bias=None, mask=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1,
    deformable_groups=1,
):
    """arXiv:1703.06211, equation 2, with arXiv:1811.11168's modulation where there is a mask, output by output."""
    x = np.asarray(x, np.float64)
    images, channels = x.shape[:2]
    out_channels, in_per_group, kh, kw = weight.shape
    out_height, out_width = offset.shape[2:]
    deformed, out_per_group = channels // deformable_groups, out_channels // groups
    y = np.zeros([images, out_channels, out_height, out_width])
    for image, row, column in np.ndindex(images, out_height, out_width):
        sampled = np.empty([channels, kh, kw])
        for part, i, j in np.ndindex(deformable_groups, kh, kw):
            tap = (part * kh + i) * kw + j
            dy, dx = offset[image, 2 * tap, row, column], offset[image, 2 * tap + 1, row, column]
            point_y = row * stride[0] - padding[0] + i * dilation[0] + dy
            point_x = column * stride[1] - padding[1] + j * dilation[1] + dx
            members = slice(part * deformed, (part + 1) * deformed)
            modulation = 1 if mask is None else mask[image, tap, row, column]
            sampled[members, i, j] = bilinear(x[image, members], point_y, point_x) * modulation
        for out in range(out_channels):
            first = out // out_per_group * in_per_group
            y[image, out, row, column] = (weight[out] * sampled[first : first + in_per_group]).sum()
            y[image, out, row, column] += 0 if bias is None else bias[out]
    return y


def conv3d(x, weight, bias=None, stride=(1, 1, 1), padding=(0, 0, 0), dilation=(1, 1, 1)):
    """y(p) = sum over taps k of w_k * x(stride * p + dilation * k - padding) + bias, output by output."""
    x = np.asarray(x, np.float64)
    images, _, *sizes = x.shape
    out_channels, _, *kernel = weight.shape
    outs = [
        (size + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
        for axis, size in enumerate(sizes)
    ]
    y = np.zeros([images, out_channels, *outs])
    for image, out, *position in np.ndindex(y.shape):
        for tap in np.ndindex(*kernel):
            at = [position[axis] * stride[axis] + tap[axis] * dilation[axis] - padding[axis] for axis in range(3)]
            if all(0 <= place < size for place, size in zip(at, sizes, strict=True)):
                y[(image, out, *position)] += (weight[(out, slice(None), *tap)] * x[(image, slice(None), *at)]).sum()
        y[(image, out, *position)] += 0 if bias is None else bias[out]
    return y


def pool3d(x, window, stride, padding, of):
    """`of` (np.max, np.mean) what a window shows of each channel; beyond the borders is nothing."""
    x = np.asarray(x, np.float64)
    outs = [(size + 2 * padding[a] - window[a]) // stride[a] + 1 for a, size in enumerate(x.shape[2:])]
    y = np.empty([*x.shape[:2], *outs])
    for image, channel, *position in np.ndindex(y.shape):
        starts = [position[a] * stride[a] - padding[a] for a in range(3)]
        part = tuple(slice(max(0, start), start + window[a]) for a, start in enumerate(starts))
        y[(image, channel, *position)] = of(x[(image, channel, *part)])
    return y


def numeric_gradient(function, array, step=1e-6):
    """Gradient of a number-valued function at a float64 array, by central differences."""
    array = np.array(array, np.float64)
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + step
        above = function(array)
        array[index] = kept - step
        below = function(array)
        array[index] = kept
        gradient[index] = (above - below) / (2 * step)
    return gradient


def check_gradients(op, definition, arguments, tolerance=1e-6):
    """Backward through `op` against central differences of its NumPy `definition`, for every one of `arguments`.

    arguments: name -> float64 array, given to both by name. A random cotangent makes the output one number.
    """
    cotangent = np.random.default_rng(7).normal(size=definition(**arguments).shape)
    tensors = {name: paddle.to_tensor(array, stop_gradient=False) for name, array in arguments.items()}
    (op(**tensors) * paddle.to_tensor(cotangent)).sum().backward()
    for name, array in arguments.items():
        expected = numeric_gradient(
            lambda changed, name=name: (definition(**{**arguments, name: changed}) * cotangent).sum(), array
        )
        np.testing.assert_allclose(
            tensors[name].grad.numpy(), expected, rtol=tolerance, atol=tolerance, err_msg=f"gradient of {name}"
        )
