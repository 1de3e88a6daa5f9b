// A member on cells in evaluation mode: posteriors, and likelihoods of samples from them.
#pragma once
#include <algorithm>
#include <type_traits>
#include <vector>

#include "decoder.hpp"
#include "layout.hpp"
#include "likelihood.hpp"

template <int LIKELIHOOD, class T, class Work>
void evaluate_samples(Work& w, const Spec& spec, const Counts& counts, const Categories& categories, int n, int n_samples,
                    const T* latent_noise, const T* library_noise, double* reconstruction) {
    const Layout& l = w.dims();
    const size_t K = l.latent, G = l.gene_stride;
    std::vector<T> z(BLOCK * K), rows(BLOCK * G), zeros(LIKELIHOOD == ZINB ? BLOCK * G : 0), softmax(G);
    for (int b = 0; b < n; ++b) {
        const int32_t cell = w.x.cells[b], batch = categories.batch_map[counts.batch[cell]];
        const int32_t label = spec.dispersion == PER_LABEL ? categories.label_map[counts.label[cell]] : 0;
        if (batch < 0 || label < 0) {
            for (int i = 0; i < n_samples; ++i) reconstruction[static_cast<size_t>(i) * n + b] = __builtin_nan("");
            continue;
        }
        const size_t dispersion_row = spec.dispersion == PER_BATCH ? batch : label;
        const int start = w.x.row[b], m = w.x.row[b + 1] - start;
        NonZeros<T>& nz = w.scratch();
        if constexpr (LIKELIHOOD == POISSON)
            nz.gather(m, &w.x.gene[start], &w.x.count[start], counts.log_factorials[cell]);
        else
            nz.gather(m, &w.x.gene[start], &w.x.count[start], counts.log_factorials[cell], w.dispersion(), dispersion_row);
        const std::vector<int> offset_row(BLOCK, l.batch_columns ? batch : 0);
        for (int first = 0; first < n_samples; first += BLOCK) {
            const int in_block = std::min(BLOCK, n_samples - first);
            for (int i = 0; i < in_block; ++i)
                w.place(b, latent_noise + (static_cast<size_t>(first + i) * n + b) * K, &z[i * K]);
            w.rate.decode(z.data(), in_block, offset_row.data(), rows.data());
            if (LIKELIHOOD == ZINB) w.zero.decode(z.data(), in_block, offset_row.data(), zeros.data());
            for (int i = 0; i < in_block; ++i) {
                const size_t sample = first + i;
                T unused, library = static_cast<T>(counts.log_totals[cell]);
                if (spec.model_library) library = w.library_mean(b) + w.library_sds()[b] * library_noise[sample * n + b];
                reconstruction[sample * n + b] = -cell_log_likelihood<T, LIKELIHOOD, false>(
                    l.gene_stride, nz, library, w.dispersion(), dispersion_row, &rows[i * G], &zeros[i * G], softmax.data(), unused);
            }
        }
    }
}

