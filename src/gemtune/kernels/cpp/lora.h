// LoRA's small products.

#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include <omp.h>

#include "products.h"
#include "values.h"

namespace {

// TILE rows of x, of which `count` are there, as the left side of a product: where they lie, or with zeros after them.
template <class T>
const T* left_of(const T* x, int64_t count, int64_t row, int64_t deep, int64_t size, std::vector<T>& whole) {
    if (count == TILE && deep == size) return x;
    whole.assign(TILE * deep, T{});
    for (int64_t u = 0; u < count; u++) std::copy_n(x + u * row, size, whole.data() + u * deep);
    return whole.data();
}

// out = [x | x a]: tokens x (size + rank); x contiguous, a size x rank.
template <class T>
void append_low(const T* x, const T* a, T* out, int64_t tokens, int64_t size, int64_t rank, int64_t row,
                int64_t column) {
    const Right<T> right(a, size, rank, row, column, scratch(Right<T>::size(size, rank)), true);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t += TILE) {
        const int64_t count = std::min(TILE, tokens - t);
        std::vector<T> whole;
        std::vector<float> low(TILE * right.wide);
        const T* left = left_of(x + t * size, count, size, right.deep, size, whole);
        const TilesInUse in_use;
        right.times(left, left == whole.data() ? right.deep : size, low.data(), right.wide, 0, right.deep, 0, right.wide);
        for (int64_t u = 0; u < count; u++) {
            T* to = out + (t + u) * (size + rank);
            std::memcpy(to, x + (t + u) * size, size * sizeof(T));
#pragma omp simd
            for (int64_t r = 0; r < rank; r++) put(to + size, r, low[u * right.wide + r]);
        }
    }
}

// out = x + low b: tokens x size, contiguous; b rank x size; a token of x every x_stride values, of low low_stride.
template <class T>
void add_low(const T* x, const T* low, const T* b, T* out, int64_t tokens, int64_t size, int64_t rank,
             int64_t x_stride, int64_t low_stride, int64_t row, int64_t column) {
    const Right<T> right(b, rank, size, row, column, scratch(Right<T>::size(rank, size)), true);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t += TILE) {
        const int64_t count = std::min(TILE, tokens - t);
        std::vector<T> whole;
        std::vector<float> sums(TILE * right.wide);
        const T* left = left_of(low + t * low_stride, count, low_stride, right.deep, rank, whole);
        const TilesInUse in_use;
        right.times(left, left == whole.data() ? right.deep : low_stride, sums.data(), right.wide, 0, right.deep, 0,
                    right.wide);
        for (int64_t u = 0; u < count; u++) {
            const T* from = x + (t + u) * x_stride;
            T* to = out + (t + u) * size;
#pragma omp simd
            for (int64_t i = 0; i < size; i++) put(to, i, get(from, i) + sums[u * right.wide + i]);
        }
    }
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
