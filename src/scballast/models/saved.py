"""Models on disk: saved so that loading runs no code of the file's, and vetted for that before loading."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scballast.engine import scvi_compat
from scballast.engine.scvi_compat import quiet_scvi
from scballast.errors import DataError, require

if TYPE_CHECKING:
    from anndata import AnnData

_FILE = "model.pt"


def save_model(model: Any, folder: Path) -> None:
    """Save a scvi-tools model as ``LinearSCVI.save`` does, without the cells and without its training curves.

    The curves are pandas objects, and parts of the registry dictionaries with a factory, both of which a
    weights-only reader refuses: the experiment keeps the former as a table, the latter become plain.
    """
    import torch

    history = model.history_
    model.history_ = None
    try:
        with quiet_scvi():
            model.save(str(folder), overwrite=True, save_anndata=False)
    finally:
        model.history_ = history
    saved = torch.load(folder / _FILE, map_location="cpu", weights_only=False)  # written a moment ago, by us
    torch.save({**saved, "attr_dict": _plain(saved["attr_dict"])}, folder / _FILE)


def load_saved_model(folder: Path, adata: AnnData) -> Any:
    """Load the model in ``folder`` onto ``adata``: raw counts of the genes that it was trained on.

    scvi-tools' own loader unpickles whatever the file holds. So the file is first read by torch's
    weights-only reader, which refuses everything but tensors, numpy arrays and plain Python values.

    Raises
    ------
    DataError
        There is no model, the file holds more than data, ``adata`` lacks some of its genes, or the scvi-tools that is
        installed does not have its kind of model.
    """
    saved = _read_plain(folder / _FILE)
    names = [str(name) for name in saved["var_names"]]
    missing = sorted(set(names) - set(map(str, adata.var_names)))
    if missing:
        message = (
            f"adata: {len(missing)} of the model's {len(names)} genes are missing, first {missing[0]!r}. "
            "Give the counts that the experiment was run on."
        )
        raise DataError(message)
    with quiet_scvi():
        model_class = scvi_compat.model_class(saved["attr_dict"]["registry_"]["model_name"])
        return model_class.load(str(folder), adata=adata[:, names].copy(), accelerator="cpu")


def _read_plain(file: Path) -> dict[str, Any]:
    import numpy as np
    import torch
    from numpy._core import multiarray

    require(file.is_file(), f"{file.parent}: no saved model here. Decompositions, such as PCA, leave none.", DataError)
    kinds = [type(np.dtype(code)) for code in ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "u4", "u8", "b1", "U1", "O")]
    allowed: list[Any] = [bytes, multiarray._reconstruct, multiarray.scalar, np.ndarray, np.dtype, *kinds]
    try:
        with torch.serialization.safe_globals(allowed):
            saved: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        message = (
            f"{file}: holds more than weights and plain values, or is damaged, and is not opened: unpickling it "
            "could run code. Models saved by scballast open here."
        )
        raise DataError(message) from error
    return saved


def _plain(value: Any) -> Any:
    """Return nested dictionaries as plain ones."""
    return {key: _plain(entry) for key, entry in value.items()} if isinstance(value, Mapping) else value
