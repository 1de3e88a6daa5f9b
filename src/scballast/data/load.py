"""From a configuration to a validated data set: every check that the data need is made here, once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.arrays import BoolArray
from scballast.data import embedded, populations
from scballast.data.analysed import AnalysedCounts, CountsRequest
from scballast.data.annotation import Annotation
from scballast.data.blocks import take, without_empty_rows
from scballast.data.columns import (
    Column,
    label_candidates,
    note_blank_names,
    note_lookalikes,
    read_column,
    read_grouping,
    read_words,
    taken,
)
from scballast.data.conditions import note_conditions, read_conditions
from scballast.data.counts_cache import CountsCache
from scballast.data.dataset import Dataset, GeneChoice, GenesBeside
from scballast.data.duplicates import note_duplicates
from scballast.data.features import gene_features
from scballast.data.files import open_source
from scballast.data.label_table import with_labels
from scballast.data.names import all_without_blanks, blanks_apart, make_unique, quote, quoted, safe_name, valid_text
from scballast.data.outline import Outline
from scballast.data.prepared import prepared_counts
from scballast.data.remarks import Remarks
from scballast.data.source import LAYERS, RAW_NAME, RAW_PATH, X_PATH, Source, StoredMatrix, source_of
from scballast.data.symbols import gene_symbols, names_of_genes, other_names
from scballast.errors import ConfigError, DataError, noticed_before

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from scballast.config.schema import DataConfig


@dataclass(frozen=True)
class _Wishes:
    """What is asked for besides the data; as for `load_dataset`."""

    obs_keys: Sequence[str] = ()
    also: GeneChoice | None = None
    outlined: bool = False
    on_outline: Callable[[Outline], None] | None = None
    cache: CountsCache | None = None


def load_dataset(
    config: DataConfig,
    *,
    seed: int = 0,
    obs_keys: Sequence[str] = (),
    also: GeneChoice | None = None,
    outlined: bool = False,
    on_outline: Callable[[Outline], None] | None = None,
    cache: CountsCache | None = None,
) -> Dataset:
    """Load the data that the configuration names, and check every value of them.

    Parameters
    ----------
    config
        ``kind`` ``embedded`` (pbmc68k, shipped with scanpy), ``file`` or ``simulated``.
    seed
        Rules simulated data only; real data are loaded deterministically.
    obs_keys
        Further columns of obs that are needed (``association.keys``): of a file no others are read.
    also
        Chooses genes whose counts are kept beside the analysed ones (``Dataset.beside``).
    outlined
        Of a large file read a sample of the cells and tell what the whole will be (``Dataset.outline``), to plan with.
    on_outline
        Called with what is expected of a large file before it is read; it may raise.
    cache
        Where the analysed counts of large files are looked up and kept; None: nowhere.

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
        source = source_of(embedded.embedded_adata(), embedded.NAME, owned=True)
        return _build(source, _with_defaults(config, embedded.POPULATION_KEY, embedded.NAME), _Wishes(obs_keys, also))
    if config.kind == "file":
        if not config.path:
            msg = "data.path is not set. Allowed: a .h5ad, .zarr or 10x .h5 file, or a 10x matrix folder."
            raise DataError(msg)
        with open_source(config.path) as source:
            path = Path(config.path).expanduser()
            wishes = _Wishes(obs_keys, also, outlined, on_outline, cache)
            return _build(replace(source, path=path), _with_defaults(config, None, path.stem), wishes)
    if config.kind == "simulated":
        return _simulated(config, seed, _Wishes(obs_keys, also))
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
    return _build(source_of(adata, name), _with_defaults(config, None, name), _Wishes())


def _with_defaults(config: DataConfig, population_key: str | None, name: str) -> DataConfig:
    return replace(config, population_key=config.population_key or population_key, name=config.name or name)


