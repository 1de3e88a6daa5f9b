"""From the cells of one population to candidate programs: log residuals, noise, components, simple structure.

Single components are not identified: any rotation of a space of components fits the cells as well. What picks one
is simple structure, few genes of large weight, which is what a program is. Its weights are then refined with the
other genes held back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.special import gammaln

from scballast.agreement.program_weights import sparse_weights
from scballast.arrays import FloatArray

MOST_COMPONENTS = 12
OVERDISPERSION = 0.2  # of a usual gene within a population; sets the pseudocount 1/(4φ) of the logarithm
SMALL_GRAM = 800  # cells or genes up to which all eigenvalues cost less than iterating
NOISE_STEPS = 3
SMALLEST_NOISE_SHARE = 0.2
FEWEST_CELLS_WITH_GENE, SMALLEST_CELL_SHARE = 5, 0.01
_TOLERANCE = 1e-3  # of the rotation, whose weights are refined afterwards
_MARGIN = 1.05  # how far a component must stand above its like after permutation to become a candidate


@dataclass(frozen=True)
class ScaledCells:
    """The cells of one population, every gene in units of its own noise.

    Attributes
    ----------
    values
        (n_cells, n_genes) log residuals divided by ``noise``; columns have mean 0.
    noise
        (n_genes,) standard deviation of each gene's log residuals that no candidate component explains.
    null_spectrum
        (n_components,) mean leading variances after each gene's cells were permuted.
    n_candidates
        Leading components that stand above the permuted ones.
    """

    values: FloatArray
    noise: FloatArray
    null_spectrum: FloatArray
    n_candidates: int


def log_residuals(counts: FloatArray, total_counts: FloatArray) -> FloatArray:
    r"""Return log counts at equal depth, less what the depth of a cell still predicts.

    .. math:: y_{ig} = \log\!\left(\frac{x_{ig}}{s_i} + \frac{1}{4\varphi}\right)

    with size factors of mean 1 and φ = 0.2, then regressed gene by gene on the log depth and its square. On the
    log scale a program that multiplies rates is one component; as counts it would be several.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts.
    total_counts
        (n_cells,) counts per cell, > 0.

    Returns
    -------
    (n_cells, n_genes) float64
        Natural-log units; columns have mean 0.

    References
    ----------
    Ahlmann-Eltze & Huber (2023), Comparison of transformations for single-cell RNA-seq data.
    """
    depth = np.asarray(total_counts, dtype=np.float64)
    logs = np.log(counts / (depth / depth.mean())[:, None] + 1 / (4 * OVERDISPERSION))
    log_depth = np.log(depth) - np.log(depth).mean()
    basis, _ = np.linalg.qr(np.column_stack([np.ones_like(log_depth), log_depth, log_depth**2]))
    return np.asarray(logs - basis @ (basis.T @ logs))


def without_rare_genes(residuals: FloatArray, counts: FloatArray) -> FloatArray:
    """Return residuals with 0 for the genes that too few of the cells have to come back in others.

    In units of its own noise a gene that one cell has is as loud as any, and one foreign cell brings dozens of them:
    components of single cells would take the place of programs.

    Parameters
    ----------
    residuals, counts
        (n_cells, n_genes); a gene stays that 5 of the cells or more have, and 1% of them.
    """
    seen = (counts > 0).sum(axis=0)
    fewest = max(FEWEST_CELLS_WITH_GENE, SMALLEST_CELL_SHARE * len(counts))
    return np.where(seen >= fewest, residuals, 0.0)


def counting_variance(counts: FloatArray) -> FloatArray:
    """Return the variance that Poisson counting alone gives to each gene's log counts at its mean.

    Parameters
    ----------
    counts
        (n_cells, n_genes) raw counts.

    Returns
    -------
    (n_genes,) float
        In the units of :func:`log_residuals`, squared; summed exactly up to a mean of 50, 1/mean-like above.
    """
    mean = counts.mean(axis=0)
    pseudocount = 1 / (4 * OVERDISPERSION)
    grid = np.concatenate([[0.0], np.geomspace(1e-3, 50.0, 60)])
    numbers = np.arange(120.0)
    log_rates = np.log(np.maximum(grid, 1e-300))[:, None]
    weights = np.exp(numbers * log_rates - grid[:, None] - gammaln(numbers + 1))  # (mean, count)
    logs = np.log(numbers + pseudocount)
    variances = weights @ logs**2 - (weights @ logs) ** 2
    delta = mean / (mean + pseudocount) ** 2
    return np.asarray(np.where(mean <= grid[-1], np.interp(mean, grid, variances), delta))


def scale_to_noise(residuals: FloatArray, generator: np.random.Generator) -> ScaledCells:
    """Divide every gene by its noise, and count the components that stand above those of permuted cells.

    The noise of a gene is its variance less what the candidates explain, found in a few rounds as in factor
    analysis: divided by its whole standard deviation a program's gene would lose weight for being in it.
    A component is a candidate if its variance exceeds that of the component of the same rank after the cells
    of each gene are permuted. Candidates may be too many; replication decides.

    Parameters
    ----------
    residuals
        (n_cells, n_genes) with column means 0.
    generator
        For the permutations.

    References
    ----------
    Horn (1965), A rationale and test for the number of factors in factor analysis.
    """
    variance = residuals.var(axis=0)
    varies = variance > 1e-12
    noise = np.where(varies, variance, 1.0)
    for step in range(NOISE_STEPS):
        values = residuals / np.sqrt(noise)
        spectrum, components = leading_components(values, MOST_COMPONENTS)
        null = permuted_spectrum(values, generator, 1 if step < NOISE_STEPS - 1 else 2)
        above = spectrum > _MARGIN * null
        n_candidates = len(above) if above.all() else int(np.argmin(above))
        if step == NOISE_STEPS - 1 or n_candidates == 0:
            break
        signal = np.maximum(spectrum[:n_candidates] - null[0] * 0.8, 0.0)
        explained = noise * (components[:, :n_candidates] ** 2 @ signal)
        noise = np.where(varies, np.maximum(variance - explained, SMALLEST_NOISE_SHARE * variance), 1.0)
    return ScaledCells(values, np.sqrt(noise), null, n_candidates)


def leading_components(values: FloatArray, n_components: int) -> tuple[FloatArray, FloatArray]:
    """Return the leading principal components of centred values.

    Parameters
    ----------
    values
        (n_cells, n_genes) with column means 0.
    n_components
        At most ``min(n_cells, n_genes) - 1`` are returned.

    Returns
    -------
    variances : (n_components,)
        In descending order.
    components : (n_genes, n_components)
        Orthonormal columns.
    """
    n_cells, n_genes = values.shape
    n_components = min(n_components, min(n_cells, n_genes) - 1)
    if n_components < 1:
        return np.zeros(0), np.zeros((n_genes, 0))
    if min(n_cells, n_genes) > SMALL_GRAM:
        return _iterated(values, n_components)
    by_cells = n_cells <= n_genes
    gram = values @ values.T if by_cells else values.T @ values
    size = gram.shape[0]
    squares, vectors = linalg.eigh(gram, subset_by_index=[size - n_components, size - 1])
    squares, vectors = np.maximum(squares[::-1], 0.0), vectors[:, ::-1]
    if by_cells:
        vectors = values.T @ vectors
        vectors /= np.maximum(np.sqrt((vectors**2).sum(axis=0)), 1e-300)
    return squares / n_cells, vectors


def _iterated(values: FloatArray, n_components: int, n_rounds: int = 12) -> tuple[FloatArray, FloatArray]:
    """Subspace iteration with spare columns; the start is fixed, for the result does not depend on it."""
    start = np.random.default_rng(0).standard_normal((values.shape[1], n_components + 10))
    basis, _ = np.linalg.qr(start)
    for _ in range(n_rounds):
        basis, _ = np.linalg.qr(values.T @ (values @ basis))
    _, singular, rotation = np.linalg.svd(values @ basis, full_matrices=False)
    variances = singular[:n_components] ** 2 / values.shape[0]
    return variances, basis @ rotation[:n_components].T


def permuted_spectrum(values: FloatArray, generator: np.random.Generator, n_permutations: int) -> FloatArray:
    """Return the mean leading variances, (n_components,), when each gene's values are permuted over cells."""
    spectra = [
        leading_components(generator.permuted(values, axis=0), MOST_COMPONENTS)[0] for _ in range(n_permutations)
    ]
    return np.asarray(np.mean(spectra, axis=0))


