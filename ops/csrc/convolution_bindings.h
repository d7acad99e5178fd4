// Convolutions and residual blocks as Paddle operators for the CPU: a part of bindings.cc.
#pragma once

#include "paddle/extension.h"

#include "memory.h"
#include "normalize.h"
#include "residual.h"

using paddle::Tensor;
using Tensors = std::vector<Tensor>;

namespace {

int64_t positions_of(const Tensor& x) { return x.numel() / (x.shape()[0] * x.shape()[1]); }

// Numbers as a tensor, which is all that an operator can answer with.
Tensors answer(const Tensor& asked, const std::vector<int64_t>& numbers) {
    Tensor told = paddle::empty({int64_t(numbers.size())}, paddle::DataType::INT64, asked.place());
    std::copy(numbers.begin(), numbers.end(), told.data<int64_t>());
    return {told};
}

// Whether convolutions can be computed by `library`: an onednn::Binding, and the three numbers of its version.
Tensors bind_onednn(const Tensor& asked, std::string library) {
    const onednn::Binding binding = onednn::bind(library.c_str());
    if (binding != onednn::bound) return answer(asked, {binding, 0, 0, 0});
    const onednn::Version& version = *onednn::call.version();
    return answer(asked, {binding, version.major, version.minor, version.patch});
}

// The sizes of x [N, C, sizes], and all axes of what has such a shape.
std::vector<int64_t> sizes_of(const Tensor& x) {
    const auto shape = x.shape();
    return {shape.begin() + 2, shape.end()};
}
std::vector<int64_t> shape_of(int64_t images, int64_t channels, const std::vector<int64_t>& sizes) {
    std::vector<int64_t> shape{images, channels};
    shape.insert(shape.end(), sizes.begin(), sizes.end());
    return shape;
}

// `geometry`: stride, padding and dilation, along each axis. `parameters`: weight, and bias or not.
ConvolutionShape convolution_shape(int64_t images, const std::vector<int64_t>& sizes, const Tensor& weight,
                                   const int64_t* geometry, int threads) {
    const auto kernel = sizes_of(weight);
    const size_t axes = sizes.size();
    ConvolutionShape shape{images, weight.shape()[1], weight.shape()[0]};
    for (size_t axis = 0; axis < axes; ++axis)
        shape.axes.push_back({sizes[axis], kernel[axis], geometry[axis], geometry[axes + axis], geometry[2 * axes + axis]});
    shape.threads = threads;
    return shape;
}
ConvolutionShape convolution_shape(const Tensor& x, const Tensors& parameters, const std::vector<int64_t>& geometry) {
    ConvolutionShape shape =
        convolution_shape(x.shape()[0], sizes_of(x), parameters[0], geometry.data(), settled_team());
    shape.bias = parameters.size() > 1;
    return shape;
}

Tensor nothing(const Tensor& like) { return paddle::empty({1}, like.dtype(), like.place()); }

Tensors conv(const Tensor& x, const Tensors& parameters, std::vector<int64_t> geometry, std::vector<int64_t> wanted) {
    const ConvolutionShape shape = convolution_shape(x, parameters, geometry);
    Tensor y = paddle::empty(shape_of(shape.images, shape.out_channels, shape.outs()), x.dtype(), x.place());
    convolution(shape)->forward(x.data<float>(), parameters[0].data<float>(),
                                shape.bias ? parameters[1].data<float>() : nullptr, y.data<float>());
    return {y};
}
// `wanted`: whose gradients are, of x, weight and bias. Paddle demands a tensor for the others too, and drops it.
Tensors conv_grad(const Tensor& x, const Tensors& parameters, const Tensor& dy, std::vector<int64_t> geometry,
                  std::vector<int64_t> wanted) {
    const ConvolutionShape shape = convolution_shape(x, parameters, geometry);
    Tensors gradients(1 + parameters.size(), nothing(x));
    const bool of_parameters = std::count(wanted.begin() + 1, wanted.end(), 1);
    if (wanted[0]) gradients[0] = paddle::empty_like(x);
    for (size_t i = 0; of_parameters && i < parameters.size(); ++i) gradients[1 + i] = paddle::empty_like(parameters[i]);
    convolution(shape)->backward(
        x.data<float>(), parameters[0].data<float>(), dy.data<float>(), wanted[0] ? gradients[0].data<float>() : nullptr,
        of_parameters ? gradients[1].data<float>() : nullptr,
        of_parameters && shape.bias ? gradients[2].data<float>() : nullptr);
    return gradients;
}

DeformConv deformable_operation(const ConvolutionShape& shape, int64_t deformable_groups) {
    const Axis &vertical = shape.axes[0], &horizontal = shape.axes[1];
    DeformConv op{shape.images, shape.channels, vertical.size, horizontal.size, shape.out_channels, vertical.out(),
                  horizontal.out()};
    for (int axis = 0; axis < 2; ++axis) {
        op.kernel[axis] = shape.axes[axis].kernel;
        op.stride[axis] = shape.axes[axis].stride;
        op.padding[axis] = shape.axes[axis].padding;
        op.dilation[axis] = shape.axes[axis].dilation;
    }
    op.groups = 1;
    op.deformable_groups = deformable_groups;
    return op;
}

enum NormKind { of_groups, of_workers, given };

// The blocks that `plan` describes: its norms' kind; for each block the number of its convolutions, without the shortcut's,
// and of those in its shortcut, 0 or 1; for each of both stride, padding, dilation (along each axis of x), its norm's
// groups or images per worker, deformable groups or 0, and what a deformable one's modulation is at most or 0.
// `parameters`: weight, gamma and beta of each convolution, and, but for groups, running mean and variance. A deformable
// convolution, one of deformable groups, has its branch's weight and bias behind its own. `gradients` (of x and of all
// parameters) may be empty, as may those that are not `wanted`.
ResidualBlocks residual(const Tensor& x, const Tensors& parameters, const std::vector<int64_t>& plan, double eps,
                        Tensors* gradients, const std::vector<int64_t>& wanted) {
    const int64_t images = x.shape()[0];
    const NormKind kind = NormKind(plan[0]);
    const int threads = settled_team();
    const int64_t* next = plan.data() + 1;
    size_t parameter = 0;
    const auto value = [&](size_t i) { return const_cast<float*>(parameters[i].data<float>()); };
    const auto gradient = [&](size_t i) -> float* {
        if (!gradients || !wanted[1 + i]) return nullptr;
        (*gradients)[1 + i] = paddle::empty_like(parameters[i]);
        return (*gradients)[1 + i].data<float>();
    };
    const auto conv_norm = [&](const std::vector<int64_t>& sizes) {
        ConvNorm one{};
        one.shape = convolution_shape(images, sizes, parameters[parameter], next, threads);
        one.shape.blocks = true;
        one.norm = {images, one.shape.out_channels, one.shape.positions()};
        const int64_t* const more = next + 3 * sizes.size();
        (kind == of_groups ? one.norm.groups : one.norm.images_per_worker) = kind == given ? 0 : more[0];
        one.norm.eps = eps;
        one.weight = value(parameter), one.dweight = gradient(parameter);
        if (more[1]) {
            BlockedDeformConv& deformable = one.deformable.emplace();
            deformable.op = deformable_operation(one.shape, more[1]);
            deformable.modulation = more[2];
            deformable.branch = convolution_shape(images, sizes, parameters[parameter + 1], next, threads);
            deformable.branch.bias = true;
            deformable.branch_weight = value(parameter + 1), deformable.branch_bias = value(parameter + 2);
            if (gradients && (wanted[parameter + 2] || wanted[parameter + 3])) {  // oneDNN computes both or none
                for (const size_t i : {parameter + 1, parameter + 2})
                    (*gradients)[1 + i] = paddle::empty_like(parameters[i]);
                deformable.dbranch_weight = (*gradients)[parameter + 2].data<float>();
                deformable.dbranch_bias = (*gradients)[parameter + 3].data<float>();
            }
            parameter += 2;
        }
        one.gamma = value(parameter + 1), one.dgamma = gradient(parameter + 1);
        one.beta = value(parameter + 2), one.dbeta = gradient(parameter + 2);
        if (kind != of_groups) one.running_mean = value(parameter + 3), one.running_variance = value(parameter + 4);
        parameter += kind == of_groups ? 3 : 5;
        next = more + 3;
        return one;
    };
    std::vector<int64_t> sizes = sizes_of(x);
    std::vector<ResidualBlock> blocks;
    while (next < plan.data() + plan.size()) {
        ResidualBlock block{};
        const int64_t path = *next++, shortcut = *next++;
        auto inner = sizes;
        for (int64_t i = 0; i < path; ++i) {
            block.path.push_back(conv_norm(inner));
            inner = block.path.back().shape.outs();
        }
        for (int64_t i = 0; i < shortcut; ++i) block.shortcut.push_back(conv_norm(sizes));
        sizes = inner;
        blocks.push_back(std::move(block));
    }
    return ResidualBlocks(images, x.shape()[1], positions_of(x), std::move(blocks));
}

// Whether oneDNN wants all these tensors in blocks of 16 channels.
Tensors residual_blocks_serve(const Tensor& x, const Tensors& parameters, std::vector<int64_t> plan) {
    return answer(x, {residual(x, parameters, plan, 0, nullptr, {}).wants_blocks()});
}

// The parameters as they are used. Weights that are marked have each filter standardised, which is its layer norm: its mean
// taken off, divided by its deviation. Beside a step of few images an operator for each weight costs as much as the step.
class Used {
    static constexpr float gamma_ = 1, beta_ = 0;
    struct Standardized {
        size_t parameter;
        Sets sets;
        Tensor mean, scale;
    };
    const Tensors& learned_;
    std::vector<Standardized> standardized_;

