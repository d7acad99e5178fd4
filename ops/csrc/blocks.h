// Tensors whose channels lie in blocks of 16, [N, C / 16, positions, 16]: oneDNN's layout on AVX-512. No Paddle here.
//
// A tile is one block of one image, positions * 16 neighbouring values. Its 16 lanes are channels.
#pragma once

#include "simd.h"

constexpr int64_t LANES = 16;
typedef Simd<float> F;
typedef F::Vector Lanes;

// [N, C, positions] -> blocks of 16 channels. Where `positive` (in the plain layout too) is not null, only values at which it
// is above 0 count, and the others become 0: the gradient of a ReLU that gave `positive`.
inline void to_blocks(int64_t images, int64_t channels, int64_t positions, const float* from, const float* positive,
                      float* to) {
#pragma omp parallel for schedule(static)
    for (int64_t tile = 0; tile < images * channels / LANES; ++tile)
        for (int64_t lane = 0; lane < LANES; ++lane) {
            const int64_t start = (tile * LANES + lane) * positions;
            float* const target = to + tile * LANES * positions + lane;
            for (int64_t p = 0; p < positions; ++p)
                target[p * LANES] = !positive || positive[start + p] > 0 ? from[start + p] : 0;
        }
}
// The way back, of from + added.
inline void from_blocks(int64_t images, int64_t channels, int64_t positions, const float* from, const float* added,
                        float* to) {
#pragma omp parallel for schedule(static)
    for (int64_t tile = 0; tile < images * channels / LANES; ++tile)
        for (int64_t lane = 0; lane < LANES; ++lane) {
            const int64_t start = tile * LANES * positions + lane;
            float* const target = to + (tile * LANES + lane) * positions;
            for (int64_t p = 0; p < positions; ++p)
                target[p] = added ? from[start + p * LANES] + added[start + p * LANES] : from[start + p * LANES];
        }
}
// sum = one + other where `positive` is above 0, else 0: the gradient of a residual sum's input that a ReLU gave.
inline void add_where(int64_t size, const float* one, const float* other, const float* positive, float* sum) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < size / LANES; ++i) {
        const Lanes v = F::load(one + i * LANES) + F::load(other + i * LANES);
        F::store(sum + i * LANES, F::load(positive + i * LANES) > 0 ? v : Lanes{});
    }
}
