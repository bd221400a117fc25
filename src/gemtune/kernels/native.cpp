// The elementwise passes of a training step, each in one sweep over memory where PyTorch takes four to nine.
//
// Rows are independent and shared among OpenMP threads. Values are read as bf16 or fp32, computed in fp32 and rounded
// once, to nearest even, as PyTorch rounds. native.py compiles this file and says what each argument is.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <omp.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {

struct bf16 { uint16_t bits; };

inline float get(const float* p, int64_t i) { return p[i]; }
inline float get(const bf16* p, int64_t i) {
    uint32_t wide = static_cast<uint32_t>(p[i].bits) << 16;
    float value;
    std::memcpy(&value, &wide, 4);
    return value;
}
inline void put(float* p, int64_t i, float value) { p[i] = value; }
inline void put(bf16* p, int64_t i, float value) {
    uint32_t wide;
    std::memcpy(&wide, &value, 4);
    wide += 0x7FFF + ((wide >> 16) & 1);
    p[i].bits = static_cast<uint16_t>(wide >> 16);
}

// exp within 2 ulp: 2^k by its exponent bits, the rest by a polynomial (Cephes' expf); branch-free, so it vectorises.
inline float exp_(float x) {
    x = x > 88.3f ? 88.3f : x < -87.3f ? -87.3f : x;
    float k = std::nearbyint(x * 1.44269504088896341f);
    x -= k * 0.693359375f;
    x -= k * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * x + 1.3981999507e-3f;
    p = p * x + 8.3334519073e-3f;
    p = p * x + 4.1665795894e-2f;
    p = p * x + 1.6666665459e-1f;
    p = p * x + 5.0000001201e-1f;
    p = p * x * x + x + 1.0f;
    int32_t bits = (static_cast<int32_t>(k) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return p * power;
}
inline float sigmoid(float x) { return 1.0f / (1.0f + exp_(-x)); }

// An activation and its slope at x.
struct Gelu {  // the tanh form: x * sigmoid(2 u), u = sqrt(2 / pi) * (x + 0.044715 x^3)
    static inline void at(float x, float* value, float* slope) {
        const float c = 0.7978845608028654f;
        float s = sigmoid(2.0f * c * (x + 0.044715f * x * x * x));
        *value = x * s;
        *slope = s + x * s * (1.0f - s) * 2.0f * c * (1.0f + 3.0f * 0.044715f * x * x);
    }
};
struct Silu {
    static inline void at(float x, float* value, float* slope) {
        float s = sigmoid(x);
        *value = x * s;
        *slope = s + x * s * (1.0f - s);
    }
};

template <class T> inline float inverse_rms(const T* x, int64_t size, float eps) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < size; i++) sum += get(x, i) * get(x, i);
    return 1.0f / std::sqrt(sum / size + eps);
}

template <class T>
void norm(const T* x, const float* weight, T* out, float* scale, int64_t rows, int64_t size, float eps) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const T* from = x + r * size;
        T* to = out + r * size;
        float s = scale[r] = inverse_rms(from, size, eps);
#pragma omp simd
        for (int64_t i = 0; i < size; i++) put(to, i, get(from, i) * s * weight[i]);
    }
}

template <class T>
void norm_back(const T* d_out, const T* x, const float* weight, const float* scale, T* d_x, int64_t rows,
               int64_t size) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const T *d = d_out + r * size, *from = x + r * size;
        T* to = d_x + r * size;
        float s = scale[r], along = 0.0f;
#pragma omp simd reduction(+ : along)
        for (int64_t i = 0; i < size; i++) along += get(d, i) * weight[i] * get(from, i);
        along *= s * s / size;
#pragma omp simd
        for (int64_t i = 0; i < size; i++) put(to, i, (get(d, i) * weight[i] - get(from, i) * along) * s);
    }
}

