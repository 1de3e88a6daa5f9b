"""Topics of scvi-tools' AmortizedLDA: cells as mixtures of gene distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.arrays import FloatArray, IntArray
from scballast.engine.interface import Member, TrainedEnsemble
from scballast.errors import TrainingError
from scballast.models.decomposition import Factors, fit_each
from scballast.models.family import FitRequest, ModelFamily
from scballast.threads import one_thread

if TYPE_CHECKING:
    from anndata import AnnData


TOPIC_LEARNING_RATE = 10.0
"""Times ``train.lr``: the topics are free parameters that start alike, not weights of the encoder."""
# scvi-tools averages 5,000 draws at once, of gigabytes for many genes; these are drawn in turns.
_DRAWS, _AT_ONCE = 1000, 50


def _fit(request: FitRequest) -> TrainedEnsemble:
    from scballast.engine.ensemble import choose_device
    from scballast.engine.scvi_compat import quiet_scvi

    config = request.config  # not the data's batches, of which AmortizedLDA knows nothing
    accelerator = choose_device(config.device).type

    def fitted(member: Member, cells: IntArray) -> Factors:
        settings = {**asdict(config.model), **asdict(config.train), **member.overrides}
        # Steps of small matrices: on two busy cores, two threads took 17 times the processor time of one.
        with quiet_scvi(), one_thread():
            model, curves = _trained(request.adata[cells].copy(), settings, member.seed, accelerator)
            return Factors(*_read_out(model, member.seed), curves, int(model.trainer.global_step))

    return fit_each(request, fitted, because=": {}. Lower train.lr.")


def _trained(
    adata: AnnData, given: Mapping[str, Any], seed: int, accelerator: str
) -> tuple[Any, Mapping[str, Sequence[float]]]:
    """Return a trained model and its curves; TrainingError: the loss or the parameters became infinite."""
    import scvi

    from scballast.models.scvi_training import fit, in_epochs, kl_weights

    scvi.settings.seed = seed
    adata.obs_names_make_unique()
    scvi.model.AmortizedLDA.setup_anndata(adata)
    model = scvi.model.AmortizedLDA(adata, n_topics=given["n_latent"], n_hidden=given["n_hidden"])
    settings = in_epochs(given, adata.n_obs)
    failed = f"the loss became infinite (lr={settings['lr']})"
    try:
        n_train = fit(model, settings, accelerator, {"optim": _optimiser(settings)})
    except ValueError as error:
        if "satisfy the constraint" not in str(error):  # what Pyro says of parameters without a value
            raise
        raise TrainingError(failed) from error
    # Of a cell, as scvi-tools gives it for its other models; here it is of all that are trained on.
    losses = (model.history["elbo_train"].iloc[:, 0].astype(float) / n_train).tolist()
    if not np.isfinite(losses[-1]):
        raise TrainingError(failed)
    return model, {"elbo_train": losses, "kl_weight": kl_weights(settings["kl_warmup_epochs"], len(losses))}


def _optimiser(settings: Mapping[str, Any]) -> Any:
    from pyro.optim import Adam  # type: ignore[attr-defined]  # made when it is imported

    def arguments(name: str) -> dict[str, float]:
        times = TOPIC_LEARNING_RATE if "topic_feature_posterior" in name else 1.0
        return {"lr": times * settings["lr"], "weight_decay": settings["weight_decay"]}

    return Adam(arguments)


def _read_out(model: Any, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return loadings and topic proportions: their product is each gene's expected share over its deviation.

    Returns
    -------
    loadings : (n_genes, n_topics)
        Share of the gene in the topic, over the standard deviation of its share in the model's cells: as a share
        alone, genes that are abundant everywhere would lead every topic. 0 for a gene without counts.
    proportions : (n_cells, n_topics)
        Posterior means; they sum to one.
    """
    from scballast.models.scvi_training import seeded

    with seeded(seed):
        draws = [model.get_feature_by_topic(n_samples=_AT_ONCE).to_numpy() for _ in range(_DRAWS // _AT_ONCE)]
        proportions = model.get_latent_representation(n_samples=_DRAWS).to_numpy()
    topics: FloatArray = np.mean(np.stack(draws), axis=0, dtype=np.float64)
    return _over_deviation(topics, model.adata.X), np.asarray(proportions, dtype=np.float64)


def _over_deviation(topics: FloatArray, counts: Any) -> FloatArray:
    from scipy import sparse

    matrix = sparse.csr_matrix(counts, dtype=np.float64)
    totals = np.asarray(matrix.sum(axis=1)).ravel()
    shares = sparse.diags(np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)) @ matrix
    means, squares = (np.asarray(part.mean(axis=0)).ravel() for part in (shares, shares.power(2)))
    deviation = np.sqrt(np.maximum(squares - means**2, 0.0))[:, None]
    return np.asarray(np.divide(topics, deviation, out=np.zeros_like(topics), where=deviation > 0))


def _methods_text(config: Mapping[str, Any]) -> str:
    model, train = config["model"], config["train"]
    epochs = train["max_epochs"] or "scvi-tools’ default number of"
    return (
        f"amortised latent Dirichlet allocation (AmortizedLDA of scvi-tools) with {model['n_latent']} topics, trained "
        f"for {epochs} epochs (learning rate {train['lr']}, of the topics {TOPIC_LEARNING_RATE * train['lr']:g}, "
        f"minibatches of {train['batch_size']} cells); loadings are the shares of genes in topics over the standard "
        "deviation of the gene’s share in the cells, scores the cells’ topic proportions."
    )


TOPIC = ModelFamily("topic", fit=_fit, methods_text=_methods_text, epochs=True, simplex=True)
