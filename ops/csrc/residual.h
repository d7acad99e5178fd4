// Residual blocks in a row (arXiv:1512.03385), forward and backward, whose tensors lie in blocks of 16 channels between the
// plain x and y at the ends. Pointers in, pointers out; no Paddle here.
#pragma once

#include <optional>

#include "blocked_deform.h"
#include "blocked_norm.h"
#include "convolution.h"
#include "normalize.h"

// A convolution and the norm behind it, with their values.
struct ConvNorm {
    ConvolutionShape shape;
    std::optional<BlockedDeformConv> deformable;  // of that shape
    BlockedNorm norm;
    const float *weight, *gamma, *beta;
    float *running_mean, *running_variance;  // batch norm's; they serve where its norm has no sets, and follow where it has
    float *dweight, *dgamma, *dbeta;         // null: not wanted

    // What the forward pass leaves behind.
    float *convolved, *mean, *scale;
    float* normalized;  // with its ReLU; a block's last convolution and its shortcut have the block's y instead

    // y = norm(convolution(x)) + added, or max(0, that). `added` may be null, or y.
    template <bool relu>
    void forward(const float* x, const float* added, float* y, double momentum, bool mean_of_workers) {
        if (deformable)
            deformable->forward(x, weight, convolved);
        else
            convolution(shape)->forward(x, weight, nullptr, convolved);
        const bool follows = norm.images_per_worker;
        const auto variance = room<float>(follows ? norm.outer() * norm.channels : 0);
        if (!norm.has_sets())
            for (int64_t c = 0; c < norm.channels; ++c) {
                mean[c] = running_mean[c];
                scale[c] = 1 / std::sqrt(running_variance[c] + norm.eps);
            }
        normalize_blocked<relu>(norm, convolved, gamma, beta, added, y, mean, scale, follows ? variance.get() : nullptr);
        if (!follows) return;
        const int64_t workers = mean_of_workers ? norm.outer() : 1;
        mix_into(running_mean, mean, workers, norm.channels, momentum);
        mix_into(running_variance, variance.get(), workers, norm.channels, momentum);
    }
    // dconvolved is room for the convolution's gradient, or dy itself. dx may be null.
    template <bool relu>
    void backward(const float* x, const float* dy, float* dconvolved, float* dx) const {
        const auto unwanted = room<float>(2 * norm.channels);
        normalize_blocked_backward<relu>(norm, convolved, gamma, beta, mean, scale, dy, dconvolved,
                                         dgamma ? dgamma : unwanted.get(),
                                         dbeta ? dbeta : unwanted.get() + norm.channels);
        if (deformable)
            deformable->backward(x, weight, dconvolved, dx, dweight);
        else
            convolution(shape)->backward(x, weight, dconvolved, dx, dweight, nullptr);
    }
};

// y = max(0, path(x) + shortcut(x)). The norms of the path have ReLUs, all but the last; no shortcut: x itself.
struct ResidualBlock {
    std::vector<ConvNorm> path, shortcut;
    float* y;
};

class ResidualBlocks {
    // Room that is handed out piece by piece; without a beginning it is only measured.
    struct Pieces {
        float* begin;
        int64_t used = 0;
        float* take(int64_t size) {
            float* const piece = begin ? begin + used : nullptr;
            used += ceiling(size, LANES) * LANES;
            return piece;
        }
    };

    const int64_t images_, channels_, positions_;  // of x
    std::vector<ResidualBlock> blocks_;
    float* x_ = nullptr;

    int64_t x_values() const { return images_ * channels_ * positions_; }

    // `keeps`: what backward needs stays apart, else normalized values replace those that they are made of.
    static void place(ResidualBlock& block, bool keeps, Pieces& pieces) {
        for (auto* convolutions : {&block.path, &block.shortcut})
            for (ConvNorm& one : *convolutions) {
                one.convolved = pieces.take(one.shape.results());
                if (auto& deformable = one.deformable) {
                    deformable->offset = pieces.take(2 * one.shape.images * deformable->points());
                    deformable->mask = pieces.take(one.shape.images * deformable->points());
                }
                one.mean = pieces.take(one.norm.outer() * one.norm.channels);
                one.scale = pieces.take(one.norm.outer() * one.norm.channels);
                const bool inner = convolutions == &block.path && &one != &block.path.back();
                one.normalized = !inner ? nullptr : keeps ? pieces.take(one.shape.results()) : one.convolved;
            }
        block.y = pieces.take(block.path.back().shape.results());
    }

