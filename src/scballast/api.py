"""The same from Python: ``scballast.run``, ``scballast.load`` and ``scballast.check``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scballast.config.compose import compose_config
from scballast.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


class _Tables:
    """Gives every table as an attribute, and lists them."""

    tables: Mapping[str, pd.DataFrame]

    def __getattr__(self, name: str) -> pd.DataFrame:
        tables = object.__getattribute__(self, "tables")
        if name in tables:
            return tables[name]
        message = f"no attribute or table {name!r}; tables: {', '.join(sorted(tables))}"
        raise AttributeError(message)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.tables})

    def _rows(self, table: str, asked: str, **wanted: str) -> pd.DataFrame:
        """Return the rows with the wanted values, each of which stands in the table of what was asked."""
        from scballast.config.values import unknown_key

        rows = self.tables[table]
        for what, value in wanted.items():
            known = list(dict.fromkeys(self.tables[asked][what].astype(str)))
            if value not in known:
                raise unknown_key(what, value, known)
            rows = rows[rows[what].astype(str) == value]
        return rows.reset_index(drop=True)


@dataclass(frozen=True, repr=False)
class RunResult(_Tables):
    """The results of one experiment, from :func:`scballast.run` or :func:`scballast.load`.

    Parameters
    ----------
    run_id
        The MLflow run.
    tables
        Every table by name; each is an attribute too: ``answer``, ``answer_genes``, ``stability``,
        ``confirmation``, ``consensus``, ``concordance``, … (``dir(result)`` lists them).
    metrics
        The MLflow metrics by name.
    folder
        The folder with the tables and the model, and with report and figures where these are drawn.
    """

    run_id: str
    tables: Mapping[str, pd.DataFrame]
    metrics: Mapping[str, float]
    folder: Path

    def __repr__(self) -> str:
        """Say in one line what it is: the tables would fill the screen."""
        answer = self.tables["answer"]
        n_given = int((answer["method"] != "none").sum())
        return f"RunResult {self.run_id!r}: {n_given} of {len(answer)} answers. Report: {self._report()}"

    def _report(self) -> str:
        """Return where the report is, or what draws it: of a sweep's trials those of the front alone have one."""
        page = self.folder / "report.html"
        return str(page) if page.is_file() else f"scballast report {self.run_id} draws it"

    def _repr_html_(self) -> str:
        """Show the answer in a notebook, with the first genes of each list."""
        columns = ("population", "genes", "method to trust", "confirmed", "Φ [95%]", "floor", "first genes")
        rows = []
        for row in self.tables["answer"].itertuples():
            told = ("", "", "", str(row.reason))
            if row.method != "none":
                first = self.genes(str(row.population), row.estimand)["symbol"].head(8)
                interval = f"{row.phi:z.2f} [{row.lower:z.2f}, {row.upper:z.2f}]"
                told = (f"{row.confirmed:.2f}", interval, f"{row.floor:z.2f}", ", ".join(map(str, first)))
            rows.append((row.population, row.estimand, row.method, *told))
        return _html_table(columns, rows, self._report())

    def genes(self, population: str, estimand: str = "marker") -> pd.DataFrame:
        """Return the genes of one answer, the best first, with fold changes, shares of cells and flags.

        Parameters
        ----------
        population
            Its name in the data.
        estimand
            ``marker``: genes that set it apart; ``program``: genes that vary within it; ``response``: genes that
            differ between the conditions within it.

        Returns
        -------
        DataFrame
            See ``verdict.answer_genes``; no rows where no method can be trusted: ``answer`` says why.

        Raises
        ------
        ConfigError
            There is no such population or estimand.
        """
        rows = self._rows("answer_genes", "answer", population=population, estimand=estimand)
        return rows.sort_values("rank").reset_index(drop=True)

    def model(self, adata: AnnData) -> Any:
        """Return the global model of the first replicate, loaded onto cells.

        Parameters
        ----------
        adata
            (n_cells, n_genes) raw counts of the genes that the model knows.

        Returns
        -------
        scvi.model.LinearSCVI, scvi.model.SCVI or scvi.external.DRVI
            Ready for ``get_latent_representation()`` and the rest.
        """
        from scballast.models.saved import load_saved_model

        return load_saved_model(self.folder / "model", adata)

    def annotate(self, adata: AnnData, *, groupby: str, method: str | None = None) -> None:
        """Write consensus genes and programs where scanpy's plots find them.

        ``sc.pl.rank_genes_groups_dotplot(adata, key="scballast")`` and its relatives plot the genes; see
        :func:`scballast.annotate.annotate` and :func:`scballast.annotate.annotate_programs`.

        Parameters
        ----------
        adata
            The cells; changed in place.
        groupby
            Column of ``adata.obs`` with the populations, needed by scanpy's plots.
        method
            Whose genes; None: in each population the marker method of the answer.

        Raises
        ------
        DataError
            The method has no consensus list, or no population has an answer.
        """
        from scballast.annotate import annotate, annotate_programs

        annotate(adata, self.tables, groupby=groupby, method=method)
        if "program_activity" in self.tables:
            annotate_programs(adata, self.tables)


