// Convolution, forward and backward, by oneDNN. Pointers in, pointers out; no Paddle here.
#pragma once

#include <array>
#include <list>
#include <map>
#include <mutex>
#include <vector>

#include "onednn.h"
#include "simd.h"

// x [images, channels, size] -> y [images, out_channels, out_size], weight [out_channels, channels, kernel]. Layouts are
// plain, or x and y lie in blocks of 16 channels: [N, C / 16, H, W, 16].
struct ConvolutionShape {
    int64_t images, channels, size[2], out_channels, kernel[2], stride[2], padding[2], dilation[2];
    bool bias, blocks;
    int64_t threads;  // oneDNN cuts the work for as many when it prepares it

    int64_t out(int axis) const {
        return (size[axis] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) / stride[axis] + 1;
    }
    int64_t results() const { return images * out_channels * out(0) * out(1); }
    std::vector<int64_t> key() const {
        return {images, channels, size[0], size[1], out_channels, kernel[0], kernel[1], stride[0], stride[1], padding[0],
                padding[1], dilation[0], dilation[1], bias, blocks, threads};
    }
};

// How many threads the work is to be cut for. oneDNN asks OpenMP for the most there could be, and waits for ever, or
// leaves gradients undone, where a region then gets fewer (OMP_THREAD_LIMIT, OMP_DYNAMIC): so the most is set to what there is.
inline int settled_team() {
    const int threads = team();
    if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
    return threads;
}

// Room of the calling thread that only grows; each use has its own.
class Room {
    std::unique_ptr<float[]> values_;
    size_t bytes_ = 0;

   public:
    float* of(size_t bytes) {
        if (bytes > bytes_) {
            values_ = room<float>(bytes / sizeof(float) + 17);
            bytes_ = bytes;
        }
        return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(values_.get()) + 63) / 64 * 64);
    }
};

class Convolution {
    enum Tensor { source, weights, result };
    static constexpr std::array<int, 3> roles{onednn::source, onednn::weights, onednn::result};

    // One of the three computations, in the layouts that oneDNN likes best, and the ways there from ours.
    struct Pass {
        Tensor output;
        onednn::Owned<onednn::PrimitiveDesc> desc;
        onednn::Owned<onednn::Primitive> run;
        std::array<onednn::ConstDesc, 3> inner;
        std::array<onednn::Owned<onednn::Primitive>, 3> reorder;  // null where the layouts are the same
        std::once_flag once;
    };

    const ConvolutionShape shape_;
    std::array<onednn::Owned<onednn::Desc>, 3> outer_;
    onednn::Owned<onednn::Desc> bias_;
    Pass forward_, data_, weights_;

    static Room& room_for(int use) {
        static thread_local std::array<Room, 4> rooms;
        return rooms[use];
    }

    std::array<onednn::Owned<onednn::Desc>, 3> layouts(onednn::Tag images, onednn::Tag weights) const {
        const auto& s = shape_;
        const int64_t x[]{s.images, s.channels, s.size[0], s.size[1]}, y[]{s.images, s.out_channels, s.out(0), s.out(1)};
        const int64_t w[]{s.out_channels, s.channels, s.kernel[0], s.kernel[1]};
        return {onednn::layout(4, x, images), onednn::layout(4, w, weights), onednn::layout(4, y, images)};
    }

    // The description of the pass that makes `output`. `free`: images may lie in whatever layout oneDNN likes.
    onednn::Owned<onednn::PrimitiveDesc> describe(Tensor output, bool free, const onednn::dnnl_primitive_desc* forward) const {
        using namespace onednn;
        const auto wish = layouts(free ? any : in_blocks_of_16, any);
        const auto& s = shape_;
        const ConstDesc x = wish[Convolution::source].get(), w = wish[Convolution::weights].get();
        const ConstDesc y = wish[Convolution::result].get(), b = s.bias ? bias_.get() : nullptr;
        const int64_t between[]{s.dilation[0] - 1, s.dilation[1] - 1};
        PrimitiveDesc made;
        if (output == Convolution::result)
            check(call.convolution_forward_primitive_desc_create(&made, engine, training, direct, x, w, b, y, s.stride,
                                                                 between, s.padding, s.padding, attributes),
                  "convolution_forward");
        else if (output == Convolution::source)
            check(call.convolution_backward_data_primitive_desc_create(&made, engine, direct, x, w, y, s.stride, between,
                                                                       s.padding, s.padding, forward, attributes),
                  "convolution_backward_data");
        else
            check(call.convolution_backward_weights_primitive_desc_create(&made, engine, direct, x, w, b, y, s.stride,
                                                                          between, s.padding, s.padding, forward,
                                                                          attributes),
                  "convolution_backward_weights");
        return Owned<PrimitiveDesc>(made);
    }

    static std::array<onednn::ConstDesc, 3> inner_layouts(Tensor output, const onednn::dnnl_primitive_desc* desc) {
        using namespace onednn;
        std::array<int, 3> queries{source_desc, weights_desc, result_desc};
        if (output != Convolution::result) queries[Convolution::result] = result_gradient_desc;
        if (output == Convolution::source) queries[Convolution::source] = source_gradient_desc;
        if (output == Convolution::weights) queries[Convolution::weights] = weights_gradient_desc;
        std::array<ConstDesc, 3> found;
        for (int tensor = 0; tensor < 3; ++tensor) found[tensor] = call.primitive_desc_query_md(desc, queries[tensor], 0);
        return found;
    }

    // The others are references, or make columns for a matrix product.
    static bool is_fast(const onednn::dnnl_primitive_desc* desc) {
        const char* name = nullptr;
        onednn::check(onednn::call.primitive_desc_query(desc, onednn::name_of_kernel, 0, &name), "primitive_desc_query");
        return !std::strncmp(name, "jit", 3) || !std::strncmp(name, "brg", 3);
    }

