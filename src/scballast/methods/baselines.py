"""Rankings without a latent variable model, for comparison: one registry line per baseline."""

from __future__ import annotations

from scballast.methods.cell_view import Baseline, CellView
from scballast.methods.controls import random_scores
from scballast.methods.logreg import logreg_scores
from scballast.methods.pseudobulk import pseudobulk_scores
from scballast.methods.residuals import pearson_residuals
from scballast.methods.t_test import t_test_scores
from scballast.methods.wilcoxon import wilcoxon_scores
from scballast.methods.within import residual_pca_scores, within_dispersion_scores, within_pca_scores

BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        Baseline("wilcoxon", "marker", deterministic=True, score=wilcoxon_scores),
        Baseline("t_test", "marker", deterministic=True, score=t_test_scores),
        Baseline("logreg", "marker", deterministic=True, score=logreg_scores),
        Baseline("pseudobulk", "marker", deterministic=True, score=pseudobulk_scores, needs_samples=True),
        Baseline("within_pca", "program", deterministic=True, score=within_pca_scores),
        Baseline("residual_pca", "program", deterministic=True, score=residual_pca_scores),
        Baseline("within_dispersion", "program", deterministic=True, score=within_dispersion_scores),
        Baseline("random", "marker", deterministic=False, score=random_scores),
    )
}

__all__ = ["BASELINES", "Baseline", "CellView", "pearson_residuals"]
