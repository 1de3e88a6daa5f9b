"""The answer per population, joined from the stored tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scballast.methods.method import ESTIMANDS
from scballast.report.stored_tables import ResultFolder

N_GENES = 10  # genes shown for each answer


Glyph = Mapping[str, float | None]
"""Places in per cent, from 0 to 1, of a small dot ``phi`` with its interval ``lower`` to ``upper`` and ``floor``."""

Answer = Mapping[str, Any]
"""What to trust in one population, for one estimand: what ``tables/answer.csv`` says of it, ``method`` (``""`` for
none) with its ``phi``, ``lower``, ``upper``, ``floor``, ``confirmed``, ``confirmed_lower`` and ``concordance`` (NaN
where unknown), ``reference`` (the other trusted methods, by their names) and ``reason``; and beside it ``trusted``
(whether there is a method), ``n_cells`` (None where the table of populations is missing), ``genes`` (the first
confirmed ones: label, and log2 fold change of the population over all other cells) and ``glyph``."""


def answers(results: ResultFolder) -> list[Answer]:
    """Read the answer of each population and estimand.

    Parameters
    ----------
    results
        Result folder; read: ``answer``, ``answer_genes``, ``populations``, ``genes``.

    Returns
    -------
    list of Answer
        Largest population first, marker before program before response; empty without an answer table.
    """
    table = results.table("answer")
    if table is None:
        return []
    genes = _first_genes(results)
    place = {name: i for i, name in enumerate(results.populations)}
    order: dict[str, int] = {name: i for i, name in enumerate(ESTIMANDS)}
    stored = table.assign(method=table["method"].where(table["method"] != "none", "")).to_dict("records")
    stored.sort(key=lambda a: (place.get(a["population"], len(place)), a["population"], order.get(a["estimand"], 9)))
    return [
        {
            **row,
            "trusted": bool(row["method"]),
            "n_cells": results.n_cells.get(row["population"]),
            "genes": genes.get((row["population"], row["estimand"], row["method"]), ()),
            "glyph": _glyph(row),
        }
        for row in stored
    ]


def _glyph(answer: Answer) -> Glyph | None:
    """Put Φ, interval and floor on a line from 0 to 1; None where Φ is unknown."""
    shares = {name: answer[name] for name in ("phi", "lower", "upper", "floor")}
    glyph = {k: round(100 * min(1.0, max(0.0, v)), 1) if math.isfinite(v) else None for k, v in shares.items()}
    return None if glyph["phi"] is None else glyph


def _first_genes(results: ResultFolder) -> dict[Any, list[tuple[str, float]]]:
    table = results.table("answer_genes")
    if table is None:
        return {}
    first = table.sort_values("rank", kind="stable").groupby(["population", "estimand"], sort=False).head(N_GENES)
    return {
        key: [(results.gene_label(str(row.gene)), row.log2_fold_change) for row in rows.itertuples()]
        for key, rows in first.groupby(["population", "estimand", "method"], sort=False)
    }
