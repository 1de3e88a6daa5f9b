"""Programs of one population: sets of co-expressed genes that come back in cells that took no part in finding them.

Candidates come from all cells. Each complementary half of the cells then finds its own, blind to the other. A
candidate counts as a program if the halves agree on its weights, and if the weights of one half make an activity
in the cells of the other that is more than counting noise; both by more than the same search reaches after every
gene's cells are permuted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from scipy.optimize import linear_sum_assignment

from scballast.agreement.program_components import (
    ScaledCells,
    counting_variance,
    log_residuals,
    rotated_programs,
    scale_to_noise,
)
from scballast.arrays import BoolArray, FloatArray, IntArray

FEWEST_CELLS = 10  # in a half
FEWEST_PAIRS = 3  # of halves, for an interval
TOP_GENES = 50
N_PERMUTATIONS = 2
LEVEL = 0.95
_BY_PROGRAM = (
    "explained", "reproducibility", "lower", "upper", "floor", "weight_agreement", "weight_lower", "weight_floor",
)  # fmt: skip
_CURVE = 0.5  # share of a weaker program's reliable variance that a curve over a stronger one explains
_CURVE_GENES = 0.3  # share of their top genes in common


@dataclass(frozen=True)
class Replication:
    """How well programs come back in the complementary half, pair by pair.

    Attributes
    ----------
    weights
        (n_pairs, n_programs) cosine of the two halves' weights.
    activity
        (n_pairs, n_programs) share of the activity's variance that is not the noise of its single genes, weights
        from one half and cells from the other, mean of both directions; 0 by chance.
    signal
        (n_pairs, n_programs) that variance itself, in squared noise standard deviations.
    half_weights
        (n_halves, n_genes, n_programs) of length 1, or 0 where a half has no counterpart.
    cross_fitted
        (n_cells, n_programs) activity from halves that do not hold the cell; NaN where every half does.
    """

    weights: FloatArray
    activity: FloatArray
    signal: FloatArray
    half_weights: FloatArray
    cross_fitted: FloatArray


@dataclass(frozen=True)
class PopulationPrograms:
    """The programs of one population, those with the larger share of variance first.

    Attributes
    ----------
    weights
        (n_genes, n_programs) mean over halves, columns of length 1; per noise standard deviation of a gene.
    half_weights
        (n_halves, n_genes, n_programs) of which they are the mean.
    selection_frequency
        (n_genes, n_programs) share of halves with the gene among their 50 largest weights.
    loadings
        (n_genes, n_programs) slope of the log residuals on the activity in its standard deviations.
    activity
        (n_cells, n_programs) cross-fitted, in standard deviations of counting noise; NaN: in no unseen half.
    explained
        (n_programs,) share of the variance beyond counting noise.
    reproducibility, lower, upper, floor
        (n_programs,) share of the unseen activity's variance that is signal, its interval, and what it must
        exceed.
    weight_agreement, weight_lower, weight_floor
        (n_programs,) the same for the cosine of the halves' weights.
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
    loadings: FloatArray
    activity: FloatArray
    explained: FloatArray
    reproducibility: FloatArray
    lower: FloatArray
    upper: FloatArray
    floor: FloatArray
    weight_agreement: FloatArray
    weight_lower: FloatArray
    weight_floor: FloatArray
    noise: FloatArray
    n_candidates: int
    reason: str = ""

    @property
    def n_programs(self) -> int:
        """Programs found again."""
        return int(self.weights.shape[1])

    def only(self, kept: BoolArray | IntArray) -> PopulationPrograms:
        """Return these programs alone, in the order given."""
        by_column = ("weights", "selection_frequency", "loadings", "activity")
        columns = {name: getattr(self, name)[:, kept] for name in by_column}
        columns["half_weights"] = self.half_weights[:, :, kept]
        return replace(self, **columns, **{name: getattr(self, name)[kept] for name in _BY_PROGRAM})

    def above(self, weight_floor: FloatArray) -> PopulationPrograms:
        """Return the programs whose weights agree more than floors that are at least these, (n_programs,)."""
        raised = replace(self, weight_floor=np.maximum(self.weight_floor, weight_floor))
        kept = raised.only(raised.weight_lower > raised.weight_floor)
        lost = "" if kept.n_programs else "weights agree no more than those of other populations"
        return replace(kept, reason=kept.reason or lost)


