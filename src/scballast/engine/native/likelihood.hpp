// Log-likelihood of decoded rows and its gradient. Terms that vanish at a count of zero
// (lgamma(x + theta) - lgamma(theta) - lgamma(x + 1), x log mu) are evaluated at the non-zero counts only.
#pragma once
#include <algorithm>
#include <type_traits>
#include <vector>

#include "arithmetic.hpp"
#include "layout.hpp"

constexpr double LIKELIHOOD_EPS = 1e-8;
constexpr int TABLE_COUNTS = 16;  // most counts are small: see DispersionTable

// Calls use(constant LIKELIHOOD).
template <class Use> void for_likelihood(int32_t likelihood, Use use) {
    switch (likelihood) {
        case NB: return use(std::integral_constant<int, NB>{});
        case ZINB: return use(std::integral_constant<int, ZINB>{});
        default: return use(std::integral_constant<int, POISSON>{});
    }
}

// theta = exp(px_r) and what the likelihood needs of it, per dispersion row and gene. For whole counts x up to
// n_counts the increments lgamma(x + theta) - lgamma(theta) and digamma(x + theta) - digamma(theta) are the sums of
// log(theta + j) and 1 / (theta + j) over j < x: tables replace two special functions per count.
template <class T> struct DispersionTable {
    std::vector<T> theta, log_theta, ratio, gradient;  // (rows, G)
    std::vector<T> log_gamma, digamma;                 // (rows, n_counts + 1, G): the first row, for x = 0, is zero
    int n_counts = 0, stride = 0;

    void compute(const Layout& l, const T* log_dispersion) {
        constexpr int W = Vec<T>::width;
        const size_t rows = l.dispersion_rows, G = l.gene_stride, size = rows * G;
        // With many rows a table to 16 would cost more than the counts that it serves.
        n_counts = std::max(2, TABLE_COUNTS / static_cast<int>(rows)), stride = l.gene_stride;
        theta.resize(size), log_theta.resize(size), ratio.resize(size), gradient.assign(size, T(0));
        log_gamma.resize(size * (n_counts + 1)), digamma.resize(size * (n_counts + 1));
        for (size_t r = 0; r < rows; ++r)
            for (size_t g = 0; g < G; g += W) {
                const size_t i = r * G + g;
                const vec<T> th = exp_of(load(log_dispersion + i));
                store(&theta[i], th);
                store(&log_theta[i], log_of(th + T(LIKELIHOOD_EPS)));
                store(&ratio[i], th / (th + T(LIKELIHOOD_EPS)));
                vec<T> log_sum{}, inverse_sum{};
                for (int x = 0;; ++x) {
                    const size_t at = (r * (n_counts + 1) + x) * G + g;
                    store(&log_gamma[at], log_sum);
                    store(&digamma[at], inverse_sum);
                    if (x == n_counts) break;
                    const vec<T> risen = th + static_cast<T>(x);
                    log_sum += log_of(risen);
                    inverse_sum += T(1) / risen;
                }
            }
    }
};