def _simulated(config: DataConfig, seed: int, wishes: _Wishes) -> Dataset:
    from scballast.data.simulate import POPULATION_KEY, simulate, truth_from_adata

    simulated = simulate(config.simulation, seed)
    config = _with_defaults(config, POPULATION_KEY, "simulated")
    dataset = _build(source_of(simulated, "simulated"), config, wishes)
    kept = simulated[dataset.adata.obs_names, dataset.adata.var_names]
    dataset.adata.uns.update(simulated.uns)
    dataset.adata.obsm.update({name: np.asarray(kept.obsm[name]) for name in kept.obsm})
    dataset.adata.varm.update({name: np.asarray(kept.varm[name]) for name in kept.varm})
    if config.population_key != POPULATION_KEY:
        return dataset
    return replace(dataset, truth=truth_from_adata(dataset.adata, [ranked.name for ranked in dataset.populations]))


def _build(source: Source, config: DataConfig, wishes: _Wishes) -> Dataset:
    remarks = Remarks(source.label, [*source.warnings])
    with noticed_before(remarks.notes):
        return _checked(source, config, wishes, remarks)


def _checked(source: Source, config: DataConfig, wishes: _Wishes, remarks: Remarks) -> Dataset:
    """Check a source from the cheap to the costly, and return it as a data set; remarks grow on the way."""
    import anndata as ad

    label, notes = source.label, remarks.notes
    if config.labels is not None:
        source = with_labels(source, config.labels)
        notes[:] = source.warnings
    # Columns first: a misspelt key should not cost the minutes that reading the matrix may take.
    labels, kept, batches, samples = _columns(source, config, remarks)
    obs = source.obs.take(kept)
    conditions = read_conditions(obs, config, remarks=remarks)
    role_keys = {config.population_key, config.batch_key, config.sample_key, config.condition_key}
    others_named = (key for key in wishes.obs_keys if key not in role_keys)
    words = [read_words(obs, key, option="association.keys", remarks=remarks) for key in others_named]
    groups = [column for column in words if column is not None]

    chosen = source.choose(config.layer)
    _note_layers(source, chosen, remarks)
    var = chosen.var()
    others = [matrix.var() for matrix in source.matrices if matrix is not chosen and matrix.path in (X_PATH, RAW_PATH)]
    features = gene_features(var, others, remarks)
    symbols = gene_symbols(var, others, config.gene_symbols, remarks)
    cell_names = _cell_names(source.obs.index, remarks)
    gene_names = names_of_genes(var, features.genes, remarks)
    genes_read = np.flatnonzero(features.genes)
    given = [valid_text(var.index[i]) for i in genes_read]
    read_names = _unique([gene_names[i] for i in genes_read], "gene", given, remarks)
    # Other features, often called as their gene is, take no name from it.
    for i, name in zip(genes_read, read_names, strict=True):
        gene_names[i] = name
    shape = (len(cell_names), len(gene_names))
    if min(shape) == 0:
        remarks.refuse(f"{chosen.title} is empty: {shape[0]:,} cells, {shape[1]:,} genes. Check how the file was made.")
    wanted = None
    if wishes.also is not None:
        kinds = {"name": gene_names, **({} if symbols is None else {"symbol": symbols}), **other_names(var)}
        wanted = wishes.also({kind: [names[i] for i in genes_read] for kind, names in kinds.items()})
    request = CountsRequest(
        source=label,
        matrix=chosen,
        kept=kept,
        genes=features.genes,
        cell_names=cell_names,
        gene_names=gene_names,
        labels=labels,
        batches=batches,
        samples=samples,
        remedy=lambda: source.remedy(chosen),
        owned=source.owned,
        rounded=config.round,
        duplicates=config.duplicates,
        n_top_genes=config.n_top_genes,
        beside=wanted,
    )
    outline, prepared = prepared_counts(
        request, source.places(chosen), outlined=wishes.outlined, on_outline=wishes.on_outline, cache=wishes.cache
    )
    notes += prepared.read_warnings
    cell_names = [cell_names[i] for i in np.flatnonzero(kept)]
    once = note_duplicates(prepared.duplicate_of, cell_names, labels, batches, samples, config, remarks)
    cells = once & (prepared.n_values > 0)
    totals = prepared.totals[cells]
    _note_zeros("cells", prepared.n_values > 0, cell_names, remarks)
    _note_zeros("genes", prepared.counted, read_names, remarks)
    at_first = labels.take(once)
    grouped_at_first = {w: c.take(once) for w, c in (("batches", batches), ("samples", samples)) if c is not None}
    labels, batches, samples = taken(labels, batches, samples, cells, remarks)
    # First of all: what is found in a matrix of empty droplets is not what was asked for.
    at_the_head = Remarks(label)
    populations.note_unfiltered(labels, totals, at_the_head)
    notes[:0] = at_the_head.notes
    populations.note_poverty(labels, prepared.n_values[cells], remarks)
    notes += prepared.selection_warnings
    counts, beside = prepared.counts, None
    if wanted is not None:
        named = (read_names, None if symbols is None else [symbols[i] for i in genes_read])
        beside = _beside(prepared, wanted, *named)
    # A cell without counts in any selected gene has no library to fit: its logarithm is -inf.
    filled = np.diff(counts.indptr) > 0
    if not filled.all():
        left_out = int(np.count_nonzero(~filled))
        remarks.note(f"{left_out:,} cells without counts in any selected gene are left out.")
        counts, totals = without_empty_rows(counts), totals[filled]
        beside = None if beside is None else replace(beside, counts=take(beside.counts, filled))
        labels, batches, samples = taken(labels, batches, samples, filled, remarks)
        cells[np.flatnonzero(cells)[~filled]] = False
    populations.note_disappearance(at_first, labels, config.min_cells, populations.WITHOUT_COUNTS, remarks)
    for what, column in grouped_at_first.items():
        populations.note_lost(column, column.take(cells[once]), what, populations.WITHOUT_COUNTS, remarks)
    populations.check_labels(labels, remarks)
    ranked = populations.rank_populations(labels, config.min_cells, remarks)
    populations.note_confounding(ranked, batches, samples, remarks)
    if conditions is not None:
        conditions = replace(conditions, codes=conditions.codes[cells])
        note_conditions(conditions, batches, samples, remarks)
    columns = (labels, batches, samples, conditions, *(column.take(cells) for column in groups))
    analysed = genes_read[np.flatnonzero(prepared.selected)]
    var_columns, unreadable = var.readable()
    for reason in unreadable.values():
        remarks.note(f"a column of var is not used: {reason}")
    adata = ad.AnnData(
        X=counts,
        obs=_table(obs.take(cells), wishes.obs_keys, [cell_names[i] for i in np.flatnonzero(cells)], columns),
        var=_table(var, var_columns, gene_names, ()).iloc[analysed],
    )
    return Dataset(
        name=safe_name(config.name or "", empty="data"),
        digest=prepared.digest,
        adata=adata,
        total_counts=totals,
        populations=ranked.populations,
        population_codes=ranked.codes,
        label_codes=labels.codes,
        labels=labels.names,
        population_key=labels.key,
        batch_key=batches.key if batches is not None else None,
        sample_key=samples.key if samples is not None else None,
        condition_key=conditions.key if conditions is not None else None,
        conditions=conditions.names if conditions is not None else (),
        condition_codes=conditions.codes if conditions is not None else None,
        gene_symbols=tuple(symbols[i] for i in analysed) if symbols is not None else None,
        feature_types=tuple(features.types[i] for i in analysed) if features.types else None,
        warnings=tuple(notes),
        beside=beside,
        outline=outline,
    )


