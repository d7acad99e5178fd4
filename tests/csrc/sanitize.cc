// Runs the kernels of ops/csrc, without Paddle, for a sanitizer to watch: every array is exactly as long as the kernels
// are told. Each argument is one case; it runs in float and double, on several numbers of threads:
//   gn,N,C,S,groups   bn,N,C,S,images_per_worker   and both with a b before them: in blocks of 16 channels, in float
//   frn,N,C,S   evonorm,N,C,S,groups
//   dcn,N,C,H,W,C_out,kernel y,x,stride y,x,padding y,x,dilation y,x,groups,deformable groups
//   roi,N,C,H,W,boxes,groups,bins,samples,has maps of its own for each bin
// It also checks what needs no reference: nothing is left unwritten, a second run gives the same bits, and another
// number of threads the same values.
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <sstream>
#include <string>

#include "../../ops/csrc/blocked_norm.h"
#include "../../ops/csrc/deform_conv.h"
#include "../../ops/csrc/evonorm.h"
#include "../../ops/csrc/normalize.h"
#include "../../ops/csrc/roi_pooling.h"

template <class T>
void plain_gemm(int op_a, int op_b, int m, int n, int k, const T* a, int lda, const T* b, int ldb, T beta, T* c,
                int ldc) {
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) {
            T sum = 0;
            for (int l = 0; l < k; ++l)
                sum += (op_a == transposed ? a[l * lda + i] : a[i * lda + l]) *
                       (op_b == transposed ? b[j * ldb + l] : b[l * ldb + j]);
            c[i * ldc + j] = beta ? sum + beta * c[i * ldc + j] : sum;
        }
}
void cblas_sgemm(int, int op_a, int op_b, int m, int n, int k, float, const float* a, int lda, const float* b, int ldb,
                 float beta, float* c, int ldc) {
    plain_gemm(op_a, op_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
}
void cblas_dgemm(int, int op_a, int op_b, int m, int n, int k, double, const double* a, int lda, const double* b,
                 int ldb, double beta, double* c, int ldc) {
    plain_gemm(op_a, op_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

// `size` values of the heap and not one more.
template <class T>
struct Array {
    int64_t size;
    T* data;

    explicit Array(int64_t size) : size(size), data(static_cast<T*>(std::malloc(size * sizeof(T)))) {
        std::fill_n(data, size, std::numeric_limits<T>::quiet_NaN());
    }
    Array(int64_t size, double low, double high, int seed) : Array(size) {
        std::mt19937 random(seed);
        std::uniform_real_distribution<double> values(low, high);
        for (int64_t i = 0; i < size; ++i) data[i] = values(random);
    }
    Array(Array&& other) : size(other.size), data(other.data) { other.data = nullptr; }
    Array(const Array&) = delete;
    ~Array() { std::free(data); }
};
template <class T>
using Arrays = std::vector<Array<T>>;

void wrong(const char* what, const std::string& name) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), what);
    std::exit(1);
}

// `run(outputs)` fills arrays of these sizes.
template <class T, class Run>
void check(const std::string& name, const std::vector<int64_t>& sizes, bool finite, Run run) {
    const auto outputs = [&](int threads) {
        omp_set_num_threads(threads);
        Arrays<T> made;
        for (int64_t size : sizes) made.emplace_back(size);
        run(made);
        return made;
    };
    const Arrays<T> alone = outputs(1);
    for (int threads : {1, 2, 3, 7}) {
        const Arrays<T> first = outputs(threads), second = outputs(threads);
        for (size_t a = 0; a < sizes.size(); ++a) {
            if (sizes[a] && std::memcmp(first[a].data, second[a].data, sizes[a] * sizeof(T)))
                wrong("other bits in a second run", name);
            for (int64_t i = 0; i < sizes[a]; ++i) {
                const T value = first[a].data[i], expected = alone[a].data[i];
                if (finite && !std::isfinite(value)) wrong("not written, or not finite", name);
                if (std::abs(value - expected) > 1e-3 * (1 + std::abs(expected))) wrong("depends on threads", name);
            }
        }
    }
}

template <class T, Cut cut>
void norm(const std::string& name, const Sets& sets, int64_t size, int64_t channels) {
    const Array<T> x(size, 990, 1010, 1), dy(size, -1, 1, 2), gamma(channels, -1, 1, 3), beta(channels, -1, 1, 4);
    const Array<T> threshold(channels, -1, 1, 5);
    const Learned<const T> learned{gamma.data, beta.data, threshold.data};
    std::vector<int64_t> sizes{size, sets.count(), sets.count(), sets.count(), size, channels, channels};
    if (cut == Cut::threshold) sizes.push_back(channels);
    check<T>(name, sizes, true, [&](Arrays<T>& out) {
        T *y = out[0].data, *mean = out[1].data, *scale = out[2].data, *variance = out[3].data;
        normalize<T, cut>(sets, x.data, learned, 1e-5, y, {mean, scale}, variance, nullptr);
        normalize_backward<T, cut>(sets, x.data, learned, {mean, scale}, dy.data, out[4].data,
                                   {out[5].data, out[6].data, cut == Cut::threshold ? out[7].data : nullptr});
    });
}

