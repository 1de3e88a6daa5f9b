"""Files of single-cell counts: what kind a path is, and its contents as a source; every failure is explained."""

from __future__ import annotations

import difflib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from scballast.data.annotation import Annotation
from scballast.data.foreign_layouts import file_hint
from scballast.data.matrix_folders import read_matrix_folder
from scballast.data.names import quote, quoted, valid_text
from scballast.data.remarks import reading, refuse
from scballast.data.source import LAYERS, RAW_PATH, X_PATH, Source, StoredMatrix, quiet_anndata, source_of
from scballast.data.stored_rows import DenseRows, SparseRows, WholeMatrix
from scballast.data.tenx import read_10x_hdf5
from scballast.errors import DataError

HDF5_CHECK = Path(__file__).with_name("hdf5_check.py")
HDF5_CHECK_SECONDS = 300
COLUMNWISE = "0.2.0"
"""The encoding of tables, since anndata 0.8, whose columns each say how they are stored."""
SPARSE = "0.1.0"
"""The encoding of sparse matrices, since anndata 0.8."""
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
ALLOWED = "Allowed: .h5ad, .zarr, 10x .h5, or a folder with matrix.mtx, features.tsv and barcodes.tsv."


@contextmanager
def open_source(path: str) -> Iterator[Source]:
    """Open a file of counts for as long as its matrices are read.

    Parameters
    ----------
    path
        ``.h5ad``, ``.zarr``, 10x ``.h5``, or a folder with ``matrix.mtx[.gz]``.

    Raises
    ------
    DataError
        The file is missing, of another kind, truncated, damaged, locked or unreadable.
    """
    location = Path(path).expanduser()
    label = location.name or str(location)
    _probe(location, label)
    suffix = location.suffix.lower()
    if location.is_dir():
        yield from _open_folder(location, label)
    elif suffix in {".h5ad", ".h5", ".hdf5"} or (not file_hint(location.name) and _start(location) == HDF5_SIGNATURE):
        _check_hdf5(location, label)
        yield from _open_hdf5(location, label)
    else:
        hint = " Name the folder that it is in." if ".mtx" in location.suffixes else file_hint(location.name)
        what = f"files of type {quote(suffix)}" if suffix else "files without an extension that are not HDF5"
        refuse(label, f"{what} are not read.{hint} {ALLOWED}")


def _probe(path: Path, label: str) -> None:
    """Raise unless the path exists and can be read."""
    if "://" in str(path) or str(path).startswith(("s3:", "http:", "https:")):
        refuse(path, "remote addresses are not read. Download the file and set data.path to it.")
    try:
        path.stat()
        if path.is_dir():
            next(path.iterdir(), None)
        elif not path.is_file():
            refuse(label, f"this is not a regular file. {ALLOWED}")
        else:
            _start(path)
    except FileNotFoundError as error:
        raise DataError(missing_file(path)) from error
    except OSError as error:
        refuse(path, f"cannot be opened: {error.strerror or error}. Check the path and its permissions.")


def missing_file(path: Path) -> str:
    """Return what to say of a file that is not there."""
    folder = path.parent
    if not folder.is_dir():
        return f"{path}: there is no such file, nor the folder {quote(folder)}. Check data.path."
    there = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in {".h5ad", ".h5", ".zarr"})
    here = f" In that folder: {quoted(there)}." if there else ""
    near = difflib.get_close_matches(path.name, there, n=1)
    guess = f" Did you mean {quote(near[0])}?" if near else ""
    return f"{path}: there is no such file.{guess}{here} Check data.path; it is relative to {quote(os.getcwd())}."


def _check_hdf5(path: Path, label: str) -> None:
    start = _start(path)
    if not start:
        refuse(label, "the file is empty (0 bytes). Copy or write it again.")
    if start != HDF5_SIGNATURE:
        hint = " It is a gzip archive: unpack it first." if start.startswith(b"\x1f\x8b") else ""
        refuse(label, f"this is not an HDF5 file, whatever its name says.{hint} {ALLOWED}")


def _start(path: Path) -> bytes:
    """Return the first bytes, which tell what names such as ``counts`` or ``counts.h5ad.bak`` do not say."""
    with path.open("rb") as file:
        return file.read(len(HDF5_SIGNATURE))


def _survive(path: Path, label: str) -> None:
    """Raise if the HDF5 library crashes on the file, which a child process finds out: a crash has no message."""
    command = [sys.executable, "-I", str(HDF5_CHECK), str(path)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=HDF5_CHECK_SECONDS)
    except subprocess.TimeoutExpired:
        refuse(
            label,
            f"its structure could not be read in {HDF5_CHECK_SECONDS} seconds: it is damaged, or its disk "
            "does not answer. Copy the file to a local disk, or write it again.",
        )
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        refuse(label, f"the file is damaged: the HDF5 library crashes on it ({name}). Copy or write it again.")


def _open_hdf5(path: Path, label: str) -> Iterator[Source]:
    import h5py

    _survive(path, label)
    with reading(label):
        file = h5py.File(path, "r")
    with file:
        with reading(label):
            source = _hdf5_source(file, path, label)
        yield source


