// The passes of a training step that PyTorch has no good way to take on a CPU, as C functions for bf16 and for fp32.
//
// Rows, or documents, are independent and shared among OpenMP threads. native.py compiles this file and says what each
// argument is.

#include <cstdint>

#include <sys/mman.h>
#include <unistd.h>

#include "attention.h"
#include "cross_entropy.h"
#include "gated.h"
#include "head.h"
#include "lora.h"
#include "norms.h"

// What products run on here, as a place in native.py's INSTRUCTION_SETS.
extern "C" int64_t instruction_set() {
    if (has_amx()) return 3;
#if defined(__AVX512BF16__)
    return 2;
#elif defined(__AVX512F__)
    return 1;
#else
    return 0;
#endif
}

#ifdef __AMX_BF16__
extern "C" void head_loss_bf16(const bf16* h, const bf16* weight, const int64_t* ids, const bf16* values, int64_t count,
                               const int64_t* gold, float* loss, int64_t* right, float* log_sum, float* d_h,
                               int64_t rows, int64_t words, int64_t size) {
    head_loss(h, {weight, words, size, ids, values, count}, gold, loss, right, log_sum, d_h, rows);
}
#endif

// Lets the system take back the pages that lie wholly inside a piece of memory; reading them again brings them back.
extern "C" void page_out(char* from, int64_t bytes) {
#ifdef MADV_PAGEOUT
    const uintptr_t page = sysconf(_SC_PAGESIZE), start = reinterpret_cast<uintptr_t>(from);
    const uintptr_t first = (start + page - 1) / page * page, last = (start + bytes) / page * page;
    if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_PAGEOUT);
#endif
}

#define EXPORT_GATED(T, S, name, Act)                                                                                  \
    extern "C" void name##_##S(const T* both, T* product, int64_t rows, int64_t size) {                                \
        gated<T, Act>(both, product, rows, size);                                                                      \
    }                                                                                                                  \
    extern "C" void name##_backward_##S(const T* both, const T* d, T* d_both, T* product, int64_t rows,                \
                                        int64_t size) {                                                                \
        gated_backward<T, Act>(both, d, d_both, product, rows, size);                                                  \
    }

#define EXPORT(T, S)                                                                                                   \
    extern "C" void norm_##S(const T* x, const float* w, T* out, float* scale, int64_t rows, int64_t size, float e) {  \
        norm<T>(x, w, out, scale, rows, size, e);                                                                      \
    }                                                                                                                  \
    extern "C" void norm_backward_##S(const T* d, const T* x, const float* w, const float* scale, T* d_x,              \
                                      int64_t rows, int64_t size) {                                                    \
        norm_backward<T>(d, x, w, scale, d_x, rows, size);                                                             \
    }                                                                                                                  \
    extern "C" void norm_rope_##S(const T* x, const float* w, const T* c, const T* s, T* out, float* scale,            \
                                  int64_t tokens, int64_t heads, int64_t size, int64_t stride, int64_t angle,          \
                                  float e) {                                                                           \
        norm_rope<T>(x, w, c, s, out, scale, tokens, heads, size, stride, angle, e);                                   \
    }                                                                                                                  \
    extern "C" void norm_rope_backward_##S(const T* d, const T* x, const float* w, const T* c, const T* s,             \
                                           const float* scale, T* d_x, int64_t tokens, int64_t heads, int64_t size,    \
                                           int64_t stride, int64_t angle, int64_t d_stride) {                          \
        norm_rope_backward<T>(d, x, w, c, s, scale, d_x, tokens, heads, size, stride, angle, d_stride);                \
    }                                                                                                                  \
    EXPORT_GATED(T, S, gelu, Gelu)                                                                                     \
    EXPORT_GATED(T, S, silu, Silu)                                                                                     \
    extern "C" void cross_entropy_##S(const T* z, const int64_t* gold, float* loss, int64_t* right, float* top,        \
                                      float* share, int64_t rows, int64_t words) {                                     \
        cross_entropy<T>(z, gold, loss, right, top, share, rows, words);                                               \
    }                                                                                                                  \
    extern "C" void cross_entropy_backward_##S(const T* z, const int64_t* gold, const float* top, const float* share,  \
                                               T* gradient, int64_t rows, int64_t words, int64_t first) {              \
        cross_entropy_backward<T>(z, gold, top, share, gradient, rows, words, first);                                  \
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
    extern "C" void outers_##S(const Outer<T>* products, const float* scales, int64_t count, int64_t tokens) {         \
        outers<T>(products, scales, count, tokens);                                                                    \
    }                                                                                                                  \
    extern "C" void attention_##S(const T* q, const T* k, const T* v, T* out, const int64_t* lengths,                  \
                                  const int64_t* ends, int64_t count, int64_t heads, int64_t kv_heads, int64_t size,   \
                                  int64_t key_stride, int64_t value_stride, int64_t window, float scale) {             \
        const Heads h{heads, kv_heads, size, key_stride, value_stride, window, scale};                                 \
        attention<T>(q, k, v, out, lengths, count, ends, h);                                                           \
    }                                                                                                                  \
    extern "C" void attention_backward_##S(const T* d_out, const T* q, const T* k, const T* v, T* d_q, T* d_k, T* d_v, \
                                           const int64_t* lengths, const int64_t* ends, int64_t count, int64_t heads,  \
                                           int64_t kv_heads, int64_t size, int64_t key_stride, int64_t value_stride,   \
                                           int64_t window, float scale) {                                              \
        const Heads h{heads, kv_heads, size, key_stride, value_stride, window, scale};                                 \
        attention_backward<T>(d_out, q, k, v, d_q, d_k, d_v, lengths, count, ends, h);                                 \
    }

EXPORT(bf16, bf16)
EXPORT(float, fp32)
