// Dense matrix products in tiles that stay in registers: the layers of the non-linear decoder.
#pragma once
#include <algorithm>
#include <cstddef>
#include <vector>

#include "arithmetic.hpp"

// One register of the machine that is compiled for.
#if defined(__AVX512F__)
constexpr int REGISTER_BYTES = 64, TILE_ROWS = 12;
#elif defined(__AVX__)
constexpr int REGISTER_BYTES = 32, TILE_ROWS = 6;
#else
constexpr int REGISTER_BYTES = 16, TILE_ROWS = 6;
#endif
template <class T> struct Register {
    static constexpr int width = REGISTER_BYTES / sizeof(T);
    typedef T type __attribute__((vector_size(REGISTER_BYTES), aligned(sizeof(T)), may_alias));
};
template <class T> using reg = typename Register<T>::type;
template <class T> ALWAYS_INLINE reg<T> load_register(const T* p) { return *reinterpret_cast<const reg<T>*>(p); }
template <class T> ALWAYS_INLINE void store_register(T* p, reg<T> v) { *reinterpret_cast<reg<T>*>(p) = v; }

// A matrix as the products read it: element (i, j) at data[i * row + j * column].
template <class T> struct Strided {
    const T* data;
    ptrdiff_t row, column;
};

template <class T> class Products {
  public:
    // out (m, n) = start + factor * a (m, k) b (k, n); rows of out and start are contiguous.
    // start (m, n) has its rows start_stride apart (0: the same for all; it may be out itself), or is null for zeros.
    void multiply(int m, int k, int n, Strided<T> a, T factor, Strided<T> b, const T* start, ptrdiff_t start_stride, T* out,
                  ptrdiff_t out_stride) {
        for (int from = 0; from < k; from += DEPTH) {
            const int depth = std::min(DEPTH, k - from);
            pack_rows(m, depth, {a.data + from * a.column, a.row, a.column}, factor);
            packed_panel.resize(static_cast<size_t>(depth) * TILE_COLUMNS);
            for (int j = 0; j < n; j += TILE_COLUMNS) {
                const int width = std::min<int>(TILE_COLUMNS, n - j);
                pack_columns(depth, width, {b.data + from * b.row + j * b.column, b.row, b.column});
                for (int i = 0; i < m; i += TILE_ROWS)
                    tile(std::min(TILE_ROWS, m - i), width, depth, &packed_rows[static_cast<size_t>(i) * depth],
                         packed_panel.data(), start ? start + i * start_stride + j : nullptr, start_stride,
                         out + i * out_stride + j, out_stride);
            }
            start = out, start_stride = out_stride;
        }
    }

  private:
    static constexpr int DEPTH = 256;  // products summed at a time: a panel of so many rows stays in the first cache
    static constexpr int W = Register<T>::width, REGISTERS = 2, TILE_COLUMNS = REGISTERS * W;
    std::vector<T> packed_rows, packed_panel;

    // Tiles of TILE_ROWS rows, column by column; below the last row it stands again, and its sums are not kept.
    void pack_rows(int m, int k, Strided<T> a, T factor) {
        packed_rows.resize(static_cast<size_t>(m + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS * k);
        T* to = packed_rows.data();
        for (int i = 0; i < m; i += TILE_ROWS) {
            const T* from[TILE_ROWS];
            for (int r = 0; r < TILE_ROWS; ++r) from[r] = a.data + std::min(i + r, m - 1) * a.row;
            for (int j = 0; j < k; ++j, to += TILE_ROWS)
                for (int r = 0; r < TILE_ROWS; ++r) to[r] = factor * from[r][j * a.column];
        }
    }

    // TILE_COLUMNS columns, row by row, with zeros beyond the last column.
    void pack_columns(int k, int width, Strided<T> b) {
        T* to = packed_panel.data();
        if (width < TILE_COLUMNS) {
            for (int i = 0; i < k; ++i, to += TILE_COLUMNS)
                for (int j = 0; j < TILE_COLUMNS; ++j) to[j] = j < width ? b.data[i * b.row + j * b.column] : T(0);
        } else if (b.column == 1) {
            for (int i = 0; i < k; ++i, to += TILE_COLUMNS)
                for (int r = 0; r < REGISTERS; ++r) store_register<T>(to + r * W, load_register<T>(b.data + i * b.row + r * W));
        } else {
            for (int i = 0; i < k; ++i, to += TILE_COLUMNS)
                for (int j = 0; j < TILE_COLUMNS; ++j) to[j] = b.data[i * b.row + j * b.column];
        }
    }

    static void tile(int m, int width, int k, const T* __restrict a, const T* __restrict b, const T* start,
                     ptrdiff_t start_stride, T* out, ptrdiff_t out_stride) {
        reg<T> sum[TILE_ROWS][REGISTERS] = {};
        for (int j = 0; j < k; ++j) {
            reg<T> w[REGISTERS];
            for (int r = 0; r < REGISTERS; ++r) w[r] = load_register<T>(b + (j * REGISTERS + r) * W);
            for (int i = 0; i < TILE_ROWS; ++i)
                for (int r = 0; r < REGISTERS; ++r) sum[i][r] += a[j * TILE_ROWS + i] * w[r];
        }
        if (width < TILE_COLUMNS) {
            T rest[TILE_COLUMNS];
            for (int i = 0; i < m; ++i) {
                for (int r = 0; r < REGISTERS; ++r) store_register<T>(rest + r * W, sum[i][r]);
                for (int j = 0; j < width; ++j)
                    out[i * out_stride + j] = rest[j] + (start ? start[i * start_stride + j] : T(0));
            }
            return;
        }
        for (int i = 0; i < TILE_ROWS; ++i)
            for (int r = 0; r < REGISTERS; ++r)
                if (i < m) {
                    if (start) sum[i][r] += load_register<T>(start + i * start_stride + r * W);
                    store_register<T>(out + i * out_stride + r * W, sum[i][r]);
                }
    }
};