template <class T>
void batch_renorm(const std::string& name, const Sets& sets, int64_t channels) {
    const int64_t size = sets.values();
    const Array<T> x(size, -1, 1, 1), dy(size, -1, 1, 2), gamma(channels, -1, 1, 3), variance(channels, 0, 1, 4);
    const Learned<const T> learned{gamma.data, gamma.data};
    const Running<T> running{gamma.data, variance.data, 1.5, 0.5};
    std::vector<int64_t> sizes(4, sets.count());
    sizes.insert(sizes.end(), {size, size, channels, channels});
    check<T>(name + " renorm", sizes, true, [&](Arrays<T>& out) {
        T *mean = out[0].data, *scale = out[1].data, *r = out[2].data, *d = out[3].data;
        normalize<T, Cut::relu>(sets, x.data, learned, 1e-5, out[4].data, {mean, scale, r, d}, nullptr, &running);
        normalize_backward<T, Cut::relu>(sets, x.data, learned, {mean, scale, r, d}, dy.data, out[5].data,
                                         {out[6].data, out[7].data});
    });
}

template <class T>
void filter_response_norm(const std::string& name, int64_t images, int64_t channels, int64_t positions) {
    const Sets sets = Sets::filter_response_norm(images, channels, positions);
    const int64_t size = sets.values();
    norm<T, Cut::threshold>(name, sets, size, channels);
    const Array<T> x(size, -1, 1, 1), dy(size, -1, 1, 2), threshold(channels, -1, 1, 3);
    check<T>(name + " cut off", {size, size, channels}, true, [&](Arrays<T>& out) {
        cut_off(sets, x.data, threshold.data, out[0].data);
        cut_off_backward(sets, x.data, threshold.data, dy.data, out[1].data, out[2].data);
    });
}

template <class T>
void evonorm(const std::string& name, const Sets& sets, int64_t channels) {
    const int64_t size = sets.values();
    const Array<T> x(size, -9, 9, 1), dy(size, -1, 1, 2), slope(channels, -99, 99, 3), gamma(channels, -1, 1, 4);
    check<T>(name, {size, sets.count(), sets.count(), size, channels, channels, channels}, true, [&](Arrays<T>& out) {
        T *y = out[0].data, *mean = out[1].data, *scale = out[2].data;
        evonorm(sets, x.data, slope.data, gamma.data, slope.data, 1e-5, y, mean, scale);
        evonorm_backward(sets, x.data, slope.data, gamma.data, mean, scale, dy.data, out[3].data, out[4].data,
                         out[5].data, out[6].data);
    });
}

template <class T>
void deform_conv(const std::string& name, const DeformConv& op) {
    const int64_t points = op.images * op.deformable_groups * op.taps() * op.positions();
    const int64_t pictures = op.images * op.channels * op.pixels(), weights = op.out_channels * op.row();
    const int64_t results = op.images * op.out_channels * op.positions();
    const Array<T> x(pictures, -1, 1, 1), weight(weights, -1, 1, 2), mask(points, 0, 2, 3), dy(results, -1, 1, 4);
    for (const char* kind : {"near", "far", "broken"}) {
        const double reach = *kind == 'n' ? 3 : 1e30;
        const Array<T> offset(2 * points, -reach, reach, 5);
        if (*kind == 'b')
            for (int64_t i = 0; i < 2 * points; i += 3)
                offset.data[i] = i % 2 ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::quiet_NaN();
        for (bool modulated : {false, true}) {
            const std::vector<int64_t> sizes{results, pictures, 2 * points, weights, modulated ? points : 0};
            check<T>(name + " " + kind, sizes, *kind != 'b', [&](Arrays<T>& out) {
                const T* m = modulated ? mask.data : nullptr;
                deform_conv2d(op, x.data, offset.data, m, weight.data, out[0].data);
                deform_conv2d_backward(op, x.data, offset.data, m, weight.data, dy.data, out[1].data, out[2].data,
                                       modulated ? out[4].data : nullptr, out[3].data);
            });
        }
    }
}

template <class T>
void roi_pooling(const std::string& name, const RoIPooling& op, int64_t images) {
    const int64_t pictures = images * op.channels * op.pixels(), results = op.boxes * op.results() * op.bins;
    const int64_t points = op.boxes * op.groups * op.bins * op.samples;
    const Array<T> x(pictures, -1, 1, 1), dy(results, -1, 1, 2), whose(op.boxes, 0, images - 1e-3, 3);
    std::vector<int64_t> image(whose.data, whose.data + op.boxes);
    for (const char* kind : {"near", "far", "broken"}) {
        const double reach = *kind == 'n' ? op.height + 2 : 1e30;
        const Array<T> point_y(points, -2, reach, 4), point_x(points, -reach, reach, 5);
        if (*kind == 'b')
            for (int64_t i = 0; i < points; i += 3)
                point_y.data[i] = i % 2 ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::quiet_NaN();
        check<T>(name + " " + kind, {results, pictures, points, points}, *kind != 'b', [&](Arrays<T>& out) {
            for (int gradient : {1, 2, 3}) std::fill_n(out[gradient].data, out[gradient].size, T(0));
            pool_boxes(op, x.data, point_y.data, point_x.data, image.data(), out[0].data);
            const Reads<T> reads(op, point_y.data, point_x.data);
            pool_boxes_to_image(op, reads, image.data(), dy.data, out[1].data);
            pool_boxes_to_points(op, reads, x.data, point_y.data, point_x.data, image.data(), dy.data, out[2].data,
                                 out[3].data);
        });
    }
}

