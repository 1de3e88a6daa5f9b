// Where each parameter of a member lies in its flat array; engine/packing.py mirrors it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

// scvi-tools' batch norm everywhere in the model.
constexpr double BATCH_NORM_EPS = 1e-3, BATCH_NORM_MOMENTUM = 0.01;

enum Likelihood : int32_t { NB = 0, ZINB = 1, POISSON = 2 };
enum Latent : int32_t { NORMAL = 0, LOGISTIC_NORMAL = 1 };
enum Decoder : int32_t { LINEAR = 0, NONLINEAR = 1 };
enum Dispersion : int32_t { PER_GENE = 0, PER_BATCH = 1, PER_LABEL = 2 };

struct Spec {
    int32_t n_genes, n_hidden, n_latent, n_layers, n_batch, n_dispersion;
    int32_t likelihood, latent, dispersion, model_library, decoder;
    double dropout_rate;
};

// Rows of the count matrix and what is known of each cell; shared by all members.
struct Counts {
    const int64_t* row_starts;
    const int32_t* genes;
    const float* values;
    const int32_t* batch;
    const int32_t* label;
    const double* log_factorials;  // sum over genes of lgamma(x + 1), per cell
    const double* log_totals;      // log of the cell's total count
};

// Codes and priors of one member: -1 where it has never seen the batch or label.
struct Categories {
    const int32_t* batch_map;
    const int32_t* label_map;
    const double* library_means;
    const double* library_vars;
};

inline int padded(int n) { return (n + 15) / 16 * 16; }

// A hidden layer of the non-linear decoder: weights (inputs + batches, hidden); offsets as in Layout.
struct HiddenLayer {
    int inputs;
    size_t weight, bias, gamma, beta, running;
};

// A branch of the linear decoder: weights (latent + batches, genes); offsets as in Layout.
struct Branch {
    size_t weight, gamma, beta, running;
};

struct Layout {
    int genes, gene_stride, hidden, hidden_stride, encoders, input_width, latent, layers, batch_columns, decoder_rows;
    int dispersion_rows;
    bool zero_inflated;
    std::vector<HiddenLayer> decoder_layers;  // none in the linear decoder
    // offsets in the parameters
    size_t input_weight, input_bias, input_gamma, input_beta, layer0, layer_size, head_weight, head_bias;
    size_t library_weight, library_bias;
    Branch rate, zero;
    size_t share_weight, share_bias, absent_weight, absent_bias;  // outputs of the non-linear decoder
    size_t dispersion, n_parameters;
    // offsets in the running statistics (mean, then variance)
    size_t input_running, layer_running, n_running;

    explicit Layout(const Spec& s) {
        genes = s.n_genes, gene_stride = padded(genes), hidden = s.n_hidden, hidden_stride = padded(hidden);
        encoders = s.model_library ? 2 : 1, input_width = encoders * hidden_stride, latent = s.n_latent;
        layers = s.n_layers, batch_columns = s.n_batch > 1 ? s.n_batch : 0, decoder_rows = latent + batch_columns;
        dispersion_rows = s.likelihood == POISSON ? 0 : s.n_dispersion;
        size_t at = 0;
        const auto take = [&at](size_t n) {
            const size_t start = at;
            at += n;
            return start;
        };
        const size_t H = hidden_stride, G = gene_stride, W = input_width;
        input_bias = take(W), input_gamma = take(W), input_beta = take(W);
        layer_size = H * H + 3 * H, layer0 = take(layer_size * (layers - 1));
        head_weight = take(2 * latent * H), head_bias = take(padded(2 * latent));
        library_weight = take(s.model_library ? 2 * H : 0), library_bias = take(s.model_library ? 16 : 0);
        zero_inflated = s.likelihood == ZINB;
        const bool linear = s.decoder == LINEAR, both = linear && zero_inflated;
        rate.weight = take(linear ? decoder_rows * G : 0), rate.gamma = take(linear ? G : 0), rate.beta = take(linear ? G : 0);
        zero.weight = take(both ? decoder_rows * G : 0), zero.gamma = take(both ? G : 0), zero.beta = take(both ? G : 0);
        for (int i = 0; i < layers && !linear; ++i) {
            const int inputs = i ? hidden : latent;
            const size_t weight = take((inputs + batch_columns) * H), bias = take(H), gamma = take(H), beta = take(H);
            decoder_layers.push_back({inputs, weight, bias, gamma, beta, 0});
        }
        share_weight = take(linear ? 0 : hidden * G), share_bias = take(linear ? 0 : G);
        absent_weight = take(zero_inflated && !linear ? hidden * G : 0), absent_bias = take(zero_inflated && !linear ? G : 0);
        dispersion = take(dispersion_rows * G);
        // Last: its gradient is sparse and never stored, so the gradients of all others are one block.
        input_weight = take(static_cast<size_t>(genes) * W);
        n_parameters = at;
        at = 0;
        input_running = take(2 * W), layer_running = take(2 * H * (layers - 1));
        rate.running = take(linear ? 2 * G : 0), zero.running = take(both ? 2 * G : 0);
        for (HiddenLayer& layer : decoder_layers) layer.running = take(2 * H);
        n_running = at;
    }
};
