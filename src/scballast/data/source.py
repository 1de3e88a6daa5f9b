"""Where counts come from: the annotation, and the matrices that may hold counts, each read when asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from scballast.data.names import quote, quoted
from scballast.data.raw_counts import holds_counts
from scballast.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

X_NAME = "X"
RAW_NAME = "raw"


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix that may hold counts.

    Attributes
    ----------
    title
        For messages: ``X``, ``layer 'counts'`` or ``.raw``.
    setting
        The value of ``data.layer`` that chooses it; None: the one read without ``data.layer``.
    read
        Returns the matrix, or an object that reads it row by row.
    var
        Returns the annotation of its genes.
    """

    title: str
    setting: str | None
    read: Callable[[], Any]
    var: Callable[[], pd.DataFrame]


@dataclass(frozen=True)
class Source:
    """An opened file, or an AnnData in memory.

    Attributes
    ----------
    label
        The file's name, for messages.
    obs
        Annotation of the cells; its index holds their names.
    matrices
        By the name that ``data.layer`` knows them under; ``X`` first where there is one.
    owned
        What ``read`` returns belongs to the reader alone.
    warnings
        What was done while reading.
    """

    label: str
    obs: pd.DataFrame
    matrices: Mapping[str, StoredMatrix]
    owned: bool = True
    warnings: tuple[str, ...] = ()

    def choose(self, layer: str | None) -> StoredMatrix:
        """Return the matrix that ``data.layer`` names; without it, ``X``.

        Raises
        ------
        DataError
            There is no such matrix; the message names those that hold counts.
        """
        name = layer or X_NAME
        if name in self.matrices:
            return self.matrices[name]
        what = f"no layer {quote(layer)}" if layer else "no matrix X"
        msg = f"{self.label}: there is {what}. {self.remedy(None)}"
        raise DataError(msg)

    def remedy(self, failed: StoredMatrix | None) -> str:
        """Say which matrices hold counts, after reading all but the one that ``failed``."""
        others = {name: matrix for name, matrix in self.matrices.items() if matrix is not failed}
        good = [matrix for matrix in others.values() if self._holds_counts(matrix)]
        if good:
            settings = " or ".join(f"data.layer={matrix.setting or 'null'}" for matrix in good)
            return f"Counts are in {', '.join(matrix.title for matrix in good)}: set {settings}."
        listed = f"none of the others here does: {quoted(others)}" if others else "there is no other matrix here"
        return (
            f"Point data.layer at a matrix that holds raw counts; {listed}. "
            "Save the counts from before normalisation, for example as a layer."
        )

    @staticmethod
    def _holds_counts(matrix: StoredMatrix) -> bool:
        try:
            return holds_counts(matrix.read())
        except DataError:  # a damaged matrix is no remedy for another one
            return False


def source_of(adata: AnnData, label: str, *, owned: bool = False) -> Source:
    """Return an AnnData as a source; its matrices may be in memory, backed by its file, or dask arrays."""
    matrices = {}
    if adata.X is not None:
        matrices[X_NAME] = StoredMatrix(X_NAME, None, lambda: adata.X, lambda: adata.var)
    raw = adata.raw
    if raw is not None:
        matrices[RAW_NAME] = StoredMatrix(".raw", RAW_NAME, lambda: raw.X, lambda: raw.var)
    for name in adata.layers:
        read = partial(adata.layers.__getitem__, name)
        matrices[str(name)] = StoredMatrix(f"layer {quote(name)}", str(name), read, lambda: adata.var)
    return Source(label, adata.obs, matrices, owned=owned)


@contextmanager
def quiet_anndata() -> Iterator[None]:
    """Silence what anndata says about old formats that it still reads, and about names, which are checked later."""
    from anndata import ImplicitModificationWarning, OldFormatWarning

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=OldFormatWarning)
        warnings.filterwarnings("ignore", "Moving element from .uns", FutureWarning)
        warnings.filterwarnings("ignore", "(Variable|Observation) names are not unique", UserWarning)
        warnings.filterwarnings("ignore", "Transforming to str index", ImplicitModificationWarning)
        yield