   public:
    Tensors parameters;

    Used(const Tensors& learned, const std::vector<int64_t>& marked, double eps) : learned_(learned), parameters(learned) {
        for (size_t i = 0; i < learned.size(); ++i) {
            if (!marked[i]) continue;
            const Tensor& weight = learned[i];
            const int64_t filters = weight.shape()[0];
            const auto of_filters = [&] { return paddle::empty({filters}, weight.dtype(), weight.place()); };
            standardized_.push_back({i, Sets::group_norm(filters, 1, weight.numel() / filters, 1), of_filters(), of_filters()});
            Standardized& one = standardized_.back();
            parameters[i] = paddle::empty_like(weight);
            normalize<float, Cut::none>(one.sets, weight.data<float>(), {&gamma_, &beta_}, eps, parameters[i].data<float>(),
                                        {one.mean.data<float>(), one.scale.data<float>()}, nullptr, nullptr);
        }
    }
    // Gradients of what is used become those of what is learned; the first of them is x's, and what is not wanted is empty.
    void differentiate(Tensors& gradients, const std::vector<int64_t>& wanted) const {
        for (const auto& [i, sets, mean, scale] : standardized_) {
            if (!wanted[1 + i]) continue;
            float of_gamma, of_beta;
            Tensor gradient = paddle::empty_like(learned_[i]);
            normalize_backward<float, Cut::none>(sets, learned_[i].data<float>(), {&gamma_, &beta_},
                                                 {mean.data<float>(), scale.data<float>()}, gradients[1 + i].data<float>(),
                                                 gradient.data<float>(), {&of_gamma, &of_beta});
            gradients[1 + i] = gradient;
        }
    }
};

Tensors residual_blocks(const Tensor& x, const Tensors& parameters, std::vector<int64_t> plan, std::vector<int64_t> wanted,
                        std::vector<int64_t> standardized, float filter_eps, float eps, float momentum,
                        bool mean_of_workers) {
    const Used used(parameters, standardized, filter_eps);
    ResidualBlocks blocks = residual(x, used.parameters, plan, eps, nullptr, wanted);
    const bool keeps = std::count(wanted.begin(), wanted.end(), 1);
    const auto room = [&](int64_t size) { return paddle::empty({size}, x.dtype(), x.place()); };
    Tensor y = paddle::empty(blocks.result(), x.dtype(), x.place()), kept = room(blocks.room_forward(keeps));
    blocks.forward(x.data<float>(), keeps, kept.data<float>(), momentum, mean_of_workers, y.data<float>());
    return {y, keeps ? kept : nothing(x)};
}
Tensors residual_blocks_grad(const Tensor& x, const Tensors& parameters, const Tensor& y, const Tensor& kept,
                             const Tensor& dy, std::vector<int64_t> plan, std::vector<int64_t> wanted,
                             std::vector<int64_t> standardized, float filter_eps, float eps, float momentum,
                             bool mean_of_workers) {
    Tensors gradients(1 + parameters.size(), nothing(x));
    if (wanted[0]) gradients[0] = paddle::empty_like(x);
    const Used used(parameters, standardized, filter_eps);
    ResidualBlocks blocks = residual(x, used.parameters, plan, eps, &gradients, wanted);
    Tensor room = paddle::empty({blocks.room_backward()}, x.dtype(), x.place());
    blocks.backward(const_cast<float*>(kept.data<float>()), y.data<float>(), dy.data<float>(), room.data<float>(),
                    wanted[0] ? gradients[0].data<float>() : nullptr);
    used.differentiate(gradients, wanted);
    return gradients;
}

}  // namespace

