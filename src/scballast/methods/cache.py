"""Scores kept on disk by what they were computed from, shared by all trials and later sweeps."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from scballast.arrays import FloatArray
from scballast.results import whole

logger = logging.getLogger(__name__)

# Raised by hand when the computation of any cached score changes.
_VERSION = 3


class ScoreCache:
    """A folder of arrays, each named by a digest of what it was computed from.

    Writers of one entry may race: each writes a file of its own and renames it, so a reader finds a whole
    entry or none, and the last of equal entries stays.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.hits = 0
        self.misses = 0

    def scores(self, origin: Mapping[str, Any], compute: Callable[[], FloatArray]) -> FloatArray:
        """Return the array computed from ``origin``, from disk where it is there.

        Parameters
        ----------
        origin
            Everything that decides the result, as JSON values.
        compute
            Called when there is no entry.
        """
        if self._folder is None:
            self.misses += 1
            return compute()
        path = _path(self._folder, origin)
        stored = _read(path)
        if stored is not None:
            self.hits += 1
            return stored
        self.misses += 1
        scores = compute()
        try:
            with whole(path) as part, part.open("wb") as file:
                np.savez_compressed(file, scores=scores)
        except OSError as error:
            # A full or read-only disk; what cannot do without it says so where it writes its results.
            logger.warning("Scores are not kept in %s (%s); they are computed again next time.", self._folder, error)
            self._folder = None
        return scores

    def holds(self, origin: Mapping[str, Any]) -> bool:
        """Return whether there is an entry computed from ``origin``."""
        return self._folder is not None and _path(self._folder, origin).is_file()


def array_digest(*arrays: npt.NDArray[Any]) -> str:
    """Return a digest of the contents, types and shapes of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _path(folder: Path, origin: Mapping[str, Any]) -> Path:
    text = json.dumps({"version": _VERSION, **origin}, sort_keys=True)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"


def _read(path: Path) -> FloatArray | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return np.asarray(stored["scores"])
    except (FileNotFoundError, BadZipFile, KeyError, EOFError, ValueError):
        # An entry that a dying machine left torn is computed again.
        return None
