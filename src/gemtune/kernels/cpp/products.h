// Small matrix products, summed in fp32, by tiles or by vectors, and the memory they work in.

#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "tiles.h"
#include "values.h"

namespace {

// The columns that a vector holds, and the rows that a product works on at a time: 2 sums a row must stay in registers,
// of which AVX-512 has 32 and AVX2 has 16 of half the width. With AVX-512's geometry AVX2 spills at every step.
#ifdef __AVX512F__
constexpr int64_t LANES = 16, ROWS = 8;
#else
constexpr int64_t LANES = 8, ROWS = 4;
#endif
constexpr int64_t LINE = 16;  // fp32 values of a cache line
typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4)));

inline int64_t up_to(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// c (ROWS x columns) = a (ROWS x steps) b (steps x columns), added to c where it `adds`; columns are a multiple of 2
// LANES.
inline void product(const float* a, int64_t a_row, const float* b, int64_t b_row, float* c, int64_t c_row,
                    int64_t steps, int64_t columns, bool adds) {
    for (int64_t j = 0; j < columns; j += 2 * LANES) {
        Vector sum[ROWS][2] = {};
        if (adds)
            for (int64_t r = 0; r < ROWS; r++) {
                sum[r][0] = *reinterpret_cast<const Vector*>(c + r * c_row + j);
                sum[r][1] = *reinterpret_cast<const Vector*>(c + r * c_row + j + LANES);
            }
        for (int64_t k = 0; k < steps; k++) {
            const Vector first = *reinterpret_cast<const Vector*>(b + k * b_row + j);
            const Vector second = *reinterpret_cast<const Vector*>(b + k * b_row + j + LANES);
#pragma GCC unroll 8
            for (int64_t r = 0; r < ROWS; r++) {
                const float x = a[r * a_row + k];
                sum[r][0] += x * first;
                sum[r][1] += x * second;
            }
        }
#pragma GCC unroll 8
        for (int64_t r = 0; r < ROWS; r++) {
            *reinterpret_cast<Vector*>(c + r * c_row + j) = sum[r][0];
            *reinterpret_cast<Vector*>(c + r * c_row + j + LANES) = sum[r][1];
        }
    }
}

// Memory that stays with its thread: asked for at every call, it would be mapped and zeroed again each time.
inline float* scratch(int64_t values, int64_t slot = 0) {
    static thread_local std::vector<float> slots[3];
    std::vector<float>& mine = slots[slot];
    if (static_cast<int64_t>(mine.size()) < values + LINE) mine.resize(values + LINE);
    return reinterpret_cast<float*>(up_to(reinterpret_cast<int64_t>(mine.data()), 4 * LINE));
}

// The right side of products, rows x columns, made once for many left sides: woven for tiles, or fp32 for vectors.
// A matrix comes with the distances of its rows and of its columns, so that it can be its transpose.
template <class T> struct Right {
    int64_t deep, wide;  // rows and columns with their zeros
    bool woven = false;
    float* room;

    static int64_t size(int64_t rows, int64_t columns) { return up_to(rows, STEPS) * up_to(columns, 2 * TILE); }

    // `to` has room for size(rows, columns) values.
    Right(const T* x, int64_t rows, int64_t columns, int64_t row, int64_t column, float* to, bool shared_out = false)
        : deep(up_to(rows, STEPS)), wide(up_to(columns, 2 * TILE)), room(to) {
        if constexpr (std::is_same_v<T, bf16>) woven = tiles();
#pragma omp parallel for schedule(static) if (shared_out)
        for (int64_t k = 0; k < deep; k += STEPS) {
            const int64_t real = std::min(STEPS, rows - k);
            if constexpr (std::is_same_v<T, bf16>)
                if (woven) {
                    weave(x + k * row, real, columns, row, column, wide, reinterpret_cast<uint32_t*>(to) + k / 2 * wide);
                    continue;
                }
            for (int64_t r = k; r < k + STEPS; r++)
                for (int64_t i = 0; i < wide; i++)
                    to[r * wide + i] = r < rows && i < columns ? get(x, r * row + i * column) : 0.0f;
        }
    }

    // Columns c0 to c1 of out (TILE rows, out_row apart) = left (TILE x deep, rows left_row apart) times this matrix, of
    // which only rows k0 to k1 count; all of these are multiples of 32. Added to what is there where it `adds`. Tiles are
    // in use by this thread.
    void times(const T* left, int64_t left_row, float* out, int64_t out_row, int64_t k0, int64_t k1, int64_t c0,
               int64_t c1, bool adds = false) const {
        if constexpr (std::is_same_v<T, bf16>)
            if (woven) {
                const uint32_t* pairs = reinterpret_cast<const uint32_t*>(room) + k0 / 2 * wide;
                for (int64_t c = c0; c < c1; c += 2 * TILE)
                    tile_product<1, 2>(left + k0, left_row, {pairs + c, wide, STEPS / 2 * wide, TILE}, out + c, out_row,
                                       k1 - k0, adds);
                return;
            }
        float* lefts = scratch(TILE * (k1 - k0), 1);
        for (int64_t r = 0; r < TILE; r++)
            for (int64_t k = k0; k < k1; k++) lefts[r * (k1 - k0) + k - k0] = get(left, r * left_row + k);
        for (int64_t r = 0; r < TILE; r += ROWS)
            product(lefts + r * (k1 - k0), k1 - k0, room + k0 * wide + c0, wide, out + r * out_row + c0, out_row,
                    k1 - k0, c1 - c0, adds);
    }
};

}  // namespace
