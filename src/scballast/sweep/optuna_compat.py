"""What this program uses of Optuna beyond its documented interface: one place to look when Optuna moves.

Optuna's heartbeat is not among it: it serves SQL storages only, under its own ``optimize`` only, and tells a
process that is silent from one that is gone by waiting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from optuna import Study as Study
    from optuna.samplers import BaseSampler as BaseSampler
    from optuna.storages import BaseStorage as BaseStorage
    from optuna.trial import FrozenTrial as FrozenTrial
    from optuna.trial import Trial as Trial
else:
    # Optuna loads in half a second, meanwhile another process reads the data: naming its types does not wait for it.
    BaseSampler = BaseStorage = FrozenTrial = Study = Trial = Any


def set_trial_attributes(study: Study, number: int, attributes: Mapping[str, Any]) -> None:
    """Set user attributes of a trial that another object, or process, asked for.

    Raises
    ------
    RuntimeError
        The trial has ended.
    """
    trial_id = study.get_trials(deepcopy=False)[number]._trial_id
    for key, value in attributes.items():
        study._storage.set_trial_user_attr(trial_id, key, value)


def asked_parameters(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters that a trial was enqueued with, or else those that were chosen for it."""
    parameters: dict[str, Any] = trial.system_attrs.get("fixed_params") or trial.params
    return parameters


def hypervolume(costs: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Return the volume that points dominate up to a reference point, lower being better; those beyond it have none."""
    from optuna._hypervolume import compute_hypervolume

    bound = np.asarray(reference, dtype=np.float64)
    points = np.asarray(costs, dtype=np.float64).reshape(-1, bound.size)
    inside = points[(points < bound).all(axis=1)]
    return float(compute_hypervolume(inside, bound)) if inside.size else 0.0
