"""LDVAE and VAE for stacked members in plain torch: the readable form of the step, for any device.

Parameters have the names and shapes of ``scvi.module.LDVAE`` or ``VAE`` with a leading member axis. Members may
differ in ``n_latent``: the latent axis is as wide as the widest, and what lies beyond a member's own is masked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from scballast.engine.packing import ABSENT, HIDDEN, RATE, SHARES, ZERO, L, Z
from scballast.engine.settings import ModelSettings

_MOMENTUM, _NORM_EPS, _VARIANCE_EPS, _EPS = 0.01, 1e-3, 1e-4, 1e-8


@dataclass(frozen=True)
class Minibatch:
    """Cells of all members in one step; (member, cell, ...) with a mask where a member has fewer.

    Attributes
    ----------
    x
        (member, cell, gene) counts.
    mask
        (member, cell) 1 for a cell, 0 for padding.
    batch, label
        (member, cell) int64 codes.
    log_total
        (member, cell) log of the total count.
    library_mean, library_var
        (member, cell) prior of the log library size in the cell's batch.
    """

    x: Tensor
    mask: Tensor
    batch: Tensor
    label: Tensor
    log_total: Tensor
    library_mean: Tensor
    library_var: Tensor


@dataclass(frozen=True)
class Noise:
    """Random numbers of one step.

    Attributes
    ----------
    latent, library
        (member, cell, n_latent) and (member, cell) standard normal draws.
    keep
        One (member, cell, n_hidden) mask per layer of the latent encoder, then the library encoder's, divided
        by the share kept; empty without dropout.
    """

    latent: Tensor
    library: Tensor
    keep: tuple[Tensor, ...]


@dataclass(frozen=True)
class Posterior:
    """Mean and standard deviation of the latent (member, cell, n_latent) and log library (member, cell)."""

    mean: Tensor
    sd: Tensor
    library_mean: Tensor
    library_sd: Tensor


class StackedVAE:
    """The model of one group of members: same structure, own weights.

    Parameters
    ----------
    settings
        What the members share; ``n_latent`` is the widest.
    n_batch
        Number of batches that each member knows.
    latent_mask
        (member, n_latent) bool, True for a member's own latent dimensions.
    tensors
        Parameters and running statistics by name; running statistics are updated in place.
    """

    def __init__(self, settings: ModelSettings, n_batch: int, latent_mask: Tensor, tensors: dict[str, Tensor]) -> None:
        self.settings, self.n_batch, self.latent_mask, self.tensors = settings, n_batch, latent_mask, tensors

    def loss(self, minibatch: Minibatch, noise: Noise, kl_weight: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss (member,), and sums (member, 3) of reconstruction, latent KL and library KL."""
        posterior = self.encode(minibatch, noise, training=True)
        z = self.place(posterior, noise.latent)
        library = minibatch.log_total
        if not self.settings.use_observed_lib_size:
            library = posterior.library_mean + posterior.library_sd * noise.library
        reconstruction = -self.log_likelihood(minibatch, z, library, training=True)
        kl_latent = (normal_kl(posterior.mean, posterior.sd, 0.0, 1.0) * self.latent_mask[:, None]).sum(-1)
        kl_library = torch.zeros_like(kl_latent)
        if not self.settings.use_observed_lib_size:
            kl_library = normal_kl(
                posterior.library_mean, posterior.library_sd, minibatch.library_mean, minibatch.library_var
            )
        sums = torch.stack([(part * minibatch.mask).sum(1) for part in (reconstruction, kl_latent, kl_library)], dim=1)
        n = minibatch.mask.sum(1)
        return (sums[:, 0] + kl_weight * sums[:, 1] + sums[:, 2]) / n, sums.detach()

    def encode(self, minibatch: Minibatch, noise: Noise | None, *, training: bool) -> Posterior:
        """Posteriors of a minibatch; dropout only where ``noise`` has masks."""
        x, mask = torch.log1p(minibatch.x), minibatch.mask
        keep = noise.keep if noise is not None else ()
        hidden = x
        for layer in range(self.settings.n_layers):
            hidden = self._layer(Z.format(layer), hidden, mask, training=training)
            hidden = hidden * keep[layer] if keep else hidden
        mean = self._linear("z_encoder.mean_encoder.", hidden)
        sd = (torch.exp(self._linear("z_encoder.var_encoder.", hidden)) + _VARIANCE_EPS).sqrt()
        if self.settings.use_observed_lib_size:
            return Posterior(mean, sd, torch.zeros_like(mask), torch.zeros_like(mask))
        hidden = self._layer(L, x, mask, training=training)
        hidden = hidden * keep[self.settings.n_layers] if keep else hidden
        library_mean = self._linear("l_encoder.mean_encoder.", hidden)[..., 0]
        library_sd = (torch.exp(self._linear("l_encoder.var_encoder.", hidden)[..., 0]) + _VARIANCE_EPS).sqrt()
        return Posterior(mean, sd, library_mean, library_sd)

    def place(self, posterior: Posterior, draw: Tensor) -> Tensor:
        """Latent values from standard normal draws; 0 beyond a member's own dimensions."""
        z = posterior.mean + posterior.sd * draw
        has_dimension = self.latent_mask[:, None]
        if self.settings.latent_distribution == "ln":
            z = torch.softmax(z.masked_fill(~has_dimension, -torch.inf), dim=-1)
        return z * has_dimension

    def log_likelihood(self, minibatch: Minibatch, z: Tensor, library: Tensor, *, training: bool) -> Tensor:
        """(member, cell) log p(x | z, library)."""
        x, decoded = minibatch.x, self._decode(minibatch, z, training=training)
        log_mu = torch.log_softmax(decoded[0], dim=-1) + library[..., None]
        if self.settings.gene_likelihood == "poisson":
            return (x * log_mu - torch.exp(log_mu) - torch.lgamma(x + 1)).sum(-1)
        mu, theta = torch.exp(log_mu), torch.exp(self._log_dispersion(minibatch))
        log_both = torch.log(theta + mu + _EPS)
        at_zero = theta * (torch.log(theta + _EPS) - log_both)
        counted = x * (torch.log(mu + _EPS) - log_both)
        counted = counted + torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
        if self.settings.gene_likelihood == "nb":
            return (at_zero + counted).sum(-1)
        pi = decoded[1]
        zero = softplus(at_zero - pi) - softplus(-pi)
        return torch.where(x < _EPS, zero, at_zero - pi - softplus(-pi) + counted).sum(-1)

    def _log_dispersion(self, minibatch: Minibatch) -> Tensor:
        px_r = self.tensors["px_r"]
        if self.settings.dispersion == "gene":
            return px_r[:, None]
        codes = minibatch.batch if self.settings.dispersion == "gene-batch" else minibatch.label
        one_hot = torch.nn.functional.one_hot(codes, px_r.shape[-1]).to(px_r.dtype)
        return one_hot @ px_r.transpose(1, 2)

    def _linear(self, prefix: str, x: Tensor) -> Tensor:
        return torch.baddbmm(self.tensors[prefix + "bias"][:, None], x, self.tensors[prefix + "weight"].transpose(1, 2))

    def _layer(self, prefix: str, x: Tensor, mask: Tensor, *, training: bool) -> Tensor:
        return torch.relu(self._batch_norm(prefix + "1.", self._linear(prefix + "0.", x), mask, training=training))

    def _decode(self, minibatch: Minibatch, z: Tensor, *, training: bool) -> list[Tensor]:
        """(member, cell, gene) logits of the expression shares, and under zinb of the zero inflation."""
        mask = minibatch.mask
        zero_inflated = self.settings.gene_likelihood == "zinb"
        if self.settings.decoder == "linear":
            inputs = self._with_batch(z, minibatch.batch)
            products = {
                prefix: torch.bmm(inputs, self.tensors[prefix + "0.weight"].transpose(1, 2))
                for prefix in ((RATE, ZERO) if zero_inflated else (RATE,))
            }
            return [self._batch_norm(prefix + "1.", y, mask, training=training) for prefix, y in products.items()]
        hidden = z
        for layer in range(self.settings.n_layers):
            inputs = self._with_batch(hidden, minibatch.batch)
            hidden = self._layer(HIDDEN.format(layer), inputs, mask, training=training)
        return [self._linear(prefix, hidden) for prefix in ((SHARES, ABSENT) if zero_inflated else (SHARES,))]

    def _with_batch(self, x: Tensor, batch: Tensor) -> Tensor:
        if self.n_batch == 1:
            return x
        return torch.cat([x, torch.nn.functional.one_hot(batch, self.n_batch).to(x.dtype)], dim=-1)

    def _batch_norm(self, prefix: str, y: Tensor, mask: Tensor, *, training: bool) -> Tensor:
        running_mean, running_var = self.tensors[prefix + "running_mean"], self.tensors[prefix + "running_var"]
        if training:
            n, valid = mask.sum(1)[:, None], mask[..., None]
            mean = (y * valid).sum(1) / n
            var = ((y - mean[:, None]).square() * valid).sum(1) / n
            with torch.no_grad():
                running_mean.lerp_(mean, _MOMENTUM)
                running_var.lerp_(var * n / (n - 1), _MOMENTUM)
        else:
            mean, var = running_mean, running_var
        scale = self.tensors[prefix + "weight"] / (var + _NORM_EPS).sqrt()
        return (y - mean[:, None]) * scale[:, None] + self.tensors[prefix + "bias"][:, None]


def normal_kl(mean: Tensor, sd: Tensor, prior_mean: Tensor | float, prior_var: Tensor | float) -> Tensor:
    """KL divergence between two normal distributions, elementwise."""
    ratio = sd.square() / prior_var
    return 0.5 * (ratio + (mean - prior_mean).square() / prior_var - 1 - torch.log(ratio))