// One cell's non-zero counts and what the likelihood needs of them whatever the decoded row, gathered into
// whole vectors: counts of zero with harmless neighbours fill the last one.
template <class T> struct NonZeros {
    int n = 0, n_padded = 0;
    const int32_t* genes = nullptr;
    double constant = 0;  // the part of the log-likelihood that does not depend on the decoded row
    std::vector<T> count, theta, log_gamma, digamma, mu, pi, d_mu, d_theta, d_pi;

    template <int LIKELIHOOD>
    void gather(int size, const int32_t* which, const T* counts, double log_factorials, const DispersionTable<T>& table,
                size_t row) {
        n = size, n_padded = padded(size), genes = which, constant = -log_factorials;
        if (static_cast<int>(count.size()) < n_padded)
            for (auto* v : {&count, &theta, &log_gamma, &digamma, &mu, &pi, &d_mu, &d_theta, &d_pi}) v->resize(n_padded);
        std::copy(counts, counts + n, count.begin());
        std::fill(count.begin() + n, count.begin() + n_padded, T(0));
        std::fill(mu.begin() + n, mu.begin() + n_padded, T(1));
        std::fill(pi.begin() + n, pi.begin() + n_padded, T(-1e4));  // certainly not an inflated zero
        if constexpr (LIKELIHOOD == POISSON) return;
        const size_t G = table.stride;
        const int n_counts = table.n_counts;
        const T *th = &table.theta[row * G], *log_gammas = &table.log_gamma[row * (n_counts + 1) * G],
                *digammas = &table.digamma[row * (n_counts + 1) * G];
        large.resize(n_padded);
        T *to_theta = theta.data(), *to_log_gamma = log_gamma.data(), *to_digamma = digamma.data();
        int* to_large = large.data();
        n_large = 0;
        for (int i = 0; i < n; ++i) {  // without a branch: which counts are large cannot be foretold
            const int g = which[i], whole = static_cast<int>(std::min(counts[i], T(n_counts)));
            to_theta[i] = th[g];
            to_log_gamma[i] = log_gammas[whole * G + g];
            to_digamma[i] = digammas[whole * G + g];
            to_large[n_large] = i;
            n_large += static_cast<T>(whole) != counts[i];
        }
        std::fill(theta.begin() + n, theta.begin() + n_padded, T(1));
        std::fill(log_gamma.begin() + n, log_gamma.begin() + n_padded, T(0));
        std::fill(digamma.begin() + n, digamma.begin() + n_padded, T(0));
        for (int from = 0; from < n_large; from += Vec<double>::width) gather_large(from);
    }

    template <int LIKELIHOOD> void look_up(const T* mus, T scale, const T* pis) {
        T *to_mu = mu.data(), *to_pi = pi.data();
        for (int i = 0; i < n; ++i) to_mu[i] = mus[genes[i]] * scale;
        if constexpr (LIKELIHOOD == ZINB)
            for (int i = 0; i < n; ++i) to_pi[i] = pis[genes[i]];
    }

  private:
    int n_large = 0;
    std::vector<int> large;  // positions of the counts beyond the table, or not whole

    // Their increments in double: differences of large numbers. The log-gammas go to `constant`.
    void gather_large(int from) {
        constexpr int W = Vec<double>::width;
        const int m = std::min(n_large - from, W);
        vec<double> x = broadcast(1.0), th = broadcast(1.0), log_gamma_risen, digamma_risen, log_gamma_theta, digamma_theta;
        for (int j = 0; j < m; ++j) x[j] = count[large[from + j]], th[j] = theta[large[from + j]];
        gamma_functions(x + th, log_gamma_risen, digamma_risen);
        gamma_functions(th, log_gamma_theta, digamma_theta);
        for (int j = 0; j < m; ++j) {
            constant += log_gamma_risen[j] - log_gamma_theta[j];
            log_gamma[large[from + j]] = T(0);
            digamma[large[from + j]] = static_cast<T>(digamma_risen[j] - digamma_theta[j]);
        }
    }
};

// Softmax in place: y becomes exp(y - max); returns max and the sum.
template <class T> ALWAYS_INLINE void exponentiate(int stride, T* y, T& top, T& total) {
    constexpr int W = Vec<T>::width;
    vec<T> tops = load(y), sum{};
    for (int g = W; g < stride; g += W) {
        const vec<T> value = load(y + g);
        tops = value > tops ? value : tops;
    }
    top = lane_max<T>(tops);
    for (int g = 0; g < stride; g += W) {
        const vec<T> value = exp_of(load(y + g) - top);
        store(y + g, value);
        sum += value;
    }
    total = lane_sum<T>(sum);
}

// log(1 + exp(x)) and its slope; torch's softplus is linear beyond 20, so is this one.
template <class T> ALWAYS_INLINE vec<T> softplus(vec<T> x, vec<T>& slope) {
    const vec<T> limit = broadcast(T(20)), grown = exp_of(x > limit ? limit : x);
    slope = x > limit ? broadcast(T(1)) : grown / (grown + T(1));
    return x > limit ? x : log_of(grown + T(1));
}

// Poisson log-likelihood of one cell; arguments as below.
template <class T, bool GRADIENT>
double poisson_log_likelihood(int stride, NonZeros<T>& nz, T library, T* y, T& d_library) {
    constexpr int W = Vec<T>::width;
    // log mu from the logits: it cannot underflow where mu does.
    double sum = 0, counted = 0;
    for (int i = 0; i < nz.n; ++i) {
        sum += static_cast<double>(nz.count[i]) * y[nz.genes[i]];
        counted += nz.count[i];
    }
    T top, total;
    exponentiate(stride, y, top, total);
    const T scale = fast_exp(library) / total, rate_sum = scale * total;
    sum += counted * (static_cast<double>(library) - static_cast<double>(top) - static_cast<double>(fast_log(total)));
    if constexpr (GRADIENT) {
        d_library = static_cast<T>(counted) - rate_sum;
        const T back = -scale - d_library / total;
        for (int g = 0; g < stride; g += W) store(y + g, load(y + g) * back);
        for (int i = 0; i < nz.n; ++i) y[nz.genes[i]] += nz.count[i];
    }
    return nz.constant + sum - static_cast<double>(rate_sum);
}