// The same for the non-linear decoder: rows of several cells and samples at a time.
template <int LIKELIHOOD, class T, class Work>
void evaluate_layered(Work& w, const Spec& spec, const Counts& counts, const Categories& categories, int n, int n_samples,
                      const T* parameters, T* running, const T* latent_noise, const T* library_noise, double* reconstruction) {
    constexpr size_t ROWS = 96;
    const Layout& l = w.dims();
    const size_t K = l.latent;
    std::vector<T> z(ROWS * K), softmax(l.gene_stride);
    std::vector<int32_t> batch(ROWS), cell_of(ROWS), sample_of(ROWS);
    NonZeros<T>& nz = w.scratch();
    size_t n_rows = 0;
    int gathered = -1;  // cell
    size_t dispersion_row = 0;
    const auto flush = [&] {
        if (n_rows) w.layered.forward(l, static_cast<int>(n_rows), z.data(), batch.data(), parameters, running, false, false);
        for (size_t r = 0; r < n_rows; ++r) {
            const int b = cell_of[r], start = w.x.row[b], m = w.x.row[b + 1] - start;
            const int32_t cell = w.x.cells[b];
            if (b != gathered) {
                dispersion_row = spec.dispersion == PER_BATCH ? batch[r] : 0;
                if (spec.dispersion == PER_LABEL) dispersion_row = categories.label_map[counts.label[cell]];
                if constexpr (LIKELIHOOD == POISSON)
                    nz.gather(m, &w.x.gene[start], &w.x.count[start], counts.log_factorials[cell]);
                else
                    nz.gather(m, &w.x.gene[start], &w.x.count[start], counts.log_factorials[cell], w.dispersion(), dispersion_row);
                gathered = b;
            }
            const size_t at = static_cast<size_t>(sample_of[r]) * n + b;
            T unused, library = static_cast<T>(counts.log_totals[cell]);
            if (spec.model_library) library = w.library_mean(b) + w.library_sds()[b] * library_noise[at];
            reconstruction[at] = -cell_log_likelihood<T, LIKELIHOOD, false>(
                l.gene_stride, nz, library, w.dispersion(), dispersion_row, w.layered.share_row(l, r), w.layered.zero_row(l, r),
                softmax.data(), unused);
        }
        n_rows = 0;
    };
    for (int b = 0; b < n; ++b) {
        const int32_t cell = w.x.cells[b], own = categories.batch_map[counts.batch[cell]];
        const bool unseen = own < 0 || (spec.dispersion == PER_LABEL && categories.label_map[counts.label[cell]] < 0);
        for (int i = 0; i < n_samples; ++i) {
            const size_t at = static_cast<size_t>(i) * n + b;
            if (unseen) {
                reconstruction[at] = __builtin_nan("");
                continue;
            }
            w.place(b, latent_noise + at * K, &z[n_rows * K]);
            batch[n_rows] = own, cell_of[n_rows] = b, sample_of[n_rows] = i;
            if (++n_rows == ROWS) flush();
        }
    }
    flush();
}

// Posteriors (mean, sd) and, for each sample, the reconstruction loss per cell, all in evaluation mode.
template <class T, class Work>
void evaluate(Work& w, const Spec& spec, const Counts& counts, const Categories& categories, const int32_t* cells, int n,
              const T* parameters, T* running, int n_samples, const T* latent_noise, const T* library_noise, T* posterior,
              T* library_posterior, double* reconstruction) {
    const Layout& l = w.dims();
    const int K = l.latent;
    w.encode(counts, cells, n, parameters, running, false, false);
    for (int b = 0; b < n; ++b) {
        for (int k = 0; k < K; ++k) {
            posterior[b * 2 * K + k] = w.latent_mean(b, k);
            posterior[b * 2 * K + K + k] = w.sds()[b * K + k];
        }
        if (spec.model_library) {
            library_posterior[2 * b] = w.library_mean(b);
            library_posterior[2 * b + 1] = w.library_sds()[b];
        }
    }
    if (n_samples == 0) return;
    const T* p = parameters;
    if (spec.decoder == LINEAR) {
        w.rate.fold(p + l.rate_weight, p + l.rate_gamma, p + l.rate_beta, running + l.rate_running, nullptr, n, false, T(-1e30));
        if (spec.likelihood == ZINB)
            w.zero.fold(p + l.zero_weight, p + l.zero_gamma, p + l.zero_beta, running + l.zero_running, nullptr, n, false, T(0));
    }
    if (spec.likelihood != POISSON) w.dispersion().compute(l, p + l.dispersion);
    const auto run = [&](auto likelihood) {
        constexpr int kind = decltype(likelihood)::value;
        if (spec.decoder == LINEAR)
            evaluate_samples<kind>(w, spec, counts, categories, n, n_samples, latent_noise, library_noise, reconstruction);
        else
            evaluate_layered<kind>(w, spec, counts, categories, n, n_samples, p, running, latent_noise, library_noise,
                                      reconstruction);
    };
    switch (spec.likelihood) {
        case NB: run(std::integral_constant<int, NB>{}); break;
        case ZINB: run(std::integral_constant<int, ZINB>{}); break;
        default: run(std::integral_constant<int, POISSON>{});
    }
}
