"""Training with the compiled kernels: one thread per member, its parameters resident in that core's cache."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from scballast.arrays import IntArray
from scballast.engine.counts import CountMatrix
from scballast.engine.kernels import KernelCounts, MemberKernel, Sums
from scballast.engine.members import MemberPlan
from scballast.engine.packing import aligned_zeros, empty_packed
from scballast.engine.schedule import epoch_order
from scballast.engine.to_scvi import initial_state
from scballast.engine.trained import Course, TrainedMember

_POLL_SECONDS = 0.2

Progress = Callable[[int], None]


def train_on_cpu(
    counts: CountMatrix,
    kernel_counts: KernelCounts,
    plans: Sequence[MemberPlan],
    n_threads: int,
    on_progress: Progress | None = None,
) -> list[TrainedMember]:
    """Train members side by side; the result of each does not depend on the others or on ``n_threads``."""
    stop = ctypes.c_int32(0)

    def run(position: int) -> TrainedMember:
        plan, kernel = plans[position], MemberKernel(plans[position], kernel_counts)
        training, starts, train_cells = MemberTraining(plan), plan.starts, plan.train_cells
        while training.active and not stop.value:
            training.train(kernel, epoch_order(train_cells, plan.seed, training.epoch), starts, stop)
            if training.end_epoch():
                training.validate(kernel, counts, training.packed)
        return training.result(training.packed)

    # The longest first, so that no core waits for a large member that started last.
    longest_first = sorted(range(len(plans)), key=lambda i: -plans[i].n_steps * plans[i].model.n_latent)
    with ThreadPoolExecutor(max_workers=max(1, min(n_threads, len(plans)))) as pool:
        futures = {i: pool.submit(run, i) for i in longest_first}
        finish(futures.values(), pool, stop, on_progress)
    return [futures[i].result() for i in range(len(plans))]


def finish(
    futures: Iterable[Future[Any]], pool: ThreadPoolExecutor, stop: ctypes.c_int32, on_progress: Progress | None = None
) -> None:
    """Wait for all of these; an interrupt or an error in one of them ends the kernels of all."""
    try:
        waiting = set(futures)
        while waiting:
            finished, waiting = wait(waiting, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
            if on_progress is not None and finished:
                on_progress(len(finished))
    except BaseException:
        stop.value = 1
        pool.shutdown(wait=True, cancel_futures=True)
        raise


class MemberTraining(Course):
    """One member on its way through its epochs, with its weights, ``packed``."""

    def __init__(self, plan: MemberPlan) -> None:
        super().__init__(plan)
        self.packed = empty_packed(plan)
        self.packed.load(initial_state(plan))
        size = len(self.packed.parameters)
        self._moments = (aligned_zeros(size, np.float32), aligned_zeros(size, np.float32))
        self._sums = Sums()

    def train(self, kernel: MemberKernel, order: IntArray, starts: IntArray, stop: ctypes.c_int32) -> None:
        """Train on minibatches of the epoch under way, ``order[starts[i]:starts[i + 1]]`` of the kernel's rows."""
        made, _ = kernel.train_epoch(
            self.packed, self._moments, order, starts, self.kl_weight, self.steps, stop, sums=self._sums
        )
        self.steps += made

    def end_epoch(self) -> bool:
        """Record the epoch whose minibatches are all done; returns whether a validation is due."""
        sums, self._sums = self._sums, Sums()
        return self.record(sums.reconstruction, sums.kl_latent, sums.kl_library, sums.loss)
