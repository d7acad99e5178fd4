// The kernels as Paddle operators for the CPU. ops/native.py builds and loads this; the functions of ops/ check
// shapes and dtypes.
#include "paddle/extension.h"

#include "convolution_bindings.h"
#include "deform_conv.h"
#include "evonorm.h"
#include "memory.h"
#include "normalize.h"
#include "roi_pooling.h"

using paddle::Tensor;
using Tensors = std::vector<Tensor>;

namespace {

// threshold: null where there is none to learn.
template <class T>
Learned<const T> learned(const Tensor& gamma, const Tensor& beta, const Tensor* threshold = nullptr) {
    return {gamma.data<T>(), beta.data<T>(), threshold ? threshold->data<T>() : nullptr};
}

// Batch renorm's: running vectors and limits, and the r and d that come of them.
struct Renorm {
    const Tensor &mean, &variance;
    float r_max, d_max;
    Tensor r, d;
};

// One value for each set.
Tensor of_sets(const Sets& sets, const Tensor& x) { return paddle::empty({sets.outer, sets.inner}, x.dtype(), x.place()); }

// y, mean and scale.
Tensors normalize_forward(const Sets& sets, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                          const Tensor* threshold, double eps, bool relu, Tensor* variance, Renorm* renorm = nullptr) {
    Tensor y = paddle::empty_like(x), mean = of_sets(sets, x), scale = of_sets(sets, x);
    if (renorm) renorm->r = of_sets(sets, x), renorm->d = of_sets(sets, x);
    PD_DISPATCH_FLOATING_TYPES(x.type(), "normalize", ([&] {
        Statistics<data_t> statistics{mean.data<data_t>(), scale.data<data_t>()};
        Running<data_t> running;
        if (renorm) {
            statistics.r = renorm->r.data<data_t>(), statistics.d = renorm->d.data<data_t>();
            running = {renorm->mean.data<data_t>(), renorm->variance.data<data_t>(), renorm->r_max, renorm->d_max};
        }
        (threshold ? normalize<data_t, Cut::threshold> : relu ? normalize<data_t, Cut::relu> : normalize<data_t, Cut::none>)(
            sets, x.data<data_t>(), learned<data_t>(gamma, beta, threshold), eps, y.data<data_t>(), statistics,
            variance ? variance->data<data_t>() : nullptr, renorm ? &running : nullptr);
    }));
    return {y, mean, scale};
}

Tensors normalize_gradients(const Sets& sets, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                            const Tensor* threshold, const Tensor& mean, const Tensor& scale, const Tensor& dy, bool relu,
                            const Tensor* r = nullptr, const Tensor* d = nullptr) {
    Tensors gradients{paddle::empty_like(x), paddle::empty_like(gamma), paddle::empty_like(beta)};
    if (threshold) gradients.push_back(paddle::empty_like(*threshold));
    PD_DISPATCH_FLOATING_TYPES(x.type(), "normalize_backward", ([&] {
        const Statistics<const data_t> statistics{mean.data<data_t>(), scale.data<data_t>(),
                                                  r ? r->data<data_t>() : nullptr, d ? d->data<data_t>() : nullptr};
        (threshold ? normalize_backward<data_t, Cut::threshold> : relu ? normalize_backward<data_t, Cut::relu>
                                                                       : normalize_backward<data_t, Cut::none>)(
            sets, x.data<data_t>(), learned<data_t>(gamma, beta, threshold), statistics, dy.data<data_t>(),
            gradients[0].data<data_t>(), {gradients[1].data<data_t>(), gradients[2].data<data_t>(),
                                          threshold ? gradients[3].data<data_t>() : nullptr});
    }));
    return gradients;
}

Sets group_sets(const Tensor& x, int64_t groups) {
    return Sets::group_norm(x.shape()[0], x.shape()[1], positions_of(x), groups);
}
Sets worker_sets(const Tensor& x, int64_t images_per_worker) {
    return Sets::batch_norm(x.shape()[0], x.shape()[1], positions_of(x), images_per_worker);
}

Tensors group_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, int64_t groups, float eps, bool relu) {
    return normalize_forward(group_sets(x, groups), x, gamma, beta, nullptr, eps, relu, nullptr);
}
Tensors group_norm_grad(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                        const Tensor& scale, const Tensor& dy, int64_t groups, float eps, bool relu) {
    return normalize_gradients(group_sets(x, groups), x, gamma, beta, nullptr, mean, scale, dy, relu);
}

