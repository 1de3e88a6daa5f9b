"""Make glm_pca_authors.json: GLM-PCA by its authors' package for Python (``pip install glmpca==0.1.0``).

Run from the repository root: ``python -m tests.reference.glm_pca_authors``. The test draws the same counts through
:func:`example`. The package is run until the deviance changes by less than 1e-12 of itself, from three random starts,
of which the best is kept.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
N_CELLS, N_GENES, N_FACTORS = 80, 45, 3


def example() -> tuple[np.ndarray, np.ndarray]:
    """Counts (cell, gene) and the activities (cell, factor) of the three programs planted; every gene has some."""
    rng = np.random.default_rng(2_019)
    activity = rng.normal(size=(N_CELLS, N_FACTORS))
    log_rate = rng.normal(1.0, 0.7, N_GENES) + rng.normal(0.0, 0.4, (N_CELLS, 1))
    for factor in range(N_FACTORS):
        log_rate[:, 10 * factor : 10 * (factor + 1)] += 0.6 * activity[:, [factor]]
    return rng.poisson(np.exp(log_rate) * rng.gamma(8.0, 1 / 8, log_rate.shape)).astype(float), activity


def main() -> None:
    from glmpca.glmpca import glmpca

    counts, _ = example()
    made: dict[str, object] = {
        "versions": {name: version(name) for name in ("glmpca", "statsmodels", "numpy", "scipy")}
        | {"python": platform.python_version()}
    }
    for family in ("poi", "nb"):
        runs = []
        for seed in range(3):
            np.random.seed(seed)  # noqa: NPY002 - the package draws its start so
            runs.append(glmpca(counts.T, N_FACTORS, fam=family, ctl={"maxIter": 20_000, "eps": 1e-12}))
        best = min(runs, key=lambda run: float(run["dev"][-1]))
        log_rate = np.log(counts.mean(axis=1))[:, None] + best["coefX"][:, 0] + best["factors"] @ best["loadings"].T
        made[family] = {
            "log_rate": np.round(log_rate, 5).tolist(),
            "size": None if family == "poi" else float(best["glmpca_family"].nb_theta),
            "deviance": float(best["dev"][-1]),
        }
    (HERE / "glm_pca_authors.json").write_text(json.dumps(made) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
