// Both encoders on one sparse minibatch: forward in training and evaluation mode, and backward.
#pragma once
#include <algorithm>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "arithmetic.hpp"
#include "layout.hpp"
#include "products.hpp"

constexpr double VARIANCE_EPS = 1e-4;
constexpr int SPARSE_VECTORS = N_REGISTERS / 2;   // sums held in registers along a row of the first layer
constexpr int GENES_AHEAD = 4, ROWS_AHEAD = 4;    // pieces of a row between the call for memory and its use
// Of what a core reads again and again so much at a time: where a piece is a whole row of 128 or 256 hidden units, it
// stays in the second cache; narrower pieces are laid out one after another, for the first.
constexpr size_t TILE_BYTES = VECTOR_BYTES == 64 ? 192 << 10 : 28 << 10;

// A minibatch as rows of (gene, log1p(count)), and the same by gene for the gradient of the first layer.
template <class T> struct Minibatch {
    int n = 0;
    const int32_t* cells = nullptr;
    std::vector<int32_t> row, gene, gene_start, gene_cell;
    std::vector<T> count, log_count, gene_log_count;

    void gather(const Counts& counts, const int32_t* which, int size, const T* log1p_table, int table_size) {
        n = size, cells = which;
        row.assign(n + 1, 0);
        for (int b = 0; b < n; ++b)
            row[b + 1] = row[b] + static_cast<int32_t>(counts.row_starts[cells[b] + 1] - counts.row_starts[cells[b]]);
        gene.assign(row[n] + ROWS_AHEAD, 0), count.resize(row[n]), log_count.resize(row[n]);
        for (int b = 0; b < n; ++b) {
            const int64_t start = counts.row_starts[cells[b]];
            const int m = row[b + 1] - row[b];
            std::copy_n(counts.genes + start, m, &gene[row[b]]);
            std::copy_n(counts.values + start, m, &count[row[b]]);
            if (!std::is_sorted(&gene[row[b]], &gene[row[b]] + m)) sort_row(&gene[row[b]], &count[row[b]], m);
        }
        for (int i = 0; i < row[n]; ++i) {
            const T x = count[i];
            const int whole = x >= T(0) && x < T(table_size) ? static_cast<int>(x) : 0;
            log_count[i] = static_cast<T>(whole) == x ? log1p_table[whole] : T(std::log1p(static_cast<double>(x)));
        }
    }

    void sort_by_gene(int n_genes) {
        gene_start.assign(n_genes + 2, 0);
        gene_cell.resize(row[n]), gene_log_count.resize(row[n]);
        for (int i = 0; i < row[n]; ++i) ++gene_start[gene[i] + 2];
        for (int g = 0; g < n_genes; ++g) gene_start[g + 2] += gene_start[g + 1];
        for (int b = 0; b < n; ++b)
            for (int i = row[b]; i < row[b + 1]; ++i) {
                const int at = gene_start[gene[i] + 1]++;
                gene_cell[at] = b;
                gene_log_count[at] = log_count[i];
            }
    }

  private:
    static void sort_row(int32_t* genes, T* counts, int m) {
        std::vector<std::pair<int32_t, T>> pairs(m);
        for (int i = 0; i < m; ++i) pairs[i] = {genes[i], counts[i]};
        std::sort(pairs.begin(), pairs.end());
        for (int i = 0; i < m; ++i) std::tie(genes[i], counts[i]) = pairs[i];
    }
};

// Calls use(constant VECTORS, column) for pieces of a row that fit in registers.
template <class T, class Use> ALWAYS_INLINE void for_pieces(int width, Use use) {
    constexpr int W = Vec<T>::width;
    int from = 0;
    for (; from + SPARSE_VECTORS * W <= width; from += SPARSE_VECTORS * W)
        use(std::integral_constant<int, SPARSE_VECTORS>{}, from);
    for (; from < width; from += W) use(std::integral_constant<int, 1>{}, from);
}