// The running vectors change in place, as in Paddle's own operator. They are inputs all the same: what a custom operator
// declares to be in place becomes part of the graph, and the next call refuses it.
Tensors normalize_workers(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                          const Tensor& running_variance, int64_t images_per_worker, float eps, float momentum,
                          bool mean_of_workers, bool relu, Renorm* renorm) {
    const Sets sets = worker_sets(x, images_per_worker);
    Tensor variance = of_sets(sets, x);
    Tensors outputs = normalize_forward(sets, x, gamma, beta, nullptr, eps, relu, &variance, renorm);
    PD_DISPATCH_FLOATING_TYPES(x.type(), "running_statistics", ([&] {
        const int64_t workers = mean_of_workers ? sets.outer : 1;
        for (auto [running, batch] : {std::pair(&running_mean, &outputs[1]), std::pair(&running_variance, &variance)})
            mix_into(const_cast<data_t*>(running->data<data_t>()), batch->data<data_t>(), workers, sets.inner, momentum);
    }));
    return outputs;
}

Tensors batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                   const Tensor& running_variance, int64_t images_per_worker, float eps, float momentum, bool mean_of_workers,
                   bool relu) {
    return normalize_workers(x, gamma, beta, running_mean, running_variance, images_per_worker, eps, momentum,
                             mean_of_workers, relu, nullptr);
}
Tensors batch_norm_grad(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                        const Tensor& scale, const Tensor& dy, int64_t images_per_worker, float eps, float momentum,
                        bool mean_of_workers, bool relu) {
    return normalize_gradients(worker_sets(x, images_per_worker), x, gamma, beta, nullptr, mean, scale, dy, relu);
}

Tensors batch_renorm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                     const Tensor& running_variance, int64_t images_per_worker, float eps, float momentum,
                     bool mean_of_workers, bool relu, float r_max, float d_max) {
    Renorm renorm{running_mean, running_variance, r_max, d_max};
    Tensors outputs = normalize_workers(x, gamma, beta, running_mean, running_variance, images_per_worker, eps, momentum,
                                        mean_of_workers, relu, &renorm);
    outputs.insert(outputs.end(), {renorm.r, renorm.d});
    return outputs;
}
Tensors batch_renorm_grad(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                          const Tensor& scale, const Tensor& r, const Tensor& d, const Tensor& dy,
                          int64_t images_per_worker, float eps, float momentum, bool mean_of_workers, bool relu,
                          float r_max, float d_max) {
    return normalize_gradients(worker_sets(x, images_per_worker), x, gamma, beta, nullptr, mean, scale, dy, relu, &r, &d);
}

Sets map_sets(const Tensor& x) { return Sets::filter_response_norm(x.shape()[0], x.shape()[1], positions_of(x)); }

// A threshold of -infinity cuts nothing off.
Tensors filter_response_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& threshold, float eps) {
    return normalize_forward(map_sets(x), x, gamma, beta, &threshold, eps, false, nullptr);
}
Tensors filter_response_norm_grad(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& threshold,
                                  const Tensor& mean, const Tensor& scale, const Tensor& dy, float eps) {
    return normalize_gradients(map_sets(x), x, gamma, beta, &threshold, mean, scale, dy, false);
}

Tensors thresholded_linear(const Tensor& x, const Tensor& threshold) {
    Tensor y = paddle::empty_like(x);
    PD_DISPATCH_FLOATING_TYPES(x.type(), "cut_off", ([&] {
        cut_off(map_sets(x), x.data<data_t>(), threshold.data<data_t>(), y.data<data_t>());
    }));
    return {y};
}
Tensors thresholded_linear_grad(const Tensor& x, const Tensor& threshold, const Tensor& dy) {
    Tensor dx = paddle::empty_like(x), dthreshold = paddle::empty_like(threshold);
    PD_DISPATCH_FLOATING_TYPES(x.type(), "cut_off_backward", ([&] {
        cut_off_backward(map_sets(x), x.data<data_t>(), threshold.data<data_t>(), dy.data<data_t>(), dx.data<data_t>(),
                         dthreshold.data<data_t>());
    }));
    return {dx, dthreshold};
}

