// Log-likelihood of decoded rows and its gradient. Terms that vanish at a count of zero
// (lgamma(x + theta) - lgamma(theta) - lgamma(x + 1), x log mu) are evaluated at the non-zero counts only.
#pragma once
#include <algorithm>
#include <vector>

#include "arithmetic.hpp"
#include "layout.hpp"

constexpr double LIKELIHOOD_EPS = 1e-8;

// theta = exp(px_r) and what the likelihood needs of it, per dispersion row and gene.
template <class T> struct DispersionTable {
    std::vector<T> theta, log_theta, ratio, gradient;
    std::vector<double> log_gamma, digamma;

    void compute(const Layout& l, const T* log_dispersion) {
        const size_t size = static_cast<size_t>(l.dispersion_rows) * l.gene_stride;
        theta.resize(size), log_theta.resize(size), ratio.resize(size), gradient.assign(size, T(0));
        log_gamma.resize(size), digamma.resize(size);
        for (size_t i = 0; i < size; ++i) {
            theta[i] = fast_exp(log_dispersion[i]);
            log_theta[i] = fast_log(theta[i] + T(LIKELIHOOD_EPS));
            ratio[i] = theta[i] / (theta[i] + T(LIKELIHOOD_EPS));
        }
        for (size_t i = 0; i < size; ++i) gamma_functions(static_cast<double>(theta[i]), log_gamma[i], digamma[i]);
    }
};

// One cell's non-zero counts, gathered so that the arithmetic on them vectorises.
struct NonZeros {
    std::vector<double> count, mu, theta, log_gamma, digamma, pi, pull, value, d_mu, d_theta, d_pi;
    void resize(int n) {
        for (auto* v : {&count, &mu, &theta, &log_gamma, &digamma, &pi, &pull, &value, &d_mu, &d_theta, &d_pi})
            if (static_cast<int>(v->size()) < n) v->resize(n);
    }
};

// Softmax in place: y becomes exp(y - max); returns max and the sum.
template <class T> ALWAYS_INLINE void exponentiate(int stride, T* __restrict y, T& top, T& total) {
    top = y[0];
#pragma omp simd reduction(max : top)
    for (int g = 0; g < stride; ++g) top = y[g] > top ? y[g] : top;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int g = 0; g < stride; ++g) {
        y[g] = fast_exp(y[g] - top);
        sum += y[g];
    }
    total = sum;
}

