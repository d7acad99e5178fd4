// Group norm and batch norm, forward and backward. Pointers in, pointers out; no Paddle here.
//
// Both normalise sets of values with the mean and the biased variance of the set. x is [N, C, S] (S: all positions of
// one channel of one image), and a set is made of runs, each the S neighbouring values of one channel of one image:
//   group norm   the C / G channels of a group in one image: runs side by side, each with its own gamma and beta
//   batch norm   one channel in the images of one worker: runs C * S apart, all with the same gamma and beta
#pragma once

#include <cmath>
#include <vector>

#include "simd.h"

struct Sets {
    int64_t outer, inner;      // sets: images and groups, or workers and channels
    int64_t runs, length;      // of one set; values of a run
    int64_t outer_step, inner_step, run_step;  // in values, between the starts of neighbours
    int64_t inner_channels, run_channels;      // the same in channels

    static Sets group_norm(int64_t images, int64_t channels, int64_t positions, int64_t groups) {
        const int64_t size = channels / groups;
        return {images, groups, size, positions, channels * positions, size * positions, positions, size, 1};
    }
    static Sets batch_norm(int64_t images, int64_t channels, int64_t positions, int64_t images_per_worker) {
        const int64_t image = channels * positions;
        return {images / images_per_worker, channels, images_per_worker, positions,
                image * images_per_worker, positions, image, 1, 0};
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

// y = gamma * (x - mean) * scale + beta, and max(0, y) with relu. mean and scale = 1 / sqrt(variance + eps) are one for
// each set; the variance goes to `variance` where that is not null.
template <class T, bool relu>
void normalize(const Sets& sets, const T* x, const T* gamma, const T* beta, double eps, T* y, T* mean, T* scale,
               T* variance) {
    using S = Simd<T>;
    using V = typename S::Vector;
    const bool past_caches = sets.values() * int64_t(sizeof(T)) > STREAM;
#pragma omp parallel for schedule(static)
    for (int64_t set = 0; set < sets.count(); ++set) {
        const int64_t start = sets.start(set), channel = sets.channel(set);
        Moments<T> moments;
        if (sets.is_one_piece())
            moments.add(x + start, 1, 0, sets.runs * sets.length);
        else
            moments.add(x + start, sets.runs, sets.run_step, sets.length);
        const T centre = moments.mean(), inverse = 1 / std::sqrt(moments.variance() + eps);
        mean[set] = centre;
        scale[set] = inverse;
        if (variance) variance[set] = moments.variance();

        for (int64_t run = 0; run < sets.runs; ++run) {
            const T* from = x + start + run * sets.run_step;
            T* to = y + start + run * sets.run_step;
            const T factor = gamma[channel + run * sets.run_channels] * inverse;
            const T shift = beta[channel + run * sets.run_channels];
            write_run<T>(to, sets.length, past_caches, [=](int64_t i) {
                const V v = (S::load(from + i) - centre) * factor + shift;
                return relu ? (v < 0 ? V{} : v) : v;  // NaN stays NaN
            }, [=](int64_t i) {
                const T v = (from[i] - centre) * factor + shift;
                return relu && v < 0 ? T(0) : v;
            });
        }
        if (past_caches) S::streamed();
    }
}

// running = momentum * running + (1 - momentum) * the mean of the first `workers` rows of batch [workers, channels].
template <class T>
void mix_into(T* running, const T* batch, int64_t workers, int64_t channels, double momentum) {
    for (int64_t c = 0; c < channels; ++c) {
        double sum = 0;
        for (int64_t worker = 0; worker < workers; ++worker) sum += batch[worker * channels + c];
        running[c] = momentum * double(running[c]) + (1 - momentum) * sum / workers;
    }
}

// dx, and dgamma and dbeta [C]. With u = (x - mean) * scale and g = gamma * dy, over the m values of each set:
//   dx = scale * (g - sum(g) / m - u * sum(g * u) / m),  dgamma = sum(dy * u),  dbeta = sum(dy)
// With relu, dy counts only where the forward's value, computed anew, was above 0.
template <class T, bool relu>
void normalize_backward(const Sets& sets, const T* x, const T* gamma, const T* beta, const T* mean, const T* scale,
                        const T* dy, T* dx, T* dgamma, T* dbeta) {
    using S = Simd<T>;
    using V = typename S::Vector;
    const int64_t channels = sets.channels();
    std::vector<double> parts(2 * sets.outer * channels);
    double* const of_gamma = parts.data();
    double* const of_beta = of_gamma + sets.outer * channels;

    const bool past_caches = sets.values() * int64_t(sizeof(T)) > STREAM;
#pragma omp parallel for schedule(static)
    for (int64_t set = 0; set < sets.count(); ++set) {
        const int64_t start = sets.start(set), channel = sets.channel(set);
        const T centre = mean[set], inverse = scale[set];
        double sum_g = 0, sum_gu = 0;
        double sum_d = 0, sum_dv = 0;  // of one channel; v = x - mean
        V ds[2] = {}, dvs[2] = {};
        int64_t pending = 0;  // values in ds and dvs: as in Moments, no long sum in single precision
        const auto settle = [&] {
            sum_d += S::sum(ds[0] + ds[1]);
            sum_dv += S::sum(dvs[0] + dvs[1]);
            ds[0] = ds[1] = dvs[0] = dvs[1] = V{};
            pending = 0;
        };
        for (int64_t run = 0; run < sets.runs; ++run) {
            const T* value = x + start + run * sets.run_step;
            const T* cotangent = dy + start + run * sets.run_step;
            const int64_t c = channel + run * sets.run_channels;
            const T factor = gamma[c] * inverse, shift = beta[c];
            const auto centred = [=](int64_t i) { return S::load(value + i) - centre; };
            const auto counted = [=](int64_t i, V v) {
                const V d = S::load(cotangent + i);
                return relu ? (v * factor + shift > 0 ? d : V{}) : d;
            };
            for (int64_t i = 0; i < sets.length;) {
                const int64_t end = std::min(sets.length, i + 4096);
                pending += end - i;
                for (; i + 2 * S::width <= end; i += 2 * S::width)
                    for (int j = 0; j < 2; ++j) {
                        const V v = centred(i + j * S::width), d = counted(i + j * S::width, v);
                        ds[j] += d;
                        dvs[j] += d * v;
                    }
                for (; i + S::width <= end; i += S::width) {
                    const V v = centred(i), d = counted(i, v);
                    ds[0] += d;
                    dvs[0] += d * v;
                }
                if (i < end && end >= S::width) {
                    const V v = centred(end - S::width), d = S::last(counted(end - S::width, v), end - i);
                    ds[1] += d;
                    dvs[1] += d * v;
                    i = end;
                }
                for (; i < end; ++i) {
                    const T v = value[i] - centre;
                    if (relu && !(v * factor + shift > 0)) continue;
                    sum_d += cotangent[i];
                    sum_dv += cotangent[i] * v;
                }
                if (pending >= 4096) settle();
            }
            if (sets.run_channels == 0 && run + 1 < sets.runs) continue;  // the next run is of the same channel
            settle();
            sum_g += gamma[c] * sum_d;
            sum_gu += gamma[c] * sum_dv * inverse;
            of_gamma[set / sets.inner * channels + c] = sum_dv * inverse;
            of_beta[set / sets.inner * channels + c] = sum_d;
            sum_d = sum_dv = 0;
        }
        const double values = double(sets.runs) * sets.length;
        const T less = sum_g / values * inverse, less_u = sum_gu / values * inverse * inverse;
        for (int64_t run = 0; run < sets.runs; ++run) {
            const int64_t first = start + run * sets.run_step, c = channel + run * sets.run_channels;
            const T factor = gamma[c] * inverse, shift = beta[c];
            write_run<T>(dx + first, sets.length, past_caches, [=](int64_t i) {
                const V v = S::load(x + first + i) - centre;
                V d = S::load(dy + first + i);
                if (relu) d = v * factor + shift > 0 ? d : V{};
                return d * factor - less - v * less_u;
            }, [=](int64_t i) {
                const T v = x[first + i] - centre;
                const T d = relu && !(v * factor + shift > 0) ? 0 : dy[first + i];
                return d * factor - less - v * less_u;
            });
        }
        if (past_caches) S::streamed();
    }

    for (int64_t c = 0; c < channels; ++c) {
        double gamma_sum = 0, beta_sum = 0;
        for (int64_t part = 0; part < sets.outer; ++part) {
            gamma_sum += of_gamma[part * channels + c];
            beta_sum += of_beta[part * channels + c];
        }
        dgamma[c] = gamma_sum;
        dbeta[c] = beta_sum;
    }
}