// x: tokens x heads x size, a token every `stride` values; cos and sin: tokens x size / 2; out: contiguous.
template <class T>
void norm_rope(const T* x, const float* weight, const T* cos, const T* sin, T* out, float* scale, int64_t tokens,
               int64_t heads, int64_t size, int64_t stride, float eps) {
    const int64_t half = size / 2;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t++) {
        const T *c = cos + t * half, *n = sin + t * half;
        for (int64_t h = 0; h < heads; h++) {
            const T* from = x + t * stride + h * size;
            T* to = out + (t * heads + h) * size;
            float s = scale[t * heads + h] = inverse_rms(from, size, eps);
#pragma omp simd
            for (int64_t i = 0; i < half; i++) {
                float a = get(from, i) * s * weight[i], b = get(from, i + half) * s * weight[i + half];
                put(to, i, a * get(c, i) - b * get(n, i));
                put(to, i + half, b * get(c, i) + a * get(n, i));
            }
        }
    }
}

// d_out: contiguous tokens x heads x size; d_x: a token every `stride` values, as x.
template <class T>
void norm_rope_back(const T* d_out, const T* x, const float* weight, const T* cos, const T* sin, const float* scale,
                    T* d_x, int64_t tokens, int64_t heads, int64_t size, int64_t stride, int64_t d_stride) {
    const int64_t half = size / 2;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t++) {
        const T *c = cos + t * half, *n = sin + t * half;
        for (int64_t h = 0; h < heads; h++) {
            const T *d = d_out + (t * heads + h) * size, *from = x + t * stride + h * size;
            T* to = d_x + t * d_stride + h * size;
            float s = scale[t * heads + h], along = 0.0f;
#pragma omp simd reduction(+ : along)
            for (int64_t i = 0; i < half; i++) {
                float a = get(d, i) * get(c, i) + get(d, i + half) * get(n, i);
                float b = get(d, i + half) * get(c, i) - get(d, i) * get(n, i);
                along += a * weight[i] * get(from, i) + b * weight[i + half] * get(from, i + half);
            }
            along *= s * s / size;
#pragma omp simd
            for (int64_t i = 0; i < half; i++) {
                float a = get(d, i) * get(c, i) + get(d, i + half) * get(n, i);
                float b = get(d, i + half) * get(c, i) - get(d, i) * get(n, i);
                put(to, i, (a * weight[i] - get(from, i) * along) * s);
                put(to, i + half, (b * weight[i + half] - get(from, i + half) * along) * s);
            }
        }
    }
}

// both: rows x (gate, up); product: act(gate) * up.
template <class T, class Act> void gated(const T* both, T* product, int64_t rows, int64_t size) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const T *gate = both + r * 2 * size, *up = gate + size;
        T* to = product + r * size;
#pragma omp simd
        for (int64_t i = 0; i < size; i++) {
            float value, slope;
            Act::at(get(gate, i), &value, &slope);
            put(to, i, value * get(up, i));
        }
    }
}

// The gradient of both, and the product once more, which nothing kept.
template <class T, class Act>
void gated_back(const T* both, const T* d_product, T* d_both, T* product, int64_t rows, int64_t size) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const T *gate = both + r * 2 * size, *up = gate + size, *d = d_product + r * size;
        T *d_gate = d_both + r * 2 * size, *d_up = d_gate + size, *to = product + r * size;
#pragma omp simd
        for (int64_t i = 0; i < size; i++) {
            float value, slope;
            Act::at(get(gate, i), &value, &slope);
            put(to, i, value * get(up, i));
            put(d_gate, i, get(d, i) * get(up, i) * slope);
            put(d_up, i, get(d, i) * value);
        }
    }
}

constexpr int64_t LANES = 16, ROWS = 8;  // columns a vector holds; rows that a product works on at a time
typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4)));

