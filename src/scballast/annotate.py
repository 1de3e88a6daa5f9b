"""Results back in AnnData, where scanpy's plots find them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.data.names import valid_text, without_blanks
from scballast.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

KEY = "scballast"
_TABLES = ("answer", "stability", "consensus")


def annotate(
    adata: AnnData,
    tables: Mapping[str, pd.DataFrame],
    *,
    groupby: str,
    method: str | None = None,
    key_added: str = KEY,
) -> None:
    """Write consensus genes into ``adata.uns`` as ``sc.tl.rank_genes_groups`` writes its own.

    ``sc.pl.rank_genes_groups(adata, key="scballast")`` and its relatives plot them. The scores are the
    negative mean ranks over replicates (-1: first in every replicate), since most of the best genes share a
    selection frequency of 1; the frequencies, the share of replicates that have the gene in their top k,
    stand beside them as ``uns[key_added]["selection_frequency"]``. Log2 fold changes are those of the tables: of the
    mean counts per 10,000 of the analysed cells, 1 added to both, whatever ``X`` holds.

    Parameters
    ----------
    adata
        The cells; changed in place.
    tables
        The tables of an experiment: ``consensus`` and ``answer``.
    groupby
        Column of ``adata.obs`` with the populations, needed by scanpy's plots.
    method
        Whose genes; default: in each population the trusted marker method, and where the answer is
        "none" no genes.
    key_added
        Where in ``adata.uns``.

    Raises
    ------
    DataError
        The method has no consensus list, or no population has a trusted method.
    """
    consensus, answer = tables["consensus"], tables["answer"]
    lists: dict[str, pd.DataFrame] = {}
    for population in consensus["population"].unique():
        chosen = method or _trusted(answer, population)
        rows = consensus[(consensus["population"] == population) & (consensus["method"] == chosen)]
        if len(rows):
            # scanpy's accessors ask for p-values; a rank has none.
            lists[str(population)] = rows.sort_values("rank").assign(score=-rows["mean_rank"], undefined=float("nan"))
    if not lists:
        methods = ", ".join(sorted(map(str, consensus["method"].unique())))
        message = f"no consensus genes for method={method!r}; methods with consensus lists: {methods}."
        raise DataError(message)
    adata.uns[key_added] = {
        "params": {"groupby": groupby, "reference": "rest", "method": method or KEY, "use_raw": False, "layer": None},
        "names": _records(lists, "gene", "U64"),
        "scores": _records(lists, "score", "f4"),
        "selection_frequency": _records(lists, "selection_frequency", "f4"),
        "logfoldchanges": _records(lists, "log2_fold_change", "f8"),
        **{name: _records(lists, "undefined", "f8") for name in ("pvals", "pvals_adj")},
        **{name: tables[name].copy() for name in _TABLES if name in tables},
    }


def annotate_programs(adata: AnnData, tables: Mapping[str, pd.DataFrame], *, key_added: str = KEY) -> None:
    """Write the programs into ``adata``: activities of cells, weights of genes, and what is known of each program.

    Parameters
    ----------
    adata
        The cells; changed in place. Cells and genes are found by name.
    tables
        The tables of an experiment: ``programs``, ``program_summary``, ``program_activity``.
    key_added
        ``obsm[f"{key_added}_programs"]``: a column per program, NaN in the cells of other populations and
        in those of a large population that were not looked at;
        ``varm[f"{key_added}_programs"]``: weights of the 200 genes of the largest ones, 0 for the others;
        ``uns[f"{key_added}_programs"]``: the summary.

    Raises
    ------
    DataError
        No cell of the programs is in ``adata``.
    """
    import pandas as pd

    activity, weights = tables["program_activity"], tables["programs"]
    # As the tables have them: without odd blanks.
    cells, genes = (
        [without_blanks(valid_text(name)) for name in names] for names in (adata.obs_names, adata.var_names)
    )
    if len(activity) and not set(cells) & set(activity["cell"].astype(str)):
        message = f"no cell of the programs is in adata: names like {activity['cell'].iloc[0]!r} are not in obs_names."
        raise DataError(message)
    by_cell, by_gene = {}, {}
    for (population, program), rows in activity.groupby(["population", "program"], sort=False, observed=True):
        label = f"{population} {program}"
        values = pd.Series(rows["activity"].to_numpy(), index=rows["cell"].astype(str))
        by_cell[label] = values.reindex(cells).to_numpy()
        program_weights = weights[(weights["population"] == population) & (weights["program"] == program)]
        sizes = pd.Series(program_weights["weight"].to_numpy(), index=program_weights["gene"].astype(str))
        by_gene[label] = sizes.reindex(genes, fill_value=0.0).to_numpy()
    adata.obsm[f"{key_added}_programs"] = pd.DataFrame(by_cell, index=adata.obs_names)
    adata.varm[f"{key_added}_programs"] = pd.DataFrame(by_gene, index=adata.var_names)
    adata.uns[f"{key_added}_programs"] = tables["program_summary"].copy()


def _trusted(answer: pd.DataFrame, population: Any) -> str:
    rows = answer[(answer["population"] == population) & (answer["estimand"] == "marker")]
    return str(rows["method"].iloc[0]) if len(rows) else "none"


def _records(lists: Mapping[str, pd.DataFrame], column: str, dtype: str) -> np.ndarray[Any, Any]:
    """Return a column of each list, cut to the shortest, as scanpy keeps them: a record per rank."""
    length = min(len(rows) for rows in lists.values())
    records = np.recarray(length, dtype=[(name, dtype) for name in lists])
    for name, rows in lists.items():
        records[name] = rows[column].to_numpy()[:length].astype(dtype)
    return records
