"""Labels of cells from a table beside the counts: 10x formats hold none, and many labels live elsewhere."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from scballast.data.columns import MISSING_WORDS, note_blank_names
from scballast.data.name_forms import alike
from scballast.data.names import blanks_apart, escaped, quote, quoted, valid_text, without_blanks
from scballast.data.remarks import Remarks, refuse
from scballast.data.source import Source
from scballast.data.text_table import Wording, check_width, read_table

if TYPE_CHECKING:
    import pandas as pd

ALLOWED = "Allowed: .csv or .tsv, also .gz: a header, then one row per cell, its name first"
_WORDING = Wording("labels", "data.labels", ALLOWED)
# A lane's number that Cell Ranger appends to a barcode, and that many tables leave out.
_LANE = re.compile(r"-\d+$")
_CELLS = re.compile(r"(cell|barcode|index|cb|bc)s?([ _.-]?(id|name|barcode|code)s?)?|", re.IGNORECASE)
"""What a first column of cell names is called."""
_NUMBER = re.compile(r"[-+.\deE]*")
_SEPARATORS = "_-:#.|/ "
LOOKED_AT = 100
"""Names of which one with something before or after it is looked for."""


@dataclass(frozen=True)
class LabelTable:
    """A table of labels as it stands in its file, all text.

    Attributes
    ----------
    label
        The file's name, for messages.
    first, columns
        Names of the first column and of those after it.
    rows
        The values of these columns by the name of the cell.
    warnings
        What was done to the names.
    """

    label: str
    first: str
    columns: tuple[str, ...]
    rows: dict[str, list[str]]
    warnings: tuple[str, ...] = ()


def with_labels(source: Source, path: str) -> Source:
    """Return the source with the columns of a table of labels added to ``obs``.

    Cells without a row have no label; rows without a cell are not used; a column of ``obs`` with the name of
    one in the table is replaced. Each is said in a warning.

    Parameters
    ----------
    source
        The counts.
    path
        ``data.labels``: .csv or .tsv, or either with .gz.

    Raises
    ------
    DataError
        The file cannot be read as such a table, names a cell twice, or has no cell of the data; or two cells
        of the data share a name that the table labels.
    """
    import pandas as pd

    table = read_label_table(path)
    given = [valid_text(name) for name in source.obs.index]
    names = [without_blanks(name) for name in given]
    _check_names(table, names, source.label, given)
    rows = [table.rows.get(name) for name in names]
    columns = {
        column: _typed([row[position] if row is not None else None for row in rows])
        for position, column in enumerate(table.columns)
    }
    added = pd.DataFrame({column: values.to_numpy() for column, values in columns.items()}, index=source.obs.index)
    replaced = [column for column in source.obs.columns if column in columns]
    remarks = Remarks(source.label, [*source.warnings, *table.warnings])
    _note_join(table, names, replaced, remarks)
    return replace(source, obs=source.obs.with_columns(added), warnings=tuple(remarks.notes))


def read_label_table(path: str) -> LabelTable:
    """Read a table of labels.

    Raises
    ------
    DataError
        The file is missing, unreadable, no table, or names a cell or a column twice.
    """
    label, header, body = read_table(path, _WORDING)
    remarks = Remarks(label)
    if body and all(len(row) == len(header) + 1 for _, row in body):
        # R's write.table gives the row names no column name; a label with a comma and no quotes does the same.
        if not _CELLS.fullmatch(header[0].strip()) or len({row[1] for _, row in body}) == len(body):
            header = ["", *header]
    while len(header) > 1 and not header[-1].strip() and not any(row[-1].strip() for _, row in body):
        if any(len(row) != len(header) for _, row in body):
            break
        header, body = header[:-1], [(number, row[:-1]) for number, row in body]  # columns that a spreadsheet left
    columns = tuple(valid_text(without_blanks(name)) for name in header[1:])
    if not columns:
        remarks.refuse(f"there is one column, {quote(header[0])}, so no labels (separators: comma, tab). {ALLOWED}.")
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        remarks.refuse(f"{len(twice)} column names occur more than once, first {quote(twice[0])}. Rename all but one.")
    rows: dict[str, list[str]] = {}
    with_blanks = [row[0] for _, row in body if without_blanks(row[0]) != row[0]]
    for number, row in body:
        check_width(label, header, number, row)
        name = valid_text(without_blanks(row[0]))
        if name in rows:
            same = [valid_text(other[0]) for _, other in body if valid_text(without_blanks(other[0])) == name]
            values = zip(columns, list(zip_longest(*(row for _, row in body), fillvalue=""))[1:], strict=False)
            others = [
                key for key, held in values if len({*held}) == len(body) and not any(map(_NUMBER.fullmatch, held))
            ]
            moved = f" If its column {quote(others[0])} holds the cell names, put it first." if others else ""
            remarks.refuse(
                f"the cell {quote(name)} has more than one row, the second in line {number}."
                f"{blanks_apart(same)}{moved} Allowed: one row per cell. If cells of several samples share barcodes, "
                "make their names unique here and in the counts."
            )
        rows[name] = row[1:]
    note_blank_names(with_blanks, remarks)
    return LabelTable(label, valid_text(without_blanks(header[0])), columns, rows, tuple(remarks.notes))


def _check_names(table: LabelTable, names: list[str], source: str, given: list[str]) -> None:
    present = set(names)
    shared = table.rows.keys() & present
    if shared and table.first in present:
        refuse(
            table.label,
            f"its first line is a cell, {quote(table.first)}, where the names of the columns should "
            "stand. Put a header above it.",
        )
    if not shared and names:
        first = next(iter(table.rows), None)
        if first is None:
            refuse(table.label, f"there is no row below the header. {ALLOWED}.")
        bare = {_LANE.sub("", name) for name in table.rows}
        near = any(_LANE.sub("", name) in bare for name in names)
        hint = " They differ in the lane's number at the end (-1): write both alike." if near else ""
        held = [
            column
            for position, column in enumerate(table.columns)
            if any(valid_text(without_blanks(row[position])) in present for row in table.rows.values())
        ]
        hint = hint or (f" Cell names stand in its column {quote(held[0])}: put it first." if held else "")
        hint = hint or _alike_hint(list(table.rows), names)
        hint = hint or _longer_hint("rows", list(table.rows), names) or _longer_hint("cells", names, list(table.rows))
        refuse(
            table.label,
            f"no row belongs to a cell of {source}: the first row is {quote(first)}, the first cell "
            f"{quote(names[0])}.{hint} Set data.labels to a table whose first column holds the cell names.",
        )
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1 and name in shared]
        if twice:
            refuse(
                source,
                f"{len(twice):,} cell names occur more than once, first {quote(twice[0])}, so a row of "
                f"{table.label} does not say which cell it labels.{blanks_apart(given)} Make the names unique here and "
                "there, for example with the sample's name in front.",
            )


def _note_join(table: LabelTable, names: list[str], replaced: list[str], remarks: Remarks) -> None:
    present = set(names)
    unlabelled = [name for name in names if name not in table.rows]
    unused = [name for name in table.rows if name not in present]
    if unlabelled:
        remarks.note(
            f"{len(unlabelled):,} of {len(names):,} cells have no row in {table.label} and so no label, "
            f"first {quote(unlabelled[0])}."
        )
    if unused:
        remarks.note(
            f"{len(unused):,} of {len(table.rows):,} rows of {table.label} belong to no cell and are not "
            f"used, first {quote(unused[0])}.{_alike_hint(unused, unlabelled)}"
        )
    if replaced:
        remarks.note(f"columns of obs that {table.label} replaces: {quoted(replaced)}.")


def _alike_hint(rows: list[str], cells: list[str]) -> str:
    """Say how many names of rows without a cell only look different from those of cells without a row."""
    pairs = alike(rows, cells)
    if not pairs:
        return ""
    row, cell = pairs[0]
    return (
        f" {len(pairs):,} of them differ from a cell's name only in case, hyphens, dots, blanks, look-alike letters or "
        f"Unicode form, as {escaped(row)} and {escaped(cell)}: write both alike."
    )


def _longer_hint(what: str, names: list[str], others: list[str]) -> str:
    """Say what some names have before or after another name, as where samples were merged; ``""``: nothing."""
    known = set(others)
    for name in names[:LOOKED_AT]:
        for position, character in enumerate(name):
            if character not in _SEPARATORS:
                continue
            for part, rest, place in (
                (name[position + 1 :], name[: position + 1], "in front"),
                (name[:position], name[position:], "at the end"),
            ):
                if part in known:
                    return (
                        f" The {what} have more {place}, as {quote(rest)} in {quote(name)} for {quote(part)}: write "
                        "both alike."
                    )
    return ""


def _typed(values: list[str | None]) -> pd.Series[object]:
    """Return numbers where every value is one as a program writes numbers; ``01`` is a name, and stays text."""
    import pandas as pd

    text = pd.Series(values, dtype=object)
    filled = text[[value is not None and value.strip().lower() not in MISSING_WORDS for value in values]]
    if filled.empty or filled.str.fullmatch(r"\s*[+-]?0\d.*").any():
        return text
    try:
        numbers = pd.to_numeric(filled)
    except (ValueError, TypeError):
        return text
    return numbers.reindex(text.index)
