"""What the experiment needs to know of a kind of model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scballast.engine.interface import Member, TrainedEnsemble

if TYPE_CHECKING:
    from anndata import AnnData

    from scballast.config.schema import Config
    from scballast.engine.member_cache import MemberCache


@dataclass(frozen=True)
class FitRequest:
    """What to train.

    Attributes
    ----------
    adata
        Raw counts in ``X``.
    members
        The models: their cells, seeds and own settings.
    config
        ``model``, ``train`` and ``device`` are used.
    batch_key
        Column of ``adata.obs`` that the models are conditioned on.
    on_progress
        Called with the number of members finished since the last call.
    cache
        Where the engine looks up and keeps trained members; what trains elsewhere makes no use of it.
    """

    adata: AnnData
    members: Sequence[Member]
    config: Config
    batch_key: str | None = None
    on_progress: Callable[[int], None] | None = None
    cache: MemberCache | None = None


Fit = Callable[[FitRequest], TrainedEnsemble]


@dataclass(frozen=True)
class ModelFamily:
    """A kind of model.

    Attributes
    ----------
    name
        As in ``model.name``.
    fit
        How it is trained.
    methods_text
        From the resolved configuration, nested values as YAML holds them, to what was done, in sentences for a
        methods section.
    linear
        Whether it has loadings.
    softmax
        Whether its loadings act on the logarithm of expression shares.
    likelihood
        Whether it is a model of counts, with held-out fit and its own differential expression.
    conditional
        Whether it can be trained conditioned on a covariate.
    deterministic
        Whether the cells alone decide the result.
    epochs
        Whether it is trained by gradient steps, in epochs.
    simplex
        Whether its scores sum to one whatever the settings; with a likelihood, ``latent_distribution=ln`` says so.
    latent_distributions
        Values of ``model.latent_distribution`` that have a meaning for it.
    gene_likelihoods
        Values of ``model.gene_likelihood`` that it can be trained with; none: all, or the key has no meaning for it.
    settings
        From the configuration, what a member of an ensemble may have for itself; None: models of different settings
        are not trained together.
    obstacle
        Why it cannot be trained here and what it needs; None: it can.
    seconds_per_cell
        Of training, in an epoch if it has such, of 2,000 genes on two cores: what a plan says where no run has been
        timed. NaN: nothing.
    dense_bytes
        Bytes that training holds for each cell and gene of a replicate, where it makes all its cells dense.
    """

    name: str
    fit: Fit
    methods_text: Callable[[Mapping[str, Any]], str]
    linear: bool = True
    softmax: bool = False
    likelihood: bool = False
    conditional: bool = False
    deterministic: bool = False
    epochs: bool = False
    simplex: bool = False
    latent_distributions: tuple[str, ...] = ("normal",)
    gene_likelihoods: tuple[str, ...] = ()
    settings: Callable[[Config], Mapping[str, Any]] | None = None
    obstacle: str | None = None
    seconds_per_cell: float = math.nan
    dense_bytes: float = 0.0
