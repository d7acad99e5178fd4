// Deformable convolution v1 and v2, forward and backward. Pointers in, pointers out; no Paddle here.
//
// Images are turned so that the channels of a pixel lie side by side: each of the four pixels around a sampling point is
// then one run of memory for all channels. Samples make a matrix `columns` [positions, taps * channels], and BLAS
// multiplies it by the weights, whose rows are brought to the same order. Images are taken in rounds and positions in
// tiles, so that the work buffers grow with the number of threads and not with the batch.
#pragma once

#include <cmath>
#include <vector>

#include "blas.h"
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

// How the work is cut. Everything follows from the shapes and the number of threads.
template <class T>
struct Plan {
    int threads;
    int64_t round;  // images at a time
    int64_t tile;   // positions at a time and thread

    explicit Plan(const DeformConv& op) : threads(team()) {
        const int64_t image = op.channels * op.pixels() * sizeof(T), line = op.taps() * op.channels * sizeof(T);
        round = std::min(op.images, std::max<int64_t>(threads, (int64_t(8) << 20) / image));
        const int64_t most = std::min(std::max<int64_t>((int64_t(2) << 20) / line, 64), int64_t(256));
        const int64_t share = ceiling(round * op.positions(), threads);
        tile = ceiling(share, std::max<int64_t>(ceiling(share, most), 1));  // as few as need be, all alike
    }
    // How many tiles each thread has in a round of `positions`: the same number, so that all can meet after each.
    int64_t steps(int64_t positions) const { return ceiling(ceiling(positions, threads), tile); }
};

// Those positions of a round that one thread works on in one step.
inline Range rows_of(int64_t positions, int64_t step, int64_t steps, int thread, int threads) {
    return Range(positions, thread, threads).part(step, steps);
}

// [rows, columns] -> [columns, rows], this thread's part of it.
template <class T>
void transpose(const T* from, int64_t rows, int64_t columns, T* to, int thread, int threads) {
    constexpr int64_t block = 16;
    const Range blocks(ceiling(columns, block), thread, threads);
    for (int64_t column = blocks.begin * block; column < std::min(columns, blocks.end * block); column += block)
        for (int64_t row = 0; row < rows; row += block)
            for (int64_t j = column; j < std::min(columns, column + block); ++j)
                for (int64_t i = row; i < std::min(rows, row + block); ++i) to[j * rows + i] = from[i * columns + j];
}

// weight [C_out, C_in / groups, taps] as [C_out, taps, C_in / groups]: as many output channels at a time as fit into 4 MB.
template <class T>
class TurnedWeights {
    const DeformConv& op_;
    const T* const weight_;
    const int threads_;
    const bool whole_;
    const int64_t most_;  // output channels at a time
    const std::unique_ptr<T[]> turned_;

    static int64_t that_fit(const DeformConv& op) {
        return std::max<int64_t>((int64_t(4) << 20) / (op.row() * int64_t(sizeof(T))), 1);
    }
    void turn(int64_t first, int64_t count, int thread) {
        const Range rows(count, thread, threads_);
        for (int64_t row = rows.begin; row < rows.end; ++row)
            transpose(weight_ + (first + row) * op_.row(), op_.in_per_group(), op_.taps(),
                      turned_.get() + row * op_.row(), 0, 1);
    }

   public:
    TurnedWeights(const DeformConv& op, const T* weight, int threads)
        : op_(op), weight_(weight), threads_(threads), whole_(that_fit(op) >= op.out_channels),
          most_(std::min(op.out_per_group(), that_fit(op))),
          turned_(room<T>((whole_ ? op.out_channels : most_) * op.row())) {}

    // All threads call these together. The first once; what it leaves is seen after a barrier.
    void begin(int thread) {
        if (whole_) turn(0, op_.out_channels, thread);
    }
    // Calls multiply(group, first output channel, their number, their weights) until all channels have had their turn.
    template <class Multiply>
    void each(int thread, Multiply multiply) {
        for (int64_t group = 0; group < op_.groups; ++group) {
            const int64_t end = (group + 1) * op_.out_per_group();
            for (int64_t first = end - op_.out_per_group(); first < end; first += most_) {
                const int64_t count = std::min(most_, end - first);
                if (!whole_) {
#pragma omp barrier
                    turn(first, count, thread);
#pragma omp barrier
                }
                multiply(group, first, count, turned_.get() + (whole_ ? first * op_.row() : 0));
            }
        }
    }
};

// The way back, in place; this thread's rows. `line` holds one row.
template <class T>
void taps_last(const DeformConv& op, T* weight, T* line, int thread, int threads) {
    const Range rows(op.out_channels, thread, threads);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
        std::copy_n(weight + row * op.row(), op.row(), line);
        transpose(line, op.taps(), op.in_per_group(), weight + row * op.row(), 0, 1);
    }
}

// Calls visit(image of the round, first position in it, last + 1, row) for the parts of `rows` in one image each.
template <class Visit>
void image_by_image(Range rows, int64_t positions, Visit visit) {
    for (int64_t begin = rows.begin; begin < rows.end;) {
        const int64_t image = begin / positions, end = std::min(rows.end, (image + 1) * positions);
        visit(image, begin - image * positions, end - image * positions, begin - rows.begin);
        begin = end;
    }
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
