// RMSNorm, alone and with rotary positions, forward and backward, in one pass over memory each:
// y = x s w, s = 1 / sqrt(mean(x^2) + eps), dx = s (d w - x s^2 mean(d w x)).

#pragma once

#include "bf16.h"

namespace {

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
void norm_backward(const T* d_out, const T* x, const float* weight, const float* scale, T* d_x, int64_t rows,
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

// x: tokens x heads x size, a token every `stride` values; cos and sin: size / 2 of a token, the next after `angle`;
// out: contiguous.
template <class T>
void norm_rope(const T* x, const float* weight, const T* cos, const T* sin, T* out, float* scale, int64_t tokens,
               int64_t heads, int64_t size, int64_t stride, int64_t angle, float eps) {
    const int64_t half = size / 2;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t++) {
        const T *c = cos + t * angle, *n = sin + t * angle;
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
void norm_rope_backward(const T* d_out, const T* x, const float* weight, const T* cos, const T* sin, const float* scale,
                        T* d_x, int64_t tokens, int64_t heads, int64_t size, int64_t stride, int64_t angle,
                        int64_t d_stride) {
    const int64_t half = size / 2;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; t++) {
        const T *c = cos + t * angle, *n = sin + t * angle;
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

}  // namespace
