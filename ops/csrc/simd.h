// Vectors of 64 bytes and threads: what the kernels are written with. No Paddle here.
#pragma once

#include <omp.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

// GCC's and Clang's vector extension: one AVX-512 register, or two or four smaller ones, by the flags of the build.
template <class T>
struct Simd {
    typedef T Vector __attribute__((vector_size(64)));
    static constexpr int64_t width = 64 / sizeof(T);

    static Vector load(const T* from) {
        Vector v;
        std::memcpy(&v, from, sizeof v);  // the addresses need no alignment
        return v;
    }
    static void store(T* to, Vector v) { std::memcpy(to, &v, sizeof v); }
    // Past the caches, where the compiler's target has such an instruction. `to` is a multiple of 64 bytes.
    static void stream(T* to, Vector v) {
#ifdef __AVX512F__
        _mm512_stream_si512(reinterpret_cast<__m512i*>(to), reinterpret_cast<__m512i>(v));
#else
        store(to, v);
#endif
    }
    // After the last of a thread's streams: before another thread may read, they must be in memory.
    static void streamed() {
#ifdef __AVX512F__
        _mm_sfence();
#endif
    }
    // The last `count` lanes of v, and 0 in the others: the end of a run is read as the last full vector of it.
    static Vector last(Vector v, int64_t count) {
        typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Integer;
        typedef Integer Integers __attribute__((vector_size(64)));
        static constexpr auto keep = [] {
            std::array<Integer, 2 * width> bits{};
            for (int64_t i = width; i < 2 * width; ++i) bits[i] = -1;
            return bits;
        }();
        Integers mask;
        std::memcpy(&mask, keep.data() + count, sizeof mask);
        return reinterpret_cast<Vector>(reinterpret_cast<Integers>(v) & mask);
    }
    // The sum over the lanes, always in the same order.
    static T sum(Vector v) {
        typedef T Half __attribute__((vector_size(32)));
        typedef T Quarter __attribute__((vector_size(16)));
        Half low, high;
        std::memcpy(&low, &v, sizeof low);
        std::memcpy(&high, reinterpret_cast<char*>(&v) + sizeof low, sizeof high);
        low += high;
        Quarter first, second;
        std::memcpy(&first, &low, sizeof first);
        std::memcpy(&second, reinterpret_cast<char*>(&low) + sizeof first, sizeof second);
        first += second;
        T total = first[0];
        for (int64_t i = 1; i < width / 4; ++i) total += first[i];
        return total;
    }
};

// The part of [0, count) that falls to one of `parts` threads. It depends on nothing else, and so neither do the bits.
struct Range {
    int64_t begin, end;
    Range(int64_t count, int64_t part, int64_t parts)
        : begin(count * part / parts), end(count * (part + 1) / parts) {}
    int64_t size() const { return end - begin; }
    Range part(int64_t number, int64_t parts) const {
        Range inner(size(), number, parts);
        inner.begin += begin;
        inner.end += begin;
        return inner;
    }
};

// Room for values that nobody has set yet. (A std::vector would set them all to 0 first.)
template <class T>
std::unique_ptr<T[]> room(int64_t size) {
    return std::unique_ptr<T[]>(new T[size]);
}

inline int64_t ceiling(int64_t count, int64_t size) { return (count + size - 1) / size; }

// How many threads a parallel region has here and now.
inline int team() {
    int threads = 1;
    omp_set_dynamic(0);  // the next region of this thread has as many: what is cut for them is not left undone
#pragma omp parallel
#pragma omp single
    threads = omp_get_num_threads();
    return threads;
}
