// Matrix products of small matrices with long rows, in tiles that stay in the target's registers.
#pragma once
#include <cstddef>
#include <type_traits>

#include "arithmetic.hpp"

// A tile holds 4 x PRODUCT_VECTORS sums; what is left of the registers takes the operands.
constexpr int PRODUCT_VECTORS = N_REGISTERS == 32 ? 6 : 3;

// Holds a value in a register: the compiler would rather load it again for every row of a tile, and two loads a
// cycle are what limits the tile.
template <class V> ALWAYS_INLINE V held(V value) {
#if defined(__AVX512F__)
    asm("" : "+v"(value));
#elif defined(__SSE2__)
    asm("" : "+x"(value));
#elif defined(__aarch64__)
    asm("" : "+w"(value));
#endif
    return value;
}

// A matrix whose element (i, j) is at[i * row + j * column].
template <class T> struct Strided {
    const T* at;
    size_t row, column;
};

template <class T, int ROWS, int VECTORS>
ALWAYS_INLINE void product_tile(int inner, Strided<T> a, const T* b, size_t b_row, const T* start, size_t start_row, T* out,
                                size_t out_row) {
    constexpr int W = Vec<T>::width;
    vec<T> sum[ROWS][VECTORS];
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v) sum[r][v] = start ? load(start + r * start_row + v * W) : vec<T>{};
    for (int i = 0; i < inner; ++i) {
        vec<T> right[VECTORS];
        for (int v = 0; v < VECTORS; ++v) right[v] = held(load(b + i * b_row + v * W));
        for (int r = 0; r < ROWS; ++r) {
            const vec<T> left = broadcast(a.at[r * a.row + i * a.column]);
            for (int v = 0; v < VECTORS; ++v) sum[r][v] = fused(left, right[v], sum[r][v]);
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v) store(out + r * out_row + v * W, sum[r][v]);
}

template <class T, int VECTORS>
void product_strip(int rows, int inner, Strided<T> a, const T* b, size_t b_row, const T* start, size_t start_row, T* out,
                   size_t out_row) {
    int r = 0;
    const auto tile = [&](auto n) {
        constexpr int ROWS = decltype(n)::value;
        for (; r + ROWS <= rows; r += ROWS)
            product_tile<T, ROWS, VECTORS>(inner, {a.at + r * a.row, a.row, a.column}, b, b_row,
                                           start ? start + r * start_row : nullptr, start_row, out + r * out_row, out_row);
    };
    tile(std::integral_constant<int, 4>{});
    tile(std::integral_constant<int, 1>{});
}

// out (rows, width) = start + a (rows, inner) b (inner, width); width a multiple of 16. `start` may be null (zero),
// `out` itself (add to it), or one row for all (start_row 0).
template <class T>
void multiply(int rows, int inner, int width, Strided<T> a, const T* b, size_t b_row, const T* start, size_t start_row, T* out,
              size_t out_row) {
    constexpr int W = Vec<T>::width;
    int j = 0;
    const auto strips = [&](auto n) {
        constexpr int VECTORS = decltype(n)::value;
        for (; j + VECTORS * W <= width; j += VECTORS * W)
            product_strip<T, VECTORS>(rows, inner, a, b + j, b_row, start ? start + j : nullptr, start_row, out + j, out_row);
    };
    strips(std::integral_constant<int, PRODUCT_VECTORS>{});
    strips(std::integral_constant<int, 1>{});
}

template <class T, int ROWS, int COLUMNS, class Put>
ALWAYS_INLINE void dot_tile(int length, const T* a, size_t a_row, const T* b, size_t b_row, int r, int c, Put put) {
    constexpr int W = Vec<T>::width;
    vec<T> sum[ROWS][COLUMNS] = {};
    for (int i = 0; i < length; i += W) {
        vec<T> right[COLUMNS];
        for (int j = 0; j < COLUMNS; ++j) right[j] = held(load(b + (c + j) * b_row + i));
        for (int k = 0; k < ROWS; ++k) {
            const vec<T> left = load(a + (r + k) * a_row + i);
            for (int j = 0; j < COLUMNS; ++j) sum[k][j] = fused(left, right[j], sum[k][j]);
        }
    }
    for (int k = 0; k < ROWS; ++k)
        for (int j = 0; j < COLUMNS; ++j) put(r + k, c + j, lane_sum<T>(sum[k][j]));
}

// put(i, j, dot product of row i of a and row j of b), rows of `length`, a multiple of 16.
template <class T, class Put>
void dot_products(int rows, int columns, int length, const T* a, size_t a_row, const T* b, size_t b_row, Put put) {
    int r = 0;
    const auto tiles = [&](auto n) {
        constexpr int ROWS = decltype(n)::value;
        for (; r + ROWS <= rows; r += ROWS) {
            int c = 0;
            for (; c + PRODUCT_VECTORS <= columns; c += PRODUCT_VECTORS)
                dot_tile<T, ROWS, PRODUCT_VECTORS>(length, a, a_row, b, b_row, r, c, put);
            for (; c < columns; ++c) dot_tile<T, ROWS, 1>(length, a, a_row, b, b_row, r, c, put);
        }
    };
    tiles(std::integral_constant<int, 4>{});
    tiles(std::integral_constant<int, 1>{});
}
