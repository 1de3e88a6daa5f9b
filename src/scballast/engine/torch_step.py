"""One gradient step of stacked members as a function of tensors, which CUDA runs as one compiled graph.

The step alone would launch a thousand small kernels: noise, likelihood, batch norms and Adam fuse when compiled.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scballast.engine import noise as streams
from scballast.engine import torch_compat, torch_noise
from scballast.engine.resident import DeviceCounts, PlanTensors
from scballast.engine.settings import ModelSettings
from scballast.engine.stacking import Stack, views
from scballast.engine.torch_model import Noise, StackedVAE

logger = logging.getLogger(__name__)

Step = Callable[["StepState", "PlanTensors", Tensor], None]

_FIRST, _SECOND = 0.9, 0.999  # Adam's decay rates
_WORTH_COMPILING = 2_000  # gradient steps; on a CPU compiling takes about a minute
_BACKEND = "inductor"


@dataclass(frozen=True)
class StepState:
    """What a step reads and changes in place; one row per stacked member.

    Attributes
    ----------
    flat, first, second
        (member, n_parameters) parameters and Adam's moments.
    running
        Running statistics by name.
    sums
        (member, 4) of the epoch so far: reconstruction, latent KL, library KL and loss.
    order
        (member, cell) int64 cells in the order of the epoch, with room for a whole minibatch at the end.
    kl_weight
        (member,) of the epoch.
    latent_mask
        (member, n_latent) bool, True for a member's own latent dimensions.
    """

    flat: Tensor
    first: Tensor
    second: Tensor
    running: dict[str, Tensor]
    sums: Tensor
    order: Tensor
    kl_weight: Tensor
    latent_mask: Tensor

    def select(self, rows: Sequence[int], stack: Stack) -> StepState:
        """Return the state of these rows, for a stack that has already selected them."""
        index = torch.tensor(rows, device=self.flat.device)
        selected = {name: getattr(self, name)[index] for name in ("first", "second", "sums", "order", "kl_weight")}
        return StepState(flat=stack.flat, running=stack.running, latent_mask=stack.latent_mask, **selected)

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor, each with the member axis first."""
        yield from self.running.values()
        yield from (value for value in vars(self).values() if isinstance(value, Tensor))


@dataclass(frozen=True)
class StepShape:
    """What is the same in all steps of a group.

    Attributes
    ----------
    settings
        What the members share; ``n_latent`` is the widest.
    n_batch
        Number of batches that each member knows.
    minibatch_size
        Largest number of cells of a member in a step.
    parameters
        Name and shape of each parameter, in the order of the flat rows.
    """

    settings: ModelSettings
    n_batch: int
    minibatch_size: int
    parameters: tuple[tuple[str, tuple[int, ...]], ...]


def make_step(resident: DeviceCounts, shape: StepShape) -> Step:
    """Return the step of a group: changes a state in place, given (3, member) int64 begin, size and step number."""

    def step(state: StepState, plans: PlanTensors, host: Tensor) -> None:
        begin, size, steps = host
        slot = torch.arange(shape.minibatch_size, device=begin.device)
        cells = state.order.gather(1, begin[:, None] + slot)
        minibatch = resident.minibatch(cells, slot < size[:, None], plans)
        noise = draw_noise(plans, steps, size, shape.minibatch_size, shape.settings, state.flat.dtype)

        def loss(parameters: dict[str, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor, dict[str, Tensor]]]:
            # A function that is differentiated may not change what it is not given.
            running = {name: tensor.clone() for name, tensor in state.running.items()}
            model = StackedVAE(shape.settings, shape.n_batch, state.latent_mask, {**parameters, **running})
            losses, sums = model.loss(minibatch, noise, state.kl_weight)
            return losses.sum(), (losses, sums, running)

        parameters = views(state.flat, shape.parameters)
        gradients, (losses, sums, running) = torch.func.grad(loss, has_aux=True)(parameters)
        adam(state, plans, torch.cat([gradients[name].flatten(1) for name in parameters], dim=1), steps)
        for name, tensor in running.items():
            state.running[name].copy_(tensor)
        state.sums.add_(torch.cat([sums, (losses * size)[:, None]], dim=1))

    return step


