"""What may be set for a member: names of ``LinearSCVI``, ``SCVI`` and of their ``train``, with defaults."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from scballast.errors import ConfigError

LIKELIHOODS = ("nb", "zinb", "poisson")
LATENT_DISTRIBUTIONS = ("normal", "ln")
DISPERSIONS = ("gene", "gene-batch", "gene-label")
DECODERS = ("linear", "nonlinear")
MONITORS = ("elbo_validation", "reconstruction_loss_validation", "kl_local_validation")


@dataclass(frozen=True)
class ModelSettings:
    """Keyword arguments of ``scvi.model.LinearSCVI`` and ``scvi.model.SCVI``, with the defaults of the former.

    Attributes
    ----------
    decoder
        ``linear``: the member is a ``LinearSCVI``. ``nonlinear``: a ``SCVI``, whose decoder has ``n_layers``
        hidden layers as its encoder.
    n_labels
        As in ``scvi.module.LDVAE``; None takes the number of labels among the member's cells.
    """

    decoder: str = "linear"
    n_hidden: int = 128
    n_latent: int = 10
    n_layers: int = 1
    dropout_rate: float = 0.1
    dispersion: str = "gene"
    gene_likelihood: str = "nb"
    use_observed_lib_size: bool = False
    latent_distribution: str = "normal"
    n_labels: int | None = None


@dataclass(frozen=True)
class TrainSettings:
    """What ``LinearSCVI.train``, its training plan and its trainer take, with their defaults.

    Attributes
    ----------
    max_epochs
        None: scvi-tools' rule, 400 up to 20,000 cells and 8e6 / cells above.
    train_size
        Share of the cells to train on; None is 0.9 with scvi-tools' care for a small last minibatch.
    kl_warmup_epochs
        Epochs (int) over which the weight of the latent KL rises; a float in (0, 1] is a share of the
        member's epochs, None or 0 is no warm-up.
    check_val_every_n_epoch
        Epochs between validations; None validates only for early stopping, then every epoch.
    """

    max_epochs: int | None = None
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 1e-6
    eps: float = 0.01
    train_size: float | None = None
    kl_warmup_epochs: int | float | None = 400
    min_kl_weight: float = 0.0
    max_kl_weight: float = 1.0
    early_stopping: bool = False
    early_stopping_monitor: str = "elbo_validation"
    early_stopping_min_delta: float = 0.0
    early_stopping_patience: int = 45
    early_stopping_warmup_epochs: int = 0
    check_val_every_n_epoch: int | None = None


_MODEL_KEYS = tuple(f.name for f in fields(ModelSettings))
_TRAIN_KEYS = tuple(f.name for f in fields(TrainSettings))
_CHOICES = {
    "decoder": DECODERS,
    "dispersion": DISPERSIONS,
    "gene_likelihood": LIKELIHOODS,
    "latent_distribution": LATENT_DISTRIBUTIONS,
    "early_stopping_monitor": MONITORS,
}
# Of whole numbers.
_LOWEST = {
    "n_hidden": 1,
    "n_latent": 1,
    "n_layers": 1,
    "n_labels": 1,
    "max_epochs": 1,
    "batch_size": 2,
    "early_stopping_patience": 1,
    "early_stopping_warmup_epochs": 0,
    "check_val_every_n_epoch": 1,
}
_OPTIONAL = ("n_labels", "max_epochs", "train_size", "kl_warmup_epochs", "check_val_every_n_epoch")
_FLAGS = ("use_observed_lib_size", "early_stopping")


def resolve_settings(
    model: Mapping[str, Any], train: Mapping[str, Any], overrides: Mapping[str, Any]
) -> tuple[ModelSettings, TrainSettings]:
    """Resolve the settings of one member: the ensemble's, replaced by its own where it has them.

    Raises
    ------
    ConfigError
        A key is unknown (the nearest one is named), or a value is of the wrong type or out of range.
    """
    _refuse_unknown(model, _MODEL_KEYS, "model")
    _refuse_unknown(train, _TRAIN_KEYS, "train")
    _refuse_unknown(overrides, _MODEL_KEYS + _TRAIN_KEYS, "overrides")
    merged = {**model, **train, **overrides}
    checked = {key: _checked(key, value) for key, value in merged.items()}
    model_settings = ModelSettings(**{k: v for k, v in checked.items() if k in _MODEL_KEYS})
    train_settings = TrainSettings(**{k: v for k, v in checked.items() if k in _TRAIN_KEYS})
    if train_settings.min_kl_weight > train_settings.max_kl_weight:
        message = (
            f"train.min_kl_weight={train_settings.min_kl_weight} is larger than "
            f"train.max_kl_weight={train_settings.max_kl_weight}. Lower it."
        )
        raise ConfigError(message)
    return model_settings, train_settings


def scvi_arguments(settings: ModelSettings) -> dict[str, Any]:
    """Keyword arguments that make ``LinearSCVI`` or ``SCVI`` build the same module."""
    arguments = asdict(settings)
    n_labels = arguments.pop("n_labels")
    # SCVI counts the labels of its cells itself.
    if arguments.pop("decoder") == "linear" and settings.dispersion == "gene-label":
        arguments["n_labels"] = n_labels
    return arguments


def _refuse_unknown(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            message = (
                f"{where}: unknown key {key!r}; the nearest one is {near!r}. "
                f"Allowed: {', '.join(known)}. For other settings of scvi-tools use train.engine=scvi."
            )
            raise ConfigError(message)


def _checked(key: str, value: Any) -> Any:
    if value is None and key in _OPTIONAL:
        return None
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            _refuse(key, value, " | ".join(_CHOICES[key]))
        return value
    if key in _FLAGS:
        if not isinstance(value, bool):
            _refuse(key, value, "true | false")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(key, value, "a number")
    if key in _LOWEST:
        if value != int(value) or value < _LOWEST[key]:
            _refuse(key, value, f"a whole number of at least {_LOWEST[key]}")
        return int(value)
    if key == "kl_warmup_epochs":
        share = isinstance(value, float) and not value.is_integer()
        if value < 0 or (share and value > 1):
            _refuse(key, value, "a whole number of epochs, or a share of the epochs in (0, 1]")
        return value
    if key == "dropout_rate" and not 0 <= value < 1:
        _refuse(key, value, "a number in [0, 1)")
    if key == "train_size" and not 0 < value <= 1:
        _refuse(key, value, "a number in (0, 1]")
    if key in ("lr", "eps") and not value > 0:
        _refuse(key, value, "a positive number")
    if not value >= 0:
        _refuse(key, value, "a number of at least 0")
    return float(value)


def _refuse(key: str, value: Any, allowed: str) -> None:
    message = f"{key}={value!r} cannot be used. Allowed: {allowed}."
    raise ConfigError(message)
