"""PCA and NMF (scikit-learn) as linear factor models, under the same rankers as the LDVAE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

from scballast.arrays import FloatArray, IntArray
from scballast.engine.interface import HeldoutFit, Member
from scballast.errors import TrainingError, require
from scballast.models.family import Fit, FitRequest, ModelFamily

TARGET_SUM = 1e4
# scikit-learn's eigen-solver works on the genes' covariance; above this many genes the randomised one is used.
_MOST_GENES_FOR_EXACT = 5000


@dataclass(frozen=True)
class Cells:
    """What is decomposed: one member's cells.

    Attributes
    ----------
    values
        (n_cells, n_genes) counts, log-normalised or not.
    n_factors
        How many factors are wanted.
    seed
        The member's.
    covariate
        (n_cells,) codes of what the factors are conditioned on; None: nothing.
    """

    values: sparse.csr_matrix
    n_factors: int
    seed: int
    covariate: IntArray | None


# To loadings and scores; it raises TrainingError where these cells have no such factors.
Decompose = Callable[[Cells], tuple[FloatArray, FloatArray]]


def fitted_by(decompose: Decompose, *, of_counts: bool = False) -> Fit:
    """Return a training that decomposes each member's cells.

    ``model.n_latent`` is the number of components, at most one less than the member has cells or genes; a member's
    ``overrides`` may hold another.

    Parameters
    ----------
    decompose
        Of the cells of one member.
    of_counts
        Whether it is given the counts themselves and not :func:`log_normalise` of them.
    """

    def fit(request: FitRequest) -> DecompositionEnsemble:
        adata, config = request.adata, request.config
        counts = sparse.csr_matrix(adata.X, dtype=np.float64)
        everything = counts if of_counts else log_normalise(counts)
        covariate = None if request.batch_key is None else adata.obs[request.batch_key].cat.codes.to_numpy()

        def decomposed(member: Member, cells: IntArray) -> Factors:
            values = everything[cells]
            wanted = int(member.overrides.get("n_latent", config.model.n_latent))
            n_latent = min(wanted, values.shape[0] - 1, values.shape[1] - 1)
            of_cells = None if covariate is None else covariate[cells]
            return Factors(*decompose(Cells(values, n_latent, member.seed, of_cells)))

        return fit_each(request, decomposed)

    return fit


@dataclass(frozen=True)
class Factors:
    """What is left of one member.

    Attributes
    ----------
    loadings, scores
        (n_genes, n_factors), and of its own cells (n_cells, n_factors).
    history, n_steps
        Training curves by epoch, and gradient steps; of what has no epochs, none.
    """

    loadings: FloatArray
    scores: FloatArray
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    n_steps: int = 0


def fit_each(
    request: FitRequest, fit: Callable[[Member, IntArray], Factors], because: str = ". {}"
) -> DecompositionEnsemble:
    """Fit one member after another.

    Parameters
    ----------
    request
        Whose members.
    fit
        From a member and its cells to its factors; ``TrainingError`` where they have none.
    because
        How the first failure is told where every member fails.
    """
    factors: dict[int, Factors] = {}
    failures: dict[int, str] = {}
    for position, member in enumerate(request.members):
        try:
            cells = np.arange(request.adata.n_obs) if member.cells is None else member.cells
            factors[position] = fit(member, cells)
        except TrainingError as error:
            failures[position] = str(error)
        if request.on_progress is not None:
            request.on_progress(1)
    if not factors:
        none = f"{request.config.model.name}: not one of {len(request.members)} models has a result"
        raise TrainingError(none + because.format(failures[0]))
    return DecompositionEnsemble(factors, failures)


@dataclass(frozen=True, eq=False)
class DecompositionEnsemble:
    """Decompositions behind the interface of :class:`scballast.engine.interface.TrainedEnsemble`."""

    factors: Mapping[int, Factors]
    failures: Mapping[int, str]

    def loadings(self, member: int) -> FloatArray:
        """Return components as columns, (n_genes, n_factors)."""
        return self.factors[member].loadings

    def posterior_means(self, member: int, cells: IntArray | None = None) -> FloatArray:
        """Return the scores of the member's own cells, (n_cells, n_factors)."""
        require(cells is None, "a decomposition has scores for its own cells only", ValueError)
        return self.factors[member].scores

    def heldout_fit(self, member: int, cells: IntArray, n_mc_samples: int) -> HeldoutFit:
        """Raise: a decomposition is no model of counts."""
        message = "a decomposition has no likelihood of counts"
        raise ValueError(message)

    def history(self, member: int) -> Mapping[str, Sequence[float]]:
        """Return the training curves, by epoch; none where there are no epochs."""
        return self.factors[member].history

    def n_steps(self, member: int) -> int:
        """Return the number of gradient steps; 0 where there are none."""
        return self.factors[member].n_steps

    def export(self, member: int) -> Any:
        """Raise: there is no scvi-tools model."""
        message = "a decomposition is no scvi-tools model"
        raise ValueError(message)


def log_normalise(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return log1p of counts per 10,000 counts of the genes given, float64."""
    normalised = sparse.csr_matrix(counts, dtype=np.float64, copy=True)
    totals = np.asarray(normalised.sum(axis=1)).ravel()
    factors = np.divide(TARGET_SUM, totals, out=np.zeros_like(totals), where=totals > 0)
    normalised.data = np.log1p(normalised.data * np.repeat(factors, np.diff(normalised.indptr)))
    return normalised


def _pca(cells: Cells) -> tuple[FloatArray, FloatArray]:
    """Decompose; the mean of each category of the covariate is taken out first, as a model's intercepts take it out."""
    from sklearn.decomposition import PCA

    prepared: Any = cells.values
    if cells.covariate is not None:
        prepared = cells.values.toarray()
        for category in np.unique(cells.covariate):
            inside = cells.covariate == category
            prepared[inside] -= prepared[inside].mean(axis=0)
    solver = "covariance_eigh" if prepared.shape[1] <= _MOST_GENES_FOR_EXACT else "arpack"
    pca = PCA(n_components=cells.n_factors, svd_solver=solver, random_state=cells.seed).fit(prepared)
    return pca.components_.T, np.asarray(pca.transform(prepared))


def _nmf(cells: Cells) -> tuple[FloatArray, FloatArray]:  # not conditional: the experiment gives it no covariate
    import warnings

    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    model = NMF(n_components=cells.n_factors, init="random", random_state=cells.seed, max_iter=500)
    with warnings.catch_warnings():
        # The iterations are a budget: what they leave undone differs by seed: part of the stability measured.
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        scores = model.fit_transform(cells.values)
    return model.components_.T, scores


def _methods_text(kind: str) -> Callable[[Mapping[str, Any]], str]:
    def text(config: Mapping[str, Any]) -> str:
        return (
            f"{kind} (scikit-learn) with {config['model']['n_latent']} components of the natural log of 1 + counts per "
            f"{TARGET_SUM:,.0f} of the analysed genes."
        )

    return text


PCA = ModelFamily(
    "pca",
    fit=fitted_by(_pca),
    methods_text=_methods_text("principal component analysis"),
    conditional=True,
    deterministic=True,
)
NMF = ModelFamily(
    "nmf",
    fit=fitted_by(_nmf),
    methods_text=_methods_text("non-negative matrix factorisation from a random start"),
)
