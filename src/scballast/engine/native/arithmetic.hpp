// Vectors as wide as the target's registers, and elementary functions on them. Nothing here is left to the
// compiler's vectoriser: the same source is whole registers on SSE2, AVX2, AVX-512 and NEON.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))

// VECTOR_BYTES may be given on the command line: the tests compare widths on one machine.
#ifndef VECTOR_BYTES
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int N_REGISTERS = 32;
#else
constexpr int N_REGISTERS = 16;
#endif

template <class T> struct Vec {
    static constexpr int width = VECTOR_BYTES / sizeof(T);
    typedef T type __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};
template <class T> using vec = typename Vec<T>::type;
// Whole numbers of the same width, and 32-bit ones as many as doubles fit in a register: conversions between
// double and 64-bit integers exist on AVX-512 only.
typedef int32_t ints __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t longs __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t half_ints __attribute__((vector_size(VECTOR_BYTES / 2)));

template <class T> ALWAYS_INLINE vec<T> load(const T* p) { return *reinterpret_cast<const vec<T>*>(p); }
template <class T> ALWAYS_INLINE void store(T* p, vec<T> v) { *reinterpret_cast<vec<T>*>(p) = v; }
template <class T> ALWAYS_INLINE vec<T> broadcast(T x) { return vec<T>{} + x; }
template <class T> ALWAYS_INLINE void add_to(T* p, vec<T> v) { store(p, load(p) + v); }

// Sum of the BYTES / sizeof(T) values at p, by halves.
template <class T, int BYTES> ALWAYS_INLINE T sum_by_halves(const T* p) {
    if constexpr (BYTES == sizeof(T)) {
        return *p;
    } else {
        typedef T half __attribute__((vector_size(BYTES / 2), aligned(sizeof(T)), may_alias));
        const half sum = *reinterpret_cast<const half*>(p) + *reinterpret_cast<const half*>(p + BYTES / 2 / sizeof(T));
        T lanes[BYTES / 2 / sizeof(T)];
        std::memcpy(lanes, &sum, BYTES / 2);
        return sum_by_halves<T, BYTES / 2>(lanes);
    }
}
template <class T> ALWAYS_INLINE T lane_sum(vec<T> v) {
    T lanes[Vec<T>::width];
    std::memcpy(lanes, &v, VECTOR_BYTES);
    return sum_by_halves<T, VECTOR_BYTES>(lanes);
}
template <class T> ALWAYS_INLINE T lane_max(vec<T> v) {
    T top = v[0];
    for (int i = 1; i < Vec<T>::width; ++i) top = v[i] > top ? v[i] : top;
    return top;
}

#if VECTOR_BYTES == 64 && defined(__AVX512F__)
ALWAYS_INLINE vec<float> root_of(vec<float> x) { return (vec<float>)_mm512_sqrt_ps((__m512)x); }
ALWAYS_INLINE vec<double> root_of(vec<double> x) { return (vec<double>)_mm512_sqrt_pd((__m512d)x); }
#elif VECTOR_BYTES == 32 && defined(__AVX__)
ALWAYS_INLINE vec<float> root_of(vec<float> x) { return (vec<float>)_mm256_sqrt_ps((__m256)x); }
ALWAYS_INLINE vec<double> root_of(vec<double> x) { return (vec<double>)_mm256_sqrt_pd((__m256d)x); }
#elif VECTOR_BYTES == 16 && defined(__SSE2__)
ALWAYS_INLINE vec<float> root_of(vec<float> x) { return (vec<float>)_mm_sqrt_ps((__m128)x); }
ALWAYS_INLINE vec<double> root_of(vec<double> x) { return (vec<double>)_mm_sqrt_pd((__m128d)x); }
#elif VECTOR_BYTES == 16 && defined(__aarch64__)
ALWAYS_INLINE vec<float> root_of(vec<float> x) { return (vec<float>)vsqrtq_f32((float32x4_t)x); }
ALWAYS_INLINE vec<double> root_of(vec<double> x) { return (vec<double>)vsqrtq_f64((float64x2_t)x); }
#else
template <class V> ALWAYS_INLINE V root_of(V x) {
    for (size_t i = 0; i < sizeof(V) / sizeof(x[0]); ++i) x[i] = std::sqrt(x[i]);
    return x;
}
#endif

