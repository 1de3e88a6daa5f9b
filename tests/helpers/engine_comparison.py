"""The engine's trainings beside scvi-tools' own with the same seeds: same start, same split, other noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.helpers.agreement_oracles import nogueira_stability

from scballast.agreement.stability import jackknife_interval, pairwise_kuncheva
from scballast.engine.ensemble import Ensemble

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]


def train_with_scvi(
    adata: Any, model: Mapping[str, Any], train: Mapping[str, Any], seed: int, batch_key: str | None
) -> Any:
    """Train one ``LinearSCVI`` or ``SCVI`` on all cells of ``adata``, as its users do."""
    import scvi

    settings, arguments = dict(train), dict(model)
    nonlinear = arguments.pop("decoder", "linear") == "nonlinear"
    model_class = scvi.model.SCVI if nonlinear else scvi.model.LinearSCVI
    max_epochs, warmup = settings.pop("max_epochs", None), settings.pop("kl_warmup_epochs", 400)
    if isinstance(warmup, float):
        warmup = warmup * max_epochs
    scvi.settings.seed = seed
    model_class.setup_anndata(adata, batch_key=batch_key)
    fitted = model_class(adata, **arguments)
    fitted.train(
        max_epochs=max_epochs,
        accelerator="cpu",
        enable_progress_bar=False,
        batch_size=settings.pop("batch_size", 128),
        plan_kwargs={"n_epochs_kl_warmup": warmup, **settings},
    )
    return fitted


class Comparison:
    """Held-out ELBO, and stability of a population's contrast, of the two ways of training.

    Parameters
    ----------
    ours, theirs
        Members and models with the same seeds on the same cells.
    heldout
        Cells that no model has seen.
    population
        (n_cells,) bool, the population that the contrast sets apart.
    k
        Genes selected.
    """

    def __init__(self, ours: Ensemble, theirs: Sequence[Any], heldout: Any, population: Any, k: int) -> None:
        # scvi-tools' weights go through the same evaluation: only the training is compared.
        swapped = Ensemble.__new__(Ensemble)
        swapped.__dict__.update(ours.__dict__)
        swapped.trained = [_with_weights(ours.trained[i], fitted) for i, fitted in enumerate(theirs)]
        members, inside = range(len(theirs)), np.asarray(population, dtype=bool)
        self.elbo = np.array([[e.heldout_fit(i, heldout, 10).elbo.mean() for i in members] for e in (ours, swapped)])
        self.selected = np.array([[_contrast(e, i, inside, k) for i in members] for e in (ours, swapped)])

    def elbo_z(self) -> float:
        """Mean difference of the held-out ELBO between the two, over its standard error (paired by seed)."""
        difference = self.elbo[0] - self.elbo[1]
        return float(abs(difference.mean()) / (difference.std(ddof=1) / np.sqrt(len(difference))))

    def stability(self) -> FloatArray:
        """(2,) stability of ours and theirs."""
        return np.array([float(nogueira_stability(selected)) for selected in self.selected])

    def stability_z(self) -> float:
        """Difference of the stabilities over its standard error, from the jackknife of each."""
        errors = [jackknife_interval(pairwise_kuncheva(selected)).standard_error for selected in self.selected]
        first, second = self.stability()
        return float(abs(first - second) / np.hypot(*errors))


def _with_weights(trained: Any, fitted: Any) -> Any:
    from dataclasses import replace

    from scballast.engine.packing import empty_packed

    packed = empty_packed(trained.plan)
    packed.load({name: tensor.cpu().numpy() for name, tensor in fitted.module.state_dict().items()})
    return replace(trained, packed=packed)


def _contrast(ensemble: Ensemble, member: int, inside: BoolArray, k: int) -> BoolArray:
    plan = ensemble.trained[member].plan
    if plan.model.decoder == "linear":
        z = ensemble.posterior_means(member, np.arange(len(inside)))
        scores = ensemble.loadings(member) @ (z[inside].mean(0) - z[~inside].mean(0))
    else:
        shares, own = ensemble.export(member).get_normalized_expression(return_numpy=True), inside[plan.cells]
        scores = np.log(shares[own].mean(0) / shares[~own].mean(0))
    selected = np.zeros(len(scores), dtype=bool)
    selected[np.argsort(-scores)[:k]] = True
    return selected
