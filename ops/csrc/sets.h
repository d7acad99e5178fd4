// What norms are written with: sets of values, their moments, sums, and how results are written. No Paddle here.
//
// x is [N, C, S] (S: all positions of one channel of one image). What has statistics in common is a set, and a set is
// made of runs, each the S neighbouring values of one channel of one image:
//   group norm             the C / G channels of a group in one image: runs side by side, each with its own gamma and beta
//   batch norm             one channel in the images of one worker: runs C * S apart, all with the same gamma and beta
//   filter response norm   one channel of one image: one run
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include "simd.h"

struct Sets {
    int64_t outer, inner;      // sets: images and groups, or workers and channels
    int64_t runs, length;      // of one set; values of a run
    int64_t outer_step, inner_step, run_step;  // in values, between the starts of neighbours
    int64_t inner_channels, run_channels;      // the same in channels
    bool centred = true;       // or what counts is the distance from 0

    static Sets group_norm(int64_t images, int64_t channels, int64_t positions, int64_t groups) {
        const int64_t size = channels / groups;
        return {images, groups, size, positions, channels * positions, size * positions, positions, size, 1};
    }
    static Sets batch_norm(int64_t images, int64_t channels, int64_t positions, int64_t images_per_worker) {
        const int64_t image = channels * positions;
        return {images / images_per_worker, channels, images_per_worker, positions,
                image * images_per_worker, positions, image, 1, 0};
    }
    static Sets filter_response_norm(int64_t images, int64_t channels, int64_t positions) {
        Sets sets = group_norm(images, channels, positions, channels);
        sets.centred = false;
        return sets;
    }

    int64_t count() const { return outer * inner; }
    int64_t values() const { return count() * runs * length; }
    int64_t start(int64_t set) const { return set / inner * outer_step + set % inner * inner_step; }
    int64_t channel(int64_t set) const { return set % inner * inner_channels; }
    // Gradients of gamma and beta are first summed for each image or worker: [outer, C].
    int64_t channels() const { return inner * (run_channels ? runs : 1); }
    bool is_one_piece() const { return run_step == length; }
};

// Mean and sum of squared distances from it, over what was added so far. Each piece is small enough for the nearest
// cache and is read twice: its mean first, then the distances from that. Pieces join by the formula of Chan, Golub
// and LeVeque (1979) in double. So the memory is read once, and a large mean costs no digits.
template <class T>
class Moments {
    using S = Simd<T>;
    using V = typename S::Vector;
    static constexpr int64_t piece = 4096;
    double count_ = 0, mean_ = 0, squares_ = 0;

   public:
    // `runs` runs of `length` values, `step` apart.
    void add(const T* x, int64_t runs, int64_t step, int64_t length) {
        if (length <= piece) {
            const int64_t together = piece / length;
            for (int64_t run = 0; run < runs; run += together)
                add_piece(x + run * step, std::min(together, runs - run), step, length);
        } else {
            for (int64_t run = 0; run < runs; ++run)
                for (int64_t i = 0; i < length; i += piece) add_piece(x + run * step + i, 1, 0, std::min(piece, length - i));
        }
    }
    double mean() const { return mean_; }
    double variance() const { return squares_ / count_; }

   private:
    void add_piece(const T* x, int64_t runs, int64_t step, int64_t length) {
        const double count = double(runs) * length;
        V sums[4] = {};
        T rest = 0;
        for (int64_t run = 0; run < runs; ++run) {
            const T* const from = x + run * step;
            int64_t i = 0;
            for (; i + 4 * S::width <= length; i += 4 * S::width)
                for (int j = 0; j < 4; ++j) sums[j] += S::load(from + i + j * S::width);
            for (; i + S::width <= length; i += S::width) sums[0] += S::load(from + i);
            if (i < length && length >= S::width)
                sums[1] += S::last(S::load(from + length - S::width), length - i);
            else
                for (; i < length; ++i) rest += from[i];
        }
        const T near = (S::sum((sums[0] + sums[1]) + (sums[2] + sums[3])) + rest) / count;

        // `near` is rounded: its own distance from the mean comes out of the first sum and is taken off again.
        V firsts[2] = {}, seconds[2] = {};
        T first = 0, second = 0;
        const auto add = [&](V distance, int j) {
            firsts[j] += distance;
            seconds[j] += distance * distance;
        };
        for (int64_t run = 0; run < runs; ++run) {
            const T* const from = x + run * step;
            int64_t i = 0;
            for (; i + 2 * S::width <= length; i += 2 * S::width)
                for (int j = 0; j < 2; ++j) add(S::load(from + i + j * S::width) - near, j);
            for (; i + S::width <= length; i += S::width) add(S::load(from + i) - near, 0);
            if (i < length && length >= S::width)
                add(S::last(S::load(from + length - S::width) - near, length - i), 1);
            else
                for (; i < length; ++i) {
                    const T distance = from[i] - near;
                    first += distance;
                    second += distance * distance;
                }
        }
        const double off = (double(S::sum(firsts[0] + firsts[1])) + first) / count;
        const double mean = near + off;
        const double squares = double(S::sum(seconds[0] + seconds[1])) + second - off * off * count;

        const double total = count_ + count, apart = mean - mean_;
        mean_ += apart * count / total;
        squares_ += squares + apart * apart * count_ * count / total;
        count_ = total;
    }
};

