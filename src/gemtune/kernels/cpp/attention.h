// Attention inside consecutive documents: blocks of queries meet the keys and values of their document by small products
// with fp32 sums. Nothing of a score is kept: the way back makes them again.

#pragma once

#include <algorithm>
#include <vector>

#include <omp.h>

#include "products.h"
#include "values.h"

namespace {

struct Heads {  // queries: tokens x heads x size; keys and values: tokens x kv_heads x size, a token every `stride`
    int64_t heads, kv_heads, size, key_stride, value_stride, window;
    float scale;
    int64_t shared() const { return heads / kv_heads; }
};

constexpr int64_t UNIT = 32;  // ranges of keys and of queries begin and end at multiples of it

struct Document {  // one key head of one document, and the query heads that share it
    int64_t start, length, kv;
    const int64_t* ends;  // how far each token sees, where that is not just to itself; it never falls
    const Heads& h;

    int64_t wide() const { return up_to(length, UNIT); }
    int64_t rows() const { return length * h.shared(); }  // queries: a token's heads one after another
    int64_t tall() const { return up_to(rows(), UNIT); }
    int64_t deep() const { return up_to(h.size, UNIT); }
    int64_t place_of(int64_t row) const {  // of a query in tokens x heads x size
        return ((start + row / h.shared()) * h.heads + kv * h.shared() + row % h.shared()) * h.size;
    }
    int64_t end_of(int64_t token) const { return ends ? ends[start + token] : token + 1; }
    int64_t first_seen(int64_t token) const { return h.window && token >= h.window ? token - h.window + 1 : 0; }
    // The keys that the block of queries from `row` on may see, rounded out to UNIT.
    int64_t seen_from(int64_t row) const { return first_seen(row / h.shared()) / UNIT * UNIT; }
    int64_t seen_to(int64_t row) const {
        return up_to(end_of(std::min((row + TILE - 1) / h.shared(), length - 1)), UNIT);
    }
    int64_t first_seeing(int64_t token) const {  // the first token that sees a token
        int64_t first = token;
        while (first > 0 && end_of(first - 1) > token) first--;
        return first;
    }
    template <class T> Right<T> token_a_column(const T* x, int64_t stride, float* room) const {
        return Right<T>(x + start * stride + kv * h.size, h.size, length, 1, stride, room);
    }
    template <class T> Right<T> token_a_row(const T* x, int64_t stride, float* room) const {
        return Right<T>(x + start * stride + kv * h.size, length, h.size, stride, 1, room);
    }
};

// TILE queries (or their gradients) from `row` on: TILE x deep; rows beyond the document are zeros, as they come.
template <class T> void queries_of(const T* x, const Document& d, int64_t row, T* to) {
    for (int64_t r = 0; r < TILE && row + r < d.rows(); r++)
        std::copy_n(x + d.place_of(row + r), d.h.size, to + r * d.deep());
}
template <class T> void write_queries(const float* from, const Document& d, int64_t row, T* x) {
    for (int64_t r = 0; r < TILE && row + r < d.rows(); r++) {
        T* to = x + d.place_of(row + r);
#pragma omp simd
        for (int64_t i = 0; i < d.h.size; i++) put(to, i, from[r * d.deep() + i]);
    }
}

// The attention weights of a block of queries (TILE x deep): TILE x wide, zeros where a query must not look.
template <class T>
void weights_of(const T* queries, const Right<T>& keys, const Document& d, int64_t row, float* weights) {
    const int64_t from = d.seen_from(row), to = d.seen_to(row), wide = d.wide();
    keys.times(queries, d.deep(), weights, wide, 0, d.deep(), from, to);
    for (int64_t r = 0; r < TILE; r++) {
        float* score = weights + r * wide;
        const int64_t token = (row + r) / d.h.shared(), end = token < d.length ? d.end_of(token) : from;
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

template <class T> void round_to(const float* from, int64_t count, T* to) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) put(to, i, from[i]);
}

// A row of `to` (columns x TILE, rows apart) from each column of x (TILE x columns, rows `wide` apart).
template <class T> void turn(const float* x, int64_t wide, int64_t columns, T* to, int64_t apart) {
    for (int64_t j = 0; j < columns; j++)
#pragma omp simd
        for (int64_t r = 0; r < TILE; r++) put(to + j * apart, r, x[r * wide + j]);
}

template <class T> void attend(const T* q, const T* k, const T* v, T* out, const Document& d, bool shared_out) {
    const int64_t wide = d.wide(), deep = d.deep(), room = wide * deep;
    float* rooms = scratch(2 * room);
    const Right<T> keys = d.token_a_column(k, d.h.key_stride, rooms);
    const Right<T> values = d.token_a_row(v, d.h.value_stride, rooms + room);
#pragma omp parallel for schedule(dynamic, 1) if (shared_out)
    for (int64_t row = (d.rows() - 1) / TILE * TILE; row >= 0; row -= TILE) {
        const int64_t from = d.seen_from(row), to = d.seen_to(row);
        std::vector<T> queries(TILE * deep), weights(TILE * wide);
        std::vector<float> scores(TILE * wide), outs(TILE * deep);
        const TilesInUse in_use;
        queries_of(q, d, row, queries.data());
        weights_of(queries.data(), keys, d, row, scores.data());
        for (int64_t r = 0; r < TILE; r++)
            round_to(scores.data() + r * wide + from, to - from, weights.data() + r * wide + from);
        values.times(weights.data(), wide, outs.data(), deep, from, to, 0, deep);
        write_queries(outs.data(), d, row, out);
    }
}

template <class T>
void attend_back(const T* d_out, const T* q, const T* k, const T* v, T* d_q, T* d_k, T* d_v, const Document& d,
                 bool shared_out) {
    const int64_t wide = d.wide(), deep = d.deep(), tall = d.tall(), shared = d.h.shared(), room = wide * deep;
    float* rooms = scratch(3 * room + 2 * tall * deep);
    const Right<T> keys = d.token_a_column(k, d.h.key_stride, rooms);
    const Right<T> values = d.token_a_column(v, d.h.value_stride, rooms + room);
    const Right<T> key_rows = d.token_a_row(k, d.h.key_stride, rooms + 2 * room);
    // Queries and the gradient of their outputs; and, a key a row, their weights and the gradient of their scores.
    std::vector<T> queries(tall * deep), slopes(tall * deep), weights(wide * tall), d_scores(wide * tall);
#pragma omp parallel for schedule(dynamic, 1) if (shared_out)
    for (int64_t row = (d.rows() - 1) / TILE * TILE; row >= 0; row -= TILE) {
        const int64_t from = d.seen_from(row), to = d.seen_to(row);
        T *query = queries.data() + row * deep, *slope = slopes.data() + row * deep;
        std::vector<float> weight(TILE * wide), d_weight(TILE * wide), d_query(TILE * deep);
        std::vector<T> d_score(TILE * wide);
        const TilesInUse in_use;
        queries_of(q, d, row, query);
        queries_of(d_out, d, row, slope);
        weights_of(query, keys, d, row, weight.data());
        values.times(slope, deep, d_weight.data(), wide, 0, deep, from, to);
        for (int64_t r = 0; r < TILE; r++) {
            const float* share = weight.data() + r * wide;
            float *along = d_weight.data() + r * wide, mean = 0.0f;
#pragma omp simd reduction(+ : mean)
            for (int64_t j = from; j < to; j++) mean += along[j] * share[j];
#pragma omp simd
            for (int64_t j = from; j < to; j++) along[j] = share[j] * (along[j] - mean) * d.h.scale;
            round_to(along + from, to - from, d_score.data() + r * wide + from);
        }
        turn(weight.data() + from, wide, to - from, weights.data() + from * tall + row, tall);
        turn(d_weight.data() + from, wide, to - from, d_scores.data() + from * tall + row, tall);
        key_rows.times(d_score.data(), wide, d_query.data(), deep, from, to, 0, deep);
        write_queries(d_query.data(), d, row, d_q);
    }
    const Right<T> query_rows(queries.data(), tall, d.h.size, deep, 1, rooms + 3 * room);
    const Right<T> slope_rows(slopes.data(), tall, d.h.size, deep, 1, rooms + 3 * room + tall * deep);
#pragma omp parallel for schedule(dynamic, 1) if (shared_out)
    for (int64_t first = 0; first < d.length; first += TILE) {  // keys, and all queries that see one of them
        const int64_t last = d.h.window ? std::min(d.length, first + TILE - 1 + d.h.window) : d.length;
        const int64_t begin = d.first_seeing(first) * shared / UNIT * UNIT, end = up_to(last * shared, UNIT);
        std::vector<float> sums(TILE * deep);
        const TilesInUse in_use;
        for (int64_t which = 0; which < 2; which++) {
            const T* left = (which ? weights : d_scores).data() + first * tall;
            (which ? slope_rows : query_rows).times(left, tall, sums.data(), deep, begin, end, 0, deep);
            for (int64_t r = 0; r < TILE && first + r < d.length; r++)
                round_to(sums.data() + r * deep, d.h.size,
                         (which ? d_v : d_k) + ((d.start + first + r) * d.h.kv_heads + d.kv) * d.h.size);
        }
    }
}

// Calls work(document, whether its blocks are shared out among threads) for every key head of every document: a
// document is one thread's where there are enough of them.
template <class Work>
void each_document(const int64_t* lengths, int64_t count, const int64_t* ends, const Heads& h, const Work& work) {
    std::vector<Document> documents;
    int64_t start = 0, longest = 0;
    for (int64_t i = 0; i < count; start += lengths[i++]) {
        for (int64_t kv = 0; kv < h.kv_heads; kv++) documents.push_back({start, lengths[i], kv, ends, h});
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
void attention(const T* q, const T* k, const T* v, T* out, const int64_t* lengths, int64_t count, const int64_t* ends,
               const Heads& h) {
    each_document(lengths, count, ends, h, [&](const Document& d, bool shared_out) { attend(q, k, v, out, d, shared_out); });
}

template <class T>
void attention_back(const T* d_out, const T* q, const T* k, const T* v, T* d_q, T* d_k, T* d_v, const int64_t* lengths,
                    int64_t count, const int64_t* ends, const Heads& h) {
    each_document(lengths, count, ends, h, [&](const Document& d, bool shared_out) {
        attend_back(d_out, q, k, v, d_q, d_k, d_v, d, shared_out);
    });
}

}  // namespace
