// Group norm, batch norm and renorm, filter response norm, forward and backward. Pointers in, pointers out; no Paddle here.
//
// All normalise sets of values (see sets.h) with the mean and the biased variance of the set; where a set is not centred
// its mean counts as 0, and so its variance is the mean square.
#pragma once

#include "sets.h"

// What follows the norm: nothing, max(0, y), or max(threshold, y) with a threshold for each channel.
enum class Cut { none, relu, threshold };

// What is learned, [C] each; a threshold only for that cut.
template <class T>
struct Learned {
    T *gamma, *beta, *threshold = nullptr;
};

// What forward leaves to backward, one value for each set: mean, scale = 1 / sqrt(variance + eps), and batch renorm's r
// and d, null where they are 1 and 0.
template <class T>
struct Statistics {
    T *mean, *scale, *r = nullptr, *d = nullptr;
};

// What batch renorm holds a worker's statistics against: running ones [C], and how far r and d may go.
template <class T>
struct Running {
    const T *mean, *variance;
    double r_max, d_max;
};

// y = (x - mean) * factor + shift, and not below floor, in one channel of a set.
template <class T>
struct Line {
    T factor, shift, floor;
};

template <class T, Cut cut>
Line<T> line(const Learned<const T>& learned, int64_t channel, T scale, T r, T d) {
    const T gamma = learned.gamma[channel];
    return {gamma * scale * r, learned.beta[channel] + gamma * d, cut == Cut::threshold ? learned.threshold[channel] : 0};
}

