// The head, its softmax and the gradient of its input in one pass over its words, by the tiles of AMX.
//
// The gradient of h is softmax(h W^T) W, less the target words' rows of W: attention whose keys and values are W. So it
// is summed as flash attention sums (Dao et al. 2022, arXiv:2205.14135): a block of words at a time while it is in the
// cache, relative to the highest logit so far. W leaves memory once, and logits never reach it.

#pragma once

#ifdef __AMX_BF16__

#include <algorithm>
#include <cmath>
#include <vector>

#include <immintrin.h>
#include <omp.h>

#include "amx.h"
#include "bf16.h"
#include "matmul.h"

namespace {

constexpr int64_t WORDS = 128, PANEL = 2 * TILE;  // words of a block; columns of a panel, a tile of each half of them

// Transposes TILE x TILE 32-bit values, from rows `row` apart to contiguous rows.
inline void transpose_tile(const void* from, int64_t row, void* to) {
    const uint32_t* x = static_cast<const uint32_t*>(from);
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(x + i * row);
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + j + 2]);
            a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + j + 2]);
        }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 16; j += 8) {
            b[i + j] = _mm512_shuffle_i32x4(a[i + j], a[i + j + 4], 0x88);
            b[i + j + 4] = _mm512_shuffle_i32x4(a[i + j], a[i + j + 4], 0xDD);
        }
    for (int i = 0; i < 8; i++) {
        a[i] = _mm512_shuffle_i32x4(b[i], b[i + 8], 0x88);
        a[i + 8] = _mm512_shuffle_i32x4(b[i], b[i + 8], 0xDD);
    }
    for (int i = 0; i < 16; i++) _mm512_storeu_si512(static_cast<uint32_t*>(to) + 16 * i, a[i]);
}

// A panel as VNNI pairs, STEPS rows by PANEL columns: two tiles, one after the other. Its rows lie in memory.
inline void pack_panel_of_rows(const bf16* rows, int64_t row, uint32_t* to) {
    const __m512i first = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                                           37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(TILE));
    for (int64_t p = 0; p < TILE; p++) {
        const __m512i a = _mm512_loadu_si512(rows + 2 * p * row), b = _mm512_loadu_si512(rows + (2 * p + 1) * row);
        _mm512_storeu_si512(to + TILE * p, _mm512_permutex2var_epi16(a, first, b));
        _mm512_storeu_si512(to + TILE * (TILE + p), _mm512_permutex2var_epi16(a, second, b));
    }
}
// The same for a panel whose columns lie in memory, `column` values apart.
inline void pack_panel_of_columns(const bf16* columns, int64_t column, uint32_t* to) {
    transpose_tile(columns, column / 2, to);
    transpose_tile(columns + TILE * column, column / 2, to + TILE * TILE);
}

// A packed panel from its first tile on.
inline TileLayout panel(const uint32_t* packed) { return {packed, TILE, STEPS * TILE, TILE * TILE}; }

// The head's words x size, some of whose rows are replaced by trained ones.
struct Head {
    const bf16* weight;
    int64_t words, size;
    const int64_t* ids;
    const bf16* values;  // the trained rows, count x size
    int64_t count;

    const bf16* row(int64_t word) const {
        for (int64_t i = 0; i < count; i++)
            if (ids[i] == word) return values + i * size;
        return weight + word * size;
    }

    // WORDS rows from `first` on: where they lie, or copied where rows are replaced or zeros follow the last.
    const bf16* block(int64_t first, std::vector<bf16>& copy) const {
        const int64_t n = std::min(WORDS, words - first);
        const bool replaced = std::any_of(ids, ids + count, [&](int64_t id) { return id >= first && id < first + n; });
        if (n == WORDS && !replaced) return weight + first * size;
        copy.assign(WORDS * size, bf16{});
        for (int64_t w = 0; w < n; w++) std::copy_n(row(first + w), size, copy.data() + w * size);
        return copy.data();
    }
};

// A thread's sums over its words: each token's highest logit, the sum of exp(logit - top), and that times W.
struct OnlineSoftmax {
    int64_t tokens, size;
    float* out;  // tokens x size, or null where no gradient is wanted
    std::vector<float> top, sum;

