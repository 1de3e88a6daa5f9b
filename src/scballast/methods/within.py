"""Programs without a latent variable model: what varies most among the cells of one population."""

from __future__ import annotations

from collections.abc import Callable

from scballast.agreement.residuals import pearson_residuals
from scballast.arrays import FloatArray, IntArray
from scballast.methods.cell_view import CellView, score_each_population
from scballast.methods.components import noise_variance, principal_components, shrunk_strength

SMALLEST_POPULATION = 3


def within_pca_scores(view: CellView) -> FloatArray:
    """Score genes by the leading principal components of the log-normalised cells of each population.

    Parameters
    ----------
    view
        The replicate's cells.

    Returns
    -------
    (n_populations, n_genes) float
        :func:`component_strength` of each population's own cells.
    """
    log_counts = view.log_counts
    return _scored(view, "within_pca", lambda cells: component_strength(log_counts[cells].toarray(), view.n_components))


def residual_pca_scores(view: CellView) -> FloatArray:
    """Score genes by the leading principal components of the Pearson residuals of each population's counts.

    Parameters
    ----------
    view
        The replicate's cells.

    Returns
    -------
    (n_populations, n_genes) float
        :func:`component_strength` of the residuals of a null model of each population's own cells.
    """
    counts = view.counts
    return _scored(
        view, "residual_pca", lambda cells: component_strength(pearson_residuals(counts[cells]), view.n_components)
    )


def within_dispersion_scores(view: CellView) -> FloatArray:
    """Score genes by the variance of the Pearson residuals of each population's counts.

    Parameters
    ----------
    view
        The replicate's cells.

    Returns
    -------
    (n_populations, n_genes) float
        Variance, dimensionless; about 1 for a gene that follows the null model.

    References
    ----------
    Lause, Berens & Kobak (2021), Analytic Pearson residuals for normalization of single-cell RNA-seq
    UMI data.
    """
    return _scored(view, "within_dispersion", lambda cells: pearson_residuals(view.counts[cells]).var(axis=0))


def _scored(view: CellView, method: str, score: Callable[[IntArray], FloatArray]) -> FloatArray:
    return score_each_population(view, method, lambda cells, _: score(cells), smallest=SMALLEST_POPULATION)


def component_strength(values: FloatArray, n_components: int | None) -> FloatArray:
    r"""Return the standard deviation that the leading principal components give to each gene.

    .. math:: s_g = \sqrt{\sum_k (\lambda_k - \nu) w_{gk}^2}

    with the component variances :math:`\lambda_k` and unit loadings :math:`w_k`: loadings weighted by
    explained variance, whatever the sign of a component and the rotation of components of equal variance.

    Parameters
    ----------
    values
        (n_cells, n_genes) at least two cells; centred here.
    n_components
        Components, >= 1, at most ``min(n_cells - 1, n_genes)``, with :math:`\nu = 0`. None: those whose variance is
        larger than the largest of permuted genes (:func:`~scballast.methods.components.noise_variance`), which is
        the :math:`\nu` that their variances are shrunk by.

    Returns
    -------
    (n_genes,) float
        In the units of ``values``, >= 0; 0 for all genes where no component is above the noise.
    """
    centred = values - values.mean(axis=0)
    if n_components is not None:
        return shrunk_strength(principal_components(centred, n_components=n_components), 0.0)
    noise = noise_variance(centred)
    return shrunk_strength(principal_components(centred, above=noise), noise)
