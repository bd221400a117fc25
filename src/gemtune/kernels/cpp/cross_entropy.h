// Cross-entropy over many words, and its gradient: loss = log sum_w exp(z_w) - z_gold, dz = softmax(z) - onehot(gold).

#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "bf16.h"
#include "matmul.h"

namespace {

// logits: words x rows, one column per row of hidden states; gold: each row's target word, negative where the row has
// no loss; loss: nats; right: whether no word is higher; top, factor: a word's probability is exp(logit - top) *
// factor. Sums of 262,144 small numbers lose nothing, because they are taken block by block.
template <class T>
void cross_entropy(const T* logits, const int64_t* gold, float* loss, int64_t* right, float* top, float* factor,
                   int64_t rows, int64_t words) {
    const int64_t block = 2048, blocks = (words + block - 1) / block;
    std::vector<float> tops(blocks * rows), sums(blocks * rows), sum(rows, 0.0f);
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < blocks; b++) {
        float *high = tops.data() + b * rows, *total = sums.data() + b * rows;
        const int64_t first = b * block, end = std::min(first + block, words);
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
    std::fill(top, top + rows, -INFINITY);
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t r = 0; r < rows; r++) top[r] = std::max(top[r], tops[b * rows + r]);
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t r = 0; r < rows; r++) sum[r] += sums[b * rows + r] * exp_(tops[b * rows + r] - top[r]);
    for (int64_t r = 0; r < rows; r++) {
        const bool counts = gold[r] >= 0;
        const float score = counts ? get(logits, gold[r] * rows + r) : 0.0f;
        loss[r] = counts ? std::log(sum[r]) + top[r] - score : 0.0f;
        right[r] = counts && score == top[r];
        factor[r] = counts ? 1.0f / sum[r] : 0.0f;
    }
}

// The gradient of the logits of `words` words from `first` on: rows x words, for logits that begin at that word.
template <class T>
void cross_entropy_backward(const T* logits, const int64_t* gold, const float* top, const float* factor, T* gradient,
                            int64_t rows, int64_t words, int64_t first) {
    const int64_t tile = 4 * LINE;
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < words; start += tile) {
        const int64_t n = std::min(tile, words - start);
        float* d_logits = scratch(tile * rows);
        for (int64_t w = 0; w < n; w++)
#pragma omp simd
            for (int64_t r = 0; r < rows; r++)
                d_logits[w * rows + r] = exp_(get(logits, (start + w) * rows + r) - top[r]) * factor[r];
        for (int64_t r = 0; r < rows; r++) {
            const int64_t target = gold[r] - first - start;
            if (gold[r] >= 0 && target >= 0 && target < n) d_logits[target * rows + r] -= 1.0f;
            for (int64_t w = 0; w < n; w++) put(gradient + r * words + start, w, d_logits[w * rows + r]);
        }
    }
}

}  // namespace
