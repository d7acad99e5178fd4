// Deformable convolution and its offset branch, as ops/deform_conv.py's layer, between tensors in blocks of 16 channels: what
// samples needs plain ones. Pointers in, pointers out; no Paddle here.
#pragma once

#include "blocked_norm.h"
#include "convolution.h"
#include "deform_conv.h"

struct BlockedDeformConv {
    DeformConv op;
    ConvolutionShape branch;  // from x to [N, (2 or 3) * points, H', W']: offsets, and what modulates them
    double modulation;        // of a tap: modulation * sigmoid(what the branch gives); 0: none, which is v1
    const float *branch_weight, *branch_bias;
    float *dbranch_weight, *dbranch_bias;  // null: not wanted

    float *offset, *mask;  // [N, 2 * points, H', W'], [N, points, H', W']: what the forward pass leaves behind

    int64_t points() const { return op.deformable_groups * op.taps() * op.positions(); }  // of an image
    int64_t x_values() const { return op.images * op.channels * op.pixels(); }
    int64_t y_values() const { return op.images * op.out_channels * op.positions(); }

    void forward(const float* x, const float* weight, float* y) const {
        const auto plain_x = room<float>(x_values()), plain_y = room<float>(y_values());
        const auto raw = room<float>(branch.results());
        from_blocks(op.images, op.channels, op.pixels(), x, nullptr, plain_x.get());
        convolution(branch)->forward(plain_x.get(), branch_weight, branch_bias, raw.get());
        each_part([&](int64_t image, int64_t at) {
            std::copy_n(raw.get() + at, 2 * points(), offset + image * 2 * points());
            const float* const from = raw.get() + at + 2 * points();
            for (int64_t i = 0; modulation && i < points(); ++i)
                mask[image * points() + i] = modulation / (1 + std::exp(-double(from[i])));
        });
        deform_conv2d(op, plain_x.get(), offset, modulation ? mask : nullptr, weight, plain_y.get());
        to_blocks(op.images, op.out_channels, op.positions(), plain_y.get(), nullptr, y);
    }

    // dx and dweight may be null: not wanted.
    void backward(const float* x, const float* weight, const float* dy, float* dx, float* dweight) const {
        const auto plain_x = room<float>(x_values()), plain_dy = room<float>(y_values());
        const auto by_samples = room<float>(x_values()), by_branch = room<float>(dx ? x_values() : 0);
        const auto doffset = room<float>(op.images * 2 * points()), draw = room<float>(branch.results());
        const auto dmask = room<float>(modulation ? op.images * points() : 0);
        const auto unwanted = room<float>(dweight ? 0 : op.out_channels * op.row());
        from_blocks(op.images, op.channels, op.pixels(), x, nullptr, plain_x.get());
        from_blocks(op.images, op.out_channels, op.positions(), dy, nullptr, plain_dy.get());
        deform_conv2d_backward(op, plain_x.get(), offset, modulation ? mask : nullptr, weight, plain_dy.get(),
                               by_samples.get(), doffset.get(), modulation ? dmask.get() : nullptr,
                               dweight ? dweight : unwanted.get());
        each_part([&](int64_t image, int64_t at) {
            std::copy_n(doffset.get() + image * 2 * points(), 2 * points(), draw.get() + at);
            float* const to = draw.get() + at + 2 * points();
            for (int64_t i = 0; modulation && i < points(); ++i) {
                const double share = mask[image * points() + i] / modulation;
                to[i] = dmask[image * points() + i] * modulation * share * (1 - share);
            }
        });
        convolution(branch)->backward(plain_x.get(), branch_weight, draw.get(), dx ? by_branch.get() : nullptr,
                                      dbranch_weight, dbranch_bias);
        if (!dx) return;
        for_all(x_values(), [&](int64_t i) { by_samples[i] += by_branch[i]; });
        to_blocks(op.images, op.channels, op.pixels(), by_samples.get(), nullptr, dx);
    }

   private:
    // Calls visit(image, where its part of the branch's output begins).
    template <class Visit>
    void each_part(Visit visit) const {
        const int64_t part = (modulation ? 3 : 2) * points();
#pragma omp parallel for schedule(static)
        for (int64_t image = 0; image < op.images; ++image) visit(image, image * part);
    }
    template <class Visit>
    static void for_all(int64_t size, Visit visit) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < size; ++i) visit(i);
    }
};
