"""Figures of a sweep: Pareto front, stability against the number of dimensions, importance, trials."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from scballast.methods.registry import CONTROLS, method_order
from scballast.report import style
from scballast.report.figure_names import drawable, figure_labels, shorten
from scballast.report.html import Picture
from scballast.report.sweep_tables import OF_MODELS, SweepFolder

MAX_METHODS = 5  # lines of one panel
MAX_TRIALS = 40  # columns of the heat map
_OF_PANELS = ("stability Φ\n(mean over populations)", "held-out NLL\n(nats per cell)")
_MARKERS = ("o", "s", "^", "D", "v", "P")


def pareto(sweep: SweepFolder) -> Picture:
    """Draw the trials by their first two objectives, the non-dominated joined, the chosen one ringed.

    Parameters
    ----------
    sweep
        Sweep folder; read: ``trials.csv``, ``config/resolved.yaml``.

    Returns
    -------
    Picture
        ``pareto``.
    """
    x, y = sweep.objectives[:2]
    trials = sweep.finished
    figure, axes = style.panel(4.6)
    shapes = _levels(trials, "model.gene_likelihood")
    colours = _levels(trials, "model.latent_distribution")
    for row in trials.to_dict("records"):
        shape = _MARKERS[shapes.get(str(row.get("model.gene_likelihood")), 0) % len(_MARKERS)]
        colour = style.CYCLE[colours.get(str(row.get("model.latent_distribution")), 0) % len(style.CYCLE)]
        best = row["trial"] in sweep.pareto
        axes.scatter(
            row[x.metric], row[y.metric], marker=shape, s=46 if best else 24, color=colour, zorder=3 if best else 2,
            alpha=1.0 if best else 0.45, edgecolor=style.INK if best else "none", linewidth=1.0,
        )  # fmt: skip
    front = trials[trials["trial"].isin(sweep.pareto)].sort_values([x.metric, y.metric])
    axes.plot(front[x.metric], front[y.metric], color=style.INK, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    _name_trials(axes, sweep, front, x.metric, y.metric)
    chosen = trials[trials["trial"] == sweep.chosen]
    axes.scatter(chosen[x.metric], chosen[y.metric], s=190, facecolor="none", edgecolor=style.VERMILION, linewidth=1.8)
    axes.set(xlabel=x.label, ylabel=y.label)
    axes.grid()
    marks = {name: style.mark(style.CYCLE[i % len(style.CYCLE)]) for name, i in colours.items()}
    marks |= {name: style.mark(style.GREY, _MARKERS[i % len(_MARKERS)]) for name, i in shapes.items()}
    marks["non-dominated"] = Line2D([], [], color=style.INK, linewidth=0.9, linestyle=(0, (4, 2)))
    if len(chosen):
        marks["chosen"] = style.mark(style.VERMILION, markerfacecolor="none", markersize=11)
    figure.legend(
        list(marks.values()), list(marks), loc="outside upper center", ncols=min(7, len(marks)), handletextpad=0.2
    )
    caption = (
        f"Every finished trial by its objectives ({x.text}, {y.text}). Outlined and joined: no other trial is "
        "better in one objective without being worse in another; those far enough apart are named by trial number."
    )
    alt = f"Scatter plot of {len(trials)} trials by {x.metric} and {y.metric}."
    return style.finish(figure, sweep.path, "pareto", caption=caption, alt=alt)


def _levels(trials: pd.DataFrame, column: str) -> dict[str, int]:
    if column not in trials:
        return {}
    return {name: i for i, name in enumerate(sorted({str(value) for value in trials[column]}))}


def _name_trials(axes: Axes, sweep: SweepFolder, front: pd.DataFrame, x: str, y: str) -> None:
    """Name the chosen trial, then the others of the front whose names keep apart from those already there."""
    rows = sorted(front.to_dict("records"), key=lambda row: row["trial"] != sweep.chosen)
    width = float(sweep.finished[x].max() - sweep.finished[x].min()) or 1.0
    height = float(sweep.finished[y].max() - sweep.finished[y].min()) or 1.0
    placed: list[tuple[float, float]] = []
    for row in rows:
        place = (row[x] / width, row[y] / height)
        if any(abs(place[0] - px) < 0.06 and abs(place[1] - py) < 0.06 for px, py in placed):
            continue
        placed.append(place)
        at, text = (row[x], row[y]), drawable(str(row["trial"]))
        axes.annotate(text, at, xytext=(-8, 7), textcoords="offset points", fontsize=9, ha="right")


def by_n_latent(sweep: SweepFolder, stability: pd.DataFrame) -> Picture:
    """Draw stability and held-out fit against the number of latent dimensions.

    Parameters
    ----------
    sweep
        Sweep folder; read: ``trials.csv``.
    stability
        ``sweep_stability`` with the trial's parameters as columns.

    Returns
    -------
    Picture
        ``stability_by_n_latent``.
    """
    kinds = [column for column in ("model.gene_likelihood", "model.latent_distribution") if column in stability]
    means = stability.groupby(["trial", "method", "model.n_latent", *kinds], sort=False)[["phi", "floor"]].mean()
    means = means.reset_index()
    methods = _shown_methods(sweep, sorted(set(means["method"]) - CONTROLS, key=method_order))
    combinations = sorted({tuple(str(v) for v in row) for row in means[kinds].to_numpy()}) if kinds else [()]
    n_columns = min(3, len(combinations))
    n_blocks = math.ceil(len(combinations) / n_columns)
    fit = "fit/heldout_nll"
    with_fit = fit in sweep.finished
    n_rows = 2 if with_fit else 1
    figure = style.new_figure(n_blocks * (3.6 if with_fit else 2.2) + 0.9)
    ratios = ([1.5, 1] if with_fit else [1]) * n_blocks
    grid = figure.subplots(n_blocks * n_rows, n_columns, squeeze=False, sharex=True, height_ratios=ratios)
    ticks = sorted({float(v) for v in means["model.n_latent"]})
    # One row for each setting: its panel of stability and, where it is known, that of the fit below.
    settings = grid.reshape(n_blocks, n_rows, n_columns).swapaxes(1, 2).reshape(-1, n_rows)
    for i, (combination, (upper, *lower)) in enumerate(zip(combinations, settings, strict=False)):
        _stability_lines(upper, _matching(means, kinds, combination), methods)
        upper.set_title(drawable(", ".join(combination)) or "all trials", fontsize=9.5)
        for axes in lower:
            _mean_line(axes, _matching(sweep.finished, kinds, combination).dropna(subset=fit), fit, style.INK)
            axes.grid(axis="y")
        if i % n_columns == 0:
            for axes, label in zip((upper, *lower), _OF_PANELS, strict=False):
                axes.set_ylabel(label)
    for axes in settings[len(combinations) :].flat:
        axes.remove()
    _share_limits(settings[: len(combinations)], n_columns)
    if ticks[0] > 0 and ticks[-1] >= 4 * ticks[0]:
        grid[0, 0].set_xscale("log")
        grid[0, 0].minorticks_off()
    shown = ticks if len(ticks) <= 6 else ticks[:: math.ceil(len(ticks) / 5)]
    grid[0, 0].set_xticks(shown, labels=[f"{tick:g}" for tick in shown])
    figure.supxlabel("latent dimensions (n_latent)", fontsize=10)
    handles = [Line2D([], [], color=colour) for _, colour in zip(methods, style.CYCLE, strict=False)]
    handles.append(Line2D([], [], color=style.GREY, linestyle=(0, (3, 2))))
    names = [*(drawable(m) for m in methods), "floor"]
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), handletextpad=0.4, columnspacing=1.2)
    caption = (
        "Choosing the number of latent dimensions for each likelihood and latent distribution: stability (upper "
        "panels; dots: trials, line: their mean, dashed: the mean floor of the first method) against held-out "
        "negative log-likelihood (lower panels, lower is better). Look for the largest number of dimensions "
        "before stability falls while the fit no longer improves."
    )
    alt = f"Line plots of stability against n_latent in {len(combinations)} settings for {len(methods)} methods."
    return style.finish(figure, sweep.path, "stability_by_n_latent", caption=caption, alt=alt)


def _shown_methods(sweep: SweepFolder, methods: list[str]) -> list[str]:
    """Keep the methods that depend on the model, the objectives' own first."""
    usual = ("contrast", "axis", "spread", "local", "conditioned", "per_population")
    first = [m for m in [*sweep.methods_of_objectives, *usual, *OF_MODELS] if m in methods]
    return list(dict.fromkeys(first or methods))[:MAX_METHODS]


