// The linear decoder with its batch norm folded in. In training mode the statistics of y = W z over the
// minibatch are those of z (mean and covariance), so y itself is only ever formed a few rows at a time.
#pragma once
#include <algorithm>
#include <vector>

#include "arithmetic.hpp"
#include "layout.hpp"
#include "products.hpp"

constexpr int BLOCK = 8;  // rows decoded together: weights are read once for all of them

// Mean and covariance of the decoder's input [z, one-hot batch] over a minibatch.
template <class T> struct InputMoments {
    std::vector<T> centred;                       // (n, latent)
    std::vector<double> mean, covariance, cross;  // (latent), (latent, latent), (latent, batches)
    std::vector<double> share;                    // (batches): share of the minibatch's cells

    void compute(int n, int latent, int batches, const T* z, const int32_t* batch) {
        mean.assign(latent, 0.0), covariance.assign(latent * latent, 0.0), cross.assign(latent * batches, 0.0);
        share.assign(batches, 0.0), centred.resize(static_cast<size_t>(n) * latent);
        for (int b = 0; b < n; ++b)
            for (int k = 0; k < latent; ++k) mean[k] += static_cast<double>(z[b * latent + k]);
        for (double& value : mean) value /= n;
        for (int b = 0; b < n; ++b) {
            T* c = &centred[static_cast<size_t>(b) * latent];
            for (int k = 0; k < latent; ++k) c[k] = static_cast<T>(z[b * latent + k] - mean[k]);
            for (int k = 0; k < latent; ++k)
                for (int j = 0; j <= k; ++j) covariance[k * latent + j] += static_cast<double>(c[k]) * c[j];
            if (batches) {
                share[batch[b]] += 1.0 / n;
                for (int k = 0; k < latent; ++k) cross[k * batches + batch[b]] += static_cast<double>(c[k]) / n;
            }
        }
        for (int k = 0; k < latent; ++k)
            for (int j = 0; j <= k; ++j) covariance[j * latent + k] = covariance[k * latent + j] /= n;
    }

    // (rows + 2, rows) with rows = latent + batches: covariance of the input, then the shares of the batches alone
    // and the whole mean. Times the weights this is all that the batch norm needs.
    std::vector<T> operator_rows() const {
        const size_t latent = mean.size(), batches = share.size(), rows = latent + batches;
        std::vector<T> a((rows + 2) * rows, T(0));
        for (size_t k = 0; k < latent; ++k) {
            for (size_t j = 0; j < latent; ++j) a[k * rows + j] = T(covariance[k * latent + j]);
            for (size_t j = 0; j < batches; ++j)
                a[k * rows + latent + j] = a[(latent + j) * rows + k] = T(cross[k * batches + j]);
            a[(rows + 1) * rows + k] = T(mean[k]);
        }
        for (size_t i = 0; i < batches; ++i) {
            for (size_t j = 0; j < batches; ++j)
                a[(latent + i) * rows + latent + j] = T((i == j ? share[i] : 0.0) - share[i] * share[j]);
            a[rows * rows + latent + i] = a[(rows + 1) * rows + latent + i] = T(share[i]);
        }
        return a;
    }
};