def _beside(
    prepared: AnalysedCounts, wanted: BoolArray, names: Sequence[str], symbols: Sequence[str] | None
) -> GenesBeside:
    """Return the genes that are wanted, and counted in some cell, but not analysed."""
    assert prepared.beside is not None
    at = [int(i) for i in np.flatnonzero(wanted & prepared.counted & ~prepared.selected)]
    return GenesBeside(
        counts=prepared.beside,
        names=tuple(names[i] for i in at),
        symbols=None if symbols is None else tuple(symbols[i] for i in at),
    )


def _note_layers(source: Source, chosen: StoredMatrix, remarks: Remarks) -> None:
    """Say which matrix is meant where another goes by the same name."""
    same = [other for other in source.matrices if other is not chosen and set(other.names) & set(chosen.names)]
    if not same and chosen.path in (f"{LAYERS}{X_PATH}", f"{LAYERS}{RAW_NAME}"):
        absent = "X" if chosen.path == f"{LAYERS}{X_PATH}" else ".raw"
        remarks.note(f"{chosen.title} is read; there is no {absent}.")
    for other in same:
        remarks.note(f"{chosen.title} is read; {other.title} is another matrix ({source.setting(other)}).")


def _columns(
    source: Source, config: DataConfig, remarks: Remarks
) -> tuple[Column, BoolArray, Column | None, Column | None]:
    """Return the labels, which cells are kept, and the batches and samples of these; labels are those of the kept."""
    obs, population_key = source.obs, config.population_key
    grouped = {"batches": ("data.batch_key", config.batch_key), "samples": ("data.sample_key", config.sample_key)}
    if not population_key:
        candidates = label_candidates(obs)
        listed = f"Columns with categories: {quoted(candidates)}" if candidates else "None has 2 or more categories"
        remarks.refuse(f"data.population_key is not set. Set it to the column of obs with the populations. {listed}.")
    for option, key in grouped.values():
        if key == population_key:
            remarks.refuse(
                f"{option} and data.population_key are both {quote(key)}: the effect of a population could "
                f"not be told from it. Set {option} to another column, or leave it out."
            )
    if len(obs) == 0:
        remarks.refuse("there are no cells. Check how the file was made.")
    labels = read_column(obs, population_key, option="data.population_key", remarks=remarks)
    populations.check_labels(labels, remarks)
    kept = np.ones(len(obs), dtype=np.bool_)
    if config.unlabelled == "drop":
        kept = labels.codes >= 0
        if not kept.all():
            remarks.note(
                f"{np.count_nonzero(~kept):,} of {kept.size:,} cells have no value in "
                f"obs[{quote(population_key)}] and are left out (data.unlabelled=drop)."
            )
    groupings: list[Column | None] = []
    for what, (option, key) in grouped.items():
        grouping = read_grouping(obs.take(kept), key, option=option, remarks=remarks, labels=labels) if key else None
        if grouping is not None and not kept.all():
            with suppress(DataError):  # what the column holds in cells that are left out need not make groups
                dropped = read_column(obs.take(~kept), grouping.key, option=option, remarks=Remarks(source.label))
                populations.note_lost(dropped, grouping, what, populations.WITHOUT_LABEL, remarks)
        groupings.append(grouping)
    batches, samples = groupings
    return labels.take(kept), kept, batches, samples


