"""Selection of the most variable genes from sums over cells, batch by batch, as scanpy selects them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from scballast.arrays import BoolArray, FloatArray, IntArray, places_among
from scballast.data.columns import Column
from scballast.data.moments import ClippedSums, Survey
from scballast.data.names import quoted
from scballast.data.remarks import Remarks

MIN_CELLS_EXPRESSING = 3
MIN_BATCH_CELLS = 50
"""A batch with fewer cells has no say: its variances are mostly noise."""
MIN_VARIABLE_GENES = 40
"""The loess library crashes the process where its local neighbourhood (0.3 of the genes) is all but empty."""
SPANS = (0.3, 0.6, 1.0)
"""Share of the genes in each local fit: scanpy's, then wider where so few distinct means make it singular."""
GENES_TOGETHER = 2**12
"""Genes whose ranks in all batches are combined at a time."""


@dataclass(frozen=True)
class Trend:
    """The trend of variance with mean over the genes, in the cells of one batch.

    Attributes
    ----------
    n_cells
        Cells of the batch.
    means
        (n_genes,) mean count.
    deviations
        (n_genes,) standard deviation that the trend gives a gene of this mean.
    """

    n_cells: int
    means: FloatArray
    deviations: FloatArray

    @property
    def limits(self) -> FloatArray:
        """(n_genes,) largest count of a gene that its variance is taken from, as in Seurat."""
        return np.asarray(self.deviations * np.sqrt(self.n_cells) + self.means)

    def standardised(self, sums: FloatArray, squares: FloatArray) -> FloatArray:
        """Return (n_genes,) the variance of clipped counts over that of the trend."""
        n, mean = self.n_cells, self.means
        scale = 1 / ((n - 1) * np.square(self.deviations))
        return np.asarray(scale * ((n * np.square(mean)) + squares - 2 * sums * mean))


@dataclass(frozen=True)
class GeneSelection:
    """A selection that has seen the sums of the counts, and needs those of the clipped counts.

    Attributes
    ----------
    eligible
        (n_genes,) genes that may be selected.
    n_top_genes
        How many of them are.
    trends
        Of the batches that have a say; empty: all eligible genes are selected.
    clipped
        Sums of clipped counts, to which every part of the counts must be added before the end; None: not needed.
    warnings
        What was done differently from scanpy.
    """

    eligible: BoolArray
    n_top_genes: int
    trends: tuple[Trend, ...]
    clipped: ClippedSums | None
    warnings: tuple[str, ...]

    def watch(self, part: sp.csr_matrix) -> None:
        """Take up the counts of the next cells, (n_cells, n_genes)."""
        if self.clipped is not None:
            self.clipped.add(part)

    def selected(self) -> BoolArray:
        """Return the genes, (n_genes,), once all counts have been taken up."""
        if self.clipped is None:
            return self.eligible
        with np.errstate(divide="ignore", invalid="ignore"):
            # A gene that is constant in a batch has a zero variance there and is not selected.
            variances = [
                trend.standardised(sums[self.eligible], squares[self.eligible])
                for trend, sums, squares in zip(self.trends, self.clipped.sums, self.clipped.squares, strict=True)
            ]
        selected = np.zeros(self.eligible.size, dtype=np.bool_)
        selected[np.flatnonzero(self.eligible)[_most_variable(variances, self.n_top_genes)]] = True
        return selected


def has_a_choice(n_genes: int, n_top_genes: int | None) -> bool:
    """Tell whether there are more genes than are wanted."""
    return n_top_genes is not None and n_genes > n_top_genes


def selection_groups(batches: Column | None, n_cells: int) -> IntArray:
    """Return the group of each cell, (n_cells,), in which the sums for the selection are taken; -1: in none."""
    if batches is None:
        return np.full(n_cells, -1, dtype=np.int64)
    fits = batches.sizes() >= MIN_BATCH_CELLS
    return np.asarray(np.where(fits, np.cumsum(fits) - 1, -1)[batches.codes])


def select_genes(
    survey: Survey, cells: BoolArray, genes: BoolArray, n_top_genes: int | None, batches: Column | None, *, source: str
) -> GeneSelection:
    """Choose the genes to analyse, as far as the sums of the counts tell.

    All genes are kept when there are no more than ``n_top_genes``. Otherwise genes expressed in fewer than 3
    cells are left out, and of the others the ``n_top_genes`` with the highest variance standardised by its
    trend with the mean are kept (scanpy's ``highly_variable_genes(flavor="seurat_v3")`` on counts, ranked
    within each batch and combined by the median rank): the same genes, from two passes over the counts.

    Parameters
    ----------
    survey
        Sums over the cells by the groups of `selection_groups`.
    cells
        (n_surveyed_cells,) those with counts.
    genes
        (n_surveyed_genes,) those with counts.
    n_top_genes
        How many genes to keep; None: all.
    batches
        Batch of each cell with counts, or None.
    source
        The file, for messages.

    Returns
    -------
    GeneSelection
        It needs a second pass over the counts of these cells and all surveyed genes; its ``selected`` are among all
        surveyed genes.

    Raises
    ------
    DataError
        The trend of variance with mean cannot be fitted, with or without batches.

    References
    ----------
    Stuart et al. (2019), Comprehensive integration of single-cell data.
    """
    n_genes = int(np.count_nonzero(genes))
    if n_top_genes is None or not has_a_choice(n_genes, n_top_genes):
        return GeneSelection(genes, n_genes, (), None, ())
    remarks = Remarks(source)
    eligible = survey.expressing.sum(axis=0) >= MIN_CELLS_EXPRESSING
    n_eligible = int(np.count_nonzero(eligible))
    if n_eligible == 0:
        remarks.refuse(
            f"none of {n_genes:,} genes has counts in {MIN_CELLS_EXPRESSING} cells or more, so genes cannot "
            "be selected. Set data.n_top_genes=null to keep all genes, or use deeper data."
        )
    if n_eligible <= n_top_genes:
        return GeneSelection(eligible, n_eligible, (), None, ())
    trends, groups = _trends(survey, cells, eligible, n_top_genes, batches, remarks)
    limits = np.full((len(trends), eligible.size), np.inf)
    for gene_limits, trend in zip(limits, trends, strict=True):
        gene_limits[eligible] = trend.limits
    return GeneSelection(eligible, n_top_genes, tuple(trends), ClippedSums(groups, limits), tuple(remarks.notes))


