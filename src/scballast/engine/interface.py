"""The one interface behind which models are trained: members in, a trained ensemble out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from scballast.arrays import FloatArray, IntArray

if TYPE_CHECKING:
    from scvi.model import SCVI, LinearSCVI


@dataclass(frozen=True)
class Member:
    """One copy of the model: the cells it is trained on, its seed, and its own settings.

    Parameters
    ----------
    cells
        (n,) row positions in the AnnData, or None for all cells.
    seed
        Rules the member's initial weights, train/validation split, minibatch order and noise.
    overrides
        Settings that differ from the ensemble's ``model`` and ``train``, by their names there.
    """

    cells: IntArray | None = None
    seed: int = 0
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HeldoutFit:
    """Fit on cells that the member was not trained on.

    Attributes
    ----------
    nll
        (n,) importance-weighted estimate of the negative marginal log-likelihood per cell, in nats.
    elbo
        (n,) negative evidence lower bound per cell (a loss: lower is better), in nats.
    """

    nll: FloatArray
    elbo: FloatArray


class TrainedEnsemble(Protocol):
    """What the experiment needs of all members at once; ``member`` is the position in the request."""

    @property
    def failures(self) -> Mapping[int, str]:
        """Members without a result, and why (a loss that stopped being finite); the others are untouched."""

    def loadings(self, member: int) -> FloatArray:
        """(n_genes, n_latent) ``LinearSCVI.get_loadings()``."""

    def posterior_means(self, member: int, cells: IntArray | None = None) -> FloatArray:
        """(n, n_latent) posterior means (after softmax for ``ln``) of ``cells``; default the member's own."""

    def heldout_fit(self, member: int, cells: IntArray, n_mc_samples: int) -> HeldoutFit:
        """Fit of one member on ``cells``, positions in the AnnData."""

    def history(self, member: int) -> Mapping[str, Sequence[float]]:
        """Curves by epoch: ``elbo_train``, ``reconstruction_loss_train``, ``kl_local_train``, ``kl_weight``."""

    def n_steps(self, member: int) -> int:
        """Gradient steps that the member has seen."""

    def export(self, member: int) -> LinearSCVI | SCVI:
        """Return a genuine scvi-tools model that can be saved, loaded and queried."""
