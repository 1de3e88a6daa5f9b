"""Where counts come from: the annotation, and the matrices that may hold counts, each read when asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scballast.config.words import shown_word
from scballast.data.annotation import Annotation
from scballast.data.features import gene_features
from scballast.data.names import quote
from scballast.data.raw_counts import holds_counts
from scballast.data.remarks import Remarks, refuse
from scballast.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

X_PATH = "X"
RAW_PATH = "raw/X"
RAW_NAME = "raw"
LAYERS = "layers/"


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix that may hold counts.

    Attributes
    ----------
    path
        Where AnnData keeps it: ``X``, ``raw/X`` or ``layers/counts``; no two have the same.
    read
        Returns the matrix, or an object that reads it row by row.
    var
        Returns the annotation of its genes.
    """

    path: str
    read: Callable[[], Any]
    var: Callable[[], Annotation]

    @property
    def title(self) -> str:
        """Its name in messages: ``X``, ``.raw`` or ``layer 'counts'``."""
        if self.path.startswith(LAYERS):
            return f"layer {quote(self.path.removeprefix(LAYERS))}"
        return ".raw" if self.path == RAW_PATH else self.path

    @property
    def names(self) -> tuple[str, ...]:
        """The values of ``data.layer`` that can mean it: a layer may be called ``X`` or ``raw`` too."""
        if self.path.startswith(LAYERS):
            return (self.path.removeprefix(LAYERS), self.path)
        return (RAW_NAME, RAW_PATH) if self.path == RAW_PATH else (X_PATH,)


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
        ``X`` first where there is one, then ``.raw``, then the layers.
    owned
        What ``read`` returns belongs to the reader alone.
    warnings
        What was done while reading.
    path
        The file or folder that it is read from; None: it is in memory.
    files
        Those of the folder that are read; none: the folder is a zarr store.
    """

    label: str
    obs: Annotation
    matrices: tuple[StoredMatrix, ...]
    owned: bool = True
    warnings: tuple[str, ...] = ()
    path: Path | None = None
    files: tuple[Path, ...] = ()

    def places(self, matrix: StoredMatrix) -> tuple[Path, ...]:
        """Return the files and folders that a matrix is read from; none: it is in memory.

        What else lies in a folder, such as the folder of the runs, is no part of the data.
        """
        if self.path is None or self.files:
            return self.files
        if not self.path.is_dir():
            return (self.path,)
        descriptions = (path for path in sorted(self.path.iterdir()) if path.is_file())
        return (*descriptions, self.path / matrix.path)

    def choose(self, layer: str | None) -> StoredMatrix:
        """Return the matrix that ``data.layer`` names; without it, ``X``.

        Raises
        ------
        DataError
            There is no such matrix, and the message names those that hold counts; or the name can mean two.
        """
        if layer:
            matching = [matrix for matrix in self.matrices if layer in matrix.names]
        else:
            matching = [matrix for matrix in self.matrices if matrix.path == X_PATH]
        if len(matching) == 1:
            return matching[0]
        if matching:
            meanings = " or ".join(f"{matrix.title} ({self.setting(matrix)})" for matrix in matching)
            refuse(self.label, f"data.layer={layer} can mean {meanings}. Set data.layer to the one that is meant.")
        what = f"no layer {quote(layer)}" if layer else "no matrix X"
        refuse(self.label, f"there is {what}. {self.remedy(None)}")

    def setting(self, matrix: StoredMatrix) -> str:
        """Return the word of the command line that means this matrix and no other."""
        if matrix.path == X_PATH:
            return "data.layer=null"
        taken = {name for other in self.matrices if other is not matrix for name in (*other.names, "null")}
        return shown_word("data.layer", next((name for name in matrix.names if name not in taken), matrix.path))

    def remedy(self, failed: StoredMatrix | None) -> str:
        """Say which matrices other than the one that ``failed`` hold counts, after reading them, or that none does."""
        others = [matrix for matrix in self.matrices if matrix is not failed]
        good = [matrix for matrix in others if self._holds_counts(matrix)]
        if good:
            settings = " or ".join(self.setting(matrix) for matrix in good)
            return f"Counts are in {', '.join(matrix.title for matrix in good)}: set {settings}."
        titles = ", ".join(matrix.title for matrix in others[:8])
        listed = f"none of the others here does: {titles}" if others else "there is no other matrix here"
        return (
            f"Point data.layer at a matrix that holds raw counts; {listed}. "
            "Save the counts from before normalisation, for example as a layer."
        )

    def _holds_counts(self, matrix: StoredMatrix) -> bool:
        try:
            genes = gene_features(matrix.var(), [], Remarks(self.label)).genes
            return holds_counts(matrix.read(), genes)
        except DataError:  # a damaged matrix is no remedy for another one
            return False


def source_of(adata: AnnData, label: str, *, owned: bool = False, warnings: tuple[str, ...] = ()) -> Source:
    """Return an AnnData as a source; its matrices may be in memory, backed by its file, or dask arrays."""
    var = partial(Annotation.of, adata.var)
    matrices = []
    if adata.X is not None:
        matrices.append(StoredMatrix(X_PATH, lambda: adata.X, var))
    raw = adata.raw
    if raw is not None:
        matrices.append(StoredMatrix(RAW_PATH, lambda: raw.X, lambda: Annotation.of(raw.var)))
    for name in adata.layers:
        read = partial(adata.layers.__getitem__, name)
        matrices.append(StoredMatrix(f"{LAYERS}{name}", read, var))
    return Source(label, Annotation.of(adata.obs), tuple(matrices), owned=owned, warnings=warnings)


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
