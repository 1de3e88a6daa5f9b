"""The same from Python: ``scballast.run`` and ``scballast.load``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scballast.config.compose import compose_config

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@dataclass(frozen=True)
class RunResult:
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
        The folder with the report, the figures and the model.
    """

    run_id: str
    tables: Mapping[str, pd.DataFrame]
    metrics: Mapping[str, float]
    folder: Path

    def __getattr__(self, name: str) -> pd.DataFrame:
        tables = object.__getattribute__(self, "tables")
        if name in tables:
            return tables[name]
        message = f"no attribute or table {name!r}; tables: {', '.join(sorted(tables))}"
        raise AttributeError(message)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.tables})

    def _repr_html_(self) -> str:
        """Show the answer in a notebook, with the first genes of each list."""
        from html import escape

        columns = ("population", "genes", "method to trust", "confirmed", "Φ [95%]", "floor", "first genes")
        head = "".join(f"<th>{name}</th>" for name in columns)
        rows = []
        for row in self.tables["answer"].itertuples():
            first = self.genes(str(row.population), row.estimand)["symbol"].head(8) if row.method != "none" else ()
            told = ", ".join(map(str, first)) if row.method != "none" else str(row.reason)
            numbers = ("", "", "")
            if row.method != "none":
                interval = f"{row.phi:z.2f} [{row.lower:z.2f}, {row.upper:z.2f}]"
                numbers = (f"{row.confirmed:.2f}", interval, f"{row.floor:z.2f}")
            cells = (row.population, row.estimand, row.method, *numbers, told)
            rows.append("".join(f"<td style='text-align:left'>{escape(str(cell))}</td>" for cell in cells))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        report = escape(str(self.folder / "report.html"))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>Report: <code>{report}</code></p>"

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
        from scballast.config.schema import unknown_key

        answer = self.tables["answer"]
        for what, value in (("population", population), ("estimand", estimand)):
            known = list(dict.fromkeys(answer[what].astype(str)))
            if value not in known:
                raise unknown_key(what, value, known)
        table = self.tables["answer_genes"]
        own = table[(table["population"].astype(str) == population) & (table["estimand"] == estimand)]
        return own.sort_values("rank").reset_index(drop=True)

    def model(self, adata: AnnData) -> Any:
        """Return the global model of the first replicate, loaded onto cells.

        Parameters
        ----------
        adata
            (n_cells, n_genes) raw counts of the genes that the model knows.

        Returns
        -------
        scvi.model.LinearSCVI or scvi.model.SCVI
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
        The MLflow run, as the UI shows it.
    runs_dir
        The folder of the runs; the environment's ``MLFLOW_TRACKING_URI`` takes precedence.

    Returns
    -------
    RunResult
        As :func:`scballast.run` returned it.
    """
    from scballast.results import read_tables
    from scballast.tracking import Tracking, TrackingSettings

    settings = TrackingSettings(uri=None, experiment="scballast", runs_dir=Path(runs_dir).resolve())
    stored = Tracking(settings).load_run(run_id)
    return RunResult(run_id, read_tables(stored.folder), stored.metrics, stored.folder)
