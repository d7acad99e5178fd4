// EvoNorm-S0, forward and backward. Pointers in, pointers out; no Paddle here.
#pragma once

#include <cmath>

#include "sets.h"

// e^v: 2^n * e^r by the nearest n and a series for r, |r| <= ln(2) / 2, as long as T is exact. v is taken for the nearest
// value whose power is a normal number; NaN stays NaN.
template <class T>
typename Simd<T>::Vector exponential(typename Simd<T>::Vector v) {
    typedef typename Simd<T>::Vector V;
    typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Integer;
    typedef Integer Integers __attribute__((vector_size(64)));
    constexpr bool single = sizeof(T) == 4;
    constexpr int digits = single ? 23 : 52, terms = single ? 7 : 13;
    constexpr T bound = single ? 87 : 708, magic = T(3) * (Integer(1) << (digits - 1));  // whole numbers only from here on
    constexpr T high = single ? 0.693359375 : 0.6931471803691238, low = 0.693147180559945309417L - high;
    v = v < -bound ? V{} - bound : v > bound ? V{} + bound : v;
    const auto shifted = v * T(1.4426950408889634) + magic;
    const auto n = shifted - magic;
    const auto r = v - n * high - n * low;
    V power = V{} + 1;
    for (int k = terms; k > 0; --k) power = 1 + r * power * (T(1) / k);
    return reinterpret_cast<V>(reinterpret_cast<Integers>(power) + (reinterpret_cast<Integers>(shifted) << digits));
}
template <class T>
T exponential(T v) {
    return exponential<T>(typename Simd<T>::Vector{} + v)[0];
}

// sigmoid(v), and 1 - sigmoid(v) with all its digits; for vectors and values.
template <class T, class V>
std::pair<V, V> sigmoid(V v) {
    const V power = exponential<T>(-v), p = 1 / (1 + power);
    return {p, power * p};
}

// y = gamma * x * sigmoid(slope * x) * scale + beta. mean and scale = 1 / sqrt(variance + eps) are one for each set.
template <class T>
void evonorm(const Sets& sets, const T* x, const T* slope, const T* gamma, const T* beta, double eps, T* y, T* mean,
             T* scale) {
    using S = Simd<T>;
    const bool past_caches = sets.values() * int64_t(sizeof(T)) > STREAM;
#pragma omp parallel for schedule(static)
    for (int64_t set = 0; set < sets.count(); ++set) {
        const int64_t start = sets.start(set), channel = sets.channel(set);
        const auto [average, variance] = mean_and_variance(sets, x + start);
        mean[set] = average;
        scale[set] = 1 / std::sqrt(variance + eps);
        for (int64_t run = 0; run < sets.runs; ++run) {
            const T* from = x + start + run * sets.run_step;
            const int64_t c = channel + run;
            const T steepness = slope[c], factor = gamma[c] * scale[set], shift = beta[c];
            write_run<T>(y + start + run * sets.run_step, sets.length, past_caches, [=](int64_t i) {
                const auto v = S::load(from + i);
                return v * sigmoid<T>(v * steepness).first * factor + shift;
            }, [=](int64_t i) { return from[i] * sigmoid<T>(from[i] * steepness).first * factor + shift; });
        }
        if (past_caches) S::streamed();
    }
}

// dx and the gradients of slope, gamma and beta [C]. With p = sigmoid(slope * x), h = x * p, its derivatives
// h_x = p * (1 + slope * x * (1 - p)) and h_slope = x * x * p * (1 - p), over the m values of each set:
//   dx = gamma * scale * dy * h_x - (x - mean) * scale^3 * sum(gamma * dy * h) / m
//   dslope = gamma * sum(scale * dy * h_slope),  dgamma = sum(scale * dy * h),  dbeta = sum(dy)
template <class T>
void evonorm_backward(const Sets& sets, const T* x, const T* slope, const T* gamma, const T* mean, const T* scale,
                      const T* dy, T* dx, T* dslope, T* dgamma, T* dbeta) {
    using S = Simd<T>;
    ChannelSums<3> sums(sets.outer, sets.channels());
    const bool past_caches = sets.values() * int64_t(sizeof(T)) > STREAM;
#pragma omp parallel for schedule(static)
    for (int64_t set = 0; set < sets.count(); ++set) {
        const int64_t start = sets.start(set), channel = sets.channel(set);
        const T centre = mean[set], inverse = scale[set];
        double sum_gh = 0;
        for (int64_t run = 0; run < sets.runs; ++run) {
            const T *value = x + start + run * sets.run_step, *cotangent = dy + start + run * sets.run_step;
            const int64_t c = channel + run;
            const T steepness = slope[c];
            const auto add = [=](auto& sums, auto v, auto d) {
                const auto [p, rest] = sigmoid<T>(v * steepness);
                const auto dh = d * v * p;
                sums[0] += dh * v * rest;
                sums[1] += dh;
                sums[2] += d;
            };
            Sums<T, 3> of_channel;
            of_channel.add_run(sets.length, [=](auto& sums, int64_t i, auto last) {
                add(sums, S::load(value + i), last(S::load(cotangent + i)));
            }, [=](auto& sums, int64_t i) { add(sums, value[i], cotangent[i]); });
            std::array<double, 3> of = of_channel.take();
            sum_gh += gamma[c] * of[1];
            of[0] *= double(gamma[c]) * inverse;
            of[1] *= inverse;
            sums.set(set / sets.inner, c, of);
        }
        const T less = sum_gh / (double(sets.runs) * sets.length) * inverse * inverse * inverse;
        for (int64_t run = 0; run < sets.runs; ++run) {
            const T *value = x + start + run * sets.run_step, *cotangent = dy + start + run * sets.run_step;
            const int64_t c = channel + run;
            const T steepness = slope[c], factor = gamma[c] * inverse;
            const auto gradient = [=](auto v, auto d) {
                const auto [p, rest] = sigmoid<T>(v * steepness);
                return d * factor * p * (1 + v * steepness * rest) - (v - centre) * less;
            };
            write_run<T>(dx + start + run * sets.run_step, sets.length, past_caches, [=](int64_t i) {
                return gradient(S::load(value + i), S::load(cotangent + i));
            }, [=](int64_t i) { return gradient(value[i], cotangent[i]); });
        }
        if (past_caches) S::streamed();
    }
    sums.over_rows(std::array<T*, 3>{dslope, dgamma, dbeta}.data());
}
