"""Figures and HTML from a result folder's stored tables; nothing is trained, scored or fitted here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["render_check_report", "render_sweep_report", "render_trial_report"]


def render_check_report(folder: Path) -> None:
    """Write ``report.html`` and ``description.md`` of a check of somebody's lists.

    Parameters
    ----------
    folder
        A check's folder. Read: ``tables/check*.csv``, ``tags.json``, ``warnings.json`` and ``config/resolved.yaml``.
    """
    from scballast.report.check_report import render

    render(folder)


def render_trial_report(folder: Path) -> None:
    """Write ``figures/``, ``report.html`` and ``description.md`` of one experiment.

    Parameters
    ----------
    folder
        A result folder. Read: ``tables/*``, ``metrics.json``, ``history.json``, ``warnings.json`` and
        ``config/resolved.yaml``. A table that is absent costs its section, which then says why.

    Raises
    ------
    FileNotFoundError
        The folder has no ``tables/stability.csv``: without it there is nothing to report.
    """
    from scballast.report.experiment_report import render

    render(folder)


def render_sweep_report(folder: Path) -> None:
    """Write ``figures/``, ``report.html`` and ``description.md`` of a sweep.

    Parameters
    ----------
    folder
        A sweep's folder. Read: ``trials.csv`` (one row per trial) and, where present,
        ``tables/sweep_stability.csv``, ``tables/sweep_answer.csv``, ``tables/importance.csv``,
        ``warnings.json`` and ``config/resolved.yaml``.

    Raises
    ------
    FileNotFoundError
        The folder has no ``trials.csv``.
    """
    from scballast.report.sweep_report import render

    render(folder)
