"""Over-representation of gene sets in a list of genes, among the genes that were analysed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

SMALLEST_SET = 3


@dataclass(frozen=True)
class Enrichment:
    """One gene set against one list.

    Attributes
    ----------
    gene_set
        Its name.
    n_set, n_list, n_common
        Genes of the set, of the list, and of both, among the analysed genes.
    fold
        ``n_common`` over what chance would give.
    p_value
        Probability of as many common genes or more.
    q_value
        After Benjamini and Hochberg, over the sets that were tested against this list.
    common
        The common genes, in the list's order.
    """

    gene_set: str
    n_set: int
    n_list: int
    n_common: int
    fold: float
    p_value: float
    q_value: float
    common: tuple[str, ...]


def enriched_sets(
    genes: Collection[str], analysed: Collection[str], gene_sets: Mapping[str, Collection[str]]
) -> tuple[Enrichment, ...]:
    """Test every gene set against a list by the hypergeometric distribution, best first.

    Parameters
    ----------
    genes
        The list; genes that were not analysed take no part.
    analysed
        Every gene that could have entered the list: never the genome, for what was not measured or not selected
        could not be drawn.
    gene_sets
        Genes by name of the set; a set with fewer than `SMALLEST_SET` analysed genes is not tested.

    References
    ----------
    Timmons, Szkop & Gallagher (2015), Multiple sources of bias confound functional enrichment analysis of global
    -omics data.
    """
    universe = set(analysed)
    listed = [gene for gene in dict.fromkeys(genes) if gene in universe]
    tested = {name: members for name in gene_sets if len(members := universe & set(gene_sets[name])) >= SMALLEST_SET}
    if not listed or not tested:
        return ()
    common = {name: tuple(gene for gene in listed if gene in members) for name, members in tested.items()}
    n_common = np.array([len(common[name]) for name in tested])
    n_set = np.array([len(members) for members in tested.values()])
    p_values = stats.hypergeom.sf(n_common - 1, len(universe), n_set, len(listed))
    q_values = stats.false_discovery_control(np.clip(p_values, 0.0, 1.0))
    fold = n_common * len(universe) / (n_set * len(listed))
    rows = [
        Enrichment(name, int(n_set[i]), len(listed), int(n_common[i]), float(fold[i]), float(p_values[i]),
                   float(q_values[i]), common[name])
        for i, name in enumerate(tested)
    ]  # fmt: skip
    return tuple(sorted(rows, key=lambda row: (row.p_value, row.gene_set)))