def varimax(loadings: FloatArray, n_sweeps: int = 50, tolerance: float = 1e-5) -> FloatArray:
    """Rotate loadings to simple structure: few large weights in each column.

    Plane by plane with Kaiser's exact angle, so that no step lowers the criterion; the usual iteration by singular
    value decompositions overshoots where two columns are equally strong, and stops unrotated.

    Parameters
    ----------
    loadings
        (n_genes, n_factors).
    n_sweeps
        At most so many passes over the planes.
    tolerance
        Relative gain of the criterion at which passes end: on noise it creeps for hundreds of them.

    Returns
    -------
    (n_genes, n_factors)
        The rotated loadings.

    References
    ----------
    Kaiser (1958), The varimax criterion for analytic rotation in factor analysis.
    Rohe & Zeng (2023), Vintage factor analysis with varimax performs statistical inference.
    """
    rotated = np.array(loadings.T, dtype=np.float64, order="C")  # (factor, gene)
    n_factors, n_genes = rotated.shape
    for _ in range(n_sweeps):
        before = float((rotated**2).var(axis=1).sum())
        for first in range(n_factors - 1):
            for second in range(first + 1, n_factors):
                x, y = rotated[first], rotated[second]
                u, v = (x + y) * (x - y), 2 * x * y
                u_sum, v_sum = u.sum(), v.sum()
                sine = 2 * (u @ v) - 2 * u_sum * v_sum / n_genes
                cosine = u @ u - v @ v - (u_sum**2 - v_sum**2) / n_genes
                angle = float(np.arctan2(sine, cosine)) / 4
                cos, sin = np.cos(angle), np.sin(angle)
                rotated[first], rotated[second] = cos * x + sin * y, cos * y - sin * x
        if float((rotated**2).var(axis=1).sum()) <= before * (1 + tolerance):
            break
    return rotated.T.copy()


