"""Labels, batches and samples from columns of ``obs``: any type in, text categories or a clear error out."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.arrays import BoolArray, IntArray, places_among
from scballast.data.name_forms import lookalikes
from scballast.data.names import escaped, quote, quoted, valid_text, without_blanks
from scballast.data.remarks import Remarks
from scballast.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from scballast.data.annotation import Annotation

MISSING_WORDS = frozenset({"", "nan", "na", "<na>", "none", "null", "n/a", "#n/a", "#na", "#name?", "#ref!", "#value!"})
"""What a missing value becomes when a column is written as text, also by Excel (compared in lower case)."""
MAX_NUMERIC_CATEGORIES = 100
MAX_LISTED_CATEGORIES = 200


@dataclass(frozen=True)
class Column:
    """A column of categories.

    Attributes
    ----------
    key
        Its name in ``obs``.
    names
        The categories that occur, as text, in order of name.
    codes
        (n_cells,) index into ``names``; -1: missing.
    """

    key: str
    names: tuple[str, ...]
    codes: IntArray

    def sizes(self) -> IntArray:
        """Return how many cells each category has, (n_categories,)."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))

    def take(self, cells: BoolArray) -> Column:
        """Return the column for the cells where the mask is true, without categories that no longer occur."""
        codes = self.codes[cells]
        kept = np.unique(codes[codes >= 0])
        names = tuple(self.names[int(code)] for code in kept)
        return dataclasses.replace(self, names=names, codes=places_among(kept, len(self.names))[codes])

    def categorical(self) -> pd.Categorical:
        """Return the column as it is stored in ``adata.obs``."""
        import pandas as pd

        return pd.Categorical.from_codes(self.codes, categories=pd.Index(self.names, dtype=object))