template <class T> struct DecoderBranch {
    static constexpr int W = Vec<T>::width;
    int latent, batches, genes, stride;
    Branch at;
    T padding;  // logit of the genes beyond the last
    std::vector<T> folded, offset, covariance_weight, inverse_sd;  // (latent, G), (max(1, batches), G), (rows + 2, G), (G)
    std::vector<T> moment, batch_sum;                              // gradients: (latent, G), (max(1, batches), G)
    std::vector<T> through, pulled_back;                           // (G), (n, padded latent)

    void prepare(const Layout& l, const Branch& branch, T logit) {
        at = branch, padding = logit;
        latent = l.latent, batches = l.batch_columns, genes = l.genes, stride = l.gene_stride;
        const size_t G = stride, offsets = std::max(1, batches);
        folded.resize(latent * G), offset.resize(offsets * G), covariance_weight.resize((l.decoder_rows + 2) * G);
        inverse_sd.resize(G), moment.resize(latent * G), batch_sum.resize(offsets * G), through.resize(G);
    }

    // By the statistics of a minibatch of n, which move the running ones, or without it by these.
    void fold(const T* p, T* running, const InputMoments<T>* moments = nullptr, int n = 0) {
        const size_t G = stride, rows = latent + batches;
        const T *weight = p + at.weight, *gamma = p + at.gamma, *beta = p + at.beta;
        T *running_mean = running + at.running, *running_var = running_mean + G;
        const T* base = running_mean;
        if (moments) {
            const std::vector<T> a = moments->operator_rows();
            multiply<T>(rows + 2, rows, stride, {a.data(), rows, 1}, weight, G, nullptr, 0, covariance_weight.data(), G);
            base = &covariance_weight[rows * G];
            const T* centre = &covariance_weight[(rows + 1) * G];
            const T unbiased = n > 1 ? T(n) / T(n - 1) : T(1), momentum = T(BATCH_NORM_MOMENTUM);
            for (size_t g = 0; g < G; g += W) {
                vec<T> var{};
                for (size_t d = 0; d < rows; ++d) var += load(weight + d * G + g) * load(&covariance_weight[d * G + g]);
                var = var > T(0) ? var : var * T(0);
                store(&inverse_sd[g], T(1) / root_of(var + T(BATCH_NORM_EPS)));
                add_to(running_mean + g, momentum * (load(centre + g) - load(running_mean + g)));
                add_to(running_var + g, momentum * (var * unbiased - load(running_var + g)));
            }
        } else {
            for (size_t g = 0; g < G; g += W)
                store(&inverse_sd[g], T(1) / root_of(load(running_var + g) + T(BATCH_NORM_EPS)));
        }
        for (size_t g = 0; g < G; g += W) store(&through[g], load(gamma + g) * load(&inverse_sd[g]));
        for (int k = 0; k < latent; ++k)
            for (size_t g = 0; g < G; g += W) store(&folded[k * G + g], load(weight + k * G + g) * load(&through[g]));
        for (int j = 0; j < std::max(1, batches); ++j) {
            T* row = &offset[j * G];
            for (size_t g = 0; g < G; g += W) {
                const vec<T> own = batches ? load(weight + (latent + j) * G + g) : vec<T>{};
                store(row + g, load(beta + g) + (own - load(base + g)) * load(&through[g]));
            }
            for (size_t g = genes; g < G; ++g) row[g] = padding;
        }
    }

    // y (n_rows, G) = offset of each row's batch + z (n_rows, latent) folded.
    void decode(const T* z, int n_rows, const int* batch_of, T* y) const {
        const size_t G = stride;
        const T* start = offset.data();
        if (batches) {
            for (int c = 0; c < n_rows; ++c) std::copy_n(&offset[batch_of[c] * G], G, y + c * G);
            start = y;
        }
        const size_t row = latent;
        multiply<T>(n_rows, latent, stride, {z, row, 1}, folded.data(), G, start, batches ? G : 0, y, G);
    }

    void start_backward() {
        std::fill(moment.begin(), moment.end(), T(0));
        std::fill(batch_sum.begin(), batch_sum.end(), T(0));
    }

    // Adds the share of n_rows cells, d (n_rows, G), to the sums behind the gradients; d_z (n_rows, latent) too.
    void accumulate(const T* z, int n_rows, const int* batch_of, const T* d, T* d_z) {
        const size_t G = stride, row = latent;
        multiply<T>(latent, n_rows, stride, {z, 1, row}, d, G, moment.data(), G, moment.data(), G);
        for (int c = 0; c < n_rows; ++c) {
            T* sum = &batch_sum[batch_of[c] * G];
            for (size_t g = 0; g < G; g += W) add_to(sum + g, load(d + c * G + g));
        }
        dot_products<T>(n_rows, latent, stride, d, G, folded.data(), G, [=](int c, int k, T sum) { d_z[c * row + k] += sum; });
    }

    // From the sums over cells to the gradients of weight, gamma and beta (in `small`); d_z gets the terms that come
    // through the batch norm's mean and variance. `scale` turns sums into the loss's gradient.
    void finish_backward(int n, const T* p, const InputMoments<T>& moments, const int32_t* batch, T scale, T* small, T* d_z) {
        const size_t G = stride;
        const T *weight = p + at.weight, *gamma = p + at.gamma;
        T *d_weight = small + at.weight, *d_gamma = small + at.gamma, *d_beta = small + at.beta;
        const int rows = latent + batches;
        std::fill(d_beta, d_beta + G, T(0));
        for (int j = 0; j < std::max(1, batches); ++j)
            for (size_t g = 0; g < G; g += W) add_to(d_beta + g, scale * load(&batch_sum[j * G + g]));
        std::fill(d_gamma, d_gamma + G, T(0));
        for (int d = 0; d < rows; ++d) {
            const T *source = d < latent ? &moment[d * G] : &batch_sum[(d - latent) * G], *w = weight + d * G;
            const T share = d < latent ? T(0) : T(moments.share[d - latent]);
            for (size_t g = 0; g < G; g += W) {
                const vec<T> dw = scale * load(source + g) - share * load(d_beta + g);
                store(d_weight + d * G + g, dw);
                add_to(d_gamma + g, dw * load(w + g));
            }
        }
        for (size_t g = 0; g < G; g += W) {
            const vec<T> inverse = load(&inverse_sd[g]), by_gamma = load(d_gamma + g) * inverse;
            store(d_gamma + g, by_gamma);
            store(&through[g], by_gamma * inverse);
        }
        for (int d = 0; d < rows; ++d)
            for (size_t g = 0; g < G; g += W) {
                const vec<T> dw = load(d_weight + d * G + g) - load(&through[g]) * load(&covariance_weight[d * G + g]);
                store(d_weight + d * G + g, load(gamma + g) * load(&inverse_sd[g]) * dw);
            }
        for (int k = 0; k < latent; ++k)  // the moments are spent: their place is free
            for (size_t g = 0; g < G; g += W) store(&moment[k * G + g], load(&folded[k * G + g]) * load(&through[g]));
        // d_z -= (constant of the cell's batch + centred mixing) / n
        const size_t K = padded(latent);
        std::vector<T> mixing(rows * K, T(0)), constant(std::max(1, batches) * K, T(0));
        const T share = T(1) / n;
        dot_products<T>(latent, rows, stride, moment.data(), G, weight, G,
                        [&](int k, int d, T sum) { mixing[d * K + k] = sum * share; });
        dot_products<T>(latent, 1, stride, folded.data(), G, d_beta, G, [&](int k, int, T sum) {
            T common = sum * share;
            for (int j = 0; j < batches; ++j) common -= mixing[(latent + j) * K + k] * T(moments.share[j]);
            for (int j = 0; j < std::max(1, batches); ++j)
                constant[j * K + k] = common + (batches ? mixing[(latent + j) * K + k] : T(0));
        });
        pulled_back.resize(n * K);
        for (int b = 0; b < n; ++b) std::copy_n(&constant[(batches ? batch[b] : 0) * K], K, &pulled_back[b * K]);
        const size_t row = latent;
        multiply<T>(n, latent, static_cast<int>(K), {moments.centred.data(), row, 1}, mixing.data(), K, pulled_back.data(), K,
                    pulled_back.data(), K);
        for (int b = 0; b < n; ++b)
            for (int k = 0; k < latent; ++k) d_z[b * row + k] -= pulled_back[b * K + k];
    }
};
