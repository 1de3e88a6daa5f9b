"""What the terminal shows at the end: the answer per population, and where to look further."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from scballast.config.schema import Config

if TYPE_CHECKING:
    import pandas as pd

    from scballast.sweep.trial import TrialOutcome

_N_GENES = 6


def print_summary(outcome: TrialOutcome, config: Config) -> None:
    """Print the answer per population and how to open the UI."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    tables = outcome.experiment.results.tables
    answer, consensus, names = tables["answer"], tables["consensus"], _short_names(tables["genes"])
    for estimand, title in (
        ("marker", "Genes that set a population apart (marker)"),
        ("program", "Genes that vary within a population (program)"),
    ):
        rows = answer[answer["estimand"] == estimand]
        if not len(rows):
            continue
        table = Table(title=f"{title}: the method to trust", title_justify="left")
        table.add_column("population", overflow="fold")
        table.add_column("method", no_wrap=True)
        table.add_column(f"Φ@{config.rank.top_k} (95% interval)", no_wrap=True)
        table.add_column("floor", no_wrap=True)
        table.add_column("first consensus genes", overflow="fold")
        for row in rows.itertuples():
            table.add_row(
                escape(str(row.population)),
                str(row.method),
                _interval(row),
                _number(row.floor),
                escape(", ".join(names.get(gene, gene) for gene in _first_genes(consensus, row))),
            )
        console.print(table)
    flag = "" if config.runs_dir == "runs" else f" --runs-dir {shlex.quote(config.runs_dir)}"
    console.print(f"Report: {outcome.folder / 'report.html'}", soft_wrap=True, markup=False, highlight=False)
    console.print(f"Open the MLflow UI with: scballast-ui{flag}", soft_wrap=True, markup=False, highlight=False)


def _short_names(genes: pd.DataFrame) -> dict[str, str]:
    """Return the symbols by gene; the lines are short, so the id stands beside a symbol only where several share it."""
    named = genes[(genes["symbol"] != "") & (genes["symbol"] != genes["gene"])]
    shared = named["symbol"].duplicated(keep=False)
    return {
        str(gene): f"{symbol} ({gene})" if several else str(symbol)
        for gene, symbol, several in zip(named["gene"], named["symbol"], shared, strict=True)
    }


def _first_genes(consensus: pd.DataFrame, row: Any) -> list[str]:
    own = consensus[(consensus["population"] == row.population) & (consensus["method"] == row.method)]
    return [str(gene) for gene in own.sort_values("rank")["gene"].head(_N_GENES)]


def _interval(row: Any) -> str:
    if not row.phi == row.phi:
        return "–"
    return f"{row.phi:.2f} ({_number(row.lower)} to {_number(row.upper)})"


def _number(value: float) -> str:
    return f"{value:.2f}" if value == value else "–"
