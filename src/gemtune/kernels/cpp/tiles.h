// Products of bf16 matrices by the tiles of Intel's AMX, sixteen times the speed of vectors; absent on other processors.

#pragma once

#include <algorithm>
#include <cstdint>

#include "values.h"

#ifdef __AMX_BF16__
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

constexpr int64_t TILE = 16, STEPS = 32;  // rows of a tile; what a product of tiles sums over at a time
constexpr int64_t AHEAD = 32;             // rows that are asked of memory before they are read

#ifdef __AMX_BF16__

// The system asks to be asked before a process uses tiles.
inline bool tiles() {
    const int request = 0x1023, data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool allowed = syscall(SYS_arch_prctl, request, data) == 0;
    return allowed;
}

struct alignas(64) TileShapes {
    uint8_t palette = 1, first_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE};
};

// Sets this thread's tiles up while it lives, and then as they were: PyTorch's products set up their own.
struct TilesInUse {
    TileShapes before;
    TilesInUse() {
        if (!tiles()) return;
        _tile_storeconfig(&before);
        // Not on the stack: GCC's intrinsic says that it reads 8 bytes, and the stores of the others could be left out.
        static constexpr TileShapes ours;
        _tile_loadconfig(&ours);
    }
    ~TilesInUse() {
        if (tiles()) _tile_loadconfig(&before);
    }
};

// c (TILE x 2 TILE, rows c_row apart) = a (TILE x steps, rows a_row apart) b, added to c where it `adds`; steps are a
// multiple of STEPS. b is as `weave` makes it, `wide` columns in all, from the first column that is wanted on.
inline void tile_product(const bf16* a, int64_t a_row, const bf16* b, int64_t wide, float* c, int64_t c_row,
                         int64_t steps, bool adds) {
    if (adds) {
        _tile_loadd(0, c, 4 * c_row);
        _tile_loadd(1, c + TILE, 4 * c_row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
    }
    for (int64_t k = 0; k < steps; k += STEPS) {
        _tile_loadd(2, a + k, 2 * a_row);
        _tile_loadd(3, b + k * wide, 4 * wide);
        _tile_loadd(4, b + k * wide + 2 * TILE, 4 * wide);
        _tile_dpbf16ps(0, 2, 3);
        _tile_dpbf16ps(1, 2, 4);
    }
    _tile_stored(0, c, 4 * c_row);
    _tile_stored(1, c + TILE, 4 * c_row);
}

#else

inline bool tiles() { return false; }
struct TilesInUse {
    TilesInUse() {}
};
inline void tile_product(const bf16*, int64_t, const bf16*, int64_t, float*, int64_t, int64_t, bool) {}

#endif

// Two values as tiles want them: one 32-bit word, the first in its lower half.
inline uint32_t pair(bf16 first, bf16 second) { return first.bits | static_cast<uint32_t>(second.bits) << 16; }

// A matrix rows x columns, whose rows or whose columns are contiguous, with two rows woven into one, as tiles want the
// right side of a product; zeros to `wide` columns and to a multiple of STEPS rows.
inline void weave(const bf16* x, int64_t rows, int64_t columns, int64_t row, int64_t column, int64_t wide,
                  uint32_t* to) {
    const int64_t pairs = rows / 2, all = (rows + STEPS - 1) / STEPS * STEPS / 2;
    if (column == 1) {
        for (int64_t p = 0; p < pairs; p++) {
            const bf16 *first = x + 2 * p * row, *second = first + row;
            for (int64_t i = 0; i < columns; i += 32) {  // rows lie too far apart for the processor to foresee them
                __builtin_prefetch(first + AHEAD * row + i);
                __builtin_prefetch(second + AHEAD * row + i);
            }
#pragma omp simd
            for (int64_t i = 0; i < columns; i++) to[p * wide + i] = pair(first[i], second[i]);
        }
    } else {
        for (int64_t i = 0; i < columns; i++)
            for (int64_t p = 0; p < pairs; p++)
                to[p * wide + i] = pair(x[i * column + 2 * p * row], x[i * column + (2 * p + 1) * row]);
    }
    if (rows % 2)
        for (int64_t i = 0; i < columns; i++) to[pairs * wide + i] = pair(x[(rows - 1) * row + i * column], {0});
    for (int64_t p = 0; p < all; p++) {
        const int64_t real = p < (rows + 1) / 2 ? columns : 0;
        std::fill(to + p * wide + real, to + (p + 1) * wide, 0);
    }
}

}  // namespace
