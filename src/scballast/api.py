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
    """The results of one experiment.

    Attributes
    ----------
    run_id
        The MLflow run.
    tables
        Every table by name; the usual ones are attributes too: ``rankings``, ``stability``,
        ``concordance``, ``consensus``, ``answer``.
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

    def model(self, adata: AnnData) -> Any:
        """Return the global model of the first replicate, loaded onto ``adata`` (the same genes, raw counts)."""
        from scballast.models.saved import load_saved_model

        return load_saved_model(self.folder / "model", adata)

    def annotate(self, adata: AnnData, *, groupby: str, method: str | None = None) -> None:
        """Write the results where scanpy's plots find them; see :func:`scballast.annotate.annotate`."""
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
    """
    from scballast.results import read_tables
    from scballast.tracking import Tracking, TrackingSettings

    settings = TrackingSettings(uri=None, experiment="scballast", runs_dir=Path(runs_dir).resolve())
    stored = Tracking(settings).load_run(run_id)
    return RunResult(run_id, read_tables(stored.folder), stored.metrics, stored.folder)
