"""The annotation of cells or genes: names, and columns that are read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scballast.arrays import BoolArray
from scballast.data.names import valid_text
from scballast.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Annotation:
    """A table whose columns may still be in a file: one that nobody needs cannot stop a run.

    Attributes
    ----------
    index
        (n_rows,) names of the cells or genes.
    columns
        Names of the columns as text, in order; an object in memory may have a name twice.
    read
        Returns the column at a position; ``DataError`` where it cannot be read.
    in_memory
        Reading costs nothing.
    """

    index: pd.Index[Any]
    columns: tuple[str, ...]
    read: Callable[[int], pd.Series[Any]]
    in_memory: bool

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Annotation:
        """Return a table in memory as an annotation."""
        names = tuple(valid_text(name) for name in frame.columns)
        return cls(frame.index, names, lambda position: frame.iloc[:, position], in_memory=True)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.index)

    def positions(self, key: str) -> list[int]:
        """Return where a column of this name stands: nowhere, at one place, or at several."""
        return [position for position, name in enumerate(self.columns) if name == key]

    def readable(self) -> tuple[dict[str, pd.Series[Any]], dict[str, str]]:
        """Return every column that can be read, and why the others cannot, by name."""
        columns: dict[str, pd.Series[Any]] = {}
        unreadable: dict[str, str] = {}
        for position, name in enumerate(self.columns):
            try:
                columns.setdefault(name, self.read(position))
            except DataError as error:
                unreadable[name] = str(error)
        return columns, unreadable

    def each_readable(self) -> Iterator[tuple[str, pd.Series[Any]]]:
        """Yield every column that can be read with its name, also a second one of a name."""
        for position, name in enumerate(self.columns):
            with suppress(DataError):  # which is said where all are read
                yield name, self.read(position)

    def frame(self, keys: Iterable[str]) -> pd.DataFrame:
        """Return the columns of these names as a table; names that are not there are passed over.

        Raises
        ------
        DataError
            One of them cannot be read.
        """
        import pandas as pd

        positions = {key: self.positions(key)[0] for key in keys if key in self.columns}
        series = {key: self.read(position).array for key, position in positions.items()}
        return pd.DataFrame(series, index=self.index)

    def with_columns(self, added: pd.DataFrame) -> Annotation:
        """Return the annotation with more columns; those of the same name give way."""
        kept = [position for position, name in enumerate(self.columns) if name not in added.columns]
        names = (*(self.columns[position] for position in kept), *added.columns)

        def read(position: int) -> pd.Series[Any]:
            return self.read(kept[position]) if position < len(kept) else added.iloc[:, position - len(kept)]

        return Annotation(self.index, names, read, in_memory=self.in_memory)

    def take(self, rows: BoolArray) -> Annotation:
        """Return the rows where the mask is true."""
        if rows.all():
            return self
        return Annotation(
            self.index[rows], self.columns, lambda position: self.read(position).loc[rows], in_memory=self.in_memory
        )


def texts_of(values: pd.Series[Any]) -> list[str]:
    """Return the values of a column as text; ``""`` where one is missing."""
    return ["" if missing else valid_text(value) for value, missing in zip(values, values.isna(), strict=True)]
