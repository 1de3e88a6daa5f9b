"""Make hotspot_authors.json: local autocorrelation by its authors' package (``pip install hotspotsc==1.1.3``).

Run from the repository root: ``python -m tests.reference.hotspot_authors``. The test draws the same counts and
positions through :func:`example`.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
N_CELLS, N_GENES = 150, 60


def example() -> tuple[np.ndarray, np.ndarray]:
    """Counts (cell, gene) and positions (cell, dimension); the first ten genes follow the first dimension."""
    rng = np.random.default_rng(2_021)
    latent = rng.normal(size=(N_CELLS, 5))
    log_rate = np.tile(rng.normal(0.0, 1.2, N_GENES), (N_CELLS, 1)) + rng.normal(0.0, 0.4, (N_CELLS, 1))
    log_rate[:, :10] += 0.6 * latent[:, :1]
    dispersed = np.exp(log_rate) * rng.gamma(2.0, 0.5, (N_CELLS, N_GENES))  # a size of 2
    counts = np.where(np.arange(N_GENES) < 40, rng.poisson(dispersed), rng.poisson(np.exp(log_rate)))
    return counts.astype(float), latent


def main() -> None:
    import anndata
    from hotspot import Hotspot

    counts, latent = example()
    adata = anndata.AnnData(counts, obsm={"latent": latent})
    analysis = Hotspot(adata, model="danb", latent_obsm_key="latent")
    analysis.create_knn_graph(weighted_graph=False, n_neighbors=30, approx_neighbors=False)
    found = analysis.compute_autocorrelations().loc[adata.var_names]
    packages = ("hotspotsc", "scikit-learn", "numpy", "scipy", "statsmodels")
    made = {
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        **{name: [float(f"{value:.10g}") for value in found[name]] for name in ("Z", "C", "Pval", "FDR")},
    }
    (HERE / "hotspot_authors.json").write_text(json.dumps(made) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
