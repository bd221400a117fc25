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

// The right side of a product as tiles want it, where it lies: 32-bit words, each of two values (`pair`).
struct Tiled {
    const uint32_t* at;
    int64_t row, step, beside;  // words to a tile's next row, to the tile of the next STEPS, to the TILE columns beside
};

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

// Memory that is wanted soon: so many cache lines of it are asked for with every step of a product.
struct Soon {
    const char* at;
    int64_t lines;
};

// c (R x C tiles, rows c_row apart) = a (R tiles, rows a_row apart) b, added to c where it `adds`; steps are a multiple
// of STEPS.
template <int R, int C>
inline void tile_product(const bf16* a, int64_t a_row, Tiled b, float* c, int64_t c_row, int64_t steps, bool adds,
                         Soon soon = {nullptr, 0}) {
    if (adds) {
        _tile_loadd(0, c, 4 * c_row);
        if (C > 1) _tile_loadd(1, c + TILE, 4 * c_row);
        if (R > 1) _tile_loadd(2, c + TILE * c_row, 4 * c_row);
        if (R > 1 && C > 1) _tile_loadd(3, c + TILE * c_row + TILE, 4 * c_row);
    } else {
        _tile_zero(0);
        if (C > 1) _tile_zero(1);
        if (R > 1) _tile_zero(2);
        if (R > 1 && C > 1) _tile_zero(3);
    }
    for (int64_t k = 0; k < steps; k += STEPS, b.at += b.step) {
        for (int64_t i = 0; i < soon.lines; i++, soon.at += 64) _mm_prefetch(soon.at, _MM_HINT_T0);
        _tile_loadd(6, b.at, 4 * b.row);
        _tile_loadd(4, a + k, 2 * a_row);
        _tile_dpbf16ps(0, 4, 6);
        if (C > 1) {
            _tile_loadd(7, b.at + b.beside, 4 * b.row);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (R > 1) {
            _tile_loadd(5, a + TILE * a_row + k, 2 * a_row);
            _tile_dpbf16ps(2, 5, 6);
            if (C > 1) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, c, 4 * c_row);
    if (C > 1) _tile_stored(1, c + TILE, 4 * c_row);
    if (R > 1) _tile_stored(2, c + TILE * c_row, 4 * c_row);
    if (R > 1 && C > 1) _tile_stored(3, c + TILE * c_row + TILE, 4 * c_row);
}

#else

inline bool tiles() { return false; }
struct TilesInUse {
    TilesInUse() {}
};
template <int R, int C> inline void tile_product(const bf16*, int64_t, Tiled, float*, int64_t, int64_t, bool) {}

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
