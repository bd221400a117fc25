// The elementwise passes of a training step, each in one sweep over memory where PyTorch takes four to nine.
//
// Rows are independent and shared among OpenMP threads. Values are read as bf16 or fp32, computed in fp32 and rounded
// once, to nearest even, as PyTorch rounds. native.py compiles this file and says what each argument is.

#include <cmath>
#include <cstdint>
#include <cstring>

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

template <class T, class Act>
void gated_back(const T* both, const T* d_product, T* d_both, int64_t rows, int64_t size) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const T *gate = both + r * 2 * size, *up = gate + size, *d = d_product + r * size;
        T *d_gate = d_both + r * 2 * size, *d_up = d_gate + size;
#pragma omp simd
        for (int64_t i = 0; i < size; i++) {
            float value, slope;
            Act::at(get(gate, i), &value, &slope);
            put(d_gate, i, get(d, i) * get(up, i) * slope);
            put(d_up, i, get(d, i) * value);
        }
    }
}

// logits: rows x size, which become d loss / d logits when `gradient`; loss: nats a row; right: nothing is higher.
template <class T>
void cross_entropy(T* logits, const int64_t* gold, float* loss, int64_t* right, int64_t rows, int64_t size,
                   int64_t gradient) {
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t r = 0; r < rows; r++) {
        T* z = logits + r * size;
        float top = get(z, 0), score = get(z, gold[r]), sum = 0.0f;
#pragma omp simd reduction(max : top)
        for (int64_t i = 0; i < size; i++) top = get(z, i) > top ? get(z, i) : top;
        const int64_t block = 4096;  // summed apart, so that 262,144 small numbers lose nothing
        for (int64_t first = 0; first < size; first += block) {
            int64_t end = first + block < size ? first + block : size;
            float part = 0.0f;
#pragma omp simd reduction(+ : part)
            for (int64_t i = first; i < end; i++) part += exp_(get(z, i) - top);
            sum += part;
        }
        loss[r] = std::log(sum) + top - score;
        right[r] = score == top;
        if (gradient) {
#pragma omp simd
            for (int64_t i = 0; i < size; i++) put(z, i, exp_(get(z, i) - top) / sum);
            put(z, gold[r], exp_(score - top) / sum - 1.0f);
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
    extern "C" void name##_back_##S(const T* both, const T* d, T* d_both, int64_t rows, int64_t size) {                \
        gated_back<T, Act>(both, d, d_both, rows, size);                                                               \
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
    extern "C" void cross_entropy_##S(T* z, const int64_t* gold, float* loss, int64_t* right, int64_t rows,            \
                                      int64_t size, int64_t gradient) {                                                \
        cross_entropy<T>(z, gold, loss, right, rows, size, gradient);                                                  \
    }

EXPORT(bf16, bf16)
EXPORT(float, fp32)
