// Both encoders on one sparse minibatch: forward in training and evaluation mode, and backward.
#pragma once
#include <algorithm>
#include <vector>

#include "arithmetic.hpp"
#include "layout.hpp"

constexpr double VARIANCE_EPS = 1e-4;

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
        gene.resize(row[n]), count.resize(row[n]), log_count.resize(row[n]);
        for (int b = 0; b < n; ++b) {
            const int64_t start = counts.row_starts[cells[b]];
            for (int i = row[b]; i < row[b + 1]; ++i) {
                const float x = counts.values[start + i - row[b]];
                gene[i] = counts.genes[start + i - row[b]];
                count[i] = x;
                const int whole = x >= 0 && x < table_size ? static_cast<int>(x) : 0;
                log_count[i] = static_cast<float>(whole) == x ? log1p_table[whole] : T(std::log1p(static_cast<double>(x)));
            }
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
};

// out (n, width) = bias + sum over the non-zero genes of value * weight row; width a multiple of 16.
template <class T, int VECTORS>
void sparse_rows(const Minibatch<T>& x, const T* weight, const T* bias, int width, int from, T* out) {
    constexpr int W = Vec<T>::width;
    for (int b = 0; b < x.n; ++b) {
        vec<T> sum[VECTORS];
        for (int j = 0; j < VECTORS; ++j) sum[j] = load(bias + from + j * W);
        const int end = x.row[b + 1];
        for (int i = x.row[b]; i < end; ++i) {
            const T* row = weight + static_cast<size_t>(x.gene[i]) * width + from;
            if (i + 4 < end) {
                const T* ahead = weight + static_cast<size_t>(x.gene[i + 4]) * width + from;
                for (int j = 0; j < VECTORS; ++j) __builtin_prefetch(ahead + j * W);
            }
            const vec<T> value = broadcast(x.log_count[i]);
            for (int j = 0; j < VECTORS; ++j) sum[j] += value * load(row + j * W);
        }
        for (int j = 0; j < VECTORS; ++j) store(out + static_cast<size_t>(b) * width + from + j * W, sum[j]);
    }
}

template <class T> void sparse_linear(const Minibatch<T>& x, const T* weight, const T* bias, int width, T* out) {
    constexpr int W = Vec<T>::width;
    int from = 0;
    for (; from + 8 * W <= width; from += 8 * W) sparse_rows<T, 8>(x, weight, bias, width, from, out);
    for (; from < width; from += W) sparse_rows<T, 1>(x, weight, bias, width, from, out);
}