// a * b + c rounded once, wherever the target can: a compiler that decides by itself rounds the sums of one tile twice and
// those of another once (gcc for AMD's processors), and a cell's values would depend on the cells beside it.
#if VECTOR_BYTES == 64 && defined(__AVX512F__)
ALWAYS_INLINE vec<float> fused(vec<float> a, vec<float> b, vec<float> c) {
    return (vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
ALWAYS_INLINE vec<double> fused(vec<double> a, vec<double> b, vec<double> c) {
    return (vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
#elif VECTOR_BYTES == 32 && defined(__FMA__)
ALWAYS_INLINE vec<float> fused(vec<float> a, vec<float> b, vec<float> c) {
    return (vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
ALWAYS_INLINE vec<double> fused(vec<double> a, vec<double> b, vec<double> c) {
    return (vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#elif VECTOR_BYTES == 16 && defined(__aarch64__)
ALWAYS_INLINE vec<float> fused(vec<float> a, vec<float> b, vec<float> c) {
    return (vec<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
ALWAYS_INLINE vec<double> fused(vec<double> a, vec<double> b, vec<double> c) {
    return (vec<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#else
template <class V> ALWAYS_INLINE V fused(V a, V b, V c) { return a * b + c; }
#endif

// A polynomial by Horner's rule, from the value p of its highest terms and the coefficients of the others.
template <class V, class... C> ALWAYS_INLINE V horner(V x, V p, C... lower) {
    ((p = p * x + lower), ...);
    return p;
}

// exp: Cody-Waite reduction and a polynomial; relative error 1e-7. 0 below -87: subnormal numbers are slow.
ALWAYS_INLINE vec<float> exp_of(vec<float> x) {
    vec<float> clipped = x < -87.0f ? broadcast(-87.0f) : x;
    clipped = clipped > 88.0f ? broadcast(88.0f) : clipped;
    // Positive before the conversion, which cuts: so it rounds, and the result is the biased exponent.
    const ints exponent = __builtin_convertvector(clipped * 1.44269504088896341f + 127.5f, ints);
    const vec<float> n = __builtin_convertvector(exponent, vec<float>) - 127.0f;
    vec<float> r = clipped - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vec<float> p = horner(r, r * 1.9875691500e-4f + 1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                          5.0000001201e-1f);
    p = p * (r * r) + (r + 1.0f);
    const vec<float> result = p * (vec<float>)(exponent << 23);
    return x < -87.0f ? vec<float>{} : result;
}

// The same for double; relative error 1e-16. Above 700 the result is held there, below -700 it is 0.
ALWAYS_INLINE vec<double> exp_of(vec<double> x) {
    vec<double> clipped = x < -700.0 ? broadcast(-700.0) : x;
    clipped = clipped > 700.0 ? broadcast(700.0) : clipped;
    const half_ints exponent = __builtin_convertvector(clipped * 1.4426950408889634074 + 1023.5, half_ints);
    const vec<double> n = __builtin_convertvector(exponent, vec<double>) - 1023.0;
    vec<double> r = clipped - n * 6.93147180369123816490e-1;
    r = r - n * 1.90821492927058770002e-10;
    const vec<double> highest = r * 1.6059043836821614599e-10 + 2.0876756987868098979e-9;  // 1/13!, then up to 1/0!
    const vec<double> p = horner(r, highest, 2.5052108385441718775e-8, 2.7557319223985890653e-7, 2.7557319223985890653e-6,
                                 2.4801587301587301587e-5, 1.9841269841269841270e-4, 1.3888888888888888889e-3,
                                 8.3333333333333333333e-3, 4.1666666666666666667e-2, 1.6666666666666666667e-1, 0.5, 1.0, 1.0);
    const vec<double> result = p * (vec<double>)(__builtin_convertvector(exponent, longs) << 52);
    return x < -700.0 ? vec<double>{} : result;
}

// log of a positive, normal number; relative error 1e-7 (Cephes' polynomial).
ALWAYS_INLINE vec<float> log_of(vec<float> x) {
    const ints bits = (ints)x, exponent = (bits - 0x3f3504f3) >> 23;
    const vec<float> f = (vec<float>)(bits - (exponent << 23)) - 1.0f, square = f * f;
    const vec<float> p = horner(f, f * 7.0376836292e-2f + -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                                -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f);
    const vec<float> e = __builtin_convertvector(exponent, vec<float>);
    vec<float> y = p * (square * f);
    y = y - e * 2.12194440e-4f;
    y = y - square * 0.5f;
    const vec<float> result = e * 0.693359375f + (f + y);
    return x < __builtin_inff() ? result : x;
}

// log of a positive, normal number; relative error 1e-16 (the series of atanh, as in fdlibm).
ALWAYS_INLINE vec<double> log_of(vec<double> x) {
    const longs bits = (longs)x, exponent = (bits - 0x3fe6a09e667f3bcdLL) >> 52;
    const vec<double> f = (vec<double>)(bits - (exponent << 52)) - 1.0, s = f / (f + 2.0), z = s * s;
    const vec<double> r = z * horner(z, z * 1.479819860511658591e-1 + 1.531383769920937332e-1, 1.818357216161805012e-1,
                                     2.222219843214978396e-1, 2.857142874366239149e-1, 3.999999999940941908e-1,
                                     6.666666666666735130e-1);
    const vec<double> half = f * f * 0.5;
    const vec<double> e = __builtin_convertvector(__builtin_convertvector(exponent, half_ints), vec<double>);
    const vec<double> result = e * 6.93147180369123816490e-1 - ((half - (s * (half + r) + e * 1.90821492927058770002e-10)) - f);
    return x < __builtin_inf() ? result : x;
}

template <class T> ALWAYS_INLINE T fast_exp(T x) { return exp_of(broadcast(x))[0]; }
template <class T> ALWAYS_INLINE T fast_log(T x) { return log_of(broadcast(x))[0]; }

// lgamma and digamma of a > 0: six steps of the recurrence, then Stirling's series; error below 1e-11.
ALWAYS_INLINE void gamma_functions(vec<double> a, vec<double>& log_gamma, vec<double>& digamma) {
    vec<double> product = a, slope = broadcast(1.0);
    for (int j = 1; j < 6; ++j) {
        slope = slope * (a + static_cast<double>(j)) + product;
        product *= a + static_cast<double>(j);
    }
    const vec<double> A = a + 6.0, log_A = log_of(A), inv = 1.0 / A, inv2 = inv * inv;
    log_gamma = (A - 0.5) * log_A - A + 0.91893853320467274178 - log_of(product) +
                inv * (1.0 / 12 - inv2 * (1.0 / 360 - inv2 * (1.0 / 1260 - inv2 * (1.0 / 1680 - inv2 * (1.0 / 1188)))));
    digamma = log_A - 0.5 * inv - slope / product -
              inv2 * (1.0 / 12 - inv2 * (1.0 / 120 - inv2 * (1.0 / 252 - inv2 * (1.0 / 240 - inv2 * (1.0 / 132)))));
}
