"""The step of stacked members as one compiled graph: the same training, and the same graph as members end."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers.engine_examples import QUIET_SCVI, keep_mask, small_adata

from scballast.engine import noise, torch_step
from scballast.engine import trainer_torch as torch_trainer
from scballast.engine.counts import CountMatrix, count_matrix
from scballast.engine.interface import Member
from scballast.engine.members import MemberPlan, plan_members
from scballast.engine.resident import DeviceCounts, PlanTensors
from scballast.engine.trained import TrainedMember
from scballast.engine.trainer_torch import train_with_torch

pytestmark = [pytest.mark.filterwarnings(w) for w in QUIET_SCVI]
ADATA = small_adata()
CPU = torch.device("cpu")


def shrinking_stack(model: dict[str, Any], batch_key: str | None) -> tuple[CountMatrix, list[MemberPlan]]:
    """Four members of one structure that end after 2, 3, 5 and 6 epochs; the last runs alone for one epoch."""
    cells = np.random.default_rng(5).permutation(ADATA.n_obs)
    members = [
        Member(None, 1, {"max_epochs": 3}),
        Member(cells[:60], 2, {"max_epochs": 2, "dropout_rate": 0.0}),
        Member(cells[:60], 2**40 + 3, {"n_latent": 2, "lr": 0.01, "max_epochs": 6}),
        Member(cells[50:], 4, {"max_epochs": 5, "weight_decay": 0.1}),
    ]
    counts = count_matrix(ADATA, None, batch_key, "label")
    return counts, plan_members(counts, members, {"n_hidden": 16, "n_latent": 4, **model}, {"batch_size": 32})


def assert_same(first: list[TrainedMember], second: list[TrainedMember], tolerance: float) -> None:
    for one, other in zip(first, second, strict=True):
        assert one.n_steps == other.n_steps
        for name, value in one.packed.tensors.items():
            np.testing.assert_allclose(value, other.packed.tensors[name], rtol=tolerance, atol=tolerance, err_msg=name)
        for name, curve in one.history.items():
            np.testing.assert_allclose(curve, other.history[name], rtol=tolerance, err_msg=name)


@pytest.mark.parametrize(
    ("model", "batch_key", "backend"),
    [
        ({}, None, "inductor"),
        ({"gene_likelihood": "zinb", "latent_distribution": "ln"}, "batch", "aot_eager"),
    ],
    ids=["nb", "zinb-ln-batch"],
)
def test_one_graph_trains_a_shrinking_stack_as_without_it(
    model: dict[str, Any],
    batch_key: str | None,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    counts, plans = shrinking_stack(model, batch_key)
    resident = DeviceCounts(counts, CPU, torch.float32)
    plain = train_with_torch(counts, resident, plans, compiled=False)
    monkeypatch.setattr(torch_step, "_BACKEND", backend)
    torch._dynamo.utils.counters.clear()
    with (
        torch._dynamo.config.patch(error_on_recompile=True),
        caplog.at_level(logging.INFO, logger="scballast.engine"),
    ):
        compiled = train_with_torch(counts, resident, plans, compiled=True)
    assert_same(plain, compiled, 1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    assert "compiling the step of 4 members for 12 gradient steps" in caplog.text


def test_what_cannot_be_compiled_runs_with_a_warning_unless_compiling_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        message = "no compiler here"
        raise RuntimeError(message)

    counts, plans = shrinking_stack({}, None)
    resident = DeviceCounts(counts, CPU, torch.float32)
    plain = train_with_torch(counts, resident, plans, compiled=False)
    monkeypatch.setattr(torch_step, "_BACKEND", broken)
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="no compiler here"):
        train_with_torch(counts, resident, plans, compiled=True)
    monkeypatch.setattr(torch_trainer, "use_compiled", lambda *_, **__: True)
    assert_same(plain, train_with_torch(counts, resident, plans), 1e-5)
    assert "the step cannot be compiled; training is slower" in caplog.text


def test_compiled_by_default_on_cuda_for_long_trainings_only() -> None:
    cuda = torch.device("cuda")
    assert torch_step.use_compiled(cuda, 2_001, requested=None)
    assert not torch_step.use_compiled(cuda, 2_000, requested=None)
    assert not torch_step.use_compiled(CPU, 10**6, requested=None)
    assert torch_step.use_compiled(CPU, 1, requested=True)
    assert not torch_step.use_compiled(cuda, 10**6, requested=False)


def test_noise_of_all_streams_at_once_is_that_of_each_stream() -> None:
    _, plans = shrinking_stack({"n_layers": 2}, None)
    tensors = PlanTensors(plans, CPU, torch.float64)
    sizes, steps = [32, 6, 21, 1], [1, 2, 2**33 + 5, 4]
    settings = plans[0].model
    drawn = torch_step.draw_noise(tensors, torch.tensor(steps), torch.tensor(sizes), 33, settings, torch.float64)
    streams = [noise.DROPOUT, noise.DROPOUT + 1, noise.DROPOUT_LIBRARY]
    for i, (plan, n, step) in enumerate(zip(plans, sizes, steps, strict=True)):
        k, rate = plan.model.n_latent, plan.model.dropout_rate
        latent = noise.normals(plan.seed, step, noise.LATENT, (n, k))
        np.testing.assert_allclose(drawn.latent[i, :n, :k].numpy(), latent, rtol=1e-12)
        library = noise.normals(plan.seed, step, noise.LIBRARY, (n, 1))[:, 0]
        np.testing.assert_allclose(drawn.library[i, :n].numpy(), library, rtol=1e-12)
        for stream, keep in zip(streams, drawn.keep, strict=True):
            expected = keep_mask(plan.seed, step, stream, (n, 16), rate) / (1 - rate)
            np.testing.assert_allclose(keep[i, :n].numpy(), expected, rtol=1e-12)