// One batch-normalised layer: x_hat, and the gate that ReLU and dropout put on its output.
template <class T> struct Normalised {
    std::vector<T> x_hat, gate, out, inverse_sd, mean;

    void resize(int n, int width) {
        const size_t size = static_cast<size_t>(n) * width;
        x_hat.resize(size), gate.resize(size), out.resize(size), inverse_sd.resize(width), mean.resize(width);
    }

    // x_hat holds the pre-activation on entry. `keep` (n, units) per group of units, or null.
    void forward(int n, int width, int stride, int units, const T* gamma, const T* beta, T* running_mean, T* running_var,
                 bool training, bool update_running, const uint8_t* const* keep, T keep_scale) {
        T* __restrict x = x_hat.data();
        if (training) {
            std::vector<T> var(width, T(0));
            std::fill(mean.begin(), mean.end(), T(0));
            for (int b = 0; b < n; ++b)
                for (int j = 0; j < width; ++j) mean[j] += x[b * width + j];
            for (int j = 0; j < width; ++j) mean[j] /= n;
            for (int b = 0; b < n; ++b)
                for (int j = 0; j < width; ++j) {
                    const T d = x[b * width + j] - mean[j];
                    var[j] += d * d;
                }
            for (int j = 0; j < width; ++j) {
                inverse_sd[j] = T(1) / std::sqrt(var[j] / n + T(BATCH_NORM_EPS));
                if (update_running) {
                    running_mean[j] += T(BATCH_NORM_MOMENTUM) * (mean[j] - running_mean[j]);
                    running_var[j] += T(BATCH_NORM_MOMENTUM) * (var[j] / (n - 1) - running_var[j]);
                }
            }
        } else {
            for (int j = 0; j < width; ++j) {
                mean[j] = running_mean[j];
                inverse_sd[j] = T(1) / std::sqrt(running_var[j] + T(BATCH_NORM_EPS));
            }
        }
        for (int b = 0; b < n; ++b) {
            T *__restrict xb = x + static_cast<size_t>(b) * width, *__restrict gb = gate.data() + static_cast<size_t>(b) * width,
              *__restrict ob = out.data() + static_cast<size_t>(b) * width;
            for (int j = 0; j < width; ++j) {
                xb[j] = (xb[j] - mean[j]) * inverse_sd[j];
                const T y = gamma[j] * xb[j] + beta[j];
                gb[j] = y > T(0) ? T(1) : T(0);
                ob[j] = y;
            }
            if (keep)
                for (int e = 0; e * stride < width; ++e) {
                    const uint8_t* k = keep[e] + static_cast<size_t>(b) * units;
                    for (int j = 0; j < units; ++j) gb[e * stride + j] *= keep_scale * k[j];
                }
            for (int j = 0; j < width; ++j) ob[j] *= gb[j];
        }
    }

    // d_out becomes the gradient of the pre-activation.
    void backward(int n, int width, const T* gamma, T* d_out, T* d_gamma, T* d_beta) const {
        std::fill(d_gamma, d_gamma + width, T(0));
        std::fill(d_beta, d_beta + width, T(0));
        for (int b = 0; b < n; ++b) {
            const T *__restrict xb = x_hat.data() + static_cast<size_t>(b) * width,
                    *__restrict gb = gate.data() + static_cast<size_t>(b) * width;
            T* __restrict d = d_out + static_cast<size_t>(b) * width;
#pragma GCC ivdep
            for (int j = 0; j < width; ++j) {
                d[j] *= gb[j];
                d_beta[j] += d[j];
                d_gamma[j] += d[j] * xb[j];
            }
        }
        const T share = T(1) / n;
        for (int b = 0; b < n; ++b) {
            const T* __restrict xb = x_hat.data() + static_cast<size_t>(b) * width;
            T* __restrict d = d_out + static_cast<size_t>(b) * width;
#pragma GCC ivdep
            for (int j = 0; j < width; ++j)
                d[j] = gamma[j] * inverse_sd[j] * (d[j] - share * (d_beta[j] + xb[j] * d_gamma[j]));
        }
    }
};

// out (n, rows) = x (n, columns) weight' + bias, weight (rows, columns), columns a multiple of 16.
template <class T>
void dense_linear(int n, const T* x, int x_stride, int columns, const T* weight, const T* bias, int rows, T* out,
                  int out_stride) {
    constexpr int W = Vec<T>::width;
    for (int b = 0; b < n; ++b)
        for (int o = 0; o < rows; ++o) {
            vec<T> sum{};
            for (int j = 0; j < columns; j += W)
                sum += load(x + static_cast<size_t>(b) * x_stride + j) * load(weight + static_cast<size_t>(o) * columns + j);
            out[static_cast<size_t>(b) * out_stride + o] = bias[o] + lane_sum<T>(sum);
        }
}

// Gradients of dense_linear; d_x is overwritten, d_weight and d_bias too.
template <class T>
void dense_linear_backward(int n, const T* x, int x_stride, int columns, const T* weight, const T* d_out, int out_stride,
                           int rows, T* d_x, T* d_weight, T* d_bias) {
    constexpr int W = Vec<T>::width;
    std::fill(d_weight, d_weight + static_cast<size_t>(rows) * columns, T(0));
    std::fill(d_bias, d_bias + rows, T(0));
    for (int b = 0; b < n; ++b) {
        T* dx = d_x + static_cast<size_t>(b) * x_stride;
        std::fill(dx, dx + columns, T(0));
        for (int o = 0; o < rows; ++o) {
            const T d = d_out[static_cast<size_t>(b) * out_stride + o];
            d_bias[o] += d;
            const vec<T> dv = broadcast(d);
            for (int j = 0; j < columns; j += W) {
                T* dw = d_weight + static_cast<size_t>(o) * columns + j;
                store(dw, load(dw) + dv * load(x + static_cast<size_t>(b) * x_stride + j));
                store(dx + j, load(dx + j) + dv * load(weight + static_cast<size_t>(o) * columns + j));
            }
        }
    }
}
