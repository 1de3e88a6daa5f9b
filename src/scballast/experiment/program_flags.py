"""What each program goes with, in words: depth, mitochondrial share, groups of cells, other populations' markers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scballast.agreement.program_context import (
    CATEGORY_SHARE,
    COVARIATE_CORRELATION,
    MARKER_CORRELATION,
    category_share,
    covariate_correlation,
    marker_correlations,
)
from scballast.agreement.programs import PopulationPrograms
from scballast.arrays import FloatArray, IntArray
from scballast.experiment.setup import Setup
from scballast.methods.cell_view import log_of, mean_log_counts


@dataclass(frozen=True)
class CellFacts:
    """What is known of every cell beside its counts of single genes.

    Attributes
    ----------
    setup
        The experiment.
    mean_logs
        (n_populations, n_genes) mean natural log of 1 + counts per 10,000.
    numbers
        A number per cell, by name.
    groups
        The code of each cell's group, by column; negative: none.
    """

    setup: Setup
    mean_logs: FloatArray
    numbers: dict[str, FloatArray]
    groups: dict[str, IntArray]

    def log_counts(self, cells: IntArray) -> FloatArray:
        """(n_cells, n_genes) natural log of 1 + counts per 10,000 of some cells."""
        totals = np.maximum(self.setup.dataset.total_counts[cells], 1.0)
        return np.asarray(log_of(self.setup.counts[cells], totals).toarray())


@dataclass(frozen=True)
class Flags:
    """The associations of a population's programs, and those that are strong, in words.

    Attributes
    ----------
    associations
        (with what, which statistic, (n_programs,) values).
    words
        By program; empty: nothing that would explain it away.
    """

    associations: list[tuple[str, str, FloatArray]]
    words: list[list[str]]


def cell_facts(setup: Setup) -> CellFacts:
    """Gather what programs are compared with."""
    dataset = setup.dataset
    numbers: dict[str, FloatArray] = {"library size": np.log(np.maximum(dataset.total_counts, 1.0))}
    symbols = dataset.gene_symbols or tuple(map(str, dataset.adata.var_names))
    mitochondrial = np.array([symbol.upper().startswith("MT-") for symbol in symbols])
    if mitochondrial.any():
        counts = np.asarray(setup.counts[:, mitochondrial].sum(axis=1), dtype=np.float64).ravel()
        numbers["mitochondrial share"] = counts / np.maximum(dataset.total_counts, 1.0)
    keys = dict.fromkeys(
        key for key in (dataset.batch_key, dataset.sample_key, *setup.config.association.keys) if key is not None
    )
    # Donors may be thousands: no picture has a row for each, unlike those of association.keys.
    groups = {
        key: dataset.adata.obs[key].astype("category").cat.codes.to_numpy()
        for key in keys
        if key != dataset.population_key
    }
    totals = np.maximum(dataset.total_counts, 1.0)
    means = mean_log_counts(setup.counts, totals, dataset.population_codes, len(setup.populations))
    return CellFacts(setup, means, numbers, groups)


def flags_of(programs: PopulationPrograms, facts: CellFacts, cells: IntArray, population: int) -> Flags:
    """Measure what a population's programs go with, and put what is strong into words.

    Parameters
    ----------
    programs
        The population's.
    facts
        See :func:`cell_facts`.
    cells
        Positions of the population's cells.
    population
        Its number.
    """
    associations: list[tuple[str, str, FloatArray]] = []
    words: list[list[str]] = [[] for _ in range(programs.n_programs)]
    if programs.n_programs == 0:
        return Flags(associations, words)
    for name, number in facts.numbers.items():
        values = covariate_correlation(programs.activity, number[cells])
        associations.append((name, "spearman", values))
        for k in np.flatnonzero(np.abs(np.nan_to_num(values)) >= COVARIATE_CORRELATION).tolist():
            words[k].append(f"{name} (ρ = {values[k]:.2f})")
    for key, codes in facts.groups.items():
        values = category_share(programs.activity, codes[cells])
        associations.append((key, "epsilon_squared", values))
        for k in np.flatnonzero(np.nan_to_num(values) >= CATEGORY_SHARE).tolist():
            words[k].append(f"differs by {key} ({values[k]:.0%} of its variance)")
    names = facts.setup.populations
    markers = marker_correlations(programs.loadings, facts.mean_logs, population)
    for other, name in enumerate(names):
        if other != population:
            associations.append((f"markers of {name}", "pearson", markers[other]))
    for k in range(programs.n_programs):
        strength = np.nan_to_num(markers[:, k], nan=-1.0)
        best = int(np.argmax(strength))
        if strength[best] >= MARKER_CORRELATION:
            also = [names[i] for i in np.argsort(-strength)[1:4] if strength[i] >= 0.8 * strength[best]]
            like = f", like {', '.join(also)}" if also else ""
            cause = "doublets, ambient counts or mislabelled cells"
            words[k].append(f"markers of {names[best]} (r = {strength[best]:.2f}{like}): {cause}")
    return Flags(associations, words)
