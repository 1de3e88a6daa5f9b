"""DRVI, the disentangling variational autoencoder of scvi-tools: every latent dimension has a decoder of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np

from scballast.arrays import FloatArray, IntArray
from scballast.engine.interface import HeldoutFit, TrainedEnsemble
from scballast.engine.scvi_compat import quiet_scvi
from scballast.models.family import FitRequest, ModelFamily
from scballast.models.scvi_tools import settings_of, training_text
from scballast.models.scvi_training import SequentialEnsemble, fit_sequential
from scballast.threads import one_thread

_FIRST_VERSION = (1, 5)


class TraversedEnsemble(SequentialEnsemble):
    """DRVI models, whose loadings are the gene scores of the two directions of each latent dimension."""

    def loadings(self, member: int) -> FloatArray:
        """Return :func:`direction_loadings` over the member's own cells, (n_genes, n_latent)."""
        with one_thread():
            return direction_loadings(self.export(member), self.posterior_means(member))

    def heldout_fit(self, member: int, cells: IntArray, n_mc_samples: int) -> HeldoutFit:
        """Return importance-weighted fit on ``cells``."""
        with one_thread():
            return super().heldout_fit(member, cells, n_mc_samples)


def direction_loadings(model: Any, means: FloatArray) -> FloatArray:
    """Return the gene scores of each dimension's upper direction less those of its lower one.

    The scores are scvi-tools' ``OOD_combined``: the dimension is traversed from its lowest cell to its highest, and the
    log fold change that a half of it (above 0, or below) can give the gene while the other dimensions give it least is
    multiplied by that while they give it most. Averaged over batches (100 of them, where there are more).

    Parameters
    ----------
    model
        A trained ``scvi.external.DRVI``.
    means
        (n_cells, n_latent) posterior means of the cells whose range is traversed.

    Returns
    -------
    (n_genes, n_latent) float
        Above 0: genes of the direction in which the dimension rises; below 0: of that in which it falls.

    References
    ----------
    Moinfar & Theis (2024), Unsupervised deep disentangled representation of single-cell omics.
    """
    import anndata
    import pandas as pd

    ends = pd.DataFrame({"min": means.min(axis=0), "max": means.max(axis=0)})
    embedded = anndata.AnnData(means.astype(np.float32), var=ends.set_index(ends.index.astype(str)))
    with quiet_scvi(), _numpy_state():
        effects = model.get_effect_of_splits_out_of_distribution(embedded, directional=True, seed=0)
    up, down = np.asarray(effects["combined"], dtype=np.float64)  # each (dimension, gene)
    return np.asarray(up - down).T


@contextmanager
def _numpy_state() -> Iterator[None]:
    """Put numpy's global generator back: scvi-tools chooses the batches of a traversal by it."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _fit(request: FitRequest) -> TrainedEnsemble:
    model, train = settings_of(request.config)
    if model["gene_likelihood"] == "nb":
        model["gene_likelihood"] = "pnb"  # the same distribution, from the logarithm of its mean
    # On two busy cores, two threads took 12 times the processor time of one for a step of 600 genes.
    with one_thread():
        return fit_sequential(request, model, train, kind="DRVI", ensemble=TraversedEnsemble)


def _obstacle() -> str | None:
    installed = version("scvi-tools")
    if tuple(int(part) for part in installed.split(".")[:2]) >= _FIRST_VERSION:
        return None
    return (
        f"drvi is the DRVI of scvi-tools 1.5 or later, which need Python 3.12 or later; here is scvi-tools "
        f"{installed}. Use model=ldvae, or model=factor_analysis or model=topic for factors of few genes."
    )


def _methods_text(config: Mapping[str, Any]) -> str:
    model = config["model"]
    return (
        f"DRVI (scvi-tools) with {model['n_latent']} latent dimensions, each with a decoder of its own, pooled by the "
        f"logarithm of the sum of exponentials, and {model['gene_likelihood']} likelihood, "
        f"{training_text(config['train'])}; loadings are the combined out-of-distribution scores of genes in the upper "
        "direction of each dimension less those in its lower one."
    )


DRVI = ModelFamily(
    "drvi",
    fit=_fit,
    methods_text=_methods_text,
    likelihood=True,
    conditional=True,
    epochs=True,
    obstacle=_obstacle(),
)
