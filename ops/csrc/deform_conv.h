// Deformable convolution v1 and v2, forward and backward. Pointers in, pointers out; no Paddle here.
//
// Images are turned so that the channels of a pixel lie side by side: each of the four pixels around a sampling point is
// then one run of memory for all channels. Samples make a matrix `columns` [positions, taps * channels], and BLAS
// multiplies it by the weights, whose rows are brought to the same order. Images are taken in rounds and positions in
// tiles, so that the work buffers grow with the number of threads and not with the batch.
#pragma once

#include "blas.h"
#include "deform_plan.h"

// x [N, C, H, W], offset [N, D * 2 * taps, H', W'], mask [N, D * taps, H', W'] or null, weight
// [C_out, C / groups, taps] -> y [N, C_out, H', W'].
template <class T>
void deform_conv2d(const DeformConv& op, const T* x, const T* offset, const T* mask, const T* weight, T* y) {
    using S = Simd<T>;
    const Plan<T> plan(op);
    const auto segments = segments_of(op);
    const int64_t pixels = op.pixels(), positions = op.positions(), taps = op.taps(), row = op.row();
    const int64_t image_size = op.channels * pixels, points = op.deformable_groups * taps * positions;
    const std::vector<T> nothing(op.channels);  // what a pixel beyond the border holds
    TurnedWeights<T> weights(op, weight, plan.threads);
    const auto flat = room<T>(plan.round * image_size);
    const auto work = room<T>(plan.threads * plan.tile * (op.groups * row + op.out_channels));

#pragma omp parallel num_threads(plan.threads)
    {
        const int thread = omp_get_thread_num();
        T* const columns = work.get() + thread * plan.tile * (op.groups * row + op.out_channels);
        T* const out = columns + plan.tile * op.groups * row;
        weights.begin(thread);
        for (int64_t first = 0; first < op.images; first += plan.round) {
            const int64_t count = std::min(plan.round, op.images - first), steps = plan.steps(count * positions);
            for (int64_t image = 0; image < count; ++image)
                transpose(x + (first + image) * image_size, op.channels, pixels, flat.get() + image * image_size,
                          thread, plan.threads);
#pragma omp barrier
            for (int64_t step = 0; step < steps; ++step) {
                const Range rows = rows_of(count * positions, step, steps, thread, plan.threads);
                image_by_image(rows, positions, [&](int64_t image, int64_t begin, int64_t end, int64_t at) {
                    const T* pixel = flat.get() + image * image_size;
                    const T* shift = offset + (first + image) * 2 * points;
                    const T* modulation = mask ? mask + (first + image) * points : nullptr;
                    for (const Segment& part : segments)
                        each_point(op, shift, part.deformable_group, begin, end, [&](
                            int64_t tap, int64_t p, const Corners<T>& corners, bool inside, T outside) {
                            const int64_t size = part.end - part.begin, in_group = part.begin % op.in_per_group();
                            T* to = columns + (part.group * rows.size() + at + p - begin) * row;
                            to += tap * op.in_per_group() + in_group;
                            const T m = modulation ? modulation[(part.deformable_group * taps + tap) * positions + p] : 1;
                            if (!inside) return std::fill(to, to + size, outside * m);
                            const T* from[4];
                            T share[4];
                            for (int k = 0; k < 4; ++k) {
                                const int64_t at = corners.pixel[k];
                                from[k] = at < 0 ? nothing.data() : pixel + at * op.channels + part.begin;
                                share[k] = corners.share[k] * m;
                            }
                            int64_t c = 0;
                            for (; c + S::width <= size; c += S::width)
                                S::store(to + c, (S::load(from[0] + c) * share[0] + S::load(from[1] + c) * share[1]) +
                                                 (S::load(from[2] + c) * share[2] + S::load(from[3] + c) * share[3]));
                            for (; c < size; ++c)
                                to[c] = (from[0][c] * share[0] + from[1][c] * share[1]) +
                                        (from[2][c] * share[2] + from[3][c] * share[3]);
                        });
                });
                weights.each(thread, [&](int64_t group, int64_t first_out, int64_t count_out, const T* turned) {
                    gemm(as_it_is, transposed, count_out, rows.size(), row, turned, row,
                         columns + group * rows.size() * row, row, 0, out + first_out * rows.size(), rows.size());
                });
                image_by_image(rows, positions, [&](int64_t image, int64_t begin, int64_t end, int64_t at) {
                    for (int64_t o = 0; o < op.out_channels; ++o)
                        std::copy_n(out + o * rows.size() + at, end - begin,
                                    y + ((first + image) * op.out_channels + o) * positions + begin);
                });
            }
#pragma omp barrier
        }
    }
}

