// The decoder of scvi-tools' VAE: hidden layers with batch norm and ReLU, each given the batch, then one linear
// output for the expression shares and, under zinb, one for the zero inflation.
#pragma once
#include <algorithm>
#include <vector>

#include "encoder.hpp"
#include "layout.hpp"
#include "packed_products.hpp"

template <class T> class LayeredDecoder {
  public:
    // Logits of row b on (n, G), and their gradients once the likelihood has been taken.
    T* share_row(const Layout& l, size_t b) { return &shares[b * l.gene_stride]; }
    T* zero_row(const Layout& l, size_t b) { return l.zero_inflated ? &zeros[b * l.gene_stride] : nullptr; }

    // Logits of z (n, latent), each row in its batch; by running statistics, or by those of the rows in training.
    void forward(const Layout& l, int n, const T* z, const int32_t* batch, const T* p, T* running, bool training) {
        const size_t H = l.hidden_stride, G = l.gene_stride;
        hidden.resize(l.layers);
        const T* below = z;
        size_t below_stride = l.latent;
        for (int i = 0; i < l.layers; ++i) {
            const HiddenLayer& layer = l.decoder_layers[i];
            const T *weight = p + layer.weight, *bias = p + layer.bias;
            Normalised<T>& own = hidden[i];
            own.resize(n, l.hidden_stride);
            T* x = own.x_hat.data();
            for (int b = 0; b < n; ++b) {
                std::copy_n(bias, H, x + b * H);
                if (l.batch_columns) add_row_to(x + b * H, weight + (layer.inputs + batch[b]) * H, H);
            }
            products.multiply(n, layer.inputs, l.hidden_stride, {below, below_stride, 1}, T(1), {weight, H, 1}, x, H, x, H);
            T* run = running + layer.running;
            own.forward(n, l.hidden_stride, l.hidden_stride, l.hidden, p + layer.gamma, p + layer.beta, run, run + H, training,
                        nullptr, T(1));
            below = own.out.data(), below_stride = H;
        }
        // Genes beyond the last have no share of the expression.
        output(l, n, p + l.share_weight, p + l.share_bias, T(-1e30), shares);
        if (l.zero_inflated) output(l, n, p + l.absent_weight, p + l.absent_bias, T(0), zeros);
        share_sum.assign(G, T(0));
        zero_sum.assign(l.zero_inflated ? G : 0, T(0));
    }

    // Adds a row's gradient to that of the output's bias, while it is near.
    void add_row(const Layout& l, int b) {
        add_row_to(share_sum.data(), share_row(l, b), share_sum.size());
        add_row_to(zero_sum.data(), zero_row(l, b), zero_sum.size());
    }

    // From gradients by the logits to `scale` times those by parameters (`small`) and by z (overwritten).
    void backward(const Layout& l, int n, const T* z, const int32_t* batch, const T* p, T scale, T* small, T* d_z) {
        const size_t H = l.hidden_stride;
        d_hidden.assign(n * H, T(0));
        output_backward(l, n, shares, share_sum, scale, false, p + l.share_weight, small + l.share_weight, small + l.share_bias);
        if (l.zero_inflated)
            output_backward(l, n, zeros, zero_sum, scale, true, p + l.absent_weight, small + l.absent_weight, small + l.absent_bias);
        for (int i = l.layers - 1; i >= 0; --i) {
            const HiddenLayer& layer = l.decoder_layers[i];
            hidden[i].backward(n, l.hidden_stride, p + layer.gamma, d_hidden.data(), small + layer.gamma, small + layer.beta);
            T *d_weight = small + layer.weight, *d_bias = small + layer.bias, *d_batch = d_weight + layer.inputs * H;
            std::fill(d_bias, d_bias + H, T(0));
            std::fill(d_batch, d_batch + l.batch_columns * H, T(0));
            for (int b = 0; b < n; ++b) {
                add_row_to(d_bias, &d_hidden[b * H], H);
                if (l.batch_columns) add_row_to(d_batch + batch[b] * H, &d_hidden[b * H], H);
            }
            const T* below = i ? hidden[i - 1].out.data() : z;
            const size_t below_stride = i ? H : l.latent;
            products.multiply(layer.inputs, n, l.hidden_stride, {below, 1, below_stride}, T(1), {d_hidden.data(), H, 1}, nullptr, 0,
                              d_weight, H);
            d_below.assign(i ? n * H : 0, T(0));
            products.multiply(n, l.hidden, layer.inputs, {d_hidden.data(), H, 1}, T(1), {p + layer.weight, 1, H}, nullptr, 0,
                              i ? d_below.data() : d_z, below_stride);
            std::swap(d_hidden, d_below);
        }
    }

  private:
    std::vector<Normalised<T>> hidden;
    PackedProducts<T> products;
    std::vector<T> shares, zeros, padded_bias, share_sum, zero_sum, d_hidden, d_below;

    void output(const Layout& l, int n, const T* weight, const T* bias, T padding, std::vector<T>& logits) {
        const size_t H = l.hidden_stride, G = l.gene_stride;
        padded_bias.assign(bias, bias + G);
        std::fill(padded_bias.begin() + l.genes, padded_bias.end(), padding);
        logits.resize(n * G);
        products.multiply(n, l.hidden, l.gene_stride, {hidden.back().out.data(), H, 1}, T(1), {weight, G, 1}, padded_bias.data(), 0,
                          logits.data(), G);
    }

    void output_backward(const Layout& l, int n, const std::vector<T>& d_logits, const std::vector<T>& sum, T scale, bool add,
                         const T* weight, T* d_weight, T* d_bias) {
        const size_t H = l.hidden_stride, G = l.gene_stride;
        for (size_t g = 0; g < G; ++g) d_bias[g] = scale * sum[g];
        products.multiply(l.hidden, n, l.gene_stride, {hidden.back().out.data(), 1, H}, scale, {d_logits.data(), G, 1}, nullptr, 0,
                          d_weight, G);
        products.multiply(n, l.genes, l.hidden, {d_logits.data(), G, 1}, scale, {weight, 1, G}, add ? d_hidden.data() : nullptr, H,
                          d_hidden.data(), H);
    }

    static void add_row_to(T* sum, const T* row, size_t n) {
        for (size_t j = 0; j < n; j += Vec<T>::width) add_to(sum + j, load(row + j));
    }
};
