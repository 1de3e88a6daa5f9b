"""The models of scvi-tools: the linearly decoded VAE (LDVAE) and the non-linear one (SCVI)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from scballast.config.schema import FAMILY_KEYS, Config
from scballast.engine.interface import TrainedEnsemble
from scballast.engine.windows import Windows
from scballast.models.family import Fit, FitRequest, ModelFamily


def _fit(decoder: str) -> Fit:
    """Return how models with a ``linear`` or ``nonlinear`` decoder are trained."""

    def fit(request: FitRequest) -> TrainedEnsemble:
        config = request.config
        model, train = settings_of(config)
        if config.train.engine == "scvi":
            from scballast.models.scvi_training import fit_sequential

            return fit_sequential(request, model, train, kind="LinearSCVI" if decoder == "linear" else "SCVI")
        from scballast.engine import fit_ensemble

        return fit_ensemble(
            request.adata,
            request.members,
            {**model, "decoder": decoder},
            train,
            batch_key=request.batch_key,
            device=config.device,
            on_progress=request.on_progress,
            cache=request.cache,
            data=config.train.data,
        )

    return fit


def _member_settings(config: Config) -> dict[str, Any]:
    model, train = settings_of(config)
    return {**model, **train}


def settings_of(config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of model and training by scvi-tools' names."""
    model, train = asdict(config.model), asdict(config.train)
    for key in ("name", *FAMILY_KEYS):
        del model[key]
    del train["engine"], train["data"]
    return model, train


def _methods_text(kind: str) -> Callable[[Mapping[str, Any]], str]:
    def text(config: Mapping[str, Any]) -> str:
        model = config["model"]
        return (
            f"{kind} (scvi-tools) with {model['n_latent']} latent dimensions, {model['latent_distribution']} latent "
            f"distribution and {model['gene_likelihood']} likelihood, {training_text(config['train'])}."
        )

    return text


def training_text(train: Mapping[str, Any]) -> str:
    """Say for how long and how a model of scvi-tools was trained."""
    epochs = train["max_epochs"] or "scvi-tools’ default number of"
    return (
        f"trained for {epochs} epochs (learning rate {train['lr']}, minibatches of {train['batch_size']} cells, "
        f"KL warm-up over {_warmup_text(train['kl_warmup_epochs'])}{_windows(train.get('data', 'memory'))})"
    )


def _windows(data: str) -> str:
    """Say in which order cells are seen, where it is not that of training in memory."""
    if data == "memory":
        return ""
    return f", cells from windows of {Windows(1).window_cells:,} at a time, of random blocks of cells in random order"


def _warmup_text(value: float | None) -> str:
    """Say how long the weight of the KL divergence rises: epochs, or a share of them."""
    if not value:
        return "no epochs"
    return f"{value:.0%} of the epochs" if isinstance(value, float) and value <= 1 else f"{value} epochs"


LDVAE = ModelFamily(
    "ldvae",
    fit=_fit("linear"),
    methods_text=_methods_text("an LDVAE, the linearly decoded variational autoencoder LinearSCVI"),
    softmax=True,
    likelihood=True,
    conditional=True,
    epochs=True,
    latent_distributions=("normal", "ln"),
    settings=_member_settings,
    seconds_per_cell=2e-5,
)
SCVI = replace(
    LDVAE,
    name="scvi",
    fit=_fit("nonlinear"),
    methods_text=_methods_text("the variational autoencoder SCVI"),
    linear=False,
    seconds_per_cell=2.6e-5,
)
