"""Held-out fit: global and per-population models on the same cells, which neither has seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scballast.arrays import IntArray
from scballast.data.dataset import Dataset
from scballast.data.replicates import Replicate
from scballast.engine.interface import HeldoutFit
from scballast.experiment.setup import Setup, column_codes
from scballast.experiment.training import MemberKey, TrainedModels
from scballast.progress import progress_bar
from scballast.seeds import Stream, at_most, generator_for

COLUMNS = ("model", "replicate", "population", "n_cells", "heldout_nll", "heldout_elbo")


def fit_table(setup: Setup, models: TrainedModels) -> pd.DataFrame:
    """Evaluate the models on cells outside their replicate.

    Returns
    -------
    DataFrame
        One row per model (``global`` or ``per_population``), replicate and population (empty: all cells):
        negative log-likelihood and negative ELBO per cell, in nats; lower is better. The two models of a
        population are evaluated on the same cells: held out, labelled so, and in a batch that the
        population's own model knows.
    """
    rows: list[tuple[Any, ...]] = []
    if setup.family.likelihood and setup.config.fit.n_mc_samples > 0:
        with progress_bar("held-out fit", len(setup.replicates), unit="replicates") as advance:
            for replicate in setup.replicates:
                rows.extend(_replicate_rows(setup, replicate, models))
                advance(1)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _replicate_rows(setup: Setup, replicate: Replicate, models: TrainedModels) -> list[tuple[Any, ...]]:
    config, dataset = setup.config, setup.dataset
    global_model = models.find(MemberKey("global", replicate.number))
    generator = generator_for(config.seed, Stream.HELDOUT, replicate.number)
    heldout = at_most(replicate.heldout, config.fit.max_cells, generator)
    heldout = heldout[_known_batches(dataset, replicate.cells, heldout)]
    if global_model is None or not heldout.size:
        return []
    ensemble, position = global_model
    whole = ensemble.heldout_fit(position, heldout, config.fit.n_mc_samples)
    rows = [_row("global", replicate, "", whole)]
    for index, population in enumerate(dataset.populations):
        key = MemberKey("per_population", replicate.number, index)
        separate_model = models.find(key)
        inside = dataset.population_codes[heldout] == index
        if separate_model is not None:
            inside &= _known_batches(dataset, models.cells[key], heldout)
        if not inside.any():
            continue
        rows.append(_row("global", replicate, population.name, HeldoutFit(whole.nll[inside], whole.elbo[inside])))
        if separate_model is not None:
            fit = separate_model[0].heldout_fit(separate_model[1], heldout[inside], config.fit.n_mc_samples)
            rows.append(_row("per_population", replicate, population.name, fit))
    return rows


def _known_batches(dataset: Dataset, seen: IntArray, cells: IntArray) -> npt.NDArray[np.bool_]:
    codes = column_codes(dataset, dataset.batch_key)
    return np.ones(cells.size, dtype=bool) if codes is None else np.isin(codes[cells], codes[seen])


def _row(model: str, replicate: Replicate, population: str, fit: HeldoutFit) -> tuple[Any, ...]:
    return (model, replicate.number, population, fit.nll.size, float(fit.nll.mean()), float(fit.elbo.mean()))
