"""The lists of genes and cells beside a matrix: text of any encoding, separator and quoting that tools write."""

from __future__ import annotations

import csv
import gzip
import io
import re
from itertools import product
from pathlib import Path

ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?.*")


def is_csv(path: Path) -> bool:
    """Tell by its name whether a list has commas and a header."""
    return path.name.removesuffix(".gz").endswith(".csv")


def list_text(path: Path) -> str:
    """Return a list as text, compressed or not, of UTF-8 or, as some spreadsheets write it, UTF-16."""
    raw = path.read_bytes()
    if raw.startswith(b"\x1f\x8b"):
        raw = gzip.decompress(raw)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", "replace")
    if b"\0" in raw[:4]:
        return raw.decode("utf-16-be" if raw[:1] == b"\0" else "utf-16-le", "replace")
    return raw.decode("utf-8-sig", "replace")


def list_rows(path: Path) -> list[list[str]]:
    """Return the rows of a list of genes or cells, without quotes and running numbers that a writer added."""
    text = list_text(path)
    if is_csv(path):
        rows = list(csv.reader(io.StringIO(text, newline="")))
    else:
        # No quoting: gene names such as 5' and 3" stand as they are.
        lines = text.splitlines()
        separator = _separator(lines)
        rows = [line.split(separator, maxsplit=2 if separator == " " else -1) for line in lines]
        if rows and all(len(v) > 1 and v[0] == v[-1] == '"' for row in rows for v in row if not v.isdigit()):
            rows = [[value.strip('"') for value in row] for row in rows]
    while rows and not any(rows[-1]):
        rows.pop()
    return _without_row_numbers(rows)


def _separator(lines: list[str]) -> str:
    """Return what separates the columns of a list: tabs, or what every line has in their place as often."""
    filled = [line for line in lines if line]
    if any("\t" in line for line in filled):
        return "\t"
    for separator in (",", ";"):
        if len({line.count(separator) for line in filled}) == 1 and separator in filled[0]:
            return separator
    in_columns = [line.split(" ", maxsplit=2) for line in filled]
    by_id = bool(filled) and all(ENSEMBL.fullmatch(first) for first, *_ in in_columns)
    return " " if by_id or (filled and all(len(row) == 2 for row in in_columns)) else "\t"


def _without_row_numbers(rows: list[list[str]]) -> list[list[str]]:
    """Drop a first column of 0, 1, 2, … or 1, 2, 3, …, with or without a header: pandas and R write it."""
    for start, n_header in product((0, 1), (0, 1)):
        body = rows[n_header:]
        if len(body) > 1 and all(len(row) > 1 and row[0] == str(number) for number, row in enumerate(body, start)):
            header = [row if len(row) < len(body[0]) else row[1:] for row in rows[:n_header]]
            return [*header, *(row[1:] for row in body)]
    return rows
