// The decoder of scvi-tools' VAE: hidden layers with batch norm and ReLU, each given the batch, then one linear
// output for the expression shares and, under zinb, one for the zero inflation.
#pragma once
#include <algorithm>
#include <vector>

#include "encoder.hpp"
#include "layout.hpp"
#include "products.hpp"

template <class T> class LayeredDecoder {
  public:
    std::vector<T> shares, zeros;  // (n, G) logits; their gradients once the likelihood has been taken

    // z (n, latent) and the batch of each cell to logits; running statistics are used, or updated in training.
    void forward(const Layout& l, int n, const T* z, const int32_t* batch, const T* p, T* running, bool training) {
        const int H = l.hidden_stride;
        hidden.resize(l.layers);
        const T* below = z;
        for (int i = 0; i < l.layers; ++i) {
            const HiddenLayer& layer = l.decoder_layers[i];
            const T *weight = p + layer.weight, *bias = p + layer.bias;
            Normalised<T>& own = hidden[i];
            own.resize(n, H);
            T* x = own.x_hat.data();
            for (int b = 0; b < n; ++b) {
                T* row = x + static_cast<size_t>(b) * H;
                std::copy(bias, bias + H, row);
                if (l.batch_columns == 0) continue;
                const T* of_batch = weight + static_cast<size_t>(layer.inputs + batch[b]) * H;
                for (int j = 0; j < H; ++j) row[j] += of_batch[j];
            }
            products.multiply(n, layer.inputs, H, {below, i ? H : l.latent, 1}, T(1), {weight, H, 1}, x, H, x, H);
            T* run = running + layer.running;
            own.forward(n, H, H, l.hidden, p + layer.gamma, p + layer.beta, run, run + H, training, training, nullptr, T(1));
            below = own.out.data();
        }
        // Genes beyond the last have no share of the expression.
        output(l, n, p + l.share_weight, p + l.share_bias, T(-1e30), shares);
        if (l.zero_inflated) output(l, n, p + l.absent_weight, p + l.absent_bias, T(0), zeros);
    }

    void start_backward(const Layout& l) {
        share_sum.assign(l.gene_stride, T(0));
        zero_sum.assign(l.zero_inflated ? l.gene_stride : 0, T(0));
    }

    // Adds one cell's gradient to that of the output's bias, while the row is near.
    void add_row(const Layout& l, int b) {
        add_to(share_sum, &shares[static_cast<size_t>(b) * l.gene_stride]);
        if (l.zero_inflated) add_to(zero_sum, &zeros[static_cast<size_t>(b) * l.gene_stride]);
    }

    // From gradients by the logits to scale times those by parameters (`small`) and by z (overwritten).
    void backward(const Layout& l, int n, const T* z, const int32_t* batch, const T* p, T scale, T* small, T* d_z) {
        const int H = l.hidden_stride, G = l.gene_stride;
        d_hidden.resize(static_cast<size_t>(n) * H), d_below.resize(static_cast<size_t>(n) * H);
        std::fill(d_hidden.begin(), d_hidden.end(), T(0));  // units beyond the last
        output_backward(l, n, shares, share_sum, scale, false, p + l.share_weight, small + l.share_weight, small + l.share_bias);
        if (l.zero_inflated)
            output_backward(l, n, zeros, zero_sum, scale, true, p + l.absent_weight, small + l.absent_weight, small + l.absent_bias);
        for (int i = l.layers - 1; i >= 0; --i) {
            const HiddenLayer& layer = l.decoder_layers[i];
            hidden[i].backward(n, H, p + layer.gamma, d_hidden.data(), small + layer.gamma, small + layer.beta);
            T *d_weight = small + layer.weight, *d_bias = small + layer.bias;
            T* d_batch = d_weight + static_cast<size_t>(layer.inputs) * H;
            std::fill(d_bias, d_bias + H, T(0));
            std::fill(d_batch, d_batch + static_cast<size_t>(l.batch_columns) * H, T(0));
            for (int b = 0; b < n; ++b) {
                const T* d = &d_hidden[static_cast<size_t>(b) * H];
                for (int j = 0; j < H; ++j) d_bias[j] += d[j];
                if (l.batch_columns)
                    for (int j = 0; j < H; ++j) d_batch[static_cast<size_t>(batch[b]) * H + j] += d[j];
            }
            const int stride = i ? H : l.latent;
            const T* below = i ? hidden[i - 1].out.data() : z;
            products.multiply(layer.inputs, n, H, {below, 1, stride}, T(1), {d_hidden.data(), H, 1}, nullptr, 0, d_weight, H);
            T* target = i ? d_below.data() : d_z;
            if (i) std::fill(d_below.begin(), d_below.end(), T(0));  // units beyond the last
            products.multiply(n, l.hidden, layer.inputs, {d_hidden.data(), H, 1}, T(1), {p + layer.weight, 1, H}, nullptr, 0, target,
                              stride);
            std::swap(d_hidden, d_below);
        }
    }

  private:
    std::vector<Normalised<T>> hidden;
    Products<T> products;
    std::vector<T> padded_bias, share_sum, zero_sum, d_hidden, d_below;

    void output(const Layout& l, int n, const T* weight, const T* bias, T padding, std::vector<T>& logits) {
        const int H = l.hidden_stride, G = l.gene_stride;
        padded_bias.assign(bias, bias + G);
        std::fill(padded_bias.begin() + l.genes, padded_bias.end(), padding);
        logits.resize(static_cast<size_t>(n) * G);
        products.multiply(n, l.hidden, G, {hidden.back().out.data(), H, 1}, T(1), {weight, G, 1}, padded_bias.data(), 0,
                          logits.data(), G);
    }

    void output_backward(const Layout& l, int n, const std::vector<T>& d_logits, const std::vector<T>& sum, T scale, bool add,
                         const T* weight, T* d_weight, T* d_bias) {
        const int H = l.hidden_stride, G = l.gene_stride;
        for (int g = 0; g < G; ++g) d_bias[g] = scale * sum[g];
        products.multiply(l.hidden, n, G, {hidden.back().out.data(), 1, H}, scale, {d_logits.data(), G, 1}, nullptr, 0,
                          d_weight, G);
        products.multiply(n, l.genes, l.hidden, {d_logits.data(), G, 1}, scale, {weight, 1, G}, add ? d_hidden.data() : nullptr, H,
                          d_hidden.data(), H);
    }

    static void add_to(std::vector<T>& sum, const T* __restrict row) {
        T* __restrict s = sum.data();
        for (size_t g = 0; g < sum.size(); ++g) s[g] += row[g];
    }
};
