"""Make consensus_nmf_authors.json: consensus NMF by its authors' package (``pip install cnmf==1.7.1``).

Run from the repository root: ``python tests/reference/consensus_nmf_authors.py``. The test draws the same counts
through :func:`example` and gives the same seeds to its runs.
"""

from __future__ import annotations

import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
N_CELLS, N_GENES, N_PLANTED, N_RUNS = 90, 40, 4, 20
N_PROGRAMS = 9  # more than are planted: some components have no like, and are dropped


def example() -> np.ndarray:
    """Counts (cell, gene) of four programs, each cell a mixture; every cell and gene has some."""
    rng = np.random.default_rng(2_019)
    programs = rng.dirichlet(np.full(N_GENES, 0.3), N_PLANTED)
    usages = rng.dirichlet(np.full(N_PLANTED, 0.3), N_CELLS)
    depth = rng.lognormal(np.log(60), 0.4, N_CELLS)
    return rng.poisson(depth[:, None] * (0.9 * usages @ programs + 0.1 / N_GENES)).astype(float)


def main() -> None:
    import anndata
    import pandas as pd
    from cnmf import cNMF

    counts = example()
    genes = [f"g{gene:02d}" for gene in range(N_GENES)]
    with tempfile.TemporaryDirectory() as folder:
        adata = anndata.AnnData(
            counts, obs=pd.DataFrame(index=[f"c{cell:02d}" for cell in range(N_CELLS)]), var=pd.DataFrame(index=genes)
        )
        adata.write_h5ad(f"{folder}/counts.h5ad")
        Path(f"{folder}/genes.txt").write_text("\n".join(genes))
        run = cNMF(output_dir=folder, name="run")
        run.prepare(
            f"{folder}/counts.h5ad", components=[N_PROGRAMS], n_iter=N_RUNS, seed=14, genes_file=f"{folder}/genes.txt",
            densify=True,
        )  # fmt: skip
        run.factorize()
        run.combine()
        run.consensus(N_PROGRAMS, density_threshold=0.5, show_clustering=False, build_ref=False)
        runs = np.load(run.paths["nmf_replicate_parameters"], allow_pickle=True)
        seeds = pd.DataFrame(runs["data"], columns=runs["columns"])["nmf_seed"]
        usages = np.load(run.paths["consensus_usages"] % (N_PROGRAMS, "0_5"), allow_pickle=True)["data"]
        spectra = np.load(run.paths["gene_spectra_tpm"] % (N_PROGRAMS, "0_5"), allow_pickle=True)["data"]
        scores = np.load(run.paths["gene_spectra_score"] % (N_PROGRAMS, "0_5"), allow_pickle=True)["data"]
        density = np.load(run.paths["local_density_cache"] % N_PROGRAMS, allow_pickle=True)["data"]
    made = {
        "versions": {name: version(name) for name in ("cnmf", "scikit-learn", "numpy", "scipy")}
        | {"python": platform.python_version()},
        "seeds": [int(seed) for seed in seeds],
        "n_kept": int((density < 0.5).sum()),
        "usages": np.round(usages, 6).tolist(),
        "gene_spectra_tpm": np.round(spectra, 3).tolist(),
        "gene_spectra_score": np.round(scores, 7).tolist(),
    }
    (HERE / "consensus_nmf_authors.json").write_text(json.dumps(made) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
