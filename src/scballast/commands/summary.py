"""What the terminal shows at the end: the answer per population, and where to look further."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scballast.config.schema import Config

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from scballast.sweep.trial import TrialOutcome

_N_GENES = 8
_FIRST_PORT = 5000  # where scballast-ui listens unless it is taken
_TITLES = {
    "marker": "Genes that set a population apart (marker)",
    "program": "Genes that vary within a population (program)",
}


def print_summary(outcome: TrialOutcome, config: Config) -> None:
    """Print the answer per population, where the report is, and how to open it in the UI."""
    from rich.console import Console

    console = Console(highlight=False)
    print_answers(console, outcome.experiment.results.tables, config.rank.top_k)
    for line in door(outcome.run_id, outcome.folder, config):
        console.print(line, soft_wrap=True, markup=False)


def print_answers(console: Console, tables: Mapping[str, pd.DataFrame], top_k: int) -> None:
    """Print each answer in two or three lines that fit any width: method and numbers, then genes or the reason.

    Parameters
    ----------
    console
        Where to.
    tables
        ``answer``, ``answer_genes``.
    top_k
        Genes in a list.
    """
    from rich.padding import Padding
    from rich.text import Text

    answer, genes = tables["answer"], tables["answer_genes"]
    indent = 2 if console.width < 60 else 4
    for estimand, title in _TITLES.items():
        rows = answer[answer["estimand"] == estimand]
        if len(rows):
            console.print(Text(f"\n{title}: method to trust, and its first genes (log2 fold change)", "bold"))
        for row in rows.itertuples():
            console.print(Text.assemble((str(row.population), "bold"), "  ", _verdict(row, top_k)))
            below = str(row.reason) if row.method == "none" else _first_genes(genes, row)
            console.print(Padding(Text(below), (0, 0, 0, indent)))


def print_first_answer(tables: Mapping[str, pd.DataFrame], top_k: int) -> None:
    """Print the answer of the methods that look at cells alone, as soon as it stands, where progress is printed."""
    from rich.console import Console

    console = Console(highlight=False, stderr=True)
    print_answers(console, tables, top_k)
    console.print("\nThat is the answer from cells alone. Models are trained now, and the answer is decided anew.\n")


def door(run_id: str, folder: Path, config: Config) -> list[str]:
    """Return the lines that lead on: the report, its file and its page in the UI with the command that opens it.

    Parameters
    ----------
    run_id
        The MLflow run.
    folder
        Its result folder.
    config
        Where runs are kept and tracked.
    """
    from scballast.sweep.trial import open_tracking
    from scballast.tracking.faults import UnreachableError

    flag = "" if config.runs_dir == "runs" else f" --runs-dir {shlex.quote(config.runs_dir)}"
    lines = ["", f"Report: {folder / 'report.html'}", f"Open it:  {command_of('scballast')} report {folder.name}{flag}"]
    tracking = open_tracking(config)
    settings = tracking.settings
    try:
        experiment = tracking.experiments().get(settings.experiment)
    except UnreachableError:  # said when the results could not be sent
        return lines
    page = f"/#/experiments/{experiment}/runs/{run_id}/artifacts/report.html?workflowType=machine_learning"
    if settings.is_server:
        return lines + ([f"In the MLflow UI:  {settings.shown_uri}{page}"] if experiment else [])
    lines.append(f"In the MLflow UI:  {command_of('scballast-ui', of_make=not flag)}{flag}")
    return lines + ([f"  then  http://127.0.0.1:{_FIRST_PORT}{page}"] if experiment else [])


def command_of(name: str, *, of_make: bool = False) -> str:
    """Return how a command of this environment is called from here: by name, its path, or through make if that does."""
    on_path, own = shutil.which(name), Path(sys.executable).parent / name
    if on_path is not None and Path(on_path).resolve() == own.resolve():
        return name
    if of_make and own.parent == Path.cwd() / ".venv" / "bin" and Path("Makefile").is_file():
        return "make ui" if "scballast-ui" in Path("Makefile").read_text(encoding="utf-8") else os.path.relpath(own)
    return shlex.quote(os.path.relpath(own) if own.is_relative_to(Path.cwd()) else str(own))


def _verdict(row: Any, top_k: int) -> str:
    if row.method == "none":
        return "none"
    # A share times k may fall a rounding error short of the whole number that it came from.
    held = math.floor(row.confirmed_lower * top_k + 1e-9) if row.confirmed_lower == row.confirmed_lower else None
    confirmed = "" if held is None else f"; at least {held} of {top_k} hold in unseen cells"
    interval = f"Φ {_number(row.phi)} [{_number(row.lower)}, {_number(row.upper)}]".replace(" ", "\xa0")  # on one line
    return f"{row.method}{confirmed}; {interval}"


def _first_genes(genes: pd.DataFrame, row: Any) -> str:
    listed_for = (genes["population"] == row.population) & (genes["estimand"] == row.estimand)
    own = genes[listed_for].sort_values("rank")
    first = own.head(_N_GENES)
    names = _short_names(own).loc[first.index]
    listed = [f"{name} {change:+.1f}" for name, change in zip(names, first["log2_fold_change"], strict=True)]
    more = f", … {len(own)} in all" if len(own) > len(first) else ""
    return ", ".join(listed) + more if listed else "no gene is confirmed on its own"


def _short_names(genes: pd.DataFrame) -> pd.Series:
    """Return what each gene goes by: its symbol, both where several share it, its id where it has none."""
    symbols = genes["symbol"].where(genes["symbol"].notna() & (genes["symbol"] != ""), genes["gene"]).astype(str)
    shared = symbols.duplicated(keep=False) & (symbols != genes["gene"])
    return symbols.where(~shared, symbols + " (" + genes["gene"].astype(str) + ")")


def _number(value: float) -> str:
    return f"{value:z.2f}" if value == value else "–"
