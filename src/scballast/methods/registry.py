"""The registry of methods, in the order of tables and figures: one entry each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scballast.arrays import FloatArray
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
    Evidence,
    Method,
    Role,
)
from scballast.methods.one_vs_each import min_auc_scores, min_rank_auc_scores
from scballast.methods.pseudobulk import pseudobulk_scores
from scballast.methods.rankers import Ranker, axis, contrast, local, spread
from scballast.methods.response import (
    response_contrast_scores,
    response_de_scores,
    response_pseudobulk_scores,
    response_wilcoxon_scores,
)
from scballast.methods.sparse_factors import sparse_factor_scores
from scballast.methods.t_test import t_test_scores
from scballast.methods.wilcoxon import wilcoxon_scores
from scballast.methods.within import residual_pca_scores, within_dispersion_scores, within_pca_scores

Score = Callable[[Evidence], FloatArray]


def of_cells(score: Callable[[CellView], FloatArray]) -> Score:
    """Return the score of a method that looks at cells alone."""
    return lambda evidence: score(evidence.cells)


def of_factors(score: Ranker, role: Role = "global") -> Score:
    """Return the score of a method that reads one model of all the replicate's cells, population by population."""

    def scores(evidence: Evidence) -> FloatArray:
        view = evidence.factors(role)
        if view is None:
            return evidence.cells.empty_scores()
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


def of_differential_expression(name: str, role: Role) -> Score:
    """Return the score by a model's own differential expression, each population against the rest."""

    def scores(evidence: Evidence) -> FloatArray:
        from scballast.methods.model_de import model_de_scores
        from scballast.threads import one_thread

        model, cells = evidence.model(role), evidence.cells
        if model is None:
            return cells.empty_scores()
        with one_thread():
            return model_de_scores(
                model, cells.codes, cells.populations, mode=evidence.de_mode, seed=evidence.seed(name)
            )

    return scores


def of_response_test(name: str, role: Role) -> Score:
    """Return the score by a model's own differential expression between conditions."""
    return lambda evidence: response_de_scores(evidence, name, role)


def _of_permuted_conditions(evidence: Evidence) -> FloatArray:
    return response_contrast_scores(evidence, permuted=True)


