"""Training with the compiled kernels: one thread per member, its parameters resident in that core's cache."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import numpy as np

from scballast.engine.counts import CountMatrix
from scballast.engine.initial import initial_state
from scballast.engine.kernels import KernelCounts, MemberKernel
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
        try:
            waiting = set(futures.values())
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
    return [futures[i].result() for i in range(len(plans))]


def _train_member(plan: MemberPlan, kernel: MemberKernel, counts: CountMatrix, stop: ctypes.c_int32) -> TrainedMember:
    packed = empty_packed(plan)
    packed.load(initial_state(plan))
    moments = (aligned_zeros(len(packed.parameters), np.float32), aligned_zeros(len(packed.parameters), np.float32))
    settings, starts, train_cells = plan.train, plan.starts, plan.train_cells
    stopping = EarlyStopping(
        settings.early_stopping_min_delta, settings.early_stopping_patience, settings.early_stopping_warmup_epochs
    )
    validate_every = settings.check_val_every_n_epoch or (1 if settings.early_stopping else None)
    recorder, steps, epoch, failure = CurveRecorder(), 0, 0, None
    while epoch < plan.max_epochs and not stop.value:
        weight = kl_weight(epoch, plan.n_warmup_epochs, settings)
        order = epoch_order(train_cells, plan.seed, epoch)
        made, sums = kernel.train_epoch(packed, moments, order, starts, weight, steps, stop)
        steps += made
        recorder.train(len(train_cells), sums.reconstruction, sums.kl_latent, sums.kl_library, sums.loss, weight)
        if not math.isfinite(sums.loss):
            failure = describe_failure(plan, epoch)
            break
        epoch += 1
        if validate_every and len(plan.validation_positions) and epoch % validate_every == 0:
            losses = validation_losses(kernel, counts, packed, plan, steps, weight)
            recorder.validation(epoch - 1, *losses)
            if settings.early_stopping and stopping.should_stop(recorder.curves[settings.early_stopping_monitor][-1]):
                break
    return TrainedMember(plan, packed, steps, epoch, recorder.curves, recorder.validation_epochs, failure)