Tensors evonorm_s0(const Tensor& x, const Tensor& slope, const Tensor& gamma, const Tensor& beta, int64_t groups, float eps) {
    const Sets sets = group_sets(x, groups);
    Tensor y = paddle::empty_like(x), mean = of_sets(sets, x), scale = of_sets(sets, x);
    PD_DISPATCH_FLOATING_TYPES(x.type(), "evonorm", ([&] {
        evonorm(sets, x.data<data_t>(), slope.data<data_t>(), gamma.data<data_t>(), beta.data<data_t>(), eps,
                y.data<data_t>(), mean.data<data_t>(), scale.data<data_t>());
    }));
    return {y, mean, scale};
}
Tensors evonorm_s0_grad(const Tensor& x, const Tensor& slope, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                        const Tensor& scale, const Tensor& dy, int64_t groups, float eps) {
    Tensors gradients;
    for (const Tensor* of : {&x, &slope, &gamma, &beta}) gradients.push_back(paddle::empty_like(*of));
    PD_DISPATCH_FLOATING_TYPES(x.type(), "evonorm_backward", ([&] {
        evonorm_backward(group_sets(x, groups), x.data<data_t>(), slope.data<data_t>(), gamma.data<data_t>(),
                         mean.data<data_t>(), scale.data<data_t>(), dy.data<data_t>(), gradients[0].data<data_t>(),
                         gradients[1].data<data_t>(), gradients[2].data<data_t>(), gradients[3].data<data_t>());
    }));
    return gradients;
}

// `geometry`: stride, padding and dilation, vertical and horizontal each, groups, deformable groups.
DeformConv operation(const Tensor& x, const Tensor& offset, const Tensor& weight, const std::vector<int64_t>& geometry) {
    DeformConv op{x.shape()[0], x.shape()[1], x.shape()[2], x.shape()[3], weight.shape()[0], offset.shape()[2],
                  offset.shape()[3]};
    for (int axis = 0; axis < 2; ++axis) {
        op.kernel[axis] = weight.shape()[2 + axis];
        op.stride[axis] = geometry[axis];
        op.padding[axis] = geometry[2 + axis];
        op.dilation[axis] = geometry[4 + axis];
    }
    op.groups = geometry[6];
    op.deformable_groups = geometry[7];
    return op;
}

Tensors convolve(const Tensor& x, const Tensor& offset, const Tensor* mask, const Tensor& weight,
                 const std::vector<int64_t>& geometry) {
    const DeformConv op = operation(x, offset, weight, geometry);
    Tensor y = paddle::empty({op.images, op.out_channels, op.out_height, op.out_width}, x.dtype(), x.place());
    PD_DISPATCH_FLOATING_TYPES(x.type(), "deform_conv2d", ([&] {
        deform_conv2d(op, x.data<data_t>(), offset.data<data_t>(), mask ? mask->data<data_t>() : nullptr,
                      weight.data<data_t>(), y.data<data_t>());
    }));
    return {y};
}
Tensors convolve_gradients(const Tensor& x, const Tensor& offset, const Tensor* mask, const Tensor& weight,
                           const Tensor& dy, const std::vector<int64_t>& geometry) {
    const DeformConv op = operation(x, offset, weight, geometry);
    Tensors gradients{paddle::empty_like(x), paddle::empty_like(offset), paddle::empty_like(weight)};
    if (mask) gradients.push_back(paddle::empty_like(*mask));
    PD_DISPATCH_FLOATING_TYPES(x.type(), "deform_conv2d_backward", ([&] {
        deform_conv2d_backward(op, x.data<data_t>(), offset.data<data_t>(), mask ? mask->data<data_t>() : nullptr,
                               weight.data<data_t>(), dy.data<data_t>(), gradients[0].data<data_t>(),
                               gradients[1].data<data_t>(), mask ? gradients[3].data<data_t>() : nullptr,
                               gradients[2].data<data_t>());
    }));
    return gradients;
}

Tensors deform_conv2d_v1(const Tensor& x, const Tensor& offset, const Tensor& weight, std::vector<int64_t> geometry) {
    return convolve(x, offset, nullptr, weight, geometry);
}
Tensors deform_conv2d_v1_grad(const Tensor& x, const Tensor& offset, const Tensor& weight, const Tensor& dy,
                              std::vector<int64_t> geometry) {
    return convolve_gradients(x, offset, nullptr, weight, dy, geometry);
}
Tensors deform_conv2d_v2(const Tensor& x, const Tensor& offset, const Tensor& weight, const Tensor& mask,
                         std::vector<int64_t> geometry) {
    return convolve(x, offset, &mask, weight, geometry);
}
Tensors deform_conv2d_v2_grad(const Tensor& x, const Tensor& offset, const Tensor& weight, const Tensor& mask,
                              const Tensor& dy, std::vector<int64_t> geometry) {
    return convolve_gradients(x, offset, &mask, weight, dy, geometry);
}

