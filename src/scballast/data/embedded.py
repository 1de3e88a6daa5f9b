"""The data set that comes with scanpy, pbmc68k: real counts of 700 blood cells, without a file or a network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scballast.data.files import open_source
from scballast.data.remarks import refuse
from scballast.data.source import RAW_PATH

if TYPE_CHECKING:
    from anndata import AnnData

NAME = "pbmc68k"
POPULATION_KEY = "bulk_labels"
SCALE = 10_000
LARGEST_RESIDUE = 0.15
"""How far a recovered count may be from an integer; 0.08 is what float32 storage of the logarithm leaves."""


def embedded_adata() -> AnnData:
    """Return the embedded cells with their integer counts.

    scanpy ships 700 of the 68,000 cells of Zheng et al. with ``.raw`` = log1p of counts per 10,000. Since the
    total of each cell is in ``obs``, the counts come back exactly.

    Returns
    -------
    AnnData
        (700, 765); ``X`` counts, CSR float32; ``obs["bulk_labels"]``: 10 populations, assigned by correlation
        with profiles of sorted cells.

    Raises
    ------
    DataError
        A recovered value is not close to an integer: the installed scanpy ships other data.

    References
    ----------
    Zheng et al. (2017), Massively parallel digital transcriptional profiling of single cells.
    """
    import anndata as ad
    import pandas as pd
    import scipy.sparse as sp

    # scanpy.datasets.pbmc68k_reduced() reads the same file, but lets anndata's warnings about its age through, and
    # scanpy takes seconds to load.
    installed = find_spec("scanpy")
    if installed is None or installed.origin is None:
        refuse(NAME, "these cells come with scanpy, which is not installed. Install requirements.lock.")
    with open_source(str(Path(installed.origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad")) as source:
        stored = next(matrix for matrix in source.matrices if matrix.path == RAW_PATH)
        obs = source.obs.frame(source.obs.columns)
        # Some scanpys ship the file as older anndatas wrote it, read as a whole; from 1.12 on it is read by rows.
        logarithms = sp.csr_matrix(stored.read()[0 : len(obs)])
        var = pd.DataFrame(index=stored.var().index)
    totals = obs["n_counts"].to_numpy(dtype=np.float64)
    scaled = np.expm1(logarithms.data.astype(np.float64)) * np.repeat(totals, np.diff(logarithms.indptr)) / SCALE
    values = np.rint(scaled)
    residue = float(np.abs(scaled - values).max())
    if not residue < LARGEST_RESIDUE:
        refuse(
            NAME,
            f"the counts embedded in scanpy cannot be recovered: a value is {residue:.3f} from an integer, allowed "
            f"below {LARGEST_RESIDUE}. Install the scanpy version of requirements.lock.",
        )
    counts = sp.csr_matrix((values.astype(np.float32), logarithms.indices, logarithms.indptr), shape=logarithms.shape)
    counts.sort_indices()
    return ad.AnnData(X=counts, obs=obs, var=var)
