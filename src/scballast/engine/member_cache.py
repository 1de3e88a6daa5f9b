"""Trained members kept on disk by all that their training depends on, so that none is trained twice."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from scballast.engine.counts import CountMatrix
from scballast.engine.members import MemberPlan
from scballast.engine.packing import empty_packed
from scballast.engine.trained import TrainedMember
from scballast.results import whole

logger = logging.getLogger(__name__)

# Raised by hand when the same plan leads to other weights.
_VERSION = 1
_TENSOR = "tensor:"
_CURVE = "curve:"


@dataclass(frozen=True)
class MemberCache:
    """A folder of trained members; the least recently used go when it grows beyond its limit.

    Attributes
    ----------
    folder
        Made on first use.
    most_bytes
        Limit on the size of all entries.
    on_found
        Called with whether each member needs no training, before the others are trained.
    """

    folder: Path
    most_bytes: int
    on_found: Callable[[Sequence[bool]], None] | None = None

    def holds_any(self) -> bool:
        """Return whether there is an entry at all."""
        return any(self.folder.glob("*.npz"))

    def find(self, plan: MemberPlan, name: str) -> TrainedMember | None:
        """Return the member of a plan, if it is there; a look makes it the most recently used."""
        path = self.folder / f"{name}.npz"
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                tensors = {k.removeprefix(_TENSOR): stored[k] for k in stored.files if k.startswith(_TENSOR)}
                curves = {k.removeprefix(_CURVE): stored[k].tolist() for k in stored.files if k.startswith(_CURVE)}
                n_steps, n_epochs = (int(number) for number in stored["numbers"])
                epochs = [int(epoch) for epoch in stored["validation_epochs"]]
            packed = empty_packed(plan)
            packed.load(tensors)
            os.utime(path)
        except (FileNotFoundError, BadZipFile, KeyError, EOFError, ValueError):
            # An entry that a dying machine left torn, or that another process has just removed, is trained again.
            return None
        return TrainedMember(plan, packed, n_steps, n_epochs, curves, epochs)

    def keep(self, trained: TrainedMember, name: str) -> None:
        """Keep a member that has a result; one without is trained again, and fails again."""
        if trained.failure is not None:
            return
        arrays: dict[str, Any] = {f"{_TENSOR}{key}": value for key, value in trained.packed.state().items()}
        arrays |= {f"{_CURVE}{key}": np.asarray(values, dtype=np.float64) for key, values in trained.history.items()}
        arrays["numbers"] = np.array([trained.n_steps, trained.n_epochs])
        arrays["validation_epochs"] = np.array(trained.validation_epochs, dtype=np.int64)
        try:
            with whole(self.folder / f"{name}.npz") as part, part.open("wb") as file:
                np.savez(file, **arrays)
        except OSError as error:
            logger.warning("A trained model is not kept in %s (%s).", self.folder, error)

    def shrink(self) -> None:
        """Remove the least recently used entries until the rest keeps to the limit."""
        entries = []
        for path in self.folder.glob("*.npz"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process shrinks it too
                continue
            entries.append((status.st_mtime_ns, status.st_size, path))
        excess = sum(size for _, size, _ in entries) - self.most_bytes
        for _, size, path in sorted(entries, key=lambda entry: (entry[0], entry[2].name)):
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= size


def member_names(counts: CountMatrix, plans: Sequence[MemberPlan], form: str) -> list[str]:
    """Return each plan's name in the cache: a digest of the counts, the plan and the form that trains it.

    Parameters
    ----------
    form
        Device and kernels: their results are equal up to rounding only.
    """
    digest = hashlib.sha256(f"{_VERSION} {form} {counts.n_genes}".encode())
    for array in counts.content():
        digest.update(np.ascontiguousarray(array).data)
    return [_name(digest.copy(), plan) for plan in plans]


def _name(digest: hashlib._Hash, plan: MemberPlan) -> str:
    plain = {
        "model": asdict(plan.model),
        "train": asdict(plan.train),
        "seed": plan.seed,
        "max_epochs": plan.max_epochs,
        "n_warmup_epochs": plan.n_warmup_epochs,
    }
    digest.update(json.dumps(plain, sort_keys=True, default=str).encode())
    for array in (value for value in vars(plan).values() if isinstance(value, np.ndarray)):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]
