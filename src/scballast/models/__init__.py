"""The models of an experiment: one registry line each, all trained through one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from scballast.config.schema import Config
from scballast.engine.interface import Member, TrainedEnsemble

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class ModelFamily:
    """What the experiment needs to know of a kind of model.

    Attributes
    ----------
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
    own_de
        Name of the ranking by its own differential expression.
    """

    name: str
    linear: bool
    softmax: bool
    likelihood: bool
    conditional: bool
    deterministic: bool
    own_de: str | None = None


FAMILIES: dict[str, ModelFamily] = {
    family.name: family
    for family in (
        ModelFamily(
            "ldvae",
            linear=True,
            softmax=True,
            likelihood=True,
            conditional=True,
            deterministic=False,
            own_de="ldvae_de",
        ),
        ModelFamily(
            "scvi",
            linear=False,
            softmax=True,
            likelihood=True,
            conditional=True,
            deterministic=False,
            own_de="scvi_de",
        ),
        ModelFamily("pca", linear=True, softmax=False, likelihood=False, conditional=True, deterministic=True),
        ModelFamily("nmf", linear=True, softmax=False, likelihood=False, conditional=False, deterministic=False),
    )
}


def fit_members(
    name: str,
    adata: AnnData,
    members: Sequence[Member],
    config: Config,
    *,
    batch_key: str | None,
    on_progress: Callable[[int], None] | None = None,
) -> TrainedEnsemble:
    """Train members of one kind of model, by the engine that the configuration names.

    Parameters
    ----------
    name
        A name in :data:`FAMILIES`.
    adata
        Raw counts in ``X``.
    members
        What to train.
    config
        ``model``, ``train`` and ``device`` are used.
    batch_key
        Column of ``adata.obs`` that the model is conditioned on.
    on_progress
        Called with the number of members finished since the last call.
    """
    model: dict[str, Any] = asdict(config.model)
    train: dict[str, Any] = asdict(config.train)
    del model["name"]
    engine = train.pop("engine")
    if name in ("pca", "nmf"):
        from scballast.models.decomposition import fit_decompositions

        return fit_decompositions(adata, members, model, kind=name, batch_key=batch_key, on_progress=on_progress)
    if name == "ldvae" and engine == "ensemble":
        from scballast.engine import fit_ensemble

        return fit_ensemble(
            adata,
            members,
            model,
            train,
            batch_key=batch_key,
            device=config.device,
            on_progress=on_progress,
        )
    from scballast.models.scvi_training import fit_sequential

    return fit_sequential(
        adata,
        members,
        model,
        train,
        linear=name == "ldvae",
        batch_key=batch_key,
        device=config.device,
        on_progress=on_progress,
    )
