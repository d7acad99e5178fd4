// Group norm and batch norm of tensors in blocks of 16 channels (see blocks.h). Pointers in, pointers out; no Paddle here.
//
// Statistics are taken lane by lane of each tile and only then put together to those of a set: of a group, or of a
// worker's channel (see normalize.h).
#pragma once

#include <cmath>
#include <numeric>
#include <vector>

#include "blocks.h"

// One of the three: `groups` of each image, `images_per_worker`, or (both 0) statistics that are given.
struct BlockedNorm {
    int64_t images, channels, positions, groups, images_per_worker;
    double eps;

    bool has_sets() const { return groups || images_per_worker; }
    int64_t blocks() const { return channels / LANES; }
    int64_t tile() const { return positions * LANES; }
    int64_t tiles() const { return images * blocks(); }
    // Rows of statistics [outer, C].
    int64_t outer() const { return groups ? images : images_per_worker ? images / images_per_worker : 1; }
    int64_t row(int64_t image) const { return groups ? image : images_per_worker ? image / images_per_worker : 0; }
    // The fewest blocks of an image that hold whole groups.
    int64_t blocks_of_groups() const { return std::lcm(channels / groups, LANES) / LANES; }
};

// Sums of one tile, lane by lane.
struct LaneSums {
    double first[LANES], second[LANES];
};

// Mean and squared distances from it. Short pieces are summed in single precision, about a mean of their own, and join
// by the formula of Chan, Golub and LeVeque (1979) in double: see Moments in normalize.h.
inline LaneSums moments_of(const float* x, int64_t positions) {
    constexpr int64_t piece = 256;
    LaneSums all{};
    for (int64_t start = 0; start < positions; start += piece) {
        const int64_t count = std::min(piece, positions - start);
        const float* const from = x + start * LANES;
        Lanes sums[4] = {};
        int64_t p = 0;
        for (; p + 4 <= count; p += 4)
            for (int j = 0; j < 4; ++j) sums[j] += F::load(from + (p + j) * LANES);
        for (; p < count; ++p) sums[0] += F::load(from + p * LANES);
        const Lanes near = ((sums[0] + sums[1]) + (sums[2] + sums[3])) / float(count);
        Lanes firsts[2] = {}, seconds[2] = {};
        const auto add = [&](int64_t at, int j) {
            const Lanes distance = F::load(from + at * LANES) - near;
            firsts[j] += distance;
            seconds[j] += distance * distance;
        };
        for (p = 0; p + 2 <= count; p += 2)
            for (int j = 0; j < 2; ++j) add(p + j, j);
        for (; p < count; ++p) add(p, 0);
        const Lanes first = firsts[0] + firsts[1], second = seconds[0] + seconds[1];
        const double share = double(count) / (start + count), weight = share * start;
        for (int64_t lane = 0; lane < LANES; ++lane) {
            const double off = double(first[lane]) / count;
            const double apart = near[lane] + off - all.first[lane];
            all.first[lane] += apart * share;
            all.second[lane] += second[lane] - off * off * count + apart * apart * weight;
        }
    }
    return all;
}

// mean, scale and variance [C] from `first_channel` on, of sets of `count` moments each, `step` apart and all of as many
// values: those of the lanes of a group, or of one lane in the tiles of a worker.
class Settled {
    const BlockedNorm& norm_;
    float *mean_, *scale_, *variance_;

   public:
    Settled(const BlockedNorm& norm, float* mean, float* scale, float* variance)
        : norm_(norm), mean_(mean), scale_(scale), variance_(variance) {}

    template <class Moments>
    void set(int64_t count, Moments moments, int64_t first, int64_t channels) const {
        double mean = 0, squares = 0;
        for (int64_t i = 0; i < count; ++i) mean += moments(i).first;
        mean /= count;
        for (int64_t i = 0; i < count; ++i) {
            const double apart = moments(i).first - mean;
            squares += moments(i).second + norm_.positions * apart * apart;
        }
        const double variance = squares / (double(count) * norm_.positions);
        std::fill_n(mean_ + first, channels, mean);
        std::fill_n(scale_ + first, channels, 1 / std::sqrt(variance + norm_.eps));
        if (variance_) std::fill_n(variance_ + first, channels, variance);
    }
};

