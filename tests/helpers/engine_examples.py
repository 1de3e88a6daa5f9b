"""Small counts, members and scvi-tools modules that the engine's tests share."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scballast.engine import noise
from scballast.engine.counts import CountMatrix, count_matrix
from scballast.engine.interface import Member
from scballast.engine.kernels import MemberKernel, Sums
from scballast.engine.members import MemberPlan, plan_members
from scballast.engine.packing import Packed

# scvi-tools, Lightning and anndata warn about small data, workers and their own deprecations.
QUIET_SCVI = r"ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"


def small_adata(n_cells: int = 120, n_genes: int = 45, seed: int = 0) -> AnnData:
    """Negative binomial counts, a fifth of them not zero, with three batches and four labels."""
    rng = np.random.default_rng(seed)
    means = rng.gamma(0.5, 1.0, n_genes) * rng.lognormal(0, 0.4, (n_cells, 1))
    counts = rng.negative_binomial(2.0, 2.0 / (2.0 + means)).astype(np.float32)
    counts[:, 0] += 1  # no empty cell
    counts[3, 5], counts[7, 8] = 1500, 40
    obs = pd.DataFrame(
        {
            "batch": pd.Categorical(np.array(["a", "b", "c"])[rng.integers(0, 3, n_cells)]),
            "label": pd.Categorical(np.array(["w", "x", "y", "z"])[rng.integers(0, 4, n_cells)]),
        },
        index=[f"cell{i}" for i in range(n_cells)],
    )
    return AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)]))


def plan_one(
    adata: AnnData,
    model: Mapping[str, Any],
    train: Mapping[str, Any] | None = None,
    *,
    batch_key: str | None = None,
    member: Member | None = None,
) -> tuple[MemberPlan, CountMatrix]:
    """Plan of a single member."""
    counts = count_matrix(adata, None, batch_key, "label")
    return plan_members(counts, [member or Member(seed=3)], model, train or {})[0], counts


@contextmanager
def given_noise(draws: Sequence[Any], keep: Sequence[Any], dtype: Any) -> Iterator[None]:
    """Let scvi-tools' module draw these standard normal numbers and dropout factors, in this order."""
    import torch

    draws, keep = iter(draws), iter(keep)
    to_float = torch.Tensor.float

    def standard_normal(shape: Any, dtype: Any, device: Any) -> Any:
        draw = next(draws)
        assert draw.shape == torch.Size(shape)
        return draw

    with (
        mock.patch("torch.distributions.normal._standard_normal", standard_normal),
        mock.patch("torch.nn.functional.dropout", lambda x, p, training, inplace: x * next(keep)),
        # The module turns one-hot codes into float32 whatever its weights are.
        mock.patch.object(torch.Tensor, "float", lambda x: x.to(dtype)),
    ):
        yield
    assert next(draws, None) is None
    assert next(keep, None) is None
    assert torch.Tensor.float is to_float


def gradients(
    kernel: MemberKernel, plan: MemberPlan, packed: Packed, cells: Any, kl_weight: float
) -> tuple[np.ndarray, Sums]:
    """Gradient of the mean loss over one minibatch, and its sums: what Adam's first step keeps a tenth of.

    The weights take the step, and running statistics move.
    """
    before = packed.parameters.copy()
    first, second = (np.zeros_like(before) for _ in range(2))
    bounds, order = np.array([0, len(cells)], dtype=np.int32), np.ascontiguousarray(cells, dtype=np.int32)
    made, sums = kernel.train_epoch(packed, (first, second), order, bounds, kl_weight, 0, ctypes.c_int32(0))
    assert made == 1
    return 10 * first - plan.train.weight_decay * before, sums


def first_noise(plan: MemberPlan, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws of latent and library, and dropout masks of each layer, of the first step on n cells.

    Masks of the latent encoder's layers come first, then that of the library encoder.
    """
    layers = [noise.DROPOUT + layer for layer in range(plan.model.n_layers)]
    layers += [] if plan.model.use_observed_lib_size else [noise.DROPOUT_LIBRARY]
    shape = (n, plan.model.n_hidden)
    keep = [keep_mask(plan.seed, 1, stream, shape, plan.model.dropout_rate) for stream in layers]
    latent = noise.normals(plan.seed, 1, noise.LATENT, (n, plan.model.n_latent))
    return latent, noise.normals(plan.seed, 1, noise.LIBRARY, (n,)), np.stack(keep)


def keep_mask(seed: int, step: int, stream: int, shape: tuple[int, ...], dropout_rate: float) -> np.ndarray:
    """1 where a unit is kept."""
    words = noise.philox(seed, step, stream, int(np.prod(shape)))
    return (words >= round(dropout_rate * 2.0**32)).astype(np.uint8).reshape(shape)
