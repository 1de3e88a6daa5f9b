// Elementary functions and vector types that the compiler can vectorise on any processor.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define ALWAYS_INLINE inline __attribute__((always_inline))

// 64 bytes of T: one AVX-512 register, or what the compiler makes of it on a smaller machine.
template <class T> struct Vec {
    static constexpr int width = 64 / sizeof(T);
    typedef T type __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));
};
template <class T> using vec = typename Vec<T>::type;
template <class T> ALWAYS_INLINE vec<T> load(const T* p) { return *reinterpret_cast<const vec<T>*>(p); }
template <class T> ALWAYS_INLINE void store(T* p, vec<T> v) { *reinterpret_cast<vec<T>*>(p) = v; }
template <class T> ALWAYS_INLINE vec<T> broadcast(T x) { return vec<T>{} + x; }
template <class T> ALWAYS_INLINE T lane_sum(vec<T> v) {
    T total = 0;
    for (int i = 0; i < Vec<T>::width; ++i) total += v[i];
    return total;
}

// exp: Cody-Waite reduction and a polynomial; relative error 1e-7.
ALWAYS_INLINE float fast_exp(float x) {
    float clipped = x < -87.0f ? -87.0f : x;
    clipped = clipped > 88.0f ? 88.0f : clipped;
    const float n = std::nearbyint(clipped * 1.44269504088896341f);
    float r = std::fma(n, -0.693359375f, clipped);
    r = std::fma(n, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = std::fma(p, r, 1.3981999507e-3f);
    p = std::fma(p, r, 8.3334519073e-3f);
    p = std::fma(p, r, 4.1665795894e-2f);
    p = std::fma(p, r, 1.6666665459e-1f);
    p = std::fma(p, r, 5.0000001201e-1f);
    p = std::fma(p, r * r, r + 1.0f);
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, 4);
    return x < -87.0f ? 0.0f : p * scale;  // never a subnormal number: they are slow
}

// The same for double; relative error 1e-16. Beyond +-700 the result is held there.
ALWAYS_INLINE double fast_exp(double x) {
    double clipped = x < -700.0 ? -700.0 : x;
    clipped = clipped > 700.0 ? 700.0 : clipped;
    const double n = std::nearbyint(clipped * 1.4426950408889634074);
    double r = std::fma(n, -6.93147180369123816490e-1, clipped);
    r = std::fma(n, -1.90821492927058770002e-10, r);
    double p = 1.6059043836821614599e-10;  // 1/13!, then up to 1/0!
    p = std::fma(p, r, 2.0876756987868098979e-9);
    p = std::fma(p, r, 2.5052108385441718775e-8);
    p = std::fma(p, r, 2.7557319223985890653e-7);
    p = std::fma(p, r, 2.7557319223985890653e-6);
    p = std::fma(p, r, 2.4801587301587301587e-5);
    p = std::fma(p, r, 1.9841269841269841270e-4);
    p = std::fma(p, r, 1.3888888888888888889e-3);
    p = std::fma(p, r, 8.3333333333333333333e-3);
    p = std::fma(p, r, 4.1666666666666666667e-2);
    p = std::fma(p, r, 1.6666666666666666667e-1);
    p = std::fma(p, r, 0.5);
    p = std::fma(p, r, 1.0);
    p = std::fma(p, r, 1.0);
    const int64_t bits = (static_cast<int64_t>(static_cast<int32_t>(n)) + 1023) << 52;
    double scale;
    std::memcpy(&scale, &bits, 8);
    return x < -700.0 ? 0.0 : p * scale;
}

// log of a positive, normal number; relative error 1e-7 (Cephes' polynomial).
ALWAYS_INLINE float fast_log(float x) {
    int32_t bits;
    std::memcpy(&bits, &x, 4);
    const int32_t exponent = (bits - 0x3f3504f3) >> 23;
    bits -= static_cast<int32_t>(static_cast<uint32_t>(exponent) << 23);
    float m;
    std::memcpy(&m, &bits, 4);
    const float f = m - 1.0f;
    float p = 7.0376836292e-2f;
    p = std::fma(p, f, -1.1514610310e-1f);
    p = std::fma(p, f, 1.1676998740e-1f);
    p = std::fma(p, f, -1.2420140846e-1f);
    p = std::fma(p, f, 1.4249322787e-1f);
    p = std::fma(p, f, -1.6668057665e-1f);
    p = std::fma(p, f, 2.0000714765e-1f);
    p = std::fma(p, f, -2.4999993993e-1f);
    p = std::fma(p, f, 3.3333331174e-1f);
    const float e = static_cast<float>(exponent);
    float y = p * f * f * f;
    y = std::fma(e, -2.12194440e-4f, y);
    y = std::fma(f * f, -0.5f, y);
    const float log_x = std::fma(e, 0.693359375f, f + y);
    return x < __builtin_inff() ? log_x : x;
}

// log of a positive, normal number; relative error 1e-16 (the series of atanh, as in fdlibm).
ALWAYS_INLINE double fast_log(double x) {
    int64_t bits;
    std::memcpy(&bits, &x, 8);
    const int64_t exponent = (bits - 0x3fe6a09e667f3bcdLL) >> 52;
    bits -= static_cast<int64_t>(static_cast<uint64_t>(exponent) << 52);
    double m;
    std::memcpy(&m, &bits, 8);
    const double f = m - 1.0, s = f / (2.0 + f), z = s * s;
    double r = 1.479819860511658591e-1;
    r = std::fma(r, z, 1.531383769920937332e-1);
    r = std::fma(r, z, 1.818357216161805012e-1);
    r = std::fma(r, z, 2.222219843214978396e-1);
    r = std::fma(r, z, 2.857142874366239149e-1);
    r = std::fma(r, z, 3.999999999940941908e-1);
    r = std::fma(r, z, 6.666666666666735130e-1);
    r *= z;
    const double half = 0.5 * f * f;
    // The exponent fits in 32 bits: the narrower conversion is the one that vectorises.
    const double e = static_cast<double>(static_cast<int32_t>(exponent));
    const double log_x = e * 6.93147180369123816490e-1 -
                         ((half - (s * (half + r) + e * 1.90821492927058770002e-10)) - f);
    return x < __builtin_inf() ? log_x : x;
}

// lgamma and digamma of a > 0: six steps of the recurrence, then Stirling's series; error below 1e-11.
ALWAYS_INLINE void gamma_functions(double a, double& log_gamma, double& digamma) {
    double product = a, slope = 1.0;
    for (int j = 1; j < 6; ++j) {
        slope = slope * (a + j) + product;
        product *= a + j;
    }
    const double A = a + 6.0, log_A = fast_log(A), inv = 1.0 / A, inv2 = inv * inv;
    log_gamma = (A - 0.5) * log_A - A + 0.91893853320467274178 - fast_log(product) +
                inv * (1.0 / 12 - inv2 * (1.0 / 360 - inv2 * (1.0 / 1260 - inv2 * (1.0 / 1680 - inv2 / 1188))));
    digamma = log_A - 0.5 * inv - slope / product -
              inv2 * (1.0 / 12 - inv2 * (1.0 / 120 - inv2 * (1.0 / 252 - inv2 * (1.0 / 240 - inv2 / 132))));
}

// torch's softplus is linear beyond 20; so is this one.
template <class T> ALWAYS_INLINE T softplus(T x) { return x > T(20) ? x : fast_log(T(1) + fast_exp(x)); }
template <class T> ALWAYS_INLINE T sigmoid(T x) { return T(1) / (T(1) + fast_exp(-x)); }