inline int64_t up_to(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// c (ROWS x columns) = a (ROWS x steps) b (steps x columns), or ADDED to it; columns are a multiple of LANES, b and c
// have room for them.
template <bool ADDED = false>
inline void product(const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t b_step, float* c,
                    int64_t c_row, int64_t steps, int64_t columns) {
    int64_t j = 0;
    for (; j + 2 * LANES <= columns; j += 2 * LANES) {
        Vector sum[ROWS][2] = {};
        if (ADDED)
#pragma GCC unroll 8
            for (int64_t r = 0; r < ROWS; r++) {
                sum[r][0] = *reinterpret_cast<const Vector*>(c + r * c_row + j);
                sum[r][1] = *reinterpret_cast<const Vector*>(c + r * c_row + j + LANES);
            }
        for (int64_t k = 0; k < steps; k++) {
            const Vector first = *reinterpret_cast<const Vector*>(b + k * b_step + j);
            const Vector second = *reinterpret_cast<const Vector*>(b + k * b_step + j + LANES);
#pragma GCC unroll 8
            for (int64_t r = 0; r < ROWS; r++) {
                const float x = a[r * a_row + k * a_step];
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
    for (; j < columns; j += LANES) {
        Vector sum[ROWS] = {};
        if (ADDED)
#pragma GCC unroll 8
            for (int64_t r = 0; r < ROWS; r++) sum[r] = *reinterpret_cast<const Vector*>(c + r * c_row + j);
        for (int64_t k = 0; k < steps; k++) {
            const Vector only = *reinterpret_cast<const Vector*>(b + k * b_step + j);
#pragma GCC unroll 8
            for (int64_t r = 0; r < ROWS; r++) sum[r] += a[r * a_row + k * a_step] * only;
        }
#pragma GCC unroll 8
        for (int64_t r = 0; r < ROWS; r++) *reinterpret_cast<Vector*>(c + r * c_row + j) = sum[r];
    }
}

// Memory that stays with its thread: asked for at every call, it would be mapped and zeroed again each time.
inline float* scratch(int64_t values, int64_t slot = 0) {
    static thread_local std::vector<float> slots[2];
    std::vector<float>& mine = slots[slot];
    if (static_cast<int64_t>(mine.size()) < values + LANES) mine.resize(values + LANES);
    return reinterpret_cast<float*>(up_to(reinterpret_cast<int64_t>(mine.data()), 4 * LANES));  // on a cache line
}

// LoRA's small products. A matrix is given with the distances of its rows and of its columns, so that it can stand
// for its transpose.

// The fp32 of a matrix rows x columns, its rows `wide` values apart and zeros at their ends.
template <class T>
float* spread(const T* x, int64_t rows, int64_t columns, int64_t row, int64_t column, int64_t wide) {
    float* to = scratch(rows * wide, 1);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < wide; i++) to[r * wide + i] = i < columns ? get(x, r * row + i * column) : 0.0f;
    return to;
}

// out = [x | x a]: tokens x (size + rank); x contiguous, a size x rank.
template <class T>
void append_low(const T* x, const T* a, T* out, int64_t tokens, int64_t size, int64_t rank, int64_t row,
                int64_t column) {
    const int64_t wide = up_to(rank, LANES);
    const float* factors = spread(a, size, rank, row, column, wide);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t += ROWS) {
        float *rows = scratch(ROWS * (size + wide)), *low = rows + ROWS * size;
        for (int64_t u = 0; u < ROWS; u++) {
            const T* from = x + std::min(t + u, tokens - 1) * size;
#pragma omp simd
            for (int64_t i = 0; i < size; i++) rows[u * size + i] = get(from, i);
        }
        product(rows, size, 1, factors, wide, low, wide, size, wide);
        for (int64_t u = 0; u < ROWS && t + u < tokens; u++) {
            T* to = out + (t + u) * (size + rank);
            std::memcpy(to, x + (t + u) * size, size * sizeof(T));
#pragma omp simd
            for (int64_t r = 0; r < rank; r++) put(to + size, r, low[u * wide + r]);
        }
    }
}

// out = x + low b: tokens x size, contiguous; b rank x size; a token of x every x_stride values, of low low_stride.
template <class T>
void add_low(const T* x, const T* low, const T* b, T* out, int64_t tokens, int64_t size, int64_t rank,
             int64_t x_stride, int64_t low_stride, int64_t row, int64_t column) {
    const int64_t wide = up_to(size, LANES);
    const float* factors = spread(b, rank, size, row, column, wide);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t += ROWS) {
        float *lows = scratch(ROWS * (rank + wide)), *sums = lows + ROWS * rank;
        for (int64_t u = 0; u < ROWS; u++)
            for (int64_t r = 0; r < rank; r++) lows[u * rank + r] = get(low, std::min(t + u, tokens - 1) * low_stride + r);
        product(lows, rank, 1, factors, wide, sums, wide, rank, wide);
        for (int64_t u = 0; u < ROWS && t + u < tokens; u++) {
            const T* from = x + (t + u) * x_stride;
            T* to = out + (t + u) * size;
#pragma omp simd
            for (int64_t i = 0; i < size; i++) put(to, i, get(from, i) + sums[u * wide + i]);
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
    const int64_t ranks = up_to(rank, ROWS), together = 32;  // tokens whose values stay in the first-level cache
    const int64_t share = up_to(size / (2 * omp_get_max_threads()) + 1, 2 * LANES);
    const int64_t block = std::min<int64_t>(256, share);  // columns: runs of a row that are long enough to be read fast
    float* factors = scratch(tokens * ranks, 1);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t r = 0; r < ranks; r++)
            factors[t * ranks + r] = r < rank ? scale * get(small, t * small_stride + r) : 0.0f;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t first = 0; first < size; first += block) {
        const int64_t n = std::min(block, size - first);
        float *columns = scratch((together + ranks) * block), *sums = columns + together * block;
        std::fill(sums, sums + ranks * block, 0.0f);
        for (int64_t t = 0; t < tokens; t += together) {
            const int64_t steps = std::min(together, tokens - t);
            for (int64_t u = 0; u < steps; u++) {
#pragma omp simd
                for (int64_t i = 0; i < n; i++) columns[u * block + i] = get(big, (t + u) * stride + first + i);
                std::fill(columns + u * block + n, columns + (u + 1) * block, 0.0f);
            }
            for (int64_t r = 0; r < ranks; r += ROWS)
                product<true>(factors + t * ranks + r, 1, ranks, columns, block, sums + r * block, block, steps, block);
        }
        for (int64_t r = 0; r < rank; r++)
            for (int64_t i = 0; i < n; i++)
                out[transposed ? (first + i) * rank + r : r * size + first + i] = sums[r * block + i];
    }
}

// Attention inside consecutive documents, in fp32: what a document needs of its keys and values is made fp32 once, and
// blocks of queries meet them by the small products below. Nothing of a score is kept: the way back makes them again.

struct Heads {  // queries: tokens x heads x size; keys and values: tokens x kv_heads x size, a token every `stride`
    int64_t heads, kv_heads, size, key_stride, value_stride, window;
    float scale;
    int64_t shared() const { return heads / kv_heads; }
};

struct Document {  // one key head of one document, and the query heads that share it
    int64_t start, length, kv;
    const Heads& h;

    int64_t wide() const { return up_to(length, LANES); }
    int64_t rows() const { return length * h.shared(); }                  // queries: a token's heads one after another
    int64_t room() const { return up_to(rows(), ROWS); }                  // for them in whole blocks
    int64_t place_of(int64_t row) const {                                 // of a query in tokens x heads x size
        return ((start + row / h.shared()) * h.heads + kv * h.shared() + row % h.shared()) * h.size;
    }
    int64_t first_seen(int64_t token) const { return h.window && token >= h.window ? token - h.window + 1 : 0; }
    // The keys that the block of queries from `row` on may see, rounded out to LANES.
    int64_t seen_from(int64_t row) const { return first_seen(row / h.shared()) / LANES * LANES; }
    int64_t seen_to(int64_t row) const {
        return up_to(std::min((row + ROWS - 1) / h.shared(), length - 1) + 1, LANES);
    }
};

// Keys or values of a document as fp32, a token a column: size x wide, zeros after the last token.
template <class T> void columns_of(const T* x, int64_t stride, const Document& d, float* to) {
    const T* from = x + d.start * stride + d.kv * d.h.size;
    const int64_t wide = d.wide();
    for (int64_t i = 0; i < d.h.size; i++)
        for (int64_t j = 0; j < wide; j++) to[i * wide + j] = j < d.length ? get(from, j * stride + i) : 0.0f;
}
template <class T> void rows_of(const T* x, int64_t stride, const Document& d, float* to) {
    for (int64_t j = 0; j < d.length; j++)
#pragma omp simd
        for (int64_t i = 0; i < d.h.size; i++)
            to[j * d.h.size + i] = get(x + (d.start + j) * stride + d.kv * d.h.size, i);
}

// ROWS queries (or their gradients) from `row` on as fp32; rows beyond the document are zeros.
template <class T> void queries_of(const T* x, const Document& d, int64_t row, float* to) {
    for (int64_t r = 0; r < ROWS; r++) {
        if (row + r >= d.rows()) {
            std::fill(to + r * d.h.size, to + (r + 1) * d.h.size, 0.0f);
            continue;
        }
        const T* from = x + d.place_of(row + r);
#pragma omp simd
        for (int64_t i = 0; i < d.h.size; i++) to[r * d.h.size + i] = get(from, i);
    }
}
template <class T> void write_queries(const float* from, const Document& d, int64_t row, T* x) {
    for (int64_t r = 0; r < ROWS && row + r < d.rows(); r++) {
        T* to = x + d.place_of(row + r);
#pragma omp simd
        for (int64_t i = 0; i < d.h.size; i++) put(to, i, from[r * d.h.size + i]);
    }
}

// The attention weights of a block of queries: ROWS x wide, zeros where a query must not look.
inline void weights_of(const float* queries, const float* key_columns, const Document& d, int64_t row,
                       float* weights) {
    const int64_t from = d.seen_from(row), to = d.seen_to(row), wide = d.wide();
    product(queries, d.h.size, 1, key_columns + from, wide, weights + from, wide, d.h.size, to - from);
    for (int64_t r = 0; r < ROWS; r++) {
        float* score = weights + r * wide;
        const int64_t token = (row + r) / d.h.shared(), end = token < d.length ? token + 1 : from;
        const int64_t begin = std::min(end, std::max(from, d.first_seen(token)));
        float top = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : top)
        for (int64_t j = begin; j < end; j++) top = score[j] > top ? score[j] : top;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = begin; j < end; j++) sum += score[j] = exp_((score[j] - top) * d.h.scale);
        const float share = 1.0f / sum;
#pragma omp simd
        for (int64_t j = begin; j < end; j++) score[j] *= share;
        std::fill(score + from, score + begin, 0.0f);
        std::fill(score + end, score + to, 0.0f);
    }
}