def adam(state: StepState, plans: PlanTensors, gradient: Tensor, steps: Tensor) -> None:
    """Adam's update with L2 weight decay, for the (member,) number of steps that count this one."""
    flat, first, second = state.flat, state.first, state.second
    count = steps[:, None].to(flat.dtype)
    gradient = gradient + plans.weight_decay * flat
    first.lerp_(gradient, 1 - _FIRST)
    second.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
    size = plans.lr / (1 - _FIRST**count)
    flat.sub_(size * first / (second.sqrt() / (1 - _SECOND**count).sqrt() + plans.eps))


def draw_noise(
    plans: PlanTensors, steps: Tensor, size: Tensor, n_cells: int, settings: ModelSettings, dtype: torch.dtype
) -> Noise:
    """Draw what each member's seed and step give, for minibatches of ``size`` (member,) of ``n_cells`` cells."""
    latent = torch.stack([size, plans.n_latent], dim=1)
    column = torch.stack([size, torch.ones_like(size)], dim=1)
    hidden = torch.stack([size, torch.full_like(size, settings.n_hidden)], dim=1)
    widths = (n_cells, settings.n_latent), (n_cells, 1), (n_cells, settings.n_hidden)
    layers = [*(streams.DROPOUT + layer for layer in range(settings.n_layers)), streams.DROPOUT_LIBRARY]
    drawn = [(streams.LATENT, widths[0]), (streams.LIBRARY, widths[1]), *((layer, widths[2]) for layer in layers)]
    for_latent, for_library, *for_layers = torch_noise.philox(plans.seeds, steps, drawn)
    scale = (1.0 / (1.0 - plans.dropout))[:, None, None]
    return Noise(
        latent=torch_noise.normals_from(for_latent, latent, widths[0], dtype),
        library=torch_noise.normals_from(for_library, column, widths[1], dtype)[..., 0],
        keep=tuple(
            torch_noise.keep_mask_from(words, hidden, widths[2], plans.dropout).to(dtype) * scale
            for words in for_layers
        ),
    )


def use_compiled(device: torch.device, n_steps: int, *, requested: bool | None) -> bool:
    """Whether to compile a group's step: as requested, else on CUDA where enough steps are left to pay for it."""
    if requested is not None:
        return requested
    return device.type == "cuda" and n_steps > _WORTH_COMPILING


def compile_step(step: Step, *, required: bool) -> Step:
    """Compile a group's step as one graph for any number of members from two; the first call compiles.

    Where it cannot be compiled (no Triton, no C compiler) it runs as it is, with a logged warning, or raises if
    ``required``. ``fullgraph`` makes torch raise where it would otherwise give up on a graph later.
    """
    torch_compat.forget_graphs(step)  # groups share its code
    graph: Any = torch.compile(step, fullgraph=True, dynamic=False, backend=_BACKEND)
    started = False

    def run(state: StepState, plans: PlanTensors, host: Tensor) -> None:
        nonlocal graph, started
        begin, first = time.perf_counter(), not started
        n_members = host.shape[1]
        if first and n_members > 1:  # torch always specialises on 1
            for tensor in (*state.tensors(), *vars(plans).values()):
                torch_compat.any_size(tensor, 0)
            torch_compat.any_size(host, 1)
        started = True
        try:
            graph(state, plans, host)
        except torch_compat.compile_error() as error:  # raised before the step changes anything
            if required:
                raise
            logger.warning("ensemble: the step cannot be compiled; training is slower: %s", str(error).split("\n")[0])
            graph = step
            graph(state, plans, host)
        else:
            if first:
                seconds = time.perf_counter() - begin
                logger.info("ensemble: compiled the step of %d members in %.0f s.", n_members, seconds)

    return run
