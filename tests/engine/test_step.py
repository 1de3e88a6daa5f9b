"""One training step against ``scvi.module.LDVAE`` and ``VAE``: loss, every gradient, running statistics."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers.engine_examples import first_noise, given_noise, gradients, keep_mask, plan_one, small_adata

from scballast.engine import noise
from scballast.engine.kernels import KernelCounts, MemberKernel
from scballast.engine.packing import empty_packed
from scballast.engine.resident import DeviceCounts, PlanTensors
from scballast.engine.schedule import epoch_order
from scballast.engine.to_scvi import initial_module
from scballast.engine.torch_model import Noise, StackedVAE

KL_WEIGHT = 0.3
TOLERANCE = {np.float64: 1e-9, np.float32: 1e-4}
CASES = list(
    itertools.product(
        ("nb", "zinb", "poisson"),
        ("normal", "ln"),
        ("gene", "gene-batch", "gene-label"),
        (None, "batch"),
        (False, True),
        (1, 3),
        ("linear", "nonlinear"),
    )
)


class Step:
    """The same minibatch, weights and noise for scvi-tools' module and for the engine."""

    def __init__(self, case: tuple[Any, ...], dtype: type[np.floating[Any]]) -> None:
        likelihood, latent, dispersion, batch_key, observed, n_layers, decoder = case
        model = {
            "decoder": decoder,
            "gene_likelihood": likelihood,
            "latent_distribution": latent,
            "dispersion": dispersion,
            "use_observed_lib_size": observed,
            "n_layers": n_layers,
            "n_hidden": 21,  # no multiple of a vector's width
            "n_latent": 7,
        }
        self.dtype, self.tensor_dtype = dtype, torch.float64 if dtype is np.float64 else torch.float32
        self.adata = small_adata()
        self.plan, self.counts = plan_one(self.adata, model, batch_key=batch_key)
        self.module = initial_module(self.plan).to(self.tensor_dtype).train()
        rng = np.random.default_rng(1)
        with torch.no_grad():  # away from the symmetric start
            for parameter in self.module.parameters():
                parameter += torch.tensor(0.1 * rng.normal(size=parameter.shape))
        self.state = {name: tensor.numpy().copy() for name, tensor in self.module.state_dict().items()}
        self.cells = self.plan.train_cells[:35]
        self.latent_noise, self.library_noise, self.keep = first_noise(self.plan, 35)
        self._run_scvi()

    def _run_scvi(self) -> None:
        kind, plan = self.tensor_dtype, self.plan
        tensors = {
            "X": torch.tensor(self.adata.X[self.cells].toarray(), dtype=kind),
            "batch": torch.tensor(plan.batch_map[self.counts.batch[self.cells]], dtype=torch.int64)[:, None],
            "labels": torch.tensor(plan.label_map[self.counts.label[self.cells]], dtype=torch.int64)[:, None],
        }
        draws = [torch.tensor(self.latent_noise, dtype=kind)]
        if not plan.model.use_observed_lib_size:
            draws.append(torch.tensor(self.library_noise[:, None], dtype=kind))
        with given_noise(draws, [torch.tensor(mask, dtype=kind) / 0.9 for mask in self.keep], kind):
            output = self.module(tensors, loss_kwargs={"kl_weight": KL_WEIGHT})[2]
        output.loss.backward()
        self.loss = output.loss.item()
        self.sums = (output.reconstruction_loss_sum.item(), output.kl_local_sum.item())

    def check(self, loss: float, sums: tuple[float, float], gradients: dict[str, Any], state: dict[str, Any]) -> None:
        tolerance = TOLERANCE[self.dtype]
        assert loss == pytest.approx(self.loss, rel=tolerance)
        assert sums == pytest.approx(self.sums, rel=tolerance)
        expected = {name: p.grad.numpy() for name, p in self.module.named_parameters() if p.grad is not None}
        assert set(gradients) == set(expected)
        for name, gradient in gradients.items():
            error = np.abs(gradient - expected[name]).max() / self._scale(name, expected)
            assert error <= tolerance, name
        for name, buffer in self.module.named_buffers():
            if name in state:
                np.testing.assert_allclose(state[name], buffer.numpy(), rtol=tolerance, atol=tolerance, err_msg=name)

    def _scale(self, name: str, expected: dict[str, Any]) -> float:
        """Largest gradient of the tensor; for a bias before a batch norm, of its layer's weight.

        The gradient of such a bias is a sum over cells, and cancels: entirely right before a batch norm, and but for
        the KL in the latent mean's, because the decoder's batch norm takes the mean of z away. What is left is
        rounding.
        """
        if ("encoder" in name or "px_decoder" in name) and not name.endswith("1.bias"):
            name = name.replace(".bias", ".weight")
        scale = float(np.abs(expected[name]).max())
        assert scale > 0
        return scale


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
def test_compiled_step_equals_scvi(case: tuple[Any, ...], dtype: type[np.floating[Any]]) -> None:
    step = Step(case, dtype)
    packed = empty_packed(step.plan, dtype)
    packed.load(step.state)
    kernel = MemberKernel(step.plan, KernelCounts(step.counts), dtype)
    sizes = [ctypes.c_int64() for _ in range(2)]
    kernel._library.layout_sizes(ctypes.byref(kernel._spec), *map(ctypes.byref, sizes))
    assert [size.value for size in sizes] == [len(packed.parameters), len(packed.running)]
    gradient, sums = gradients(kernel, step.plan, packed, step.cells, KL_WEIGHT)
    unpacked = empty_packed(step.plan, dtype)
    unpacked.parameters[:] = gradient
    of_parameters = {name: view for name, view in unpacked.tensors.items() if "running" not in name}
    step.check(
        sums.loss / len(step.cells),
        (sums.reconstruction, sums.kl_latent + sums.kl_library),
        of_parameters,
        packed.tensors,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
def test_torch_step_equals_scvi(case: tuple[Any, ...], dtype: type[np.floating[Any]]) -> None:
    step = Step(case, dtype)
    plan, kind = step.plan, step.tensor_dtype
    names = empty_packed(plan).tensors
    tensors = {name: torch.tensor(step.state[name][None], requires_grad="running" not in name) for name in names}
    model = StackedVAE(plan.model, plan.n_batch, torch.ones((1, 7), dtype=torch.bool), tensors)
    resident, device = DeviceCounts(step.counts, torch.device("cpu"), kind), torch.device("cpu")
    # Three cells of padding: they must change nothing.
    cells = torch.tensor(np.concatenate([step.cells, [0, 1, 2]]), dtype=torch.int64)[None]
    mask = torch.arange(38)[None] < 35

    def padded(array: Any) -> torch.Tensor:
        return torch.tensor(np.concatenate([array, np.ones((3, *array.shape[1:]))]), dtype=kind)[None]

    given = Noise(
        padded(step.latent_noise), padded(step.library_noise), tuple(padded(mask_ / 0.9) for mask_ in step.keep)
    )
    minibatch = resident.minibatch(cells, mask, PlanTensors([plan], device, kind))
    loss, sums = model.loss(minibatch, given, torch.tensor([KL_WEIGHT], dtype=kind))
    loss.sum().backward()
    step.check(
        loss.item(),
        (sums[0, 0].item(), (sums[0, 1] + sums[0, 2]).item()),
        {name: tensor.grad[0].numpy() for name, tensor in tensors.items() if tensor.grad is not None},
        {name: tensor[0].numpy() for name, tensor in tensors.items() if "running" in name},
    )


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"gene_likelihood": "zinb", "latent_distribution": "ln", "n_layers": 2},
        {"use_observed_lib_size": True},
        {"decoder": "nonlinear", "use_observed_lib_size": True},
        {"decoder": "nonlinear", "gene_likelihood": "zinb", "latent_distribution": "ln", "n_layers": 2},
    ],
    ids=["default", "zinb-ln", "observed", "nonlinear", "nonlinear-zinb-ln"],
)
def test_whole_epochs_equal_scvi_module_and_torch_adam(model: dict[str, Any]) -> None:
    """Five epochs, last minibatch smaller: same order and noise, scvi-tools' module, torch's own Adam."""
    adata = small_adata()
    settings, train = {"n_hidden": 16, "n_latent": 5, **model}, {"batch_size": 32, "lr": 0.01, "weight_decay": 1e-3}
    plan, counts = plan_one(adata, settings, train, batch_key="batch")
    module = initial_module(plan).double().train()
    packed = empty_packed(plan, np.float64)
    packed.load({name: tensor.numpy() for name, tensor in module.state_dict().items()})
    kernel = MemberKernel(plan, KernelCounts(counts), np.float64)
    moments = (np.zeros_like(packed.parameters), np.zeros_like(packed.parameters))
    adam = torch.optim.Adam(module.parameters(), lr=0.01, eps=0.01, weight_decay=1e-3)
    step, observed, n_layers = 0, plan.model.use_observed_lib_size, plan.model.n_layers
    for epoch in range(5):
        order = epoch_order(plan.train_cells, plan.seed, epoch)
        losses = 0.0
        done = step
        for start, end in itertools.pairwise(plan.starts):
            cells, n, step = order[start:end], end - start, step + 1
            draws = [noise.normals(plan.seed, step, noise.LATENT, (n, 5))]
            streams = [noise.DROPOUT + layer for layer in range(n_layers)]
            if not observed:
                draws.append(noise.normals(plan.seed, step, noise.LIBRARY, (n, 1)))
                streams.append(noise.DROPOUT_LIBRARY)
            keep = [keep_mask(plan.seed, step, stream, (n, 16), 0.1) for stream in streams]
            tensors = {
                "X": torch.tensor(adata.X[cells].toarray(), dtype=torch.float64),
                "batch": torch.tensor(counts.batch[cells], dtype=torch.int64)[:, None],
                "labels": torch.zeros((n, 1), dtype=torch.int64),
            }
            factors = [torch.tensor(mask, dtype=torch.float64) / 0.9 for mask in keep]
            with given_noise([torch.tensor(draw) for draw in draws], factors, torch.float64):
                loss = module(tensors, loss_kwargs={"kl_weight": 0.5})[2].loss
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses += loss.item() * n
        made, sums = kernel.train_epoch(packed, moments, order, plan.starts, 0.5, done, ctypes.c_int32(0))
        assert made == len(plan.starts) - 1
        assert sums.loss == pytest.approx(losses, rel=1e-9)
    for name, tensor in module.state_dict().items():
        if name in packed.tensors:
            np.testing.assert_allclose(packed.tensors[name], tensor.numpy(), rtol=1e-7, atol=1e-9, err_msg=name)