// y = gamma * (x - mean) * scale + beta of one tile; then + added, where that is not null; then max(0, y) with relu.
template <bool relu>
void normalize_tile(const float* x, int64_t tile, Lanes mean, Lanes factor, Lanes shift, const float* added, float* y) {
    for (int64_t i = 0; i < tile; i += LANES) {
        Lanes v = (F::load(x + i) - mean) * factor + shift;
        if (added) v += F::load(added + i);
        F::store(y + i, relu ? (v < 0 ? Lanes{} : v) : v);  // NaN stays NaN
    }
}

// Calls before(tile) for all tiles of a set, or of sets that share blocks, then settle(first tile), then behind(tile):
// side by side in memory for group norm, so that the second reading finds the values in a cache. before and settle are
// left out where statistics are given.
template <class Before, class Settle, class Behind>
void tile_by_tile(const BlockedNorm& norm, Before before, Settle settle, Behind behind) {
    if (norm.groups) {
        const int64_t size = norm.blocks_of_groups();
#pragma omp parallel for schedule(static)
        for (int64_t unit = 0; unit < norm.tiles() / size; ++unit) {
            for (int64_t tile = unit * size; tile < (unit + 1) * size; ++tile) before(tile);
            settle(unit * size);
            for (int64_t tile = unit * size; tile < (unit + 1) * size; ++tile) behind(tile);
        }
        return;
    }
#pragma omp parallel
    {
        if (norm.images_per_worker) {
#pragma omp for schedule(static)
            for (int64_t tile = 0; tile < norm.tiles(); ++tile) before(tile);
#pragma omp for schedule(static)
            for (int64_t unit = 0; unit < norm.outer() * norm.blocks(); ++unit)
                settle(unit / norm.blocks() * norm.images_per_worker * norm.blocks() + unit % norm.blocks());
        }
#pragma omp for schedule(static)
        for (int64_t tile = 0; tile < norm.tiles(); ++tile) behind(tile);
    }
}

// mean and scale [outer, C] are made, or given where there are no sets; variance [outer, C] may be null. `added`: see
// normalize_tile. y may be x or `added`.
template <bool relu>
void normalize_blocked(const BlockedNorm& norm, const float* x, const float* gamma, const float* beta, const float* added,
                       float* y, float* mean, float* scale, float* variance) {
    const auto moments = room<LaneSums>(norm.has_sets() ? norm.tiles() : 0);
    const Settled settled(norm, mean, scale, variance);
    const int64_t blocks = norm.blocks();
    tile_by_tile(
        norm, [&](int64_t tile) { moments[tile] = moments_of(x + tile * norm.tile(), norm.positions); },
        [&](int64_t tile) {
            struct Pair {
                double first, second;
            };
            const int64_t image = tile / blocks, channel = tile % blocks * LANES;
            const int64_t first = norm.row(image) * norm.channels + channel;
            const auto lane = [&](int64_t tile, int64_t lane) {
                return Pair{moments[tile].first[lane], moments[tile].second[lane]};
            };
            if (norm.groups) {
                const int64_t size = norm.channels / norm.groups;
                for (int64_t start = 0; start < norm.blocks_of_groups() * LANES; start += size)
                    settled.set(size, [&](int64_t i) { return lane(tile + (start + i) / LANES, (start + i) % LANES); },
                                first + start, size);
            } else {
                for (int64_t l = 0; l < LANES; ++l)
                    settled.set(norm.images_per_worker, [&](int64_t i) { return lane(tile + i * blocks, l); }, first + l, 1);
            }
        },
        [&](int64_t tile) {
            const int64_t channel = tile % blocks * LANES, at = norm.row(tile / blocks) * norm.channels + channel;
            normalize_tile<relu>(x + tile * norm.tile(), norm.tile(), F::load(mean + at),
                                 F::load(gamma + channel) * F::load(scale + at), F::load(beta + channel),
                                 added ? added + tile * norm.tile() : nullptr, y + tile * norm.tile());
        });
}

