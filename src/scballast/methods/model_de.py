"""Marker genes by a model's own test: scvi-tools' differential expression, each population against the rest."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal

import numpy as np

from scballast.arrays import BoolArray, FloatArray, IntArray, membership
from scballast.engine import scvi_compat
from scballast.seeds import Stream, integer_for
from scballast.threads import at_once, side_by_side

if TYPE_CHECKING:
    import torch
    from scvi.model import SCVI, LinearSCVI
    from scvi.module import LDVAE, VAE

logger = logging.getLogger(__name__)

# The defaults of scvi-tools' differential_expression and get_bayes_factors.
N_SAMPLES = 5_000
LOG2_FOLD_CHANGE_THRESHOLD = 0.25
UNEXPRESSED_MEAN_COUNT = 0.01
MEDIAN_PSEUDOCOUNT_SHARE = 1e-3
BAYES_FACTOR_OFFSET = 1e-8

_NUMBERS_PER_BLOCK = 2**17
_DRAWS_PER_DECODING = 500
_MOST_DRAWS = 2**27  # numbers drawn for populations side by side, half a gigabyte; one alone takes what it needs


def model_de_scores(
    model: LinearSCVI | SCVI,
    population_codes: IntArray,
    populations: Sequence[str],
    *,
    mode: Literal["change", "vanilla"] = "change",
    seed: int = 0,
    n_samples: int = N_SAMPLES,
    cells: IntArray | None = None,
) -> FloatArray:
    """Score genes by ``model.differential_expression`` of each population against all other cells.

    The quantities are those of scvi-tools with ``weights="uniform"`` and its other defaults, from draws of the
    same distribution: a cell drawn uniformly from the side, then its latent variables from their posterior,
    then the expression that the decoder gives it in its own batch. What differs is the work: each cell is
    encoded once, not once per comparison and draw, and the statistics that no score needs are not computed.

    Parameters
    ----------
    model
        Trained, with its AnnData.
    population_codes
        (n,) index into ``populations`` of each of ``cells``; -1: in none, part of the rest of every population.
    populations
        Names; the draws of a population depend on its name, not on its position.
    mode
        ``vanilla``: the score is ``bayes_factor``. ``change``: ``sign(lfc_median)·proba_de``, ties in the order
        of ``lfc_mean/lfc_std`` (see :func:`change_score`).
    seed
        Rules the draws, >= 0.
    n_samples
        Draws from each side, >= 1.
    cells
        (n,) positions in ``model.adata`` of the cells that take part; default: all, in order. A cell may stand
        twice.

    Returns
    -------
    (n_populations, n_genes) float
        In the gene order of ``model.adata``; a row of NaN for a population without cells, or without other
        cells, with the reason in the log.

    References
    ----------
    Lopez et al. (2018), Deep generative modeling for single-cell transcriptomics (``vanilla``); Boyeau et al.
    (2019), Deep generative models for detecting differential expression in single cells (``change``).
    """
    import torch

    positions = np.arange(model.adata.n_obs) if cells is None else np.asarray(cells)
    codes = np.asarray(population_codes)
    if codes.shape != positions.shape:
        message = f"{codes.size} population codes for {positions.size} cells: one per cell is needed"
        raise ValueError(message)
    scores = np.full((len(populations), model.adata.n_vars), np.nan)
    unique_positions, rows = np.unique(positions, return_inverse=True)
    posterior = encode_cells(model, unique_positions)
    mean_counts = _MeanCounts.of(model, positions, codes, len(populations))
    inside_of = {code: codes == code for code in range(len(populations))}
    compared = []
    for code, inside in inside_of.items():
        if inside.all() or not inside.any():
            message = "differential expression: no score for population %r: %d of %d cells are in it."
            logger.warning(message, populations[code], inside.sum(), inside.size)
        else:
            compared.append(code)
    device = posterior.location.device
    # The same memory for population after population: fresh pages for this much cost as much as the decoder does.
    draws: SimpleQueue[torch.Tensor] = SimpleQueue()
    size = 2 * n_samples * model.adata.n_vars
    at_a_time = min(at_once(), len(compared), _MOST_DRAWS // size) if device.type == "cpu" else 1
    for _ in range(max(1, at_a_time)):
        draws.put(torch.empty((2, n_samples, model.adata.n_vars), device=device))

    def compare(code: int) -> None:
        inside, name, both = inside_of[code], populations[code], draws.get()
        try:
            scales, rest = both
            generator = torch.Generator().manual_seed(integer_for(seed, Stream.DIFFERENTIAL_EXPRESSION, name))
            draw_scales(model, posterior, rows[inside], generator, scales)
            draw_scales(model, posterior, rows[~inside], generator, rest)
            if mode == "vanilla":
                scores[code] = bayes_factor(scales, rest)
            else:
                pseudocount = scvi_compat.estimated_pseudocount(scales, rest, *mean_counts.unexpressed(code))
                scores[code] = change_score(change_statistics(scales, rest, pseudocount), n_samples)
        finally:
            draws.put(both)

    side_by_side(compare, compared)
    return scores


@dataclass(frozen=True)
class ChangeStatistics:
    """What ``mode="change"`` says of each gene; the names are scvi-tools'.

    Attributes
    ----------
    proba_de
        (n_genes,) the larger of the posterior probabilities of a log2 fold change of at least the threshold
        up, and of one below it down.
    lfc_mean, lfc_std
        (n_genes,) posterior mean and standard deviation of the log2 fold change.
    lfc_median_sign
        (n_genes,) sign of its median: -1, 0 or 1.
    """

    proba_de: FloatArray
    lfc_mean: FloatArray
    lfc_std: FloatArray
    lfc_median_sign: FloatArray


def change_score(statistics: ChangeStatistics, n_samples: int) -> FloatArray:
    """Return ``sign(lfc_median)·proba_de``, ties in the order of ``lfc_mean/lfc_std``, as one number.

    Probabilities from ``n_samples`` draws are ``1/n_samples`` apart, so a tie-break squeezed into less than
    half of that on either side orders what is tied and nothing else: ``r = lfc_mean/lfc_std`` enters as
    ``r/(1 + |r|)``, which rises with ``r`` and stays within (-1, 1).

    Parameters
    ----------
    statistics
        Of one comparison.
    n_samples
        Draws that they come from.

    Returns
    -------
    (n_genes,) float
        Within half a ``1/n_samples`` of the signed probability.
    """
    size = statistics.lfc_std + np.abs(statistics.lfc_mean)
    squeezed = np.divide(statistics.lfc_mean, size, out=np.zeros_like(size), where=size > 0)
    return statistics.lfc_median_sign * statistics.proba_de + 0.49 / n_samples * squeezed


def change_statistics(scales: torch.Tensor, rest: torch.Tensor, pseudocount: float) -> ChangeStatistics:
    """Return the statistics of ``mode="change"`` from paired draws of both sides.

    Parameters
    ----------
    scales, rest
        (n_samples, n_genes) draws of the expression shares in the population and in the other cells.
    pseudocount
        Added to both before the logarithm; for the distribution's moments a thousandth of it, as in scvi-tools.

    Returns
    -------
    ChangeStatistics
        (n_genes,) each, float64.
    """
    import torch

    n_samples, n_genes = scales.shape
    small = MEDIAN_PSEUDOCOUNT_SHARE * pseudocount
    threshold = 2.0**LOG2_FOLD_CHANGE_THRESHOLD
    counts = torch.zeros(4, n_genes, dtype=torch.float64, device=scales.device)
    moments = torch.zeros(2, n_genes, dtype=torch.float64, device=scales.device)
    origin: torch.Tensor | None = None
    # One memory for what is in between of all blocks, and truth as 1.0, of which a sum takes half of the time.
    memory = torch.empty((3, _rows_per_block(n_genes), n_genes), dtype=scales.dtype, device=scales.device)
    for inside, outside in _blocks(scales, rest):
        ratio, divisor, says = memory[:, : len(inside)]
        torch.add(inside, pseudocount, out=ratio).div_(torch.add(outside, pseudocount, out=divisor))
        counts[0] += torch.ge(ratio, threshold, out=says).sum(0)
        counts[1] += torch.lt(ratio, 1.0 / threshold, out=says).sum(0)
        change = torch.add(inside, small, out=ratio).div_(torch.add(outside, small, out=divisor)).log2_()
        counts[2] += torch.gt(change, 0, out=says).sum(0)
        counts[3] += torch.lt(change, 0, out=says).sum(0)
        # Sums of squares about a typical value: about zero they would lose the spread of a large change.
        origin = change.mean(0) if origin is None else origin
        change -= origin
        moments[0] += change.sum(0)
        moments[1] += change.square_().sum(0)
    up, down, positive, negative = counts
    mean, square = moments / n_samples
    sign = (2 * positive > n_samples).double() - (2 * negative > n_samples).double()
    unsettled = sign == 0
    if unsettled.any():
        # Without a majority of either sign the median itself decides: for an even number, the middle two.
        change = torch.log2((scales[:, unsettled] + small) / (rest[:, unsettled] + small))
        sign[unsettled] = torch.quantile(change.double(), 0.5, dim=0).sign()
    return ChangeStatistics(
        proba_de=_as_numpy(torch.maximum(up, down).double() / n_samples),
        lfc_mean=_as_numpy(mean if origin is None else mean + origin),
        lfc_std=_as_numpy((square - mean**2).clamp(min=0.0).sqrt()),
        lfc_median_sign=_as_numpy(sign),
    )


def bayes_factor(scales: torch.Tensor, rest: torch.Tensor) -> FloatArray:
    """Return the log odds that the population's expression is the higher one, from paired draws.

    Parameters
    ----------
    scales, rest
        (n_samples, n_genes) draws of the expression shares in the population and in the other cells.

    Returns
    -------
    (n_genes,) float64
        Natural logarithm; at most 18.4 in size, where every draw says the same.
    """
    import torch

    higher = torch.zeros(scales.shape[1], dtype=torch.int64, device=scales.device)
    for inside, outside in _blocks(scales, rest):
        higher += (inside > outside).sum(0)
    probability = _as_numpy(higher) / scales.shape[0]
    return np.asarray(np.log(probability + BAYES_FACTOR_OFFSET) - np.log(1.0 - probability + BAYES_FACTOR_OFFSET))


def _blocks(scales: torch.Tensor, rest: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Paired rows, few enough that what is computed from them stays in the processor's cache."""
    n_rows = _rows_per_block(scales.shape[1])
    return zip(scales.split(n_rows), rest.split(n_rows), strict=True)