// out (n, width) = bias + sum over the non-zero genes of value * weight row; width a multiple of 16. Tile by tile
// of the genes: every cell sees a tile before the next one, while its weights are near. `packed` is room for a tile.
template <class T>
void sparse_linear(const Minibatch<T>& x, int n_genes, const T* weight, const T* bias, int width, std::vector<T>& packed, T* out) {
    constexpr int W = Vec<T>::width;
    const size_t stride = width;
    const int tile = std::max<int>(16, TILE_BYTES / (std::min(width, SPARSE_VECTORS * W) * sizeof(T)));
    std::vector<int32_t> first(x.row.begin(), x.row.end() - 1), last(first);
    for (int b = 0; b < x.n; ++b) std::copy_n(bias, width, out + b * stride);
    for (int begin = 0; begin < n_genes; begin += tile) {
        const int end = std::min(begin + tile, n_genes);
        for (int b = 0; b < x.n; ++b)
            while (last[b] < x.row[b + 1] && x.gene[last[b]] < end) ++last[b];
        for_pieces<T>(width, [&](auto n, int from) {
            constexpr int VECTORS = decltype(n)::value;
            const T* rows = weight + begin * stride + from;
            const auto add = [&](auto in_order, size_t row_size) {
                for (int b = 0; b < x.n; ++b) {
                    T* target = out + b * stride + from;
                    vec<T> sum[VECTORS];
                    for (int j = 0; j < VECTORS; ++j) sum[j] = load(target + j * W);
                    for (int i = first[b]; i < last[b]; ++i) {
                        const T* row = rows + (x.gene[i] - begin) * row_size;
                        if constexpr (!decltype(in_order)::value) {
                            const T* later = weight + x.gene[i + ROWS_AHEAD] * stride + from;
                            for (int j = 0; j < VECTORS * W; j += 64 / sizeof(T)) __builtin_prefetch(later + j);
                        }
                        const vec<T> value = broadcast(x.log_count[i]);
                        for (int j = 0; j < VECTORS; ++j) sum[j] = fused(value, load(row + j * W), sum[j]);
                    }
                    for (int j = 0; j < VECTORS; ++j) store(target + j * W, sum[j]);
                }
            };
            if (VECTORS * W == width) return add(std::false_type{}, stride);
            // Rows far apart share few lines of a cache.
            packed.resize(static_cast<size_t>(tile) * VECTORS * W);
            for (int g = 0; g < end - begin; ++g)
                for (int j = 0; j < VECTORS; ++j) store(&packed[(g * VECTORS + j) * W], load(rows + g * stride + j * W));
            rows = packed.data();
            add(std::true_type{}, VECTORS * W);
        });
        first = last;
    }
}

// The first layer's gradient by weight, in registers: use(constant VECTORS, offset in the weights, sums) for every
// gene and piece of its row; ahead(constant VECTORS, offset) some pieces before, to call for memory. `packed` is room
// for d_out (n, width), which is laid out piece by piece.
template <class T, class Ahead, class Use>
void sparse_linear_gradient(const Minibatch<T>& x, int n_genes, const T* d_out, int width, std::vector<T>& packed, Ahead ahead,
                            Use use) {
    constexpr int W = Vec<T>::width;
    packed.resize(static_cast<size_t>(x.n) * width);
    for_pieces<T>(width, [&](auto n, int from) {
        constexpr int VECTORS = decltype(n)::value;
        T* piece = &packed[static_cast<size_t>(x.n) * from];
        for (int b = 0; b < x.n; ++b)
            for (int j = 0; j < VECTORS; ++j)
                store(piece + (b * VECTORS + j) * W, load(d_out + static_cast<size_t>(b) * width + from + j * W));
        for (int g = 0; g < n_genes; ++g) {
            ahead(n, static_cast<size_t>(std::min(g + GENES_AHEAD, n_genes - 1)) * width + from);
            vec<T> sum[VECTORS] = {};
            for (int i = x.gene_start[g]; i < x.gene_start[g + 1]; ++i) {
                const T* d = piece + x.gene_cell[i] * (VECTORS * W);
                const vec<T> value = broadcast(x.gene_log_count[i]);
                for (int j = 0; j < VECTORS; ++j) sum[j] = fused(value, load(d + j * W), sum[j]);
            }
            use(n, static_cast<size_t>(g) * width + from, sum);
        }
    });
}