@dataclass(frozen=True, repr=False)
class CheckResult(_Tables):
    """What one's own cells say of somebody's gene lists, from :func:`scballast.check`.

    Parameters
    ----------
    tables
        Every table by name; each is an attribute too: ``check`` (a row per list and reading: verdict, confirmed share,
        floor), ``check_genes`` (a row per listed gene), ``check_methods`` (agreement with each method),
        ``check_missed`` (confirmed genes that the lists do not have), ``answer``, ``populations``.
    warnings
        What was left out or taken for something else, a sentence or two each.
    folder
        The folder with the report and the tables.
    """

    tables: Mapping[str, pd.DataFrame]
    warnings: tuple[str, ...]
    folder: Path

    def __repr__(self) -> str:
        """Say in one line what it is: the tables would fill the screen."""
        verdicts = self.tables["check"]["verdict"]
        n_hold = int((verdicts == "holds").sum())
        return f"CheckResult: {n_hold} of {len(verdicts)} readings hold. Report: {self.folder / 'report.html'}"

    def _repr_html_(self) -> str:
        """Show in a notebook what holds, with the genes that fail."""
        from scballast.commands.check_summary import LISTS_HEADINGS, failing, list_cells
        from scballast.report.check_report import agreeing

        rows = []
        for row in self.tables["check"].itertuples():
            gene_rows = self.tables["check_genes"].query("population == @row.population")
            fails = ", ".join(failing(gene_rows).head(8)) if row.estimand == "marker" else ""
            agrees = agreeing(self.tables["check_methods"], row.population, row.estimand)
            rows.append((*list_cells(row), agrees, fails))
        return _html_table((*LISTS_HEADINGS, "agrees with", "fails"), rows, str(self.folder / "report.html"))

    def genes(self, population: str) -> pd.DataFrame:
        """Return the list of one population, gene by gene: whether each is confirmed, why not, and its levels.

        Parameters
        ----------
        population
            Its name in the data.

        Returns
        -------
        DataFrame
            See ``verdict.list_genes``: rank, listed (as it was written), gene, symbol, confirmed_marker, q_marker,
            confirmed_program, q_program, log2_fold_change, pct_in, pct_out (per cent of cells), flags, why.

        Raises
        ------
        ConfigError
            There is no list of such a population.
        """
        return self._rows("check_genes", "check", population=population)

    def missed(self, population: str) -> pd.DataFrame:
        """Return the confirmed genes of the methods' answers for a population that its list does not have.

        Parameters
        ----------
        population
            Its name in the data.

        Returns
        -------
        DataFrame
            With the columns of ``RunResult.genes``.

        Raises
        ------
        ConfigError
            There is no list of such a population.
        """
        return self._rows("check_missed", "check", population=population)


