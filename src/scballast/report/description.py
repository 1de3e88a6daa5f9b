"""The short Markdown description shown on a run's page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from scballast.report.answer_section import Answer
from scballast.report.figure_names import one_line
from scballast.report.html import two
from scballast.report.stored_tables import ResultFolder

LIMIT = 7500  # bytes; MLflow refuses a tag of more than 8,000 characters
# The UI's Markdown takes a backslash before these alone; the others are written as character references.
_ESCAPED = set("\\`*_{}[]()#+-.!|~:")
_REFERENCES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "$": "&#36;", "@": "&#64;"}


def markdown(text: str) -> str:
    """Write a name from the data so that Markdown shows it as it is, on one line."""
    return "".join(_REFERENCES.get(c, f"\\{c}" if c in _ESCAPED else c) for c in one_line(text))


def trial_description(results: ResultFolder, answers: Sequence[Answer], details: str = "`report.html`") -> str:
    """Write the headline table: the answer per population, as many rows as fit.

    Parameters
    ----------
    results
        Result folder.
    answers
        The answers, in the order to show.
    details
        Where the reader finds more.

    Returns
    -------
    str
        Markdown of at most ``LIMIT`` bytes.
    """
    name = markdown(results.dataset or "data")
    end = (
        f"**Which genes can be trusted?** Confirmed: share of the top {results.top_k} genes that holds in cells the "
        "list never saw (in brackets: at least, 95%). Φ: stability, 0 chance, 1 identical. "
        f"Details: {details}."
    )
    lines = [
        *(line for text in in_a_line(answers) for line in (f"**{text}**", "")),
        f"Of {name}, population by population:",
        "",
        "| population | genes | method to trust | confirmed | Φ [95%] | floor | first genes (log2 fold change) |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*with_what_fits(lines, [_row(answer) for answer in answers], end, details), "", end]) + "\n"


def with_what_fits(
    lines: Sequence[str], rows: Sequence[str], end: str = "", details: str = "`report.html`"
) -> list[str]:
    """Return lines followed by as many rows as fit a tag with the ``end``, and how many more there are."""
    size = sum(len(line.encode()) + 1 for line in (*lines, end))
    for number, row in enumerate(rows):
        size += len(row.encode()) + 1
        if size > LIMIT - 80:
            return [*lines, *rows[:number], "", f"{len(rows) - number} more rows: see {details}."]
    return [*lines, *rows]


def in_a_line(answers: Sequence[Answer], written: Callable[[str], str] = markdown) -> list[str]:
    """Say for each estimand which methods can be trusted, and in how many populations."""
    lines = []
    for estimand in dict.fromkeys(answer["estimand"] for answer in answers):
        estimand_answers = [answer for answer in answers if answer["estimand"] == estimand]
        counts = Counter(answer["method"] for answer in estimand_answers if answer["trusted"])
        of_all = f"of {len(estimand_answers)} populations"
        named = ", ".join(f"{written(method)} in {n} {of_all}" for method, n in counts.most_common(3))
        lines.append(f"{estimand.capitalize()} genes: {named or f'no method in any {of_all}'}.")
    return lines or ["There is no answer."]


def first_answer_description(tables: Mapping[str, pd.DataFrame]) -> str:
    """Write what a run's page shows until its models are trained.

    Parameters
    ----------
    tables
        ``answer`` and ``answer_genes`` of the methods that look at cells alone.

    Returns
    -------
    str
        Markdown of at most ``LIMIT`` bytes.
    """
    text = (
        "**First answer**, from the methods that look at cells alone. Models are being trained; the run's own answer "
        "takes this place.\n\n"
        "| population | genes | method to trust | confirmed | first genes |\n|---|---|---|---|---|\n"
    )
    genes = tables["answer_genes"]
    for row in tables["answer"].itertuples():
        of_answer = (genes["population"] == row.population) & (genes["estimand"] == row.estimand)
        first_genes = genes[of_answer].sort_values("rank").head(5)
        first = ", ".join(f"*{markdown(str(name))}*" for name in first_genes["symbol"])
        confirmed = "" if row.method == "none" else f"{two(row.confirmed)} [{two(row.confirmed_lower)}]"
        line = (
            f"| {markdown(str(row.population))} | {row.estimand} | {markdown(row.method)} | {confirmed} | {first} |\n"
        )
        if len((text + line).encode()) > LIMIT:
            break
        text += line
    return text


def _row(answer: Answer) -> str:
    asked = f"| {markdown(answer['population'])} | {answer['estimand']} |"
    if not answer["trusted"]:
        return f"{asked} none | | | | |"
    phi, lower, upper, floor, confirmed, at_least = (
        two(answer[name]) for name in ("phi", "lower", "upper", "floor", "confirmed", "confirmed_lower")
    )
    genes = ", ".join(f"*{markdown(gene)}* {change:+.1f}" for gene, change in answer["genes"][:5])
    stability = f"{phi} [{lower}, {upper}] | {floor}"
    return f"{asked} {markdown(answer['method'])} | {confirmed} [{at_least}] | {stability} | {genes} |"
