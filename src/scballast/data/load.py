"""From a configuration to a validated data set: every check that the data need is made here, once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.data import embedded
from scballast.data.columns import Column, label_candidates, read_column, read_grouping
from scballast.data.dataset import BoolArray, Dataset
from scballast.data.digest import content_digest
from scballast.data.files import open_source
from scballast.data.genes import select_genes
from scballast.data.label_table import with_labels
from scballast.data.names import make_unique, quote, quoted, safe_name, valid_text
from scballast.data.populations import check_labels, confounding_warnings, rank_populations
from scballast.data.raw_counts import cells_expressing, read_counts, row_sums, take
from scballast.data.source import Source, source_of
from scballast.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from scballast.config.schema import DataConfig


def load_dataset(config: DataConfig, *, seed: int = 0) -> Dataset:
    """Load the data that the configuration names, and check every value of them.

    Parameters
    ----------
    config
        ``kind`` ``embedded`` (pbmc68k, shipped with scanpy), ``file`` or ``simulated``.
    seed
        Rules simulated data only; real data are loaded deterministically.

    Raises
    ------
    DataError
        The data cannot be used; the message says what is wrong, where, and what to do.
    ConfigError
        ``kind`` is not one of the above.
    """
    if config.kind == "embedded":
        if config.path is not None:
            msg = f"data.path={quote(config.path)} is set, but data.kind=embedded reads no file. Use data=h5ad."
            raise ConfigError(msg)
        adata = embedded.embedded_adata()
        key = config.population_key or embedded.POPULATION_KEY
        return _build(source_of(adata, embedded.NAME, owned=True), config, key, embedded.NAME)
    if config.kind == "file":
        if not config.path:
            msg = "data.path is not set. Allowed: a .h5ad, .zarr or 10x .h5 file, or a 10x matrix folder."
            raise DataError(msg)
        with open_source(config.path) as source:
            return _build(source, config, config.population_key, Path(config.path).expanduser().stem)
    if config.kind == "simulated":
        return _simulated(config, seed)
    msg = f"data.kind={quote(config.kind)} is not known. Allowed: embedded, file, simulated."
    raise ConfigError(msg)


def dataset_from_anndata(adata: AnnData, config: DataConfig, *, name: str = "adata") -> Dataset:
    """Return an AnnData in memory, backed by its file or with dask arrays as a validated data set.

    ``adata`` is not changed; ``config.path`` and ``config.kind`` are not looked at.

    Raises
    ------
    DataError
        The data cannot be used; the message says what is wrong, where, and what to do.
    """
    return _build(source_of(adata, name), config, config.population_key, name)


def _simulated(config: DataConfig, seed: int) -> Dataset:
    import dataclasses

    from scballast.data.simulate import POPULATION_KEY, simulate, truth_from_adata

    simulated = simulate(config.simulation, seed)
    key = config.population_key or POPULATION_KEY
    dataset = _build(source_of(simulated, "simulated"), config, key, "simulated")
    kept = simulated[dataset.adata.obs_names, dataset.adata.var_names]
    dataset.adata.uns.update(simulated.uns)
    dataset.adata.obsm.update({name: np.asarray(kept.obsm[name]) for name in kept.obsm})
    dataset.adata.varm.update({name: np.asarray(kept.varm[name]) for name in kept.varm})
    truth = None
    if key == POPULATION_KEY:
        truth = truth_from_adata(dataset.adata, [population.name for population in dataset.populations])
    return dataclasses.replace(dataset, truth=truth)


def _build(source: Source, config: DataConfig, population_key: str | None, default_name: str) -> Dataset:
    """Check a source from the cheap to the costly, and return it as a data set."""
    import anndata as ad

    label = source.label
    if config.labels is not None:
        source = with_labels(source, config.labels)
    notes = list(source.warnings)
    # Columns first: a misspelt key should not cost the minutes that reading the matrix may take.
    labels, batches, samples = _columns(source, config, population_key)
    notes += [note for column in (labels, batches, samples) if column is not None for note in column.warnings]

    chosen = source.choose(config.layer)
    var = chosen.var()
    cell_names, cell_notes = _names(source.obs.index, "cell", label)
    gene_names, gene_notes = _names(var.index, "gene", label)
    notes += cell_notes + gene_notes
    shape = (len(cell_names), len(gene_names))
    if min(shape) == 0:
        msg = f"{label}: {chosen.title} is empty: {shape[0]:,} cells, {shape[1]:,} genes. Check how the file was made."
        raise DataError(msg)
    checked = read_counts(
        chosen.read(),
        where=f"{label}: {chosen.title}",
        shape=shape,
        cell_names=cell_names,
        gene_names=gene_names,
        remedy=lambda: source.remedy(chosen),
        owned=source.owned,
    )
    notes += checked.warnings

    counts, cells, genes, zero_notes = _without_zeros(checked.matrix, cell_names, gene_names, label, chosen.title)
    notes += zero_notes
    labels, batches, samples = _taken(labels, batches, samples, cells, notes, label)
    digest = content_digest(
        counts,
        (cell_names[i] for i in np.flatnonzero(cells)),
        (gene_names[i] for i in np.flatnonzero(genes)),
        (labels, batches, samples),
    )
    totals = row_sums(counts)
    selected, selection_notes = select_genes(counts, config.n_top_genes, batches, source=label)
    notes += selection_notes
    counts = take(counts, genes=selected)
    # A cell without counts in any selected gene has no library to fit: its logarithm is -inf.
    filled = np.diff(counts.indptr) > 0
    if not filled.all():
        left_out = int(np.count_nonzero(~filled))
        notes.append(f"{label}: {left_out:,} cells without counts in any selected gene are left out.")
        counts, totals = take(counts, cells=filled), totals[filled]
        labels, batches, samples = _taken(labels, batches, samples, filled, notes, label)
        cells[np.flatnonzero(cells)[~filled]] = False
    genes[np.flatnonzero(genes)[~selected]] = False

    check_labels(labels, label)
    ranked = rank_populations(labels, config.min_cells, label)
    notes += ranked.warnings
    notes += confounding_warnings(ranked, batches, samples, label)
    adata = ad.AnnData(
        X=counts,
        obs=_annotation(source.obs, cells, cell_names, (labels, batches, samples)),
        var=_annotation(var, genes, gene_names, ()),
    )
    return Dataset(
        name=safe_name(config.name or default_name, empty="data"),
        digest=digest,
        adata=adata,
        total_counts=totals,
        populations=ranked.populations,
        population_codes=ranked.codes,
        label_codes=labels.codes,
        labels=labels.names,
        population_key=labels.key,
        batch_key=batches.key if batches is not None else None,
        sample_key=samples.key if samples is not None else None,
        warnings=tuple(notes),
    )


def _columns(
    source: Source, config: DataConfig, population_key: str | None
) -> tuple[Column, Column | None, Column | None]:
    label, obs = source.label, source.obs
    if not population_key:
        candidates = label_candidates(obs)
        listed = f"Columns with categories: {quoted(candidates)}" if candidates else "None has 2 or more categories"
        msg = f"{label}: data.population_key is not set. Set it to the column of obs with the populations. {listed}."
        raise DataError(msg)
    for option, key in (("data.batch_key", config.batch_key), ("data.sample_key", config.sample_key)):
        if key == population_key:
            msg = (
                f"{label}: {option} and data.population_key are both {quote(key)}: the effect of a population could "
                f"not be told from it. Set {option} to another column, or leave it out."
            )
            raise DataError(msg)
    if len(obs) == 0:
        msg = f"{label}: there are no cells. Check how the file was made."
        raise DataError(msg)
    labels = read_column(obs, population_key, option="data.population_key", source=label)
    check_labels(labels, label)
    batches, samples = (
        read_grouping(obs, key, option=option, source=label) if key else None
        for option, key in (("data.batch_key", config.batch_key), ("data.sample_key", config.sample_key))
    )
    return labels, batches, samples


def _names(index: Any, kind: str, source: str) -> tuple[list[str], list[str]]:
    """Return unique names as text, and what was done to make them so."""
    texts = [valid_text(name) for name in index]
    unique, n_changed = make_unique(texts)
    if not n_changed:
        return unique, []
    first = next(text for text, name in zip(texts, unique, strict=True) if text != name)
    note = (
        f"{source}: {n_changed:,} {kind} names occur more than once, first {quote(first)}; "
        "the later ones got -1, -2, … appended."
    )
    return unique, [note]


def _without_zeros(
    counts: Any, cell_names: list[str], gene_names: list[str], source: str, title: str
) -> tuple[Any, BoolArray, BoolArray, list[str]]:
    """Return counts, the masks of cells and genes that have any, and what was left out."""
    cells = np.diff(counts.indptr) > 0
    genes = cells_expressing(counts) > 0
    if not cells.any():
        msg = (
            f"{source}: {title} is empty: all {counts.shape[0]:,} × {counts.shape[1]:,} counts are 0. "
            "Check how the file was made, or point data.layer at the counts."
        )
        raise DataError(msg)
    notes = []
    for kind, kept, names in (("cells", cells, cell_names), ("genes", genes, gene_names)):
        if not kept.all():
            n_zero, first = int(np.count_nonzero(~kept)), names[int(np.argmin(kept))]
            notes.append(
                f"{source}: {n_zero:,} of {kept.size:,} {kind} have no counts and are left out, first {quote(first)}."
            )
    return take(counts, cells, genes), cells, genes, notes


def _taken(
    labels: Column,
    batches: Column | None,
    samples: Column | None,
    cells: BoolArray,
    notes: list[str],
    source: str,
) -> tuple[Column, Column | None, Column | None]:
    """Return the columns for the cells where the mask is true; batches only if there are several."""
    batches = batches.take(cells) if batches is not None else None
    if batches is not None and len(batches.names) == 1:
        notes.append(
            f"{source}: obs[{quote(batches.key)}] has one value, {quote(batches.names[0])}: there is no batch to "
            "correct, and data.batch_key is ignored."
        )
        batches = None
    return labels.take(cells), batches, samples.take(cells) if samples is not None else None


def _annotation(
    table: pd.DataFrame, kept: BoolArray, names: list[str], columns: tuple[Column | None, ...]
) -> pd.DataFrame:
    """Return the rows kept of obs or var, under their unique names, with the columns that were read."""
    import pandas as pd

    result = table.loc[kept].copy()
    result.columns = pd.Index([str(name) for name in result.columns])
    result.index = pd.Index([names[i] for i in np.flatnonzero(kept)], dtype=object)
    for column in columns:
        if column is not None:
            result[column.key] = column.categorical()
    return result
