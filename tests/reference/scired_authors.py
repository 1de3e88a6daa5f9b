"""Make scired_authors.json: rotated factors by sciRED's own functions (``pip install sciRED==1.2.1``).

Run from the repository root: ``python -m tests.reference.scired_authors``. The test draws the same counts through
:func:`example`. ``rotated`` is the package's varimax of the principal components of scballast's own analytic Pearson
residuals; ``scores`` are the factors of the package's whole way, with residuals of a Poisson regression of each gene on
the library size. Both are scaled by gene, as its authors do.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
N_CELLS, N_GENES, N_FACTORS = 100, 120, 3
PROGRAMS = (range(12), range(12, 28), range(28, 48))


def example() -> np.ndarray:
    """Counts (cell, gene) in which three programs of different genes vary independently, depth too."""
    rng = np.random.default_rng(2_025)
    log_rate = rng.normal(1.5, 0.5, N_GENES) + rng.normal(0.0, 0.3, (N_CELLS, 1))
    for genes in PROGRAMS:
        log_rate[:, list(genes)] += 0.6 * rng.normal(size=(N_CELLS, 1))
    return rng.poisson(np.exp(log_rate)).astype(float)


def main() -> None:
    from scipy.sparse import csr_matrix
    from sciRED.glm import poissonGLM
    from sciRED.rotations import get_rotated_scores, varimax
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    from scballast.agreement.residuals import pearson_residuals

    counts = example()
    design = np.column_stack([np.ones(N_CELLS), counts.sum(axis=1)])
    made: dict[str, object] = {}
    for name, residuals in (
        ("rotated", pearson_residuals(csr_matrix(counts))),
        ("scores", poissonGLM(counts, design)["resid_pearson"].T),
    ):
        pca = PCA(N_FACTORS, svd_solver="full")
        scores = pca.fit_transform(StandardScaler().fit_transform(residuals))
        turned = varimax(pca.components_.T, eps=1e-15)
        values = turned["rotloading"] if name == "rotated" else get_rotated_scores(scores, turned["rotmat"])
        made[name] = [[float(f"{value:.10g}") for value in row] for row in values]
    packages = ("sciRED", "scikit-learn", "statsmodels", "numpy", "scipy")
    versions = {name: version(name) for name in packages} | {"python": platform.python_version()}
    (HERE / "scired_authors.json").write_text(json.dumps({"versions": versions, **made}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
