// Vectors of floats by the compiler's own extension, so that one source serves every processor.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#define LANES 16
#else
#define LANES 8
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

// A bfloat16 number as torch keeps it.
struct Bfloat16 {
    uint16_t bits;
};

INLINE Floats all(float x) { return x - Floats{}; }

INLINE Floats load(const float *from) {
    Floats found;
    memcpy(&found, from, sizeof found);
    return found;
}

INLINE Floats load(const Bfloat16 *from) {
#if defined(__AVX512F__)
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
    return (Floats)_mm512_slli_epi32(wide, 16);
#endif
    Halves halves;
    memcpy(&halves, from, sizeof halves);
    return (Floats)(__builtin_convertvector(halves, Bits) << 16);
}

INLINE float number(float x) { return x; }

INLINE float number(Bfloat16 x) {
    const uint32_t bits = (uint32_t)x.bits << 16;
    float found;
    memcpy(&found, &bits, sizeof found);
    return found;
}

INLINE void store(float *to, Floats values) { memcpy(to, &values, sizeof values); }

// Rounds to the nearest, of two equally near to the even one.
INLINE void store(Bfloat16 *to, Floats values) {
    Bits bits = (Bits)values;
#if defined(__AVX512BF16__)
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)values));
    return;
#endif
    Halves halves = __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, Halves);
    memcpy(to, &halves, sizeof halves);
}

INLINE float sum(Floats values) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)values);
#endif
    float total = 0;
    for (int lane = 0; lane < LANES; ++lane) total += values[lane];
    return total;
}

INLINE Floats reciprocal(Floats x) {
#if defined(__AVX512F__)
    Floats near = (Floats)_mm512_maskz_rcp14_ps(0xffff, (__m512)x);
    return near * (2.0f - x * near);  // a Newton step: 14 bits become 28
#else
    return 1.0f / x;
#endif
}

// e^x to two units in the last place between -87 and 87, where it stays beyond; Cody and Waite's reduction.
INLINE Floats exponential(Floats x) {
    x = x < -87.0f ? all(-87.0f) : x;
    x = x > 87.0f ? all(87.0f) : x;
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest whole number in the lowest bits
    Floats shifted = x * 1.44269504f + magic;
    Floats whole = shifted - magic;
    Floats rest = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Floats series = 1.9875691500e-4f * rest + 1.3981999507e-3f;
    series = series * rest + 8.3334519073e-3f;
    series = series * rest + 4.1665795894e-2f;
    series = series * rest + 1.6666665459e-1f;
    series = series * rest + 5.0000001201e-1f;
    series = series * rest * rest + rest + 1.0f;
    return (Floats)((Ints)series + ((Ints)shifted << 23));
}

// x / (1 + e^-x); zero, not next to it, where x is far below, since tiny numbers are slow.
INLINE Floats silu(Floats x) {
#if defined(__AVX512F__)
    // As `exponential`, in powers of two and with one bound: what e^-x overflows to is not used.
    const float turn = -1.44269504f, magic = 12582912.0f;
    const Floats bounded = (Floats)_mm512_min_ps((__m512)x, (__m512)all(87.0f));
    const Floats shifted = bounded * turn + magic, whole = shifted - magic, rest = bounded * turn - whole;
    Floats series = 1.535336e-4f * rest + 1.339887e-3f;
    series = series * rest + 9.618437e-3f;
    series = series * rest + 5.550332e-2f;
    series = series * rest + 2.402265e-1f;
    series = series * rest + 6.931472e-1f;
    series = series * rest + 1.0f;
    const Floats below = (Floats)((Ints)series + ((Ints)shifted << 23));
    return (Floats)_mm512_maskz_mul_ps(_mm512_cmp_ps_mask((__m512)x, (__m512)all(-87.0f), _CMP_NLT_UQ), (__m512)x,
                                       (__m512)reciprocal(1.0f + below));
#endif
    Floats found = x * reciprocal(1.0f + exponential(-x));
    return x < -87.0f ? Floats{} : found;
}

// Room that a thread uses again.
INLINE float *room(std::vector<float> &kept, size_t count) {
    if (kept.size() < count) kept.resize(count);
    return kept.data();
}
