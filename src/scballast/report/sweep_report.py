"""The report of a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from scballast.report import sweep_figures
from scballast.report.description import markdown
from scballast.report.html import Fact, Grid, Section, two, with_sentences, write_page
from scballast.report.style import figure_style
from scballast.report.sweep_findings import finding
from scballast.report.sweep_sections import families_section, programs_section
from scballast.report.sweep_tables import SweepFolder
from scballast.report.wording import again
from scballast.results import read_json, setting
from scballast.verdict.caveats import Caveat

MAX_ROWS = 200  # trials in the page's table
FEW_TRIALS = 10


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
    sweep = SweepFolder(folder)
    with figure_style():
        drawn = [
            *(families_section(sweep), _front(sweep), _dimensions(sweep), programs_section(sweep)),
            *(_importance(sweep), _answers(sweep), _trials(sweep)),
        ]
    sections = with_sentences(filter(None, drawn), lambda stem: finding(sweep, stem))
    values = {
        "title": f"Which configuration gives genes that can be trusted? {_name(sweep)}",
        "facts": _facts(sweep),
        "chosen": _chosen(sweep),
        "reason": sweep.reason,
        "again": again(None if "resample.kind" in sweep.parameters else setting(sweep.config, "resample.kind")),
        "objectives": sweep.objectives,
        "sections": sections,
        "caveats": list(_caveats(sweep)),
    }
    write_page(folder, "sweep.html.j2", values, _description(sweep))


def _name(sweep: SweepFolder) -> str:
    return str((sweep.config.get("sweep") or {}).get("name") or sweep.path.name)


def _facts(sweep: SweepFolder) -> list[Fact]:
    facts = [
        Fact("trials", len(sweep.trials), 0),
        Fact("with every objective", len(sweep.finished), 0),
        Fact("non-dominated", len(sweep.pareto), 0),
    ]
    data = (sweep.config.get("data") or {}).get("name")
    return [*facts, Fact("data", data)] if data else facts


def _chosen(sweep: SweepFolder) -> list[Fact]:
    """Give the chosen trial's parameters and objectives."""
    if sweep.chosen is None:
        return []
    row = sweep.trials[sweep.trials["trial"] == sweep.chosen].iloc[0]
    facts = [Fact("trial", sweep.chosen)]
    facts += [Fact(name, _plain(row[name])) for name in sweep.parameters]
    return facts + [Fact(item.metric, float(row[item.metric]), _digits(item.metric)) for item in sweep.objectives]


def _digits(metric: str) -> int:
    return 1 if metric.startswith("fit/") else 3


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _front(sweep: SweepFolder) -> Section:
    lead = "Which trials are not beaten in every objective by another one?"
    if len(sweep.objectives) < 2 or sweep.finished.empty:
        missing = "Left out: fewer than two objectives have values in trials.csv."
        return Section("pareto", "Pareto front", lead, missing=missing)
    more = len(sweep.objectives) - 2
    missing = f"{more} more objectives are in the table of trials." if more else ""
    return Section("pareto", "Pareto front", lead, (sweep_figures.pareto(sweep),), missing=missing)


def _dimensions(sweep: SweepFolder) -> Section:
    title, lead = "Number of dimensions", "How many latent dimensions can the data support?"
    table = sweep.stability
    if table is None or "model.n_latent" not in table or table["model.n_latent"].nunique() < 2:
        missing = "Left out: tables/sweep_stability.csv does not hold two values of model.n_latent."
        return Section("dimensions", title, lead, missing=missing)
    return Section("dimensions", title, lead, (sweep_figures.by_n_latent(sweep, table),))


def _importance(sweep: SweepFolder) -> Section:
    title, lead = "Parameter importance", "Which settings decide the outcome?"
    table = sweep.table("importance")
    if table is None:
        return Section("importance", title, lead, missing="Left out: there is no tables/importance.csv.")
    if table["parameter"].nunique() < 2:
        return Section("importance", title, lead, missing="Left out: one setting was searched, and decides all.")
    return Section("importance", title, lead, (sweep_figures.importance(sweep, table),))


def _answers(sweep: SweepFolder) -> Section:
    title, lead = "Populations across trials", "Does the answer for a population depend on the configuration?"
    pictures, grids, absent = [], [], []
    table, method = sweep.stability, sweep.headline_method
    if table is None or method is None:
        absent.append("stability by trial (no tables/sweep_stability.csv)")
    else:
        pictures.append(sweep_figures.by_trial(sweep, table, method))
    answer = sweep.table("sweep_answer")
    if answer is None:
        absent.append("the answer per population (no tables/sweep_answer.csv)")
    else:
        grids.append(_answer_grid(sweep, answer))
    missing = f"Left out: {'; '.join(absent)}." if absent else ""
    return Section("answers", title, lead, tuple(pictures), tuple(grids), missing)


