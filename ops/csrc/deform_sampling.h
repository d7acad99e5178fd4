// Deformable convolution: what is convolved, and where it samples.
#pragma once

#include <cmath>
#include <vector>

#include "simd.h"

struct DeformConv {
    int64_t images, channels, height, width, out_channels, out_height, out_width;
    int64_t kernel[2], stride[2], padding[2], dilation[2];
    int64_t groups, deformable_groups;

    int64_t taps() const { return kernel[0] * kernel[1]; }
    int64_t pixels() const { return height * width; }
    int64_t positions() const { return out_height * out_width; }
    int64_t in_per_group() const { return channels / groups; }
    int64_t out_per_group() const { return out_channels / groups; }
    int64_t row() const { return taps() * in_per_group(); }  // of `columns` of one group
};

// The four pixels around a sampling point, with their shares and the shares' derivatives by the point.
// A pixel beyond the border is -1.
template <class T>
struct Corners {
    int64_t pixel[4];
    T share[4], by_y[4], by_x[4];

    // False where the point sees nothing of the image.
    bool around(T y, T x, int64_t height, int64_t width) {
        if (!(y > -1 && y < height && x > -1 && x < width)) return false;
        const T floor_y = std::floor(y), floor_x = std::floor(x);
        const T down = y - floor_y, right = x - floor_x, up = 1 - down, left = 1 - right;
        const int64_t top = floor_y, first = floor_x;
        for (int corner = 0; corner < 4; ++corner) {
            const bool lower = corner / 2, later = corner % 2;
            const int64_t row = top + lower, column = first + later;
            const bool inside = row >= 0 && row < height && column >= 0 && column < width;
            pixel[corner] = inside ? row * width + column : -1;
            share[corner] = (lower ? down : up) * (later ? right : left);
            by_y[corner] = (lower ? 1 : -1) * (later ? right : left);
            by_x[corner] = (later ? 1 : -1) * (lower ? down : up);
        }
        return true;
    }
};

// Channels that share a deformable group and a group of the convolution.
struct Segment {
    int64_t begin, end, deformable_group, group;
};

inline std::vector<Segment> segments_of(const DeformConv& op) {
    const int64_t deformed = op.channels / op.deformable_groups, grouped = op.in_per_group();
    std::vector<Segment> segments;
    for (int64_t begin = 0; begin < op.channels;) {
        const int64_t end = std::min((begin / deformed + 1) * deformed, (begin / grouped + 1) * grouped);
        segments.push_back({begin, end, begin / deformed, begin / grouped});
        begin = end;
    }
    return segments;
}

// Calls visit(tap of the deformable group, position, corners, is inside, what an outside point gives) for each.
template <class T, class Visit>
void each_point(const DeformConv& op, const T* offset, int64_t deformable_group, int64_t begin, int64_t end,
                Visit visit) {
    Corners<T> corners;
    for (int64_t tap = 0; tap < op.taps(); ++tap) {
        const T* dy = offset + (deformable_group * op.taps() + tap) * 2 * op.positions();
        const T* dx = dy + op.positions();
        const int64_t tap_y = tap / op.kernel[1] * op.dilation[0] - op.padding[0];
        const int64_t tap_x = tap % op.kernel[1] * op.dilation[1] - op.padding[1];
        for (int64_t p = begin; p < end; ++p) {
            const T y = p / op.out_width * op.stride[0] + tap_y + dy[p];
            const T x = p % op.out_width * op.stride[1] + tap_x + dx[p];
            const bool inside = corners.around(y, x, op.height, op.width);
            visit(tap, p, corners, inside, inside ? T(0) : (y - y) + (x - x));  // 0, and NaN for NaN or infinity
        }
    }
}
