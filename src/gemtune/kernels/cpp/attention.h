// Causal attention inside consecutive documents, blocks of TILE queries at a time. Scores are fp32 and never kept:
// backward recomputes them.
//
//     S = scale Q K^T, -inf where a query must not look    P = softmax(S)    O = P V
//     dP = dO V^T    dS = P * (dP - rowsum(dP * P))    dQ = scale dS K    dK = scale dS^T Q    dV = P^T dO

#pragma once

#include <algorithm>
#include <vector>

#include <omp.h>

#include "bf16.h"
#include "matmul.h"

namespace {

// Queries: tokens x heads x size; keys and values: tokens x kv_heads x size, a token every `stride` values.
struct Heads {
    int64_t heads, kv_heads, size, key_stride, value_stride, window;
    float scale;
    int64_t shared() const { return heads / kv_heads; }
};

constexpr int64_t UNIT = 32;  // ranges of keys and of queries begin and end at multiples of it

// One key head of one document, and the query heads that share it: a token's heads are consecutive rows of queries.
struct Document {
    int64_t start, length, kv;
    const int64_t* ends;  // where what each token sees ends, if that is not itself; it never falls
    const Heads& h;

    int64_t queries() const { return length * h.shared(); }
    int64_t padded_keys() const { return round_up(length, UNIT); }
    int64_t padded_queries() const { return round_up(queries(), UNIT); }
    int64_t padded_size() const { return round_up(h.size, UNIT); }

    int64_t offset_of(int64_t query) const {  // in tokens x heads x size
        return ((start + query / h.shared()) * h.heads + kv * h.shared() + query % h.shared()) * h.size;
    }
    // The keys that a token sees.
    int64_t visible_begin(int64_t token) const { return h.window && token >= h.window ? token - h.window + 1 : 0; }
    int64_t visible_end(int64_t token) const { return ends ? ends[start + token] : token + 1; }
    // The keys that a block of queries sees, rounded out to UNIT.
    int64_t keys_begin(int64_t query) const { return visible_begin(query / h.shared()) / UNIT * UNIT; }
    int64_t keys_end(int64_t query) const {
        return round_up(visible_end(std::min((query + TILE - 1) / h.shared(), length - 1)), UNIT);
    }
    int64_t first_to_see(int64_t key) const {  // the first token that sees a key
        int64_t token = key;
        while (token > 0 && visible_end(token - 1) > key) token--;
        return token;
    }

    // Keys or values as the right-hand operand: size x tokens, and tokens x size.
    template <class T> PackedMatrix<T> pack_transposed(const T* x, int64_t stride, float* memory) const {
        return PackedMatrix<T>(x + start * stride + kv * h.size, h.size, length, 1, stride, memory);
    }
    template <class T> PackedMatrix<T> pack(const T* x, int64_t stride, float* memory) const {
        return PackedMatrix<T>(x + start * stride + kv * h.size, length, h.size, stride, 1, memory);
    }
};

// A block of TILE queries (or of their gradients): TILE x padded_size. Rows beyond the document keep their zeros.
template <class T> void load_queries(const T* x, const Document& d, int64_t query, T* block) {
    for (int64_t r = 0; r < TILE && query + r < d.queries(); r++)
        std::copy_n(x + d.offset_of(query + r), d.h.size, block + r * d.padded_size());
}
template <class T> void store_queries(const float* block, const Document& d, int64_t query, T* x) {
    for (int64_t r = 0; r < TILE && query + r < d.queries(); r++) {
        T* to = x + d.offset_of(query + r);
#pragma omp simd
        for (int64_t i = 0; i < d.h.size; i++) put(to, i, block[r * d.padded_size() + i]);
    }
}

// P of a block of queries (TILE x padded_size): TILE x padded_keys, zeros where a query must not look.
template <class T>
void attention_weights(const T* queries, const PackedMatrix<T>& keys, const Document& d, int64_t query,
                       float* weights) {
    const int64_t from = d.keys_begin(query), to = d.keys_end(query), width = d.padded_keys();
    keys.times(queries, d.padded_size(), weights, width, 0, d.padded_size(), from, to);
    for (int64_t r = 0; r < TILE; r++) {
        float* score = weights + r * width;
        const int64_t token = (query + r) / d.h.shared(), end = token < d.length ? d.visible_end(token) : from;
        const int64_t begin = std::min(end, std::max(from, d.visible_begin(token)));
        float top = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : top)
        for (int64_t j = begin; j < end; j++) top = score[j] > top ? score[j] : top;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = begin; j < end; j++) sum += score[j] = exp_((score[j] - top) * d.h.scale);
        const float factor = 1.0f / sum;
#pragma omp simd
        for (int64_t j = begin; j < end; j++) score[j] *= factor;
        std::fill(score + from, score + begin, 0.0f);
        std::fill(score + end, score + to, 0.0f);
    }
}