def _matching(table: pd.DataFrame, kinds: list[str], values: tuple[str, ...]) -> pd.DataFrame:
    for column, value in zip(kinds, values, strict=True):
        table = table[table[column].astype(str) == value]
    return table


def _stability_lines(axes: Axes, rows: pd.DataFrame, methods: list[str]) -> None:
    for method, colour in zip(methods, style.CYCLE, strict=False):
        method_rows = rows[rows["method"] == method]
        _mean_line(axes, method_rows, "phi", colour)
        if method == methods[0]:
            floor = method_rows.groupby("model.n_latent")["floor"].mean()
            axes.plot(floor.index, floor, color=style.GREY, linewidth=1, linestyle=(0, (3, 2)))
    axes.grid(axis="y")


def _mean_line(axes: Axes, rows: pd.DataFrame, column: str, colour: str) -> None:
    """Draw a column against the number of dimensions: dots, and a line through their means."""
    mean = rows.groupby("model.n_latent")[column].mean()
    axes.plot(mean.index, mean, color=colour, linewidth=1.4)
    axes.scatter(rows["model.n_latent"], rows[column], s=12, color=colour, alpha=0.6, linewidth=0)


def _share_limits(settings: np.ndarray, n_columns: int) -> None:
    """Give all stability panels one scale, and all fit panels another; name it at the left only."""
    for offset, panels in enumerate(settings.T):
        drawn = [panel for panel in panels if np.isfinite(panel.dataLim.y0)] or panels
        low = min(panel.get_ylim()[0] for panel in drawn)
        high = max(panel.get_ylim()[1] for panel in drawn)
        for i, panel in enumerate(panels):
            panel.set_ylim(min(low, 0.0) if offset == 0 else low, min(high, 1.02) if offset == 0 else high)
            panel.tick_params(axis="y", labelleft=i % n_columns == 0)
            panel.tick_params(axis="x", labelbottom=offset == settings.shape[1] - 1)