// The gradients of all of them; dmask is null where mask is. A round's tiles go side by side through the threads:
//   dcolumns = dy^T weight          each thread its tile
//   doffset, dmask, dx, columns     each thread its tile; an image that several threads work on is summed afterwards
//   dweight += dy columns           each thread its part of dweight's columns, over the tiles of all
// columns take the place of dcolumns, value by value.
template <class T>
void deform_conv2d_backward(const DeformConv& op, const T* x, const T* offset, const T* mask, const T* weight,
                            const T* dy, T* dx, T* doffset, T* dmask, T* dweight) {
    using S = Simd<T>;
    using V = typename S::Vector;
    const Plan<T> plan(op);
    const auto segments = segments_of(op);
    const int64_t pixels = op.pixels(), positions = op.positions(), taps = op.taps(), row = op.row();
    const int64_t image_size = op.channels * pixels, points = op.deformable_groups * taps * positions;
    const int64_t ld = plan.threads * plan.tile;
    const std::vector<T> nothing(op.channels);
    std::vector<T> trash(plan.threads * op.channels);  // where the gradient of what lies beyond the border goes
    TurnedWeights<T> weights(op, weight, plan.threads);
    const auto lines = room<T>(plan.threads * row);
    const auto flat = room<T>(plan.round * image_size), dflat = room<T>(plan.round * image_size);
    const auto shared = room<T>(plan.threads * image_size);
    const auto columns = room<T>(op.groups * ld * row), cotangent = room<T>(op.out_channels * ld);
    std::fill_n(dweight, op.out_channels * row, T(0));

#pragma omp parallel num_threads(plan.threads)
    {
        const int thread = omp_get_thread_num();
        T* const beyond = trash.data() + thread * op.channels;
        weights.begin(thread);
        for (int64_t first = 0; first < op.images; first += plan.round) {
            const int64_t count = std::min(plan.round, op.images - first), steps = plan.steps(count * positions);
            const Range all(count * positions, thread, plan.threads);
            for (int64_t image = 0; image < count; ++image)
                transpose(x + (first + image) * image_size, op.channels, pixels, flat.get() + image * image_size,
                          thread, plan.threads);
            const Range zeros(count * image_size, thread, plan.threads);
            std::fill(dflat.get() + zeros.begin, dflat.get() + zeros.end, T(0));
            T* const partial = shared.get() + thread * image_size;  // of the image that another thread began
            std::fill_n(partial, image_size, T(0));
#pragma omp barrier
            for (int64_t step = 0; step < steps; ++step) {
                int64_t before = 0, together = 0;  // rows of the threads before this one, and of all
                for (int t = 0; t < plan.threads; ++t) {
                    const int64_t size = rows_of(count * positions, step, steps, t, plan.threads).size();
                    before += t < thread ? size : 0;
                    together += size;
                }
                const Range rows = rows_of(count * positions, step, steps, thread, plan.threads);
                image_by_image(rows, positions, [&](int64_t image, int64_t begin, int64_t end, int64_t at) {
                    for (int64_t o = 0; o < op.out_channels; ++o)
                        std::copy_n(dy + ((first + image) * op.out_channels + o) * positions + begin, end - begin,
                                    cotangent.get() + o * ld + before + at);
                });
                weights.each(thread, [&](int64_t group, int64_t first_out, int64_t count_out, const T* turned) {
                    gemm(transposed, as_it_is, rows.size(), row, count_out, cotangent.get() + first_out * ld + before,
                         ld, turned, row, first_out > group * op.out_per_group() ? 1 : 0,
                         columns.get() + (group * ld + before) * row, row);
                });
                image_by_image(rows, positions, [&](int64_t image, int64_t begin, int64_t end, int64_t at) {
                    const T* pixel = flat.get() + image * image_size;
                    T* dpixel = image * positions < all.begin ? partial : dflat.get() + image * image_size;
                    const T* shift = offset + (first + image) * 2 * points;
                    const T* modulation = mask ? mask + (first + image) * points : nullptr;
                    T* dshift = doffset + (first + image) * 2 * points;
                    T* dmodulation = mask ? dmask + (first + image) * points : nullptr;
                    for (const Segment& part : segments)
                        each_point(op, shift, part.deformable_group, begin, end, [&](
                            int64_t tap, int64_t p, const Corners<T>& corners, bool inside, T outside) {
                            const int64_t size = part.end - part.begin, in_group = part.begin % op.in_per_group();
                            const int64_t r = at + p - begin, within = tap * op.in_per_group() + in_group;
                            T* d = columns.get() + (part.group * ld + before + r) * row + within;
                            const int64_t point = part.deformable_group * taps + tap;
                            const T m = modulation ? modulation[point * positions + p] : 1;
                            T dot[4] = {outside, 0, 0, 0}, by_y = outside, by_x = outside, by_m = outside;
                            if (!inside) {
                                std::fill(d, d + size, outside * m);
                            } else {
                                const T* from[4];
                                T* into[4];
                                T share[4];
                                for (int k = 0; k < 4; ++k) {
                                    const int64_t at = corners.pixel[k] * op.channels + part.begin;
                                    from[k] = corners.pixel[k] < 0 ? nothing.data() : pixel + at;
                                    into[k] = corners.pixel[k] < 0 ? beyond : dpixel + at;
                                    share[k] = corners.share[k] * m;
                                }
                                V dots[4] = {};
                                int64_t c = 0;
                                for (; c + S::width <= size; c += S::width) {
                                    const V dc = S::load(d + c);
                                    V value = {};
                                    for (int k = 0; k < 4; ++k) {
                                        const V v = S::load(from[k] + c);
                                        value += v * share[k];
                                        dots[k] += v * dc;
                                        S::store(into[k] + c, S::load(into[k] + c) + dc * share[k]);
                                    }
                                    S::store(d + c, value);
                                }
                                for (int k = 0; k < 4; ++k) dot[k] = S::sum(dots[k]);
                                for (; c < size; ++c) {
                                    const T dc = d[c];
                                    T value = 0;
                                    for (int k = 0; k < 4; ++k) {
                                        value += from[k][c] * share[k];
                                        dot[k] += from[k][c] * dc;
                                        into[k][c] += dc * share[k];
                                    }
                                    d[c] = value;
                                }
                                for (int k = 0; k < 4; ++k) {
                                    by_y += corners.by_y[k] * dot[k] * m;
                                    by_x += corners.by_x[k] * dot[k] * m;
                                    by_m += corners.share[k] * dot[k];
                                }
                            }
                            // A deformable group may reach over several groups of the convolution.
                            const bool again = part.begin % (op.channels / op.deformable_groups);
                            T* dy_dx = dshift + 2 * point * positions + p;
                            dy_dx[0] = (again ? dy_dx[0] : 0) + by_y;
                            dy_dx[positions] = (again ? dy_dx[positions] : 0) + by_x;
                            if (dmodulation) {
                                T* dm = dmodulation + point * positions + p;
                                *dm = (again ? *dm : 0) + by_m;
                            }
                        });
                });
#pragma omp barrier
                const Range part(row, thread, plan.threads);
                for (int64_t group = 0; group < op.groups; ++group)
                    gemm(as_it_is, as_it_is, op.out_per_group(), part.size(), together,
                         cotangent.get() + group * op.out_per_group() * ld, ld,
                         columns.get() + group * ld * row + part.begin, row, 1,
                         dweight + group * op.out_per_group() * row + part.begin, row);
#pragma omp barrier
            }
            // What several threads gave to one image, always added in the order of the threads.
            for (int64_t image = 0; image < count; ++image) {
                const Range part(image_size, thread, plan.threads);
                T* into = dflat.get() + image * image_size;
                for (int t = 1; t < plan.threads; ++t) {
                    const Range theirs(count * positions, t, plan.threads);
                    if (theirs.size() == 0 || theirs.begin % positions == 0 || theirs.begin / positions != image) continue;
                    const T* from = shared.get() + t * image_size;
                    for (int64_t i = part.begin; i < part.end; ++i) into[i] += from[i];
                }
            }
#pragma omp barrier
            for (int64_t image = 0; image < count; ++image)
                transpose(dflat.get() + image * image_size, pixels, op.channels, dx + (first + image) * image_size,
                          thread, plan.threads);
#pragma omp barrier
        }
        taps_last(op, dweight, lines.get() + thread * row, thread, plan.threads);
    }
}
