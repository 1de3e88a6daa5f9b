// The linear decoder with its batch norm folded in. In training mode the statistics of y = W z over the
// minibatch are those of z (mean and covariance), so y itself is only ever formed a few rows at a time.
#pragma once
#include <algorithm>
#include <vector>

#include "arithmetic.hpp"
#include "layout.hpp"

constexpr int BLOCK = 4;  // rows decoded together: weights are read once for all of them

// Mean and covariance of the decoder's input [z, one-hot batch] over a minibatch.
template <class T> struct InputMoments {
    std::vector<T> centred;                       // (n, latent)
    std::vector<double> mean, covariance, cross;  // (latent), (latent, latent), (latent, batches)
    std::vector<double> share;                    // (batches): share of the minibatch's cells

    void compute(int n, int latent, int batches, const T* z, const int32_t* batch) {
        mean.assign(latent, 0.0), covariance.assign(latent * latent, 0.0), cross.assign(latent * batches, 0.0);
        share.assign(batches, 0.0), centred.resize(static_cast<size_t>(n) * latent);
        for (int b = 0; b < n; ++b)
            for (int k = 0; k < latent; ++k) mean[k] += static_cast<double>(z[b * latent + k]) / n;
        for (int b = 0; b < n; ++b) {
            T* c = &centred[static_cast<size_t>(b) * latent];
            for (int k = 0; k < latent; ++k) c[k] = static_cast<T>(z[b * latent + k] - mean[k]);
            for (int k = 0; k < latent; ++k)
                for (int j = 0; j < latent; ++j) covariance[k * latent + j] += static_cast<double>(c[k]) * c[j] / n;
            if (batches) {
                share[batch[b]] += 1.0 / n;
                for (int k = 0; k < latent; ++k) cross[k * batches + batch[b]] += static_cast<double>(c[k]) / n;
            }
        }
    }
};

