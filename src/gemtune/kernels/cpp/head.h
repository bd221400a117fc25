// The head, its softmax and the gradient of its input in one sweep over its words, by the tiles of AMX.
//
// The gradient of h is softmax(h W^T) W, less the wanted words' rows of W: attention whose keys and values are W. So it
// is summed as flash attention sums (Dao et al. 2022, arXiv:2205.14135): a block of words at a time while it is in the
// cache, relative to the highest logit so far. W leaves memory once, and logits never reach it.

#pragma once

#ifdef __AMX_BF16__

#include <algorithm>
#include <cmath>
#include <vector>

#include <immintrin.h>
#include <omp.h>

#include "products.h"
#include "tiles.h"
#include "values.h"

namespace {

constexpr int64_t WORDS = 128, PANEL = 2 * TILE;  // words of a block; columns of a panel, a tile of each half of them

// TILE x TILE 32-bit values turned, from rows `row` apart to rows that follow each other.
inline void turn_tile(const void* from, int64_t row, void* to) {
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

// The right side of a product as tiles want it, STEPS rows by PANEL columns: two tiles, one after the other.
inline void weave_columns(const bf16* rows, int64_t apart, uint32_t* to) {  // its rows lie in memory
    const __m512i first = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                                           37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(TILE));
    for (int64_t p = 0; p < TILE; p++) {
        const __m512i a = _mm512_loadu_si512(rows + 2 * p * apart), b = _mm512_loadu_si512(rows + (2 * p + 1) * apart);
        _mm512_storeu_si512(to + TILE * p, _mm512_permutex2var_epi16(a, first, b));
        _mm512_storeu_si512(to + TILE * (TILE + p), _mm512_permutex2var_epi16(a, second, b));
    }
}
inline void weave_rows(const bf16* columns, int64_t apart, uint32_t* to) {  // its columns do
    turn_tile(columns, apart / 2, to);
    turn_tile(columns + TILE * apart, apart / 2, to + TILE * TILE);
}

// A panel from its first tile on.
inline Tiled panel(const uint32_t* woven) { return {woven, TILE, STEPS * TILE, TILE * TILE}; }

// The head's words x size, some of whose rows others stand in for.
struct Head {
    const bf16* weight;
    int64_t words, size;
    const int64_t* ids;
    const bf16* values;  // the rows that stand in, count x size
    int64_t count;

    const bf16* row(int64_t word) const {
        for (int64_t i = 0; i < count; i++)
            if (ids[i] == word) return values + i * size;
        return weight + word * size;
    }

    // WORDS rows from `first` on: where they lie, or in `room` where others stand in, or zeros follow the last.
    const bf16* block(int64_t first, std::vector<bf16>& room) const {
        const int64_t real = std::min(WORDS, words - first);
        const bool theirs = std::any_of(ids, ids + count, [&](int64_t id) { return id >= first && id < first + real; });
        if (real == WORDS && !theirs) return weight + first * size;
        room.assign(WORDS * size, bf16{});
        for (int64_t w = 0; w < real; w++) std::copy_n(row(first + w), size, room.data() + w * size);
        return room.data();
    }
};

// What a thread has seen of its words: each token's highest logit, the sum of exp(logit - top), and of that times W.
struct Seen {
    int64_t tokens, size;
    float* out;  // tokens x size, or null where it is not wanted
    std::vector<float> top, sum;

    Seen(int64_t tokens, int64_t size, float* out)
        : tokens(tokens), size(size), out(out), top(tokens, -INFINITY), sum(tokens) {
        if (out) std::fill_n(out, tokens * size, 0.0f);
    }

    int64_t together(int64_t token) const { return std::min(PANEL, tokens - token / PANEL * PANEL); }
    // PANEL columns of a token's sum of W; those of the tokens that are multiplied together lie together.
    float* columns(int64_t token, int64_t column) const {
        const int64_t first = token / PANEL * PANEL;
        return out + first * size + column * together(token) + (token - first) * PANEL;
    }

    // A token's sums, relative to a top that is higher.
    void raise(int64_t token, float to) {
        const float factor = exp_(top[token] - to);
        top[token] = to;
        sum[token] *= factor;
        for (int64_t c = 0; c < size && out; c += PANEL) {
            float* some = columns(token, c);
            for (int64_t i = 0; i < PANEL; i++) some[i] *= factor;
        }
    }