RoIPooling pooling_of(const Tensor& x, const Tensor& points, bool maps_of_bins) {
    const auto from = x.shape(), to = points.shape();
    return {from[1], from[2], from[3], to[0], to[1], to[2] * to[3], to[4], maps_of_bins};
}
Tensors roi_pooling(const Tensor& x, const Tensor& point_y, const Tensor& point_x, const Tensor& image, bool maps_of_bins,
                    bool points_learn) {
    const RoIPooling op = pooling_of(x, point_y, maps_of_bins);
    Tensor y = paddle::empty({op.boxes, op.results(), point_y.shape()[2], point_y.shape()[3]}, x.dtype(), x.place());
    PD_DISPATCH_FLOATING_TYPES(x.type(), "roi_pooling", ([&] {
        pool_boxes(op, x.data<data_t>(), point_y.data<data_t>(), point_x.data<data_t>(), image.data<int64_t>(),
                    y.data<data_t>());
    }));
    return {y};
}
Tensors roi_pooling_grad(const Tensor& x, const Tensor& point_y, const Tensor& point_x, const Tensor& image,
                         const Tensor& dy, bool maps_of_bins, bool points_learn) {
    const RoIPooling op = pooling_of(x, point_y, maps_of_bins);
    Tensors gradients;
    for (const Tensor* of : {&x, &point_y, &point_x})
        gradients.push_back(paddle::full(of->shape(), 0, of->dtype(), of->place()));
    PD_DISPATCH_FLOATING_TYPES(x.type(), "roi_pooling_backward", ([&] {
        const data_t *y_points = point_y.data<data_t>(), *x_points = point_x.data<data_t>(), *cotangent = dy.data<data_t>();
        const Reads<data_t> reads(op, y_points, x_points);
        pool_boxes_to_image(op, reads, image.data<int64_t>(), cotangent, gradients[0].data<data_t>());
        if (points_learn)
            pool_boxes_to_points(op, reads, x.data<data_t>(), y_points, x_points, image.data<int64_t>(), cotangent,
                                  gradients[1].data<data_t>(), gradients[2].data<data_t>());
    }));
    return gradients;
}

}  // namespace

PD_BUILD_OP(native_group_norm)
    .Inputs({"X", "Gamma", "Beta"})
    .Outputs({"Y", "Mean", "Scale"})
    .Attrs({"groups: int64_t", "eps: float", "relu: bool"})
    .SetKernelFn(PD_KERNEL(Guarded<group_norm>::run));