// y = gamma * ((x - mean) * scale * r + d) + beta, cut off below. The variance goes to `variance` where that is not null;
// without `running` r is 1 and d is 0.
template <class T, Cut cut>
void normalize(const Sets& sets, const T* x, const Learned<const T>& learned, double eps, T* y,
               const Statistics<T>& statistics, T* variance, const Running<T>* running) {
    using S = Simd<T>;
    using V = typename S::Vector;
    const bool past_caches = sets.values() * int64_t(sizeof(T)) > STREAM;
#pragma omp parallel for schedule(static)
    for (int64_t set = 0; set < sets.count(); ++set) {
        const int64_t start = sets.start(set), channel = sets.channel(set);
        const auto [average, spread] = mean_and_variance(sets, x + start);
        const T centre = average, inverse = 1 / std::sqrt(spread + eps);
        statistics.mean[set] = centre;
        statistics.scale[set] = inverse;
        if (variance) variance[set] = spread;
        T r = 1, d = 0;
        if (running) {
            const double deviation = std::sqrt(running->variance[channel] + eps), apart = average - running->mean[channel];
            r = std::clamp(std::sqrt(spread + eps) / deviation, 1 / running->r_max, running->r_max);
            d = std::clamp(apart / deviation, -running->d_max, running->d_max);
            statistics.r[set] = r;
            statistics.d[set] = d;
        }

        for (int64_t run = 0; run < sets.runs; ++run) {
            const T* from = x + start + run * sets.run_step;
            T* to = y + start + run * sets.run_step;
            const int64_t c = channel + run * sets.run_channels;
            const Line<T> way = line<T, cut>(learned, c, inverse, r, d);
            write_run<T>(to, sets.length, past_caches, [=](int64_t i) {
                const V v = (S::load(from + i) - centre) * way.factor + way.shift;
                return cut != Cut::none ? (v < way.floor ? V{} + way.floor : v) : v;  // NaN stays NaN
            }, [=](int64_t i) {
                const T v = (from[i] - centre) * way.factor + way.shift;
                return cut != Cut::none && v < way.floor ? way.floor : v;
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

// dx and the gradients of what is learned. With u = (x - mean) * scale, d = dy where the forward's value, computed anew,
// was not cut off, else 0, and g = gamma * d, over the m values of each set:
//   dx = scale * (g - sum(g) / m - u * sum(g * u) / m),  dgamma = sum(d * u),  dbeta = sum(d),  dthreshold = sum(dy - d)
// and sum(g) / m is left out where the set is not centred. Batch renorm's dx is r times that, its dgamma of u * r + d.
template <class T, Cut cut>
void normalize_backward(const Sets& sets, const T* x, const Learned<const T>& learned,
                        const Statistics<const T>& statistics, const T* dy, T* dx, const Learned<T>& gradients) {
    using S = Simd<T>;
    using V = typename S::Vector;
    constexpr size_t kinds = cut == Cut::threshold ? 3 : 2;  // d, d * (x - mean), and dy - d
    const int64_t channels = sets.channels();
    ChannelSums<kinds> sums(sets.outer, channels);

    const bool past_caches = sets.values() * int64_t(sizeof(T)) > STREAM;
#pragma omp parallel for schedule(static)
    for (int64_t set = 0; set < sets.count(); ++set) {
        const int64_t start = sets.start(set), channel = sets.channel(set);
        const T centre = statistics.mean[set], inverse = statistics.scale[set];
        const T r = statistics.r ? statistics.r[set] : 1, moved = statistics.d ? statistics.d[set] : 0;
        double sum_g = 0, sum_gu = 0;
        Sums<T, kinds> of_channel;
        for (int64_t run = 0; run < sets.runs; ++run) {
            const T* value = x + start + run * sets.run_step;
            const T* cotangent = dy + start + run * sets.run_step;
            const int64_t c = channel + run * sets.run_channels;
            const Line<T> way = line<T, cut>(learned, c, inverse, r, moved);
            of_channel.add_run(sets.length, [=](auto& sums, int64_t i, auto last) {
                const V v = S::load(value + i) - centre, all = last(S::load(cotangent + i));
                const auto above = v * way.factor + way.shift > way.floor;
                const V d = cut != Cut::none ? (above ? all : V{}) : all;
                sums[0] += d;
                sums[1] += d * v;
                if constexpr (cut == Cut::threshold) sums[2] += above ? V{} : all;
            }, [=](auto& sums, int64_t i) {
                const T v = value[i] - centre;
                if (cut == Cut::none || v * way.factor + way.shift > way.floor) {
                    sums[0] += cotangent[i];
                    sums[1] += cotangent[i] * v;
                } else if constexpr (cut == Cut::threshold) {
                    sums[2] += cotangent[i];
                }
            });
            if (sets.run_channels == 0 && run + 1 < sets.runs) continue;  // the next run is of the same channel
            std::array<double, kinds> of = of_channel.take();
            sum_g += learned.gamma[c] * of[0];
            sum_gu += learned.gamma[c] * of[1] * inverse;
            of[1] = of[1] * inverse * r + of[0] * moved;
            sums.set(set / sets.inner, c, of);
        }
        const double values = double(sets.runs) * sets.length;
        const T less = sets.centred ? sum_g / values * inverse * r : 0;
        const T less_u = sum_gu / values * inverse * inverse * r;
        for (int64_t run = 0; run < sets.runs; ++run) {
            const int64_t first = start + run * sets.run_step, c = channel + run * sets.run_channels;
            const Line<T> way = line<T, cut>(learned, c, inverse, r, moved);
            write_run<T>(dx + first, sets.length, past_caches, [=](int64_t i) {
                const V v = S::load(x + first + i) - centre;
                V d = S::load(dy + first + i);
                if (cut != Cut::none) d = v * way.factor + way.shift > way.floor ? d : V{};
                return d * way.factor - less - v * less_u;
            }, [=](int64_t i) {
                const T v = x[first + i] - centre;
                const T d = cut != Cut::none && !(v * way.factor + way.shift > way.floor) ? 0 : dy[first + i];
                return d * way.factor - less - v * less_u;
            });
        }
        if (past_caches) S::streamed();
    }
    sums.over_rows(std::array<T*, 3>{gradients.beta, gradients.gamma, gradients.threshold}.data());
}

// max(x, threshold), the cut alone, over runs of one channel each.
template <class T>
void cut_off(const Sets& sets, const T* x, const T* threshold, T* y) {
    using S = Simd<T>;
    using V = typename S::Vector;
    const bool past_caches = sets.values() * int64_t(sizeof(T)) > STREAM;
#pragma omp parallel for schedule(static)
    for (int64_t set = 0; set < sets.count(); ++set) {
        const T *from = x + sets.start(set), floor = threshold[sets.channel(set)];
        write_run<T>(y + sets.start(set), sets.length, past_caches, [=](int64_t i) {
            const V v = S::load(from + i);
            return v < floor ? V{} + floor : v;
        }, [=](int64_t i) { return from[i] < floor ? floor : from[i]; });
        if (past_caches) S::streamed();
    }
}

template <class T>
void cut_off_backward(const Sets& sets, const T* x, const T* threshold, const T* dy, T* dx, T* dthreshold) {
    using S = Simd<T>;
    using V = typename S::Vector;
    ChannelSums<1> sums(sets.outer, sets.channels());
    const bool past_caches = sets.values() * int64_t(sizeof(T)) > STREAM;
#pragma omp parallel for schedule(static)
    for (int64_t set = 0; set < sets.count(); ++set) {
        const T *value = x + sets.start(set), *cotangent = dy + sets.start(set);
        const T floor = threshold[sets.channel(set)];
        Sums<T, 1> cut;
        cut.add_run(sets.length, [=](auto& sums, int64_t i, auto last) {
            sums[0] += S::load(value + i) > floor ? V{} : last(S::load(cotangent + i));
        }, [=](auto& sums, int64_t i) { sums[0] += value[i] > floor ? 0 : cotangent[i]; });
        sums.set(set / sets.inner, sets.channel(set), cut.take());
        write_run<T>(dx + sets.start(set), sets.length, past_caches, [=](int64_t i) {
            return S::load(value + i) > floor ? S::load(cotangent + i) : V{};
        }, [=](int64_t i) { return value[i] > floor ? cotangent[i] : 0; });
        if (past_caches) S::streamed();
    }
    sums.over_rows(&dthreshold);
}
