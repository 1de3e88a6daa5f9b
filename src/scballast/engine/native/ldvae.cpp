// One member, LDVAE or VAE, on the CPU: a training step (forward, analytic backward, Adam) and evaluation.
// Members are independent, so each is trained by one thread while its parameters stay in cache.
#include <memory>

#include "decoder.hpp"
#include "encoder.hpp"
#include "evaluate.hpp"
#include "likelihood.hpp"
#include "noise.hpp"
#include "scvi_decoder.hpp"

namespace {

constexpr size_t LIBRARY_STRIDE = 16;  // the library encoder's mean and log variance, padded

struct Optimiser {
    double lr, weight_decay, eps;
};

struct Sums {
    double reconstruction, kl_latent, kl_library, loss;
};

template <class T> struct Noise {
    std::vector<T> latent, library;
    std::vector<uint8_t> keep;  // (layers of the latent encoder, n, hidden), then (n, hidden) of the library encoder
};

template <class T> class Workspace {
  public:
    Minibatch<T> x;
    Sums sums;
    DecoderBranch<T> rate, zero;
    LayeredDecoder<T> layered;

    void prepare(const Spec& spec) {
        s = spec;
        layout = std::make_unique<Layout>(spec);
        const Layout& l = *layout;
        if (s.decoder == LINEAR) {
            rate.prepare(l, l.rate, T(-1e30));
            if (s.likelihood == ZINB) zero.prepare(l, l.zero, T(0));
        }
        hidden.resize(l.layers);
        gradient.resize(l.input_weight);
        small = gradient.data();
        if (log1p_table.empty())
            for (int i = 0; i < 1024; ++i) log1p_table.push_back(static_cast<T>(std::log1p(static_cast<double>(i))));
    }

    const Layout& dims() const { return *layout; }
    const T* small_gradient() const { return small; }
    T latent_mean(int b, int k) const { return head[b * head_stride + k]; }
    const std::vector<T>& sds() const { return sd; }
    T library_mean(int b) const { return library_head[b * LIBRARY_STRIDE]; }
    const std::vector<T>& library_sds() const { return library_sd; }
    DispersionTable<T>& dispersion() { return table; }

    void draw(uint64_t seed, uint64_t step, int n) {
        const Layout& l = *layout;
        noise.latent.resize(padded(n * l.latent) + 16);
        normals(seed, step, STREAM_LATENT, static_cast<int64_t>(n) * l.latent, noise.latent.data(), words);
        if (s.model_library) {
            noise.library.resize(padded(n) + 16);
            normals(seed, step, STREAM_LIBRARY, n, noise.library.data(), words);
        }
        if (s.dropout_rate > 0) {
            const int64_t size = static_cast<int64_t>(n) * l.hidden;
            noise.keep.resize(size * (l.layers + s.model_library));
            for (int i = 0; i < l.layers; ++i)
                keep_mask(seed, step, STREAM_DROPOUT + i, size, s.dropout_rate, &noise.keep[i * size], words);
            if (s.model_library)
                keep_mask(seed, step, STREAM_DROPOUT_LIBRARY, size, s.dropout_rate, &noise.keep[l.layers * size], words);
        }
    }

    void encode(const Counts& counts, const int32_t* cells, int n, const T* p, T* running, bool training) {
        const Layout& l = *layout;
        const int K = l.latent, H = l.hidden_stride, W = l.input_width;
        x.gather(counts, cells, n, log1p_table.data(), static_cast<int>(log1p_table.size()));
        const bool drop = training && s.dropout_rate > 0;
        const T keep_scale = static_cast<T>(1.0 / (1.0 - s.dropout_rate));
        const int64_t mask = static_cast<int64_t>(n) * l.hidden;
        const uint8_t* keep[2] = {noise.keep.data(), noise.keep.data() + mask * l.layers};
        hidden[0].resize(n, W);
        sparse_linear(x, l.genes, p + l.input_weight, p + l.input_bias, W, packed, hidden[0].x_hat.data());
        hidden[0].forward(n, W, H, l.hidden, p + l.input_gamma, p + l.input_beta, running + l.input_running,
                          running + l.input_running + W, training, drop ? keep : nullptr, keep_scale);
        const T* below = hidden[0].out.data();
        int below_stride = W;
        for (int i = 1; i < l.layers; ++i) {
            const T* weight = p + l.layer0 + (i - 1) * l.layer_size;
            const T* bias = weight + static_cast<size_t>(H) * H;
            T* run = running + l.layer_running + static_cast<size_t>(i - 1) * 2 * H;
            const uint8_t* keep_layer[1] = {noise.keep.data() + mask * i};
            hidden[i].resize(n, H);
            dense_linear(n, below, below_stride, H, weight, bias, H, transposed, hidden[i].x_hat.data());
            hidden[i].forward(n, H, H, l.hidden, bias + H, bias + 2 * H, run, run + H, training,
                              drop ? keep_layer : nullptr, keep_scale);
            below = hidden[i].out.data(), below_stride = H;
        }
        const size_t S = head_stride = padded(2 * K), size = static_cast<size_t>(n) * K;
        head.resize(n * S), exp_head.resize(n * S), sd.assign(size + 16, T(1));
        dense_linear(n, below, below_stride, H, p + l.head_weight, p + l.head_bias, 2 * K, transposed, head.data());
        for (size_t i = 0; i < n * S; i += Vec<T>::width) store(&exp_head[i], exp_of(load(&head[i])));
        for (int b = 0; b < n; ++b)
            for (int k = 0; k < K; ++k) sd[b * K + k] = std::sqrt(exp_head[b * S + K + k] + T(VARIANCE_EPS));
        if (s.model_library) {
            library_head.resize(static_cast<size_t>(n) * LIBRARY_STRIDE), library_sd.resize(n);
            dense_linear(n, hidden[0].out.data() + H, W, H, p + l.library_weight, p + l.library_bias, 2, transposed,
                         library_head.data());
            for (int b = 0; b < n; ++b)
                library_sd[b] = std::sqrt(fast_exp(library_head[b * LIBRARY_STRIDE + 1]) + T(VARIANCE_EPS));
        }
    }

    // The non-zero counts of one cell, until the next one's are gathered.
    template <int LIKELIHOOD> NonZeros<T>& gathered(const Counts& counts, int b, size_t dispersion_row) {
        const int start = x.row[b];
        non_zeros.template gather<LIKELIHOOD>(x.row[b + 1] - start, &x.gene[start], &x.count[start],
                                              counts.log_factorials[x.cells[b]], table, dispersion_row);
        return non_zeros;
    }

    // Latent values of one cell from its posterior and a standard normal draw.
    void place(int b, const T* draw, T* z) const {
        const int K = layout->latent;
        for (int k = 0; k < K; ++k) z[k] = head[b * head_stride + k] + sd[b * K + k] * draw[k];
        if (s.latent == LOGISTIC_NORMAL) {
            T top = z[0], total = 0;
            for (int k = 1; k < K; ++k) top = std::max(top, z[k]);
            for (int k = 0; k < K; ++k) total += z[k] = fast_exp(z[k] - top);
            for (int k = 0; k < K; ++k) z[k] /= total;
        }
    }

    // Loss and gradients of one minibatch: `small` holds those of all parameters but the input weight,
    // whose gradient is left as the sparse product of the minibatch and `d_hidden`.
    void forward_backward(const Counts& counts, const Categories& c, const int32_t* cells, int n, const T* p, T* running,
                          double kl_weight) {
        const Layout& l = *layout;
        const int K = l.latent;
        encode(counts, cells, n, p, running, true);
        z.resize(static_cast<size_t>(n) * K), d_z.assign(static_cast<size_t>(n) * K, T(0));
        library.resize(n), d_library.assign(n, T(0)), batch.resize(n), label.resize(n);
        sums = {0, 0, 0, 0};
        for (int b = 0; b < n; ++b) {
            place(b, &noise.latent[static_cast<size_t>(b) * K], &z[static_cast<size_t>(b) * K]);
            batch[b] = c.batch_map[counts.batch[cells[b]]];
            label[b] = s.dispersion == PER_LABEL ? c.label_map[counts.label[cells[b]]] : 0;
            for (int k = 0; k < K; ++k) {
                const double m = head[b * head_stride + k], sigma = sd[b * K + k];
                sums.kl_latent += 0.5 * (sigma * sigma + m * m - 1.0);
            }
            library[b] = s.model_library ? library_head[b * LIBRARY_STRIDE] + library_sd[b] * noise.library[b]
                                         : static_cast<T>(counts.log_totals[cells[b]]);
            if (s.model_library) {
                const double prior_var = c.library_vars[batch[b]], d = library_head[b * LIBRARY_STRIDE] - c.library_means[batch[b]];
                const double ratio = static_cast<double>(library_sd[b]) * library_sd[b] / prior_var;
                sums.kl_library += 0.5 * (ratio + d * d / prior_var - 1.0 - std::log(ratio));
            }
        }
        vec<T> log_sd{};  // ones fill the last vector
        for (int i = 0; i < n * K; i += Vec<T>::width) log_sd += log_of(load(&sd[i]));
        sums.kl_latent -= static_cast<double>(lane_sum<T>(log_sd));
        if (s.likelihood != POISSON) table.compute(l, p + l.dispersion);
        const T scale = T(-1.0 / n);
        if (s.decoder == LINEAR)
            linear_decoder(counts, n, p, running, scale);
        else
            nonlinear_decoder(counts, n, p, running, scale);
        sums.loss = (sums.reconstruction + kl_weight * sums.kl_latent + sums.kl_library);
        for (size_t i = 0; i < static_cast<size_t>(l.dispersion_rows) * l.gene_stride; ++i)
            small[l.dispersion + i] = scale * table.gradient[i] * table.theta[i];
        encoder_backward(c, n, p, kl_weight);
    }

    // The input weight's gradient in pieces: see sparse_linear_gradient.
    template <class Ahead, class Use> void input_gradient(Ahead ahead, Use use) {
        sparse_linear_gradient(x, layout->genes, d_hidden.data(), layout->input_width, packed, ahead, use);
    }

  private:
    Spec s;
    std::unique_ptr<Layout> layout;
    Noise<T> noise;
    std::vector<Normalised<T>> hidden;
    InputMoments<T> moments;
    DispersionTable<T> table;
    NonZeros<T> non_zeros;
    size_t head_stride = 0;
    std::vector<T> log1p_table, transposed, packed, head, exp_head, sd, library_head, library_sd, z, d_z, library, d_library, d_head, d_hidden, d_below, d_out;
    std::vector<T> rows, zero_rows, softmax;
    std::vector<int32_t> batch, label, offset_row;
    std::vector<uint32_t> words;
    std::vector<T> gradient;
    T* small = nullptr;  // gradients of all parameters but the input weight

    // Reconstruction loss, and gradients by the decoder's parameters and by z.
    void linear_decoder(const Counts& counts, int n, const T* p, T* running, T scale) {
        const Layout& l = *layout;
        const int K = l.latent;
        moments.compute(n, K, l.batch_columns, z.data(), batch.data());
        rate.fold(p, running, &moments, n);
        rate.start_backward();
        if (s.likelihood == ZINB) {
            zero.fold(p, running, &moments, n);
            zero.start_backward();
        }
        for_likelihood(s.likelihood, [&](auto likelihood) { decode_rows<decltype(likelihood)::value>(counts, n); });
        for (T& d : d_z) d *= scale;
        rate.finish_backward(n, p, moments, batch.data(), scale, small, d_z.data());
        if (s.likelihood == ZINB) zero.finish_backward(n, p, moments, batch.data(), scale, small, d_z.data());
    }

    void nonlinear_decoder(const Counts& counts, int n, const T* p, T* running, T scale) {
        const Layout& l = *layout;
        layered.forward(l, n, z.data(), batch.data(), p, running, true);
        softmax.resize(l.gene_stride);
        for_likelihood(s.likelihood, [&](auto likelihood) {
            for (int b = 0; b < n; ++b) {
                take_cell<decltype(likelihood)::value>(counts, b, layered.share_row(l, b), layered.zero_row(l, b));
                layered.add_row(l, b);
            }
        });
        layered.backward(l, n, z.data(), batch.data(), p, scale, small, d_z.data());
    }

    // Adds one cell's reconstruction loss; its logits y and zeros become the log-likelihood's gradient by them.
    template <int LIKELIHOOD> void take_cell(const Counts& counts, int cell, T* y, T* zeros) {
        const size_t dispersion_row = s.dispersion == PER_BATCH ? batch[cell] : label[cell];
        sums.reconstruction -= cell_log_likelihood<T, LIKELIHOOD, true>(
            layout->gene_stride, gathered<LIKELIHOOD>(counts, cell, dispersion_row), library[cell], table, dispersion_row, y, zeros, softmax.data(), d_library[cell]);
    }

    template <int LIKELIHOOD> void decode_rows(const Counts& counts, int n) {
        const Layout& l = *layout;
        const size_t K = l.latent, G = l.gene_stride;
        rows.resize(BLOCK * G), softmax.resize(G), offset_row.assign(n, 0);
        if (l.batch_columns) std::copy_n(batch.data(), n, offset_row.data());
        if (LIKELIHOOD == ZINB) zero_rows.resize(BLOCK * G);
        for (int b = 0; b < n; b += BLOCK) {
            const int in_block = std::min(BLOCK, n - b);
            const T* source = &moments.centred[b * K];
            rate.decode(source, in_block, &offset_row[b], rows.data());
            if (LIKELIHOOD == ZINB) zero.decode(source, in_block, &offset_row[b], zero_rows.data());
            for (int i = 0; i < in_block; ++i)
                take_cell<LIKELIHOOD>(counts, b + i, &rows[i * G], LIKELIHOOD == ZINB ? &zero_rows[i * G] : nullptr);
            rate.accumulate(source, in_block, &offset_row[b], rows.data(), &d_z[b * K]);
            if (LIKELIHOOD == ZINB) zero.accumulate(source, in_block, &offset_row[b], zero_rows.data(), &d_z[b * K]);
        }
    }

    void encoder_backward(const Categories& c, int n, const T* p, double kl_weight) {
        const Layout& l = *layout;
        const int K = l.latent, H = l.hidden_stride, W = l.input_width;
        d_head.resize(static_cast<size_t>(n) * 2 * K);
        const T kl = static_cast<T>(kl_weight / n);
        for (int b = 0; b < n; ++b) {
            T* d = &d_z[static_cast<size_t>(b) * K];
            if (s.latent == LOGISTIC_NORMAL) {
                T inner = 0;
                for (int k = 0; k < K; ++k) inner += d[k] * z[b * K + k];
                for (int k = 0; k < K; ++k) d[k] = z[b * K + k] * (d[k] - inner);
            }
            for (int k = 0; k < K; ++k) {
                const T m = head[b * head_stride + k], sigma = sd[b * K + k], variance = sigma * sigma;
                d_head[b * 2 * K + k] = d[k] + kl * m;
                const T d_variance = (d[k] * noise.latent[b * K + k]) / (2 * sigma) + kl * T(0.5) * (1 - 1 / variance);
                d_head[b * 2 * K + K + k] = d_variance * exp_head[b * head_stride + K + k];
            }
        }
        d_hidden.resize(static_cast<size_t>(n) * W);
        const int top = l.layers - 1;
        d_below.resize(top ? static_cast<size_t>(n) * H : 0), d_out.resize(d_below.size());
        // The gradient by the output of layer i: the first one's is beside that of the library encoder.
        const auto d_layer = [&](int i) { return i ? d_below.data() : d_hidden.data(); };
        dense_linear_backward(n, hidden[top].out.data(), top ? H : W, H, p + l.head_weight, d_head.data(), 2 * K, 2 * K,
                              d_layer(top), small + l.head_weight, small + l.head_bias);
        for (int i = top; i >= 1; --i) {
            const size_t at = l.layer0 + (i - 1) * l.layer_size, bias = at + static_cast<size_t>(H) * H;
            hidden[i].backward(n, H, p + bias + H, d_below.data(), small + bias + H, small + bias + 2 * H);
            std::swap(d_out, d_below);
            dense_linear_backward(n, hidden[i - 1].out.data(), i == 1 ? W : H, H, p + at, d_out.data(), H, H, d_layer(i - 1),
                                  small + at, small + bias);
        }
        if (s.model_library) {
            std::vector<T> d_library_head(2 * n);
            for (int b = 0; b < n; ++b) {
                const T d = d_library[b] * T(-1.0 / n), prior_var = T(c.library_vars[batch[b]]);
                const T m = library_head[b * LIBRARY_STRIDE] - T(c.library_means[batch[b]]), sigma = library_sd[b];
                d_library_head[2 * b] = d + m / prior_var / n;
                const T d_variance = d * noise.library[b] / (2 * sigma) + T(0.5) * (1 / prior_var - 1 / (sigma * sigma)) / n;
                d_library_head[2 * b + 1] = d_variance * fast_exp(library_head[b * LIBRARY_STRIDE + 1]);
            }
            dense_linear_backward(n, hidden[0].out.data() + H, W, H, p + l.library_weight, d_library_head.data(), 2, 2,
                                  d_hidden.data() + H, small + l.library_weight, small + l.library_bias);
        }
        hidden[0].backward(n, W, p + l.input_gamma, d_hidden.data(), small + l.input_gamma, small + l.input_beta);
        T* d_bias = small + l.input_bias;
        std::fill(d_bias, d_bias + W, T(0));
        for (int b = 0; b < n; ++b)
            for (int j = 0; j < W; j += Vec<T>::width) add_to(d_bias + j, load(&d_hidden[static_cast<size_t>(b) * W + j]));
        x.sort_by_gene(l.genes);
    }
};

// One step of Adam as torch takes it, by the constants of the step; of some weights and their moments.
template <class T> auto adam(const Optimiser& o, double step_number) {
    const T weight_decay = static_cast<T>(o.weight_decay), eps = static_cast<T>(o.eps);
    const T step = static_cast<T>(o.lr / (1.0 - std::pow(0.9, step_number)));
    const T second_scale = static_cast<T>(1.0 / std::sqrt(1.0 - std::pow(0.999, step_number)));
    return [=](T* w, T* m, T* v, vec<T> gradient) __attribute__((always_inline)) {
        const vec<T> weight = load(w), g = gradient + weight_decay * weight;
        const vec<T> first = load(m) + T(0.1) * (g - load(m)), second = T(0.999) * load(v) + T(0.001) * g * g;
        store(m, first);
        store(v, second);
        store(w, weight - step * first / (root_of(second) * second_scale + eps));
    };
}

template <class T> Workspace<T>& workspace(const Spec& spec) {
    static thread_local Workspace<T> instance;
    instance.prepare(spec);
    return instance;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

using T = SCALAR;  // float for training; the tests of exactness compile it as double

// Minibatch i is cells[starts[i] .. starts[i + 1]). Stops early when `stop` is set; sums grow.
EXPORT int32_t train_epoch(const Spec& spec, const Counts& counts, const Categories& categories, const int32_t* cells,
                           const int32_t* starts, int32_t n_minibatches, T* parameters, T* first, T* second, T* running,
                           const Optimiser& optimiser, double kl_weight, uint64_t seed, int64_t steps_done,
                           const volatile int32_t& stop, Sums& sums) {
    Workspace<T>& w = workspace<T>(spec);
    const Layout& l = w.dims();
    constexpr int W = Vec<T>::width;
    for (int i = 0; i < n_minibatches; ++i) {
        if (stop) return i;
        const int64_t step = steps_done + i + 1;
        const int n = starts[i + 1] - starts[i];
        w.draw(seed, static_cast<uint64_t>(step), n);
        w.forward_backward(counts, categories, cells + starts[i], n, parameters, running, kl_weight);
        const auto update = adam<T>(optimiser, static_cast<double>(step));
        const auto ahead = [&](auto vectors, size_t from) {
            constexpr int LINE = 64 / sizeof(T);
            const size_t at = l.input_weight + from;
            for (int j = 0; j < decltype(vectors)::value * W; j += LINE) {
                __builtin_prefetch(parameters + at + j, 1);
                __builtin_prefetch(first + at + j, 1);
                __builtin_prefetch(second + at + j, 1);
            }
        };
        const auto use = [&](auto vectors, size_t from, const vec<T>* sum) {
            const size_t at = l.input_weight + from;
            for (int j = 0; j < decltype(vectors)::value; ++j)
                update(parameters + at + j * W, first + at + j * W, second + at + j * W, sum[j]);
        };
        w.input_gradient(ahead, use);
        for (size_t at = 0; at < l.input_weight; at += W)
            update(parameters + at, first + at, second + at, load(w.small_gradient() + at));
        sums.reconstruction += w.sums.reconstruction;
        sums.kl_latent += w.sums.kl_latent;
        sums.kl_library += w.sums.kl_library;
        sums.loss += w.sums.loss;
    }
    return n_minibatches;
}

EXPORT void evaluate_cells(const Spec& spec, const Counts& counts, const Categories& categories, const int32_t* cells,
                           int32_t n, const T* parameters, T* running, int32_t n_samples, const T* latent_noise,
                           const T* library_noise, T* posterior, T* library_posterior, double* reconstruction) {
    evaluate(workspace<T>(spec), spec, counts, categories, cells, n, parameters, running, n_samples, latent_noise, library_noise,
             posterior, library_posterior, reconstruction);
}

// Sizes of a member's arrays, for engine/packing.py to check its own against.
EXPORT void layout_sizes(const Spec* spec, int64_t* n_parameters, int64_t* n_running) {
    const Layout layout(*spec);
    *n_parameters = static_cast<int64_t>(layout.n_parameters);
    *n_running = static_cast<int64_t>(layout.n_running);
}

// log_factorials and log_totals of rows [from, to).
EXPORT void row_constants(const int64_t* row_starts, const float* values, int64_t from, int64_t to, double* log_factorials,
                          double* log_totals) {
    constexpr int SIZE = 4096;
    static const std::vector<double> table = [] {
        std::vector<double> t(SIZE);
        for (int i = 0; i < SIZE; ++i) t[i] = std::lgamma(i + 1.0);
        return t;
    }();
    for (int64_t r = from; r < to; ++r) {
        double total = 0, log_factorial = 0;
        for (int64_t i = row_starts[r]; i < row_starts[r + 1]; ++i) {
            const double x = values[i];
            const int whole = x >= 0 && x < SIZE ? static_cast<int>(x) : 0;
            double term = table[whole];
            if (whole != x) term = std::lgamma(x + 1.0);
            total += x;
            log_factorial += term;
        }
        log_factorials[r] = log_factorial;
        log_totals[r] = std::log(total);
    }
}
