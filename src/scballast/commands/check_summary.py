"""What the terminal shows of a check: a table where it fits, what fails, what would have been found instead."""

from __future__ import annotations

import math
import shlex
import sys
from typing import TYPE_CHECKING, Any

from scballast.commands.summary import verdict_lines
from scballast.config import keys
from scballast.config.schema import Config
from scballast.data.published_lists import PublishedLists
from scballast.report.check_report import agreeing
from scballast.results import Results
from scballast.sweep.door import command_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from rich.console import Console
    from rich.table import Table

LISTS_HEADINGS = ("list", "read as", "verdict", "confirmed", "floor", "best of ours")
_CIRCULAR = "A list that was read from these very cells has seen what tests it: its numbers then say too much."
_WIDE = 70
_N_GENES = 6
_N_NOTES = 4


def print_check(results: Results, lists: PublishedLists, folder: Path, config: Config) -> None:
    """Print the result of a check, and where its report is."""
    from rich.console import Console

    console = Console(highlight=False)
    print_lists(console, results.tables)
    for note in [note for note in results.warnings if note.startswith(f"{lists.label}:")][:_N_NOTES]:
        sys.stderr.write(f"Note: {note}\n")
    flag = "" if config.runs_dir == "runs" else f" --runs-dir {shlex.quote(config.runs_dir)}"
    for line in (
        "", results.tags[keys.RANKINGS], _CIRCULAR, f"Report: {folder / 'report.html'}",
        f"Open it:  {command_of('scballast')} report {folder.name}{flag}",
    ):  # fmt: skip
        console.print(line, soft_wrap=True, markup=False)


def print_lists(console: Console, tables: Mapping[str, pd.DataFrame]) -> None:
    """Print a table with two rows for each list, and below it what each agrees with, fails and misses.

    Where the terminal is too narrow for the table, its rows are written below each other.

    Parameters
    ----------
    console
        Where to.
    tables
        ``check``, ``check_methods``, ``check_genes``, ``check_missed``.
    """
    from rich.padding import Padding
    from rich.text import Text

    check, genes, missed = tables["check"], tables["check_genes"], tables["check_missed"]
    console.print(Text("\nGenes of each list that hold in unseen cells (in brackets: at least, 95%)", "bold"))
    grid = _grid(check)
    if console.width >= _WIDE and console.measure(grid).minimum <= console.width:
        console.print(grid)
    else:
        for row in check.itertuples():
            for line in verdict_lines(f"{row.population}, {row.estimand}", _in_words(row), console.width):
                console.print(line)
    indent = 2 if console.width < 60 else 4
    for population in check["population"].unique():
        listed = genes[genes["population"] == population]
        lines = _agreement(check[check["population"] == population], tables["check_methods"])
        lines += _gene_lines(listed, missed[missed["population"] == population])
        tested = f"  {(listed['gene'] != '').sum()} of {len(listed)} genes tested"
        console.print(Text.assemble((f"\n{population}", "bold"), tested))
        for line in lines:
            console.print(Padding(Text(line), (0, 0, 0, indent)))


def _grid(check: pd.DataFrame) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in LISTS_HEADINGS:
        grid.add_column(heading, overflow="fold", justify="right" if heading == "floor" else "left")
    for row in check.itertuples():
        grid.add_row(*(Text(cell) for cell in list_cells(row)))
    return grid


def _in_words(row: Any) -> str:
    """Return what the row of a list says after its name, with what the headings say."""
    verdict, confirmed, floor, ours = list_cells(row)[2:]
    named = (("confirmed", confirmed), ("floor", floor), ("best of ours", ours))
    return "; ".join([verdict, *(f"{heading} {text}" for heading, text in named if text)])


def list_cells(row: Any) -> tuple[str, ...]:
    """Return the row of a list in one reading, in the order of the headings."""
    if row.verdict == "not tested":
        return str(row.population), str(row.estimand), f"not tested: {row.reason}", "", "", ""
    n = int(row.n_genes)
    # A share times n may fall a rounding error short of the whole number that it came from.
    confirmed = f"{_count(row.confirmed * n)} of {n} ({math.floor(row.lower * n + 1e-9)})"
    ours = f"{row.method} {_count(row.method_confirmed * n)}" if row.method else ""
    return str(row.population), str(row.estimand), str(row.verdict), confirmed, _count(row.floor * n), ours


def _count(value: float) -> str:
    """Write a mean number of genes."""
    return "" if value != value else f"{value:.1f}".removesuffix(".0")


def failing(genes: pd.DataFrame) -> pd.Series[str]:
    """Return the symbols of the tested genes of a list that are confirmed in neither reading."""
    tested = genes["gene"] != ""
    return genes.loc[tested & ~genes["confirmed_marker"] & ~genes["confirmed_program"], "symbol"]


def _agreement(rows: pd.DataFrame, methods: pd.DataFrame) -> list[str]:
    named = [(agreeing(methods, row.population, row.estimand), row.estimand) for row in rows.itertuples()]
    agreements = [f"{names} ({estimand})" for names, estimand in named if names]
    return [f"agrees with: {'; '.join(agreements) or 'no method'}"]


def _gene_lines(genes: pd.DataFrame, missed: pd.DataFrame) -> list[str]:
    fails = failing(genes)
    lines = []
    if len(fails):
        lines.append(f"fails: {_named(list(fails))}")
    absent = genes[genes["gene"] == ""]
    if len(absent):
        told = [f"{row.listed} ({row.why})" if "?" in row.why else str(row.listed) for row in absent.itertuples()]
        lines.append(f"not tested: {_named(told)}")
    if len(missed):
        first = missed.sort_values(["estimand", "rank"])
        lines.append(f"found instead: {_named(list(dict.fromkeys(first['symbol'])))}")
    return lines


def _named(names: Sequence[str]) -> str:
    more = f", … {len(names)} in all" if len(names) > _N_GENES else ""
    return ", ".join(map(str, names[:_N_GENES])) + more