    OnlineSoftmax(int64_t tokens, int64_t size, float* out)
        : tokens(tokens), size(size), out(out), top(tokens, -INFINITY), sum(tokens) {
        if (out) std::fill_n(out, tokens * size, 0.0f);
    }

    // PANEL columns of a token's sum of W; the tokens of one panel, of which the last may be half, are contiguous.
    float* columns(int64_t token, int64_t column) const {
        const int64_t first = token / PANEL * PANEL, together = std::min(PANEL, tokens - first);
        return out + first * size + column * together + (token - first) * PANEL;
    }

    // Makes a token's sums relative to a higher top.
    void rescale(int64_t token, float to) {
        const float factor = exp_(top[token] - to);
        top[token] = to;
        sum[token] *= factor;
        for (int64_t c = 0; c < size && out; c += PANEL) {
            float* values = columns(token, c);
            for (int64_t i = 0; i < PANEL; i++) values[i] *= factor;
        }
    }

    // Adds the logits of a block (WORDS x tokens) for TILE tokens; leaves exp(logit - top) in `shares` (tokens x
    // WORDS).
    void add(const float* logits, int64_t t, bf16* shares) {
        float high[TILE], total[TILE];
        std::copy_n(top.data() + t, TILE, high);
        for (int64_t w = 0; w < WORDS; w++)
#pragma omp simd
            for (int64_t r = 0; r < TILE; r++) {
                const float z = logits[w * tokens + t + r];
                high[r] = z > high[r] ? z : high[r];
            }
        for (int64_t r = 0; r < TILE; r++)
            if (high[r] > top[t + r]) rescale(t + r, high[r]);
        std::copy_n(sum.data() + t, TILE, total);
        for (int64_t w = 0; w < WORDS; w += TILE) {
            float powers[TILE * TILE], transposed[TILE * TILE];
            for (int64_t u = 0; u < TILE; u++)
#pragma omp simd
                for (int64_t r = 0; r < TILE; r++)
                    total[r] += powers[u * TILE + r] = exp_(logits[(w + u) * tokens + t + r] - high[r]);
            if (!out) continue;
            transpose_tile(powers, TILE, transposed);
            for (int64_t r = 0; r < TILE; r++)
#pragma omp simd
                for (int64_t u = 0; u < TILE; u++) put(shares + (t + r) * WORDS + w, u, transposed[r * TILE + u]);
        }
        std::copy_n(total, TILE, sum.data() + t);
    }
};

// h^T as packed panels, and how a pass over a block's panels prefetches the next block, in equal parts.
struct HiddenPanels {
    const uint32_t* packed;
    int64_t tokens, size, count;  // of panels

    HiddenPanels(const bf16* h, int64_t rows, int64_t size, uint32_t* to)
        : packed(to), tokens(round_up(rows, TILE)), size(size), count(round_up(rows, PANEL) / PANEL) {
        std::vector<bf16> padded(count * PANEL * size);
        std::copy_n(h, rows * size, padded.data());
        for (int64_t t = 0; t < count * PANEL; t += PANEL)
            for (int64_t k = 0; k < size; k += STEPS)
                pack_panel_of_columns(padded.data() + t * size + k, size, to + (t * size + k * PANEL) / 2);
    }
    int64_t lines() const { return std::max<int64_t>(1, PANEL / count); }  // per step

    // The logits of a block of words: WORDS x tokens. Prefetches `next` where no gradient will.
    void logits(const bf16* block, const bf16* next, bool prefetches, float* to) const {
        for (int64_t t = 0; t < tokens; t += PANEL)
            for (int64_t w = 0; w < WORDS; w += PANEL) {
                const Prefetch soon{reinterpret_cast<const char*>(next + (w + t / count) * size),
                                    prefetches ? lines() : 0};
                const auto product = tokens - t < PANEL ? tile_product<2, 1> : tile_product<2, 2>;
                product(block + w * size, size, panel(packed + t * size / 2), to + w * tokens + t, tokens, size, false,
                        soon);
            }
    }

    // Adds exp(logit - top) W of a block, packed as panels, to the sums; prefetches `next`.
    void add_rows(const bf16* shares, const uint32_t* block, const bf16* next, const OnlineSoftmax& sums) const {
        for (int64_t c = 0; c < size; c += PANEL)
            for (int64_t t = 0; t < tokens; t += PANEL) {
                const Prefetch soon{reinterpret_cast<const char*>(next + (c + t / count) * WORDS), lines()};
                const auto product = tokens - t < PANEL ? tile_product<1, 2> : tile_product<2, 2>;
                product(shares + t * WORDS, WORDS, panel(block + c * WORDS / 2), sums.columns(t, c), PANEL, WORDS, true,
                        soon);
            }
    }
};

