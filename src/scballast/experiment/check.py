"""Somebody's gene lists against an experiment on one's own cells: from the file of lists to tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from scballast.arrays import BoolArray, IntArray
from scballast.config import keys
from scballast.config.addresses import params_of, without_passwords
from scballast.config.schema import AssociationConfig, Config, FitConfig, ProgramsConfig, to_nested
from scballast.data.dataset import Dataset
from scballast.data.gene_match import Match, match_genes, why_none_matches
from scballast.data.names import quote
from scballast.data.published_lists import PublishedLists, match_populations
from scballast.errors import ConfigError, DataError
from scballast.experiment.confirming import cells_of
from scballast.experiment.gene_table import symbols_of
from scballast.experiment.run import populations_table, prepare_dataset, run_experiment
from scballast.experiment.setup import Setup, replicates_of
from scballast.experiment.stored import Rankings, stored_rankings
from scballast.methods.registry import METHODS
from scballast.progress import progress_bar
from scballast.results import Results
from scballast.threads import one_thread
from scballast.verdict.list_check import check_lists
from scballast.verdict.list_genes import list_genes_table, missed_genes
from scballast.verdict.score_set import score_set_from_rankings
from scballast.verdict.unseen import Cells

MOST_GENES = 500
"""Genes of a list that are looked at, the best ones: a program test compares each with each."""


def check_config(config: Config) -> Config:
    """Return the configuration of a check: without ``methods``, those that train no model, and nothing but rankings.

    Raises
    ------
    ConfigError
        Populations that come from thinned counts are not those of the lists.
    """
    if config.resample.kind == "thin":
        message = (
            "resample.kind: thin gives populations of its own, found again in half of the counts, and the lists are of "
            "those in the data. Use resample.kind=subsample."
        )
        raise ConfigError(message)
    methods = config.methods
    if methods is None:
        methods = tuple(name for name in config.baselines.methods if name in METHODS and not METHODS[name].roles)
    return replace(
        config,
        methods=methods,
        programs=ProgramsConfig(find=False),
        fit=FitConfig(n_mc_samples=0),
        association=AssociationConfig(n_permutations=0),
    )


def run_check(
    config: Config, lists: PublishedLists, *, runs: Sequence[Path], cache_dir: Path | None, must_reuse: bool = False
) -> Results:
    """Hold lists against the data.

    Parameters
    ----------
    config
        Of the experiment.
    lists
        Somebody's lists.
    runs
        Result folders of finished runs, whose rankings are used where they are of the same data and replicates.
    cache_dir
        Folder of trained models and of scores; None: no cache.
    must_reuse
        Whether it is an error that no run fits.

    Returns
    -------
    Results
        Tables ``check``, ``check_methods`` (``verdict.list_check``), ``check_genes``, ``check_missed``
        (``verdict.list_genes``), ``answer`` and ``populations``; the tags tell whose rankings the lists were compared
        with.

    Raises
    ------
    ConfigError, DataError
        What is wrong with the configuration, the data or the lists.
    """
    config = check_config(config)
    match_of_name: dict[str, Match] = {}
    dataset = prepare_dataset(config, also=lambda known: _wanted(lists, known, match_of_name))
    populations = tuple(population.name for population in dataset.populations)
    sizes = np.bincount(dataset.label_codes[dataset.label_codes >= 0]).tolist()
    size_of_label = dict(zip(dataset.labels, sizes, strict=True))
    matched, notes = match_populations(lists, populations, size_of_label, config.data.min_cells)
    rankings = stored_rankings(runs, config, dataset)
    if rankings is None and must_reuse:
        message = (
            f"{runs[0].name}: its data are not what they were, or it lacks tables/rankings.parquet or "
            "tables/answer_genes.csv. Check against the data themselves: scballast check GENES.csv data=…"
        )
        raise DataError(message)
    if rankings is None:
        rankings = _new_rankings(config, dataset, cache_dir)
    genes, symbols, cells = _cells_with_listed(config, dataset)
    of_names = _located(match_of_name, genes)
    matches_of_population = {
        population: _distinct(lists.lists[name], of_names, notes, name) for name, population in matched.items()
    }
    columns = {name: _columns(matches) for name, matches in matches_of_population.items()}
    replicates = replicates_of(config, dataset)
    with progress_bar("testing lists", len(replicates), unit="replicates") as advance, one_thread():
        check = check_lists(columns, rankings.score_set, cells, replicates, seed=config.seed, advance=advance)
    table = list_genes_table(matches_of_population, check.q_values, cells, populations, genes, symbols)
    n_named = table.groupby("population")["listed"].size()
    tables = {
        "check": check.summary.assign(n_listed=check.summary["population"].map(n_named)),
        "check_genes": table,
        "check_methods": check.methods,
        "check_missed": missed_genes(table, rankings.answer_genes),
        "answer": rankings.answer,
        "populations": populations_table(dataset),
    }
    return Results(
        tables=tables,
        metrics=_metrics(check.summary),
        config=to_nested(without_passwords(config)),
        params=params_of(config),
        tags={
            keys.ROLE: "check",
            keys.DATASET: dataset.name,
            keys.DATASET_DIGEST: dataset.digest,
            keys.LISTS: lists.label,
            keys.RANKINGS: rankings.origin,
        },
        warnings=(*lists.warnings, *notes, *dataset.warnings),
    )


def _metrics(summary: pd.DataFrame) -> dict[str, float]:
    """Return what a check is compared by in MLflow."""
    metrics = {"check/hold": float((summary["verdict"] == "holds").sum())}
    for estimand, rows in summary.groupby("estimand"):
        metrics[f"check/confirmed_{estimand}"] = float(rows["confirmed"].mean())
    return metrics


def _wanted(lists: PublishedLists, known: Mapping[str, Sequence[str]], match_of_name: dict[str, Match]) -> BoolArray:
    """Find the genes of all lists among those of the file; ``found`` gets what became of each name."""
    names = list(dict.fromkeys(name for listed in lists.lists.values() for name in listed))
    match_of_name.update(zip(names, match_genes(names, known), strict=True))
    gene_names = known["name"]
    wanted = np.zeros(len(gene_names), dtype=np.bool_)
    for name, match in match_of_name.items():
        if match.gene is not None:
            wanted[match.gene] = True
            # By name from here on: the analysed genes have another order.
            match_of_name[name] = replace(match, known_as=str(gene_names[match.gene]))
    if not wanted.any():
        message = (
            f"{lists.label}: none of its {len(names):,} genes is one of the data: {why_none_matches(names, known)}."
        )
        raise DataError(message)
    return wanted


def _new_rankings(config: Config, dataset: Dataset, cache_dir: Path | None) -> Rankings:
    tables = run_experiment(config, dataset, cache_dir=cache_dir).results.tables
    score_set = score_set_from_rankings(tables["rankings"], config.resample)
    trained = any(METHODS[method.name].roles for method in score_set.methods)
    origin = "Methods were run for this check."
    if not trained:
        origin = (
            "Methods that train no model were run for this check; methods=[…] asks for others, and a finished run of "
            "the same data and replicates is used by itself."
        )
    return Rankings(score_set, tables["answer"], tables["answer_genes"], origin)


def _cells_with_listed(config: Config, dataset: Dataset) -> tuple[list[str], list[str], Cells]:
    """Return names, symbols and counts of the analysed genes, followed by those that only the lists have."""
    cells = cells_of(Setup(config, dataset, (), ()))
    genes = [str(gene) for gene in dataset.adata.var_names]
    named = symbols_of(dataset) or {}
    symbols = [named.get(gene) or gene for gene in genes]
    beside = dataset.beside
    if beside is None or not beside.names:
        return genes, symbols, cells
    extra = beside.symbols or beside.names
    counts = sparse.hstack([cells.counts, beside.counts], format="csr")
    return (
        [*genes, *beside.names],
        [*symbols, *(symbol or gene for symbol, gene in zip(extra, beside.names, strict=True))],
        replace(cells, counts=counts),
    )


def _located(match_of_name: Mapping[str, Match], genes: Sequence[str]) -> dict[str, Match]:
    """Return the matches with the places of their genes among the counts."""
    place = {gene: position for position, gene in enumerate(genes)}
    located = {}
    for name, match in match_of_name.items():
        where = place.get(match.known_as) if match.gene is not None else None
        missing = "no count in any cell of the data" if match.gene is not None and where is None else match.how
        located[name] = replace(match, gene=where, how=match.how if where is not None else missing)
    return located


def _distinct(
    names: Sequence[str], match_of_name: Mapping[str, Match], notes: list[str], population: str
) -> list[Match]:
    """Return what became of the names of a list; of several names of one gene only the first has it."""
    if len(names) > MOST_GENES:
        notes.append(f"{quote(population)} has a list of {len(names):,} genes; its first {MOST_GENES} are checked.")
    first: dict[int, str] = {}
    matches = []
    for name in names[:MOST_GENES]:
        match = match_of_name[name]
        if match.gene is not None and match.gene in first:
            match = replace(match, gene=None, how=f"the same gene as {first[match.gene]}")
        elif match.gene is not None:
            first[match.gene] = name
        matches.append(match)
    return matches


def _columns(matches: Sequence[Match]) -> IntArray:
    return np.array([match.gene for match in matches if match.gene is not None], dtype=np.int64)