def _hdf5_source(file: Any, path: Path, label: str) -> Source:
    import anndata as ad
    import h5py

    if "obs" in file and "var" in file:
        if isinstance(file["obs"], h5py.Dataset):  # written before anndata 0.7
            with quiet_anndata():
                return source_of(ad.read_h5ad(path), label, owned=True)
        return _anndata_source(file, label)
    if path.suffix.lower() != ".h5ad":
        return read_10x_hdf5(file, path, label)
    refuse(label, f"obs and var are missing: this is not an AnnData file. It holds: {quoted(file)}. {ALLOWED}")


def _open_folder(path: Path, label: str) -> Iterator[Source]:
    if any((path / name).is_file() for name in (".zgroup", "zarr.json", ".zmetadata")):
        import zarr

        with reading(label):
            _refuse_pickles(path, label)
            with quiet_anndata():
                group = zarr.open_group(str(path), mode="r")
            if "obs" not in group or "var" not in group:
                refuse(label, f"obs and var are missing: this is not an AnnData store. It holds: {quoted(group)}.")
            source = _anndata_source(group, label)
        yield source
    else:
        with reading(label):
            matrix_source = read_matrix_folder(path, label)
        if matrix_source is None:
            refuse(label, f"this folder holds neither a zarr store nor matrix.mtx. {ALLOWED}")
        yield matrix_source


def _refuse_pickles(path: Path, label: str) -> None:
    """Raise if any array of a zarr store is pickled: to read it would run whatever code it holds."""
    for folder, _, names in os.walk(path):
        for name in {".zarray", ".zmetadata", "zarr.json"} & set(names):
            metadata = json.loads((Path(folder) / name).read_text(encoding="utf-8"))
            if _names_pickle(metadata):
                refuse(
                    label,
                    f"{quote(os.path.relpath(folder, path))} is stored as Python pickles, which are not "
                    "opened: they can run any code. Write the file again with anndata's write_zarr or write_h5ad.",
                )


def _names_pickle(metadata: Any) -> bool:
    if isinstance(metadata, dict):
        codec = metadata.get("id", metadata.get("name"))
        named = isinstance(codec, str) and codec.lower().rpartition(".")[2] == "pickle"
        return named or any(_names_pickle(value) for value in metadata.values())
    return isinstance(metadata, list) and any(_names_pickle(value) for value in metadata)


def _anndata_source(store: Any, label: str) -> Source:
    """Return an AnnData store as a source that reads only what is asked for: no embedding, graph or layer."""
    matrices = []
    var = partial(_annotation, store, "var", label)
    if "X" in store:
        matrices.append(StoredMatrix(X_PATH, _reader(store, "X", label), var))
    if "raw" in store and "X" in store["raw"] and "var" in store["raw"]:
        raw_var = partial(_annotation, store, "raw/var", label)
        matrices.append(StoredMatrix(RAW_PATH, _reader(store, "raw/X", label), raw_var))
    for name in store["layers"] if "layers" in store else ():
        matrices.append(StoredMatrix(f"{LAYERS}{name}", _reader(store, f"layers/{name}", label), var))
    return Source(label, _annotation(store, "obs", label), tuple(matrices))


def _reader(store: Any, key: str, label: str) -> Callable[[], Any]:
    def whole() -> Any:
        with reading(f"{label}: {key}"), quiet_anndata():
            return _read_element(store[key])

    def read() -> Any:
        with reading(f"{label}: {key}"):
            element = store[key]
            if hasattr(element, "shape") and hasattr(element, "dtype"):
                return DenseRows(element, f"{label}: {key}")
            if element.attrs.get("encoding-version") == SPARSE:
                if element.attrs.get("encoding-type") == "csr_matrix":
                    return SparseRows(element, _shape_of(element), f"{label}: {key}")
                if element.attrs.get("encoding-type") == "csc_matrix":
                    return WholeMatrix(element, _shape_of(element), f"{label}: {key}", whole)
        return whole()

    return read


def _shape_of(element: Any) -> tuple[int, int]:
    n_rows, n_columns = element.attrs["shape"]
    return int(n_rows), int(n_columns)


def _annotation(store: Any, key: str, label: str) -> Annotation:
    """Return a table of a store; its columns are read one by one when asked for."""
    import pandas as pd

    with reading(f"{label}: {key}"):
        element = store[key]
        if element.attrs.get("encoding-version") != COLUMNWISE:
            with quiet_anndata():
                table = _read_element(element)
            if not isinstance(table, pd.DataFrame):
                refuse(label, f"{key} is not a table. Write the file again with anndata.")
            return Annotation.of(table)
        names = [valid_text(name) for name in element.attrs["column-order"]]
        index = pd.Index(_read_element(element[element.attrs["_index"]]), dtype=object)

    def read(position: int) -> pd.Series[Any]:
        with reading(f"{label}: {key}[{quote(names[position])}]"):
            return pd.Series(_read_element(element[names[position]]), index=index)

    return Annotation(index, tuple(names), read, in_memory=False)


def _read_element(element: Any) -> Any:
    from anndata.io import read_elem

    return read_elem(element)
