// AMX's tiles as plain loops: -include this file to run what kernels/cpp has for tiles on any processor with AVX-512.

#pragma once

#include <cstdint>
#include <cstring>

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace software {

struct Tile {
    char row[16][64];
};
inline Tile& tile(int number) {
    static thread_local Tile tiles[8];
    return tiles[number];
}
inline void load(int number, const void* from, int64_t stride) {
    for (int r = 0; r < 16; r++) std::memcpy(tile(number).row[r], static_cast<const char*>(from) + r * stride, 64);
}
inline void store(int number, void* to, int64_t stride) {
    for (int r = 0; r < 16; r++) std::memcpy(static_cast<char*>(to) + r * stride, tile(number).row[r], 64);
}
inline void zero(int number) { std::memset(&tile(number), 0, sizeof(Tile)); }

// The first or the second value of the pairs of a tile, as fp32.
inline void values_of(const Tile& t, int which, float (*to)[16]) {
    for (int r = 0; r < 16; r++) {
        uint32_t words[16];
        std::memcpy(words, t.row[r], 64);
        for (uint32_t& word : words) word = which ? word & 0xFFFF0000u : word << 16;
        std::memcpy(to[r], words, 64);
    }
}

// c (16 x 16 fp32) += a (16 x 32 bf16) b (16 x 16 pairs of bf16).
inline void multiply(int c, int a, int b) {
    float sums[16][16], left[16][16], right[16][16];
    std::memcpy(sums, &tile(c), sizeof sums);
    for (int which = 0; which < 2; which++) {
        values_of(tile(a), which, left);
        values_of(tile(b), which, right);
        for (int m = 0; m < 16; m++)
            for (int k = 0; k < 16; k++)
                for (int n = 0; n < 16; n++) sums[m][n] += left[m][k] * right[k][n];
    }
    std::memcpy(&tile(c), sums, sizeof sums);
}

}  // namespace software

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadd(number, from, stride) software::load(number, from, stride)
#define _tile_stored(number, to, stride) software::store(number, to, stride)
#define _tile_zero(number) software::zero(number)
#define _tile_dpbf16ps(c, a, b) software::multiply(c, a, b)
#define _tile_loadconfig(shapes) static_cast<void>(shapes)
#define _tile_storeconfig(shapes) static_cast<void>(shapes)
#define syscall(...) 0L  // the request for tile data
