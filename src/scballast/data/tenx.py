"""10x formats: Cell Ranger's HDF5 files and matrix folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.data.names import quoted
from scballast.data.source import Source, quiet_anndata, source_of
from scballast.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

GENE_EXPRESSION = "Gene Expression"


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
    return _genes_only(adata, label)


def _members(group: Any) -> set[str]:
    return set(group) if hasattr(group, "keys") else set()


def find_matrix_file(folder: Path, label: str) -> Path | None:
    """Return the one ``matrix.mtx`` or ``matrix.mtx.gz`` of a folder, which may carry a prefix; None if none.

    Raises
    ------
    DataError
        There are several.
    """
    found = sorted(p for p in folder.iterdir() if p.name.endswith(("matrix.mtx", "matrix.mtx.gz")))
    if len(found) > 1:
        msg = f"{label}: there are {len(found)} matrices in this folder: {quoted(p.name for p in found)}. Keep one."
        raise DataError(msg)
    return found[0] if found else None


def read_matrix_folder(folder: Path, label: str) -> Source:
    """Read a folder with ``matrix.mtx``, ``features.tsv`` or ``genes.tsv``, and ``barcodes.tsv``.

    Each may be compressed (``.gz``) or not, and all may carry one prefix (as downloads from GEO do); scanpy
    reads only two of these combinations.

    Raises
    ------
    DataError
        A file is missing, or the numbers of genes or cells differ.
    """
    import anndata as ad
    import pandas as pd
    import scipy.io
    import scipy.sparse as sp

    matrix_file = find_matrix_file(folder, label)
    assert matrix_file is not None
    prefix = matrix_file.name.partition("matrix.mtx")[0]
    features = _annotation(folder, prefix, ("features.tsv", "genes.tsv"), label)
    barcodes = _annotation(folder, prefix, ("barcodes.tsv",), label)
    matrix = scipy.io.mmread(matrix_file, spmatrix=True)
    if matrix.shape != (len(features), len(barcodes)):
        msg = (
            f"{label}: the matrix has {matrix.shape[0]:,} genes and {matrix.shape[1]:,} cells, but there are "
            f"{len(features):,} features and {len(barcodes):,} barcodes. The files belong to different data."
        )
        raise DataError(msg)
    names = features.iloc[:, 1 if features.shape[1] > 1 else 0]
    var = pd.DataFrame({"gene_ids": features.iloc[:, 0].to_numpy()}, index=pd.Index(names, dtype=object, name=None))
    if features.shape[1] > 2:
        var["feature_types"] = features.iloc[:, 2].to_numpy()
    obs = pd.DataFrame(index=pd.Index(barcodes.iloc[:, 0], dtype=object, name=None))
    with quiet_anndata():
        adata = ad.AnnData(X=sp.csr_matrix(sp.coo_matrix(matrix).T), obs=obs, var=var)
    return _genes_only(adata, label)


def _annotation(folder: Path, prefix: str, names: tuple[str, ...], label: str) -> pd.DataFrame:
    import csv

    import pandas as pd

    for name in names:
        for file in (folder / f"{prefix}{name}.gz", folder / f"{prefix}{name}"):
            if file.is_file():
                return pd.read_csv(
                    file, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE
                )
    wanted = " or ".join(f"{prefix}{name}[.gz]" for name in names)
    msg = f"{label}: {wanted} is missing beside {prefix}matrix.mtx. Copy it into the folder."
    raise DataError(msg)


def _genes_only(adata: AnnData, label: str) -> Source:
    """Leave out antibodies, guides and other features: only genes have a place in a decoder of expression."""
    if "feature_types" not in adata.var:
        return source_of(adata, label, owned=True)
    is_gene = np.asarray(adata.var["feature_types"].astype(str) == GENE_EXPRESSION)
    if is_gene.all():
        return source_of(adata, label, owned=True)
    kinds = sorted(set(adata.var["feature_types"].astype(str)[~is_gene]))
    note = f"{label}: {int((~is_gene).sum()):,} features that are not gene expression are left out: {quoted(kinds)}."
    with quiet_anndata():
        source = source_of(adata[:, is_gene].copy(), label, owned=True)
    return Source(source.label, source.obs, source.matrices, owned=True, warnings=(note,))
