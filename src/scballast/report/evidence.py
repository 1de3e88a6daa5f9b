"""The evidence of a trial's report, section by section; what cannot be shown says why."""

from __future__ import annotations

from scballast.methods.method import ESTIMANDS
from scballast.report import (
    concordance_figures,
    correctness_sections,
    fit_figures,
    gene_figures,
    latent_figures,
    program_section,
    stability_figures,
)
from scballast.report.html import Drawing, Grid, Section, grid_of
from scballast.report.stored_tables import ResultFolder
from scballast.report.wording import again
from scballast.results import setting

RANK_PAIRS = (("wilcoxon", "contrast"), ("per_population", "spread"))
_PARTS = {"disjoint": "no common cells", "floor": "Floor", "other_populations": "other populations"}
# Columns of the tables: name, heading, decimals.
_MINIMAL_SETS = (
    ("population", "Population", None),
    ("genes", "Genes, seen above (counts per 10,000)", None),
    ("heldout_f", "F, unseen cells", 2),
    ("precision", "Precision", 2),
    ("recall", "Recall", 2),
    ("recurrence", "Same set again", 2),
)
_FACTORS = (
    ("model", "Model", None),
    ("n", "Pairs of replicates", 0),
    ("matched_correlation", "Matched |correlation|", 3),
    ("null", "its null", 3),
    ("subspace_cos2", "Subspace mean cos²", 3),
    ("chance", "its chance", 3),
)
_TRAINING = (
    ("role", "Models", None),
    ("n", "Number", 0),
    ("n_cells", "Fewest cells", 0),
    ("n_steps", "Fewest gradient steps", 0),
    ("epochs", "Fewest epochs", 0),
    ("final_kl_weight", "Lowest final KL weight", 3),
)
_MODULES = (
    ("population", "Population", None),
    ("module", "Module", 0),
    ("n_genes", "Genes", 0),
    ("first", "First genes", None),
    ("local_correlation_z", "Local correlation (Z)", 1),
    ("together_again", "Together again", 2),
)
MODULE_GENES = 8  # of each module that are named
MAX_KEYS = 4  # columns of the cells whose association is drawn


def evidence(results: ResultFolder) -> list[Section]:
    """Put every figure of a trial, which is still to be drawn, under its question.

    Parameters
    ----------
    results
        Result folder.

    Returns
    -------
    list of Section
        In the order of the report.
    """
    sections = [
        *_genes(results),
        *_minimal_sets(results),
        *_hotspot_modules(results),
        correctness_sections.confirmation(results),
        _stability(results),
        _concordance(results),
        _ranks(results),
        _fit(results),
        _latent(results),
        _factors(results),
        _training(results),
    ]
    if (table := results.table("program_counts")) is not None:
        sections.insert(2, program_section.section(results, table))
    if (table := results.table("truth")) is not None:
        sections.insert(0, correctness_sections.truth(results, table))
    return sections


def _genes(results: ResultFolder) -> list[Section]:
    """Give the dot plot of the answers' genes; nothing without a table of their levels."""
    table = results.table("answer_expression")
    if table is None or not set(table["of"]) & set(results.drawn):
        return []
    lead = "Do the genes of an answer stand out in their population?"
    return [
        Section("levels", "The genes in every population", lead, drawings=(Drawing(gene_figures.dot_plot, (table,)),))
    ]


def _minimal_sets(results: ResultFolder) -> list[Section]:
    """Give the smallest set of genes of each population; nothing without the table."""
    table = results.table("minimal_sets")
    if table is None:
        return []
    records = []
    for population, set_rows in table.groupby("population", sort=False):
        genes = ", ".join(
            f"{results.gene_label(str(gene))} > {threshold:.1f}"
            for gene, threshold in zip(set_rows["gene"], set_rows["threshold"], strict=True)
        )
        records.append({**set_rows.iloc[0].to_dict(), "population": str(population), "genes": genes})
    caption = (
        "A cell is taken for one of the population where all genes are above their thresholds: the set that most "
        "replicates choose. F (with half the weight on recall), precision and recall: mean over replicates, each with "
        "its own set in the cells that it did not see; same set again: share of replicates with this very set."
    )
    lead = "Which few genes tell a population apart?"
    return [Section("minimal_sets", "Minimal sets", lead, grids=(grid_of(caption, _MINIMAL_SETS, records),))]


