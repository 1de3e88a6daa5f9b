"""Which features are genes: antibodies, hashtags, guides, peaks and spike-ins have no place among them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.arrays import BoolArray
from scballast.data.annotation import Annotation, texts_of
from scballast.data.columns import n_distinct
from scballast.data.names import quote, quoted, spelt_alike, valid_text
from scballast.data.remarks import Remarks
from scballast.data.symbols import KNOWN_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


GENE = frozenset(
    "gene expression|geneexpression|gene|genes|gex|rna|mrna|scrna|expression|gene expr|rna expression|transcript"
    "|transcripts|transcriptome|transcriptomics|rna seq|sct".split("|")
)
"""What files call genes, in lower case, with single blanks for ``_``, ``-`` and ``.``"""
_BIOTYPE = re.compile(
    r"protein coding|(.* )?(l(inc|nc)|mi|sn|sno|r|t|sca|s|sc|pi|nc|misc|vault|y|scrna|srp|rnase \w+|telomerase)"
    r" ?rna( .*)?|(.* )?pseudogene|(ig|tr) \w( \w+)? gene|antisense( rna)?|sense (intronic|overlapping)|tec|ribozyme"
    r"|processed transcript|(retained|nonsense|non stop) .*|non coding|.*overlapping( ncrna)?|bidirectional promoter.*"
)
"""Kinds of genes in the words of Ensembl, GENCODE and RefSeq, spelt as above."""
TYPE_COLUMNS = frozenset(
    "feature types|feature type|featuretypes|featuretype|feature biotype|modality|modalities|library type".split("|")
)
"""Columns of var that may say what a feature is, spelt as above. CELLxGENE's ``feature_type`` holds biotypes
(protein_coding, …): a column counts only if it calls some features genes, or all of them something else known. A
column of any other name counts if it calls every feature something known, and genes some of them but not all. Biotypes
beside antibodies or spike-ins are the genes."""
_FLAG = re.compile(
    r"(?:is )?(?P<genes>gene|gene expression|gex|rna)|(?:is )?(?P<proteins>proteins?|surface proteins?)"
    r"|(?:is )?(?:antibody|antibodies|adt|hto|hashtag|cite|cmo|guide|grna|sgrna|peak|atac|ercc|spike|spike ?in)s?"
)
"""Columns of truths that say which features are genes, or are none; that of genes alone needs ``is``."""
_TRUTHS = dict.fromkeys(("true", "t", "yes", "1", "1.0"), "true") | dict.fromkeys(
    ("false", "f", "no", "0", "0.0"), "false"
)
"""R's truths become numbers on the way into some files."""
_OTHER = re.compile(
    r"antibod|\badt\b|\bab\b|\babo\b|\bcite|hash|\bhto\b|multiplex|\bcmo\b|crispr|guide|grna|peak|\batac\b|chromatin|custom"
    r"|antigen|\bvdj\b|^prot(ein|eom|eomic)?s?$|spike|\bercc\b|\btags?\b"
)
_SURELY_OTHER = re.compile(r"adt|hto|cmo|cite ?seq|antibod(y|ies)( .*)?|hashtags?.*|atac|peaks?|(sg|g)rnas?|crispr .*")
MOST_TYPES = 60
MOST_PROTEINS = 0.25
"""Share of features up to which ``is_protein`` means antibodies: of genes, more code for proteins."""
_SPIKE_IN = re.compile(r"(?:.*[-_ ])?(?:ERCC[-_. ]?\d{5}|SIRV\d+)(?:[-_.: ].*)?|gSpikein[-_ ].+", re.IGNORECASE)
_NO_GENE = re.compile(
    r"__(?:no_feature|ambiguous|too_low_aQual|not_aligned|alignment_not_unique)|N_(?:unmapped|multimapping|noFeature|ambiguous)"
    r"|unmapped",
    re.IGNORECASE,
)
"""Rows of reads without a gene, which HTSeq, STAR and CITE-seq-Count write below the genes."""
_LOOKS_LIKE = {
    # No "AB" and a number: GENCODE has genes such as AB015752.1.
    "antibodies or hashtags": re.compile(r".*Total(?:Seq)?[-_ ]?[ABCD]?\d*$|(?:HTO|ADT|CITE|Hashtag|CMO)[-_. ]?\d.*"
                                         r"|(?:.*[-_:])?TotalSeq[-_ ].*|.*[-_:]ADT[-_:].*"
                                         r"|(?:HTO|ADT|CITE|prot|AB|anti|antibody)[-_:].+|.*\|[ps]t?AbO$"
                                         r"|.+[-_](?:HTO|ADT|prot|protein|AB|antibody|AbSeq)$"
                                         r"|.*(?:SampleTag\d|anti[-_ ](?:human|mouse|rat)[-_ ]).*|.+-[ACGT]{10,}$",
                                         re.IGNORECASE),
    "guides": re.compile(r"(?:.*[-_])?(?:sgRNA|gRNA)s?(?:[-_.].*|\d*)$|(?:non|safe)[-_ ]?target(?:ing)?(?:[-_ ].*|\d*)$"
                         r"|(?-i:sg[-_]?[A-Z]\w+.*)|.+[-_]guide[-_]?\d*$|crispr[-_].+", re.IGNORECASE),
    "peaks": re.compile(r"(?:chr)?[0-9A-Za-z]{1,5}[:-]\d{3,}-\d{3,}$|chr[0-9A-Za-z]{1,2}_\d{3,}_\d{3,}$"),
    "controls or deprecated probes": re.compile(
        r"(?:Blank|NegPrb|Negative|(?:Neg|Negative)[-_ ]?(?:Control|Probe)(?:[-_ ]?(?:Probe|Codeword))?|SystemControl"
        r"|FalseCode|(?:Unassigned|Deprecated)[-_ ]?Codeword)[-_ ]?\d+$|DEPRECATED_.+", re.IGNORECASE),
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
    """

    genes: BoolArray
    types: tuple[str, ...]


def gene_features(var: Annotation, others: Sequence[Annotation], remarks: Remarks) -> Features:
    """Tell genes from other features: by the type that the file gives, and spike-ins by their names or symbols.

    Parameters
    ----------
    var
        Annotation of the features.
    others
        Further annotations of the same file (``var`` beside ``.raw.var``), looked at by name where ``var`` has no
        types.
    remarks
        Of the file; what is left out is added, and what may be no gene but is kept.

    Raises
    ------
    DataError
        Every feature is of another type, or a spike-in.
    """
    names = [valid_text(name) for name in var.index]
    given_types = _types(var)
    if given_types is None:
        given_types = next((joined for other in others if (joined := _types_by_name(other, names)) is not None), None)
    is_gene = np.ones(len(names), dtype=np.bool_)
    if given_types is None:
        _note_unclear(var, remarks)
    else:
        types = given_types.of_features
        is_gene = np.array([kind in given_types.genes for kind in types], dtype=np.bool_)
        if not is_gene.any() and names:
            remarks.refuse(
                f"none of the {len(names):,} features is gene expression: the types are "
                f"{_counted(types)}. Use a file with gene expression, or set the types of genes to 'Gene Expression'."
            )
        if not is_gene.all():
            left_out = [kind for kind, gene in zip(types, is_gene, strict=True) if not gene]
            first = quote(names[int(np.argmin(is_gene))])
            remarks.note(
                f"{len(left_out):,} features that are not gene expression are left out: "
                f"{_counted(left_out)}, first {first}."
            )
            if given_types.guessed:
                kinds = [kind for kind in types if kind in given_types.guessed]
                remarks.note(
                    f"{len(kinds):,} features of types that are not known are analysed as genes: "
                    f"{_counted(kinds)}. Where they are genes, call them 'Gene Expression'."
                )
        untyped = [name for name, kind in zip(names, types, strict=True) if not kind]
        if untyped:
            remarks.note(f"{len(untyped):,} features without a type are analysed as genes, first {quote(untyped[0])}.")
    unassigned = is_gene & np.array([_NO_GENE.fullmatch(name) is not None for name in names], dtype=np.bool_)
    if unassigned.any() and (is_gene & ~unassigned).any():
        listed = quoted([name for name, counts in zip(names, unassigned, strict=True) if counts], 5)
        remarks.note(f"{int(unassigned.sum()):,} rows that count reads without a gene are left out: {listed}.")
        is_gene &= ~unassigned
    called = [names, *_symbols(var, others, names)]
    spiked = np.array([any(map(_SPIKE_IN.fullmatch, known)) for known in zip(*called, strict=True)], dtype=np.bool_)
    spiked &= is_gene
    if spiked.any():
        first = quote(names[int(np.argmax(spiked))])
        if not (is_gene & ~spiked).any():
            remarks.refuse(
                f"all {int(spiked.sum()):,} genes are spike-ins, first {first}: there are no genes of the "
                "cells. Use the file with their gene expression."
            )
        remarks.note(f"{int(spiked.sum()):,} spike-ins are left out, first {first}: they are no genes of the cells.")
        is_gene &= ~spiked
    types = given_types.of_features if given_types is not None else []
    _note_suspects(called, is_gene, remarks)
    return Features(is_gene, tuple(types))


def _note_suspects(called: Sequence[Sequence[str]], is_gene: BoolArray, remarks: Remarks) -> None:
    """Name features that are kept although one of their names is that of an antibody or a peak."""
    for kind, pattern in _LOOKS_LIKE.items():
        suspects = [
            next(filter(pattern.match, known))
            for known, gene in zip(zip(*called, strict=True), is_gene, strict=True)
            if gene and any(map(pattern.match, known))
        ]
        if suspects:
            remarks.note(
                f"{len(suspects):,} features have names of {kind} and are analysed as genes: "
                f"{quoted(suspects, 4)}. If they are none, say so in var['feature_types'] ('Gene Expression' for "
                "genes)."
            )


@dataclass(frozen=True)
class _Types:
    """What each feature is called (``""``: nothing), which of these are genes, and which of those are so by guess."""

    of_features: list[str]
    genes: frozenset[str]
    guessed: frozenset[str] = frozenset()


def _types(var: Annotation) -> _Types | None:
    """Return the types that a column of var gives; None where no column does."""
    unnamed = flagged = all_genes = None
    for key, values in var.each_readable():
        spelt_key = _spelt(key)
        if flagged is None and _FLAG.fullmatch(spelt_key):
            flagged = _flagged(key, values)
        named = spelt_key in TYPE_COLUMNS
        if not named and (unnamed is not None or values.dtype.kind not in "OSUT" or n_distinct(values) > MOST_TYPES):
            continue
        types = [text.strip() for text in texts_of(values)]
        types_of_column = _known(types, named=named)
        if types_of_column is not None and named and {*types} - types_of_column.genes:
            return types_of_column
        if named:
            all_genes = all_genes or types_of_column
        else:
            unnamed = unnamed or types_of_column
    return all_genes or unnamed or flagged


def _note_unclear(var: Annotation, remarks: Remarks) -> None:
    """Ask about columns that seem to tell genes from other features, in words or numbers that are not known."""
    for key, values in var.each_readable():
        if not 2 <= n_distinct(values) <= MOST_TYPES:
            continue
        kinds = texts_of(values)
        told = _spelt(key) not in TYPE_COLUMNS or any(_BIOTYPE.fullmatch(_spelt(kind)) for kind in {*kinds})
        if not told or any(_SURELY_OTHER.fullmatch(_spelt(kind)) for kind in {*kinds}):
            remarks.note(
                f"var[{quote(key)}] may tell genes from other features, but not in words that are known: "
                f"{_counted(kinds)}. All are analysed as genes. If some are none, call genes 'Gene Expression' there."
            )


def _known(types: list[str], *, named: bool) -> _Types | None:
    """Return types if they tell genes from other features; ``named``: the column's name says that they do."""
    spelt = {kind: _spelt(kind) for kind in {*types} - {""}}
    genes = {kind for kind, text in spelt.items() if text in GENE}
    others = {kind for kind, text in spelt.items() if kind not in genes and _OTHER.search(text)}
    unknown = spelt.keys() - genes - others
    biotypes = {kind for kind in unknown if _BIOTYPE.fullmatch(spelt[kind])}
    if named and (genes or (spelt and not unknown)):
        # A name for genes is there: whatever else there is, is something else, unless it is a kind of gene.
        return _Types(types, frozenset({"", *genes, *biotypes}))
    if others and (named or biotypes) and (named or not unknown - biotypes):
        return _Types(types, frozenset({"", *genes, *unknown}), frozenset(unknown - biotypes))
    if genes and others and not unknown:
        return _Types(types, frozenset({"", *genes}))
    return None


def _flagged(key: str, values: pd.Series[Any]) -> _Types | None:
    """Return the types that a column of truths gives."""
    match = _FLAG.fullmatch(_spelt(key))
    texts = [
        "" if no else _TRUTHS.get(str(value).lower(), "?") for value, no in zip(values, values.isna(), strict=True)
    ]
    if match is None or not {*texts} - {""} == {"true", "false"}:
        return None
    of_genes = bool(match["genes"])
    if of_genes and not _spelt(key).startswith("is "):
        return None
    if match["proteins"] and texts.count("true") > MOST_PROTEINS * len(texts):
        return None
    types = [text and f"{key}: {text}" for text in texts]
    return _Types(types, frozenset({"", f"{key}: {'true' if of_genes else 'false'}"}))


def _symbols(var: Annotation, others: Sequence[Annotation], names: Sequence[str]) -> list[list[str]]:
    """Return what else the features are called, by each column of symbols."""
    names_by_column = []
    for table in (var, *others):
        index_names = [valid_text(name) for name in table.index]
        for key, values in table.each_readable():
            if _spelt(key) in KNOWN_COLUMNS:
                texts = [valid_text(value) for value in values]
                by_name = dict(zip(index_names, texts, strict=True))
                names_by_column.append(texts if index_names == names else [by_name.get(name, "") for name in names])
    return names_by_column


def are_types(values: Sequence[str]) -> bool:
    """Tell whether values are what files call kinds of features, genes among them."""
    spelt = {_spelt(kind) for kind in values} - {""}
    return bool(spelt & GENE) and all(kind in GENE or _OTHER.search(kind) for kind in spelt)


def _types_by_name(other: Annotation, names: Sequence[str]) -> _Types | None:
    other_types = _types(other)
    if other_types is None:
        return None
    # Antibodies are often called as their genes: the first of a name here is the first there.
    known = dict(zip(_numbered([valid_text(name) for name in other.index]), other_types.of_features, strict=True))
    return replace(other_types, of_features=[known.get(name, "") for name in _numbered(names)])


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    """Return each name with how often it stood before."""
    import pandas as pd

    return list(zip(names, pd.Series(names, dtype=object).groupby(names).cumcount(), strict=True))


def _spelt(text: str) -> str:
    return spelt_alike(re.sub(r"(?<=[a-z]{2})(?=[A-Z][a-z])", " ", text))  # GeneExpression, but not mRNA


def _counted(types: Sequence[str]) -> str:
    kinds = Counter(types).most_common()
    shown = ", ".join(f"{quote(kind)} ({count:,})" for kind, count in kinds[:8])
    return f"{shown} and {len(kinds) - 8} more" if len(kinds) > 8 else shown