def join_correlated(loadings: FloatArray, *, most: float = 0.7) -> FloatArray:
    """Join rotated factors whose activities go together: they are one program, not two.

    A program that bends, or whose genes follow it one after another, fills more than one dimension; rotation then
    parts its genes. Two factors are joined while the correlation of their
    activities without noise exceeds ``most``. Genes weigh with the cube of their loadings: of what a gene has of
    another program little is left.

    Parameters
    ----------
    loadings
        (n_genes, n_factors) of uncorrelated factors of variance 1.
    most
        Largest absolute correlation of two programs of one population.

    Returns
    -------
    (n_genes, n_programs)
        Columns of length 1; of joined factors, the direction in their span with the largest variance.
    """
    columns = [loadings[:, k] / max(float(np.linalg.norm(loadings[:, k])), 1e-300) for k in range(loadings.shape[1])]
    while len(columns) > 1:
        activity = loadings.T @ (np.column_stack(columns) ** 3)  # (factor, program)
        covariance = activity.T @ activity
        deviation = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
        correlation = np.abs(covariance / np.outer(deviation, deviation))
        np.fill_diagonal(correlation, 0.0)
        first, second = sorted(int(i) for i in np.unravel_index(int(correlation.argmax()), correlation.shape))
        if correlation[first, second] <= most:
            break
        span, _ = np.linalg.qr(np.column_stack([columns[first], columns[second]]))
        inside = loadings.T @ span
        _, vectors = np.linalg.eigh(inside.T @ inside)
        columns[first] = span @ vectors[:, -1]
        del columns[second]
    return np.column_stack(columns) if columns else loadings


def rotated_programs(values: FloatArray, n_components: int, null_variance: float) -> FloatArray:
    """Return the programs of some cells: leading components, rotated to simple structure, joined, and made sparse.

    Parameters
    ----------
    values
        (n_cells, n_genes) noise-scaled, with column means 0.
    n_components
        Components to rotate.
    null_variance
        Variance that a component without signal has; components weigh in the rotation with what exceeds it.

    Returns
    -------
    (n_genes, n_programs)
        Columns of length 1, the weights of the larger cubes positive.
    """
    spectrum, components = leading_components(values, n_components)
    if len(spectrum) == 0:
        return components
    signal = np.maximum(spectrum - min(0.8 * null_variance, 0.9 * float(spectrum[-1])), 1e-3)
    rotated = join_correlated(varimax(components * np.sqrt(signal), tolerance=_TOLERANCE))
    components = sparse_weights(values, rotated)
    signs = np.sign((components**3).sum(axis=0))
    return components * np.where(signs == 0, 1.0, signs)