def _rows_per_block(n_genes: int) -> int:
    return max(1, _NUMBERS_PER_BLOCK // n_genes)


def _as_numpy(values: torch.Tensor) -> FloatArray:
    return np.asarray(values.cpu().numpy().astype(np.float64))


@dataclass(frozen=True, eq=False)
class CellPosterior:
    """The posterior of some cells, and their batch.

    Attributes
    ----------
    location, scale
        (n_cells, n_latent) of the normal posterior, before softmax under ``ln``.
    batch
        (n_cells, 1) codes.
    """

    location: torch.Tensor
    scale: torch.Tensor
    batch: torch.Tensor


def encode_cells(model: LinearSCVI | SCVI, positions: IntArray) -> CellPosterior:
    """Return the posterior of cells of the model's own AnnData.

    Parameters
    ----------
    model
        Trained, with its AnnData.
    positions
        (n_cells,) positions in ``model.adata``.

    Returns
    -------
    CellPosterior
        In the order of ``positions``, on the model's device. No random state is touched.
    """
    import torch
    from scvi import REGISTRY_KEYS

    module = model.module
    module.eval()
    locations, scales, batches = [], [], []
    # The encoder draws from the global generator whether or not the draw is used: others must not notice.
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        for tensors in scvi_compat.minibatches(model, model.adata, size=2_048, positions=positions):
            outputs = scvi_compat.encoded(module, tensors)
            locations.append(outputs["qz"].loc)
            scales.append(outputs["qz"].scale)
            batches.append(tensors[REGISTRY_KEYS.BATCH_KEY].to(module.device))
    return CellPosterior(location=torch.cat(locations), scale=torch.cat(scales), batch=torch.cat(batches))


def draw_scales(
    model: LinearSCVI | SCVI, posterior: CellPosterior, rows: IntArray, generator: torch.Generator, out: torch.Tensor
) -> None:
    """Draw expression shares: a cell uniformly, its latent variables from their posterior, what they decode to.

    Parameters
    ----------
    model
        That ``posterior`` comes from.
    posterior
        Of :func:`encode_cells`.
    rows
        (n,) rows of ``posterior`` to draw cells from; a row may stand twice and then counts twice.
    generator
        On the processor; its numbers alone decide.
    out
        (n_samples, n_genes) filled in place, on the model's device; each draw sums to 1 over genes.
    """
    import torch

    module = model.module
    n_samples, device = out.shape[0], out.device
    chosen = torch.from_numpy(rows)[torch.randint(rows.size, (n_samples,), generator=generator)].to(device)
    noise = torch.randn(n_samples, posterior.location.shape[1], generator=generator).to(device)
    with torch.inference_mode():
        for cells, step, block in zip(
            *(values.split(_DRAWS_PER_DECODING) for values in (chosen, noise, out)), strict=True
        ):
            latent = module.z_encoder.z_transformation(posterior.location[cells] + posterior.scale[cells] * step)
            block.copy_(expression_shares(module, latent, posterior.batch[cells]))


def expression_shares(module: LDVAE | VAE, latent: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """Return the expression shares (n, n_genes) of latent values, and nothing else that ``generative`` computes.

    Zero inflation, rates and the distribution's checks of its arguments cost more than the shares themselves.

    Parameters
    ----------
    module
        In evaluation mode; no covariates besides the batch.
    latent
        (n, n_latent), after the softmax of ``ln``.
    batch
        (n, 1) codes.
    """
    import torch
    from scvi.module import LDVAE
    from scvi.nn import DecoderSCVI

    decoder = module.decoder
    if isinstance(module, LDVAE):
        return torch.softmax(decoder.factor_regressor(latent, batch), dim=-1)
    if not isinstance(decoder, DecoderSCVI):  # DRVI's, which sums what the dimensions give
        return torch.softmax(decoder(latent, batch)[0], dim=-1)
    shares: torch.Tensor = decoder.px_scale_decoder(decoder.px_decoder(latent, batch))
    return shares


@dataclass(frozen=True, eq=False)
class _MeanCounts:
    """Sums of counts by population, for telling unexpressed genes from low ones."""

    sums: FloatArray  # (population, gene)
    sizes: IntArray  # (population,)
    total: FloatArray  # (gene,)
    n_cells: int

    @classmethod
    def of(cls, model: LinearSCVI | SCVI, positions: IntArray, codes: IntArray, n_populations: int) -> _MeanCounts:
        from scipy.sparse import csr_matrix
        from scvi import REGISTRY_KEYS

        counts = csr_matrix(model.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY))[positions]
        return cls(
            sums=(membership(codes, n_populations) @ counts).toarray(),
            sizes=np.bincount(codes[codes >= 0], minlength=n_populations),
            total=counts.T @ np.ones(positions.size),
            n_cells=positions.size,
        )

    def unexpressed(self, code: int) -> tuple[BoolArray, BoolArray]:
        """Which genes have next to no counts in a population, and in the other cells."""
        inside = self.sums[code] / self.sizes[code]
        outside = (self.total - self.sums[code]) / (self.n_cells - self.sizes[code])
        return inside < UNEXPRESSED_MEAN_COUNT, outside < UNEXPRESSED_MEAN_COUNT
