"""The sweeper that ``-m`` runs; Hydra imports this at every start, so it imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper

if TYPE_CHECKING:
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig


# A dictionary, since Hydra executes this file before the module has a name, which dataclasses need.
ConfigStore.instance().store(
    group="hydra/sweeper",
    name="scballast",
    node={"_target_": "hydra_plugins.scballast_sweeper.scballast_sweeper.ScballastSweeper"},
    provider="scballast",
)


class ScballastSweeper(Sweeper):
    """Grids and Optuna studies, chosen by the config group ``sweep``."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over; workers bring their own task."""
        self.hydra_context = hydra_context
        self.config = config

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep of a command line."""
        from scballast.sweep.controller import run_sweep

        assert self.hydra_context is not None
        assert self.config is not None
        run_sweep(self.hydra_context, self.config, arguments)