// Log-likelihood of one cell. y: logits on entry; the log-likelihood's gradient by the logits on exit
// when GRADIENT. zero: logits of the zero inflation, its gradient on exit. d_library: gradient by log size.
template <class T, int LIKELIHOOD, bool GRADIENT>
double cell_log_likelihood(int stride, int n_nonzero, const int32_t* genes, const T* counts, double log_factorials, T library,
                           DispersionTable<T>& table, size_t table_row, NonZeros& nz, T* __restrict y, T* __restrict zero,
                           T* __restrict softmax, T& d_library) {
    T top, total;
    exponentiate(stride, y, top, total);
    const T scale = fast_exp(library) / total;  // mu = scale * y
    double log_likelihood = -log_factorials;
    T pulled = 0;  // sum over genes of d loglik / d log mu
    nz.resize(n_nonzero);

    if constexpr (LIKELIHOOD == POISSON) {
        // log mu from the logits: it cannot underflow where mu does.
        const double log_scale = static_cast<double>(library) - static_cast<double>(fast_log(total));
        double sum = 0, counted = 0;
        for (int i = 0; i < n_nonzero; ++i) {
            nz.mu[i] = y[genes[i]];
            nz.count[i] = counts[i];
        }
#pragma omp simd reduction(+ : sum, counted)
        for (int i = 0; i < n_nonzero; ++i) {
            sum += nz.count[i] * (fast_log(nz.mu[i] > 1e-300 ? nz.mu[i] : 1e-300) + log_scale);
            counted += nz.count[i];
        }
        const T rate_sum = scale * total;
        log_likelihood += sum - static_cast<double>(rate_sum);
        if constexpr (GRADIENT) {
            pulled = static_cast<T>(counted) - rate_sum;
            const T back = -scale - pulled / total;
            for (int g = 0; g < stride; ++g) y[g] *= back;
            for (int i = 0; i < n_nonzero; ++i) y[genes[i]] += counts[i];
            d_library = pulled;
        }
        return log_likelihood;
    } else {
        const size_t at = table_row * stride;
        const T *__restrict theta = &table.theta[at], *__restrict log_theta = &table.log_theta[at],
                *__restrict ratio = &table.ratio[at];
        T* __restrict d_theta = &table.gradient[at];
        for (int i = 0; i < n_nonzero; ++i) {
            const int g = genes[i];
            nz.count[i] = counts[i];
            nz.mu[i] = y[g] * scale;
            nz.theta[i] = theta[g];
            nz.log_gamma[i] = table.log_gamma[at + g];
            nz.digamma[i] = table.digamma[at + g];
            if constexpr (LIKELIHOOD == ZINB) nz.pi[i] = zero[g];
        }
        T dense = 0;
        if constexpr (LIKELIHOOD == NB) {
#pragma omp simd reduction(+ : dense, pulled)
            for (int g = 0; g < stride; ++g) {
                const T mu = y[g] * scale, q = theta[g] + mu + T(LIKELIHOOD_EPS), inverse = T(1) / q;
                const T log_ratio = log_theta[g] - fast_log(q);
                dense += theta[g] * log_ratio;
                if constexpr (GRADIENT) {
                    const T pull = -theta[g] * inverse * mu;
                    softmax[g] = y[g];
                    y[g] = pull;
                    pulled += pull;
                    d_theta[g] += log_ratio + ratio[g] - theta[g] * inverse;
                }
            }
        } else {
#pragma omp simd reduction(+ : dense, pulled)
            for (int g = 0; g < stride; ++g) {
                const T mu = y[g] * scale, q = theta[g] + mu + T(LIKELIHOOD_EPS), inverse = T(1) / q;
                const T log_ratio = log_theta[g] - fast_log(q), pi = zero[g], u = theta[g] * log_ratio - pi;
                const T grow = fast_exp(u > T(20) ? T(20) : u), fall = fast_exp(-pi > T(20) ? T(20) : -pi);
                dense += (u > T(20) ? u : fast_log(T(1) + grow)) - (-pi > T(20) ? -pi : fast_log(T(1) + fall));
                if constexpr (GRADIENT) {
                    const T s = u > T(20) ? T(1) : grow / (T(1) + grow), f = -pi > T(20) ? T(1) : fall / (T(1) + fall);
                    const T pull = -s * theta[g] * inverse * mu;
                    softmax[g] = y[g];
                    y[g] = pull;
                    pulled += pull;
                    zero[g] = f - s;
                    d_theta[g] += s * (log_ratio + ratio[g] - theta[g] * inverse);
                }
            }
        }
        double sum = 0, pulled_more = 0;
#pragma omp simd reduction(+ : sum, pulled_more)
        for (int i = 0; i < n_nonzero; ++i) {
            const double x = nz.count[i], mu = nz.mu[i], th = nz.theta[i];
            const double q = th + mu + LIKELIHOOD_EPS, log_q = fast_log(q), inverse = 1.0 / q;
            double log_gamma, digamma;
            gamma_functions(x + th, log_gamma, digamma);
            double gain = x * (fast_log(mu + LIKELIHOOD_EPS) - log_q) + log_gamma - nz.log_gamma[i];
            double d_log_mu = x * mu * (1.0 / (mu + LIKELIHOOD_EPS) - inverse), d_th = digamma - nz.digamma[i] - x * inverse;
            if constexpr (LIKELIHOOD == ZINB) {
                // The dense pass took every count for a zero: put the difference right.
                const double log_ratio = fast_log(th + LIKELIHOOD_EPS) - log_q, pi = nz.pi[i], u = th * log_ratio - pi;
                const double grow = fast_exp(u > 20.0 ? 20.0 : u), s = u > 20.0 ? 1.0 : grow / (1.0 + grow);
                gain += u - (u > 20.0 ? u : fast_log(1.0 + grow));
                d_log_mu -= (1.0 - s) * th * inverse * mu;
                d_th += (1.0 - s) * (log_ratio + th / (th + LIKELIHOOD_EPS) - th * inverse);
                nz.d_pi[i] = s - 1.0;
            }
            sum += gain;
            pulled_more += d_log_mu;
            nz.d_mu[i] = d_log_mu;
            nz.d_theta[i] = d_th;
        }
        log_likelihood += static_cast<double>(dense) + sum;
        if constexpr (GRADIENT) {
            for (int i = 0; i < n_nonzero; ++i) {
                const int g = genes[i];
                y[g] += static_cast<T>(nz.d_mu[i]);
                d_theta[g] += static_cast<T>(nz.d_theta[i]);
                if constexpr (LIKELIHOOD == ZINB) zero[g] += static_cast<T>(nz.d_pi[i]);
            }
            pulled += static_cast<T>(pulled_more);
            const T back = pulled / total;
            for (int g = 0; g < stride; ++g) y[g] -= back * softmax[g];
            d_library = pulled;
        }
        return log_likelihood;
    }
}
