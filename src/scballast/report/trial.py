"""The report of one experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scballast.report import concordance_figures, stability_figures
from scballast.report.answer import Answer, Glyph, answers, glyph
from scballast.report.caveats import caveats, n_replicates
from scballast.report.html import Section, write_page
from scballast.report.methods_text import methods_text
from scballast.report.style import figure_style
from scballast.report.tables import ESTIMANDS, ResultFolder, setting

if TYPE_CHECKING:
    from pathlib import Path

    from scballast.report.style import Picture

RANK_PAIRS = (("wilcoxon", "contrast"), ("per_population", "spread"))


@dataclass(frozen=True)
class Fact:
    """A label and value of the page's head; ``digits`` None for text."""

    label: str
    value: Any
    digits: int | None = None


@dataclass(frozen=True)
class AnswerRow:
    """An answer with its small drawing and the place of its population."""

    place: int
    answer: Answer
    glyph: Glyph | None


def render(folder: Path) -> None:
    """Write the figures, ``report.html`` and ``description.md`` of a result folder (see the package)."""
    from importlib.metadata import version

    from scballast.report.description import trial_description

    results = ResultFolder(folder)
    found = answers(results)
    with figure_style():
        sections = [section for section in _sections(results) if section is not None]
    places = {name: i for i, name in enumerate(dict.fromkeys(a.population for a in found))}
    values = {
        "title": f"Which genes can be trusted? {setting(results.config, 'data.name') or 'Data'}",
        "facts": _facts(results),
        "answers": [AnswerRow(places[a.population], a, glyph(a)) for a in found],
        "n_trusted": sum(a.trusted for a in found),
        "top_k": results.top_k,
        "sections": sections,
        "caveats": caveats(results),
        "methods": methods_text(results),
        "config": _config_text(folder),
        "version": version("scballast"),
    }
    write_page(folder / "report.html", "trial.html.j2", values)
    (folder / "description.md").write_text(trial_description(results, found), encoding="utf-8")


def _config_text(folder: Path) -> str:
    path = folder / "config" / "resolved.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else "no config/resolved.yaml"


def _facts(results: ResultFolder) -> list[Fact]:
    facts = [Fact("populations", len(results.populations), 0)]
    if results.n_cells:
        facts.append(Fact("cells in them", sum(results.n_cells.values()), 0))
    facts.append(Fact("methods", results.headline["method"].nunique(), 0))
    count = n_replicates(results)
    if count is not None:
        facts.append(Fact("replicates", count, 0))
    for label, key in (
        ("resampling", "resample.kind"),
        ("model", "model.name"),
        ("latent dimensions", "model.n_latent"),
        ("likelihood", "model.gene_likelihood"),
        ("latent distribution", "model.latent_distribution"),
    ):
        value = setting(results.config, key)
        if value is not None:
            facts.append(Fact(label, value, 0 if isinstance(value, int) else None))
    facts.append(Fact("top k", results.top_k, 0))
    return facts


def _sections(results: ResultFolder) -> list[Section | None]:
    return [_stability(results), _concordance(results), _ranks(results)]


def _stability(results: ResultFolder) -> Section:
    pictures = [stability_figures.heat_map(results)]
    pictures += [stability_figures.dots(results, estimand) for estimand in ESTIMANDS if results.methods(estimand)]
    missing = ""
    if set(results.populations) <= set(results.n_cells):
        pictures.append(stability_figures.against_size(results))
    else:
        missing = "Stability against population size is left out: tables/populations.csv does not give every size."
    lead = "Does a method give the same list again when the cells are drawn anew?"
    return Section("stability", "Stability", lead, tuple(pictures), missing=missing)


def _concordance(results: ResultFolder) -> Section:
    pictures: list[Picture] = []
    for estimand in ESTIMANDS:
        pairs = concordance_figures.mean_pairs(results, estimand)
        if pairs is not None:
            pictures.append(concordance_figures.matrix(results, estimand, pairs))
            pictures.append(concordance_figures.ranges(results, estimand, pairs))
    missing = "" if pictures else "Left out: tables/concordance.csv is missing or has no pair of methods."
    lead = "Do methods that ask the same question name the same genes? Only methods of one estimand are compared."
    return Section("concordance", "Concordance", lead, tuple(pictures), missing=missing)


def _ranks(results: ResultFolder) -> Section:
    pictures, absent = [], []
    for x, y in RANK_PAIRS:
        picture = concordance_figures.rank_against_rank(results, x, y)
        if picture is None:
            absent.append(f"{y} against {x}")
        else:
            pictures.append(picture)
    missing = ""
    if absent:
        missing = f"Left out: {' and '.join(absent)}, since tables/rankings.parquet lacks one of the two methods."
    lead = "Where two methods part ways, gene by gene."
    return Section("ranks", "Rank against rank", lead, tuple(pictures), missing=missing)
