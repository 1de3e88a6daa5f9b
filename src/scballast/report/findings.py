"""One sentence under each figure that says what *these* numbers show."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from scballast.methods.registry import CONTROLS
from scballast.report.fit_figures import paired_fit
from scballast.report.gene_figures import separation
from scballast.report.stability_figures import paired_differences
from scballast.report.stored_tables import ResultFolder


def finding(results: ResultFolder, stem: str) -> str:
    """Say what a figure shows; ``""`` where its numbers say nothing.

    Parameters
    ----------
    results
        Result folder.
    stem
        Name of the figure.
    """
    for start, (name, sentence) in _SENTENCES.items():
        if stem.startswith(start):
            table = results.table(name)
            return "" if table is None else sentence(results, table, stem.removeprefix(start))
    return ""


def _lists(results: ResultFolder) -> pd.DataFrame:
    head = results.headline
    return head[~head["method"].isin(CONTROLS) & head["phi"].notna()]


def _heat_map(results: ResultFolder, table: pd.DataFrame, _: str) -> str:
    parts = []
    for estimand, means in _by_estimand(_lists(results), "phi"):
        method_means = means.sort_values()
        parts.append(
            f"{method_means.index[-1]} is the most stable {estimand} method ({method_means.iloc[-1]:z.2f} on average)"
        )
        if len(method_means) > 1:
            parts[-1] += f", {method_means.index[0]} the least ({method_means.iloc[0]:z.2f})"
    return f"{'; '.join(parts)}." if parts else ""


def _dots(results: ResultFolder, table: pd.DataFrame, estimand: str) -> str:
    lists = _lists(results)
    lists = lists[lists["estimand"] == estimand]
    if lists.empty:
        return ""
    above = lists.assign(above=lists["lower"] > lists["floor"]).groupby("method")["above"].sum()
    n_populations = lists["population"].nunique()
    best = above.sort_values(kind="stable").index[-1]
    nothing = [name for name, count in above.items() if count == 0]
    text = f"{best} lies clearly above its floor in {above[best]} of {n_populations} populations"
    return f"{text}; {', '.join(nothing)} in none." if nothing else f"{text}, and every method in at least one."


def _by_size(results: ResultFolder, table: pd.DataFrame, _: str) -> str:
    means = _lists(results).groupby("population")[["phi"]].mean()
    means = means.assign(n_cells=means.index.map(results.n_cells)).dropna()
    rank = means.rank().corr().iloc[0, 1]
    if means["n_cells"].nunique() < 3 or math.isnan(rank):
        return ""
    words = "Larger populations have more stable lists" if rank > 0.3 else "Stability does not grow with size here"
    if rank < -0.3:
        words = "Smaller populations have more stable lists here"
    return f"{words} (rank correlation {rank:z.2f} over {len(means)} populations)."


def _pair_rows(table: pd.DataFrame, estimand: str) -> pd.DataFrame:
    controls = table["method_a"].isin(CONTROLS) | table["method_b"].isin(CONTROLS)
    return table[(table["estimand"] == estimand) & ~controls]


def _pairs(results: ResultFolder, table: pd.DataFrame, estimand: str) -> str:
    means = _pair_rows(table, estimand).groupby(["method_a", "method_b"])["overlap"].mean().dropna().sort_values()
    if means.empty:
        return ""
    (a, b), (c, d) = means.index[-1], means.index[0]
    text = f"{a} and {b} agree most ({means.iloc[-1]:.0%} of their genes)"
    return f"{text}, {c} and {d} least ({means.iloc[0]:.0%})." if len(means) > 1 else f"{text}."


def _ranges(results: ResultFolder, table: pd.DataFrame, estimand: str) -> str:
    known = _pair_rows(table, estimand).dropna(subset=["lower", "floor"])
    above = int((known["lower"] > known["floor"]).sum())
    return f"{above} of {len(known)} pairs of lists agree by clearly more than their floor." if len(known) else ""


def _fit(results: ResultFolder, table: pd.DataFrame, _: str) -> str:
    pairs = paired_fit(results)
    if pairs is None:
        return ""
    means = pairs.groupby("population")[["shared", "own"]].mean()
    better = int((means["own"] < means["shared"]).sum())
    return f"A model of its own describes the cells better in {better} of {len(means)} populations."


def _association(results: ResultFolder, table: pd.DataFrame, number: str) -> str:
    if number != "1":
        return ""
    best = table.loc[table["eta2"].idxmax()]
    return f"The strongest link: dimension {best['dimension']} and {best['key']} (η² {best['eta2']:.2f})."


def _purity(results: ResultFolder, table: pd.DataFrame, _: str) -> str:
    pure = (table["purity"] > 0.9).mean()
    return (
        f"{pure:.0%} of the ends of axes are nearly of one population (more than 90%); on average an end is "
        f"{table['purity'].mean():.0%} of its most frequent one, which has {table['base_rate'].mean():.0%} of all."
    )


def _curves(results: ResultFolder, table: pd.DataFrame, _: str) -> str:
    curve = [value for _, value in results.history.get("train/elbo", [])]
    if len(curve) < 10 or curve[0] == curve[-1]:
        return ""
    late = (curve[-len(curve) // 10 - 1] - curve[-1]) / abs(curve[0] - curve[-1])
    return f"The last tenth of the epochs brought {late:.1%} of the whole gain in loss."


def _map(results: ResultFolder, table: pd.DataFrame, _: str) -> str:
    share, worst = separation(table[table["population"].isin(["", *results.drawn])])
    if math.isnan(share):
        return ""
    return f"{share:.0%} of the cells lie next to one of their own population; “{worst}” mixes most with others."


def _genes(results: ResultFolder, table: pd.DataFrame, _: str) -> str:
    table = table[table["of"].isin(results.drawn)]
    wide = table.pivot_table(index="gene", columns="population", values="mean")
    owner = table.drop_duplicates("gene").set_index("gene")["of"]
    highest = int((wide.idxmax(axis=1) == owner.loc[wide.index]).sum())
    return f"{highest} of {len(wide)} of these genes are most abundant in the population whose list they lead."


def _confirmed(results: ResultFolder, table: pd.DataFrame, _: str) -> str:
    tested = table[~table["method"].isin(CONTROLS) & table["confirmed"].notna()]
    means = _by_estimand(tested, "confirmed")
    parts = [f"{rows.idxmax()} is confirmed most as {name} ({rows.max():.0%})" for name, rows in means]
    stable = tested.merge(_lists(results).query("phi > 0.5")[["method", "population"]], on=["method", "population"])
    if len(stable):
        wrong = int((stable["confirmed"] < 0.5).sum())
        parts.append(f"of {len(stable)} lists that come back (Φ above 0.5), less than half of {wrong} is confirmed")
    return f"{'; '.join(parts)}." if parts else ""


def _programs(results: ResultFolder, table: pd.DataFrame, _: str) -> str:
    n_populations, n_flagged = table["population"].nunique(), int((table["flags"].astype(str) != "").sum())
    return (
        f"{len(table)} programs in {n_populations} of {len(results.populations)} populations; {n_flagged} of them go "
        "with something known, which the table below names."
    )


def _differences(results: ResultFolder, table: pd.DataFrame, _: str) -> str:
    counts = {
        pair: (int((rows["lower"] > 0).sum()), int((rows["upper"] < 0).sum()), len(rows))
        for pair, rows in paired_differences(results).items()
    }
    if not counts:
        return ""
    (first, second), (more, less, n) = max(counts.items(), key=lambda entry: abs(entry[1][0] - entry[1][1]))
    if more == less:
        return "No method is more stable than another in more populations than it is less stable."
    if less > more:
        first, second, more, less = second, first, less, more
    return f"The clearest pair: {first} is more stable than {second} in {more} of {n} populations, and less in {less}."


def _ranks(results: ResultFolder, table: pd.DataFrame, pair: str) -> str:
    methods = set(pair.split("_vs_"))
    pair_rows = table[[{a, b} == methods for a, b in zip(table["method_a"], table["method_b"], strict=True)]]
    shares = pair_rows.set_index("population")["overlap"].dropna()
    if shares.empty:
        return ""
    text = f"Of the first {results.top_k} genes {shares.mean():.0%} are the same on average"
    most = f": most in “{shares.idxmax()}” ({shares.max():.0%}), least in “{shares.idxmin()}” ({shares.min():.0%})"
    return f"{text}{most if len(shares) > 1 else ''}."


def _loadings(results: ResultFolder, table: pd.DataFrame, _: str) -> str:
    squares = table.assign(square=table["loading"] ** 2).groupby("dimension")["square"].sum()
    if len(squares) < 2 or squares.sum() == 0:
        return ""
    share = squares / squares.sum()
    return (
        f"Dimension {share.idxmax()} has most of the loadings ({share.max():.0%} of their squares), dimension "
        f"{share.idxmin()} least ({share.min():.0%})."
    )


def _truth(results: ResultFolder, table: pd.DataFrame, _: str) -> str:
    means = _by_estimand(table, "average_precision")
    best = [f"{rows.idxmax()} finds most {name} genes ({rows.max():.2f})" for name, rows in means]
    return f"{'; '.join(best)}." if best else ""


def _by_estimand(table: pd.DataFrame, column: str) -> list[tuple[str, pd.Series]]:
    """Return the means of the methods that have one, estimand by estimand."""
    means = table.groupby(["estimand", "method"])[column].mean()
    return [(str(name), means[name].dropna()) for name in means.index.unique("estimand") if means[name].notna().any()]


# By the beginning of a figure's name, the longest first where one begins another: the table that it is of, and what
# is said.
_SENTENCES: dict[str, tuple[str, Callable[[ResultFolder, pd.DataFrame, str], str]]] = {
    "stability_heatmap": ("stability", _heat_map),
    "stability_by_size": ("stability", _by_size),
    "stability_differences": ("differences", _differences),
    "stability_": ("stability", _dots),
    "concordance_range_": ("concordance", _ranges),
    "concordance_": ("concordance", _pairs),
    "heldout_fit": ("fit", _fit),
    "association_": ("association", _association),
    "axis_purity": ("axis_purity", _purity),
    "training_curves": ("stability", _curves),
    "latent_map": ("embedding", _map),
    "answer_dots": ("answer_expression", _genes),
    "confirmed_against_stability": ("confirmation", _confirmed),
    "programs": ("program_summary", _programs),
    "ranks_": ("concordance", _ranks),
    "loadings": ("loadings", _loadings),
    "truth": ("truth", _truth),
}
