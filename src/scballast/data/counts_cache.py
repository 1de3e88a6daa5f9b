"""Analysed counts of large files kept on disk by all that they depend on, and mapped into memory, not read."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from scballast.data.analysed import AnalysedCounts, CountsRequest
from scballast.data.blocks import NewArray, canonical_csr
from scballast.errors import DataError
from scballast.results import whole

logger = logging.getLogger(__name__)

# Raised by hand when the same file leads to other counts, genes, digest or warnings.
_VERSION = 3
_TEXTS = "texts.json"
_MATRICES = ("counts", "beside")
_PARTS = ("data", "indices", "indptr")
_ABANDONED_SECONDS = 6 * 3600


@dataclass(frozen=True)
class CountsCache:
    """A folder of analysed counts; the least recently used go when it grows beyond its limit.

    Attributes
    ----------
    folder
        Made on first use.
    most_bytes
        Limit on the size of all entries; larger ones are not kept.
    is_disk
        The counts are never in memory: they are written as they are read, and where they cannot be there are none.
    """

    folder: Path
    most_bytes: int
    is_disk: bool = False

    def find(self, name: str) -> AnalysedCounts | None:
        """Return an entry, if it is there; a look makes it the most recently used.

        The counts are mapped: processes of one machine share them, and what one of them writes is its own.
        """
        entry = self.folder / name
        try:
            counts = _read(entry)
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            # None, one that a dying machine left torn, or one that another process has just removed: read again.
            return None
        with suppress(OSError):  # in a folder that others keep
            os.utime(entry)
        return counts

    def keep(self, counts: AnalysedCounts, name: str) -> AnalysedCounts:
        """Write an entry, and return it as it lies on disk; where that cannot be, as it is."""
        size = sum(array.nbytes for array in _arrays(counts).values())
        if size > self.most_bytes:
            logger.info(
                "The prepared counts, %.1f GiB, are not kept: cache_gib is %.1f.", size / 2**30, self.most_bytes / 2**30
            )
            return counts
        entry = self.folder / name
        try:
            self._make_room(size)
            if self.find(name) is None:  # no other process has written it meanwhile
                if not entry.is_dir():
                    entry.unlink(missing_ok=True)  # a plain file in its place, of which a folder could not take it
                with whole(entry) as part:
                    part.mkdir()
                    _write(counts, part)
        except OSError as error:  # a full or read-only disk
            logger.warning("The prepared counts are not kept in %s (%s).", self.folder, error)
        return self.find(name) or counts

    def written(self, make: Callable[[NewArray], AnalysedCounts], name: str) -> AnalysedCounts:
        """Have an entry made whose counts go to disk as they come, and return it as it lies there.

        Parameters
        ----------
        make
            Is told where to put the counts, and returns them.
        name
            Of the entry.

        Raises
        ------
        DataError
            It cannot be written.
        """
        entry = self.folder / name
        try:
            with whole(entry) as part, ExitStack() as opened:
                part.mkdir()

                def new_array(kind: str, number: int, dtype: type[np.number]) -> WrittenArray:
                    if kind == _PARTS[0]:  # values and column numbers, and both again in random order
                        self._make_room(4 * np.dtype(dtype).itemsize * number)
                    return opened.enter_context(closing(WrittenArray(part / f"counts.{kind}.npy", number, dtype)))

                _write(make(new_array), part)
                if (written := self.find(name)) is not None:
                    # Another process was faster: its entry may be in use, with the copy that lies in it.
                    raise _WrittenElsewhereError
        except _WrittenElsewhereError:
            assert written is not None
            return written
        except OSError as error:
            message = (
                f"{self.folder}: the prepared counts, which train.data=stream leaves on disk, cannot be written "
                f"({error.strerror or error}). Make room, name another folder with runs_dir=FOLDER, or use "
                "train.data=memory."
            )
            raise DataError(message) from error
        return _read(entry)

    def _make_room(self, size: int) -> None:
        """Remove the least recently used entries until there is room, and what killed processes left."""
        entries = []
        for path in self.folder.glob("*"):
            try:
                files = [file.stat() for file in path.iterdir()]
                used = path.stat().st_mtime
                if path.name.startswith("."):  # at work as long as its files grow
                    used = max([used, *(file.st_mtime for file in files)])
                entries.append((used, path, sum(file.st_size for file in files)))
            except OSError:  # another process removes it too
                continue
        for used, path, _ in entries:
            if path.name.startswith(".") and used < time.time() - _ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        kept = sorted(entry for entry in entries if not entry[1].name.startswith("."))
        excess = sum(held for _, _, held in kept) + size - self.most_bytes
        for _, path, held in kept:
            if excess <= 0:
                return
            gone = path.with_name(f".{path.name}.{os.getpid()}.gone")
            with suppress(FileNotFoundError):  # another process removes it too
                os.replace(path, gone)  # at once, so that nobody finds half of it; who has mapped it keeps it
            shutil.rmtree(gone, ignore_errors=True)
            excess -= held


class _WrittenElsewhereError(Exception):
    """An entry that is not needed any more."""


class WrittenArray:
    """Numbers that come one part after another, into a file.

    Parameters
    ----------
    path, number, dtype
        The file, and how many numbers of which type it will hold.
    """

    def __init__(self, path: Path, number: int, dtype: type[np.number]) -> None:
        self._path, self._dtype = path, np.dtype(dtype)
        self._file = path.open("wb")
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (number,)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, values: np.ndarray[Any, Any]) -> None:
        """Take the next ones."""
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).data)

    def end(self) -> np.ndarray[Any, Any]:
        """Return all of them, mapped."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()
        return _mapped(self._path)

    def close(self) -> None:
        """Write no more."""
        self._file.close()


