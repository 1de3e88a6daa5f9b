"""A fingerprint of the data that does not depend on the file format they came in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from scballast.arrays import IntArray
from scballast.data.columns import Column

BLOCK = 2**22


class ContentDigest:
    """The sha256 of counts, names and columns, from counts that come in parts.

    Of the matrix, CSR with sorted indices, no duplicates and no stored zeros, so that equal counts are equal bytes,
    first all row starts are added, then all gene numbers, then all values: of counts that are not in memory as a whole,
    in two passes.

    Parameters
    ----------
    n_genes
        Genes with counts.
    n_values
        (n_cells,) genes with a count in each cell.
    """

    def __init__(self, n_genes: int, n_values: IntArray) -> None:
        self._digest = hashlib.sha256(b"scballast data 1")
        self._digest.update(np.asarray((n_values.size, n_genes), dtype="<i8").tobytes())
        _update(self._digest, np.concatenate([[0], np.cumsum(n_values)]), "<i8")

    def add_genes(self, numbers: IntArray) -> None:
        """Add the gene numbers of the next cells."""
        _update(self._digest, numbers, "<i4")

    def add_values(self, values: np.ndarray[Any, Any]) -> None:
        """Add the counts of the next cells, after all gene numbers."""
        _update(self._digest, values, "<f4")

    def end(self, cells: Iterable[str], genes: Iterable[str], columns: Iterable[Column | None]) -> str:
        """Add names and columns, and return 64 hexadecimal digits.

        Parameters
        ----------
        cells, genes
            Names.
        columns
            Labels, batches and samples; None where there are none.
        """
        digest = self._digest
        _update_texts(digest, cells)
        _update_texts(digest, genes)
        for column in columns:
            digest.update(b"0" if column is None else b"1")
            if column is not None:
                _update_texts(digest, column.names)
                _update(digest, column.codes, "<i8")
        return digest.hexdigest()


def _update(digest: Any, values: np.ndarray[Any, Any], dtype: str) -> None:
    for start in range(0, values.size, BLOCK):
        digest.update(np.ascontiguousarray(values[start : start + BLOCK], dtype=dtype).data)


def _update_texts(digest: Any, texts: Iterable[str]) -> None:
    encoded = [text.encode() for text in texts]
    _update(digest, np.asarray([len(encoded), *map(len, encoded)], dtype=np.int64), "<i8")
    digest.update(b"".join(encoded))
