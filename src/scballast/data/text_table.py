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
from scballast.errors import DataError

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


def read_rows(path: Path, wording: Wording) -> list[tuple[int, list[str]]]:
    """Return the rows of a table that are not blank, the header first, with their line numbers.

    Raises
    ------
    DataError
        The file is missing, unreadable, or no table of text.
    """
    label = path.name or str(path)
    text = _text(path, label, wording)
    # Limits of the reader that foreign files may pass: a NUL ends a value, a value ends at 131,072 characters.
    if "\x00" in text:
        msg = f"{label}: this is not a table of text: it holds NUL bytes. {wording.allowed}."
        raise DataError(msg)
    separator, text = _separator(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return [(reader.line_num, row) for row in reader if any(value.strip() for value in row)]
    except csv.Error as error:
        where = f"{label}: line {reader.line_num}"
        msg = f"{where} cannot be read as a table: {error}. Check its quotes. {wording.allowed}."
        raise DataError(msg) from error


def _text(path: Path, label: str, wording: Wording) -> str:
    name = path.name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        msg = (
            f"{path}: there is no such file of {wording.content}. Check {wording.option}; it is relative to "
            f"{quote(Path.cwd())}."
        )
        raise DataError(msg) from error
    except OSError as error:
        msg = (
            f"{path}: the {wording.content} cannot be read: {error.strerror or error}. Check {wording.option} and its "
            "permissions."
        )
        raise DataError(msg) from error
    if suffix not in SEPARATORS:
        kind = quote(suffix or "without an extension")
        msg = f"{label}: {wording.content} in files of type {kind} are not read. {wording.allowed}."
        raise DataError(msg)
    try:
        compressed = path.suffix.lower() == ".gz" or raw.startswith(b"\x1f\x8b")
        content = gzip.decompress(raw) if compressed else raw
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{label}: this is not a whole gzip file ({error}). Copy or write it again."
        raise DataError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{label}: byte {error.start:,} is not UTF-8. Save the table as UTF-8 text. {wording.allowed}."
        raise DataError(msg) from error


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
