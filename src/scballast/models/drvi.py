"""DRVI, the disentangling variational autoencoder of scvi-tools: known by name, and not trained yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scballast.engine.interface import Member, TrainedEnsemble
from scballast.errors import ConfigError
from scballast.models.family import ModelFamily

if TYPE_CHECKING:
    from anndata import AnnData

    from scballast.config.schema import Config
    from scballast.engine.member_cache import MemberCache

NOT_YET = (
    "drvi is not trained by this version of scballast: it is the DRVI of scvi-tools 1.5 or later, which need "
    "Python 3.12 or later. Use model=ldvae, or model=factor_analysis or model=topic for factors of few genes."
)


def _fit(
    adata: AnnData,
    members: Sequence[Member],
    config: Config,
    *,
    batch_key: str | None,
    on_progress: Callable[[int], None] | None = None,
    cache: MemberCache | None = None,
) -> TrainedEnsemble:
    message = f"model.name: {NOT_YET}"
    raise ConfigError(message)


def _methods_text(config: Mapping[str, Any]) -> str:
    return "none: DRVI was asked for, and is not trained by this version."


DRVI = ModelFamily(
    "drvi",
    fit=_fit,
    methods_text=_methods_text,
    linear=False,
    softmax=True,
    likelihood=False,
    conditional=True,
    deterministic=False,
    not_yet=NOT_YET,
)
