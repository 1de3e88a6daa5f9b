// A member on cells in evaluation mode: posteriors, and likelihoods of samples from them.
#pragma once
#include <algorithm>
#include <type_traits>
#include <vector>

#include "decoder.hpp"
#include "layout.hpp"
#include "likelihood.hpp"

// Reconstruction loss of each sample of each cell. Rows of several cells and samples are decoded together.
template <int LIKELIHOOD, class T, class Work>
void evaluate_samples(Work& w, const Spec& spec, const Counts& counts, const Categories& categories, int n, int n_samples,
                      const T* parameters, T* running, const T* latent_noise, const T* library_noise, double* reconstruction) {
    const bool linear = spec.decoder == LINEAR;
    const Layout& l = w.dims();
    const size_t K = l.latent, G = l.gene_stride, most_rows = linear ? BLOCK : 96;
    std::vector<T> z(most_rows * K), softmax(G), rates(linear ? most_rows * G : 0), zeros(LIKELIHOOD == ZINB ? rates.size() : 0);
    std::vector<int32_t> batch(most_rows), cell_of(most_rows), sample_of(most_rows);
    NonZeros<T>* nz = nullptr;
    size_t n_rows = 0, dispersion_row = 0;
    int gathered = -1;  // cell
    const auto decode = [&](int rows) {
        if (linear) {
            w.rate.decode(z.data(), rows, batch.data(), rates.data());
            if (LIKELIHOOD == ZINB) w.zero.decode(z.data(), rows, batch.data(), zeros.data());
        } else if (rows) {
            w.layered.forward(l, rows, z.data(), batch.data(), parameters, running, false);
        }
    };
    const auto flush = [&] {
        decode(static_cast<int>(n_rows));
        for (size_t r = 0; r < n_rows; ++r) {
            const int b = cell_of[r];
            const int32_t cell = w.x.cells[b];
            if (b != gathered) {
                dispersion_row = spec.dispersion == PER_BATCH ? batch[r] : 0;
                if (spec.dispersion == PER_LABEL) dispersion_row = categories.label_map[counts.label[cell]];
                nz = &w.template gathered<LIKELIHOOD>(counts, b, dispersion_row);
                gathered = b;
            }
            const size_t at = static_cast<size_t>(sample_of[r]) * n + b;
            T unused, library = static_cast<T>(counts.log_totals[cell]);
            if (spec.model_library) library = w.library_mean(b) + w.library_sds()[b] * library_noise[at];
            reconstruction[at] = -cell_log_likelihood<T, LIKELIHOOD, false>(
                l.gene_stride, *nz, library, w.dispersion(), dispersion_row, linear ? &rates[r * G] : w.layered.share_row(l, r),
                linear ? &zeros[r * G] : w.layered.zero_row(l, r), softmax.data(), unused);
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
            if (++n_rows == most_rows) flush();
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
    w.encode(counts, cells, n, parameters, running, false);
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
        w.rate.fold(p, running);
        if (spec.likelihood == ZINB) w.zero.fold(p, running);
    }
    if (spec.likelihood != POISSON) w.dispersion().compute(l, p + l.dispersion);
    for_likelihood(spec.likelihood, [&](auto likelihood) {
        evaluate_samples<decltype(likelihood)::value>(w, spec, counts, categories, n, n_samples, p, running, latent_noise,
                                                      library_noise, reconstruction);
    });
}
