"""What stays on the device while stacked members train: the counts, and what a step needs of the plans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scballast.arrays import FloatArray, IntArray
from scballast.engine.counts import CountMatrix
from scballast.engine.members import MemberPlan
from scballast.engine.torch_model import Minibatch


class DeviceCounts:
    """The count matrix resident on a device."""

    def __init__(self, counts: CountMatrix, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype, self.n_genes = device, dtype, counts.n_genes
        self.row_starts = torch.from_numpy(counts.row_starts).to(device)
        self.genes = torch.from_numpy(counts.genes).to(device)
        self.values = torch.from_numpy(counts.values).to(device)
        self.batch = torch.from_numpy(counts.batch).to(device)
        self.label = torch.from_numpy(counts.label).to(device)
        self.widest_row = int(np.diff(counts.row_starts).max(initial=1))
        totals = counts.totals()
        with np.errstate(divide="ignore"):
            self.log_total = torch.from_numpy(np.log(totals)).to(device, dtype)

    def minibatch(self, cells: Tensor, mask: Tensor, plans: PlanTensors) -> Minibatch:
        """Dense counts of (member, cell) rows; no operation whose size depends on the data."""
        start = self.row_starts[cells]
        length = self.row_starts[cells + 1] - start
        slot = torch.arange(self.widest_row, device=self.device)
        inside = slot < length[..., None]
        at = torch.where(inside, start[..., None] + slot, 0)
        gene = torch.where(inside, self.genes[at].long(), self.n_genes)  # the extra column is dropped
        x = torch.zeros((*cells.shape, self.n_genes + 1), device=self.device, dtype=self.dtype)
        x.scatter_(2, gene, torch.where(inside, self.values[at], 0.0).to(self.dtype))
        batch = plans.batch_map.gather(1, self.batch[cells].long())
        label = plans.label_map.gather(1, self.label[cells].long())
        prior = batch.clamp(min=0)
        return Minibatch(
            x=x[..., :-1],
            mask=mask.to(self.dtype),
            batch=prior,
            label=label.clamp(min=0),
            log_total=torch.where(mask, self.log_total[cells], 0.0),
            library_mean=plans.library_means.gather(1, prior),
            library_var=plans.library_vars.gather(1, prior),
        )


class PlanTensors:
    """What a step needs of the members' plans, (member, ...) on the device."""

    def __init__(self, plans: Sequence[MemberPlan], device: torch.device, dtype: torch.dtype) -> None:
        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=device, dtype=dtype)

        def stacked(arrays: Sequence[FloatArray | IntArray], kind: torch.dtype) -> Tensor:
            return torch.from_numpy(np.stack(arrays)).to(device, kind)

        self.seeds = torch.tensor([plan.seed for plan in plans], device=device)
        self.n_latent = torch.tensor([plan.model.n_latent for plan in plans], device=device)
        self.dropout = column([plan.model.dropout_rate for plan in plans])
        self.lr = column([plan.train.lr for plan in plans])[:, None]
        self.weight_decay = column([plan.train.weight_decay for plan in plans])[:, None]
        self.eps = column([plan.train.eps for plan in plans])[:, None]
        self.batch_map = stacked([plan.batch_map for plan in plans], torch.int64)
        self.label_map = stacked([plan.label_map for plan in plans], torch.int64)
        self.library_means = stacked([plan.library_means for plan in plans], dtype)
        self.library_vars = stacked([plan.library_vars for plan in plans], dtype)