PD_BUILD_OP(native_residual_blocks_serve)
    .Inputs({"X", paddle::Vec("Parameters")})
    .Outputs({"Answer"})
    .Attrs({"plan: std::vector<int64_t>"})
    .SetKernelFn(PD_KERNEL(Guarded<residual_blocks_serve>::run));
PD_BUILD_OP(native_residual_blocks)
    .Inputs({"X", paddle::Vec("Parameters")})
    .Outputs({"Y", "Kept"})
    .Attrs({"plan: std::vector<int64_t>", "wanted: std::vector<int64_t>", "standardized: std::vector<int64_t>",
            "filter_eps: float", "eps: float", "momentum: float", "mean_of_workers: bool"})
    .SetKernelFn(PD_KERNEL(Guarded<residual_blocks>::run));
PD_BUILD_GRAD_OP(native_residual_blocks)
    .Inputs({"X", paddle::Vec("Parameters"), "Y", "Kept", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad(paddle::Vec("Parameters"))})
    .Attrs({"plan: std::vector<int64_t>", "wanted: std::vector<int64_t>", "standardized: std::vector<int64_t>",
            "filter_eps: float", "eps: float", "momentum: float", "mean_of_workers: bool"})
    .SetKernelFn(PD_KERNEL(Guarded<residual_blocks_grad>::run));

PD_BUILD_OP(native_bind_onednn)
    .Inputs({"Asked"})
    .Outputs({"Answer"})
    .Attrs({"library: std::string"})
    .SetKernelFn(PD_KERNEL(Guarded<bind_onednn>::run));

PD_BUILD_OP(native_conv)
    .Inputs({"X", paddle::Vec("Parameters")})
    .Outputs({"Y"})
    .Attrs({"geometry: std::vector<int64_t>", "wanted: std::vector<int64_t>"})
    .SetKernelFn(PD_KERNEL(Guarded<conv>::run));
PD_BUILD_GRAD_OP(native_conv)
    .Inputs({"X", paddle::Vec("Parameters"), paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad(paddle::Vec("Parameters"))})
    .Attrs({"geometry: std::vector<int64_t>", "wanted: std::vector<int64_t>"})
    .SetKernelFn(PD_KERNEL(Guarded<conv_grad>::run));
