"""The report of one experiment."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from scballast.models import FAMILIES
from scballast.report.answer_section import Answer, answers
from scballast.report.description import in_a_line, trial_description
from scballast.report.drawing import Drawers, drawers
from scballast.report.evidence import evidence
from scballast.report.findings import finding
from scballast.report.gene_cards import cards
from scballast.report.html import Fact, with_sentences, write_page
from scballast.report.stored_tables import ResultFolder
from scballast.report.wording import again, error_bound, floor_parts, methods_text
from scballast.results import setting
from scballast.threads import at_once
from scballast.verdict.answer import rule_steps

MANY_POPULATIONS = 20
"""Beyond it the page begins with sums, answers are searched and sorted in a box, and cards are folded."""


def render_trial_report(folder: Path, others: Drawers | None = None) -> None:
    """Write ``figures/``, ``report.html`` and ``description.md`` of one experiment.

    Parameters
    ----------
    folder
        A result folder. Read: ``tables/*``, ``history.json``, ``warnings.json`` and
        ``config/resolved.yaml``. A table that is absent costs its section, which then says why.
    others
        Processes that draw the figures, which do not depend on them; None: as many as this one has cores, a few, are
        started for it.

    Raises
    ------
    FileNotFoundError
        The folder has no ``tables/stability.csv``: without it there is nothing to report.
    """
    results = ResultFolder(folder)
    with drawers(at_once()) if others is None else nullcontext(others) as processes:
        stored_answers = answers(results)
        drawn = processes.draw(results, evidence(results))
    sections = with_sentences(drawn, lambda stem: finding(results, stem))
    by_population: dict[str, list[Answer]] = {}
    for answer in stored_answers:
        by_population.setdefault(answer["population"], []).append(answer)
    config = folder / "config" / "resolved.yaml"
    values = {
        "title": f"Which genes can be trusted? {results.dataset}",
        "facts": _facts(results),
        "answers": by_population,
        "n_answers": len(stored_answers),
        "cards": cards(results, stored_answers),
        "many": len(by_population) > MANY_POPULATIONS,
        "sums": in_a_line(stored_answers, str),
        "n_trusted": sum(a["trusted"] for a in stored_answers),
        "responds": any(a["estimand"] == "response" for a in stored_answers),
        "top_k": results.top_k,
        "again": again(setting(results.config, "resample.kind")),
        "floor_parts": floor_parts(results),
        "error_bound": error_bound(results),
        "rule": rule_steps(),
        "sections": sections,
        "caveats": results.caveats,
        "methods": methods_text(results),
        "config": config.read_text(encoding="utf-8") if config.is_file() else "no config/resolved.yaml",
    }
    write_page(folder, "trial.html.j2", values, trial_description(results, stored_answers))


def describe_trial(folder: Path, *, details: str) -> None:
    """Write ``description.md`` alone, of an experiment whose figures and page are not drawn.

    Parameters
    ----------
    folder
        A result folder, as for :func:`render_trial_report`.
    details
        Where the reader finds more.
    """
    results = ResultFolder(folder)
    (folder / "description.md").write_text(trial_description(results, answers(results), details), encoding="utf-8")


def _facts(results: ResultFolder) -> list[Fact]:
    facts = {
        "populations": len(results.populations),
        "cells in them": sum(results.n_cells.values()) or None,
        "methods": results.headline["method"].nunique(),
        "replicates": results.n_replicates,
    }
    keys = {"resampling": "resample.kind", "model": "model.name", "latent dimensions": "model.n_latent"}
    family = FAMILIES.get(str(setting(results.config, "model.name")))
    if family is not None and family.likelihood:
        keys |= {"likelihood": "model.gene_likelihood", "latent distribution": "model.latent_distribution"}
    facts |= {label: setting(results.config, key) for label, key in keys.items()}
    facts["top k"] = results.top_k
    return [Fact(label, v, 0 if isinstance(v, int) else None) for label, v in facts.items() if v is not None]
