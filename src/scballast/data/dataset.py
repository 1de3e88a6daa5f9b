"""The validated data set: counts, populations and batches, and what was done to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy import sparse

from scballast.arrays import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from anndata import AnnData

    from scballast.data.outline import Outline
    from scballast.data.simulate import Truth


@dataclass(frozen=True)
class Population:
    """A population that is ranked.

    Attributes
    ----------
    name
        The category as it stands in the data; any text.
    safe_name
        Unique among the populations, also without regard to case; only ``[A-Za-z0-9_-]``, 1 to 60 characters,
        so it can be part of a path or a metric name.
    n_cells
        Cells with this label.
    """

    name: str
    safe_name: str
    n_cells: int


GeneChoice = Callable[[Mapping[str, Sequence[str]]], BoolArray]
"""From the names of all genes of a file, by kind (``name``, ``symbol``, columns of ids), to those that are wanted."""


@dataclass(frozen=True)
class GenesBeside:
    """Genes that were asked for by name and are not among the analysed ones.

    Attributes
    ----------
    counts
        (n_cells, n_genes) raw counts in the cells of the data set, CSR float32.
    names, symbols
        (n_genes,) names, and what people call them; no symbols: the names are all there is.
    """

    counts: sparse.csr_matrix
    names: tuple[str, ...]
    symbols: tuple[str, ...] | None


@dataclass(frozen=True)
class Dataset:
    """Counts that passed every check, with the labels and batches that the experiment uses.

    Attributes
    ----------
    name
        Name for people and paths: only ``[A-Za-z0-9_-]``.
    digest
        Hexadecimal sha256 of counts, gene and cell names, labels, batches and samples, before gene selection;
        the same for every storage format of the same data.
    adata
        (n_cells, n_genes) cells by *selected* genes: ``X`` raw counts, CSR float32 with sorted indices;
        ``var`` kept, and ``obs`` (of a file: the columns that were asked for); unique ``obs_names`` and
        ``var_names``; population, batch and sample columns categorical text.
    total_counts
        (n_cells,) float64 counts per cell over all genes, before gene selection.
    populations
        The ranked populations, in order of name.
    population_codes
        (n_cells,) index into ``populations``; -1: no label, or the population is too small to be ranked.
    label_codes
        (n_cells,) index into ``labels``; -1: no label.
    labels
        Every label that occurs, small populations included, in order of name.
    batch_key, sample_key
        Columns of ``adata.obs``, or None.
    condition_key
        Column of ``adata.obs`` with the two conditions, or None.
    conditions
        Their names, the reference first; none without ``condition_key``.
    condition_codes
        (n_cells,) index into ``conditions``; -1: neither. None without ``condition_key``.
    population_key
        Column of ``adata.obs`` that the labels were read from.
    gene_symbols
        (n_genes,) what people call the genes of ``adata``, ``""`` where a gene has no symbol; None: the names in
        ``var`` are all there is.
    feature_types
        (n_genes,) what the file calls these features; None: it does not say.
    warnings
        What was done to usable but odd data, one sentence or two each.
    truth
        What was planted; simulated data only.
    beside
        Genes that were asked for besides; None: none were.
    outline
        What is expected of a large file of which only a sample was read; ``adata`` then has the cells and their
        annotation, but counts and genes that stand for those that will be read, and ``digest`` is empty. None: the
        counts are here.
    """

    name: str
    digest: str
    adata: AnnData
    total_counts: FloatArray
    populations: tuple[Population, ...]
    population_codes: IntArray
    label_codes: IntArray
    labels: tuple[str, ...]
    population_key: str
    batch_key: str | None = None
    sample_key: str | None = None
    condition_key: str | None = None
    conditions: tuple[str, ...] = ()
    condition_codes: IntArray | None = None
    gene_symbols: tuple[str, ...] | None = None
    feature_types: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    truth: Truth | None = None
    beside: GenesBeside | None = None
    outline: Outline | None = None