template <class T> void attend(const T* q, const T* k, const T* v, T* out, const Document& d, bool shared_out) {
    const int64_t size = d.h.size, wide = d.wide();
    float *key_columns = scratch(2 * wide * size), *value_rows = key_columns + wide * size;
    columns_of(k, d.h.key_stride, d, key_columns);
    rows_of(v, d.h.value_stride, d, value_rows);
#pragma omp parallel for schedule(dynamic, 1) if (shared_out)
    for (int64_t block = d.room() / ROWS - 1; block >= 0; block--) {
        const int64_t row = block * ROWS, from = d.seen_from(row), steps = std::min(d.seen_to(row), d.length) - from;
        std::vector<float> mine(2 * ROWS * size + ROWS * wide);
        float *queries = mine.data(), *outs = queries + ROWS * size, *weights = outs + ROWS * size;
        queries_of(q, d, row, queries);
        weights_of(queries, key_columns, d, row, weights);
        product(weights + from, wide, 1, value_rows + from * size, size, outs, size, steps, size);
        write_queries(outs, d, row, out);
    }
}

template <class T>
void attend_back(const T* d_out, const T* q, const T* k, const T* v, T* d_q, T* d_k, T* d_v, const Document& d,
                 bool shared_out) {
    const int64_t size = d.h.size, wide = d.wide(), rows = d.room(), shared = d.h.shared();
    float* key_columns = scratch(3 * wide * size + 2 * rows * (size + wide));
    float *value_columns = key_columns + wide * size, *key_rows = value_columns + wide * size;
    float *queries = key_rows + wide * size, *d_outs = queries + rows * size;
    float *weights = d_outs + rows * size, *d_scores = weights + rows * wide;
    columns_of(k, d.h.key_stride, d, key_columns);
    columns_of(v, d.h.value_stride, d, value_columns);
    rows_of(k, d.h.key_stride, d, key_rows);
#pragma omp parallel for schedule(dynamic, 1) if (shared_out)
    for (int64_t block = rows / ROWS - 1; block >= 0; block--) {
        const int64_t row = block * ROWS, from = d.seen_from(row), to = d.seen_to(row);
        float *query = queries + row * size, *slope = d_outs + row * size;
        float *weight = weights + row * wide, *d_score = d_scores + row * wide;
        queries_of(q, d, row, query);
        queries_of(d_out, d, row, slope);
        weights_of(query, key_columns, d, row, weight);
        product(slope, size, 1, value_columns + from, wide, d_score + from, wide, size, to - from);
        for (int64_t r = 0; r < ROWS; r++) {
            float along = 0.0f, *score = d_score + r * wide;
            const float* share = weight + r * wide;
#pragma omp simd reduction(+ : along)
            for (int64_t j = from; j < to; j++) along += score[j] * share[j];
#pragma omp simd
            for (int64_t j = from; j < to; j++) score[j] = share[j] * (score[j] - along) * d.h.scale;
        }
        std::vector<float> d_query(ROWS * size);
        product(d_score + from, wide, 1, key_rows + from * size, size, d_query.data(), size,
                std::min(to, d.length) - from, size);
        write_queries(d_query.data(), d, row, d_q);
    }
    T* const targets[2] = {d_k, d_v};
    const float* const factors[2] = {d_scores, weights};
    const float* const others[2] = {queries, d_outs};
#pragma omp parallel for schedule(dynamic, 1) if (shared_out)
    for (int64_t first = 0; first < d.length; first += ROWS) {  // keys, and all queries that see one of them
        const int64_t last = d.h.window ? std::min(d.length, first + ROWS - 1 + d.h.window) : d.length;
        const int64_t begin = first * shared;
        std::vector<float> sums(ROWS * size);
        for (int64_t which = 0; which < 2; which++) {
            product(factors[which] + begin * wide + first, 1, wide, others[which] + begin * size, size, sums.data(),
                    size, last * shared - begin, size);
            for (int64_t r = 0; r < ROWS && first + r < d.length; r++) {
                T* to = targets[which] + ((d.start + first + r) * d.h.kv_heads + d.kv) * size;
#pragma omp simd
                for (int64_t i = 0; i < size; i++) put(to, i, sums[r * size + i]);
            }
        }
    }
}

