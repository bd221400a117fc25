// LoRA's small products: [x | x A], x + low B, and the gradients of A and B.

#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include <omp.h>

#include "bf16.h"
#include "matmul.h"

namespace {

// Calls write(token, its row of the product) for every row of left (tokens x size, `row` values apart) times right.
template <class T, class Write>
void for_each_product(const T* left, int64_t tokens, int64_t size, int64_t row, const PackedMatrix<T>& right,
                      const Write& write) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t += TILE) {
        const int64_t count = std::min(TILE, tokens - t);
        const bool whole = count == TILE && right.height == size;  // otherwise zeros follow
        std::vector<T> padded(whole ? 0 : TILE * right.height);
        for (int64_t u = 0; u < (whole ? 0 : count); u++)
            std::copy_n(left + (t + u) * row, size, padded.data() + u * right.height);
        std::vector<float> out(TILE * right.width);
        const TileSession session;
        right.times(whole ? left + t * row : padded.data(), whole ? row : right.height, out.data(), right.width, 0,
                    right.height, 0, right.width);
        for (int64_t u = 0; u < count; u++) write(t + u, out.data() + u * right.width);
    }
}

// out = [x | x a]: tokens x (size + rank); x contiguous, a size x rank.
template <class T>
void append_low(const T* x, const T* a, T* out, int64_t tokens, int64_t size, int64_t rank, int64_t row,
                int64_t column) {
    const PackedMatrix<T> right(a, size, rank, row, column, scratch(PackedMatrix<T>::size(size, rank)), true);
    for_each_product(x, tokens, size, size, right, [=](int64_t t, const float* low) {
        T* to = out + t * (size + rank);
        std::memcpy(to, x + t * size, size * sizeof(T));
#pragma omp simd
        for (int64_t r = 0; r < rank; r++) put(to + size, r, low[r]);
    });
}

// out = x + low b: tokens x size, contiguous; b rank x size; a token of x every x_stride values, of low low_stride.
template <class T>
void add_low(const T* x, const T* low, const T* b, T* out, int64_t tokens, int64_t size, int64_t rank, int64_t x_stride,
             int64_t low_stride, int64_t row, int64_t column) {
    const PackedMatrix<T> right(b, rank, size, row, column, scratch(PackedMatrix<T>::size(rank, size)), true);
    for_each_product(low, tokens, rank, low_stride, right, [=](int64_t t, const float* sums) {
        const T* from = x + t * x_stride;
        T* to = out + t * size;
#pragma omp simd
        for (int64_t i = 0; i < size; i++) put(to, i, get(from, i) + sums[i]);
    });
}

// to = scale * from, rows x columns, rounded; a row of `to` every `stride` values.
template <class T> void cast(const float* from, T* to, int64_t rows, int64_t columns, int64_t stride, float scale) {
    for (int64_t r = 0; r < rows; r++)
#pragma omp simd
        for (int64_t i = 0; i < columns; i++) put(to + r * stride, i, scale * from[r * columns + i]);
}

// One of the products of `outers`: scale * small^T big, rank x size, or its transpose. A token of big every `stride`
// values, of small every `small_stride`. lora.py declares the same structure.
template <class T> struct Outer {
    const T *big, *small;
    float* out;
    int64_t size, rank, stride, small_stride, transposed;

    // small^T: rank x steps, zeros past the last token.
    void transpose_small(int64_t tokens, int64_t steps, T* to) const {
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t r = 0; r < rank; r++) to[r * steps + t] = small[t * small_stride + r];
        for (int64_t r = 0; r < rank; r++) std::fill(to + r * steps + tokens, to + (r + 1) * steps, T{});
    }

    // Columns first to first + count of the product from their sums (rank x row).
    void write(const float* sums, int64_t row, int64_t first, int64_t count, float scale) const {
        if (transposed) {
            for (int64_t i = 0; i < count; i++)
                for (int64_t r = 0; r < rank; r++) out[(first + i) * rank + r] = scale * sums[r * row + i];
        } else {
            for (int64_t r = 0; r < rank; r++)
                for (int64_t i = 0; i < count; i++) out[r * size + first + i] = scale * sums[r * row + i];
        }
    }
};

// Sums over all tokens, as the gradients of LoRA's matrices are: several in one call, as each is small.
template <class T> void outers(const Outer<T>* products, const float* scales, int64_t count, int64_t tokens) {
    const int64_t together = 2 * STEPS, block = 16 * TILE;  // tokens and columns that the nearest cache holds
    const int64_t steps = round_up(tokens, STEPS);
    std::vector<int64_t> blocks(count + 1), offsets(count + 1);
    for (int64_t p = 0; p < count; p++) {
        blocks[p + 1] = blocks[p] + round_up(products[p].size, block) / block;
        offsets[p + 1] = offsets[p] + round_up(products[p].rank, TILE) * steps;
    }
    T* transposed = reinterpret_cast<T*>(scratch(offsets[count], 2));
#pragma omp parallel
    {
#pragma omp for schedule(dynamic, 1)
        for (int64_t p = 0; p < count; p++) products[p].transpose_small(tokens, steps, transposed + offsets[p]);
        const TileSession session;
#pragma omp for schedule(dynamic, 1)
        for (int64_t b = 0; b < blocks[count]; b++) {
            int64_t p = 0;
            while (blocks[p + 1] <= b) p++;
            const Outer<T>& product = products[p];
            const int64_t first = (b - blocks[p]) * block, columns = std::min(block, product.size - first);
            const int64_t ranks = round_up(product.rank, TILE);
            float *sums = scratch((ranks + together) * block), *memory = sums + ranks * block;
            for (int64_t t = 0; t < tokens; t += together) {
                const PackedMatrix<T> right(product.big + t * product.stride + first, std::min(together, tokens - t),
                                            columns, product.stride, 1, memory);
                for (int64_t r = 0; r < ranks; r += TILE)
                    right.times(transposed + offsets[p] + r * steps + t, steps, sums + r * block, block, 0,
                                right.height, 0, right.width, t > 0);
            }
            product.write(sums, block, first, columns, scales[p]);
        }
    }
}

}  // namespace
