"""Training beyond memory: all members from one pass over the disk per epoch, a window of cells at a time.

Each window is read once, while the members train on the one before it. A member takes those of its cells that are in
it, in whole minibatches; what is left over waits for the next window, so that minibatches are those of training in
memory with the same order (:func:`~scballast.engine.windows.windowed_order`), and so is the result, bit for bit.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scballast.arrays import BoolArray, FloatArray, IntArray
from scballast.engine.kernels import Evaluation, KernelCounts, MemberKernel
from scballast.engine.members import MemberPlan
from scballast.engine.packing import Packed
from scballast.engine.posterior import validation_noise
from scballast.engine.shuffled_copy import ShuffledRows
from scballast.engine.stored_counts import Rows, StoredCounts
from scballast.engine.trained import TrainedMember
from scballast.engine.trainer_cpu import MemberTraining, Progress, finish
from scballast.engine.windows import Windows, windowed_order


def train_streamed(
    counts: StoredCounts,
    windows: Windows,
    plans: Sequence[MemberPlan],
    n_threads: int,
    on_progress: Progress | None = None,
    on_trained: Callable[[int, TrainedMember], None] | None = None,
) -> list[TrainedMember]:
    """Train members side by side; the result of each does not depend on the others or on ``n_threads``.

    Parameters
    ----------
    on_progress
        Called with the number of members trained since the last call; a part of each counts as its part.
    on_trained
        Called with each member, and its position, when its last epoch is done.
    """
    trainings = [MemberTraining(plan) for plan in plans]
    results: dict[int, TrainedMember] = {}
    stop, told = ctypes.c_int32(0), 0

    def tell(share: float) -> None:
        """Count members as done by the epochs that are done of them, and the share of the one under way."""
        nonlocal told
        parts = ((t.epoch + share) / t.plan.max_epochs if t.active else 1.0 for t in trainings)
        done = math.floor(sum(parts) + 1e-6)
        if on_progress is not None and done > told:
            on_progress(done - told)
        told = max(told, done)

    n_workers = max(1, min(n_threads, len(plans)))
    with ThreadPoolExecutor(n_workers) as pool, ThreadPoolExecutor(1) as reader:
        passes = _Passes(counts, windows, pool, reader, stop)
        try:
            while active := {i: training for i, training in enumerate(trainings) if training.active}:
                for share in passes.train(list(active.values())):
                    tell(share)
                due = [training for training in active.values() if training.end_epoch()]
                if due:
                    passes.validate(due)
                done = [i for i, training in active.items() if not training.active]
                for i in done:
                    results[i] = trainings[i].result(trainings[i].packed)
                    if on_trained is not None:
                        on_trained(i, results[i])
        except BaseException:
            stop.value = 1
            raise
    return [results[i] for i in range(len(plans))]


@dataclass(frozen=True)
class _Epoch:
    """One member's order in an epoch, its minibatches, and how many of them are whole at each window's end."""

    training: MemberTraining
    order: IntArray
    ends: IntArray
    starts: IntArray
    n_whole: IntArray

    @classmethod
    def of(cls, training: MemberTraining, windows: Windows) -> _Epoch:
        plan = training.plan
        order, ends = windowed_order(plan.train_cells, plan.seed, training.epoch, windows)
        starts = plan.starts
        return cls(training, order, ends, starts, np.searchsorted(starts, ends, side="right") - 1)

    def minibatches(self, window: int) -> slice:
        """Return the minibatches that are made in a window."""
        return slice(int(self.n_whole[window - 1]) if window else 0, int(self.n_whole[window]))

    def left_over(self, window: int) -> IntArray:
        """Return the cells that wait for the next window."""
        return self.order[self.starts[self.n_whole[window]] : self.ends[window]]

    def train(self, window: int, rows: Rows, counts: KernelCounts, stop: ctypes.c_int32) -> None:
        """Make the minibatches of a window."""
        made = self.minibatches(window)
        starts = self.starts[made.start : made.stop + 1]
        cells = rows.places(self.order[starts[0] : starts[-1]])
        self.training.train(MemberKernel(self.training.plan, counts), cells, starts - starts[0], stop)


@dataclass
class _Passes:
    """Passes over the counts, for training and for validation."""

    counts: StoredCounts
    windows: Windows
    pool: ThreadPoolExecutor
    reader: ThreadPoolExecutor
    stop: ctypes.c_int32
    resident: tuple[Rows, KernelCounts] | None = None

    @cached_property
    def _rows(self) -> ShuffledRows:
        return ShuffledRows(self.counts, self.windows)

    def train(self, trainings: Sequence[MemberTraining]) -> Iterator[float]:
        """Train each member for one epoch; yields the share of it that is done, after each window."""
        epochs = list(self.pool.map(lambda training: _Epoch.of(training, self.windows), trainings))
        needed = self._needed(epoch.order for epoch in epochs)
        if self.resident is None and np.count_nonzero(needed) <= self.windows.window_cells:
            # Members only ever end: what is needed now is all that will be.
            rows = self.counts.read(np.flatnonzero(needed), gap=0)
            self.resident = rows, KernelCounts(rows.counts)
        if self.resident is not None:
            self._train_from(range(self.windows.n_windows), epochs, *self.resident)
            yield 1.0
            return
        for window, (rows, counts) in enumerate(self._ahead(self._read(epochs, needed))):
            self._train_from([window], epochs, rows, counts)
            yield (window + 1) / self.windows.n_windows

    def _train_from(self, windows: Sequence[int], epochs: list[_Epoch], rows: Rows, counts: KernelCounts) -> None:
        def run(epoch: _Epoch) -> None:
            for window in windows:
                if epoch.minibatches(window).stop > epoch.minibatches(window).start:
                    epoch.train(window, rows, counts, self.stop)

        # The longest first, so that no core waits for a large member that started last.
        longest_first = sorted(epochs, key=lambda epoch: -len(epoch.order) * epoch.training.plan.model.n_latent)
        finish([self.pool.submit(run, epoch) for epoch in longest_first], self.pool, self.stop)

    def _read(self, epochs: list[_Epoch], needed: BoolArray) -> Iterator[tuple[Rows, KernelCounts]]:
        """Yield the rows of each window, and of what the windows before left over."""
        size = self.windows.block_cells
        window_of_block = self.windows.of_blocks(epochs[0].training.epoch)
        before: Rows | None = None
        for window in range(self.windows.n_windows):
            blocks = np.flatnonzero(window_of_block == window)
            places = (blocks[:, None] * size + np.arange(size)).ravel()
            cells = self.windows.cell_at[places[places < self.counts.n_cells]]
            rows = self._rows.read(cells[needed[cells]], gap=size // 2)
            if before is not None:
                left = np.unique(np.concatenate([epoch.left_over(window - 1) for epoch in epochs]))
                rows = rows.and_of(before, left, self.counts)
            before = rows
            yield rows, KernelCounts(rows.counts)

    def validate(self, trainings: Sequence[MemberTraining]) -> None:
        """Validate each member on its validation cells."""
        checks = list(self.pool.map(_Validation, trainings))
        needed = self._needed(check.training.plan.validation_cells for check in checks)
        cells = self.windows.cell_at[needed[self.windows.cell_at]]

        def read() -> Iterator[tuple[Rows, KernelCounts]]:
            for start in range(0, len(cells), self.windows.window_cells):
                rows = self._rows.read(cells[start : start + self.windows.window_cells], gap=0)
                yield rows, KernelCounts(rows.counts)

        for rows, counts in self._ahead(read()):
            finish([self.pool.submit(check.add, rows, counts) for check in checks], self.pool, self.stop)
        for check in checks:
            check.training.validated(check.result, self.counts)

    def _needed(self, cells: Iterator[IntArray]) -> BoolArray:
        needed = np.zeros(self.counts.n_cells, dtype=bool)
        for of_member in cells:
            needed[of_member] = True
        return needed

    def _ahead(self, items: Iterator[tuple[Rows, KernelCounts]]) -> Iterator[tuple[Rows, KernelCounts]]:
        """Yield items of which the next one is made while one is used."""
        coming = self.reader.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = self.reader.submit(next, items, None)
            yield item


class _Validation:
    """The posteriors of one member's validation cells, from one part of them after another."""

    def __init__(self, training: MemberTraining) -> None:
        self.training = training
        plan = training.plan
        n_cells, n_latent = len(plan.validation_positions), plan.model.n_latent
        # The kernels take the noise as float32 whatever it is.
        self._noise = [draws.astype(np.float32) for draws in validation_noise(plan, training.steps)]
        self.result = Evaluation(
            np.empty((n_cells, 2, n_latent), np.float32), np.empty((n_cells, 2), np.float32), np.empty((1, n_cells))
        )

    def add(self, rows: Rows, counts: KernelCounts) -> None:
        """Take those of the rows that are the member's."""
        cells = self.training.plan.validation_cells
        held = np.flatnonzero(rows.hold(cells))
        if not len(held):
            return
        noise = [draws[:, held] for draws in self._noise]
        kernel = MemberKernel(self.training.plan, counts)
        part = kernel.evaluate(self.training.packed, rows.places(cells[held]), *noise)
        self.result.latent[held], self.result.library[held] = part.latent, part.library
        self.result.reconstruction[:, held] = part.reconstruction


class StreamedEvaluator:
    """A member's evaluation on cells that are read for it."""

    def __init__(self, plan: MemberPlan, counts: StoredCounts, n_threads: int) -> None:
        self._plan, self._counts, self._n_threads = plan, counts, n_threads

    def evaluate(
        self, packed: Packed, cells: IntArray, latent_noise: FloatArray, library_noise: FloatArray
    ) -> Evaluation:
        """Evaluate cells with ``latent_noise`` (n_samples, n, n_latent) and ``library_noise`` (n_samples, n)."""
        rows = self._counts.read(np.unique(cells))
        kernel = MemberKernel(self._plan, KernelCounts(rows.counts), n_threads=self._n_threads)
        return kernel.evaluate(packed, rows.places(cells), latent_noise, library_noise)
