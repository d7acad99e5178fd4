"""Slow, obvious NumPy definitions in float64 of deformable RoI pooling, bin by bin and sample by sample."""

import numpy as np
from reference import bilinear


def deform_roi_pool(x, boxes, boxes_num, output_size, offset=None, mask=None, **settings):
    """arXiv:1703.06211, equation 5, with arXiv:1811.11168's modulation where there is a mask; output_size (kh, kw)."""
    y = np.zeros([len(boxes), x.shape[1], *output_size])
    for box, row, column in np.ndindex(len(boxes), *output_size):
        picture = x[image_of_box(boxes_num)[box]]
        moved = (0, 0) if offset is None else offset[box, :, row, column]
        modulation = 1 if mask is None else mask[box, 0, row, column]
        average = mean_of_bin(picture, boxes[box], output_size, row, column, moved, **settings)
        y[box, :, row, column] = modulation * average
    return y


def deform_ps_roi_pool(x, boxes, boxes_num, output_size, offset=None, mask=None, deformable_groups=1, **settings):
    """arXiv:1703.06211, section 2.2: each class and bin has a map of its own, each group of classes its offsets."""
    kh, kw = output_size
    classes = x.shape[1] // (kh * kw)
    y = np.zeros([len(boxes), classes, kh, kw])
    for box, number, row, column in np.ndindex(*y.shape):
        group = number // (classes // deformable_groups)
        own = (number * kh + row) * kw + column
        picture = x[image_of_box(boxes_num)[box], own : own + 1]
        moved = (0, 0) if offset is None else offset[box, 2 * group : 2 * group + 2, row, column]
        modulation = 1 if mask is None else mask[box, group, row, column]
        average = mean_of_bin(picture, boxes[box], output_size, row, column, moved, **settings)
        y[box, number, row, column] = modulation * average[0]
    return y


def image_of_box(boxes_num):
    return [image for image, count in enumerate(boxes_num) for _ in range(count)]


def mean_of_bin(x, box, bins, row, column, moved, spatial_scale=1.0, sampling_ratio=2, gamma=0.1):
    """The average of one bin's samples: x [C, H, W], moved (dx, dy) -> [C]."""
    left, top, right, bottom = np.asarray(box, np.float64) * spatial_scale
    width, height = right - left, bottom - top
    total = 0
    for i, j in np.ndindex(sampling_ratio, sampling_ratio):
        point_y = top + (row + (i + 0.5) / sampling_ratio) * height / bins[0] + gamma * moved[1] * height
        point_x = left + (column + (j + 0.5) / sampling_ratio) * width / bins[1] + gamma * moved[0] * width
        # Here the first pixel lies between 0 and 1, so that its centre is 0.5; bilinear counts from centre to centre.
        total = total + sample(x, point_y - 0.5, point_x - 0.5)
    return total / sampling_ratio**2


def sample(x, point_y, point_x):
    """Bilinear, with roi_align's border: up to one pixel beyond it the border's value, further out zero."""
    _, height, width = x.shape
    if not (-1 <= point_y <= height and -1 <= point_x <= width):
        return np.zeros(len(x))
    return bilinear(x, min(max(point_y, 0), height - 1), min(max(point_x, 0), width - 1))
