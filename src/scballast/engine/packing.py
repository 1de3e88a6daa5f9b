"""A member's parameters as flat arrays for the CPU kernels; mirrors ``native/layout.hpp``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scballast.arrays import FloatArray
from scballast.engine.members import MemberPlan

Z, L = "z_encoder.encoder.fc_layers.Layer {}.", "l_encoder.encoder.fc_layers.Layer 0."
RATE, ZERO = "decoder.factor_regressor.fc_layers.Layer 0.", "decoder.px_dropout_decoder.fc_layers.Layer 0."
HIDDEN = "decoder.px_decoder.fc_layers.Layer {}."
SHARES, ABSENT = "decoder.px_scale_decoder.0.", "decoder.px_dropout_decoder."
"""What scvi-tools' names of the tensors begin with: encoders, linear decoder, decoder with hidden layers."""


@dataclass(frozen=True)
class Packed:
    """Parameters and running statistics of one member.

    Attributes
    ----------
    parameters, running
        Flat arrays, rows padded with zeros to multiples of 16 so that kernels need no remainders.
    tensors
        Views into them by the names and shapes of the module's ``state_dict``; only what the member trains
        (no library encoder when the library size is observed, no zero-inflation branch under nb and
        poisson, no dispersion under poisson).
    """

    parameters: FloatArray
    running: FloatArray
    tensors: dict[str, FloatArray]

    def load(self, state: dict[str, FloatArray]) -> None:
        """Copy a ``state_dict`` in; names that the member does not train are passed over."""
        for name, view in self.tensors.items():
            view[...] = state[name]

    def state(self) -> dict[str, FloatArray]:
        """Return copies by ``state_dict`` name."""
        return {name: np.ascontiguousarray(view) for name, view in self.tensors.items()}


def empty_packed(plan: MemberPlan, dtype: type[np.floating] = np.float32) -> Packed:
    """Zeroed arrays for one member, with its views."""
    builder = _Builder(plan)
    # Laid out once in an array without end, which takes no memory, to see how much is taken.
    endless = np.broadcast_to(np.zeros(1, dtype), 2**40)
    takers = _Taker(endless), _Taker(endless)
    builder.views(*takers)
    parameters, running = (aligned_zeros(taker.taken, dtype) for taker in takers)
    return Packed(parameters, running, builder.views(_Taker(parameters), _Taker(running)))


