"""Pseudobulk: counts summed by biological sample, so that samples and not cells are the unit of evidence."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from scballast.arrays import FloatArray, IntArray, membership
from scballast.methods.cell_view import CellView

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

SMALLEST_PSEUDOBULK = 10
FEWEST_SAMPLES = 3


def pseudobulk_scores(view: CellView) -> FloatArray:
    """Return the Wald statistic of PyDESeq2 on counts summed per sample and side, paired by sample.

    For each population the counts of its cells, and of all other cells, are summed within each sample; the
    design is ``~sample + population``. Samples with fewer than 10 cells on either side are left out: in a
    paired design they say nothing about the population.

    Parameters
    ----------
    view
        The replicate's cells; ``samples`` must be there.

    Returns
    -------
    (n_populations, n_genes) float
        ``stat``, positive where the gene is higher in the population; NaN for a gene without counts, and for a
        population with fewer than 3 samples left, which the log names with what is missing.

    References
    ----------
    Love, Huber & Anders (2014), Moderated estimation of fold change and dispersion for RNA-seq data with
    DESeq2; Squair et al. (2021), Confronting false discoveries in single-cell differential expression.
    """
    assert view.samples is not None, "pseudobulk needs the biological sample of each cell: set data.sample_key"
    samples = np.asarray(view.samples)
    n_samples = int(samples.max(initial=-1)) + 1
    scores = view.empty_scores()
    total = summed_counts(view.counts, samples, samples >= 0, n_samples)
    sizes = np.bincount(samples[samples >= 0], minlength=n_samples)
    for code, name in enumerate(view.populations):
        inside = (view.codes == code) & (samples >= 0)
        sizes_inside = np.bincount(samples[inside], minlength=n_samples)
        enough = np.minimum(sizes_inside, sizes - sizes_inside) >= SMALLEST_PSEUDOBULK
        if enough.sum() < FEWEST_SAMPLES:
            _say_what_is_missing(view, name, sizes_inside, sizes - sizes_inside)
            continue
        sums = summed_counts(view.counts, samples, inside, n_samples)
        scores[code] = wald_statistic(sums[enough], (total - sums)[enough])
    return scores


def wald_statistic(inside: IntArray, outside: IntArray, *, paired: bool = True) -> FloatArray:
    """Return PyDESeq2's Wald statistic of a comparison, paired or between samples.

    PyDESeq2's defaults, its constant dispersion trend where the curve does not converge included; the log
    passes on what it says. One exception: where every gene has a zero in some sum there is no median of
    ratios, and size factors come from the positive counts (``poscounts``), as DESeq2 advises for single cells;
    PyDESeq2's default there, an iterative fit, is slow and was seen to turn signs round. Neither Cook's
    distances nor independent filtering touch the statistic.

    Parameters
    ----------
    inside, outside
        (n_samples, n_genes) summed counts of the two sides of each sample, at least 2 samples.
    paired
        Rows of the same number are of one sample, ``~sample + population``; otherwise all rows are of different
        samples, ``~population``, and there may be more on one side.

    Returns
    -------
    (n_genes,) float64
        Positive where ``inside`` is higher; NaN for a gene without counts.
    """
    import pandas as pd

    n_genes = inside.shape[1]
    counts = np.concatenate([inside, outside]).astype(np.int64)
    expressed = counts.any(axis=0)
    statistic = np.full(n_genes, np.nan)
    if not expressed.any():
        return statistic
    sides = [(side, sample) for side, sums in (("in", inside), ("out", outside)) for sample in range(len(sums))]
    rows = [f"{side}{sample}" for side, sample in sides]
    columns = {"sample": [f"s{sample}" for _, sample in sides], "population": [side for side, _ in sides]}
    metadata = pd.DataFrame(columns, index=rows)
    design = "~sample + population" if paired else "~population"
    table = pd.DataFrame(counts[:, expressed], index=rows, columns=np.flatnonzero(expressed).astype(str))
    statistic[expressed] = _fit(table, metadata, design)
    return statistic


def _fit(counts: pd.DataFrame, metadata: pd.DataFrame, design: str) -> FloatArray:
    no_ratios = bool((counts == 0).any(axis=0).all())
    if no_ratios:
        logger.info("pseudobulk: every gene has a zero in some sum: size factors from the positive counts.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from pydeseq2.dds import DeseqDataSet
        from pydeseq2.default_inference import DefaultInference
        from pydeseq2.ds import DeseqStats

        inference = DefaultInference(n_cpus=1)
        fitted = DeseqDataSet(
            counts=counts,
            metadata=metadata,
            design=design,
            size_factors_fit_type="poscounts" if no_ratios else "ratio",
            inference=inference,
            quiet=True,
        )
        fitted.deseq2()
        test = DeseqStats(
            fitted,
            contrast=["population", "in", "out"],
            cooks_filter=False,
            independent_filter=False,
            inference=inference,
            quiet=True,
        )
        test.summary()
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        logger.info("pseudobulk: PyDESeq2 says: %s", " ".join(text.split()))
    return np.asarray(test.results_df["stat"].to_numpy(dtype=np.float64))


def summed_counts(counts: csr_matrix, samples: IntArray, chosen: npt.NDArray[np.bool_], n_samples: int) -> IntArray:
    """Return (n_samples, n_genes) counts summed over the chosen cells of each sample.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts.
    samples
        (n_cells,) sample of each cell.
    chosen
        (n_cells,) bool: the cells that are summed.
    n_samples
        Number of samples.
    """
    # float64 sums of counts are exact to 2**53; float32 ones are not.
    sums = (membership(np.where(chosen, samples, -1), n_samples) @ counts.astype(np.float64)).toarray()
    return np.asarray(np.rint(sums).astype(np.int64))


def _say_what_is_missing(view: CellView, population: str, inside: IntArray, outside: IntArray) -> None:
    short = [
        f"{view.sample_names[sample] if view.sample_names else sample} ({inside[sample]} and {outside[sample]})"
        for sample in np.flatnonzero(np.minimum(inside, outside) < SMALLEST_PSEUDOBULK)
    ]
    message = (
        "pseudobulk: no score for population %r: %d of %d samples have at least %d cells in it and outside it, "
        "%d needed; too few (in and outside): %s."
    )
    needed, named = (SMALLEST_PSEUDOBULK, FEWEST_SAMPLES), ", ".join(short) or "none"
    logger.warning(message, population, inside.size - len(short), inside.size, *needed, named)