PD_BUILD_GRAD_OP(native_group_norm)
    .Inputs({"X", "Gamma", "Beta", "Mean", "Scale", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Gamma"), paddle::Grad("Beta")})
    .Attrs({"groups: int64_t", "eps: float", "relu: bool"})
    .SetKernelFn(PD_KERNEL(Guarded<group_norm_grad>::run));

PD_BUILD_OP(native_batch_norm)
    .Inputs({"X", "Gamma", "Beta", "RunningMean", "RunningVariance"})
    .Outputs({"Y", "Mean", "Scale"})
    .Attrs({"images_per_worker: int64_t", "eps: float", "momentum: float", "mean_of_workers: bool", "relu: bool"})
    .SetKernelFn(PD_KERNEL(Guarded<batch_norm>::run));
PD_BUILD_GRAD_OP(native_batch_norm)
    .Inputs({"X", "Gamma", "Beta", "Mean", "Scale", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Gamma"), paddle::Grad("Beta")})
    .Attrs({"images_per_worker: int64_t", "eps: float", "momentum: float", "mean_of_workers: bool", "relu: bool"})
    .SetKernelFn(PD_KERNEL(Guarded<batch_norm_grad>::run));

PD_BUILD_OP(native_batch_renorm)
    .Inputs({"X", "Gamma", "Beta", "RunningMean", "RunningVariance"})
    .Outputs({"Y", "Mean", "Scale", "R", "D"})
    .Attrs({"images_per_worker: int64_t", "eps: float", "momentum: float", "mean_of_workers: bool", "relu: bool",
            "r_max: float", "d_max: float"})
    .SetKernelFn(PD_KERNEL(Guarded<batch_renorm>::run));
PD_BUILD_GRAD_OP(native_batch_renorm)
    .Inputs({"X", "Gamma", "Beta", "Mean", "Scale", "R", "D", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Gamma"), paddle::Grad("Beta")})
    .Attrs({"images_per_worker: int64_t", "eps: float", "momentum: float", "mean_of_workers: bool", "relu: bool",
            "r_max: float", "d_max: float"})
    .SetKernelFn(PD_KERNEL(Guarded<batch_renorm_grad>::run));

PD_BUILD_OP(native_filter_response_norm)
    .Inputs({"X", "Gamma", "Beta", "Threshold"})
    .Outputs({"Y", "Mean", "Scale"})
    .Attrs({"eps: float"})
    .SetKernelFn(PD_KERNEL(Guarded<filter_response_norm>::run));
PD_BUILD_GRAD_OP(native_filter_response_norm)
    .Inputs({"X", "Gamma", "Beta", "Threshold", "Mean", "Scale", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Gamma"), paddle::Grad("Beta"), paddle::Grad("Threshold")})
    .Attrs({"eps: float"})
    .SetKernelFn(PD_KERNEL(Guarded<filter_response_norm_grad>::run));

PD_BUILD_OP(native_thresholded_linear)
    .Inputs({"X", "Threshold"})
    .Outputs({"Y"})
    .SetKernelFn(PD_KERNEL(Guarded<thresholded_linear>::run));
PD_BUILD_GRAD_OP(native_thresholded_linear)
    .Inputs({"X", "Threshold", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Threshold")})
    .SetKernelFn(PD_KERNEL(Guarded<thresholded_linear_grad>::run));

PD_BUILD_OP(native_evonorm_s0)
    .Inputs({"X", "Slope", "Gamma", "Beta"})
    .Outputs({"Y", "Mean", "Scale"})
    .Attrs({"groups: int64_t", "eps: float"})
    .SetKernelFn(PD_KERNEL(Guarded<evonorm_s0>::run));
PD_BUILD_GRAD_OP(native_evonorm_s0)
    .Inputs({"X", "Slope", "Gamma", "Beta", "Mean", "Scale", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Slope"), paddle::Grad("Gamma"), paddle::Grad("Beta")})
    .Attrs({"groups: int64_t", "eps: float"})
    .SetKernelFn(PD_KERNEL(Guarded<evonorm_s0_grad>::run));

PD_BUILD_OP(native_deform_conv2d_v1)
    .Inputs({"X", "Offset", "Weight"})
    .Outputs({"Y"})
    .Attrs({"geometry: std::vector<int64_t>"})
    .SetKernelFn(PD_KERNEL(Guarded<deform_conv2d_v1>::run));
PD_BUILD_GRAD_OP(native_deform_conv2d_v1)
    .Inputs({"X", "Offset", "Weight", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Offset"), paddle::Grad("Weight")})
    .Attrs({"geometry: std::vector<int64_t>"})
    .SetKernelFn(PD_KERNEL(Guarded<deform_conv2d_v1_grad>::run));

PD_BUILD_OP(native_deform_conv2d_v2)
    .Inputs({"X", "Offset", "Weight", "Mask"})
    .Outputs({"Y"})
    .Attrs({"geometry: std::vector<int64_t>"})
    .SetKernelFn(PD_KERNEL(Guarded<deform_conv2d_v2>::run));
PD_BUILD_GRAD_OP(native_deform_conv2d_v2)
    .Inputs({"X", "Offset", "Weight", "Mask", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("Offset"), paddle::Grad("Weight"), paddle::Grad("Mask")})
    .Attrs({"geometry: std::vector<int64_t>"})
    .SetKernelFn(PD_KERNEL(Guarded<deform_conv2d_v2_grad>::run));

PD_BUILD_OP(native_roi_pooling)
    .Inputs({"X", "PointY", "PointX", "Image"})
    .Outputs({"Y"})
    .Attrs({"maps_of_bins: bool", "points_learn: bool"})
    .SetKernelFn(PD_KERNEL(Guarded<roi_pooling>::run));
PD_BUILD_GRAD_OP(native_roi_pooling)
    .Inputs({"X", "PointY", "PointX", "Image", paddle::Grad("Y")})
    .Outputs({paddle::Grad("X"), paddle::Grad("PointY"), paddle::Grad("PointX")})
    .Attrs({"maps_of_bins: bool", "points_learn: bool"})
    .SetKernelFn(PD_KERNEL(Guarded<roi_pooling_grad>::run));
