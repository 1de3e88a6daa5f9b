"""What a page of a report says, element by element."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd

VOID = {"meta", "img", "br", "path", "circle", "input"}


class Page(HTMLParser):
    """The elements of a page: tag, attributes, text inside."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        element = (tag, {name: value or "" for name, value in attributes}, [])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self._open.pop()[0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element[2].append(data)

    def tags(self) -> set[str]:
        return {tag for tag, _, _ in self.elements}


def rows_of(page: str, table: str) -> list[str]:
    inner = re.findall(rf'<table class="{table}">(.*?)</table>', page, flags=re.DOTALL)
    return [row for part in inner for row in re.findall(r"<tr.*?</tr>", part, flags=re.DOTALL)]


def numbers(html: str) -> list[tuple[float, str]]:
    """Pairs of the full number and the text that a reader sees."""
    found = re.findall(r'<data value="([^"]+)">([^<]+)</data>', html)
    return [(float(value), text) for value, text in found]


def stored_table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "tables" / f"{name}.csv", keep_default_na=False, float_precision="round_trip")
