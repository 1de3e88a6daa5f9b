"""The tables and the picture of the arena, from one row for each method and data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from scballast.methods.method import Estimand
from scballast.methods.registry import METHODS

ROOT = Path(__file__).parents[2]
STORED = ROOT / "tests" / "reference" / "arena.csv"
PAGE = ROOT / "docs" / "arena.md"
PICTURE = ROOT / "docs" / "images" / "arena.png"

CELLS = "cells_"  # of the columns with the precision in populations of so many cells
DATA_SET = ["simulator", "depth", "seed"]
ROW = ["model", "method"]
LEVEL = 0.95
ESTIMANDS: dict[Estimand, str] = {"program": "Program genes", "marker": "Marker genes"}
CLEAR = 0.02  # of average precision: what is ahead by less in every likely case may be behind elsewhere
SHOWN = 16  # rows of the picture, for each estimand
# Those of other papers by their authors' program: `cnmf` is a family of models too.
TITLES = {"cnmf": "cNMF's", "splatter": "Splatter's"}
COLOURS = {"cells": "#4c72b0", "ldvae": "#dd8452"}
OTHER = "#8c8c8c"


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in an order that does not depend on when they were run, rounded as they are stored."""
    cells = sorted((name for name in table if name.startswith(CELLS)), key=lambda name: int(name.removeprefix(CELLS)))
    ordered = table.sort_values(["estimand", *ROW, *DATA_SET], ignore_index=True)
    ordered = ordered[["estimand", *ROW, *DATA_SET, *cells, "seconds", "megabytes"]]
    return ordered.round({**dict.fromkeys(cells, 4), "seconds": 3, "megabytes": 0})