def _hotspot_modules(results: ResultFolder) -> list[Section]:
    """Give the modules of genes of each population; nothing where ``hotspot`` did not run."""
    if "hotspot" not in results.methods("program"):
        return []
    table = results.table("hotspot_modules")
    records = []
    modules = () if table is None else table.groupby(["population", "module"], sort=False)
    for (population, module), genes in modules:
        first = [results.gene_label(str(gene)) for gene in genes["gene"].head(MODULE_GENES)]
        names = ", ".join(first) + (", …" if len(genes) > MODULE_GENES else "")
        means = genes[["local_correlation_z", "together_again"]].mean().to_dict()
        told = {"population": str(population), "module": module, "n_genes": len(genes), "first": names}
        records.append({**told, **means})
    caption = (
        "Groups of 20 genes or more whose counts go together in neighbouring cells of the population, in the first "
        "replicate's model, of the first 500 with local autocorrelation at a false discovery rate of 5 %. Z: mean over "
        "pairs; neighbours were found from the same counts, so it is too large for single pairs. Together again: of "
        "the other genes of its module, the share that shares one with a gene in another replicate, mean over genes "
        "and replicates."
    )
    with_modules = {record["population"] for record in records}
    populations = [name for name in results.populations if name not in with_modules]
    missing = f"No modules in {', '.join(populations)}." if populations else ""
    lead = "Which genes go together in cells that the model places near each other?"
    grids = (grid_of(caption, _MODULES, records),) if records else ()
    return [Section("hotspot_modules", "Modules of genes", lead, grids=grids, missing=missing)]


def _stability(results: ResultFolder) -> Section:
    drawings = [Drawing(stability_figures.heat_map)]
    drawings += [Drawing(stability_figures.dots, (name,)) for name in ESTIMANDS if results.methods(name)]
    missing = ""
    if set(results.populations) <= set(results.n_cells):
        drawings.append(Drawing(stability_figures.against_size))
    else:
        missing = "Stability against population size is left out: tables/populations.csv does not give every size."
    differences = stability_figures.paired_differences(results)
    if differences:
        drawings.append(Drawing(stability_figures.differences, (differences,)))
    else:
        missing += " Differences between methods are left out: tables/differences.csv holds none of the pairs to show."
    lead = f"Does a method give the same list again {again(setting(results.config, 'resample.kind'))}?"
    grids = (_method_grid(results),)
    return Section("stability", "Stability", lead, grids=grids, missing=missing.strip(), drawings=tuple(drawings))


def _method_grid(results: ResultFolder) -> Grid:
    head = results.headline
    shown = {name: heading for name, heading in _PARTS.items() if name in head and head[name].notna().any()}
    rows = []
    for estimand in ESTIMANDS:
        for method in results.methods(estimand):
            method_rows = head[head["method"] == method]
            above = int((method_rows["lower"] > method_rows["floor"]).sum())
            means = [method_rows[name].mean() for name in ("phi", *shown)]
            rows.append((method, estimand, *means, above, len(method_rows)))
    parts = ((heading, 2) for heading in shown.values())
    columns = (("Method", None), ("Estimand", None), ("Φ", 2), *parts, ("Above floor", 0), ("of", 0))
    caption = (
        "Stability by method, mean over populations. No common cells: Φ between replicates that share no cell; other "
        "populations: the part of the floor that is the index between their lists; above floor: populations whose "
        "whole interval is."
    )
    return Grid(caption, columns, tuple(rows))


def _concordance(results: ResultFolder) -> Section:
    drawings: list[Drawing] = []
    for estimand in ESTIMANDS:
        pairs = concordance_figures.mean_pairs(results, estimand)
        if pairs is not None:
            drawings.append(Drawing(concordance_figures.matrix, (estimand, pairs)))
            drawings.append(Drawing(concordance_figures.ranges, (estimand, pairs)))
    missing = "" if drawings else "Left out: tables/concordance.csv is missing or has no pair of methods."
    lead = "Do methods that ask the same question name the same genes? Only methods of one estimand are compared."
    return Section("concordance", "Concordance", lead, missing=missing, drawings=tuple(drawings))