// Between plain tensors, with and without a ReLU, and added to x.
template <bool relu>
void blocked_norm(const std::string& name, const BlockedNorm& norm) {
    const int64_t size = norm.tiles() * norm.tile(), channels = norm.channels, rows = norm.outer() * channels;
    const Array<float> x(size, 990, 1010, 1), dy(size, -1, 1, 2), gamma(channels, -1, 1, 3), beta(channels, -1, 1, 4);
    check<float>(name, {size, size, rows, rows, rows, size, channels, channels, size}, true, [&](Arrays<float>& out) {
        float *from = out[0].data, *y = out[1].data, *mean = out[2].data, *scale = out[3].data;
        std::fill_n(mean, rows, 0.5f);
        std::fill_n(scale, rows, 2.0f);
        std::fill_n(out[4].data, rows, 0.0f);
        to_blocks(norm.images, channels, norm.positions, x.data, x.data, from);
        normalize_blocked<relu>(norm, from, gamma.data, beta.data, from, y, mean, scale, out[4].data);
        add_where(size, y, from, from, y);
        normalize_blocked_backward<relu>(norm, from, gamma.data, beta.data, mean, scale, dy.data, out[5].data,
                                         out[6].data, out[7].data);
        from_blocks(norm.images, channels, norm.positions, y, from, out[8].data);
    });
}

template <class T>
void both_norms(const std::string& name, const Sets& sets, int64_t size, int64_t channels) {
    norm<T, Cut::none>(name, sets, size, channels);
    norm<T, Cut::relu>(name + " relu", sets, size, channels);
}

int main(int count, char** arguments) {
    for (int i = 1; i < count; ++i) {
        const std::string name = arguments[i];
        std::istringstream words(name);
        std::string kind, word;
        std::getline(words, kind, ',');
        std::vector<int64_t> n;
        while (std::getline(words, word, ',')) n.push_back(std::stoll(word));
        if (kind == "dcn" && n.size() == 15) {
            DeformConv op{};
            op.images = n[0], op.channels = n[1], op.height = n[2], op.width = n[3], op.out_channels = n[4];
            for (int axis = 0; axis < 2; ++axis) {
                op.kernel[axis] = n[5 + axis], op.stride[axis] = n[7 + axis];
                op.padding[axis] = n[9 + axis], op.dilation[axis] = n[11 + axis];
                const int64_t reach = (axis ? op.width : op.height) + 2 * op.padding[axis];
                (axis ? op.out_width : op.out_height) =
                    (reach - op.dilation[axis] * (op.kernel[axis] - 1) - 1) / op.stride[axis] + 1;
            }
            op.groups = n[13], op.deformable_groups = n[14];
            deform_conv<float>(name, op);
            deform_conv<double>(name, op);
        } else if ((kind == "gn" || kind == "bn") && n.size() == 4) {
            const Sets sets = (kind == "gn" ? Sets::group_norm : Sets::batch_norm)(n[0], n[1], n[2], n[3]);
            both_norms<float>(name, sets, n[0] * n[1] * n[2], n[1]);
            both_norms<double>(name, sets, n[0] * n[1] * n[2], n[1]);
            if (kind == "bn") batch_renorm<float>(name, sets, n[1]), batch_renorm<double>(name, sets, n[1]);
        } else if (kind == "frn" && n.size() == 3) {
            filter_response_norm<float>(name, n[0], n[1], n[2]);
            filter_response_norm<double>(name, n[0], n[1], n[2]);
        } else if (kind == "evonorm" && n.size() == 4) {
            const Sets sets = Sets::group_norm(n[0], n[1], n[2], n[3]);
            evonorm<float>(name, sets, n[1]);
            evonorm<double>(name, sets, n[1]);
        } else if ((kind == "bgn" || kind == "bbn") && n.size() == 4) {
            const BlockedNorm norm{n[0], n[1], n[2], kind == "bgn" ? n[3] : 0, kind == "bbn" ? n[3] : 0, 1e-5};
            blocked_norm<false>(name, norm);
            blocked_norm<true>(name + " relu", norm);
        } else if (kind == "roi" && n.size() == 9) {
            const RoIPooling op{n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8] == 1};
            roi_pooling<float>(name, op, n[0]);
            roi_pooling<double>(name, op, n[0]);
        } else {
            wrong("not a case", name);
        }
    }
    std::printf("%d cases\n", count - 1);
}