def _html_table(columns: Sequence[str], rows: Sequence[Sequence[object]], report: str) -> str:
    """Write a table for a notebook, every value escaped, and below it where the report is."""
    from html import escape

    def line(cells: Sequence[object], tag: str) -> str:
        inner = "".join(f"<{tag} style='text-align:left'>{escape(str(cell))}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    body = "".join(line(row, "td") for row in rows)
    head = f"<thead>{line(columns, 'th')}</thead>"
    return f"<table>{head}<tbody>{body}</tbody></table><p>Report: <code>{escape(report)}</code></p>"


def run(overrides: Sequence[str] = ()) -> RunResult:
    """Run one experiment, as the command line does.

    Parameters
    ----------
    overrides
        Words as on the command line: ``["data=h5ad", "data.path=X.h5ad", "data.population_key=cell_type"]``.

    Returns
    -------
    RunResult
        The tables, the metrics and the folder; :func:`scballast.load` gives the same later.

    Raises
    ------
    ConfigError, DataError
        What cannot be run, and what to do.
    """
    from scballast.sweep.trial import run_trial

    outcome = run_trial(compose_config(overrides))
    results = outcome.experiment.results
    return RunResult(outcome.run_id, results.tables, results.metrics, outcome.folder)


def load(run_id: str, *, runs_dir: str = "runs") -> RunResult:
    """Load the results of a run from MLflow: the tables, the metrics, the report and the model.

    Parameters
    ----------
    run_id
        The MLflow run, as the UI shows it; or the run's name or folder, as the terminal says it.
    runs_dir
        The folder of the runs; the environment's ``MLFLOW_TRACKING_URI`` takes precedence.

    Returns
    -------
    RunResult
        As :func:`scballast.run` returned it.

    Raises
    ------
    ConfigError
        There is no run of that name, or several.
    """
    from scballast.commands.report_command import find_folder
    from scballast.results import read_tables
    from scballast.tracking import Tracking, TrackingSettings
    from scballast.tracking.publish import PUBLISHED_MARKER

    if not re.fullmatch("[0-9a-f]{32}", run_id):
        published = find_folder(run_id, Path(runs_dir)) / PUBLISHED_MARKER
        if not published.is_file():
            message = f"{published.parent}: is not in the store yet. `scballast-ui --sync` sends what waits."
            raise ConfigError(message)
        run_id = json.loads(published.read_text(encoding="utf-8"))["run_id"]
    settings = TrackingSettings(uri=None, experiment="scballast", runs_dir=Path(runs_dir).resolve())
    tracking = Tracking(settings)
    folder = tracking.folder_of(run_id)
    return RunResult(run_id, read_tables(folder), tracking.get_run(run_id).metrics, folder)


def check(
    genes: str | os.PathLike[str] | pd.DataFrame, overrides: Sequence[str] = (), *, run: RunResult | None = None
) -> CheckResult:
    """Hold somebody's lists of genes per population against cells, as ``scballast check`` does.

    Each list is tested in the cells that every replicate left out, as markers and as a program: how much of it is
    confirmed, does it beat random genes and the lists of other populations, with which methods does it agree, which
    genes fail, and which would have been found instead. No model is trained, unless ``methods=[…]`` asks for some.

    Parameters
    ----------
    genes
        A ``.csv`` or ``.tsv``, or a table, with the columns population, gene and, where there is an order, rank;
        ``scanpy.get.rank_genes_groups_df(adata, None)`` is such a table.
    overrides
        Words as for :func:`scballast.run`: the data, the replicates.
    run
        A finished run, whose data, replicates and methods are used; ``overrides`` may then name ``runs_dir`` alone.

    Returns
    -------
    CheckResult
        The verdicts, gene by gene and list by list; its folder holds a report.

    Raises
    ------
    ConfigError, DataError
        What is wrong with the configuration, the data or the lists, and what to do.

    Examples
    --------
    >>> import pandas as pd, scballast
    >>> lists = pd.DataFrame({"population": "CD19+ B", "gene": ["CD79A", "MS4A1", "CD79B", "CD3D"]})
    >>> found = scballast.check(lists, ["methods=[wilcoxon]", "resample.n_replicates=4"])
    >>> found.check.loc[found.check["estimand"] == "marker", ["population", "verdict"]].to_dict("records")
    [{'population': 'CD19+ B', 'verdict': 'holds'}]
    >>> found.genes("CD19+ B").set_index("gene")["confirmed_marker"].to_dict()
    {'CD79A': True, 'MS4A1': True, 'CD79B': True, 'CD3D': False}
    """
    import pandas as pd

    from scballast.data.published_lists import published_lists_of, read_published_lists
    from scballast.sweep.list_checks import check_and_write, check_configuration

    if not isinstance(genes, (str, os.PathLike, pd.DataFrame)):
        message = (
            f"genes: a {type(genes).__name__} is not read. Give a path, or a DataFrame with the columns population, "
            "gene and, where there is an order, rank."
        )
        raise DataError(message)
    lists = published_lists_of(genes) if isinstance(genes, pd.DataFrame) else read_published_lists(os.fspath(genes))
    of_run = None if run is None else run.folder
    results, folder = check_and_write(check_configuration(overrides, of_run), lists, of_run)
    return CheckResult(results.tables, results.warnings, folder)