def _answer_grid(sweep: SweepFolder, answer: pd.DataFrame) -> Grid:
    rows: list[tuple[Any, ...]] = []
    for (population, estimand), answers in answer.groupby(["population", "estimand"], sort=True):
        named = answers["method"][~answers["method"].isin(["", "none"])]
        favourite = next(iter(named.mode()), "none")
        chosen = answers[answers["trial"] == sweep.chosen].to_dict("records")
        method = chosen[0]["method"] or "none" if chosen else "–"
        numbers = [chosen[0][name] if chosen else float("nan") for name in ("phi", "lower", "upper", "floor")]
        rows.append((population, estimand, method, *numbers, favourite, (named == favourite).sum(), len(answers)))
    columns = (
        *((name, None) for name in ("Population", "Estimand", "Method, chosen trial")),
        *((name, 2) for name in ("Φ", "lower", "upper", "floor")),
        *(("Most often named", None), ("in trials", 0), ("of", 0)),
    )
    return Grid("The answer in the chosen trial, and the method that most trials name.", columns, tuple(rows))


def _trials(sweep: SweepFolder) -> Section:
    metrics = [(item.metric, _digits(item.metric)) for item in sweep.objectives]
    rows = []
    for row in sweep.trials.head(MAX_ROWS).to_dict("records"):
        marks = ["chosen"] * (row["trial"] == sweep.chosen) + ["non-dominated"] * (row["trial"] in sweep.pareto)
        values = [*(_plain(row[p]) for p in sweep.parameters), *(row[name] for name, _ in metrics)]
        rows.append((row["trial"], row.get("state", ""), ", ".join(marks), *values))
    columns = (("Trial", None), ("State", None), ("Mark", None), *((p, None) for p in sweep.parameters), *metrics)
    more = len(sweep.trials) - len(rows)
    missing = f"{more} more trials are in trials.csv." if more > 0 else ""
    caption = "One row per trial."
    if setting(sweep.config, "sweep.reports") == "front":
        caption += (
            " Those of the Pareto front have a report of their own beside their tables; that of another is drawn by "
            "scballast report NAME, with its run's name."
        )
    return Section("trials", "All trials", "", grids=(Grid(caption, columns, tuple(rows)),), missing=missing)


def _caveats(sweep: SweepFolder) -> Iterator[Caveat]:
    lost = len(sweep.trials) - len(sweep.finished)
    if lost:
        text = (
            f"{lost} of {len(sweep.trials)} trials failed, were pruned, did not finish or lack an objective, and are "
            "not compared."
        )
        yield Caveat("Trials not compared", text, lost, "trials", "trials.csv")
    if len(sweep.finished) < FEW_TRIALS:
        text = "With so few trials the front and the importances are rough."
        yield Caveat("Few trials", text, len(sweep.finished), "finished trials", "trials.csv")
    if sweep.chosen is not None:
        text = (
            "The chosen trial was picked for its values on these data, so that these are optimistic: "
            "confirm it with fresh replicates (another seed) before reporting it."
        )
        yield Caveat("Chosen by looking", text, len(sweep.finished), "trials compared", "trials.csv")
    warned = sweep.table("sweep_warnings")
    if warned is not None:
        for (title, text), occurrences in warned.groupby(["title", "text"], sort=False):
            which = f"Trial{'s' if len(occurrences) > 1 else ''} {', '.join(occurrences['trial'])}"
            yield Caveat(title, f"{which}: {text}")
    yield from (Caveat("Note", text) for text in read_json(sweep.path / "warnings.json", []))


def _description(sweep: SweepFolder) -> str:
    lines = [
        f"**Sweep {markdown(_name(sweep))}**: {len(sweep.finished)} of {len(sweep.trials)} trials have every objective."
    ]
    if sweep.chosen is not None:
        reason = sweep.reason[:1].upper() + sweep.reason[1:]
        lines += ["", f"Chosen: trial {markdown(sweep.chosen)}. {markdown(reason)}"]
    metrics = [item.metric for item in sweep.objectives]
    heads = ["trial", *sweep.parameters, *metrics]
    lines += ["", f"| {' | '.join(markdown(h) for h in heads)} |", "|" + "---|" * len(heads)]
    best = sweep.finished[sweep.finished["trial"].isin(sweep.pareto)].head(20)
    for row in best.to_dict("records"):
        cells = [str(row["trial"]), *(_plain(row[p]) for p in sweep.parameters)]
        values = [two(float(row[m])) for m in metrics]
        lines.append(f"| {' | '.join([*(markdown(c) for c in cells), *values])} |")
    return "\n".join(lines)[:7500] + "\n\nNon-dominated trials only; details: `report.html`.\n"
