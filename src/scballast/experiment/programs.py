"""The programs of an experiment: from its cells to tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scballast.agreement.program_context import (
    has_both_sides,
    matching_programs,
    other_population_floor,
)
from scballast.agreement.programs import (
    BY_PROGRAM,
    FEWEST_CELLS,
    FEWEST_PAIRS,
    FEWEST_PARTS,
    PopulationPrograms,
    find_programs,
    no_programs,
)
from scballast.arrays import FloatArray, IntArray
from scballast.experiment.program_flags import CellFacts, Flags, cell_facts, flags_of
from scballast.experiment.setup import Setup, sample_codes
from scballast.methods.cell_view import MOST_CELLS, evenly_over_depth
from scballast.progress import progress_bar
from scballast.seeds import Stream, generator_for
from scballast.threads import one_thread

LISTED_GENES = 200
N_OWN_PAIRS = 5
N_PARTS = 5
_MAP_GENES, _MAP_BINS = 20, 40


def program_tables(setup: Setup) -> dict[str, pd.DataFrame]:
    """Find the programs of every ranked population, and what they go with.

    Returns
    -------
    dict
        ``programs`` (population, program, rank, gene, weight, selection_frequency, q_value, confirmed; the 200
        largest weights),
        ``program_summary`` (a row per program), ``program_counts`` (a row per population, with the reason where
        there is none), ``program_association`` (each program with depth, groups and other populations' markers),
        ``program_activity`` (cross-fitted, a row per program and cell that was looked at: of a population of more than
        twice ``cell_view.MOST_CELLS`` so many, evenly over their depth), ``program_map`` (the leading genes over cells
        ordered by activity, in bins).
    """
    names = setup.populations
    codes, totals = setup.dataset.population_codes, setup.dataset.total_counts
    of_populations = [np.flatnonzero(codes == code) for code in range(len(names))]
    cells = [evenly_over_depth(inside, totals, setup.counts, 2 * MOST_CELLS) for inside in of_populations]
    all_programs: list[PopulationPrograms] = []
    with progress_bar("finding programs", len(names), unit="populations") as advance, one_thread():
        for name, inside in zip(names, cells, strict=True):
            all_programs.append(_of_population(setup, name, inside))
            advance(1)
        all_programs = _above_other_populations(all_programs)
    facts = cell_facts(setup)
    flags = [
        flags_of(programs, facts, inside, code)
        for code, (programs, inside) in enumerate(zip(all_programs, cells, strict=True))
    ]
    return _tables(facts, cells, all_programs, flags)


def program_metrics(tables: Mapping[str, pd.DataFrame], safe_names: Mapping[str, str]) -> dict[str, float]:
    """Return the programs found again that carry no flag, in all and by population, and what they explain."""
    counts, summary = tables["program_counts"], tables["program_summary"]
    clean = summary[summary["flags"] == ""]
    explained = clean.groupby("population", sort=False)["explained"].sum()
    metrics = {
        "programs/n_replicated": float((counts["n_programs"] - counts["n_flagged"]).sum()),
        "programs/n_flagged": float(counts["n_flagged"].sum()),
        "programs/explained": float(explained.reindex(counts["population"], fill_value=0.0).mean()),
    }
    for population, n, flagged in counts[["population", "n_programs", "n_flagged"]].itertuples(index=False):
        metrics[f"programs/{safe_names[str(population)]}/n"] = float(n - flagged)
    return metrics


def halves_of(setup: Setup, cells: IntArray, generator: np.random.Generator) -> list[tuple[IntArray, IntArray]]:
    """Return pairs of disjoint halves of some cells, as positions among them.

    The experiment's own complementary replicates where it has three pairs or more (``subsample``, ``donor``);
    otherwise five random pairs. Pairs with fewer than ten of the cells on a side are left out for ``donor``.
    """
    resample, replicates = setup.config.resample, setup.replicates
    pairs: list[tuple[IntArray, IntArray]] = []
    if resample.kind in ("subsample", "donor") and len(replicates) // 2 >= FEWEST_PAIRS:
        for first, second in zip(replicates[0::2], replicates[1::2], strict=False):
            halves = [np.flatnonzero(np.isin(cells, half.cells)) for half in (first, second)]
            if resample.kind == "subsample" or min(map(len, halves)) >= FEWEST_CELLS:
                pairs.append((halves[0], halves[1]))
        return pairs
    middle = len(cells) // 2
    for _ in range(N_OWN_PAIRS):
        order = generator.permutation(len(cells))
        pairs.append((np.sort(order[:middle]), np.sort(order[middle:])))
    return pairs


def parts_of(setup: Setup, cells: IntArray, generator: np.random.Generator) -> list[IntArray]:
    """Return five disjoint parts that hold some cells, as positions among them; whole samples for ``donor``.

    Samples are dealt, the largest first, each to the part with the fewest cells; cells of no known sample go together.
    """
    samples = sample_codes(setup.dataset)
    if setup.config.resample.kind != "donor" or samples is None:
        return [np.sort(part) for part in np.array_split(generator.permutation(len(cells)), N_PARTS)]
    codes, sizes = np.unique(samples[cells], return_counts=True)
    parts: list[list[int]] = [[] for _ in range(min(N_PARTS, len(codes)))]
    filled = np.zeros(len(parts), dtype=np.int64)
    for sample in np.argsort(-sizes, kind="stable"):
        smallest = int(filled.argmin())
        parts[smallest].append(int(codes[sample]))
        filled[smallest] += sizes[sample]
    return [np.flatnonzero(np.isin(samples[cells], part)) for part in parts]


def _of_population(setup: Setup, name: str, cells: IntArray) -> PopulationPrograms:
    generator = generator_for(setup.config.seed, Stream.PROGRAMS, name)
    pairs = halves_of(setup, cells, generator)
    counts = setup.counts[cells].toarray().astype(np.float64)
    if len(pairs) < FEWEST_PAIRS:
        reason = f"fewer than {FEWEST_PAIRS} pairs of halves have {FEWEST_CELLS} of its cells on either side"
        return no_programs(counts.shape[0], counts.shape[1], 0, reason)
    parts = parts_of(setup, cells, generator)
    if len(parts) < FEWEST_PARTS:
        sample = "donor" if setup.dataset.sample_key is None else setup.dataset.sample_key
        reason = f"all of its cells have one {sample}: none can be left out to confirm a program"
        return no_programs(counts.shape[0], counts.shape[1], 0, reason)
    return find_programs(counts, setup.dataset.total_counts[cells], pairs, parts, generator)


def _above_other_populations(all_programs: Sequence[PopulationPrograms]) -> list[PopulationPrograms]:
    """Raise the floors to the usual agreement with other populations' programs, and drop what is not above."""
    matches = matching_programs([programs.weights for programs in all_programs])
    kept = []
    for here, programs in enumerate(all_programs):
        same = {(match.population, match.program) for of_one in matches[here] for match in of_one}
        others = [
            all_programs[there].half_weights[:, :, program]
            for there in range(len(all_programs))
            for program in range(all_programs[there].n_programs)
            if there != here and (there, program) not in same
        ]
        if programs.n_programs and others:
            least = min(map(len, others))
            floor = other_population_floor(
                programs.half_weights, np.stack([half_weights[:least] for half_weights in others], axis=-1)
            )
            kept.append(programs.above(floor))
        else:
            kept.append(programs)
    return kept


def _tables(
    facts: CellFacts, cells: Sequence[IntArray], all_programs: Sequence[PopulationPrograms], flags: Sequence[Flags]
) -> dict[str, pd.DataFrame]:
    names, dataset = facts.setup.populations, facts.setup.dataset
    genes = dataset.adata.var_names.to_numpy(dtype=object)
    matches = matching_programs([programs.weights for programs in all_programs])
    rows: dict[str, list[dict[str, Any]]] = {"summary": [], "counts": [], "association": []}
    lists, activities, maps = [], [], []
    for here, (name, programs) in enumerate(zip(names, all_programs, strict=True)):
        listed = programs.listed
        both = has_both_sides(programs.weights, listed)
        flagged = sum(bool(words) for words in flags[here].words)
        rows["counts"].append(
            {"population": name, "n_cells": int((dataset.population_codes == here).sum()),
             "n_looked_at": len(cells[here]), "n_programs": programs.n_programs, "n_flagged": flagged,
             "n_candidates": programs.n_candidates, "reason": programs.reason}
        )  # fmt: skip
        for k in range(programs.n_programs):
            program = f"P{k + 1}"
            order = np.argsort(-np.abs(programs.weights[:, k]), kind="stable")[:LISTED_GENES]
            lists.append(
                pd.DataFrame(
                    {"population": name, "program": program, "rank": np.arange(1, len(order) + 1), "gene": genes[order],
                     "weight": programs.weights[order, k],
                     "selection_frequency": programs.selection_frequency[order, k],
                     "q_value": programs.q_values[order, k], "confirmed": listed[order, k]}
                )
            )  # fmt: skip
            same = (f"{names[m.population]} P{m.program + 1} ({m.cosine:.2f})" for m in matches[here][k])
            rows["summary"].append(
                {"population": name, "program": program, "n_genes": int(listed[:, k].sum()),
                 "sides": "up and down" if both[k] else "up",
                 **{measure: getattr(programs, measure)[k] for measure in BY_PROGRAM},
                 "flags": "; ".join(flags[here].words[k]), "matches": "; ".join(same)}
            )  # fmt: skip
            rows["association"] += [
                {"population": name, "program": program, "with": key, "statistic": statistic, "value": values[k]}
                for key, statistic, values in flags[here].associations
            ]
            known = np.flatnonzero(np.isfinite(programs.activity[:, k]))
            activities.append(
                pd.DataFrame(
                    {"cell": dataset.adata.obs_names.to_numpy(dtype=object)[cells[here][known]],
                     "population": name, "program": program, "activity": programs.activity[known, k]}
                )
            )  # fmt: skip
            maps.append(_map(facts.log_counts(cells[here][known]), programs.activity[known, k], order, genes).assign(
                population=name, program=program))  # fmt: skip
    return {
        "programs": _joined(
            lists, ("population", "program", "rank", "gene", "weight", "selection_frequency", "q_value", "confirmed")
        ),
        "program_summary": pd.DataFrame(
            rows["summary"], columns=["population", "program", "n_genes", "sides", *BY_PROGRAM, "flags", "matches"]
        ),
        "program_counts": pd.DataFrame(rows["counts"]),
        "program_association": pd.DataFrame(
            rows["association"], columns=["population", "program", "with", "statistic", "value"]
        ),
        "program_activity": _joined(activities, ("cell", "population", "program", "activity")),
        "program_map": _joined(maps, ("population", "program", "gene", "bin", "value")),
    }


def _map(logs: FloatArray, activity: FloatArray, order: IntArray, genes: Any) -> pd.DataFrame:
    """Return the leading genes' mean log counts in bins of cells by activity, standardised gene by gene."""
    chosen = order[:_MAP_GENES]
    by_activity = np.argsort(activity, kind="stable")
    bins = np.array_split(by_activity, min(_MAP_BINS, len(by_activity)))
    values = logs[:, chosen]
    values = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-12)
    means = np.stack([values[cells].mean(axis=0) for cells in bins])  # (bin, gene)
    return pd.DataFrame(
        {
            "gene": np.repeat(genes[chosen], len(bins)),
            "bin": np.tile(np.arange(len(bins)), len(chosen)),
            "value": means.T.ravel(),
        }
    )


def _joined(parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)[list(columns)] if parts else pd.DataFrame(columns=list(columns))
