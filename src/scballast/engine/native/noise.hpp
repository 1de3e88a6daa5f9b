// Counter-based random numbers (Philox 4x32-10, Salmon et al. 2011): noise is a function of
// (seed, step, stream, position), so that it does not depend on threads, grouping or device.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

enum Stream : uint32_t { STREAM_LATENT = 0, STREAM_LIBRARY = 1, STREAM_DROPOUT_LIBRARY = 2, STREAM_DROPOUT = 3 };

// Word w of counter i is element w * ceil(n / 4) + i.
inline void philox(uint64_t seed, uint64_t step, uint32_t stream, int64_t n, std::vector<uint32_t>& out) {
    const int64_t quarter = (n + 3) / 4;
    out.resize(4 * quarter);
    uint32_t *w0 = out.data(), *w1 = w0 + quarter, *w2 = w1 + quarter, *w3 = w2 + quarter;
    const uint32_t step_low = static_cast<uint32_t>(step), step_high = static_cast<uint32_t>(step >> 32);
#pragma omp simd
    for (int64_t i = 0; i < quarter; ++i) {
        uint32_t c0 = static_cast<uint32_t>(i), c1 = stream, c2 = step_low, c3 = step_high;
        uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
        for (int round = 0; round < 10; ++round) {
            const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0, p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
            const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
            c1 = static_cast<uint32_t>(p1);
            c3 = static_cast<uint32_t>(p0);
            c0 = n0;
            c2 = n2;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        w0[i] = c0;
        w1[i] = c1;
        w2[i] = c2;
        w3[i] = c3;
    }
}

// Standard normal numbers by Box and Muller from the words (0, 1) and (2, 3) of each counter.
template <class T> void normals(uint64_t seed, uint64_t step, uint32_t stream, int64_t n, T* out,
                                std::vector<uint32_t>& words) {
    philox(seed, step, stream, n, words);
    const int64_t quarter = (n + 3) / 4;
    const double unit = 1.0 / 4294967296.0, turn = 6.283185307179586477;
    for (int pair = 0; pair < 2; ++pair) {
        const uint32_t *a = words.data() + 2 * pair * quarter, *b = a + quarter;
        T* first = out + 2 * pair * quarter;
        const int64_t left = n - 2 * pair * quarter;
        for (int64_t i = 0; i < quarter && i < left; ++i) {
            const double radius = std::sqrt(-2.0 * std::log((a[i] + 1.0) * unit)), angle = turn * (b[i] * unit);
            first[i] = static_cast<T>(radius * std::cos(angle));
            if (i + quarter < left) first[i + quarter] = static_cast<T>(radius * std::sin(angle));
        }
    }
}

// 1 where a unit is kept: a word of at least dropout_rate * 2^32.
inline void keep_mask(uint64_t seed, uint64_t step, uint32_t stream, int64_t n, double dropout_rate, uint8_t* out,
                      std::vector<uint32_t>& words) {
    philox(seed, step, stream, n, words);
    const uint32_t threshold = static_cast<uint32_t>(std::llround(dropout_rate * 4294967296.0));
    for (int64_t i = 0; i < n; ++i) out[i] = words[i] >= threshold;
}
