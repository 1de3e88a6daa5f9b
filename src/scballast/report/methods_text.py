"""The methods of a run in sentences, from its resolved configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scballast.methods.method import ESTIMANDS, LIST_ESTIMANDS
from scballast.models import FAMILIES
from scballast.report.stored_tables import setting
from scballast.report.wording import floor_parts

if TYPE_CHECKING:
    from scballast.report.stored_tables import ResultFolder

_RESAMPLING = {
    "subsample": "complementary random parts of the cells, stratified by population",
    "seed": "the same cells with another seed of the training",
    "bootstrap": "cells drawn with replacement",
    "thin": "counts thinned in two, cells clustered again on one part and everything else done on the other, in "
    "complementary random parts of the cells",
    "donor": "disjoint halves of the samples",
}
_RESPONSE = (
    ", response genes by van Elteren’s rank test between conditions within strata of donor, batch and depth or, in "
    "donors that the replicate did not hold, by t tests of the donors’ log expression (two-sided)"
)


def methods_text(results: ResultFolder) -> list[str]:
    """Describe data, model, replicates and statistics for a methods section.

    Parameters
    ----------
    results
        Result folder; read: ``config/resolved.yaml``, ``stability``, ``populations``, ``training``.

    Returns
    -------
    list of str
        Paragraphs of plain text.
    """

    def get(key: str, default: Any = "not recorded") -> Any:
        value = setting(results.config, key)
        return default if value is None else value

    cells = f" with {sum(results.n_cells.values()):,} cells" if results.n_cells else ""
    data = (
        f"Data: {results.dataset or 'unnamed'}; {len(results.populations)} populations{cells}, column "
        f"{get('data.population_key')}; batch covariate: {get('data.batch_key', 'none')}; genes: "
        f"{get('data.n_top_genes', 'all')} at most; smallest population ranked: {get('data.min_cells')} cells."
    )
    kind = str(get("resample.kind"))
    count = results.n_replicates
    family = FAMILIES.get(str(get("model.name")))
    model = f"Model: {family.methods_text(results.config) if family and results.config else get('model.name')} "
    if "local" in results.methods("program"):
        model += f"Ridge of local: {get('rank.local_ridge')}. "
    model += (
        f"Replicates: {count if count is not None else 'not recorded'} "
        f"({kind}: {_RESAMPLING.get(kind, kind)}); all methods of a replicate saw the same cells. Seed {get('seed')}."
    )
    asked = [name for name in ESTIMANDS if name in LIST_ESTIMANDS or results.methods(name)]
    lists = "; ".join(f"{estimand}: {', '.join(results.methods(estimand)) or 'none'}" for estimand in asked)
    statistics = (
        f"Methods by estimand: {lists}. Stability is Nogueira’s Φ (Nogueira, Sechidis & Brown 2018) of the top "
        f"{results.top_k} genes over replicates with a jackknife interval (t distribution); the floor is "
        f"{floor_parts(results)}. Concordance is the overlap of the top genes, paired "
        "by replicate; its noise ceiling is the geometric mean of the two stabilities. Consensus lists are "
        "ordered by mean midrank (Borda). Confirmation: each list’s genes were tested in the cells outside its "
        "replicate; markers by van Elteren’s rank test within strata of depth and batch, program genes by the "
        "correlation of their Pearson residual with the activity of the rest of the list, weighted by the correlations "
        f"in the replicate (one-sided t test){_RESPONSE if 'response' in asked else ''}; "
        "q-values within a list by Storey, Taylor & Siegmund (2004), lower bounds "
        "by closed testing with Simes’ tests (Goeman & Solari 2011), combined over replicates by their median at "
        "97.5%; p-values of a gene by twice their median."
    )
    return [data, model, statistics]
