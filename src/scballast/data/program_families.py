"""The forms that a planted program takes: how active it is in a cell, and what that does to its genes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, gammaincinv

from scballast.arrays import FloatArray

_ACTIVE_SHARE = 0.4  # of the cells, in the additive family
_GAMMA_SHAPE = 2.0  # of the activities of active cells
_ADDITIVE_MEAN = _ACTIVE_SHARE * _GAMMA_SHAPE
_ADDITIVE_DEVIATION = float(np.sqrt(_ADDITIVE_MEAN * (1 + _GAMMA_SHAPE) - _ADDITIVE_MEAN**2))
_ON_SHARE = 1 / 3  # of the cells, in the switch family
_STEP_WIDTH = 0.05  # of a gene's switch, where the whole path has length 1


@dataclass(frozen=True)
class ProgramFamily:
    """One form of program.

    Attributes
    ----------
    activities
        From a generator and a number of cells to (n_cells,) activities. One uniform or normal number for each
        cell, so that more cells leave the first ones as they are.
    effects
        From (n_cells,) activities, (n_genes,) loadings and (n_genes,) switch points to the (n_cells, n_genes)
        shifts of the log rates; a loading of size a gives a shift of standard deviation about a.
    share_down
        Share of the program's genes whose loadings are negative; None: each gene's sign is a coin.
    """

    activities: Callable[[np.random.Generator, int], FloatArray]
    effects: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
    share_down: float | None


def _latent_effects(activities: FloatArray, loadings: FloatArray, points: FloatArray) -> FloatArray:
    return np.outer(activities, loadings)


def _additive_activities(stream: np.random.Generator, n_cells: int) -> FloatArray:
    """Gamma in a part of the cells and zero in the others, divided by its standard deviation."""
    place = stream.random(n_cells)
    quantile = np.clip(1 - place / _ACTIVE_SHARE, 0.0, 1.0)
    sizes = np.where(place < _ACTIVE_SHARE, gammaincinv(_GAMMA_SHAPE, quantile), 0.0)
    return sizes / _ADDITIVE_DEVIATION


def _additive_effects(activities: FloatArray, loadings: FloatArray, points: FloatArray) -> FloatArray:
    """Rates that grow by ``loading`` times the base rate for each unit of activity; the mean rate stays."""
    mean = _ADDITIVE_MEAN / _ADDITIVE_DEVIATION
    return np.asarray(np.log1p(np.outer(activities, loadings)) - np.log1p(mean * loadings))


def _switch_activities(stream: np.random.Generator, n_cells: int) -> FloatArray:
    """On or off, with mean 0 and variance 1."""
    on = stream.random(n_cells) < _ON_SHARE
    return np.asarray((on - _ON_SHARE) / np.sqrt(_ON_SHARE * (1 - _ON_SHARE)))


def _path_effects(activities: FloatArray, loadings: FloatArray, points: FloatArray) -> FloatArray:
    """Each gene goes up or down at its own point of the path; its mean over the path is zero."""
    steps = expit((activities[:, None] - points) / _STEP_WIDTH)
    mean = _STEP_WIDTH * (np.logaddexp(0, (1 - points) / _STEP_WIDTH) - np.logaddexp(0, -points / _STEP_WIDTH))
    # A step in the middle of the path has standard deviation 1/2.
    return np.asarray(2 * loadings * (steps - mean))


_ADDITIVE = ProgramFamily(_additive_activities, _additive_effects, share_down=0.0)

# What `data.simulation.programs` may be; `shared` says where programs are, and its programs are additive.
PROGRAM_FAMILIES: dict[str, ProgramFamily] = {
    "latent": ProgramFamily(np.random.Generator.standard_normal, _latent_effects, share_down=None),
    "additive": _ADDITIVE,
    "switch": ProgramFamily(_switch_activities, _latent_effects, share_down=0.5),
    "path": ProgramFamily(np.random.Generator.random, _path_effects, share_down=0.5),
    "shared": _ADDITIVE,
    "none": _ADDITIVE,
}
