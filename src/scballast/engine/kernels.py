"""Calls into the compiled CPU kernels (``native/ldvae.cpp``); they release the GIL."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from scballast.arrays import FloatArray, IntArray
from scballast.engine.counts import CountMatrix
from scballast.engine.members import MemberPlan
from scballast.engine.native import load_library
from scballast.engine.packing import Packed
from scballast.engine.settings import DECODERS, DISPERSIONS, LATENT_DISTRIBUTIONS, LIKELIHOODS

_SAMPLES_PER_THREAD = 512  # samples of cells below which a thread costs more than it saves
_SCALARS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


class _Spec(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("n_genes", "n_hidden", "n_latent", "n_layers", "n_batch")),
        *((name, ctypes.c_int32) for name in ("n_dispersion", "likelihood", "latent", "dispersion", "model_library")),
        ("decoder", ctypes.c_int32),
        ("dropout_rate", ctypes.c_double),
    )


class _Counts(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_void_p)
        for name in ("row_starts", "genes", "values", "batch", "label", "log_factorials", "log_totals")
    )


class _Categories(ctypes.Structure):
    _fields_ = tuple((n, ctypes.c_void_p) for n in ("batch_map", "label_map", "library_means", "library_vars"))


class _Optimiser(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_double) for name in ("lr", "weight_decay", "eps"))


class Sums(ctypes.Structure):
    """Sums over the cells of one or more minibatches, in nats."""

    _fields_ = tuple((name, ctypes.c_double) for name in ("reconstruction", "kl_latent", "kl_library", "loss"))


class KernelCounts:
    """The count matrix as the kernels see it; keeps the arrays alive."""

    def __init__(self, counts: CountMatrix) -> None:
        library = load_library("float")
        self._arrays = {name: getattr(counts, name) for name in ("row_starts", "genes", "values", "batch", "label")}
        self._arrays |= {name: np.empty(counts.n_cells) for name in ("log_factorials", "log_totals")}
        self.struct = _Counts(**{name: array.ctypes.data for name, array in self._arrays.items()})
        constants = self._arrays["log_factorials"], self._arrays["log_totals"]
        rows = ctypes.c_int64(0), ctypes.c_int64(counts.n_cells)
        library.row_constants(*_arguments(counts.row_starts, counts.values, *rows, *constants))


@dataclass(frozen=True)
class Evaluation:
    """Posteriors in evaluation mode, and reconstruction losses of samples from them.

    Attributes
    ----------
    latent
        (n, 2, n_latent) mean and standard deviation, before the softmax of ``ln``.
    library
        (n, 2) mean and standard deviation of the log library size; meaningless when it is observed.
    reconstruction
        (n_samples, n) negative log-likelihood in nats; NaN for a cell of a batch or label that the member
        has never seen.
    """

    latent: FloatArray
    library: FloatArray
    reconstruction: FloatArray


class MemberKernel:
    """The kernels bound to one member; evaluation may use several threads."""

    def __init__(
        self, plan: MemberPlan, counts: KernelCounts, dtype: type[np.floating] = np.float32, n_threads: int = 1
    ) -> None:
        self._n_threads = n_threads
        self._library = load_library(_SCALARS[np.dtype(dtype)])
        self._dtype, self._plan, self._counts = dtype, plan, counts
        model = plan.model
        self._spec = _Spec(
            n_genes=plan.n_genes,
            n_hidden=model.n_hidden,
            n_latent=model.n_latent,
            n_layers=model.n_layers,
            n_batch=plan.n_batch,
            n_dispersion={"gene": 1, "gene-batch": plan.n_batch, "gene-label": plan.n_labels}[model.dispersion],
            likelihood=LIKELIHOODS.index(model.gene_likelihood),
            latent=LATENT_DISTRIBUTIONS.index(model.latent_distribution),
            dispersion=DISPERSIONS.index(model.dispersion),
            model_library=not model.use_observed_lib_size,
            decoder=DECODERS.index(model.decoder),
            dropout_rate=model.dropout_rate,
        )
        self._priors = np.ascontiguousarray(np.stack([plan.library_means, plan.library_vars]), dtype=np.float64)
        self._categories = _Categories(
            batch_map=plan.batch_map.ctypes.data,
            label_map=plan.label_map.ctypes.data,
            library_means=self._priors[0].ctypes.data,
            library_vars=self._priors[1].ctypes.data,
        )
        train = plan.train
        self._optimiser = _Optimiser(lr=train.lr, weight_decay=train.weight_decay, eps=train.eps)
        self._common = _arguments(self._spec, self._counts.struct, self._categories)

    def train_epoch(
        self,
        packed: Packed,
        moments: tuple[FloatArray, FloatArray],
        order: IntArray,
        starts: IntArray,
        kl_weight: float,
        steps_done: int,
        stop: ctypes.c_int32,
        sums: Sums | None = None,
    ) -> tuple[int, Sums]:
        """Train on minibatches of one epoch in place; returns the steps made and the sums over cells.

        ``sums`` are those of the epoch's minibatches before these, and grow.
        """
        sums = Sums() if sums is None else sums
        minibatches = order, starts, ctypes.c_int32(len(starts) - 1)
        member = packed.parameters, *moments, packed.running, self._optimiser
        numbers = ctypes.c_double(kl_weight), ctypes.c_uint64(self._plan.seed), ctypes.c_int64(steps_done)
        arguments = _arguments(*minibatches, *member, *numbers, ctypes.byref(stop), sums)
        steps = self._library.train_epoch(*self._common, *arguments)
        return int(steps), sums

    def evaluate(
        self, packed: Packed, cells: IntArray, latent_noise: FloatArray, library_noise: FloatArray
    ) -> Evaluation:
        """Evaluate cells with ``latent_noise`` (n_samples, n, n_latent) and ``library_noise`` (n_samples, n)."""
        cells = _row(cells)
        n_threads = min(self._n_threads, 1 + len(cells) * len(latent_noise) // _SAMPLES_PER_THREAD)
        if n_threads == 1:
            return self._evaluate(packed, cells, latent_noise, library_noise)
        # Cells do not see each other in evaluation mode: any split gives the same figures.
        bounds = np.linspace(0, len(cells), n_threads + 1).astype(int)
        parts = [slice(*pair) for pair in itertools.pairwise(bounds)]
        with ThreadPoolExecutor(n_threads) as pool:
            results = list(
                pool.map(lambda p: self._evaluate(packed, cells[p], latent_noise[:, p], library_noise[:, p]), parts)
            )
        return join_evaluations(results)

    def _evaluate(
        self, packed: Packed, cells: IntArray, latent_noise: FloatArray, library_noise: FloatArray
    ) -> Evaluation:
        n_samples, n, n_latent = latent_noise.shape
        noise = [np.ascontiguousarray(a, self._dtype) for a in (latent_noise, library_noise)]
        latent = np.empty((n, 2, n_latent), self._dtype)
        library = np.zeros((n, 2), self._dtype)
        reconstruction = np.empty((n_samples, n))
        given = cells, ctypes.c_int32(n), packed.parameters, packed.running, ctypes.c_int32(n_samples), *noise
        self._library.evaluate_cells(*self._common, *_arguments(*given, latent, library, reconstruction))
        return Evaluation(latent, library, reconstruction)


def join_evaluations(results: Sequence[Evaluation]) -> Evaluation:
    """Put evaluations of consecutive cells together."""
    return Evaluation(
        np.concatenate([result.latent for result in results]),
        np.concatenate([result.library for result in results]),
        np.concatenate([result.reconstruction for result in results], axis=1),
    )


def _arguments(*given: Any) -> tuple[Any, ...]:
    """Return the places of arrays and of structures, and numbers of C as they are."""
    places = [ctypes.c_void_p(item.ctypes.data) if isinstance(item, np.ndarray) else item for item in given]
    return tuple(ctypes.byref(item) if isinstance(item, ctypes.Structure) else item for item in places)


def _row(cells: IntArray) -> IntArray:
    return np.ascontiguousarray(cells, dtype=np.int32)