// dx, and dgamma and dbeta [C]: the formulas of normalize_backward in normalize.h. dx may be dy.
template <bool relu>
void normalize_blocked_backward(const BlockedNorm& norm, const float* x, const float* gamma, const float* beta,
                                const float* mean, const float* scale, const float* dy, float* dx, float* dgamma,
                                float* dbeta) {
    const int64_t blocks = norm.blocks();
    const auto sums = room<LaneSums>(norm.tiles());  // of d, and of d * u, for each tile
    const bool has_sets = norm.has_sets();
    // What is taken off: sum(g) / m and sum(g * u) / m of each set [outer, C].
    const auto less = room<float>(has_sets ? 2 * norm.outer() * norm.channels : 0);
    float* const less_u = less.get() + norm.outer() * norm.channels;

    struct Tile {
        int64_t channel, at;
        Lanes mean, scale, factor, shift;
    };
    const auto of = [&](int64_t tile) {
        Tile t{tile % blocks * LANES};
        t.at = norm.row(tile / blocks) * norm.channels + t.channel;
        t.mean = F::load(mean + t.at), t.scale = F::load(scale + t.at);
        t.factor = F::load(gamma + t.channel) * t.scale, t.shift = F::load(beta + t.channel);
        return t;
    };
    const auto counted = [](const float* dy, Lanes v, const Tile& t) {
        const Lanes d = F::load(dy);
        return relu ? (v * t.factor + t.shift > 0 ? d : Lanes{}) : d;
    };
    const auto sum = [&](int64_t tile) {
        constexpr int64_t piece = 256 * LANES;
        const Tile t = of(tile);
        const float *value = x + tile * norm.tile(), *cotangent = dy + tile * norm.tile();
        LaneSums all{};
        for (int64_t start = 0; start < norm.tile(); start += piece) {
            const int64_t end = std::min(norm.tile(), start + piece);
            Lanes ds[2] = {}, dvs[2] = {};
            const auto add = [&](int64_t i, int j) {
                const Lanes v = F::load(value + i) - t.mean, d = counted(cotangent + i, v, t);
                ds[j] += d;
                dvs[j] += d * v;
            };
            int64_t i = start;
            for (; i + 2 * LANES <= end; i += 2 * LANES)
                for (int j = 0; j < 2; ++j) add(i + j * LANES, j);
            for (; i < end; i += LANES) add(i, 0);
            const Lanes d = ds[0] + ds[1], dv = dvs[0] + dvs[1];
            for (int64_t lane = 0; lane < LANES; ++lane) {
                all.first[lane] += d[lane];
                all.second[lane] += double(dv[lane]) * t.scale[lane];
            }
        }
        sums[tile] = all;
    };
    const auto settle_set = [&](int64_t count, auto place, int64_t first, int64_t channels) {
        double sum_g = 0, sum_gu = 0;
        for (int64_t i = 0; i < count; ++i) {
            const auto [tile, lane] = place(i);
            const double factor = gamma[tile % blocks * LANES + lane];
            sum_g += factor * sums[tile].first[lane];
            sum_gu += factor * sums[tile].second[lane];
        }
        const double values = double(count) * norm.positions;
        std::fill_n(less.get() + first, channels, sum_g / values);
        std::fill_n(less_u + first, channels, sum_gu / values);
    };
    tile_by_tile(
        norm, sum,
        [&](int64_t tile) {
            typedef std::pair<int64_t, int64_t> Place;
            const int64_t first = norm.row(tile / blocks) * norm.channels + tile % blocks * LANES;
            if (norm.groups) {
                const int64_t size = norm.channels / norm.groups;
                for (int64_t start = 0; start < norm.blocks_of_groups() * LANES; start += size)
                    settle_set(size, [&](int64_t i) { return Place(tile + (start + i) / LANES, (start + i) % LANES); },
                               first + start, size);
            } else {
                for (int64_t lane = 0; lane < LANES; ++lane)
                    settle_set(norm.images_per_worker, [&](int64_t i) { return Place(tile + i * blocks, lane); },
                               first + lane, 1);
            }
        },
        [&](int64_t tile) {
            if (!has_sets) sum(tile);
            const Tile t = of(tile);
            const Lanes off = has_sets ? F::load(less.get() + t.at) * t.scale : Lanes{};
            const Lanes off_u = has_sets ? F::load(less_u + t.at) * t.scale * t.scale : Lanes{};
            const int64_t start = tile * norm.tile();
            for (int64_t i = start; i < start + norm.tile(); i += LANES) {
                const Lanes v = F::load(x + i) - t.mean, d = counted(dy + i, v, t);
                F::store(dx + i, d * t.factor - off - v * off_u);
            }
        });
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < blocks; ++block) {
        LaneSums all{};
        for (int64_t tile = block; tile < norm.tiles(); tile += blocks)
            for (int64_t lane = 0; lane < LANES; ++lane) {
                all.first[lane] += sums[tile].first[lane];
                all.second[lane] += sums[tile].second[lane];
            }
        std::copy_n(all.first, LANES, dbeta + block * LANES);
        std::copy_n(all.second, LANES, dgamma + block * LANES);
    }
}