// What the non-zero counts add to the dense pass below; derivatives by log mu, theta and pi into `nz`.
template <class T, int LIKELIHOOD, bool GRADIENT> double add_non_zeros(NonZeros<T>& nz, T& pulled) {
    constexpr int W = Vec<T>::width;
    const T eps = T(LIKELIHOOD_EPS);
    vec<T> sum{}, pulls{};
    for (int i = 0; i < nz.n_padded; i += W) {
        const vec<T> x = load(&nz.count[i]), mu = load(&nz.mu[i]), th = load(&nz.theta[i]);
        const vec<T> q = th + mu + eps, inverse = T(1) / q;
        sum += x * log_of((mu + eps) * inverse) + load(&nz.log_gamma[i]);
        vec<T> d_mu = x * mu * (T(1) / (mu + eps) - inverse), d_theta = load(&nz.digamma[i]) - x * inverse;
        if constexpr (LIKELIHOOD == ZINB) {
            // The dense pass took every count for a zero: put the difference right.
            const vec<T> log_ratio = log_of((th + eps) * inverse), u = th * log_ratio - load(&nz.pi[i]);
            vec<T> s;
            sum += u - softplus<T>(u, s);
            d_mu -= (T(1) - s) * th * inverse * mu;
            d_theta += (T(1) - s) * (log_ratio + th / (th + eps) - th * inverse);
            if constexpr (GRADIENT) store(&nz.d_pi[i], s - T(1));
        }
        if constexpr (GRADIENT) {
            pulls += d_mu;
            store(&nz.d_mu[i], d_mu);
            store(&nz.d_theta[i], d_theta);
        }
    }
    pulled += lane_sum<T>(pulls);
    return nz.constant + static_cast<double>(lane_sum<T>(sum));
}

// Log-likelihood of one cell. y: logits on entry; the log-likelihood's gradient by the logits on exit
// when GRADIENT. zero: logits of the zero inflation, its gradient on exit. d_library: gradient by log size.
template <class T, int LIKELIHOOD, bool GRADIENT>
double cell_log_likelihood(int stride, NonZeros<T>& nz, T library, DispersionTable<T>& table, size_t table_row, T* y, T* zero,
                           T* softmax, T& d_library) {
    if constexpr (LIKELIHOOD == POISSON) {
        return poisson_log_likelihood<T, GRADIENT>(stride, nz, library, y, d_library);
    } else {
        constexpr int W = Vec<T>::width;
        T top, total;
        exponentiate(stride, y, top, total);
        const T scale = fast_exp(library) / total;  // mu = scale * y
        nz.template look_up<LIKELIHOOD>(y, scale, zero);
        const size_t at = table_row * stride;
        const T *thetas = &table.theta[at], *log_thetas = &table.log_theta[at], *ratios = &table.ratio[at];
        T* d_theta = &table.gradient[at];
        vec<T> dense{}, pulls{};
        for (int g = 0; g < stride; g += W) {
            const vec<T> value = load(y + g), mu = value * scale, theta = load(thetas + g);
            const vec<T> q = theta + mu + T(LIKELIHOOD_EPS), inverse = T(1) / q, log_ratio = load(log_thetas + g) - log_of(q);
            vec<T> pull = theta * inverse * mu, d = log_ratio + load(ratios + g) - theta * inverse;
            if constexpr (LIKELIHOOD == NB) {
                dense += theta * log_ratio;
            } else {
                const vec<T> pi = load(zero + g);
                vec<T> s, f;
                dense += softplus<T>(theta * log_ratio - pi, s) - softplus<T>(-pi, f);
                pull *= s, d *= s;
                if constexpr (GRADIENT) store(zero + g, f - s);
            }
            if constexpr (GRADIENT) {
                store(softmax + g, value);
                store(y + g, -pull);
                pulls -= pull;
                add_to(d_theta + g, d);
            }
        }
        T pulled = lane_sum<T>(pulls);  // sum over genes of d loglik / d log mu
        const double log_likelihood = add_non_zeros<T, LIKELIHOOD, GRADIENT>(nz, pulled) + static_cast<double>(lane_sum<T>(dense));
        if constexpr (GRADIENT) {
            const T *d_mu = nz.d_mu.data(), *d_thetas = nz.d_theta.data(), *d_pi = nz.d_pi.data();
            for (int i = 0, n = nz.n; i < n; ++i) {
                const int g = nz.genes[i];
                y[g] += d_mu[i];
                d_theta[g] += d_thetas[i];
                if constexpr (LIKELIHOOD == ZINB) zero[g] += d_pi[i];
            }
            const T back = pulled / total;
            for (int g = 0; g < stride; g += W) store(y + g, load(y + g) - back * load(softmax + g));
            d_library = pulled;
        }
        return log_likelihood;
    }
}