def _cell_names(index: Any, remarks: Remarks) -> list[str]:
    """Return unique names of cells without odd blanks."""
    texts = [valid_text(name) for name in index]
    cleaned = all_without_blanks(texts)
    changed = [text for text, name in zip(texts, cleaned, strict=True) if text != name]
    note_blank_names(changed, remarks)
    note_lookalikes(cleaned, "cell names", remarks)
    return _unique(cleaned, "cell", texts, remarks)


def _unique(texts: list[str], kind: str, given: Sequence[str], remarks: Remarks) -> list[str]:
    """Return unique names; ``given``: as they stand in the file."""
    unique, n_changed = make_unique(texts)
    if n_changed:
        first = next(text for text, name in zip(texts, unique, strict=True) if text != name)
        remarks.note(
            f"{n_changed:,} {kind} names occur more than once, first {quote(first)}; "
            f"the later ones got -1, -2, … appended.{blanks_apart(given)}"
        )
    return unique


def _note_zeros(kind: str, kept: BoolArray, names: Sequence[str], remarks: Remarks) -> None:
    if not kept.all():
        n_zero, first = int(np.count_nonzero(~kept)), names[int(np.argmin(kept))]
        remarks.note(f"{n_zero:,} of {kept.size:,} {kind} have no counts and are left out, first {quote(first)}.")


def _table(
    table: Annotation, keys: Iterable[str], names: list[str], columns: tuple[Column | None, ...]
) -> pd.DataFrame:
    """Return obs or var under unique names: of a file the columns ``keys``, and the columns that were read."""
    import pandas as pd

    result = table.frame(dict.fromkeys((*table.columns, *keys)) if table.in_memory else keys)
    result.index = pd.Index(names, dtype=object)
    for column in columns:
        if column is not None:
            result[column.key] = column.categorical()
    return result
