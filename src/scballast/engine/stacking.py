"""Members with the same structure as one stack of tensors, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from scballast.arrays import FloatArray
from scballast.engine.members import MemberPlan
from scballast.engine.packing import empty_packed
from scballast.engine.settings import ModelSettings

_LATENT_ROWS = ("z_encoder.mean_encoder.", "z_encoder.var_encoder.")
# Weights whose columns are the latent dimensions and then the batches.
_LATENT_COLUMNS = tuple(
    f"decoder.{name}.fc_layers.Layer 0.0.weight" for name in ("factor_regressor", "px_dropout_decoder", "px_decoder")
)


def structure(plan: MemberPlan) -> tuple[object, ...]:
    """Return what members must share to be stacked; everything else may differ between them."""
    alike = replace(plan.model, n_latent=0, dropout_rate=0.0, n_labels=None)
    return alike, plan.n_batch, plan.n_labels if alike.dispersion == "gene-label" else 0


def shared_settings(plans: Sequence[MemberPlan]) -> ModelSettings:
    """Return the settings of the stack: those that the members share, with the widest latent space."""
    return replace(plans[0].model, n_latent=max(plan.model.n_latent for plan in plans))


def views(flat: Tensor, shapes: Sequence[tuple[str, tuple[int, ...]]]) -> dict[str, Tensor]:
    """Return views of these names and shapes into (member, n_parameters) flat rows."""
    parts = flat.split([torch.Size(shape).numel() for _, shape in shapes], dim=1)
    return {name: part.view(-1, *shape) for (name, shape), part in zip(shapes, parts, strict=True)}


class Stack:
    """Parameters of several members as flat rows, so that the optimiser is a few operations for all.

    Attributes
    ----------
    flat
        (member, n_parameters) trained parameters.
    shapes
        Name and shape of each parameter, in the order of the flat rows.
    running
        Running statistics by name.
    latent_mask
        (member, n_latent) bool.
    """

    def __init__(
        self,
        plans: Sequence[MemberPlan],
        states: Sequence[dict[str, FloatArray]],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._plans = list(plans)
        self._width = shared_settings(plans).n_latent
        names = empty_packed(plans[0]).tensors
        wide = {
            name: np.stack([self._widen(name, s[name], p) for p, s in zip(plans, states, strict=True)])
            for name in names
        }
        self.shapes = tuple((name, a.shape[1:]) for name, a in wide.items() if "running" not in name)
        self.running = {name: torch.from_numpy(a).to(device, dtype) for name, a in wide.items() if "running" in name}
        rows = np.concatenate([wide[name].reshape(len(plans), -1) for name, _ in self.shapes], axis=1)
        self.flat = torch.from_numpy(rows).to(device, dtype)
        has_dimension = np.arange(self._width) < np.array([[plan.model.n_latent] for plan in plans])
        self.latent_mask = torch.from_numpy(has_dimension).to(device)

    def select(self, members: Sequence[int]) -> None:
        """Keep only these members, in this order."""
        index = torch.tensor(members, device=self.flat.device)
        self.flat = self.flat[index]
        self.running = {name: tensor[index] for name, tensor in self.running.items()}
        self.latent_mask = self.latent_mask[index]
        self._plans = [self._plans[i] for i in members]

    def state(self, member: int) -> dict[str, FloatArray]:
        """Parameters and running statistics of one member by ``state_dict`` name, at its own size."""
        both = {**views(self.flat, self.shapes), **self.running}
        plan = self._plans[member]
        return {name: self._narrow(name, t[member].cpu().numpy(), plan) for name, t in both.items()}

    def _widen(self, name: str, array: FloatArray, plan: MemberPlan) -> FloatArray:
        missing = self._width - plan.model.n_latent
        if name.startswith(_LATENT_ROWS):
            return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
        if name in _LATENT_COLUMNS:
            k = plan.model.n_latent
            return np.concatenate([array[:, :k], np.zeros((len(array), missing), array.dtype), array[:, k:]], axis=1)
        return np.asarray(array)

    def _narrow(self, name: str, array: FloatArray, plan: MemberPlan) -> FloatArray:
        k = plan.model.n_latent
        if name.startswith(_LATENT_ROWS):
            return array[:k]
        if name in _LATENT_COLUMNS:
            return np.concatenate([array[:, :k], array[:, self._width :]], axis=1)
        return array
