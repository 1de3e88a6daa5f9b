"""Training with the compiled kernels: one thread per member, its parameters resident in that core's cache."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from scballast.arrays import IntArray
from scballast.engine.counts import CountMatrix
from scballast.engine.initial import initial_state
from scballast.engine.kernels import KernelCounts, MemberKernel, Sums
from scballast.engine.members import MemberPlan
from scballast.engine.packing import aligned_zeros, empty_packed
from scballast.engine.posterior import validation_losses
from scballast.engine.schedule import EarlyStopping, epoch_order, kl_weight
from scballast.engine.trained import CurveRecorder, TrainedMember, describe_failure

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
        return _train_member(plans[position], MemberKernel(plans[position], kernel_counts), counts, stop)

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


class MemberTraining:
    """One member on its way through its epochs.

    Attributes
    ----------
    plan, packed
        What rules it, and its weights.
    epoch, steps
        Epochs that are complete, and gradient steps that were made.
    """

    def __init__(self, plan: MemberPlan) -> None:
        self.plan, self.packed = plan, empty_packed(plan)
        self.packed.load(initial_state(plan))
        size = len(self.packed.parameters)
        self._moments = (aligned_zeros(size, np.float32), aligned_zeros(size, np.float32))
        settings = plan.train
        self._stopping = EarlyStopping(
            settings.early_stopping_min_delta, settings.early_stopping_patience, settings.early_stopping_warmup_epochs
        )
        self._validate_every = settings.check_val_every_n_epoch or (1 if settings.early_stopping else None)
        self._recorder, self._sums = CurveRecorder(), Sums()
        self.epoch, self.steps = 0, 0
        self._failure: str | None = None
        self._stopped = False

    @property
    def active(self) -> bool:
        """Whether there are epochs to come."""
        return self.epoch < self.plan.max_epochs and self._failure is None and not self._stopped

    def train(self, kernel: MemberKernel, order: IntArray, starts: IntArray, stop: ctypes.c_int32) -> None:
        """Train on minibatches of the epoch under way, ``order[starts[i]:starts[i + 1]]`` of the kernel's rows."""
        weight = kl_weight(self.epoch, self.plan.n_warmup_epochs, self.plan.train)
        made, _ = kernel.train_epoch(
            self.packed, self._moments, order, starts, weight, self.steps, stop, sums=self._sums
        )
        self.steps += made

    def end_epoch(self) -> bool:
        """Record the epoch whose minibatches are all done; returns whether a validation is due."""
        plan, sums = self.plan, self._sums
        weight = kl_weight(self.epoch, plan.n_warmup_epochs, plan.train)
        self._recorder.train(
            len(plan.train_positions), sums.reconstruction, sums.kl_latent, sums.kl_library, sums.loss, weight
        )
        if not math.isfinite(sums.loss):
            self._failure = describe_failure(plan, self.epoch)
            return False
        self.epoch, self._sums = self.epoch + 1, Sums()
        due = self._validate_every and len(plan.validation_positions) and self.epoch % self._validate_every == 0
        return bool(due)

    @property
    def validation_weight(self) -> float:
        """KL weight of the epoch that is validated."""
        return kl_weight(self.epoch - 1, self.plan.n_warmup_epochs, self.plan.train)

    def validated(self, reconstruction: float, kl: float, loss: float) -> None:
        """Record a validation, and stop where that is what it tells."""
        settings = self.plan.train
        self._recorder.validation(self.epoch - 1, reconstruction, kl, loss)
        monitored = self._recorder.curves[settings.early_stopping_monitor][-1]
        self._stopped = settings.early_stopping and self._stopping.should_stop(monitored)

    def result(self) -> TrainedMember:
        """Return what the training leaves behind."""
        recorder = self._recorder
        return TrainedMember(
            self.plan,
            self.packed,
            self.steps,
            self.epoch,
            recorder.curves,
            recorder.validation_epochs,
            self._failure,
        )


def _train_member(plan: MemberPlan, kernel: MemberKernel, counts: CountMatrix, stop: ctypes.c_int32) -> TrainedMember:
    training, starts, train_cells = MemberTraining(plan), plan.starts, plan.train_cells
    while training.active and not stop.value:
        training.train(kernel, epoch_order(train_cells, plan.seed, training.epoch), starts, stop)
        if training.end_epoch():
            weight = training.validation_weight
            training.validated(*validation_losses(kernel, counts, training.packed, plan, training.steps, weight))
    return training.result()
