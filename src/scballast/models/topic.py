"""Topics of scvi-tools' AmortizedLDA: cells as mixtures of gene distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.arrays import FloatArray
from scballast.engine.interface import TrainedEnsemble
from scballast.engine.schedule import default_max_epochs
from scballast.errors import TrainingError
from scballast.models.decomposition import DecompositionEnsemble
from scballast.models.family import FitRequest, ModelFamily
from scballast.threads import one_thread

if TYPE_CHECKING:
    from anndata import AnnData


TOPIC_LEARNING_RATE = 10.0
"""Times ``train.lr``: the topics are free parameters that start alike, not weights of the encoder."""
# scvi-tools averages 5,000 draws at once, of gigabytes for many genes; these are drawn in turns.
_DRAWS, _AT_ONCE = 1000, 50


class TopicEnsemble(DecompositionEnsemble):
    """Topic models behind the interface of :class:`scballast.engine.interface.TrainedEnsemble`."""

    def __init__(
        self,
        factors: Mapping[int, tuple[FloatArray, FloatArray]],
        failures: Mapping[int, str],
        curves: Mapping[int, Mapping[str, Sequence[float]]],
        steps: Mapping[int, int],
    ) -> None:
        super().__init__(factors, failures)
        self._curves, self._steps = curves, steps

    def history(self, member: int) -> Mapping[str, Sequence[float]]:
        """Return the training curve ``elbo_train`` and the KL weight, by epoch."""
        return self._curves[member]

    def n_steps(self, member: int) -> int:
        """Return the number of gradient steps."""
        return self._steps[member]


def _fit(request: FitRequest) -> TrainedEnsemble:
    from scballast.models.scvi_training import accelerator_for, quiet_scvi

    adata, config = request.adata, request.config  # not its batches, of which AmortizedLDA knows nothing
    accelerator = accelerator_for(config.device)
    factors: dict[int, tuple[FloatArray, FloatArray]] = {}
    failures: dict[int, str] = {}
    curves: dict[int, Mapping[str, Sequence[float]]] = {}
    steps: dict[int, int] = {}
    for position, member in enumerate(request.members):
        cells = np.arange(adata.n_obs) if member.cells is None else member.cells
        settings = {**asdict(config.model), **asdict(config.train), **member.overrides}
        # Steps of small matrices: on two busy cores, two threads took 17 times the processor time of one.
        with quiet_scvi(), one_thread():
            try:
                model, curves[position] = _trained(adata[cells].copy(), settings, member.seed, accelerator)
                factors[position] = _read_out(model, member.seed)
                steps[position] = int(model.trainer.global_step)
            except TrainingError as error:
                failures[position] = str(error)
        if request.on_progress is not None:
            request.on_progress(1)
    if not factors:
        message = f"topic: not one of {len(request.members)} models has a result: {failures[0]}. Lower train.lr."
        raise TrainingError(message)
    return TopicEnsemble(factors, failures, curves, steps)


def _trained(
    adata: AnnData, settings: Mapping[str, Any], seed: int, accelerator: str
) -> tuple[Any, Mapping[str, Sequence[float]]]:
    """Return a trained model and its curves; TrainingError: the loss or the parameters became infinite."""
    import scvi

    from scballast.models.scvi_training import alone, interruptible

    scvi.settings.seed = seed
    adata.obs_names_make_unique()
    scvi.model.AmortizedLDA.setup_anndata(adata)
    model = scvi.model.AmortizedLDA(adata, n_topics=settings["n_latent"], n_hidden=settings["n_hidden"])
    n_epochs = settings["max_epochs"] or default_max_epochs(adata.n_obs)
    warmup = settings["kl_warmup_epochs"]
    if isinstance(warmup, float):
        warmup = warmup * n_epochs
    n_train = int(np.ceil(settings["train_size"] * adata.n_obs))
    failed = f"the loss became infinite (lr={settings['lr']})"
    try:
        with interruptible(), alone():
            model.train(
                max_epochs=n_epochs,
                accelerator=accelerator,
                train_size=settings["train_size"],
                batch_size=settings["batch_size"],
                early_stopping=settings["early_stopping"],
                early_stopping_patience=settings["early_stopping_patience"],
                # A last minibatch of one cell has no variance for the batch norm.
                datasplitter_kwargs={
                    "drop_last": n_train > settings["batch_size"] and n_train % settings["batch_size"] == 1
                },
                plan_kwargs={"optim": _optimiser(settings), "n_epochs_kl_warmup": warmup},
                enable_progress_bar=False,
                enable_model_summary=False,
            )
    except ValueError as error:
        if "satisfy the constraint" not in str(error):  # what Pyro says of parameters without a value
            raise
        raise TrainingError(failed) from error
    # Of a cell, as scvi-tools gives it for its other models; here it is of all that are trained on.
    losses = (model.history["elbo_train"].iloc[:, 0].astype(float) / n_train).tolist()
    if not np.isfinite(losses[-1]):
        raise TrainingError(failed)
    weights = [min(1.0, epoch / warmup) if warmup else 1.0 for epoch in range(len(losses))]
    return model, {"elbo_train": losses, "kl_weight": weights}


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
    scaled: FloatArray = np.divide(topics, deviation, out=np.zeros_like(topics), where=deviation > 0)
    return scaled


def _methods_text(config: Mapping[str, Any]) -> str:
    model, train = config["model"], config["train"]
    epochs = train["max_epochs"] or "scvi-tools’ default number of"
    return (
        f"amortised latent Dirichlet allocation (AmortizedLDA of scvi-tools) with {model['n_latent']} topics, trained "
        f"for {epochs} epochs (learning rate {train['lr']}, of the topics {TOPIC_LEARNING_RATE * train['lr']:g}, "
        f"minibatches of {train['batch_size']} cells); loadings are the shares of genes in topics over the standard "
        "deviation of the gene’s share in the cells, scores the cells’ topic proportions."
    )


TOPIC = ModelFamily(
    "topic",
    fit=_fit,
    methods_text=_methods_text,
    linear=True,
    softmax=False,
    likelihood=False,
    conditional=False,
    deterministic=False,
    epochs=True,
    simplex=True,
)