// Sums over runs, of several kinds of values at once. As in Moments, no long sum is in single precision.
template <class T, size_t kinds>
class Sums {
    using S = Simd<T>;
    static constexpr int64_t piece = 4096;
    typename S::Vector parts_[2][kinds] = {};
    std::array<double, kinds> totals_{};
    int64_t pending_ = 0;  // values in the parts

   public:
    // vector(sums, i, last) adds a vector of a run to the sums of all kinds, value(sums, i) a value of a run shorter than
    // that. last(v) is v without the lanes that were counted before: one factor of each summand must have passed it.
    template <class Vectors, class Values>
    void add_run(int64_t length, Vectors vector, Values value) {
        if (length < S::width) {
            for (int64_t i = 0; i < length; ++i) value(totals_, i);
            return;
        }
        const auto whole = [](auto v) { return v; };
        for (int64_t i = 0; i < length;) {
            const int64_t end = std::min(length, i + piece);
            pending_ += end - i;
            for (; i + 2 * S::width <= end; i += 2 * S::width)
                for (int j = 0; j < 2; ++j) vector(parts_[j], i + j * S::width, whole);
            for (; i + S::width <= end; i += S::width) vector(parts_[0], i, whole);
            if (i < end) vector(parts_[1], end - S::width, [=](auto v) { return S::last(v, end - i); });
            i = end;
            if (pending_ >= piece) settle();
        }
    }
    // The sums so far; the next begin at 0.
    std::array<double, kinds> take() {
        if (pending_) settle();
        return std::exchange(totals_, {});
    }

   private:
    void settle() {
        for (size_t k = 0; k < kinds; ++k) {
            totals_[k] += S::sum(parts_[0][k] + parts_[1][k]);
            parts_[0][k] = parts_[1][k] = typename S::Vector{};
        }
        pending_ = 0;
    }
};

// Mean and biased variance of the set that starts at x. Where it is not centred they are 0 and the mean square.
template <class T>
std::pair<double, double> mean_and_variance(const Sets& sets, const T* x) {
    if (!sets.centred) {
        Sums<T, 1> squares;
        for (int64_t run = 0; run < sets.runs; ++run) {
            const T* const from = x + run * sets.run_step;
            squares.add_run(sets.length, [=](auto& sums, int64_t i, auto last) {
                const auto v = last(Simd<T>::load(from + i));
                sums[0] += v * v;
            }, [=](auto& sums, int64_t i) { sums[0] += from[i] * from[i]; });
        }
        return {0, squares.take()[0] / (double(sets.runs) * sets.length)};
    }
    Moments<T> moments;
    if (sets.is_one_piece())
        moments.add(x, 1, 0, sets.runs * sets.length);
    else
        moments.add(x, sets.runs, sets.run_step, sets.length);
    return {moments.mean(), moments.variance()};
}

// Sums for each channel of each image or worker, [rows, C], which come together only in the end and in order: the bits
// depend on no threads.
template <size_t kinds>
class ChannelSums {
    int64_t rows_, channels_;
    std::vector<std::array<double, kinds>> parts_;

   public:
    ChannelSums(int64_t rows, int64_t channels) : rows_(rows), channels_(channels), parts_(rows * channels) {}

    void set(int64_t row, int64_t channel, const std::array<double, kinds>& sums) {
        parts_[row * channels_ + channel] = sums;
    }
    // to[kind][channel]
    template <class T>
    void over_rows(T* const* to) const {
        std::vector<std::array<double, kinds>> all(channels_);
        for (int64_t row = 0; row < rows_; ++row)
            for (int64_t c = 0; c < channels_; ++c)
                for (size_t k = 0; k < kinds; ++k) all[c][k] += parts_[row * channels_ + c][k];
        for (int64_t c = 0; c < channels_; ++c)
            for (size_t k = 0; k < kinds; ++k) to[k][c] = all[c][k];
    }
};

constexpr int64_t STREAM = int64_t(16) << 20;  // bytes of a tensor too large to be met in a cache again

// to[i] = vector(i) for the vectors of a run, value(i) for the values of a run shorter than one. Both hold copies of what
// they use: what lay behind a reference would be read again after each store.
template <class T, class Vectors, class Values>
void write_run(T* to, int64_t length, bool past_caches, Vectors vector, Values value) {
    using S = Simd<T>;
    int64_t i = 0;
    if (past_caches && reinterpret_cast<uintptr_t>(to) % 64 == 0)
        for (; i + S::width <= length; i += S::width) S::stream(to + i, vector(i));
    for (; i + S::width <= length; i += S::width) S::store(to + i, vector(i));
    if (i < length && length >= S::width)  // the end as one full vector, which writes some values again
        S::store(to + length - S::width, vector(length - S::width));
    else
        for (; i < length; ++i) to[i] = value(i);
}
