// act(gate) * up, forward and backward, in one pass over memory each:
// d_gate = d * up * act'(gate), d_up = d * act(gate).

#pragma once

#include "bf16.h"

namespace {

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

// The gradient of both, and the product recomputed.
template <class T, class Act>
void gated_backward(const T* both, const T* d_product, T* d_both, T* product, int64_t rows, int64_t size) {
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

}  // namespace