def aligned_zeros(n: int, dtype: type[np.floating]) -> FloatArray:
    """(n,) zeros that start on a cache line."""
    size = np.dtype(dtype).itemsize
    raw = np.zeros(n + 64 // size, dtype=dtype)
    shift = (-raw.ctypes.data % 64) // size
    return raw[shift : shift + n]


class _Taker:
    """Hands out a flat array, one part after another."""

    def __init__(self, flat: FloatArray) -> None:
        self._flat, self.taken = flat, 0

    def __call__(self, n: int) -> FloatArray:
        self.taken += n
        return self._flat[self.taken - n : self.taken]


class _Builder:
    """Lays the tensors of a member out."""

    def __init__(self, plan: MemberPlan) -> None:
        model = plan.model
        self.genes, self.hidden, self.latent, self.layers = plan.n_genes, model.n_hidden, model.n_latent, model.n_layers
        self.gene_stride, self.hidden_stride = _padded(self.genes), _padded(self.hidden)
        self.library = not model.use_observed_lib_size
        self.width = self.hidden_stride * (2 if self.library else 1)
        self.batch_columns = plan.n_batch if plan.n_batch > 1 else 0
        self.linear = model.decoder == "linear"
        self.zero_inflated = model.gene_likelihood == "zinb"
        rows = {"gene": 1, "gene-batch": plan.n_batch, "gene-label": plan.n_labels}[model.dispersion]
        self.dispersion_rows = 0 if model.gene_likelihood == "poisson" else rows
        self.vector_dispersion = model.dispersion == "gene"

    def views(self, take: _Taker, take_running: _Taker) -> dict[str, FloatArray]:
        views: dict[str, FloatArray] = {}
        hidden, stride, genes, latent = self.hidden, self.hidden_stride, self.genes, self.latent
        encoders = [Z.format(0), L] if self.library else [Z.format(0)]
        for suffix, block in _layer(take, take_running, self.width).items():
            for e, prefix in enumerate(encoders):
                views[prefix + suffix] = block[e * stride : e * stride + hidden]
        for i in range(1, self.layers):
            prefix = Z.format(i)
            views[prefix + "0.weight"] = take(stride * stride).reshape(stride, stride)[:hidden, :hidden]
            for suffix, block in _layer(take, take_running, stride).items():
                views[prefix + suffix] = block[:hidden]
        weight = take(2 * latent * stride).reshape(2 * latent, stride)[:, :hidden]
        bias = take(_padded(2 * latent))
        views["z_encoder.mean_encoder.weight"], views["z_encoder.var_encoder.weight"] = weight[:latent], weight[latent:]
        views["z_encoder.mean_encoder.bias"] = bias[:latent]
        views["z_encoder.var_encoder.bias"] = bias[latent : 2 * latent]
        if self.library:
            weight, bias = take(2 * stride).reshape(2, stride)[:, :hidden], take(16)
            views["l_encoder.mean_encoder.weight"], views["l_encoder.var_encoder.weight"] = weight[:1], weight[1:]
            views["l_encoder.mean_encoder.bias"], views["l_encoder.var_encoder.bias"] = bias[:1], bias[1:2]
        if self.linear:
            self._linear_decoder(views, take, take_running)
        else:
            self._nonlinear_decoder(views, take, take_running)
        if self.dispersion_rows:
            rows = take(self.dispersion_rows * self.gene_stride).reshape(self.dispersion_rows, self.gene_stride)
            views["px_r"] = rows[0, :genes] if self.vector_dispersion else rows[:, :genes].T
        weight = take(genes * self.width).reshape(genes, self.width)
        for e, prefix in enumerate(encoders):
            views[prefix + "0.weight"] = weight[:, e * stride : e * stride + hidden].T
        return views

    def _linear_decoder(self, views: dict[str, FloatArray], take: _Taker, take_running: _Taker) -> None:
        n_rows = self.latent + self.batch_columns
        for prefix in [RATE, ZERO] if self.zero_inflated else [RATE]:
            rows = take(n_rows * self.gene_stride).reshape(n_rows, self.gene_stride)
            views[prefix + "0.weight"] = rows[:, : self.genes].T
            for suffix, block in _layer(take, take_running, self.gene_stride, bias=False).items():
                views[prefix + suffix] = block[: self.genes]

    def _nonlinear_decoder(self, views: dict[str, FloatArray], take: _Taker, take_running: _Taker) -> None:
        hidden, stride = self.hidden, self.hidden_stride
        for i in range(self.layers):
            prefix, n_rows = HIDDEN.format(i), self.batch_columns + (hidden if i else self.latent)
            views[prefix + "0.weight"] = take(n_rows * stride).reshape(n_rows, stride)[:, :hidden].T
            for suffix, block in _layer(take, take_running, stride).items():
                views[prefix + suffix] = block[:hidden]
        for prefix in [SHARES, ABSENT] if self.zero_inflated else [SHARES]:
            rows = take(hidden * self.gene_stride).reshape(hidden, self.gene_stride)
            views[prefix + "weight"] = rows[:, : self.genes].T
            views[prefix + "bias"] = take(self.gene_stride)[: self.genes]


def _layer(take: _Taker, take_running: _Taker, width: int, *, bias: bool = True) -> dict[str, FloatArray]:
    """Return the vectors of a layer with a batch norm, in their order."""
    blocks = {suffix: take(width) for suffix in ("0.bias", "1.weight", "1.bias")[not bias :]}
    return blocks | {suffix: take_running(width) for suffix in ("1.running_mean", "1.running_var")}


def _padded(n: int) -> int:
    return (n + 15) // 16 * 16
