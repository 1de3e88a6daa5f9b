// Products of larger matrices: operands are laid out so that a tile reads them in order from the first cache.
#pragma once
#include <algorithm>
#include <cstddef>
#include <vector>

#include "products.hpp"

// A tile holds TILE_ROWS x 2 vectors of sums; what is left of the registers takes the operands.
constexpr int TILE_ROWS = N_REGISTERS == 32 ? 12 : 6;

template <class T> class PackedProducts {
  public:
    // out (m, n) = start + factor * a (m, k) b (k, n); rows of out and start are contiguous.
    // start (m, n) has its rows start_stride apart (0: the same for all; it may be out itself), or is null for zeros.
    void multiply(int m, int k, int n, Strided<T> a, T factor, Strided<T> b, const T* start, size_t start_stride, T* out,
                  size_t out_stride) {
        for (int from = 0; from < k; from += DEPTH) {
            const int depth = std::min(DEPTH, k - from);
            pack_rows(m, depth, {a.at + from * a.column, a.row, a.column}, factor);
            packed_panel.resize(static_cast<size_t>(depth) * TILE_COLUMNS);
            for (int j = 0; j < n; j += TILE_COLUMNS) {
                const int width = std::min<int>(TILE_COLUMNS, n - j);
                pack_columns(depth, width, {b.at + from * b.row + j * b.column, b.row, b.column});
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
    static constexpr int W = Vec<T>::width, VECTORS = 2, TILE_COLUMNS = VECTORS * W;
    std::vector<T> packed_rows, packed_panel;

    // Tiles of TILE_ROWS rows, column by column; below the last row it stands again, and its sums are not kept.
    void pack_rows(int m, int k, Strided<T> a, T factor) {
        packed_rows.resize(static_cast<size_t>(m + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS * k);
        T* to = packed_rows.data();
        for (int i = 0; i < m; i += TILE_ROWS) {
            const T* from[TILE_ROWS];
            for (int r = 0; r < TILE_ROWS; ++r) from[r] = a.at + std::min(i + r, m - 1) * a.row;
            for (int j = 0; j < k; ++j, to += TILE_ROWS)
                for (int r = 0; r < TILE_ROWS; ++r) to[r] = factor * from[r][j * a.column];
        }
    }

    // TILE_COLUMNS columns, row by row, with zeros beyond the last column.
    void pack_columns(int k, int width, Strided<T> b) {
        T* to = packed_panel.data();
        if (width < TILE_COLUMNS) {
            for (int i = 0; i < k; ++i, to += TILE_COLUMNS)
                for (int j = 0; j < TILE_COLUMNS; ++j) to[j] = j < width ? b.at[i * b.row + j * b.column] : T(0);
        } else if (b.column == 1) {
            for (int i = 0; i < k; ++i, to += TILE_COLUMNS)
                for (int r = 0; r < VECTORS; ++r) store(to + r * W, load(b.at + i * b.row + r * W));
        } else {
            for (int i = 0; i < k; ++i, to += TILE_COLUMNS)
                for (int j = 0; j < TILE_COLUMNS; ++j) to[j] = b.at[i * b.row + j * b.column];
        }
    }

    static void tile(int m, int width, int k, const T* __restrict a, const T* __restrict b, const T* start,
                     size_t start_stride, T* out, size_t out_stride) {
        vec<T> sum[TILE_ROWS][VECTORS] = {};
        for (int j = 0; j < k; ++j) {
            vec<T> w[VECTORS];
            for (int r = 0; r < VECTORS; ++r) w[r] = load(b + (j * VECTORS + r) * W);
            for (int i = 0; i < TILE_ROWS; ++i)
                for (int r = 0; r < VECTORS; ++r) sum[i][r] = fused(broadcast(a[j * TILE_ROWS + i]), w[r], sum[i][r]);
        }
        if (width < TILE_COLUMNS) {
            T rest[TILE_COLUMNS];
            for (int i = 0; i < m; ++i) {
                for (int r = 0; r < VECTORS; ++r) store(rest + r * W, sum[i][r]);
                for (int j = 0; j < width; ++j)
                    out[i * out_stride + j] = rest[j] + (start ? start[i * start_stride + j] : T(0));
            }
            return;
        }
        for (int i = 0; i < TILE_ROWS; ++i)
            for (int r = 0; r < VECTORS; ++r)
                if (i < m) {
                    if (start) sum[i][r] += load(start + i * start_stride + r * W);
                    store(out + i * out_stride + r * W, sum[i][r]);
                }
    }
};