def _trends(
    survey: Survey, cells: BoolArray, eligible: BoolArray, n_top_genes: int, batches: Column | None, remarks: Remarks
) -> tuple[list[Trend], IntArray]:
    """Return the trends of the batches that have a say, and which of them each cell belongs to."""
    n_cells = int(np.count_nonzero(cells))
    if batches is not None:
        sizes = batches.sizes()
        fits = sizes >= MIN_BATCH_CELLS
        if not fits.all():
            small = [batches.names[i] for i in np.flatnonzero(~fits)]
            remarks.note(
                f"batches with fewer than {MIN_BATCH_CELLS} cells have no say in the selection of genes: "
                f"{quoted(small)}."
            )
        group_of = np.full(fits.size, -1)
        group_of[batches.codes] = survey.groups[cells]
        trend_of_batch = {
            int(code): _trend(survey, group_of[code], int(sizes[code]), eligible, SPANS[0])
            for code in np.flatnonzero(fits)
        }
        working = {code: trend for code, trend in trend_of_batch.items() if trend is not None}
        if working:
            failing = [batches.names[code] for code in trend_of_batch if code not in working]
            if failing:
                remarks.note(
                    f"the trend of variance with mean cannot be fitted in batches {quoted(failing)}, "
                    "which have no say in the selection of genes."
                )
            place = places_among(np.array(list(working)), fits.size)
            return list(working.values()), place[batches.codes]
        remarks.note("genes were selected over all cells together, without regard to batches.")
    for span in SPANS:
        trend = _trend(survey, None, n_cells, eligible, span)
        if trend is not None:
            if span != SPANS[0]:
                remarks.note(
                    f"genes were selected with a wider trend of variance with mean (span {span} instead "
                    f"of {SPANS[0]}): too few genes have distinct means."
                )
            return [trend], np.zeros(n_cells, dtype=np.int64)
    remarks.refuse(
        f"{n_top_genes:,} of {np.count_nonzero(eligible):,} genes cannot be selected: the trend of variance "
        f"with mean cannot be fitted to {n_cells:,} cells with so few distinct values. Set data.n_top_genes=null to "
        "keep all genes, or use more cells or deeper data."
    )


def _trend(survey: Survey, group: int | None, n_cells: int, eligible: BoolArray, span: float) -> Trend | None:
    """Return the trend in one group of the survey, or in all cells; None where its loess fit is singular."""
    from skmisc.loess import loess

    expressing, sums, squares = (
        (array.sum(axis=0) if group is None else array[group])[eligible]
        for array in (survey.expressing, survey.sums, survey.squares)
    )
    if not _enough_varying(n_cells, expressing, sums, squares):
        return None
    mean = sums / n_cells
    variance = squares / n_cells - np.square(mean)
    variance *= n_cells / (n_cells - 1)
    varies = variance > 0
    fitted = np.zeros(mean.size)
    try:
        model = loess(np.log10(mean[varies]), np.log10(variance[varies]), span=span, degree=2)
        model.fit()
    except ValueError:  # how the loess library reports a singular fit; all other input was checked
        return None
    fitted[varies] = model.outputs.fitted_values
    return Trend(n_cells, mean, np.sqrt(10**fitted))


def _enough_varying(n_cells: int, expressing: IntArray, sums: FloatArray, squares: FloatArray) -> bool:
    """Tell whether enough genes vary over the cells for a trend of variance with mean."""
    n_varying = int(np.count_nonzero((expressing > 0) & (expressing < n_cells)))
    if n_varying < MIN_VARIABLE_GENES:
        everywhere = expressing == n_cells
        # Of a gene with the same count in every cell: its sums, exactly.
        count = (sums[everywhere] / n_cells).astype(np.float32)
        constant = (n_cells * count.astype(np.float64) == sums[everywhere]) & (
            n_cells * np.square(count).astype(np.float64) == squares[everywhere]
        )
        n_varying += int(np.count_nonzero(~constant))
    return n_varying >= MIN_VARIABLE_GENES


def _most_variable(variances: list[FloatArray], n_top_genes: int) -> IntArray:
    """Return the positions of the genes with the best median rank, then those of the most batches, then in order."""
    ranks = np.empty((len(variances), variances[0].size), dtype=np.float32)
    for row, variance in zip(ranks, variances, strict=True):
        row[:] = np.argsort(np.argsort(-variance))
    n_batches = np.count_nonzero(ranks < n_top_genes, axis=0)
    ranks[ranks >= n_top_genes] = np.nan
    median = np.concatenate(
        [
            np.ma.median(np.ma.masked_invalid(ranks[:, start : start + GENES_TOGETHER]), axis=0).filled(np.nan)
            for start in range(0, ranks.shape[1], GENES_TOGETHER)
        ]
    )
    order = np.lexsort((-n_batches, np.where(np.isnan(median), np.inf, median)))
    return order[:n_top_genes]
