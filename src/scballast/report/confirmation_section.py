"""What unseen cells say of each method's lists: the section of a report, with confirmed shares against stability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scballast.methods.method import ESTIMANDS
from scballast.report import style
from scballast.report.html import Grid, Section

if TYPE_CHECKING:
    import pandas as pd

    from scballast.report.stored_tables import ResultFolder
    from scballast.report.style import Picture


def section(results: ResultFolder) -> Section:
    """Return the section on confirmation.

    Parameters
    ----------
    results
        Result folder; read: ``confirmation``, ``stability``.
    """
    lead = (
        "Do the genes of a list hold in cells that the list never saw? Program genes must vary together with the rest "
        "of their list, marker genes be higher than in the rest within strata of depth and batch. What moves genes "
        "together without being biology (ambient counts, doublets within a label), and labels that come from the same "
        "counts, are confirmed as well."
    )
    table = results.table("confirmation")
    if table is None or table["confirmed"].isna().all():
        missing = "Left out: no list could be tested in unseen cells; the reasons are in tables/confirmation.csv."
        return Section("confirmation", "Confirmation", lead, missing=missing)
    return Section("confirmation", "Confirmation", lead, (against_stability(results, table),), (_grid(table),))


def against_stability(results: ResultFolder, table: pd.DataFrame) -> Picture:
    """Draw the confirmed share of each list against its stability, one panel per estimand.

    Parameters
    ----------
    results
        Result folder; read: ``stability``.
    table
        ``confirmation``.

    Returns
    -------
    Picture
        ``confirmed_against_stability``.
    """
    joined = table.merge(results.headline[["population", "method", "phi"]], on=["population", "method"])
    present = [name for name in ESTIMANDS if (joined["estimand"] == name).any()]
    figure = style.new_figure(3.4)
    panels = figure.subplots(1, len(present), sharex=True, sharey=True, squeeze=False)[0]
    for axes, estimand in zip(panels, present, strict=True):
        estimand_rows = joined[joined["estimand"] == estimand]
        for number, (method, rows) in enumerate(estimand_rows.groupby("method", sort=False)):
            colour = style.CYCLE[number % len(style.CYCLE)]
            marker = "osD^"[number // len(style.CYCLE) % 4]
            axes.vlines(rows["phi"], rows["lower"], rows["confirmed"], color=colour, linewidth=0.8, alpha=0.6)
            axes.scatter(
                rows["phi"], rows["confirmed"], s=18, color=colour, marker=marker, edgecolor="white", linewidth=0.4,
                label=str(method),
            )  # fmt: skip
        axes.set_title(estimand)
        axes.set_ylim(-0.04, 1.04)
        axes.grid(axis="y")
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3 if len(present) < 3 else 1, fontsize=style.SMALL
        )
    panels[0].set_ylabel(f"share of the top {results.top_k} confirmed")
    figure.supxlabel(f"stability Φ, top {results.top_k}", fontsize=10)
    caption = (
        "Share of each list that is confirmed at 5% in cells it never saw (dot; line: down to the bound that holds "
        "with 95% confidence) against its stability. Each dot is a population and a method. To the right and low: "
        "lists that come out the same again and are wrong all the same."
    )
    alt = f"Scatter plot of the confirmed share against stability for {joined['method'].nunique()} methods."
    return style.finish(figure, results.path, "confirmed_against_stability", caption=caption, alt=alt)


def _grid(table: pd.DataFrame) -> Grid:
    rows = []
    for estimand in ESTIMANDS:
        estimand_rows = table[table["estimand"] == estimand]
        for method, part in estimand_rows.groupby("method", sort=False):
            tested = part[part["confirmed"].notna()]
            means = [tested[name].mean() for name in ("confirmed", "lower", "pi", "n_cells_unseen")]
            rows.append((str(method), estimand, *means, len(tested), len(part)))
    columns = (
        ("Method", None),
        ("Estimand", None),
        ("Confirmed", 2),
        ("At least (95%)", 2),
        ("Storey", 2),
        ("Unseen cells", 0),
        ("Tested", 0),
        ("of", 0),
    )
    caption = (
        "Confirmation by method, mean over populations: share of the top k confirmed, the share that holds with 95% "
        "confidence, Storey's estimate of the share of true genes, cells of the population that a list never saw, and "
        "populations in which lists could be tested."
    )
    return Grid(caption, columns, tuple(rows))
