"""The answer per population, joined from the stored tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from scballast.methods.method import ESTIMANDS
from scballast.report.stored_tables import ResultFolder

N_GENES = 10  # genes shown for each answer


@dataclass(frozen=True)
class Gene:
    """A gene of an answer, under its label, with the log2 fold change of the population over all other cells."""

    name: str
    log2_fold_change: float


@dataclass(frozen=True)
class Glyph:
    """Positions in per cent of a small dot with its interval and floor, Φ from 0 to 1."""

    phi: float
    lower: float | None
    upper: float | None
    floor: float | None


@dataclass(frozen=True)
class Answer:
    """What to trust in one population, for one estimand.

    Attributes
    ----------
    population, estimand
        What was asked.
    n_cells
        Cells of the population; None where the table of populations is missing.
    method
        Method to trust; ``""`` for none.
    phi, lower, upper, floor
        Stability of that method at the headline k, its interval and its floor; NaN where unknown.
    confirmed, confirmed_lower
        Share of the top k that is confirmed in unseen cells, and the share that holds with 95% confidence; NaN where
        unknown.
    concordance, reference
        Agreement with the other trusted methods, and their names.
    reason
        Why this method, or why none.
    genes
        The first confirmed genes.
    """

    population: str
    estimand: str
    n_cells: int | None
    method: str
    phi: float
    lower: float
    upper: float
    floor: float
    confirmed: float
    confirmed_lower: float
    concordance: float
    reference: str
    reason: str
    genes: tuple[Gene, ...]

    @property
    def n_references(self) -> int:
        """With how many methods the agreement is."""
        return len(self.reference.split(", ")) if self.reference else 0

    @property
    def trusted(self) -> bool:
        """Whether a method can be trusted here."""
        return bool(self.method)

    @property
    def glyph(self) -> Glyph | None:
        """Φ, interval and floor on a line from 0 to 1; None where Φ is unknown."""
        phi, *rest = (
            round(100 * min(1.0, max(0.0, value)), 1) if math.isfinite(value) else None
            for value in (self.phi, self.lower, self.upper, self.floor)
        )
        return None if phi is None else Glyph(phi, *rest)


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
    in_table_order = []
    for row in table.to_dict("records"):
        asked = row["population"], row["estimand"]
        stored = {entry.name: row[entry.name] for entry in fields(Answer) if entry.name in row}
        stored["method"] = "" if row["method"] == "none" else row["method"]
        listed = genes.get((*asked, stored["method"]), ())
        in_table_order.append(Answer(**stored, n_cells=results.n_cells.get(row["population"]), genes=listed))
    last = len(place)
    return sorted(in_table_order, key=lambda a: (place.get(a.population, last), a.population, order.get(a.estimand, 9)))


def _first_genes(results: ResultFolder) -> dict[tuple[str, str, str], tuple[Gene, ...]]:
    table = results.table("answer_genes")
    if table is None:
        return {}
    lists: dict[tuple[str, str, str], list[Gene]] = {}
    first = table.sort_values("rank", kind="stable").groupby(["population", "estimand"], sort=False).head(N_GENES)
    for row in first.itertuples():
        gene = Gene(results.gene_label(str(row.gene)), float(row.log2_fold_change))
        lists.setdefault((row.population, row.estimand, row.method), []).append(gene)
    return {key: tuple(value) for key, value in lists.items()}