// One batch-normalised layer: x_hat, and the gate that ReLU and dropout put on its output.
template <class T> struct Normalised {
    static constexpr int W = Vec<T>::width;
    std::vector<T> x_hat, gate, out, inverse_sd, mean, var;

    void resize(int n, int width) {
        const size_t size = static_cast<size_t>(n) * width;
        x_hat.resize(size), gate.resize(size), out.resize(size);
        inverse_sd.resize(width), mean.resize(width), var.resize(width);
    }

    // x_hat holds the pre-activation on entry. Training moves the running statistics. `keep` (n, units) per group of units, or null.
    void forward(int n, int width, int stride, int units, const T* gamma, const T* beta, T* running_mean, T* running_var,
                 bool training, const uint8_t* const* keep, T keep_scale) {
        const size_t row = width;
        T* x = x_hat.data();
        if (training) {
            std::fill(mean.begin(), mean.end(), T(0));
            std::fill(var.begin(), var.end(), T(0));
            for (int b = 0; b < n; ++b)
                for (int j = 0; j < width; j += W) add_to(&mean[j], load(x + b * row + j));
            for (int j = 0; j < width; j += W) store(&mean[j], load(&mean[j]) * (T(1) / n));
            for (int b = 0; b < n; ++b)
                for (int j = 0; j < width; j += W) {
                    const vec<T> d = load(x + b * row + j) - load(&mean[j]);
                    add_to(&var[j], d * d);
                }
            const T momentum = T(BATCH_NORM_MOMENTUM);
            for (int j = 0; j < width; j += W) {
                const vec<T> sum = load(&var[j]);
                store(&inverse_sd[j], T(1) / root_of(sum * (T(1) / n) + T(BATCH_NORM_EPS)));
                add_to(running_mean + j, momentum * (load(&mean[j]) - load(running_mean + j)));
                add_to(running_var + j, momentum * (sum * (T(1) / (n - 1)) - load(running_var + j)));
            }
        } else {
            std::copy_n(running_mean, width, mean.begin());
            for (int j = 0; j < width; j += W)
                store(&inverse_sd[j], T(1) / root_of(load(running_var + j) + T(BATCH_NORM_EPS)));
        }
        for (int b = 0; b < n; ++b) {
            T *xb = x + b * row, *gb = &gate[b * row], *ob = &out[b * row];
            if (keep) {
                std::fill(gb, gb + width, T(0));
                for (int e = 0; e * stride < width; ++e)
                    for (int j = 0; j < units; ++j) gb[e * stride + j] = keep_scale * keep[e][static_cast<size_t>(b) * units + j];
            } else {
                std::fill(gb, gb + width, T(1));
            }
            for (int j = 0; j < width; j += W) {
                const vec<T> hat = (load(xb + j) - load(&mean[j])) * load(&inverse_sd[j]);
                const vec<T> y = load(gamma + j) * hat + load(beta + j);
                const vec<T> open = y > T(0) ? load(gb + j) : vec<T>{};
                store(xb + j, hat);
                store(gb + j, open);
                store(ob + j, y * open);
            }
        }
    }

    // d_out becomes the gradient of the pre-activation.
    void backward(int n, int width, const T* gamma, T* d_out, T* d_gamma, T* d_beta) const {
        const size_t row = width;
        std::fill(d_gamma, d_gamma + width, T(0));
        std::fill(d_beta, d_beta + width, T(0));
        for (int b = 0; b < n; ++b)
            for (int j = 0; j < width; j += W) {
                const vec<T> d = load(d_out + b * row + j) * load(&gate[b * row + j]);
                store(d_out + b * row + j, d);
                add_to(d_beta + j, d);
                add_to(d_gamma + j, d * load(&x_hat[b * row + j]));
            }
        const T share = T(1) / n;
        for (int b = 0; b < n; ++b)
            for (int j = 0; j < width; j += W) {
                const vec<T> mean_part = share * (load(d_beta + j) + load(&x_hat[b * row + j]) * load(d_gamma + j));
                store(d_out + b * row + j, load(gamma + j) * load(&inverse_sd[j]) * (load(d_out + b * row + j) - mean_part));
            }
    }
};

// out (n, padded(rows)) = x (n, columns) weight' + bias; weight (rows, columns), columns a multiple of 16, bias
// (padded(rows)). `transposed` is room for the weights.
template <class T>
void dense_linear(int n, const T* x, int x_stride, int columns, const T* weight, const T* bias, int rows,
                  std::vector<T>& transposed, T* out) {
    const size_t stride = padded(rows), row = x_stride;
    transposed.assign(columns * stride, T(0));
    for (int o = 0; o < rows; ++o)
        for (int j = 0; j < columns; ++j) transposed[j * stride + o] = weight[static_cast<size_t>(o) * columns + j];
    multiply<T>(n, columns, static_cast<int>(stride), {x, row, 1}, transposed.data(), stride, bias, 0, out, stride);
}

// Gradients of dense_linear from d_out (n, out_stride); d_x is overwritten, d_weight and d_bias too.
template <class T>
void dense_linear_backward(int n, const T* x, int x_stride, int columns, const T* weight, const T* d_out, int out_stride,
                           int rows, T* d_x, T* d_weight, T* d_bias) {
    const size_t row = out_stride, width = columns;
    std::fill(d_bias, d_bias + rows, T(0));
    for (int b = 0; b < n; ++b)
        for (int o = 0; o < rows; ++o) d_bias[o] += d_out[b * row + o];
    multiply<T>(n, rows, columns, {d_out, row, 1}, weight, width, nullptr, 0, d_x, x_stride);
    multiply<T>(rows, n, columns, {d_out, 1, row}, x, x_stride, nullptr, 0, d_weight, width);
}
