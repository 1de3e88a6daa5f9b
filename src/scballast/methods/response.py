"""Genes that differ between two conditions within a population, from cells or from models.

Where donors have cells under both conditions they are compared within donors; where each donor has one condition, the
donors of one are compared with those of the other. Scores are sizes: up and down count alike.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scballast.agreement.marker_confirmation import composition_depth, van_elteren
from scballast.agreement.response_confirmation import CELLS_OF_A_DONOR
from scballast.arrays import BoolArray, FloatArray, IntArray, cross_table, membership
from scballast.methods.cell_view import CellView
from scballast.methods.pseudobulk import SMALLEST_PSEUDOBULK, summed_counts, wald_statistic
from scballast.methods.rankers import log_change

if TYPE_CHECKING:
    from scballast.methods.method import Evidence, Role

logger = logging.getLogger(__name__)

FEWEST_DONORS = 2
"""Donors with both conditions, or of each condition, that pseudobulk needs: one degree of freedom is left."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The cells of one population that are compared.

    Attributes
    ----------
    cells
        (n,) positions in the view.
    treated
        (n,) bool: of the condition; else of the reference.
    donors
        (n,) donor, from 0 without gaps.
    paired
        Every donor has cells of both conditions; otherwise every donor has those of one.
    """

    cells: IntArray
    treated: BoolArray
    donors: IntArray
    paired: bool

    @property
    def n_donors(self) -> IntArray:
        """(2,) Donors of the reference and of the condition."""
        return np.array([np.unique(self.donors[self.treated == side]).size for side in (False, True)])


def comparison(
    view: CellView, population: int, conditions: IntArray, *, smallest: int = CELLS_OF_A_DONOR
) -> Comparison | None:
    """Return the cells of a population that can be compared between conditions, or None.

    Parameters
    ----------
    view
        The replicate's cells; without samples they count as those of one donor.
    population
        Its number.
    conditions
        (n_cells,) 0: reference, 1: the other, negative: neither.
    smallest
        Cells under a condition that a donor must have. Donors with so many under both are compared within themselves,
        and no others; without such donors, those of one condition are compared with those of the other.
    """
    inside = np.flatnonzero((view.codes == population) & (conditions >= 0))
    if inside.size == 0:
        return None
    treated = conditions[inside] == 1
    samples = np.zeros(inside.size, dtype=np.int64) if view.samples is None else view.samples[inside]
    present, donors = np.unique(samples, return_inverse=True)
    sizes = cross_table(donors, present.size, treated.astype(np.int64), 2)
    both: BoolArray = np.min(sizes, axis=1) >= smallest
    paired = bool(both.any())
    # A donor with a few stray cells of the other condition is one of the condition of the rest.
    kept = both[donors] if paired else (sizes >= smallest)[donors, treated.astype(np.int64)]
    if not kept.any():
        return None
    compared = Comparison(inside[kept], treated[kept], np.unique(donors[kept], return_inverse=True)[1], paired)
    return compared if compared.n_donors.min() > 0 else None


def response_pseudobulk_scores(view: CellView) -> FloatArray:
    """Return the size of PyDESeq2's Wald statistic between conditions, on counts summed by donor and condition.

    Paired, ``~donor + condition``, over donors with 10 cells or more under both conditions; without such donors,
    ``~condition`` over the donors of either.

    Parameters
    ----------
    view
        The replicate's cells; ``samples`` and ``conditions`` must be there.

    Returns
    -------
    (n_populations, n_genes) float
        NaN for a gene without counts, and for a population with fewer than 2 donors with both conditions, or of each;
        the log says how many there are.

    References
    ----------
    Love, Huber & Anders (2014); Squair et al. (2021): see ``pseudobulk``.
    """
    assert view.samples is not None, "response_pseudobulk needs the donor of each cell: set data.sample_key"
    conditions = conditions_of(view)
    scores = view.empty_scores()
    for code, name in enumerate(view.populations):
        compared = comparison(view, code, conditions, smallest=SMALLEST_PSEUDOBULK)
        numbers = np.zeros(2, dtype=np.int64) if compared is None else compared.n_donors
        if compared is None or numbers.min() < FEWEST_DONORS:
            message = (
                "response_pseudobulk: no score for population %r: %d and %d donors have %d cells or more of the "
                "reference and of the condition, %d needed."
            )
            logger.warning(message, name, *numbers, SMALLEST_PSEUDOBULK, FEWEST_DONORS)
            continue
        counts, n_donors = view.counts[compared.cells], int(compared.donors.max()) + 1
        inside, outside = (
            summed_counts(counts, compared.donors, side, n_donors)[np.unique(compared.donors[side])]
            for side in (compared.treated, ~compared.treated)
        )
        scores[code] = np.abs(wald_statistic(inside, outside, paired=compared.paired))
    return scores


def response_wilcoxon_scores(view: CellView) -> FloatArray:
    """Return the size of van Elteren's rank statistic between conditions, within donors where these have both.

    Where each donor has one condition all cells are compared with each other: a cell then counts as evidence of its
    own, and differences between donors pass for a response.

    Parameters
    ----------
    view
        The replicate's cells, with ``conditions``.

    Returns
    -------
    (n_populations, n_genes) float
        0 for a gene that is equal in all cells; NaN for a population without cells to compare.
    """
    scores = view.empty_scores()
    for code, compared in _compared(view, "response_wilcoxon"):
        counts, treated = view.counts[compared.cells], compared.treated.astype(np.int64)
        depth = composition_depth(counts, view.total_counts[compared.cells], treated)
        strata = compared.donors if compared.paired else np.zeros(compared.cells.size, dtype=np.int64)
        scores[code] = np.abs(np.nan_to_num(van_elteren(counts, treated, 2, depth, strata)[1]))
    return scores


def response_contrast_scores(evidence: Evidence, *, permuted: bool = False) -> FloatArray:
    r"""Return the size of the difference of mean log expression between conditions, under a linear model.

    .. math:: |L \\Delta|, \\quad \\Delta = \\frac{\\sum_d w_d (\\bar z_{d1} - \\bar z_{d0})}{\\sum_d w_d},
              \\quad w_d = \\frac{n_{d1} n_{d0}}{n_{d1} + n_{d0}}

    over donors d with cells under both conditions; where each donor has one, the difference of the means of the donors'
    means.

    Parameters
    ----------
    evidence
        The replicate, with a model of all its cells.
    permuted
        Take the conditions that mean nothing: the control.

    Returns
    -------
    (n_populations, n_genes) float
        Natural-log fold changes without their sign, centred over genes for softmax models.
    """
    view, factors = evidence.cells, evidence.factors("global")
    scores = view.empty_scores()
    if factors is None:
        return scores
    method = "response_permuted" if permuted else "response_contrast"
    for code, compared in _compared(view, method, permuted=permuted):
        scores[code] = np.abs(log_change(factors, _latent_change(factors.scores, compared)))
    return scores


def response_de_scores(evidence: Evidence, name: str, role: Role) -> FloatArray:
    """Return the size of a model's own differential expression between conditions within each population.

    As ``model_de.model_de_scores``, of the population's cells under the condition against those under the reference:
    cells are drawn alike, whichever donor they are of.

    Parameters
    ----------
    evidence
        The replicate.
    name
        Of the method, which decides its seed.
    role
        Of the model.

    Returns
    -------
    (n_populations, n_genes) float
        NaN for a population without cells to compare.
    """
    from scballast.methods.model_de import model_de_scores
    from scballast.threads import one_thread

    view, model = evidence.cells, evidence.model(role)
    scores = view.empty_scores()
    if model is None:
        return scores
    for code, compared in _compared(view, name):
        codes, population = np.where(compared.treated, 0, -1), (view.populations[code],)
        with one_thread():
            change = model_de_scores(
                model, codes, population, mode=evidence.de_mode, seed=evidence.seed(name), cells=compared.cells
            )
        scores[code] = np.abs(change[0])
    return scores


def permuted_conditions(
    conditions: IntArray, populations: IntArray, samples: IntArray | None, generator: np.random.Generator
) -> IntArray:
    """Return conditions that mean nothing, as many of each.

    Donors with cells under both have them permuted over their cells, population by population. Of donors with one
    condition, those of the one exchange it with as many of the other, as many as a random order would on average: the
    lists are then those of differences between donors alone.

    Parameters
    ----------
    conditions
        (n_cells,) 0, 1, or negative: neither.
    populations
        (n_cells,) code, negative: none.
    samples
        (n_cells,) donor; None: one donor.
    generator
        Draws them.

    Returns
    -------
    (n_cells,) int
    """
    permuted = conditions.copy()
    donors = np.zeros(conditions.size, dtype=np.int64) if samples is None else samples
    has = np.zeros((int(donors.max(initial=-1)) + 1, 2), dtype=bool)
    known = conditions >= 0
    has[donors[known], conditions[known]] = True
    both: BoolArray = has[:, 0] & has[:, 1]
    strata = np.unique(np.column_stack([donors, populations]), axis=0, return_inverse=True)[1].reshape(-1)
    mixed = np.flatnonzero(known & both[donors])
    ordered = mixed[np.argsort(strata[mixed], kind="stable")]
    for cells in np.split(ordered, np.flatnonzero(np.diff(strata[ordered])) + 1):
        permuted[cells] = generator.permutation(conditions[cells])
    single = [np.flatnonzero(has[:, condition] & ~both) for condition in (0, 1)]
    total = single[0].size + single[1].size
    n_exchanged = round(single[0].size * single[1].size / total) if total else 0
    for single_donors, condition in zip(single, (0, 1), strict=True):
        exchanged = generator.permutation(single_donors)[:n_exchanged]
        permuted[known & np.isin(donors, exchanged)] = 1 - condition
    return permuted


def conditions_of(view: CellView, *, permuted: bool = False) -> IntArray:
    """Return the conditions of a replicate's cells."""
    conditions = view.null_conditions if permuted else view.conditions
    assert conditions is not None, "response genes need the condition of each cell: set data.condition_key"
    return conditions