// dS times scale from P and dP, in place of dP: TILE x keys, rows `width` apart.
inline void score_gradients(const float* weights, float* d_weights, int64_t width, int64_t keys, float scale) {
    for (int64_t r = 0; r < TILE; r++) {
        const float* weight = weights + r * width;
        float *slope = d_weights + r * width, mean = 0.0f;
#pragma omp simd reduction(+ : mean)
        for (int64_t j = 0; j < keys; j++) mean += slope[j] * weight[j];
#pragma omp simd
        for (int64_t j = 0; j < keys; j++) slope[j] = weight[j] * (slope[j] - mean) * scale;
    }
}

// `count` values from each of TILE rows, in the type of products.
template <class T> void round_rows(const float* from, int64_t width, int64_t count, T* to) {
    for (int64_t r = 0; r < TILE; r++)
#pragma omp simd
        for (int64_t i = 0; i < count; i++) put(to + r * width, i, from[r * width + i]);
}

// A row of `to` (columns x TILE, rows to_row apart) from each column of x (TILE x columns, rows x_row apart).
template <class T> void transpose(const float* x, int64_t x_row, int64_t columns, T* to, int64_t to_row) {
    for (int64_t j = 0; j < columns; j++)
#pragma omp simd
        for (int64_t r = 0; r < TILE; r++) put(to + j * to_row, r, x[r * x_row + j]);
}

template <class T> void attend(const T* q, const T* k, const T* v, T* out, const Document& d, bool parallel) {
    const int64_t width = d.padded_keys(), size = d.padded_size();
    float* memory = scratch(2 * width * size);
    const PackedMatrix<T> keys = d.pack_transposed(k, d.h.key_stride, memory);
    const PackedMatrix<T> values = d.pack(v, d.h.value_stride, memory + width * size);
#pragma omp parallel for schedule(dynamic, 1) if (parallel)
    for (int64_t query = (d.queries() - 1) / TILE * TILE; query >= 0; query -= TILE) {
        const int64_t from = d.keys_begin(query), to = d.keys_end(query);
        std::vector<T> queries(TILE * size), weights(TILE * width);
        std::vector<float> exact(TILE * width), outs(TILE * size);
        const TileSession session;
        load_queries(q, d, query, queries.data());
        attention_weights(queries.data(), keys, d, query, exact.data());
        round_rows(exact.data() + from, width, to - from, weights.data() + from);
        values.times(weights.data(), width, outs.data(), size, from, to, 0, size);
        store_queries(outs.data(), d, query, out);
    }
}

// What the gradients of keys and values sum over, per document: Q and dO by query, P and dS by key and query.
template <class T> struct Recomputed {
    std::vector<T> queries, d_outs;    // padded_queries x padded_size
    std::vector<T> weights, d_scores;  // padded_keys x padded_queries: transposed
    explicit Recomputed(const Document& d)
        : queries(d.padded_queries() * d.padded_size()),
          d_outs(queries.size()),
          weights(d.padded_keys() * d.padded_queries()),
          d_scores(weights.size()) {}
};

// Writes d_q, and what key_gradients needs.
template <class T>
void query_gradients(const T* d_out, const T* q, const T* k, const T* v, T* d_q, Recomputed<T>& all, const Document& d,
                     float* memory, bool parallel) {
    const int64_t width = d.padded_keys(), size = d.padded_size(), height = d.padded_queries();
    const PackedMatrix<T> keys = d.pack_transposed(k, d.h.key_stride, memory);
    const PackedMatrix<T> values = d.pack_transposed(v, d.h.value_stride, memory + width * size);
    const PackedMatrix<T> key_rows = d.pack(k, d.h.key_stride, memory + 2 * width * size);
#pragma omp parallel for schedule(dynamic, 1) if (parallel)
    for (int64_t query = (d.queries() - 1) / TILE * TILE; query >= 0; query -= TILE) {
        const int64_t from = d.keys_begin(query), to = d.keys_end(query);
        T *queries = all.queries.data() + query * size, *d_outs = all.d_outs.data() + query * size;
        std::vector<float> weights(TILE * width), d_scores(TILE * width), d_queries(TILE * size);
        std::vector<T> rounded(TILE * width);
        const TileSession session;
        load_queries(q, d, query, queries);
        load_queries(d_out, d, query, d_outs);
        attention_weights(queries, keys, d, query, weights.data());
        values.times(d_outs, size, d_scores.data(), width, 0, size, from, to);  // dP, which becomes dS
        score_gradients(weights.data() + from, d_scores.data() + from, width, to - from, d.h.scale);
        round_rows(d_scores.data() + from, width, to - from, rounded.data() + from);
        transpose(weights.data() + from, width, to - from, all.weights.data() + from * height + query, height);
        transpose(d_scores.data() + from, width, to - from, all.d_scores.data() + from * height + query, height);
        key_rows.times(rounded.data(), width, d_queries.data(), size, from, to, 0, size);
        store_queries(d_queries.data(), d, query, d_q);
    }
}

