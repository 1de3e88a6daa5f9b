"""Training in plain torch with stacked members: for CUDA and MPS, and the oracle of the compiled kernels.

Counts, cell orders and parameters stay on the device. Nothing in a step reads a value back: what the host needs
(losses of an epoch) is read once when a member's epoch ends.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scballast.arrays import FloatArray, IntArray
from scballast.engine.counts import CountMatrix
from scballast.engine.kernels import Evaluation, join_evaluations
from scballast.engine.members import MemberPlan
from scballast.engine.packing import Packed, empty_packed
from scballast.engine.resident import DeviceCounts, PlanTensors
from scballast.engine.schedule import epoch_order
from scballast.engine.stacking import Stack, shared_settings, structure
from scballast.engine.to_scvi import initial_state
from scballast.engine.torch_model import StackedVAE
from scballast.engine.torch_step import StepShape, StepState, compile_step, make_step, use_compiled
from scballast.engine.trained import Course, TrainedMember
from scballast.engine.trainer_cpu import Progress

logger = logging.getLogger(__name__)

_HOST_BUDGET = 1 << 30  # bytes for one group where the device does not say how much it has
_ACTIVATIONS = 14  # arrays of cells × genes that a step holds, found by measuring
_EVALUATED_CELLS = 2048  # dense rows at a time


def train_with_torch(
    counts: CountMatrix,
    resident: DeviceCounts,
    plans: Sequence[MemberPlan],
    on_progress: Progress | None = None,
    *,
    compiled: bool | None = None,
) -> list[TrainedMember]:
    """Train members in stacks of the same structure; as many at once as the device's memory holds.

    Each stack's step is compiled if ``compiled`` is True, by default where that pays: on CUDA, for long trainings.
    """
    by_structure: dict[tuple[object, ...], list[int]] = {}
    for i, plan in enumerate(plans):
        by_structure.setdefault(structure(plan), []).append(i)
    groups = [part for same in by_structure.values() for part in split_by_memory(same, plans, resident)]
    if len(groups) > 1:
        message = "ensemble: %d members are trained in %d groups (%d structures; memory for the rest)."
        logger.info(message, len(plans), len(groups), len(by_structure))
    trained: dict[int, TrainedMember] = {}
    for group in groups:
        results = _Group([plans[i] for i in group], counts, resident, compiled=compiled).train(on_progress)
        trained.update(zip(group, results, strict=True))
    return [trained[i] for i in range(len(plans))]


def split_by_memory(members: list[int], plans: Sequence[MemberPlan], resident: DeviceCounts) -> list[list[int]]:
    """Split members of one structure into groups that fit into the device's memory."""
    if resident.device.type == "cuda":
        budget = int(0.7 * torch.cuda.mem_get_info(resident.device)[0])
    else:
        budget = _HOST_BUDGET
    plan = plans[members[0]]
    minibatch = max(int(np.diff(plans[i].starts).max()) for i in members)
    cells = max(len(plans[i].train_positions) for i in members)
    rows = minibatch * (_ACTIVATIONS * plan.n_genes + 4 * resident.widest_row)
    n_parameters = len(empty_packed(plan).parameters)
    per_member = (rows + 5 * n_parameters) * resident.dtype.itemsize + 8 * cells
    size = max(1, budget // per_member)
    # The longest side by side: a stack shrinks when its shorter members end.
    ordered = sorted(members, key=lambda i: (-plans[i].n_steps, i))
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


class _Group:
    """One stack of members on its way through training."""

    def __init__(
        self, plans: list[MemberPlan], counts: CountMatrix, resident: DeviceCounts, *, compiled: bool | None
    ) -> None:
        self._plans, self._counts, self._resident = plans, counts, resident
        self._device, self._dtype = resident.device, resident.dtype
        self._active = list(range(len(plans)))
        self._stacked = list(self._active)  # the member of each row of the stack
        self._stack = Stack(plans, [initial_state(plan) for plan in plans], self._device, self._dtype)
        self._tensors = PlanTensors(plans, self._device, self._dtype)
        self._state, shape = self._first_state()
        self._step = make_step(resident, shape)
        n_steps = max(plan.n_steps for plan in plans)
        self._compiled = use_compiled(self._device, n_steps, requested=compiled)
        if self._compiled:
            logger.info("ensemble: compiling the step of %d members for %d gradient steps.", len(plans), n_steps)
            self._step = compile_step(self._step, required=bool(compiled))
        self._courses = [Course(plan) for plan in plans]

    def _first_state(self) -> tuple[StepState, StepShape]:
        plans, flat, device = self._plans, self._stack.flat, self._device
        minibatch_size = max(int(np.diff(plan.starts).max()) for plan in plans)
        width = max(len(plan.train_positions) for plan in plans) + minibatch_size
        precise = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        state = StepState(
            flat=flat,
            first=torch.zeros_like(flat),
            second=torch.zeros_like(flat),
            running=self._stack.running,
            sums=torch.zeros((len(plans), 4), dtype=precise, device=device),
            order=torch.zeros((len(plans), width), dtype=torch.int64, device=device),
            kl_weight=torch.zeros(len(plans), dtype=self._dtype, device=device),
            latent_mask=self._stack.latent_mask,
        )
        return state, StepShape(shared_settings(plans), plans[0].n_batch, minibatch_size, self._stack.shapes)

    def train(self, on_progress: Progress | None) -> list[TrainedMember]:
        """Train to the end; results in the order of the group's plans."""
        starts, courses = [plan.starts for plan in self._plans], self._courses
        n_minibatches = [len(bounds) - 1 for bounds in starts]
        results: dict[int, TrainedMember] = {}
        for i in self._active:
            self._begin_epoch(i)
        while self._active:
            places = {i: courses[i].steps % n_minibatches[i] for i in self._stacked}
            self._run_step(np.stack([starts[i][places[i] : places[i] + 2] for i in self._stacked]))
            for i in self._active:
                courses[i].steps += 1
            ended = [i for i in self._active if courses[i].steps % n_minibatches[i] == 0]
            if not ended:
                continue
            sums = self._state.sums.cpu().numpy()
            for i in ended:
                self._end_epoch(i, sums[self._stacked.index(i)])
            finished = {i for i in ended if not courses[i].active}
            for i in finished:
                results[i] = courses[i].result(self._packed(i))
            if finished:
                self._drop(finished)
                if on_progress is not None:
                    on_progress(len(finished))
        return [results[i] for i in range(len(self._plans))]

    def _run_step(self, chunks: IntArray) -> None:
        """One gradient step of every stacked member; ``chunks`` (member, 2) bounds in its order."""
        numbers = [chunks[:, 0], np.diff(chunks, axis=1)[:, 0], [self._courses[i].steps + 1 for i in self._stacked]]
        host = torch.from_numpy(np.array(numbers, dtype=np.int64))
        if self._device.type == "cuda":
            host = host.pin_memory()
        self._step(self._state, self._tensors, host.to(self._device, non_blocking=True))

    def _end_epoch(self, i: int, sums: FloatArray) -> None:
        course = self._courses[i]
        if course.record(*(float(value) for value in sums)):
            course.validate(TorchEvaluator(course.plan, self._resident), self._counts, self._packed(i))
        if course.active:
            self._begin_epoch(i)

    def _begin_epoch(self, i: int) -> None:
        plan, course, row, state = self._plans[i], self._courses[i], self._stacked.index(i), self._state
        order = torch.from_numpy(epoch_order(plan.train_cells, plan.seed, course.epoch).astype(np.int64))
        state.order[row, : len(order)] = order.to(self._device, non_blocking=True)
        state.kl_weight[row] = course.kl_weight
        state.sums[row] = 0

    def _packed(self, i: int) -> Packed:
        packed = empty_packed(self._plans[i])
        packed.load(self._stack.state(self._stacked.index(i)))
        return packed

    def _drop(self, finished: set[int]) -> None:
        self._active = [i for i in self._active if i not in finished]
        if not self._active:
            return
        # The graph of several members cannot hold one, which therefore ends beside a copy of itself.
        kept = self._active * 2 if self._compiled and len(self._active) == 1 else self._active
        rows = [self._stacked.index(i) for i in kept]
        self._stacked = list(kept)
        self._stack.select(rows)
        self._state = self._state.select(rows, self._stack)
        self._tensors = PlanTensors([self._plans[i] for i in kept], self._device, self._dtype)


class TorchEvaluator:
    """Evaluates one member's cells in plain torch; the counterpart of the compiled ``MemberKernel.evaluate``."""

    def __init__(self, plan: MemberPlan, resident: DeviceCounts) -> None:
        self._plan, self._resident = plan, resident
        self._tensors = PlanTensors([plan], resident.device, resident.dtype)

    def evaluate(
        self, packed: Packed, cells: IntArray, latent_noise: FloatArray, library_noise: FloatArray
    ) -> Evaluation:
        """Posteriors, and reconstruction losses for ``latent_noise`` (n_samples, n, n_latent)."""
        resident, plan = self._resident, self._plan
        if len(cells) > _EVALUATED_CELLS:
            parts = [slice(i, i + _EVALUATED_CELLS) for i in range(0, len(cells), _EVALUATED_CELLS)]
            results = [self.evaluate(packed, cells[p], latent_noise[:, p], library_noise[:, p]) for p in parts]
            return join_evaluations(results)
        device, dtype = resident.device, resident.dtype
        state = {name: torch.from_numpy(value)[None].to(device, dtype) for name, value in packed.state().items()}
        latent_mask = torch.ones((1, plan.model.n_latent), dtype=torch.bool, device=device)
        model = StackedVAE(plan.model, plan.n_batch, latent_mask, state)
        index = torch.from_numpy(np.asarray(cells, dtype=np.int64))[None].to(device)
        with torch.inference_mode():
            minibatch = resident.minibatch(index, torch.ones_like(index, dtype=torch.bool), self._tensors)
            posterior = model.encode(minibatch, None, training=False)
            losses = []
            for z_draw, library_draw in zip(latent_noise, library_noise, strict=True):
                z = model.place(posterior, torch.as_tensor(z_draw, dtype=dtype, device=device)[None])
                library = minibatch.log_total
                if not plan.model.use_observed_lib_size:
                    draw = torch.as_tensor(library_draw, dtype=dtype, device=device)[None]
                    library = posterior.library_mean + posterior.library_sd * draw
                losses.append(-model.log_likelihood(minibatch, z, library, training=False)[0])
            latent = torch.stack([posterior.mean[0], posterior.sd[0]], dim=1)
            library = torch.stack([posterior.library_mean[0], posterior.library_sd[0]], dim=1)
            stacked = torch.stack(losses) if losses else torch.empty((0, len(cells)), device=device)
        unseen = (plan.batch_map[self._codes("batch", cells)] < 0) | (plan.label_map[self._codes("label", cells)] < 0)
        reconstruction = stacked.cpu().numpy().astype(np.float64)
        reconstruction[:, unseen] = np.nan
        return Evaluation(latent.cpu().numpy(), library.cpu().numpy(), reconstruction)

    def _codes(self, kind: str, cells: IntArray) -> IntArray:
        codes: Tensor = getattr(self._resident, kind)
        return codes[torch.from_numpy(np.asarray(cells, dtype=np.int64)).to(codes.device)].cpu().numpy()
