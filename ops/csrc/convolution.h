// Convolution, forward and backward, by oneDNN. Pointers in, pointers out; no Paddle here.
#pragma once

#include <array>
#include <list>
#include <map>
#include <mutex>
#include <vector>

#include "onednn.h"
#include "simd.h"

// One of the two or three axes of pictures and clips: its size, and the geometry of a convolution along it.
struct Axis {
    int64_t size, kernel, stride, padding, dilation;

    int64_t out() const { return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1; }
    bool is_pointwise() const { return kernel == 1 && stride == 1 && padding == 0; }
};

// x [images, channels, sizes] -> y [images, out_channels, out sizes], weight [out_channels, channels, kernel]. Layouts are
// plain, or x and y lie in blocks of 16 channels: [N, C / 16, sizes, 16].
struct ConvolutionShape {
    int64_t images, channels, out_channels;
    std::vector<Axis> axes;
    bool bias, blocks;
    int64_t threads;  // oneDNN cuts the work for as many when it prepares it

    int64_t positions() const {
        int64_t all = 1;
        for (const Axis& axis : axes) all *= axis.out();
        return all;
    }
    int64_t results() const { return images * out_channels * positions(); }
    std::vector<int64_t> sizes() const { return gathered([](const Axis& axis) { return axis.size; }); }
    std::vector<int64_t> outs() const { return gathered([](const Axis& axis) { return axis.out(); }); }
    template <class Of>
    std::vector<int64_t> gathered(Of of) const {
        std::vector<int64_t> values;
        for (const Axis& axis : axes) values.push_back(of(axis));
        return values;
    }
    // The same with height and width as one axis, where a convolution of clips is one over time alone: such kernels are
    // several times as fast. No value moves for it.
    ConvolutionShape flat() const {
        if (axes.size() < 3 || !axes[1].is_pointwise() || !axes[2].is_pointwise()) return *this;
        ConvolutionShape shape = *this;
        shape.axes = {axes[0], {axes[1].size * axes[2].size, 1, 1, 0, 1}};
        return shape;
    }
    std::vector<int64_t> key() const {
        std::vector<int64_t> key{images, channels, out_channels, bias, blocks, threads};
        for (const Axis& a : axes) key.insert(key.end(), {a.size, a.kernel, a.stride, a.padding, a.dilation});
        return key;
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

    enum Layout { any, plain, in_blocks };
    std::array<onednn::Owned<onednn::Desc>, 3> layouts(Layout images, Layout weights) const {
        const auto& s = shape_;
        const bool clips = s.axes.size() == 3;
        const auto made = [&](int64_t first, int64_t second, const std::vector<int64_t>& sizes, Layout layout) {
            std::vector<int64_t> all{first, second};
            all.insert(all.end(), sizes.begin(), sizes.end());
            const onednn::Tag tag = layout == any     ? onednn::any
                                    : layout == plain ? (clips ? onednn::ncdhw : onednn::nchw)
                                                      : (clips ? onednn::clips_in_blocks_of_16 : onednn::in_blocks_of_16);
            return onednn::layout(all.size(), all.data(), tag);
        };
        const auto kernel = s.gathered([](const Axis& axis) { return axis.kernel; });
        return {made(s.images, s.channels, s.sizes(), images), made(s.out_channels, s.channels, kernel, weights),
                made(s.images, s.out_channels, s.outs(), images)};
    }

    // The description of the pass that makes `output`. `free`: images may lie in whatever layout oneDNN likes.
    onednn::Owned<onednn::PrimitiveDesc> describe(Tensor output, bool free, const onednn::dnnl_primitive_desc* forward) const {
        using namespace onednn;
        const auto wish = layouts(free ? Layout::any : in_blocks, Layout::any);
        const auto& s = shape_;
        const ConstDesc x = wish[Convolution::source].get(), w = wish[Convolution::weights].get();
        const ConstDesc y = wish[Convolution::result].get(), b = s.bias ? bias_.get() : nullptr;
        const auto strides = s.gathered([](const Axis& axis) { return axis.stride; });
        const auto paddings = s.gathered([](const Axis& axis) { return axis.padding; });
        const auto gaps = s.gathered([](const Axis& axis) { return axis.dilation - 1; });
        const int64_t *const stride = strides.data(), *const between = gaps.data(), *const padding = paddings.data();
        PrimitiveDesc made;
        if (output == Convolution::result)
            check(call.convolution_forward_primitive_desc_create(&made, engine, training, direct, x, w, b, y, stride,
                                                                 between, padding, padding, attributes),
                  "convolution_forward");
        else if (output == Convolution::source)
            check(call.convolution_backward_data_primitive_desc_create(&made, engine, direct, x, w, y, stride, between,
                                                                       padding, padding, forward, attributes),
                  "convolution_backward_data");
        else
            check(call.convolution_backward_weights_primitive_desc_create(&made, engine, direct, x, w, b, y, stride,
                                                                          between, padding, padding, forward, attributes),
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
        : shape_(shape), outer_(layouts(shape.blocks ? in_blocks : plain, plain)),
          bias_(onednn::layout(1, &shape.out_channels, onednn::vector)) {}

    // Whether oneDNN, where it is free to choose, puts images in blocks of 16 channels and has a fast kernel for that. The
    // forward pass tells: for the gradient of x at a stride oneDNN may choose another layout, and be no faster for it.
    bool wants_blocks() const {
        const auto blocks = layouts(in_blocks, any);
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
inline std::shared_ptr<Convolution> convolution(const ConvolutionShape& given) {
    typedef std::pair<std::vector<int64_t>, std::shared_ptr<Convolution>> Entry;
    constexpr size_t most = 512;
    static std::mutex mutex;
    static std::list<Entry> entries;  // the latest first
    static std::map<std::vector<int64_t>, std::list<Entry>::iterator> places;
    const ConvolutionShape shape = given.flat();
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