// Calls work(document, whether its blocks are shared out among threads) for every key head of every document: a
// document is one thread's where there are enough of them.
template <class Work> void each_document(const int64_t* lengths, int64_t count, const Heads& h, const Work& work) {
    std::vector<Document> documents;
    int64_t start = 0, longest = 0;
    for (int64_t i = 0; i < count; start += lengths[i++]) {
        for (int64_t kv = 0; kv < h.kv_heads; kv++) documents.push_back({start, lengths[i], kv, h});
        longest = std::max(longest, lengths[i]);
    }
    const int64_t found = documents.size();
    const bool shared_out = longest * omp_get_max_threads() > start * h.kv_heads;
    if (shared_out) {  // not a region of one thread: threads of a region inside another are made anew each time
        for (const Document& document : documents) work(document, true);
        return;
    }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < found; i++) work(documents[i], false);
}

template <class T>
void attention(const T* q, const T* k, const T* v, T* out, const int64_t* lengths, int64_t count, const Heads& h) {
    each_document(lengths, count, h, [&](const Document& d, bool shared_out) { attend(q, k, v, out, d, shared_out); });
}

template <class T>
void attention_back(const T* d_out, const T* q, const T* k, const T* v, T* d_q, T* d_k, T* d_v, const int64_t* lengths,
                    int64_t count, const Heads& h) {
    each_document(lengths, count, h, [&](const Document& d, bool shared_out) {
        attend_back(d_out, q, k, v, d_q, d_k, d_v, d, shared_out);
    });
}

