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

// One of the products of `outers`: scale * small^T big, rank x size, or its transpose. A token of big every `stride`
// values, of small every `small_stride`.
template <class T> struct Outer {
    const T *big, *small;
    float* out;
    int64_t size, rank, stride, small_stride, transposed;
};

// Sums over all tokens, as the gradients of LoRA's matrices are: several in one go, as each is small.
template <class T>
void outers(const Outer<T>* products, const float* scales, int64_t count, int64_t tokens) {
    const int64_t together = 2 * STEPS, block = 16 * TILE;  // what the nearest cache holds
    const int64_t steps = up_to(tokens, STEPS);            // zeros beyond
    std::vector<int64_t> blocks(count + 1), places(count + 1);
    for (int64_t p = 0; p < count; p++) {
        blocks[p + 1] = blocks[p] + up_to(products[p].size, block) / block;
        places[p + 1] = places[p] + up_to(products[p].rank, TILE) * steps;
    }
    T* flats = reinterpret_cast<T*>(scratch(places[count], 2));  // small^T of each
#pragma omp parallel
    {
#pragma omp for schedule(dynamic, 1)
        for (int64_t p = 0; p < count; p++) {
            const auto& own = products[p];
            T* flat = flats + places[p];
            for (int64_t t = 0; t < tokens; t++)
                for (int64_t r = 0; r < own.rank; r++) flat[r * steps + t] = own.small[t * own.small_stride + r];
            for (int64_t r = 0; r < own.rank; r++) std::fill(flat + r * steps + tokens, flat + (r + 1) * steps, T{});
        }
        const TilesInUse in_use;
#pragma omp for schedule(dynamic, 1)
        for (int64_t b = 0; b < blocks[count]; b++) {
            int64_t p = 0;
            while (blocks[p + 1] <= b) p++;
            const auto& own = products[p];
            const int64_t first = (b - blocks[p]) * block, n = std::min(block, own.size - first);
            const int64_t ranks = up_to(own.rank, TILE);
            float *sums = scratch((ranks + together) * block), *room = sums + ranks * block;
            for (int64_t t = 0; t < tokens; t += together) {
                const Right<T> right(own.big + t * own.stride + first, std::min(together, tokens - t), n, own.stride, 1,
                                     room);
                for (int64_t r = 0; r < ranks; r += TILE)
                    right.times(flats + places[p] + r * steps + t, steps, sums + r * block, block, 0, right.deep, 0,
                                right.wide, t > 0);
            }
            const float scale = scales[p];
            if (own.transposed) {
                for (int64_t i = 0; i < n; i++)
                    for (int64_t r = 0; r < own.rank; r++) own.out[(first + i) * own.rank + r] = scale * sums[r * block + i];
            } else {
                for (int64_t r = 0; r < own.rank; r++)
                    for (int64_t i = 0; i < n; i++) own.out[r * own.size + first + i] = scale * sums[r * block + i];
            }
        }
    }
}

}  // namespace
