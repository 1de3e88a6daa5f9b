"""The names that people read: gene symbols from a column of var, where the index holds identifiers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from scballast.arrays import BoolArray
from scballast.data.annotation import Annotation, texts_of
from scballast.data.columns import MISSING_WORDS, note_blank_names
from scballast.data.names import blanks_apart, quote, quoted, spelt_alike, valid_text, without_blanks
from scballast.data.remarks import Remarks
from scballast.errors import DataError

NO_SYMBOLS = "none"
"""The value of ``data.gene_symbols`` that leaves symbols out."""
KNOWN_COLUMNS = (
    "feature name", "gene symbol", "gene symbols", "symbol", "symbols", "hgnc symbol", "mgi symbol", "gene name",
    "gene names", "gene short name", "external gene name", "feature names", "genename", "genesymbol", "name", "names",
    "gene", "genes", "features", "hgnc", "mgi",
)  # fmt: skip
"""In lower case, with single blanks for ``_``, ``-`` and ``.``; the first one that holds symbols is taken."""
ID_COLUMNS = tuple("gene ids|gene id|ensembl id|ensembl ids|ensembl|feature id|feature ids|id|accession".split("|"))
_IDENTIFIER = re.compile(
    r"ENS[A-Z]*[GT]\d{6,}(\.\d+)?(_.*)?|FBgn\d+|WBGene\d+|Y[A-P][LR]\d{3}[WC](-[A-Z])?|AT[\dCM]G\d{5}"  # species
    r"|(NM|NR|XM|XR|NG)_\d+(\.\d+)?|(HGNC|MGI|RGD|ZFIN|Entrez|GeneID|LOC):?[-_]?\d+"
    r"|ILMN_\d+|A_\d+_P\d+|(AFFX-)?\S+_at|TC\d+\.hg\.\d+|(probe|feature|gene|cell|var|row|idx|id|V|X)?[-_]?\d+",
    re.IGNORECASE,
)
_NO_SYMBOLS_IN = re.compile(r"\b(ids?|ensembl|entrez|accession|genome|type|biotype|chromosome|description)\b")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_MONTH = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)"
_DATE = re.compile(rf"\d{{1,2}}-{_MONTH}(?:-\d{{2,4}})?|{_MONTH}-\d\d|\d{{4}}-\d\d-\d\d(?: 00:00:00)?")
"""What a spreadsheet makes of MARCH1; not ``sep-1`` and ``oct-1``, genes of the worm."""
MOST = 0.5
"""Share of the genes from which on a column or an index counts as a whole."""
LONGEST_SYMBOL = 40


def gene_symbols(
    var: Annotation, others: Sequence[Annotation], wanted: str | None, remarks: Remarks
) -> list[str] | None:
    """Return what people call the genes, where that is not the name in the index.

    Parameters
    ----------
    var
        Annotation of the genes.
    others
        Further annotations of the same file (``var`` beside ``.raw.var``), joined by name.
    wanted
        ``data.gene_symbols``: a column, ``none``, or None: found by itself.
    remarks
        Of the file; what is noticed is added.

    Returns
    -------
    list of str or None
        (n_genes,) symbols, ``""`` where a gene has none; None: the index is all there is.

    Raises
    ------
    DataError
        The column that is wanted is not there, or has no text for any gene.
    """
    names = [valid_text(name) for name in var.index]
    if wanted == NO_SYMBOLS:
        if NO_SYMBOLS in var.columns:
            remarks.note("data.gene_symbols=none leaves symbols out; the column of var of that name is not used.")
        _note_numbers(names, remarks)
        return None
    tables = [_texts(var, names), *(_texts(other, names) for other in others)]
    columns = {key: values for table in reversed(tables) for key, values in table.items()}
    if wanted is not None:
        if wanted not in columns:
            for reason in (table.readable()[1].get(wanted) for table in (var, *others)):
                if reason is not None:
                    msg = f"{reason} It is needed for data.gene_symbols: set that to another column, or to none."
                    raise DataError(msg)
            listed = f"Columns of text: {quoted(columns)}" if columns else "It has no column of text"
            remarks.refuse(
                f"var has no column {quote(wanted)} of text. {listed}. Set data.gene_symbols to a column, or to none."
            )
        if not any(columns[wanted]):
            remarks.refuse(
                f"var[{quote(wanted)}] is empty. Set data.gene_symbols to a column with symbols, or to none."
            )
        return columns[wanted]
    symbol_column = _symbol_column(columns, names, remarks)
    if symbol_column is None:
        _note_numbers(names, remarks)
        return None
    what = "the gene names look like identifiers" if mostly(_IDENTIFIER, names) else "genes have two names"
    beside = f"var[{quote(symbol_column)}] is shown beside them (data.gene_symbols)."
    remarks.note(f"{what}, first {quote(names[0])}; {beside}")
    return columns[symbol_column]


def names_of_genes(var: Annotation, genes: BoolArray, remarks: Remarks) -> list[str]:
    """Return a name for each gene: where the index has none, or one for several genes, the id beside it tells.

    Blanks at the ends and repeated blanks are removed before. Features that are not ``genes`` (n_features,) keep their
    names and are no reason to change that of a gene.

    Returns
    -------
    list of str
        (n_features,) names, not yet unique where there are no ids.
    """
    given = [valid_text(name) for name in var.index]
    names = [without_blanks(name) for name in given]
    note_blank_names([text for text, name in zip(given, names, strict=True) if text != name], remarks, "gene")
    dates = [name for name in names if _DATE.fullmatch(name)]
    if dates:
        remarks.note(
            f"{len(dates):,} gene names are dates, first {quote(dates[0])}: a spreadsheet makes them of "
            "symbols such as MARCH1, SEPT2 and DEC1. Write the file again from its source."
        )
    counts = Counter(name for name, gene in zip(names, genes, strict=True) if gene)
    if counts.total() == len(counts) and "" not in counts:
        return names
    spelt = {spelt_alike(key): position for position, key in reversed(list(enumerate(var.columns)))}
    position = next((spelt[key] for key in ID_COLUMNS if key in spelt), None)
    try:
        ids = [without_blanks(text) for text in texts_of(var.read(position))] if position is not None else []
    except DataError:  # said where var is read as a whole
        ids = []
    if len(set(ids)) < len(names) or "" in ids:
        return names
    bare = [ids[row] for row, name in enumerate(names) if genes[row] and not name.strip()]
    if bare:
        remarks.note(f"{len(bare):,} genes have no name and go by their id, first {quote(bare[0])}.")
    told_apart = []
    for row, (name, identifier) in enumerate(zip(names, ids, strict=True)):
        if not genes[row]:
            continue
        if not name.strip():
            names[row] = identifier
        elif counts[name] > 1 and name != identifier:
            names[row] = f"{name} ({identifier})"
            told_apart.append(names[row])
    if told_apart:
        remarks.note(
            f"{len(told_apart):,} genes share their name with another and have their id beside it, first "
            f"{quote(told_apart[0])}.{blanks_apart(given)}"
        )
    return names


def looks_like_id(name: str) -> bool:
    """Tell whether a name is an identifier, as of Ensembl, and no symbol."""
    return _IDENTIFIER.fullmatch(name) is not None


def other_names(var: Annotation) -> dict[str, list[str]]:
    """Return the ids that stand beside the genes' names, by column of ``var``; ``""`` where a gene has none."""
    texts = _texts(var, [valid_text(name) for name in var.index])
    return {key: values for key, values in texts.items() if spelt_alike(key) in ID_COLUMNS}