def _ranks(results: ResultFolder) -> Section:
    ranks = {(x, y): concordance_figures.paired_ranks(results, x, y) for x, y in RANK_PAIRS}
    absent = " and ".join(f"{y} against {x}" for (x, y), pair_ranks in ranks.items() if pair_ranks is None)
    drawings = tuple(
        Drawing(concordance_figures.rank_against_rank, (*pair, pair_ranks))
        for pair, pair_ranks in ranks.items()
        if pair_ranks is not None
    )
    missing = f"Left out: {absent}, since tables/rankings.parquet lacks one of the two methods." if absent else ""
    lead = "Where two methods part ways, gene by gene."
    return Section("ranks", "Rank against rank", lead, missing=missing, drawings=drawings)


def _fit(results: ResultFolder) -> Section:
    lead = "Does a population's own model describe its cells better than the one model of all cells?"
    pairs = fit_figures.paired_fit(results)
    drawings = () if pairs is None else (Drawing(fit_figures.fit_by_population, (pairs,)),)
    missing = "Left out: tables/fit.csv does not hold global and per-population models on the same cells."
    return Section("fit", "Held-out fit", lead, missing="" if drawings else missing, drawings=drawings)


def _latent(results: ResultFolder) -> Section:
    drawings: list[Drawing] = []
    absent: list[str] = []
    table = results.table("embedding")
    if table is not None:
        drawings.append(Drawing(gene_figures.latent_map, (table,)))
    table = results.table("association")
    if table is None:
        absent.append("the association of dimensions with populations (no tables/association.csv)")
    else:
        populations = setting(results.config, "data.population_key")
        keys = sorted(dict.fromkeys(table["key"]), key=lambda key: key != populations)
        drawings += [Drawing(latent_figures.association, (table, key)) for key in keys[:MAX_KEYS]]
        if len(keys) > MAX_KEYS:
            absent.append(f"{len(keys) - MAX_KEYS} more association keys (they are in tables/association.csv)")
    for name, draw, label in (
        ("axis_purity", latent_figures.axis_purity, "axis purity"),
        ("loadings", latent_figures.loadings, "the loadings"),
    ):
        table = results.table(name)
        if table is None:
            absent.append(f"{label} (no table {name})")
        else:
            drawings.append(Drawing(draw, (table,)))
    missing = f"Left out: {'; '.join(absent)}." if absent else ""
    lead = "What do the latent dimensions follow, and is a population an extreme on one of them?"
    return Section("latent", "Latent space", lead, missing=missing, drawings=tuple(drawings))


def _factors(results: ResultFolder) -> Section:
    lead = (
        "Are the factors of two replicates the same? A matched correlation near its null beside a high subspace "
        "agreement means that the space is reproducible and its single axes are not: read no axis by itself."
    )
    table = results.table("factors")
    if table is None:
        return Section("factors", "Factor agreement", lead, missing="Left out: there is no tables/factors.csv.")
    names = ("matched_correlation", "null", "subspace_cos2", "chance")
    records = [
        {"model": model, "n": len(rows), **{name: rows[name].mean() for name in names}}
        for model, rows in table.groupby("model", sort=False)
    ]
    return Section("factors", "Factor agreement", lead, grids=(grid_of("Mean over pairs.", _FACTORS, records),))


def _training(results: ResultFolder) -> Section:
    lead = "Were the models trained long enough?"
    drawings = (Drawing(fit_figures.training_curves),) if fit_figures.curve_groups(results.history) else ()
    grids: tuple[Grid, ...] = ()
    table = results.table("training")
    if table is not None and "n_steps" in table and (table["n_steps"] > 0).any():
        roles = table[table["n_steps"] > 0].groupby("role", sort=False)
        fewest = roles[["n_cells", "n_steps", "epochs", "final_kl_weight"]].min()
        records = fewest.assign(n=roles.size()).reset_index().to_dict("records")
        grids = (grid_of("Trained models by role.", _TRAINING, records),)
    missing = "" if drawings else "Left out: history.json holds no training curve."
    return Section("training", "Training", lead, grids=grids, missing=missing, drawings=drawings)
