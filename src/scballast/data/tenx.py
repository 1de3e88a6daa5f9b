"""Cell Ranger's HDF5 files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scballast.data.names import quoted
from scballast.data.source import Source, quiet_anndata, source_of
from scballast.errors import DataError


def read_10x_hdf5(file: Any, path: Path, label: str) -> Source:
    """Read a Cell Ranger ``.h5`` (version 3 and later, or the older layout) through scanpy.

    Raises
    ------
    DataError
        The file has neither layout.
    """
    import scanpy as sc

    legacy = [name for name in file if {"barcodes", "data", "genes"} <= _members(file[name])]
    if "barcodes" not in _members(file.get("matrix")) and len(legacy) != 1:
        msg = (
            f"{label}: this is neither a 10x .h5 with one genome nor an AnnData file. It holds: {quoted(file)}. "
            "Write the counts as .h5ad."
        )
        raise DataError(msg)
    with quiet_anndata():
        adata = sc.read_10x_h5(path, gex_only=False)
    return source_of(adata, label, owned=True)


def _members(group: Any) -> set[str]:
    return set(group) if hasattr(group, "keys") else set()
