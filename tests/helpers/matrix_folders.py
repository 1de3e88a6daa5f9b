"""10x matrix folders on disk."""

from __future__ import annotations

from pathlib import Path

import scipy.sparse as sp
from tests.helpers.data_examples import N_CELLS, N_GENES, small_adata


def matrix_folder(folder: Path, *, n_barcodes: int = N_CELLS, leave_out: str = "") -> Path:
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