    const Pass& prepared(Pass& pass, Tensor output) {
        std::call_once(pass.once, [&] {
            const auto* forward = output == result ? nullptr : prepared(forward_, result).desc.get();
            pass.output = output;
            pass.desc = describe(output, !shape_.blocks, forward);
            if (shape_.blocks && !is_fast(pass.desc.get())) pass.desc = describe(output, true, forward);
            pass.run = onednn::primitive(pass.desc.get());
            pass.inner = inner_layouts(output, pass.desc.get());
            for (int tensor = 0; tensor < 3; ++tensor)
                pass.reorder[tensor] = tensor == output ? onednn::reorder(pass.inner[tensor], outer_[tensor].get())
                                                        : onednn::reorder(outer_[tensor].get(), pass.inner[tensor]);
        });
        return pass;
    }

    // `tensors` in our layouts. `result_is_there`: the pass before has left the result's gradient in this one's layout.
    void run(const Pass& pass, std::array<float*, 3> tensors, float* bias, bool result_is_there = false) const {
        using namespace onednn;
        std::array<Owned<Memory>, 3> inner;
        for (int tensor = 0; tensor < 3; ++tensor) {
            float* data = tensors[tensor];
            if (pass.reorder[tensor]) data = room_for(tensor).of(call.memory_desc_get_size(pass.inner[tensor]));
            inner[tensor] = memory(pass.inner[tensor], data);
            if (!pass.reorder[tensor] || tensor == pass.output || (tensor == Convolution::result && result_is_there)) continue;
            const auto ours = memory(outer_[tensor].get(), tensors[tensor]);
            execute(pass.reorder[tensor].get(), {{onednn::source, ours.get()}, {onednn::result, inner[tensor].get()}});
        }
        const ConstDesc scratch = call.primitive_desc_query_md(pass.desc.get(), scratchpad_desc, 0);
        const auto scratch_memory = memory(scratch, room_for(3).of(call.memory_desc_get_size(scratch)));
        const auto role = [&](int tensor) {
            const bool is_gradient = pass.output != Convolution::result &&
                                     (tensor == pass.output || tensor == Convolution::result);
            return roles[tensor] + (is_gradient ? gradient : 0);
        };
        const Argument x{role(0), inner[0].get()}, w{role(1), inner[1].get()}, y{role(2), inner[2].get()};
        const Argument room{scratchpad, scratch_memory.get()};
        if (bias) {
            const auto vector = memory(bias_.get(), bias);
            const int is_gradient = pass.output == Convolution::weights ? gradient : 0;
            execute(pass.run.get(), {x, w, y, room, {onednn::bias + is_gradient, vector.get()}});
        } else {
            execute(pass.run.get(), {x, w, y, room});
        }
        if (pass.reorder[pass.output]) {
            const auto ours = memory(outer_[pass.output].get(), tensors[pass.output]);
            execute(pass.reorder[pass.output].get(),
                    {{onednn::source, inner[pass.output].get()}, {onednn::result, ours.get()}});
        }
    }

   public:
    explicit Convolution(const ConvolutionShape& shape)
        : shape_(shape), outer_(layouts(shape.blocks ? onednn::in_blocks_of_16 : onednn::nchw, onednn::nchw)),
          bias_(onednn::layout(1, &shape.out_channels, onednn::vector)) {}

    // Whether oneDNN, where it is free to choose, puts images in blocks of 16 channels and has a fast kernel for that. The
    // forward pass tells: for the gradient of x at a stride oneDNN may choose another layout, and be no faster for it.
    bool wants_blocks() const {
        const auto blocks = layouts(onednn::in_blocks_of_16, onednn::any);
        const auto desc = describe(result, true, nullptr);
        const auto inner = inner_layouts(result, desc.get());
        for (Tensor images : {source, result})
            if (!onednn::call.memory_desc_equal(inner[images], blocks[images].get())) return false;
        return is_fast(desc.get());
    }

    void forward(const float* x, const float* weight, const float* bias, float* y) {
        run(prepared(forward_, result), {const_cast<float*>(x), const_cast<float*>(weight), y}, const_cast<float*>(bias));
    }
    // dx, or dweight and dbias, may be null: not wanted.
    void backward(const float* x, const float* weight, const float* dy, float* dx, float* dweight, float* dbias) {
        float* const cotangent = const_cast<float*>(dy);
        if (dweight) run(prepared(weights_, weights), {const_cast<float*>(x), dweight, cotangent}, dbias);
        if (!dx) return;
        const Pass& data = prepared(data_, source);
        const bool is_there = dweight && onednn::call.memory_desc_equal(weights_.inner[result], data.inner[result]);
        run(data, {dx, const_cast<float*>(weight), cotangent}, nullptr, is_there);
    }
};

// The convolution of this shape, prepared once: the latest `most` are kept. Several threads may use one at a time.
inline std::shared_ptr<Convolution> convolution(const ConvolutionShape& shape) {
    typedef std::pair<std::vector<int64_t>, std::shared_ptr<Convolution>> Entry;
    constexpr size_t most = 512;
    static std::mutex mutex;
    static std::list<Entry> entries;  // the latest first
    static std::map<std::vector<int64_t>, std::list<Entry>::iterator> places;
    const auto key = shape.key();
    const std::lock_guard<std::mutex> lock(mutex);
    if (const auto place = places.find(key); place != places.end()) {
        entries.splice(entries.begin(), entries, place->second);
    } else {
        entries.emplace_front(key, std::make_shared<Convolution>(shape));
        places[key] = entries.begin();
        if (entries.size() > most) {
            places.erase(entries.back().first);
            entries.pop_back();
        }
    }
    return entries.front().second;
}