def label_candidates(obs: Annotation) -> list[str]:
    """Return the columns that could hold population labels: 2 to 200 categories, fewer than half the cells."""
    most = min(MAX_LISTED_CATEGORIES, len(obs) // 2)
    columns, _ = obs.readable()
    return [
        key for key, column in columns.items() if column.dtype.kind not in "fcmM" and 2 <= n_distinct(column) <= most
    ]


def n_distinct(column: pd.Series[Any]) -> int:
    """Return how many values a column has; 0 where they cannot be compared."""
    try:
        return int(column.nunique())
    except TypeError:  # lists and other values that cannot be compared
        return 0


def read_column(obs: Annotation, key: str, *, option: str, remarks: Remarks) -> Column:
    """Return a column of ``obs`` as text categories.

    Parameters
    ----------
    obs
        Annotation of the cells.
    key
        Column name.
    option
        The configuration key that named the column, for messages.
    remarks
        Of the file; what is noticed is added.

    Raises
    ------
    DataError
        The column is absent or twice there, or holds numbers that are not category numbers.
    """
    values = find_column(obs, key, option=option, remarks=remarks)
    try:
        codes, categories = _factorize(values)
    except TypeError:
        remarks.refuse(
            f"obs[{quote(key)}] holds {quote(type(values.iloc[0]).__name__)} values, which are not labels. "
            f"Allowed: text, categories or whole numbers. Set {option} to another column."
        )
    if _is_numeric(categories):
        categories = _category_numbers(categories, codes, key, option, remarks)
        if values.dtype != "category" and option == "data.population_key":
            remarks.note(f"obs[{quote(key)}] is numeric; its {len(categories)} values are taken as population names.")
    texts = [valid_text(value) for value in categories]
    _note_blanks(texts, codes, key, remarks)
    names, codes, n_missing_words = _merge([without_blanks(text) for text in texts], codes)
    if values.dtype == "category":
        n_unused = len(values.cat.categories) - len(np.unique(values.cat.codes[values.cat.codes >= 0]))
        if n_unused:
            unused, are = (f"{n_unused} unused categories", "are") if n_unused > 1 else ("one unused category", "is")
            remarks.note(f"{unused} of obs[{quote(key)}] {are} left out.")
    if n_missing_words:
        remarks.note(
            f"{n_missing_words:,} cells have an empty text or a word for 'missing' in obs[{quote(key)}] "
            "and count as missing."
        )
    column = Column(key, names, codes)
    sizes = dict(zip(names, column.sizes().tolist(), strict=True))
    note_lookalikes(names, f"labels of obs[{quote(key)}]", remarks, sizes)
    return column


def read_words(obs: Annotation, key: str, *, option: str, remarks: Remarks) -> Column | None:
    """Return a column of text or named categories as ``read_column`` does; None: it holds numbers or truths.

    Raises
    ------
    DataError
        The column is absent or twice there, or holds values that are not labels.
    """
    import pandas as pd

    values = find_column(obs, key, option=option, remarks=remarks)
    named = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else values
    if not (pd.api.types.is_object_dtype(named.dtype) or pd.api.types.is_string_dtype(named.dtype)):
        return None
    return read_column(obs, key, option=option, remarks=remarks)


def find_column(obs: Annotation, key: str, *, option: str, remarks: Remarks) -> pd.Series[Any]:
    """Return a column of ``obs`` as it is stored.

    Raises
    ------
    DataError
        The column is absent, twice there, or cannot be read.
    """
    positions = obs.positions(key)
    if len(positions) != 1:
        remarks.refuse(_absent(obs, key, option, n_found=len(positions)))
    try:
        return obs.read(positions[0])
    except DataError as error:
        msg = f"{error} It is needed for {option}: set that to another column, or write this one again."
        raise DataError(msg) from error


def note_lookalikes(names: Sequence[str], what: str, remarks: Remarks, sizes: Mapping[str, int] | None = None) -> None:
    """Ask about names that differ only in what a reader does not see, or hardly; ``sizes``: cells of each."""
    groups = lookalikes(names)
    if not groups:
        return

    def shown(name: str) -> str:
        return escaped(name) + (f" ({sizes[name]:,} cells)" if sizes is not None else "")

    listed = "; ".join(" and ".join(shown(name) for name in group[:4]) for group in groups[:5])
    more = f" and {len(groups) - 5} more" if len(groups) > 5 else ""
    remarks.note(
        f"{what} that differ only in case, blanks, hyphens or other separators, an ending (_, .0, plural s), "
        f"accents, quotes, look-alike letters or Unicode form are kept apart: {listed}{more}. If they mean the same, "
        "write them alike."
    )


def note_blank_names(names: Sequence[str], remarks: Remarks, kind: str = "cell") -> None:
    """Say that blanks were removed from these names of cells, or of another ``kind``."""
    if names:
        first = escaped(names[0])
        remarks.note(f"blanks at the ends or repeated were removed from {len(names):,} {kind} names, first {first}.")


def _note_blanks(texts: Sequence[str], codes: IntArray, key: str, remarks: Remarks) -> None:
    """Say which labels lost blanks, and how many became one with another by that."""
    changed = [code for code, text in enumerate(texts) if without_blanks(text) not in {text, ""}]
    if not changed:
        return
    n_merged = len(set(texts)) - len({without_blanks(text) for text in texts})
    merged = f", by which {n_merged} became one with another label" if n_merged else ""
    remarks.note(
        f"blanks at the ends or repeated were removed from {len(changed)} labels of obs[{quote(key)}] in "
        f"{int(np.isin(codes, changed).sum()):,} cells, first {escaped(texts[changed[0]])}{merged}."
    )


def _absent(obs: Annotation, key: str, option: str, n_found: int) -> str:
    columns = obs.columns
    if n_found > 1:
        return f"obs has {n_found} columns named {quote(key)}. Rename all but one."
    if not columns:
        return (
            f"obs has no column {quote(key)}, and no column at all (10x formats hold no labels). "
            "Set data.labels to a .csv or .tsv with the cell names in its first column and the labels in others, "
            f"and {option} to one of these."
        )
    lower = {name.lower(): name for name in columns}
    near = [lower[name] for name in difflib.get_close_matches(key.lower(), lower, n=3, cutoff=0.6)]
    guess = f" Nearest: {quoted(near)}." if near else ""
    candidates = label_candidates(obs)
    listed = f"Columns with categories: {quoted(candidates)}" if candidates else f"Columns: {quoted(columns)}"
    return f"obs has no column {quote(key)}.{guess} {listed}. Set {option} to one of them."


def _factorize(values: pd.Series[Any]) -> tuple[IntArray, Sequence[Any]]:
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        used = values.cat.remove_unused_categories().cat
        return np.asarray(used.codes, dtype=np.int64), list(used.categories)
    codes, uniques = pd.factorize(values, use_na_sentinel=True)
    return np.asarray(codes, dtype=np.int64), list(uniques)


def _is_numeric(categories: Sequence[Any]) -> bool:
    return bool(categories) and all(
        isinstance(value, (int, float, complex, np.number)) and not isinstance(value, (bool, np.bool_))
        for value in categories
    )


def _category_numbers(categories: Sequence[Any], codes: IntArray, key: str, option: str, remarks: Remarks) -> list[str]:
    """Return numbers as text if they can be numbers of categories (clusters, batches): few and whole."""
    n_cells = int(np.count_nonzero(codes >= 0))
    whole = all(not isinstance(v, (complex, np.complexfloating)) and float(v).is_integer() for v in categories)
    if not whole or len(categories) > min(MAX_NUMERIC_CATEGORIES, n_cells / 2):
        kind = "whole" if whole else "continuous"
        remarks.refuse(
            f"obs[{quote(key)}] is numeric: {len(categories):,} distinct {kind} values in {n_cells:,} cells, "
            f"first {categories[0]!s}. Allowed: text, categories, or at most {MAX_NUMERIC_CATEGORIES} distinct whole "
            f"numbers with 2 cells each on average. Set {option} to a column of labels, or make this one text."
        )
    return [str(int(value)) for value in categories]


def _merge(texts: Sequence[str], codes: IntArray) -> tuple[tuple[str, ...], IntArray, int]:
    """Return names in order, codes into them, and how many cells a word for 'missing' was found in."""
    missing = [text.lower() in MISSING_WORDS for text in texts]
    names = sorted({text for text, absent in zip(texts, missing, strict=True) if not absent})
    position = {name: index for index, name in enumerate(names)}
    lookup = np.array(
        [-1 if absent else position[text] for text, absent in zip(texts, missing, strict=True)] + [-1], dtype=np.int64
    )
    n_words = int(np.isin(codes, np.flatnonzero(missing)).sum()) if any(missing) else 0
    return tuple(names), lookup[codes], n_words


def read_grouping(obs: Annotation, key: str, *, option: str, remarks: Remarks, labels: Column | None = None) -> Column:
    """Return the batch or sample column: as ``read_column``, and every cell must have a value.

    Parameters
    ----------
    obs, key, option, remarks
        As ``read_column``.
    labels
        Population of each cell, to say so where only cells without one have no value.

    Raises
    ------
    DataError
        As ``read_column``; or a value is missing, or every cell has a value of its own.
    """
    column = read_column(obs, key, option=option, remarks=remarks)
    n_missing = int(np.count_nonzero(column.codes < 0))
    if n_missing:
        cell = quote(obs.index[int(np.argmax(column.codes < 0))])
        only_unlabelled = labels is not None and labels.codes.size == len(obs) and not (
            (column.codes < 0) & (labels.codes >= 0)
        ).any()  # fmt: skip
        drop = ", which have no label either, with data.unlabelled=drop" if only_unlabelled else ""
        remarks.refuse(
            f"obs[{quote(key)}] is missing for {n_missing:,} of {len(obs):,} cells, first {cell}. "
            f"Every cell needs a value in {option}: fill them, or remove these cells{drop}."
        )
    if len(column.names) == len(obs) > 1:
        remarks.refuse(
            f"obs[{quote(key)}] differs in every one of the {len(obs):,} cells. "
            f"Set {option} to a column with several cells per value, or leave it out."
        )
    return column


def taken(
    labels: Column, batches: Column | None, samples: Column | None, cells: BoolArray, remarks: Remarks
) -> tuple[Column, Column | None, Column | None]:
    """Return the columns for the cells where the mask is true, batches only if there are several, which is said."""
    batches = batches.take(cells) if batches is not None else None
    if batches is not None and len(batches.names) == 1:
        remarks.note(
            f"obs[{quote(batches.key)}] has one value, {quote(batches.names[0])}: there is no batch to "
            "correct, and data.batch_key is ignored."
        )
        batches = None
    return labels.take(cells), batches, samples.take(cells) if samples is not None else None