def _symbol_column(columns: Mapping[str, list[str]], names: Sequence[str], remarks: Remarks) -> str | None:
    """Return the column that holds symbols: one with a known name, else the only one that can be."""
    spelt = {spelt_alike(key): key for key in reversed(list(columns))}
    known = [spelt[name] for name in KNOWN_COLUMNS if name in spelt]
    for key in known:
        if _are_symbols(columns[key], names):
            return key
    if not mostly(_IDENTIFIER, names):
        return None
    possible = [
        key
        for key, values in columns.items()
        if not _NO_SYMBOLS_IN.search(spelt_alike(key)) and _are_symbols(values, names) and _mostly_distinct(values)
    ]
    if not possible and mostly(_NUMBER, names):
        # An Ensembl id is no symbol, but says more than a running number.
        possible = [key for key, values in columns.items() if _mostly_distinct(values) and not mostly(_NUMBER, values)]
    if len(possible) > 1:
        remarks.note(
            f"the gene names look like identifiers, first {quote(names[0])}, and several columns of var may "
            f"hold symbols: {quoted(possible)}. Set data.gene_symbols to one of them, or to none."
        )
    return possible[0] if len(possible) == 1 else None


def _are_symbols(values: Sequence[str], names: Sequence[str]) -> bool:
    """Tell whether most genes have a short text that is neither an identifier nor their name."""
    given = [value for value, name in zip(values, names, strict=True) if value and value != name]
    short = [value for value in given if len(value) <= LONGEST_SYMBOL and len(value.split()) <= 2]
    return len(short) >= MOST * max(1, len(names)) and not mostly(_IDENTIFIER, given)


def _mostly_distinct(values: Sequence[str]) -> bool:
    given = [value for value in values if value]
    return len(given) >= MOST * len(values) and len(set(given)) > 0.9 * len(given)


def mostly(pattern: re.Pattern[str], names: Sequence[str]) -> bool:
    """Tell whether most of the names have a form."""
    return sum(pattern.fullmatch(name) is not None for name in names) > MOST * len(names)


def _note_numbers(names: Sequence[str], remarks: Remarks) -> None:
    if mostly(_NUMBER, names):
        remarks.note(
            f"the gene names are plain numbers, first {quote(names[0])}: nobody can read such lists. Put the "
            "names of the genes in the index of var, or in a column and set data.gene_symbols to it."
        )


def _texts(var: Annotation, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns of text, one value per name; ``""`` where a gene is not there or has no value."""
    columns, _ = var.readable()
    texts = {
        key: _without_words([without_blanks(text) for text in texts_of(values)])
        for key, values in columns.items()
        if values.dtype.kind in "OSUT"
    }
    index_names = [valid_text(name) for name in var.index]
    if index_names == names:
        return texts
    place = {name: row for row, name in reversed(list(enumerate(index_names)))}
    rows = [place.get(name) for name in names]
    return {key: ["" if row is None else values[row] for row in rows] for key, values in texts.items()}


def _without_words(texts: list[str]) -> list[str]:
    """Leave out words for 'missing' that stand for several genes; a single ``nan`` is a gene of the fly."""
    counts = Counter(texts)
    words = {text for text, count in counts.items() if count > 1 and text.lower() in MISSING_WORDS}
    return ["" if text in words else text for text in texts] if words else texts
