"""The models of an experiment: one registry line each."""

from __future__ import annotations

from scballast.config.schema import Config
from scballast.config.values import unknown_key
from scballast.errors import ConfigError, require
from scballast.models.consensus_nmf import CNMF
from scballast.models.decomposition import NMF, PCA
from scballast.models.drvi import DRVI
from scballast.models.factor_analysis import FACTOR_ANALYSIS
from scballast.models.family import ModelFamily
from scballast.models.glm_pca import GLMPCA
from scballast.models.scvi_tools import LDVAE, SCVI
from scballast.models.topic import TOPIC

FAMILIES: dict[str, ModelFamily] = {
    family.name: family for family in (LDVAE, SCVI, PCA, NMF, FACTOR_ANALYSIS, CNMF, GLMPCA, TOPIC, DRVI)
}


def family_of(config: Config) -> ModelFamily:
    """Return the family that ``model.name`` names, after a check that the settings have a meaning for it.

    Raises
    ------
    ConfigError
        There is no such family, it cannot be trained yet or from disk, or the latent distribution or the likelihood
        has no meaning for it.
    """
    model = config.model
    if model.name not in FAMILIES:
        key = "model.name"
        raise unknown_key(key, model.name, tuple(FAMILIES))
    family = FAMILIES[model.name]
    require(family.obstacle is None, f"model.name: {family.obstacle}")
    if config.train.data == "stream" and family.settings is None:
        message = (
            f"train.data: stream is for models of the ensemble, ldvae and scvi; model.name={model.name} needs all "
            "counts at once. Use train.data=memory."
        )
        raise ConfigError(message)
    for key, allowed in (
        ("latent_distribution", family.latent_distributions),
        ("gene_likelihood", family.gene_likelihoods),
    ):
        value = getattr(model, key)
        if allowed and value not in allowed:
            message = f"model.{key}: {value} has no meaning for model.name={model.name}; use {' or '.join(allowed)}."
            raise ConfigError(message)
    return family