inline void pack_block(const bf16* block, int64_t size, uint32_t* to) {  // WORDS x size
    for (int64_t c = 0; c < size; c += PANEL)
        for (int64_t w = 0; w < WORDS; w += STEPS)
            pack_panel_of_rows(block + w * size + c, size, to + (c * WORDS + w * PANEL) / 2);
}

// The gradient of a row whose loss counts, from all threads' sums.
inline void hidden_gradient(const std::vector<OnlineSoftmax>& parts, int64_t row, float top, float sum,
                            const bf16* target, int64_t size, float* gradient) {
    for (const OnlineSoftmax& part : parts) {
        const float factor = exp_(part.top[row] - top) / sum;
        for (int64_t c = 0; c < size; c += PANEL) {
            const float* values = part.columns(row, c);
            for (int64_t i = 0; i < PANEL; i++) gradient[c + i] += factor * values[i];
        }
    }
    for (int64_t i = 0; i < size; i++) gradient[i] -= get(target, i);
}

// h: rows x size; gold: each row's target word, negative where the row has no loss; loss: nats; right: whether no word
// is higher; log_sum: log of the sum of exp of all logits; d_h: the gradient of the loss, rows x size, or null. size is
// a multiple of STEPS.
inline void head_loss(const bf16* h, const Head& head, const int64_t* gold, float* loss, int64_t* right, float* log_sum,
                      float* d_h, int64_t rows) {
    const int64_t size = head.size, tokens = round_up(rows, TILE), threads = omp_get_max_threads();
    const int64_t sums = d_h ? tokens * size : 0;
    float* shared = scratch(threads * sums + round_up(rows, PANEL) * size / 2, 2);
    std::vector<OnlineSoftmax> parts;
    for (int64_t i = 0; i < threads; i++) parts.emplace_back(tokens, size, d_h ? shared + i * sums : nullptr);
    const HiddenPanels hidden(h, rows, size, reinterpret_cast<uint32_t*>(shared + threads * sums));
    std::vector<float> scores(rows);
#pragma omp parallel
    {
        const TileSession session;
        OnlineSoftmax& part = parts[omp_get_thread_num()];
        std::vector<bf16> copy;
        float* logits = scratch(WORDS * tokens + WORDS * tokens / 2 + WORDS * size / 2);
        bf16* shares = reinterpret_cast<bf16*>(logits + WORDS * tokens);
        uint32_t* packed = reinterpret_cast<uint32_t*>(shares + WORDS * tokens);
#pragma omp for schedule(static)
        for (int64_t first = 0; first < head.words; first += WORDS) {
            const bf16 *block = head.block(first, copy), *next = head.weight + (first + WORDS) * size;
            if (d_h) pack_block(block, size, packed);
            hidden.logits(block, next, !d_h, logits);
            for (int64_t w = head.words - first; w < WORDS; w++) std::fill_n(logits + w * tokens, tokens, -INFINITY);
            for (int64_t r = 0; r < rows; r++)
                if (gold[r] >= first && gold[r] < first + WORDS) scores[r] = logits[(gold[r] - first) * tokens + r];
            for (int64_t t = 0; t < tokens; t += TILE) part.add(logits, t, shares);
            if (d_h) hidden.add_rows(shares, packed, next, part);
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            float top = -INFINITY, sum = 0.0f;
            for (const OnlineSoftmax& each : parts) top = std::max(top, each.top[r]);
            for (const OnlineSoftmax& each : parts) sum += each.sum[r] * exp_(each.top[r] - top);
            const bool counts = gold[r] >= 0;
            log_sum[r] = top + std::log(sum);
            loss[r] = counts ? log_sum[r] - scores[r] : 0.0f;
            right[r] = counts && scores[r] == top;
            if (d_h) std::fill_n(d_h + r * size, size, 0.0f);
            if (d_h && counts) hidden_gradient(parts, r, top, sum, head.row(gold[r]), size, d_h + r * size);
        }
    }
}

}  // namespace

#endif
