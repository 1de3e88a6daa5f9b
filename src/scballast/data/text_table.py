"""Tables of text that people write by hand or export: .csv and .tsv, also compressed, read to the last oddity."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from scballast.data.names import quote
from scballast.data.remarks import refuse

_SAID = re.compile(r'"?sep=([,;\t| ])"?[ \t]*(?=[\r\n])', re.IGNORECASE)
_IN_BLANKS = re.compile(r'"[^"]*"( "[^"]*"| [^" ,;\t]+)+')
"""A line of R's ``write.table``."""
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
    lines = _rows(location, label, wording)
    if not lines:
        refuse(label, f"the table of {wording.content} is empty. {wording.allowed}.")
    return label, lines[0][1], lines[1:]


def check_width(label: str, header: list[str], number: int, values: list[str]) -> None:
    """Raise ``DataError`` unless a line has a value for each name of the header."""
    if len(values) != len(header):
        widths = f"line {number} has {len(values)} values where the header has {len(header)}."
        refuse(label, f"{widths} Quote values that hold the separator, and write the table again.")


def _rows(path: Path, label: str, wording: Wording) -> list[Row]:
    text = _text(path, label, wording)
    # Limits of the reader that foreign files may pass: a NUL ends a value, a value ends at 131,072 characters.
    if "\x00" in text:
        refuse(label, f"this is not a table of text: it holds NUL bytes. {wording.allowed}.")
    separator, text = _separator(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return [(reader.line_num, row) for row in reader if any(value.strip() for value in row)]
    except csv.Error as error:
        line = f"line {reader.line_num} cannot be read as a table: {error}."
        refuse(label, f"{line} Check its quotes. {wording.allowed}.")


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