def request_name(request: CountsRequest, places: Sequence[Path]) -> str:
    """Return a digest of all that analysed counts depend on.

    That a file is the same is told by its place, size and times, and those of every file in a folder; everything else
    by its content: which cells and features, their names, the columns, and the settings of reading and selection.
    Of a folder of data ``places`` are what the counts are read from: what else lies in it may be these very runs.
    """
    digest = hashlib.sha256()
    columns = (request.labels, request.batches, request.samples)
    plain = {
        "version": (_VERSION, version("scballast"), version("scikit-misc")),
        "file": [[str(path.resolve()), *file_identities(path)] for path in places],
        "matrix": request.matrix.path,
        "source": request.source,
        "rounded": request.rounded,
        "duplicates": request.duplicates,
        "n_top_genes": request.n_top_genes,
        "columns": [None if column is None else (column.key, column.names) for column in columns],
    }
    digest.update(json.dumps(plain, sort_keys=True).encode())
    for names in (request.cell_names, request.gene_names):
        digest.update(json.dumps(names).encode())
    masks = () if request.beside is None else (request.beside,)
    for array in (request.kept, request.genes, *(column.codes for column in columns if column is not None), *masks):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]


def file_identities(path: Path) -> Iterable[tuple[str, int, int, int, int]]:
    """Return name, number, size and times of a file, or of every file of a folder."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        try:
            status = file.stat()
        except OSError:  # it went meanwhile
            continue
        yield str(file.relative_to(path)), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _arrays(counts: AnalysedCounts) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of an entry by the name of their file."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for field in fields(counts):
        value = getattr(counts, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif sp.issparse(value):
            arrays |= {f"{field.name}.{part}": getattr(value, part) for part in _PARTS}
    return arrays


def _write(counts: AnalysedCounts, folder: Path) -> None:
    for name, array in _arrays(counts).items():
        if (folder / f"{name}.npy").exists():  # written as it came
            continue
        with (folder / f"{name}.npy").open("wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
    texts = {
        "digest": counts.digest,
        "read_warnings": counts.read_warnings,
        "selection_warnings": counts.selection_warnings,
        "shapes": {name: getattr(counts, name).shape for name in _MATRICES if getattr(counts, name) is not None},
    }
    with (folder / _TEXTS).open("w", encoding="utf-8") as texts_file:
        json.dump(texts, texts_file)
        texts_file.flush()
        os.fsync(texts_file.fileno())


def _read(folder: Path) -> AnalysedCounts:
    texts = json.loads((folder / _TEXTS).read_text(encoding="utf-8"))
    matrices: dict[str, Any] = dict.fromkeys(_MATRICES)
    for name, shape in texts["shapes"].items():
        data, indices = (_mapped(folder / f"{name}.{part}.npy") for part in ("data", "indices"))
        starts = np.load(folder / f"{name}.indptr.npy", allow_pickle=False)
        matrices[name] = canonical_csr(data, indices, starts, tuple(shape))
    plain = {
        name: np.load(folder / f"{name}.npy", allow_pickle=False)
        for name in ("n_values", "totals", "duplicate_of", "counted", "selected")
    }
    warnings: dict[str, Any] = {name: tuple(texts[name]) for name in ("read_warnings", "selection_warnings")}
    return AnalysedCounts(**plain, **matrices, **warnings, digest=texts["digest"])


def _mapped(path: Path) -> np.ndarray[Any, Any]:
    """Return an array in a file as memory of which changed pages alone are this process's own."""
    large = path.stat().st_size > 2**12
    return np.asarray(np.load(path, mmap_mode="c" if large else None, allow_pickle=False))
