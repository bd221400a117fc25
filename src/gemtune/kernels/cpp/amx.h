// Products of bf16 matrices by the tiles of Intel's AMX, sixteen times the speed of vectors; absent on other
// processors. README.md draws the layout.

#pragma once

#include <algorithm>
#include <cstdint>

#include "bf16.h"

#ifdef __AMX_BF16__
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

constexpr int64_t TILE = 16, STEPS = 32;  // rows of a tile; the terms that one product of tiles sums
constexpr int64_t AHEAD = 32;             // rows that are prefetched before they are read

// Where the right-hand operand of a product lies as VNNI pairs: 32-bit words of two values each.
struct TileLayout {
    const uint32_t* words;
    int64_t row, step, columns;  // words to a tile's next row, to the tile STEPS rows below, to the tile on the right
};

#ifdef __AMX_BF16__

// Linux wants a process to request AMX tile data first (arch_prctl).
inline bool has_amx() {
    const int request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool allowed = syscall(SYS_arch_prctl, request, tile_data) == 0;
    return allowed;
}

struct alignas(64) TileShapes {
    uint8_t palette = 1, first_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE};
};

// RAII: loads our tile configuration on this thread, restores PyTorch's afterwards.
struct TileSession {
    TileShapes before;
    TileSession() {
        if (!has_amx()) return;
        _tile_storeconfig(&before);
        // Not on the stack: GCC's intrinsic says that it reads 8 bytes, and the stores of the others could be left out.
        static constexpr TileShapes shapes;
        _tile_loadconfig(&shapes);
    }
    ~TileSession() {
        if (has_amx()) _tile_loadconfig(&before);
    }
};

// Memory that is read next: this many cache lines of it are prefetched with every step of a product.
struct Prefetch {
    const char* address;
    int64_t lines;
};

// c (R x C tiles, rows c_row apart) = a (R tiles, rows a_row apart) b, added to c where it `adds`; steps are a multiple
// of STEPS. Tiles 0 to 3 hold c, 4 and 5 hold a, 6 and 7 hold b.
template <int R, int C>
inline void tile_product(const bf16* a, int64_t a_row, TileLayout b, float* c, int64_t c_row, int64_t steps, bool adds,
                         Prefetch next = {nullptr, 0}) {
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
    for (int64_t k = 0; k < steps; k += STEPS, b.words += b.step) {
        for (int64_t i = 0; i < next.lines; i++, next.address += 64) _mm_prefetch(next.address, _MM_HINT_T0);
        _tile_loadd(6, b.words, 4 * b.row);
        _tile_loadd(4, a + k, 2 * a_row);
        _tile_dpbf16ps(0, 4, 6);
        if (C > 1) {
            _tile_loadd(7, b.words + b.columns, 4 * b.row);
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

inline bool has_amx() { return false; }
struct TileSession {
    TileSession() {}
};
template <int R, int C> inline void tile_product(const bf16*, int64_t, TileLayout, float*, int64_t, int64_t, bool) {}

#endif

// Two values as one 32-bit word, the first in its lower half.
inline uint32_t vnni_pair(bf16 first, bf16 second) { return first.bits | static_cast<uint32_t>(second.bits) << 16; }

// Packs a matrix rows x columns, whose rows or whose columns are contiguous, as VNNI pairs: two rows become one row of
// words. Zeros fill `width` columns and a multiple of STEPS rows.
inline void pack_vnni(const bf16* x, int64_t rows, int64_t columns, int64_t row, int64_t column, int64_t width,
                      uint32_t* to) {
    const int64_t pairs = rows / 2, padded_pairs = (rows + STEPS - 1) / STEPS * STEPS / 2;
    if (column == 1) {
        for (int64_t p = 0; p < pairs; p++) {
            const bf16 *first = x + 2 * p * row, *second = first + row;
            // The rows of the next block too: they lie too far apart for the processor to foresee them.
            for (int64_t i = 0; i < columns; i += 32) {
                __builtin_prefetch(first + AHEAD * row + i);
                __builtin_prefetch(second + AHEAD * row + i);
            }
#pragma omp simd
            for (int64_t i = 0; i < columns; i++) to[p * width + i] = vnni_pair(first[i], second[i]);
        }
    } else {
        for (int64_t i = 0; i < columns; i++)
            for (int64_t p = 0; p < pairs; p++)
                to[p * width + i] = vnni_pair(x[i * column + 2 * p * row], x[i * column + (2 * p + 1) * row]);
    }
    if (rows % 2)
        for (int64_t i = 0; i < columns; i++) to[pairs * width + i] = vnni_pair(x[(rows - 1) * row + i * column], {0});
    for (int64_t p = 0; p < padded_pairs; p++) {
        const int64_t filled = p < (rows + 1) / 2 ? columns : 0;
        std::fill(to + p * width + filled, to + (p + 1) * width, 0);
    }
}

}  // namespace
