"""The registry of methods, in the order of tables and figures: one entry each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from scballast.arrays import FloatArray
from scballast.methods import response
from scballast.methods.cell_view import CellView
from scballast.methods.controls import random_scores
from scballast.methods.cross_covariance import cross_covariance_scores
from scballast.methods.hotspot import hotspot_scores
from scballast.methods.logreg import logreg_scores
from scballast.methods.method import (
    CONDITIONAL,
    CONDITIONS,
    LDVAE,
    LIKELIHOOD,
    LOADINGS,
    RESPONSE_NULL,
    SAMPLES,
    Estimand,
    Evidence,
    Method,
    Need,
    Role,
)
from scballast.methods.one_vs_each import min_auc_scores, min_rank_auc_scores
from scballast.methods.pseudobulk import pseudobulk_scores
from scballast.methods.rankers import Ranker, axis, contrast, local, spread
from scballast.methods.sparse_factors import sparse_factor_scores
from scballast.methods.t_test import t_test_scores
from scballast.methods.wilcoxon import wilcoxon_scores
from scballast.methods.within import residual_pca_scores, within_dispersion_scores, within_pca_scores

Score = Callable[[Evidence], FloatArray]


def of_factors(score: Ranker, role: Role = "global", *, shuffled: bool = False) -> Score:
    """Return the score of a method that reads one model of all the replicate's cells, population by population.

    With ``shuffled`` the labels are permuted before.
    """

    def scores(evidence: Evidence) -> FloatArray:
        view = evidence.factors(role)
        if view is None:
            return evidence.cells.empty_scores()
        if shuffled:
            view = replace(view, codes=evidence.shuffling().permutation(view.codes))
        return np.stack([score(view, population) for population in range(evidence.cells.n_populations)])

    return scores


def of_own_models(score: Ranker) -> Score:
    """Return the score of a method that reads a model of each population's own cells."""

    def scores(evidence: Evidence) -> FloatArray:
        values = evidence.cells.empty_scores()
        for population in range(evidence.cells.n_populations):
            view = evidence.factors("per_population", population)
            if view is not None:
                values[population] = score(view, 0)
        return values

    return scores


def _marker_de_scores(evidence: Evidence, name: str, role: Role) -> FloatArray:
    """Return the score by a model's own differential expression, each population against the rest."""
    from scballast.methods.model_de import model_de_scores
    from scballast.threads import one_thread

    model, cells = evidence.model(role), evidence.cells
    if model is None:
        return cells.empty_scores()
    with one_thread():
        return model_de_scores(model, cells.codes, cells.populations, mode=evidence.de_mode, seed=evidence.seed(name))


def from_cells(
    name: str, estimand: Estimand, score: Callable[[CellView], FloatArray], label: str, *references: str, **other: Any
) -> Method:
    """Return a method that looks at cells alone, deterministic unless said otherwise."""
    values: dict[str, Any] = {"deterministic": True, **other}
    return Method(
        name, estimand, score=lambda evidence: score(evidence.cells), label=label, references=references, **values
    )


def from_model(name: str, estimand: Estimand, score: Score, label: str, *references: str, **other: Any) -> Method:
    """Return a method that reads the global model, of every family with loadings, unless said otherwise."""
    usual = {"roles": ("global",), "needs": (LOADINGS,), "of_every_model": True, "as_the_model": True}
    return Method(name, estimand, score=score, label=label, references=references, **{**usual, **other})


def from_own_test(name: str, estimand: Estimand, role: Role, label: str, *needs: Need) -> Method:
    """Return a method that is a scvi-tools model's own differential expression."""
    score = partial(response.response_de_scores if estimand == "response" else _marker_de_scores, name=name, role=role)
    return Method(name, estimand, score=score, label=label, roles=(role,), needs=needs, references=(LOPEZ, BOYEAU))