    // Room for all blocks; if nothing is to be kept, two blocks take turns.
    int64_t place(bool keeps, float* begin) {
        Pieces all{begin};
        x_ = all.take(x_values());
        if (keeps) {
            for (ResidualBlock& block : blocks_) place(block, true, all);
            return all.used;
        }
        int64_t most = 0;
        for (ResidualBlock& block : blocks_) {
            Pieces measured{nullptr};
            place(block, false, measured);
            most = std::max(most, measured.used);
        }
        for (size_t i = 0; begin && i < blocks_.size(); ++i) {
            Pieces pieces{begin + all.used + i % 2 * most};
            place(blocks_[i], false, pieces);
        }
        return all.used + 2 * most;
    }

   public:
    ResidualBlocks(int64_t images, int64_t channels, int64_t positions, std::vector<ResidualBlock> blocks)
        : images_(images), channels_(channels), positions_(positions), blocks_(std::move(blocks)) {}

    // Whether oneDNN itself would put all tensors in blocks of 16.
    bool wants_blocks() const {
        for (const ResidualBlock& block : blocks_)
            for (const auto* convolutions : {&block.path, &block.shortcut})
                for (const ConvNorm& one : *convolutions)
                    if (one.shape.channels % LANES || one.shape.out_channels % LANES ||
                        !(one.deformable || Convolution(one.shape.flat()).wants_blocks()))
                        return false;
        return true;
    }

    std::vector<int64_t> result() const {
        const ConvolutionShape& last = blocks_.back().path.back().shape;
        std::vector<int64_t> shape{last.images, last.out_channels};
        for (const int64_t size : last.outs()) shape.push_back(size);
        return shape;
    }

    // How many values forward needs room for.
    int64_t room_forward(bool keeps) { return place(keeps, nullptr); }
    // And backward, beside that.
    int64_t room_backward() const { return 3 * largest(); }

    int64_t largest() const {
        int64_t most = x_values();
        for (const ResidualBlock& block : blocks_)
            for (const auto* convolutions : {&block.path, &block.shortcut})
                for (const ConvNorm& one : *convolutions) most = std::max(most, one.shape.results());
        return ceiling(most, LANES) * LANES;
    }

    void forward(const float* x, bool keeps, float* room, double momentum, bool mean_of_workers, float* y) {
        place(keeps, room);
        to_blocks(images_, channels_, positions_, x, nullptr, x_);
        const float* from = x_;
        for (ResidualBlock& block : blocks_) {
            const float* added = from;
            for (ConvNorm& shortcut : block.shortcut) {
                shortcut.forward<false>(from, nullptr, block.y, momentum, mean_of_workers);
                added = block.y;
            }
            for (ConvNorm& one : block.path)
                if (one.normalized) {
                    one.forward<true>(from, nullptr, one.normalized, momentum, mean_of_workers);
                    from = one.normalized;
                } else {
                    one.forward<true>(from, added, block.y, momentum, mean_of_workers);
                    from = block.y;
                }
        }
        const BlockedNorm& last = blocks_.back().path.back().norm;
        from_blocks(last.images, last.channels, last.positions, from, nullptr, y);
    }

    // `kept`: the room that forward has filled; y: what it gave. dx may be null.
    void backward(float* kept, const float* y, const float* dy, float* room, float* dx) {
        place(true, kept);
        float *const d = room, *const first = room + largest(), *const second = first + largest();
        const BlockedNorm& last = blocks_.back().path.back().norm;
        to_blocks(last.images, last.channels, last.positions, dy, y, d);  // d: the gradient of a block's sum
        for (size_t index = blocks_.size(); index-- > 0;) {
            const ResidualBlock& block = blocks_[index];
            const float* const x = index ? blocks_[index - 1].y : x_;
            const bool ends = index == 0 && !dx;
            const float* cotangent = d;
            float *work = first, *free = second;
            for (size_t i = block.path.size(); i-- > 0;) {
                float* const to = i == 0 && ends ? nullptr : free;
                const float* const from = i ? block.path[i - 1].normalized : x;
                if (block.path[i].normalized)
                    block.path[i].backward<true>(from, cotangent, work, to);
                else
                    block.path[i].backward<false>(from, cotangent, work, to);
                cotangent = free;
                std::swap(work, free);
            }
            const float* of_shortcut = d;
            for (const ConvNorm& shortcut : block.shortcut) {
                shortcut.backward<false>(x, d, d, ends ? nullptr : free);
                of_shortcut = free;
            }
            if (index)
                add_where(blocks_[index - 1].path.back().shape.results(), cotangent, of_shortcut, x, d);
            else if (dx)
                from_blocks(images_, channels_, positions_, cotangent, of_shortcut, dx);
        }
    }
};