def find_programs(
    counts: FloatArray,
    total_counts: FloatArray,
    pairs: Sequence[tuple[IntArray, IntArray]],
    generator: np.random.Generator,
    *,
    rotate: bool = True,
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
    generator
        For the permutations.
    rotate
        False leaves out the rotation to simple structure, for comparison.

    Returns
    -------
    PopulationPrograms
        None with a reason where nothing comes back.

    Raises
    ------
    ValueError
        Fewer than three pairs, or halves that share a cell.
    """
    _check(pairs)
    n_cells, n_genes = counts.shape
    smallest = min(min(len(first), len(second)) for first, second in pairs)
    if smallest < FEWEST_CELLS:
        reason = f"{n_cells} cells: a half holds {smallest}, fewer than {FEWEST_CELLS}"
        return no_programs(n_cells, n_genes, 0, reason)
    residuals = log_residuals(counts, total_counts)
    cells = scale_to_noise(residuals, generator)
    if cells.n_candidates == 0:
        return no_programs(n_cells, n_genes, 0, "no component stands above permuted cells")
    candidates = rotated_programs(cells.values, cells.n_candidates, float(cells.null_spectrum[0]), rotate=rotate)
    found = replicate(cells.values, candidates, pairs, rotate=rotate)
    weight_floor, activity_floor = _permuted_floors(cells, pairs, generator, rotate=rotate)
    programs = _summarise(found, cells, residuals, counts, (weight_floor, activity_floor))
    kept = (programs.weight_lower > weight_floor) & (programs.lower > activity_floor)
    order = np.argsort(-np.where(kept, programs.explained, -1.0), kind="stable")[: int(kept.sum())]
    programs = programs.only(order)
    programs = programs.only(~_curves(programs))
    if programs.n_programs == 0:
        tried = f"{candidates.shape[1]} candidate{'s' if candidates.shape[1] > 1 else ''}"
        return no_programs(n_cells, n_genes, cells.n_candidates, f"{tried}, none found again in unseen cells")
    return programs


def replicate(
    values: FloatArray,
    candidates: FloatArray,
    pairs: Sequence[tuple[IntArray, IntArray]],
    *,
    rotate: bool = True,
    half_programs: Sequence[FloatArray] | None = None,
) -> Replication:
    """Look for every candidate in every half, and measure it in the cells of the other.

    Parameters
    ----------
    values
        (n_cells, n_genes) noise-scaled.
    candidates
        (n_genes, n_programs) columns of length 1.
    pairs
        Disjoint halves.
    rotate
        As for :func:`find_programs`.
    half_programs
        What each half has found, in the order of the pairs, (n_genes, any number) each; default: the rotated
        components of its cells.
    """
    n_cells, n_programs = values.shape[0], candidates.shape[1]
    shape = (len(pairs), n_programs)
    weights, activity, signal = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    sums, times = np.zeros((n_cells, n_programs)), np.zeros((n_cells, n_programs))
    of_halves: list[FloatArray] = []
    for row, pair in enumerate(pairs):
        found = []
        for side, half in enumerate(pair):
            if half_programs is None:
                inside = values[half] - values[half].mean(axis=0)
                own = rotated_programs(inside, n_programs, 0.5 * _edge(inside), rotate=rotate)
            else:
                own = half_programs[2 * row + side]
            found.append(_matched(own, candidates))
        weights[row] = (found[0] * found[1]).sum(axis=0)
        for half, fitted in zip(pair, found, strict=True):
            unseen = np.setdiff1d(np.arange(n_cells), half)
            other = pair[1] if half is pair[0] else pair[0]
            share, variance = signal_share(values[other], fitted)
            activity[row] += share / 2
            signal[row] += variance / 2
            there = np.abs(fitted).sum(axis=0) > 0
            sums[np.ix_(unseen, there)] += (values[unseen] - values[other].mean(axis=0)) @ fitted[:, there]
            times[np.ix_(unseen, there)] += 1
        of_halves += found
    cross_fitted = np.divide(sums, times, out=np.full_like(sums, np.nan), where=times > 0)
    return Replication(weights, activity, signal, np.stack(of_halves), cross_fitted)


def signal_share(values: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    r"""Return how much of an activity is covariation of its genes, not the noise of each by itself.

    .. math:: 1 - \frac{\sum_g w_g^2 \mathrm{Var}(z_g)}{\mathrm{Var}(\sum_g w_g z_g)}

    With weights that the cells took no part in, the expectation is 0 where genes vary independently: a share
    cannot come from weights that are alike because both rest on the same abundant genes. It is the reliability
    of the activity, the squared correlation with what the cells do beside noise.

    Parameters
    ----------
    values
        (n_cells, n_genes).
    weights
        (n_genes, n_programs).

    Returns
    -------
    share : (n_programs,)
        At most 1; negative values occur by chance. 0 for weights that are all 0.
    variance : (n_programs,)
        The variance that is covariation.

    References
    ----------
    Lord & Novick (1968), Statistical theories of mental test scores (reliability).
    Chen, Roch, Rohe & Yu (2021), Estimating graph dimension with cross-validated eigenvalues.
    """
    variance = (values @ weights).var(axis=0)
    noise = values.var(axis=0) @ weights**2
    share = np.divide(variance - noise, variance, out=np.zeros_like(variance), where=variance > 0)
    return share, variance - noise


def interval_over_pairs(values: FloatArray, level: float = LEVEL) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean, lower and upper of each column over pairs of halves of the same cells.

    Pairs share cells, so that the variance of their mean is larger than that of independent ones: the variance
    over pairs is multiplied by 1/m + 1, for a test set as large as the training set.

    References
    ----------
    Nadeau & Bengio (2003), Inference for the generalization error.
    """
    n_pairs = values.shape[0]
    mean = values.mean(axis=0)
    reach = stats.t.ppf((1 + level) / 2, n_pairs - 1) * values.std(axis=0, ddof=1) * np.sqrt(1 / n_pairs + 1)
    return mean, mean - reach, mean + reach


def _check(pairs: Sequence[tuple[IntArray, IntArray]]) -> None:
    if len(pairs) < FEWEST_PAIRS:
        message = f"programs need {FEWEST_PAIRS} pairs of halves, got {len(pairs)}"
        raise ValueError(message)
    if any(np.intersect1d(first, second).size for first, second in pairs):
        message = "the halves of a pair share cells"
        raise ValueError(message)


def _edge(values: FloatArray) -> float:
    """Largest variance of a component of independent values of variance 1, for many cells and genes."""
    n_cells, n_genes = values.shape
    return float((1 + np.sqrt(n_genes / n_cells)) ** 2)


def _matched(found: FloatArray, candidates: FloatArray) -> FloatArray:
    """Give each candidate its counterpart, one to one by absolute cosine, with its sign; 0 where there is none."""
    matched = np.zeros_like(candidates)
    if found.shape[1]:
        cosine = found.T @ candidates
        rows, columns = linear_sum_assignment(np.abs(cosine), maximize=True)
        signs = np.where(cosine[rows, columns] < 0, -1.0, 1.0)
        matched[:, columns] = found[:, rows] * signs
    return matched


def _permuted_floors(
    cells: ScaledCells, pairs: Sequence[tuple[IntArray, IntArray]], generator: np.random.Generator, *, rotate: bool
) -> tuple[float, float]:
    """Return the highest agreement of weights and signal share that permuted cells reach, by as many candidates."""
    weights, activity = [], []
    for _ in range(N_PERMUTATIONS):
        permuted = generator.permuted(cells.values, axis=0)
        candidates = rotated_programs(permuted, cells.n_candidates, float(cells.null_spectrum[0]), rotate=rotate)
        found = replicate(permuted, candidates, pairs, rotate=rotate)
        weights.append(found.weights.mean(axis=0))
        activity.append(found.activity.mean(axis=0))
    return max(0.0, float(np.concatenate(weights).max())), max(0.0, float(np.concatenate(activity).max()))


def _summarise(
    found: Replication, cells: ScaledCells, residuals: FloatArray, counts: FloatArray, floors: tuple[float, float]
) -> PopulationPrograms:
    mean = found.half_weights.mean(axis=0)
    length = np.sqrt((mean**2).sum(axis=0))
    mean = np.divide(mean, length, out=np.zeros_like(mean), where=length > 0)
    n_top = min(TOP_GENES, mean.shape[0])
    sizes = np.abs(found.half_weights)
    threshold = np.sort(sizes, axis=1)[:, -n_top][:, None, :]
    chosen = (sizes >= threshold) & (sizes > 0)
    weight_mean, weight_lower, _ = interval_over_pairs(found.weights)
    share, lower, upper = interval_over_pairs(found.activity)
    beyond = cells.values.var(axis=0) - counting_variance(counts) / cells.noise**2
    total = max(float(np.maximum(beyond, 0.0).sum()), 1e-300)
    # Half-sample weights catch the cosine's share of the variance along the program's own direction.
    signal = found.signal.mean(axis=0) / np.clip(weight_mean, 0.05, 1.0)
    known = np.nan_to_num(found.cross_fitted - np.nanmean(found.cross_fitted, axis=0))
    deviation = np.maximum(known.std(axis=0), 1e-300)
    return PopulationPrograms(
        weights=mean,
        half_weights=found.half_weights,
        selection_frequency=chosen.mean(axis=0),
        loadings=residuals.T @ (known / deviation) / len(known),
        activity=found.cross_fitted,
        explained=np.clip(signal / total, 0.0, 1.0),
        reproducibility=share,
        lower=lower,
        upper=np.minimum(upper, 1.0),
        floor=np.full(mean.shape[1], floors[1]),
        weight_agreement=weight_mean,
        weight_lower=weight_lower,
        weight_floor=np.full(mean.shape[1], floors[0]),
        noise=cells.noise,
        n_candidates=cells.n_candidates,
    )


def _curves(programs: PopulationPrograms) -> BoolArray:
    """Say which programs are only the curvature of a stronger one: a bent activity of the same genes."""
    n_programs = programs.n_programs
    bent = np.zeros(n_programs, dtype=bool)
    activity = np.nan_to_num(programs.activity - np.nanmean(programs.activity, axis=0)) if n_programs else None
    n_top = min(TOP_GENES, programs.weights.shape[0])
    top = [set(np.argsort(-np.abs(column))[:n_top].tolist()) for column in programs.weights.T]
    for weaker in range(1, n_programs):
        for stronger in range(weaker):
            if bent[stronger] or len(top[weaker] & top[stronger]) < _CURVE_GENES * n_top:
                continue
            assert activity is not None
            basis = np.vander(activity[:, stronger] / max(float(activity[:, stronger].std()), 1e-300), 4)
            fitted = basis @ np.linalg.lstsq(basis, activity[:, weaker], rcond=None)[0]
            explained = fitted.var() / max(float(activity[:, weaker].var()), 1e-300)
            bent[weaker] |= bool(explained > _CURVE * max(float(programs.reproducibility[weaker]), 0.0))
    return bent


def no_programs(n_cells: int, n_genes: int, n_candidates: int, reason: str) -> PopulationPrograms:
    """Return the answer "none" of a population, with its reason."""
    by_half, by_gene, by_cell = (np.zeros((*shape, 0)) for shape in ((0, n_genes), (n_genes,), (n_cells,)))
    nothing = {name: np.zeros(0) for name in _BY_PROGRAM}
    return PopulationPrograms(
        weights=by_gene, half_weights=by_half, selection_frequency=by_gene, loadings=by_gene, activity=by_cell,
        **nothing, noise=np.ones(n_genes), n_candidates=n_candidates, reason=reason,
    )  # fmt: skip
