"""Posteriors, held-out likelihood and validation losses of trained members, with seeded noise."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import numpy as np
from scipy.special import logsumexp, ndtri, softmax
from scipy.stats import qmc

from scballast.arrays import FloatArray, IntArray
from scballast.engine import noise
from scballast.engine.counts import CountMatrix
from scballast.engine.interface import HeldoutFit
from scballast.engine.kernels import Evaluation
from scballast.engine.members import MemberPlan
from scballast.engine.packing import Packed

# Steps count up from 1, so that these never meet a training step's noise.
_HELDOUT_STEP, _VALIDATION_STEP = 1 << 62, 1 << 61
_LN_POINTS = 1024
_CHUNK_VALUES = 1 << 22  # noise values drawn at a time


class Evaluator(Protocol):
    """Runs a member on cells in evaluation mode, with given noise."""

    def evaluate(
        self, packed: Packed, cells: IntArray, latent_noise: FloatArray, library_noise: FloatArray
    ) -> Evaluation:
        """Posteriors, and reconstruction losses for ``latent_noise`` (n_samples, n, n_latent)."""


def posterior_means(evaluator: Evaluator, packed: Packed, plan: MemberPlan, cells: IntArray) -> FloatArray:
    """(n, n_latent) posterior mean of z, after the softmax for ``ln``.

    The mean of a logistic normal has no closed form; scvi-tools draws 5,000 samples per cell. Here it is the
    mean over 1,024 scrambled Sobol points, the same for every cell: deterministic, and independent of which
    other cells are asked for.
    """
    n_latent = plan.model.n_latent
    logistic = plan.model.latent_distribution == "ln"
    size = max(1, _CHUNK_VALUES // (n_latent * (_LN_POINTS if logistic else 4)))
    means = np.empty((len(cells), n_latent), dtype=np.float32)
    for start in range(0, len(cells), size):
        part = cells[start : start + size]
        none = np.empty((0, len(part), n_latent))
        latent = evaluator.evaluate(packed, part, none, none[:, :, 0]).latent
        mean = latent[:, 0]
        if logistic:
            points = _normal_points(n_latent)
            mean = softmax(latent[:, None, 0] + latent[:, None, 1] * points, axis=-1).mean(axis=1)
        means[start : start + size] = mean
    return means


def heldout_fit(
    evaluator: Evaluator, counts: CountMatrix, packed: Packed, plan: MemberPlan, cells: IntArray, n_mc_samples: int
) -> HeldoutFit:
    r"""Importance-weighted negative marginal log-likelihood, and negative ELBO, per cell.

    .. math:: -\log \frac{1}{S} \sum_s \frac{p(x \mid z_s, l_s)\, p(z_s)\, p(l_s)}{q(z_s \mid x)\, q(l_s \mid x)}

    as ``scvi.module.VAE.marginal_ll``, with one difference: under ``ln`` the densities are those of the normal
    variable before the softmax, which is the one that is sampled (scvi-tools puts the softmax's output into
    them, which is no likelihood). The noise comes from the member's seed and the position of the cell in
    ``cells``, the same in each call. Cells of a batch or label that the member has never seen are NaN.
    """
    n_latent, modelled = plan.model.n_latent, not plan.model.use_observed_lib_size
    nll, elbo = np.empty(len(cells)), np.empty(len(cells))
    size = max(1, _CHUNK_VALUES // (n_mc_samples * (n_latent + 1)))
    for chunk, start in enumerate(range(0, len(cells), size)):
        part = cells[start : start + size]
        step = _HELDOUT_STEP + chunk
        z = noise.normals(plan.seed, step, noise.LATENT, (n_mc_samples, len(part), n_latent))
        library = noise.normals(plan.seed, step, noise.LIBRARY, (n_mc_samples, len(part)))
        result = evaluator.evaluate(packed, part, z, library)
        weights = -result.reconstruction + _log_ratio(result.latent.astype(float), z, 0.0, 1.0).sum(axis=-1)
        kl = _normal_kl(result.latent.astype(float), 0.0, 1.0).sum(axis=-1)
        if modelled:
            batch = plan.batch_map[counts.batch[part]]
            mean, variance = plan.library_means[batch], plan.library_vars[batch]
            posterior = result.library.astype(float)
            weights += _log_ratio(posterior, library, mean, variance)
            kl += _normal_kl(posterior, mean, variance)
        nll[start : start + size] = np.log(n_mc_samples) - logsumexp(weights, axis=0)
        elbo[start : start + size] = result.reconstruction.mean(axis=0) + kl
    return HeldoutFit(nll, elbo)


def validation_noise(plan: MemberPlan, n_steps: int) -> tuple[FloatArray, FloatArray]:
    """(1, n, n_latent) and (1, n) standard normal draws for the n validation cells, after so many steps."""
    n_cells, step = len(plan.validation_positions), _VALIDATION_STEP + n_steps
    z = noise.normals(plan.seed, step, noise.LATENT, (1, n_cells, plan.model.n_latent))
    return z, noise.normals(plan.seed, step, noise.LIBRARY, (1, n_cells))


def mean_losses(
    result: Evaluation, plan: MemberPlan, batch_codes: IntArray, kl_weight: float
) -> tuple[float, float, float]:
    """Mean reconstruction loss, KL and weighted loss per cell; ``batch_codes`` (n,) are the count matrix's."""
    kl_latent = float(_normal_kl(result.latent.astype(float), 0.0, 1.0).sum(axis=-1).mean())
    kl_library = 0.0
    if not plan.model.use_observed_lib_size:
        batch = plan.batch_map[batch_codes]
        prior = (plan.library_means[batch], plan.library_vars[batch])
        kl_library = float(_normal_kl(result.library.astype(float), *prior).mean())
    reconstruction = float(result.reconstruction.mean())
    return reconstruction, kl_latent + kl_library, reconstruction + kl_weight * kl_latent + kl_library


def _log_ratio(posterior: FloatArray, draw: FloatArray, mean: Any, variance: Any) -> FloatArray:
    """Log p - log q at ``m + s * draw`` for posteriors (n, 2, ...) of m and s and a normal prior."""
    m, s = posterior[:, 0], posterior[:, 1]
    value = m + s * draw
    return np.asarray(0.5 * (draw**2 - (value - mean) ** 2 / variance - np.log(variance)) + np.log(s))


def _normal_kl(posterior: FloatArray, mean: Any, variance: Any) -> FloatArray:
    """KL divergence of posteriors (n, 2, ...) of mean and standard deviation from a normal prior."""
    m, s = posterior[:, 0], posterior[:, 1]
    ratio = s**2 / variance
    return np.asarray(0.5 * (ratio + (m - mean) ** 2 / variance - 1.0 - np.log(ratio)))


@functools.cache
def _normal_points(n_latent: int) -> FloatArray:
    """(1024, n_latent) low-discrepancy points of the standard normal distribution."""
    uniform = qmc.Sobol(n_latent, scramble=True, rng=np.random.default_rng(0)).random(_LN_POINTS)
    return np.asarray(ndtri(np.clip(uniform, 1e-9, 1 - 1e-9)))