def _of_shuffled_labels(evidence: Evidence) -> FloatArray:
    view = evidence.factors("global")
    if view is None:
        return evidence.cells.empty_scores()
    shuffled = replace(view, codes=evidence.shuffling().permutation(view.codes))
    return np.stack([contrast(shuffled, population) for population in range(evidence.cells.n_populations)])


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
        Method(
            "axis",
            "marker",
            score=of_factors(axis),
            label="loadings on the axis on which the population is most extreme",
            roles=("global",),
            needs=(LOADINGS,),
            of_every_model=True,
            as_the_model=True,
            references=(SVENSSON,),
        ),
        Method(
            "contrast",
            "marker",
            score=of_factors(contrast),
            label="difference of mean log expression under the model",
            roles=("global",),
            needs=(LOADINGS,),
            of_every_model=True,
            as_the_model=True,
            references=(SVENSSON,),
        ),
        Method(
            "ldvae_de",
            "marker",
            score=of_differential_expression("ldvae_de", "global"),
            label="the LDVAE's own differential expression",
            roles=("global",),
            needs=(LDVAE,),
            references=(LOPEZ, BOYEAU),
        ),
        Method(
            "scvi_de",
            "marker",
            score=of_differential_expression("scvi_de", "scvi"),
            label="a non-linear scVI's own differential expression",
            roles=("scvi",),
            needs=(LIKELIHOOD,),
            references=(LOPEZ, BOYEAU),
        ),
        Method(
            "wilcoxon",
            "marker",
            deterministic=True,
            score=of_cells(wilcoxon_scores),
            label="rank-sum test, no model",
            references=(MANN_WHITNEY,),
        ),
        Method(
            "t_test",
            "marker",
            deterministic=True,
            score=of_cells(t_test_scores),
            label="Welch's t test, no model",
            references=(WELCH,),
        ),
        Method(
            "logreg",
            "marker",
            deterministic=True,
            score=of_cells(logreg_scores),
            label="coefficients of a logistic regression, no model of counts",
            references=(NTRANOS,),
        ),
        Method(
            "min_auc",
            "marker",
            deterministic=True,
            score=of_cells(min_auc_scores),
            label="smallest AUC against any one other population, no model",
        ),
        Method(
            "min_rank_auc",
            "marker",
            deterministic=True,
            score=of_cells(min_rank_auc_scores),
            label="best rank by AUC against any one other population, no model",
        ),
        Method(
            "pseudobulk",
            "marker",
            deterministic=True,
            score=of_cells(pseudobulk_scores),
            label="DESeq2 on counts summed over samples",
            needs=(SAMPLES,),
            references=(DESEQ2, SQUAIR),
        ),
        Method(
            "shuffled",
            "marker",
            score=_of_shuffled_labels,
            label="contrast after shuffling the labels",
            roles=("global",),
            needs=(LOADINGS,),
            control=True,
        ),
        Method("random", "marker", score=of_cells(random_scores), label="noise", control=True),
        Method(
            "spread",
            "program",
            score=of_factors(spread),
            label="standard deviation of log expression within the population under the model",
            roles=("global",),
            needs=(LOADINGS,),
            of_every_model=True,
            as_the_model=True,
            references=(SVENSSON,),
        ),
        Method(
            "local",
            "program",
            score=of_factors(local),
            label="loadings of the population's own on the global latent space",
            roles=("global",),
            of_every_model=True,
            as_the_model=True,
            references=(SVENSSON, RESIDUALS),
        ),
        Method(
            "hotspot",
            "program",
            score=hotspot_scores,
            label="autocorrelation of the counts among neighbours within the population on the global latent space",
            roles=("global",),
            as_the_model=True,
            references=(HOTSPOT,),
        ),
        Method(
            "conditioned",
            "program",
            score=of_factors(spread, "conditioned"),
            label="spread of a model conditioned on the population",
            roles=("conditioned",),
            needs=(LOADINGS, CONDITIONAL),
            of_every_model=True,
            as_the_model=True,
            references=(SVENSSON,),
        ),
        Method(
            "per_population",
            "program",
            score=of_own_models(spread),
            label="spread of a model of the population's cells alone",
            roles=("per_population",),
            needs=(LOADINGS,),
            of_every_model=True,
            as_the_model=True,
            references=(SVENSSON,),
        ),
        Method(
            "within_pca",
            "program",
            deterministic=True,
            score=of_cells(within_pca_scores),
            label="principal components of log counts within the population",
            references=(PARALLEL,),
        ),
        Method(
            "residual_pca",
            "program",
            deterministic=True,
            score=of_cells(residual_pca_scores),
            label="principal components of Pearson residuals within the population",
            references=(RESIDUALS, PARALLEL),
        ),
        Method(
            "cross_covariance",
            "program",
            score=of_cells(cross_covariance_scores),
            label="covariance with components of other cells of the population",
            references=(RESIDUALS, PARALLEL),
        ),
        Method(
            "sparse_factors",
            "program",
            deterministic=True,
            score=of_cells(sparse_factor_scores),
            label="sparse factors of the population's counts, dispersions from all populations",
            references=(SPIKE_AND_SLAB, VARIATIONAL, COUNT_FACTORS),
        ),
        Method(
            "within_dispersion",
            "program",
            deterministic=True,
            score=of_cells(within_dispersion_scores),
            label="variance of Pearson residuals within the population",
            references=(RESIDUALS,),
        ),
        Method(
            "response_contrast",
            "response",
            score=response_contrast_scores,
            label="difference of mean log expression between conditions within the population under the model",
            roles=("global",),
            needs=(CONDITIONS, LOADINGS),
            of_every_model=True,
            as_the_model=True,
            references=(SVENSSON,),
        ),
        Method(
            "response_ldvae_de",
            "response",
            score=of_response_test("response_ldvae_de", "global"),
            label="the LDVAE's own differential expression between conditions",
            roles=("global",),
            needs=(CONDITIONS, LDVAE),
            references=(LOPEZ, BOYEAU),
        ),
        Method(
            "response_scvi_de",
            "response",
            score=of_response_test("response_scvi_de", "scvi"),
            label="a non-linear scVI's own differential expression between conditions",
            roles=("scvi",),
            needs=(CONDITIONS, LIKELIHOOD),
            references=(LOPEZ, BOYEAU),
        ),
        Method(
            "response_pseudobulk",
            "response",
            deterministic=True,
            score=of_cells(response_pseudobulk_scores),
            label="DESeq2 between conditions on counts summed by donor, paired where donors have both",
            needs=(CONDITIONS, SAMPLES),
            of_every_model=True,
            references=(DESEQ2, SQUAIR),
        ),
        Method(
            "response_wilcoxon",
            "response",
            deterministic=True,
            score=of_cells(response_wilcoxon_scores),
            label="rank-sum test of cells between conditions, within donors that have both",
            needs=(CONDITIONS,),
            of_every_model=True,
            references=(VAN_ELTEREN,),
        ),
        Method(
            RESPONSE_NULL,
            "response",
            score=_of_permuted_conditions,
            label="`response_contrast` after permuting the conditions, within donors that have both",
            roles=("global",),
            needs=(CONDITIONS, LOADINGS),
            of_every_model=True,
            control=True,
        ),
    )
}

CONTROLS = frozenset(method.name for method in METHODS.values() if method.control)


def method_order(name: str) -> tuple[int, str]:
    """Return the sort key of a method's name: the order of the registry, then unknown names by themselves."""
    return list(METHODS).index(name) if name in METHODS else len(METHODS), name