// logits: size x rows, a word a row; gradient: rows x size, d loss / d logits, or null; loss: nats a row; right: whether
// no word is higher; a row whose gold is negative counts for nothing. Sums of 262,144 small numbers lose nothing: they are taken block by block.
template <class T>
void cross_entropy(const T* logits, const int64_t* gold, float* loss, int64_t* right, T* gradient, int64_t rows,
                   int64_t size) {
    const int64_t block = 2048, tile = 4 * LANES, blocks = (size + block - 1) / block;
    std::vector<float> tops(blocks * rows), sums(blocks * rows), top(rows, -INFINITY), sum(rows, 0.0f);
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < blocks; b++) {
        float *high = tops.data() + b * rows, *total = sums.data() + b * rows;
        const int64_t first = b * block, end = std::min(first + block, size);
        std::fill(high, high + rows, -INFINITY);
        for (int64_t w = first; w < end; w++)
#pragma omp simd
            for (int64_t r = 0; r < rows; r++) {
                const float z = get(logits, w * rows + r);
                high[r] = z > high[r] ? z : high[r];
            }
        std::fill(total, total + rows, 0.0f);
        for (int64_t w = first; w < end; w++)
#pragma omp simd
            for (int64_t r = 0; r < rows; r++) total[r] += exp_(get(logits, w * rows + r) - high[r]);
    }
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t r = 0; r < rows; r++) top[r] = std::max(top[r], tops[b * rows + r]);
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t r = 0; r < rows; r++) sum[r] += sums[b * rows + r] * exp_(tops[b * rows + r] - top[r]);
    for (int64_t r = 0; r < rows; r++) {
        const bool counts = gold[r] >= 0;
        const float score = counts ? get(logits, gold[r] * rows + r) : 0.0f;
        loss[r] = counts ? std::log(sum[r]) + top[r] - score : 0.0f;
        right[r] = counts && score == top[r];
        sum[r] = counts ? 1.0f / sum[r] : 0.0f;
    }
    if (gradient == nullptr) return;
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < size; first += tile) {
        const int64_t n = std::min(tile, size - first);
        float* share = scratch(tile * rows);
        for (int64_t w = 0; w < n; w++)
#pragma omp simd
            for (int64_t r = 0; r < rows; r++)
                share[w * rows + r] = exp_(get(logits, (first + w) * rows + r) - top[r]) * sum[r];
        for (int64_t r = 0; r < rows; r++) {
            if (gold[r] >= first && gold[r] < first + n) share[(gold[r] - first) * rows + r] -= 1.0f;
            for (int64_t w = 0; w < n; w++) put(gradient + r * size + first, w, share[w * rows + r]);
        }
    }
}

}  // namespace

