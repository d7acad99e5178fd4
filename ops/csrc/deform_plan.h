// Deformable convolution: how the work is cut for threads and memory, and turned for BLAS.
#pragma once

#include "deform_sampling.h"

// How the work is cut. Everything follows from the shapes and the number of threads.
template <class T>
struct Plan {
    int threads;
    int64_t round;  // images at a time
    int64_t tile;   // positions at a time and thread

    explicit Plan(const DeformConv& op) : threads(team()) {
        const int64_t image = op.channels * op.pixels() * sizeof(T), line = op.taps() * op.channels * sizeof(T);
        round = std::min(op.images, std::max<int64_t>(threads, (int64_t(8) << 20) / image));
        const int64_t most = std::min(std::max<int64_t>((int64_t(2) << 20) / line, 64), int64_t(256));
        const int64_t share = ceiling(round * op.positions(), threads);
        tile = ceiling(share, std::max<int64_t>(ceiling(share, most), 1));  // as few as need be, all alike
    }
    // How many tiles each thread has in a round of `positions`: the same number, so that all can meet after each.
    int64_t steps(int64_t positions) const { return ceiling(ceiling(positions, threads), tile); }
};

// Those positions of a round that one thread works on in one step.
inline Range rows_of(int64_t positions, int64_t step, int64_t steps, int thread, int threads) {
    return Range(positions, thread, threads).part(step, steps);
}

// Calls visit(image of the round, first position in it, last + 1, row) for the parts of `rows` in one image each.
template <class Visit>
void image_by_image(Range rows, int64_t positions, Visit visit) {
    for (int64_t begin = rows.begin; begin < rows.end;) {
        const int64_t image = begin / positions, end = std::min(rows.end, (image + 1) * positions);
        visit(image, begin - image * positions, end - image * positions, begin - rows.begin);
        begin = end;
    }
}

// [rows, columns] -> [columns, rows], this thread's part of it.
template <class T>
void transpose(const T* from, int64_t rows, int64_t columns, T* to, int thread, int threads) {
    constexpr int64_t block = 16;
    const Range blocks(ceiling(columns, block), thread, threads);
    for (int64_t column = blocks.begin * block; column < std::min(columns, blocks.end * block); column += block)
        for (int64_t row = 0; row < rows; row += block)
            for (int64_t j = column; j < std::min(columns, column + block); ++j)
                for (int64_t i = row; i < std::min(rows, row + block); ++i) to[j * rows + i] = from[i * columns + j];
}

// weight [C_out, C_in / groups, taps] as [C_out, taps, C_in / groups]: as many output channels at a time as fit into 4 MB.
template <class T>
class TurnedWeights {
    const DeformConv& op_;
    const T* const weight_;
    const int threads_;
    const bool whole_;
    const int64_t most_;  // output channels at a time
    const std::unique_ptr<T[]> turned_;

    static int64_t that_fit(const DeformConv& op) {
        return std::max<int64_t>((int64_t(4) << 20) / (op.row() * int64_t(sizeof(T))), 1);
    }
    void turn(int64_t first, int64_t count, int thread) {
        const Range rows(count, thread, threads_);
        for (int64_t row = rows.begin; row < rows.end; ++row)
            transpose(weight_ + (first + row) * op_.row(), op_.in_per_group(), op_.taps(),
                      turned_.get() + row * op_.row(), 0, 1);
    }

   public:
    TurnedWeights(const DeformConv& op, const T* weight, int threads)
        : op_(op), weight_(weight), threads_(threads), whole_(that_fit(op) >= op.out_channels),
          most_(std::min(op.out_per_group(), that_fit(op))),
          turned_(room<T>((whole_ ? op.out_channels : most_) * op.row())) {}

    // All threads call these together. The first once; what it leaves is seen after a barrier.
    void begin(int thread) {
        if (whole_) turn(0, op_.out_channels, thread);
    }
    // Calls multiply(group, first output channel, their number, their weights) until all channels have had their turn.
    template <class Multiply>
    void each(int thread, Multiply multiply) {
        for (int64_t group = 0; group < op_.groups; ++group) {
            const int64_t end = (group + 1) * op_.out_per_group();
            for (int64_t first = end - op_.out_per_group(); first < end; first += most_) {
                const int64_t count = std::min(most_, end - first);
                if (!whole_) {
#pragma omp barrier
                    turn(first, count, thread);
#pragma omp barrier
                }
                multiply(group, first, count, turned_.get() + (whole_ ? first * op_.row() : 0));
            }
        }
    }
};

// The way back, in place; this thread's rows. `line` holds one row.
template <class T>
void taps_last(const DeformConv& op, T* weight, T* line, int thread, int threads) {
    const Range rows(op.out_channels, thread, threads);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
        std::copy_n(weight + row * op.row(), op.row(), line);
        transpose(line, op.taps(), op.in_per_group(), weight + row * op.row(), 0, 1);
    }
}
