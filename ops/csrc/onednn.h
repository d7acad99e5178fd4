// The part of oneDNN's C interface, version 3, that is used here: declared by hand, since Paddle's wheel brings the
// library but not its headers (they are oneapi/dnnl/dnnl.h and dnnl_types.h), and bound while running, since a wheel may
// bring no library. No Paddle here.
#pragma once

#include <dlfcn.h>

#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

namespace onednn {

typedef struct dnnl_engine* Engine;
typedef struct dnnl_stream* Stream;
typedef struct dnnl_memory_desc* Desc;
typedef const dnnl_memory_desc* ConstDesc;
typedef struct dnnl_memory* Memory;
typedef struct dnnl_primitive_attr* Attributes;
typedef struct dnnl_primitive_desc* PrimitiveDesc;
typedef struct dnnl_primitive* Primitive;

struct Version {
    int major, minor, patch;
    const char* hash;
    unsigned cpu_runtime, gpu_runtime;
};
struct Argument {
    int role;
    Memory memory;
};

enum { out_of_memory = 1 };  // of what a call returns
enum { cpu = 1, in_order = 1, openmp = 2, scratchpad_of_user = 1, strict = 0, float32 = 3, direct = 1, training = 64 };
enum Tag { any = 1, vector = 2, nchw = 5, ncdhw = 6, in_blocks_of_16 = 78, clips_in_blocks_of_16 = 121 };
enum Query { name_of_kernel = 8, source_desc = 129, source_gradient_desc, weights_desc, weights_gradient_desc, result_desc,
             result_gradient_desc, scratchpad_desc = 136 };
enum Role { source = 1, result = 17, weights = 33, bias = 41, scratchpad = 80, gradient = 128 };

// name (after dnnl_), what it returns (a status: 0 is success), its parameters
#define ONEDNN_FUNCTIONS(F)                                                                                            \
    F(version, const Version*, ())                                                                                     \
    F(engine_create, int, (Engine*, int kind, size_t index))                                                           \
    F(stream_create, int, (Stream*, Engine, unsigned flags))                                                           \
    F(primitive_attr_create, int, (Attributes*))                                                                       \
    F(primitive_attr_set_scratchpad_mode, int, (Attributes, int mode))                                                 \
    F(primitive_attr_set_fpmath_mode, int, (Attributes, int mode))                                                     \
    F(memory_desc_create_with_tag, int, (Desc*, int axes, const int64_t* sizes, int type, int tag))                    \
    F(memory_desc_destroy, int, (Desc))                                                                                \
    F(memory_desc_equal, int, (ConstDesc, ConstDesc))                                                                  \
    F(memory_desc_get_size, size_t, (ConstDesc))                                                                       \
    F(memory_create, int, (Memory*, ConstDesc, Engine, void* data))                                                    \
    F(memory_destroy, int, (Memory))                                                                                   \
    F(primitive_desc_query_md, ConstDesc, (const dnnl_primitive_desc*, int what, int index))                           \
    F(primitive_desc_query, int, (const dnnl_primitive_desc*, int what, int index, void* answer))                      \
    F(primitive_desc_destroy, int, (PrimitiveDesc))                                                                    \
    F(primitive_create, int, (Primitive*, const dnnl_primitive_desc*))                                                 \
    F(primitive_execute, int, (const dnnl_primitive*, Stream, int count, const Argument*))                             \
    F(primitive_destroy, int, (Primitive))                                                                             \
    F(reorder_primitive_desc_create, int, (PrimitiveDesc*, ConstDesc from, Engine, ConstDesc to, Engine,               \
                                           const dnnl_primitive_attr*))                                                \
    F(convolution_forward_primitive_desc_create, int,                                                                  \
      (PrimitiveDesc*, Engine, int kind, int algorithm, ConstDesc source, ConstDesc weights, ConstDesc bias,           \
       ConstDesc result, const int64_t* stride, const int64_t* dilation, const int64_t* before, const int64_t* behind, \
       const dnnl_primitive_attr*))                                                                                    \
    F(convolution_backward_data_primitive_desc_create, int,                                                            \
      (PrimitiveDesc*, Engine, int algorithm, ConstDesc source, ConstDesc weights, ConstDesc result,                   \
       const int64_t* stride, const int64_t* dilation, const int64_t* before, const int64_t* behind,                   \
       const dnnl_primitive_desc* forward, const dnnl_primitive_attr*))                                                \
    F(convolution_backward_weights_primitive_desc_create, int,                                                         \
      (PrimitiveDesc*, Engine, int algorithm, ConstDesc source, ConstDesc weights, ConstDesc bias, ConstDesc result,   \
       const int64_t* stride, const int64_t* dilation, const int64_t* before, const int64_t* behind,                   \
       const dnnl_primitive_desc* forward, const dnnl_primitive_attr*))

struct Functions {
#define ONEDNN_POINTER(name, returned, parameters) returned(*name) parameters = nullptr;
    ONEDNN_FUNCTIONS(ONEDNN_POINTER)
#undef ONEDNN_POINTER
};

inline Functions call;  // to be used once bind() has returned `bound`
inline Engine engine;
inline Attributes attributes;

enum Binding { bound, not_loaded, other_major, other_threads, incomplete };

inline void check(int status, const char* what) {
    if (status == out_of_memory) throw std::bad_alloc();
    if (status) throw std::runtime_error(std::string("oneDNN: ") + what + " gave status " + std::to_string(status));
}

// Binds `call` to a library that the process has loaded. Only version 3 has this interface, and only one that runs on
// OpenMP shares the threads of all else here.
inline Binding bind(const char* library) {
    void* const handle = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
    if (!handle) return not_loaded;
    Functions found;
    found.version = reinterpret_cast<const Version* (*)()>(dlsym(handle, "dnnl_version"));
    if (!found.version) return incomplete;
    if (found.version()->major != 3) return other_major;
    if (found.version()->cpu_runtime != openmp) return other_threads;
    bool complete = true;
#define ONEDNN_FIND(name, returned, parameters)                                         \
    found.name = reinterpret_cast<returned(*) parameters>(dlsym(handle, "dnnl_" #name)); \
    complete = complete && found.name;
    ONEDNN_FUNCTIONS(ONEDNN_FIND)
#undef ONEDNN_FIND
    if (!complete) return incomplete;
    if (call.version) return bound;
    call = found;
    check(call.engine_create(&engine, cpu, 0), "engine_create");
    check(call.primitive_attr_create(&attributes), "primitive_attr_create");
    check(call.primitive_attr_set_scratchpad_mode(attributes, scratchpad_of_user), "set_scratchpad_mode");
    // Whatever the environment asks for: float32 stays float32.
    check(call.primitive_attr_set_fpmath_mode(attributes, strict), "set_fpmath_mode");
    return bound;
}

struct Destroy {
    void operator()(Desc desc) const { call.memory_desc_destroy(desc); }
    void operator()(Memory memory) const { call.memory_destroy(memory); }
    void operator()(PrimitiveDesc desc) const { call.primitive_desc_destroy(desc); }
    void operator()(Primitive primitive) const { call.primitive_destroy(primitive); }
};
template <class T>
using Owned = std::unique_ptr<std::remove_pointer_t<T>, Destroy>;

inline Owned<Desc> layout(int axes, const int64_t* sizes, Tag tag) {
    Desc made;
    check(call.memory_desc_create_with_tag(&made, axes, sizes, float32, tag), "memory_desc_create");
    return Owned<Desc>(made);
}
inline Owned<Memory> memory(ConstDesc desc, float* data) {
    Memory made;
    check(call.memory_create(&made, desc, engine, data), "memory_create");
    return Owned<Memory>(made);
}
inline Owned<Primitive> primitive(const dnnl_primitive_desc* desc) {
    Primitive made;
    check(call.primitive_create(&made, desc), "primitive_create");
    return Owned<Primitive>(made);
}
// Copies from one layout to another; null where they are the same.
inline Owned<Primitive> reorder(ConstDesc from, ConstDesc to) {
    if (call.memory_desc_equal(from, to)) return nullptr;
    PrimitiveDesc made;
    check(call.reorder_primitive_desc_create(&made, from, engine, to, engine, nullptr), "reorder_primitive_desc_create");
    return primitive(Owned<PrimitiveDesc>(made).get());
}
inline void execute(const dnnl_primitive* primitive, std::initializer_list<Argument> arguments) {
    static thread_local Stream stream = [] {  // of this thread, for as long as the process lives
        Stream made;
        check(call.stream_create(&made, engine, in_order), "stream_create");
        return made;
    }();
    check(call.primitive_execute(primitive, stream, arguments.size(), arguments.begin()), "primitive_execute");
}

}  // namespace onednn
