// Deformable RoI pooling: means of bilinear samples over bins, forward and backward. Pointers in, pointers out; no Paddle
// here.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

// Every bin of a box is sampled at samples^2 points: each of its `samples` points of y with each of its points of x.
// x is [images, channels, height, width], points are [boxes, groups, bins, samples], results [boxes, results(), bins].
// Channels lie in `groups`, whose points differ; with maps_of_bins every bin reads a channel of its own.
struct RoIPooling {
    int64_t channels, height, width, boxes, groups, bins, samples;
    bool maps_of_bins;

    int64_t pixels() const { return height * width; }
    int64_t maps() const { return maps_of_bins ? bins : 1; }
    int64_t members() const { return channels / (groups * maps()); }  // results of a group
    int64_t results() const { return groups * members(); }
    int64_t reads() const { return 4 * samples * samples; }  // pixels that a bin reads
    // The first pixel that `bin` of result `result` reads, for the image that starts at `image`.
    template <class T>
    T* plane(T* image, int64_t result, int64_t bin) const {
        return image + (result * maps() + (maps_of_bins ? bin : 0)) * pixels();
    }
};

// Both pixels beside a point of one axis and their shares. `slope` is the derivative of the second share by the point, that
// of the first its negative. A point up to one pixel beyond the outer pixel's centre is that pixel's, further out nobody's.
template <class T>
struct Neighbours {
    int64_t pixel[2];
    T share[2], slope;

    Neighbours(T point, int64_t size) {
        const T last = size - 1, near = point < 0 ? T(0) : point > last ? last : point;  // NaN stays NaN
        const T inside = std::abs(point - near) <= 1, rest = near - std::floor(near);
        pixel[0] = near == near ? int64_t(near) : 0;
        pixel[1] = std::min(pixel[0] + 1, size - 1);
        share[0] = (1 - rest) * inside;
        share[1] = rest * inside;
        slope = point >= 0 && point <= last;
    }
};

// What each bin of each group of each box reads, [boxes * groups, bins, reads()]: samples in row-major order, of each the
// four pixels. Allocated by whoever calls, outside of all threads.
template <class T>
struct Reads {
    std::vector<int32_t> pixel;
    std::vector<T> share;

    Reads(const RoIPooling& op, const T* point_y, const T* point_x)
        : pixel(op.boxes * op.groups * op.bins * op.reads()), share(pixel.size()) {
#pragma omp parallel for schedule(static)
        for (int64_t bin = 0; bin < op.boxes * op.groups * op.bins; ++bin) {
            int64_t read = bin * op.reads();
            for (int64_t sy = 0; sy < op.samples; ++sy) {
                const Neighbours<T> y(point_y[bin * op.samples + sy], op.height);
                for (int64_t sx = 0; sx < op.samples; ++sx) {
                    const Neighbours<T> x(point_x[bin * op.samples + sx], op.width);
                    for (int corner = 0; corner < 4; ++corner, ++read) {
                        pixel[read] = y.pixel[corner / 2] * op.width + x.pixel[corner % 2];
                        share[read] = y.share[corner / 2] * x.share[corner % 2] / T(op.samples * op.samples);
                    }
                }
            }
        }
    }
};

// y: the mean of each bin. image: that of each box.
template <class T>
void pool_boxes(const RoIPooling& op, const T* x, const T* point_y, const T* point_x, const int64_t* image, T* y) {
    const Reads<T> reads(op, point_y, point_x);
#pragma omp parallel for schedule(static)
    for (int64_t entry = 0; entry < op.boxes * op.groups; ++entry) {
        const T* of_image = x + image[entry / op.groups] * op.channels * op.pixels();
        for (int64_t member = 0; member < op.members(); ++member) {
            const int64_t result = entry % op.groups * op.members() + member;
            T* to = y + (entry / op.groups * op.results() + result) * op.bins;
            for (int64_t bin = 0; bin < op.bins; ++bin) {
                const T* plane = op.plane(of_image, result, bin);
                const int32_t* pixel = reads.pixel.data() + (entry * op.bins + bin) * op.reads();
                const T* share = reads.share.data() + (entry * op.bins + bin) * op.reads();
                T sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t read = 0; read < op.reads(); ++read) sum += share[read] * plane[pixel[read]];
                to[bin] = sum;
            }
        }
    }
}

// dx, which the threads share by channels, since boxes overlap: so its bits do not depend on how many threads there are.
template <class T>
void pool_boxes_to_image(const RoIPooling& op, const Reads<T>& reads, const int64_t* image, const T* dy, T* dx) {
#pragma omp parallel for schedule(static)
    for (int64_t result = 0; result < op.results(); ++result) {
        for (int64_t box = 0; box < op.boxes; ++box) {
            T* of_image = dx + image[box] * op.channels * op.pixels();
            const T* from = dy + (box * op.results() + result) * op.bins;
            const int64_t entry = box * op.groups + result / op.members();
            for (int64_t bin = 0; bin < op.bins; ++bin) {
                T* plane = op.plane(of_image, result, bin);
                const int64_t first = (entry * op.bins + bin) * op.reads();
                for (int64_t read = first; read < first + op.reads(); ++read)
                    plane[reads.pixel[read]] += from[bin] * reads.share[read];
            }
        }
    }
}

// The gradients of the points. A sample's four pixels, each times dy and summed over the channels of the group, are all
// that its two points need.
template <class T>
void pool_boxes_to_points(const RoIPooling& op, const Reads<T>& reads, const T* x, const T* point_y, const T* point_x,
                           const int64_t* image, const T* dy, T* dpoint_y, T* dpoint_x) {
    std::vector<T> products(reads.pixel.size());
#pragma omp parallel for schedule(static)
    for (int64_t entry = 0; entry < op.boxes * op.groups; ++entry) {
        const T* of_image = x + image[entry / op.groups] * op.channels * op.pixels();
        for (int64_t member = 0; member < op.members(); ++member) {
            const int64_t result = entry % op.groups * op.members() + member;
            const T* from = dy + (entry / op.groups * op.results() + result) * op.bins;
            for (int64_t bin = 0; bin < op.bins; ++bin) {
                const T* plane = op.plane(of_image, result, bin);
                const int64_t first = (entry * op.bins + bin) * op.reads();
#pragma omp simd
                for (int64_t read = first; read < first + op.reads(); ++read)
                    products[read] += from[bin] * plane[reads.pixel[read]];
            }
        }
        for (int64_t bin = entry * op.bins; bin < (entry + 1) * op.bins; ++bin) {
            const T* product = products.data() + bin * op.reads();
            for (int64_t sy = 0; sy < op.samples; ++sy) {
                const Neighbours<T> y(point_y[bin * op.samples + sy], op.height);
                for (int64_t sx = 0; sx < op.samples; ++sx, product += 4) {
                    const Neighbours<T> x(point_x[bin * op.samples + sx], op.width);
                    const T down = x.share[0] * (product[2] - product[0]) + x.share[1] * (product[3] - product[1]);
                    const T right = y.share[0] * (product[1] - product[0]) + y.share[1] * (product[3] - product[2]);
                    const T inside_y = y.share[0] + y.share[1], inside_x = x.share[0] + x.share[1];
                    dpoint_y[bin * op.samples + sy] += y.slope * inside_y * down / T(op.samples * op.samples);
                    dpoint_x[bin * op.samples + sx] += x.slope * inside_x * right / T(op.samples * op.samples);
                }
            }
        }
    }
}
