// Values of bf16 and fp32 are read as fp32 and written rounded once, to nearest even, as PyTorch rounds; and exp.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

struct bf16 {
    uint16_t bits;
};

inline float get(const float* p, int64_t i) { return p[i]; }
inline float get(const bf16* p, int64_t i) {
    uint32_t word = static_cast<uint32_t>(p[i].bits) << 16;
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}
inline void put(float* p, int64_t i, float value) { p[i] = value; }
inline void put(bf16* p, int64_t i, float value) {
    uint32_t word;
    std::memcpy(&word, &value, 4);
    word += 0x7FFF + ((word >> 16) & 1);
    p[i].bits = static_cast<uint16_t>(word >> 16);
}

// exp within 2 ulp: 2^k by its exponent bits, the rest by a polynomial (Cephes' expf). No branches, so it vectorises.
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

}  // namespace
