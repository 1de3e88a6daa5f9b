"""Programs of one population: sets of co-expressed genes that come back in cells that took no part in finding them.

Candidates come from all cells. The search is then made again without a part of the cells, for each of five parts,
and in the complementary halves of the experiment. A candidate counts as a program if in the cells left out the weights
found without them make an activity that is more than the noise of its single genes, if the five searches agree on the
weights, and if complementary halves, which share no cell, do; each by more than the same search reaches after every
gene's cells are permuted, and an activity by more than half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scballast.agreement import program_components as components
from scballast.agreement import program_replication as replication
from scballast.agreement.arguments import require
from scballast.agreement.multiplicity import bh_q_values
from scballast.arrays import BoolArray, FloatArray, IntArray

FEWEST_CELLS = 10  # in a half
FEWEST_PAIRS = 3  # of halves
FEWEST_PARTS = 2
TOP_GENES = 50
N_PERMUTATIONS = 2
LEAST_SHARE = 0.5  # of an unseen activity's variance: more program than noise
LEAST_AGREEMENT = 0.5  # cosine of weights found without one part or another
LISTED_LEVEL = 0.05  # false discovery rate of listed genes, in cells that their weights never saw
_LEAST_WEIGHT, _LEADING = 0.2, 10  # of the mean of so many leading weights
BY_PROGRAM = ("explained", "reproducibility", "lower", "upper", "floor", "weight_agreement", "weight_floor")
_CURVE = 0.5  # share of a weaker program's reliable variance that a curve over a stronger one explains


@dataclass(frozen=True)
class PopulationPrograms:
    """The programs of one population, those with the larger share of variance first.

    Attributes
    ----------
    weights
        (n_genes, n_programs) mean over the searches without a part of the cells, columns of length 1; per noise
        standard deviation of a gene.
    half_weights
        (n_halves, n_genes, n_programs) of the searches in halves.
    selection_frequency
        (n_genes, n_programs) share of the searches without a part that have the gene among their 50 largest weights.
    q_values
        (n_genes, n_programs) smallest false discovery rate at which the gene follows the activity in cells that took no
        part in the weights (Benjamini-Hochberg within a program); 1 for a gene that was not tested.
    loadings
        (n_genes, n_programs) slope of the log residuals on the activity in its standard deviations.
    activity
        (n_cells, n_programs) of each cell by the weights found without it, in standard deviations of counting noise.
    explained
        (n_programs,) share of the variance beyond counting noise, along weights found in other cells.
    reproducibility, lower, upper, floor
        (n_programs,) share of the unseen activity's variance that is signal, its interval, and what it must
        exceed.
    weight_agreement, weight_floor
        (n_programs,) mean cosine of complementary halves' weights, and what it must exceed.
    noise
        (n_genes,) standard deviation of the log residuals that no candidate explains: the unit of the weights.
    n_candidates
        Components that were tried.
    reason
        Why there is no program; empty if there is one.
    """

    weights: FloatArray
    half_weights: FloatArray
    selection_frequency: FloatArray
    q_values: FloatArray
    loadings: FloatArray
    activity: FloatArray
    explained: FloatArray
    reproducibility: FloatArray
    lower: FloatArray
    upper: FloatArray
    floor: FloatArray
    weight_agreement: FloatArray
    weight_floor: FloatArray
    noise: FloatArray
    n_candidates: int
    reason: str = ""

    @property
    def n_programs(self) -> int:
        """Programs found again."""
        return int(self.weights.shape[1])

    @property
    def listed(self) -> BoolArray:
        """(n_genes, n_programs) the genes that stand for a program.

        Of the 50 largest weights those that unseen cells confirm at 5%, and that are a fifth of the mean of the ten
        largest or more: where a program takes its cells' counts, every other gene loses a little, in truth.
        """
        sizes = np.abs(self.weights)
        largest = -np.sort(-sizes, axis=0)
        leading = (sizes >= largest[:TOP_GENES][-1:]) & (sizes >= _LEAST_WEIGHT * largest[:_LEADING].mean(axis=0))
        return np.asarray(leading & (self.q_values <= LISTED_LEVEL))

    def only(self, kept: BoolArray | IntArray) -> PopulationPrograms:
        """Return these programs alone, in the order given."""
        by_column = ("weights", "selection_frequency", "q_values", "loadings", "activity")
        columns = {name: getattr(self, name)[:, kept] for name in by_column}
        columns["half_weights"] = self.half_weights[:, :, kept]
        return replace(self, **columns, **{name: getattr(self, name)[kept] for name in BY_PROGRAM})

    def above(self, weight_floor: FloatArray) -> PopulationPrograms:
        """Return the programs whose weights agree more than floors that are at least these, (n_programs,)."""
        raised = replace(self, weight_floor=np.maximum(self.weight_floor, weight_floor))
        kept = raised.only(raised.weight_agreement > raised.weight_floor)
        lost = "" if kept.n_programs else "weights agree no more than those of other populations"
        return replace(kept, reason=kept.reason or lost)


def find_programs(
    counts: FloatArray,
    total_counts: FloatArray,
    pairs: Sequence[tuple[IntArray, IntArray]],
    parts: Sequence[IntArray],
    generator: np.random.Generator,
) -> PopulationPrograms:
    """Find the programs of a population that come back in unseen cells.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts of the population.
    total_counts
        (n_cells,) counts per cell over all genes.
    pairs
        Pairs of disjoint halves, as sorted positions of cells.
    parts
        Positions of the cells that are left out together; every cell is in one part, none in two.
    generator
        For the permutations.

    Returns
    -------
    PopulationPrograms
        None with a reason where nothing comes back.

    Raises
    ------
    ValueError
        Fewer than three pairs, halves that share a cell, or parts that do not hold each cell once.
    """
    n_cells, n_genes = counts.shape
    _check(n_cells, pairs, parts)
    smallest = min(min(len(first), len(second)) for first, second in pairs)
    if smallest < FEWEST_CELLS:
        reason = f"{n_cells} cells: a half holds {smallest}, fewer than {FEWEST_CELLS}"
        return no_programs(n_cells, n_genes, 0, reason)
    residuals = components.log_residuals(counts, total_counts)
    cells = components.scale_to_noise(components.without_rare_genes(residuals, counts), generator)
    if cells.n_candidates == 0:
        return no_programs(n_cells, n_genes, 0, "no component stands above permuted cells")
    search = _search(cells, cells.values, pairs, parts)
    n_tried = search.half_weights.shape[2]
    tried = f"{n_tried} candidate{'s' if n_tried > 1 else ''}, none found again in unseen cells"
    # Not found without one of the parts: its activity there is not known.
    hopeful = search.unseen.weights.any(axis=1).all(axis=0)
    hopeful &= (search.unseen.lower > LEAST_SHARE) & (search.unseen.agreement > LEAST_AGREEMENT)
    if not (hopeful & (search.weight_agreement > 0)).any():
        return no_programs(n_cells, n_genes, cells.n_candidates, tried)
    floors = [
        _search(cells, generator.permuted(cells.values, axis=0), pairs, parts).highest() for _ in range(N_PERMUTATIONS)
    ]
    least = (LEAST_SHARE, LEAST_AGREEMENT, 0.0)
    floor, part_floor, weight_floor = np.maximum(np.max(floors, axis=0), least).tolist()
    programs = _summarise(search, cells, residuals, counts, parts, floor=floor, weight_floor=weight_floor)
    kept = (
        hopeful
        & (programs.lower > floor)
        & (search.unseen.agreement > part_floor)
        & (search.weight_agreement > weight_floor)
    )
    order = np.argsort(-np.where(kept, programs.explained, -1.0), kind="stable")[: int(kept.sum())]
    programs = programs.only(order)
    programs = programs.only(~_curves(programs))
    if programs.n_programs == 0:
        return no_programs(n_cells, n_genes, cells.n_candidates, tried)
    return programs


@dataclass(frozen=True)
class _Search:
    """Candidates found again without a part, and in halves: ``half_weights`` (n_halves, n_genes, n_programs)."""

    unseen: replication.Unseen
    half_weights: FloatArray
    weight_agreement: FloatArray

    def highest(self) -> list[float]:
        """Return the highest share of signal, agreement without a part, and agreement of halves."""
        return [float(values.max()) for values in (self.unseen.share, self.unseen.agreement, self.weight_agreement)]


def _search(
    cells: components.ScaledCells,
    values: FloatArray,
    pairs: Sequence[tuple[IntArray, IntArray]],
    parts: Sequence[IntArray],
) -> _Search:
    """Find candidates in cells, or in permuted ones, and find them again."""
    candidates = components.rotated_programs(values, cells.n_candidates, float(cells.null_spectrum[0]))
    others = [np.setdiff1d(np.arange(len(values)), part) for part in parts]
    halves = [half for pair in pairs for half in pair]
    without, half_weights = (
        np.stack([replication.found_again(values[some], candidates, cells.n_candidates) for some in subsets])
        for subsets in (others, halves)
    )
    return _Search(
        replication.in_unseen_cells(values, parts, without),
        half_weights,
        replication.agreement_of_halves(half_weights),
    )


def _check(n_cells: int, pairs: Sequence[tuple[IntArray, IntArray]], parts: Sequence[IntArray]) -> None:
    require(len(pairs) >= FEWEST_PAIRS, f"programs need {FEWEST_PAIRS} pairs of halves, got {len(pairs)}")
    require(not any(np.intersect1d(first, second).size for first, second in pairs), "the halves of a pair share cells")
    if len(parts) < FEWEST_PARTS or not np.array_equal(np.sort(np.concatenate(parts)), np.arange(n_cells)):
        message = (
            f"the {len(parts)} parts do not hold each of the {n_cells} cells once, in {FEWEST_PARTS} parts or more"
        )
        raise ValueError(message)


def _summarise(
    search: _Search,
    cells: components.ScaledCells,
    residuals: FloatArray,
    counts: FloatArray,
    parts: Sequence[IntArray],
    *,
    floor: float,
    weight_floor: float,
) -> PopulationPrograms:
    unseen = search.unseen
    mean = unseen.weights.mean(axis=0)
    mean /= np.maximum(np.sqrt((mean**2).sum(axis=0)), 1e-300)
    sizes = np.abs(unseen.weights)
    threshold = np.sort(sizes, axis=1)[:, -min(TOP_GENES, len(mean))][:, None, :]
    chosen = (sizes >= threshold) & (sizes > 0)
    beyond = cells.values.var(axis=0) - components.counting_variance(counts) / cells.noise**2
    total = max(float(np.maximum(beyond, 0.0).sum()), 1e-300)
    centred = unseen.activity - unseen.activity.mean(axis=0)
    deviation = np.maximum(centred.std(axis=0), 1e-300)
    n_programs = mean.shape[1]
    return PopulationPrograms(
        weights=mean,
        half_weights=search.half_weights,
        selection_frequency=chosen.mean(axis=0),
        q_values=_q_values(replication.gene_p_values(cells.values, parts, unseen.weights)),
        loadings=residuals.T @ (centred / deviation) / len(centred),
        activity=unseen.activity,
        explained=np.clip(unseen.signal / total, 0.0, 1.0),
        reproducibility=unseen.share,
        lower=unseen.lower,
        upper=unseen.upper,
        floor=np.full(n_programs, floor),
        weight_agreement=search.weight_agreement,
        weight_floor=np.full(n_programs, weight_floor),
        noise=cells.noise,
        n_candidates=cells.n_candidates,
    )


def _q_values(p_values: FloatArray) -> FloatArray:
    columns = [bh_q_values(p_values[:, k]) for k in range(p_values.shape[1])]
    return np.nan_to_num(np.column_stack(columns), nan=1.0) if columns else p_values


def _curves(programs: PopulationPrograms) -> BoolArray:
    """Say which programs are only the curvature of a stronger one: its activity, bent.

    The genes need not be the same: where a strong program takes its cells' counts, all other genes lose their share.
    """
    n_programs = programs.n_programs
    bent = np.zeros(n_programs, dtype=bool)
    activity = programs.activity - programs.activity.mean(axis=0)
    for weaker in range(1, n_programs):
        for stronger in range(weaker):
            if bent[stronger]:
                continue
            basis = np.vander(activity[:, stronger] / max(float(activity[:, stronger].std()), 1e-300), 4)
            fitted = basis @ np.linalg.lstsq(basis, activity[:, weaker], rcond=None)[0]
            explained = fitted.var() / max(float(activity[:, weaker].var()), 1e-300)
            bent[weaker] |= bool(explained > _CURVE * max(float(programs.reproducibility[weaker]), 0.0))
    return bent


def no_programs(n_cells: int, n_genes: int, n_candidates: int, reason: str) -> PopulationPrograms:
    """Return the answer "none" of a population, with its reason."""
    by_half, by_gene, by_cell = (np.zeros((*shape, 0)) for shape in ((0, n_genes), (n_genes,), (n_cells,)))
    nothing = {name: np.zeros(0) for name in BY_PROGRAM}
    return PopulationPrograms(
        weights=by_gene, half_weights=by_half, selection_frequency=by_gene, q_values=by_gene, loadings=by_gene,
        activity=by_cell, **nothing, noise=np.ones(n_genes), n_candidates=n_candidates, reason=reason,
    )  # fmt: skip