# Where methods come from.
SVENSSON = "Svensson, Gayoso, Yosef & Pachter (2020), Bioinformatics 36 (the LDVAE)"
LOPEZ = "Lopez, Regier, Cole, Jordan & Yosef (2018), Nature Methods 15 (`rank.de_mode=vanilla`)"
BOYEAU = "Boyeau, Lopez, Regier et al. (2019), MLCB (`rank.de_mode=change`)"
MANN_WHITNEY = "Mann & Whitney (1947), Annals of Mathematical Statistics 18"
VAN_ELTEREN = "van Elteren (1960), Bulletin of the International Statistical Institute 37"
WELCH = "Welch (1947), Biometrika 34"
NTRANOS = "Ntranos, Yi, Melsted & Pachter (2019), Nature Methods 16"
DESEQ2 = "Love, Huber & Anders (2014), Genome Biology 15"
SQUAIR = "Squair, Gautier, Kathe et al. (2021), Nature Communications 12"
RESIDUALS = "Lause, Berens & Kobak (2021), Genome Biology 22 (Pearson residuals)"
PARALLEL = "Horn (1965), Psychometrika 30 (parallel analysis)"
SPIKE_AND_SLAB = "Mitchell & Beauchamp (1988), JASA 83 (the prior)"
VARIATIONAL = "Carbonetto & Stephens (2012), Bayesian Analysis 7 (the updates)"
HOTSPOT = "DeTomaso & Yosef (2021), Cell Systems 12 (local autocorrelation)"
COUNT_FACTORS = "Townes, Hicks, Aryee & Irizarry (2019), Genome Biology 20 (factors of the counts' likelihood)"

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        from_model(
            "axis", "marker", of_factors(axis), "loadings on the axis on which the population is most extreme", SVENSSON
        ),
        from_model(
            "contrast", "marker", of_factors(contrast), "difference of mean log expression under the model", SVENSSON
        ),
        from_own_test("ldvae_de", "marker", "global", "the LDVAE's own differential expression", LDVAE),
        from_own_test("scvi_de", "marker", "scvi", "a non-linear scVI's own differential expression", LIKELIHOOD),
        from_cells("wilcoxon", "marker", wilcoxon_scores, "rank-sum test, no model", MANN_WHITNEY),
        from_cells("t_test", "marker", t_test_scores, "Welch's t test, no model", WELCH),
        from_cells(
            "logreg", "marker", logreg_scores, "coefficients of a logistic regression, no model of counts", NTRANOS
        ),
        from_cells(
            "min_auc", "marker", min_auc_scores, "smallest AUC against any one other population, no model"
        ),
        from_cells(
            "min_rank_auc", "marker", min_rank_auc_scores, "best rank by AUC against any one other population, no model"
        ),
        from_cells(
            "pseudobulk", "marker", pseudobulk_scores, "DESeq2 on counts summed over samples", DESEQ2, SQUAIR,
            needs=(SAMPLES,),
        ),
        from_model(
            "shuffled", "marker", of_factors(contrast, shuffled=True), "contrast after shuffling the labels",
            of_every_model=False, as_the_model=False, control=True,
        ),
        from_cells("random", "marker", random_scores, "noise", deterministic=False, control=True),
        from_model(
            "spread", "program", of_factors(spread),
            "standard deviation of log expression within the population under the model", SVENSSON,
        ),
        from_model(
            "local", "program", of_factors(local), "loadings of the population's own on the global latent space",
            SVENSSON, RESIDUALS, needs=(),
        ),
        from_model(
            "hotspot", "program", hotspot_scores,
            "autocorrelation of the counts among neighbours within the population on the global latent space",
            HOTSPOT, needs=(), of_every_model=False,
        ),
        from_model(
            "conditioned", "program", of_factors(spread, "conditioned"),
            "spread of a model conditioned on the population", SVENSSON,
            roles=("conditioned",), needs=(LOADINGS, CONDITIONAL),
        ),
        from_model(
            "per_population", "program", of_own_models(spread), "spread of a model of the population's cells alone",
            SVENSSON, roles=("per_population",),
        ),
        from_cells(
            "within_pca", "program", within_pca_scores, "principal components of log counts within the population",
            PARALLEL,
        ),
        from_cells(
            "residual_pca", "program", residual_pca_scores,
            "principal components of Pearson residuals within the population", RESIDUALS, PARALLEL,
        ),
        from_cells(
            "cross_covariance", "program", cross_covariance_scores,
            "covariance with components of other cells of the population", RESIDUALS, PARALLEL, deterministic=False,
        ),
        from_cells(
            "sparse_factors", "program", sparse_factor_scores,
            "sparse factors of the population's counts, dispersions from all populations",
            SPIKE_AND_SLAB, VARIATIONAL, COUNT_FACTORS,
        ),
        from_cells(
            "within_dispersion", "program", within_dispersion_scores,
            "variance of Pearson residuals within the population", RESIDUALS,
        ),
        from_model(
            "response_contrast", "response", response.response_contrast_scores,
            "difference of mean log expression between conditions within the population under the model", SVENSSON,
            needs=(CONDITIONS, LOADINGS),
        ),
        from_own_test(
            "response_ldvae_de", "response", "global", "the LDVAE's own differential expression between conditions",
            CONDITIONS, LDVAE,
        ),
        from_own_test(
            "response_scvi_de", "response", "scvi",
            "a non-linear scVI's own differential expression between conditions", CONDITIONS, LIKELIHOOD,
        ),
        from_cells(
            "response_pseudobulk", "response", response.response_pseudobulk_scores,
            "DESeq2 between conditions on counts summed by donor, paired where donors have both", DESEQ2, SQUAIR,
            needs=(CONDITIONS, SAMPLES), of_every_model=True,
        ),
        from_cells(
            "response_wilcoxon", "response", response.response_wilcoxon_scores,
            "rank-sum test of cells between conditions, within donors that have both", VAN_ELTEREN,
            needs=(CONDITIONS,), of_every_model=True,
        ),
        from_model(
            RESPONSE_NULL, "response", partial(response.response_contrast_scores, permuted=True),
            "`response_contrast` after permuting the conditions, within donors that have both",
            needs=(CONDITIONS, LOADINGS), as_the_model=False, control=True,
        ),
    )
}  # fmt: skip

CONTROLS = frozenset(method.name for method in METHODS.values() if method.control)


def method_order(name: str) -> tuple[int, str]:
    """Return the sort key of a method's name: the order of the registry, then unknown names by themselves."""
    return list(METHODS).index(name) if name in METHODS else len(METHODS), name
