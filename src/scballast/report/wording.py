"""What the words of a report mean, which depends on how its replicates were made, and its methods in sentences."""

from __future__ import annotations

from typing import Any

from scballast.agreement.complementary_pairs import r_concave_bound
from scballast.agreement.stability import selection_error_bound
from scballast.methods.method import ESTIMANDS, LIST_ESTIMANDS
from scballast.models import FAMILIES
from scballast.report.stored_tables import ResultFolder
from scballast.results import setting

FEWEST_FOR_ERROR = 4  # replicates: two pairs without a common cell
KEPT_FREQUENCY = 0.9  # selection frequency of the genes that the error bound speaks of

_AGAIN = {
    "subsample": "when the cells are drawn anew",
    "bootstrap": "when the cells are drawn anew with replacement",
    "seed": "when the same cells are trained on with other seeds",
    "thin": "when the cells are drawn anew, under labels that other counts gave",
    "donor": "when other samples are taken",
}
_BETWEEN_POPULATIONS = "the same index between lists of different populations (abundant genes recur everywhere)"
_OR_OF_RESPONSE = " or, of response genes, between lists under permuted conditions (populations may respond alike)"


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


def again(kind: object) -> str:
    """Say in what circumstances a stable list comes back, by the kind of resampling."""
    return _AGAIN.get(str(kind), "in another replicate")


def of_drawn(results: ResultFolder) -> str:
    """Say how many populations a figure leaves out; nothing where it has all."""
    n_drawn, n = len(results.drawn), len(results.populations)
    return "" if n_drawn == n else f" Drawn: the {n_drawn} largest of {n} populations; the tables have all."


def floor_parts(results: ResultFolder) -> str:
    """Say what the floor of these results is made of.

    Parameters
    ----------
    results
        Result folder; read: ``stability``, ``config/resolved.yaml``.

    Returns
    -------
    str
        The end of a sentence that begins with "the floor is".
    """
    first = _BETWEEN_POPULATIONS + (_OR_OF_RESPONSE if results.methods("response") else "")
    if not compares_disjoint_cells(results):
        return f"{first}; the replicates have cells in common, so it says nothing about what other cells would show"
    shared = "what replicates agree in only because they have cells in common"
    if results.headline["n_replicates"].max() < FEWEST_FOR_ERROR:
        return f"{first} plus {shared}; the sampling error of both is unknown with so few replicates"
    return f"the sum of {first}, of {shared}, and of the 95% limit of the sampling error of both"


def compares_disjoint_cells(results: ResultFolder) -> bool:
    """Whether the floors of these results rest on replicates without a common cell."""
    if setting(results.config, "resample.kind") in {"seed", "bootstrap"}:
        return False
    headline = results.headline
    return "disjoint" in headline and bool(headline["disjoint"].notna().any())


def error_bound(results: ResultFolder) -> str:
    """Bound the number of falsely selected genes, where the theorem applies.

    Parameters
    ----------
    results
        Result folder; read: ``rankings``, ``config/resolved.yaml``.

    Returns
    -------
    str
        One sentence; ``""`` unless the replicates are halves of the cells drawn without replacement.
    """
    n_genes = results.n_genes
    half = setting(results.config, "resample.fraction", 0.5) == 0.5
    if setting(results.config, "resample.kind") != "subsample" or not half or not 0 < results.top_k < n_genes:
        return ""
    bound = float(selection_error_bound(results.top_k, n_genes, KEPT_FREQUENCY))
    sharper = ""
    n_pairs = int(results.headline["n_replicates"].max()) // 2
    if n_pairs > 1:
        concave = float(r_concave_bound(results.top_k, n_genes, KEPT_FREQUENCY, n_pairs))
        sharper = (
            f" If the chances of selection are r-concave, at most {concave:.2f} (Shah & Samworth 2013, "
            f"{n_pairs} complementary pairs)."
        )
    return (
        f"Of a list’s genes with a selection frequency of {KEPT_FREQUENCY:.2f} or more, at most {bound:.2f} are "
        f"expected to be there by chance: q²/((2π − 1)G) with q = {results.top_k} genes selected of "
        f"G = {n_genes:,} and π = {KEPT_FREQUENCY:g} (Meinshausen & Bühlmann 2010, Theorem 1, for random halves of the "
        f"cells; it takes genes without a signal to be alike, and frequencies over many halves).{sharper}"
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
