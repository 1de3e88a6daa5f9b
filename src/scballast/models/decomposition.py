"""PCA and NMF (scikit-learn) as linear factor models, under the same rankers as the LDVAE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from scballast.engine.interface import FloatArray, HeldoutFit, IntArray, Member

if TYPE_CHECKING:
    from anndata import AnnData

TARGET_SUM = 1e4
# scikit-learn's eigen-solver works on the genes' covariance; above this many genes the randomised one is used.
_MOST_GENES_FOR_EXACT = 5000
_MOST_NMF_ITERATIONS = 500


def fit_decompositions(
    adata: AnnData,
    members: Sequence[Member],
    model: Mapping[str, Any],
    *,
    kind: str,
    batch_key: str | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> DecompositionEnsemble:
    """Decompose the log-normalised counts of each member's cells.

    Parameters
    ----------
    adata
        Raw counts in ``X``.
    members
        Cells and seed of each; ``overrides`` may hold ``n_latent``.
    model
        ``n_latent``: the number of components, at most one less than the member has cells or genes.
    kind
        ``pca`` or ``nmf``.
    batch_key
        For ``pca``: the mean of each category of this column is taken out first, as the intercepts of a
        conditional model take it out.
    on_progress
        Called with the number of members finished since the last call.
    """
    normalised = log_normalise(sparse.csr_matrix(adata.X))
    covariate = None if batch_key is None else adata.obs[batch_key].cat.codes.to_numpy()
    factors: list[tuple[FloatArray, FloatArray]] = []
    for member in members:
        cells = np.arange(adata.n_obs) if member.cells is None else member.cells
        values = normalised[cells]
        n_latent = min(int({**model, **member.overrides}["n_latent"]), values.shape[0] - 1, values.shape[1] - 1)
        if kind == "pca":
            factors.append(_pca(values, n_latent, member.seed, None if covariate is None else covariate[cells]))
        else:
            factors.append(_nmf(values, n_latent, member.seed))
        if on_progress is not None:
            on_progress(1)
    return DecompositionEnsemble(factors)


def methods_text(config: Mapping[str, Any]) -> str:
    """Say for a methods section how the factors were found.

    Parameters
    ----------
    config
        The resolved configuration, nested.
    """
    model = config["model"]
    normalised = f"log1p of the counts per {TARGET_SUM:,.0f} of the genes analysed"
    if model["name"] == "pca":
        return (
            f"PCA (scikit-learn) with {model['n_latent']} components of {normalised}; for 'conditioned' after taking "
            "the mean of each population, crossed with the batch where there is one, out."
        )
    return (
        f"NMF (scikit-learn; Frobenius norm, random start) with {model['n_latent']} components of {normalised}, "
        f"at most {_MOST_NMF_ITERATIONS} iterations."
    )


class DecompositionEnsemble:
    """Decompositions behind the interface of :class:`scballast.engine.interface.TrainedEnsemble`."""

    def __init__(self, factors: Sequence[tuple[FloatArray, FloatArray]]) -> None:
        self.failures: Mapping[int, str] = {}
        self._factors = factors

    def loadings(self, member: int) -> FloatArray:
        """Return components as columns, (n_genes, n_factors)."""
        return self._factors[member][0]

    def posterior_means(self, member: int, cells: IntArray | None = None) -> FloatArray:
        """Return the scores of the member's own cells, (n_cells, n_factors)."""
        if cells is not None:
            message = "a decomposition has scores for its own cells only"
            raise ValueError(message)
        return self._factors[member][1]

    def heldout_fit(self, member: int, cells: IntArray, n_mc_samples: int) -> HeldoutFit:
        """Raise: a decomposition is no model of counts."""
        message = "PCA and NMF have no likelihood of counts"
        raise ValueError(message)

    def history(self, member: int) -> Mapping[str, Sequence[float]]:
        """Return nothing: there are no epochs."""
        return {}

    def n_steps(self, member: int) -> int:
        """Return 0: there are no gradient steps."""
        return 0

    def export(self, member: int) -> Any:
        """Raise: there is no scvi-tools model."""
        message = "PCA and NMF are no scvi-tools models"
        raise ValueError(message)


def log_normalise(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return log1p of counts per 10,000 counts of the genes given, float64."""
    normalised = sparse.csr_matrix(counts, dtype=np.float64, copy=True)
    totals = np.asarray(normalised.sum(axis=1)).ravel()
    factors = np.divide(TARGET_SUM, totals, out=np.zeros_like(totals), where=totals > 0)
    normalised.data = np.log1p(normalised.data * np.repeat(factors, np.diff(normalised.indptr)))
    return normalised


def _pca(
    values: sparse.csr_matrix, n_factors: int, seed: int, covariate: IntArray | None
) -> tuple[FloatArray, FloatArray]:
    from sklearn.decomposition import PCA

    prepared: Any = values
    if covariate is not None:
        prepared = values.toarray()
        for category in np.unique(covariate):
            inside = covariate == category
            prepared[inside] -= prepared[inside].mean(axis=0)
    solver = "covariance_eigh" if values.shape[1] <= _MOST_GENES_FOR_EXACT else "arpack"
    pca = PCA(n_components=n_factors, svd_solver=solver, random_state=seed).fit(prepared)
    return pca.components_.T, np.asarray(pca.transform(prepared))


def _nmf(values: sparse.csr_matrix, n_factors: int, seed: int) -> tuple[FloatArray, FloatArray]:
    import warnings

    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    model = NMF(n_components=n_factors, init="random", random_state=seed, max_iter=_MOST_NMF_ITERATIONS)
    with warnings.catch_warnings():
        # The iterations are a budget: what they leave undone differs by seed: part of the stability measured.
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        scores = model.fit_transform(values)
    return model.components_.T, scores