def _latent_change(scores: FloatArray, compared: Comparison) -> FloatArray:
    """(n_factors,) Mean latent position under the condition less that under the reference."""
    values, n_donors = scores[compared.cells], int(compared.donors.max()) + 1
    sizes, means = [], []
    for side in (False, True):
        cells = np.flatnonzero(compared.treated == side)
        donor = compared.donors[cells]
        size = np.bincount(donor, minlength=n_donors)
        sizes.append(size)
        means.append(np.asarray(membership(donor, n_donors) @ values[cells]) / np.maximum(size, 1)[:, None])
    if compared.paired:
        weights = sizes[0] * sizes[1] / (sizes[0] + sizes[1])
        return np.asarray(weights @ (means[1] - means[0]) / weights.sum())
    return np.asarray(means[1][sizes[1] > 0].mean(axis=0) - means[0][sizes[0] > 0].mean(axis=0))


def _compared(view: CellView, method: str, *, permuted: bool = False) -> Iterator[tuple[int, Comparison]]:
    """Yield the populations with cells to compare, by number; the log names the others."""
    conditions = conditions_of(view, permuted=permuted)
    for code, name in enumerate(view.populations):
        compared = comparison(view, code, conditions)
        if compared is not None:
            yield code, compared
            continue
        message = "%s: no score for population %r: no donors with %d cells or more under both conditions, or of each."
        logger.warning(message, method, name, CELLS_OF_A_DONOR)
