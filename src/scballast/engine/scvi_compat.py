"""What this program uses of scvi-tools beyond its documented interface: one place to look when scvi-tools moves."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from scballast.arrays import BoolArray, IntArray
from scballast.errors import DataError

if TYPE_CHECKING:
    import torch
    from anndata import AnnData
    from scvi.model import SCVI, LinearSCVI
    from scvi.module import LDVAE, VAE

_NOISY_LOGGERS = ("lightning.pytorch", "pytorch_lightning", "lightning.fabric", "scvi", "scvi.train")
MODEL_CLASSES = {"LinearSCVI": "scvi.model", "SCVI": "scvi.model", "DRVI": "scvi.external"}
"""The models of scvi-tools that are trained and opened here, and where it has them."""


def model_class(name: str) -> Any:
    """Return a model of scvi-tools by its name.

    Raises
    ------
    DataError
        It is none of :data:`MODEL_CLASSES`, or the scvi-tools that is installed does not have it.
    """
    model = getattr(import_module(MODEL_CLASSES[name]), name, None) if name in MODEL_CLASSES else None
    if model is None:
        from scvi import __version__

        message = (
            f"model: {name!r} is no model of scvi-tools {__version__} that can be opened here. "
            f"These are: {', '.join(MODEL_CLASSES)} (DRVI from scvi-tools 1.5 on, on Python 3.12 or later)."
        )
        raise DataError(message)
    return model


def minibatches(
    model: LinearSCVI | SCVI, adata: AnnData, *, size: int, positions: IntArray | None = None
) -> Iterable[Mapping[str, torch.Tensor]]:
    """Return the minibatches of cells, in order, by scvi-tools' names of their tensors.

    Parameters
    ----------
    model
        Trained or not.
    adata
        The model's own, or one that :func:`registered` has returned.
    size
        Cells in a minibatch, but for the last.
    positions
        (n,) positions in ``adata``; default: all.
    """
    loader: Iterable[Mapping[str, torch.Tensor]] = model._make_data_loader(
        adata=adata, indices=positions, batch_size=size
    )
    return loader


def registered(model: LinearSCVI | SCVI, adata: AnnData) -> AnnData:
    """Return other cells of the model's genes with its registration, as the model's own methods take them."""
    checked: AnnData = model._validate_anndata(adata)
    return checked


def encoded(module: LDVAE | VAE, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, Any]:
    """Return what the encoders make of a minibatch: ``qz``, ``ql`` (None: the library is observed), ``library``."""
    outputs: Mapping[str, Any] = module.inference(**module._get_inference_input(tensors))
    return outputs


def library_prior(module: LDVAE | VAE, batch: torch.Tensor) -> torch.distributions.Normal:
    """Return the prior of the logarithm of cells' totals, (n, 1), of a module that models them.

    Parameters
    ----------
    module
        With ``use_observed_lib_size=False``.
    batch
        (n, 1) codes.
    """
    from torch.distributions import Normal

    means, variances = module._compute_local_library_params(batch)
    return Normal(means, variances.sqrt())


def estimated_pseudocount(
    scales: torch.Tensor, rest: torch.Tensor, unexpressed: BoolArray, unexpressed_rest: BoolArray
) -> float:
    """Return the pseudocount that scvi-tools' own ``differential_expression`` would add to expression shares.

    Parameters
    ----------
    scales, rest
        (n_samples, n_genes) draws of the expression shares on each side.
    unexpressed, unexpressed_rest
        (n_genes,) which genes are next to absent on each side.

    Returns
    -------
    float
        An expression share, at least 1e-10.
    """
    from scvi.model.base._differential import estimate_pseudocounts_offset

    draws = {"scales_a": scales.cpu().numpy(), "scales_b": rest.cpu().numpy()}
    offset = estimate_pseudocounts_offset(
        **draws, where_zero_a=unexpressed, where_zero_b=unexpressed_rest, quantile=0.9
    )
    return float(offset)


def set_trained(
    model: LinearSCVI | SCVI, history: Mapping[str, Any], *, train: IntArray, validation: IntArray, test: IntArray
) -> None:
    """Make a model with weights from elsewhere one that has been trained, for all of scvi-tools' methods.

    Parameters
    ----------
    model
        Changed in place; its module holds the weights.
    history
        Data frames of the training curves, by scvi-tools' names.
    train, validation, test
        Positions of the cells of each part in ``model.adata``.
    """
    model.is_trained_ = True
    model.history_ = history
    model.train_indices, model.validation_indices, model.test_indices = train, validation, test


@contextmanager
def quiet_scvi() -> Iterator[None]:
    """Keep scvi-tools' and Lightning's notices about devices, workers and saved columns off the terminal."""
    import scvi  # noqa: F401 - when it is first imported, Lightning sets the levels of its loggers

    levels = {name: logging.getLogger(name).level for name in _NOISY_LOGGERS}
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(lightning|scvi|anndata|torch|torchmetrics|jaxlib)(\.|$)")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
