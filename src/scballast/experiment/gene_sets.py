"""Gene sets from a file of the user's, and the programs and answers tested against them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pandas as pd

from scballast.agreement.enrichment import SMALLEST_SET, enriched_sets
from scballast.data.dataset import Dataset
from scballast.errors import DataError

KEPT_SETS = 20  # of each list, best first
_COLUMNS = (
    "population", "list", "gene_set", "n_set", "n_list", "n_common", "fold", "p_value", "q_value", "common_genes",
)  # fmt: skip


def read_gmt(path: str) -> dict[str, frozenset[str]]:
    """Read gene sets: a line each, of name, description and genes, parted by tabs.

    Raises
    ------
    DataError
        The file cannot be read, or a line holds no genes.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        message = f"programs.gene_sets: {path} cannot be read ({reason}). Name a .gmt file."
        raise DataError(message) from error
    sets: dict[str, frozenset[str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, *rest = (word.strip() for word in line.split("\t"))
        genes = frozenset(word for word in rest[1:] if word)
        if not name or not genes:
            message = (
                f"programs.gene_sets: {path}, line {number} is no gene set. A line holds a name, a description and "
                "genes, parted by tabs."
            )
            raise DataError(message)
        sets[name] = sets.get(name, frozenset()) | genes
    if not sets:
        message = f"programs.gene_sets: {path} holds no gene set."
        raise DataError(message)
    return sets


def enrichment_table(
    tables: Mapping[str, pd.DataFrame], dataset: Dataset, gene_sets: Mapping[str, Collection[str]]
) -> pd.DataFrame:
    """Test every program, and the genes of every answer, against the sets, among the analysed genes.

    Parameters
    ----------
    tables
        ``programs``, and ``answer_genes`` where there is one.
    dataset
        Its genes are the ones that could have entered a list; sets may name them by id or symbol.
    gene_sets
        From :func:`read_gmt`.

    Returns
    -------
    DataFrame
        A row per list and set, at most 20 per list: population, list (``P1 up``, ``marker answer``, …), n_set and
        n_list (analysed genes), n_common, fold, p_value, q_value (Benjamini-Hochberg over the sets of the list),
        common_genes.

    Raises
    ------
    DataError
        No set holds three of the analysed genes: other identifiers, or another species.
    """
    names = [str(gene) for gene in dataset.adata.var_names]
    symbols = [symbol or name for symbol, name in zip(dataset.gene_symbols or names, names, strict=True)]
    members = frozenset().union(*gene_sets.values())
    known = max((names, symbols), key=lambda candidates: len(members.intersection(candidates)))
    if not any(len(set(genes).intersection(known)) >= SMALLEST_SET for genes in gene_sets.values()):
        message = (
            f"programs.gene_sets: no set holds {SMALLEST_SET} of the {len(names)} analysed genes, which are named like "
            f"{known[0]!r}. Name a file with the same identifiers and species."
        )
        raise DataError(message)
    called = dict(zip(names, known, strict=True))
    rows = []
    for population, label, genes in _lists(tables):
        for hit in enriched_sets([called[gene] for gene in genes], known, gene_sets)[:KEPT_SETS]:
            *numbers, common = astuple(hit)
            rows.append((population, label, *numbers, " ".join(common)))
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def program_genes(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Return a program's genes by side, ``up`` and ``down``: those of its top 50 that unseen cells confirm."""
    program_rows = rows[rows["confirmed"]]
    sides = {"up": program_rows[program_rows["weight"] > 0], "down": program_rows[program_rows["weight"] < 0]}
    return {side: [str(gene) for gene in part["gene"]] for side, part in sides.items() if len(part)}


def _lists(tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[Any, str, list[str]]]:
    for (population, program), rows in tables["programs"].groupby(["population", "program"], sort=False):
        for side, genes in program_genes(rows).items():
            yield population, f"{program} {side}", genes
    if "answer_genes" in tables:
        answers = tables["answer_genes"].groupby(["population", "estimand"], sort=False, observed=True)
        for (population, estimand), rows in answers:
            yield population, f"{estimand} answer", [str(gene) for gene in rows["gene"]]