def with_mean(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with ``mean``, the average precision over the populations of a data set."""
    cells = [name for name in table if name.startswith(CELLS)]
    return table.assign(mean=table[cells].mean(axis=1))


def mean_with_interval(values: pd.Series, kinds: pd.Series) -> tuple[float, float]:
    """Return the mean over kinds of data sets, and half the width of its 95 % interval.

    Data sets of one kind (simulator and depth) differ by their seed alone: how they scatter around the mean of their
    kind, pooled over kinds, is what the interval (t) is of. It is about further data sets of these kinds, not about
    other kinds.

    Parameters
    ----------
    values
        One for each data set.
    kinds
        The kind of each.

    Returns
    -------
    mean, half
        ``half`` is NaN where no kind has two data sets.
    """
    groups = values.groupby(kinds)
    sizes = groups.size()
    freedom = int(len(values) - len(sizes))
    mean = float(groups.mean().mean())
    if freedom < 1:
        return mean, float("nan")
    within = float(((values - groups.transform("mean")) ** 2).sum()) / freedom
    error = np.sqrt(within * (1 / sizes).sum()) / len(sizes)
    return mean, float(stats.t.ppf(0.5 + LEVEL / 2, freedom) * error)


def leaderboard(table: pd.DataFrame, estimand: str) -> pd.DataFrame:
    """Return one row for each model and method, the best first.

    Columns: ``mean`` and ``half`` (its interval), ``n`` (data sets), ``behind`` and ``behind_half`` (what the first
    row finds more, in the data sets that both have, paired by data set; t over data sets), each simulator's and
    depth's and size's mean, ``seconds`` and ``megabytes`` (medians).
    """
    own = with_mean(table[table["estimand"] == estimand])
    own = own.assign(kind=own["simulator"] + "_" + own["depth"].astype(str))
    sizes = [name for name in own if name.startswith(CELLS) and own[name].notna().any()]
    rows = {}
    for name, part in own.groupby(ROW, sort=False):
        mean, half = mean_with_interval(part["mean"], part["kind"])
        rows[name] = {
            "mean": mean,
            "half": half,
            "n": len(part),
            **part.groupby("simulator")["mean"].mean(),
            **part.groupby("depth")["mean"].mean(),
            **part.groupby("kind")[sizes].mean().mean(),
            "seconds": part["seconds"].median(),
            "megabytes": part["megabytes"].median(),
        }
    board = pd.DataFrame.from_dict(rows, orient="index").sort_values("mean", ascending=False, kind="stable")
    board.index.names = ROW
    wide = own.pivot_table(index=DATA_SET, columns=ROW, values="mean")
    paired = [lead(wide, board.index[0], name) for name in board.index]
    board.insert(3, "behind", [mean for mean, _ in paired])
    board.insert(4, "behind_half", [half for _, half in paired])
    return board


def lead(wide: pd.DataFrame, first: tuple[str, str], second: tuple[str, str]) -> tuple[float, float]:
    """Return by how much one row finds more than another in the data sets of both, and half the 95 % interval."""
    gains = (wide[first] - wide[second]).dropna()
    if len(gains) < 2 or first == second:
        return float(gains.mean()), float("nan")
    half = stats.t.ppf(0.5 + LEVEL / 2, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    return float(gains.mean()), float(half)


def clearly_apart(table: pd.DataFrame, estimand: str, names: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    """Return the pairs of rows, by their places in ``names``, of which the first is ahead by ``CLEAR`` or more.

    With its whole interval, paired by data set.
    """
    wide = with_mean(table[table["estimand"] == estimand]).pivot_table(index=DATA_SET, columns=ROW, values="mean")
    pairs = [(above, below) for above in range(len(names)) for below in range(above + 1, len(names))]
    leads = {pair: lead(wide, names[pair[0]], names[pair[1]]) for pair in pairs}
    return [pair for pair, (mean, half) in leads.items() if mean - half >= CLEAR]


def markdown(table: pd.DataFrame) -> str:
    """Return the tables of all estimands as Markdown."""
    return "\n".join(
        f"## {title}\n\n{markdown_of(table, estimand)}\n"
        for estimand, title in ESTIMANDS.items()
        if (table["estimand"] == estimand).any()
    )


def markdown_of(table: pd.DataFrame, estimand: str) -> str:
    """Return one estimand's leaderboard as two Markdown tables: what is found at what cost, and where."""
    board = leaderboard(table, estimand)
    simulators = simulators_of(table[table["estimand"] == estimand])
    depths = sorted(table["depth"].unique())
    sizes = [name for name in board if str(name).startswith(CELLS)]
    names = [name_of(*name) for name in board.index]
    behind = [_with_half(*pair) for pair in zip(board["behind"], board["behind_half"], strict=True)]
    found = {
        "average precision": [_with_half(*pair) for pair in zip(board["mean"], board["half"], strict=True)],
        "behind the first": ["", *behind[1:]],
        "data sets": [f"{n:.0f}" for n in board["n"]],
        "seconds": [_short(value, 0.01) for value in board["seconds"]],
        "MB": [_short(value, 1) for value in board["megabytes"]],
    }
    titles = {
        **{name: TITLES.get(name, name) for name in simulators},
        **{depth: f"{depth:,} counts" for depth in depths},
        **{name: f"{str(name).removeprefix(CELLS)} cells" for name in sizes},
    }
    where = {title: [f"{value:.2f}" for value in board[column]] for column, title in titles.items()}
    return f"{_table(names, found)}\n\n{_table(names, where)}"


def _table(names: Sequence[str], columns: dict[str, list[str]]) -> str:
    head = ["method", *columns]
    lines = [
        head,
        ["---"] * len(head),
        *([name, *cells] for name, *cells in zip(names, *columns.values(), strict=True)),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def simulators_of(table: pd.DataFrame) -> list[str]:
    """Return the simulators of a table, ours first."""
    return sorted(set(table["simulator"]), key=lambda name: (name in TITLES, name))


def name_of(model: str, method: str) -> str:
    """Return a row's name: the method, the model that it reads, and whether it is a control."""
    read = "" if model == "cells" else f" ({model})"
    control = ", control" if method in METHODS and METHODS[method].control else ""
    return f"`{method}`{read}{control}"


def _with_half(mean: float, half: float) -> str:
    return f"{mean:.3f}" + ("" if np.isnan(half) else f"\u00a0±\u00a0{half:.3f}")  # on one line


def _short(value: float, least: float) -> str:
    if value < least:
        return f"below {least:g}"
    return f"{value:.0f}" if value >= 9.95 else f"{value:.2g}"


def picture(table: pd.DataFrame, path: Path) -> None:
    """Draw average precision by method and simulator, with intervals, of the best rows of each estimand."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    simulators = simulators_of(table)
    boards = {estimand: leaderboard(table, estimand) for estimand in ESTIMANDS}
    heights = [min(len(board), SHOWN) for board in boards.values()]
    figure = Figure(figsize=(11, 1.4 + 0.22 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(boards), len(simulators), sharex=True, sharey="row", height_ratios=heights)
    for row, (estimand, title) in enumerate(ESTIMANDS.items()):
        names = list(boards[estimand].index[:SHOWN])
        own = with_mean(table[table["estimand"] == estimand])
        for column, simulator in enumerate(simulators):
            axis, here = axes[row, column], own[own["simulator"] == simulator]
            for place, (model, method) in enumerate(names):
                part = here[(here["model"] == model) & (here["method"] == method)]
                if part.empty:
                    continue
                mean, half = mean_with_interval(part["mean"], part["depth"])
                colour = COLOURS.get(model, OTHER)
                axis.plot([mean - half, mean + half], [place, place], color=colour, linewidth=1.5)
                axis.plot(mean, place, "o", color=colour, markersize=4)
            if here.empty:
                axis.text(0.5, 0.5, "none planted", transform=axis.transAxes, ha="center", fontsize=8, color=OTHER)
            axis.set(xlim=(0, 1), xticks=[0, 0.5, 1])
            axis.grid(axis="x", color="#e5e5e5")
            axis.tick_params(labelsize=8)
            if row == 0:
                axis.set_title(TITLES.get(simulator, simulator), fontsize=9)
        axes[row, 0].set_yticks(range(len(names)), [name_of(*name).replace("`", "") for name in names], fontsize=8)
        axes[row, 0].set_ylabel(title, fontsize=9)
        axes[row, 0].set_ylim(len(names) - 0.4, -0.6)
    words = {"of cells alone": COLOURS["cells"], "read from an LDVAE": COLOURS["ldvae"], "from other models": OTHER}
    marks = [Line2D([], [], color=colour, marker="o", linewidth=1.5) for colour in words.values()]
    figure.legend(marks, list(words), loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    figure.supxlabel("average precision, 95 % intervals over data sets", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def store(table: pd.DataFrame) -> None:
    """Write the stored table, the tables of the page and its picture."""
    table.to_csv(STORED, index=False, lineterminator="\n")
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8"), table), encoding="utf-8")
    picture(table, PICTURE)


def page_with_tables(text: str, table: pd.DataFrame) -> str:
    """Return the page with the tables of the estimands under their headings in place of those that it has."""
    for estimand, title in ESTIMANDS.items():
        before, after = text.split(f"## {title}\n", 1)
        words, *_ = after.split("\n| method |", 1)
        lines = after.splitlines()
        last = max(number for number, line in enumerate(lines[: _next_heading(lines)]) if line.startswith("|"))
        rest = "\n".join(lines[last + 1 :])
        text = f"{before}## {title}\n{words}\n{markdown_of(table, estimand)}\n{rest}\n"
    return text


def _next_heading(lines: Sequence[str]) -> int:
    return next((number for number, line in enumerate(lines) if line.startswith("#")), len(lines))
