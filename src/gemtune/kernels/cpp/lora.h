// LoRA's small products.

#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include <omp.h>

#include "products.h"
#include "values.h"

namespace {

// Calls write(token, its row of the product) for every row of left (tokens x size, `row` values apart) times right.
template <class T, class Write>
void each_product(const T* left, int64_t tokens, int64_t size, int64_t row, const Right<T>& right, const Write& write) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t += TILE) {
        const int64_t count = std::min(TILE, tokens - t);
        const bool whole = count == TILE && right.deep == size;  // otherwise zeros follow
        std::vector<T> filled(whole ? 0 : TILE * right.deep);
        for (int64_t u = 0; u < (whole ? 0 : count); u++)
            std::copy_n(left + (t + u) * row, size, filled.data() + u * right.deep);
        std::vector<float> out(TILE * right.wide);
        const TilesInUse in_use;
        right.times(whole ? left + t * row : filled.data(), whole ? row : right.deep, out.data(), right.wide, 0,
                    right.deep, 0, right.wide);
        for (int64_t u = 0; u < count; u++) write(t + u, out.data() + u * right.wide);
    }
}

// out = [x | x a]: tokens x (size + rank); x contiguous, a size x rank.
template <class T>
void append_low(const T* x, const T* a, T* out, int64_t tokens, int64_t size, int64_t rank, int64_t row,
                int64_t column) {
    const Right<T> right(a, size, rank, row, column, scratch(Right<T>::size(size, rank)), true);
    each_product(x, tokens, size, size, right, [=](int64_t t, const float* low) {
        T* to = out + t * (size + rank);
        std::memcpy(to, x + t * size, size * sizeof(T));
#pragma omp simd
        for (int64_t r = 0; r < rank; r++) put(to + size, r, low[r]);
    });
}

// out = x + low b: tokens x size, contiguous; b rank x size; a token of x every x_stride values, of low low_stride.
template <class T>
void add_low(const T* x, const T* low, const T* b, T* out, int64_t tokens, int64_t size, int64_t rank,
             int64_t x_stride, int64_t low_stride, int64_t row, int64_t column) {
    const Right<T> right(b, rank, size, row, column, scratch(Right<T>::size(rank, size)), true);
    each_product(low, tokens, rank, low_stride, right, [=](int64_t t, const float* sums) {
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

// out = scale * small^T big, rank x size, or its transpose: the gradient of a LoRA matrix over all tokens.
// big: a token every `stride` values; small: a token every `small_stride`.
template <class T>
void outer(const T* big, const T* small, float* out, int64_t tokens, int64_t size, int64_t rank, int64_t stride,
           int64_t small_stride, int64_t transposed, float scale) {
    const int64_t ranks = up_to(rank, TILE), together = 4 * STEPS, block = 4 * STEPS;  // what the nearest cache holds
    const int64_t steps = up_to(tokens, together);                                    // zeros beyond
    std::vector<T> flat(ranks * steps);                                               // small^T
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rank; r++)
        for (int64_t t = 0; t < tokens; t++) flat[r * steps + t] = small[t * small_stride + r];
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t first = 0; first < size; first += block) {
        const int64_t n = std::min(block, size - first);
        float *sums = scratch((2 * ranks + together) * block), *part = sums + ranks * block;
        std::fill(sums, part, 0.0f);
        const TilesInUse in_use;
        for (int64_t t = 0; t < tokens; t += together) {
            const Right<T> right(big + t * stride + first, std::min(together, tokens - t), n, stride, 1,
                                 part + ranks * block);
            for (int64_t r = 0; r < ranks; r += TILE)
                right.times(flat.data() + r * steps + t, steps, part + r * block, block, 0, right.deep, 0, right.wide);
            for (int64_t i = 0; i < ranks * block; i++) sums[i] += part[i];
        }
        for (int64_t r = 0; r < rank; r++)
            for (int64_t i = 0; i < n; i++)
                out[transposed ? (first + i) * rank + r : r * size + first + i] = scale * sums[r * block + i];
    }
}

}  // namespace
