"""Make hotspot_authors.json: local autocorrelation and modules by the authors' package, hotspotsc.

``pip install hotspotsc==1.1.3``. Run from the repository root: ``python -m tests.reference.hotspot_authors``. The tests
draw the same counts and positions through :func:`example` and :func:`modules_example`.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
N_CELLS, N_GENES = 150, 60
FEWEST = (3, 6, 12)  # genes of a module


def example() -> tuple[np.ndarray, np.ndarray]:
    """Counts (cell, gene) and positions (cell, dimension); the first ten genes follow the first dimension."""
    rng = np.random.default_rng(2_021)
    latent = rng.normal(size=(N_CELLS, 5))
    log_rate = np.tile(rng.normal(0.0, 1.2, N_GENES), (N_CELLS, 1)) + rng.normal(0.0, 0.4, (N_CELLS, 1))
    log_rate[:, :10] += 0.6 * latent[:, :1]
    dispersed = np.exp(log_rate) * rng.gamma(2.0, 0.5, (N_CELLS, N_GENES))  # a size of 2
    counts = np.where(np.arange(N_GENES) < 40, rng.poisson(dispersed), rng.poisson(np.exp(log_rate)))
    return counts.astype(float), latent


def modules_example() -> tuple[np.ndarray, np.ndarray]:
    """Counts and positions; of 36 genes three sets of eight follow a dimension each, two more genes follow two."""
    rng = np.random.default_rng(2_022)
    latent = rng.normal(size=(140, 4))
    log_rate = np.tile(rng.normal(0.3, 0.8, 36), (140, 1)) + rng.normal(0.0, 0.3, (140, 1))
    for dimension in range(3):
        log_rate[:, 8 * dimension : 8 * (dimension + 1)] += 0.8 * latent[:, [dimension]]
    log_rate[:, 24:26] += 0.6 * (latent[:, [0]] + latent[:, [1]])
    return rng.poisson(np.exp(log_rate) * rng.gamma(4.0, 0.25, log_rate.shape)).astype(float), latent


def main() -> None:
    import anndata
    from hotspot import Hotspot

    def analysed(counts: np.ndarray, latent: np.ndarray) -> Hotspot:
        adata = anndata.AnnData(counts, obsm={"latent": latent})
        analysis = Hotspot(adata, model="danb", latent_obsm_key="latent")
        analysis.create_knn_graph(weighted_graph=False, n_neighbors=30, approx_neighbors=False)
        analysis.compute_autocorrelations()
        return analysis

    analysis = analysed(*example())
    found = analysis.results.loc[analysis.adata.var_names]
    of_modules = analysed(*modules_example())
    pairs = of_modules.compute_local_correlations(of_modules.adata.var_names).to_numpy()
    packages = ("hotspotsc", "scikit-learn", "numpy", "scipy", "statsmodels")
    made = {
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        **{name: [float(f"{value:.10g}") for value in found[name]] for name in ("Z", "C", "Pval", "FDR")},
        "local_correlation": [float(f"{value:.10g}") for value in pairs[np.triu_indices(len(pairs), 1)]],
        "modules": {
            str(fewest): of_modules.create_modules(fewest, core_only=True, fdr_threshold=0.05).tolist()
            for fewest in FEWEST
        },
    }
    (HERE / "hotspot_authors.json").write_text(json.dumps(made) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
