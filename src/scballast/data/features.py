"""Which features are genes: antibodies, hashtags, guides, peaks and spike-ins have no place among them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scballast.arrays import BoolArray
from scballast.data.columns import n_distinct
from scballast.data.names import quote, quoted, valid_text
from scballast.errors import DataError

if TYPE_CHECKING:
    from scballast.data.annotation import Annotation

GENE = frozenset(
    "gene expression|geneexpression|gene|genes|gex|rna|mrna|scrna|expression|gene expr|rna expression|transcript"
    "|transcriptome".split("|")
)
"""What files call genes, in lower case, with single blanks for ``_``, ``-`` and ``.``"""
TYPE_COLUMNS = frozenset(
    "feature types|feature type|featuretypes|featuretype|feature biotype|modality|modalities|library type".split("|")
)
"""Columns of var that may say what a feature is, spelt as above. CELLxGENE's ``feature_type`` holds biotypes
(protein_coding, …): a column counts only if it calls some features genes, or all of them something else known. A
column of any other name counts if it calls every feature something known, and genes some of them but not all."""
_OTHER = re.compile(
    r"antibod|\badt\b|\bab\b|\babo\b|\bcite|hash|\bhto\b|multiplex|\bcmo\b|crispr|guide|grna|peak|\batac\b|chromatin|custom"
    r"|antigen|\bvdj\b|^proteins?$|spike|\bercc\b|\btags?\b"
)
MOST_TYPES = 20
_SPIKE_IN = re.compile(r"(?:.*[-_ ])?(?:ERCC[-_.]?\d{5}|SIRV\d+)$")
_LOOKS_LIKE = {
    # No "AB" and a number: GENCODE has genes such as AB015752.1.
    "antibodies or hashtags": re.compile(r".*Total(?:Seq)?[-_ ]?[ABCD]?\d*$|(?:HTO|ADT|CITE|Hashtag|CMO)[-_ ]?\d.*"
                                         r"|(?:HTO|ADT|CITE|prot)[-_].+|.+[-_](?:HTO|ADT|prot)$|.*\|[ps]t?AbO$"
                                         r"|.*(?:SampleTag\d|anti[-_ ](?:human|mouse|rat)[-_ ]).*", re.IGNORECASE),
    "guides": re.compile(r"(?:.*[-_])?(?:sgRNA|gRNA)s?(?:[-_.].*|\d*)$|non[-_ ]?target(?:ing)?(?:[-_ ].*|\d*)$",
                         re.IGNORECASE),
    "peaks": re.compile(r"(?:chr)?[0-9A-Za-z]{1,5}[:-]\d{3,}-\d{3,}$"),
}  # fmt: skip


@dataclass(frozen=True)
class Features:
    """Which features are genes.

    Attributes
    ----------
    genes
        (n_features,) bool.
    types
        (n_features,) what the file calls each; empty where it does not say.
    warnings
        What is left out, and what may be no gene but is kept.
    """

    genes: BoolArray
    types: tuple[str, ...]
    warnings: tuple[str, ...]


def gene_features(var: Annotation, others: Sequence[Annotation], source: str) -> Features:
    """Tell genes from other features: by the type that the file gives, and spike-ins by their names.

    Parameters
    ----------
    var
        Annotation of the features.
    others
        Further annotations of the same file (``var`` beside ``.raw.var``), looked at by name where ``var`` has no
        types.
    source
        The file, for messages.

    Raises
    ------
    DataError
        Every feature is of another type.
    """
    names = [valid_text(name) for name in var.index]
    types = _types(var)
    if types is None:
        types = next((found for other in others if (found := _types_by_name(other, names)) is not None), None)
    is_gene = np.ones(len(names), dtype=np.bool_)
    notes = []
    if types is not None:
        is_gene = np.array([_spelt(kind) in GENE or not kind for kind in types], dtype=np.bool_)
        if not is_gene.any() and names:
            msg = (
                f"{source}: none of the {len(names):,} features is gene expression: the types are "
                f"{_counted(types)}. Use a file with gene expression, or set the types of genes to 'Gene Expression'."
            )
            raise DataError(msg)
        if not is_gene.all():
            left_out = [kind for kind, gene in zip(types, is_gene, strict=True) if not gene]
            first = quote(names[int(np.argmin(is_gene))])
            notes.append(
                f"{source}: {len(left_out):,} features that are not gene expression are left out: "
                f"{_counted(left_out)}, first {first}."
            )
        untyped = [name for name, kind in zip(names, types, strict=True) if not kind]
        if untyped:
            notes.append(
                f"{source}: {len(untyped):,} features without a type are analysed as genes, first {quote(untyped[0])}."
            )
    spiked = np.array([_SPIKE_IN.match(name) is not None for name in names], dtype=np.bool_) & is_gene
    if spiked.any() and not spiked.all():
        first = quote(names[int(np.argmax(spiked))])
        notes.append(
            f"{source}: {int(spiked.sum()):,} spike-ins are left out, first {first}: they are no genes of the cells."
        )
        is_gene &= ~spiked
    return Features(is_gene, tuple(types or ()), (*notes, *_suspects(names, is_gene, source)))


def _suspects(names: Sequence[str], is_gene: BoolArray, source: str) -> list[str]:
    """Name features that are kept although their names are those of antibodies or peaks."""
    notes = []
    for kind, pattern in _LOOKS_LIKE.items():
        found = [name for name, gene in zip(names, is_gene, strict=True) if gene and pattern.match(name)]
        if found:
            notes.append(
                f"{source}: {len(found):,} features have names of {kind} and are analysed as genes: "
                f"{quoted(found, 4)}. If they are none, say so in var['feature_types'] ('Gene Expression' for genes)."
            )
    return notes


def _types(var: Annotation) -> list[str] | None:
    """Return the types that a column of var gives; None where no column does."""
    unnamed = None
    for position, key in enumerate(var.columns):
        try:
            values = var.read(position)
        except DataError:  # named where var is read as a whole
            continue
        named = _spelt(key) in TYPE_COLUMNS
        if not named and (unnamed is not None or values.dtype.kind not in "OSUT" or n_distinct(values) > MOST_TYPES):
            continue
        missing = values.isna().to_numpy()
        types = ["" if no else valid_text(value).strip() for value, no in zip(values, missing, strict=True)]
        spelt = {_spelt(kind) for kind in types} - {""}
        genes, others = spelt & GENE, {kind for kind in spelt if _OTHER.search(kind)}
        if named and (genes or (spelt and others == spelt)):
            return types
        if genes and others and genes | others == spelt:
            unnamed = types
    return unnamed


def are_types(values: Sequence[str]) -> bool:
    """Tell whether values are what files call kinds of features, genes among them."""
    spelt = {_spelt(kind) for kind in values} - {""}
    return bool(spelt & GENE) and all(kind in GENE or _OTHER.search(kind) for kind in spelt)


def _types_by_name(other: Annotation, names: Sequence[str]) -> list[str] | None:
    types = _types(other)
    if types is None:
        return None
    known = dict(zip((valid_text(name) for name in other.index), types, strict=True))
    return [known.get(name, "") for name in names]


def _spelt(text: str) -> str:
    text = re.sub(r"(?<=[a-z]{2})(?=[A-Z][a-z])", " ", text)  # GeneExpression, but not mRNA
    return re.sub(r"[\s_.\-]+", " ", text).strip().lower()


def _counted(types: Sequence[str]) -> str:
    kinds = Counter(types).most_common()
    shown = ", ".join(f"{quote(kind)} ({count:,})" for kind, count in kinds[:8])
    return f"{shown} and {len(kinds) - 8} more" if len(kinds) > 8 else shown