// Lets the system take back the pages that lie wholly inside a piece of memory; reading them again brings them back.
extern "C" void page_out(char* from, int64_t bytes) {
    const uintptr_t page = sysconf(_SC_PAGESIZE), start = reinterpret_cast<uintptr_t>(from);
    const uintptr_t first = (start + page - 1) / page * page, last = (start + bytes) / page * page;
    if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_PAGEOUT);
}

#define EXPORT_GATED(T, S, name, Act)                                                                                  \
    extern "C" void name##_##S(const T* both, T* product, int64_t rows, int64_t size) {                                \
        gated<T, Act>(both, product, rows, size);                                                                      \
    }                                                                                                                  \
    extern "C" void name##_back_##S(const T* both, const T* d, T* d_both, T* product, int64_t rows, int64_t size) {    \
        gated_back<T, Act>(both, d, d_both, product, rows, size);                                                      \
    }

#define EXPORT(T, S)                                                                                                   \
    extern "C" void norm_##S(const T* x, const float* w, T* out, float* scale, int64_t rows, int64_t size, float e) {  \
        norm<T>(x, w, out, scale, rows, size, e);                                                                      \
    }                                                                                                                  \
    extern "C" void norm_back_##S(const T* d, const T* x, const float* w, const float* scale, T* d_x, int64_t rows,    \
                                  int64_t size) {                                                                      \
        norm_back<T>(d, x, w, scale, d_x, rows, size);                                                                 \
    }                                                                                                                  \
    extern "C" void norm_rope_##S(const T* x, const float* w, const T* c, const T* s, T* out, float* scale,            \
                                  int64_t tokens, int64_t heads, int64_t size, int64_t stride, float e) {              \
        norm_rope<T>(x, w, c, s, out, scale, tokens, heads, size, stride, e);                                          \
    }                                                                                                                  \
    extern "C" void norm_rope_back_##S(const T* d, const T* x, const float* w, const T* c, const T* s,                 \
                                       const float* scale, T* d_x, int64_t tokens, int64_t heads, int64_t size,        \
                                       int64_t stride, int64_t d_stride) {                                             \
        norm_rope_back<T>(d, x, w, c, s, scale, d_x, tokens, heads, size, stride, d_stride);                           \
    }                                                                                                                  \
    EXPORT_GATED(T, S, gelu, Gelu)                                                                                     \
    EXPORT_GATED(T, S, silu, Silu)                                                                                     \
    extern "C" void cross_entropy_##S(const T* z, const int64_t* gold, float* loss, int64_t* right, T* gradient,       \
                                      int64_t rows, int64_t size) {                                                    \
        cross_entropy<T>(z, gold, loss, right, gradient, rows, size);                                                  \
    }                                                                                                                  \
    extern "C" void append_low_##S(const T* x, const T* a, T* out, int64_t tokens, int64_t size, int64_t rank,         \
                                   int64_t row, int64_t column) {                                                      \
        append_low<T>(x, a, out, tokens, size, rank, row, column);                                                     \
    }                                                                                                                  \
    extern "C" void add_low_##S(const T* x, const T* low, const T* b, T* out, int64_t tokens, int64_t size,            \
                                int64_t rank, int64_t x_stride, int64_t low_stride, int64_t row, int64_t column) {     \
        add_low<T>(x, low, b, out, tokens, size, rank, x_stride, low_stride, row, column);                             \
    }                                                                                                                  \
    extern "C" void cast_##S(const float* from, T* to, int64_t rows, int64_t columns, int64_t stride, float scale) {   \
        cast<T>(from, to, rows, columns, stride, scale);                                                               \
    }                                                                                                                  \
    extern "C" void outer_##S(const T* big, const T* small, float* out, int64_t tokens, int64_t size, int64_t rank,    \
                              int64_t stride, int64_t small_stride, int64_t transposed, float scale) {                 \
        outer<T>(big, small, out, tokens, size, rank, stride, small_stride, transposed, scale);                        \
    }                                                                                                                  \
    extern "C" void attention_##S(const T* q, const T* k, const T* v, T* out, const int64_t* lengths, int64_t count,   \
                                  int64_t heads, int64_t kv_heads, int64_t size, int64_t key_stride,                   \
                                  int64_t value_stride, int64_t window, float scale) {                                 \
        const Heads h{heads, kv_heads, size, key_stride, value_stride, window, scale};                                 \
        attention<T>(q, k, v, out, lengths, count, h);                                                                 \
    }                                                                                                                  \
    extern "C" void attention_back_##S(const T* d_out, const T* q, const T* k, const T* v, T* d_q, T* d_k, T* d_v,     \
                                       const int64_t* lengths, int64_t count, int64_t heads, int64_t kv_heads,         \
                                       int64_t size, int64_t key_stride, int64_t value_stride, int64_t window,         \
                                       float scale) {                                                                  \
        const Heads h{heads, kv_heads, size, key_stride, value_stride, window, scale};                                 \
        attention_back<T>(d_out, q, k, v, d_q, d_k, d_v, lengths, count, h);                                           \
    }

EXPORT(bf16, bf16)
EXPORT(float, fp32)
