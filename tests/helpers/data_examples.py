"""Small AnnData objects for the tests of the data layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scballast.config.schema import DataConfig

N_CELLS, N_GENES = 60, 50


def small_adata(seed: int = 0) -> ad.AnnData:
    """Return 60 cells × 50 genes of counts: populations T and B (30 each), 2 batches, 4 samples, all crossed."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(rng.gamma(2.0, 1.5, N_GENES), (N_CELLS, N_GENES)).astype(np.float32)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(np.tile(["T", "B"], N_CELLS // 2)),
            "batch": pd.Categorical(np.repeat(["b1", "b2"], N_CELLS // 2)),
            "sample": pd.Categorical(np.repeat(["s1", "s2", "s3", "s4"], N_CELLS // 4)),
            "score": rng.normal(size=N_CELLS),
        },
        index=[f"cell{i}" for i in range(N_CELLS)],
    )
    var = pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)])
    return ad.AnnData(X=sp.csr_matrix(counts), obs=obs, var=var)


def file_config(path: Path, **settings: Any) -> DataConfig:
    """Return the configuration of a file whose populations are in ``cell_type``."""
    values: dict[str, Any] = {"population_key": "cell_type", "min_cells": 5, "n_top_genes": None}
    return DataConfig(**{"kind": "file", "path": str(path), **values, **settings})


def written(folder: Path, change: Callable[[ad.AnnData], ad.AnnData | None] | None = None) -> Path:
    """Write the small data, changed in place or replaced by ``change``, as ``counts.h5ad``."""
    adata = small_adata()
    if change is not None:
        replaced = change(adata)
        adata = adata if replaced is None else replaced
    path = folder / "counts.h5ad"
    adata.write_h5ad(path)
    return path


def matrix_folder(folder: Path, *, n_barcodes: int = N_CELLS, leave_out: str = "") -> Path:
    """Write the small data as a 10x matrix folder, with another number of barcodes or without one of its files."""
    path = folder / "mtx"
    path.mkdir()
    adata = small_adata()
    counts = sp.coo_matrix(adata.X.T)
    lines = ["%%MatrixMarket matrix coordinate integer general", f"{N_GENES} {N_CELLS} {counts.nnz}"]
    lines += [f"{r + 1} {c + 1} {int(v)}" for r, c, v in zip(counts.row, counts.col, counts.data, strict=True)]
    texts = {
        "matrix.mtx": "\n".join(lines),
        "features.tsv": "\n".join(f"ENSG{i}\tgene{i}\tGene Expression" for i in range(N_GENES)),
        "barcodes.tsv": "\n".join(f"cell{i}" for i in range(n_barcodes)),
    }
    for name, text in texts.items():
        if name != leave_out:
            (path / name).write_text(text + "\n", encoding="utf-8")
    return path