    // Takes the logits of a block (WORDS x tokens) in; `shares` (tokens x WORDS) are left relative to the top.
    void take(const float* logits, bf16* shares) {
        for (int64_t t = 0; t < tokens; t += TILE) {
            float high[TILE], total[TILE];
            std::copy_n(top.data() + t, TILE, high);
            for (int64_t w = 0; w < WORDS; w++)
#pragma omp simd
                for (int64_t r = 0; r < TILE; r++) {
                    const float z = logits[w * tokens + t + r];
                    high[r] = z > high[r] ? z : high[r];
                }
            for (int64_t r = 0; r < TILE; r++)
                if (high[r] > top[t + r]) raise(t + r, high[r]);
            std::copy_n(sum.data() + t, TILE, total);
            for (int64_t w = 0; w < WORDS; w += TILE) {
                float some[TILE * TILE], turned[TILE * TILE];
                for (int64_t u = 0; u < TILE; u++)
#pragma omp simd
                    for (int64_t r = 0; r < TILE; r++)
                        total[r] += some[u * TILE + r] = exp_(logits[(w + u) * tokens + t + r] - high[r]);
                if (!out) continue;
                turn_tile(some, TILE, turned);
                for (int64_t r = 0; r < TILE; r++)
#pragma omp simd
                    for (int64_t u = 0; u < TILE; u++) put(shares + (t + r) * WORDS + w, u, turned[r * TILE + u]);
            }
            std::copy_n(total, TILE, sum.data() + t);
        }
    }
};

// h: rows x size; gold: the word wanted of each row, negative where the row counts for nothing; loss: nats; right:
// whether no word is higher; log_sum: log of the sum of exp of all logits; d_h: the gradient of the loss, rows x size,
// or null. size is a multiple of STEPS.
void head_loss(const bf16* h, const Head& head, const int64_t* gold, float* loss, int64_t* right, float* log_sum,
               float* d_h, int64_t rows) {
    const int64_t size = head.size, tokens = up_to(rows, TILE), panels = up_to(rows, PANEL);
    std::vector<bf16> filled(panels * size);
    std::copy_n(h, rows * size, filled.data());
    const int64_t sums = d_h ? tokens * size : 0, threads = omp_get_max_threads();
    float* shared = scratch(threads * sums + panels * size / 2, 2);
    std::vector<Seen> all;
    for (int64_t i = 0; i < threads; i++) all.emplace_back(tokens, size, d_h ? shared + i * sums : nullptr);
    uint32_t* woven = reinterpret_cast<uint32_t*>(shared + threads * sums);  // h^T
    for (int64_t t = 0; t < panels; t += PANEL)
        for (int64_t k = 0; k < size; k += STEPS)
            weave_rows(filled.data() + t * size + k, size, woven + (t * size + k * PANEL) / 2);
    std::vector<float> scores(rows);
    // The next block is asked of memory during this one's last product, in equal parts.
    const int64_t parts = panels / PANEL, lines = std::max<int64_t>(1, PANEL / parts);
#pragma omp parallel
    {
        const TilesInUse in_use;
        Seen& seen = all[omp_get_thread_num()];
        std::vector<bf16> room;
        float* logits = scratch(WORDS * tokens + WORDS * tokens / 2 + WORDS * size / 2);
        bf16* shares = reinterpret_cast<bf16*>(logits + WORDS * tokens);
        uint32_t* block_woven = reinterpret_cast<uint32_t*>(shares + WORDS * tokens);
#pragma omp for schedule(static)
        for (int64_t first = 0; first < head.words; first += WORDS) {
            const bf16* block = head.block(first, room);
            const char* next = reinterpret_cast<const char*>(head.weight + (first + WORDS) * size);
            for (int64_t c = 0; c < size && d_h; c += PANEL)
                for (int64_t w = 0; w < WORDS; w += STEPS)
                    weave_columns(block + w * size + c, size, block_woven + (c * WORDS + w * PANEL) / 2);
            for (int64_t t = 0; t < tokens; t += PANEL)
                for (int64_t w = 0; w < WORDS; w += PANEL) {
                    const Soon soon{next + (w + t / parts) * size * 2, d_h ? 0 : lines};
                    const auto product = tokens - t < PANEL ? tile_product<2, 1> : tile_product<2, 2>;
                    product(block + w * size, size, panel(woven + t * size / 2), logits + w * tokens + t, tokens, size,
                            false, soon);
                }
            for (int64_t w = head.words - first; w < WORDS; w++)
                std::fill_n(logits + w * tokens, tokens, -INFINITY);
            for (int64_t r = 0; r < rows; r++)
                if (gold[r] >= first && gold[r] < first + WORDS) scores[r] = logits[(gold[r] - first) * tokens + r];
            seen.take(logits, shares);
            for (int64_t c = 0; c < size && d_h; c += PANEL)
                for (int64_t t = 0; t < tokens; t += PANEL) {
                    const Soon soon{next + (c + t / parts) * WORDS * 2, lines};
                    const auto product = tokens - t < PANEL ? tile_product<1, 2> : tile_product<2, 2>;
                    product(shares + t * WORDS, WORDS, panel(block_woven + c * WORDS / 2), seen.columns(t, c), PANEL,
                            WORDS, true, soon);
                }
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            float top = -INFINITY, sum = 0.0f;
            for (const Seen& part : all) top = std::max(top, part.top[r]);
            for (const Seen& part : all) sum += part.sum[r] * exp_(part.top[r] - top);
            const bool counts = gold[r] >= 0;
            log_sum[r] = top + std::log(sum);
            loss[r] = counts ? log_sum[r] - scores[r] : 0.0f;
            right[r] = counts && scores[r] == top;
            if (!d_h) continue;
            float* slope = d_h + r * size;
            std::fill_n(slope, size, 0.0f);
            if (!counts) continue;
            for (const Seen& part : all) {
                const float share = exp_(part.top[r] - top) / sum;
                for (int64_t c = 0; c < size; c += PANEL) {
                    const float* some = part.columns(r, c);
                    for (int64_t i = 0; i < PANEL; i++) slope[c + i] += share * some[i];
                }
            }
            const bf16* wanted = head.row(gold[r]);
            for (int64_t i = 0; i < size; i++) slope[i] -= get(wanted, i);
        }
    }
}

}  // namespace

#endif
