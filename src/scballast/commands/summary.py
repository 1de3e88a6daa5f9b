"""What the terminal shows at the end: the answer per population, and where to look further."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scballast.config.schema import Config
from scballast.sweep.door import door

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, RenderableType

    from scballast.sweep.trial import TrialOutcome

_N_GENES = 8
_MANY = 20
"""Beyond so many populations those without an answer are named together; the report has the reason of each."""
_TITLES = {
    "marker": "Genes that set a population apart (marker)",
    "program": "Genes that vary within a population (program)",
    "response": "Genes that respond within a population (response)",
}


def print_summary(outcome: TrialOutcome, config: Config) -> None:
    """Print the answer per population, where the report is, and how to open it in the UI."""
    from rich.console import Console

    console = Console(highlight=False)
    print_answers(console, outcome.experiment.results.tables, config.rank.top_k)
    for line in door(outcome.run_id, outcome.folder, config):
        console.print(line, soft_wrap=True, markup=False)


def print_answers(
    console: Console, tables: Mapping[str, pd.DataFrame], top_k: int, reasons: str = " The report says why of each."
) -> None:
    """Print each answer in two or three lines that fit any width: method and numbers, then genes or the reason.

    Parameters
    ----------
    console
        Where to.
    tables
        ``answer``, ``answer_genes``.
    top_k
        Genes in a list.
    reasons
        Where the reasons are of many populations without an answer.
    """
    from rich.padding import Padding
    from rich.text import Text

    answer, genes = tables["answer"], tables["answer_genes"]
    indent = 2 if console.width < 60 else 4
    for estimand, title in _TITLES.items():
        rows = answer[answer["estimand"] == estimand]
        if len(rows):
            console.print(Text(f"\n{title}: method to trust, and its first genes (log2 fold change)", "bold"))
        without = rows[rows["method"] == "none"] if len(rows) > _MANY else rows[:0]
        for row in rows.drop(without.index).itertuples():
            for line in verdict_lines(str(row.population), _verdict(row, top_k), console.width):
                console.print(line)
            below = str(row.reason) if row.method == "none" else _first_genes(genes, row)
            console.print(Padding(Text(below), (0, 0, 0, indent)))
        if len(without):
            console.print(Text.assemble((f"{len(without)} of {len(rows)} populations", "bold"), "  none"))
            named = f"{', '.join(map(str, without['population']))}.{reasons}"
            console.print(Padding(Text(named), (0, 0, 0, indent)))


def print_first_answer(tables: Mapping[str, pd.DataFrame], top_k: int) -> None:
    """Print the answer of the methods that look at cells alone, as soon as it stands, where progress is printed."""
    from rich.console import Console

    console = Console(highlight=False, stderr=True)
    print_answers(console, tables, top_k, reasons="")
    console.print("\nThat is the answer from cells alone. Models are trained now, and the answer is decided anew.\n")


def _verdict(row: Any, top_k: int) -> str:
    if row.method == "none":
        return "none"
    # A share times k may fall a rounding error short of the whole number that it came from.
    held = math.floor(row.confirmed_lower * top_k + 1e-9) if row.confirmed_lower == row.confirmed_lower else None
    confirmed = "" if held is None else f"; at least {held} of {top_k} hold in unseen cells"
    return f"{row.method}{confirmed}; Φ {_number(row.phi)} [{_number(row.lower)}, {_number(row.upper)}]"


def verdict_lines(name: str, verdict: str, width: int) -> list[RenderableType]:
    """Put name and verdict on one line, or below each other, or the verdict's parts: an interval is not broken.

    Parameters
    ----------
    name
        Whose verdict it is.
    verdict
        Its parts, between them ``"; "``.
    width
        Of the terminal, in characters.
    """
    from rich.padding import Padding
    from rich.text import Text

    if len(name) + 2 + len(verdict) <= width:
        return [Text.assemble((name, "bold"), "  ", verdict)]
    parts = [verdict] if 2 + len(verdict) <= width else verdict.replace("; ", ";\n").split("\n")
    return [Text(name, "bold"), *(Padding(Text(part), (0, 0, 0, 2), expand=False) for part in parts)]


def _first_genes(genes: pd.DataFrame, row: Any) -> str:
    listed_for = (genes["population"] == row.population) & (genes["estimand"] == row.estimand)
    answer_genes = genes[listed_for].sort_values("rank")
    first = answer_genes.head(_N_GENES)
    names = _short_names(answer_genes).loc[first.index]
    listed = [f"{name} {change:+.1f}" for name, change in zip(names, first["log2_fold_change"], strict=True)]
    more = f", … {len(answer_genes)} in all" if len(answer_genes) > len(first) else ""
    return ", ".join(listed) + more if listed else "no gene is confirmed on its own"


def _short_names(genes: pd.DataFrame) -> pd.Series:
    """Return what each gene goes by: its symbol, both where several share it, its id where it has none."""
    symbols = genes["symbol"].where(genes["symbol"].notna() & (genes["symbol"] != ""), genes["gene"]).astype(str)
    shared = symbols.duplicated(keep=False) & (symbols != genes["gene"])
    return symbols.where(~shared, symbols + " (" + genes["gene"].astype(str) + ")")


def _number(value: float) -> str:
    return f"{value:z.2f}" if value == value else "–"
