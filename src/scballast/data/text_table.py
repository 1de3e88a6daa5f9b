"""Text read to the last oddity: tables that people write or export, and lists of genes and cells beside a matrix."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from scballast.data.names import quote
from scballast.data.remarks import refuse

_SAID = re.compile(r'"?sep=([,;\t| ])"?[ \t]*(?=[\r\n])', re.IGNORECASE)
_IN_BLANKS = re.compile(r'"[^"]*"( "[^"]*"| [^" ,;\t]+)+')
"""A line of R's ``write.table``."""
ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?.*")
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


@dataclass(frozen=True)
class Wording:
    """What messages about a table call it.

    Attributes
    ----------
    content
        What the table holds, in the plural.
    option
        What named the file: a key of the configuration, or a place on the command line.
    allowed
        A sentence, without its full stop, that says what such a file looks like.
    """

    content: str
    option: str
    allowed: str


Row = tuple[int, list[str]]
"""The number of a line, and its values."""


def read_table(path: str, wording: Wording) -> tuple[str, list[str], list[Row]]:
    """Return what messages call a table, its header, and its rows that are not blank.

    Raises
    ------
    DataError
        The file is missing, unreadable, empty, or no table of text.
    """
    location = Path(path).expanduser()
    label = location.name or str(location)
    text = _text(location, label, wording)
    # Limits of the reader that foreign files may pass: a NUL ends a value, a value ends at 131,072 characters.
    if "\x00" in text:
        refuse(label, f"this is not a table of text: it holds NUL bytes. {wording.allowed}.")
    separator, text = _separator(location, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        lines = [(reader.line_num, row) for row in reader if any(value.strip() for value in row)]
    except csv.Error as error:
        line = f"line {reader.line_num} cannot be read as a table: {error}."
        refuse(label, f"{line} Check its quotes. {wording.allowed}.")
    if not lines:
        refuse(label, f"the table of {wording.content} is empty. {wording.allowed}.")
    return label, lines[0][1], lines[1:]


def check_width(label: str, header: list[str], number: int, values: list[str]) -> None:
    """Raise ``DataError`` unless a line has a value for each name of the header."""
    if len(values) != len(header):
        widths = f"line {number} has {len(values)} values where the header has {len(header)}."
        refuse(label, f"{widths} Quote values that hold the separator, and write the table again.")


def _text(path: Path, label: str, wording: Wording) -> str:
    name = path.name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        here = f"Check {wording.option}; it is relative to {quote(Path.cwd())}."
        refuse(path, f"there is no such file of {wording.content}. {here}")
    except OSError as error:
        reason = error.strerror or error
        refuse(path, f"the {wording.content} cannot be read: {reason}. Check {wording.option} and its permissions.")
    if suffix not in SEPARATORS:
        kind = quote(suffix or "without an extension")
        refuse(label, f"{wording.content} in files of type {kind} are not read. {wording.allowed}.")
    try:
        compressed = path.suffix.lower() == ".gz" or raw.startswith(b"\x1f\x8b")
        content = gzip.decompress(raw) if compressed else raw
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        refuse(label, f"this is not a whole gzip file ({error}). Copy or write it again.")
    except UnicodeDecodeError as error:
        refuse(label, f"byte {error.start:,} is not UTF-8. Save the table as UTF-8 text. {wording.allowed}.")


def _separator(path: Path, text: str) -> tuple[str, str]:
    """Return the separator and the text without what stands above the header; its lines keep their numbers.

    The separator is what Excel's first line says (``sep=;``), or what the name promises if the header has it, else one
    that the header has; a blank, if every name of the header is quoted, as R's ``write.table`` writes it.
    """
    said = _SAID.match(text)
    if said is not None:
        return said[1], text[said.end() :]
    promised = SEPARATORS[Path(path.name.lower().removesuffix(".gz")).suffix]
    separators = (promised, "\t", ",", ";")
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        separator_of_line = next((separator for separator in separators if separator in line), None)
        if separator_of_line is None and line.lstrip().startswith("#"):
            continue  # a comment
        if line.strip():
            above = "\n" * number if any(map(str.strip, lines[:number])) else ""
            both = (line, *lines[number + 1 : number + 2])  # of one column, the header has no blank
            blank = any(_IN_BLANKS.fullmatch(part.strip()) for part in both) and line.lstrip().startswith('"')
            return " " if blank else separator_of_line or promised, above + "".join(lines[number:]) if above else text
    return promised, text


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
        separator = _list_separator(lines)
        rows = [line.split(separator, maxsplit=2 if separator == " " else -1) for line in lines]
        if rows and all(len(v) > 1 and v[0] == v[-1] == '"' for row in rows for v in row if not v.isdigit()):
            rows = [[value.strip('"') for value in row] for row in rows]
    while rows and not any(rows[-1]):
        rows.pop()
    return _without_row_numbers(rows)


def _list_separator(lines: list[str]) -> str:
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
