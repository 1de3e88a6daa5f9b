"""Cell Ranger's HDF5 files."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from scballast.data.annotation import Annotation
from scballast.data.names import quoted
from scballast.data.remarks import refuse
from scballast.data.source import X_PATH, Source, StoredMatrix, quiet_anndata
from scballast.data.stored_rows import SparseRows

COUNTS = ("data", "indices", "indptr")


def read_10x_hdf5(file: Any, path: Path, label: str) -> Source:
    """Read a Cell Ranger ``.h5`` (version 3 and later, or the older layout): names through scanpy, counts by cells.

    Raises
    ------
    DataError
        The file has neither layout.
    """
    import scanpy as sc

    legacy = [name for name in file if {"barcodes", "data", "genes"} <= _members(file[name])]
    if "barcodes" not in _members(file.get("matrix")) and len(legacy) != 1:
        refuse(
            label,
            f"this is neither a 10x .h5 with one genome nor an AnnData file. It holds: {quoted(file)}. "
            "Write the counts as .h5ad.",
        )
    group = file["matrix" if "matrix" in file else next(iter(file))]
    n_genes, n_cells = (int(n) for n in group["shape"][:])
    with TemporaryDirectory(prefix="scballast-") as folder:
        annotation = Path(folder) / path.name
        _write_without_counts(file, annotation, n_cells)
        with quiet_anndata():
            adata = sc.read_10x_h5(annotation, gex_only=False)
    var = Annotation.of(adata.var)
    # Genes by cells, by columns: for cells by genes the same arrays are those of the rows.
    matrix = StoredMatrix(X_PATH, lambda: SparseRows(group, (n_cells, n_genes), f"{label}: X"), lambda: var)
    return Source(label, Annotation.of(adata.obs), (matrix,), owned=True)


def _write_without_counts(file: Any, target: Path, n_cells: int) -> None:
    """Write a file of the same layout that holds no counts: scanpy reads the annotation together with them."""
    import h5py

    with h5py.File(target, "w") as small:
        for name, group in file.items():
            if not hasattr(group, "keys"):
                continue
            small_group = small.create_group(name)
            for key in group:
                if key not in COUNTS:
                    group.copy(key, small_group)
            small_group["data"] = np.zeros(0, dtype=np.float32)
            small_group["indices"] = np.zeros(0, dtype=np.int64)
            small_group["indptr"] = np.zeros(n_cells + 1, dtype=np.int64)


def _members(group: Any) -> set[str]:
    return set(group) if hasattr(group, "keys") else set()