template <class T> struct DecoderBranch {
    int latent, batches, genes, stride;
    std::vector<T> folded, offset, covariance_weight, inverse_sd;  // (latent, G), (max(1, batches), G), (rows, G), (G)
    std::vector<T> moment, batch_sum;                              // gradients: (latent, G), (max(1, batches), G)

    void resize(const Layout& l) {
        latent = l.latent, batches = l.batch_columns, genes = l.genes, stride = l.gene_stride;
        const size_t G = stride, offsets = std::max(1, batches);
        folded.resize(latent * G), offset.resize(offsets * G), covariance_weight.resize(l.decoder_rows * G);
        inverse_sd.resize(G), moment.resize(latent * G), batch_sum.resize(offsets * G);
    }

    void fold(const T* weight, const T* gamma, const T* beta, T* running, const InputMoments<T>* moments, int n,
              bool update_running, T padding) {
        const size_t G = stride;
        std::vector<T> centre(G, T(0)), base(G, T(0));
        const auto axpy = [G](T a, const T* __restrict x, T* __restrict y) {
            for (size_t g = 0; g < G; ++g) y[g] += a * x[g];
        };
        T *running_mean = running, *running_var = running + G;
        if (moments) {
            std::fill(covariance_weight.begin(), covariance_weight.end(), T(0));
            for (int j = 0; j < batches; ++j) axpy(T(moments->share[j]), weight + (latent + j) * G, base.data());
            for (int k = 0; k < latent; ++k) {
                T* row = &covariance_weight[k * G];
                for (int j = 0; j < latent; ++j) axpy(T(moments->covariance[k * latent + j]), weight + j * G, row);
                for (int j = 0; j < batches; ++j) axpy(T(moments->cross[k * batches + j]), weight + (latent + j) * G, row);
            }
            for (int j = 0; j < batches; ++j) {
                T* row = &covariance_weight[(latent + j) * G];
                for (int k = 0; k < latent; ++k) axpy(T(moments->cross[k * batches + j]), weight + k * G, row);
                axpy(T(moments->share[j]), weight + (latent + j) * G, row);
                axpy(T(-moments->share[j]), base.data(), row);
            }
            std::vector<T> var(G, T(0));
            for (int d = 0; d < latent + batches; ++d)
                for (size_t g = 0; g < G; ++g) var[g] += weight[d * G + g] * covariance_weight[d * G + g];
            centre = base;
            for (int k = 0; k < latent; ++k) axpy(T(moments->mean[k]), weight + k * G, centre.data());
            for (size_t g = 0; g < G; ++g) {
                var[g] = var[g] > T(0) ? var[g] : var[g] * T(0);
                inverse_sd[g] = T(1) / std::sqrt(var[g] + T(BATCH_NORM_EPS));
            }
            if (update_running)
                for (int g = 0; g < genes; ++g) {
                    running_mean[g] += T(BATCH_NORM_MOMENTUM) * (centre[g] - running_mean[g]);
                    running_var[g] += T(BATCH_NORM_MOMENTUM) * (var[g] * n / (n - 1) - running_var[g]);
                }
        } else {
            for (size_t g = 0; g < G; ++g) {
                base[g] = running_mean[g];
                inverse_sd[g] = T(1) / std::sqrt(running_var[g] + T(BATCH_NORM_EPS));
            }
        }
        for (int k = 0; k < latent; ++k)
            for (size_t g = 0; g < G; ++g) folded[k * G + g] = weight[k * G + g] * gamma[g] * inverse_sd[g];
        for (int j = 0; j < std::max(1, batches); ++j) {
            T* row = &offset[j * G];
            for (size_t g = 0; g < G; ++g) {
                const T own = batches ? weight[(latent + j) * G + g] : T(0);
                row[g] = beta[g] + (own - base[g]) * gamma[g] * inverse_sd[g];
            }
            for (size_t g = genes; g < G; ++g) row[g] = padding;
        }
    }

    // y (BLOCK, G) = offset of the cell's batch + z folded.
    void decode(const T* const z[BLOCK], const int row[BLOCK], T* y) const {
        constexpr int W = Vec<T>::width;
        for (int g = 0; g < stride; g += 2 * W) {
            const bool pair = g + W < stride;
            const int next = pair ? g + W : g;
            vec<T> a[BLOCK], b[BLOCK];
            for (int c = 0; c < BLOCK; ++c) {
                a[c] = load(&offset[static_cast<size_t>(row[c]) * stride + g]);
                b[c] = load(&offset[static_cast<size_t>(row[c]) * stride + next]);
            }
            for (int k = 0; k < latent; ++k) {
                const vec<T> wa = load(&folded[static_cast<size_t>(k) * stride + g]);
                const vec<T> wb = load(&folded[static_cast<size_t>(k) * stride + next]);
                for (int c = 0; c < BLOCK; ++c) {
                    const vec<T> zk = broadcast(z[c][k]);
                    a[c] += zk * wa;
                    b[c] += zk * wb;
                }
            }
            for (int c = 0; c < BLOCK; ++c) {
                store(y + static_cast<size_t>(c) * stride + g, a[c]);
                store(y + static_cast<size_t>(c) * stride + next, b[c]);
            }
        }
    }

    void start_backward() {
        std::fill(moment.begin(), moment.end(), T(0));
        std::fill(batch_sum.begin(), batch_sum.end(), T(0));
    }

    // Adds the block's share of the gradients; d (BLOCK, G) is zero in the rows beyond the block.
    void accumulate(const T* const z[BLOCK], const int row[BLOCK], const T* d, int n_rows, T* const d_z[BLOCK]) {
        constexpr int W = Vec<T>::width;
        for (int c = 0; c < n_rows; ++c) {
            T* sum = &batch_sum[static_cast<size_t>(row[c]) * stride];
            for (int g = 0; g < stride; g += W) store(sum + g, load(sum + g) + load(d + static_cast<size_t>(c) * stride + g));
        }
        for (int g = 0; g < stride; g += W) {
            vec<T> dc[BLOCK];
            for (int c = 0; c < BLOCK; ++c) dc[c] = load(d + static_cast<size_t>(c) * stride + g);
            for (int k = 0; k < latent; ++k) {
                T* m = &moment[static_cast<size_t>(k) * stride + g];
                vec<T> sum = load(m);
                for (int c = 0; c < BLOCK; ++c) sum += broadcast(z[c][k]) * dc[c];
                store(m, sum);
            }
        }
        int k = 0;
        for (; k + 4 <= latent; k += 4) add_input_gradient<4>(k, d, n_rows, d_z);
        for (; k < latent; ++k) add_input_gradient<1>(k, d, n_rows, d_z);
    }

    template <int COLUMNS> void add_input_gradient(int k, const T* d, int n_rows, T* const d_z[BLOCK]) const {
        constexpr int W = Vec<T>::width;
        vec<T> sum[BLOCK][COLUMNS] = {};
        for (int g = 0; g < stride; g += W) {
            vec<T> w[COLUMNS];
            for (int j = 0; j < COLUMNS; ++j) w[j] = load(&folded[static_cast<size_t>(k + j) * stride + g]);
            for (int c = 0; c < BLOCK; ++c) {
                const vec<T> dc = load(d + static_cast<size_t>(c) * stride + g);
                for (int j = 0; j < COLUMNS; ++j) sum[c][j] += dc * w[j];
            }
        }
        for (int c = 0; c < n_rows; ++c)
            for (int j = 0; j < COLUMNS; ++j) d_z[c][k + j] += lane_sum<T>(sum[c][j]);
    }

    // From the sums over cells to the gradients of weight, gamma and beta; d_z gets the terms that come
    // through the batch norm's mean and variance. `scale` turns sums into the loss's gradient.
    void finish_backward(int n, const T* weight, const T* gamma, const InputMoments<T>& moments, const int32_t* batch,
                         T scale, T* d_weight, T* d_gamma, T* d_beta, T* d_z) {
        const size_t G = stride;
        const int rows = latent + batches;
        std::fill(d_beta, d_beta + G, T(0));
        for (int j = 0; j < std::max(1, batches); ++j)
            for (size_t g = 0; g < G; ++g) d_beta[g] += scale * batch_sum[j * G + g];
        std::fill(d_gamma, d_gamma + G, T(0));
        for (int d = 0; d < rows; ++d) {
            T* __restrict dw = d_weight + d * G;
            const T* __restrict source = d < latent ? &moment[d * G] : &batch_sum[(d - latent) * G];
            const T share = d < latent ? T(0) : T(moments.share[d - latent]);
            for (size_t g = 0; g < G; ++g) {
                dw[g] = scale * source[g] - share * d_beta[g];
                d_gamma[g] += dw[g] * weight[d * G + g];
            }
        }
        for (size_t g = 0; g < G; ++g) d_gamma[g] *= inverse_sd[g];
        std::vector<T> through(G);
        for (size_t g = 0; g < G; ++g) through[g] = d_gamma[g] * inverse_sd[g];
        std::vector<double> constant(latent, 0.0), mixing(static_cast<size_t>(latent) * rows, 0.0);
        for (int k = 0; k < latent; ++k) {
            const T* a = &folded[k * G];
            constant[k] = dot(a, d_beta);
            std::vector<T> weighted(G);
            for (size_t g = 0; g < G; ++g) weighted[g] = a[g] * through[g];
            for (int d = 0; d < rows; ++d) mixing[k * rows + d] = dot(weighted.data(), weight + d * G);
        }
        for (int d = 0; d < rows; ++d) {
            T* dw = d_weight + d * G;
            const T* cw = &covariance_weight[d * G];
            for (size_t g = 0; g < G; ++g) dw[g] = gamma[g] * inverse_sd[g] * (dw[g] - through[g] * cw[g]);
        }
        for (int b = 0; b < n; ++b)
            for (int k = 0; k < latent; ++k) {
                double sum = constant[k];
                for (int j = 0; j < latent; ++j)
                    sum += mixing[k * rows + j] * moments.centred[static_cast<size_t>(b) * latent + j];
                for (int j = 0; j < batches; ++j)
                    sum += mixing[k * rows + latent + j] * ((batch[b] == j) - moments.share[j]);
                d_z[static_cast<size_t>(b) * latent + k] -= static_cast<T>(sum / n);
            }
    }

    double dot(const T* x, const T* y) const {
        constexpr int W = Vec<T>::width;
        vec<T> sum{};
        for (int g = 0; g < stride; g += W) sum += load(x + g) * load(y + g);
        return lane_sum<T>(sum);
    }
};