def importance(sweep: SweepFolder, table: pd.DataFrame) -> Picture:
    """Draw the importance of each parameter for each objective.

    Parameters
    ----------
    sweep
        Sweep folder.
    table
        ``importance``: objective, parameter, importance.

    Returns
    -------
    Picture
        ``importance``.
    """
    objectives = list(dict.fromkeys(table["objective"]))[:4]
    order = table.groupby("parameter")["importance"].mean().sort_values(ascending=False, kind="stable").index
    names = [str(name) for name in order]
    figure = style.new_figure(len(names) * style.row_height(len(names)) + 1.1)
    grid = figure.subplots(1, len(objectives), sharey=True, sharex=True, squeeze=False)
    for axes, objective in zip(grid[0], objectives, strict=True):
        shares = table[table["objective"] == objective].set_index("parameter")["importance"].reindex(names)
        rows = np.arange(len(names))
        axes.hlines(rows, 0, shares, color=style.BLUE, linewidth=1.4, alpha=0.5)
        axes.scatter(shares, rows, s=28, color=style.BLUE, zorder=3)
        axes.set_title(shorten(drawable(str(objective)), 34), fontsize=9.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
    grid[0, 0].set_xlim(0, max(0.05, float(table["importance"].max()) * 1.08))
    style.name_rows(grid[0, 0], list(figure_labels(names, 40).values()))
    figure.supxlabel("share of the objective's variance over the trials (importance)", fontsize=10)
    caption = (
        "Which parameters decide. Importance of each parameter for each objective, estimated from the trials; it "
        "speaks only of the ranges that were searched, and is rough with few trials."
    )
    alt = f"Dot plot of the importance of {len(names)} parameters for {len(objectives)} objectives."
    return style.finish(figure, sweep.path, "importance", caption=caption, alt=alt)


def by_trial(sweep: SweepFolder, stability: pd.DataFrame, method: str) -> Picture:
    """Draw one method's stability in every population and trial.

    Parameters
    ----------
    sweep
        Sweep folder.
    stability
        ``sweep_stability``.
    method
        The method to show.

    Returns
    -------
    Picture
        ``stability_by_trial``.
    """
    wide = stability[stability["method"] == method].pivot_table(index="population", columns="trial", values="phi")
    trials = wide.mean().sort_values(ascending=False, kind="stable").index[:MAX_TRIALS]
    wide = wide[trials]
    wide = wide.loc[wide.mean(axis=1).sort_values(ascending=False, kind="stable").index]
    names = [str(name) for name in wide.index]
    row = style.row_height(len(names))
    figure, axes = style.panel(max(1.2, len(names) * row) + 1.2)
    values = np.clip(wide.to_numpy(dtype=float), 0, 1)
    mesh = style.heat_map(axes, values, style.SEQUENTIAL, (0, 1), linewidth=0.6)
    style.label_rows(axes, names)
    families = sweep.trials.set_index("trial")["model.name"] if "model.name" in sweep.parameters else {}
    named = {t: f"{t} {families[t]}" if t in families else t for t in trials}
    labels = [f"{drawable(named[t])}{' ←' if t == sweep.chosen else ''}" for t in trials]
    axes.set_xticks(range(len(labels)), labels=labels, rotation=90, fontsize=8 if len(labels) <= 25 else 6.5)
    for tick, trial in zip(axes.get_xticklabels(), trials, strict=True):
        if trial == sweep.chosen:
            tick.set_color(style.VERMILION)
            tick.set_fontweight("bold")
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("trial, the most stable first")
    shrink = min(1.0, 2.4 / max(1.2, len(names) * row))
    style.colour_bar(figure, mesh, axes, f"stability Φ of {drawable(method)}", aspect=16, shrink=shrink, pad=0.02)
    more = " Only the most stable trials are shown." if len(trials) == MAX_TRIALS else ""
    caption = (
        f"Stability of {method} in each population under every trial, both ordered by their mean; the chosen trial "
        f"is marked. A row that is pale throughout is a population that no configuration makes reliable.{more}"
    )
    alt = f"Heat map of the stability of {method}, {len(names)} populations by {len(trials)} trials."
    return style.finish(figure, sweep.path, "stability_by_trial", caption=caption, alt=alt)
