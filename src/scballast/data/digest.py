"""A fingerprint of the data that does not depend on the file format they came in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from scballast.data.columns import Column

if TYPE_CHECKING:
    import scipy.sparse as sp

BLOCK = 2**22


def content_digest(
    counts: sp.csr_matrix, cells: Iterable[str], genes: Iterable[str], columns: Iterable[Column | None]
) -> str:
    """Return the sha256 of counts, names and columns.

    Parameters
    ----------
    counts : (n_cells, n_genes)
        CSR with sorted indices, no duplicates and no stored zeros, so that equal counts are equal bytes.
    cells, genes
        Names.
    columns
        Labels, batches and samples; None where there are none.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(b"scballast data 1")
    digest.update(np.asarray(counts.shape, dtype="<i8").tobytes())
    for values, dtype in ((counts.indptr, "<i8"), (counts.indices, "<i4"), (counts.data, "<f4")):
        _update(digest, values, dtype)
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