template <class T>
void key_gradients(const Recomputed<T>& all, T* d_k, T* d_v, const Document& d, float* memory, bool parallel) {
    const int64_t size = d.padded_size(), height = d.padded_queries(), shared = d.h.shared();
    const PackedMatrix<T> queries(all.queries.data(), height, d.h.size, size, 1, memory);
    const PackedMatrix<T> d_outs(all.d_outs.data(), height, d.h.size, size, 1, memory + height * size);
#pragma omp parallel for schedule(dynamic, 1) if (parallel)
    for (int64_t key = 0; key < d.length; key += TILE) {  // and all queries that see one of TILE keys
        const int64_t last = d.h.window ? std::min(d.length, key + TILE - 1 + d.h.window) : d.length;
        const int64_t from = d.first_to_see(key) * shared / UNIT * UNIT, to = round_up(last * shared, UNIT);
        std::vector<float> sums(TILE * size);
        const TileSession session;
        const auto write = [&](const PackedMatrix<T>& right, const std::vector<T>& left, T* gradient) {
            right.times(left.data() + key * height, height, sums.data(), size, from, to, 0, size);
            for (int64_t r = 0; r < TILE && key + r < d.length; r++) {
                T* row = gradient + ((d.start + key + r) * d.h.kv_heads + d.kv) * d.h.size;
#pragma omp simd
                for (int64_t i = 0; i < d.h.size; i++) put(row, i, sums[r * size + i]);
            }
        };
        write(queries, all.d_scores, d_k);
        write(d_outs, all.weights, d_v);
    }
}

template <class T>
void attend_backward(const T* d_out, const T* q, const T* k, const T* v, T* d_q, T* d_k, T* d_v, const Document& d,
                     bool parallel) {
    const int64_t packed_keys = d.padded_keys() * d.padded_size();
    const int64_t packed_queries = d.padded_queries() * d.padded_size();
    float* memory = scratch(3 * packed_keys + 2 * packed_queries);
    Recomputed<T> all(d);
    query_gradients(d_out, q, k, v, d_q, all, d, memory, parallel);
    key_gradients(all, d_k, d_v, d, memory + 3 * packed_keys, parallel);
}

// Calls work(document, whether its blocks are shared among threads) for every key head of every document: a document
// is one thread's where there are enough of them.
template <class Work>
void for_each_document(const int64_t* lengths, int64_t count, const int64_t* ends, const Heads& h, const Work& work) {
    std::vector<Document> documents;
    int64_t start = 0, longest = 0;
    for (int64_t i = 0; i < count; start += lengths[i++]) {
        for (int64_t kv = 0; kv < h.kv_heads; kv++) documents.push_back({start, lengths[i], kv, ends, h});
        longest = std::max(longest, lengths[i]);
    }
    const int64_t number = documents.size();
    if (longest * omp_get_max_threads() > start * h.kv_heads) {
        // Not a region of one thread: threads of a region inside another are created anew each time.
        for (const Document& document : documents) work(document, true);
        return;
    }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < number; i++) work(documents[i], false);
}

template <class T>
void attention(const T* q, const T* k, const T* v, T* out, const int64_t* lengths, int64_t count, const int64_t* ends,
               const Heads& h) {
    for_each_document(lengths, count, ends, h,
                      [&](const Document& d, bool parallel) { attend(q, k, v, out, d, parallel); });
}

template <class T>
void attention_backward(const T* d_out, const T* q, const T* k, const T* v, T* d_q, T* d_k, T* d_v,
                        const int64_t* lengths, int64_t count, const int64_t* ends, const Heads& h) {
    for_each_document(lengths, count, ends, h, [&](const Document& d, bool parallel) {
        attend_backward(d_out, q, k, v, d_q, d_k, d_v, d, parallel);
    });
}

}  // namespace
