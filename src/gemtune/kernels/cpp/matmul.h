// Small matrix products, summed in fp32, by tiles or by vectors, and the memory they work in.

#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "amx.h"
#include "bf16.h"

namespace {

// The columns that a vector holds, and the rows that a product works on at a time: 2 sums per row must stay in
// registers, of which AVX-512 has 32 and AVX2 has 16 of half the width. With AVX-512's geometry AVX2 spills at every
// step.
#ifdef __AVX512F__
constexpr int64_t LANES = 16, ROWS = 8;
#else
constexpr int64_t LANES = 8, ROWS = 4;
#endif
constexpr int64_t LINE = 16;  // fp32 values of a cache line
typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4)));

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// c (ROWS x columns) = a (ROWS x steps) b (steps x columns), added to c where it `adds`; columns are a multiple of 2
// LANES.
inline void vector_product(const float* a, int64_t a_row, const float* b, int64_t b_row, float* c, int64_t c_row,
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

// Memory that stays with its thread, on a cache line: allocated per call, it would be mapped and zeroed again each
// time. A slot is reused by the next call of its number on this thread.
inline float* scratch(int64_t values, int64_t slot = 0) {
    static thread_local std::vector<float> slots[3];
    std::vector<float>& memory = slots[slot];
    if (static_cast<int64_t>(memory.size()) < values + LINE) memory.resize(values + LINE);
    return reinterpret_cast<float*>(round_up(reinterpret_cast<int64_t>(memory.data()), 4 * LINE));
}

// The right-hand operand of products, rows x columns, packed once for many left-hand ones: VNNI pairs for AMX, fp32
// otherwise. A matrix comes with the strides of its rows and of its columns, so that it can be its transpose.
template <class T> struct PackedMatrix {
    int64_t height, width;  // rows and columns with their zeros
    bool is_vnni = false;
    float* memory;

    static int64_t size(int64_t rows, int64_t columns) { return round_up(rows, STEPS) * round_up(columns, 2 * TILE); }

    // `to` has room for size(rows, columns) values.
    PackedMatrix(const T* x, int64_t rows, int64_t columns, int64_t row, int64_t column, float* to,
                 bool parallel = false)
        : height(round_up(rows, STEPS)), width(round_up(columns, 2 * TILE)), memory(to) {
        if constexpr (std::is_same_v<T, bf16>) is_vnni = has_amx();
#pragma omp parallel for schedule(static) if (parallel)
        for (int64_t k = 0; k < height; k += STEPS) {
            const int64_t count = std::min(STEPS, rows - k);
            if constexpr (std::is_same_v<T, bf16>)
                if (is_vnni) {
                    uint32_t* words = reinterpret_cast<uint32_t*>(to) + k / 2 * width;
                    pack_vnni(x + k * row, count, columns, row, column, width, words);
                    continue;
                }
            for (int64_t r = k; r < k + STEPS; r++)
                for (int64_t i = 0; i < width; i++)
                    to[r * width + i] = r < rows && i < columns ? get(x, r * row + i * column) : 0.0f;
        }
    }

    // Columns c0 to c1 of out (TILE rows, out_row apart) = left (TILE x height, rows left_row apart) times this matrix,
    // of which only rows k0 to k1 count; all of these are multiples of 32. Added to what is there where it `adds`. The
    // thread has a TileSession.
    void times(const T* left, int64_t left_row, float* out, int64_t out_row, int64_t k0, int64_t k1, int64_t c0,
               int64_t c1, bool adds = false) const {
        const int64_t steps = k1 - k0;
        if constexpr (std::is_same_v<T, bf16>)
            if (is_vnni) {
                const uint32_t* words = reinterpret_cast<const uint32_t*>(memory) + k0 / 2 * width;
                for (int64_t c = c0; c < c1; c += 2 * TILE)
                    tile_product<1, 2>(left + k0, left_row, {words + c, width, STEPS / 2 * width, TILE}, out + c,
                                       out_row, steps, adds);
                return;
            }
        float* rows = scratch(TILE * steps, 1);
        for (int64_t r = 0; r < TILE; r++)
            for (int64_t k = k0; k < k1; k++) rows[r * steps + k - k0] = get(left, r * left_row + k);
        for (int64_t r = 0; r < TILE; r += ROWS)
            vector_product(rows + r * steps, steps, memory + k0 * width + c0, width, out + r * out_row + c0, out_row,
                           steps, c1 - c0, adds);
    }
};

}  // namespace
